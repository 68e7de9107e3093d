"""Fingerprints of code: has a step's function, or anything of its project that it uses, changed?

From a function the search goes to everything that its text names: functions, classes, constants,
modules of the same project, and on from there. *The same project* is what is not installed: modules
outside site-packages and the standard library, `__main__`, notebook cells; if the function itself
comes from an installed package, that top-level package too. zen_mlmd never counts.

Two ways lead on, and both write into one table of pieces:

- *live*: names are looked up in the function's real globals and closure, so that the value counts
  which the code would see (`_Explorer._form`).
- *static*: imports inside a function's body are read from the source files and never executed,
  whether or not the module is loaded by now: the fingerprint must not depend on what ran before
  (`_Explorer._follow`).

What is hashed is the syntax tree without docstrings, bare strings and `pass`: comments, layout and
line numbers do not count, and neither does Python's minor version. If the text cannot be had, or a
file was edited after it was loaded, so that it is not what runs, the bytecode and Python's version
are hashed instead.

Not seen: modules named only at run time (`importlib.import_module`, `getattr` with a computed name),
files that the code reads, the state of instances other than dataclasses (they count by their type and
by the statement that makes them), globals that some function rebinds by a `global` statement (they
count by the statement that makes them). A global list or dict that the program fills as it runs
gives a new fingerprint each time: keep such a cache in `functools.cache`.
"""

from __future__ import annotations

import ast
import builtins
import contextlib
import dataclasses
import datetime as dt
import decimal
import enum
import fractions
import functools
import hashlib
import importlib.machinery
import importlib.util
import inspect
import json
import pathlib
import re
import sys
import types
import uuid
from collections import defaultdict, deque
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zen_mlmd.fingerprint.modules import find_module, is_installed
from zen_mlmd.fingerprint.source import Source, source_of_file
from zen_mlmd.fingerprint.syntax import bytecode_digest, constant_text
from zen_mlmd.fingerprint.uses import Uses, imported, uses_of_code

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

_SCALARS = (type(None), bool, int, float, complex, str, bytes, bytearray, type(Ellipsis))
_TEXTUAL = (
    *(dt.datetime, dt.date, dt.time, dt.timedelta, decimal.Decimal, fractions.Fraction, uuid.UUID, range),
    *(pathlib.PosixPath, pathlib.PurePosixPath, pathlib.WindowsPath, pathlib.PureWindowsPath),
)
_BUILTINS = frozenset(dir(builtins))
# What the import system sets: a path would tie the fingerprint to one directory.
_MODULE_NAMES = frozenset(
    {"__name__", "__file__", "__path__", "__doc__", "__spec__", "__loader__", "__package__", "__cached__"}
)
_MAX_DEPTH = 50
_MISSING = object()


def code_fingerprint(function: Callable[..., Any]) -> str:
    """Return `sha256:...` over the code of `function` and all code and constants it uses.

    Equal in all processes and on all Python versions that parse the code alike, unless some source
    text cannot be had. Never raises for a callable. Takes milliseconds for each file not seen before,
    less than one for a typical step after that.
    """
    return _hash(json.dumps(explain_fingerprint(function), sort_keys=True))


def explain_fingerprint(function: Callable[..., Any]) -> dict[str, str]:
    """Return the hash of each piece that `code_fingerprint` is made from.

    A hash stands for a value, also for a short secret that stands in a global constant: who knows the
    code can try all short ones.

    Returns:
        `module:qualified.name` of a function, class or global constant to `sha256:...`, sorted by
        name. The script that was started goes by its file's name instead of `__main__`, so that it
        has the same pieces when it is imported.
    """
    return _Explorer(function).explain()


def _hash(*texts: str) -> str:
    return "sha256:" + hashlib.sha256("\n".join(texts).encode("utf-8", "backslashreplace")).hexdigest()


