"""Deleting nodes with all that hangs on them: what ml-metadata cannot do."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Final

import sqlalchemy as sa

from zen_mlmd.service.sql.schema import Schema, id_column
from zen_mlmd.service.sql.session import BATCH, Session, among

_LINKS: Final = {
    "Execution": ("Association",),
    "Artifact": ("Attribution",),
    "Context": ("Association", "Attribution"),  # an attribution says no more than that it was once used there
}


def delete_nodes(
    session: Session,
    *,
    executions: Collection[int] = (),
    artifacts: Collection[int] = (),
    contexts: Collection[int] = (),
    even_used: bool = False,
) -> dict[str, int]:
    """Delete nodes, with their properties, events, paths, and links to contexts and between contexts.

    An artifact that still has an event once these executions are gone stays, unless it is to go `even_used`,
    and so does a context that still has an execution or a child: somebody may just have begun to use it.

    Returns:
        How many were deleted, by "executions", "artifacts" and "contexts"; ids that are not there count not.
    """
    events = session.schema.table("Event")
    _delete_events(session, "execution_id", executions)
    gone = {"executions": _delete(session, "Execution", executions)}
    if even_used:
        _delete_events(session, "artifact_id", artifacts)
    used = _having(session, artifacts, (events.c.artifact_id,))
    gone["artifacts"] = _delete(session, "Artifact", set(artifacts) - used)
    links = [session.schema.table("Association").c.context_id]
    if session.schema.has("ParentContext"):
        links.append(session.schema.table("ParentContext").c.parent_context_id)
    gone["contexts"] = _delete(session, "Context", set(contexts) - _having(session, contexts, links))
    return gone


def _having(session: Session, ids: Collection[int], columns: Iterable[sa.Column[int]]) -> set[int]:
    """Return the ids that stand in any of some columns."""
    return {
        row[0]
        for column in columns
        for row in session.rows_of_ids(sa.select(column).where(among(column)).distinct(), ids)
    }


def _delete_events(session: Session, column: str, ids: Iterable[int]) -> None:
    events, paths = session.schema.table("Event"), session.schema.table("EventPath")
    found = [
        row[0] for row in session.rows_of_ids(sa.select(events.c.id).where(among(events.c[column])), ids)
    ]
    _run(session, sa.delete(paths).where(among(paths.c.event_id)), found)
    _run(session, sa.delete(events).where(among(events.c.id)), found)


def _delete(session: Session, kind: str, ids: Iterable[int]) -> int:
    wanted, schema = sorted(ids), session.schema
    tables = [f"{kind}Property"]
    tables += _LINKS[kind]
    for name in tables:
        table = schema.table(name)
        _run(session, sa.delete(table).where(among(table.c[id_column(kind)])), wanted)
    if kind == "Context" and schema.has("ParentContext"):
        _run(session, _parents(schema), wanted)
    node = schema.table(kind)
    return _run(session, sa.delete(node).where(among(node.c.id)), wanted)


def _parents(schema: Schema) -> sa.Delete:
    parents = schema.table("ParentContext")
    return sa.delete(parents).where(among(parents.c.context_id))


def _run(session: Session, statement: sa.Delete, ids: Iterable[int]) -> int:
    wanted, met = list(ids), 0
    for start in range(0, len(wanted), BATCH):
        met += session.connection.execute(statement, {"ids": wanted[start : start + BATCH]}).rowcount
    return met
