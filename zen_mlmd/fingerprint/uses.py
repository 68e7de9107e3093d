"""Which names a piece of a syntax tree takes from outside itself."""

from __future__ import annotations

import ast
import dataclasses
import types
from typing import Any

from zen_mlmd.fingerprint.syntax import all_codes

Function = (ast.FunctionDef, ast.AsyncFunctionDef)
_DOCS = frozenset({"__doc__", "getdoc"})
_Comprehension = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)

Import = tuple[int, str, str, tuple[str, ...]]
"""One imported name: the level of a relative import, the module, the bound name, the name in the module."""


@dataclasses.dataclass
class Uses:
    """What a piece of a syntax tree names outside itself.

    Attributes:
        chains: Dotted names that begin with a global, builtin or enclosing name: `a.b.c` as
            `("a", "b", "c")`.
        local_chains: The same for names that are bound inside.
        imports: The imports that stand inside.
        docs: Whether it reads docstrings.
    """

    chains: set[tuple[str, ...]] = dataclasses.field(default_factory=set)
    local_chains: set[tuple[str, ...]] = dataclasses.field(default_factory=set)
    imports: list[Import] = dataclasses.field(default_factory=list)
    docs: bool = False


def imported(node: ast.AST) -> list[Import]:
    """Return the names that an import statement binds; none for other nodes."""
    if isinstance(node, ast.ImportFrom):
        return [
            (node.level, node.module or "", alias.asname or alias.name, (alias.name,)) for alias in node.names
        ]
    if isinstance(node, ast.Import):
        return [
            (0, alias.name, alias.asname, ())
            if alias.asname
            else (0, alias.name.partition(".")[0], alias.name.partition(".")[0], ())
            for alias in node.names
        ]
    return []


def uses_of(node: ast.AST) -> Uses:
    """Return what a node names outside itself."""
    visitor = _UsesVisitor()
    try:
        visitor.visit(node)
    except RecursionError:  # a sum of hundreds of terms; without scopes it can be done flat
        names: set[tuple[str, ...]] = {(inner.id,) for inner in ast.walk(node) if isinstance(inner, ast.Name)}
        attributes = {inner.attr for inner in ast.walk(node) if isinstance(inner, ast.Attribute)}
        return Uses(
            names,
            names,
            [name for inner in ast.walk(node) for name in imported(inner)],
            docs=not _DOCS.isdisjoint(attributes | {name for (name,) in names}),
        )
    return visitor.uses


def uses_of_code(code: types.CodeType) -> Uses:
    """Return what bytecode names: single names, among them those of attributes."""
    names = {name for inner in all_codes(code) for name in inner.co_names}
    return Uses(chains={(name,) for name in names}, docs=not _DOCS.isdisjoint(names))


class _UsesVisitor(ast.NodeVisitor):
    """Collects `Uses`, by Python's rules of scope.

    A class's own names count as outside names too where its body reads them: too much, never too little.
    """

    def __init__(self) -> None:
        self.uses = Uses()
        self._scopes: list[set[str]] = []

    def visit_Name(self, node: ast.Name) -> None:
        self.uses.docs = self.uses.docs or node.id in _DOCS
        self._add((node.id,), node.ctx)

    def visit_Attribute(self, node: ast.Attribute) -> None:
        names: list[str] = []
        inner: ast.expr = node
        while isinstance(inner, ast.Attribute):
            names.append(inner.attr)
            inner = inner.value
        self.uses.docs = self.uses.docs or not _DOCS.isdisjoint(names)
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
        self.uses.imports += imported(node)

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        self.uses.imports += imported(node)

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
            bound.update(name for _, _, name, _ in imported(node))
        elif isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
            bound.add(node.id)
        elif isinstance(node, (ast.ExceptHandler, ast.MatchAs, ast.MatchStar)) and node.name:
            bound.add(node.name)
        elif isinstance(node, ast.MatchMapping) and node.rest:
            bound.add(node.rest)
        if isinstance(node, (*Function, ast.ClassDef)):
            bound.add(node.name)
        elif not isinstance(node, (ast.Lambda, *_Comprehension)):
            todo.extend(ast.iter_child_nodes(node))
    return bound - outer
