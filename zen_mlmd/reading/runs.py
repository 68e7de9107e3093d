"""Views of runs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from itertools import islice
from typing import Any, ClassVar, Final, overload

from zen_mlmd.errors import NotFoundError, UsageError
from zen_mlmd.lineage.diff import RunDiff, diff_runs
from zen_mlmd.lineage.export import printable
from zen_mlmd.loader import Loader
from zen_mlmd.model import INPUT_EVENTS, OUTPUT_EVENTS, Failure, Flaw, PipelineRun, Status, StepKind, StepRun
from zen_mlmd.reading.cohort import Cohort, Pace, RunContents
from zen_mlmd.reading.conditions import KEYS, MOMENT, NUMBER, TEXT, Field
from zen_mlmd.reading.listing import Named, ViewList, name_of, not_found, select
from zen_mlmd.reading.paths import quote_part, unquote_part, unquote_step
from zen_mlmd.reading.steps import StepView
from zen_mlmd.reading.view import RecordView

_NAMED: Final = 50
"""So many of the newest runs are looked through for a name that was meant."""

_SHOWN: Final = 10  # names in an error


class Steps(Named[StepView]):
    """A run's steps by name, in the order they began; of a step that ran again the last attempt."""

    def __init__(self, run: PipelineRunView) -> None:
        self._run = run

    def __getitem__(self, name: str) -> StepView:
        return self._run.get_step(name)

    def __contains__(self, name: object) -> bool:
        try:
            return isinstance(name, str) and self._run.get_step(name) is not None
        except (NotFoundError, UsageError):
            return False

    def __iter__(self) -> Iterator[str]:
        return iter(self._run.latest_steps())

    def __len__(self) -> int:
        return len(self._run.latest_steps())

    def __repr__(self) -> str:
        return f"{{{', '.join(f'{printable(name)}: {step}' for name, step in self.items())}}}"


