"""Rows whose owners are gone: found, and deleted where no call of MLMD's can read them.

MLMD has no foreign keys. Another program's delete, a restored table or a dump that was cut short leaves such
rows behind. An event of which one end is there is read by that end: it is told of, and stays.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from zen_mlmd.service.finding import Finding
from zen_mlmd.service.sql.schema import NODES, Schema, TypeKind

_BATCH: Final = 500
"""Owners, or events, whose rows are deleted in one transaction."""

_SHOWN: Final = 5

_KINDS: Final = {
    "Artifact": TypeKind.ARTIFACT,
    "Execution": TypeKind.EXECUTION,
    "Context": TypeKind.CONTEXT,
}


@dataclass(frozen=True, slots=True)
class _Rule:
    """Rows that belong to others.

    Attributes:
        table: Theirs.
        owners: For each column the table that has its values as ids; a row without one of them is an orphan.
        whose: In words.
    """

    code: str
    table: str
    owners: Mapping[str, str]
    whose: str


_RULES: Final = (
    _Rule("paths-orphaned", "EventPath", {"event_id": "Event"}, "event"),
    *(
        _Rule("properties-orphaned", f"{node}Property", {f"{node.lower()}_id": node}, node.lower())
        for node in NODES
    ),
    _Rule(
        "links-orphaned",
        "Association",
        {"context_id": "Context", "execution_id": "Execution"},
        "context or execution",
    ),
    _Rule(
        "links-orphaned",
        "Attribution",
        {"context_id": "Context", "artifact_id": "Artifact"},
        "context or artifact",
    ),
    _Rule(
        "links-orphaned",
        "ParentContext",
        {"context_id": "Context", "parent_context_id": "Context"},
        "context or parent",
    ),
    _Rule("type-parts-orphaned", "TypeProperty", {"type_id": "Type"}, "type"),
    _Rule("type-parts-orphaned", "ParentType", {"type_id": "Type", "parent_type_id": "Type"}, "type"),
)
_EVENT_OWNERS: Final = {"artifact_id": "Artifact", "execution_id": "Execution"}

CODES: Final = frozenset(("events-orphaned", *(each.code for each in _RULES)))
"""What `delete` mends."""


def examine(connection: Connection, schema: Schema) -> list[Finding]:
    """Return which rows have lost their owners; each table is read once or twice, by its keys."""
    found = [*_events(connection, schema)]
    for rule in _RULES:
        if schema.has(rule.table):
            table = schema.table(rule.table)
            lost = sa.or_(*(_lost(schema, table.c[column], owner) for column, owner in rule.owners.items()))
            count = _count(connection, table, sa.and_(lost, *_kept_types(schema, rule, table)))
            if count:
                found.append(_orphans(rule.code, rule.table, count, f"whose {rule.whose} is gone"))
    return [*found, *_nodes_without_type(connection, schema), *_same_types(connection, schema)]


def delete(connection: Connection, schema: Schema) -> dict[str, int]:
    """Delete the rows that nothing can read, in transactions of a few hundred owners each.

    Args:
        connection: Outside a transaction; it is left so.
        schema: The tables.

    Returns:
        How many rows were deleted, by table.
    """
    gone: dict[str, int] = {}

    def run(name: str, column: str, where: Any) -> None:
        table = schema.table(name)
        # SQLite may have anything in a column that is to have ids, and knows its rows by a number of its own.
        key: sa.ColumnElement[Any] = table.c[column]
        if schema.dialect == "sqlite":
            key = sa.literal_column("rowid")
        wanted = sa.select(key).select_from(table).where(where).distinct().limit(_BATCH)
        while ids := list(connection.scalars(wanted)):
            gone[name] = gone.get(name, 0) + connection.execute(sa.delete(table).where(key.in_(ids))).rowcount
            connection.commit()
        connection.rollback()

    events = schema.table("Event")
    run("Event", "id", _endless(schema, events, sa.and_))
    for rule in _RULES:
        if schema.has(rule.table):
            table = schema.table(rule.table)
            for column, owner in rule.owners.items():
                lost = _lost(schema, table.c[column], owner)
                run(rule.table, column, sa.and_(lost, *_kept_types(schema, rule, table)))
    return gone


def _events(connection: Connection, schema: Schema) -> Iterator[Finding]:
    events = schema.table("Event")
    both = _count(connection, events, _endless(schema, events, sa.and_))
    if both:
        yield _orphans("events-orphaned", "Event", both, "whose artifact and execution are gone")
    one = _count(connection, events, _endless(schema, events, sa.or_)) - both
    if one:
        yield Finding(
            "events-dangling",
            f"{one:,} rows whose artifact or execution is gone: lineage ends there",
            "they stay, for they tell the inputs and outputs of what is there; a backup may have the rest",
            subject="Event",
        )


def _endless(schema: Schema, events: sa.Table, join: Callable[..., Any]) -> Any:
    return join(*(_lost(schema, events.c[column], owner) for column, owner in _EVENT_OWNERS.items()))


def _lost(schema: Schema, column: sa.Column[Any], owner: str) -> Any:
    owners = schema.table(owner).alias(f"owner_of_{column.name}")
    return ~sa.exists().where(owners.c.id == column)


def _kept_types(schema: Schema, rule: _Rule, table: sa.Table) -> Sequence[Any]:
    """Keep what tells of a type that is gone while nodes of it are there: it helps to make it again."""
    if rule.table != "TypeProperty":
        return ()
    return [~sa.exists().where(schema.table(node).c.type_id == table.c.type_id) for node in NODES]


def _count(connection: Connection, table: sa.Table, where: Any) -> int:
    return int(connection.scalar(sa.select(sa.func.count()).select_from(table).where(where)) or 0)


def _orphans(code: str, table: str, count: int, whose: str) -> Finding:
    return Finding(
        code,
        f"{count:,} rows {whose}: no call reads them",
        "they are deleted",
        subject=table,
        mendable=True,
    )


def _nodes_without_type(connection: Connection, schema: Schema) -> Iterator[Finding]:
    types = schema.table("Type")
    for node, kind in _KINDS.items():
        table = schema.table(node)
        typed = sa.exists().where(types.c.id == table.c.type_id, types.c.type_kind == int(kind))
        query = (
            sa.select(_shown(schema, table.c.type_id), sa.func.count())
            .where(~typed)
            .group_by(table.c.type_id)
        )
        rows = connection.execute(query.order_by(table.c.type_id)).all()
        if rows:
            ids = ", ".join(_text(each[0]) for each in rows[:_SHOWN])
            more = f" and {len(rows) - _SHOWN} more" if len(rows) > _SHOWN else ""
            yield Finding(
                "type-gone",
                f"{sum(each[1] for each in rows):,} rows whose type is gone, or is no {node.lower()} type:"
                f" {ids}{more}",
                "put the row of Type back, from a backup: its id, name and type_kind",
                subject=node,
            )


def _same_types(connection: Connection, schema: Schema) -> Iterator[Finding]:
    types = schema.table("Type")
    key = (types.c.name, types.c.type_kind, sa.func.coalesce(types.c.version, ""))
    query = (
        sa.select(_shown(schema, types.c.name), sa.func.count()).group_by(*key).having(sa.func.count() > 1)
    )
    for name, count in connection.execute(query.order_by(types.c.name)):
        yield Finding(
            "type-twice",
            f"{count} types of one name: ml-metadata looks for nodes of it at the first alone",
            "set the type_id of the nodes of the newer ones to the oldest, then delete the newer ones' rows",
            subject=_text(name),
        )


def _shown(schema: Schema, column: sa.Column[Any]) -> Any:
    """Return a column to be shown: on SQLite as bytes, for its texts may be none."""
    return sa.cast(column, sa.LargeBinary) if schema.dialect == "sqlite" else column


def _text(value: object) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
