"""What a shell offers to complete: names that are kept, flavors, and their settings.

It answers between two keystrokes, and imports no flavor's class.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, TypeAlias

from zen_mlmd.errors import ZenMlmdError
from zen_mlmd.stack.built_in import SETTINGS
from zen_mlmd.stack.words import Kind

if TYPE_CHECKING:
    import click

Complete: TypeAlias = Callable[["click.Context", "click.Parameter", str], list[str]]


def flavors(kind: Kind) -> Complete:
    """Return what completes the name of a flavor."""
    return _among(lambda: SETTINGS[kind])


def components(kind: Kind) -> Complete:
    """Return what completes the name of a component."""

    def names() -> Iterable[str]:
        from zen_mlmd.stack.named import Components
        from zen_mlmd.stack.settings import Settings

        return [each.name for each in Components(Settings(), kind).all()]

    return _among(names)


def stacks(ctx: click.Context, parameter: click.Parameter, begun: str) -> list[str]:
    """Complete the name of a stack."""

    def names() -> Iterable[str]:
        from zen_mlmd.stack.settings import Settings
        from zen_mlmd.stack.stacks import Stacks

        return [each.name for each in Stacks(Settings()).all()]

    return _among(names)(ctx, parameter, begun)


def _among(names: Callable[[], Iterable[str]]) -> Complete:
    def complete(_: Any, __: Any, begun: str) -> list[str]:
        try:
            return [each for each in names() if each.startswith(begun)]
        except ZenMlmdError:  # no settings that can be read; the command itself will say so
            return []

    return complete
