"""From the store to records: the questions of the layers above, each in as few calls as MLMD allows.

What cannot be asked in bulk: MLMD's calls name no executions' contexts except one execution at a
time, or one context at a time (`GetLineageSubgraph` would, and is gone from ml-metadata 1.21.0). Our
own executions carry the names of their run and step; for others a run is one call, and the step
names of a plain TFX run one more for each of the pipeline's nodes, once.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence

from ml_metadata.proto import metadata_store_pb2 as mlmd

from zen_mlmd.dialects import tfx, zen, zenml
from zen_mlmd.model import OUTPUT_EVENTS, Artifact, Event, Pipeline, PipelineRun, Status, StepRun, from_millis
from zen_mlmd.service.client import Client

_FEW_RUNS = 8
"""Up to so many runs are asked one by one; more of ours are read with their whole pipeline."""


class Loader:
    """Reads records through a client; safe over threads.

    Attributes:
        trusted: Whether pickles of this store's artifacts are read unasked.

    It remembers only what cannot change: which pipeline a run belongs to, which step an execution is of.
    """

    def __init__(self, client: Client, *, trusted: bool = False) -> None:
        self.client = client
        self.trusted = trusted
        self._pipeline_of_run: dict[int, int] = {}
        self._node_of_execution: dict[int, str] = {}
        self._lock = threading.Lock()

    @property
    def origin(self) -> str:
        """Which store it reads, without secrets; a database in memory is a store of its own each time."""
        location = self.client.location
        return f"{location} {id(self):x}" if location == ":memory:" else location

    # -- pipelines and runs ----------------------------------------------------------------------

    def pipelines(self) -> list[Pipeline]:
        """Return all pipelines, oldest first."""
        return [_pipeline(each) for each in self.client.contexts_of_type(tfx.PIPELINE)]

    def find_pipeline(self, name: str) -> Pipeline | None:
        """Return the pipeline of that name, or None."""
        found = self.client.context(tfx.PIPELINE, name)
        return None if found is None else _pipeline(found)

    def runs_of(self, pipeline: Pipeline) -> list[PipelineRun]:
        """Return all runs of a pipeline, newest first.

        TFX up to 1.10 and ZenML link a run to its pipeline by nothing but shared executions: such
        runs cost a call each, once.
        """
        contexts = {each.id: each for each in self.client.children(pipeline.id)}
        with self._lock:
            self._pipeline_of_run.update(dict.fromkeys(contexts, pipeline.id))
        strays = [each for each in self.client.contexts_of_type(tfx.RUN) if each.id not in contexts]
        self._place(strays)
        contexts.update(
            (each.id, each) for each in strays if self._pipeline_of_run.get(each.id) == pipeline.id
        )
        run_type = self.client.type_named("context", tfx.RUN)
        runs = [
            self._run(each, pipeline.name)
            for each in contexts.values()
            if run_type is not None and each.type_id == run_type.id
        ]
        return sorted(runs, key=_age, reverse=True)

    def newest_runs(self) -> Iterator[list[PipelineRun]]:
        """Yield pages of the runs of all pipelines, newest first."""
        names = {each.id: each.name for each in self.pipelines()}
        for page in self.client.newest_contexts(tfx.RUN):
            self._place(page)
            yield [self._run(each, names.get(self._pipeline_of_run.get(each.id, 0), "")) for each in page]

    def find_run(self, name: str) -> PipelineRun | None:
        """Return the run of that name, or None; MLMD keeps run names unique in a store."""
        found = self.client.context(tfx.RUN, name)
        return None if found is None else self._run(found, self._pipeline_name(found))

    def find_run_by_id(self, run_id: int) -> PipelineRun | None:
        """Return the run with that context id, or None."""
        found = self.client.contexts([run_id]).get(run_id)
        return None if found is None else self._run(found, self._pipeline_name(found))

    def run_of_step(self, step: StepRun) -> PipelineRun | None:
        """Return the run that a step run belongs to, or None for a step of no run."""
        if step.run_name:
            return self.find_run(step.run_name)
        for context in self.client.contexts_of_execution(step.id):
            if context.type == tfx.RUN or self._is_run(context):
                return self._run(context, self._pipeline_name(context))
        return None

    def _is_run(self, context: mlmd.Context) -> bool:
        return bool(self.client.type_of("context", context.type_id).name == tfx.RUN)

    def _run(self, context: mlmd.Context, pipeline: str) -> PipelineRun:
        return zen.run(context, pipeline) if zen.is_run(context) else tfx.run(context, pipeline)

    def _pipeline_name(self, context: mlmd.Context) -> str:
        if zen.is_run(context):
            return zen.run(context, "").pipeline
        self._place([context])
        parent = self._pipeline_of_run.get(context.id)
        found = self.client.contexts([parent]) if parent else {}
        return found[parent].name if parent in found else ""

    def _place(self, contexts: Sequence[mlmd.Context]) -> None:
        """Find the pipelines of runs that no parent link was seen for yet."""
        known = self._pipeline_of_run
        unplaced = [each for each in contexts if each.id not in known and not zen.is_run(each)]
        ours = [each for each in contexts if each.id not in known and zen.is_run(each)]
        if not unplaced and not ours:
            return
        pipelines = self.client.contexts_of_type(tfx.PIPELINE)
        by_name = {each.name: each.id for each in pipelines}
        placed = {each.id: by_name.get(zen.run(each, "").pipeline, 0) for each in ours}
        if unplaced:
            for pipeline in pipelines:
                placed.update((child.id, pipeline.id) for child in self.client.children(pipeline.id))
            unplaced = [each for each in unplaced if each.id not in placed]
        if len(pipelines) == 1:
            placed.update((each.id, pipelines[0].id) for each in unplaced)
        elif unplaced:
            owner = {
                execution.id: pipeline.id
                for pipeline in pipelines
                for execution in self.client.executions_of_context(pipeline.id)
            }
            for context in unplaced:
                owners = [owner.get(each.id, 0) for each in self.client.executions_of_context(context.id)]
                if owners:
                    placed[context.id] = owners[0]
        with self._lock:
            known.update({run: pipeline for run, pipeline in placed.items() if pipeline})

    # -- steps -----------------------------------------------------------------------------------

    def steps_of(self, runs: Sequence[PipelineRun]) -> dict[int, list[StepRun]]:
        """Return the step runs of each run, by run id, in the order they began.

        Up to eight runs, and runs of other writers, are a call each; more of ours one call for each
        of their pipelines.
        """
        steps: dict[int, list[StepRun]] = {run.id: [] for run in runs}
        ours = [run for run in runs if run.dialect == zen.NAME]
        one_by_one = [run for run in runs if run.dialect != zen.NAME] if len(ours) > _FEW_RUNS else list(runs)
        for run in one_by_one:
            executions = self.client.executions_of_context(run.id)
            steps[run.id] = self._steps(executions, [run.pipeline])
        if len(ours) > _FEW_RUNS:
            by_name = {run.name: run.id for run in ours}
            for name in sorted({run.pipeline for run in ours}):
                pipeline = self.find_pipeline(name)
                executions = self.client.executions_of_context(pipeline.id) if pipeline else []
                for step in self._steps([each for each in executions if zen.is_step(each)], [name]):
                    if step.run_name in by_name:
                        steps[by_name[step.run_name]].append(step)
        return {run: sorted(found, key=lambda each: each.id) for run, found in steps.items()}

    def steps(self, ids: Iterable[int]) -> dict[int, StepRun]:
        """Return step runs by id; ids that the store does not hold are left out."""
        found = self.client.executions(ids)
        return {each.id: each for each in self._steps(list(found.values()), None)}

    def steps_in_cache(self, cache_key: str) -> list[StepRun]:
        """Return the step runs under a cache key, newest first."""
        context = self.client.context(tfx.CACHE, zen.cache_context(cache_key))
        executions = self.client.executions_of_context(context.id) if context else []
        return sorted(self._steps(executions, None), key=lambda each: -each.id)

    def steps_of_node(self, pipeline: str, step: str) -> list[StepRun]:
        """Return all runs of one step of a pipeline, oldest first."""
        node = self.client.context(tfx.NODE, f"{pipeline}.{step}")
        executions = self.client.executions_of_context(node.id) if node else []
        return sorted(self._steps(executions, [pipeline]), key=lambda each: each.id)

    def _steps(self, executions: Sequence[mlmd.Execution], pipelines: list[str] | None) -> list[StepRun]:
        plain = [each for each in executions if not zen.is_step(each) and not zenml.is_step(each)]
        names = self._node_names(plain, pipelines) if plain else {}
        steps = []
        for each in executions:
            kind = self.client.type_of("execution", each.type_id)
            if zen.is_step(each):
                steps.append(zen.step(each, kind))
            elif zenml.is_step(each):
                steps.append(zenml.step(each, kind))
            else:
                steps.append(tfx.step(each, kind, names.get(each.id, "")))
        return steps

    def _node_names(
        self, executions: Sequence[mlmd.Execution], pipelines: list[str] | None
    ) -> dict[int, str]:
        known = self._node_of_execution
        missing = [each.id for each in executions if each.id not in known]
        if missing:
            names = [each.name for each in self.pipelines()] if pipelines is None else pipelines
            names = sorted((name for name in names if name), key=len, reverse=True)
            found = self._ask_nodes(missing, names)
            with self._lock:
                known.update(found)
        return known

    def _ask_nodes(self, missing: list[int], pipelines: list[str]) -> dict[int, str]:
        nodes = {
            node.id: (node, tfx.step_name(node.name, name))
            for node in self.client.contexts_of_type(tfx.NODE)
            for name in pipelines
            if node.name.startswith(f"{name}.")
        }
        if len(missing) < len(nodes):
            return {
                execution: nodes[context.id][1]
                for execution in missing
                for context in self.client.contexts_of_execution(execution)
                if context.id in nodes
            }
        return {
            execution.id: name
            for node, name in nodes.values()
            for execution in self.client.executions_of_context(node.id)
        }

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
        return _in_order(self.client.events_of_executions(ids))

    def events_of_artifacts(self, ids: Sequence[int]) -> list[Event]:
        """Return all events of artifacts, whatever their type, oldest first."""
        return _in_order(self.client.events_of_artifacts(ids))

    def producers(self, events: Iterable[Event]) -> dict[int, int]:
        """Return which execution made each artifact, from all of those artifacts' events.

        A cached execution re-emits artifacts that another made: the producer is the earliest
        execution that is not CACHED, or the earliest if all are. Two calls at most.
        """
        makers: dict[int, set[int]] = defaultdict(set)
        for event in events:
            if event.type in OUTPUT_EVENTS:
                makers[event.artifact_id].add(event.step_id)
        return self.choose_producers(makers)

    def choose_producers(self, makers: dict[int, set[int]]) -> dict[int, int]:
        """Return the producer of each artifact, of those executions that have an output event for it."""
        doubtful = sorted({step for steps in makers.values() if len(steps) > 1 for step in steps})
        cached = {
            each.id for each in self.client.executions(doubtful).values() if tfx.status(each) is Status.CACHED
        }
        return {artifact: min(steps - cached or steps) for artifact, steps in makers.items()}

    def _artifact(self, node: mlmd.Artifact) -> Artifact:
        kind = self.client.type_of("artifact", node.type_id)
        if zen.is_artifact(node):
            return zen.artifact(node, kind)
        return zenml.artifact(node, kind) if zenml.is_artifact(node) else tfx.artifact(node, kind)


def _pipeline(context: mlmd.Context) -> Pipeline:
    return Pipeline(id=context.id, name=context.name, created_at=from_millis(context.create_time_since_epoch))


def _in_order(events: Iterable[mlmd.Event]) -> list[Event]:
    ordered = sorted(events, key=lambda each: (each.milliseconds_since_epoch, each.execution_id))
    return [tfx.event(each) for each in ordered]


def _age(run: PipelineRun) -> tuple[float, int]:
    return (run.started_at.timestamp() if run.started_at else 0.0, run.id)
