"""What zen_mlmd writes: TFX's layout, and additions as custom properties named `zen_mlmd.*`.

Each property is a statement to the database, so the additions are few, and each is one line of ASCII
JSON that any MLMD client can read (`zen_mlmd.values` says how exactness is kept):

| on | key | holds |
|---|---|---|
| run | `zen_mlmd.run` | pipeline, uid, started_at, environment, plan, stack |
| run | `zen_mlmd.parameters` | the run's parameters |
| run | `zen_mlmd.end` | status, ended_at, failure |
| run | `zen_mlmd.parameter.<name>`, `zen_mlmd.metric.<name>` | one logged later, each by itself |
| step | `zen_mlmd.step` | run, name, after, code, docstring, started_at, environment |
| step | `zen_mlmd.parameters` | the step's parameters |
| step | `zen_mlmd.end` | ended_at, metrics, failure |
| artifact | `zen_mlmd.artifact` | content hash, size, Python type, materializer |
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from ml_metadata.proto import metadata_store_pb2 as mlmd

from zen_mlmd.dialects import base, tfx
from zen_mlmd.dialects.properties import items, to_property
from zen_mlmd.errors import InvalidValueError
from zen_mlmd.model import Artifact, Failure, PipelineRun, Status, StepRun, WholeRun, from_millis
from zen_mlmd.values import dumps, is_plain_text, loads

NAME = "zen"
PIPELINES = tfx.PIPELINES
RUNS = tfx.RUNS
NODE = tfx.NODE
GROUPS = tfx.GROUPS
ASIDE: tuple[str, ...] = ()
PREFIX = "zen_mlmd."
STEP_TYPE = "zen_mlmd.Step"
ARTIFACT_TYPE = "Artifact"
CONTEXT_TYPES = (tfx.PIPELINE, tfx.RUN, tfx.NODE, tfx.CACHE)

_RUN, _STEP, _END = "zen_mlmd.run", "zen_mlmd.step", "zen_mlmd.end"
_PARAMETERS, _ARTIFACT = "zen_mlmd.parameters", "zen_mlmd.artifact"
_PARAMETER, _METRIC = "zen_mlmd.parameter.", "zen_mlmd.metric."

_FIELDS = {
    mlmd.INT: "int_value",
    mlmd.DOUBLE: "double_value",
    mlmd.STRING: "string_value",
    mlmd.BOOLEAN: "bool_value",
}

STATES = {
    Status.RUNNING: mlmd.Execution.RUNNING,
    Status.COMPLETED: mlmd.Execution.COMPLETE,
    Status.FAILED: mlmd.Execution.FAILED,
    Status.CACHED: mlmd.Execution.CACHED,
    Status.CANCELED: mlmd.Execution.CANCELED,
}


def is_run(context: mlmd.Context) -> bool:
    """Tell whether zen_mlmd wrote a run."""
    return _RUN in context.custom_properties


def is_step(execution: mlmd.Execution, _kind: mlmd.ExecutionType | None = None) -> bool:
    """Tell whether zen_mlmd wrote an execution."""
    return _STEP in execution.custom_properties


def has_ended(run: mlmd.Context) -> bool:
    """Tell whether a run of ours is recorded as ended."""
    return _END in run.custom_properties


def is_artifact(node: mlmd.Artifact, _kind: mlmd.ArtifactType | None = None) -> bool:
    """Tell whether zen_mlmd wrote an artifact."""
    return _ARTIFACT in node.custom_properties


def cache_context(key: str) -> str:
    """Return the `execution_cache` context's name of a cache key."""
    return key.removeprefix("sha256:")


# -- writing -------------------------------------------------------------------------------------


def write_run(
    context: mlmd.Context,
    *,
    about: Mapping[str, Any],
    parameters: Mapping[str, Any],
    properties: Mapping[str, Any],
) -> None:
    """Write what is known when a run begins."""
    context.custom_properties[_RUN].string_value = dumps(dict(about))
    if parameters:
        context.custom_properties[_PARAMETERS].string_value = dumps(dict(parameters), path="parameters")
    write_properties(context, properties)


