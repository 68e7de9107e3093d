"""Looks over one database of MLMD's, in one connection, and mends what can be mended in it."""

from __future__ import annotations

from collections.abc import Callable

from sqlalchemy.engine import Connection

from zen_mlmd.service.finding import BARRING, Finding, Thresholds
from zen_mlmd.service.sql import damaged_rows, grants, mend, orphans, vitals
from zen_mlmd.service.sql.learn import learn

Progress = Callable[[str], object]


def examine(connection: Connection, location: str, thresholds: Thresholds, *, quick: bool) -> list[Finding]:
    """Return what is found; nothing is changed.

    Args:
        connection: Outside a transaction; it is left so.
        location: What messages call the database.
        thresholds: From where on something is found.
        quick: Look at its catalog alone, and read no table.
    """
    found = mend.examine(connection)
    if any(each.code in BARRING for each in found):
        return found
    schema = learn(connection, location)
    found += grants.examine(connection, schema)
    if all(each.code != "grant-read" for each in found):
        found += vitals.examine(connection, schema, thresholds)
        if not quick:
            found += orphans.examine(connection, schema)
            found += damaged_rows.examine(connection, schema)
    connection.rollback()
    return found


def mend_all(connection: Connection, location: str, progress: Progress, *, rows: bool = True) -> int:
    """Mend the catalog, then the rows; return how many findings that were.

    Args:
        connection: Outside a transaction; it is left so.
        location: What messages call the database.
        progress: Told what is done.
        rows: Delete rows without owners.
    """
    done = mend.mend(connection, location, lambda each: progress(f"{each.remedy} ..."))
    if not rows or any(each.code in BARRING for each in mend.examine(connection)):
        return done
    schema = learn(connection, location)
    found = [each for each in orphans.examine(connection, schema) if each.mendable]
    connection.rollback()
    if not found:
        return done
    gone = orphans.delete(connection, schema)
    for table, count in gone.items():
        progress(f"{table}: {count:,} rows were deleted")
    return done + len(found)
