"""From the store to records: the questions of the layers above, each in as few calls as MLMD allows.

What cannot be asked in bulk: MLMD's calls name no executions' contexts except one execution at a
time, or one context at a time (`GetLineageSubgraph` would, and is gone from ml-metadata 1.21.0). Our
own executions carry the names of their run and step; for others a run is one call, and the step
names of a plain TFX run one more for each of the pipeline's nodes, once. The runs of one pipeline come
in one answer that is as long as there are runs; all contexts of a store come in pages, newest first.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice

from ml_metadata.proto import metadata_store_pb2 as mlmd

from zen_mlmd.dialects import kfp_v2, registry, tfx, zen
from zen_mlmd.dialects.base import Dialect, event
from zen_mlmd.dialects.properties import text
from zen_mlmd.dialects.tfx_nodes import Place, places
from zen_mlmd.loader.events import earliest, emitters, in_order, slots
from zen_mlmd.loader.placement import (
    context_types,
    pipelines_of,
    runs_of_execution,
    type_of_context,
    with_runs,
)
from zen_mlmd.model import (
    Artifact,
    Event,
    Pipeline,
    PipelineRun,
    Status,
    StepRun,
    WholeRun,
    from_millis,
)
from zen_mlmd.service.client import Client

_FEW_RUNS = 4
"""The steps of up to so many runs are asked run by run, whatever else there is."""

_SHARE = 32
"""More runs are read with their whole pipeline, unless it may have so many times more of them."""

_FIRST_RUNS = 8
"""So many runs are listed before all others, for whoever looks for the newest."""

_PAGES = 3
"""So many pages are read after the first; who goes on after those gets all others in one call."""

_RUNS_BEFORE = 50
"""So many runs are looked through for the last one in which a step was run."""

_MOST_RUNS = 1000
"""No list has more runs than this."""


class Loader:
    """Reads records through a client; safe over threads.

    Attributes:
        trusted: Whether pickles of this store's artifacts are read unasked.

    It remembers only what cannot change: which pipeline a run belongs to, which step an execution is of.
    """

    def __init__(self, client: Client, *, trusted: bool = False) -> None:
        self.client = client
        self.trusted = trusted

    @property
    def _pipeline_ids(self) -> dict[str, int]:
        return self.client.remembered("pipelines")

    @property
    def _newest_run(self) -> dict[str, int]:
        return self.client.remembered("newest run")

    @property
    def origin(self) -> str:
        """Which store it reads, without secrets; a database in memory is a store of its own each time."""
        location = self.client.location
        return f"{location} {id(self):x}" if location == ":memory:" else location

    # -- pipelines and runs ----------------------------------------------------------------------

    def pipelines(self) -> list[Pipeline]:
        """Return all pipelines, oldest first; each name once, whoever has runs of it."""
        found: dict[str, Pipeline] = {}
        for kind in context_types(self.client, registry.PIPELINE_TYPES - {tfx.PIPELINE}):
            for context in self.client.contexts_of_type(kind):
                _add(found, registry.of_pipeline(kind).pipeline_name(context), context)
        for kind in context_types(self.client, registry.RUNS_WITHOUT_PIPELINE):
            for context in self.client.contexts_of_type(kind):
                dialect = registry.of_run(context, kind)
                if dialect is not None:
                    _add(found, dialect.pipeline_of_run(context) or "", context)
        # One of this type is the pipeline of its name, as for `find_pipeline`.
        own = self.client.contexts_of_type(tfx.PIPELINE) if context_types(self.client, {tfx.PIPELINE}) else []
        for context in own:
            found[text(context.name)] = _pipeline(text(context.name), context)
        return sorted(found.values(), key=lambda each: each.id)

    def find_pipeline(self, name: str) -> Pipeline | None:
        """Return the pipeline of that name, or None."""
        context = self.client.context(tfx.PIPELINE, name)
        if context is not None:
            self._pipeline_ids[name] = context.id
            return _pipeline(name, context)
        others = context_types(self.client, registry.PIPELINE_TYPES | registry.RUNS_WITHOUT_PIPELINE)
        if others <= {tfx.PIPELINE}:
            return None
        return next((each for each in self.pipelines() if each.name == name), None)

    def newest_runs(self, pipeline: str | None = None) -> Iterator[list[PipelineRun]]:
        """Yield the runs of a pipeline, or of all, in lists that grow: those that began last come first.

        What comes first is decided by id, which is the order in which the store heard of them.
        """
        for contexts in self._newest_contexts():
            runs = self._runs(contexts)
            yield [each for each in runs if pipeline is None or each.pipeline == pipeline]

    def _newest_contexts(self) -> Iterator[list[mlmd.Context]]:
        """Yield the contexts of runs: a few, a page, some pages, and then all others from one answer."""
        pages = self.client.newest_contexts()
        first = list(filter(self._is_run, next(pages, [])))
        yield first[:_FIRST_RUNS]
        yield first[_FIRST_RUNS:]
        yield [each for page in islice(pages, _PAGES) for each in page if self._is_run(each)]
        older = next(pages, None)
        if older is None:
            return
        rest = [
            each
            for kind in sorted(context_types(self.client, registry.RUN_TYPES))
            for each in self.client.contexts_of_type(kind)
            if each.id <= older[0].id and self._is_run(each)
        ]
        rest.sort(key=lambda each: each.id)
        while rest:
            yield rest[: -_MOST_RUNS - 1 : -1]
            del rest[-_MOST_RUNS:]

    def _is_run(self, context: mlmd.Context) -> bool:
        return self._dialect_of_run(context) is not None

    def _dialect_of_run(self, context: mlmd.Context) -> Dialect | None:
        return registry.of_run(context, type_of_context(self.client, context))

    def find_run(self, name: str) -> PipelineRun | None:
        """Return the run of that name, or None; the first of `find_runs`."""
        return next(iter(self.find_runs(name)), None)

    def find_runs(self, name: str) -> list[PipelineRun]:
        """Return the runs of that name; MLMD keeps the names of one context type's unique."""
        found = [self.client.context(tfx.RUN, name)]
        others = context_types(self.client, registry.RUN_TYPES) - {tfx.RUN}
        for kind in sorted(others):
            candidates = dict.fromkeys(
                each
                for dialect in registry.DIALECTS
                if kind in dialect.RUNS
                for each in dialect.run_contexts(name, lambda: [each.name for each in self.pipelines()])
            )
            found += [self.client.context(kind, each) for each in candidates]
        return [run for run in self._runs([each for each in found if each]) if run.name == name]

    def find_run_by_id(self, run_id: int) -> PipelineRun | None:
        """Return the run with that context id, or None."""
        found = self.client.contexts([run_id]).get(run_id)
        return self._runs([found])[0] if found is not None and self._is_run(found) else None

    def run_of_step(self, step: StepRun) -> PipelineRun | None:
        """Return the run that a step run belongs to, or None for a step of no run.

        One that is in the runs of several dialects (TFX on Kubeflow) belongs to the one of its own.
        """
        if step.run_name and step.dialect == zen.NAME:
            found = self.client.context(tfx.RUN, step.run_name)
            return self._runs([found])[0] if found is not None else None
        contexts = [each for each, _ in runs_of_execution(self.client, step)]
        return self._runs(contexts[:1])[0] if contexts else None

    def _runs(self, contexts: Sequence[mlmd.Context]) -> list[PipelineRun]:
        newest = self._newest_run
        newest["id"] = max([newest.get("id", 0), *(each.id for each in contexts)])
        placed = [(each, dialect) for each in contexts if (dialect := self._dialect_of_run(each))]
        told = {each.id: dialect.pipeline_of_run(each) for each, dialect in placed}
        known = pipelines_of(
            self.client, {each.id: dialect for each, dialect in placed if told[each.id] is None}
        )
        return [dialect.run(each, told[each.id] or known.get(each.id, "")) for each, dialect in placed]

    # -- steps -----------------------------------------------------------------------------------

    def whole(self, runs: Sequence[PipelineRun]) -> dict[int, WholeRun]:
        """Return each run with its step runs, by run id.

        A few runs, runs of other writers, and those that are few among all there may be, are a call
        each; others are read with all of their pipeline, one call for each of them.
        """
        steps: dict[int, list[StepRun]] = {run.id: [] for run in runs}
        ours = [run for run in runs if run.dialect == zen.NAME]
        # No run has an id above the newest, so there are not more runs than that.
        if len(ours) <= _FEW_RUNS or len(ours) * _SHARE < self._newest_run.get("id", 0):
            ours = []
        whole = {run.name: run.id for run in ours}
        for run in runs:
            if whole.get(run.name) != run.id:
                steps[run.id] = self._steps(self.client.executions_of_context(run.id), [run.pipeline])
        for name in sorted({run.pipeline for run in ours}):
            executions = self.client.executions_of_context(self._pipeline_id(name))
            for step in self._steps([each for each in executions if zen.is_step(each)], [name]):
                if step.run_name in whole:
                    steps[whole[step.run_name]].append(step)
        for run in runs:
            steps[run.id] = [
                each if each.run_name else replace(each, run_name=run.name) for each in steps[run.id]
            ]
        return {
            run.id: registry.named(run.dialect).assemble(run, sorted(steps[run.id], key=lambda each: each.id))
            for run in runs
        }

    def _pipeline_id(self, name: str) -> int:
        if name not in self._pipeline_ids:
            self.find_pipeline(name)
        return self._pipeline_ids.get(name, 0)

    def steps(self, ids: Iterable[int]) -> dict[int, StepRun]:
        """Return step runs by id; ids that the store does not hold are left out.

        A group is as its own row has it; `whole` has it as its members do. The groups above a step are
        asked for, too, a call for each level of them.
        """
        found = self.client.executions(ids)
        return self._in_groups(self._steps(list(found.values()), None))

    def steps_to_show(self, ids: Iterable[int]) -> dict[int, StepRun]:
        """Return the same, with the names of their runs; of many runs only some have them."""
        return with_runs(self.client, self.steps(ids))

    def _in_groups(self, steps: Sequence[StepRun]) -> dict[int, StepRun]:
        """Return steps by id, with the groups that they lie in."""
        known = {each.id: each for each in steps}
        if any(each.group_id is not None for each in steps):
            asked = set(known)
            while missing := {each.group_id for each in known.values() if each.group_id} - asked:
                asked |= missing
                known.update((each.id, self._step(each)) for each in self.client.executions(missing).values())
            known.update(kfp_v2.among([each for each in known.values() if each.dialect == kfp_v2.NAME]))
        return {each.id: known[each.id] for each in steps}

    def newest_steps(self) -> Iterator[list[StepRun]]:
        """Yield pages of step runs, newest first, those of no run among them; their names may be short."""
        for page in self.client.newest_executions():
            yield [self._step(each) for each in page]

    def running_steps(self) -> Iterator[list[StepRun]]:
        """Yield pages of the step runs whose own row says that they run, as `newest_steps` does of all."""
        for page in self.client.running_executions():
            yield [self._step(each) for each in page]

    def steps_in_cache(self, cache_key: str) -> list[StepRun]:
        """Return the step runs under a cache key, newest first."""
        context = self.client.context(tfx.CACHE, zen.cache_context(cache_key))
        executions = self.client.executions_of_context(context.id) if context else []
        return sorted(self._steps(executions, None), key=lambda each: -each.id)

    def earlier_steps(self, run: PipelineRun, step: StepRun) -> list[StepRun]:
        """Return runs of one step of a pipeline, other ones than in this run among them, by one writer.

        Where MLMD has a context for the step over all runs, all of them, in two calls. Where it has none
        the runs before this one are looked through, back to one in which the step was run to its end.
        """
        node = registry.named(step.dialect).NODE
        if node:
            pipeline = step.scope.rpartition("/")[2] or run.pipeline  # of TFX, a pipeline in the pipeline
            context = self.client.context(node, f"{pipeline}.{step.name}")
            executions = self.client.executions_of_context(context.id) if context else []
            found = self._steps(executions, [run.pipeline])
            return [each for each in found if each.dialect == step.dialect]
        earlier = (each for page in self.newest_runs(run.pipeline) for each in page if each.id < run.id)
        for each in islice(earlier, _RUNS_BEFORE):
            whole = self.whole([each])[each.id].steps
            found = [other for other in whole if (other.key, other.dialect) == (step.key, step.dialect)]
            if any(other.status is Status.COMPLETED for other in found):
                return found
        return []

    def _steps(self, executions: Sequence[mlmd.Execution], pipelines: list[str] | None) -> list[StepRun]:
        steps = [self._step(each) for each in executions]
        nameless = [each.id for each in steps if not each.name]
        found = places(self.client, nameless, pipelines) if nameless else {}
        return [each if each.name else _placed(each, found.get(each.id)) for each in steps]

    def _step(self, execution: mlmd.Execution) -> StepRun:
        kind = self.client.type_of("execution", execution.type_id)
        return registry.of_step(execution, kind).step(execution, kind)

    # -- artifacts and events --------------------------------------------------------------------

    def artifacts(self, ids: Iterable[int]) -> dict[int, Artifact]:
        """Return artifacts by id; ids that the store does not hold are left out."""
        return {each.id: self._artifact(each) for each in self.client.artifacts(ids).values()}

    def artifacts_at(self, uri: str) -> list[Artifact]:
        """Return the artifacts with exactly this URI, oldest first."""
        return sorted(
            (self._artifact(each) for each in self.client.artifacts_at(uri)), key=lambda each: each.id
        )

    def newest_artifacts(self, type_name: str | None = None) -> Iterator[list[Artifact]]:
        """Yield pages of artifacts, of one type or of all, newest first."""
        for page in self.client.newest_artifacts(type_name):
            yield [self._artifact(each) for each in page]

    def events_of_steps(self, ids: Sequence[int]) -> list[Event]:
        """Return all events of step runs, whatever their type, oldest first."""
        return in_order(self.client.events_of_executions(ids))

    def events_of_artifacts(self, ids: Sequence[int]) -> list[Event]:
        """Return all events of artifacts, whatever their type, oldest first."""
        return in_order(self.client.events_of_artifacts(ids))

    def producers(self, events: Iterable[Event]) -> dict[int, int]:
        """Return which execution made each artifact, from all of those artifacts' events.

        A cached execution re-emits artifacts that another made: the producer is the earliest
        execution that is not CACHED, or the earliest if all are. One call at most.
        """
        return self.choose_producers(emitters(events))

    def makers(
        self, events: Iterable[Event], known: Mapping[int, StepRun]
    ) -> tuple[dict[int, int], dict[int, StepRun]]:
        """Return the same, and the records of those executions by id; `known` need not be asked for.

        Those that one of `known` says to be cached from are among the records.
        """
        made = emitters(events)
        sources = {each.cached_from_id for each in known.values() if each.cached_from_id is not None}
        wanted = sources.union(*made.values())
        found = self.client.executions(sorted(wanted - known.keys()))
        steps = {**{each.id: self._step(each) for each in found.values()}, **known}
        producers = {artifact: earliest(by, steps) for artifact, by in made.items()}
        told = (set(producers.values()) | sources) & steps.keys()
        # A name may be a call more, so only those are named that are told.
        named = self._in_groups(self._steps([found[each] for each in sorted(told & found.keys())], None))
        return producers, {**{each: steps[each] for each in told}, **named}

    def choose_producers(self, makers: dict[int, set[int]]) -> dict[int, int]:
        """Return the producer of each artifact, of those executions that have an output event for it."""
        doubtful = sorted({step for steps in makers.values() if len(steps) > 1 for step in steps})
        steps = {each.id: self._step(each) for each in self.client.executions(doubtful).values()}
        return {artifact: earliest(made, steps) for artifact, made in makers.items()}

    # -- what is no data -------------------------------------------------------------------------

    def has_groups(self) -> bool:
        """Tell whether the store may hold groups of steps."""
        return not registry.GROUP_TYPES.isdisjoint(self.client.type_names("execution"))

    def may_be_aside(self, message: mlmd.Event) -> bool:
        """Tell whether an event's names are such as logs and conditions have; its step tells for sure."""
        names = [text(part.key) for part in message.path.steps if part.WhichOneof("value") == "key"]
        return bool(names) and all(each.startswith(registry.ASIDE) for each in names)

    def roles(self, step: StepRun, message: mlmd.Event, *, taken: bool) -> set[str]:
        """Return what the inputs (`taken`) or outputs of an event are for, beside the data that flows."""
        return {registry.role(step.dialect, each.name, taken=taken) for each in event(message).slots}

    def _artifact(self, node: mlmd.Artifact) -> Artifact:
        kind = self.client.type_of("artifact", node.type_id)
        return registry.of_artifact(node, kind).artifact(node, kind)


def _placed(step: StepRun, place: Place | None) -> StepRun:
    name = "" if place is None else place.name
    scope = "" if place is None else place.scope
    return replace(step, scope=scope, name=name or step.type.rpartition(".")[2] or str(step.id))


def _pipeline(name: str, context: mlmd.Context) -> Pipeline:
    return Pipeline(id=context.id, name=name, created_at=from_millis(context.create_time_since_epoch))


def _add(found: dict[str, Pipeline], name: str, context: mlmd.Context) -> None:
    """Take a context for its pipeline, unless an older one has the name."""
    if name not in found or context.id < found[name].id:
        found[name] = _pipeline(name, context)


__all__ = ["Loader", "slots"]
