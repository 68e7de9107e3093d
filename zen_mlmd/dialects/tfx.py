"""TFX's layout, as TFX 1.11 to 1.21 write it; zen_mlmd and ZenML write the same.

Contexts `pipeline`, `pipeline_run` (whose parent is the pipeline), `node` (`<pipeline>.<step>`, over
all runs) and `execution_cache`; an execution is in all that apply; an event's path is key and index
in turn, several pairs where one artifact went to several inputs (tfx/orchestration/portable/mlmd).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from ml_metadata.proto import metadata_store_pb2 as mlmd

from zen_mlmd.dialects.properties import from_property
from zen_mlmd.dialects.types import base_type_name
from zen_mlmd.model import Artifact, Event, EventType, PipelineRun, Slot, Status, StepRun, from_millis

NAME = "tfx"
PIPELINE, RUN, NODE, CACHE = "pipeline", "pipeline_run", "node", "execution_cache"

_STATUS = {
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


def status(execution: mlmd.Execution) -> Status:
    """Return how an execution stands."""
    return _STATUS.get(execution.last_known_state, Status.UNKNOWN)


def properties(node: Any) -> dict[str, Any]:
    """Return a node's declared and custom properties in one dict; a declared one wins."""
    merged = {key: from_property(value) for key, value in node.custom_properties.items()}
    merged.update((key, from_property(value)) for key, value in node.properties.items())
    return merged


def step_name(node_context: str, pipeline: str) -> str:
    """Return the step's name of a `node` context; both parts may hold dots."""
    return node_context.removeprefix(f"{pipeline}.")


def run(context: mlmd.Context, pipeline: str) -> PipelineRun:
    """Return a run that says nothing of itself: its steps tell its status and its end."""
    return PipelineRun(
        id=context.id,
        name=context.name,
        pipeline=pipeline,
        status=None,
        dialect=NAME,
        properties=properties(context),
        started_at=from_millis(context.create_time_since_epoch),
        updated_at=from_millis(context.last_update_time_since_epoch),
    )


def step(execution: mlmd.Execution, kind: mlmd.ExecutionType, name: str) -> StepRun:
    """Return a step run; `name` comes from its `node` context."""
    state = status(execution)
    recorded = properties(execution)
    return StepRun(
        id=execution.id,
        name=name or kind.name.rpartition(".")[2] or str(execution.id),
        type=kind.name,
        base_type=base_type_name("execution", kind),
        status=state,
        dialect=NAME,
        parameters=_parameters(recorded),
        properties=recorded,
        started_at=from_millis(execution.create_time_since_epoch),
        ended_at=from_millis(execution.last_update_time_since_epoch) if state.ended else None,
        updated_at=from_millis(execution.last_update_time_since_epoch),
    )


def artifact(node: mlmd.Artifact, kind: mlmd.ArtifactType) -> Artifact:
    """Return an artifact."""
    custom = {key: from_property(value) for key, value in node.custom_properties.items()}
    return Artifact(
        id=node.id,
        type=kind.name or node.type,
        base_type=base_type_name("artifact", kind),
        uri=node.uri,
        name=node.name,
        state=_ARTIFACT_STATES.get(node.state, "unknown"),
        properties=properties(node),
        custom_properties=custom,
        created_at=from_millis(node.create_time_since_epoch),
        updated_at=from_millis(node.last_update_time_since_epoch),
    )


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
    slots: list[Slot] = []
    for part in path.steps:
        if part.WhichOneof("value") == "key":
            slots.append(Slot(part.key))
        elif slots:
            slots[-1] = Slot(slots[-1].name, part.index)
        else:
            slots.append(Slot("", part.index))
    return tuple(slots)


def _parameters(recorded: Mapping[str, Any]) -> dict[str, Any]:
    """TFX writes lists, dicts, bools and messages as JSON text with a schema beside it."""
    values: dict[str, Any] = {}
    for key, value in recorded.items():
        if key.startswith("__"):
            continue
        if f"__schema__{key}__" in recorded and isinstance(value, str):
            try:
                values[key] = json.loads(value)
            except ValueError:
                values[key] = value
        else:
            values[key] = value
    return values
