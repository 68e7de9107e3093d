"""The commands that each kind of component has: `zen-mlmd metadata-store register` and so on."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from zen_mlmd.cli import completing
from zen_mlmd.cli.options import output_option
from zen_mlmd.cli.output import Column, print_data, print_facts, print_rows
from zen_mlmd.cli.safe import safe
from zen_mlmd.errors import ConfigError
from zen_mlmd.stack.built_in import SETTINGS
from zen_mlmd.stack.words import Kind, a_title, title

if TYPE_CHECKING:
    from zen_mlmd.stack.components import ConfigClass
    from zen_mlmd.stack.named import Component

FIELDS = ("name", "flavor", "active", "settings", "scope")

_SETTINGS_HELP = (
    "Its settings are options: `--flavor mysql --help` lists those of a flavor. A value may be a reference,"
    " ${env:NAME}, ${file:PATH}, ${keyring:SERVICE/USER} or ${secret:NAME}; `@PATH` is what a file holds."
    " A secret that is given in clear is kept in a file of its own."
)


class FlavorCommand(click.Command):
    """A command whose options are the settings of a flavor, which its own arguments name.

    Attributes:
        kind: The kind of component.
        of_name: Whether the flavor is that of the component NAME, rather than of `--flavor`.
    """

    def __init__(self, *args: Any, kind: Kind, of_name: bool, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.kind: Kind = kind
        self.of_name = of_name
        self._own = list(self.params)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Learn which flavor is meant, and read the arguments with its settings as options."""
        flavor = self._flavor(args)
        self.params = list(self._own)
        if ctx.resilient_parsing:  # a shell completes: nothing is read, and nothing may take long
            names = SETTINGS[self.kind].get(flavor, ())
            self.params += [click.Option([f"--{name.replace('_', '-')}", name]) for name in names]
            return super().parse_args(ctx, args)
        if flavor:
            config = _config_class(self.kind, flavor)
            self.params += _options(config)
        return super().parse_args(ctx, [_from_file(each) for each in args])

    def _flavor(self, args: list[str]) -> str:
        if self.of_name:
            known: dict[str, str] = {each.name: each.flavor for each in _components(self.kind).all()}
            named = next((each for each in args if each in known), None)  # options may stand before it
            return known.get(named or _active(self.kind), "")
        for place, each in enumerate(args):
            if each in ("--flavor", "-f"):
                return args[place + 1] if place + 1 < len(args) else ""
            if each.startswith("--flavor="):
                return each.partition("=")[2]
            if each.startswith("-f") and len(each) > len("-f"):
                return each[len("-f") :]
        return ""


def add_commands(group: click.Group, kind: Kind) -> None:
    """Add the commands of a kind of component to its group."""
    for make in (_register, _list, _describe, _get, _update, _rename, _delete, _remove_attribute, _copy):
        group.add_command(make(kind))


def _register(kind: Kind) -> click.Command:
    @click.pass_context
    def register(ctx: click.Context, /, name: str, flavor: str, scope: Any, **fields: Any) -> None:
        given = {key: value for key, value in _given(ctx, fields).items() if key != "url"}
        if fields.get("url"):
            given = {**_fields_of_url(flavor, fields["url"]), **given}
        kept = _components(kind).register(name, flavor, given, scope=scope or "user")
        click.echo(f"{title(kind)} {name!r} is registered in the {kept.scope} settings")

    params: list[click.Parameter] = [
        click.Argument(["name"]),
        click.Option(
            ["-f", "--flavor"],
            required=True,
            shell_complete=completing.flavors(kind),
            help="Its flavor, which decides what else may be set.",
        ),
        click.Option(["--project", "scope"], flag_value="project", help="Keep it in the project's settings."),
    ]
    if kind == "metadata_store":
        params.append(click.Option(["--url"], metavar="URL", help="Its settings, as a URL."))
    return FlavorCommand(
        "register",
        params=params,
        callback=register,
        kind=kind,
        of_name=False,
        help=f"Keep {a_title(kind)} under a NAME.\n\n{_SETTINGS_HELP}\n\n"
        f"In Python: zen_mlmd.stack.Components(Settings(), {kind!r}).register(...)",
    )


