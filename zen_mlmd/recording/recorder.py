"""Recording runs: what any orchestrator calls as it goes.

A step is two writes: one when it begins (RUNNING, its inputs), one when it ends (its state, its
outputs). So a process that is killed leaves every finished step whole and the others RUNNING.
"""

from __future__ import annotations

import contextlib
import secrets
import threading
import types
import uuid
from collections.abc import Iterable, Mapping
from datetime import datetime, timezone
from typing import Any

from ml_metadata.proto import metadata_store_pb2 as mlmd
from ml_metadata.proto import metadata_store_service_pb2 as rpc
from typing_extensions import Self

from zen_mlmd.dialects import tfx, zen
from zen_mlmd.errors import AlreadyExistsError, EndedError, NotFoundError, RunExistsError, ZenMlmdError
from zen_mlmd.model import Artifact, PipelineRun, Status
from zen_mlmd.recording.artifacts import Given, remember
from zen_mlmd.recording.environment import capture_environment
from zen_mlmd.recording.failure import describe_failure, tell_unrecorded
from zen_mlmd.recording.given import check_metrics, check_name, check_uri, ending, plan_of, step_names
from zen_mlmd.recording.step import StepRecorder, now_ms
from zen_mlmd.recording.types import Registry, put_context, put_masked
from zen_mlmd.service.client import Client, resend
from zen_mlmd.values import same


