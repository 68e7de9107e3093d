"""`zen-mlmd artifacts`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from zen_mlmd.cli.options import (
    DEFAULT_LIMIT,
    limit_option,
    open_to_read,
    output_option,
    store_option,
    where_option,
)
from zen_mlmd.cli.output import Column, cut_at, print_data, print_facts, print_rows
from zen_mlmd.cli.safe import safe, safe_lines

if TYPE_CHECKING:
    from zen_mlmd.reading.steps import StepView

_CONTENT = ("size_bytes", "content_hash", "data_type")
ARTIFACT_FIELDS = ("id", "type", "uri", "state", "created_at", *_CONTENT, "properties")


@click.group()
def artifacts() -> None:
    """What steps made and used: list, show."""


@artifacts.command("list")
@click.option("--type", "type_", metavar="NAME", help="Only those of this type.")
@where_option("properties.auc > 0.9")
@limit_option(DEFAULT_LIMIT)
@output_option
@store_option
def list_artifacts(type_: str | None, where: str | None, limit: int, output: str) -> None:
    """List artifacts, newest first.

    In Python: store.list_artifacts(where, type=..., limit=...).to_dicts()
    """
    with open_to_read() as store:
        rows = store.list_artifacts(where, type=type_, limit=limit + 1).to_dicts()
    columns = [
        Column("id", "id", whole=True, right=True),
        Column("type", "type"),
        Column("created_at", "created (UTC)", whole=True),
        Column("size_bytes", "bytes", whole=True, right=True),
        Column("uri", "uri"),
    ]
    print_rows(cut_at(limit, rows), output, fields=ARTIFACT_FIELDS, columns=columns)


@artifacts.command("show")
@click.argument("artifact")
@click.option("--why", is_flag=True, help="Say what made it, from what, and what was other before.")
@output_option
@store_option
def show_artifact(artifact: str, why: bool, output: str) -> None:
    """Show an artifact. ARTIFACT is its id, its URI, or a path, as churn/latest/train/model.

    In Python: artifact = store.get_artifact("churn/latest/train/model"); artifact.to_dict(),
    artifact.producer_step, artifact.consumers, artifact.why()
    """
    with open_to_read() as store:
        found = store.get_artifact(artifact)
        about = found.to_dict()
        about["path"] = found.path
        about["producer"] = _brief(found.producer_step)
        about["consumers"] = [_brief(step) for step in found.consumers]
        explained = found.why() if why else None
    if output == "table":
        producer, consumers = about.pop("producer"), about.pop("consumers")
        taken = {f"consumer {place}": _line(step) for place, step in enumerate(consumers, 1)}
        print_facts({**about, "producer": _line(producer), **taken})
        if explained is not None:
            click.echo(f"\n{safe_lines(str(explained))}")
        return
    if explained is not None:
        about["why"] = explained.to_dict()
    if output == "csv":
        print_rows([about], output, fields=list(about), columns=())
    else:
        print_data(about, output)


def _brief(step: StepView | None) -> dict[str, Any] | None:
    if step is None:
        return None
    run = step.record.run_name or (step.run.name if step.has_run else "")
    return {"id": step.id, "name": step.key, "run": run, "status": str(step.status)}


def _line(step: dict[str, Any] | None) -> str:
    if step is None:
        return "none: it was imported"
    return (
        f"{safe(step['name'])} #{step['id']} ({step['status']}{step['run'] and ' in ' + safe(step['run'])})"
    )