def _list(kind: Kind) -> click.Command:
    @click.command("list", help=f"List the {title(kind)}s.")
    @output_option
    def list_components(output: str) -> None:
        rows = [_row(each, kind) for each in _components(kind).all()]
        columns = [
            Column("name", "name", whole=True),
            Column("flavor", "flavor", whole=True),
            Column("active", "active", whole=True, text=lambda value: "*" if value else ""),
            Column("settings", "settings", text=_brief),
        ]
        print_rows(rows, output, fields=FIELDS, columns=columns)

    return list_components


def _describe(kind: Kind) -> click.Command:
    @click.command("describe", help=f"Show {a_title(kind)}, by default that of the active stack.")
    @click.argument("name", required=False, shell_complete=completing.components(kind))
    @output_option
    def describe(name: str | None, output: str) -> None:
        chosen = name or _active(kind)
        if not chosen:
            raise ConfigError(
                f"the environment puts {a_title(kind)} in force that has no name",
                hint="`zen-mlmd stack describe` shows it",
            )
        _print(_row(_components(kind).get(chosen), kind), output)

    return describe


def _get(kind: Kind) -> click.Command:
    @click.command("get", help=f"Print the name of the active stack's {title(kind)}.")
    def get() -> None:
        name = _active(kind)
        if not name:  # a URL, of which the password is not shown, or a path
            from zen_mlmd.stack import ActiveStack

            config: Any = ActiveStack().resolve(kind).config
            name = config.location if kind == "metadata_store" else config.root
        click.echo(safe(name))

    return get


def _update(kind: Kind) -> click.Command:
    @click.pass_context
    def update(ctx: click.Context, /, name: str | None, **fields: Any) -> None:
        name = name or _active(kind)
        given = _given(ctx, fields)
        if not given:
            raise click.UsageError("nothing was given to change; `update NAME --help` lists the settings")
        _components(kind).update(name, given)
        click.echo(f"{title(kind)} {name!r} is changed")

    return FlavorCommand(
        "update",
        params=[click.Argument(["name"], required=False, shell_complete=completing.components(kind))],
        callback=update,
        kind=kind,
        of_name=True,
        help=f"Change settings of {a_title(kind)}, by default that of the active stack.",
    )


def _rename(kind: Kind) -> click.Command:
    @click.command("rename", help=f"Give {a_title(kind)} another name, also in the stacks that have it.")
    @click.argument("name", shell_complete=completing.components(kind))
    @click.argument("new")
    def rename(name: str, new: str) -> None:
        _components(kind).rename(name, new)
        click.echo(f"{title(kind)} {name!r} is {new!r} now")

    return rename


def _delete(kind: Kind) -> click.Command:
    @click.command("delete", help=f"Forget {a_title(kind)}; what it names is not touched.")
    @click.argument("name", shell_complete=completing.components(kind))
    def delete(name: str) -> None:
        _components(kind).delete(name)
        click.echo(f"{title(kind)} {name!r} is forgotten; its data are where they were")

    return delete


def _remove_attribute(kind: Kind) -> click.Command:
    @click.command(
        "remove-attribute",
        help=f"Take settings of {a_title(kind)} away, so that the flavor's defaults count.",
        context_settings={"ignore_unknown_options": True},
    )
    @click.argument("name", shell_complete=completing.components(kind))
    @click.argument("settings", nargs=-1, required=True, metavar="SETTING...")
    def remove_attribute(name: str, settings: tuple[str, ...]) -> None:
        names = [each.removeprefix("--").replace("-", "_") for each in settings]
        _components(kind).update(name, dict.fromkeys(names))
        click.echo(f"{title(kind)} {name!r} is changed")

    return remove_attribute


def _copy(kind: Kind) -> click.Command:
    @click.command(
        "copy", help=f"Keep the settings of {a_title(kind)} under another name or in another profile."
    )
    @click.argument("name", shell_complete=completing.components(kind))
    @click.argument("new")
    @click.option(
        "--from", "source", metavar="PROFILE", help="The profile it is in, if not the one in force."
    )
    @click.option("--to", "target", metavar="PROFILE", help="The profile it goes to.")
    def copy(name: str, new: str, source: str | None, target: str | None) -> None:
        from zen_mlmd.stack.named import Components
        from zen_mlmd.stack.settings import Settings

        settings = Settings()
        origin = settings.in_profile(source) if source else settings
        Components(origin, kind).copy(name, new, to=settings.in_profile(target) if target else settings)
        click.echo(f"{title(kind)} {new!r} has the settings of {name!r}")

    return copy


def _components(kind: Kind) -> Any:
    from zen_mlmd.stack.named import Components
    from zen_mlmd.stack.settings import Settings

    return Components(Settings(), kind)


