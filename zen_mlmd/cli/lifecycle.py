"""`zen-mlmd metadata-store up`, `down`, `status` and `logs`: stores that are brought up and taken down."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import click

from zen_mlmd.cli.options import ask, output_option, yes_option
from zen_mlmd.cli.output import note, print_data, print_facts, print_rows
from zen_mlmd.cli.safe import safe

if TYPE_CHECKING:
    from zen_mlmd.flavors import StoreConfig
    from zen_mlmd.flavors.lifecycle import Status

FIELDS = ("name", "state", "what", "address", "answer", "pod", "since", "restarts", "remedy")

_name = click.argument("name", required=False)


@click.command()
@_name
@output_option
def up(name: str | None, output: str) -> int:
    """Bring a store up, and wait until it answers; by default the active stack's.

    A kubeflow store gets a port-forward of its own, which is kept up in the background.

    In Python: zen_mlmd.flavors.lifecycle.up
    """
    from zen_mlmd.flavors import lifecycle

    name, config = _chosen(name)
    return _shown(lifecycle.up(config, name, lambda text: note(f"{text} ...")), output)


@click.command()
@_name
@click.option("--purge", is_flag=True, help="Delete what was recorded in it, too, for ever.")
@yes_option
def down(name: str | None, *, purge: bool, yes: bool) -> None:
    """Take a store down; what was recorded in it stays, unless it is purged.

    In Python: zen_mlmd.flavors.lifecycle.down, purge
    """
    from zen_mlmd.flavors import lifecycle

    name, config = _chosen(name)
    if purge:
        lifecycle.purging(config)
        ask(f"{safe(config.location)}: shall all that was recorded there be deleted for ever?", yes=yes)
    act = lifecycle.purge if purge else lifecycle.down
    found = act(config, name, lambda text: note(f"{text} ..."))
    click.echo(safe(f"{found.what}: {found.state}"))


@click.command()
@_name
@output_option
def status(name: str | None, output: str) -> int:
    """Ask a store how it is; the exit code is 0 if it is up, and 1 if not.

    In Python: zen_mlmd.flavors.lifecycle.status
    """
    from zen_mlmd.flavors import lifecycle

    name, config = _chosen(name)
    return _shown(lifecycle.status(config, name), output)


@click.command()
@_name
@click.option("-f", "--follow", is_flag=True, help="Go on with what happens, until Ctrl-C.")
@click.option("--tail", metavar="N", type=click.IntRange(min=0), help="Only the last lines.")
def logs(name: str | None, *, follow: bool, tail: int | None) -> None:
    """Print what happened to a store that was brought up.

    In Python: zen_mlmd.flavors.lifecycle.logs
    """
    from zen_mlmd.flavors import lifecycle

    name, config = _chosen(name)
    for line in lifecycle.logs(config, name, tail=tail, follow=follow):
        click.echo(safe(line))


def _chosen(name: str | None) -> tuple[str, StoreConfig]:
    """Return a store's settings, and its name: in a profile of its own, with the profile's before it."""
    from zen_mlmd.stack import ActiveStack, config_named
    from zen_mlmd.stack.active import is_name
    from zen_mlmd.stack.settings import DEFAULT

    stack = ActiveStack()
    if name is None:
        found: Any = stack.resolve("metadata_store")
        name, config = found.name, found.config
    else:
        name, config = (name if is_name(name) else ""), config_named(name)
    profile = stack.settings.profile
    return (name if not name or profile == DEFAULT else f"{profile}.{name}"), config


def _shown(found: Status, output: str) -> int:
    row = dataclasses.asdict(found)
    if output == "table":
        print_facts({**row, "restarts": found.restarts or None})
    elif output == "csv":
        print_rows([row], output, fields=FIELDS, columns=())
    else:
        print_data(row, output)
    return 0 if found.is_up else 1
