"""Source files as syntax trees: what a piece of code says, and which names it uses."""

from __future__ import annotations

import ast
import dataclasses
import functools
import hashlib
import importlib.machinery
import importlib.util
import linecache
import os
import sys
import sysconfig
import tokenize
import types
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


_Function = (ast.FunctionDef, ast.AsyncFunctionDef)
_Comprehension = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
_Block = (ast.ExceptHandler, ast.match_case)
_CODE_FLAGS = 0x3FF  # what a code object does; above them stand those of `from __future__` imports
_LAYOUT = frozenset({"ctx", "kind", "type_comment", "type_ignores"})

_Import = tuple[int, str, str, tuple[str, ...]]
"""One imported name: the level of a relative import, the module, the bound name, the name in the module."""


@dataclasses.dataclass
class Uses:
    """What a piece of a syntax tree names outside itself.

    Attributes:
        chains: Dotted names that begin with a global, builtin or enclosing name: `a.b.c` as
            `("a", "b", "c")`.
        local_chains: The same for names that are bound inside.
        imports: The imports that stand inside.
    """

    chains: set[tuple[str, ...]] = dataclasses.field(default_factory=set)
    local_chains: set[tuple[str, ...]] = dataclasses.field(default_factory=set)
    imports: list[_Import] = dataclasses.field(default_factory=list)


class Source:
    """One parsed text.

    Attributes:
        bindings: Each top-level name to the statements that bind or change it.
        classes: Each class's qualified name to its definitions.
        qualnames: Each function's node to its qualified name.
        rebound: Names that some function rebinds by a `global` statement.
        stars: Level and module of each top-level `from ... import *`.
    """

    def __init__(self, text: str, name: str) -> None:
        flags = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self.tree: ast.Module = compile(text, name, "exec", flags | ast.PyCF_ONLY_AST, dont_inherit=True)
            code = compile(self.tree, name, "exec", flags, dont_inherit=True)
        self.bindings: dict[str, list[ast.AST]] = {}
        self.classes: dict[str, list[ast.AST]] = {}
        self.qualnames: dict[ast.AST, str] = {}
        self.rebound: set[str] = set()
        self.stars: list[tuple[int, str]] = []
        self._functions: dict[tuple[int, str], list[ast.AST]] = {}
        self._codes: dict[str, list[tuple[str, int]]] = {}
        self._digests: dict[ast.AST, str] = {}
        self._uses: dict[ast.AST, Uses] = {}
        self._index_definitions()
        self._index_codes(code)
        self._index_bindings(self.tree.body)

    def functions_of(self, code: types.CodeType) -> list[ast.AST]:
        """Return the definitions that compile to `code`, several if they cannot be told apart.

        None of them if the text was edited after `code` was compiled from it, or if an import hook (pytest's
        for `assert`, say) changed the code. Lines may have moved.
        """
        digest = bytecode_digest(code)
        lines = [line for found, line in self._codes.get(code.co_name, ()) if found == digest]
        if code.co_firstlineno in lines:
            lines = [code.co_firstlineno]
        return [
            node for line in dict.fromkeys(lines) for node in self._functions.get((line, code.co_name), ())
        ]

    def digest(self, node: ast.AST) -> str:
        """Return a hash of a node without its layout and docstrings."""
        if node not in self._digests:
            self._digests[node] = _tree_digest(node)
        return self._digests[node]

    def uses(self, node: ast.AST) -> Uses:
        """Return what a node names outside itself."""
        if node not in self._uses:
            visitor = _UsesVisitor()
            try:
                visitor.visit(node)
                self._uses[node] = visitor.uses
            except RecursionError:  # a sum of hundreds of terms; without scopes it can be done flat
                names: set[tuple[str, ...]] = {
                    (inner.id,) for inner in ast.walk(node) if isinstance(inner, ast.Name)
                }
                imports = [name for inner in ast.walk(node) for name in self.imported(inner)]
                self._uses[node] = Uses(names, names, imports)
        return self._uses[node]

    @staticmethod
    def uses_of_code(code: types.CodeType) -> Uses:
        """Return what bytecode names: single names, among them those of attributes."""
        return Uses(chains={(name,) for inner in _all_codes(code) for name in inner.co_names})

    @staticmethod
    def imported(node: ast.AST) -> list[_Import]:
        """Return the names that an import statement binds; none for other nodes."""
        if isinstance(node, ast.ImportFrom):
            return [
                (node.level, node.module or "", alias.asname or alias.name, (alias.name,))
                for alias in node.names
            ]
        if isinstance(node, ast.Import):
            return [
                (0, alias.name, alias.asname, ())
                if alias.asname
                else (0, alias.name.partition(".")[0], alias.name.partition(".")[0], ())
                for alias in node.names
            ]
        return []

    def _index_definitions(self) -> None:
        todo: list[tuple[ast.AST, str]] = [(self.tree, "")]
        while todo:
            parent, prefix = todo.pop()
            for node in ast.iter_child_nodes(parent):
                inner = prefix
                if isinstance(node, (*_Function, ast.Lambda)):
                    name = "<lambda>" if isinstance(node, ast.Lambda) else node.name
                    decorators = [] if isinstance(node, ast.Lambda) else node.decorator_list
                    line = decorators[0].lineno if decorators else node.lineno  # as co_firstlineno
                    self._functions.setdefault((line, name), []).append(node)
                    self.qualnames[node] = prefix + name
                    inner = f"{prefix}{name}.<locals>."
                elif isinstance(node, ast.ClassDef):
                    self.classes.setdefault(prefix + node.name, []).append(node)
                    inner = f"{prefix}{node.name}."
                elif isinstance(node, ast.Global):
                    self.rebound.update(node.names)
                todo.append((node, inner))

    def _index_codes(self, code: types.CodeType) -> None:
        for inner in _all_codes(code):
            entry = (bytecode_digest(inner), inner.co_firstlineno)
            self._codes.setdefault(inner.co_name, []).append(entry)

    def _index_bindings(self, statements: list[ast.stmt]) -> None:
        for node in statements:
            if isinstance(node, (*_Function, ast.ClassDef)):
                names = {node.name}
            elif isinstance(node, ast.ImportFrom) and node.names[0].name == "*":
                self.stars.append((node.level, node.module or ""))
                continue
            elif isinstance(node, (ast.Import, ast.ImportFrom)):
                names = {bound for _, _, bound, _ in self.imported(node)}
            else:
                blocks = [b for b in ast.iter_child_nodes(node) if isinstance(b, _Block)]
                for block in (node, *blocks):
                    for part in ("body", "orelse", "finalbody"):
                        self._index_bindings(getattr(block, part, []))
                names = set(_stored_names(node))
            for name in names:
                self.bindings.setdefault(name, []).append(node)


