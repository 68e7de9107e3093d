"""Digests of code: of a syntax tree without its layout, and of bytecode."""

from __future__ import annotations

import ast
import functools
import hashlib
import types
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

_CODE_FLAGS = 0x3FF  # what a code object does; above them stand those of `from __future__` imports
_LAYOUT = frozenset({"ctx", "kind", "type_comment", "type_ignores"})


def sha256(*texts: str) -> str:
    """Return a hash over texts, as it is recorded."""
    return "sha256:" + hashlib.sha256("\n".join(texts).encode("utf-8", "backslashreplace")).hexdigest()


def tree_digest(root: ast.AST, *, docs: bool = False) -> str:
    """Return a hash of a syntax tree without its layout, and unless `docs` without its docstrings."""
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
            todo.extend(reversed([_plain(child) for child in item if not _is_idle(child, docs=docs)]))
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


def _is_idle(node: Any, *, docs: bool) -> bool:
    """Whether a statement does nothing: `pass`, a docstring, a string that stands for a comment."""
    return isinstance(node, ast.Pass) or (
        not docs
        and isinstance(node, ast.Expr)
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


def all_codes(code: types.CodeType) -> Iterator[types.CodeType]:
    """Yield a code object and all that are in it."""
    todo = [code]
    while todo:
        inner = todo.pop()
        yield inner
        todo.extend(constant for constant in inner.co_consts if isinstance(constant, types.CodeType))
