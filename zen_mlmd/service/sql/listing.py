"""Listing by pages: `ListOperationOptions`, ordered, a page in one query however much is listed."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import sqlalchemy as sa
from google.protobuf.message import DecodeError
from ml_metadata.proto import metadata_store_pb2 as mlmd

from zen_mlmd.service.base import INVALID_ARGUMENT, Refusal
from zen_mlmd.service.sql.filters.compiler import condition
from zen_mlmd.service.sql.nodes import nodes_of_rows, select_nodes
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
        _read_page(session, kind, options, source, into)
    except Refusal:
        if source is not None and not _has_any(session, kind, source):
            return None  # ml-metadata looks at the options when it has found something to list
        raise
    if len(into) > size:
        del into[-1]
        return _token(options, into)
    if not into and source is not None and not _has_any(session, kind, source):
        return None
    return ""


def _read_page(session: Session, kind: str, options: Any, source: Source | None, into: Any) -> None:
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
    by = ""
    if source is not None:
        by = source.by
        values["given"] = source.given
    statement = session.schema.made(_page, kind, by, column, way)
    if options.filter_query:
        statement = statement.where(condition(session.schema, kind, options.filter_query))
    nodes_of_rows(session, kind, session.rows(statement, values), into)


def _size(options: Any) -> int:
    if options.max_result_size <= 0:
        raise Refusal(
            INVALID_ARGUMENT,
            "max_result_size field value is required to be greater than 0 and less than or equal to 100. "
            f"Set value:{options.max_result_size}",
        )
    return min(int(options.max_result_size), PAGE)


def _page(schema: Schema, kind: str, by: str, column: str, way: str) -> sa.Select[Any]:
    """Select nodes in order: asc or desc, and "on" if it goes on behind the last one of the page before."""
    direction, _, goes_on = way.partition(" ")
    node = schema.table(kind)
    node_id: sa.ColumnElement[int] = node.c.id
    if by and by != "type":
        link = schema.table(by)
        node_id = link.c[id_column(kind)]  # equal, and an index of the link has them in order
        statement = select_nodes(schema, kind, link, id_column(kind))
        statement = statement.where(link.c.context_id == sa.bindparam("given"))
    else:
        statement = select_nodes(schema, kind)
        if by:
            statement = statement.where(node.c.type_id == sa.bindparam("given"))
    keys = [node_id] if column == "id" else [node.c[column], node_id]
    if goes_on:
        statement = statement.where(*_behind(keys, ascending=direction == "asc"))
    ordered = (key.asc() if direction == "asc" else key.desc() for key in keys)
    return statement.order_by(*ordered).limit(sa.bindparam("most"))


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
    return bool(session.rows(session.schema.made(_any, kind, source.by), {"given": source.given}))


def _any(schema: Schema, kind: str, by: str) -> sa.Select[Any]:
    of = schema.table(kind if by == "type" else by)
    column = of.c["type_id" if by == "type" else "context_id"]
    return sa.select(of.c.id).where(column == sa.bindparam("given")).limit(1)


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
