"""What a dialect offers, and what all of them share.

A dialect is a module. It knows the names of its writer's types and keys, takes single nodes apart, and
says what only all steps of a run together tell. What many writers do alike is here.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal, Protocol

from ml_metadata.proto import metadata_store_pb2 as mlmd

from zen_mlmd.dialects.properties import from_property, items, text
from zen_mlmd.model import (
    Artifact,
    Event,
    EventType,
    PipelineRun,
    Slot,
    Status,
    StepRun,
    WholeRun,
    from_millis,
)

Role = Literal["", "log", "condition"]
"""What an input or output is for, beside the data that flows: a log file, or a condition's input."""


class Dialect(Protocol):
    """How one writer's pipelines lie in MLMD.

    Attributes:
        NAME: What its runs and steps are said to be of.
        PIPELINES: The context types of its pipelines.
        RUNS: The context types of its runs; dialects may share one.
        NODE: The context type of a step over all runs, named `<pipeline>.<step>`; empty if there is none.
        GROUPS: The execution types of its groups of steps.
        ASIDE: What the names of inputs and outputs begin with that may be no data; see `role`.
    """

    NAME: str
    PIPELINES: frozenset[str]
    RUNS: frozenset[str]
    NODE: str
    GROUPS: frozenset[str]
    ASIDE: tuple[str, ...]

    def is_run(self, context: mlmd.Context) -> bool:
        """Tell whether it wrote a run, of a context that has one of its types."""
        ...

    def is_step(self, execution: mlmd.Execution, kind: mlmd.ExecutionType) -> bool:
        """Tell whether it wrote an execution."""
        ...

    def is_artifact(self, node: mlmd.Artifact, kind: mlmd.ArtifactType) -> bool:
        """Tell whether it wrote an artifact."""
        ...

    def pipeline_name(self, context: mlmd.Context) -> str:
        """Return the name of a pipeline's context."""
        ...

    def pipeline_of_run(self, context: mlmd.Context) -> str | None:
        """Return the pipeline that a run's own row names; None if its parents or its steps must tell."""
        ...

    def run_contexts(self, name: str, pipelines: Callable[[], Sequence[str]]) -> Iterable[str]:
        """Return the names that the context of a run may have; `pipelines` asks for those of the store."""
        ...

    def run(self, context: mlmd.Context, pipeline: str) -> PipelineRun:
        """Return a run, as far as its own row tells of it; `status` is None if the steps tell the rest."""
        ...

    def step(self, execution: mlmd.Execution, kind: mlmd.ExecutionType) -> StepRun:
        """Return a step run; its name is empty if only a `node` context tells it."""
        ...

    def artifact(self, node: mlmd.Artifact, kind: mlmd.ArtifactType) -> Artifact:
        """Return an artifact."""
        ...

    def role(self, slot: str, *, taken: bool) -> Role:
        """Return what an input (`taken`) or output of this name is for."""
        ...

    def assemble(self, run: PipelineRun, steps: Sequence[StepRun]) -> WholeRun:
        """Return a run and its steps, in the order they began, with what they tell only together."""
        ...


STATUS = {
    mlmd.Execution.NEW: Status.PENDING,
    mlmd.Execution.RUNNING: Status.RUNNING,
    mlmd.Execution.COMPLETE: Status.COMPLETED,
    mlmd.Execution.FAILED: Status.FAILED,
    mlmd.Execution.CACHED: Status.CACHED,
    mlmd.Execution.CANCELED: Status.CANCELED,
}

OUTPUT_EVENTS = frozenset(
    {mlmd.Event.OUTPUT, mlmd.Event.DECLARED_OUTPUT, mlmd.Event.INTERNAL_OUTPUT, mlmd.Event.PENDING_OUTPUT}
)
"""The types of events of what made an artifact, or is to make it."""

_EVENT_TYPES = {number: EventType(name.lower()) for name, number in mlmd.Event.Type.items()}
_ARTIFACT_STATES = {number: name.lower() for name, number in mlmd.Artifact.State.items()}
_BASE_TYPES = {
    kind: {value: f"mlmd.{name.capitalize()}" for name, value in enum.items() if name != "UNSET"}
    for kind, enum in (
        (mlmd.ArtifactType, mlmd.ArtifactType.SystemDefinedBaseType),
        (mlmd.ExecutionType, mlmd.ExecutionType.SystemDefinedBaseType),
    )
}


# -- nodes ---------------------------------------------------------------------------------------


def status(execution: mlmd.Execution) -> Status:
    """Return how an execution stands, as MLMD has it."""
    return STATUS.get(execution.last_known_state, Status.UNKNOWN)


def custom_properties(node: Any) -> dict[str, Any]:
    """Return a node's custom properties as Python values."""
    return {key: from_property(value) for key, value in items(node, "custom_properties")}


def declared_properties(node: Any) -> dict[str, Any]:
    """Return the properties that a node's type declares as Python values."""
    return {key: from_property(value) for key, value in items(node, "properties")}


def properties(node: Any) -> dict[str, Any]:
    """Return a node's declared and custom properties in one dict; a declared one wins."""
    return {**custom_properties(node), **declared_properties(node)}


def base_type_name(kind: mlmd.ArtifactType | mlmd.ExecutionType) -> str:
    """Return a type's base type as MLMD names it (`mlmd.Model`), or an empty string."""
    return _BASE_TYPES[type(kind)].get(kind.base_type, "")


