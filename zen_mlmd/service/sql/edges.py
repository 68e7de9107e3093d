"""The calls that read what lies between nodes: events, parents and children of contexts."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

import sqlalchemy as sa
from ml_metadata.proto import metadata_store_pb2 as mlmd

from zen_mlmd.service.base import INVALID_ARGUMENT, Refusal, response_class
from zen_mlmd.service.sql.nodes import linked_nodes, nodes_of_rows, read_nodes
from zen_mlmd.service.sql.salvage import WRONG, in_order, salvaged
from zen_mlmd.service.sql.schema import Schema, id_column
from zen_mlmd.service.sql.session import Session, among, of_ids, sql_of_ids


def read_events(session: Session, kind: str, ids: Iterable[int], into: Any = None) -> list[Any]:
    """Return the events of some nodes, with their paths.

    Two statements for each `session.BATCH` of nodes or events; linear time.

    Args:
        session: The transaction.
        kind: Of the nodes: Artifact or Execution.
        ids: Of the nodes, in any order, repeats allowed.
        into: The field of a response that they are added to.

    Returns:
        An artifact's in the order of their executions, an execution's in that in which they were written;
        by id of the nodes, as ml-metadata gives them on SQLite.
    """
    events: dict[int, Any] = {}
    make = mlmd.Event if into is None else into.add
    before = 0 if into is None else len(into)

    def take(rows: Iterable[Any]) -> None:
        for event_id, *ends, what, time_ms in rows:
            # Of a type of a later MLMD, say, only that is lost.
            values = (*ends, what if what in _TYPES else None, time_ms)
            told = dict(zip(_FIELDS, values, strict=True))
            try:
                events[event_id] = make(**told)
            except WRONG:
                events[event_id] = salvaged(make, into, before + len(events), told)

    def take_paths(rows: Iterable[Any]) -> None:
        # They lie in the order of the steps; the table has no column that says so.
        for event_id, is_index, index, key in rows:
            step = events[event_id].path.steps.add()
            try:
                if is_index:
                    step.index = index
                else:
                    step.key = key
            except WRONG:
                continue

    session.ask_of_ids([(session.schema.made(_events, kind), take)], in_order(ids))
    session.ask_of_ids([(session.schema.made(_paths), take_paths)], list(events))
    return list(events.values())


_FIELDS: Final = ("artifact_id", "execution_id", "type", "milliseconds_since_epoch")
_TYPES: Final = frozenset(mlmd.Event.Type.values())


def _events(schema: Schema, kind: str) -> str:
    event = schema.table("Event")
    order = (event.c.execution_id, event.c.type) if kind == "Artifact" else (event.c.id,)
    column = event.c[id_column(kind)]
    select = sa.select(*schema.columns("Event")).where(of_ids(column)).order_by(column, *order)
    return sql_of_ids(schema, select)


def _paths(schema: Schema) -> str:
    wanted = of_ids(schema.table("EventPath").c.event_id)
    return sql_of_ids(schema, sa.select(*schema.columns("EventPath")).where(wanted))


def _events_by_ids(kind: str, session: Session, request: Any) -> Any:
    response = response_class(f"GetEventsBy{kind}IDs")()
    read_events(session, kind, getattr(request, f"{id_column(kind)}s"), response.events)
    return response


_LINES: Final[Mapping[str, tuple[str, str]]] = {
    "Parent": ("parent_context_id", "context_id"),
    "Children": ("context_id", "parent_context_id"),
}
"""Of `ParentContext`: the column of those that are asked for, and of the one that is given."""


def _by_context(line: str, session: Session, request: Any) -> Any:
    response = response_class(f"Get{line}ContextsByContext")()
    statement = session.schema.made(linked_nodes, "Context", "ParentContext", *_LINES[line])
    rows = session.rows(statement, {"given": request.context_id})
    nodes_of_rows(session, "Context", rows, response.contexts)
    return response


def _by_contexts(line: str, session: Session, request: Any) -> Any:
    if not request.context_ids:
        raise Refusal(INVALID_ARGUMENT, "Given context_ids is empty.")
    response = response_class(f"Get{line}ContextsByContexts")()
    pairs = list(session.rows_of_ids(session.schema.made(_pairs, *_LINES[line]), request.context_ids))
    found = {node.id: node for node in read_nodes(session, "Context", (asked for _, asked in pairs))}
    for given, asked in pairs:
        if asked in found:
            getattr(response.contexts[given], f"{line.lower()}_contexts").append(found[asked])
    return response


def _pairs(schema: Schema, asked: str, given: str) -> sa.Select[Any]:
    link = schema.table("ParentContext")
    columns = link.c[given], link.c[asked]
    return sa.select(*columns).where(among(link.c[given])).order_by(*columns)


CALLS: Final[Mapping[str, Callable[[Session, Any], Any]]] = {
    **{
        f"GetEventsBy{kind}IDs": functools.partial(_events_by_ids, kind) for kind in ("Artifact", "Execution")
    },
    **{f"Get{line}ContextsByContext": functools.partial(_by_context, line) for line in _LINES},
    **{f"Get{line}ContextsByContexts": functools.partial(_by_contexts, line) for line in _LINES},
}