class Recorder:
    """Begins runs in one store, and joins runs begun elsewhere; safe over threads."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.registry = Registry(client)

    def begin_run(
        self,
        pipeline: str,
        *,
        name: str | None = None,
        parameters: Mapping[str, Any] | None = None,
        properties: Mapping[str, Any] | None = None,
        plan: Mapping[str, Iterable[str]] | None = None,
        stack: Mapping[str, Any] | None = None,
    ) -> RunRecorder:
        """Record that a run of a pipeline has begun.

        Args:
            pipeline: The pipeline's name; made if new.
            name: The run's name, unique in the whole store; by default made of pipeline and time.
            parameters: Kept exactly, with their Python types.
            properties: Further facts, each readable by other MLMD clients under its own name.
            plan: The steps that are to run and, for each, those that it waits for.
            stack: What it runs on: see `PipelineRun`.

        Raises:
            RunExistsError: The name is taken.
            NameClashError: The store takes the name for another one's.
            InvalidValueError: Something given cannot be kept.
        """
        check_name("a pipeline", pipeline)
        name = _default_name(pipeline) if name is None else name
        check_name("a run", name)
        uid = uuid.uuid4().hex
        about = {
            "pipeline": pipeline,
            "uid": uid,
            "started_at": now_ms(),
            "environment": capture_environment(),
            "plan": plan_of(plan),
            **({"stack": dict(stack)} if stack else {}),
        }
        context = mlmd.Context(name=name)
        zen.write_run(context, about=about, parameters=parameters or {}, properties=properties or {})
        self.registry.register("context", dict.fromkeys(zen.CONTEXT_TYPES, ""))
        pipeline_id = self.registry.context_id(tfx.PIPELINE, pipeline)
        context.type_id = self.registry.type_id("context", tfx.RUN)
        context.id = self._make_run(context, uid)
        link = rpc.PutParentContextsRequest()
        link.parent_contexts.add(child_id=context.id, parent_id=pipeline_id)
        # There already, if it was sent twice because the first answer was lost.
        with contextlib.suppress(AlreadyExistsError):
            self.client.write("PutParentContexts", link, resend)
        return RunRecorder(self, pipeline, name, context.id, owner=True)

    def join_run(self, run: PipelineRun) -> RunRecorder:
        """Record more of a run that was begun elsewhere: in another process, or another pod.

        Leaving the recorder's `with` block does not end the run; whoever began it does, or `end()`. A run
        that has ended takes no more.
        """
        self.registry.register("context", dict.fromkeys(zen.CONTEXT_TYPES, ""))
        ended = run.status is not None and run.status.ended
        return RunRecorder(self, run.pipeline, run.name, run.id, owner=False, ended=ended)

    def import_artifact(
        self,
        uri: str,
        *,
        type: str = zen.ARTIFACT_TYPE,
        base_type: str = "",
        properties: Mapping[str, Any] | None = None,
        reimport: bool = False,
    ) -> Artifact:
        """Return the artifact at a URI that exists already, recording it if the store has none such.

        One that the store has serves if it is of the same type, is live, and has every property that is
        given here; of several the newest. So a data set keeps its identity over the runs that take it,
        as with the importers of TFX and Kubeflow Pipelines.

        Args:
            uri: Where its payload is.
            type: The artifact type's name; TFX's standard names mean TFX's types.
            base_type: Dataset, Model, Metrics or Statistics, of a type that is new.
            properties: Facts that any MLMD client reads under their own names.
            reimport: Record one more in any case: what lies at the URI is other than it was.
        """
        check_uri(uri)
        node = mlmd.Artifact(uri=uri, state=mlmd.Artifact.LIVE)
        kind = self.registry.type_message("artifact", type, base_type)
        node.type_id = kind.id
        node.external_id = f"zen_mlmd:{uuid.uuid4().hex}"
        zen.write_artifact(node, kind, about={"imported": True}, properties=properties or {})
        known = None if reimport else self._imported(uri, kind, properties or {})
        if known is not None:
            remember(self.client, known.id, uri)
            return known
        request = rpc.PutArtifactsRequest(artifacts=[node])

        def settle() -> Any:
            wanted = rpc.GetArtifactsByExternalIdsRequest(external_ids=[node.external_id])
            try:
                found = self.client.read("GetArtifactsByExternalIds", wanted).artifacts
            except NotFoundError:
                return None
            return rpc.PutArtifactsResponse(artifact_ids=[found[0].id]) if found else None

        node.id = self.client.write("PutArtifacts", request, settle).artifact_ids[0]
        remember(self.client, node.id, uri)
        return zen.artifact(node, kind)

    def _imported(self, uri: str, kind: mlmd.ArtifactType, properties: Mapping[str, Any]) -> Artifact | None:
        found = [
            zen.artifact(each, kind)
            for each in self.client.artifacts_at(uri)
            if each.type_id == kind.id and each.state == mlmd.Artifact.LIVE
        ]
        fitting = [
            each
            for each in found
            if all(
                key in each.properties and same(each.properties[key], properties[key]) for key in properties
            )
        ]
        return max(fitting, key=lambda each: each.id, default=None)

    def _make_run(self, context: mlmd.Context, uid: str) -> int:
        try:
            return put_context(self.client, context)
        except AlreadyExistsError:
            found = self.client.context(tfx.RUN, context.name)
            if found is None:
                raise self.registry.name_clash(f"the run {context.name!r}") from None
            if zen.run_uid(found) == uid:
                return int(found.id)
            raise RunExistsError(
                f"{self.client.location}: a run named {context.name!r} is there already",
                hint="run names are unique in a store, over all pipelines: choose another, or leave it out",
            ) from None


class RunRecorder:
    """One run being recorded. As a context manager it ends the run: completed, or failed by an exception.

    Steps of one run may be recorded by several threads, and by other processes through `join_run`.
    """

    def __init__(
        self, recorder: Recorder, pipeline: str, name: str, run_id: int, *, owner: bool, ended: bool = False
    ) -> None:
        self.pipeline = pipeline
        self.name = name
        self.id = run_id
        self._recorder = recorder
        self._owner = owner
        self._ended = ended
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"<RunRecorder {self.pipeline}/{self.name}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: types.TracebackType | None
    ) -> None:
        if not self._owner or self._ended:
            return
        try:
            self.end(error=error)
        except ZenMlmdError as failed:
            if error is None:
                raise
            tell_unrecorded(error, f"run {self.name!r}", failed)

    def step(
        self,
        name: str,
        *,
        inputs: Given | None = None,
        parameters: Mapping[str, Any] | None = None,
        properties: Mapping[str, Any] | None = None,
        after: Iterable[str] = (),
        type: str = zen.STEP_TYPE,
        base_type: str = "",
        code: str = "",
        docstring: str = "",
        cache_key: str = "",
    ) -> StepRecorder:
        """Record that a step has begun, with its inputs.

        Args:
            name: The step's name in the pipeline.
            inputs: Artifacts by input name; a list where an input takes several. One artifact may
                serve several inputs.
            parameters: Kept exactly, with their Python types.
            properties: Further facts, each readable by other MLMD clients under its own name.
            after: Steps it waited for without taking anything from them.
            type: The execution type's name; for a function, its dotted path.
            base_type: Train, Transform, Process, Evaluate or Deploy, of a type that is new.
            code: Fingerprint of the code that runs.
            docstring: What the step says of itself.
            cache_key: Under which later runs may find this step's outputs.

        Raises:
            EndedError: The run has ended.
            NotFoundError: An artifact does not lie in this store.
            UsageError: It comes from another store, or something given is of a wrong kind.
            InvalidValueError: Something given cannot be kept.
            NameClashError: The store takes the step's name for another one's.
        """
        self._open()
        about = {"after": step_names("after", after), "code": code, "docstring": docstring}
        about["cache_key"] = cache_key
        step = self._recorder_of(name, Status.RUNNING, type_name=type, base_type=base_type, about=about)
        step.begin(inputs or {}, parameters or {}, properties or {})
        return step

    def reuse_step(
        self,
        name: str,
        *,
        outputs: Given,
        inputs: Given | None = None,
        parameters: Mapping[str, Any] | None = None,
        properties: Mapping[str, Any] | None = None,
        after: Iterable[str] = (),
        type: str = zen.STEP_TYPE,
        base_type: str = "",
        code: str = "",
        docstring: str = "",
        cache_key: str = "",
    ) -> StepRecorder:
        """Record in one write that a step was not run, because its outputs are there already.

        Args:
            name: The step's name in the pipeline.
            outputs: The artifacts that an earlier run of the step made.
            inputs: This and all that follow: as for `step`.
            parameters: As for `step`.
            properties: As for `step`.
            after: As for `step`.
            type: As for `step`.
            base_type: As for `step`.
            code: As for `step`.
            docstring: As for `step`.
            cache_key: As for `step`.

        Raises:
            ZenMlmdError: As for `step`.
        """
        self._open()
        about = {"after": step_names("after", after), "code": code, "docstring": docstring}
        about["cache_key"] = cache_key
        step = self._recorder_of(name, Status.CACHED, type_name=type, base_type=base_type, about=about)
        step.begin(inputs or {}, parameters or {}, properties or {}, outputs=outputs)
        return step

    def log_parameters(self, values: Mapping[str, Any]) -> None:
        """Add parameters to the run; others' additions at the same time are kept."""
        self._add(parameters=values)

    def log_metrics(self, values: Mapping[str, float]) -> None:
        """Add metrics to the run; others' additions at the same time are kept."""
        self._add(metrics=check_metrics(values))

    def log_properties(self, values: Mapping[str, Any]) -> None:
        """Add properties to the run; others' additions at the same time are kept."""
        self._add(properties=values)

    def import_artifact(self, uri: str, **facts: Any) -> Artifact:
        """Record something that exists already; see `Recorder.import_artifact`."""
        return self._recorder.import_artifact(uri, **facts)

    def end(self, status: Status | None = None, *, error: BaseException | None = None) -> None:
        """Record that the run has ended: completed unless `status` or `error` says otherwise.

        Raises:
            EndedError: It has ended already; who joined it asks the store.
            UsageError: A run cannot end so.
        """
        with self._lock:
            self._open()
            status = ending("a run", status, error)
            failure = None if error is None else describe_failure(error)
            if not self._owner:
                found = self._recorder.client.contexts([self.id]).get(self.id)
                self._ended = found is not None and zen.has_ended(found)
                self._open()
            context = self._context()
            zen.write_run_end(context, status=status, ended_ms=now_ms(), failure=failure)
            put_masked(self._recorder.client, context, list(zen.written_keys(context)))
            self._ended = True

    def _add(self, **values: Mapping[str, Any]) -> None:
        self._open()
        context = self._context()
        zen.write_run_additions(context, **values)
        if context.custom_properties:
            put_masked(self._recorder.client, context, list(zen.written_keys(context)))

    def _context(self) -> mlmd.Context:
        type_id = self._recorder.registry.type_id("context", tfx.RUN)
        return mlmd.Context(id=self.id, type_id=type_id, name=self.name)

    def _contexts(self, step: str, cache_key: str) -> list[mlmd.Context]:
        named = [(tfx.PIPELINE, self.pipeline), (tfx.RUN, self.name), (tfx.NODE, f"{self.pipeline}.{step}")]
        if cache_key:
            named.append((tfx.CACHE, zen.cache_context(cache_key)))
        registry = self._recorder.registry
        registry.refuse_namesake(tfx.NODE, f"{self.pipeline}.{step}", f"the step {step!r}")
        return [mlmd.Context(type_id=registry.type_id("context", kind), name=name) for kind, name in named]

    def _recorder_of(
        self, name: str, status: Status, *, type_name: str, base_type: str, about: Mapping[str, Any]
    ) -> StepRecorder:
        check_name("a step", name)
        kept: dict[str, Any] = {"run": self.name, "name": name, "started_at": now_ms()}
        kept.update((key, value) for key, value in about.items() if value)
        if status is Status.RUNNING and not self._owner:
            kept["environment"] = capture_environment()
        registry = self._recorder.registry
        execution = mlmd.Execution(name=str(uuid.uuid4()), last_known_state=zen.STATES[status])
        execution.type_id = registry.type_id("execution", type_name, base_type)
        zen.write_step(execution, about=kept)
        if status.ended:
            zen.write_step_end(execution, ended_ms=now_ms(), metrics={}, failure=None)
        return StepRecorder(
            self._recorder.client,
            registry,
            execution=execution,
            type_name=type_name,
            name=name,
            # Not a re-use: whoever looks in the cache for what was made would read all of them.
            contexts=self._contexts(name, "" if status is Status.CACHED else about["cache_key"]),
        )

    def _open(self) -> None:
        if self._ended:
            raise EndedError(f"run {self.name!r} has ended", hint="begin another run")


def _default_name(pipeline: str) -> str:
    at = datetime.now(timezone.utc).strftime("%Y%m%dT%H%M%S")
    return f"{pipeline}-{at}-{secrets.token_hex(4)}"
