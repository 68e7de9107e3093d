"""Artifacts, executions and contexts are put: alone, or with an execution.

The order in which things are looked at and refused is ml-metadata's, so that of several faults of a
request the same one is told. What it writes by one statement for each row is written together.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from ml_metadata.proto import metadata_store_service_pb2 as rpc

from zen_mlmd.service.base import FAILED_PRECONDITION, INVALID_ARGUMENT, Refusal
from zen_mlmd.service.sql.context_writing import ContextWriter
from zen_mlmd.service.sql.edge_writing import EventWriter, write_links
from zen_mlmd.service.sql.node_rows import Node
from zen_mlmd.service.sql.node_writing import NodeWriter, lock_together
from zen_mlmd.service.sql.refusals import RaceLostError
from zen_mlmd.service.sql.session import Session


class ArtifactWriter(NodeWriter):
    """The artifacts of an execution or of a piece of lineage, with the options of those calls."""

    def __init__(self, session: Session, options: Any) -> None:
        super().__init__(session, "Artifact")
        self.reuses: bool = options.reuse_artifact_if_already_exist_by_external_id

    def taken(self, nodes: Sequence[Node]) -> Exception:
        """See `NodeWriter`."""
        refusal = self.already_there(nodes)
        # Another writer may have made it since it was looked for.
        return RaceLostError(refusal) if self.reuses else refusal


def _put_artifacts(session: Session, request: Any) -> Any:
    unchanged = request.options.abort_if_latest_updated_time_changed
    with NodeWriter(session, "Artifact") as writer:
        writer.lock(request.artifacts, request.update_mask.paths)
        made = []
        for artifact in request.artifacts:
            if not artifact.HasField("id"):
                made.append(writer.create(artifact))
                continue
            if unchanged:
                _check_update_time(writer.stored(artifact.id), artifact)
            paths = request.update_mask.paths
            made.append(writer.update(artifact.id, artifact, paths, increase=unchanged))
    writer.finish()
    return rpc.PutArtifactsResponse(artifact_ids=[node.id for node in made])


def _check_update_time(stored: Node | None, artifact: Any) -> None:
    given = artifact.last_update_time_since_epoch
    if stored is not None and stored.updated_ms != given:
        raise Refusal(
            FAILED_PRECONDITION,
            "`abort_if_latest_updated_time_changed` is set, and the stored artifact with id ="
            f" {artifact.id} has a different last_update_time_since_epoch: {stored.updated_ms} from the one"
            f" in the given artifact: {given}",
        )


def _put_executions(session: Session, request: Any) -> Any:
    ids = _put_nodes(session, "Execution", request.executions, request.update_mask.paths)
    return rpc.PutExecutionsResponse(execution_ids=ids)


def _put_contexts(session: Session, request: Any) -> Any:
    ids = _put_nodes(session, "Context", request.contexts, request.update_mask.paths)
    return rpc.PutContextsResponse(context_ids=ids)


def _put_nodes(session: Session, kind: str, messages: Sequence[Any], paths: Sequence[str]) -> list[int]:
    with NodeWriter(session, kind) as writer:
        writer.lock(messages, paths)
        made = [
            writer.update(each.id, each, paths) if each.HasField("id") else writer.create(each)
            for each in messages
        ]
    writer.finish()
    return [node.id for node in made]


def _put_execution(session: Session, request: Any) -> Any:
    if not request.HasField("execution"):
        raise Refusal(INVALID_ARGUMENT, f"No execution is found: {request}")
    options, execution, pairs = request.options, request.execution, request.artifact_event_pairs
    given = [pair.artifact for pair in pairs if pair.HasField("artifact")]
    artifacts, executions = ArtifactWriter(session, options), NodeWriter(session, "Execution")
    contexts = ContextWriter(session, request.contexts, options)
    lock_together(((artifacts, given), (executions, [execution]), (contexts, request.contexts)), session)

    with artifacts:
        nodes = _put_given(artifacts, given)
    with executions:
        if execution.HasField("id"):
            node = executions.update(execution.id, execution, force=options.force_update_time)
        else:
            node = executions.create(execution)
    artifacts.finish()
    executions.finish()
    answer = rpc.PutExecutionResponse(execution_id=node.id, artifact_ids=_artifact_ids(pairs, nodes))
    with EventWriter(session) as events:
        for pair, artifact_id in zip(pairs, answer.artifact_ids, strict=True):
            if pair.HasField("event"):
                events.put(_event(pair, node.id, artifact_id))
    answer.context_ids.extend(contexts.put())
    write_links(session, "Execution", ((each, node.id) for each in answer.context_ids))
    ends = ((each, other) for each in answer.context_ids for other in answer.artifact_ids)
    write_links(session, "Artifact", ends)
    return answer


_NOTHING: Final = -1
"""ml-metadata's id of the artifact of a pair with nothing in it."""


def _put_given(writer: ArtifactWriter, artifacts: Sequence[Any]) -> list[Node]:
    reused = writer.lock_external(artifacts) if writer.reuses else {}
    made: dict[str, Node] = {}
    nodes = []
    for artifact in artifacts:
        external_id = artifact.external_id
        if artifact.HasField("id"):
            nodes.append(writer.update(artifact.id, artifact))
        elif external_id in reused:
            nodes.append(writer.update(reused[external_id], artifact))
        elif external_id in made:
            nodes.append(writer.update_new(made[external_id], artifact))
        else:
            nodes.append(writer.create(artifact))
            if writer.reuses and external_id:
                made[external_id] = nodes[-1]
    return nodes


def _artifact_ids(pairs: Sequence[Any], nodes: Sequence[Node]) -> list[int]:
    numbers = iter(nodes)
    return [
        next(numbers).id
        if pair.HasField("artifact")
        else pair.event.artifact_id
        if pair.HasField("event")
        else _NOTHING
        for pair in pairs
    ]


def _event(pair: Any, execution_id: int, artifact_id: int) -> Any:
    """Return an event of `PutExecution` with the ids of its ends.

    Raises:
        Refusal: It names others, or none.
    """
    given = pair.event
    if given.HasField("execution_id") and given.execution_id != execution_id:
        text = "Request's event.execution_id does not match with the given execution: "
        raise Refusal(INVALID_ARGUMENT, text)
    if not pair.HasField("artifact") and not given.HasField("artifact_id"):
        text = f"If no artifact is present, given event must have an artifact_id: {pair}"
        raise Refusal(INVALID_ARGUMENT, text)
    if given.HasField("artifact_id") and given.artifact_id != artifact_id:
        text = f"Given event.artifact_id is not aligned with the artifact: {pair}"
        raise Refusal(INVALID_ARGUMENT, text)
    event = type(given)()
    event.CopyFrom(given)
    event.execution_id, event.artifact_id = execution_id, artifact_id
    return event


CALLS: Final[Mapping[str, Callable[[Session, Any], Any]]] = {
    "PutArtifacts": _put_artifacts,
    "PutExecutions": _put_executions,
    "PutContexts": _put_contexts,
    "PutExecution": _put_execution,
}
