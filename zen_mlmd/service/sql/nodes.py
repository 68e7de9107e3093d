"""Artifacts, executions and contexts as messages, from the rows of their tables."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

import sqlalchemy as sa
from ml_metadata.proto import metadata_store_pb2 as mlmd

from zen_mlmd.service.sql.schema import COLUMNS, Schema, id_column
from zen_mlmd.service.sql.session import Session, among
from zen_mlmd.service.sql.values import VALUE_COLUMNS, decode

MESSAGES: Final[Mapping[str, Any]] = {
    "Artifact": mlmd.Artifact,
    "Execution": mlmd.Execution,
    "Context": mlmd.Context,
}


def read_nodes(session: Session, kind: str, ids: Iterable[int]) -> list[Any]:
    """Return those of some nodes that there are, each once, ordered by id, as ml-metadata gives them.

    Two statements for each `session.BATCH` of them; linear time.

    Args:
        session: The transaction.
        kind: Artifact, Execution or Context.
        ids: Of the nodes, in any order, repeats allowed.
    """
    rows = session.rows_of_ids(session.schema.made(_by_id, kind), sorted(set(ids)))
    return nodes_of_rows(session, kind, rows)


def nodes_of_rows(session: Session, kind: str, rows: Iterable[Any]) -> list[Any]:
    """Return the nodes that rows of `select_nodes` are, in their order; reads their properties."""
    make = MESSAGES[kind]
    fields = (*COLUMNS[kind], "type")
    nodes = {row[0]: _message(make, dict(zip(fields, row, strict=True))) for row in rows}
    if nodes:
        _read_properties(session, kind, nodes)
    return list(nodes.values())


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


def _by_id(schema: Schema, kind: str) -> sa.Select[Any]:
    node = schema.table(kind)
    return select_nodes(schema, kind).where(among(node.c.id)).order_by(node.c.id)


def _message(make: Any, fields: dict[str, Any]) -> Any:
    try:
        return make(**fields)
    except ValueError:  # a state of a later MLMD: ml-metadata, too, gives it as one that is not set
        state = "state" if "state" in fields else "last_known_state"
        return make(**{**fields, state: None})


def _read_properties(session: Session, kind: str, nodes: Mapping[int, Any]) -> None:
    for row in session.rows_of_ids(session.schema.made(_properties, kind), nodes):
        node_id, name, is_custom, *columns = row
        node = nodes[node_id]
        decode((node.custom_properties if is_custom else node.properties)[name], columns)


def _properties(schema: Schema, kind: str) -> sa.Select[Any]:
    table = f"{kind}Property"
    names = (id_column(kind), "name", "is_custom_property", *VALUE_COLUMNS)
    return sa.select(*schema.columns(table, names)).where(among(schema.table(table).c[id_column(kind)]))
