"""One step being recorded."""

from __future__ import annotations

import threading
import time
import types
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol, TypeAlias, runtime_checkable

from ml_metadata.proto import metadata_store_pb2 as mlmd
from ml_metadata.proto import metadata_store_service_pb2 as rpc
from typing_extensions import Self

from zen_mlmd.dialects import tfx, zen
from zen_mlmd.errors import (
    AlreadyExistsError,
    EndedError,
    InvalidValueError,
    NotFoundError,
    RejectedRequestError,
    UsageError,
)
from zen_mlmd.model import Artifact, Slot, Status
from zen_mlmd.recording.failure import describe_failure
from zen_mlmd.recording.types import Registry
from zen_mlmd.service.client import Client


@runtime_checkable
class HasId(Protocol):
    """An artifact of any kind: a record, a view, an output of a step that has ended."""

    @property
    def id(self) -> int:
        """The artifact's id in the store."""
        ...


_RACES = 5
"""How often other processes may make one of a step's contexts while we do: each is made once."""

ArtifactLike: TypeAlias = HasId | int


class Output:
    """An artifact that a step makes; it has an id once the step has ended."""

    def __init__(self, name: str, index: int, node: mlmd.Artifact, kind: mlmd.ArtifactType) -> None:
        self.name = name
        self._kind = kind
        self.index = index
        self.node = node

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

    def record(self) -> Artifact:
        """Return the artifact, once the step has ended."""
        return zen.artifact(self.node, self._kind)

    def __repr__(self) -> str:
        return f"<Output {self.name} {self.node.id or 'pending'}>"


