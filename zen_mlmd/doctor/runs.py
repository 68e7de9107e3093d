"""Runs and steps that never ended: their process was killed, or its machine went away.

All runs' rows are read, the steps that run, and of runs that have not ended all steps.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any, Final

from zen_mlmd.dialects import zen
from zen_mlmd.loader import Loader
from zen_mlmd.model import PipelineRun, Status, StepRun
from zen_mlmd.reading.paths import quote_part
from zen_mlmd.recording.abandoned import end_abandoned_run, end_abandoned_step
from zen_mlmd.service.finding import Finding

STALE_AFTER: Final = timedelta(days=1)

CODES: Final = frozenset(("run-unended", "step-unended"))
"""What is mended only if that is asked for beside."""

_SHOWN: Final = 5
_DAY_S, _HOUR_S = 86400, 3600


@dataclass(frozen=True, slots=True)
class _Unended:
    """A run that has not ended, or a step that has not though its run has, or that belongs to none."""

    run: PipelineRun | None
    steps: tuple[StepRun, ...]
    alone: bool = False

    @property
    def last(self) -> datetime | None:
        """When something was last written of it."""
        of_run = [] if self.alone or self.run is None else [self.run.updated_at]
        times = [*of_run, *(each.updated_at for each in self.steps)]
        return max((each for each in times if each is not None), default=None)

    @property
    def ours(self) -> bool:
        """Whether zen_mlmd wrote it, and so knows how its end is written."""
        writer = self.steps[0] if self.alone or self.run is None else self.run
        return writer.dialect == zen.NAME

    @property
    def environment(self) -> dict[str, Any]:
        """Where it ran, as far as that was recorded."""
        found: dict[str, Any] = dict(self.run.environment) if self.run else {}
        for step in self.steps:  # one that was recorded by another process says where
            found.update(step.environment)
        return found


def examine_runs(loader: Loader, stale_after: timedelta, *, writable: bool = True) -> list[Finding]:
    """Return runs, and steps, of which nothing was written for so long, and no end.

    Args:
        loader: Reads the store.
        stale_after: How long nothing was written.
        writable: Whether the store can be written: else nothing is mendable.
    """
    return [_finding(each, writable=writable) for each in _unended(loader, stale_after)]


def end_runs(loader: Loader, stale_after: timedelta, progress: Callable[[str], object]) -> int:
    """Record those of zen_mlmd's dialect as failed, with the reason; return how many that were."""
    done = 0
    for each in _unended(loader, stale_after):
        if not each.ours or _still_runs(each):
            continue
        message = (
            f"nothing was written of it since {_moment(each.last)}, and no end:"
            f" recorded by zen-mlmd doctor at {_moment(datetime.now(timezone.utc))}"
        )
        if each.alone or each.run is None:
            ended = all(end_abandoned_step(loader.client, step, message) for step in each.steps)
        else:
            ended = end_abandoned_run(loader.client, each.run, list(each.steps), message)
        if ended:
            progress(f"{_subject(each)}: recorded as failed")
            done += 1
    return done


def _unended(loader: Loader, stale_after: timedelta) -> Iterator[_Unended]:
    until = datetime.now(timezone.utc) - stale_after
    known: set[int] = set()
    for page in loader.newest_runs():
        open_runs = [run for run in page if run.status is Status.RUNNING]
        for run, whole in zip(open_runs, _whole(loader, open_runs), strict=True):
            known.add(run.id)
            found = _Unended(run, whole)
            if _is_stale(found, until):
                yield found
    yield from _of_steps(loader, until, known)


def _whole(loader: Loader, runs: list[PipelineRun]) -> list[tuple[StepRun, ...]]:
    found = loader.whole(runs) if runs else {}
    return [found[run.id].steps for run in runs]


def _of_steps(loader: Loader, until: datetime, known: set[int]) -> Iterator[_Unended]:
    """Yield the runs of other writers, by their steps, and steps that are left in runs that have ended."""
    others: dict[int, _Unended] = {}
    for page in loader.running_steps():
        for step in page:
            if step.status is not Status.RUNNING or step.kind.is_group:  # Kubeflow leaves groups running
                continue
            run = loader.run_of_step(step)
            if run is None or (run.status is not None and run.status.ended):
                found = _Unended(run, (step,), alone=True)
                if _is_stale(found, until):
                    yield found
            elif run.id not in known:
                steps = others[run.id].steps if run.id in others else ()
                others[run.id] = _Unended(run, (*steps, step))
    yield from (each for each in others.values() if _is_stale(each, until))


def _is_stale(found: _Unended, until: datetime) -> bool:
    return found.last is not None and found.last < until


def _still_runs(found: _Unended) -> bool:
    """Tell whether a process of this machine has the number that was recorded, be it another one by now."""
    process, host = found.environment.get("pid"), found.environment.get("host")
    return host == platform.node() and Path(f"/proc/{process}").exists()


def _finding(found: _Unended, *, writable: bool) -> Finding:
    runs = _still_runs(found)
    code = "step-unended" if found.alone or found.run is None else "run-unended"
    open_steps = [each for each in found.steps if not each.status.ended]
    names = ", ".join(each.name or f"#{each.id}" for each in open_steps[:_SHOWN])
    what = f"nothing was written of it for {_age(found.last)}, and no end"
    if code == "run-unended" and names:
        what = f"{what}; it is at {names}{' ...' if len(open_steps) > _SHOWN else ''}"
    if runs:
        remedy = "a process of that number runs on this machine: is it this one's? else end it first"
    elif found.ours:
        remedy = "with --end-runs too it is recorded as failed, with this as the reason"
    else:
        remedy = "another program wrote it, and may end it: it is left alone"
    mendable = found.ours and writable and not runs
    what = f"{what}{_where(found.environment)}"
    return Finding(code, what, remedy, subject=_subject(found), mendable=mendable)


def _where(environment: dict[str, Any]) -> str:
    told = [f"{key} {environment[key]}" for key in ("host", "pid") if key in environment]
    return f" ({', '.join(told)})" if told else ""


def _subject(found: _Unended) -> str:
    if found.run is None:
        return f"step {found.steps[0].id}"
    path = f"{quote_part(found.run.pipeline)}/{quote_part(found.run.name)}"
    return f"{path}/{quote_part(found.steps[0].name)}" if found.alone else path


def _age(last: datetime | None) -> str:
    seconds = (datetime.now(timezone.utc) - last).total_seconds() if last else 0
    return f"{seconds / _DAY_S:.0f} days" if seconds >= 2 * _DAY_S else f"{seconds / _HOUR_S:.0f} hours"


def _moment(at: datetime | None) -> str:
    return f"{at:%Y-%m-%d %H:%M:%S} UTC" if at else "it began"
