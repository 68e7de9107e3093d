"""Why is this artifact as it is: what made it, from what, and what was other the time before."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from zen_mlmd.lineage.diff import ABSENT, Change, described, diff_steps, shown
from zen_mlmd.lineage.export import printable
from zen_mlmd.loader import Loader, slots
from zen_mlmd.model import Artifact, PipelineRun, Status, StepRun


@dataclass(frozen=True, slots=True)
class Explanation:
    """What `why()` found; `str` says it in words.

    Attributes:
        artifact: What is explained.
        step: The step that made it, as its run has it; None for what was imported.
        run: The run of that step.
        inputs: What the step took, by input name.
        previous: The run before, in which the step was run to its end; None if there was none.
        changes: What was other in the run before.
    """

    artifact: Artifact
    step: StepRun | None
    run: PipelineRun | None
    inputs: tuple[tuple[str, Artifact], ...]
    previous: PipelineRun | None
    changes: tuple[Change, ...]

    def __str__(self) -> str:
        what = described(self.artifact)
        if self.step is None:
            return f"{what} was imported from {printable(self.artifact.uri) or 'nowhere'}: no step made it"
        at = f" at {self.step.ended_at:%Y-%m-%d %H:%M:%S} UTC" if self.step.ended_at else ""
        where = printable(f" of {self.run.pipeline}/{self.run.name}") if self.run else ""
        lines = [f"{what} was made by {printable(self.step.key)} {where}{at}".replace("  ", " ")]
        lines += [f"  from {printable(name)} = {described(artifact)}" for name, artifact in self.inputs]
        before = {change.name: change.before for change in self.changes if change.kind == "parameter"}
        for name, value in self.step.parameters.items():
            was = before.get(name, ABSENT)
            old = "" if was is ABSENT else f" ({shown(was)} in the run before)"
            lines.append(f"  with {printable(name)} = {shown(value)}{old}")
        if self.previous is not None:
            rest = [each for each in self.changes if each.kind in ("code", "input")]
            told = "; ".join(map(_brief, rest)) or _nothing(self.changes)
            lines.append(f"  since {printable(self.previous.name)}: {told}")
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """Return the explanation as plain values."""
        return {
            "artifact": self.artifact.id,
            "step": self.step.key if self.step else None,
            "run": self.run.name if self.run else None,
            "inputs": {name: artifact.id for name, artifact in self.inputs},
            "parameters": dict(self.step.parameters) if self.step else {},
            "previous_run": self.previous.name if self.previous else None,
            "changes": [change.to_dict() for change in self.changes],
        }


def explain(loader: Loader, artifact: Artifact) -> Explanation:
    """Explain an artifact; some ten calls, whatever the size of the store."""
    producers = loader.producers(loader.events_of_artifacts([artifact.id]))
    step = loader.steps(producers.values()).get(producers.get(artifact.id, 0))
    if step is None:
        return Explanation(artifact, None, None, (), None, ())
    run = loader.run_of_step(step)
    taken = [
        (name if len(found) == 1 else f"{name}[{place}]", each)
        for name, found in slots(step, loader.events_of_steps([step.id]), taken=True).items()
        for place, each in enumerate(found)
    ]
    artifacts = loader.artifacts(sorted({each for _, each in taken}))
    inputs = tuple((name, artifacts[each]) for name, each in taken if each in artifacts)
    whole = loader.whole([run])[run.id].steps if run else ()
    step = next((each for each in whole if each.id == step.id), step)
    before = _previous(loader, step, run, whole) if run else None
    changes = diff_steps(loader, before, step) if before else ()
    previous = loader.run_of_step(before) if before else None
    return Explanation(artifact, step, run, inputs, previous, changes)


def _previous(loader: Loader, step: StepRun, run: PipelineRun, whole: Sequence[StepRun]) -> StepRun | None:
    """Return the last run of the same step, in a run before this one, that was run to its end."""
    here = {each.id for each in whole}
    before = [
        each
        for each in loader.earlier_steps(run, step)
        if each.id < step.id and each.id not in here and each.status is Status.COMPLETED
    ]
    return max(before, key=lambda each: each.id, default=None)


def _brief(change: Change) -> str:
    return (
        "its code was changed"
        if change.kind == "code"
        else f"{printable(change.name)}: {change.before} -> {change.after}"
    )


def _nothing(changes: tuple[Change, ...]) -> str:
    return "the parameters above" if changes else "nothing was other"
