"""`zen-mlmd prune`: deletes old runs, steps or artifacts; without --yes it only says which."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import click

from zen_mlmd.cli.options import Age, chosen_config, store_option
from zen_mlmd.cli.output import note
from zen_mlmd.cli.safe import safe

if TYPE_CHECKING:
    from zen_mlmd.transfer.prune import What

_SHOWN = 20


@click.command()
@store_option
@click.argument("what", type=click.Choice(["runs", "steps", "artifacts"]), default="runs")
@click.option("--where", help="Which of them: a filter of runs, of steps or of artifacts.")
@click.option(
    "--older-than", type=Age(), metavar="AGE", help="Those that began, or were made, so long ago: 90d, 12h."
)
@click.option("--break-lineage", is_flag=True, help="Also those on which something depends that stays.")
@click.option(
    "--uris", type=click.Path(path_type=Path, dir_okay=False), help="Write the artifacts' URIs here."
)
@click.option("--yes", is_flag=True, help="Delete them.")
def prune(
    what: What,
    where: str | None,
    older_than: timedelta | None,
    *,
    break_lineage: bool,
    uris: Path | None,
    yes: bool,
) -> None:
    """Delete old runs, steps or artifacts, with what they alone made.

    Steps leave their run. Of artifacts, those go that no step has.

    Without --yes it only says which. A run that has not ended stays with its steps, and so does what made
    artifacts that something else uses that stays. Payloads are left where they are: --uris tells where that
    is.

    In Python: zen_mlmd.transfer.prune.plan_prune, prune
    """
    from zen_mlmd.store import open_store
    from zen_mlmd.transfer.prune import plan_prune
    from zen_mlmd.transfer.prune import prune as delete

    config = chosen_config()
    if "service" in type(config).model_fields:
        config = config.model_copy(update={"service": "sql"})
    with open_store(config) as store:
        plan = plan_prune(store, where, older_than=older_than, what=what, keep_lineage=not break_lineage)
        _tell("to be deleted", plan.going)
        _tell("kept, as something depends on them", plan.kept)
        _tell("kept, as they have not ended", plan.running)
        runs = f"{len(plan.going)} runs, " if what == "runs" else ""
        click.echo(f"{runs}{plan.steps} steps, {plan.artifacts} artifacts")
        if uris is not None:
            uris.write_text("".join(f"{uri}\n" for uri in plan.uris), encoding="utf-8")
        if not yes:
            note("nothing was deleted: --yes does it; there is no way back but a backup")
            return
        gone = delete(store, plan)
    click.echo(
        f"deleted: {gone['executions']} steps, {gone['artifacts']} artifacts, {gone['contexts']} contexts"
    )


def _tell(what: str, names: tuple[str, ...]) -> None:
    if names:
        click.echo(f"{what}:")
    for path in names[:_SHOWN]:
        click.echo(safe(f"  {path}"))
    if len(names) > _SHOWN:
        click.echo(f"  and {len(names) - _SHOWN} more")
