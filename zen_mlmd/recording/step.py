"""One step being recorded."""

from __future__ import annotations

import contextlib
import threading
import time
import types
from collections.abc import Mapping, Sequence
from typing import Any

from ml_metadata.proto import metadata_store_pb2 as mlmd
from ml_metadata.proto import metadata_store_service_pb2 as rpc
from typing_extensions import Self

from zen_mlmd.dialects import base, zen
from zen_mlmd.errors import (
    AlreadyExistsError,
    ContentionError,
    EndedError,
    StoreError,
    UsageError,
    ZenMlmdError,
)
from zen_mlmd.model import Artifact, Failure, Slot, Status
from zen_mlmd.recording.artifacts import (
    ArtifactLike,
    Given,
    add_events,
    remember,
    require_here,
    slots_of,
    taken_of,
)
from zen_mlmd.recording.failure import describe_failure, tell_unrecorded
from zen_mlmd.recording.given import check_metrics, check_name, check_uri, ending
from zen_mlmd.recording.types import Registry
from zen_mlmd.service.client import Client

_RACES = 5
"""How often other processes may make one of a step's contexts while we do: each is made once."""


class Output:
    """An artifact that a step makes; it has an id once the step has ended.

    Attributes:
        pair: The artifact and its event, as they are sent.
        client: Asks the store that it goes to.
    """

    def __init__(self, name: str, index: int, pair: Any, kind: mlmd.ArtifactType, client: Client) -> None:
        self.name = name
        self.index = index
        self.pair = pair
        self.client = client
        self._kind = kind

    @property
    def node(self) -> mlmd.Artifact:
        """The artifact as MLMD's message."""
        found: mlmd.Artifact = self.pair.artifact
        return found

    @property
    def id(self) -> int:
        """The artifact's id.

        Raises:
            UsageError: The step has not ended yet.
        """
        if not self.node.id:
            raise UsageError(
                f"output {self.name!r} is not in the store yet", hint="it is once its step has ended"
            )
        return int(self.node.id)

    @property
    def uri(self) -> str:
        """Where its payload is."""
        return str(self.node.uri)

    @property
    def type(self) -> str:
        """The artifact type's name."""
        return str(self._kind.name)

    def record(self) -> Artifact:
        """Return the artifact, once the step has ended."""
        return zen.artifact(self.node, self._kind)

    def __repr__(self) -> str:
        return f"<Output {self.name} {self.node.id or 'pending'}>"


