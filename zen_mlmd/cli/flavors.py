"""`zen-mlmd metadata-store`, `artifact-store`, `orchestrator`: components by name, and flavors."""

from __future__ import annotations

import click

from zen_mlmd.cli.components import add_commands
from zen_mlmd.cli.options import output_option
from zen_mlmd.cli.output import Column, print_rows
from zen_mlmd.cli.upkeep import migrate

FLAVOR_FIELDS = ("flavor", "class", "description", "url")

EXAMPLES = {
    "sqlite": "sqlite:///metadata.db",
    "mysql": "mysql://user@host/metadb",
    "postgresql": "postgresql://user@host/metadb",
    "kubeflow": "kubeflow://host:8080",
}
"""A URL of each flavor; one that is not here shows its scheme."""


@click.group()
def metadata_store() -> None:
    """Metadata stores: their flavors, migrating them."""


add_commands(metadata_store, "metadata_store")
metadata_store.add_command(migrate)


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
    import inspect

    from zen_mlmd.flavors import FLAVORS

    rows = [
        {
            "flavor": name,
            "class": f"{config.__module__}.{config.__qualname__}",
            "description": (inspect.getdoc(config) or "").partition("\n")[0],
            "url": EXAMPLES.get(name, f"{config.schemes[0]}://..."),
        }
        for name, config in FLAVORS.items()
    ]
    columns = [
        Column("flavor", "flavor", whole=True),
        Column("description", "description"),
        Column("url", "url", whole=True),
        Column("class", "class"),
    ]
    print_rows(rows, output, fields=FLAVOR_FIELDS, columns=columns)
