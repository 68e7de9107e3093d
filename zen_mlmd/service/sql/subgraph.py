"""`GetLineageSubgraph`: breadth first from the nodes that a filter finds, to the end.

ml-metadata 1.17.1 follows 100 hops at most and begins at 101 nodes at most, without a word where there is
more; here both are as many as there are. Nodes come as ids alone, as there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

import sqlalchemy as sa
from ml_metadata.proto import metadata_store_pb2 as mlmd
from ml_metadata.proto import metadata_store_service_pb2 as rpc

from zen_mlmd.service.base import INVALID_ARGUMENT, NOT_FOUND, Refusal
from zen_mlmd.service.sql.edges import read_events
from zen_mlmd.service.sql.filters.compiler import condition
from zen_mlmd.service.sql.schema import NODES, Schema, id_column
from zen_mlmd.service.sql.session import Session, among
from zen_mlmd.service.sql.types import read_types, type_message

_Event, _Direction = mlmd.Event, mlmd.LineageSubgraphQueryOptions.Direction
_INPUTS: Final = frozenset({_Event.INPUT, _Event.DECLARED_INPUT, _Event.INTERNAL_INPUT})
_OUTPUTS: Final = frozenset(
    {_Event.OUTPUT, _Event.DECLARED_OUTPUT, _Event.INTERNAL_OUTPUT, _Event.PENDING_OUTPUT}
)
_FOLLOWED: Final = {
    ("Artifact", _Direction.UPSTREAM): _OUTPUTS,
    ("Artifact", _Direction.DOWNSTREAM): _INPUTS,
    ("Execution", _Direction.UPSTREAM): _INPUTS,
    ("Execution", _Direction.DOWNSTREAM): _OUTPUTS,
}
"""Types of events that lead away from a node; all of them where no direction is given."""

_OTHER: Final = {"Artifact": "Execution", "Execution": "Artifact"}
_MESSAGES: Final = {"Artifact": mlmd.Artifact, "Execution": mlmd.Execution}
_TYPES: Final = {f"{kind.lower()}_types": kind for kind in NODES}
_LINKS: Final = {"Artifact": "Attribution", "Execution": "Association"}


class _Walk:
    """What was met so far, by kind of node; those where the walk ends lie apart."""

    def __init__(self, session: Session, options: Any) -> None:
        self._session = session
        self._options = options
        self.visited: dict[str, set[int]] = {"Artifact": set(), "Execution": set()}
        self.ends: dict[str, set[int]] = {"Artifact": set(), "Execution": set()}
        self.events: list[Any] = []

    def begin(self, kind: str, text: str) -> set[int]:
        """Return the nodes to start from."""
        node = self._session.schema.table(kind)
        rows = self._session.rows(sa.select(node.c.id).where(condition(self._session.schema, kind, text)))
        if not rows:
            raise Refusal(NOT_FOUND, "Cannot find qualified nodes to start the traversal.")
        found = {row[0] for row in rows}
        self.ends[kind] = self._ending(kind, found)
        self.visited[kind] = found - self.ends[kind]
        return set(self.visited[kind])

    def hop(self, kind: str, frontier: Iterable[int]) -> set[int]:
        """Go on from nodes of a kind; return the nodes of the other kind that are new."""
        other = _OTHER[kind]
        followed = _FOLLOWED.get((kind, self._options.direction))
        events = [
            event
            for event in read_events(self._session, kind, frontier)
            if followed is None or event.type in followed
        ]
        ends = [getattr(event, id_column(other)) for event in events]
        before = self.visited[other] | self.ends[other]
        found = set(ends) - before
        self.ends[other] |= self._ending(other, found)
        new = found - self.ends[other]
        for event, end in zip(events, ends, strict=True):
            if self._is_told(other, end):
                self.events.append(event)
        self.visited[other] |= new
        return new

    def _is_told(self, kind: str, end: int) -> bool:
        if end in self.ends[kind]:
            return bool(getattr(self._options, f"ending_{kind.lower()}s").include_ending_nodes)
        # Without a direction, an event to a node that was met before was met from there.
        return end not in self.visited[kind] or (kind, self._options.direction) in _FOLLOWED

    def _ending(self, kind: str, ids: set[int]) -> set[int]:
        text = getattr(self._options, f"ending_{kind.lower()}s").filter_query
        if not text or not ids:
            return set()
        schema = self._session.schema
        node = schema.table(kind)
        statement = sa.select(node.c.id).where(among(node.c.id), condition(schema, kind, text))
        return {row[0] for row in self._session.rows_of_ids(statement, ids)}

    def ids(self, kind: str) -> list[int]:
        """Return the nodes of the answer."""
        told = getattr(self._options, f"ending_{kind.lower()}s").include_ending_nodes
        return sorted(self.visited[kind] | (self.ends[kind] if told else set()))


def _get_lineage_subgraph(session: Session, request: Any) -> Any:
    options = request.lineage_subgraph_query_options
    kind, text = _start(options)
    walk = _Walk(session, options)
    frontier, hops = walk.begin(kind, text), 0
    while frontier and (not options.HasField("max_num_hops") or hops < options.max_num_hops):
        frontier = walk.hop(kind, frontier)
        kind, hops = _OTHER[kind], hops + 1
    wanted = set(request.read_mask.paths) or set(mlmd.LineageGraph.DESCRIPTOR.fields_by_name)
    response = rpc.GetLineageSubgraphResponse()
    response.lineage_subgraph.SetInParent()
    _fill(session, response.lineage_subgraph, walk, wanted)
    return response


def _start(options: Any) -> tuple[str, str]:
    which = options.WhichOneof("starting_nodes")
    if which is None:
        raise Refusal(INVALID_ARGUMENT, "Missing arguments for listing starting nodes.")
    text = getattr(options, which).filter_query
    if not text:
        raise Refusal(INVALID_ARGUMENT, "Cannot list starting nodes if `filter_query` is unspecified.")
    if options.max_num_hops < 0:
        raise Refusal(
            INVALID_ARGUMENT, f"max_num_hops cannot be negative: max_num_hops = {options.max_num_hops}"
        )
    return {"starting_artifacts": "Artifact", "starting_executions": "Execution"}[which], text


def _fill(session: Session, graph: Any, walk: _Walk, wanted: set[str]) -> None:
    contexts: set[int] = set()
    for kind, link in _LINKS.items():
        ids = walk.ids(kind)
        if f"{kind.lower()}s" in wanted:
            getattr(graph, f"{kind.lower()}s").extend(_MESSAGES[kind](id=each) for each in ids)
        if {"contexts", f"{link.lower()}s"} & wanted:
            pairs = list(session.rows_of_ids(session.schema.made(_linked, link, id_column(kind)), ids))
            contexts.update(context_id for context_id, _ in pairs)
            if f"{link.lower()}s" in wanted:
                for context_id, node_id in pairs:
                    told = {"context_id": context_id, id_column(kind): node_id}
                    getattr(graph, f"{link.lower()}s").add(**told)
    if "contexts" in wanted:
        graph.contexts.extend(mlmd.Context(id=each) for each in sorted(contexts))
    if "events" in wanted:
        graph.events.extend(walk.events)
    for field, kind in _TYPES.items():
        if field in wanted:
            types = read_types(session, kind)
            getattr(graph, field).extend(type_message(kind, each, external_id=False) for each in types)


def _linked(schema: Schema, link: str, column: str) -> sa.Select[Any]:
    table = schema.table(link)
    return sa.select(table.c.context_id, table.c[column]).where(among(table.c[column]))


CALLS: Final[Mapping[str, Callable[[Session, Any], Any]]] = {"GetLineageSubgraph": _get_lineage_subgraph}
