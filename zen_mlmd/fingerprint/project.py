"""The project that a function belongs to: the code whose changes count."""

from __future__ import annotations

import functools
import inspect
import sys
import types
from typing import Any

from zen_mlmd.fingerprint.forms import is_a
from zen_mlmd.fingerprint.modules import find_module, is_installed, loaded_names, shown_module
from zen_mlmd.fingerprint.source import Source, source_of_file

_MAX_DEPTH = 50


class Project:
    """What is not installed; if the function itself is, that top-level package too; never zen_mlmd.

    Args:
        root: The function, or what stands for it.
    """

    def __init__(self, root: Any) -> None:
        self._root = _innermost(root)
        owner = self._root if is_a(self._root, (types.FunctionType, type)) else type(self._root)
        self._module = shown_module(str(owner.__module__))

    def has(self, module: str, file: str | None) -> bool:
        """Whether a module, which lies in a file or in none, is of the project."""
        shown = shown_module(module)
        top = shown.partition(".")[0]
        if top == "zen_mlmd":
            return shown == self._module
        if file is None or file.startswith("<"):  # interactive, or a package of several directories
            return top not in sys.builtin_module_names and top not in sys.stdlib_module_names
        if not is_installed(file):
            return True
        return top == self._module.partition(".")[0] and top not in sys.stdlib_module_names

    def has_class(self, cls: type) -> bool:
        """Whether a class is of the project."""
        module = str(cls.__module__)
        return cls is self._root or self.has(module, loaded_names(module).get("__file__"))

    def has_function(self, function: types.FunctionType) -> bool:
        """Whether a function is of the project."""
        names = function.__globals__
        file = names.get("__file__") or function.__code__.co_filename
        return function is self._root or self.has(str(names.get("__name__") or ""), file)

    def source_of(self, module: str) -> Source | None:
        """Return the source of a module of the project, loaded or not; None for any other."""
        found = find_module(module)
        if found is None or found.file is None or not self.has(module, found.file):
            return None
        return source_of_file(found.file, loaded_names(module))


def _innermost(root: Any) -> Any:
    """Return what a partial, a method or a decorated function has inside."""
    for _ in range(_MAX_DEPTH):
        if is_a(root, functools.partial):
            root = root.func
        elif is_a(root, types.MethodType):
            root = root.__func__
        else:
            wrapped = inspect.getattr_static(root, "__wrapped__", None)
            if not callable(wrapped) or is_a(root, type):
                break
            root = wrapped
    return root