def _name(thing: Any) -> str:
    """Return `module:qualified.name` of a class or function."""
    module = getattr(thing, "__module__", None) or ""
    return f"{_shown(str(module))}:{getattr(thing, '__qualname__', None) or type(thing).__qualname__}"


def _shown(module: str) -> str:
    """Return the name by which a module is shown: the same for a script, its workers and its importers."""
    if module not in ("__main__", "__mp_main__"):
        return module
    names = vars(sys.modules["__main__"]) if "__main__" in sys.modules else {}
    if names.get("__spec__") is not None:
        return str(names["__spec__"].name)
    return Path(names["__file__"]).stem if names.get("__file__") else "__main__"


def _python() -> str:
    return f"Python {sys.version_info[0]}.{sys.version_info[1]}"


class _Explorer:
    """One search from one root through live objects and source files."""

    def __init__(self, root: Any) -> None:
        self._root = _innermost(root)
        owner = self._root if _is(self._root, (types.FunctionType, type)) else type(self._root)
        self._root_module = _shown(str(owner.__module__))
        self._pieces: defaultdict[str, set[str]] = defaultdict(set)
        self._queue: deque[Callable[[], None]] = deque()
        self._seen: dict[int, Any] = {}  # keeps the objects, so that no id is used twice
        self._followed: set[tuple[str, tuple[str, ...]]] = set()
        self._open: set[int] = set()
        self._opaque = False
        self._search(root)

    def explain(self) -> dict[str, str]:
        return {key: _hash(*sorted(hashes)) for key, hashes in sorted(self._pieces.items())}

    def _search(self, root: Any) -> None:
        form = self._form(root)
        while self._queue:
            task = self._queue.popleft()
            try:
                task()
            except Exception as error:  # noqa: BLE001 - a user's object may do anything when looked at
                self._add("?:unreadable", type(error).__qualname__)
        if not self._pieces:
            form += _python()  # C code and classes that are not of the project
        if not _is(root, (types.FunctionType, type)) or not self._pieces:
            self._add(_name(type(root)), form)

    def _add(self, key: str, *texts: str) -> None:
        self._pieces[key].add(_hash(*texts))

    def _later(self, thing: Any, task: Callable[[Any], None]) -> None:
        if id(thing) not in self._seen:
            self._seen[id(thing)] = thing
            self._queue.append(functools.partial(task, thing))

    # -- which code counts

    def _is_project(self, module: str, file: str | None) -> bool:
        shown = _shown(module)
        top = shown.partition(".")[0]
        if top == "zen_mlmd":
            return shown == self._root_module
        if file is None or file.startswith("<"):  # interactive, or a package of several directories
            return top not in sys.builtin_module_names and top not in sys.stdlib_module_names
        if not is_installed(file):
            return True
        return top == self._root_module.partition(".")[0] and top not in sys.stdlib_module_names

    def _is_project_function(self, function: types.FunctionType) -> bool:
        names = function.__globals__
        file = names.get("__file__") or function.__code__.co_filename
        return function is self._root or self._is_project(str(names.get("__name__") or ""), file)

    def _project_source(self, module: str) -> Source | None:
        """Return the source of a module of the project, loaded or not; None for any other."""
        found = find_module(module)
        if found is None or found.file is None or not self._is_project(module, found.file):
            return None
        return source_of_file(found.file, _loaded_names(module))

    # -- live objects

    def _form(self, value: Any) -> str:
        """Return a text that tells `value` from others; the code in it is searched later."""
        try:
            return self._describe(value)
        except Exception as error:  # noqa: BLE001 - as above
            self._open.clear()
            return f"unreadable {type(error).__qualname__}"

    def _describe(self, value: Any) -> str:
        kind = type(value)
        if kind in _SCALARS:
            return f"{kind.__name__} {constant_text(value)}"
        if kind in _TEXTUAL:
            return f"{kind.__name__} {value!r}"
        if issubclass(kind, types.FunctionType):
            self._later(value, self._explore_function)
            return f"function {_name(value)}"
        if issubclass(kind, type):
            self._later(value, self._explore_class)
            return f"class {_name(value)}"
        if id(value) in self._open or len(self._open) > _MAX_DEPTH:
            return "cycle"
        self._open.add(id(value))
        parts = [self._describe(kind), *self._inner_forms(value, kind)]
        self._open.discard(id(value))
        return f"({' '.join(parts)})"

    def _inner_forms(self, value: Any, kind: type) -> Iterator[str]:  # noqa: C901, PLR0912 - a table
        if issubclass(kind, (types.BuiltinFunctionType, types.ModuleType)):
            yield f"{getattr(value, '__module__', '')} {value.__name__}"
        elif issubclass(kind, enum.Enum):
            yield f"{value.name} {self._describe(value.value)}"
        elif issubclass(kind, (dict, types.MappingProxyType)):
            for key, item in value.items():
                yield f"{self._describe(key)}: {self._describe(item)}"
        elif issubclass(kind, (list, tuple)):
            yield from map(self._describe, value)
        elif issubclass(kind, (set, frozenset)):
            yield from sorted(map(self._describe, value))
        elif issubclass(kind, re.Pattern):
            yield f"{value.pattern!r} {value.flags}"
        elif issubclass(kind, (functools.partial, functools.partialmethod)):
            yield from map(self._describe, (value.func, value.args, value.keywords))
        elif issubclass(kind, types.MethodType):
            owner = value.__self__
            yield self._describe(value.__func__)
            yield self._describe(owner if _is(owner, type) else type(owner))
        elif issubclass(kind, (staticmethod, classmethod)):
            yield self._describe(value.__func__)
        elif issubclass(kind, property):
            yield from map(self._describe, (value.fget, value.fset, value.fdel))
        elif issubclass(kind, functools.cached_property):
            yield self._describe(value.func)
        elif dataclasses.is_dataclass(kind):
            for field in dataclasses.fields(kind):
                yield f"{field.name}={self._describe(getattr(value, field.name, None))}"
        else:
            wrapped = inspect.getattr_static(value, "__wrapped__", None)
            if _is(wrapped, (types.FunctionType, type, functools.partial)):
                yield self._describe(wrapped)
            else:
                self._opaque = True

    def _explore_function(self, function: types.FunctionType) -> None:
        names, code, cells = function.__globals__, function.__code__, _cells(function)
        bindings = [f"{name}={self._form(value)}" for name, value in sorted(cells.items())]
        if "__wrapped__" in function.__dict__:
            bindings.append(f"__wrapped__={self._form(function.__dict__['__wrapped__'])}")
        if not self._is_project_function(function):
            return
        module = str(names.get("__name__") or "")
        bindings += [self._form(function.__defaults__), self._form(function.__kwdefaults__)]
        source = source_of_file(code.co_filename, names)
        nodes = source.functions_of(code) if source is not None else []
        if source is not None and nodes:
            qualname = source.qualnames[nodes[0]]
            texts = [source.digest(node) for node in nodes]
            uses = [source.uses(node) for node in nodes]
        else:
            qualname = getattr(code, "co_qualname", function.__qualname__)
            texts = [_python(), bytecode_digest(code)]
            uses = [uses_of_code(code)]
        bindings += self._bindings(uses, {**names, **cells} if cells else names, module)
        self._add(f"{_shown(module)}:{qualname}", *texts, *bindings)

    def _explore_class(self, cls: type) -> None:
        module = str(cls.__module__)
        names = _loaded_names(module)
        file = names.get("__file__")
        if cls is not self._root and not self._is_project(module, file):
            return
        methods = dict(_methods(cls))
        source, nodes = self._class_nodes(cls, file, list(methods.values()))
        bases = [self._form(base) for base in (*cls.__mro__[1:], type(cls))]
        if nodes or self._project_source(module) is not None:
            # What dataclasses, enums and the like put in differs from one Python to the next.
            methods = {name: method for name, method in methods.items() if self._is_written(method)}
        if source is None:
            bindings = bases + self._attribute_forms(cls)
            self._follow(module, (cls.__qualname__.partition(".")[0],))
        else:
            for method in methods.values():
                names = names | _cells(method)
            bindings = [source.digest(node) for node in nodes]
            bindings += self._bindings([source.uses(node) for node in nodes], names, module)
        bindings += [f"{name}={self._form(method)}" for name, method in methods.items()]
        self._add(_name(cls), *bindings)

    def _attribute_forms(self, cls: type) -> list[str]:
        forms = []
        for name, value in _attributes(cls):
            self._opaque = False
            form = self._form(value)
            if not self._opaque:  # descriptors, mostly, whose types move between Python's modules
                forms.append(f"{name}={form}")
        return forms

    def _is_written(self, function: types.FunctionType) -> bool:
        """Whether a function is of the project and its text can be had."""
        names, file = function.__globals__, function.__code__.co_filename
        is_project = self._is_project(str(names.get("__name__") or ""), file)
        return is_project and source_of_file(file, names) is not None

    def _class_nodes(
        self, cls: type, file: str | None, methods: list[types.FunctionType]
    ) -> tuple[Source | None, list[ast.AST]]:
        """Return the source of a class, if what runs is what the source says."""
        files = [file] if file is not None else sorted({method.__code__.co_filename for method in methods})
        for name in files:
            source = source_of_file(name, _loaded_names(str(cls.__module__)))
            nodes = source.classes.get(cls.__qualname__, []) if source is not None else []
            here = [method.__code__ for method in methods if method.__code__.co_filename == name]
            if source is not None and nodes and all(source.functions_of(code) for code in here):
                return source, nodes
        return None, []

    def _bindings(self, uses: list[Uses], names: Mapping[str, Any], module: str) -> list[str]:
        """Search what the uses name; return which code each name is bound to."""
        bound = set()
        for used in uses:
            bound |= {f"{'.'.join(chain)}={self._resolve(names, module, chain)}" for chain in used.chains}
            self._follow_body_imports(used, module)
        return sorted(bound)

    def _resolve(self, names: Mapping[str, Any], module: str, chain: tuple[str, ...]) -> str:
        """Look a dotted name up among live objects; return what it is bound to if that is code."""
        name, rest = chain[0], chain[1:]
        value = names.get(name, _MISSING)
        if name in _MODULE_NAMES or value is _MISSING:
            self._follow(module, chain)
            return ""
        if _is(value, types.ModuleType):
            return self._resolve_in_module(value, rest)
        if _is(value, (types.FunctionType, type)):
            return self._form(value)
        source = self._project_source(module)
        self._opaque = source is not None and name in source.rebound
        if not self._opaque:
            self._add(f"{_shown(module)}:{name}", self._form(value))
        if self._opaque:
            self._follow(module, (name,))
        return ""

    def _resolve_in_module(self, module: types.ModuleType, chain: tuple[str, ...]) -> str:
        names = vars(module)
        name = str(names.get("__name__"))
        if not self._is_project(name, names.get("__file__")):
            return f"module {name}"
        if chain:
            return self._resolve(names, name, chain)
        self._follow(name, ())
        return f"module {_shown(name)}"

    # -- source files

    def _follow(self, module: str, chain: tuple[str, ...]) -> None:
        """Take what `chain` names in a module's source into the search; () is the whole module."""
        known = not chain or (chain[0] not in _MODULE_NAMES and chain[0] not in _BUILTINS)
        if module and known and (module, chain) not in self._followed:
            self._followed.add((module, chain))
            task = self._follow_name if chain else self._follow_module
            self._queue.append(functools.partial(task, module, chain))

    def _follow_module(self, module: str, _chain: tuple[str, ...]) -> None:
        source = self._project_source(module)
        if source is not None:
            self._add(f"{_shown(module)}:<module>", source.digest(source.tree))
            for name in source.bindings:
                self._follow(module, (name,))

    def _follow_name(self, module: str, chain: tuple[str, ...]) -> None:
        source, name, rest = self._project_source(module), chain[0], chain[1:]
        if source is not None and name in source.bindings:
            for node in source.bindings[name]:
                if not self._follow_import(module, node, name, rest):
                    self._add(f"{_shown(module)}:{name}", source.digest(node))
                    for inner in source.uses(node).chains:
                        self._follow(module, inner)
                    self._follow_body_imports(source.uses(node), module)
            return
        found = find_module(module)
        if found is not None and found.locations is not None and find_module(f"{module}.{name}") is not None:
            self._follow(f"{module}.{name}", rest)
        elif source is not None:
            for level, target in source.stars:
                self._follow(_absolute(level, target, module), chain)
            self._follow(module, ("__getattr__",))

    def _follow_import(self, module: str, node: ast.AST, name: str, rest: tuple[str, ...]) -> bool:
        """Go on where an import statement of a module points; False if `node` is none."""
        found = [entry for entry in imported(node) if entry[2] == name]
        for level, target, _, inner in found:
            absolute = _absolute(level, target, module)
            self._add(f"{_shown(module)}:{name}", f"import {absolute} {'.'.join(inner)}")
            self._follow(absolute, inner + rest)
        return bool(found)

    def _follow_body_imports(self, uses: Uses, module: str) -> None:
        for level, target, bound, inner in uses.imports:
            chains = {chain[1:] for chain in uses.local_chains if chain[0] == bound}
            for chain in chains or ({()} if inner else ()):
                self._follow(_absolute(level, target, module), inner + chain)


