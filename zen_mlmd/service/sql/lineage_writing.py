"""A piece of lineage is put: artifacts, executions and contexts, and the events between them, at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from ml_metadata.proto import metadata_store_service_pb2 as rpc

from zen_mlmd.service.base import INVALID_ARGUMENT, NOT_FOUND, OUT_OF_RANGE, Refusal
from zen_mlmd.service.sql.context_writing import ContextWriter
from zen_mlmd.service.sql.edge_writing import EventWriter, write_links
from zen_mlmd.service.sql.node_rows import Node
from zen_mlmd.service.sql.node_writing import NodeWriter, lock_together
from zen_mlmd.service.sql.session import Session
from zen_mlmd.service.sql.types import types_of_ids
from zen_mlmd.service.sql.writing import ArtifactWriter


def _put_lineage_subgraph(session: Session, request: Any) -> Any:
    for edge in request.event_edges:
        if not edge.HasField("event"):
            raise Refusal(INVALID_ARGUMENT, f"No event found for event_edge: {request}")
        _check_end(edge, "execution", request.executions)
        _check_end(edge, "artifact", request.artifacts)
    artifacts, executions = ArtifactWriter(session, request.options), NodeWriter(session, "Execution")
    contexts = ContextWriter(session, request.contexts, request.options)
    kinds = (
        ("Artifact", artifacts, request.artifacts),
        ("Execution", executions, request.executions),
        ("Context", contexts, request.contexts),
    )
    lock_together(((writer, messages) for _, writer, messages in kinds), session)
    for kind, writer, messages in kinds:
        _check_nodes(session, kind, writer, messages)

    answer = rpc.PutLineageSubgraphResponse(context_ids=contexts.put(is_checked=True))
    reused = artifacts.lock_external(request.artifacts) if artifacts.reuses else {}
    made = _put_nodes(artifacts, request.artifacts, reused), _put_nodes(executions, request.executions, {})
    artifacts.finish()
    executions.finish()
    for nodes, ids in zip(made, (answer.artifact_ids, answer.execution_ids), strict=True):
        ids.extend(node.id for node in nodes)
    for kind, ids in (("Execution", answer.execution_ids), ("Artifact", answer.artifact_ids)):
        write_links(session, kind, ((context, each) for context in answer.context_ids for each in ids))
    with EventWriter(session) as events:
        for edge in request.event_edges:
            events.put(_event(edge, answer))
    return answer


def _check_nodes(session: Session, kind: str, writer: NodeWriter, messages: Sequence[Any]) -> None:
    for message in messages:
        if not message.HasField("type_id"):
            raise Refusal(INVALID_ARGUMENT, "Type id is missing.")
    wanted = {message.type_id for message in messages}
    types = types_of_ids(session, kind, wanted)
    if len(types) != len(wanted):
        missing, found = (",".join(map(str, ids)) for ids in (wanted, types))
        text = f"Results missing for ids: {{{missing}}}. Found results for {{{found}}}"
        raise Refusal(NOT_FOUND, text)
    for message in messages:
        writer.check_properties(message, types[message.type_id])


def _put_nodes(writer: NodeWriter, messages: Sequence[Any], reused: Mapping[str, int]) -> list[Node]:
    nodes = []
    with writer:
        for message in messages:
            number = message.id if message.HasField("id") else reused.get(message.external_id)
            if number is None:
                nodes.append(writer.create(message, is_checked=True))
            else:
                nodes.append(writer.update(number, message))
    return nodes


def _event(edge: Any, answer: Any) -> Any:
    event = type(edge.event)()
    event.CopyFrom(edge.event)
    if not event.HasField("execution_id"):
        event.execution_id = answer.execution_ids[edge.execution_index]
    if not event.HasField("artifact_id"):
        event.artifact_id = answer.artifact_ids[edge.artifact_index]
    return event


def _check_end(edge: Any, name: str, nodes: Sequence[Any]) -> None:
    """Refuse an edge whose execution or artifact is not to be told."""
    given = edge.event.HasField(f"{name}_id")
    if not edge.HasField(f"{name}_index"):
        if not given:
            text = f"Event_edge is missing an {name}. Could not find either an {name}_index or an"
            raise Refusal(INVALID_ARGUMENT, f"{text} event.{name}_id: {edge}")
        return
    index, number = getattr(edge, f"{name}_index"), getattr(edge.event, f"{name}_id")
    if not 0 <= index < len(nodes):
        text = f"The event_edge has an {name}_index {index} that is outside the bounds of the request's"
        raise Refusal(OUT_OF_RANGE, f"{text} {name}s list, [0, {len(nodes)}). Event_edge: {edge}")
    if not given:
        return
    called = f"The referenced {name} at {name}_index {index}"
    if not nodes[index].HasField("id"):
        text = f"Missing {name} ID. {called} does not have an ID even though the event_edge specifies an"
        raise Refusal(INVALID_ARGUMENT, f"{text} event.{name}_id of {number}")
    if nodes[index].id != number:
        text = f"{name.capitalize()} ID mismatch. {called} has an ID of {nodes[index].id} that does not match"
        raise Refusal(INVALID_ARGUMENT, f"{text} the event_edge's event.{name}_id of {number}")


CALLS: Final[Mapping[str, Callable[[Session, Any], Any]]] = {"PutLineageSubgraph": _put_lineage_subgraph}
