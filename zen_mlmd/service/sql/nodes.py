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
    wanted = sorted(set(ids))
    make = MESSAGES[kind]
    fields = (*COLUMNS[kind], "type")
    nodes: dict[int, Any] = {}
    for row in session.rows_of_ids(session.schema.made(_nodes, kind), wanted):
        nodes[row[0]] = _message(make, dict(zip(fields, row, strict=True)))
    if nodes:
        _read_properties(session, kind, nodes)
    return list(nodes.values())


def _message(make: Any, fields: dict[str, Any]) -> Any:
    try:
        return make(**fields)
    except ValueError:  # a state of a later MLMD: ml-metadata, too, gives it as one that is not set
        state = "state" if "state" in fields else "last_known_state"
        return make(**{**fields, state: None})


def _read_properties(session: Session, kind: str, nodes: Mapping[int, Any]) -> None:
    for row in session.rows_of_ids(session.schema.made(_properties, kind), nodes):
        node_id, name, is_custom, *columns = row
        node = nodes.get(node_id)
        if node is not None:
            decode((node.custom_properties if is_custom else node.properties)[name], columns)


def _nodes(schema: Schema, kind: str) -> sa.Select[Any]:
    node, types = schema.table(kind), schema.table("Type")
    return (
        sa.select(*schema.columns(kind), types.c.name.label("type"))
        .select_from(node.outerjoin(types, types.c.id == node.c.type_id))
        .where(among(node.c.id))
        .order_by(node.c.id)
    )


def _properties(schema: Schema, kind: str) -> sa.Select[Any]:
    table = f"{kind}Property"
    names = (id_column(kind), "name", "is_custom_property", *VALUE_COLUMNS)
    return sa.select(*schema.columns(table, names)).where(among(schema.table(table).c[id_column(kind)]))
