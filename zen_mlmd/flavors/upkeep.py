"""Looking after the database of a store: migrating an old schema. `zen_mlmd.doctor` has the rest.

Each opens the database for itself and closes it; a store that this process has open goes on with what it
knew until it is opened anew. Neither is done unasked.
"""

from __future__ import annotations

from collections.abc import Callable

from zen_mlmd.flavors.base import StoreConfig
from zen_mlmd.service.sql import migrate
from zen_mlmd.service.sql.migrate import Plan

__all__ = ["Plan", "migrate_store", "plan_migration"]


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
