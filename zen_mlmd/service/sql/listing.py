"""Listing by pages: `ListOperationOptions`, ordered, a page in one query however much is listed."""

from __future__ import annotations

import base64
import binascii
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import sqlalchemy as sa
from google.protobuf.message import DecodeError
from ml_metadata.proto import metadata_store_pb2 as mlmd

from zen_mlmd.service.base import INVALID_ARGUMENT, Refusal
from zen_mlmd.service.sql.filters.compiler import condition
from zen_mlmd.service.sql.nodes import read_nodes
from zen_mlmd.service.sql.schema import Schema, id_column
from zen_mlmd.service.sql.session import Session

PAGE: Final = 100
"""The most nodes in one page."""

_Order = mlmd.ListOperationOptions.OrderByField
_COLUMNS: Final = {
    _Order.CREATE_TIME: "create_time_since_epoch",
    _Order.LAST_UPDATE_TIME: "last_update_time_since_epoch",
    _Order.ID: "id",
}

_LINKS: Final = ("Attribution", "Association")
_WALK: Final = " walk"


@dataclass(frozen=True, slots=True)
class Source:
    """Which nodes are listed.

    Attributes:
        by: "type", or the table that links them with a context.
        given: The type's id, or the context's.
    """

    by: str
    given: int


def list_nodes(
    session: Session, kind: str, options: Any, into: Any, source: Source | None = None
) -> str | None:
    """Add one page of nodes to a response.

    Args:
        session: The transaction.
        kind: Artifact, Execution or Context.
        options: `ListOperationOptions`.
        into: The field of the response.
        source: Which nodes; None for all.

    Returns:
        The token of the next page: empty after the last one, None if `source` has no node at all, of which
        ml-metadata says the one or the other.

    Raises:
        Refusal: The options are none, or the token is of other ones.
    """
    try:
        size = _size(options)
        ids = _ids_of_page(session, kind, options, source)
    except Refusal:
        if source is not None and not _has_any(session, kind, source):
            return None  # ml-metadata looks at the options when it has found something to list
        raise
    if not ids and source is not None and not _has_any(session, kind, source):
        return None
    page = ids[:size]
    if page == sorted(page):
        read_nodes(session, kind, page, into)
    else:
        nodes = {node.id: node for node in read_nodes(session, kind, page)}
        into.extend(nodes[each] for each in page if each in nodes)
    return _token(options, into) if len(ids) > size else ""


def _ids_of_page(session: Session, kind: str, options: Any, source: Source | None) -> list[int]:
    """Return the ids of a page and of one node more, if there is one.

    Ids alone are sorted, and looked for in indexes, in a fifth of the time of whole rows.
    """
    values: dict[str, Any] = {"most": _size(options) + 1}
    order = options.order_by_field
    if order.field not in _COLUMNS:
        name = _Order.Field.Name(order.field)
        raise Refusal(INVALID_ARGUMENT, f"Unsupported field: {name} specified in ListOperationOptions")
    column = _COLUMNS[order.field]
    way = "asc" if order.is_asc else "desc"
    if options.next_page_token:
        way += " on"
        values["last_id"], offset = _position(options)
        if column != "id":
            values["offset"] = offset
    by = how = ""
    if source is not None:
        by = source.by
        values["given"] = source.given
        how = _WALK if _is_large(session, kind, source, column) else ""
    statement = session.schema.made(_page, kind, by + how, column, way)
    if options.filter_query:
        statement = statement.where(condition(session.schema, kind, options.filter_query))
    return [row[0] for row in session.rows(statement, values)]


def _size(options: Any) -> int:
    if options.max_result_size <= 0:
        raise Refusal(
            INVALID_ARGUMENT,
            "max_result_size field value is required to be greater than 0 and less than or equal to 100. "
            f"Set value:{options.max_result_size}",
        )
    return min(int(options.max_result_size), PAGE)


def _page(schema: Schema, kind: str, by: str, column: str, way: str) -> sa.Select[Any]:
    """Select ids in order: asc or desc, and "on" if it goes on behind the last one of the page before."""
    direction, _, goes_on = way.partition(" ")
    node = schema.table(kind)
    node_id: sa.ColumnElement[int] = node.c.id
    source: sa.FromClause = node
    of_source = _of_source(schema, kind, by)
    if by in _LINKS:
        link = schema.table(by)
        source = link.join(node, node.c.id == link.c[id_column(kind)])
        if column == "id":
            node_id = link.c[id_column(kind)]  # equal, and an index of the link has them in order
    keys = [node_id] if column == "id" else [node.c[column], node_id]
    statement = sa.select(node.c.id).select_from(source).where(*of_source)
    if goes_on:
        statement = statement.where(*_behind(keys, ascending=direction == "asc"))
    ordered = (key.asc() if direction == "asc" else key.desc() for key in keys)
    return statement.order_by(*ordered).limit(sa.bindparam("most"))


