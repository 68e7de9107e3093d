"""What a walk leaves aside: logs, inputs that only a condition asked for, and groups of steps.

A group of Kubeflow Pipelines has input events for what its members take, and makes nothing.
"""

from __future__ import annotations

from typing import Any

from zen_mlmd.loader import Loader
from zen_mlmd.model import StepRun


class Aside:
    """Tells the events that one walk leaves aside; asks the store for a step once.

    Args:
        loader: The store.
        include_logs: Whether logs count.
        include_conditions: Whether inputs of conditions count.

    Attributes:
        has_groups: Whether there may be groups of steps in the store.
        is_idle: Whether it is known that there is nothing to leave aside.
    """

    def __init__(self, loader: Loader, *, include_logs: bool, include_conditions: bool) -> None:
        self._loader = loader
        self._roles = {"log": not include_logs, "condition": not include_conditions}
        self._steps: dict[int, StepRun] = {}
        self.has_groups = loader.has_groups()
        self.is_idle = False

    def without(self, events: list[Any], *, taken: bool) -> list[Any]:
        """Return the events of inputs (`taken`) or outputs that the walk follows, in their order."""
        if self.is_idle:
            return events
        doubtful = [
            event for event in events if (self.has_groups and taken) or self._loader.may_be_aside(event)
        ]
        if not doubtful:
            return events
        unknown = {event.execution_id for event in doubtful} - self._steps.keys()
        self._steps.update(self._loader.steps(sorted(unknown)))
        away = {id(event) for event in doubtful if self._is_aside(event, taken)}
        return [event for event in events if id(event) not in away]

    def _is_aside(self, event: Any, taken: bool) -> bool:
        step = self._steps.get(event.execution_id)
        if step is None:
            return False
        if taken and step.kind.is_group:
            return True
        roles = self._loader.roles(step, event, taken=taken)
        return bool(roles) and all(self._roles.get(each, False) for each in roles)
