"""What is other in one run than in another."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from zen_mlmd.lineage.export import printable
from zen_mlmd.loader import Loader
from zen_mlmd.model import INPUT_EVENTS, OUTPUT_EVENTS, Artifact, Event, PipelineRun, StepRun

ABSENT = "(absent)"
"""Stands for a value that one side has not."""


@dataclass(frozen=True, slots=True)
class Change:
    """One thing that is other.

    Attributes:
        step: The step's name; empty for the run itself.
        kind: parameter, code, input, output, metric, status, or step (one side only has it).
        name: Of the parameter, input, ...
        before: In the first run; `ABSENT` if it has none.
        after: In the second run; likewise.
    """

    step: str
    kind: str
    name: str
    before: Any
    after: Any

    def __str__(self) -> str:
        where = f"{printable(self.step)}: " if self.step else ""
        what = f"{self.kind} {printable(self.name)}".rstrip()
        return f"{where}{what}: {shown(self.before)} -> {shown(self.after)}"

    def to_dict(self) -> dict[str, Any]:
        """Return the change as plain values."""
        names = ("step", "kind", "name", "before", "after")
        return {name: getattr(self, name) for name in names}


@dataclass(frozen=True, slots=True)
class RunDiff:
    """What is other in run `after` than in run `before`; empty if nothing is."""

    before: str
    after: str
    changes: tuple[Change, ...] = field(default=())

    def __bool__(self) -> bool:
        return bool(self.changes)

    def __str__(self) -> str:
        lines = [f"{printable(self.before)} -> {printable(self.after)}: {len(self.changes) or 'no'} changes"]
        return "\n".join([*lines, *(f"  {change}" for change in self.changes)])

    def to_dicts(self) -> list[dict[str, Any]]:
        """Return the changes as dicts of plain values."""
        return [change.to_dict() for change in self.changes]


def diff_runs(loader: Loader, before: PipelineRun, after: PipelineRun) -> RunDiff:
    """Compare two runs: parameters, metrics, and step by step what `diff_steps` compares.

    Steps are matched by name; of one that ran again the last attempt counts.
    """
    steps = loader.steps_of([before, after])
    old = {step.name: step for step in steps[before.id]}
    new = {step.name: step for step in steps[after.id]}
    changes = list(compare("", "parameter", before.parameters, after.parameters))
    changes += compare("", "metric", before.metrics, after.metrics)
    content = _Contents(loader, [*old.values(), *new.values()])
    for name in dict.fromkeys([*old, *new]):
        if name not in old or name not in new:
            there = [str(side[name].status) if name in side else ABSENT for side in (old, new)]
            changes.append(Change(name, "step", "", *there))
        else:
            changes += _compare_steps(content, old[name], new[name])
    return RunDiff(before.name, after.name, tuple(changes))


def diff_steps(loader: Loader, before: StepRun, after: StepRun) -> tuple[Change, ...]:
    """Compare two runs of a step: status, parameters, code, inputs, outputs, metrics.

    An input or output is the same if it is the same artifact, or has the same content hash.
    """
    return tuple(_compare_steps(_Contents(loader, [before, after]), before, after))


def compare(step: str, kind: str, before: Mapping[str, Any], after: Mapping[str, Any]) -> list[Change]:
    """Compare two mappings key by key; `1`, `1.0` and `True` are other."""
    changes = []
    for name in dict.fromkeys([*before, *after]):
        old, new = before.get(name, ABSENT), after.get(name, ABSENT)
        if not _same(old, new):
            changes.append(Change(step, kind, str(name), old, new))
    return changes


def shown(value: Any, limit: int = 80) -> str:
    """Return a value as short text."""
    text = ABSENT if value is ABSENT else repr(value)
    return text if len(text) <= limit else text[:limit] + "..."


class _Contents:
    """The inputs and outputs of steps, read in two calls."""

    def __init__(self, loader: Loader, steps: list[StepRun]) -> None:
        self.events: dict[int, list[Event]] = {}
        for event in loader.events_of_steps([step.id for step in steps]):
            self.events.setdefault(event.step_id, []).append(event)
        wanted = {event.artifact_id for events in self.events.values() for event in events}
        self.artifacts = loader.artifacts(sorted(wanted))

    def slots(self, step: StepRun, types: Any) -> dict[str, Artifact]:
        placed: dict[str, Artifact] = {}
        for event in self.events.get(step.id, ()):
            if event.type not in types or event.artifact_id not in self.artifacts:
                continue
            for slot in event.slots:
                placed[f"{slot.name}[{slot.index}]" if slot.index else slot.name] = self.artifacts[
                    event.artifact_id
                ]
        return placed


def _compare_steps(contents: _Contents, before: StepRun, after: StepRun) -> list[Change]:
    name = after.name
    changes = compare(name, "parameter", before.parameters, after.parameters)
    if before.code != after.code:
        changes.append(Change(name, "code", "", before.code or ABSENT, after.code or ABSENT))
    for kind, types in (("input", INPUT_EVENTS), ("output", OUTPUT_EVENTS)):
        old, new = contents.slots(before, types), contents.slots(after, types)
        for slot in dict.fromkeys([*old, *new]):
            a, b = old.get(slot), new.get(slot)
            if a is not None and b is not None and same_content(a, b):
                continue
            changes.append(
                Change(name, kind, slot, *(described(each) if each else ABSENT for each in (a, b)))
            )
    changes += compare(name, "metric", before.metrics, after.metrics)
    # Cached or run makes no difference to what came out.
    done = ("completed", "cached")
    if before.status != after.status and not (str(before.status) in done and str(after.status) in done):
        changes.append(Change(name, "status", "", str(before.status), str(after.status)))
    return changes


def same_content(a: Artifact, b: Artifact) -> bool:
    """Tell whether two artifacts are one, or have the same recorded content."""
    return a.id == b.id or bool(a.content_hash and a.content_hash == b.content_hash)


def described(artifact: Artifact) -> str:
    """Return an artifact as short text."""
    return f"{printable(artifact.type)} {artifact.id}"


def _same(a: Any, b: Any) -> bool:
    if type(a) is not type(b):
        return False
    return bool(a == b) or (a != a and b != b)  # noqa: PLR0124 - NaN equals NaN here
