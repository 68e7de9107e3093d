"""All events on the way up or down from artifacts, in one recursive query: for walks that go to the end.

A walk of calls asks twice for each hop, and waits for each; here the database itself goes from hop to hop.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import sqlalchemy as sa

from zen_mlmd.service.sql.edges import read_events
from zen_mlmd.service.sql.session import BATCH, Session, among

_ENDLESS = {
    # Of MySQL; MariaDB's own, which cuts a longer one off with a warning.
    False: "SET SESSION cte_max_recursion_depth = 4294967295",
    True: "SET SESSION max_recursive_iterations = 4294967295",
}
_PLAN = ("enable_hashjoin", "enable_mergejoin", "enable_seqscan", "jit")
"""Of PostgreSQL, which would read a whole table for each hop of a chain."""


def lineage_events(
    session: Session,
    artifacts: Sequence[int],
    *,
    upstream: bool,
    inputs: Collection[int],
    outputs: Collection[int],
) -> tuple[list[Any], list[Any]]:
    """Return the events of all artifacts up or down from some, and of all executions on the way.

    Args:
        session: The transaction.
        artifacts: Where to begin.
        upstream: Up, to what made them, or down.
        inputs: Numbers of the types of events that lead into a step.
        outputs: Numbers of those that lead out of one.

    Returns:
        The events of artifacts, of every type, and those of executions.
    """
    _prepare(session)
    outward, inward = (outputs, inputs) if upstream else (inputs, outputs)
    statement = _reached(session, outward, inward)
    nodes: dict[int, None] = dict.fromkeys(artifacts)
    for start in range(0, len(artifacts), BATCH):
        some = artifacts[start : start + BATCH]
        nodes.update((row[0], None) for row in session.connection.execute(statement, {"ids": list(some)}))
    of_artifacts = read_events(session, "Artifact", nodes)
    steps = {event.execution_id for event in of_artifacts if event.type in outward}
    return of_artifacts, read_events(session, "Execution", steps)


def _reached(session: Session, outward: Collection[int], inward: Collection[int]) -> sa.Select[Any]:
    event = session.schema.table("Event")
    node = session.schema.table("Artifact")
    walk = sa.select(node.c.id.label("artifact_id")).where(among(node.c.id)).cte("walk", recursive=True)
    out, into = event.alias("o"), event.alias("i")
    walk = walk.union(
        sa.select(into.c.artifact_id)
        .select_from(walk)
        .join(out, sa.and_(out.c.artifact_id == walk.c.artifact_id, out.c.type.in_(sorted(outward))))
        .join(into, sa.and_(into.c.execution_id == out.c.execution_id, into.c.type.in_(sorted(inward))))
    )
    return sa.select(walk.c.artifact_id)


def _prepare(session: Session) -> None:
    if session.dialect == "mysql":
        mariadb = bool(getattr(session.connection.dialect, "is_mariadb", False))
        session.connection.exec_driver_sql(_ENDLESS[mariadb])
    elif session.dialect == "postgresql":
        session.connection.exec_driver_sql("; ".join(f"SET LOCAL {each} = off" for each in _PLAN))
