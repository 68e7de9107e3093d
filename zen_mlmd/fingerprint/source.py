"""Source files as syntax trees: what a piece of code says, and which names it uses."""

from __future__ import annotations

import ast
import functools
import linecache
import os
import tokenize
import types
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from zen_mlmd.fingerprint.syntax import all_codes, bytecode_digest, tree_digest
from zen_mlmd.fingerprint.uses import Function, Uses, imported, uses_of

_Block = (ast.ExceptHandler, ast.match_case)


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
        self._digests: dict[tuple[ast.AST, bool], str] = {}
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

    def digest(self, node: ast.AST, *, docs: bool = False) -> str:
        """Return a hash of a node without its layout, and unless `docs` without its docstrings."""
        key = (node, docs)
        if key not in self._digests:
            self._digests[key] = tree_digest(node, docs=docs)
        return self._digests[key]

    def uses(self, node: ast.AST) -> Uses:
        """Return what a node names outside itself."""
        if node not in self._uses:
            self._uses[node] = uses_of(node)
        return self._uses[node]

    def _index_definitions(self) -> None:
        todo: list[tuple[ast.AST, str]] = [(self.tree, "")]
        while todo:
            parent, prefix = todo.pop()
            for node in ast.iter_child_nodes(parent):
                inner = prefix
                if isinstance(node, (*Function, ast.Lambda)):
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
        for inner in all_codes(code):
            entry = (bytecode_digest(inner), inner.co_firstlineno)
            self._codes.setdefault(inner.co_name, []).append(entry)

    def _index_bindings(self, statements: list[ast.stmt]) -> None:
        for node in statements:
            if isinstance(node, (*Function, ast.ClassDef)):
                names = {node.name}
            elif isinstance(node, ast.ImportFrom) and node.names[0].name == "*":
                self.stars.append((node.level, node.module or ""))
                continue
            elif isinstance(node, (ast.Import, ast.ImportFrom)):
                names = {bound for _, _, bound, _ in imported(node)}
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
