"""The materializers of plain Python values, models, files, and the last resort: pickle.

JSON is used for exactly what it gives back, tagged as `zen_mlmd.values` says where plain JSON would
change it (tuples, keys that are no strings, ...); the rest (subclasses, numpy in lists) goes to pickle.
"""

from __future__ import annotations

import atexit
import dataclasses
import datetime as dt
import decimal
import json
import mmap
import os
import shutil
import tempfile
import uuid
from pathlib import Path
from typing import Any, ClassVar

from zen_mlmd.errors import InvalidValueError, NoMaterializerError, PayloadError
from zen_mlmd.payloads.base import Materializer, data_type_name, find_type
from zen_mlmd.values import dumps, is_plain_text, loads

_MAX_DEPTH = 100
_MAX_INT_BITS = 2000  # Python may be set to refuse to read an int of more than 640 decimal digits
_JSON = "data.json"
_PICKLE = "data.pkl"
_CLASS_MARKS = (b"_make_skeleton_class", b"_make_skeleton_enum")
"""By what cloudpickle makes the classes that it writes by value."""


def is_plain_json(value: object, *, _above: frozenset[int] = frozenset()) -> bool:
    """Return whether plain JSON gives back this value: equal, and of the same types all through."""
    kind = type(value)
    if kind not in (list, dict):
        return _is_plain_scalar(value)
    if id(value) in _above or len(_above) >= _MAX_DEPTH:
        return False
    above = _above | {id(value)}
    if isinstance(value, dict):
        if len(value) == 1 and str(next(iter(value))).startswith("$"):
            return False  # it would be read as one of our tags
        return all(
            type(key) is str and is_plain_text(key) and is_plain_json(item, _above=above)
            for key, item in value.items()
        )
    items: list[object] = value  # type: ignore[assignment]
    return all(is_plain_json(item, _above=above) for item in items)


def _is_plain_scalar(value: object) -> bool:
    kind = type(value)
    if isinstance(value, int) and kind is int:
        return value.bit_length() <= _MAX_INT_BITS
    if isinstance(value, str) and kind is str:
        return is_plain_text(value)
    return kind in (type(None), bool, float)


class JsonMaterializer(Materializer):
    """What `zen_mlmd.values` keeps exactly: `data.json`."""

    types: ClassVar[tuple[type | str, ...]] = (
        *(type(None), bool, int, float, list, dict, tuple, set, frozenset, bytearray),
        *(dt.datetime, dt.date, dt.time, dt.timedelta, decimal.Decimal, uuid.UUID),
    )
    artifact_type = "JsonData"

    def accepts(self, value: Any) -> bool:
        """See `Materializer.accepts`."""
        return type(value) in self.types and (is_plain_json(value) or is_tagged_json(value))

    def write(self, value: Any, directory: Path) -> None:
        """See `Materializer.write`; NaN and infinities as Python's json writes them."""
        text = json.dumps(value) if is_plain_json(value) else dumps(value)
        (directory / _JSON).write_text(text, encoding="ascii")

    def read(self, directory: Path, data_type: type) -> Any:
        """See `Materializer.read`."""
        try:
            value = loads((directory / _JSON).read_text(encoding="utf-8"))
        except InvalidValueError:
            raise PayloadError("the file holds damaged JSON", hint="it was changed, or mixed up") from None
        if type(value) is not data_type and data_type in self.types:
            raise PayloadError("the file holds a value of another type", hint="it was changed, or mixed up")
        return value


def is_tagged_json(value: object) -> bool:
    """Return whether tagged JSON gives back this value: equal, and of the same types all through."""
    try:
        return _same(loads(dumps(value)), value)
    except (InvalidValueError, TypeError, ArithmeticError):
        return False


class StringMaterializer(Materializer):
    """Text, with its very newlines: `data.txt` in UTF-8."""

    types = (str,)
    artifact_type = "TextData"

    def accepts(self, value: Any) -> bool:
        """See `Materializer.accepts`."""
        return type(value) is str and is_plain_text(value)

    def write(self, value: Any, directory: Path) -> None:
        """See `Materializer.write`."""
        (directory / "data.txt").write_bytes(value.encode())

    def read(self, directory: Path, data_type: type) -> str:  # noqa: ARG002
        """See `Materializer.read`."""
        return (directory / "data.txt").read_bytes().decode()


class BytesMaterializer(Materializer):
    """Bytes as they are: `data.bin`."""

    types = (bytes,)
    artifact_type = "BytesData"

    def accepts(self, value: Any) -> bool:
        """See `Materializer.accepts`."""
        return type(value) is bytes

    def write(self, value: Any, directory: Path) -> None:
        """See `Materializer.write`."""
        (directory / "data.bin").write_bytes(value)

    def read(self, directory: Path, data_type: type) -> bytes:  # noqa: ARG002
        """See `Materializer.read`."""
        return (directory / "data.bin").read_bytes()