def write_run_end(context: mlmd.Context, *, status: Status, ended_ms: int, failure: Failure | None) -> None:
    """Write how a run ended."""
    end: dict[str, Any] = {"status": str(status), "ended_at": ended_ms}
    if failure:
        end["failure"] = dataclasses.asdict(failure)
    context.custom_properties[_END].string_value = dumps(end)


def write_run_additions(
    context: mlmd.Context,
    *,
    parameters: Mapping[str, Any] | None = None,
    metrics: Mapping[str, float] | None = None,
    properties: Mapping[str, Any] | None = None,
) -> None:
    """Write what is added to a run later, each under a key of its own so that writers do not collide."""
    for what, prefix, values in (("parameters", _PARAMETER, parameters), ("metrics", _METRIC, metrics)):
        for name, value in (values or {}).items():
            if not isinstance(name, str) or not is_plain_text(name):
                raise InvalidValueError(f"{what}: {name!r:.100} is not a name", hint=f"name {what} by text")
            context.custom_properties[prefix + name].string_value = dumps(value, path=prefix + name)
    write_properties(context, properties or {})


def write_step(execution: mlmd.Execution, *, about: Mapping[str, Any]) -> None:
    """Write what is known when a step begins."""
    execution.custom_properties[_STEP].string_value = dumps(dict(about))


def write_step_values(
    execution: mlmd.Execution,
    *,
    parameters: Mapping[str, Any] | None = None,
    properties: Mapping[str, Any] | None = None,
) -> None:
    """Write parameters and properties of a step, beside those that it has."""
    if parameters:
        known = _bundle(execution, _PARAMETERS)
        execution.custom_properties[_PARAMETERS].string_value = dumps(
            {**known, **parameters}, path="parameters"
        )
    write_properties(execution, properties or {})


def write_step_end(
    execution: mlmd.Execution, *, ended_ms: int, metrics: Mapping[str, float], failure: Failure | None
) -> None:
    """Write how a step ended."""
    end: dict[str, Any] = {"ended_at": ended_ms}
    if metrics:
        end["metrics"] = dict(metrics)
    if failure:
        end["failure"] = dataclasses.asdict(failure)
    execution.custom_properties[_END].string_value = dumps(end, path="metrics")


def write_artifact(
    node: mlmd.Artifact, kind: mlmd.ArtifactType, *, about: Mapping[str, Any], properties: Mapping[str, Any]
) -> None:
    """Write an artifact's additions and its properties.

    A property that the artifact's type declares goes where the type has it, so that TFX finds it
    (`Examples` has span, version and split_names); a value of another kind becomes a custom property.
    """
    if about:
        node.custom_properties[_ARTIFACT].string_value = dumps(dict(about))
    write_properties(node, properties)
    for key, declared in kind.properties.items():
        if key in node.custom_properties:
            value = node.custom_properties[key]
            if value.WhichOneof("value") == _FIELDS.get(declared):
                node.properties[key].CopyFrom(value)
                del node.custom_properties[key]


def write_properties(node: Any, properties: Mapping[str, Any]) -> None:
    """Write a user's properties as custom properties of the same names.

    Raises:
        InvalidValueError: A name is not text, is empty, or begins with `zen_mlmd.`; or a value's kind
            cannot be kept.
    """
    for key, value in properties.items():
        if not isinstance(key, str) or not key or key.startswith(PREFIX) or not is_plain_text(key):
            raise InvalidValueError(
                f"a property cannot be named {str(key)[:100]!r}",
                hint=f"give a name not beginning with {PREFIX}",
            )
        node.custom_properties[key].CopyFrom(to_property(value, path=f"properties.{key}"))


def written_keys(context: mlmd.Context) -> Iterable[str]:
    """Return the update mask's paths that write just what a context message holds."""
    return [f"custom_properties.{key}" for key in context.custom_properties]


# -- reading -------------------------------------------------------------------------------------


def pipeline_name(context: mlmd.Context) -> str:
    """Return the name of a pipeline's context."""
    return tfx.pipeline_name(context)


def pipeline_of_run(context: mlmd.Context) -> str:
    """Return the pipeline that a run of ours names."""
    return str(_bundle(context, _RUN).get("pipeline", ""))


def run_contexts(name: str, pipelines: Callable[[], Sequence[str]]) -> Iterable[str]:
    """Return the names that the context of a run may have."""
    return tfx.run_contexts(name, pipelines)


