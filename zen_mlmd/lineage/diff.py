"""What is other in one run than in another."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from zen_mlmd.lineage.export import printable
from zen_mlmd.loader import Loader, slots
from zen_mlmd.model import Artifact, Event, PipelineRun, StepRun, WholeRun
from zen_mlmd.payloads import tfx_metric
from zen_mlmd.values import same

ABSENT = "(absent)"
"""Stands for a value that one side has not."""


@dataclass(frozen=True, slots=True)
class Change:
    """One thing that is other.

    Attributes:
        step: The step's name; empty for the run itself.
        kind: parameter, code, input, output (an artifact or a value), metric, status, or step (one side only
            has it).
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


Recorded: TypeAlias = tuple[Loader, PipelineRun]
"""A run, and what reads its store."""


def diff_runs(before: Recorded, after: Recorded) -> RunDiff:
    """Compare two runs: parameters, metrics, and step by step what `diff_steps` compares.

    Steps are matched by name; of one that ran again the last attempt counts.
    """
    (old_loader, old_run), (new_loader, new_run) = before, after
    # What other writers' steps tell of a run counts, too: Kubeflow's parameters are its root's.
    old_whole, new_whole = old_loader.whole([old_run])[old_run.id], new_loader.whole([new_run])[new_run.id]
    old, new = _latest_steps(old_whole), _latest_steps(new_whole)
    changes = list(compare("", "parameter", old_whole.run.parameters, new_whole.run.parameters))
    changes += compare("", "metric", old_whole.run.metrics, new_whole.run.metrics)
    contents = _Contents(old_loader, old.values()), _Contents(new_loader, new.values())
    for name in dict.fromkeys([*old, *new]):
        if name not in old or name not in new:
            there = [str(side[name].status) if name in side else ABSENT for side in (old, new)]
            changes.append(Change(name, "step", "", *there))
        else:
            changes += _compare_steps(contents, old[name], new[name])
    return RunDiff(old_run.name, new_run.name, tuple(changes))


def diff_steps(loader: Loader, before: StepRun, after: StepRun) -> tuple[Change, ...]:
    """Compare two runs of a step: status, parameters, code, inputs, outputs, metrics.

    An input or output is the same if it is the same artifact, or has the same content hash.
    """
    contents = _Contents(loader, [before, after])
    return tuple(_compare_steps((contents, contents), before, after))


def compare(step: str, kind: str, before: Mapping[str, Any], after: Mapping[str, Any]) -> list[Change]:
    """Compare two mappings key by key; `1`, `1.0` and `True` are other, at any depth."""
    changes = []
    for name in dict.fromkeys([*before, *after]):
        is_there = name in before and name in after
        if not (is_there and same(before[name], after[name])):
            old, new = before.get(name, ABSENT), after.get(name, ABSENT)
            changes.append(Change(step, kind, str(name), old, new))
    return changes


def shown(value: Any, limit: int = 80) -> str:
    """Return a value as short text."""
    text = ABSENT if value is ABSENT else repr(value)
    return text if len(text) <= limit else text[:limit] + "..."


class _Contents:
    """The inputs and outputs of steps, read in two calls."""

    def __init__(self, loader: Loader, steps: Iterable[StepRun]) -> None:
        self.origin = loader.origin
        self.events: dict[int, list[Event]] = {}
        for event in loader.events_of_steps([step.id for step in steps]):
            self.events.setdefault(event.step_id, []).append(event)
        wanted = {event.artifact_id for events in self.events.values() for event in events}
        self.artifacts = loader.artifacts(sorted(wanted))

    def slots(self, step: StepRun, *, taken: bool) -> dict[str, Artifact]:
        return {
            f"{name}[{place}]" if place else name: self.artifacts[artifact]
            for name, found in slots(step, self.events.get(step.id, ()), taken=taken).items()
            for place, artifact in enumerate(found)
            if artifact in self.artifacts
        }


def _latest_steps(whole: WholeRun) -> dict[str, StepRun]:
    return {step.key: step for step in whole.steps if not step.kind.is_group}


def _metrics(step: StepRun, contents: _Contents) -> dict[str, float]:
    """Return a step's metrics, those among its outputs that are artifacts included."""
    found = dict(step.metrics)
    for name, artifact in contents.slots(step, taken=False).items():
        found.update(artifact.metrics)
        value = tfx_metric(artifact.uri, artifact.materializer)
        if value is not None:
            found[name] = value
    return found


def _compare_steps(contents: tuple[_Contents, _Contents], before: StepRun, after: StepRun) -> list[Change]:
    name = after.key
    changes = compare(name, "parameter", before.parameters, after.parameters)
    if before.code != after.code:
        changes.append(Change(name, "code", "", before.code or ABSENT, after.code or ABSENT))
    ids_count = contents[0].origin == contents[1].origin
    for kind in ("input", "output"):
        taken = kind == "input"
        old, new = contents[0].slots(before, taken=taken), contents[1].slots(after, taken=taken)
        for slot in dict.fromkeys([*old, *new]):
            a, b = old.get(slot), new.get(slot)
            if a is not None and b is not None and ((ids_count and a.id == b.id) or same_content(a, b)):
                continue
            changes.append(
                Change(name, kind, slot, *(described(each) if each else ABSENT for each in (a, b)))
            )
    changes += compare(name, "output", before.output_parameters, after.output_parameters)
    changes += compare(name, "metric", _metrics(before, contents[0]), _metrics(after, contents[1]))
    # Cached or run makes no difference to what came out.
    done = ("completed", "cached")
    if before.status != after.status and not (str(before.status) in done and str(after.status) in done):
        changes.append(Change(name, "status", "", str(before.status), str(after.status)))
    return changes


def same_content(a: Artifact, b: Artifact) -> bool:
    """Tell whether two artifacts have the same recorded content."""
    return bool(a.content_hash and a.content_hash == b.content_hash)


def described(artifact: Artifact) -> str:
    """Return an artifact as short text."""
    return f"{printable(artifact.type)} {artifact.id}"
