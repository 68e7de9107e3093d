"""The calls that read nodes: by id, type, name, URI, external id and context, or all of them."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

import sqlalchemy as sa
from google.protobuf import unknown_fields

from zen_mlmd.service.base import INVALID_ARGUMENT, NOT_FOUND, Refusal, response_class
from zen_mlmd.service.sql.listing import Source, list_nodes
from zen_mlmd.service.sql.nodes import linked_nodes, nodes_of_rows, read_nodes, select_nodes
from zen_mlmd.service.sql.schema import NODES, Schema, TypeKind, id_column
from zen_mlmd.service.sql.session import Session
from zen_mlmd.service.sql.types import type_message, types_of_ids

_LINKS: Final[Mapping[str, str]] = {"Artifact": "Attribution", "Execution": "Association"}
"""The table that says which contexts a node is in."""


def _by_id(kind: str, session: Session, request: Any) -> Any:
    response = response_class(f"Get{kind}sByID")()
    ids = getattr(request, f"{kind.lower()}_ids")
    nodes = read_nodes(session, kind, ids, getattr(response, f"{kind.lower()}s"))
    if kind == "Artifact" and request.populate_artifact_types:
        type_ids = dict.fromkeys(node.type_id for node in nodes)
        types = types_of_ids(session, kind, type_ids)
        response.artifact_types.extend(
            type_message(kind, types[each], base=False) for each in type_ids if each in types
        )
    return response


def _all(kind: str, session: Session, request: Any) -> Any:
    response = response_class(f"Get{kind}s")()
    into = getattr(response, f"{kind.lower()}s")
    if request.HasField("options"):
        token = list_nodes(session, kind, request.options, into)
        if token:
            response.next_page_token = token
    else:
        _rows(session, kind, session.schema.made(_select_all, kind), {}, into)
    return response


def _by_type(kind: str, session: Session, request: Any) -> Any:
    response = response_class(f"Get{kind}sByType")()
    type_id = _type_id(session, kind, request)
    if type_id is None:
        return response
    into = getattr(response, f"{kind.lower()}s")
    if request.HasField("options"):
        token = list_nodes(session, kind, request.options, into, Source("type", type_id))
        if token is not None:
            response.next_page_token = token
    else:
        _rows(session, kind, session.schema.made(_select_of_type, kind), {"given": type_id}, into)
    return response


def _by_type_and_name(kind: str, session: Session, request: Any) -> Any:
    response = response_class(f"Get{kind}ByTypeAndName")()
    versioned = "versioned" if request.type_version else ""
    values = {
        "type": request.type_name,
        "version": request.type_version,
        "name": getattr(request, f"{kind.lower()}_name"),
    }
    statement = session.schema.made(_select_named, kind, versioned)
    if not versioned:
        del values["version"]
    nodes = list(_rows(session, kind, statement, values))
    # A database may take other names for this one, as ml-metadata does there.
    exact = [each for each in nodes if each.name == values["name"] and each.type == values["type"]]
    for node in (exact or nodes)[:1]:
        getattr(response, kind.lower()).CopyFrom(node)
    return response


def _by_external_ids(kind: str, session: Session, request: Any) -> Any:
    response = response_class(f"Get{kind}sByExternalIds")()
    wanted = list(dict.fromkeys(request.external_ids))
    if not wanted:
        return response
    if not all(wanted):
        raise Refusal(INVALID_ARGUMENT, "Invalid argument because at least one empty external_id exists.")
    nodes = _of_texts(session, kind, "external_id", wanted)
    if not nodes:
        raise Refusal(NOT_FOUND, f"No {kind.lower()}s found for external_ids.")
    getattr(response, f"{kind.lower()}s").extend(nodes)
    return response


def _by_uri(session: Session, request: Any) -> Any:
    unknown: Any = unknown_fields.UnknownFieldSet(request)
    for field in unknown:
        if field.field_number == 1:
            raise Refusal(
                INVALID_ARGUMENT,
                "The request contains deprecated field `uri`. Please upgrade the client library version "
                f"above 0.21.0. GetArtifactsByURIRequest: {request}",
            )
    wanted = {uri: place for place, uri in enumerate(request.uris)}
    nodes = _of_texts(session, "Artifact", "uri", wanted)
    nodes.sort(key=lambda node: wanted[node.uri])
    response = response_class("GetArtifactsByURI")()
    response.artifacts.extend(nodes)
    return response


def _by_context(kind: str, session: Session, request: Any) -> Any:
    response = response_class(f"Get{kind}sByContext")()
    into = getattr(response, f"{kind.lower()}s")
    if request.HasField("options"):
        token = list_nodes(session, kind, request.options, into, Source(_LINKS[kind], request.context_id))
        if token:
            response.next_page_token = token
    else:
        statement = session.schema.made(linked_nodes, kind, _LINKS[kind], id_column(kind), "context_id")
        _rows(session, kind, statement, {"given": request.context_id}, into)
    return response


def _contexts_of(kind: str, session: Session, request: Any) -> Any:
    response = response_class(f"GetContextsBy{kind}")()
    column = id_column(kind)
    node_id = getattr(request, column)
    statement = session.schema.made(linked_nodes, "Context", _LINKS[kind], "context_id", column)
    if not _rows(session, "Context", statement, {"given": node_id}, response.contexts):
        raise Refusal(NOT_FOUND, f"No contexts found for {column}: {node_id}")
    return response


def _rows(
    session: Session, kind: str, statement: sa.Select[Any], values: Mapping[str, Any], into: Any = None
) -> list[Any]:
    return nodes_of_rows(session, kind, session.rows(statement, values), into)


def _of_texts(session: Session, kind: str, column: str, texts: Iterable[str]) -> list[Any]:
    """Return the nodes that have one of some texts, ordered by id; not those of one that is only alike.

    MySQL takes texts for equal that differ by case, and ml-metadata gives what it finds so.
    """
    if not session.schema.has(kind, column):
        return []
    wanted = list(texts)
    nodes: dict[int, Any] = {}
    statement = session.schema.made(_select_of_texts, kind, column)
    for start in range(0, len(wanted), _TEXTS):
        for node in _rows(session, kind, statement, {"texts": wanted[start : start + _TEXTS]}):
            nodes[node.id] = node
    exact = set(wanted)
    return [nodes[each] for each in sorted(nodes) if getattr(nodes[each], column) in exact]


_TEXTS: Final = 1000
"""Bound in one statement."""


def _type_id(session: Session, kind: str, request: Any) -> int | None:
    rows = session.rows(
        session.schema.made(_select_types), {"kind": TypeKind[kind.upper()].value, "name": request.type_name}
    )
    wanted = (request.type_name, request.type_version or None)
    return next((row.id for row in rows if (row.name, row.version) == wanted), None)


def _select_types(schema: Schema) -> sa.Select[Any]:
    types = schema.table("Type")
    return (
        sa.select(*schema.columns("Type", ("id", "name", "version")))
        .where(types.c.name == sa.bindparam("name"), types.c.type_kind == sa.bindparam("kind"))
        .order_by(types.c.id)
    )


def _select_all(schema: Schema, kind: str) -> sa.Select[Any]:
    return select_nodes(schema, kind).order_by(schema.table(kind).c.id)


def _select_of_type(schema: Schema, kind: str) -> sa.Select[Any]:
    node = schema.table(kind)
    return select_nodes(schema, kind).where(node.c.type_id == sa.bindparam("given")).order_by(node.c.id)


def _select_named(schema: Schema, kind: str, versioned: str) -> sa.Select[Any]:
    node, types = schema.table(kind), schema.table("Type")
    version = types.c.version == sa.bindparam("version") if versioned else types.c.version.is_(None)
    return (
        select_nodes(schema, kind)
        .where(types.c.name == sa.bindparam("type"), types.c.type_kind == TypeKind[kind.upper()].value)
        .where(version, node.c.name == sa.bindparam("name"))
        .order_by(node.c.id)
    )


def _select_of_texts(schema: Schema, kind: str, column: str) -> sa.Select[Any]:
    node = schema.table(kind)
    return select_nodes(schema, kind).where(node.c[column].in_(sa.bindparam("texts", expanding=True)))


_WITH_CONTEXTS: Final[Sequence[str]] = ("Artifact", "Execution")

CALLS: Final[Mapping[str, Callable[[Session, Any], Any]]] = {
    **{f"Get{kind}sByID": functools.partial(_by_id, kind) for kind in NODES},
    **{f"Get{kind}s": functools.partial(_all, kind) for kind in NODES},
    **{f"Get{kind}sByType": functools.partial(_by_type, kind) for kind in NODES},
    **{f"Get{kind}ByTypeAndName": functools.partial(_by_type_and_name, kind) for kind in NODES},
    **{f"Get{kind}sByExternalIds": functools.partial(_by_external_ids, kind) for kind in NODES},
    "GetArtifactsByURI": _by_uri,
    **{f"Get{kind}sByContext": functools.partial(_by_context, kind) for kind in _WITH_CONTEXTS},
    **{f"GetContextsBy{kind}": functools.partial(_contexts_of, kind) for kind in _WITH_CONTEXTS},
}
