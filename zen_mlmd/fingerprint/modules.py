"""Modules: found without importing them, and named alike in all processes."""

from __future__ import annotations

import dataclasses
import functools
import importlib.machinery
import importlib.util
import os
import sys
import sysconfig
import types
from pathlib import Path
from typing import Any


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


def shown_module(module: str) -> str:
    """Return the name by which a module is shown: the same for a script, its workers and its importers."""
    if module not in ("__main__", "__mp_main__"):
        return module
    names = vars(sys.modules["__main__"]) if "__main__" in sys.modules else {}
    if names.get("__spec__") is not None:
        return str(names["__spec__"].name)
    return Path(names["__file__"]).stem if names.get("__file__") else "__main__"


def loaded_names(module: str) -> dict[str, Any]:
    """Return a loaded module's globals; none if it is not loaded."""
    loaded = sys.modules.get(module)
    return vars(loaded) if issubclass(type(loaded), types.ModuleType) else {}


def absolute_name(level: int, target: str, module: str) -> str:
    """Return the absolute name of what a module imports; empty if it leads out of the package."""
    if not level:
        return target
    package = loaded_names(module).get("__package__")
    if package is None:
        found = find_module(module)
        is_package = found is not None and found.locations is not None
        package = module if is_package else module.rpartition(".")[0]
    try:
        return importlib.util.resolve_name("." * level + target, package)
    except ImportError:
        return ""
