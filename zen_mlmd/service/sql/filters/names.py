"""What the names in a filter mean: attributes of the node, its properties, and those next to it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from ml_metadata.proto import metadata_store_pb2 as mlmd

from zen_mlmd.service.sql.filters.lexer import Literal, Path, refuse
from zen_mlmd.service.sql.schema import id_column

INT64: Final = "INT64"
DOUBLE: Final = "DOUBLE"
STRING: Final = "STRING"
BOOL: Final = "BOOL"


@dataclass(frozen=True, slots=True)
class Field:
    """What has a value.

    Attributes:
        column: Where it lies.
        type: INT64, DOUBLE, STRING or BOOL.
        states: Its values have these names.
    """

    column: str
    type: str
    states: Mapping[str, int] | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Neighbour:
    """A row next to a node, of which all conditions that name it alike are.

    Attributes:
        alias: `contexts_a`, say; of a property its name; `type` for the node's type.
        link: The table that links the node with it.
        via: Its column that names the node.
        to: Its column that names the other one; empty if the link itself has the fields.
        kind: The other one: Artifact, Execution or Context; Type for the node's type.
        is_custom: Of a property.
    """

    alias: str
    link: str
    via: str
    to: str = ""
    kind: str = ""
    is_custom: bool | None = None


@dataclass(frozen=True, slots=True)
class Reference:
    """A field that a filter names.

    Attributes:
        field: The field.
        of: The neighbour whose it is; None for the node itself.
    """

    field: Field
    of: Neighbour | None = None


TYPE: Final = Neighbour("type", "", "", kind="Type")
"""A node's type is its neighbour, too: one that several nodes have."""

_TIMES: Final = tuple(
    Field(name, INT64) for name in ("create_time_since_epoch", "last_update_time_since_epoch")
)
_ALL: Final = (Field("id", INT64), Field("name", STRING), *_TIMES)
_OWN: Final[Mapping[str, tuple[Field, ...]]] = {
    "Artifact": (
        Field("uri", STRING),
        Field("external_id", STRING),
        Field("state", INT64, dict(mlmd.Artifact.State.items())),
    ),
    "Execution": (
        Field("external_id", STRING),
        Field("last_known_state", INT64, dict(mlmd.Execution.State.items())),
    ),
    "Context": (),
}
_TYPE_NAME: Final = Field("type", STRING)


def _by_name(*fields: Field) -> dict[str, Field]:
    return {each.column: each for each in fields}


_EXTERNAL: Final = Field("external_id", STRING)
_ATTRIBUTES: Final[Mapping[str, Mapping[str, Field]]] = {
    kind: _by_name(*_ALL, Field("type_id", INT64), _EXTERNAL, *own) for kind, own in _OWN.items()
}
_FIELDS: Final[Mapping[str, Mapping[str, Field]]] = {
    kind: _by_name(*_ALL, *own) for kind, own in _OWN.items()
}
_EVENT: Final = (
    Field("type", INT64, dict(mlmd.Event.Type.items())),
    Field("milliseconds_since_epoch", INT64),
)
_VALUES: Final = _by_name(
    Field("int_value", INT64),
    Field("double_value", DOUBLE),
    Field("string_value", STRING),
    Field("bool_value", BOOL),
)
_LINKS: Final[Mapping[str, Mapping[str, tuple[str, str, str, str]]]] = {
    "Artifact": {
        "contexts": ("Attribution", "artifact_id", "context_id", "Context"),
        "events": ("Event", "artifact_id", "", ""),
    },
    "Execution": {
        "contexts": ("Association", "execution_id", "context_id", "Context"),
        "events": ("Event", "execution_id", "", ""),
    },
    "Context": {
        "parent_contexts": ("ParentContext", "context_id", "parent_context_id", "Context"),
        "child_contexts": ("ParentContext", "parent_context_id", "context_id", "Context"),
        "artifacts": ("Attribution", "context_id", "artifact_id", "Artifact"),
        "executions": ("Association", "context_id", "execution_id", "Execution"),
    },
}
_OTHER_END: Final = {"Artifact": Field("execution_id", INT64), "Execution": Field("artifact_id", INT64)}
_ALIAS: Final = re.compile(
    r"(parent_contexts|child_contexts|contexts|artifacts|executions|events)_[0-9A-Za-z_]+"
)


def resolve(kind: str, path: Path, place: tuple[int, int]) -> Reference | None:
    """Return what a path means in a filter of nodes of a kind; None for a single name that means nothing.

    Raises:
        Refusal: There is no such thing, or it has no such field.
    """
    first, *rest = path.parts
    if not rest:
        return _attribute(kind, first)
    found = None if path.is_quoted else _neighbour(kind, first, rest)
    if found is None:
        if _attribute(kind, first) is not None:
            refuse(f"Cannot access field {rest[0]} on a value of {first}", place)
        refuse(f"Unrecognized name: {first}", place)
    neighbour, fields, names = found
    if not names:
        refuse(f"Unrecognized name: {'.'.join(path.parts)}: a field of it is needed", place)
    if len(names) > 1:
        refuse(f"Cannot access field {names[1]} on a value of {names[0]}", place)
    if names[0].lower() == "type" and neighbour.kind:
        return Reference(_TYPE_NAME, neighbour)
    found_field = fields.get(names[0].lower())
    if found_field is None:
        refuse(f"Field name {names[0]} does not exist in {first}", place)
    return Reference(found_field, neighbour)


def _attribute(kind: str, name: str) -> Reference | None:
    if name.lower() == "type":
        return Reference(_TYPE_NAME, TYPE)
    found = _ATTRIBUTES[kind].get(name.lower())
    return None if found is None else Reference(found)


def _neighbour(
    kind: str, first: str, rest: list[str]
) -> tuple[Neighbour, Mapping[str, Field], list[str]] | None:
    """Return a neighbour, the fields that it has, and the names behind it."""
    if first in ("properties", "custom_properties"):
        is_custom = first == "custom_properties"
        of = Neighbour(rest[0], f"{kind}Property", id_column(kind), is_custom=is_custom)
        return of, _VALUES, rest[1:]
    match = _ALIAS.fullmatch(first)
    link = None if match is None else _LINKS[kind].get(match[1])
    if link is None:
        return None
    table, via, to, other = link
    fields = _FIELDS[other] if other else _by_name(*_EVENT, _OTHER_END[kind])
    return Neighbour(first, table, via, to, other), fields, rest


def state_number(states: Mapping[str, int], operand: Path | Literal, place: tuple[int, int]) -> int:
    """Return the number of a state that a filter names.

    Raises:
        Refusal: It is none.
    """
    if isinstance(operand, Literal):
        if isinstance(operand.value, str):
            refuse("No matching signature for operator = for argument types: INT64, STRING", place)
        refuse(f"Unsupported enum value specified in the query: {operand.value}", place)
    name = ".".join(operand.parts)
    if name not in states:
        refuse(f"Unsupported enum value specified in the query: {name}", place)
    return states[name]
