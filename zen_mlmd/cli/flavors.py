"""`zen-mlmd metadata-store`, `artifact-store`, `orchestrator`: components by name, and flavors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from zen_mlmd.cli import lifecycle
from zen_mlmd.cli.components import add_commands
from zen_mlmd.cli.options import output_option
from zen_mlmd.cli.output import Column, print_rows
from zen_mlmd.cli.safe import safe_lines
from zen_mlmd.cli.upkeep import migrate

FLAVOR_FIELDS = ("flavor", "class", "description", "url")

EXAMPLES = {
    "sqlite": "sqlite:///metadata.db",
    "mysql": "mysql://user@host/metadb",
    "postgresql": "postgresql://user@host/metadb",
    "kubeflow": "kubeflow://host:8080",
    "kubernetes": "kubernetes://namespace/zen-mlmd",
}
"""A URL of each flavor; one that is not here shows its scheme."""


@click.group()
def metadata_store() -> None:
    """Metadata stores: kept by name, their flavors, migrating them."""


add_commands(metadata_store, "metadata_store")
metadata_store.add_command(migrate)
for command in (lifecycle.up, lifecycle.down, lifecycle.status, lifecycle.logs):
    metadata_store.add_command(command)


@click.group()
def artifact_store() -> None:
    """Artifact stores: where payloads are kept."""


add_commands(artifact_store, "artifact_store")


@click.group()
def orchestrator() -> None:
    """Orchestrators: what runs the steps of a pipeline."""


add_commands(orchestrator, "orchestrator")


@metadata_store.group()
def flavor() -> None:
    """Kinds of metadata store."""


@flavor.command("list")
@output_option
def list_flavors(output: str) -> None:
    """List the flavors of metadata store.

    In Python: zen_mlmd.flavors.FLAVORS
    """
    rows = [_row(name, config) for name, config in _flavors().items()]
    columns = [
        Column("flavor", "flavor", whole=True),
        Column("description", "description"),
        Column("url", "url", whole=True),
        Column("class", "class"),
    ]
    print_rows(rows, output, fields=FLAVOR_FIELDS, columns=columns)


@flavor.command("describe")
@click.argument("name")
@output_option
def describe_flavor(name: str, output: str) -> None:
    """Show a flavor and its settings."""
    import inspect

    from zen_mlmd.stack.components import flavor_named, is_secret
    from zen_mlmd.stack.settings import Settings

    config = flavor_named("metadata_store", name, Settings().custom_flavors())
    rows = [
        {
            "setting": field,
            "required": about.is_required(),
            "secret": is_secret(config, field),
            "default": None
            if about.is_required() or is_secret(config, field)
            else about.get_default(call_default_factory=True),
        }
        for field, about in config.model_fields.items()
    ]
    if output == "table":
        click.echo(safe_lines(inspect.getdoc(config) or ""))
        click.echo()
    columns = [
        Column("setting", "setting", whole=True),
        Column("required", "required", text=lambda value: "yes" if value else ""),
        Column("secret", "secret", text=lambda value: "yes" if value else ""),
        Column("default", "default"),
    ]
    print_rows(rows, output, fields=("setting", "required", "secret", "default"), columns=columns)


@flavor.command("register")
@click.argument("source")
@click.option("--project", "scope", flag_value="project", help="Keep it in the project's settings.")
def register_flavor(source: str, scope: Any) -> None:
    """Make a flavor of your own known by SOURCE, package.module.Class.

    In Python: zen_mlmd.stack.Settings().register_flavor(source)
    """
    from zen_mlmd.stack.settings import Settings

    config = Settings().register_flavor(source, scope=scope or "user")
    click.echo(f"the flavor {config.flavor!r} is registered")


@metadata_store.command()
def explain() -> None:
    """Say what a metadata store is."""
    click.echo(_EXPLAINED)


_EXPLAINED = """\
A metadata store records every run by itself: which pipeline and steps ran, with which
parameters and code, what they took and made, of which types and where it lies. That makes
caching, provenance and reproducibility possible. Each stack has one; what lies in it is read
with `zen-mlmd runs`, `artifacts` and `lineage`, and from Python with zen_mlmd.open_store().

Its flavor says where it lies: sqlite is a file on this machine, mysql and postgresql are
databases that a team shares, kubeflow is the MLMD server of a Kubeflow installation.
`zen-mlmd metadata-store flavor list` has them all."""


def _flavors() -> Mapping[str, Any]:
    from zen_mlmd.stack.components import flavors
    from zen_mlmd.stack.settings import Settings

    return flavors("metadata_store", Settings().custom_flavors())


def _row(name: str, config: Any) -> dict[str, Any]:
    import inspect

    return {
        "flavor": name,
        "class": f"{config.__module__}.{config.__qualname__}",
        "description": (inspect.getdoc(config) or "").partition("\n")[0],
        "url": EXAMPLES.get(name, f"{config.schemes[0]}://..."),
    }
