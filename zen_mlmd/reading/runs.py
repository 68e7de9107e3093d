"""Views of pipelines and runs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from zen_mlmd.errors import NotFoundError, UsageError
from zen_mlmd.lineage.diff import RunDiff, diff_runs
from zen_mlmd.loader import Loader
from zen_mlmd.model import Failure, Pipeline, PipelineRun, Status
from zen_mlmd.reading.cohort import Cohort, RunContents
from zen_mlmd.reading.listing import ViewList, not_found, select
from zen_mlmd.reading.paths import quote_part
from zen_mlmd.reading.steps import StepView
from zen_mlmd.reading.view import RecordView

RUN_NAMES = frozenset(
    [
        "id",
        "name",
        "pipeline",
        "status",
        "started_at",
        "ended_at",
        "duration_s",
        "dialect",
        "parameters",
        "properties",
        "metrics",
        "environment",
    ]
)


class PipelineRunView(RecordView[PipelineRun]):
    """One run, with the questions one asks of it; its steps are read when first asked for."""

    def __init__(self, record: PipelineRun, cohort: Cohort) -> None:
        super().__init__(record, cohort.loader)
        self._cohort = cohort

    @classmethod
    def alone(cls, record: PipelineRun, loader: Loader) -> PipelineRunView:
        """Return a view of one run that was not listed with others."""
        return cls(record, Cohort(loader, [record]))

    def __repr__(self) -> str:
        return f"<Run {self.path}>"

    def __getitem__(self, step: str) -> StepView:
        """Return a step by name."""
        return self.get_step(step)

    @property
    def pipeline(self) -> str:
        """The pipeline's name."""
        return self.record.pipeline

    @property
    def path(self) -> str:
        """`pipeline/run`."""
        return f"{quote_part(self.pipeline)}/{quote_part(self.name)}"

    @property
    def dialect(self) -> str:
        """Who wrote it: zen, tfx or zenml."""
        steps = self._steps() if self.record.dialect == "tfx" else []
        return steps[0].dialect if steps else self.record.dialect

    @property
    def status(self) -> Status:
        """How it stands.

        A run of ours is `running` until its end is recorded; one whose process was killed stays so, and
        `last_sign_of_life` tells. Of other writers' runs the steps tell: failed if one failed, running
        if one runs, else completed; they record no plan, so a run that was broken off looks completed.
        """
        if self.record.status is not None:
            return self.record.status
        states = {step.status for step in self.latest_steps().values()}
        for state in (Status.FAILED, Status.RUNNING, Status.PENDING, Status.UNKNOWN):
            if state in states:
                return Status.RUNNING if state is Status.PENDING else state
        if states == {Status.CANCELED}:
            return Status.CANCELED
        return Status.COMPLETED if states else Status.UNKNOWN

    @property
    def parameters(self) -> Mapping[str, Any]:
        """The run's parameters, as Python values."""
        return self.record.parameters

    @property
    def properties(self) -> Mapping[str, Any]:
        """What else was recorded of the run."""
        return self.record.properties

    @property
    def metrics(self) -> Mapping[str, float]:
        """The metrics that were logged for the run itself."""
        return self.record.metrics

    @property
    def environment(self) -> Mapping[str, Any]:
        """git_commit, python, zen_mlmd, ml_metadata, user, host, ...; empty if not recorded."""
        return self.record.environment

    @property
    def git_commit(self) -> str | None:
        """The commit that was checked out, or None."""
        return self.record.environment.get("git_commit")

    @property
    def plan(self) -> Mapping[str, tuple[str, ...]]:
        """The planned steps and what each waits for; empty if not recorded."""
        return self.record.plan

    @property
    def failure(self) -> Failure | None:
        """Why it failed, or None."""
        if self.record.failure is not None:
            return self.record.failure
        failures = (
            [step.failure for step in self._steps() if step.failure] if self.status is Status.FAILED else []
        )
        return failures[0] if failures else None

    @property
    def started_at(self) -> datetime | None:
        """When it began."""
        return self.record.started_at

    @property
    def ended_at(self) -> datetime | None:
        """When it ended; None while it runs."""
        if self.record.status is not None:
            return self.record.ended_at
        ends = [step.ended_at for step in self._steps() if step.ended_at]
        return max(ends) if ends and self.status.ended else None

    @property
    def duration_s(self) -> float | None:
        """Seconds from start to end; None while it runs."""
        if self.started_at is None or self.ended_at is None:
            return None
        return (self.ended_at - self.started_at).total_seconds()

    @property
    def last_sign_of_life(self) -> datetime | None:
        """When the run or one of its steps was last written."""
        times = [self.record.updated_at, *(step.updated_at for step in self._steps())]
        return max((each for each in times if each), default=None)

    @property
    def steps(self) -> Mapping[str, StepView]:
        """The steps by name, in the order they began; of a step that ran again the last attempt."""
        return {name: StepView(step, self._loader, self) for name, step in self.latest_steps().items()}

    @property
    def step_runs(self) -> ViewList[StepView]:
        """All step runs in the order they began, every attempt."""
        return ViewList(StepView(step, self._loader, self) for step in self._steps())

    @property
    def step_names(self) -> list[str]:
        """The steps' names, in the order they began."""
        return list(self.latest_steps())

    def get_step(self, name: str) -> StepView:
        """Return a step by name.

        Raises:
            NotFoundError: The run has no such step, or it was not begun.
        """
        steps = self.steps
        if name not in steps:
            raise not_found(f"step in run {self.name!r} named", name, steps)
        return steps[name]

    def latest_steps(self) -> dict[str, Any]:
        """Return the step records by name, of each the last attempt."""
        return {step.name: step for step in self._steps()}

    def contents(self) -> RunContents:
        """Return the run's steps, events and artifacts, in a number of calls that no step adds to."""
        return self._cohort.contents(self.id)

    def diff(self, other: PipelineRunView) -> RunDiff:
        """Return what is other in `other`: parameters, code, inputs, outputs, metrics.

        The other run may be in another store: an input or output is the same there if its content is.

        Raises:
            UsageError: The other is no run.
        """
        if not isinstance(other, PipelineRunView):
            raise UsageError(
                f"a run is compared with a run, not with a {type(other).__qualname__}",
                hint="run.diff(store.get_run(name))",
            )
        return diff_runs((self._loader, self.record), (other._loader, other.record))

    def refresh(self) -> PipelineRunView:
        """Return the run as the store has it now.

        Raises:
            NotFoundError: It is gone.
        """
        found = self._loader.find_run_by_id(self.id)
        if found is None:
            raise NotFoundError(f"run {self.name!r} is gone", hint="somebody deleted it from the store")
        return PipelineRunView.alone(found, self._loader)

    def to_dict(self) -> dict[str, Any]:
        """Return the run as plain values, without its steps."""
        return {
            "id": self.id,
            "pipeline": self.pipeline,
            "name": self.name,
            "status": str(self.status),
            "started_at": self.started_at,
            "ended_at": self.ended_at,
            "duration_s": self.duration_s,
            "parameters": dict(self.parameters),
            "metrics": dict(self.metrics),
            "properties": dict(self.properties),
        }

    def _steps(self) -> list[Any]:
        return self._cohort.steps(self.id)


