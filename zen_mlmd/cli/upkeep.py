"""`zen-mlmd doctor` and `zen-mlmd metadata-store migrate`: nothing is changed without consent."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from zen_mlmd.cli.options import chosen_config, store_option
from zen_mlmd.cli.output import note
from zen_mlmd.cli.safe import safe, safe_lines

if TYPE_CHECKING:
    from zen_mlmd.flavors import StoreConfig

_where = click.argument("where", metavar="[URL]", required=False)
_yes = click.option("--yes", is_flag=True, help="Do it without asking.")


@click.command()
@_where
@store_option
@_yes
def migrate(where: str | None, *, yes: bool) -> None:
    """Bring the MLMD schema of a store's database to the newest version, in place and for ever.

    URL is the database's, by default the chosen or active store's. What will be done is named first.

    In Python: zen_mlmd.flavors.upkeep.migrate_store
    """
    from zen_mlmd.flavors.upkeep import migrate_store, plan_migration

    config = _config(where)
    plan = plan_migration(config)
    click.echo(safe_lines(str(plan)))
    if plan.steps:
        ask("Is there a backup, and shall it be migrated?", yes=yes)
        migrate_store(config, lambda version: click.echo(f"schema {version} is reached"))


@click.command()
@_where
@store_option
@click.option("--fix", is_flag=True, help="Mend what can be mended.")
@_yes
def doctor(where: str | None, *, fix: bool, yes: bool) -> None:
    """Look over a store's database, and mend it.

    URL is the database's, by default the chosen or active store's. Only its catalog is read: the schema's
    version, narrow columns, missing indexes, names that the database folds. With --fix what was found is
    mended, after you were asked; ml-metadata goes on working with it.

    In Python: zen_mlmd.flavors.upkeep.examine_store, mend_store
    """
    from zen_mlmd.flavors.upkeep import examine_store, mend_store

    config = _config(where)
    findings = examine_store(config)
    if not findings:
        click.echo(safe(f"{config.location}: nothing to mend"))
        return
    click.echo(safe(f"{config.location}:"))
    for finding in findings:
        mark = "*" if finding.statements else "!"
        click.echo(safe_lines(f"  {mark} {finding.what}\n      {finding.remedy}"))
    mendable = sum(bool(each.statements) for each in findings)
    if not mendable:
        return
    if not fix:
        note("--fix mends what has a star")
        return
    ask(f"Tables are made anew, and writers wait meanwhile. Mend {mendable}?", yes=yes)
    mend_store(config, lambda finding: click.echo(safe_lines(f"{finding.remedy} ...")))


def _config(where: str | None) -> StoreConfig:
    from zen_mlmd.flavors import config_from_url

    return chosen_config() if where is None else config_from_url(where)


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
