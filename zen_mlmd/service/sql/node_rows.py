"""The rows of nodes and of their properties: locked and read, inserted, updated, many at once."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import sqlalchemy as sa

from zen_mlmd.service.sql.schema import Schema, id_column
from zen_mlmd.service.sql.session import Session, among
from zen_mlmd.service.sql.values import VALUE_COLUMNS, Encoded, as_bytes

OWN: Final = {
    "Artifact": ("uri", "state", "name", "external_id"),
    "Execution": ("last_known_state", "name", "external_id"),
    "Context": ("name", "external_id"),
}
"""Columns that are fields of the message."""

SETTABLE: Final = {
    "Artifact": ("uri", "state", "external_id"),
    "Execution": ("last_known_state", "external_id"),
    "Context": ("name", "external_id"),
}
"""Those that an update sets: the name of an artifact or execution is for ever."""

_TIMES: Final = ("create_time_since_epoch", "last_update_time_since_epoch")
_KEYS: Final = 1000
"""Properties that one DELETE names."""

Key = tuple[str, bool]
"""A property's name, and whether it is a custom one."""


@dataclass(eq=False, slots=True)
class Node:
    """A node as it is to be in the end.

    Attributes:
        columns: By name, those of `OWN`.
        number: Its id; None until it is written.
        stored: What the database has of its properties.
        updated_ms: When it was changed last.
        is_touched: Its time of update is to be written.
        is_changed: And other columns.
    """

    type_id: int
    columns: dict[str, Any]
    properties: dict[Key, Encoded] = field(default_factory=dict)
    number: int | None = None
    stored: dict[Key, Encoded] = field(default_factory=dict)
    updated_ms: int = 0
    is_touched: bool = False
    is_changed: bool = False

    @property
    def id(self) -> int:
        """Its id, once it is written."""
        assert self.number is not None
        return self.number


def lock_nodes(session: Session, kind: str, ids: Iterable[int]) -> dict[int, Node]:
    """Read nodes without their properties, and keep others from changing them; some may not be there."""
    own = OWN[kind]
    found = {}
    for row in session.rows_of_ids(session.schema.made(_locked, kind), ids):
        number, type_id, updated_ms, *columns = row
        node = Node(type_id, dict(zip(own, columns, strict=True)), number=number, updated_ms=updated_ms)
        found[number] = node
    return found


def ids_of_external_ids(session: Session, kind: str, external_ids: Iterable[str]) -> dict[str, int]:
    """Return the ids of those nodes that there are."""
    wanted = set(external_ids)
    statement = session.schema.made(_of_external_ids, kind)
    rows = session.rows(statement, {"external_ids": list(wanted)})
    return {external_id: number for external_id, number in rows if external_id in wanted}


def read_properties(session: Session, kind: str, nodes: Iterable[Node], *, is_late: bool) -> None:
    """Fill in what nodes that are locked have of properties.

    Args:
        session: The transaction.
        kind: Artifact, Execution or Context.
        nodes: Whose.
        is_late: Something was read before they were locked: MySQL would show what was there then.
    """
    by_id = {node.id: node for node in nodes}
    statement = session.schema.made(_properties_of, kind, "lock" if is_late else "")
    for row in session.rows_of_ids(statement, by_id):
        number, name, is_custom, *columns = row
        by_id[number].stored[name, bool(is_custom)] = tuple(columns)
    for node in by_id.values():
        node.properties = dict(node.stored)


def insert_nodes(session: Session, kind: str, nodes: Sequence[Node]) -> None:
    """Write new nodes with their properties, and give them their ids.

    Raises:
        DuplicateError: Something of them is another node's.
    """
    now, own = session.now_ms, OWN[kind]
    rows = [(node.type_id, *(node.columns[name] for name in own), now, now) for node in nodes]
    ids = session.insert(kind, ("type_id", *own, *_TIMES), rows)
    for node, number in zip(nodes, ids, strict=True):
        node.number, node.updated_ms = number, now
    _insert_properties(session, kind, nodes)