class StepRecorder:
    """One step being recorded. As a context manager it ends the step: completed, or failed by an exception.

    An exception goes on after it was recorded. An end that the store refuses, for what was logged, fails
    the step: without its outputs and what was logged, but with the refusal as its failure. Safe over
    threads.
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
        self._parameters: dict[str, Any] = {}
        self._properties: dict[str, Any] = {}
        self._metrics: dict[str, float] = {}
        self._late_values = False
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
        except (InvalidValueError, RejectedRequestError) as refused:
            self._drop()
            self.end(error=error or refused)
            if error is None:
                raise

    def begin(
        self,
        inputs: Mapping[str, ArtifactLike | Sequence[ArtifactLike]],
        parameters: Mapping[str, Any],
        properties: Mapping[str, Any],
        *,
        outputs: Mapping[str, ArtifactLike | Sequence[ArtifactLike]] | None = None,
    ) -> None:
        """Write the step's beginning; with `outputs`, the whole of a step that re-uses them."""
        self._parameters.update(parameters)
        self._properties.update(properties)
        zen.write_step_values(self._execution, parameters=parameters, properties=properties)
        request = self._without_events()
        slots = artifact_ids(inputs)
        self._check_plain_ids(inputs, outputs or {})
        self._early_inputs = set(slots)
        _add_events(request, slots, mlmd.Event.INPUT)
        if outputs is not None:
            _add_events(request, artifact_ids(outputs), mlmd.Event.OUTPUT)
            self._ended = True
        self._execution.id = self._send_first(request)

    def _drop(self) -> None:
        """Forget what was logged, as it was when the step began."""
        self.outputs.clear()
        self._late_inputs.clear()
        self._metrics.clear()
        if self._begun is not None:
            self._execution.CopyFrom(self._begun)
        self._late_values = False

    def log_input(self, name: str, artifact: ArtifactLike, *, index: int = 0) -> None:
        """Add an input that was not known when the step began; it is written when the step ends.

        Raises:
            EndedError: The step has ended.
            UsageError: The artifact is an input of this step already (MLMD keeps one event for both).
        """
        with self._lock:
            self._open()
            _check_slot("input", name)
            artifact_id = _id_of(artifact, name)
            self._check_plain_ids({name: artifact})
            if artifact_id in self._early_inputs:
                raise UsageError(
                    f"artifact {artifact_id} was given to step {self.name!r} when it began",
                    hint="name all inputs that take it in run.step(inputs=...)",
                )
            self._late_inputs.setdefault(artifact_id, []).append(Slot(name, index))

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
            InvalidValueError: Something given cannot be kept.
        """
        with self._lock:
            self._open()
            _check_slot("output", name)
            node = mlmd.Artifact(uri=uri, state=mlmd.Artifact.LIVE)
            about = {
                "content_hash": content_hash,
                "size_bytes": size_bytes,
                "data_type": data_type,
                "materializer": materializer,
            }
            kept = {key: value for key, value in about.items() if value not in ("", None)}
            kind = self._registry.type_message("artifact", type, base_type)
            node.type_id = kind.id
            zen.write_artifact(node, kind, about=kept, properties=properties or {})
            listed = self.outputs.setdefault(name, [])
            listed.append(Output(name, len(listed), node, kind))
            return listed[-1]

    def log_parameters(self, values: Mapping[str, Any]) -> None:
        """Add parameters; they are written when the step ends."""
        self._keep(self._parameters, values, "parameters")

    def log_properties(self, values: Mapping[str, Any]) -> None:
        """Add properties; they are written when the step ends."""
        self._keep(self._properties, values, "properties")

    def log_metrics(self, values: Mapping[str, float]) -> None:
        """Add metrics; they are written when the step ends."""
        self._keep(self._metrics, check_metrics(values), "metrics")

    def end(self, status: Status | None = None, *, error: BaseException | None = None) -> None:
        """Write the step's end and its outputs, all or nothing.

        Args:
            status: COMPLETED by default, FAILED with an error, CANCELED with a KeyboardInterrupt.
            error: Why it failed; its type, message and trimmed traceback are kept.

        Raises:
            EndedError: The step has ended already.
        """
        with self._lock:
            self._open()
            failure = None if error is None else describe_failure(error)
            status = status or status_of(error)
            if status not in zen.STATES or status is Status.RUNNING:
                raise UsageError(
                    f"a step cannot end as {status}", hint="completed, failed, cached or canceled"
                )
            self._execution.last_known_state = zen.STATES[status]
            if self._late_values:
                self._begun = mlmd.Execution()
                self._begun.CopyFrom(self._execution)
                zen.write_step_values(
                    self._execution, parameters=self._parameters, properties=self._properties
                )
            zen.write_step_end(self._execution, ended_ms=now_ms(), metrics=self._metrics, failure=failure)
            request = self._without_events()
            _add_events(request, self._late_inputs, mlmd.Event.INPUT)
            made = [output for listed in self.outputs.values() for output in listed]
            for output in made:
                pair = request.artifact_event_pairs.add()
                pair.artifact.CopyFrom(output.node)
                pair.event.type = mlmd.Event.OUTPUT
                tfx.write_path(pair.event.path, [Slot(output.name, output.index)])
            response = self._client.write("PutExecution", request, lambda: self._settle_end(len(made)))
            for output, artifact_id in zip(
                made, response.artifact_ids[len(self._late_inputs) :], strict=True
            ):
                output.node.id = artifact_id
            self._ended = True

    def _keep(self, target: dict[str, Any], values: Mapping[str, Any], what: str) -> None:
        with self._lock:
            self._open()
            # Refused now rather than when the step ends, where its results would be lost with it.
            if what == "properties":
                check_properties(values)
            else:
                zen.write_step_values(mlmd.Execution(), parameters=dict(values), properties={})
            target.update(values)
            self._late_values = True

    def _check_plain_ids(self, *given: Mapping[str, ArtifactLike | Sequence[ArtifactLike]]) -> None:
        """Ask for artifacts that were given as numbers: MLMD takes an event with one that is not there."""
        plain = {
            each
            for values in given
            for value in values.values()
            for each in (value if isinstance(value, Sequence) else [value])
            if isinstance(each, int) and each > 0
        }
        missing = plain - self._client.artifacts(sorted(plain)).keys() if plain else ()
        if missing:
            raise NotFoundError(
                f"step {self.name!r}: no artifact {', '.join(map(str, sorted(missing)))} in "
                f"{self._client.location}",
                hint="ids are a store's own; store.artifacts_at(uri) finds artifacts by URI",
            )

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
                done = settle()
                if done is not None:
                    return int(done.execution_id)
                # Another process made the node's context at the same time: now it is there.
                last = error
        raise last

    def _settle_end(self, made: int) -> Any:
        found = self._client.executions([self.id]).get(self.id)
        if found is None or found.last_known_state != self._execution.last_known_state:
            return None
        events = self._client.events_of_executions([self.id])
        by_slot = {
            (slot.name, slot.index): event.artifact_id
            for event in map(tfx.event, (each for each in events if each.type == mlmd.Event.OUTPUT))
            for slot in event.slots
        }
        response = rpc.PutExecutionResponse(execution_id=self.id)
        response.artifact_ids.extend(self._late_inputs)
        for listed in self.outputs.values():
            response.artifact_ids.extend(by_slot[output.name, output.index] for output in listed)
        return response if len(by_slot) == made else None

    def _open(self) -> None:
        if self._ended:
            raise EndedError(f"step {self.name!r} has ended", hint="log before its `with` block is left")


def artifact_ids(given: Mapping[str, ArtifactLike | Sequence[ArtifactLike]]) -> dict[int, list[Slot]]:
    """Return the slots that each artifact takes, by artifact id."""
    slots: dict[int, list[Slot]] = {}
    for name, value in given.items():
        many = value if isinstance(value, Sequence) else [value]
        for index, each in enumerate(many):
            slots.setdefault(_id_of(each, name), []).append(Slot(name, index))
    return slots


def check_properties(values: Mapping[str, Any]) -> None:
    """Refuse properties that cannot be kept.

    Raises:
        InvalidValueError: See `zen.write_properties`.
    """
    zen.write_properties(mlmd.Execution(), values)


def check_metrics(values: Mapping[str, float]) -> dict[str, float]:
    """Return metrics as plain numbers; a numpy scalar counts as the number that it holds.

    Raises:
        InvalidValueError: A value is not a number.
    """
    checked: dict[str, float] = {}
    for key, value in values.items():
        plain = value.item() if hasattr(value, "item") and getattr(value, "ndim", None) == 0 else value
        if isinstance(plain, bool) or not isinstance(plain, (int, float)):
            raise InvalidValueError(
                f"metrics.{key}: a {type(value).__qualname__} is not a number", hint="log it as a property"
            )
        checked[key] = plain
    return checked


def status_of(error: BaseException | None) -> Status:
    """Return how something ended that raised `error`, or nothing."""
    if error is None:
        return Status.COMPLETED
    return Status.CANCELED if isinstance(error, KeyboardInterrupt) else Status.FAILED


def now_ms() -> int:
    """Return the time as milliseconds since the epoch."""
    return round(time.time() * 1000)


def _check_slot(what: str, name: str) -> None:
    if not zen.is_name(name):
        raise InvalidValueError(
            f"an {what} cannot be named {str(name)[:100]!r}", hint="give text without NUL"
        )


def _id_of(artifact: ArtifactLike, name: str) -> int:
    found = artifact if isinstance(artifact, int) else getattr(artifact, "id", None)
    if not isinstance(found, int) or isinstance(found, bool) or found <= 0:
        raise UsageError(
            f"input {name!r}: a {type(artifact).__qualname__} is not an artifact of a store",
            hint="give an artifact, its id, or import_artifact(uri)",
        )
    return found


def _add_events(request: rpc.PutExecutionRequest, slots: Mapping[int, Iterable[Slot]], kind: Any) -> None:
    for artifact_id, taken in slots.items():
        event = request.artifact_event_pairs.add().event
        event.artifact_id, event.type = artifact_id, kind
        tfx.write_path(event.path, list(taken))
