"""MLMD's `Value` in the columns of a property table, and back.

A property has one column for each kind of value. As ml-metadata has it, a struct stands among the
strings behind a prefix, and a message (`google.protobuf.Any`) as base64, but on PostgreSQL. Unlike
ml-metadata, which writes six decimals, a double is kept to the last bit.
"""

from __future__ import annotations

import base64
import binascii
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from google.protobuf.message import DecodeError
from ml_metadata.proto.metadata_store_pb2 import Value

from zen_mlmd.service.check import CODED

VALUE_COLUMNS: Final = ("int_value", "double_value", "string_value", "proto_value", "bool_value")
"""As `encode` gives them and `decode` takes them."""

Encoded = tuple[int | None, float | None, str | None, str | None, bool | None]

_ENCODERS: Final[Mapping[str, Callable[[Any], Encoded]]] = {
    "int_value": lambda value: (value.int_value, None, None, None, None),
    "double_value": lambda value: (None, value.double_value, None, None, None),
    "string_value": lambda value: (None, None, value.string_value, None, None),
    "bool_value": lambda value: (None, None, None, None, value.bool_value),
    "struct_value": lambda value: (None, None, CODED + _base64(value.struct_value), None, None),
    "proto_value": lambda value: (None, None, None, _base64(value.proto_value), None),
}

KINDS: Final[Mapping[int, str]] = {
    1: "int_value",
    2: "double_value",
    3: "string_value",
    4: "struct_value",
    5: "proto_value",
    6: "bool_value",
}
"""The field of a `Value` that a property of each `PropertyType` fills; none for UNKNOWN."""


def encode(value: Any) -> Encoded:
    """Return what stands in each of `VALUE_COLUMNS`.

    Args:
        value: A `Value` that holds something (`check_request` sees to it).
    """
    return _ENCODERS[value.WhichOneof("value")](value)


def as_bytes(value: Encoded) -> tuple[Any, ...]:
    """Return an encoded value with a message as PostgreSQL's column has it: as bytes."""
    *others, proto, flag = value
    return (*others, None if proto is None else base64.b64decode(proto), flag)


def as_encoded(dialect: str, columns: Sequence[Any]) -> Encoded:
    """Return what `encode` gives for a value, of what a driver says stands in `VALUE_COLUMNS`."""
    number, double, text, proto, flag = columns
    if isinstance(proto, bytes):
        proto = (base64.b64encode(proto) if dialect == "postgresql" else proto).decode("ascii", "replace")
    return number, double, text, proto, flag


def decode(value: Any, columns: Sequence[Any]) -> None:
    """Fill a `Value` from what stands in `VALUE_COLUMNS`, looked at in ml-metadata's order.

    One that has nothing in any stays empty. A text that begins as a struct does, and is none, stays a
    text: ml-metadata refuses to read all nodes that are asked for together with it.
    """
    number, double, text, proto, flag = columns
    if text is not None and number is None and double is None:
        if not text.startswith(CODED) or not _read_struct(text, value.struct_value):
            value.string_value = text
    elif number is not None:
        value.int_value = number
    elif double is not None:
        value.double_value = double
    elif proto is not None:
        _read_proto(proto, value.proto_value)
    elif flag is not None:
        value.bool_value = bool(flag)


def same(one: Encoded, other: Encoded) -> bool:
    """Tell whether two values are equal; a struct may be written in several ways, and 0.0 is not -0.0."""
    if one == other:
        return len({math.copysign(1, each[1]) for each in (one, other) if each[1] is not None}) < 2  # noqa: PLR2004
    texts = one[2], other[2]
    if not all(text is not None and text.startswith(CODED) for text in texts):
        return False
    values = Value(), Value()
    for value, text in zip(values, texts, strict=True):
        decode(value, (None, None, text, None, None))
    return bool(values[0] == values[1])


def _base64(message: Any) -> str:
    # Deterministic: the same message is the same text each time.
    return base64.b64encode(message.SerializeToString(deterministic=True)).decode("ascii")


def _read_struct(text: str, struct: Any) -> bool:
    try:
        struct.ParseFromString(base64.b64decode(text[len(CODED) :], validate=True))
    except (binascii.Error, ValueError, DecodeError):
        return False
    struct.SetInParent()  # an empty struct is a value, too
    return True


def _read_proto(text: str | bytes, message: Any) -> None:
    try:
        message.ParseFromString(base64.b64decode(text))
    except (binascii.Error, ValueError, DecodeError):
        message.value = text.encode("utf-8") if isinstance(text, str) else text
