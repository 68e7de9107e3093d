"""Examines one store, from this machine's packages to the last row."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Final

from zen_mlmd.errors import UsageError, ZenMlmdError
from zen_mlmd.flavors import StoreConfig
from zen_mlmd.service.finding import BARRING, Finding, Severity, Thresholds, finding_of

USUAL: Final = Thresholds()


def examine(config: StoreConfig, *, quick: bool = False, thresholds: Thresholds = USUAL) -> list[Finding]:
    """Return what is wrong with a store, or could be better, the worst first; nothing is changed.

    A store that cannot be reached gives a finding that says why, and no error. Where this process has the
    same SQLite file open, it is to be closed first.

    Args:
        config: The store.
        quick: Leave out what reads tables: rows without owners, runs that never ended.
        thresholds: From where on something is found.

    Raises:
        UsageError: This process has the SQLite file open.
    """
    found: list[Finding] = []
    try:
        found += config.examine_way(thresholds)
        if not is_barred(found):
            found += _database(config, thresholds, quick=quick)
    except UsageError:
        raise
    except ZenMlmdError as error:
        found.append(finding_of(error, config.location))
    return in_order(found)


def is_barred(found: Sequence[Finding]) -> bool:
    """Tell whether something kept a store from being examined to its end."""
    return any(each.code in BARRING for each in found)


def in_order(found: Sequence[Finding]) -> list[Finding]:
    """Return findings, the worst first."""
    return sorted(found, key=lambda each: tuple(Severity).index(each.severity))


def _database(config: StoreConfig, thresholds: Thresholds, *, quick: bool) -> list[Finding]:
    if not config.is_database:
        return [
            Finding(
                "unchecked",
                f"a {config.flavor} store does not show its tables",
                "examine the database behind the server: zen-mlmd doctor mysql://user@host/metadb",
            )
        ]
    from zen_mlmd.service.sql.examination import examine as examine_database

    work = partial(examine_database, thresholds=thresholds, quick=quick)
    return config.open_database().maintain(work, writes=False)
