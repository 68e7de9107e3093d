"""`zen-mlmd stack`, `profile`, `init` and `secret`: what a person keeps, and what is in force."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from zen_mlmd.cli import completing
from zen_mlmd.cli.lifecycle import stack_down, stack_up
from zen_mlmd.cli.options import output_option
from zen_mlmd.cli.output import Column, note, print_rows
from zen_mlmd.cli.safe import safe
from zen_mlmd.errors import ConfigError
from zen_mlmd.stack.words import KINDS, Kind, title

if TYPE_CHECKING:
    from zen_mlmd.stack.stacks import Stacks

STACK_FIELDS = ("name", "active", *KINDS, "scope")
DESCRIBE_FIELDS = ("component", "name", "flavor", "setting", "value", "source")


@click.group()
def stack() -> None:
    """Stacks: a metadata store, an artifact store and an orchestrator."""


def _component_options(*, required: bool) -> Callable[[Any], Any]:
    def add(function: Any) -> Any:
        for kind, letter in reversed(list(zip(KINDS, "mao", strict=True))):
            option = click.option(
                f"-{letter}",
                f"--{kind.replace('_', '-')}",
                kind,
                required=required,
                metavar="NAME",
                shell_complete=completing.components(kind),
                help=f"Its {title(kind)}.",
            )
            function = option(function)
        return function

    return add


@stack.command("register")
@click.argument("name")
@_component_options(required=True)
@click.option("--project", "scope", flag_value="project", help="Keep it in the project's settings.")
@click.option("--set", "active", is_flag=True, help="Make it the active one.")
def register_stack(name: str, scope: Any, active: bool, **parts: str) -> None:
    """Keep a stack under a NAME.

    In Python: zen_mlmd.stack.Stacks(Settings()).register(...)
    """
    stacks = _stacks()
    kept = stacks.register(name, _parts(parts), scope=scope or "user")
    click.echo(f"stack {name!r} is registered in the {kept.scope} settings")
    if active:
        stacks.set_active(name)
        click.echo(f"stack {name!r} is the active one{_but(name)}")


@stack.command("list")
@output_option
def list_stacks(output: str) -> None:
    """List the stacks."""
    active = _active_name()
    rows = [
        {
            "name": each.name,
            "active": each.name == active,
            **{kind: each.component(kind) for kind in KINDS},
            "scope": each.scope or "built in",
        }
        for each in _stacks().all()
    ]
    columns = [
        Column("name", "name", whole=True),
        Column("active", "active", whole=True, text=lambda value: "*" if value else ""),
        *(Column(kind, title(kind)) for kind in KINDS),
    ]
    print_rows(rows, output, fields=STACK_FIELDS, columns=columns)


@stack.command("describe")
@click.argument("name", required=False, shell_complete=completing.stacks)
@output_option
def describe_stack(name: str | None, output: str) -> None:
    """Show the components of a stack, by default the active one's, and where each value came from.

    In Python: zen_mlmd.stack.ActiveStack().describe()
    """
    from zen_mlmd.stack import ActiveStack

    found = ActiveStack(name=name)
    rows = [
        {
            "component": title(each.kind),
            "name": each.name,
            "flavor": each.flavor,
            "setting": value.field if value else "",
            "value": value.shown if value else "",
            "source": value.source if value else each.source,
        }
        for each in found.describe()
        for value in (None, *each.values)
    ]
    if output == "table":
        note(f"stack {found.name!r} ({found.source})")
    columns = [
        Column("component", "component", whole=True),
        Column("name", "name"),
        Column("flavor", "flavor", whole=True),
        Column("setting", "setting", whole=True),
        Column("value", "value"),
        Column("source", "from"),
    ]
    print_rows(rows, output, fields=DESCRIBE_FIELDS, columns=columns)


@stack.command("get")
def get_stack() -> None:
    """Print the name of the active stack."""
    click.echo(_active_name())


@stack.command("set")
@click.argument("name", shell_complete=completing.stacks)
@click.option("--user", "scope", flag_value="user", help="For all that has no project of its own.")
def set_stack(name: str, scope: Any) -> None:
    """Make a stack the active one: of this project if there is one, else yours."""
    _stacks().set_active(name, scope=scope)
    click.echo(f"stack {name!r} is the active one{_but(name)}")


@stack.command("update")
@click.argument("name", shell_complete=completing.stacks)
@_component_options(required=False)
def update_stack(name: str, **parts: str | None) -> None:
    """Give a stack other components."""
    given = {kind: each for kind, each in parts.items() if each is not None}
    if not given:
        raise click.UsageError("nothing was given to change")
    _stacks().update(name, _parts(given))
    click.echo(f"stack {name!r} is changed")


@stack.command("rename")
@click.argument("name", shell_complete=completing.stacks)
@click.argument("new")
def rename_stack(name: str, new: str) -> None:
    """Give a stack another name."""
    _stacks().rename(name, new)
    click.echo(f"stack {name!r} is {new!r} now")


@stack.command("delete")
@click.argument("name", shell_complete=completing.stacks)
def delete_stack(name: str) -> None:
    """Forget a stack; its components stay."""
    _stacks().delete(name)
    click.echo(f"stack {name!r} is forgotten")


@stack.command("copy")
@click.argument("name", shell_complete=completing.stacks)
@click.argument("new")
def copy_stack(name: str, new: str) -> None:
    """Keep the components of a stack under another name."""
    _stacks().copy(name, new)
    click.echo(f"stack {new!r} has the components of {name!r}")


@stack.command("export")
@click.argument("name", required=False, shell_complete=completing.stacks)
@click.argument("file", required=False, type=click.Path(dir_okay=False, path_type=Path))
def export_stack(name: str | None, file: Path | None) -> None:
    """Write a stack with the settings of its components to FILE, or print it; it holds no secret."""
    import yaml

    text = yaml.safe_dump(_stacks().export(name or _active_name()), sort_keys=False, allow_unicode=True)
    if file is None:
        click.echo(text, nl=False)
        return
    try:
        file.write_text(text, "utf-8")
    except OSError as error:
        raise ConfigError(
            f"{file}: cannot be written: {error.strerror}", hint="choose another file"
        ) from error


@stack.command("import")
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--name", help="Another name than it had.")
@click.option("--project", "scope", flag_value="project", help="Keep it in the project's settings.")
def import_stack(file: Path, name: str | None, scope: Any) -> None:
    """Keep a stack that was exported, with its components; tells which secrets are to be set."""
    from zen_mlmd.stack.files import SettingsFile

    if not file.exists() or file.is_dir():
        raise ConfigError(f"{file}: no such file", hint="`zen-mlmd stack export NAME FILE` writes one")
    stacks = _stacks()
    kept = stacks.import_(SettingsFile(file).read(), name=name, scope=scope or "user")
    click.echo(f"stack {kept.name!r} is registered in the {kept.scope} settings")
    for each in stacks.missing_secrets(kept):
        click.echo(safe(f"set a secret that it needs: zen-mlmd secret set {each}"))


stack.add_command(stack_up)
stack.add_command(stack_down)


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Let a shell complete the commands.

    It prints a script for SHELL: eval "$(zen-mlmd completion bash)" in ~/.bashrc, say.
    """
    from click.shell_completion import get_completion_class

    from zen_mlmd.cli.main import cli

    kind = get_completion_class(shell)
    assert kind is not None
    click.echo(kind(cli, {}, "zen-mlmd", "_ZEN_MLMD_COMPLETE").source())


