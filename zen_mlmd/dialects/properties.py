"""Python values as MLMD property values, and back: exactly, or refused by name.

MLMD writes six decimals of a double, and SQLite gives 15 digits of one back and no -0.0; 32 bits of an
integer are kept on MySQL and PostgreSQL, a string is cut at a NUL byte, and a row is unreadable whose
string is `__MLMD_NULL__` (ml-metadata 1.17.1 and 1.21.0, measured). A value that its columns keep
exactly stays a plain int, double, string or bool that any client reads; any other becomes the string
`zen_mlmd:json:` followed by `values.dumps`.
"""

from __future__ import annotations

import base64
import binascii
import math
from collections.abc import Iterator
from typing import Any

from google.protobuf import empty_pb2, struct_pb2, unknown_fields
from google.protobuf.message import DecodeError
from ml_metadata.proto import metadata_store_pb2 as mlmd

from zen_mlmd.errors import InvalidValueError
from zen_mlmd.values import dumps, is_plain_text, loads, unwrap

JSON_PREFIX = "zen_mlmd:json:"
"""What a string property begins with that holds a value MLMD has no exact column for."""

_STRUCT_PREFIX = "mlmd-struct::"
"""What the column of a struct begins with, in the database and for clients older than structs."""

_INT32 = 2**31
_PLAIN_DOUBLE = 1e15  # above it six decimals are more digits than a double has


def to_property(value: object, *, path: str = "value") -> mlmd.Value:
    """Return `value` as one MLMD property value, plain where MLMD keeps it exactly.

    Raises:
        InvalidValueError: As for `dumps`.
    """
    kind = type(value)
    if isinstance(value, bool):
        return mlmd.Value(bool_value=value)
    if kind is int and -_INT32 <= value < _INT32:  # type: ignore[operator]
        return mlmd.Value(int_value=value)
    if kind is float and _columns_keep(value):  # type: ignore[arg-type]
        return mlmd.Value(double_value=value)
    if isinstance(value, str) and kind is str and _is_plain(value):
        return mlmd.Value(string_value=value)
    plain = unwrap(value)
    if plain is not value:
        return to_property(plain, path=path)
    return mlmd.Value(string_value=JSON_PREFIX + dumps(value, path=path))


def from_property(value: mlmd.Value) -> Any:
    """Return the Python value of a property, whoever wrote it.

    Structs become dicts, packed messages stay `google.protobuf.any_pb2.Any`, an unset value is None.
    A string that only looks like one of ours, or like a struct, stays that string.
    """
    kind = value.WhichOneof("value")
    if kind is None:
        return None
    if kind == "struct_value":
        return from_struct(value.struct_value)
    plain = getattr(value, kind)
    return _from_text(text(plain)) if kind == "string_value" else plain


def from_struct(struct: struct_pb2.Struct) -> dict[str, Any]:
    """Return a struct as a dict, by name; its numbers are all doubles.

    `json_format` cannot serve: it refuses infinity and NaN.
    """
    found = {text(key): _from_struct_value(value) for key, value in struct.fields.items()}
    return dict(sorted(found.items()))


def items(node: Any, field: str) -> list[tuple[str, mlmd.Value]]:
    """Return the names and values of a node's properties by name: MLMD keeps no order of them.

    Args:
        node: An artifact, execution or context.
        field: `properties` or `custom_properties`.
    """
    values = getattr(node, field)
    try:
        found = list(values.items())
    except UnicodeDecodeError:  # protobuf gives a name that is no UTF-8, and then does not find it
        found = list(_entries(node, field))
    return sorted(found, key=lambda each: each[0])


def _entries(node: Any, field: str) -> Iterator[tuple[str, mlmd.Value]]:
    number = node.DESCRIPTOR.fields_by_name[field].number
    for found in _fields(node.SerializeToString()):
        if found.field_number == number:
            entry = {part.field_number: part.data for part in _fields(found.data)}  # a map's entry
            yield text(entry.get(1, b"")), mlmd.Value.FromString(entry.get(2, b""))


def _fields(data: bytes) -> Any:
    """Return the fields of any message, from those that an empty one does not know."""
    return unknown_fields.UnknownFieldSet(empty_pb2.Empty.FromString(data))


def text(given: str | bytes) -> str:
    r"""Return a text of a message; what is no UTF-8 in it, and comes as bytes, shows its bytes as `\xff`."""
    return given.decode("utf-8", "backslashreplace") if isinstance(given, bytes) else given


def _from_text(plain: str) -> Any:
    if plain.startswith(JSON_PREFIX):
        try:
            return loads(plain[len(JSON_PREFIX) :])
        except InvalidValueError:
            return plain
    if plain.startswith(_STRUCT_PREFIX):
        try:
            data = base64.b64decode(plain[len(_STRUCT_PREFIX) :], validate=True)
            return from_struct(struct_pb2.Struct.FromString(data))
        except (binascii.Error, DecodeError):
            return plain
    return plain


def _from_struct_value(value: struct_pb2.Value) -> Any:
    kind = value.WhichOneof("kind")
    if kind == "struct_value":
        return from_struct(value.struct_value)
    if kind == "list_value":
        return [_from_struct_value(each) for each in value.list_value.values]
    if kind == "number_value":
        return value.number_value
    if kind == "string_value":
        return text(value.string_value)
    return value.bool_value if kind == "bool_value" else None


def _columns_keep(value: float) -> bool:
    if not abs(value) < _PLAIN_DOUBLE:
        return False
    if value == 0.0:
        return math.copysign(1.0, value) > 0
    return float(f"{value:.6f}") == value == float(f"{value:.15g}")


def _is_plain(text: str) -> bool:
    return (
        "\0" not in text
        and text != "__MLMD_NULL__"
        and not text.startswith((JSON_PREFIX, _STRUCT_PREFIX))
        and is_plain_text(text)
    )