class PipelineRunView(RecordView[PipelineRun]):
    """One run, with the questions one asks of it; its steps are read when first asked for."""

    FIELDS: ClassVar[Mapping[str, Field]] = {
        "id": NUMBER,
        "name": TEXT,
        "pipeline": TEXT,
        "status": Field("text", tuple(Status)),
        "started_at": MOMENT,
        "ended_at": MOMENT,
        "duration_s": NUMBER,
        "dialect": TEXT,
        "namespace": TEXT,
        "parameters": KEYS,
        "properties": KEYS,
        "metrics": KEYS,
        "environment": KEYS,
        "stack": KEYS,
    }
    COLUMNS: ClassVar[Sequence[str]] = (
        "id",
        "pipeline",
        "name",
        "status",
        "started_at",
        "ended_at",
        "duration_s",
        "dialect",
        "namespace",
    )

    def __init__(self, record: PipelineRun, cohort: Cohort) -> None:
        super().__init__(record, cohort.loader)
        self._cohort = cohort
        self._latest: dict[str, StepRun] | None = None
        self._ids: dict[int, StepRun] | None = None

    @classmethod
    def alone(cls, record: PipelineRun, loader: Loader) -> PipelineRunView:
        """Return a view of one run that was not listed with others."""
        return cls(record, Cohort(loader, [record]))

    @classmethod
    def together(cls, runs: Iterable[PipelineRunView], loader: Loader) -> ViewList[PipelineRunView]:
        """Return some runs of a listing, which are loaded together, and without the others from now on."""
        chosen = list(runs)
        cohort = Cohort(loader, [run.record for run in chosen])
        return ViewList((run.moved_to(cohort) for run in chosen), cls)

    def moved_to(self, cohort: Cohort) -> PipelineRunView:
        """Return the same run in another cohort, with what is known of it."""
        cohort.adopt(self.id, self._cohort)
        return PipelineRunView(self.record, cohort)

    def __repr__(self) -> str:
        return f"<Run {printable(self.path)}>"

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
        """Who wrote it: zen, tfx, zenml, kfp_v1 or kfp_v2."""
        return self._settled().dialect

    @property
    def namespace(self) -> str:
        """The Kubernetes namespace it ran in; empty if that was not recorded."""
        return self.record.namespace

    @property
    def status(self) -> Status:
        """How it stands.

        A run of ours is `running` until its end is recorded; one whose process was killed stays so, and
        `last_sign_of_life` tells. Of other writers' runs the steps tell: failed if one failed, running
        if one runs, else completed; they record no plan, so a run that was broken off looks completed.
        Kubeflow Pipelines v1 recorded nothing of how steps ended: its runs are `unknown`.
        """
        return self._settled().status or Status.UNKNOWN

    @property
    def parameters(self) -> Mapping[str, Any]:
        """The run's parameters, as Python values."""
        return self._settled().parameters

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
    def stack(self) -> Mapping[str, Any]:
        """Its stack's name, and its components' names and flavors; empty if not recorded."""
        return self.record.stack

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
        settled = self._settled()
        if settled.failure is not None or settled.status is not Status.FAILED:
            return settled.failure
        return next((step.failure for step in self._steps() if step.failure), None)

    @property
    def started_at(self) -> datetime | None:
        """When it began."""
        return self.record.started_at

    @property
    def ended_at(self) -> datetime | None:
        """When it ended; None while it runs."""
        return self._settled().ended_at

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
    def steps(self) -> Steps:
        """The steps by key, in the order they began; of a step that ran again the last attempt.

        The key is the step's name, and of a step in a group it begins with the group's: `train-sub/train`,
        `for-loop-2[0]/trial`. A name alone will do for a step if only one has it. Groups are not among
        them, but `steps["train-sub"]` is one.
        """
        return Steps(self)

    @property
    def step_runs(self) -> ViewList[StepView]:
        """All step runs in the order they began, every attempt, without groups."""
        return self.list_steps()

    @property
    def tree(self) -> ViewList[StepView]:
        """The steps and groups that lie in the run itself; `members` of a group has what lies in it."""
        return self.members_of(None)

    def list_steps(
        self, where: str | None = None, *, limit: int | None = None, include_groups: bool = False
    ) -> ViewList[StepView]:
        """Return the step runs that a filter matches, in the order they began, every attempt.

        Args:
            where: `status = failed`, say.
            limit: How many at most.
            include_groups: Also the groups of steps that Kubeflow Pipelines has: DAGs, loops, conditions.

        Raises:
            FilterSyntaxError: The filter cannot be read.
        """
        wanted = (step for step in self._steps() if step.kind is not StepKind.ROOT)
        steps = (step for step in wanted if include_groups or not step.kind.is_group)
        return select(map(self._view, steps), where, limit, StepView)

    def members_of(self, group_id: int | None) -> ViewList[StepView]:
        """Return the steps and groups that lie in a group, or in the run itself, in order."""
        found = [
            step for step in self._steps() if step.group_id == group_id and step.kind is not StepKind.ROOT
        ]
        found.sort(key=lambda each: (-1 if each.iteration is None else each.iteration, each.id))
        return ViewList(map(self._view, found), StepView)

    @property
    def step_names(self) -> list[str]:
        """The keys of the steps, in the order they began."""
        return list(self.latest_steps())

    def get_step(self, name: str) -> StepView:
        """Return a step, or a group of steps, by its key, or by its name if no other has it.

        Raises:
            NotFoundError: The run has no such step, or it was not begun.
            UsageError: Several steps have this name.
        """
        steps = self._by_key()
        if name in steps:
            return self._view(steps[name])
        named = [step for step in steps.values() if step.name == name]
        if len(named) > 1:
            keys = ", ".join(printable(each.key) for each in named[:_SHOWN])
            raise UsageError(
                f"{len(named)} steps of run {self.name!r} are named {name!r}", hint=f"take one of {keys}"
            )
        if not named:
            raise not_found(f"step in run {self.name!r} named", name, self.latest_steps())
        return self._view(named[0])

    def get_step_at(self, *parts: str) -> StepView:
        """Return the step that parts of a path name: the last attempt, or the one with that id.

        Raises:
            NotFoundError: The run has no such step.
        """
        groups = "".join(f"{unquote_part(each)}/" for each in parts[:-1])
        name, attempt = unquote_step(parts[-1])
        for step in self._steps() if attempt is not None else ():
            if (step.key, step.id) == (groups + name, attempt):
                return self._view(step)
        return self.get_step(groups + unquote_part(parts[-1]))

    def latest_steps(self) -> Mapping[str, StepRun]:
        """Return the step records by key, of each the last attempt, without groups."""
        return {key: step for key, step in self._by_key().items() if not step.kind.is_group}

    def as_in_run(self, step: StepRun) -> StepRun:
        """Return a step's record as the run's other steps have it; see `Dialect.assemble`."""
        return self._by_id().get(step.id, step)

    def holds(self, step_id: int) -> bool:
        """Tell whether a step run is one of its own."""
        return step_id in self._by_id()

    def group_of(self, step: StepRun) -> StepView | None:
        """Return the group that a step lies in; None if it lies in the run itself."""
        group = self._by_id().get(self.as_in_run(step).group_id or 0)
        return None if group is None or group.kind is StepKind.ROOT else self._view(group)

    @property
    def warnings(self) -> list[Flaw]:
        """What is wrong with its rows, and those of its steps and artifacts; they were read all the same."""
        own = f"run {printable(self.name)}"
        found = [Flaw(own, each) for each in self._settled().warnings]
        if not self.pipeline:
            found.append(Flaw(own, "it belongs to no pipeline"))
        contents = self.contents()
        for step in contents.steps:
            where = f"step {step.id}"
            found += [Flaw(where, each) for each in step.warnings]
            found += [
                Flaw(where, f"its {event.type} artifact {event.artifact_id} is gone")
                for event in contents.events[step.id]
                if event.type in INPUT_EVENTS | OUTPUT_EVENTS and event.artifact_id not in contents.artifacts
            ]
        used = sorted({each.artifact_id for step in contents.steps for each in contents.events[step.id]})
        for artifact in (contents.artifacts[each] for each in used if each in contents.artifacts):
            found += [Flaw(f"artifact {artifact.id}", each) for each in artifact.warnings]
        return found

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
            "dialect": self.dialect,
            "namespace": self.namespace,
        }

    def _steps(self) -> Sequence[StepRun]:
        return self._cohort.whole(self.id).steps

    def _by_id(self) -> Mapping[int, StepRun]:
        if self._ids is None:
            self._ids = {step.id: step for step in self._steps()}
        return self._ids

    def _by_key(self) -> Mapping[str, StepRun]:
        """Return the last attempt of each step and group."""
        if self._latest is None:
            self._latest = {step.key: step for step in self._steps() if step.kind is not StepKind.ROOT}
        return self._latest

    def _settled(self) -> PipelineRun:
        """Return the record, with what the steps tell where the run's own row does not."""
        return self.record if self.record.status is not None else self._cohort.whole(self.id).run

    def _view(self, step: StepRun) -> StepView:
        return StepView(step, self._loader, self)


