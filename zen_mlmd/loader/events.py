"""What events tell: a step's inputs and outputs by name, and what made an artifact."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping

from ml_metadata.proto import metadata_store_pb2 as mlmd

from zen_mlmd.dialects import registry
from zen_mlmd.dialects.base import event
from zen_mlmd.model import INPUT_EVENTS, OUTPUT_EVENTS, Event, Slot, Status, StepRun


def slots(step: StepRun, events: Iterable[Event], *, taken: bool, hide: bool = True) -> dict[str, list[int]]:
    """Return the artifacts of a step's inputs (`taken`) or outputs by name, each list in order.

    Args:
        step: The step.
        events: All of its events, in the order they were written, which is that of a list without indexes.
        taken: Inputs or outputs.
        hide: Leave out what is no data: logs, and inputs that only a condition asked for.
    """
    types = INPUT_EVENTS if taken else OUTPUT_EVENTS
    placed = [
        (slot.name, slot.index, event.artifact_id)
        for event in events
        if event.type in types
        for slot in event.slots or (Slot(""),)
    ]
    lists: dict[str, list[int]] = {}
    for name, _, artifact in sorted(dict.fromkeys(placed), key=lambda each: each[:2]):
        if not (hide and registry.role(step.dialect, name, taken=taken)):
            lists.setdefault(name, []).append(artifact)
    return lists


def earliest(made: set[int], steps: Mapping[int, StepRun]) -> int:
    """Return which of some executions made an artifact: the first that is not cached, if there is one."""
    cached = {each for each in made if each in steps and steps[each].status is Status.CACHED}
    return min(made - cached or made)


def emitters(events: Iterable[Event]) -> dict[int, set[int]]:
    """Return the executions that have an output event for each artifact."""
    found: dict[int, set[int]] = defaultdict(set)
    for each in events:
        if each.type in OUTPUT_EVENTS:
            found[each.artifact_id].add(each.step_id)
    return found


def in_order(events: Iterable[mlmd.Event]) -> list[Event]:
    """Return events as records, oldest first."""
    ordered = sorted(events, key=lambda each: (each.milliseconds_since_epoch, each.execution_id))
    return [event(each) for each in ordered]
