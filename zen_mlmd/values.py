"""Python values as one line of ASCII JSON, and back: exactly, or refused by name.

Numbers keep every digit; what JSON has no form for is tagged by a key that begins with `$`:
`{"$float": "nan"}`, `{"$bytes": "aGk="}`, `{"$tuple": [1, 2]}`.
"""

from __future__ import annotations

import base64
import datetime as dt
import decimal
import json
import math
import pathlib
import uuid
from collections.abc import Callable
from typing import Any

from zen_mlmd.errors import InvalidValueError

_JSON = json.JSONEncoder(separators=(",", ":"), allow_nan=False)
_MAX_DEPTH = 100
_BIGGEST = 10**4000  # Python refuses to read or print an int of more than 4300 decimal digits


def dumps(value: object, *, path: str = "value") -> str:
    """Return `value` as one line of ASCII JSON that `loads` gives back equal and of the same type.

    Args:
        value: None, bool, int, float, str, bytes, list, tuple, set, frozenset, dict, datetime, date,
            time, timedelta, Decimal, UUID or pure path, nested at will; a numpy scalar counts as the
            Python number, text or bytes that it holds, but its times are refused.
        path: What errors call the value.

    Raises:
        InvalidValueError: Something in it is of another type, refers to itself, or is nested more
            than 100 deep.
    """
    return _JSON.encode(_encode(value, path, 0))


def loads(text: str) -> Any:
    """Return what `dumps` made `text` from.

    Raises:
        InvalidValueError: The text is not such JSON.
    """
    try:
        data = json.loads(text)
        return _decode(data) if "$" in text else data
    except (ValueError, TypeError, KeyError, ArithmeticError, RecursionError) as error:
        raise InvalidValueError(
            "a recorded value cannot be read back: damaged JSON text", hint="its writer must record it anew"
        ) from error


def same(a: object, b: object) -> bool:
    """Return whether two values are equal in every part, and of the same types in every part.

    `1`, `1.0` and `True` are other; NaN is NaN; a dict's order does not count.
    """
    return _exact(a) == _exact(b)


def _exact(value: Any) -> str:
    kind = type(value).__name__
    if isinstance(value, list | tuple):
        return f"{kind}[{','.join(map(_exact, value))}]"
    if isinstance(value, dict):
        items = sorted(f"{_exact(key)}:{_exact(item)}" for key, item in value.items())
        return f"{kind}{{{','.join(items)}}}"
    try:
        return dumps(value)
    except InvalidValueError:  # a message that another writer packed
        return f"{kind} {value!r}"


def _encode(value: Any, path: str, depth: int) -> Any:
    if depth > _MAX_DEPTH:
        raise InvalidValueError(
            f"{path[:200]}: nested more than {_MAX_DEPTH} deep, or contains itself",
            hint="record it as an artifact instead",
        )
    kind = type(value)
    if value is None or kind is bool:
        return value
    encode = _ENCODERS.get(kind)
    if encode is not None:
        return encode(value, path, depth)
    plain = unwrap(value)
    if plain is not value:
        return _encode(plain, path, depth + 1)
    raise InvalidValueError(
        f"{path[:200]}: a {kind.__module__}.{kind.__qualname__} cannot be kept as a property",
        hint="give a number, text, list or dict of such, or record it as an artifact",
    )


def unwrap(value: Any) -> Any:
    """Return the Python value that a numpy scalar of a plain kind holds exactly; anything else as it is.

    A time is none: numpy gives one of nanoseconds as a bare integer, and `NaT` as None.
    """
    if type(value).__module__ != "numpy" or getattr(value, "ndim", None) != 0:
        return value
    plain = value.item() if value.dtype.kind in "biufSU" else value
    return value if type(plain).__module__ == "numpy" else plain  # a long double is its own item


def is_plain_text(text: str) -> bool:
    """Return whether text has no lone surrogates: UTF-8 refuses them, and JSON joins two to one character."""
    return text.isascii() or not any("\ud800" <= char <= "\udfff" for char in text)


def _encode_text(value: str, _path: str, _depth: int) -> Any:
    if is_plain_text(value):
        return value
    return {"$text": base64.b64encode(value.encode("utf-8", "surrogatepass")).decode()}


def _encode_int(value: int, _path: str, _depth: int) -> Any:
    return value if -_BIGGEST < value < _BIGGEST else {"$int": hex(value)}


