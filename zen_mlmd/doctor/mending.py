"""Mends what an examination found, as far as it can be mended."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from functools import partial
from typing import Final

from zen_mlmd.doctor.examining import USUAL, is_barred, to_read
from zen_mlmd.doctor.runs import STALE_AFTER
from zen_mlmd.doctor.runs import end_runs as end
from zen_mlmd.flavors import StoreConfig
from zen_mlmd.service.finding import Thresholds

_PASSES: Final = 3
"""What is mended may show what was behind it: a schema's version, its indexes."""


def mend(
    config: StoreConfig,
    progress: Callable[[str], object] = lambda _: None,
    *,
    rows: bool = True,
    end_runs: bool = False,
    stale_after: timedelta = STALE_AFTER,
    thresholds: Thresholds = USUAL,
) -> int:
    """Mend what `examine` finds mendable; return how many findings that were.

    Writers wait while a table is made anew. Rows go in small transactions. Make a backup first.

    Args:
        config: The store.
        progress: Told what is done.
        rows: Delete rows without owners, too.
        end_runs: Record runs and steps of zen_mlmd's that never ended as failed, with the reason.
        stale_after: Those of which nothing was written for so long.
        thresholds: From where on something is found.

    Raises:
        UsageError: This process has the SQLite file open.
        ConnectionFailedError: One of its kinds, each with a remedy.
        StoreError: Runs cannot be read, or not be written; what comes before that is mended.
    """
    done = 0
    way = config.examine_way(thresholds)
    for finding in way:
        if finding.mendable:
            config.mend_way(finding)
            progress(f"{finding.subject}: {finding.remedy}")
            done += 1
    if done:
        way = config.examine_way(thresholds)  # a journal hid what is behind it
    if is_barred(way):  # of a damaged file any row may seem to have lost its owner
        return done
    if config.is_database:
        done += _mend_database(config, progress, rows=rows)
    if end_runs:
        with to_read(config, writes=True) as store:
            done += end(store.loader, stale_after, progress)
    return done


def _mend_database(config: StoreConfig, progress: Callable[[str], object], *, rows: bool) -> int:
    from zen_mlmd.service.sql.examination import mend_all

    done = 0
    for _ in range(_PASSES):
        work = partial(mend_all, progress=progress, rows=rows)
        mended = config.open_database().maintain(work, writes=True)
        done += mended
        if not mended:
            break
    return done
