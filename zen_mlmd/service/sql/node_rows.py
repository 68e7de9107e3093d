"""The rows of nodes and of their properties: locked and read, inserted, updated, many at once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import sqlalchemy as sa

from zen_mlmd.service.sql import dml
from zen_mlmd.service.sql.outbox import OnDuplicate, Question
from zen_mlmd.service.sql.schema import Schema, id_column
from zen_mlmd.service.sql.session import BATCH, Session
from zen_mlmd.service.sql.values import VALUE_COLUMNS, Encoded, as_bytes, as_encoded

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

_UPDATED: Final = "last_update_time_since_epoch"
_TIMES: Final = ("create_time_since_epoch", _UPDATED)

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


def locking(session: Session, kind: str, ids: Iterable[int], into: dict[int, Node]) -> list[Question]:
    """Return what to ask for nodes without their properties, so that nobody else changes them meanwhile.

    Args:
        session: The transaction.
        kind: Artifact, Execution or Context.
        ids: Of the nodes; some may not be there.
        into: Gets them.
    """
    own = OWN[kind]

    def take(rows: Sequence[Any]) -> None:
        for number, type_id, updated_ms, *columns in rows:
            node = Node(type_id, dict(zip(own, columns, strict=True)), number=number, updated_ms=updated_ms)
            into[number] = node

    return _of_ids(session, kind, ("id", "type_id", _UPDATED, *own), ids, lock="write", take=take)


def reading_properties(
    session: Session, kind: str, ids: Iterable[int], into: Mapping[int, Node], *, is_late: bool = False
) -> list[Question]:
    """Return what to ask, behind `locking`, for the properties of nodes.

    Args:
        session: The transaction.
        kind: Artifact, Execution or Context.
        ids: As for `locking`.
        into: The nodes that are there.
        is_late: Something was read before they were locked: MySQL would show what was there then.
    """

    def take(rows: Sequence[Any]) -> None:
        for number, name, is_custom, *columns in rows:
            node = into.get(number)
            if node is not None:
                value = as_encoded(session.dialect, columns)
                node.stored[name, bool(is_custom)] = node.properties[name, bool(is_custom)] = value

    wanted = (id_column(kind), "name", "is_custom_property", *VALUE_COLUMNS)
    lock = "read" if is_late else ""
    return _of_ids(session, f"{kind}Property", wanted, ids, lock=lock, take=take)


def _of_ids(
    session: Session,
    table: str,
    columns: tuple[str, ...],
    ids: Iterable[int],
    *,
    lock: str,
    take: Callable[[Sequence[Any]], None],
) -> list[Question]:
    """Ask for the rows of which the first column is one of some ids."""
    wanted = sorted(set(ids))
    batches = (wanted[start : start + BATCH] for start in range(0, len(wanted), BATCH))
    return [
        Question(dml.select(session.dialect, table, columns, ((columns[0], len(batch)),), lock), batch, take)
        for batch in batches
    ]


def ids_of_external_ids(session: Session, kind: str, external_ids: Iterable[str]) -> dict[str, int]:
    """Return the ids of those nodes that there are."""
    wanted = set(external_ids)
    statement = session.schema.made(_of_external_ids, kind)
    rows = session.rows(statement, {"external_ids": list(wanted)})
    return {external_id: number for external_id, number in rows if external_id in wanted}


def insert_nodes(
    session: Session, kind: str, nodes: Sequence[Node], on_duplicate: OnDuplicate
) -> Callable[[], None]:
    """Write new nodes.

    Args:
        session: The transaction.
        kind: Artifact, Execution or Context.
        nodes: Any number.
        on_duplicate: As for `Session.insert`: something of them is another node's.

    Returns:
        What gives them their ids and writes their properties.
    """
    now, own = session.now_ms, OWN[kind]
    rows = [(node.type_id, *(node.columns[name] for name in own), now, now) for node in nodes]
    ids = session.insert_for_ids(kind, ("type_id", *own, *_TIMES), rows, on_duplicate=on_duplicate)

    def finish() -> None:
        if len(ids) < len(nodes):
            session.send()
        for node, number in zip(nodes, ids, strict=True):
            node.number, node.updated_ms = number, now
        _insert_properties(session, kind, nodes, on_duplicate)

    return finish


def update_nodes(session: Session, kind: str, nodes: Sequence[Node], on_duplicate: OnDuplicate) -> None:
    """Write what is touched of nodes that are locked; see `insert_nodes`."""
    gone = [
        (node.id, *key)
        for node in nodes
        for key, value in node.stored.items()
        if node.properties.get(key) is not value
    ]
    session.delete(f"{kind}Property", (id_column(kind), "name", "is_custom_property"), gone)
    _insert_properties(session, kind, nodes, on_duplicate)
    times: dict[int, list[int]] = {}
    for node in nodes:
        if node.is_changed:
            values = {name: node.columns[name] for name in SETTABLE[kind]}
            session.update(kind, {**values, _UPDATED: node.updated_ms}, [node.id], on_duplicate=on_duplicate)
        else:
            times.setdefault(node.updated_ms, []).append(node.id)
        node.is_touched = node.is_changed = False
    for ms, ids in times.items():
        session.update(kind, {_UPDATED: ms}, ids)


def _insert_properties(session: Session, kind: str, nodes: Iterable[Node], on_duplicate: OnDuplicate) -> None:
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
    session.insert(f"{kind}Property", columns, rows, on_duplicate=on_duplicate)


def _of_external_ids(schema: Schema, kind: str) -> sa.Select[Any]:
    node = schema.table(kind).c
    wanted: sa.BindParameter[Any] = sa.bindparam("external_ids", expanding=True)
    return sa.select(node.external_id, node.id).where(node.external_id.in_(wanted))
