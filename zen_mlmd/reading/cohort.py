"""Views that were listed together are loaded together.

The first run that is looked into is loaded alone; the next ones in growing groups of those that were
listed with it. So looking at one run of 10,000 stays cheap, and looking at all takes few calls. A long
listing is several cohorts at one pace: the groups go on growing, and what nobody holds is let go.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from zen_mlmd.loader import Loader
from zen_mlmd.model import INPUT_EVENTS, OUTPUT_EVENTS, Artifact, Event, PipelineRun, StepRun, WholeRun

_GROWTH = 16


@dataclass
class RunContents:
    """What a run holds.

    Attributes:
        emitters: The steps of this run that have an output event for an artifact, by artifact id: the
            one that made it, or the one that found it in the cache.
        producers: The id of the step that made an artifact, be it of another run, by artifact id.
        makers: Those steps by their id, and those that a step was cached from.
        elsewhere: Other runs that its steps' views looked into, for the next that asks.
    """

    steps: Sequence[StepRun]
    events: dict[int, list[Event]] = field(default_factory=dict)
    artifacts: dict[int, Artifact] = field(default_factory=dict)
    emitters: dict[int, list[int]] = field(default_factory=dict)
    producers: dict[int, int] = field(default_factory=dict)
    makers: dict[int, StepRun] = field(default_factory=dict)
    elsewhere: list[Any] = field(default_factory=list)


@dataclass
class Pace:
    """How fast the reader of a listing goes: how many runs are to be loaded together next."""

    group: int = 1


class Cohort:
    """Runs that were listed together, and their contents as far as they were looked at.

    Args:
        loader: Of their store.
        runs: All of them.
        pace: Shared by the cohorts of one listing.
    """

    def __init__(self, loader: Loader, runs: Sequence[PipelineRun], pace: Pace | None = None) -> None:
        self.loader = loader
        self.runs = list(runs)
        self._place = {run.id: place for place, run in enumerate(self.runs)}
        self._whole: dict[int, WholeRun] = {}
        self._contents: dict[int, RunContents] = {}
        self._pace = pace or Pace()
        self._lock = threading.RLock()

    def adopt(self, run_id: int, other: Cohort) -> None:
        """Take over what another cohort knows of a run that is in both."""
        if run_id in other._whole:
            self._whole[run_id] = other._whole[run_id]
        if run_id in other._contents:
            self._contents[run_id] = other._contents[run_id]

    def whole(self, run_id: int) -> WholeRun:
        """Return a run with its step runs, in the order they began."""
        with self._lock:
            if run_id not in self._whole:
                self._whole.update(self.loader.whole(self._next(run_id, self._whole)))
            return self._whole[run_id]

    def contents(self, run_id: int) -> RunContents:
        """Return a run's steps with their inputs and outputs; calls do not grow with the steps."""
        with self._lock:
            if run_id not in self._contents:
                self.whole(run_id)
                known = [run for run in self.runs if run.id in self._whole and run.id not in self._contents]
                self._load({run.id: self._whole[run.id].steps for run in known})
            return self._contents[run_id]

    def _next(self, run_id: int, known: Mapping[int, object]) -> list[PipelineRun]:
        group: list[PipelineRun] = []
        for run in self._from(run_id):
            if run.id not in known:
                group.append(run)
            if len(group) >= self._pace.group:
                break
        self._pace.group *= _GROWTH
        return group

    def _from(self, run_id: int) -> Iterator[PipelineRun]:
        place = self._place[run_id]
        yield from self.runs[place:]
        yield from self.runs[:place]

    def _load(self, steps: Mapping[int, Sequence[StepRun]]) -> None:
        events = self.loader.events_of_steps([step.id for found in steps.values() for step in found])
        wanted = {each.artifact_id for each in events if each.type in INPUT_EVENTS | OUTPUT_EVENTS}
        artifacts = self.loader.artifacts(sorted(wanted))
        known = {step.id: step for found in self._whole.values() for step in found.steps}
        producers, makers = self.loader.makers(self.loader.events_of_artifacts(sorted(wanted)), known)
        by_step: dict[int, list[Event]] = defaultdict(list)
        for event in events:
            by_step[event.step_id].append(event)
        for run_id, found in steps.items():
            emitters: dict[int, list[int]] = defaultdict(list)
            for step in found:
                for event in by_step.get(step.id, ()):
                    if event.type in OUTPUT_EVENTS:
                        emitters[event.artifact_id].append(step.id)
            self._contents[run_id] = RunContents(
                steps=found,
                events={step.id: by_step.get(step.id, []) for step in found},
                artifacts=artifacts,
                emitters=dict(emitters),
                producers=producers,
                makers=makers,
            )
