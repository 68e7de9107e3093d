"""`zen-mlmd pipelines`, `zen-mlmd runs`."""

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
from zen_mlmd.cli.output import Column, cut_at, note, print_data, print_facts, print_rows, took
from zen_mlmd.cli.safe import safe

if TYPE_CHECKING:
    from zen_mlmd.reading.runs import PipelineRunView
    from zen_mlmd.store import Store

_TIMES = ("status", "started_at", "ended_at", "duration_s")
PIPELINE_FIELDS = ("id", "name", "created_at")
RUN_FIELDS = (
    "id",
    "pipeline",
    "name",
    *_TIMES,
    "parameters",
    "metrics",
    "properties",
    "dialect",
    "namespace",
)
STEP_FIELDS = (
    *("id", "name", "display_name", "kind", "type", *_TIMES),
    *("parameters", "output_parameters", "metrics", "inputs", "outputs", "failure"),
)
CHANGE_FIELDS = ("step", "kind", "name", "before", "after")

_ID = Column("id", "id", whole=True, right=True)
_NAME = Column("name", "name")
_STATUS = Column("status", "status", whole=True)
_STARTED = Column("started_at", "started (UTC)", whole=True)
_TOOK = Column("duration_s", "took", whole=True, right=True, text=took)


@click.group()
def pipelines() -> None:
    """Pipelines that were recorded."""


@pipelines.command("list")
@where_option("name like 'churn%'")
@limit_option(None)
@output_option
@store_option
def list_pipelines(where: str | None, limit: int | None, output: str) -> None:
    """List the pipelines, oldest first.

    In Python: store.list_pipelines(where, limit=...).to_dicts()
    """
    with open_to_read() as store:
        rows = store.list_pipelines(where, limit=None if limit is None else limit + 1).to_dicts()
    created = Column("created_at", "created (UTC)", whole=True)
    shown = rows if limit is None else cut_at(limit, rows)
    print_rows(shown, output, fields=PIPELINE_FIELDS, columns=[_ID, _NAME, created])


@click.group()
def runs() -> None:
    """Runs of pipelines: list, show, compare."""


@runs.command("list")
@click.option("--pipeline", metavar="NAME", help="Only this pipeline's.")
@where_option("status = failed and started_at > now-7d and parameters.depth > 3")
@limit_option(DEFAULT_LIMIT)
@output_option
@store_option
def list_runs(pipeline: str | None, where: str | None, limit: int, output: str) -> None:
    """List runs, newest first.

    In Python: store.list_runs(where, pipeline=..., limit=...).to_dicts()
    """
    with open_to_read() as store:
        rows = store.list_runs(where, pipeline=pipeline, limit=limit + 1).to_dicts()
    columns = [Column("pipeline", "pipeline"), _NAME, _STATUS, _STARTED, _TOOK]
    print_rows(cut_at(limit, rows), output, fields=RUN_FIELDS, columns=columns)


@runs.command("show")
@click.argument("run")
@click.option("--include-groups", is_flag=True, help="Also Kubeflow's DAGs, loops and conditions.")
@output_option
@store_option
def show_run(run: str, output: str, include_groups: bool) -> None:
    """Show a run and its steps. RUN is its name, or pipeline/run, as churn/latest.

    CSV has the steps alone.

    In Python: run = store.get("churn/latest"); run.to_dict(), run.list_steps().to_dicts()
    """
    with open_to_read() as store:
        found = find_run(store, run)
        steps = found.list_steps(include_groups=include_groups).to_dicts()
        about = {
            **found.to_dict(),
            "environment": dict(found.environment),
            "stack": dict(found.stack),
            "failure": _failure(found),
            "warnings": len(found.warnings) or None,
        }
    if output in ("json", "yaml"):
        print_data({**about, "steps": steps}, output)
        return
    if output == "table":
        about["duration_s"] = took(found.duration_s)
        print_facts(about)
        if not steps:
            return
        click.echo()
    print_steps(steps, output)


@runs.command("diff")
@click.argument("before")
@click.argument("after")
@output_option
@store_option
def diff_runs(before: str, after: str, output: str) -> None:
    """Show what is other in run AFTER than in run BEFORE.

    Each is a run's name, or pipeline/run, as churn/latest.

    In Python: store.get_run(before).diff(store.get_run(after)).to_dicts()
    """
    with open_to_read() as store:
        diff = find_run(store, before).diff(find_run(store, after))
    if output == "table":
        note(f"{diff.before} -> {diff.after}: {len(diff.changes) or 'no'} changes")
        if not diff:
            return
    columns = [Column(name, name, whole=name == "kind") for name in CHANGE_FIELDS]
    print_rows(diff.to_dicts(), output, fields=CHANGE_FIELDS, columns=columns)


@click.command()
@click.argument("run", required=False)
@output_option
@store_option
def warnings(run: str | None, output: str) -> None:
    """List rows that are broken or half written.

    Those of RUN, by its name or pipeline/run, or of all runs and of what belongs to none. They were read all
    the same.

    In Python: store.get_run("monday").warnings, store.warnings()
    """
    with open_to_read() as store:
        found = find_run(store, run).warnings if run is not None else list(store.warnings())
        rows = [{"where": each.where, "what": each.what} for each in found]
    columns = [Column("where", "where", whole=True), Column("what", "what")]
    print_rows(rows, output, fields=("where", "what"), columns=columns)


def find_run(store: Store, which: str) -> PipelineRunView:
    """Return a run by its name or its path; a name that holds a slash is found too.

    Raises:
        NotFoundError: There is none.
        UsageError: The path names something else.
    """
    from zen_mlmd.errors import UsageError
    from zen_mlmd.reading.runs import PipelineRunView

    if "/" not in which or store.loader.find_run(which) is not None:
        return store.get_run(which)
    named = store.get(which)
    if not isinstance(named, PipelineRunView):
        raise UsageError(f"{which!r} is no run's path", hint="pipeline/run, as churn/latest")
    return named


def print_steps(steps: list[dict[str, Any]], output: str) -> None:
    """Print steps, as their views' `to_dicts()`."""
    slots = [Column(key, key, text=_slots) for key in ("inputs", "outputs")]
    columns = [_ID, _NAME, _STATUS, _TOOK, *slots]
    print_rows(steps, output, fields=STEP_FIELDS, columns=columns)


def _slots(slots: dict[str, list[int]]) -> str:
    return ", ".join(f"{safe(name)} #{' #'.join(map(str, ids))}" for name, ids in slots.items())


def _failure(run: PipelineRunView) -> dict[str, str] | None:
    failure = run.failure
    return None if failure is None else {"type": failure.type, "message": failure.message}