def _stored_names(statement: ast.AST) -> Iterator[str]:
    """Yield the names that a statement's own expressions bind, or of whose value they set a part."""
    todo = [node for node in ast.iter_child_nodes(statement) if not isinstance(node, ast.stmt)]
    while todo:
        node = todo.pop()
        if isinstance(getattr(node, "ctx", None), ast.Store):
            root = node
            while isinstance(root, (ast.Attribute, ast.Subscript)):
                root = root.value
            if isinstance(root, ast.Name):
                yield root.id
        todo.extend(child for child in ast.iter_child_nodes(node) if not isinstance(child, ast.stmt))


class _UsesVisitor(ast.NodeVisitor):
    """Collects `Uses`, by Python's rules of scope.

    A class's own names count as outside names too where its body reads them: too much, never too little.
    """

    def __init__(self) -> None:
        self.uses = Uses()
        self._scopes: list[set[str]] = []

    def visit_Name(self, node: ast.Name) -> None:
        self._add((node.id,), node.ctx)

    def visit_Attribute(self, node: ast.Attribute) -> None:
        names: list[str] = []
        inner: ast.expr = node
        while isinstance(inner, ast.Attribute):
            names.append(inner.attr)
            inner = inner.value
        if isinstance(inner, ast.Name):
            self._add((inner.id, *reversed(names)), inner.ctx)
        else:
            self.visit(inner)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        self._visit_function(node)

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> None:
        self._visit_function(node)

    def visit_Lambda(self, node: ast.Lambda) -> None:
        self._visit_function(node)

    def visit_ListComp(self, node: ast.ListComp) -> None:
        self._visit_comprehension(node)

    def visit_SetComp(self, node: ast.SetComp) -> None:
        self._visit_comprehension(node)

    def visit_DictComp(self, node: ast.DictComp) -> None:
        self._visit_comprehension(node)

    def visit_GeneratorExp(self, node: ast.GeneratorExp) -> None:
        self._visit_comprehension(node)

    def visit_Import(self, node: ast.Import) -> None:
        self.uses.imports += Source.imported(node)

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        self.uses.imports += Source.imported(node)

    def _add(self, chain: tuple[str, ...], context: ast.expr_context) -> None:
        if any(chain[0] in scope for scope in self._scopes):
            self.uses.local_chains.add(chain)
        elif isinstance(context, ast.Load):
            self.uses.chains.add(chain)

    def _visit_function(self, node: ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) -> None:
        body = [node.body] if isinstance(node, ast.Lambda) else node.body
        inside = {id(statement) for statement in body}
        for child in ast.iter_child_nodes(node):  # decorators, defaults, annotations: the scope around it
            if id(child) not in inside:
                self.visit(child)
        self._scopes.append(_bound_in(node.args, body))
        for statement in body:
            self.visit(statement)
        self._scopes.pop()

    def _visit_comprehension(
        self, node: ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp
    ) -> None:
        self.visit(node.generators[0].iter)  # evaluated in the scope around it
        targets = [name for part in node.generators for name in ast.walk(part.target)]
        self._scopes.append({name.id for name in targets if isinstance(name, ast.Name)})
        self.generic_visit(node)
        self._scopes.pop()


