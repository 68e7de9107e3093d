"""`zen-mlmd doctor`: what is wrong with a store, and mending it; nothing is changed without consent."""

from __future__ import annotations

import shutil
import textwrap
from collections import Counter
from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

import click

from zen_mlmd.cli.options import Age, ask, chosen_config, output_option, store_option, yes_option
from zen_mlmd.cli.output import Column, note, print_rows
from zen_mlmd.cli.safe import safe

if TYPE_CHECKING:
    from zen_mlmd.flavors import StoreConfig
    from zen_mlmd.service.finding import Finding

FIELDS: Final = ("code", "severity", "subject", "what", "remedy", "mendable")
_COLUMNS: Final = tuple(Column(each, each) for each in FIELDS)
_COLORS: Final = {"error": "red", "warning": "yellow", "info": "cyan"}
_WIDTH: Final = 80
_TO_SEE_TO, _NOT_EXAMINED = 1, 3
_OF_RUNS: Final = ("run-unended", "step-unended")
_MOST: Final = 20
"""Findings of one code in a table."""


@click.command()
@click.argument("where", metavar="[STORE]", required=False)
@store_option
@output_option
@click.option("--fix", is_flag=True, help="Mend what can be mended.")
@click.option("--end-runs", is_flag=True, help="With --fix: record runs that never ended as failed.")
@click.option(
    "--stale-after",
    type=Age(),
    metavar="AGE",
    default="1d",
    show_default=True,
    help="Runs of which nothing was written for so long: 12h, 2w.",
)
@click.option("--payloads", is_flag=True, help="Look for payloads too, and read those with a hash.")
@click.option("--quick", is_flag=True, help="Leave out what reads tables.")
@yes_option
def doctor(
    where: str | None,
    output: str,
    *,
    fix: bool,
    end_runs: bool,
    stale_after: timedelta,
    payloads: bool,
    quick: bool,
    yes: bool,
) -> int:
    """Look over a store, say what is wrong, and mend it.

    STORE is its name, its URL, or a SQLite file's path; by default the active one.

    Exit codes: 0, nothing is wrong, or all of it is advice; 1, there are errors or warnings; 2, the command
    line is wrong; 3, the store could not be examined to its end. With --fix they are of what is left.

    In Python: zen_mlmd.doctor.examine, mend
    """
    from zen_mlmd.doctor.environment import examine_environment

    if end_runs and not fix:
        raise click.UsageError("--end-runs goes with --fix")
    environment = examine_environment()
    config, found = None, environment
    wish = {"quick": quick, "stale_after": stale_after, "payloads": payloads}
    if not _is_barred(environment):
        config, faults = _config(where)
        found = [*environment, *faults]
    if config is not None:
        found = _examined(config, environment, **wish)
        to_mend = [each for each in found if each.mendable and (end_runs or each.code not in _OF_RUNS)]
        if fix and to_mend:
            _print_table(config.location, found, err=output != "table")
            ask(f"Is there a backup? Writers may wait meanwhile. Mend {len(to_mend)}?", yes=yes)
            _mend(config, {each.code for each in to_mend}, stale_after=stale_after)
            kept = [each for each in found if each.code.startswith("payload-")]  # read once, and not mended
            found = _examined(config, [*environment, *kept], **{**wish, "payloads": False})
    if output == "table":
        _print_table("" if config is None else config.location, found)
        if not fix and any(each.mendable for each in found):
            note("--fix mends what has a star")
    else:
        print_rows([each.to_dict() for each in found], output, fields=FIELDS, columns=_COLUMNS)
    return _exit_code(found)


def _config(where: str | None) -> tuple[StoreConfig | None, list[Finding]]:
    """Return the store that is meant, or what is wrong with how it is named."""
    from zen_mlmd.errors import ZenMlmdError
    from zen_mlmd.service.finding import finding_of
    from zen_mlmd.stack import config_named

    try:
        return chosen_config() if where is None else config_named(where), []
    except ZenMlmdError as error:
        return None, [finding_of(error)]


def _examined(config: StoreConfig, environment: Sequence[Finding], **wish: Any) -> list[Finding]:
    from zen_mlmd.doctor.examining import examine, in_order

    return in_order([*environment, *examine(config, **wish, progress=note)])


def _mend(config: StoreConfig, codes: set[str], *, stale_after: timedelta) -> None:
    """Mend what was listed, and no rows or runs that were not."""
    from zen_mlmd.doctor.mending import mend
    from zen_mlmd.service.sql.orphans import CODES

    listed = bool(codes & set(_OF_RUNS))
    mend(config, note, rows=bool(codes & CODES), end_runs=listed, stale_after=stale_after)


def _print_table(location: str, found: Sequence[Finding], *, err: bool = False) -> None:
    """Print findings to read, in lines that are no longer than the terminal, or 80 columns."""
    counts = Counter(str(each.severity) for each in found)
    told = ", ".join(f"{count} {name}{'s' * (count > 1)}" for name, count in counts.items())
    click.echo(safe(f"{location or 'this machine'}: {told or 'nothing is wrong'}"), err=err)
    width = max(shutil.get_terminal_size((_WIDTH, 0)).columns, _WIDTH // 2)
    told_of: Counter[str] = Counter()
    for each in found:
        told_of[each.code] += 1
        if told_of[each.code] > _MOST:
            continue
        severity = click.style(f"{each.severity!s:7}", fg=_COLORS[str(each.severity)])
        subject = f"  ({safe(each.subject)})" if each.subject else ""
        click.echo(f"{'*' if each.mendable else ' '} {severity} {each.code}{subject}", err=err)
        for mark, text in (("  ", each.what), ("->", each.remedy)):
            wrap = textwrap.TextWrapper(width, initial_indent=f"    {mark} ", subsequent_indent=" " * 7)
            wrap.break_long_words = wrap.break_on_hyphens = False
            click.echo("\n".join(wrap.wrap(safe(text))), err=err)
    for code, count in told_of.items():
        if count > _MOST:
            click.echo(f"  and {count - _MOST} more of {code}: -o json has all", err=err)


def _is_barred(found: Sequence[Finding]) -> bool:
    from zen_mlmd.service.finding import BARRING

    return any(each.code in BARRING for each in found)


def _exit_code(found: Sequence[Finding]) -> int:
    from zen_mlmd.service.finding import Severity

    if _is_barred(found):
        return _NOT_EXAMINED
    return _TO_SEE_TO if any(each.severity is not Severity.INFO for each in found) else 0
