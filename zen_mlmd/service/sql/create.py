"""Makes MLMD's tables in an empty database, as ml-metadata 1.17.1 does, also when many start at once.

Who makes them holds a lock of the database's while it looks and makes. ml-metadata knows no such lock: on
MySQL, where each table is there at once, its half-made tables are waited for, and finished if nobody does.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from zen_mlmd.errors import ContentionError
from zen_mlmd.service.sql import ddl
from zen_mlmd.service.sql.learn import Found, index_names, look
from zen_mlmd.service.sql.schema import SCHEMA_VERSION, Schema, TypeKind

_SIMPLE_TYPES: Final = {
    TypeKind.ARTIFACT: ("mlmd.Dataset", "mlmd.Model", "mlmd.Metrics", "mlmd.Statistics"),
    TypeKind.EXECUTION: ("mlmd.Train", "mlmd.Transform", "mlmd.Process", "mlmd.Evaluate", "mlmd.Deploy"),
}
"""The types that ml-metadata registers when it makes a database (`simple_types_constants.cc`)."""

LOCK_S: Final = 60
"""How long another process may keep the lock."""

_IDLE_S: Final = 3.0
"""After so long without a new table, whoever was making them is taken for dead."""

_POSTGRESQL_KEY: Final = 0x7A656E5F6D6C6D64
"""Of the advisory lock, in one database: `zen_mlmd`."""

# Of MySQL's lock, which is the whole server's: at most 64 characters. MySQL 9.6 has no SHA1 any more.
_MYSQL_NAME: Final = "concat('zen_mlmd', sha2(database(), 224))"


def create(connection: Connection, location: str) -> Schema:
    """Return the schema of a database, after making it if the database holds none of MLMD's tables.

    Args:
        connection: Outside a transaction; it is left so.
        location: What messages call the database.

    Raises:
        NotMlmdError: It has some of MLMD's tables, and nobody goes on making them.
        SchemaVersionError: As `learn`.
        ContentionError: Another process kept the lock for a minute.
    """
    found = look(connection)
    connection.rollback()
    if found.present and not found.half_made:
        return found.schema(location)
    with making(connection, location):
        found = _settled(connection)
        if not found.present or _is_unused(connection, found):
            _make(connection, found)
            connection.commit()
            found = look(connection)
        connection.rollback()
    return found.schema(location)


@contextmanager
def making(connection: Connection, location: str) -> Iterator[None]:
    """Hold the lock of those who make or change tables.

    On SQLite and PostgreSQL it ends with the transaction, in which all is to be done; on MySQL with this.
    """
    dialect = connection.dialect.name
    if dialect == "sqlite":
        connection.execution_options(zen_mlmd_writes=True)
    elif dialect == "postgresql":
        # A statement is to see what was committed while the lock was waited for.
        connection.execution_options(isolation_level="READ COMMITTED")
        connection.execute(sa.text(f"SET LOCAL lock_timeout = '{LOCK_S}s'"))
        connection.execute(sa.text(f"SELECT pg_advisory_xact_lock({_POSTGRESQL_KEY})"))
    elif not connection.scalar(sa.text(f"SELECT get_lock({_MYSQL_NAME}, {LOCK_S})")):
        raise ContentionError(
            f"{location}: another process is making MLMD's tables, for more than {LOCK_S} seconds by now",
            hint="try again; SHOW PROCESSLIST tells who it is",
        )
    try:
        with _patient(connection):
            yield
    finally:
        if dialect == "mysql":
            connection.rollback()
            connection.execute(sa.text(f"SELECT release_lock({_MYSQL_NAME})"))
            connection.rollback()


@contextmanager
def _patient(connection: Connection) -> Iterator[None]:
    """Wait for however long the database needs to make a large table anew: time limits are for calls."""
    if connection.dialect.name == "postgresql":
        connection.execute(sa.text("SET LOCAL statement_timeout = 0"))
    driver = connection.connection.driver_connection
    limit = getattr(driver, "_read_timeout", None)  # PyMySQL's, which offers no other way
    if limit is None:
        yield
        return
    driver._read_timeout = None  # type: ignore[union-attr]  # noqa: SLF001
    try:
        yield
    finally:
        driver._read_timeout = limit  # type: ignore[union-attr]  # noqa: SLF001


def _settled(connection: Connection) -> Found:
    """Look; where ml-metadata is making tables without our lock, wait until it is done, or stops."""
    found = look(connection)
    if connection.dialect.name != "mysql":
        return found
    since = time.monotonic()
    while found.half_made and time.monotonic() - since < _IDLE_S:
        connection.rollback()  # or the version's row would stay unseen
        time.sleep(0.05)
        before, found = found, look(connection)
        if found.present.keys() != before.present.keys():
            since = time.monotonic()
    return found


def _is_unused(connection: Connection, found: Found) -> bool:
    """Tell whether half-made tables hold nothing yet, so that they can be finished."""
    if not found.half_made or connection.dialect.name != "mysql":
        return False
    kinds = "Type" in found.present and connection.scalar(sa.text("SELECT count(*) FROM `Type`"))
    return not kinds


def _make(connection: Connection, found: Found) -> None:
    dialect = connection.dialect.name
    statements = [ddl.create_table(dialect, table) for table in ddl.TABLES]
    if dialect != "mysql":
        statements += [ddl.create_index(dialect, name) for name in ddl.INDEXES]
    if dialect == "postgresql":
        statements = ["; ".join(statements)]
    for statement in statements:
        connection.exec_driver_sql(statement)
    if found.half_made:
        for name in ddl.INDEXES.keys() - index_names(connection):
            connection.exec_driver_sql(ddl.create_index(dialect, name))
    schema = Schema(dialect)
    connection.execute(sa.insert(schema.table("MLMDEnv")), {"schema_version": SCHEMA_VERSION})
    rows = [{"name": name, "type_kind": kind} for kind, names in _SIMPLE_TYPES.items() for name in names]
    connection.execute(sa.insert(schema.table("Type")).values(rows))