class Runs:
    """A pipeline's runs, newest first; `runs["name"]` is one of them."""

    def __init__(self, pipeline: Pipeline, loader: Loader) -> None:
        self._pipeline = pipeline
        self._loader = loader

    def __iter__(self) -> Iterator[PipelineRunView]:
        cohort = Cohort(self._loader, self._loader.runs_of(self._pipeline))
        return (PipelineRunView(run, cohort) for run in cohort.runs)

    def __len__(self) -> int:
        return len(self._loader.runs_of(self._pipeline))

    def __getitem__(self, name: str | int) -> PipelineRunView:
        if isinstance(name, int):
            return list(self)[name]
        found = self._loader.find_run(name)
        if found is None or found.pipeline != self._pipeline.name:
            raise not_found(f"run of {self._pipeline.name!r} named", name, [run.name for run in self])
        return PipelineRunView.alone(found, self._loader)

    def __contains__(self, name: object) -> bool:
        found = self._loader.find_run(name) if isinstance(name, str) else None
        return found is not None and found.pipeline == self._pipeline.name

    def __repr__(self) -> str:
        return f"<Runs of {self._pipeline.name}>"

    def where(self, text: str | None = None, *, limit: int | None = None) -> ViewList[PipelineRunView]:
        """Return the runs that a filter matches, newest first.

        Raises:
            FilterSyntaxError: The filter cannot be read.
        """
        return select(self, text, limit, RUN_NAMES)


class PipelineView(RecordView[Pipeline]):
    """One pipeline, with the questions one asks of it."""

    def __repr__(self) -> str:
        return f"<Pipeline {self.name}>"

    @property
    def runs(self) -> Runs:
        """Its runs, newest first."""
        return Runs(self.record, self._loader)

    @property
    def run_names(self) -> list[str]:
        """The names of its runs, newest first."""
        return [run.name for run in self.runs]

    @property
    def latest_run(self) -> PipelineRunView:
        """Its newest run.

        Raises:
            NotFoundError: It has none.
        """
        return self._first(lambda _: True, "run")

    @property
    def latest_completed_run(self) -> PipelineRunView:
        """Its newest run that completed.

        Raises:
            NotFoundError: It has none.
        """
        return self._first(lambda run: run.status is Status.COMPLETED, "completed run")

    def get_run(self, name: str) -> PipelineRunView:
        """Return a run by name; `latest` is the newest.

        Raises:
            NotFoundError: It has no such run.
        """
        if name == "latest" and name not in self.runs:
            return self.latest_run
        return self.runs[name]

    def get_run_for_completed_step(self, step: str) -> PipelineRunView:
        """Return the newest run in which a step was run to its end, rather than found in the cache.

        Raises:
            NotFoundError: There is none.
        """

        def made(run: PipelineRunView) -> bool:
            found = run.latest_steps().get(step)
            return found is not None and found.status is Status.COMPLETED

        return self._first(made, f"run with a completed step {step!r}")

    def to_dict(self) -> dict[str, Any]:
        """Return the pipeline as plain values."""
        return {"id": self.id, "name": self.name, "created_at": self.record.created_at}

    def _first(self, wanted: Any, what: str) -> PipelineRunView:
        for run in self.runs:
            if wanted(run):
                return run
        raise NotFoundError(f"pipeline {self.name!r} has no {what}", hint="run it, or look at .run_names")