class PathMaterializer(Materializer):
    """The file or directory that a `pathlib.Path` points at, copied under its own name.

    Only content is kept: no times, modes or empty directories. Links to files are followed, links
    to directories refused. Reading gives the path of a copy of one's own, which lives until this
    process ends.
    """

    types = (Path,)
    artifact_type = "File"

    def write(self, value: Any, directory: Path) -> None:
        """Copy what the path points at.

        Raises:
            PayloadError: Nothing is there, or it holds links to directories or special files.
        """
        # Without what the path holds there is nothing to keep, so pickle is no way out.
        source = Path(value).absolute()
        if not source.exists():
            raise PayloadError(
                f"{source}: a step's output is a path at which nothing lies",
                hint="write the file before returning its path, or return str(path)",
            )
        content = source.resolve()
        if directory.resolve().is_relative_to(content):
            raise PayloadError(
                f"{source}: a step's output is a folder that the artifact store itself lies in",
                hint="return the path of what the step made alone",
            )
        name = content.name if source.name == ".." else source.name
        _copy(content, directory / (name or "root"))

    def read(self, directory: Path, data_type: type) -> Path:  # noqa: ARG002
        """Return the path of a copy, removed when this process ends."""
        (content,) = directory.iterdir()
        keep = Path(tempfile.mkdtemp(prefix="zen_mlmd-"))
        atexit.register(_remove_own, keep, os.getpid())
        _copy(content, keep / content.name)
        return keep / content.name


def _copy(source: Path, target: Path) -> None:
    if source.is_file():
        shutil.copyfile(source, target)
        return
    if not source.is_dir():
        raise _not_copyable(source)
    target.mkdir()
    for entry in source.iterdir():
        if entry.is_symlink() and not entry.is_file():
            raise _not_copyable(entry)
        _copy(entry, target / entry.name)


def _not_copyable(path: Path) -> PayloadError:
    return PayloadError(
        f"{path}: neither a file nor a plain directory",
        hint="links to directories and special files cannot be kept; copy what they point at",
    )


def _remove_own(directory: Path, owner: int) -> None:
    if os.getpid() == owner:  # a forked child must not take it from its parent
        shutil.rmtree(directory, ignore_errors=True)


class PydanticMaterializer(Materializer):
    """Pydantic models whose JSON reads back as the same model: `data.json`.

    Which fields were set and which took their default is not kept.
    """

    types = ("pydantic.BaseModel",)
    artifact_type = "JsonData"
    needs_type = True

    def accepts(self, value: Any) -> bool:
        """See `Materializer.accepts`; tries it, since validators and serializers may do anything."""
        kind = type(value)
        if find_type(data_type_name(value)) is not kind:
            return False
        try:
            return _same(kind.model_validate_json(_model_text(value)), value)
        except Exception:  # noqa: BLE001 - a model's own code may raise anything; pickle is next
            return False

    def write(self, value: Any, directory: Path) -> None:
        """See `Materializer.write`."""
        (directory / _JSON).write_bytes(_model_text(value).encode())

    def read(self, directory: Path, data_type: type) -> Any:
        """See `Materializer.read`."""
        if not any(
            f"{cls.__module__.split('.')[0]}.{cls.__qualname__}" in self.types for cls in data_type.__mro__
        ):
            raise PayloadError(
                f"{data_type.__qualname__} is no pydantic model", hint="has its module changed?"
            )
        model: Any = data_type
        return model.model_validate_json((directory / _JSON).read_bytes())


def _model_text(value: Any) -> str:
    text: str = value.model_dump_json(by_alias=True, round_trip=True, warnings="error")
    return text


def _same(left: Any, right: Any) -> bool:  # noqa: PLR0911 - one for each kind
    """Return whether two values are equal and of the same types all through."""
    if type(left) is not type(right):
        return False
    if isinstance(left, dict):
        return _same(list(left.items()), list(right.items()))
    if isinstance(left, (list, tuple)):
        return len(left) == len(right) and all(map(_same, left, right))
    if isinstance(left, (set, frozenset)):
        return {(type(item), item) for item in left} == {(type(item), item) for item in right}
    if isinstance(left, (float, decimal.Decimal)):
        return repr(left) == repr(right)
    if isinstance(left, (dt.datetime, dt.time)):
        return left == right and left.fold == right.fold and _same_zone(left.tzinfo, right.tzinfo)
    names = _parts(left)
    if names:
        return all(_same(getattr(left, name), getattr(right, name)) for name in names)
    return bool(left == right)


