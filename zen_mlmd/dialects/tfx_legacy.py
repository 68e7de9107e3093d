"""TFX up to 0.25, and to this day in notebooks and on Airflow: all that it says it writes as text properties.

That is tfx/orchestration/metadata.py, which `InteractiveContext` and `AirflowDagRunner` of 1.21 still call.
Each `context.run(...)` of a notebook is a run of one step.

Contexts `run` (`<pipeline>.<run id>`) and `component_run` (`<pipeline>.<run id>.<component>`) have
properties, and no parents. An execution's parameters are declared properties beside six of TFX's own, all
of them text; a list or a dict is what `str()` made of it, which nothing tells from a text. Outputs are
written before the step runs, without a state; when it has run, they become `published`. What an importer
imports has none of these properties. A retry goes on with the same execution.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, timedelta, timezone
from typing import Any, Final

from ml_metadata.proto import metadata_store_pb2 as mlmd

from zen_mlmd.dialects import base, tfx
from zen_mlmd.dialects.properties import from_property, text
from zen_mlmd.model import Artifact, Failure, PipelineRun, Status, StepKind, StepRun, WholeRun

NAME = tfx.NAME
PIPELINES = tfx.PIPELINES
RUNS = frozenset({"run"})
NODE = ""
GROUPS = tfx.GROUPS
ASIDE = tfx.ASIDE

_RESERVED: Final = frozenset(
    {"checksum_md5", "pipeline_name", "pipeline_root", "run_id", "component_id", "state"}
)
_STATES: Final = {"new": Status.RUNNING, "complete": Status.COMPLETED, "cached": Status.CACHED}
_KINDS: Final = {**tfx.KINDS, "ImporterNode": StepKind.IMPORTER, "ResolverNode": StepKind.RESOLVER}
_ARTIFACT_STATES: Final = {
    "pending": "pending",
    "published": "live",
    "MARKED_FOR_DELETION": "marked_for_deletion",
    "deleted": "deleted",
}
_LONG: Final = timedelta(days=1)
_NEVER_ENDED: Final = Failure(
    type="",
    message="it was begun and nothing was written for a day: this layout of TFX's has no word for a failure",
)

role = tfx.role
pipeline_name = tfx.pipeline_name


def is_run(context: mlmd.Context) -> bool:
    """Tell whether TFX wrote a context of the type `run`, which others may use too."""
    return "run_id" in context.properties and "pipeline_name" in context.properties


def is_step(execution: mlmd.Execution, _kind: mlmd.ExecutionType) -> bool:
    """Tell whether TFX up to 0.25 wrote an execution."""
    return all(each in execution.properties for each in ("component_id", "pipeline_name", "state"))


def is_artifact(node: mlmd.Artifact, _kind: mlmd.ArtifactType) -> bool:
    """Tell whether TFX up to 0.25 wrote an artifact."""
    return "producer_component" in node.custom_properties or "producer_component" in node.properties


def pipeline_of_run(context: mlmd.Context) -> str:
    """Return the pipeline that a run names."""
    return _text(context, "pipeline_name")


def run_contexts(name: str, pipelines: Callable[[], Sequence[str]]) -> Iterable[str]:
    """Return the names that the context of a run may have: they begin with a pipeline's."""
    return [f"{pipeline}.{name}" for pipeline in pipelines()]


def run(context: mlmd.Context, pipeline: str) -> PipelineRun:
    """Return a run, named by its id as in later eras."""
    name = _text(context, "run_id") or text(context.name).removeprefix(f"{pipeline}.")
    return base.plain_run(context, name=name, pipeline=pipeline, dialect=NAME)


def step(execution: mlmd.Execution, kind: mlmd.ExecutionType) -> StepRun:
    """Return a step run.

    Nothing is written when one fails: it stays `new`, as one is that runs, and its outputs stay without a
    state, as those of one that runs do. Whether other steps or runs came later says nothing where steps run
    side by side. So time must tell: one that nobody has written to for a day is taken for failed, with a
    warning, as a step that works for longer looks the same.
    """
    state = _STATES.get(_text(execution, "state"), base.status(execution))
    plain = base.plain_step(execution, kind, name=_text(execution, "component_id"), dialect=NAME, state=state)
    if state is Status.RUNNING and _is_past(plain.updated_at):
        plain = dataclasses.replace(
            plain,
            status=Status.FAILED,
            failure=_NEVER_ENDED,
            warnings=(*plain.warnings, _NEVER_ENDED.message),
        )
    return dataclasses.replace(
        plain,
        run_name=_text(execution, "run_id"),
        kind=tfx.kind_of(plain.type, _KINDS),
        code=_text(execution, "checksum_md5"),
        parameters={
            key: None if value == "None" else value
            for key, value in base.declared_properties(execution).items()
            if key not in _RESERVED
        },
    )


def artifact(node: mlmd.Artifact, kind: mlmd.ArtifactType) -> Artifact:
    """Return an artifact; its name is a property, the key of the output that it was made as.

    So is its state; an output that has none is awaited, or its step failed.
    """
    plain = tfx.artifact(node, kind)
    name, state = plain.properties.get("name"), plain.properties.get("state")
    awaited = state is None and plain.state == "unknown"
    known = _ARTIFACT_STATES.get(state, plain.state) if isinstance(state, str) else plain.state
    return dataclasses.replace(
        plain,
        name=plain.name or (name if isinstance(name, str) else ""),
        state="pending" if awaited else known,
    )


def assemble(run: PipelineRun, steps: Sequence[StepRun]) -> WholeRun:
    """Return a run with what its steps tell: how it stands."""
    return WholeRun(base.settled(run, steps), tuple(steps))


def _text(node: Any, key: str) -> str:
    value = from_property(node.properties[key]) if key in node.properties else ""
    return value if isinstance(value, str) else ""


def _is_past(updated_at: datetime | None) -> bool:
    return updated_at is None or datetime.now(timezone.utc) - updated_at > _LONG
