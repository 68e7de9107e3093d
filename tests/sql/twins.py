"""The same requests to ml-metadata itself and to the SQL service, each with a database of its own."""

from __future__ import annotations

import re
import sqlite3
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from ml_metadata.proto import metadata_store_pb2 as mlmd

from zen_mlmd.errors import RejectedRequestError
from zen_mlmd.service import base
from zen_mlmd.service.check import Limits
from zen_mlmd.service.native import NativeService
from zen_mlmd.service.sql.database import Database
from zen_mlmd.service.sql.engines import mysql_engine, sqlite_engine
from zen_mlmd.service.sql.schema import COLUMNS, Schema
from zen_mlmd.service.sql.service import SqlService

TIMES = re.compile(r"(time_since_epoch|milliseconds_since_epoch)$")
UNORDERED = ("Attribution", "Association")
"""ml-metadata writes their rows in the order of a hash table, so their own ids are anybody's."""


def native_service(config: mlmd.ConnectionConfig) -> NativeService:
    """Open ml-metadata; it makes the tables."""
    service = NativeService(config, location="native")
    service.open()
    return service


def sqlite_config(path: Path) -> mlmd.ConnectionConfig:
    config = mlmd.ConnectionConfig()
    config.sqlite.filename_uri = str(path)
    config.sqlite.connection_mode = mlmd.SqliteMetadataSourceConfig.READWRITE_OPENCREATE
    return config


def sqlite_database(path: Path) -> Database:
    """Open a file whose tables ml-metadata has made, and closed again."""
    native_service(sqlite_config(path)).close()
    return Database(
        lambda: sqlite_engine(str(path)), location=path.name, learn=lambda _connection: Schema("sqlite")
    )


def mysql_config(server: Any, database: str) -> mlmd.ConnectionConfig:
    config = mlmd.ConnectionConfig()
    config.mysql.host = server.host
    config.mysql.port = server.port
    config.mysql.database = database
    config.mysql.user = server.user
    config.mysql.password = server.password
    return config


def mysql_database(server: Any, database: str, *, wait_s: float = 20.0) -> Database:
    """Open a database of MariaDB whose tables ml-metadata has made."""
    native_service(mysql_config(server, database)).close()
    connect = {
        "host": server.host,
        "port": server.port,
        "user": server.user,
        "password": server.password,
        "database": database,
    }
    return Database(
        lambda: mysql_engine(connect),
        location=database,
        learn=lambda _connection: Schema("mysql"),
        wait_s=wait_s,
    )


class Twins:
    """Two services that are to do the same; `both` compares what they say, `compare_tables` what they keep."""

    def __init__(self, native: NativeService, database: Database, limits: Limits = Limits()) -> None:  # noqa: B008
        self.native = native
        self.database = database
        self.sql = SqlService(database, limits=limits)

    def close(self) -> None:
        self.native.close()
        self.sql.close()

    def both(self, method: str, request: Any) -> Any:
        """Send a request to both; return the answer, or the code of the refusal, once they are equal."""
        theirs, ours = (_outcome(each, method, request) for each in (self.native, self.sql))
        assert _comparable(ours) == _comparable(theirs), f"{method} {request}: {ours} is not {theirs}"
        return ours[0] if isinstance(ours, tuple) else ours

    def compare_tables(self, theirs: sa.Engine) -> None:
        """Compare all rows of both; times, which differ, only by whether there is one."""
        ours = self.database._opened()
        for table in COLUMNS:
            assert rows(ours, table) == rows(theirs, table), table


def _outcome(service: base.MetadataService, method: str, request: Any) -> Any:
    try:
        answer = base.response_class(method)()
        answer.ParseFromString(service.forward(method, request.SerializeToString()))
    except base.Refusal as refusal:
        return refusal.code, refusal.text
    except RejectedRequestError:
        return "rejected", ""
    return answer


def _comparable(outcome: Any) -> Any:
    if not isinstance(outcome, tuple):
        return outcome
    code, text = outcome
    # A database's own words differ, and the rows and nodes that are quoted.
    return code, "" if code == base.INTERNAL else re.split(r"[:{`\d]", text)[0][:40]


def rows(engine: sa.Engine, table: str) -> list[tuple[str, ...]]:
    """Return a table's rows, as texts in the order of the texts."""
    with engine.connect() as connection:
        quoted = engine.dialect.identifier_preparer.quote(table)
        found = connection.exec_driver_sql(f"SELECT {', '.join(COLUMNS[table])} FROM {quoted}")
        names = list(COLUMNS[table])
        return sorted(
            tuple(_shown(table, name, value) for name, value in zip(names, row, strict=True)) for row in found
        )


def _shown(table: str, name: str, value: Any) -> str:
    if TIMES.search(name):
        return "a time" if value and value > 1e12 else repr(value)
    if name == "id" and table in UNORDERED:
        return "an id"
    return repr(value)


def sqlite_engine_of(path: Path) -> sa.Engine:
    """Open a file that ml-metadata has closed."""
    return sa.create_engine("sqlite://", creator=lambda: sqlite3.connect(path))
