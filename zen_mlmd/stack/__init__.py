"""Which store, artifact store and orchestrator are in force: what a person keeps, and the environment.

The public names are loaded when they are first used: to list what is kept takes no flavor.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from zen_mlmd.stack.active import (
        ActiveStack,
        active_artifacts,
        active_config,
        active_max_parallel,
        config_named,
    )
    from zen_mlmd.stack.named import Component, Components
    from zen_mlmd.stack.settings import Settings, make_project
    from zen_mlmd.stack.stacks import Stack, Stacks

_HOME = {
    "ActiveStack": "active",
    "Component": "named",
    "Components": "named",
    "Settings": "settings",
    "Stack": "stacks",
    "Stacks": "stacks",
    "active_artifacts": "active",
    "active_config": "active",
    "active_max_parallel": "active",
    "config_named": "active",
    "make_project": "settings",
}

__all__ = [
    "ActiveStack",
    "Component",
    "Components",
    "Settings",
    "Stack",
    "Stacks",
    "active_artifacts",
    "active_config",
    "active_max_parallel",
    "config_named",
    "make_project",
]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(f"zen_mlmd.stack.{_HOME[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
