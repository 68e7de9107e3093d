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

Values count with all of their state (`zen_mlmd.fingerprint.forms`): globals, what a closure holds, the
attributes of classes and functions that are plain values by now. A global whose state cannot be told, a
lock or a connection, counts by the statement that makes it. Where no statement is known, in a closure
or a notebook, it is `unseen`, and the fingerprint does not tell whether the code would do the same again.

Not seen: modules named only at run time (`importlib.import_module`, `getattr` with a computed name),
files that the code reads, globals that some function rebinds by a `global` statement (they count by
the statement that makes them). A global list, dict or object that the program fills as it runs gives a
new fingerprint each time: keep such a cache in `functools.cache`, or give its class a `__reduce__` that
leaves it out.
"""

from __future__ import annotations

import ast
import builtins
import contextlib
import dataclasses
import enum
import functools
import json
import sys
import types
from collections import defaultdict, deque
from typing import TYPE_CHECKING, Any

from zen_mlmd.fingerprint.forms import Form, form_of, is_a, name_of
from zen_mlmd.fingerprint.modules import absolute_name, find_module, loaded_names, shown_module
from zen_mlmd.fingerprint.project import Project
from zen_mlmd.fingerprint.source import Source, source_of_file
from zen_mlmd.fingerprint.syntax import bytecode_digest, sha256
from zen_mlmd.fingerprint.uses import Uses, imported, uses_of_code

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

_BUILTINS = frozenset(dir(builtins))
# What the import system sets: a path would tie the fingerprint to one directory.
_MODULE_NAMES = frozenset(
    {"__name__", "__file__", "__path__", "__doc__", "__spec__", "__loader__", "__package__", "__cached__"}
)
_FIELDS = ("__dataclass_fields__", "__pydantic_fields__", "model_fields")
"""Where classes keep their fields; pydantic up to 2.9 under the last of these names."""
_MISSING = object()


@dataclasses.dataclass(frozen=True)
class Fingerprint:
    """What is known of a function's code and of all that it uses.

    Attributes:
        pieces: `module:qualified.name` of a function, class or global constant to `sha256:...`, sorted
            by name. The script that was started goes by its file's name instead of `__main__`, so
            that it has the same pieces when it is imported.
        unseen: The names of values that it uses and that can change without changing a piece.
    """

    pieces: dict[str, str]
    unseen: tuple[str, ...] = ()

    @property
    def code(self) -> str:
        """All pieces as one hash."""
        return sha256(json.dumps(self.pieces, sort_keys=True))


def fingerprint_of(function: Callable[..., Any]) -> Fingerprint:
    """Return the fingerprint of `function` and all code and constants it uses.

    Equal in all processes and on all Python versions that parse the code alike, unless some source
    text cannot be had. Never raises for a callable. Takes milliseconds for each file not seen before,
    less than one for a typical step after that.
    """
    explorer = _Explorer(function)
    if explorer.reads_docs:
        explorer = _Explorer(function, docs=True)
    pieces = {key: sha256(*sorted(hashes)) for key, hashes in sorted(explorer.pieces.items())}
    return Fingerprint(pieces, tuple(sorted(explorer.unseen)))


def code_fingerprint(function: Callable[..., Any]) -> str:
    """Return `sha256:...` over the code of `function` and all code and constants it uses."""
    return fingerprint_of(function).code


def explain_fingerprint(function: Callable[..., Any]) -> dict[str, str]:
    """Return the hash of each piece that `code_fingerprint` is made from, see `Fingerprint`.

    A hash stands for a value, also for a short secret that stands in a global constant: who knows the
    code can try all short ones.
    """
    return fingerprint_of(function).pieces


class _Explorer:
    """One search from one root through live objects and source files.

    Attributes:
        pieces: The hashes of what was found, by name.
        unseen: See `Fingerprint`.
        reads_docs: Whether some code reads docstrings, so that all must count.
    """

    def __init__(self, root: Any, *, docs: bool = False) -> None:
        self.pieces: defaultdict[str, set[str]] = defaultdict(set)
        self.unseen: set[str] = set()
        self.reads_docs = False
        self._docs = docs
        self._project = Project(root)
        self._queue: deque[Callable[[], None]] = deque()
        self._seen: dict[int, Any] = {}  # keeps the objects, so that no id is used twice
        self._followed: set[tuple[str, tuple[str, ...]]] = set()
        self._search(root)

    def _search(self, root: Any) -> None:
        form = self._form(root)
        while self._queue:
            task = self._queue.popleft()
            try:
                task()
            except Exception as error:  # noqa: BLE001 - a user's object may do anything when looked at
                self._add("?:unreadable", type(error).__qualname__)
        text = form.text
        if not self.pieces:
            text += _python()  # C code and classes that are not of the project
        if not is_a(root, (types.FunctionType, type)) or not self.pieces:
            self._add(name_of(type(root)), text)
            if not form.whole:
                self.unseen.add(name_of(type(root)))

    def _add(self, key: str, *texts: str) -> None:
        self.pieces[key].add(sha256(*texts))

    def _digest(self, source: Source, node: ast.AST) -> str:
        return source.digest(node, docs=self._docs)

    # -- live objects

    def _form(self, value: Any) -> Form:
        """Return a text that tells `value` from others; the code in it is searched later."""
        return form_of(value, found=self._later, is_project=self._project.has_class)

    def _later(self, thing: Any) -> None:
        if id(thing) not in self._seen:
            self._seen[id(thing)] = thing
            task = self._explore_class if is_a(thing, type) else self._explore_function
            self._queue.append(functools.partial(task, thing))

    def _forms(self, values: Mapping[str, Any]) -> list[str]:
        """Return the texts of those values whose state can be told."""
        forms = {name: self._form(value) for name, value in sorted(values.items())}
        return [f"{name}={form.text}" for name, form in forms.items() if form.whole]

    def _explore_function(self, function: types.FunctionType) -> None:
        names, code, cells = function.__globals__, function.__code__, _cells(function)
        held = {name: self._form(value) for name, value in sorted(cells.items())}
        bindings = [f"{name}={form.text}" for name, form in held.items()]
        if "__wrapped__" in function.__dict__:
            bindings.append(f"__wrapped__={self._form(function.__dict__['__wrapped__']).text}")
        if not self._project.has_function(function):
            return
        self.unseen.update(name for name, form in held.items() if not form.whole)
        module = str(names.get("__name__") or "")
        defaults = self._form((function.__defaults__, function.__kwdefaults__))
        bindings.append(defaults.text)
        bindings += self._forms(_public(function.__dict__))
        source = source_of_file(code.co_filename, names)
        nodes = source.functions_of(code) if source is not None else []
        if source is not None and nodes:
            qualname = source.qualnames[nodes[0]]
            texts = [self._digest(source, node) for node in nodes]
            uses = [source.uses(node) for node in nodes]
        else:
            qualname = getattr(code, "co_qualname", function.__qualname__)
            texts = [_python(), bytecode_digest(code)]
            uses = [uses_of_code(code)]
            if not defaults.whole:
                self.unseen.add(f"a default of {qualname}")
        bindings += self._bindings(uses, names, cells, module)
        self._add(f"{shown_module(module)}:{qualname}", *texts, *bindings)

    def _explore_class(self, cls: type) -> None:
        module = str(cls.__module__)
        names = loaded_names(module)
        file = names.get("__file__")
        if not self._project.has_class(cls):
            return
        methods = dict(_methods(cls))
        source, nodes = self._class_nodes(cls, file, list(methods.values()))
        bindings = [self._form(base).text for base in (*cls.__mro__[1:], type(cls))]
        if nodes or self._project.source_of(module) is not None:
            # What dataclasses, enums and the like put in differs from one Python to the next.
            methods = {name: method for name, method in methods.items() if self._is_written(method)}
        attributes = _attributes(cls)
        if source is None:
            hidden = ("__annotations__", "__doc__") if self._docs else ("__annotations__",)
            attributes.update((name, vars(cls)[name]) for name in hidden if name in vars(cls))
            self._follow(module, (cls.__qualname__.partition(".")[0],))
        else:
            cells = {name: value for method in methods.values() for name, value in _cells(method).items()}
            bindings = [self._digest(source, node) for node in nodes]
            bindings += self._bindings([source.uses(node) for node in nodes], names, cells, module)
        bindings += self._forms(attributes)
        bindings += [f"{name}={self._form(method).text}" for name, method in methods.items()]
        self._add(name_of(cls), *bindings)

    def _is_written(self, function: types.FunctionType) -> bool:
        """Whether a function is of the project and its text can be had."""
        names, file = function.__globals__, function.__code__.co_filename
        is_project = self._project.has(str(names.get("__name__") or ""), file)
        return is_project and source_of_file(file, names) is not None

    def _class_nodes(
        self, cls: type, file: str | None, methods: list[types.FunctionType]
    ) -> tuple[Source | None, list[ast.AST]]:
        """Return the source of a class, if what runs is what the source says."""
        files = [file] if file is not None else sorted({method.__code__.co_filename for method in methods})
        for name in files:
            source = source_of_file(name, loaded_names(str(cls.__module__)))
            nodes = source.classes.get(cls.__qualname__, []) if source is not None else []
            here = [method.__code__ for method in methods if method.__code__.co_filename == name]
            if source is not None and nodes and all(source.functions_of(code) for code in here):
                return source, nodes
        return None, []

    def _bindings(
        self, uses: list[Uses], names: Mapping[str, Any], cells: Mapping[str, Any], module: str
    ) -> list[str]:
        """Search what the uses name; return which code each name is bound to.

        What the closure holds is described already, but for a module: of that, what is taken counts.
        """
        bound = set()
        for used in uses:
            for chain in used.chains:
                if chain[0] not in cells:
                    bound.add(f"{'.'.join(chain)}={self._resolve(names, module, chain)}")
                elif is_a(cells[chain[0]], types.ModuleType):
                    bound.add(f"{'.'.join(chain)}={self._resolve_in_module(cells[chain[0]], chain[1:])}")
            self._follow_body_imports(used, module)
            self.reads_docs = self.reads_docs or used.docs
        return sorted(bound)

    def _resolve(self, names: Mapping[str, Any], module: str, chain: tuple[str, ...]) -> str:
        """Look a dotted name up among live objects; return what it is bound to if that is code."""
        name, rest = chain[0], chain[1:]
        value = names.get(name, _MISSING)
        if name == "__doc__":
            return self._form(names.get(name)).text
        if name in _MODULE_NAMES or value is _MISSING:
            self._follow(module, chain)
            return ""
        if is_a(value, types.ModuleType):
            return self._resolve_in_module(value, rest)
        if is_a(value, (types.FunctionType, type)):
            return self._form(value).text
        self._explore_global(value, module, name)
        return ""

    def _explore_global(self, value: Any, module: str, name: str) -> None:
        source = self._project.source_of(module)
        has_statement = source is not None and bool(name in source.bindings or source.stars)
        if has_statement and source is not None and name in source.rebound:
            self._follow(module, (name,))
            return
        form = self._form(value)
        if form.whole:
            self._add(f"{shown_module(module)}:{name}", form.text)
        elif has_statement:
            self._follow(module, (name,))
        else:
            self.unseen.add(name)

    def _resolve_in_module(self, module: types.ModuleType, chain: tuple[str, ...]) -> str:
        names = vars(module)
        name = str(names.get("__name__"))
        if not self._project.has(name, names.get("__file__")):
            return f"module {name}"
        if chain:
            return self._resolve(names, name, chain)
        self._follow(name, ())
        return f"module {shown_module(name)}"

    # -- source files

    def _follow(self, module: str, chain: tuple[str, ...]) -> None:
        """Take what `chain` names in a module's source into the search; () is the whole module."""
        known = not chain or (chain[0] not in _MODULE_NAMES and chain[0] not in _BUILTINS)
        if module and known and (module, chain) not in self._followed:
            self._followed.add((module, chain))
            task = self._follow_name if chain else self._follow_module
            self._queue.append(functools.partial(task, module, chain))

    def _follow_module(self, module: str, _chain: tuple[str, ...]) -> None:
        source = self._project.source_of(module)
        if source is not None:
            self._add(f"{shown_module(module)}:<module>", self._digest(source, source.tree))
            for name in source.bindings:
                self._follow(module, (name,))

    def _follow_name(self, module: str, chain: tuple[str, ...]) -> None:
        source, name, rest = self._project.source_of(module), chain[0], chain[1:]
        if source is not None and name in source.bindings:
            for node in source.bindings[name]:
                if not self._follow_import(module, node, name, rest):
                    self._add(f"{shown_module(module)}:{name}", self._digest(source, node))
                    uses = source.uses(node)
                    self.reads_docs = self.reads_docs or uses.docs
                    for inner in uses.chains:
                        self._follow(module, inner)
                    self._follow_body_imports(uses, module)
            return
        found = find_module(module)
        if found is not None and found.locations is not None and find_module(f"{module}.{name}") is not None:
            self._follow(f"{module}.{name}", rest)
        elif source is not None:
            for level, target in source.stars:
                self._follow(absolute_name(level, target, module), chain)
            self._follow(module, ("__getattr__",))

    def _follow_import(self, module: str, node: ast.AST, name: str, rest: tuple[str, ...]) -> bool:
        """Go on where an import statement of a module points; False if `node` is none."""
        found = [entry for entry in imported(node) if entry[2] == name]
        for level, target, _, inner in found:
            absolute = absolute_name(level, target, module)
            self._add(f"{shown_module(module)}:{name}", f"import {absolute} {'.'.join(inner)}")
            self._follow(absolute, inner + rest)
        return bool(found)

    def _follow_body_imports(self, uses: Uses, module: str) -> None:
        for level, target, bound, inner in uses.imports:
            chains = {chain[1:] for chain in uses.local_chains if chain[0] == bound}
            for chain in chains or ({()} if inner else ()):
                self._follow(absolute_name(level, target, module), inner + chain)


