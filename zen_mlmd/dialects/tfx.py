"""TFX's layout, as TFX 1.0 to 1.21 write it; zen_mlmd and ZenML write the same.

Contexts `pipeline`, `pipeline_run` (whose parent is the pipeline, since 1.11), `node` (`<pipeline>.<step>`,
over all runs) and `execution_cache`; an execution is in all that apply; an event's path is key and index
in turn, several pairs where one artifact went to several inputs (tfx/orchestration/portable/mlmd).
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from ml_metadata.proto import metadata_store_pb2 as mlmd

from zen_mlmd.dialects import base
from zen_mlmd.dialects.properties import text
from zen_mlmd.model import Artifact, PipelineRun, StepKind, StepRun, WholeRun
from zen_mlmd.payloads.base import type_name
from zen_mlmd.payloads.tfx_values import TFX_VALUES, TfxNull

NAME = "tfx"
PIPELINE, RUN, NODE, CACHE = "pipeline", "pipeline_run", "node", "execution_cache"
PIPELINES = frozenset({PIPELINE})
RUNS = frozenset({RUN})
GROUPS = frozenset[str]()
ASIDE: tuple[str, ...] = ("_",)

_POD = "kfp_pod_name"
"""What TFX's runner for Kubeflow Pipelines v1 notes beside a step's parameters."""

KINDS = {"Importer": StepKind.IMPORTER, "Resolver": StepKind.RESOLVER}


def is_run(_context: mlmd.Context) -> bool:
    """Take every run of these types that no other dialect claims."""
    return True


def is_step(_execution: mlmd.Execution, _kind: mlmd.ExecutionType) -> bool:
    """Take every execution that no other dialect claims."""
    return True


def is_artifact(_node: mlmd.Artifact, _kind: mlmd.ArtifactType) -> bool:
    """Take every artifact that no other dialect claims."""
    return True


def pipeline_name(context: mlmd.Context) -> str:
    """Return the name of a pipeline's context."""
    return text(context.name)


def pipeline_of_run(_context: mlmd.Context) -> None:
    """Say that only parents or steps tell a run's pipeline."""


def run_contexts(name: str, _pipelines: Callable[[], Sequence[str]]) -> Iterable[str]:
    """Return the names that the context of a run may have."""
    return [name]


def step_name(node_context: str, pipeline: str) -> str:
    """Return the step's name of a `node` context; both parts may hold dots."""
    return node_context.removeprefix(f"{pipeline}.")


def run(context: mlmd.Context, pipeline: str) -> PipelineRun:
    """Return a run that says nothing of itself: its steps tell its status and its end."""
    return base.plain_run(context, name=text(context.name), pipeline=pipeline, dialect=NAME)


def step(execution: mlmd.Execution, kind: mlmd.ExecutionType) -> StepRun:
    """Return a step run without a name, which its `node` context has."""
    plain = base.plain_step(execution, kind, name="", dialect=NAME)
    return dataclasses.replace(
        plain, kind=kind_of(plain.type, KINDS), parameters=_parameters(plain.properties)
    )


def kind_of(type_name: str, kinds: Mapping[str, StepKind]) -> StepKind:
    """Return what a step is, by its class, if that is one of TFX's own."""
    entrypoint = type_name.rpartition(".")[2] if type_name.startswith("tfx.") else ""
    return kinds.get(entrypoint, StepKind.TASK)


def artifact(node: mlmd.Artifact, kind: mlmd.ArtifactType) -> Artifact:
    """Return an artifact; a JSON value that is no dict lies as `__value__` in one."""
    return valued(base.plain_artifact(node, kind))


def valued(plain: Artifact) -> Artifact:
    """Return an artifact with what reads it, if it is one of TFX's values.

    `Float.annotate_as(Metrics)` is the type `Float_Metrics`, whose base is `mlmd.Metrics`.
    """
    name, annotated, _ = plain.type.partition("_")
    kind = TFX_VALUES.get(name) if plain.base_type or not annotated else None
    if kind is None:
        return plain
    reader = TfxNull if plain.custom_properties.get("__is_null__") == 1 else kind
    data_type = "" if reader.data_type is object else type_name(reader.data_type)
    return dataclasses.replace(plain, materializer=type_name(reader), data_type=data_type)


def role(slot: str, *, taken: bool) -> base.Role:
    """Return what an input or output is for: a condition's input is called `_<node>.<output>`."""
    return "condition" if taken and slot.startswith("_") else ""


def assemble(run: PipelineRun, steps: Sequence[StepRun]) -> WholeRun:
    """Return a run with what its steps tell: how it stands, and who wrote it."""
    if steps:
        run = dataclasses.replace(run, dialect=steps[0].dialect)
    return WholeRun(base.settled(run, steps), tuple(steps))


def _parameters(recorded: Mapping[str, Any]) -> dict[str, Any]:
    """TFX writes lists, dicts, bools and messages as JSON text with a schema beside it."""
    values: dict[str, Any] = {}
    for key, value in recorded.items():
        if key.startswith("__") or key == _POD:
            continue
        if f"__schema__{key}__" in recorded and isinstance(value, str):
            try:
                values[key] = json.loads(value)
            except (ValueError, RecursionError):
                values[key] = value
        else:
            values[key] = value
    return values