class StepRecorder:
    """One step being recorded. As a context manager it ends the step: completed, or failed by an exception.

    An exception goes on after it was recorded. Safe over threads.

    What is logged is put into the message that ends the step, and checked, at once: it is kept as it was
    then, and what the store cannot keep is refused there rather than when the step ends, where the step's
    results would be lost with it.
    """

    def __init__(
        self,
        client: Client,
        registry: Registry,
        *,
        execution: mlmd.Execution,
        type_name: str,
        name: str,
        contexts: Sequence[mlmd.Context],
    ) -> None:
        self.name = name
        self.outputs: dict[str, list[Output]] = {}
        self._client = client
        self._registry = registry
        # One message for both writes: what it holds is copied once.
        self._request = rpc.PutExecutionRequest(execution=execution, contexts=contexts)
        self._request.options.reuse_context_if_already_exist = True
        self._execution = self._request.execution
        self._type_name = type_name
        self._metrics: dict[str, float] = {}
        self._begun: mlmd.Execution | None = None
        self._late_inputs: dict[int, list[Slot]] = {}
        self._early_inputs: set[int] = set()
        self._ended = False
        self._lock = threading.RLock()

    @property
    def id(self) -> int:
        """The execution's id in the store."""
        return int(self._execution.id)

    @property
    def uid(self) -> str:
        """A name that no other step has, in any store."""
        return str(self._execution.name)

    def __repr__(self) -> str:
        return f"<StepRecorder {self.name} {self.id}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: types.TracebackType | None
    ) -> None:
        if self._ended:
            return
        try:
            self.end(error=error)
        except ZenMlmdError as failed:
            if error is None:
                raise
            tell_unrecorded(error, f"step {self.name!r}", failed)

    def begin(
        self,
        inputs: Given,
        parameters: Mapping[str, Any],
        properties: Mapping[str, Any],
        *,
        outputs: Given | None = None,
    ) -> None:
        """Write the step's beginning; with `outputs`, the whole of a step that re-uses them."""
        zen.write_step_values(self._execution, parameters=parameters, properties=properties)
        request = self._without_events()
        taken, made = taken_of(inputs), taken_of(outputs or {})
        require_here(self._client, self.name, [*taken, *made])
        slots = slots_of(taken)
        self._early_inputs = set(slots)
        add_events(request, slots, mlmd.Event.INPUT)
        add_events(request, slots_of(made), mlmd.Event.OUTPUT)
        self._ended = outputs is not None
        self._execution.id = self._send_first(request)

    def log_input(self, name: str, artifact: ArtifactLike, *, index: int = 0) -> None:
        """Add an input that was not known when the step began; it is written when the step ends.

        Raises:
            EndedError: The step has ended.
            UsageError: The artifact is an input of this step already (MLMD keeps one event for both).
            RejectedRequestError: The store cannot keep the name.
        """
        if not isinstance(index, int) or not 0 <= index < 2**63:
            raise UsageError(f"input {name!r:.100}: its index must be a number from 0", hint="leave it out")
        with self._lock:
            self._open()
            ((_, artifact_id, _),) = taken = taken_of({name: artifact})
            require_here(self._client, self.name, taken)
            if artifact_id in self._early_inputs:
                raise UsageError(
                    f"artifact {artifact_id} was given to step {self.name!r} when it began",
                    hint="name all inputs that take it in run.step(inputs=...)",
                )
            trial = rpc.PutExecutionRequest()
            slot = Slot(name, index)
            add_events(trial, {artifact_id: [slot]}, mlmd.Event.INPUT)
            self._client.check("PutExecution", trial)
            self._late_inputs.setdefault(artifact_id, []).append(slot)

    def log_output(
        self,
        name: str,
        *,
        uri: str = "",
        type: str = zen.ARTIFACT_TYPE,
        base_type: str = "",
        properties: Mapping[str, Any] | None = None,
        content_hash: str = "",
        size_bytes: int | None = None,
        data_type: str = "",
        materializer: str = "",
    ) -> Output:
        """Add an output; it is written when the step ends. Several of one name form a list.

        Args:
            name: The output's name.
            uri: Where its payload is.
            type: The artifact type's name; TFX's standard names mean TFX's types.
            base_type: Dataset, Model, Metrics or Statistics, of a type that is new.
            properties: Facts that any MLMD client reads under their own names.
            content_hash: `sha256:...` over the payload.
            size_bytes: Of the payload.
            data_type: The Python type, `module.Name`.
            materializer: What wrote the payload, `module.Name`.

        Raises:
            EndedError: The step has ended.
            UsageError: The name or the URI is not text.
            InvalidValueError: Something given cannot be kept.
            RejectedRequestError: The store cannot keep something given.
        """
        check_name("an output", name)
        if uri != "":
            check_uri(uri)
        about = {
            "content_hash": content_hash,
            "size_bytes": size_bytes,
            "data_type": data_type,
            "materializer": materializer,
        }
        kept = {key: value for key, value in about.items() if value not in ("", None)}
        with self._lock:
            self._open()
            index = len(self.outputs.get(name, ()))
            trial = rpc.PutExecutionRequest()
            pair = trial.artifact_event_pairs.add()
            pair.event.type = mlmd.Event.OUTPUT
            base.write_path(pair.event.path, [Slot(name, index)])
            kind = self._registry.type_message("artifact", type, base_type)
            node = pair.artifact
            node.type_id, node.uri, node.state = kind.id, uri, mlmd.Artifact.LIVE
            if not self.outputs:
                # MLMD keeps it unique: an end that is sent twice, where a server was slow, makes no output
                # twice. One of a step's outputs is enough, as all are written or none.
                node.external_id = f"{zen.PREFIX}{self.uid}"
            zen.write_artifact(node, kind, about=kept, properties=properties or {})
            self._client.check("PutExecution", trial)
            output = Output(name, index, pair, kind, self._client)
            self.outputs.setdefault(name, []).append(output)
            return output

    def check_output_properties(self, values: Mapping[str, Any]) -> None:
        """Refuse properties that an output cannot have, before there is the output.

        Raises:
            InvalidValueError: See `zen.write_properties`.
            RejectedRequestError: The store cannot keep them.
        """
        trial = rpc.PutExecutionRequest()
        zen.write_properties(trial.artifact_event_pairs.add().artifact, values)
        self._client.check("PutExecution", trial)

    def log_parameters(self, values: Mapping[str, Any]) -> None:
        """Add parameters; they are written when the step ends."""
        self._add(parameters=values)

    def log_properties(self, values: Mapping[str, Any]) -> None:
        """Add properties; they are written when the step ends."""
        self._add(properties=values)

    def log_metrics(self, values: Mapping[str, float]) -> None:
        """Add metrics; they are written when the step ends."""
        self._add(metrics=check_metrics(values))

    def end(self, status: Status | None = None, *, error: BaseException | None = None) -> None:
        """Write the step's end and its outputs, all or nothing.

        If the store refuses what was logged, the step is written as failed, without it, and the refusal
        goes on.

        Args:
            status: COMPLETED by default, FAILED with an error, CANCELED with a KeyboardInterrupt.
            error: Why it failed; its type, message and trimmed traceback are kept.

        Raises:
            EndedError: The step has ended already.
            ConnectionLostError: It may have been written, or not: `end` may be called again.
            StoreError: The store refused it.
        """
        with self._lock:
            self._open()
            status = ending("a step", status, error)
            failure = None if error is None else describe_failure(error)
            try:
                self._write_end(status, failure)
            except ContentionError:
                raise
            except (StoreError, ValueError, TypeError) as refusal:
                if failure is None:
                    status, failure = Status.FAILED, describe_failure(refusal)
                self._forget_additions()
                with contextlib.suppress(ZenMlmdError):
                    self._write_end(status, failure)
                raise

    def _write_end(self, status: Status, failure: Failure | None) -> None:
        self._execution.last_known_state = zen.STATES[status]
        zen.write_step_end(self._execution, ended_ms=now_ms(), metrics=self._metrics, failure=failure)
        request = self._without_events()
        add_events(request, self._late_inputs, mlmd.Event.INPUT)
        made = [output for listed in self.outputs.values() for output in listed]
        request.artifact_event_pairs.extend(output.pair for output in made)
        response = self._client.write("PutExecution", request, lambda: self._settle_end(made))
        for output, artifact_id in zip(made, response.artifact_ids[len(self._late_inputs) :], strict=True):
            output.node.id = artifact_id
            remember(self._client, artifact_id, output.uri)
        self._ended = True

    def _settle_end(self, made: Sequence[Output]) -> Any:
        """Return the response of an end whose own was lost, or None if the step has not ended.

        Raises:
            EndedError: It has, but by an earlier `end` that wrote something else.
        """
        found = self._client.executions([self.id]).get(self.id)
        if found is None or not base.status(found).ended:
            return None
        events = self._client.events_of_executions([self.id])
        by_slot = {
            (slot.name, slot.index): event.artifact_id
            for event in map(base.event, (each for each in events if each.type == mlmd.Event.OUTPUT))
            for slot in event.slots
        }
        ids = [by_slot.get((output.name, output.index), 0) for output in made]
        if found.last_known_state != self._execution.last_known_state or 0 in ids:
            self._ended = True
            raise EndedError(
                f"step {self.name!r} has ended as {base.status(found)}, by an `end` whose answer was lost",
                hint="what was logged since then is not recorded; look at what is with store.get_step(id)",
            )
        return rpc.PutExecutionResponse(execution_id=self.id, artifact_ids=[*self._late_inputs, *ids])

    def _forget_additions(self) -> None:
        if self._begun is not None:
            self._execution.CopyFrom(self._begun)
        self._metrics, self._late_inputs, self.outputs = {}, {}, {}

    def _add(self, *, metrics: Mapping[str, float] | None = None, **values: Mapping[str, Any]) -> None:
        with self._lock:
            self._open()
            trial = rpc.PutExecutionRequest(execution=self._execution)
            added = {**self._metrics, **(metrics or {})}
            zen.write_step_end(trial.execution, ended_ms=now_ms(), metrics=added, failure=None)
            zen.write_step_values(trial.execution, **values)
            self._client.check("PutExecution", trial)
            if self._begun is None:
                self._begun = mlmd.Execution()
                self._begun.CopyFrom(self._execution)
            self._execution.CopyFrom(trial.execution)
            self._metrics = added

    def _without_events(self) -> rpc.PutExecutionRequest:
        self._request.ClearField("artifact_event_pairs")
        return self._request

    def _send_first(self, request: rpc.PutExecutionRequest) -> int:
        def settle() -> Any:
            # The name is a fresh uuid: whoever has it is this very step.
            found = self._client.execution_named(self._type_name, self._execution.name)
            return None if found is None else rpc.PutExecutionResponse(execution_id=found.id)

        for _ in range(_RACES):
            try:
                return int(self._client.write("PutExecution", request, settle).execution_id)
            except AlreadyExistsError as error:  # noqa: PERF203 - seldom
                # Another process made the node's context at the same time: now it is there.
                last = error
        raise last

    def _open(self) -> None:
        if self._ended:
            raise EndedError(f"step {self.name!r} has ended", hint="log before its `with` block is left")


def now_ms() -> int:
    """Return the time as milliseconds since the epoch."""
    return round(time.time() * 1000)
