"""Examines one store, from this machine's packages to the last row."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import timedelta
from functools import partial
from typing import Final

from zen_mlmd.doctor.payloads import examine_payloads
from zen_mlmd.doctor.runs import STALE_AFTER, examine_runs
from zen_mlmd.errors import UsageError, ZenMlmdError
from zen_mlmd.flavors import StoreConfig
from zen_mlmd.service.finding import BARRING, Finding, Severity, Thresholds, finding_of
from zen_mlmd.store import Store, open_store

USUAL: Final = Thresholds()

_LOCKED_OUT: Final = frozenset(("grant-read",))
_NOT_WRITTEN: Final = frozenset(("schema-old", "grant-write", "file-unwritable", "server-read-only"))


def examine(
    config: StoreConfig,
    *,
    quick: bool = False,
    stale_after: timedelta = STALE_AFTER,
    payloads: bool = False,
    thresholds: Thresholds = USUAL,
    progress: Callable[[str], object] = lambda _: None,
) -> list[Finding]:
    """Return what is wrong with a store, or could be better, the worst first; nothing is changed.

    A store that cannot be reached gives a finding that says why, and no error. Where this process has the
    same SQLite file open, it is to be closed first.

    Args:
        config: The store.
        quick: Leave out what reads tables: rows without owners, runs that never ended.
        stale_after: Runs that have not ended are told of if nothing was written of them for so long.
        payloads: Also look for the payloads of all artifacts, and read those of which a hash was recorded.
        thresholds: From where on something is found.
        progress: Told what takes long, once it is done.

    Raises:
        UsageError: This process has the SQLite file open.
    """
    found: list[Finding] = []
    try:
        found += config.examine_way(thresholds)
        if not is_barred(found):
            found += _database(config, thresholds, quick=quick)
        reads = payloads or not quick
        if reads and not is_barred(found) and not _LOCKED_OUT & {each.code for each in found}:
            with to_read(config) as store:
                if not quick:
                    writable = not _NOT_WRITTEN & {each.code for each in found}
                    found += examine_runs(store.loader, stale_after, writable=writable)
                if payloads:
                    found += examine_payloads(store.loader, progress)
    except UsageError:
        raise
    except ZenMlmdError as error:
        found.append(finding_of(error, config.location))
    return in_order(found)


def to_read(config: StoreConfig, *, writes: bool = False) -> Store:
    """Open a store; a SQLite file in a process of its own.

    Python's SQLite has it in this one by turns, beside which ml-metadata's must not have it; and a connection
    of Python's that met a damaged row is closed only once Python collects its garbage.
    """
    if config.flavor == "sqlite":
        config = config.model_copy(update={"service": "sql", "read_only": not writes})
    return open_store(config)


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
