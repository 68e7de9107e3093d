"""`zen-mlmd metadata-store up`, `down`, `status` and `logs`: stores that are brought up and taken down."""

from __future__ import annotations

import contextlib
import dataclasses
import signal
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from zen_mlmd.cli import completing
from zen_mlmd.cli.options import ask, output_option, yes_option
from zen_mlmd.cli.output import note, print_data, print_facts, print_rows
from zen_mlmd.cli.safe import safe
from zen_mlmd.stack.words import Kind, a_title, title

if TYPE_CHECKING:
    from zen_mlmd.flavors import StoreConfig
    from zen_mlmd.flavors.lifecycle import Status
    from zen_mlmd.stack import ActiveStack

FIELDS = ("name", "state", "what", "address", "answer", "pod", "since", "restarts", "remedy")

_name = click.argument("name", required=False, shell_complete=completing.components("metadata_store"))


@click.command()
@_name
@output_option
def up(name: str | None, output: str) -> int:
    """Bring a store up, and wait until it answers; by default the active stack's.

    A kubernetes store is deployed. Outside the cluster it gets a port-forward of its own, as a kubeflow store
    does, which is kept up in the background.

    In Python: zen_mlmd.flavors.lifecycle.up
    """
    from zen_mlmd.flavors import lifecycle

    name, config = _chosen(name)
    with _ended_like_ctrl_c():
        return _shown(lifecycle.up(config, name, _told), output)


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
    found = act(config, name, _told)
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
    """Return a store's name and settings, by default those of the active stack's."""
    from zen_mlmd.stack import ActiveStack, config_named
    from zen_mlmd.stack.active import is_name

    if name is None:
        return _store_of(None)
    return _of_profile(name if is_name(name) else "", ActiveStack()), config_named(name)


@click.command("up")
@click.argument("name", required=False, shell_complete=completing.stacks)
@output_option
def stack_up(name: str | None, output: str) -> int:
    """Bring up what is to be brought up of a stack, by default the active one.

    In Python: zen_mlmd.flavors.lifecycle.up, of a config of zen_mlmd.stack.ActiveStack
    """
    from zen_mlmd.flavors import lifecycle

    store, config = _store_of(name)
    if lifecycle.is_brought_up(config):
        with _ended_like_ctrl_c():
            return _shown(lifecycle.up(config, store, _told), output)
    return _shown(lifecycle.status(config, store), output)


@click.command("down")
@click.argument("name", required=False, shell_complete=completing.stacks)
def stack_down(name: str | None) -> None:
    """Take down what was brought up of a stack, by default the active one; its data stay."""
    from zen_mlmd.flavors import lifecycle

    store, config = _store_of(name)
    if lifecycle.is_brought_up(config):
        click.echo(safe(f"{(found := lifecycle.down(config, store, _told)).what}: {found.state}"))
    else:
        click.echo(safe(f"{config.flavor} store {config.location}: nothing of it was brought up"))


@contextlib.contextmanager
def _ended_like_ctrl_c() -> Iterator[None]:
    """Take back what was made also where `timeout`, a CI or a closed terminal ends us."""

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    is_main = threading.current_thread() is threading.main_thread()
    numbers = [signal.SIGTERM, signal.SIGHUP] if is_main else []
    before = {each: signal.signal(each, stop) for each in numbers if signal.getsignal(each) is signal.SIG_DFL}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _told(text: str) -> None:
    note(f"{text} ...")


def of_others(kind: Kind) -> list[click.Command]:
    """Return the same commands for a kind of component of which nothing is brought up."""
    return [_of_other(kind, word) for word in ("up", "down", "status", "logs")]


def _of_other(kind: Kind, word: str) -> click.Command:
    @click.command(
        word, help=f"Say that nothing of {a_title(kind)} is brought up, once its settings are read."
    )
    @click.argument("name", required=False, shell_complete=completing.components(kind))
    def command(name: str | None) -> None:
        from zen_mlmd.stack import ActiveStack, Components

        stack = ActiveStack()
        if name is None:
            found = stack.resolve(kind)
        else:
            found = stack.resolve_named(Components(stack.settings, kind).get(name))
        click.echo(safe(f"{title(kind)} {found.name!r} ({found.flavor}): nothing of it is brought up"))

    return command


def _store_of(stack: str | None) -> tuple[str, StoreConfig]:
    """Return the name and the settings of a stack's metadata store; no other component is brought up."""
    from zen_mlmd.stack import ActiveStack

    found = ActiveStack(name=stack)
    store: Any = found.resolve("metadata_store")
    return _of_profile(store.name, found), store.config


def _of_profile(name: str, stack: ActiveStack) -> str:
    """Return under which name what belongs to a store is kept: it may be there in other profiles, too."""
    from zen_mlmd.stack.settings import DEFAULT

    profile = stack.settings.profile
    return name if not name or profile == DEFAULT else f"{profile}.{name}"


def _shown(found: Status, output: str) -> int:
    row = dataclasses.asdict(found)
    if output == "table":
        print_facts({**row, "restarts": found.restarts or None})
    elif output == "csv":
        print_rows([row], output, fields=FIELDS, columns=())
    else:
        print_data(row, output)
    return 0 if found.is_up else 1
