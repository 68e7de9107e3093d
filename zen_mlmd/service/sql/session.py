"""One transaction, as the calls of the SQL service see it."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from zen_mlmd.service.sql.schema import Schema

BATCH: Final = 5000
"""Ids in one statement, and values in one INSERT (SQLite takes 32,766 parameters)."""


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
        """Run an INSERT, UPDATE or DELETE; return how many rows it met."""
        return self.connection.execute(statement, values).rowcount

    def rows_of_ids(self, statement: sa.Executable, ids: Iterable[int]) -> Iterator[Any]:
        """Run a SELECT with the parameter `ids` (see `among`), in batches; yield its rows."""
        wanted = list(dict.fromkeys(ids))
        for start in range(0, len(wanted), BATCH):
            yield from self.connection.execute(statement, {"ids": wanted[start : start + BATCH]})

    def type_known(self, kind: str, type_id: int) -> Any | None:
        """Return a type message that this process has seen committed, or that this transaction has read."""
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
