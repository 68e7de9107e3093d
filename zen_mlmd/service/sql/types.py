"""Types: read by id, name, version and external id, and what ml-metadata tells of each by which RPC."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import sqlalchemy as sa
from google.protobuf import json_format
from ml_metadata.proto import metadata_store_pb2 as mlmd
from ml_metadata.proto import metadata_store_service_pb2 as rpc

from zen_mlmd.service.base import INTERNAL, INVALID_ARGUMENT, NOT_FOUND, Refusal
from zen_mlmd.service.sql.schema import Schema, TypeKind
from zen_mlmd.service.sql.session import BATCH, Session
from zen_mlmd.service.sql.values import KINDS

MESSAGES: Final[Mapping[str, Any]] = {
    "Artifact": mlmd.ArtifactType,
    "Execution": mlmd.ExecutionType,
    "Context": mlmd.ContextType,
}

SYSTEM_TYPES: Final = (
    *("mlmd.Dataset", "mlmd.Model", "mlmd.Metrics", "mlmd.Statistics"),
    *("mlmd.Train", "mlmd.Transform", "mlmd.Process", "mlmd.Evaluate", "mlmd.Deploy"),
)
"""Types that each store has, that others have as their `base_type`, and that listings leave out."""


@dataclass(frozen=True, slots=True)
class StoredType:
    """A type as the tables have it.

    Attributes:
        properties: `PropertyType` by name.
        base: The name of its base type.
        input_type: Of an execution type: an `ArtifactStructType` as JSON, as `output_type`.
    """

    id: int
    name: str
    version: str | None
    description: str | None
    external_id: str | None
    input_type: str | None
    output_type: str | None
    base: str | None
    properties: dict[str, int]

    def field(self, name: str) -> str | None:
        """Return the field of a `Value` that property `name` fills; None if the type has no such property.

        Raises:
            Refusal: The type has it, with a kind of value that MLMD does not know.
        """
        kind = self.properties.get(name)
        if kind is None:
            return None
        found = KINDS.get(kind)
        if found is None:
            raise Refusal(INTERNAL, f"Unknown registered property type: {self.name}")
        return found


def base_types(node: str) -> Mapping[str, int]:
    """Return the numbers of a type's `base_type`, by the name of the system's type that each means."""
    return _base_types(MESSAGES[node])


@functools.cache
def _base_types(message: Any) -> Mapping[str, int]:
    values = message.DESCRIPTOR.fields_by_name["base_type"].enum_type.values
    extension = mlmd.system_type_extension
    return {value.GetOptions().Extensions[extension].type_name: value.number for value in values}


def type_message(
    node: str, stored: StoredType, *, external_id: bool = True, structs: bool = True, base: bool = True
) -> Any:
    """Return a type as MLMD's message, with or without what an RPC leaves out.

    Raises:
        Refusal: A column holds what ml-metadata did not write.
    """
    message = MESSAGES[node](id=stored.id, name=stored.name)
    for name in ("version", "description", *(("external_id",) if external_id else ())):
        value = getattr(stored, name)
        if value is not None:
            setattr(message, name, value)
    message.properties.update(stored.properties)
    if structs and node == "Execution":
        _read_struct(stored.input_type, message.input_type)
        _read_struct(stored.output_type, message.output_type)
    if base and node != "Context" and stored.base is not None:
        number = base_types(node).get(stored.base)
        if number is None:
            raise Refusal(INVALID_ARGUMENT, f"invalid system type name: {stored.base}")
        message.base_type = number
    return message


def _read_struct(text: str | None, struct: Any) -> None:
    if not text:
        return
    struct.SetInParent()
    try:
        json_format.Parse(text, struct)
    except json_format.ParseError:
        raise Refusal(INTERNAL, f"Failed to parse proto: {text}") from None


def _select(schema: Schema, condition: sa.ColumnElement[bool]) -> sa.Select[Any]:
    """Select types with a row for each of their properties."""
    kind, has = schema.table("Type"), schema.table("TypeProperty")
    source: sa.FromClause = kind.outerjoin(has, has.c.type_id == kind.c.id)
    columns = schema.columns("Type", ("id", "name", "version", "description", "external_id"))
    columns += schema.columns("Type", ("input_type", "output_type"))
    if schema.has("ParentType"):
        link, base = schema.table("ParentType"), kind.alias("base")
        source = source.outerjoin(link, link.c.type_id == kind.c.id)
        source = source.outerjoin(base, base.c.id == link.c.parent_type_id)
        columns.append(base.c.name)
    else:
        columns.append(sa.null().label("base"))
    columns += [has.c.name, has.c.data_type]
    of_kind = kind.c.type_kind == sa.bindparam("kind")
    return sa.select(*columns).select_from(source).where(of_kind, condition).order_by(kind.c.id)


def _by(schema: Schema, column: str, lock: str) -> sa.Select[Any]:
    """Select the types whose `column` is one of `values`: all of them if there is no such column."""
    if not column:
        return _select(schema, sa.true())
    if not schema.has("Type", column):
        return _select(schema, sa.false())
    values: sa.BindParameter[Any] = sa.bindparam("values", expanding=True)
    statement = _select(schema, schema.table("Type").c[column].in_(values))
    return statement.with_for_update() if lock else statement


def read_types(
    session: Session, node: str, column: str = "", values: Iterable[Any] = (), *, lock: bool = False
) -> list[StoredType]:
    """Read types, ordered by id.

    Args:
        session: The transaction.
        node: Artifact, Execution or Context.
        column: Of `Type`: id, name or external_id; none for all types of nodes of this kind.
        values: What it is to be; names that only the database takes for equal do not count.
        lock: Keep others from changing them, or from making such ones, before this transaction has ended.
    """
    statement = session.schema.made(_by, column, "lock" if lock and session.dialect == "mysql" else "")
    wanted = list(dict.fromkeys(values))
    found: dict[int, StoredType] = {}
    for row in _rows(session, statement, {"kind": int(TypeKind[node.upper()])}, wanted if column else None):
        stored = found.get(row[0])
        if stored is None:
            fields: list[Any] = [*row[:8], {}]
            stored = found[row[0]] = StoredType(*fields)
        if row[8] is not None:
            stored.properties[row[8]] = row[9]
    exact = set(wanted)
    return [each for each in found.values() if not column or getattr(each, column) in exact]


def _rows(
    session: Session, statement: sa.Select[Any], parameters: dict[str, Any], values: list[Any] | None
) -> Iterator[Any]:
    if values is None:
        yield from session.rows(statement, parameters)
        return
    for start in range(0, len(values), BATCH):
        yield from session.rows(statement, {**parameters, "values": values[start : start + BATCH]})


def types_of_ids(
    session: Session, node: str, ids: Iterable[int], *, anew: bool = False
) -> dict[int, StoredType]:
    """Return those types that there are; the database is asked for what is not known yet, or for all."""
    known: dict[int, StoredType] = {}
    unknown = []
    for each in dict.fromkeys(ids):
        stored = None if anew else session.type_known(node, each)
        if stored is None:
            unknown.append(each)
        else:
            known[each] = stored
    for stored in read_types(session, node, "id", unknown) if unknown else ():
        session.learn_type(node, stored.id, stored)
        known[stored.id] = stored
    return known


def _get_type(node: str, session: Session, request: Any) -> Any:
    version = request.type_version or None
    for stored in read_types(session, node, "name", [request.type_name]):
        if stored.version == version:
            answer = getattr(rpc, f"Get{node}TypeResponse")()
            # On MySQL ml-metadata does not ask for the external id here.
            message = type_message(node, stored, external_id=session.dialect != "mysql")
            getattr(answer, f"{node.lower()}_type").CopyFrom(message)
            return answer
    raise Refusal(NOT_FOUND, not_found(request.type_name, version))


def not_found(name: str, version: str | None) -> str:
    """Return ml-metadata's words for a type that is not there."""
    return f"No type found for query, name: `{name}`, version: `{version or 'nullopt'}`"