def _bound_in(arguments: ast.arguments, body: list[Any]) -> set[str]:
    """Return a function's local names."""
    bound = {node.arg for node in ast.walk(arguments) if isinstance(node, ast.arg)}
    outer: set[str] = set()
    todo: list[ast.AST] = list(body)
    while todo:
        node = todo.pop()
        if isinstance(node, (ast.Global, ast.Nonlocal)):
            outer.update(node.names)
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            bound.update(name for _, _, name, _ in Source.imported(node))
        elif isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
            bound.add(node.id)
        elif isinstance(node, (ast.ExceptHandler, ast.MatchAs, ast.MatchStar)) and node.name:
            bound.add(node.name)
        elif isinstance(node, ast.MatchMapping) and node.rest:
            bound.add(node.rest)
        if isinstance(node, (*_Function, ast.ClassDef)):
            bound.add(node.name)
        elif not isinstance(node, (ast.Lambda, *_Comprehension)):
            todo.extend(ast.iter_child_nodes(node))
    return bound - outer


def _tree_digest(root: ast.AST) -> str:
    parts: list[str] = []
    todo: list[Any] = [root]  # nodes, lists of them, and texts that are ready; no recursion, so no limit
    while todo:
        item = todo.pop()
        if isinstance(item, str):
            parts.append(item)
        elif isinstance(item, ast.JoinedStr):
            todo += [")", _merged(item.values), "(JoinedStr"]
        elif isinstance(item, list):
            todo.append("]")
            todo.extend(reversed([_plain(child) for child in item if not _is_idle(child)]))
            todo.append("[")
        else:
            todo.append(")")
            for name in reversed(item._fields):
                value = getattr(item, name, None)
                # Fields that newer versions added are empty unless newer syntax is used.
                if name not in _LAYOUT and value is not None and value != []:
                    todo += [_plain(value), name]
            todo.append(f"({type(item).__name__}")
    return hashlib.sha256("\0".join(parts).encode("utf-8", "backslashreplace")).hexdigest()


def _merged(values: list[ast.expr]) -> list[ast.expr]:
    """Join the constant parts of an f-string: Python 3.12 cuts them otherwise and adds empty ones."""
    merged: list[ast.expr] = []
    for value in values:
        if isinstance(value, ast.Constant):
            last = merged[-1] if merged else None
            if isinstance(last, ast.Constant):
                merged[-1] = ast.Constant(str(last.value) + str(value.value))
            elif value.value:
                merged.append(value)
        else:
            merged.append(value)
    return merged


def _plain(value: Any) -> Any:
    return value if isinstance(value, (ast.AST, list)) else constant_text(value)


def _is_idle(node: Any) -> bool:
    """Whether a statement does nothing: `pass`, a docstring, a string that stands for a comment."""
    return isinstance(node, ast.Pass) or (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )


def constant_text(value: Any) -> str:
    """Return a text for what can stand in a code object's constants; the same in all processes."""
    if isinstance(value, types.CodeType):
        return bytecode_digest(value)
    if isinstance(value, tuple):
        return f"({', '.join(map(constant_text, value))})"
    if isinstance(value, frozenset):
        return f"{{{', '.join(sorted(map(constant_text, value)))}}}"
    if type(value) is int:
        return hex(value)  # repr refuses more than 4300 digits
    return repr(value)


