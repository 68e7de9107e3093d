"""Artifacts, executions and contexts as messages, from the rows of their tables."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping
from typing import Any, Final

import sqlalchemy as sa
from ml_metadata.proto import metadata_store_pb2 as mlmd

from zen_mlmd.service.check import CODED
from zen_mlmd.service.sql.salvage import WRONG, in_order, salvaged
from zen_mlmd.service.sql.schema import COLUMNS, Schema, id_column
from zen_mlmd.service.sql.session import Session, of_ids, sql_of_ids
from zen_mlmd.service.sql.values import VALUE_COLUMNS, decode

MESSAGES: Final[Mapping[str, Any]] = {
    "Artifact": mlmd.Artifact,
    "Execution": mlmd.Execution,
    "Context": mlmd.Context,
}

_STATES: Final = max(*mlmd.Artifact.State.values(), *mlmd.Execution.State.values()) + 1


def read_nodes(session: Session, kind: str, ids: Iterable[int], into: Any = None) -> list[Any]:
    """Return those of some nodes that there are, each once, ordered by id, as ml-metadata gives them.

    Two statements for each `session.BATCH` of them, sent together; linear time.

    Args:
        session: The transaction.
        kind: Artifact, Execution or Context.
        ids: Of the nodes, in any order, repeats allowed.
        into: The field of a response that they are added to: cheaper than to copy them there.
    """
    nodes = _Nodes(session, kind, into)
    statements = (session.schema.made(each, kind) for each in (_by_id, _properties))
    session.ask_of_ids(zip(statements, (nodes.take, nodes.take_properties), strict=True), in_order(ids))
    return list(nodes.by_id.values())


def nodes_of_rows(session: Session, kind: str, rows: Iterable[Any], into: Any = None) -> list[Any]:
    """Return the nodes that rows of `select_nodes` are, in their order; reads their properties."""
    nodes = _Nodes(session, kind, into)
    nodes.take(rows)
    session.ask_of_ids([(session.schema.made(_properties, kind), nodes.take_properties)], list(nodes.by_id))
    return list(nodes.by_id.values())


class _Nodes:
    """Nodes while they are read."""

    def __init__(self, session: Session, kind: str, into: Any) -> None:
        self.by_id: dict[int, Any] = {}
        self._make = MESSAGES[kind] if into is None else into.add
        self._into = into
        self._before = 0 if into is None else len(into)
        self._fields = (*COLUMNS[kind], "type")
        self._has_bytes = session.dialect == "postgresql"

    def take(self, rows: Iterable[Any]) -> None:
        """Make a node of each row."""
        make, fields, by_id = self._make, self._fields, self.by_id
        for row in rows:
            values = dict(zip(fields, row, strict=True))
            try:
                state = values.get("state") or values.get("last_known_state") or 0
                if not 0 <= state < _STATES:  # of a later MLMD: ml-metadata, too, gives it as one not set
                    values.update(dict.fromkeys(("state", "last_known_state") & values.keys()))
                by_id[row[0]] = make(**values)
            except WRONG:
                by_id[row[0]] = salvaged(make, self._into, self._before + len(by_id), values)

    def take_properties(self, rows: Iterable[Any]) -> None:
        """Give the nodes their properties: most of the time of each call, so it is spelled out."""
        by_id = self.by_id
        last_id = node = None
        for node_id, name, is_custom, number, double, text, proto, flag in rows:
            if node_id != last_id:
                last_id, node = node_id, by_id.get(node_id)
            if node is None:
                continue
            try:
                value = (node.custom_properties if is_custom else node.properties)[name]
                if number is not None:
                    value.int_value = number
                elif text is not None and double is None and not text.startswith(CODED):
                    value.string_value = text
                elif proto is not None and self._has_bytes:
                    decode(value, (number, double, text, base64.b64encode(proto), flag))
                else:
                    decode(value, (number, double, text, proto, flag))
            except WRONG:
                continue  # a value that its column cannot hold; the property is there, and has none


def select_nodes(
    schema: Schema, kind: str, link: sa.FromClause | None = None, via: str = ""
) -> sa.Select[Any]:
    """Return a SELECT of nodes and their types' names, without a condition.

    Args:
        schema: The tables.
        kind: Artifact, Execution or Context.
        link: Only those that this table names.
        via: Its column that names them.
    """
    node, types = schema.table(kind), schema.table("Type")
    source: sa.FromClause = node if link is None else link.join(node, node.c.id == link.c[via])
    return sa.select(*schema.columns(kind), types.c.name.label("type")).select_from(
        source.outerjoin(types, types.c.id == node.c.type_id)
    )


def linked_nodes(schema: Schema, kind: str, table: str, via: str, given: str) -> sa.Select[Any]:
    """Return a SELECT of the nodes that a table links with another node, ordered by id.

    Args:
        schema: The tables.
        kind: Of the nodes that are looked for.
        table: Attribution, Association or ParentContext.
        via: Its column that names them.
        given: Its column that names the other one, whose id is the parameter `given`.
    """
    link = schema.table(table)
    wanted = link.c[given] == sa.bindparam("given")
    return select_nodes(schema, kind, link, via).where(wanted).order_by(link.c[via])


def _by_id(schema: Schema, kind: str) -> str:
    node = schema.table(kind)
    return sql_of_ids(schema, select_nodes(schema, kind).where(of_ids(node.c.id)).order_by(node.c.id))


def _properties(schema: Schema, kind: str) -> str:
    table = f"{kind}Property"
    names = (id_column(kind), "name", "is_custom_property", *VALUE_COLUMNS)
    wanted = of_ids(schema.table(table).c[id_column(kind)])
    return sql_of_ids(schema, sa.select(*schema.columns(table, names)).where(wanted))
