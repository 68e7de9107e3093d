"""Values as texts that tell one from another, for the fingerprint of the code that uses them.

A value is taken apart as `pickle` does it, by `__reduce_ex__` (an array by its memory, not a copy). So
all of its state counts, whatever its class; and a class whose state does not matter says so by its own
`__reduce__` or `__getstate__`. What cannot be taken apart (a lock, a file, a connection) makes a form
that is not whole.
"""

from __future__ import annotations

import copyreg
import datetime as dt
import decimal
import enum
import fractions
import functools
import hashlib
import inspect
import pathlib
import pickle
import sys
import types
import uuid
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from zen_mlmd.fingerprint.modules import shown_module
from zen_mlmd.fingerprint.syntax import constant_text, sha256

_SCALARS = (type(None), bool, int, float, complex, str, bytes, bytearray, type(Ellipsis))
_TEXTUAL = (
    *(dt.datetime, dt.date, dt.time, dt.timedelta, decimal.Decimal, fractions.Fraction, uuid.UUID, range),
    *(pathlib.PosixPath, pathlib.PurePosixPath, pathlib.WindowsPath, pathlib.PureWindowsPath),
)
_PLAIN = frozenset([*_SCALARS, *_TEXTUAL])
_DESCRIPTORS: dict[type, tuple[str, ...]] = {
    staticmethod: ("__func__",),
    classmethod: ("__func__",),
    property: ("fget", "fset", "fdel"),
    functools.cached_property: ("func",),
}
_LONG_BYTES = 200
_MOST_OBJECTS = 100_000
"""More than any table in a program has; a proxy may make new objects whenever it is looked at."""


class Form(NamedTuple):
    """A value's text.

    Attributes:
        text: Equal for equal values in all processes.
        whole: Whether all of the value is in it.
    """

    text: str
    whole: bool


def form_of(value: Any, *, found: Callable[[Any], None], is_project: Callable[[type], bool]) -> Form:
    """Return a text that tells `value` from others; never raises.

    Args:
        value: Anything.
        found: Called with each class and function in it; of these the text holds only the names.
        is_project: Whether a class is of the project. An object of another class that is a global of
            the class's own module, as `random.choice` is, counts by its name; and one that wraps a
            function, as a cached function does, counts by that.
    """
    reader = _Reader(found, is_project)
    try:
        return Form(reader.text(value), reader.whole)
    except Exception as error:  # noqa: BLE001 - a user's object may do anything when it is looked at
        return Form(f"unreadable {type(error).__qualname__}", whole=False)


def name_of(thing: Any) -> str:
    """Return `module:qualified.name` of a class or function."""
    module = getattr(thing, "__module__", None) or ""
    return f"{shown_module(str(module))}:{getattr(thing, '__qualname__', None) or type(thing).__qualname__}"


def is_a(value: Any, kinds: type | tuple[type, ...]) -> bool:
    """Whether a user's object is of a kind; `isinstance` would ask the object for its `__class__`."""
    return issubclass(type(value), kinds)


class _Ready(str):
    """A piece of a form, among values."""

    __slots__ = ()


_END = _Ready(")")


