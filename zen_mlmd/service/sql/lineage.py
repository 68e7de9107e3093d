"""All edges on the way up or down from artifacts, in one recursive query: for walks that go to the end.

A walk of calls asks twice for each hop, and waits for each; here the database itself goes from hop to hop.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

import sqlalchemy as sa

from zen_mlmd.service.edges import EdgeQuery, LineageEdges
from zen_mlmd.service.sql.schema import Schema
from zen_mlmd.service.sql.session import BATCH, Session, among, of_ids, sql_of_ids

_ENDLESS = {
    # Of MySQL; MariaDB's own, which cuts a longer one off with a warning.
    False: "SET SESSION cte_max_recursion_depth = 4294967295",
    True: "SET SESSION max_recursive_iterations = 4294967295",
}
_PLAN = ("enable_hashjoin", "enable_mergejoin", "enable_seqscan", "jit")
"""Of PostgreSQL, which would read a whole table for each hop of a chain."""


def lineage_edges(session: Session, query: EdgeQuery) -> LineageEdges | None:
    """Return the edges up or down from artifacts; see `MetadataService.lineage_edges`.

    One statement for upstream: whoever made what a step on the way took is on the way, too. Downstream it
    may not be, and is asked for behind it. Linear time.

    Args:
        session: The transaction.
        query: Which edges.

    Returns:
        The edges; None if there is a name that is barred.
    """
    _prepare(session)
    artifacts, upstream = query.artifacts, query.upstream
    into, out = _numbers(query.inputs), _numbers(query.outputs)
    found = LineageEdges()
    walk = session.schema.made(_walk, *((out, into) if upstream else (into, out)))
    session.ask_of_ids([(walk, found.extend)], artifacts)
    if query.barred and _is_there(session, query.barred, found):
        return None
    if not upstream:
        made = {artifact: None for artifact, _, kind in found if kind in query.outputs}
        producers = session.schema.made(_events_of_artifacts, out)
        session.ask_of_ids([(producers, found.extend)], list({**dict.fromkeys(artifacts), **made}))
    is_once = upstream and len(artifacts) <= BATCH
    return found if is_once else LineageEdges(dict.fromkeys(found))


_MANY: Final = 20_000
"""Edges of which it takes longer to read the paths than to look through those of a store of the size."""


def _is_there(session: Session, beginnings: Sequence[str], found: LineageEdges) -> bool:
    """Tell whether the path of an event of the steps that were found may have a key that begins so.

    For many, whether that of any event has: 0.1 s among 800,000, on SQLite.
    """
    paths = session.schema.table("EventPath")
    begins = sa.or_(*(sa.func.substr(paths.c.step_key, 1, len(each)) == each for each in beginnings))
    if len(found) > _MANY:
        statement = sa.select(sa.literal(1)).select_from(paths).where(begins).limit(1)
        return session.connection.execute(statement).first() is not None
    event = session.schema.table("Event")
    of_steps = sa.select(sa.literal(1)).join_from(event, paths, paths.c.event_id == event.c.id)
    statement = of_steps.where(among(event.c.execution_id), begins).limit(1)
    return bool(list(session.rows_of_ids(statement, found.columns()[1])))


_LAST: Final = ("artifact_id", "execution_id", "type")


def _walk(schema: Schema, outward: str, inward: str) -> str:
    """Go from step to step: all events of those that are met.

    Among them are outputs that nobody on the way took: to leave them out takes longer than to read them.
    """
    event = schema.table("Event")
    first, into, out, last = (event.alias(name) for name in ("f", "i", "o", "l"))
    walk = (
        sa.select(first.c.execution_id)
        .where(of_ids(first.c.artifact_id), _is_one_of(first.c.type, outward))
        .cte("walk", recursive=True)
    )
    walk = walk.union(
        sa.select(out.c.execution_id)
        .select_from(walk)
        .join(into, sa.and_(into.c.execution_id == walk.c.execution_id, _is_one_of(into.c.type, inward)))
        .join(out, sa.and_(out.c.artifact_id == into.c.artifact_id, _is_one_of(out.c.type, outward)))
    )
    of_walk = sa.and_(
        last.c.execution_id == walk.c.execution_id, _is_one_of(last.c.type, f"{outward}, {inward}")
    )
    return sql_of_ids(
        schema, sa.select(*(last.c[each] for each in _LAST)).select_from(walk).join(last, of_walk)
    )


def _events_of_artifacts(schema: Schema, types: str) -> str:
    event = schema.table("Event").c
    select = sa.select(*(event[each] for each in _LAST))
    return sql_of_ids(schema, select.where(of_ids(event.artifact_id), _is_one_of(event.type, types)))


def _is_one_of(column: sa.ColumnElement[Any], numbers: str) -> sa.ColumnElement[bool]:
    return column.in_(sa.text(numbers))


def _numbers(types: Iterable[int]) -> str:
    return ", ".join(str(int(each)) for each in sorted(types)) or "NULL"


def _prepare(session: Session) -> None:
    if session.dialect == "mysql":
        mariadb = bool(getattr(session.connection.dialect, "is_mariadb", False))
        session.connection.exec_driver_sql(_ENDLESS[mariadb])
    elif session.dialect == "postgresql":
        session.connection.exec_driver_sql("; ".join(f"SET LOCAL {each} = off" for each in _PLAN))
