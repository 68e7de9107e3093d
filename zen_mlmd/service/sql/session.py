"""One transaction, as the calls of the SQL service see it."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from zen_mlmd.service.sql import dml, refusals
from zen_mlmd.service.sql.outbox import TEXT, OnDuplicate, Outbox, Question, size_of
from zen_mlmd.service.sql.schema import Schema

BATCH: Final = 5000
"""Ids in one statement, and values in one INSERT (SQLite takes 32,766 parameters)."""

EVENT: Final = ("artifact_id", "execution_id", "type", "milliseconds_since_epoch")
STEP: Final = ("is_index_step", "step_index", "step_key")
"""Of `EventPath`, behind the event's id."""


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
        self._outbox = Outbox(connection)
        self._catalog = catalog
        self._types = dict[tuple[str, int], Any]()

    def rows(self, statement: sa.Executable, values: Mapping[str, Any] | None = None) -> Sequence[Any]:
        """Run a SELECT and return its rows."""
        self._outbox.send()
        return self.connection.execute(statement, values or {}).all()

    def ask(self, questions: Sequence[Question], *, later: bool = False) -> None:
        """Run several SELECTs of `dml` one after the other, and have their rows taken: one wait for all.

        Args:
            questions: Any number.
            later: Nobody needs their rows before the next `send`.
        """
        self._outbox.ask(questions, later=later)

    def rows_of_ids(self, statement: sa.Executable, ids: Iterable[int]) -> Iterator[Any]:
        """Run a SELECT with the parameter `ids` (see `among`), in batches; yield its rows."""
        self._outbox.send()
        wanted = list(dict.fromkeys(ids))
        for start in range(0, len(wanted), BATCH):
            yield from self.connection.execute(statement, {"ids": wanted[start : start + BATCH]})

    def ask_of_ids(
        self, questions: Iterable[tuple[str, Callable[[Sequence[Any]], None]]], ids: Sequence[int]
    ) -> None:
        """Run SELECTs of some ids, as `sql_of_ids` gives them, in batches; see `ask`.

        Their rows are taken as the database's client gives them: what SQLAlchemy does to each value takes
        as long as to read it.
        """
        asked = list(questions)
        for start in range(0, len(ids), BATCH):
            # They are numbers, and databases bound the parameters of one statement.
            some = ", ".join(map(str, ids[start : start + BATCH]))
            self._outbox.ask([Question(sql.replace(_IDS, some), (), take) for sql, take in asked])

    def lock_table(self, table: str) -> None:
        """In PostgreSQL, keep others from writing to a table; to be called before anything is read.

        What a transaction sees there is fixed by its first SELECT, be it one that waits for a row.
        """
        if self.dialect == "postgresql":
            sql = f'LOCK TABLE "{table.lower()}" IN SHARE ROW EXCLUSIVE MODE'
            self._outbox.put(sql, (), refusals.DuplicateError)

    def insert(
        self,
        table: str,
        columns: tuple[str, ...],
        rows: Sequence[tuple[Any, ...]],
        *,
        skip_known: bool = False,
        on_duplicate: OnDuplicate = refusals.DuplicateError,
    ) -> None:
        """Insert rows.

        Args:
            table: A table of `COLUMNS`.
            columns: What the values of each row are.
            rows: Any number.
            skip_known: Leave out a row whose key is there already.
            on_duplicate: Gives what to raise if one is, be it now or by a later call. The transaction
                cannot go on then.
        """
        for batch in self._batches(rows):
            sql, values = dml.insert(self.dialect, table, columns, batch, skip_known=skip_known)
            self._outbox.put(sql, values, on_duplicate)

    def insert_for_ids(
        self,
        table: str,
        columns: tuple[str, ...],
        rows: Sequence[tuple[Any, ...]],
        *,
        on_duplicate: OnDuplicate = refusals.DuplicateError,
    ) -> list[int]:
        """Insert rows of a table that gives them ids; see `insert`.

        Returns:
            A list that has the ids, in order, after the next `send`.
        """
        ids: list[int] = []
        for batch in self._batches(rows):
            sql, values = dml.insert(self.dialect, table, columns, batch)
            self._outbox.insert(sql, values, len(batch), on_duplicate, ids.extend)
        return ids

    def insert_events(
        self,
        rows: Sequence[tuple[Any, ...]],
        steps: Sequence[Sequence[tuple[Any, ...]]],
        *,
        on_duplicate: OnDuplicate,
    ) -> None:
        """Insert events, and the steps of each one's path.

        Args:
            rows: `EVENT` of each.
            steps: `STEP` of each one's steps, in order.
            on_duplicate: As `insert`.
        """
        if self.dialect != "mysql":
            ids = self.insert_for_ids("Event", EVENT, rows, on_duplicate=on_duplicate)
            self.insert("EventPath", ("event_id", *STEP), _numbered(ids, steps))
            return
        for start in range(0, len(rows), BATCH // len(EVENT)):
            batch = rows[start : start + BATCH // len(EVENT)]
            self._outbox.put(*dml.insert("mysql", "Event", EVENT, batch), on_duplicate)
            # Their ids need not be told here, where nothing else needs them.
            numbered = _numbered(range(len(batch)), steps[start : start + len(batch)])
            for some in self._batches(numbered):
                sql, values = dml.insert("mysql", "EventPath", ("event_id", *STEP), some, of_parent=True)
                self._outbox.put(sql, values, refusals.DuplicateError)

    def update(
        self,
        table: str,
        values: Mapping[str, Any],
        ids: Sequence[int],
        *,
        on_duplicate: OnDuplicate = refusals.DuplicateError,
    ) -> None:
        """Set columns of the rows of some ids; see `insert`."""
        for start in range(0, len(ids), BATCH):
            batch = ids[start : start + BATCH]
            sql = dml.update(self.dialect, table, tuple(values), len(batch))
            self._outbox.put(sql, (*values.values(), *batch), on_duplicate)

    def delete(self, table: str, columns: tuple[str, ...], keys: Sequence[tuple[Any, ...]]) -> None:
        """Delete the rows of some keys."""
        for batch in self._batches(keys):
            sql = dml.delete(self.dialect, table, columns, len(batch))
            self._outbox.put(sql, _flat(batch), refusals.DuplicateError)

    def _batches(self, rows: Sequence[tuple[Any, ...]]) -> Iterator[Sequence[tuple[Any, ...]]]:
        """Cut rows into what one statement takes, by their number and, for MySQL, by their texts."""
        if not rows:
            return
        most = max(1, BATCH // len(rows[0]))
        if self.dialect != "mysql":
            for start in range(0, len(rows), most):
                yield rows[start : start + most]
            return
        start = size = 0
        for number, row in enumerate(rows):
            length = size_of(row)
            if number - start == most or (size + length > TEXT and number > start):
                yield rows[start:number]
                start, size = number, 0
            size += length
        yield rows[start:]

    def send(self) -> None:
        """Let the database run what it has not got yet, so that what it refuses of that is known."""
        self._outbox.send()

    def type_known(self, kind: str, type_id: int) -> Any | None:
        """Return a type that a transaction before has read or written, or this one has."""
        return self._types.get((kind, type_id)) or self._catalog.types.get((kind, type_id))

    def learn_type(self, kind: str, type_id: int, message: Any) -> None:
        """Keep a type that was read in this transaction."""
        self._types[kind, type_id] = message

    def commit(self) -> None:
        """End the transaction: all of it is done. Others know then what it has read or written of types."""
        self._outbox.commit()
        self._catalog.types.update(self._types)


def among(column: sa.ColumnElement[Any]) -> sa.ColumnElement[bool]:
    """Return `column IN (ids)`, for `Session.rows_of_ids`.

    Ids are numbers: they go into the statement as they are, for databases bound the parameters of one.
    """
    return column.in_(sa.bindparam("ids", expanding=True, literal_execute=True, type_=sa.BigInteger()))


_IDS: Final = "/* ids */"


def of_ids(column: sa.ColumnElement[Any]) -> sa.ColumnElement[bool]:
    """Return `column IN (ids)`, for a statement without parameters, for `sql_of_ids`."""
    return column.in_(sa.text(_IDS))


def sql_of_ids(schema: Schema, statement: sa.Select[Any]) -> str:
    """Return the text of a SELECT with a condition `of_ids`, for `Session.ask_of_ids`."""
    dialect = sa.engine.make_url(f"{_DRIVERS[schema.dialect]}://").get_dialect()()
    return str(statement.compile(dialect=dialect))


_DRIVERS: Final = {"sqlite": "sqlite", "mysql": "mysql+pymysql", "postgresql": "postgresql+psycopg"}


def _flat(rows: Iterable[tuple[Any, ...]]) -> tuple[Any, ...]:
    return tuple(itertools.chain.from_iterable(rows))


def _numbered(numbers: Iterable[int], steps: Iterable[Sequence[tuple[Any, ...]]]) -> list[tuple[Any, ...]]:
    return [(number, *step) for number, some in zip(numbers, steps, strict=True) for step in some]