@click.group()
def profile() -> None:
    """Profiles: several sets of components and stacks, of which one is in force."""


@profile.command("list")
@output_option
def list_profiles(output: str) -> None:
    """List the profiles."""
    from zen_mlmd.stack.settings import Settings

    settings = Settings()
    rows = [{"name": each, "active": each == settings.profile} for each in settings.profiles()]
    columns = [
        Column("name", "name"),
        Column("active", "active", whole=True, text=lambda value: "*" if value else ""),
    ]
    print_rows(rows, output, fields=("name", "active"), columns=columns)


@profile.command("set")
@click.argument("name")
def set_profile(name: str) -> None:
    """Put a profile in force; a new one has what is built in."""
    from zen_mlmd.stack.settings import Settings

    Settings().set_profile(name)
    click.echo(f"profile {name!r} is in force")


@click.command()
@click.argument("folder", required=False, type=click.Path(file_okay=False, path_type=Path))
def init(folder: Path | None) -> None:
    """Make a folder a project with settings of its own.

    They lie in .zen_mlmd in FOLDER, by default this one.
    """
    from zen_mlmd.stack.settings import make_project

    click.echo(f"{make_project(folder or Path.cwd())} is there")


@click.group()
def secret() -> None:
    """Secrets that settings refer to as ${secret:NAME}; they are never printed."""


@secret.command("set")
@click.argument("name")
def set_secret(name: str) -> None:
    """Keep a secret, asked for at the terminal or read from standard input."""
    from zen_mlmd.stack.settings import Settings

    value = (
        click.prompt("Secret", hide_input=True, confirmation_prompt=True)
        if sys.stdin.isatty()
        else _from_stdin()
    )
    Settings().secrets.set(name, value)
    click.echo(f"secret {name!r} is kept")


@secret.command("list")
@output_option
def list_secrets(output: str) -> None:
    """List the names of the secrets."""
    from zen_mlmd.stack.settings import Settings

    rows = [{"name": each} for each in Settings().secrets.names()]
    print_rows(rows, output, fields=("name",), columns=[Column("name", "name")])


@secret.command("delete")
@click.argument("name")
def delete_secret(name: str) -> None:
    """Forget a secret."""
    from zen_mlmd.stack.settings import Settings

    Settings().secrets.delete(name)
    click.echo(f"secret {name!r} is forgotten")


def _from_stdin() -> str:
    value, what = "", "standard input holds no secret"
    try:
        value = sys.stdin.buffer.read().decode().rstrip("\r\n")
    except UnicodeDecodeError:
        what = "the secret is no UTF-8"
    if not value:
        raise ConfigError(what, hint="pipe the secret in: zen-mlmd secret set NAME < FILE")
    return value


def _stacks() -> Stacks:
    from zen_mlmd.stack.settings import Settings
    from zen_mlmd.stack.stacks import Stacks

    return Stacks(Settings())


def _active_name() -> str:
    from zen_mlmd.stack.settings import Settings
    from zen_mlmd.stack.stacks import active_name

    return active_name(Settings())[0]


def _but(name: str) -> str:
    """Return what else is in force here, where something stronger says so."""
    from zen_mlmd.stack.settings import Settings
    from zen_mlmd.stack.stacks import active_name

    active, source = active_name(Settings())
    return "" if active == name else f" there; here {active!r} is in force ({source})"


def _parts(given: dict[str, str]) -> dict[Kind, str]:
    return {kind: given[kind] for kind in KINDS if kind in given}