def _active(kind: Kind) -> str:
    from zen_mlmd.stack.settings import Settings
    from zen_mlmd.stack.stacks import component_in_force

    return component_in_force(Settings(), kind)


def _row(component: Component, kind: Kind) -> dict[str, Any]:
    return {
        "name": component.name,
        "flavor": component.flavor,
        "active": component.name == _active(kind),
        "settings": _shown(component),
        "scope": component.scope or "built in",
    }


def _shown(component: Component) -> dict[str, Any]:
    from zen_mlmd.stack.named import shown_fields
    from zen_mlmd.stack.settings import Settings

    return shown_fields(component, Settings().custom_flavors())


def _print(facts: Mapping[str, Any], output: str) -> None:
    if output == "table":
        print_facts(facts)
    elif output == "csv":
        print_rows([facts], output, fields=FIELDS, columns=[])
    else:
        print_data(facts, output)


def _brief(settings: Mapping[str, Any]) -> str:
    return safe(", ".join(f"{key}={value}" for key, value in settings.items()))


def _config_class(kind: Kind, flavor: str) -> ConfigClass:
    from zen_mlmd.stack.components import flavor_named
    from zen_mlmd.stack.settings import Settings

    return flavor_named(kind, flavor, Settings().custom_flavors())


def _options(config: ConfigClass) -> list[click.Option]:
    from zen_mlmd.stack.components import described

    words = described(config)
    return [_option(config, name, words.get(name, "")) for name in config.model_fields]


def _option(config: ConfigClass, name: str, words: str) -> click.Option:
    """Return the option of a setting, `--ssl-ca` and `--ssl_ca`."""
    from zen_mlmd.stack.components import is_secret

    field = config.model_fields[name]
    dashed = name.replace("_", "-")
    names = [f"--{dashed}"] if dashed == name else [f"--{dashed}", f"--{name}"]
    if field.annotation is bool:
        flags = [f"{each}/--no-{each[2:]}" for each in names]
        return click.Option([*flags, name], default=None, help=words)
    default = (
        "" if field.is_required() or is_secret(config, name) else field.get_default(call_default_factory=True)
    )
    told = (
        "required" if field.is_required() else f"default: {default}" if default not in ("", None, {}) else ""
    )
    text = f"{words}  [{told}]".strip() if told else words
    if "dict" in str(field.annotation):
        return click.Option([*names, name], multiple=True, metavar="NAME=VALUE", callback=_pairs, help=text)
    return click.Option([*names, name], help=text, metavar="SECRET" if is_secret(config, name) else "VALUE")


def _pairs(_: click.Context, parameter: click.Parameter, values: tuple[str, ...]) -> dict[str, str] | None:
    for each in values:
        if "=" not in each:
            raise click.BadParameter("give NAME=VALUE", param=parameter)
    return {name: value for name, _, value in (each.partition("=") for each in values)} or None


def _given(ctx: click.Context, fields: Mapping[str, Any]) -> dict[str, Any]:
    source = click.core.ParameterSource.COMMANDLINE
    return {key: value for key, value in fields.items() if ctx.get_parameter_source(key) is source}


def _from_file(argument: str) -> str:
    """Return an argument whose value `@path` is what that file holds; `@@` is one @."""
    name, separator, value = argument.partition("=") if argument.startswith("--") else ("", "", argument)
    if value.startswith("@@"):
        return f"{name}{separator}{value[1:]}"
    if not value.startswith("@"):
        return argument
    try:
        return f"{name}{separator}{Path(value[1:]).expanduser().read_text('utf-8').rstrip()}"
    except (OSError, RuntimeError, ValueError):  # no such ~user; no UTF-8
        raise ConfigError(  # it is not quoted: it may be a password
            f"{name or 'a value'}: begins with @, and no such file can be read",
            hint="write @@ for a value that begins with @",
        ) from None


def _fields_of_url(flavor: str, url: str) -> dict[str, Any]:
    from pydantic import SecretStr

    from zen_mlmd.flavors import config_from_url

    config = config_from_url(url)
    if config.flavor != flavor:
        raise ConfigError(f"this is a URL of the flavor {config.flavor}", hint=f"--flavor {config.flavor}")
    given = {key: getattr(config, key) for key in sorted(config.model_fields_set)}
    return {
        key: each.get_secret_value() if isinstance(each, SecretStr) else each for key, each in given.items()
    }