def _same_zone(left: Any, right: Any) -> bool:
    """Return whether a time zone that was read serves for the one that was written.

    Pydantic reads each as a fixed offset of a class of its own: that serves where nothing else was
    written, neither a zone's name nor its rules.
    """
    if type(left) is type(right):
        return repr(left) == repr(right)
    bare = isinstance(right, dt.timezone) and repr(right) == repr(dt.timezone(right.utcoffset(None)))
    return bare and bool(left.utcoffset(None) == right.utcoffset(None))


def _parts(value: Any) -> tuple[str, ...]:
    if hasattr(value, "__pydantic_private__"):
        return ("__dict__", "__pydantic_extra__", "__pydantic_private__")
    return tuple(field.name for field in dataclasses.fields(value)) if dataclasses.is_dataclass(value) else ()


class DataclassMaterializer(Materializer):
    """Dataclasses all of whose fields JSON keeps: `data.json`, an object of the fields.

    Reading fills the fields and does not run `__init__`, as unpickling would not.
    """

    types = (object,)
    artifact_type = "JsonData"
    needs_type = True

    def suits(self, data_type: type) -> bool:
        """See `Materializer.suits`."""
        return dataclasses.is_dataclass(data_type)

    def accepts(self, value: Any) -> bool:
        """See `Materializer.accepts`."""
        kind = type(value)
        if not dataclasses.is_dataclass(kind) or find_type(data_type_name(value)) is not kind:
            return False
        names = [field.name for field in dataclasses.fields(kind)]
        try:
            if _slots(kind) - set(names):
                return False
            fields = {name: getattr(value, name) for name in names}
            if not is_plain_json(fields) or set(getattr(value, "__dict__", ())) - set(names):
                return False
            return _same(_fill(kind, fields), value)
        except Exception:  # noqa: BLE001 - a class's own code may raise anything; pickle is next
            return False

    def write(self, value: Any, directory: Path) -> None:
        """See `Materializer.write`."""
        fields = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
        (directory / _JSON).write_text(json.dumps(fields), encoding="ascii")

    def read(self, directory: Path, data_type: type) -> Any:
        """See `Materializer.read`.

        Raises:
            PayloadError: The class has other fields now than when the value was written.
        """
        fields = json.loads((directory / _JSON).read_text(encoding="utf-8"))
        if not dataclasses.is_dataclass(data_type) or fields.keys() != {
            field.name for field in dataclasses.fields(data_type)
        }:
            raise PayloadError(
                f"{data_type.__qualname__} has other fields than the value that was written",
                hint="read it with the version of the code that wrote it",
            )
        return _fill(data_type, fields)


def _slots(kind: type) -> set[str]:
    """Return the names under which an object has values outside of its `__dict__`."""
    given = [vars(cls).get("__slots__", ()) for cls in kind.__mro__]
    names = {name for slots in given for name in ((slots,) if isinstance(slots, str) else slots)}
    return names - {"__dict__", "__weakref__"}


def _fill(kind: type, fields: dict[str, Any]) -> Any:
    value: Any = object.__new__(kind)
    for name, item in fields.items():
        object.__setattr__(value, name, item)
    return value


class PickleMaterializer(Materializer):
    """Anything that cloudpickle takes: `data.pkl`. The last resort, and only for trusted stores."""

    types = (object,)
    artifact_type = "Pickle"
    runs_code = True

    def write(self, value: Any, directory: Path) -> None:
        """See `Materializer.write`.

        Raises:
            NoMaterializerError: It cannot be pickled.
        """
        import cloudpickle

        with (directory / _PICKLE).open("wb") as stream:
            try:
                cloudpickle.dump(value, stream)
            except OSError:
                raise
            except Exception as error:
                raise NoMaterializerError(
                    f"a {data_type_name(value)} cannot be written: nothing fits, not even pickle",
                    hint="return a plain value, or register a Materializer for its class",
                ) from error

    def read(self, directory: Path, data_type: type) -> Any:  # noqa: ARG002
        """See `Materializer.read`."""
        import pickle

        with (directory / _PICKLE).open("rb") as stream:
            return pickle.load(stream)

    @staticmethod
    def brings_classes(directory: Path) -> bool:
        """Return whether classes lie in the pickle itself: those of `__main__` and of functions' bodies.

        cloudpickle writes them so. In another process they are new classes, of which nothing there is
        an instance, whatever their names.
        """
        with (
            (directory / _PICKLE).open("rb") as stream,
            mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as content,
        ):
            return any(content.find(mark) >= 0 for mark in _CLASS_MARKS)
