"""The options that several commands share, and the store they choose."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

import click

from zen_mlmd.errors import DatabaseMissingError

if TYPE_CHECKING:
    from zen_mlmd.flavors import StoreConfig
    from zen_mlmd.store import Store

FunctionT = TypeVar("FunctionT", bound=Callable[..., Any])

DEFAULT_LIMIT = 20
_UNITS = {"h": 1, "d": 24, "w": 24 * 7}

_STORE = "zen_mlmd.store"


class Age(click.ParamType):  # type: ignore[type-arg]
    """A time span as hours, days or weeks."""

    name = "age"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> timedelta:
        """Read `90d`, `12h` or `6w`."""
        found = re.fullmatch(r"(\d{1,6})([hdw])", value)
        if found is None:
            self.fail(f"{value!r} is no age such as 90d, 12h or 6w", param, ctx)
        return timedelta(hours=int(found[1]) * _UNITS[found[2]])


def _remember_store(ctx: click.Context, _: click.Parameter, value: str | None) -> None:
    if value is not None:
        ctx.meta[_STORE] = value  # one mapping for the whole command line, so the last one given counts


def store_option(function: FunctionT) -> FunctionT:
    """Add `--store`, which may stand before the subcommand too; `open_to_read` opens it."""
    return click.option(
        "--store",
        metavar="URL",
        callback=_remember_store,
        expose_value=False,
        help="A store's URL, or an SQLite file's path.  [default: ZEN_MLMD_STORE, or a file of yours]",
    )(function)


def output_option(function: FunctionT) -> FunctionT:
    """Add `-o/--output`; the function takes it as `output`."""
    return click.option(
        "-o",
        "--output",
        type=click.Choice(["table", "json", "csv", "yaml"]),
        default="table",
        show_default=True,
        help="How it is printed. CSV is what was recorded, formulas of spreadsheets included.",
    )(function)


def where_option(example: str) -> Callable[[FunctionT], FunctionT]:
    """Add `--where`, with an example in its help."""
    return click.option("--where", metavar="FILTER", help=f"Only those that it matches: {example!r}, say.")


def limit_option(default: int | None) -> Callable[[FunctionT], FunctionT]:
    """Add `--limit`."""
    return click.option(
        "--limit",
        metavar="N",
        type=click.IntRange(min=1),
        default=default,
        show_default=default is not None,
        help="How many at most.",
    )


def yes_option(function: FunctionT) -> FunctionT:
    """Add `--yes`; the function hands it to `ask`."""
    return click.option("--yes", is_flag=True, help="Do it without asking.")(function)


def ask(question: str, *, yes: bool) -> None:
    """Ask a person, unless that was said to be needless.

    Raises:
        ClickException: There is nobody to ask, or the answer is no; nothing was done.
    """
    if yes:
        return
    if not sys.stdin.isatty():
        raise click.ClickException("nothing was done: this is no terminal to ask at; --yes does it unasked")
    if not click.confirm(question):
        raise click.ClickException("nothing was done")


def store_was_chosen() -> bool:
    """Whether the command line has a `--store`."""
    return _STORE in click.get_current_context().meta


def chosen_config() -> StoreConfig:
    """Return the config of the chosen store, or else of the active one.

    Raises:
        ConfigError: What was chosen means no store.
    """
    from zen_mlmd.stack import active_config, config_named

    chosen = click.get_current_context().meta.get(_STORE)
    return active_config() if chosen is None else config_named(chosen)


def open_to_read() -> Store:
    """Open the chosen store, or else the active one: nothing is made that was not there.

    Raises:
        ConfigError: What was chosen means no store.
        ConnectionFailedError: One of its kinds, each with a remedy.
    """
    from zen_mlmd.store import open_store

    return open_store(_only_to_read(chosen_config()))


def _only_to_read(config: StoreConfig) -> StoreConfig:
    from pathlib import Path

    from zen_mlmd.flavors import SqliteConfig

    if not isinstance(config, SqliteConfig) or config.path == ":memory:":
        return config
    if not Path(config.path).exists():
        raise DatabaseMissingError(
            f"{config.location}: no such file",
            hint="name another with --store or ZEN_MLMD_STORE; `zen-mlmd quickstart` makes one to look at",
        )
    # A journal that a killed writer left is to be rolled back first, and only a writer can do that.
    has_journal = Path(f"{config.path}-journal").exists()
    return config.model_copy(update={"read_only": not has_journal})
