"""Mends what an examination found, as far as it can be mended."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Final

from zen_mlmd.doctor.examining import USUAL
from zen_mlmd.flavors import StoreConfig
from zen_mlmd.service.finding import Thresholds

_PASSES: Final = 3
"""What is mended may show what was behind it: a schema's version, its indexes."""


def mend(
    config: StoreConfig,
    progress: Callable[[str], object] = lambda _: None,
    *,
    thresholds: Thresholds = USUAL,
) -> int:
    """Mend what `examine` finds mendable; return how many findings that were.

    Writers wait while a table is made anew. Rows go in small transactions. Make a backup first.

    Args:
        config: The store.
        progress: Told what is done.
        thresholds: From where on something is found.

    Raises:
        UsageError: This process has the SQLite file open.
        ConnectionFailedError: One of its kinds, each with a remedy.
    """
    done = 0
    for finding in config.examine_way(thresholds):
        if finding.mendable:
            config.mend_way(finding)
            progress(f"{finding.subject}: {finding.remedy}")
            done += 1
    if not config.is_database:
        return done
    from zen_mlmd.service.sql.examination import mend_all

    for _ in range(_PASSES):
        mended = config.open_database().maintain(partial(mend_all, progress=progress), writes=True)
        done += mended
        if not mended:
            break
    return done