@functools.lru_cache(maxsize=4096)
def bytecode_digest(code: types.CodeType) -> str:
    """Return a hash of what a code object does, without its lines and file."""
    parts = (
        *(code.co_name, code.co_code.hex(), str(code.co_flags & _CODE_FLAGS)),
        *(str(code.co_argcount), str(code.co_posonlyargcount), str(code.co_kwonlyargcount)),
        *map(constant_text, (code.co_consts, code.co_names, code.co_freevars, code.co_cellvars)),
    )
    return hashlib.sha256("\0".join(parts).encode("utf-8", "backslashreplace")).hexdigest()


def _all_codes(code: types.CodeType) -> Iterator[types.CodeType]:
    todo = [code]
    while todo:
        inner = todo.pop()
        yield inner
        todo.extend(constant for constant in inner.co_consts if isinstance(constant, types.CodeType))


def source_of_file(file: str, names: Mapping[str, Any] | None = None) -> Source | None:
    """Return the parsed text of a file, notebook cell or zipped module; None if there is none.

    Args:
        file: As a code object names it.
        names: The module's globals, for the loader of a zipped module.
    """
    path = file
    own = (names or {}).get("__file__")
    if isinstance(own, str) and not Path(file).is_absolute() and Path(own).name == Path(file).name:
        path = own  # the script was started by a relative path, and the directory may have changed
    try:
        stat = os.stat(path)  # noqa: PTH116 - this is most of the cost of a repeated fingerprint
    except (OSError, ValueError):
        linecache.checkcache(file)
        text = "".join(linecache.getlines(file, dict(names) if names is not None else None))
        return _parse_text(text, file) if text else None
    return _parse_file(path, stat.st_mtime_ns, stat.st_size)


@functools.lru_cache(maxsize=512)
def _parse_file(path: str, _mtime_ns: int, _size: int) -> Source | None:
    try:
        with tokenize.open(path) as file:
            return _parse_text(file.read(), path)
    except (OSError, SyntaxError, UnicodeDecodeError):
        return None


@functools.lru_cache(maxsize=512)
def _parse_text(text: str, name: str) -> Source | None:
    try:
        return Source(text, name)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


@dataclasses.dataclass(frozen=True)
class _Module:
    """Where a module's source lies: its file, and for a package the directories of its modules."""

    file: str | None
    locations: tuple[str, ...] | None


_found: dict[tuple[str, tuple[str, ...]], _Module] = {}


def find_module(name: str) -> _Module | None:
    """Find a module without executing it or the packages it lies in; None if there is none.

    `importlib.util.find_spec` would import the packages.
    """
    loaded = sys.modules.get(name)
    if loaded is not None:
        names = vars(loaded)
        path = names.get("__path__")
        return _Module(names.get("__file__"), None if path is None else tuple(path))
    key = (name, tuple(sys.path))
    if key not in _found:
        parent, _, _ = name.rpartition(".")
        package = find_module(parent) if parent else None
        if not name or (parent and (package is None or package.locations is None)):
            return None
        module = _ask_finders(name, list(package.locations or ()) if package is not None else None)
        if module is None:
            return None  # not remembered: the file may be written later
        _found[key] = module
    return _found[key]


def _ask_finders(name: str, path: list[str] | None) -> _Module | None:
    for finder in sys.meta_path:
        try:
            spec: importlib.machinery.ModuleSpec | None = finder.find_spec(name, path)
        except Exception:  # noqa: BLE001, S112 - a foreign finder
            continue
        if spec is not None:
            locations = spec.submodule_search_locations
            file = spec.origin if spec.has_location else None
            return _Module(file, None if locations is None else tuple(locations))
    return None


@functools.lru_cache(maxsize=4096)
def is_installed(file: str) -> bool:
    """Whether a file belongs to an installed package or the standard library."""
    path = Path(os.path.realpath(file))
    if {"site-packages", "dist-packages"} & set(path.parts):
        return True
    paths = sysconfig.get_paths()
    prefixes = {os.path.realpath(paths[key]) for key in ("stdlib", "platstdlib", "purelib", "platlib")}
    return any(path.is_relative_to(prefix) for prefix in prefixes)
