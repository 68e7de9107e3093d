"""Kubeflow Pipelines v2, from its first v2-compatible releases (1.6) to 2.17.

All values are custom properties; parameters are structs, whose numbers are doubles. The tasks of a run
form a tree of DAG executions through `parent_dag_id` (backend/src/v2/metadata/client.go). Nobody updates
a root DAG, nor a DAG all of whose tasks were cached: their members tell how they stand.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from ml_metadata.proto import metadata_store_pb2 as mlmd

from zen_mlmd.dialects import base
from zen_mlmd.dialects.kfp_v2_tree import grown, placed, state_of
from zen_mlmd.dialects.properties import text
from zen_mlmd.model import Artifact, PipelineRun, StepKind, StepRun, WholeRun

NAME = "kfp_v2"
PIPELINES = frozenset({"system.Pipeline", "kfp.Pipeline"})
RUNS = frozenset({"system.PipelineRun", "kfp.PipelineRun"})
NODE = ""

_DAG = "system.DAGExecution"
_ROOT = "run/"
"""What the name of a root begins with; a run's name follows."""
GROUPS = frozenset({_DAG})
ASIDE: tuple[str, ...] = ("executor-logs",)
_IMPORTERS = ("system.ImporterExecution", "system.ImporterWorkspaceExecution")
_EXECUTIONS = frozenset({_DAG, *_IMPORTERS, "system.ContainerExecution", "kfp.ContainerExecution"})
_ARTIFACTS = ("system.", "kfp.", "google.", "tfx.")
_METRICS = ("system.Metrics", "kfp.Metrics")
_NOT_METRICS = frozenset({"display_name", "store_session_info"})
_PIPELINE_NAME = re.compile(r"(?:namespace/[^/]*/)?pipeline/(.+)", re.DOTALL)
_LOGS = re.compile(r"executor-logs(-\d+)?")
_NAMES = ("task_name", "name", "component_id", "task_id", "display_name", "pod_name", "kfp_pod_name")
"""Where the name of a task is looked for, in turn (frontend/src/mlmd/MlmdUtils.ts)."""

_GROUPS = (
    ("condition-branches-", StepKind.CONDITION_BRANCHES),
    ("condition-", StepKind.CONDITION),
    ("exit-handler-", StepKind.EXIT_HANDLER),
    ("for-loop-", StepKind.LOOP),
)


def is_run(_context: mlmd.Context) -> bool:
    """Take every run of these types."""
    return True


def is_step(_execution: mlmd.Execution, kind: mlmd.ExecutionType) -> bool:
    """Tell whether Kubeflow Pipelines wrote an execution."""
    return kind.name in _EXECUTIONS


def is_artifact(node: mlmd.Artifact, kind: mlmd.ArtifactType) -> bool:
    """Tell whether Kubeflow Pipelines wrote an artifact."""
    return text(kind.name).startswith(_ARTIFACTS) or "store_session_info" in node.custom_properties


def pipeline_name(context: mlmd.Context) -> str:
    """Return a pipeline's name; v2-compatible mode put a namespace before it."""
    name = text(context.name)
    found = _PIPELINE_NAME.fullmatch(name)
    return name if found is None else found[1]


def pipeline_of_run(_context: mlmd.Context) -> None:
    """Say that only its parent tells a run's pipeline."""


def run_contexts(name: str, _pipelines: Callable[[], Sequence[str]]) -> Iterable[str]:
    """Return the names that the context of a run may have."""
    return [name]


def run(context: mlmd.Context, pipeline: str) -> PipelineRun:
    """Return a run; its parameters are its root DAG's inputs."""
    plain = base.plain_run(context, name=text(context.name), pipeline=pipeline, dialect=NAME)
    return dataclasses.replace(plain, namespace=_text(plain.properties.get("namespace")))


def step(execution: mlmd.Execution, kind: mlmd.ExecutionType) -> StepRun:
    """Return a task, or a group of tasks."""
    recorded = base.custom_properties(execution)
    warnings = list(base.flaws(execution, kind))
    names = (_text(recorded.get(each)) for each in _NAMES)
    name = next(filter(None, names), "") or text(execution.name) or str(execution.id)
    group = _integer(recorded, "parent_dag_id", warnings)
    return dataclasses.replace(
        base.plain_step(execution, kind, name=name, dialect=NAME),
        run_name=_text(recorded.get("pipeline_run_id")),  # of 1.6
        kind=_kind(text(kind.name), name, recorded, group),
        display_name=_text(recorded.get("display_name")),
        group_id=group,
        iteration=_integer(recorded, "iteration_index", warnings),
        parameters=_values(recorded, "inputs", "input:", warnings),
        output_parameters=_values(recorded, "outputs", "output:", warnings),
        output_sources=_sources(recorded, warnings),
        cached_from_id=_integer(recorded, "cached_execution_id", warnings),
        cache_key=_text(recorded.get("cache_fingerprint")),
        warnings=tuple(warnings),
    )