def _of_source(schema: Schema, kind: str, by: str) -> list[sa.ColumnElement[bool]]:
    """Return the condition that a node is of a source; `walk` keeps SQLite from looking for all of these."""
    given: sa.BindParameter[int] = sa.bindparam("given", type_=sa.BigInteger())
    node = schema.table(kind)
    table = by.removesuffix(_WALK)
    if not table:
        return []
    if table == "type":
        return [node.c.type_id + 0 == given if by.endswith(_WALK) else node.c.type_id == given]
    link = schema.table(table)
    if not by.endswith(_WALK):
        return [link.c.context_id == given]
    has = sa.select(link.c.id).where(link.c.context_id == given, link.c[id_column(kind)] == node.c.id)
    return [has.exists()]


def _is_large(session: Session, kind: str, source: Source, column: str) -> bool:
    """Tell whether SQLite does better to walk through all nodes in order than to sort those of a source.

    It has no statistics by which it could tell. A walk meets a hundred of m among n nodes after 100 n / m;
    others sort out by themselves what is cheaper, and the nodes of a context lie in the order of their ids.
    """
    if session.dialect != "sqlite" or (column == "id" and source.by != "type"):
        return False
    last = session.rows(session.schema.made(_last_id, kind))[0][0] or 0
    enough = math.isqrt(PAGE * last)
    values = {"given": source.given, "enough": enough}
    found: int = session.rows(session.schema.made(_count, kind, source.by), values)[0][0]
    return found >= enough > 0


def _last_id(schema: Schema, kind: str) -> sa.Select[Any]:
    return sa.select(sa.func.max(schema.table(kind).c.id))


def _count(schema: Schema, kind: str, by: str) -> sa.Select[Any]:
    some = _any(schema, kind, by).limit(sa.bindparam("enough")).subquery()
    return sa.select(sa.func.count()).select_from(some)


def _behind(keys: list[sa.ColumnElement[Any]], *, ascending: bool) -> list[sa.ColumnElement[bool]]:
    """Return the conditions of what comes behind `offset` and `last_id`.

    The first one alone is a range, for which databases use an index: they do not for a comparison of pairs.
    """
    last_id = sa.bindparam("last_id", type_=sa.BigInteger())
    behind = keys[-1] > last_id if ascending else keys[-1] < last_id
    if len(keys) == 1:
        return [behind]
    offset = sa.bindparam("offset", type_=sa.BigInteger())
    if ascending:
        return [keys[0] >= offset, sa.or_(keys[0] > offset, behind)]
    return [keys[0] <= offset, sa.or_(keys[0] < offset, behind)]


def _has_any(session: Session, kind: str, source: Source) -> bool:
    values = {"given": source.given, "enough": 1}
    found: int = session.rows(session.schema.made(_count, kind, source.by), values)[0][0]
    return found > 0


def _any(schema: Schema, kind: str, by: str) -> sa.Select[Any]:
    of = schema.table(kind if by == "type" else by)
    column = of.c["type_id" if by == "type" else "context_id"]
    return sa.select(of.c.id).where(column == sa.bindparam("given"))


def _token(options: Any, nodes: Sequence[Any]) -> str:
    """Return ml-metadata's token of the page behind some nodes."""
    last = nodes[-1]
    token = mlmd.ListOperationNextPageToken(set_options=options)
    token.set_options.ClearField("next_page_token")
    field = options.order_by_field.field
    if field == _Order.LAST_UPDATE_TIME:
        token.field_offset = last.last_update_time_since_epoch
        for node in reversed(nodes):
            if node.last_update_time_since_epoch != last.last_update_time_since_epoch:
                break
            token.listed_ids.append(node.id)
    else:
        token.id_offset = last.id
        token.field_offset = last.id if field == _Order.ID else last.create_time_since_epoch
    return base64.urlsafe_b64encode(token.SerializeToString()).rstrip(b"=").decode("ascii")


def _position(options: Any) -> tuple[int, int]:
    """Return the last node's id and the last value of what is ordered by, from a token of these options."""
    token = mlmd.ListOperationNextPageToken()
    text = options.next_page_token
    try:
        data = base64.b64decode(f"{text}{'=' * (-len(text) % 4)}", altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        raise Refusal(INVALID_ARGUMENT, "Failed to decode next page token string") from None
    try:
        token.ParseFromString(data)
    except DecodeError:
        raise Refusal(
            INVALID_ARGUMENT,
            "Failed to parse decoded next page token into ListOperationNextPageToken proto message ",
        ) from None
    before, now = token.set_options.order_by_field, options.order_by_field
    if (before.field, before.is_asc) != (now.field, now.is_asc):
        raise Refusal(
            INVALID_ARGUMENT,
            f"ListOperationOptions mismatch between calls Initial Options: {token.set_options} "
            f"Current Options: {options}",
        )
    if now.field != _Order.LAST_UPDATE_TIME:
        return token.id_offset, token.field_offset
    if not token.listed_ids:
        raise Refusal(
            INVALID_ARGUMENT,
            "Invalid NextPageToken in List Operation. listed_ids field should not be empty.",
        )
    # The first is the last one that was listed, and those of one time are listed by id: which others were
    # listed before need not be said, and ml-metadata's token tells only those of one page.
    return token.listed_ids[0], token.field_offset