def _get_types(node: str, session: Session, request: Any) -> Any:
    del request  # asks for nothing
    hidden = () if node == "Context" else SYSTEM_TYPES
    return _answer(
        f"Get{node}TypesResponse",
        node,
        (
            type_message(node, stored, external_id=False)
            for stored in read_types(session, node)
            if stored.name not in hidden
        ),
    )


def _get_types_by_id(node: str, session: Session, request: Any) -> Any:
    found = {stored.id: stored for stored in read_types(session, node, "id", request.type_ids)}
    return _answer(
        f"Get{node}TypesByIDResponse",
        node,
        (type_message(node, found[each]) for each in request.type_ids if each in found),
    )


def _get_types_by_external_ids(node: str, session: Session, request: Any) -> Any:
    found: list[StoredType] = []
    if request.external_ids:
        if not all(request.external_ids):
            raise Refusal(INVALID_ARGUMENT, "Invalid argument because at least one empty external_id exists.")
        found = read_types(session, node, "external_id", request.external_ids)
        found.sort(key=lambda stored: stored.external_id or "")
        if not found:
            raise Refusal(NOT_FOUND, "No types found for external_ids.")
    return _answer(
        f"Get{node}TypesByExternalIdsResponse",
        node,
        (type_message(node, stored, structs=False, base=False) for stored in found),
    )


def _answer(response: str, node: str, types: Iterable[Any]) -> Any:
    answer = getattr(rpc, response)()
    getattr(answer, f"{node.lower()}_types").extend(types)
    return answer


CALLS: Final[Mapping[str, Callable[[Session, Any], Any]]] = {
    f"Get{node}{suffix}": functools.partial(call, node)
    for node in MESSAGES
    for suffix, call in (
        ("Type", _get_type),
        ("Types", _get_types),
        ("TypesByID", _get_types_by_id),
        ("TypesByExternalIds", _get_types_by_external_ids),
    )
}
