"""What a database holds: which of MLMD's tables and columns, and of which version.

Asked in two statements, and read only: a database of an older schema is opened as it is.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from zen_mlmd.errors import NotMlmdError, SchemaVersionError
from zen_mlmd.service.sql.schema import COLUMNS, OLDEST_VERSION, SCHEMA_VERSION, Column, Schema, columns_of

_COLUMNS: Final[Mapping[str, str]] = {
    "sqlite": (
        "SELECT t.name, c.name, lower(c.type), '' FROM sqlite_master AS t"
        " JOIN pragma_table_info(t.name) AS c WHERE t.type = 'table'"
    ),
    "mysql": (
        "SELECT table_name AS t, column_name AS c, lower(column_type) AS d, coalesce(collation_name, '') AS o"
        " FROM information_schema.columns WHERE table_schema = database()"
    ),
    "postgresql": (
        "SELECT t.relname, c.attname, format_type(c.atttypid, c.atttypmod), ''"
        " FROM pg_catalog.pg_class AS t JOIN pg_catalog.pg_attribute AS c ON c.attrelid = t.oid"
        " WHERE t.relkind IN ('r', 'p') AND c.attnum > 0 AND NOT c.attisdropped"
        " AND pg_catalog.pg_table_is_visible(t.oid)"
        " AND t.relnamespace <> 'pg_catalog'::regnamespace"
    ),
}


@dataclass(frozen=True)
class Found:
    """What a look at a database found.

    Attributes:
        dialect: SQLAlchemy's name of the database.
        present: MLMD's tables and their columns, by MLMD's names.
        others: How many other tables there are.
        copies: Tables that a migration makes on its way, and leaves if it is cut short.
        versions: The rows of `MLMDEnv`: one, if all is well.
        statement_bytes: Of the longest statement that the server takes; None if there is no such limit.
        signed_zero: Whether it tells -0.0 from 0.0.
    """

    dialect: str
    present: Mapping[str, Mapping[str, Column]]
    others: int
    versions: tuple[int, ...]
    statement_bytes: int | None = None
    signed_zero: bool = True
    copies: tuple[str, ...] = ()

    @property
    def half_made(self) -> bool:
        """Whether somebody began to make MLMD's tables and has not said that they are there."""
        return bool(self.present) and not self.versions

    def schema(self, location: str) -> Schema:
        """Return the schema to read.

        Raises:
            NotMlmdError: There are no tables of MLMD's, or not all of them.
            SchemaVersionError: The schema is newer than 10, or older than 6.
        """
        if not self.present:
            raise self._nothing(location)
        if len(self.versions) != 1:
            raise self._no_version(location)
        version = self.versions[0]
        if version > SCHEMA_VERSION:
            raise SchemaVersionError(
                f"{location}: its MLMD schema is {version}, and {SCHEMA_VERSION} is the newest known here",
                hint="install a newer zen_mlmd",
            )
        if version < OLDEST_VERSION:
            raise SchemaVersionError(
                f"{location}: its MLMD schema is {version}, and {OLDEST_VERSION} is the oldest that is read",
                hint="back it up, then let ml-metadata 1.17.1 migrate it (`enable_upgrade_migration`)",
            )
        lacking = self.lacking(version)
        if lacking:
            cut_short = "was a migration cut short? `zen-mlmd metadata-store migrate` goes on with it"
            raise NotMlmdError(
                f"{location}: it says that its MLMD schema is {version}, but it lacks {', '.join(lacking)}",
                hint="restore a backup" if version == SCHEMA_VERSION else cut_short,
            )
        return Schema(self.dialect, version, self.present, self.statement_bytes, self.signed_zero)

    def lacking(self, version: int) -> list[str]:
        """Return the tables, and the columns of those there are, that a schema of version 6 to 10 has."""
        return [
            table if table not in self.present else f"{table}.{column}"
            for table, columns in columns_of(version).items()
            for column in (columns if table in self.present else columns[:1])
            if column not in self.present.get(table, {})
        ]

    def _nothing(self, location: str) -> NotMlmdError:
        holds = f"{self.others} tables of others" if self.others else "nothing"
        return NotMlmdError(
            f"{location}: it has none of MLMD's tables: it holds {holds}",
            hint="is it the right database? if so, open it once without read_only: that makes the tables",
        )

    def _no_version(self, location: str) -> NotMlmdError:
        if self.versions:
            return NotMlmdError(
                f"{location}: its table MLMDEnv says {len(self.versions)} versions of MLMD's schema",
                hint="two programs made its tables at once: restore a backup, or ask which one is true",
            )
        return NotMlmdError(
            f"{location}: it has {len(self.present)} of MLMD's {len(COLUMNS)} tables, and no schema version",
            hint="is another process making them? else they were left half made, or are of 2019: drop them",
        )