def flaws(node: Any, kind: Any = None) -> tuple[str, ...]:
    """Return what is wrong with a node's row, whoever wrote it.

    Args:
        node: An artifact, execution or context.
        kind: Its type; what the store does not know has no name.
    """
    found = []
    if kind is not None and not kind.name:
        found.append(f"its type, {node.type_id}, is not there")
    texts = [node.name, getattr(node, "uri", ""), *node.properties, *node.custom_properties]
    for field in ("properties", "custom_properties"):
        texts += [value.string_value for _, value in items(node, field)]
    if any(isinstance(each, bytes) for each in texts):
        found.append("it holds text that is no UTF-8")
    times = (node.create_time_since_epoch, node.last_update_time_since_epoch)
    if any(each and from_millis(each) is None for each in times):
        found.append("it holds a time that is none")
    return tuple(found)


def plain_run(context: mlmd.Context, *, name: str, pipeline: str, dialect: str) -> PipelineRun:
    """Return a run that says nothing of itself: its steps tell its status and its end."""
    return PipelineRun(
        id=context.id,
        name=name,
        pipeline=pipeline,
        status=None,
        dialect=dialect,
        properties=properties(context),
        warnings=flaws(context),
        started_at=from_millis(context.create_time_since_epoch),
        updated_at=from_millis(context.last_update_time_since_epoch),
    )


def plain_step(
    execution: mlmd.Execution,
    kind: mlmd.ExecutionType,
    *,
    name: str,
    dialect: str,
    state: Status | None = None,
) -> StepRun:
    """Return a step run with what MLMD itself has of it; `state` is for a writer who keeps that elsewhere."""
    state = status(execution) if state is None else state
    return StepRun(
        id=execution.id,
        name=name,
        type=text(kind.name),
        base_type=base_type_name(kind),
        status=state,
        dialect=dialect,
        properties=properties(execution),
        warnings=flaws(execution, kind),
        started_at=from_millis(execution.create_time_since_epoch),
        ended_at=from_millis(execution.last_update_time_since_epoch) if state.ended else None,
        updated_at=from_millis(execution.last_update_time_since_epoch),
    )


def plain_artifact(node: mlmd.Artifact, kind: mlmd.ArtifactType) -> Artifact:
    """Return an artifact with what MLMD itself has of it."""
    return Artifact(
        id=node.id,
        type=text(kind.name or node.type),
        base_type=base_type_name(kind),
        uri=text(node.uri),
        name=text(node.name),
        state=_ARTIFACT_STATES.get(node.state, "unknown"),
        properties=properties(node),
        custom_properties=custom_properties(node),
        warnings=flaws(node, kind),
        created_at=from_millis(node.create_time_since_epoch),
        updated_at=from_millis(node.last_update_time_since_epoch),
    )


# -- events --------------------------------------------------------------------------------------


def event(message: mlmd.Event) -> Event:
    """Return an event with all slots of its path."""
    return Event(
        artifact_id=message.artifact_id,
        step_id=message.execution_id,
        type=_EVENT_TYPES.get(message.type, EventType.UNKNOWN),
        slots=_slots(message.path),
        at=from_millis(message.milliseconds_since_epoch),
    )


def event_of(data: bytes) -> Event:
    """Return an event from its message's wire form."""
    return event(mlmd.Event.FromString(data))


def lost_event(artifact: int, step: int, number: int) -> Event:
    """Return an event of which no more is known: somebody deleted it meanwhile."""
    return Event(artifact, step, _EVENT_TYPES.get(number, EventType.UNKNOWN), slots=(), at=None)


def event_number(kind: EventType) -> int:
    """Return MLMD's number of an event type."""
    return int(mlmd.Event.Type.Value(kind.value.upper()))


def write_path(path: Any, slots: Mapping[str, int] | list[Slot]) -> None:
    """Write slots into an event's path as key and index in turn."""
    for slot in slots if isinstance(slots, list) else [Slot(*item) for item in slots.items()]:
        path.steps.add(key=slot.name)
        path.steps.add(index=slot.index)


def _slots(path: Any) -> tuple[Slot, ...]:
    """Return the keys of a path, each with the index behind it, if there is one.

    TFX writes key and index in turn, Kubeflow Pipelines a key alone; an index without a key, or a second
    index, stands by itself.
    """
    slots: list[Slot] = []
    placed = True
    for part in path.steps:
        if part.WhichOneof("value") == "key":
            slots.append(Slot(text(part.key)))
            placed = False
        elif placed:
            slots.append(Slot("", part.index))
        else:
            slots[-1] = Slot(slots[-1].name, part.index)
            placed = True
    return tuple(slots)


# -- runs ----------------------------------------------------------------------------------------


def settled(run: PipelineRun, steps: Sequence[StepRun]) -> PipelineRun:
    """Return a run whose row does not tell how it stands as its steps have it."""
    if run.status is not None:
        return run
    latest = {step.key: step for step in steps if not step.kind.is_group}
    state = status_of_steps([step.status for step in latest.values()])
    ends = [step.ended_at for step in steps if step.ended_at]
    return dataclasses.replace(
        run,
        status=state,
        ended_at=max(ends) if ends and state.ended else None,
        failure=next((step.failure for step in steps if step.failure), None)
        if state is Status.FAILED
        else None,
    )


def status_of_steps(states: Iterable[Status]) -> Status:
    """Return how what consists of steps stands: failed if one failed, running if one runs, else completed.

    Nobody but zen_mlmd records which steps were to come, so a run that was broken off between two steps
    looks completed. One of whose steps nothing is known is unknown.
    """
    found = set(states)
    for state in (Status.FAILED, Status.RUNNING, Status.PENDING, Status.UNKNOWN):
        if state in found:
            return Status.RUNNING if state is Status.PENDING else state
    if found == {Status.CANCELED}:
        return Status.CANCELED
    return Status.COMPLETED if found else Status.UNKNOWN