class _Reader:
    """Reads one value; goes without recursion, but for sets, so data may be nested at will."""

    def __init__(self, found: Callable[[Any], None], is_project: Callable[[type], bool]) -> None:
        self.whole = True
        self._found = found
        self._is_project = is_project
        self._projects: dict[int, bool] = {}
        self._elements: dict[int, str] = {}
        self._globals: dict[str, dict[int, str]] = {}
        self._kept: list[Any] = []  # so that no id is used twice
        self._taken = 0

    def text(self, value: Any) -> str:
        """Return the text of one value; an object that comes again is referred to by its number."""
        numbers: dict[int, int] = {}
        parts: list[str] = []
        todo: list[Any] = [value]
        while todo:
            item = todo.pop()
            kind = type(item)
            if kind in _PLAIN:
                parts.append(_plain_text(item, kind))
            elif kind is _Ready:
                parts.append(item)
            elif issubclass(kind, (types.FunctionType, type)):
                self._found(item)
                parts.append(f"{'class' if issubclass(kind, type) else 'function'} {name_of(item)}")
            elif id(item) in numbers:
                parts.append(f"ref {numbers[id(item)]}")
            else:
                numbers[id(item)] = len(numbers)
                self._kept.append(item)
                parts.append("(")
                todo += [_END, *reversed(self._parts(item, kind))]
        return " ".join(parts)

    def _parts(self, item: Any, kind: type) -> Sequence[Any]:
        """Return what an object is made of: pieces of text, and values yet to be read."""
        try:
            if kind in (list, tuple):
                return [_Ready(kind.__name__), *item]
            if kind in (dict, types.MappingProxyType):
                return [_Ready(kind.__name__), *(part for pair in item.items() for part in pair)]
            if kind in (set, frozenset):
                return [_Ready(kind.__name__), *map(_Ready, sorted(map(self._element, item)))]
            if kind is pickle.PickleBuffer:
                return [_Ready(f"buffer {hashlib.sha256(item.raw()).hexdigest()}")]
            return self._code(item, kind) or self._reduced(item, kind)
        except Exception:  # noqa: BLE001 - as above
            self.whole = False
            return [kind]

    def _element(self, item: Any) -> str:
        """Return the text of a set's element, with numbers of its own: the order in a set is nobody's."""
        if type(item) in _PLAIN:
            return _plain_text(item, type(item))
        known = self._elements.get(id(item))
        if known is None:
            self._elements[id(item)] = ""
            known = self._elements[id(item)] = sha256(self.text(item))
        elif not known:
            self.whole = False  # it contains itself, and where its text begins depends on the order
        return known

    def _code(self, item: Any, kind: type) -> Sequence[Any] | None:
        """Return the parts of what is more code than data; None for all else."""
        if issubclass(kind, types.ModuleType):
            return [_Ready(f"module {shown_module(str(vars(item)['__name__']))}")]
        if issubclass(kind, enum.Enum):
            return [kind, item._value_]
        for descriptor, names in _DESCRIPTORS.items():
            if issubclass(kind, descriptor):
                return [_Ready(descriptor.__name__), *(getattr(item, name) for name in names)]
        owner = item.__self__ if kind in (types.MethodType, types.BuiltinFunctionType) else item
        if not self._counts(type(owner)):
            wrapped = inspect.getattr_static(item, "__wrapped__", None)
            if is_a(wrapped, (types.FunctionType, type, functools.partial)):
                return [kind, wrapped]
            name = self._global_name(item, type(owner).__module__)
            if name:
                return [_Ready(f"global {name}")]
        return None if owner is item else self._method(item, owner)

    def _counts(self, cls: type) -> bool:
        if id(cls) not in self._projects:
            self._projects[id(cls)] = self._is_project(cls)
        return self._projects[id(cls)]

    def _method(self, item: Any, owner: Any) -> Sequence[Any]:
        if is_a(item, types.MethodType):
            return [_Ready("method"), item.__func__, owner]
        name = _Ready(f"builtin {item.__module__} {item.__qualname__}")
        return [name] if owner is None or is_a(owner, types.ModuleType) else [name, owner]

    def _global_name(self, item: Any, module: str) -> str:
        """Return the name that an object has in a module; empty if it has none there."""
        if module not in self._globals:
            loaded = sys.modules.get(module) if module != "builtins" else None
            names = vars(loaded) if is_a(loaded, types.ModuleType) else {}
            self._globals[module] = {id(value): f"{module}.{name}" for name, value in names.items()}
        return self._globals[module].get(id(item), "")

    def _reduced(self, item: Any, kind: type) -> Sequence[Any]:
        self._taken += 1
        if self._taken > _MOST_OBJECTS:
            self.whole = False
            return [kind]
        reduce = copyreg.dispatch_table.get(kind)
        made = item.__reduce_ex__(5) if reduce is None else reduce(item)
        if isinstance(made, str):
            return [kind, _Ready(f"global {made}")]
        function, arguments, state, items, pairs = (*made, None, None, None)[:5]
        return [
            function,
            arguments,
            state,
            list(items or ()),
            [part for pair in pairs or () for part in pair],
        ]


def _plain_text(value: Any, kind: type) -> str:
    if kind not in _SCALARS:
        return f"{kind.__name__} {value!r}"
    if kind in (bytes, bytearray) and len(value) > _LONG_BYTES:
        return f"{kind.__name__} {len(value)} {hashlib.sha256(value).hexdigest()}"
    return f"{kind.__name__} {constant_text(value)}"