def _encode_float(value: float, _path: str, _depth: int) -> Any:
    return value if math.isfinite(value) else {"$float": str(value)}


def _encode_list(value: list[Any], path: str, depth: int) -> Any:
    return [_encode(item, f"{path}[{i}]", depth + 1) for i, item in enumerate(value)]


def _encode_dict(value: dict[Any, Any], path: str, depth: int) -> Any:
    plain = all(type(key) is str and is_plain_text(key) for key in value)
    if plain and not (len(value) == 1 and next(iter(value)).startswith("$")):
        return {key: _encode(item, f"{path}.{key}", depth + 1) for key, item in value.items()}
    return {
        "$dict": [
            [_encode(key, f"{path} key", depth + 1), _encode(item, f"{path}[...]", depth + 1)]
            for key, item in value.items()
        ]
    }


def _encode_set(value: Any, path: str, depth: int) -> Any:
    items = [_encode(item, f"{path}{{...}}", depth + 1) for item in value]
    return {f"${type(value).__name__}": sorted(items, key=json.dumps)}


def _encode_bytes(value: Any, _path: str, _depth: int) -> Any:
    return {f"${type(value).__name__}": base64.b64encode(value).decode()}


def _encode_time(value: Any, path: str, _depth: int) -> Any:
    zone = getattr(value, "tzinfo", None)
    if zone is not None and not isinstance(zone, dt.timezone):
        raise InvalidValueError(
            f"{path[:200]}: a time zone other than a fixed offset is not kept",
            hint="give the time in UTC: value.astimezone(datetime.timezone.utc)",
        )
    text, tag = value.isoformat(), f"${type(value).__name__}"
    return {tag: [text, value.fold] if getattr(value, "fold", 0) else text}


def _tagged(tag: str, form: Callable[[Any], Any]) -> Callable[[Any, str, int], Any]:
    return lambda value, _path, _depth: {tag: form(value)}


_ENCODERS: dict[type, Callable[[Any, str, int], Any]] = {
    str: _encode_text,
    int: _encode_int,
    float: _encode_float,
    list: _encode_list,
    dict: _encode_dict,
    tuple: lambda value, path, depth: {"$tuple": _encode_list(list(value), path, depth + 1)},
    set: _encode_set,
    frozenset: _encode_set,
    bytes: _encode_bytes,
    bytearray: _encode_bytes,
    dt.datetime: _encode_time,
    dt.date: _encode_time,
    dt.time: _encode_time,
    dt.timedelta: _tagged("$timedelta", lambda value: [value.days, value.seconds, value.microseconds]),
    decimal.Decimal: _tagged("$decimal", str),
    uuid.UUID: _tagged("$uuid", str),
    pathlib.PosixPath: _tagged("$path", str),
    pathlib.WindowsPath: _tagged("$path", str),
    pathlib.PurePosixPath: _tagged("$purepath", str),
}


def _iso(parse: Callable[[str], Any]) -> Callable[[Any], Any]:
    def read(data: Any) -> Any:
        return parse(data[0]).replace(fold=data[1]) if isinstance(data, list) else parse(data)

    return read


_TAGS: dict[str, Callable[[Any], Any]] = {
    "$text": lambda data: base64.b64decode(data, validate=True).decode("utf-8", "surrogatepass"),
    "$int": lambda data: int(data, 16),
    "$float": float,
    "$tuple": lambda data: tuple(_decode(data)),
    "$set": lambda data: set(_decode(data)),
    "$frozenset": lambda data: frozenset(_decode(data)),
    "$bytes": lambda data: base64.b64decode(data, validate=True),
    "$bytearray": lambda data: bytearray(base64.b64decode(data, validate=True)),
    "$dict": lambda data: {_decode(key): _decode(item) for key, item in data},
    "$datetime": _iso(dt.datetime.fromisoformat),
    "$date": dt.date.fromisoformat,
    "$time": _iso(dt.time.fromisoformat),
    "$timedelta": lambda data: dt.timedelta(*data),
    "$decimal": decimal.Decimal,
    "$uuid": uuid.UUID,
    "$path": pathlib.Path,
    "$purepath": pathlib.PurePosixPath,
}


def _decode(data: Any) -> Any:
    if isinstance(data, list):
        return [_decode(item) for item in data]
    if isinstance(data, dict):
        if len(data) == 1:
            tag, content = next(iter(data.items()))
            if tag in _TAGS:
                return _TAGS[tag](content)
        return {key: _decode(item) for key, item in data.items()}
    return data