class Runs:
    """Runs of a pipeline, or of all, newest first: those that began last; `runs["name"]` is one of them.

    They are read in pages as one goes through them. `len` reads all.
    """

    def __init__(self, loader: Loader, pipeline: str | None = None) -> None:
        self._loader = loader
        self._pipeline = pipeline

    def __iter__(self) -> Iterator[PipelineRunView]:
        pace = Pace()
        for runs in self._loader.newest_runs(self._pipeline):
            cohort = Cohort(self._loader, runs, pace)
            for run in runs:
                yield PipelineRunView(run, cohort)

    def __len__(self) -> int:
        return sum(map(len, self._loader.newest_runs(self._pipeline)))

    @overload
    def __getitem__(self, which: str | int) -> PipelineRunView: ...

    @overload
    def __getitem__(self, which: slice) -> ViewList[PipelineRunView]: ...

    def __getitem__(self, which: str | int | slice) -> PipelineRunView | ViewList[PipelineRunView]:
        if isinstance(which, slice):
            from_end = any(each is not None and each < 0 for each in (which.start, which.stop, which.step))
            runs = list(islice(self, None if from_end else which.stop))
            return PipelineRunView.together(runs[which], self._loader)
        if isinstance(which, int):
            run = list(islice(self, which + 1 if which >= 0 else None))[which]
            return PipelineRunView.together([run], self._loader)[0]
        found = self._find(name_of("run", which))
        if found is None:
            of = "" if self._pipeline is None else f"of {self._pipeline!r} "
            raise not_found(f"run {of}named", which, (run.name for run in islice(self, _NAMED)))
        return PipelineRunView.alone(found, self._loader)

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and bool(self._find_all(name))

    def __repr__(self) -> str:
        return f"<Runs of {'all pipelines' if self._pipeline is None else printable(self._pipeline)}>"

    def where(self, text: str | None = None, *, limit: int | None = None) -> ViewList[PipelineRunView]:
        """Return the runs that a filter matches, newest first.

        Raises:
            FilterSyntaxError: The filter cannot be read.
        """
        return PipelineRunView.together(select(self, text, limit, PipelineRunView), self._loader)

    def _find(self, name: str) -> PipelineRun | None:
        """Return the run of that name.

        Raises:
            UsageError: Runs of several writers have it.
        """
        found = self._find_all(name)
        if len(found) > 1:
            paths = [printable(f"{quote_part(each.pipeline)}/{quote_part(name)}") for each in found]
            if len(set(paths)) < len(paths):
                paths = [f"the one of {each.dialect}: list_runs('id = {each.id}')" for each in found]
            raise UsageError(f"{len(found)} runs are named {name!r}", hint=f"take {' or '.join(paths)}")
        return found[0] if found else None

    def _find_all(self, name: str) -> list[PipelineRun]:
        return [each for each in self._loader.find_runs(name) if self._pipeline in (None, each.pipeline)]
