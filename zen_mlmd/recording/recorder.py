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
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timezone
from typing import Any

from ml_metadata.proto import metadata_store_pb2 as mlmd
from ml_metadata.proto import metadata_store_service_pb2 as rpc
from typing_extensions import Self

from zen_mlmd.dialects import tfx, zen
from zen_mlmd.errors import (
    AlreadyExistsError,
    EndedError,
    InvalidValueError,
    NotFoundError,
    RunExistsError,
    UsageError,
)
from zen_mlmd.model import Artifact, PipelineRun, Status
from zen_mlmd.recording.environment import capture_environment
from zen_mlmd.recording.failure import describe_failure
from zen_mlmd.recording.step import ArtifactLike, StepRecorder, check_metrics, now_ms, status_of
from zen_mlmd.recording.types import Registry, put_context, put_masked
from zen_mlmd.service.client import Client, resend
from zen_mlmd.values import same

Inputs = Mapping[str, ArtifactLike | Sequence[ArtifactLike]]


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
    ) -> RunRecorder:
        """Record that a run of a pipeline has begun.

        Args:
            pipeline: The pipeline's name; made if new.
            name: The run's name, unique in the whole store; by default made of pipeline and time.
            parameters: Kept exactly, with their Python types.
            properties: Further facts, each readable by other MLMD clients under its own name.
            plan: The steps that are to run and, for each, those that it waits for.

        Raises:
            RunExistsError: The name is taken.
            InvalidValueError: Something given cannot be kept.
        """
        _check_name("pipeline", pipeline)
        name = _default_name(pipeline) if name is None else name
        _check_name("run", name)
        uid = uuid.uuid4().hex
        about = {
            "pipeline": pipeline,
            "uid": uid,
            "started_at": now_ms(),
            "environment": capture_environment(),
            "plan": {step: sorted(waits) for step, waits in (plan or {}).items()},
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

        Leaving the recorder's `with` block does not end the run; whoever began it does, or `end()`.
        """
        self.registry.register("context", dict.fromkeys(zen.CONTEXT_TYPES, ""))
        return RunRecorder(self, run.pipeline, run.name, run.id, owner=False)

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
        node = mlmd.Artifact(uri=_check_uri(uri), state=mlmd.Artifact.LIVE)
        kind = self.registry.type_message("artifact", type, base_type)
        node.type_id = kind.id
        node.external_id = f"zen_mlmd:{uuid.uuid4().hex}"
        zen.write_artifact(node, kind, about={"imported": True}, properties=properties or {})
        known = None if reimport else self._imported(uri, kind, properties or {})
        if known is not None:
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
            if found is not None and zen.run_uid(found) == uid:
                return int(found.id)
            raise RunExistsError(
                f"{self.client.location}: a run named {context.name!r} is there already",
                hint="run names are unique in a store, over all pipelines: choose another, or leave it out",
            ) from None


class RunRecorder:
    """One run being recorded. As a context manager it ends the run: completed, or failed by an exception.

    Steps of one run may be recorded by several threads, and by other processes through `join_run`.
    """

    def __init__(self, recorder: Recorder, pipeline: str, name: str, run_id: int, *, owner: bool) -> None:
        self.pipeline = pipeline
        self.name = name
        self.id = run_id
        self._recorder = recorder
        self._owner = owner
        self._ended = False
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"<RunRecorder {self.pipeline}/{self.name}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: types.TracebackType | None
    ) -> None:
        if self._owner and not self._ended:
            self.end(error=error)

    def step(
        self,
        name: str,
        *,
        inputs: Inputs | None = None,
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
            InvalidValueError: Something given cannot be kept.
        """
        self._open()
        _check_name("step", name)
        about = {"run": self.name, "name": name, "started_at": now_ms()}
        extra = {"after": sorted(after), "code": code, "docstring": docstring, "cache_key": cache_key}
        about.update((key, value) for key, value in extra.items() if value)
        if not self._owner:
            about["environment"] = capture_environment()
        execution = mlmd.Execution(name=str(uuid.uuid4()), last_known_state=mlmd.Execution.RUNNING)
        execution.type_id = self._recorder.registry.type_id("execution", type, base_type)
        zen.write_step(execution, about=about)
        step = self._recorder_of(execution, type, name, cache_key)
        step.begin(inputs or {}, parameters or {}, properties or {})
        return step

    def reuse_step(
        self,
        name: str,
        *,
        outputs: Inputs,
        inputs: Inputs | None = None,
        **facts: Any,
    ) -> StepRecorder:
        """Record in one write that a step was not run, because its outputs are there already.

        Args:
            name: The step's name in the pipeline.
            outputs: The artifacts that an earlier run of the step made.
            inputs: As for `step`.
            facts: What else `step` takes.
        """
        self._open()
        _check_name("step", name)
        type_name = facts.pop("type", zen.STEP_TYPE)
        cache_key = facts.pop("cache_key", "")
        parameters, properties = facts.pop("parameters", None) or {}, facts.pop("properties", None) or {}
        base_type = facts.pop("base_type", "")
        about = {"run": self.name, "name": name, "started_at": now_ms(), "cache_key": cache_key}
        about.update((key, value) for key, value in facts.items() if value)
        execution = mlmd.Execution(name=str(uuid.uuid4()), last_known_state=mlmd.Execution.CACHED)
        execution.type_id = self._recorder.registry.type_id("execution", type_name, base_type)
        zen.write_step(execution, about=about)
        zen.write_step_end(execution, ended_ms=now_ms(), metrics={}, failure=None)
        step = self._recorder_of(execution, type_name, name, cache_key)
        step.begin(inputs or {}, parameters, properties, outputs=outputs)
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
            EndedError: It has ended already.
        """
        with self._lock:
            self._open()
            failure = None if error is None else describe_failure(error)
            if status is None:
                status = status_of(error)
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
        return [mlmd.Context(type_id=registry.type_id("context", kind), name=name) for kind, name in named]

    def _recorder_of(
        self, execution: mlmd.Execution, type_name: str, name: str, cache_key: str
    ) -> StepRecorder:
        return StepRecorder(
            self._recorder.client,
            self._recorder.registry,
            execution=execution,
            type_name=type_name,
            name=name,
            contexts=self._contexts(name, cache_key),
        )

    def _open(self) -> None:
        if self._ended:
            raise EndedError(f"run {self.name!r} has ended", hint="begin another run")


def _check_name(what: str, name: str) -> None:
    if not isinstance(name, str):
        raise UsageError(f"a {what}'s name must be text, not {type(name).__qualname__}", hint="give a str")
    if not name.strip() or any(ord(char) < 32 for char in name) or not name.isprintable():  # noqa: PLR2004
        raise InvalidValueError(
            f"a {what}'s name must be printable and not blank", hint="give a name such as 'churn'"
        )


def _check_uri(uri: str) -> str:
    if not isinstance(uri, str) or not uri:
        raise UsageError(
            "an artifact's uri must be text that is not empty", hint="give 's3://bucket/key', say"
        )
    return uri


def _default_name(pipeline: str) -> str:
    at = datetime.now(timezone.utc).strftime("%Y%m%dT%H%M%S")
    return f"{pipeline}-{at}-{secrets.token_hex(4)}"