def _is(value: Any, kinds: type | tuple[type, ...]) -> bool:
    """Whether a user's object is of a kind; `isinstance` would ask the object for its `__class__`."""
    return issubclass(type(value), kinds)


def _innermost(root: Any) -> Any:
    """Return what a partial, a method or a decorated function has inside."""
    for _ in range(_MAX_DEPTH):
        if _is(root, functools.partial):
            root = root.func
        elif _is(root, types.MethodType):
            root = root.__func__
        else:
            wrapped = inspect.getattr_static(root, "__wrapped__", None)
            if not callable(wrapped) or _is(root, type):
                break
            root = wrapped
    return root


def _cells(function: types.FunctionType) -> dict[str, Any]:
    """Return what a function's closure holds by now."""
    values = {}
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        with contextlib.suppress(ValueError):  # not assigned yet
            values[name] = cell.cell_contents
    return values


def _loaded_names(module: str) -> dict[str, Any]:
    loaded = sys.modules.get(module)
    return vars(loaded) if _is(loaded, types.ModuleType) else {}


def _absolute(level: int, target: str, module: str) -> str:
    """Return the absolute name of an import's target; empty if it leads out of the package."""
    if not level:
        return target
    package = _loaded_names(module).get("__package__")
    if package is None:
        found = find_module(module)
        is_package = found is not None and found.locations is not None
        package = module if is_package else module.rpartition(".")[0]
    try:
        return importlib.util.resolve_name("." * level + target, package)
    except ImportError:
        return ""


def _methods(cls: type) -> Iterator[tuple[str, types.FunctionType]]:
    for name, value in sorted(vars(cls).items()):
        inner = value.__func__ if _is(value, (staticmethod, classmethod)) else value
        parts = (inner.fget, inner.fset, inner.fdel) if _is(inner, property) else (inner,)
        for number, part in enumerate(parts):
            if _is(part, types.FunctionType):
                yield f"{name}{number or ''}", part


def _attributes(cls: type) -> Iterator[tuple[str, Any]]:
    skipped = {"__doc__", "__module__", "__dict__", "__weakref__", "__firstlineno__", "__static_attributes__"}
    code = (types.FunctionType, staticmethod, classmethod, property)
    for name, value in sorted(vars(cls).items()):
        if name not in skipped and not _is(value, code):
            yield name, value
