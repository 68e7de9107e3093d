"""Looking after the database of a store: migrating an old schema, mending what is narrow or missing.

Each opens the database for itself and closes it; a store that this process has open goes on with what it
knew until it is opened anew. None of them is done unasked.
"""

from __future__ import annotations

from collections.abc import Callable

from zen_mlmd.flavors.base import StoreConfig
from zen_mlmd.service.sql import mend, migrate
from zen_mlmd.service.sql.mend import Finding
from zen_mlmd.service.sql.migrate import Plan

__all__ = ["Finding", "Plan", "examine_store", "mend_store", "migrate_store", "plan_migration"]


def plan_migration(config: StoreConfig) -> Plan:
    """Return what `migrate_store` would do; nothing is changed.

    Raises:
        UsageError: The store is a server that has a database of its own.
        ConnectionFailedError: One of its kinds, each with a remedy.
    """
    return config.open_database().maintain(migrate.plan, writes=False)


def migrate_store(config: StoreConfig, progress: Callable[[int], object] | None = None) -> int:
    """Bring the schema of a store's database to the newest version, in place and for ever.

    Args:
        config: The store; its other writers are to be stopped.
        progress: Told each version that was reached.

    Returns:
        The version that it had before.

    Raises:
        UsageError: The store is a server that has a database of its own.
        ConnectionFailedError: One of its kinds, each with a remedy.
    """
    return config.open_database().maintain(
        lambda connection, location: migrate.migrate(connection, location, progress), writes=True
    )


def examine_store(config: StoreConfig) -> list[Finding]:
    """Return what could be better in a store's database, the worst first; nothing is changed.

    Raises:
        UsageError: The store is a server that has a database of its own.
        ConnectionFailedError: One of its kinds, each with a remedy.
    """
    return config.open_database().maintain(mend.examine, writes=False)


def mend_store(config: StoreConfig, progress: Callable[[Finding], object] | None = None) -> int:
    """Mend what `examine_store` finds, as far as it has statements for it; return how much that was.

    Args:
        config: The store; its writers wait meanwhile.
        progress: Told each finding before it is mended.

    Raises:
        UsageError: The store is a server that has a database of its own.
        ConnectionFailedError: One of its kinds, each with a remedy.
    """
    return config.open_database().maintain(
        lambda connection, location: mend.mend(connection, location, progress), writes=True
    )
