"""`zen-mlmd prune`: deletes old runs; without --yes it only says which."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path
from typing import Any

import click

from zen_mlmd.cli.options import chosen_config, store_option
from zen_mlmd.cli.output import note
from zen_mlmd.cli.safe import safe

_UNITS = {"h": 1, "d": 24, "w": 24 * 7}
_SHOWN = 20


class _Age(click.ParamType):  # type: ignore[type-arg]
    name = "age"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> timedelta:
        """Read `90d`, `12h` or `6w`."""
        found = re.fullmatch(r"(\d{1,6})([hdw])", value)
        if found is None:
            self.fail(f"{value!r} is no age such as 90d, 12h or 6w", param, ctx)
        return timedelta(hours=int(found[1]) * _UNITS[found[2]])


@click.command()
@store_option
@click.option("--where", help="Which runs: a filter as of `runs list`.")
@click.option("--older-than", type=_Age(), metavar="AGE", help="Runs that began so long ago: 90d, 12h, 6w.")
@click.option("--break-lineage", is_flag=True, help="Also runs on which something depends that stays.")
@click.option(
    "--uris", type=click.Path(path_type=Path, dir_okay=False), help="Write the artifacts' URIs here."
)
@click.option("--yes", is_flag=True, help="Delete them.")
def prune(
    where: str | None, older_than: timedelta | None, *, break_lineage: bool, uris: Path | None, yes: bool
) -> None:
    """Delete old runs, and what they alone made.

    Without --yes it only says which. A run that has not ended stays, and so does one whose artifacts
    something else uses that stays. Payloads are left where they are: --uris tells where that is.

    In Python: zen_mlmd.transfer.prune.plan_prune, prune
    """
    from zen_mlmd.store import open_store
    from zen_mlmd.transfer.prune import plan_prune
    from zen_mlmd.transfer.prune import prune as delete

    config = chosen_config()
    if "service" in type(config).model_fields:
        config = config.model_copy(update={"service": "sql"})
    with open_store(config) as store:
        plan = plan_prune(store, where, older_than=older_than, keep_lineage=not break_lineage)
        _tell("to be deleted", plan.runs)
        _tell("kept, as something depends on them", plan.kept_runs)
        _tell("kept, as they have not ended", plan.running)
        click.echo(f"{len(plan.runs)} runs, {plan.steps} steps, {plan.artifacts} artifacts")
        if uris is not None:
            uris.write_text("".join(f"{uri}\n" for uri in plan.uris), encoding="utf-8")
        if not yes:
            note("nothing was deleted: --yes does it; there is no way back but a backup")
            return
        gone = delete(store, plan)
    click.echo(
        f"deleted: {gone['executions']} steps, {gone['artifacts']} artifacts, {gone['contexts']} contexts"
    )


def _tell(what: str, runs: tuple[str, ...]) -> None:
    if runs:
        click.echo(f"{what}:")
    for path in runs[:_SHOWN]:
        click.echo(safe(f"  {path}"))
    if len(runs) > _SHOWN:
        click.echo(f"  and {len(runs) - _SHOWN} more")