def role(_slot: str, *, taken: bool) -> base.Role:  # noqa: ARG001
    """Say that each input and output is data."""
    return ""


def assemble(run: PipelineRun, steps: Sequence[StepRun]) -> WholeRun:
    """Return a run, which tells all of itself, and its steps."""
    return WholeRun(run, tuple(steps))


def run(context: mlmd.Context, pipeline: str) -> PipelineRun:
    """Return a run of ours."""
    about, end = _bundle(context, _RUN), _bundle(context, _END)
    plain = tfx.run(context, pipeline or pipeline_of_run(context))
    parameters, metrics = dict(_bundle(context, _PARAMETERS)), {}
    for key, value in items(context, "custom_properties"):
        if key.startswith(_PARAMETER):
            parameters[key.removeprefix(_PARAMETER)] = _loads(value.string_value)
        elif key.startswith(_METRIC):
            metrics[key.removeprefix(_METRIC)] = _loads(value.string_value)
    plan = about.get("plan") or {}
    return dataclasses.replace(
        plain,
        status=_status(end.get("status"), Status.RUNNING),
        dialect=NAME,
        parameters=parameters,
        properties=_own(context),
        metrics=metrics,
        plan={str(name): tuple(waits) for name, waits in plan.items()},
        environment=about.get("environment") or {},
        stack=about.get("stack") or {},
        failure=_failure(end),
        started_at=_time(about, "started_at") or plain.started_at,
        ended_at=_time(end, "ended_at"),
    )


def run_uid(context: mlmd.Context) -> str:
    """Return what tells one attempt to begin a run from another of the same name."""
    return str(_bundle(context, _RUN).get("uid", ""))


def step(execution: mlmd.Execution, kind: mlmd.ExecutionType) -> StepRun:
    """Return a step run of ours."""
    about, end = _bundle(execution, _STEP), _bundle(execution, _END)
    plain = base.plain_step(execution, kind, name=str(about.get("name", "")), dialect=NAME)
    return dataclasses.replace(
        plain,
        run_name=str(about.get("run", "")),
        parameters=_bundle(execution, _PARAMETERS),
        properties=_own(execution),
        metrics=end.get("metrics") or {},
        after=tuple(about.get("after") or ()),
        code=str(about.get("code") or ""),
        docstring=str(about.get("docstring") or ""),
        cache_key=str(about.get("cache_key") or ""),
        environment=about.get("environment") or {},
        failure=_failure(end),
        started_at=_time(about, "started_at") or plain.started_at,
        ended_at=_time(end, "ended_at") if plain.status.ended else None,
    )


def artifact(node: mlmd.Artifact, kind: mlmd.ArtifactType) -> Artifact:
    """Return an artifact of ours."""
    about = _bundle(node, _ARTIFACT)
    plain = base.plain_artifact(node, kind)
    size = about.get("size_bytes")
    return dataclasses.replace(
        plain,
        properties={key: value for key, value in plain.properties.items() if not key.startswith(PREFIX)},
        custom_properties=_own(node),
        content_hash=str(about.get("content_hash") or ""),
        size_bytes=size if isinstance(size, int) else None,
        data_type=str(about.get("data_type") or ""),
        materializer=str(about.get("materializer") or ""),
    )


def _own(node: Any) -> dict[str, Any]:
    return {key: value for key, value in base.custom_properties(node).items() if not key.startswith(PREFIX)}


def _bundle(node: Any, key: str) -> dict[str, Any]:
    if key not in node.custom_properties:
        return {}
    value = _loads(node.custom_properties[key].string_value)
    return value if isinstance(value, dict) else {}


def _loads(text: str) -> Any:
    try:
        return loads(text)
    except InvalidValueError:
        return None


def _status(text: Any, default: Status) -> Status:
    try:
        return Status(text)
    except ValueError:
        return default


def _failure(end: Mapping[str, Any]) -> Failure | None:
    found = end.get("failure")
    if not isinstance(found, dict):
        return None
    return Failure(*(str(found.get(field.name, "")) for field in dataclasses.fields(Failure)))


def _time(bundle: Mapping[str, Any], key: str) -> Any:
    millis = bundle.get(key)
    return from_millis(millis) if isinstance(millis, int) else None
