"""One transaction, as the calls of the SQL service see it."""

from __future__ import annotations

import functools
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from zen_mlmd.service.sql import refusals
from zen_mlmd.service.sql.schema import Schema

BATCH: Final = 5000
"""Ids in one statement, and values in one INSERT (SQLite takes 32,766 parameters)."""
_TEXT: Final = 2**20
"""Characters in one INSERT: at worst 8 MiB as SQL, and MySQL takes 16 MiB (`max_allowed_packet`)."""


class Catalog:
    """What was read of the types: their names never change, their properties only grow.

    Shared by the transactions of a database. What a transaction that is not committed yet has seen stays
    with it.
    """

    def __init__(self) -> None:
        self.types: dict[tuple[str, int], Any] = {}


class Session:
    """One transaction.

    Attributes:
        connection: SQLAlchemy's.
        schema: The tables.
        dialect: sqlite, mysql or postgresql.
        now_ms: The time of this transaction, in milliseconds since the epoch: of all that it writes.
    """

    def __init__(self, connection: Connection, schema: Schema, catalog: Catalog) -> None:
        self.connection = connection
        self.schema = schema
        self.dialect = schema.dialect
        self.now_ms = int(time.time() * 1000)
        self._catalog = catalog
        self._types = dict[tuple[str, int], Any]()

    def rows(self, statement: sa.Executable, values: Mapping[str, Any] | None = None) -> Sequence[Any]:
        """Run a SELECT and return its rows."""
        return self.connection.execute(statement, values or {}).all()

    def run(self, statement: sa.Executable, values: Any = None) -> int:
        """Run an INSERT, UPDATE or DELETE; return how many rows it met.

        Raises:
            DuplicateError: A row of that key is there already. The transaction cannot go on.
        """
        try:
            return self.connection.execute(statement, values).rowcount
        except sa.exc.DBAPIError as error:
            if refusals.is_duplicate(error):
                raise refusals.DuplicateError from None
            raise

    def rows_of_ids(self, statement: sa.Executable, ids: Iterable[int]) -> Iterator[Any]:
        """Run a SELECT with the parameter `ids` (see `among`), in batches; yield its rows."""
        wanted = list(dict.fromkeys(ids))
        for start in range(0, len(wanted), BATCH):
            yield from self.connection.execute(statement, {"ids": wanted[start : start + BATCH]})

    def insert(
        self, table: str, columns: Sequence[str], rows: Sequence[tuple[Any, ...]], *, skip_known: bool = False
    ) -> list[int]:
        """Insert rows in as few statements as the database takes.

        Args:
            table: A table of `COLUMNS`.
            columns: What the values of each row are.
            rows: In the order in which they get their ids.
            skip_known: Leave out a row whose key is there already.

        Returns:
            Their ids, in order, if the table gives any and nothing can have been left out.

        Raises:
            DuplicateError: A row of that key is there already. The transaction cannot go on.
        """
        ids: list[int] = []
        wants_ids = "id" in self.schema.table(table).c and not skip_known
        for batch in self._batches(rows, wants_ids=wants_ids):
            sql = _insert_sql(self.dialect, table, tuple(columns), len(batch), skip_known=skip_known)
            if wants_ids and self._returns_ids():
                sql += " RETURNING id"
            values = tuple(value for row in batch for value in row)
            try:
                result = self.connection.exec_driver_sql(sql, values)
            except sa.exc.DBAPIError as error:
                if refusals.is_duplicate(error):
                    raise refusals.DuplicateError(table) from None
                raise
            if wants_ids:
                ids += self._ids_of(result, len(batch))
        return ids

    def _batches(
        self, rows: Sequence[tuple[Any, ...]], *, wants_ids: bool
    ) -> Iterator[Sequence[tuple[Any, ...]]]:
        if not rows:
            return
        most = max(1, BATCH // len(rows[0]))
        if wants_ids and self._steps_between_ids():
            most = 1
        if self.dialect != "mysql":
            for start in range(0, len(rows), most):
                yield rows[start : start + most]
            return
        batch: list[tuple[Any, ...]] = []
        size = 0
        for row in rows:
            length = sum(len(value) for value in row if isinstance(value, str))
            if batch and (len(batch) == most or size + length > _TEXT):
                yield batch
                batch, size = [], 0
            batch.append(row)
            size += length
        yield batch

    def _returns_ids(self) -> bool:
        return self.dialect == "postgresql" or (
            self.dialect == "mysql" and bool(getattr(self.connection.dialect, "insert_returning", False))
        )

    def _steps_between_ids(self) -> bool:
        """Tell whether the server leaves ids out: then one row's does not follow from another's."""
        if self.dialect != "mysql" or self._returns_ids():
            return False
        known: dict[str, Any] = self.connection.info
        if "increment" not in known:
            known["increment"] = self.connection.exec_driver_sql("SELECT @@auto_increment_increment").scalar()
        return bool(known["increment"] != 1)

    def _ids_of(self, result: Any, count: int) -> Iterable[int]:
        if self._returns_ids():
            # Each row's is taken from the sequence in the rows' order, but they may be told in another.
            return sorted(row[0] for row in result)
        last: int = result.lastrowid
        return range(last, last + count) if self.dialect == "mysql" else range(last - count + 1, last + 1)

    def type_known(self, kind: str, type_id: int) -> Any | None:
        """Return a type that a transaction before has read or written, or this one has."""
        return self._types.get((kind, type_id)) or self._catalog.types.get((kind, type_id))

    def learn_type(self, kind: str, type_id: int, message: Any) -> None:
        """Keep a type that was read in this transaction."""
        self._types[kind, type_id] = message

    def committed(self) -> None:
        """Let other transactions know what this one has read or written."""
        self._catalog.types.update(self._types)


def among(column: sa.ColumnElement[Any]) -> sa.ColumnElement[bool]:
    """Return `column IN (ids)`, for `Session.rows_of_ids`.

    Ids are numbers: they go into the statement as they are, for databases bound the parameters of one.
    """
    return column.in_(sa.bindparam("ids", expanding=True, literal_execute=True, type_=sa.BigInteger()))


@functools.lru_cache(maxsize=512)
def _insert_sql(dialect: str, table: str, columns: tuple[str, ...], count: int, *, skip_known: bool) -> str:
    """Return an INSERT of several rows; all its names are of `COLUMNS`, all its values are bound."""
    quote, mark = ("`", "%s") if dialect == "mysql" else ('"', "?" if dialect == "sqlite" else "%s")
    called = table.lower() if dialect == "postgresql" else table
    names = ", ".join(f"{quote}{each}{quote}" for each in columns)
    row = f"({', '.join([mark] * len(columns))})"
    sql = f"INSERT INTO {quote}{called}{quote} ({names}) VALUES {', '.join([row] * count)}"  # noqa: S608
    if not skip_known:
        return sql
    if dialect == "mysql":  # INSERT IGNORE would pass over other errors, too
        return f"{sql} ON DUPLICATE KEY UPDATE {quote}{columns[0]}{quote} = {quote}{columns[0]}{quote}"
    return f"{sql} ON CONFLICT DO NOTHING"