def update_nodes(session: Session, kind: str, nodes: Sequence[Node]) -> None:
    """Write what is touched of nodes that are locked.

    Raises:
        DuplicateError: Something of them is another node's.
    """
    _delete_old_properties(session, kind, nodes)
    _insert_properties(session, kind, nodes)
    names = SETTABLE[kind]
    times: dict[int, list[int]] = {}
    for node in nodes:
        if node.is_changed:
            values = {f"new_{name}": node.columns[name] for name in names}
            session.run(
                session.schema.made(_update, kind), {"number": node.id, "ms": node.updated_ms, **values}
            )
        else:
            times.setdefault(node.updated_ms, []).append(node.id)
        node.is_touched = node.is_changed = False
    for ms, ids in times.items():
        session.run(session.schema.made(_touch, kind), {"ids": ids, "ms": ms})


def _delete_old_properties(session: Session, kind: str, nodes: Iterable[Node]) -> None:
    gone = [
        (node.id, *key)
        for node in nodes
        for key, value in node.stored.items()
        if node.properties.get(key) is not value
    ]
    statement = session.schema.made(_delete_properties, kind)
    for start in range(0, len(gone), _KEYS):
        keys = gone[start : start + _KEYS]
        session.run(statement, {"ids": list(dict.fromkeys(key[0] for key in keys)), "keys": keys})


def _insert_properties(session: Session, kind: str, nodes: Iterable[Node]) -> None:
    columns = (id_column(kind), "name", "is_custom_property", *VALUE_COLUMNS)
    has_bytes = session.dialect == "postgresql"
    rows = []
    for node in nodes:
        stored = node.stored
        rows += [
            (node.number, *key, *(as_bytes(value) if has_bytes else value))
            for key, value in node.properties.items()
            if stored.get(key) is not value
        ]
        node.stored = dict(node.properties)
    session.insert(f"{kind}Property", columns, rows)


def _locked(schema: Schema, kind: str) -> sa.Select[Any]:
    number = schema.table(kind).c.id
    columns = schema.columns(kind, ("id", "type_id", "last_update_time_since_epoch", *OWN[kind]))
    return sa.select(*columns).where(among(number)).order_by(number).with_for_update()


def _of_external_ids(schema: Schema, kind: str) -> sa.Select[Any]:
    node = schema.table(kind).c
    wanted: sa.BindParameter[Any] = sa.bindparam("external_ids", expanding=True)
    return sa.select(node.external_id, node.id).where(node.external_id.in_(wanted))


def _properties_of(schema: Schema, kind: str, lock: str) -> sa.Select[Any]:
    table = schema.table(f"{kind}Property")
    number = table.c[id_column(kind)]
    columns = schema.columns(f"{kind}Property", ("name", "is_custom_property", *VALUE_COLUMNS))
    statement = sa.select(number, *columns).where(among(number))
    return statement.with_for_update(read=True) if lock else statement


def _delete_properties(schema: Schema, kind: str) -> sa.Delete:
    table = schema.table(f"{kind}Property")
    number = table.c[id_column(kind)]
    keys: sa.BindParameter[Any] = sa.bindparam("keys", expanding=True)
    whole = sa.tuple_(number, table.c.name, table.c.is_custom_property)
    return sa.delete(table).where(among(number), whole.in_(keys))


def _update(schema: Schema, kind: str) -> sa.Update:
    table = schema.table(kind)
    values: dict[str, Any] = {name: sa.bindparam(f"new_{name}") for name in SETTABLE[kind]}
    values["last_update_time_since_epoch"] = sa.bindparam("ms")
    return sa.update(table).where(table.c.id == sa.bindparam("number")).values(values)


def _touch(schema: Schema, kind: str) -> sa.Update:
    table = schema.table(kind)
    return sa.update(table).where(among(table.c.id)).values(last_update_time_since_epoch=sa.bindparam("ms"))
