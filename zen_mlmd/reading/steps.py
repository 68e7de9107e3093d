"""Views of steps, and of what they took and made."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, ClassVar

from zen_mlmd.errors import NotFoundError, UsageError
from zen_mlmd.lineage.export import printable
from zen_mlmd.loader import Loader, slots
from zen_mlmd.model import INPUT_EVENTS, Artifact, Event, EventType, Status, StepKind, StepRun
from zen_mlmd.reading.artifacts import ArtifactView
from zen_mlmd.reading.conditions import KEYS, MOMENT, NUMBER, TEXT, Field
from zen_mlmd.reading.listing import Named, ViewList, not_found
from zen_mlmd.reading.paths import quote_part, quote_step, unquote_part, unquote_slot
from zen_mlmd.reading.view import RecordView

if TYPE_CHECKING:
    from zen_mlmd.reading.runs import PipelineRunView


class Slots(Named["ArtifactView"]):
    """A step's inputs or outputs by name.

    `slots["x"]` is the artifact. Where a name takes a list of several, they are `slots["x[0]"]` and so on,
    and `slots.lists["x"]` has them in order; so a mapping of all slots has each artifact once.
    """

    def __init__(self, lists: Mapping[str, list[ArtifactView]], what: str) -> None:
        self.lists = lists
        self._what = what
        self._single: dict[str, ArtifactView] = {}
        for name, found in lists.items():
            if len(found) == 1:
                self._single[name] = found[0]
                continue
            for place, artifact in enumerate(found):
                # A slot that is called `x[0]` itself goes first.
                if f"{name}[{place}]" not in lists:
                    self._single[f"{name}[{place}]"] = artifact

    def __getitem__(self, name: str) -> ArtifactView:
        if name in self._single:
            return self._single[name]
        if name not in self.lists:
            raise not_found(self._what, name, self._single)
        raise UsageError(
            f"{self._what} {name!r} is a list of {len(self.lists[name])} artifacts",
            hint=f"take one, {printable(name)}[0], or all: {self._what}s.lists[{name!r}]",
        )

    def __contains__(self, name: object) -> bool:
        return name in self._single or name in self.lists

    def __iter__(self) -> Iterator[str]:
        return iter(self._single)

    def __len__(self) -> int:
        return len(self._single)

    def __repr__(self) -> str:
        return f"{{{', '.join(f'{printable(name)}: {found}' for name, found in self.lists.items())}}}"


class StepView(RecordView[StepRun]):
    """One step run, with the questions one asks of it."""

    FIELDS: ClassVar[Mapping[str, Field]] = {
        "id": NUMBER,
        "name": TEXT,
        "key": TEXT,
        "display_name": TEXT,
        "kind": Field("text", tuple(StepKind)),
        "type": TEXT,
        "base_type": TEXT,
        "status": Field("text", tuple(Status)),
        "started_at": MOMENT,
        "ended_at": MOMENT,
        "duration_s": NUMBER,
        "parameters": KEYS,
        "output_parameters": KEYS,
        "properties": KEYS,
        "metrics": KEYS,
        "environment": KEYS,
        "code": TEXT,
    }
    COLUMNS: ClassVar[Sequence[str]] = (
        "id",
        "name",
        "display_name",
        "kind",
        "type",
        "status",
        "started_at",
        "ended_at",
        "duration_s",
        "failure",
    )

    def __init__(
        self,
        record: StepRun,
        loader: Loader,
        run: PipelineRunView | None = None,
        *,
        near: list[PipelineRunView] | None = None,
    ) -> None:
        super().__init__(record, loader)
        self._run = run
        self._near = [] if near is None else near

    def __repr__(self) -> str:
        return f"<Step {printable(self.key)} {self.status}>"

    @property
    def key(self) -> str:
        """Its name in its run, with the groups that it lies in: `train-sub/train`, `for-loop-2[0]/trial`."""
        return self.record.key

    @property
    def display_name(self) -> str:
        """What a user called it; its name if that was not recorded."""
        return self.record.display_name or self.record.name

    @property
    def type(self) -> str:
        """The execution type's name."""
        return self.record.type

    @property
    def base_type(self) -> str:
        """MLMD's own type that its type is one of, `mlmd.Train`; empty if it is of none."""
        return self.record.base_type

    @property
    def kind(self) -> StepKind:
        """Whether it is work, or a group of steps and which."""
        return self.record.kind

    @property
    def iteration(self) -> int | None:
        """Of an iteration of a loop, which, from 0."""
        return self.record.iteration

    @property
    def group(self) -> StepView | None:
        """The group that it lies in; None if it lies in the run itself, or belongs to no run."""
        run = self._find_run()
        return None if run is None else run.group_of(self.record)

    @property
    def members(self) -> ViewList[StepView]:
        """The steps and groups in this group, iterations in their order; a step that is no group has none."""
        run = self._find_run()
        return ViewList([], StepView) if run is None or not self.kind.is_group else run.members_of(self.id)

    @property
    def cached_from(self) -> StepView | None:
        """The step run whose outputs it took from the cache; None if it was run, or that is not recorded.

        Of a group it is the group that its members' are from.
        """
        if not self.is_cached:
            return None
        if self.kind.is_group:
            sources = (each.cached_from for each in self.members)
            groups = (each.group for each in sources if each is not None)
            return next((each for each in groups if each is not None and each.name == self.name), None)
        wanted = self.record.cached_from_id
        if wanted is None:
            made = [each.producer_step for each in self.outputs.values()]
            return next((each for each in made if each is not None and each.id != self.id), None)
        known = {} if self._run is None else self._run.contents().makers
        found = known.get(wanted) or self._loader.steps([wanted]).get(wanted)
        return None if found is None else self.beside(found)

    @property
    def output_parameters(self) -> Mapping[str, Any]:
        """The values that it returned and that are no artifacts, by name."""
        return self._settled().output_parameters

    @property
    def entrypoint_name(self) -> str:
        """The name of the function or class that ran."""
        return self.record.type.rpartition(".")[2]

    @property
    def status(self) -> Status:
        """How it stands; a group as its members do."""
        return self._settled().status

    @property
    def is_cached(self) -> bool:
        """Whether it was not run, because its outputs were there already."""
        return self.status is Status.CACHED

    @property
    def is_completed(self) -> bool:
        """Whether its outputs are there: it was run to its end, or found in the cache."""
        return self.status in (Status.COMPLETED, Status.CACHED)

    @property
    def parameters(self) -> Mapping[str, Any]:
        """The parameters, as Python values."""
        return self.record.parameters

    @property
    def properties(self) -> Mapping[str, Any]:
        """What else was recorded."""
        return self.record.properties

    @property
    def metrics(self) -> Mapping[str, float]:
        """The metrics: logged for the step, or recorded as artifacts that are metrics.

        Of a TFX step also its outputs of the types `Float` and `Integer`, if their files are on this machine.
        """
        from zen_mlmd.payloads import tfx_metric

        found = dict(self.record.metrics)
        for name, artifact in self.outputs.items():
            found.update(artifact.record.metrics)
            value = tfx_metric(artifact.uri, artifact.record.materializer)
            if value is not None:
                found[name] = value
        return found

    @property
    def docstring(self) -> str:
        """What the step says of itself; empty if not recorded."""
        return self.record.docstring

    @property
    def failure(self) -> Any:
        """Why it failed, or None."""
        return self.record.failure

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
        return self._settled().duration_s

    @property
    def run(self) -> PipelineRunView:
        """The run it belongs to.

        Raises:
            NotFoundError: It belongs to none.
        """
        found = self._find_run()
        if found is None:
            raise NotFoundError(
                f"step {self.name!r} ({self.id}) belongs to no run", hint="it was recorded without one"
            )
        return found

    @property
    def has_run(self) -> bool:
        """Whether it belongs to a run."""
        return self._find_run() is not None

    @property
    def path(self) -> str:
        """`pipeline/run/step`; with its id, `step#12`, if the step ran again after it in the same run.

        Of a step in a group `pipeline/run/group/step`.

        Raises:
            NotFoundError: It belongs to no run.
        """
        own = self.run.as_in_run(self.record)
        last = self.run.get_step(own.key) if own.key else None
        attempt = None if last is None or last.id == self.id else self.id
        parts = own.key.split("/") if own.scope else [own.key]
        groups = "".join(f"{quote_part(each)}/" for each in parts[:-1])
        return f"{self.run.path}/{groups}{quote_step(parts[-1], attempt)}"

    @property
    def inputs(self) -> Slots:
        """What it took, by input name; without what only a condition asked for, see `list_inputs`."""
        return self.list_inputs()

    @property
    def outputs(self) -> Slots:
        """What it made, or found in the cache, by output name; without its logs, see `list_outputs`."""
        return self.list_outputs()

    def list_inputs(self, *, include_conditions: bool = False) -> Slots:
        """Return what it took, by input name.

        Args:
            include_conditions: Also what was taken only to decide whether the step runs, which TFX calls
                `_Evaluate.blessing`.
        """
        return self._slots(taken=True, hide=not include_conditions)

    def list_outputs(self, *, include_logs: bool = False) -> Slots:
        """Return what it made, or found in the cache, by output name.

        A group's outputs are those of its members that it hands on; of a loop lists, in the order of
        its iterations.

        Args:
            include_logs: Also log files (Kubeflow: `executor-logs`, `main-logs`).
        """
        if self.kind.is_group:
            return Slots(self._group_outputs(), "output")
        return self._slots(taken=False, hide=not include_logs)

    @property
    def input(self) -> ArtifactView:
        """Its only input.

        Raises:
            UsageError: It has none, or several.
        """
        return _only(self.inputs, "input", self.name)

    @property
    def output(self) -> ArtifactView:
        """Its only output.

        Raises:
            UsageError: It has none, or several.
        """
        return _only(self.outputs, "output", self.name)

    def get_output_at(self, part: str) -> ArtifactView:
        """Return the output that a part of a path names.

        Raises:
            NotFoundError: It has no such output.
            UsageError: The output is a list, and the part does not say which of it.
        """
        outputs = self.list_outputs(include_logs=True)
        name, place = unquote_slot(part)
        listed = outputs.lists.get(name, ())
        return listed[place] if place is not None and place < len(listed) else outputs[unquote_part(part)]

    @property
    def parents(self) -> ViewList[StepView]:
        """The steps that it waited for: that gave it an artifact in its run, or that it was put after.

        A parent in the same run is the step that emitted the artifact there, be it from the cache;
        for an artifact from elsewhere it is the step that made it.
        """
        contents = self.run.contents()
        taken = {
            event.artifact_id for event in contents.events.get(self.id, ()) if event.type in INPUT_EVENTS
        }
        own = {step.id: step for step in contents.steps}
        wanted = {self.emitter_id(each) or contents.producers.get(each) for each in taken}
        wanted |= {step.id for step in contents.steps if step.name in self.record.after}
        ids = sorted(each for each in wanted if each is not None and each != self.id)
        elsewhere = self._loader.steps([each for each in ids if each not in own])
        parents = (
            StepView(own[each], self._loader, self._run) if each in own else self.beside(elsewhere[each])
            for each in ids
            if each in own or each in elsewhere
        )
        return ViewList(parents, StepView)

    def emitter_id(self, artifact_id: int) -> int | None:
        """Return which other step of its run emitted an artifact, be it from the cache; None if none did."""
        run = self._find_run()
        emitters = run.contents().emitters.get(artifact_id, ()) if run else ()
        others = [each for each in emitters if each != self.id]
        return max(others, key=lambda each: (each < self.id, each), default=None)

    def beside(self, record: StepRun) -> StepView:
        """Return a view of another step run; it shares this one's run if it is of the same."""
        if record.id == self.id:
            return self
        same = self._run is not None and record.id in self._run.contents().events
        if self._run is None or not same:
            near = None if self._run is None else self._run.contents().elsewhere
            return StepView(record, self._loader, near=near)
        return StepView(self._run.as_in_run(record), self._loader, self._run)

    def events(self, types: Collection[EventType] = tuple(EventType)) -> list[Event]:
        """Return its events of those types, INTERNAL_* ones included by default."""
        return [event for event in self._events() if event.type in types]

    def to_dict(self) -> dict[str, Any]:
        """Return the step as plain values."""
        return {
            "id": self.id,
            "name": self.key,
            "display_name": self.display_name,
            "kind": str(self.kind),
            "type": self.record.type,
            "status": str(self.status),
            "started_at": self.started_at,
            "ended_at": self.ended_at,
            "duration_s": self.duration_s,
            "parameters": dict(self.parameters),
            "output_parameters": dict(self.output_parameters),
            "metrics": dict(self.metrics),
            "inputs": {name: [each.id for each in found] for name, found in self.inputs.lists.items()},
            "outputs": {name: [each.id for each in found] for name, found in self.outputs.lists.items()},
            "failure": self.failure.message if self.failure else None,
        }

    def _find_run(self) -> PipelineRunView | None:
        if self._run is None:
            from zen_mlmd.reading.runs import PipelineRunView

            self._run = next((run for run in self._near if run.holds(self.id)), None)
            found = self._loader.run_of_step(self.record) if self._run is None else None
            if found is not None:
                self._run = PipelineRunView.alone(found, self._loader)
                self._near.append(self._run)
            if self._run is not None and self.kind.is_group:
                self.record = self._run.as_in_run(self.record)
        return self._run

    def _settled(self) -> StepRun:
        """Return its record, of a group as its members have it."""
        if self.kind.is_group:
            self._find_run()
        return self.record

    def _events(self) -> list[Event]:
        if self._run is not None:
            return self._run.contents().events.get(self.id, [])
        return self._loader.events_of_steps([self.id])

    def _slots(self, *, taken: bool, hide: bool) -> Slots:
        placed = slots(self.record, self._events(), taken=taken, hide=hide)
        contents = None if self._run is None else self._run.contents()
        artifacts: Mapping[int, Artifact]
        if contents is not None:
            artifacts = contents.artifacts
        else:
            artifacts = self._loader.artifacts(sorted({each for found in placed.values() for each in found}))
        views = {
            name: [
                ArtifactView(artifacts[each], self._loader, step=self, taken=taken, contents=contents)
                for each in found
                if each in artifacts
            ]
            for name, found in placed.items()
        }
        return Slots({name: found for name, found in views.items() if found}, "input" if taken else "output")

    def _group_outputs(self) -> dict[str, list[ArtifactView]]:
        lists: dict[str, list[ArtifactView]] = {}
        if self.kind is StepKind.LOOP:
            for member in {each.key: each for each in self.members}.values():
                for name, found in member.outputs.lists.items():
                    lists.setdefault(name, []).extend(found)
            return lists
        members = {each.name: each for each in self.members if each.status is not Status.CANCELED}
        for name, sources in self.record.output_sources.items():
            for task, output in sources:
                outputs = members[task].outputs.lists if task in members else {}
                if output in outputs:
                    lists[name] = list(outputs[output])
                    break
        return lists


def _only(slots: Slots, what: str, step: str) -> ArtifactView:
    if len(slots) != 1:
        raise UsageError(
            f"step {step!r} has {len(slots)} {what}s",
            hint=f"take one of .{what}s: {', '.join(map(printable, slots)) or 'there are none'}",
        )
    return slots[next(iter(slots))]
