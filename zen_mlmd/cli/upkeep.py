"""`zen-mlmd metadata-store migrate`: nothing is changed without consent."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from zen_mlmd.cli.options import ask, chosen_config, store_option, yes_option
from zen_mlmd.cli.safe import safe_lines

if TYPE_CHECKING:
    from zen_mlmd.flavors import StoreConfig


@click.command()
@click.argument("where", metavar="[STORE]", required=False)
@store_option
@yes_option
def migrate(where: str | None, *, yes: bool) -> None:
    """Bring the MLMD schema of a store's database to the newest version, in place and for ever.

    STORE is its name, its URL, or a SQLite file's path; by default the active one. What will be done is named
    first.

    In Python: zen_mlmd.flavors.upkeep.migrate_store
    """
    from zen_mlmd.flavors.upkeep import migrate_store, plan_migration

    config = _config(where)
    plan = plan_migration(config)
    click.echo(safe_lines(str(plan)))
    if plan.steps:
        ask("Is there a backup, and shall it be migrated?", yes=yes)
        migrate_store(config, lambda version: click.echo(f"schema {version} is reached"))


def _config(where: str | None) -> StoreConfig:
    from zen_mlmd.stack import config_named

    return chosen_config() if where is None else config_named(where)