def artifact(node: mlmd.Artifact, kind: mlmd.ArtifactType) -> Artifact:
    """Return an artifact; its metadata are as they were written.

    That is, numbers as doubles, bools as 0 and 1, a list as `{"list": [...]}`, a dict as `{"struct": {...}}`.
    """
    plain = base.plain_artifact(node, kind)
    metrics = {
        key: float(value)
        for key, value in plain.custom_properties.items()
        if key not in _NOT_METRICS and isinstance(value, (int, float))
    }
    return dataclasses.replace(plain, metrics=metrics if plain.type in _METRICS else {})


def role(slot: str, *, taken: bool) -> base.Role:
    """Return what an output is for: each container's logs are an output of it."""
    return "log" if not taken and _LOGS.fullmatch(slot) else ""


def assemble(run: PipelineRun, steps: Sequence[StepRun]) -> WholeRun:
    """Return a run and its tree of steps, each group as its members have it."""
    root, tree = grown(steps, f"{_ROOT}{run.name}")
    top = [each for each in tree if each.group_id is None and each.kind is not StepKind.ROOT]
    status = state_of(top or ([root] if root else []))
    ends = [each.ended_at for each in tree if each.ended_at and not each.kind.is_group]
    told_run = dataclasses.replace(
        run,
        status=status,
        parameters=root.parameters if root else {},
        ended_at=max(ends) if ends and status.ended else None,
    )
    steps = [
        dataclasses.replace(each, status=status, ended_at=told_run.ended_at) if each is root else each
        for each in tree
    ]
    return WholeRun(told_run, tuple(steps))


def among(steps: Sequence[StepRun]) -> dict[int, StepRun]:
    """Return steps, of several runs perhaps, with their scopes and runs, which the groups above tell."""
    return {
        step.id: step if root is None else dataclasses.replace(step, run_name=_run_of(step, root))
        for step, root in placed(steps)
    }


def _run_of(step: StepRun, root: StepRun) -> str:
    return step.run_name or (root.name.removeprefix(_ROOT) if root.name.startswith(_ROOT) else "")


def _kind(type_name: str, name: str, recorded: Mapping[str, Any], group: int | None) -> StepKind:
    if type_name in _IMPORTERS:
        return StepKind.IMPORTER
    if type_name != _DAG:
        return StepKind.TASK
    if group is None:
        return StepKind.ROOT
    if "iteration_index" in recorded:
        return StepKind.ITERATION
    if "iteration_count" in recorded:
        return StepKind.LOOP
    return next((kind for prefix, kind in _GROUPS if name.startswith(prefix)), StepKind.DAG)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _integer(recorded: Mapping[str, Any], key: str, warnings: list[str]) -> int | None:
    """Return a whole number, be it written as such, as a double, or as text (`cached_execution_id`)."""
    value = recorded.get(key)
    if value is None or value == "":
        return None
    whole = isinstance(value, float) and value.is_integer()
    digits = isinstance(value, str) and re.fullmatch(r"[0-9]{1,19}", value)
    # MLMD's ids have 64 bits.
    if (isinstance(value, int) or whole or digits) and -(2**63) <= int(value) < 2**63:
        return int(value)
    warnings.append(f"property {key!r} is no whole number")
    return None


def _values(recorded: Mapping[str, Any], key: str, prefix: str, warnings: list[str]) -> dict[str, Any]:
    """Return parameters: a struct of all, and in v2-compatible mode a property of each."""
    values = {name.removeprefix(prefix): value for name, value in recorded.items() if name.startswith(prefix)}
    bundle = recorded.get(key)
    if isinstance(bundle, dict):
        values.update(bundle)
    elif bundle is not None:
        warnings.append(f"property {key!r} is no struct")
    return values


def _sources(recorded: Mapping[str, Any], warnings: list[str]) -> dict[str, tuple[tuple[str, str], ...]]:
    """Return where the outputs of a DAG come from (api/v2alpha1/pipeline_spec.proto, `DagOutputsSpec`)."""
    sources: dict[str, tuple[tuple[str, str], ...]] = {}
    for key in ("artifact_producer_task", "parameter_producer_task"):
        if key not in recorded:
            continue
        found = _parsed(recorded[key])
        if not isinstance(found, dict):
            warnings.append(f"property {key!r} names no outputs")
            continue
        for name, spec in found.items():
            sources[name] = tuple(_selectors(_parsed(spec)))
    return sources


def _parsed(value: Any) -> Any:
    try:
        return json.loads(value) if isinstance(value, str) else value
    except (ValueError, RecursionError):
        return None


def _selectors(spec: Any) -> Iterable[tuple[str, str]]:
    """Yield the pairs of task and output in a specification, whose names come in two spellings."""
    if isinstance(spec, list):
        for each in spec:
            yield from _selectors(each)
    elif isinstance(spec, dict):
        plain = {str(key).replace("_", "").lower(): value for key, value in spec.items()}
        task = plain.get("producersubtask")
        output = plain.get("outputartifactkey", plain.get("outputparameterkey"))
        if isinstance(task, str) and isinstance(output, str):
            yield task, output
            return
        for key in ("artifactselectors", "valuefromparameter", "valuefromoneof", "parameterselectors"):
            yield from _selectors(plain.get(key))
