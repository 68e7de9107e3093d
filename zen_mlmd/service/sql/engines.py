"""How SQLAlchemy reaches each kind of database: connections that behave as MLMD's tables need it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.engine import Connection, Engine

from zen_mlmd.service.sql import foreign_text
from zen_mlmd.service.sql.outbox import COMMITTED

# That a broken connection cannot be closed properly is told nowhere, unless somebody wants to hear it.
logging.getLogger("sqlalchemy.pool").addHandler(logging.NullHandler())

POOL: Final = 8
"""Connections that are kept, and how many more there may be for a while: of one process to one database."""

BUSY_S: Final = 2.0
"""How long SQLite itself waits for another connection's lock."""


def sqlite_engine(
    path: str, *, read_only: bool = False, immutable: bool = False, create: bool = False
) -> Engine:
    """Return an engine on one SQLite file.

    Args:
        path: The file. `:memory:` for a database that lives as long as the engine.
        read_only: Open it so that it cannot be written.
        immutable: Take it for a file that nobody writes: then not even a lock or a WAL's index is made.
        create: Make the file if there is none.
    """
    if path == ":memory:":
        engine = sa.create_engine("sqlite://", poolclass=sa.pool.StaticPool, connect_args=_SQLITE_ARGS)
    else:
        mode = "ro" if read_only or immutable else "rwc" if create else "rw"
        uri = f"{Path(path).absolute().as_uri()}?mode={mode}{'&immutable=1' if immutable else ''}"
        engine = sa.create_engine(
            "sqlite://",
            poolclass=sa.pool.QueuePool,
            creator=lambda: _sqlite_connect(uri),
            pool_size=POOL,
            max_overflow=POOL,
            **_NO_RESET,
        )
    event.listen(engine, "begin", _begin_sqlite)
    return engine


_SQLITE_ARGS: dict[str, Any] = {"check_same_thread": False, "isolation_level": None, "timeout": BUSY_S}


def _sqlite_connect(uri: str) -> Any:
    import sqlite3

    return sqlite3.connect(uri, uri=True, **_SQLITE_ARGS)


def _begin_sqlite(connection: Connection) -> None:
    # A transaction that reads first and then writes would meet "busy" at once, without a wait.
    writes = connection.get_execution_options().get("zen_mlmd_writes")
    driver: Any = connection.connection.driver_connection
    try:
        driver.execute("BEGIN IMMEDIATE" if writes else "BEGIN")
    except connection.dialect.loaded_dbapi.Error as error:  # as SQLAlchemy would raise it, at half its price
        raise sa.exc.DBAPIError(None, None, error) from None


# A server may be told to cut texts and to wrap numbers that do not fit.
_STRICT = "STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION"


def mysql_engine(connect: Callable[..., Any]) -> Engine:
    """Return an engine on a MySQL or MariaDB database.

    The session's character set is latin1 while UTF-8 goes over the line, as ml-metadata's client has it:
    whatever the columns' own set is, each byte comes back, and both read what the other wrote.

    Args:
        connect: `pymysql.connect` with what it takes to reach the database; given the rest here.
    """

    def creator() -> Any:
        import pymysql

        from zen_mlmd.service.sql import mysql_rows

        made = connect(
            charset="latin1",
            autocommit=False,
            sql_mode=_STRICT,
            client_flag=pymysql.constants.CLIENT.MULTI_STATEMENTS,  # see `outbox`
        )
        made.encoding = "utf8"
        mysql_rows.quicken(made)
        return made

    engine = sa.create_engine(
        "mysql+pymysql://",
        creator=creator,
        pool_size=POOL,
        max_overflow=POOL,
        pool_recycle=1800,
        **_NO_RESET,
    )
    foreign_text.watch(engine)
    engine.dialect.do_commit = _commit  # type: ignore[method-assign,assignment]
    return engine


def _commit(connection: Any) -> None:
    if not connection.info.pop(COMMITTED, False):
        connection.commit()


_NO_RESET: dict[str, Any] = {"pool_reset_on_return": None}
"""Each transaction is ended by whoever began it: a ROLLBACK behind its COMMIT is a wait for nothing."""


def postgresql_engine(connect: Callable[[], Any]) -> Engine:
    """Return an engine on a PostgreSQL database.

    Args:
        connect: `psycopg.connect` with what it takes to reach the database.
    """
    return sa.create_engine(
        "postgresql+psycopg://",
        creator=connect,
        pool_size=POOL,
        max_overflow=POOL,
        isolation_level="REPEATABLE READ",
        **_NO_RESET,
    )