def _cells(function: types.FunctionType) -> dict[str, Any]:
    """Return what a function's closure holds by now."""
    values = {}
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        with contextlib.suppress(ValueError):  # not assigned yet
            values[name] = cell.cell_contents
    return values


def _methods(cls: type) -> Iterator[tuple[str, types.FunctionType]]:
    for name, value in sorted(vars(cls).items()):
        inner = value.__func__ if is_a(value, (staticmethod, classmethod)) else value
        parts = (inner.fget, inner.fset, inner.fdel) if is_a(inner, property) else (inner,)
        for number, part in enumerate(parts):
            if is_a(part, types.FunctionType):
                yield f"{name}{number or ''}", part


def _attributes(cls: type) -> dict[str, Any]:
    """Return a class's values, and the defaults of its fields: set by now, by whatever code."""
    if issubclass(cls, enum.Enum):
        return {name: member._value_ for name, member in cls.__members__.items()}
    found = {
        name: value
        for name, value in _public(vars(cls)).items()
        if not hasattr(type(value), "__get__") or is_a(value, functools.cached_property)
    }
    for name in _FIELDS:
        fields = vars(cls).get(name)
        if isinstance(fields, dict):
            found[name] = {each: getattr(field, "default", None) for each, field in fields.items()}
    return found


def _public(names: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in names.items() if not name.startswith("__")}


def _python() -> str:
    return f"Python {sys.version_info[0]}.{sys.version_info[1]}"
