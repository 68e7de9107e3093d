"""`zen-mlmd metadata-store`, `artifact-store`, `orchestrator`: components by name, and flavors."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from typing import Any, Final

import click

from zen_mlmd.cli import lifecycle
from zen_mlmd.cli.components import add_commands
from zen_mlmd.cli.options import output_option
from zen_mlmd.cli.output import Column, print_rows
from zen_mlmd.cli.safe import safe_lines
from zen_mlmd.cli.upkeep import migrate
from zen_mlmd.stack.words import Kind, a_title, title

FLAVOR_FIELDS = ("flavor", "class", "description", "url")
SETTING_FIELDS = ("setting", "required", "secret", "default", "description")

EXAMPLES = {
    "sqlite": "sqlite:///metadata.db",
    "mysql": "mysql://user@host/metadb",
    "postgresql": "postgresql://user@host/metadb",
    "kubeflow": "kubeflow://host:8080",
    "kubernetes": "kubernetes://namespace/zen-mlmd",
}
"""A URL of each flavor; one that is not here shows its scheme."""


def _flavor_group(kind: Kind) -> click.Group:
    """Return the commands on the flavors of a kind of component."""
    group = click.Group("flavor", help=f"Kinds of {title(kind)}.")
    group.add_command(_list(kind))
    group.add_command(_describe(kind))
    return group


def _list(kind: Kind) -> click.Command:
    @click.command("list", help=f"List the flavors of {title(kind)}.\n\nIn Python: {_TWINS[kind]}")
    @output_option
    def list_flavors(output: str) -> None:
        rows = [_row(kind, name, config) for name, config in _flavors(kind).items()]
        fields = FLAVOR_FIELDS if kind == "metadata_store" else FLAVOR_FIELDS[:-1]
        columns = [
            Column("flavor", "flavor", whole=True),
            Column("description", "description"),
            Column("url", "url", whole=True),
        ]
        print_rows(rows, output, fields=fields, columns=[each for each in columns if each.key in fields])

    return list_flavors


def _describe(kind: Kind) -> click.Command:
    @click.command("describe")
    @click.argument("name")
    @output_option
    def describe_flavor(name: str, output: str) -> None:
        """Show a flavor and its settings."""
        import inspect

        from zen_mlmd.stack.components import flavor_named
        from zen_mlmd.stack.settings import Settings

        config = flavor_named(kind, name, Settings().custom_flavors())
        if output == "table":
            summary, _, _ = (inspect.getdoc(config) or "").partition("Attributes:")
            click.echo(click.wrap_text(safe_lines(summary), _width(), preserve_paragraphs=True))
            click.echo()
        columns = [
            Column("setting", "setting", whole=True),
            Column("required", "must", text=lambda value: "yes" if value else ""),
            Column("secret", "secret", text=lambda value: "yes" if value else ""),
            Column("default", "default"),
            Column("description", "description"),
        ]
        print_rows(_settings(config), output, fields=SETTING_FIELDS, columns=columns)

    return describe_flavor


@click.command("register")
@click.argument("source")
@click.option("--project", "scope", flag_value="project", help="Keep it in the project's settings.")
def register_flavor(source: str, scope: Any) -> None:
    """Make a flavor of your own known by SOURCE, package.module.Class.

    In Python: zen_mlmd.stack.Settings().register_flavor(source)
    """
    from zen_mlmd.stack.settings import Settings

    config = Settings().register_flavor(source, scope=scope or "user")
    click.echo(f"the flavor {config.flavor!r} is registered")


def _explain(kind: Kind) -> click.Command:
    @click.command("explain", help=f"Say what {a_title(kind)} is.")
    def explain() -> None:
        click.echo(_EXPLAINED[kind])

    return explain


_TWINS: Final[Mapping[Kind, str]] = {
    "metadata_store": "zen_mlmd.flavors.FLAVORS",
    "artifact_store": "zen_mlmd.stack.components.flavors('artifact_store')",
    "orchestrator": "zen_mlmd.stack.components.flavors('orchestrator')",
}

_EXPLAINED: Final[Mapping[Kind, str]] = {
    "metadata_store": """\
A metadata store records every run by itself: which pipeline and steps ran, with which
parameters and code, what they took and made, of which types and where it lies. That makes
caching, provenance and reproducibility possible. Each stack has one; what lies in it is read
with `zen-mlmd runs`, `artifacts` and `lineage`, and from Python with zen_mlmd.open_store().

Its flavor says where it lies: sqlite is a file on this machine, mysql and postgresql are
databases that a team shares, kubeflow is the MLMD server of a Kubeflow installation, and
kubernetes a MySQL that is deployed into a cluster for you.
`zen-mlmd metadata-store flavor list` has them all.""",
    "artifact_store": """\
An artifact store keeps the payloads: what steps return is written there, and the metadata
store records where. Each stack has one: local is a folder of this machine, remote is
anywhere that fsspec knows (s3://, gs://, abfs://, ...).""",
    "orchestrator": """\
An orchestrator runs the steps of a pipeline, one after the other or several at once. Each
stack has one: local runs them in this process. Any other orchestrator records its runs with
zen_mlmd.open_store().record_run(), and needs to be in no stack.""",
}


@click.group()
def metadata_store() -> None:
    """Metadata stores: kept by name, their flavors, migrating them."""


@click.group()
def artifact_store() -> None:
    """Artifact stores: where payloads are kept."""


@click.group()
def orchestrator() -> None:
    """Orchestrators: what runs the steps of a pipeline."""


_GROUPS: Final[Mapping[Kind, click.Group]] = {
    "metadata_store": metadata_store,
    "artifact_store": artifact_store,
    "orchestrator": orchestrator,
}
for _kind, _group in _GROUPS.items():
    add_commands(_group, _kind)
    _group.add_command(_flavor_group(_kind))
    _group.add_command(_explain(_kind))
    for _command in () if _kind == "metadata_store" else lifecycle.of_others(_kind):
        _group.add_command(_command)
for _command in (migrate, lifecycle.up, lifecycle.down, lifecycle.status, lifecycle.logs):
    metadata_store.add_command(_command)
_own: Any = metadata_store.commands["flavor"]
_own.add_command(register_flavor)


def _flavors(kind: Kind) -> Mapping[str, Any]:
    from zen_mlmd.stack.components import flavors
    from zen_mlmd.stack.settings import Settings

    return flavors(kind, Settings().custom_flavors())


def _row(kind: Kind, name: str, config: Any) -> dict[str, Any]:
    import inspect

    row = {
        "flavor": name,
        "class": f"{config.__module__}.{config.__qualname__}",
        "description": (inspect.getdoc(config) or "").partition("\n")[0],
    }
    if kind == "metadata_store":
        row["url"] = EXAMPLES.get(name, f"{config.schemes[0]}://...")
    return row


def _settings(config: Any) -> list[dict[str, Any]]:
    from zen_mlmd.stack.components import described, is_secret

    words = described(config)
    return [
        {
            "setting": field,
            "required": about.is_required(),
            "secret": is_secret(config, field),
            "default": None
            if about.is_required() or is_secret(config, field)
            else about.get_default(call_default_factory=True),
            "description": words.get(field, ""),
        }
        for field, about in config.model_fields.items()
    ]


def _width() -> int:
    return min(shutil.get_terminal_size((80, 0)).columns, 110)