def look(connection: Connection) -> Found:
    """Ask a database what there is."""
    dialect = connection.dialect.name
    mlmd = {_key(dialect, name): name for name in COLUMNS}
    present: dict[str, dict[str, Column]] = {}
    others = set()
    for table, column, declared, collation in connection.execute(sa.text(_COLUMNS[dialect])):
        known = mlmd.get(_key(dialect, table))
        if known is None:
            others.add(table)
        else:
            present.setdefault(known, {})[column] = Column(declared, collation)
    others.discard("sqlite_sequence")
    versions: tuple[int, ...] = ()
    statement_bytes = None
    signed_zero = dialect != "sqlite"  # which stores a real number without a fraction as an integer
    if "MLMDEnv" in present:
        asked: list[sa.ColumnElement[Any]] = [Schema(dialect).table("MLMDEnv").c.schema_version]
        if dialect == "mysql":
            asked += [sa.literal_column("@@max_allowed_packet"), sa.literal_column("-0e0")]
        rows = connection.execute(sa.select(*asked)).all()
        versions = tuple(int(row[0]) for row in rows)
        if rows and dialect == "mysql":
            statement_bytes = rows[0][1]
            signed_zero = math.copysign(1, rows[0][2]) < 0  # MySQL's has a sign, MariaDB's has none
    copies = tuple(sorted(each for each in others if _key(dialect, each) in _copies(dialect)))
    return Found(dialect, present, len(others), versions, statement_bytes, signed_zero, copies)


def _copies(dialect: str) -> set[str]:
    return {_key(dialect, f"{name}Temp") for name in COLUMNS}


def _key(dialect: str, name: str) -> str:
    # MySQL has table names in lower case where its lower_case_table_names says so.
    return name if dialect == "sqlite" else name.lower()


def learn(connection: Connection, location: str) -> Schema:
    """Ask a database for MLMD's tables; see `Found.schema` for what is raised."""
    return look(connection).schema(location)


@dataclass(frozen=True, slots=True)
class Index:
    """An index of a table.

    Attributes:
        table: In lower case.
        name: As the database has it.
        columns: In order; expressions are left out.
        method: btree or hash, say; empty where there is one only.
    """

    table: str
    name: str
    columns: tuple[str, ...]
    method: str = ""


_INDEXES: Final[Mapping[str, str]] = {
    "sqlite": (
        "SELECT t.name, i.name, c.name, '' FROM sqlite_master AS t JOIN pragma_index_list(t.name) AS i"
        " JOIN pragma_index_info(i.name) AS c WHERE t.type = 'table' ORDER BY c.seqno"
    ),
    "mysql": (
        "SELECT table_name AS t, index_name AS i, column_name AS c, lower(index_type) AS m"
        " FROM information_schema.statistics WHERE table_schema = database() ORDER BY seq_in_index"
    ),
    "postgresql": (
        "SELECT t.relname, i.relname, a.attname, m.amname FROM pg_catalog.pg_index AS x"
        " JOIN pg_catalog.pg_class AS t ON t.oid = x.indrelid"
        " JOIN pg_catalog.pg_class AS i ON i.oid = x.indexrelid"
        " JOIN pg_catalog.pg_am AS m ON m.oid = i.relam"
        " CROSS JOIN LATERAL unnest(x.indkey) WITH ORDINALITY AS k (attnum, place)"
        " LEFT JOIN pg_catalog.pg_attribute AS a ON a.attrelid = t.oid AND a.attnum = k.attnum"
        " WHERE pg_catalog.pg_table_is_visible(t.oid) AND t.relnamespace <> 'pg_catalog'::regnamespace"
        " ORDER BY k.place"
    ),
}


def indexes(connection: Connection) -> list[Index]:
    """Return all indexes of a database's tables, those of its constraints too."""
    columns: dict[tuple[str, str, str], list[str]] = {}
    for table, name, column, method in connection.execute(sa.text(_INDEXES[connection.dialect.name])):
        columns.setdefault((table.lower(), name, method), []).extend([column] if column else [])
    return [Index(table, name, tuple(each), method) for (table, name, method), each in columns.items()]


def index_names(connection: Connection) -> set[str]:
    """Return the names of all indexes of a database."""
    return {each.name for each in indexes(connection)}
