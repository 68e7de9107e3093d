"""The databases on which the SQL service is tested, each with ml-metadata beside it."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg
import pymysql
import sqlalchemy as sa
from ml_metadata.metadata_store.metadata_store import MetadataStore, downgrade_schema
from ml_metadata.proto import metadata_store_pb2 as mlmd
from sqlalchemy.engine import Connection, Engine

from zen_mlmd.service.sql import engines

TABLES_OF_TYPES = ("Type", "ParentType", "TypeProperty", "MLMDEnv")


@dataclass(frozen=True)
class Place:
    """One database of one test, empty at first.

    Attributes:
        url: `sqlite:///...`, `mysql://...` or `postgresql://...`, with the password.
        config: For ml-metadata.
    """

    url: str
    config: mlmd.ConnectionConfig

    @property
    def dialect(self) -> str:
        """SQLAlchemy's name of it."""
        return self.url.partition(":")[0]

    def engine(self) -> Engine:
        """Open it as the SQL service does; the caller disposes it."""
        parts = urlsplit(self.url)
        if self.dialect == "sqlite":
            return engines.sqlite_engine(parts.path, create=True)
        connect: dict[str, Any] = {
            "host": parts.hostname,
            "port": parts.port,
            "user": parts.username,
            "password": parts.password,
        }
        if self.dialect == "mysql":
            return engines.mysql_engine(partial(pymysql.connect, **connect, database=parts.path[1:]))
        return engines.postgresql_engine(partial(psycopg.connect, **connect, dbname=parts.path[1:]))

    def with_connection(self, work: Callable[[Connection], Any]) -> Any:
        """Do something with a connection, and commit it."""
        engine = self.engine()
        try:
            with engine.connect() as connection:
                result = work(connection)
                connection.commit()
                return result
        finally:
            engine.dispose()

    def native(self) -> MetadataStore:
        """Open it with ml-metadata, which makes the tables if need be.

        On SQLite the handle has to go before anything else opens the file: two SQLite libraries are at work.
        """
        return MetadataStore(self.config)

    def migrate_natively(self) -> None:
        """Let ml-metadata bring the schema to the newest version."""
        MetadataStore(self.config, enable_upgrade_migration=True)

    def downgrade(self, version: int) -> None:
        """Let ml-metadata bring the schema to an older version."""
        downgrade_schema(self.config, version)

    def catalog(self) -> dict[str, Any]:
        """Return what the database says of its tables, columns and indexes, up to white space."""
        return self.with_connection(_CATALOGS[self.dialect])  # type: ignore[no-any-return]

    def rows(self, *tables: str) -> dict[str, list[tuple[Any, ...]]]:
        """Return the rows of tables, sorted."""

        def read(connection: Connection) -> dict[str, list[tuple[Any, ...]]]:
            quoted = "{}" if self.dialect == "postgresql" else "`{}`"
            return {
                each: sorted(
                    map(tuple, connection.exec_driver_sql(f"SELECT * FROM {quoted.format(each)}")), key=repr
                )
                for each in tables
            }

        return self.with_connection(read)  # type: ignore[no-any-return]


def sqlite_place(path: Path) -> Place:
    """Return a SQLite file as a place."""
    config = mlmd.ConnectionConfig()
    config.sqlite.filename_uri = str(path)
    return Place(f"sqlite://{path}", config)


def server_place(url: str) -> Place:
    """Return a database of a MySQL or PostgreSQL server as a place."""
    parts = urlsplit(url)
    config = mlmd.ConnectionConfig()
    if parts.scheme == "mysql":
        config.mysql.host, config.mysql.port = parts.hostname, parts.port
        config.mysql.user, config.mysql.password = parts.username, parts.password
        config.mysql.database, config.mysql.skip_db_creation = parts.path[1:], True
    else:
        config.postgresql.host, config.postgresql.port = parts.hostname, str(parts.port)
        config.postgresql.user, config.postgresql.password = parts.username, parts.password
        config.postgresql.dbname, config.postgresql.skip_db_creation = parts.path[1:], True
    return Place(url, config)


def _sqlite_catalog(connection: Connection) -> dict[str, Any]:
    rows = connection.exec_driver_sql("SELECT type, name, sql FROM sqlite_master")
    return {f"{kind} {name}": _packed(sql or "") for kind, name, sql in rows}


def _packed(sql: str) -> str:
    return re.sub(r"\s*([(),])\s*", r"\1", " ".join(sql.split()))


def _mysql_catalog(connection: Connection) -> dict[str, Any]:
    names = [row[0] for row in connection.exec_driver_sql("SHOW TABLES")]
    return {name: connection.exec_driver_sql(f"SHOW CREATE TABLE `{name}`").one()[1] for name in names}


def _postgresql_catalog(connection: Connection) -> dict[str, Any]:
    def rows(select: str) -> list[tuple[Any, ...]]:
        return sorted(map(tuple, connection.execute(sa.text(select))))

    return {
        "columns": rows(
            "SELECT c.relname, a.attnum, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull,"
            " coalesce(pg_get_expr(d.adbin, d.adrelid), '') FROM pg_class c"
            " JOIN pg_attribute a ON a.attrelid = c.oid LEFT JOIN pg_attrdef d"
            " ON d.adrelid = c.oid AND d.adnum = a.attnum WHERE c.relkind IN ('r', 'S') AND a.attnum > 0"
            " AND NOT a.attisdropped AND c.relnamespace = 'public'::regnamespace"
        ),
        "constraints": rows(
            "SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid) FROM pg_constraint"
            " WHERE connamespace = 'public'::regnamespace"
        ),
        "indexes": rows("SELECT tablename, indexname, indexdef FROM pg_indexes WHERE schemaname = 'public'"),
        "sequences": rows(
            "SELECT sequencename, data_type::text, start_value, max_value, last_value::text FROM pg_sequences"
        ),
    }


_CATALOGS: dict[str, Callable[[Connection], dict[str, Any]]] = {
    "sqlite": _sqlite_catalog,
    "mysql": _mysql_catalog,
    "postgresql": _postgresql_catalog,
}
