"""Statements on their way to the database, past SQLAlchemy.

Over a network each statement costs a wait, and most of those that write answer nothing that is needed.
To MySQL they go together, in one packet with the next one that does answer, or with the COMMIT: MySQL
runs the statements of a packet one after the other and stops at the first that fails, so that a COMMIT
behind it is not run. SQLite and PostgreSQL get each at once; that SQLAlchemy need not look at it saves
as much there as SQLite takes to run it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final, NoReturn

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from zen_mlmd.service.sql import foreign_text, refusals

TEXT: Final = 2**20
"""Characters of texts in one packet: at worst 8 MiB as SQL, and MySQL takes 16 MiB (`max_allowed_packet`)."""
COMMITTED: Final = "zen_mlmd_committed"
"""In a connection's `info`: MySQL has had the COMMIT."""
_LAST_IDS: Final = "SELECT LAST_INSERT_ID(), @@auto_increment_increment"

OnDuplicate = Callable[[], Exception]
"""Gives what to raise when a row of that key is there already."""


@dataclass(frozen=True, slots=True)
class _Statement:
    sql: str
    values: Sequence[Any]
    on_duplicate: OnDuplicate = refusals.DuplicateError


@dataclass(frozen=True, slots=True)
class Question:
    """A SELECT, and what is done with its rows."""

    sql: str
    values: Sequence[Any]
    take: Callable[[Sequence[Any]], None]


def size_of(values: Iterable[Any]) -> int:
    """Return how many characters the texts of some values have."""
    size = 0
    for value in values:
        if type(value) is str:
            size += len(value)
    return size


class Outbox:
    """The statements of one transaction.

    Args:
        connection: Of an engine of `engines`.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._dialect = connection.dialect.name
        self._gathers = self._dialect == "mysql"
        self._waiting: list[_Statement] = []
        self._size = 0
        self._last_id = 0

    def put(self, sql: str, values: Sequence[Any], on_duplicate: OnDuplicate) -> None:
        """Run a statement, now or with one of those that follow.

        Raises:
            Exception: What this one's `on_duplicate` gives, or that of one before.
        """
        statement = _Statement(sql, values, on_duplicate)
        if not self._gathers:
            self._run([statement])
            return
        size = size_of(values)
        if self._size + size > TEXT:
            self.send()
        self._waiting.append(statement)
        self._size += size

    def insert(self, sql: str, values: Sequence[Any], count: int, on_duplicate: OnDuplicate) -> list[int]:
        """Run an INSERT now and return the ids of its rows, in order."""
        if self._gathers:
            self.put(sql, values, on_duplicate)
            if count == 1:
                self.send()
                return [self._last_id]
            *_, ((first, step),) = self._run([*self._taken(), _Statement(_LAST_IDS, ())])
            return list(range(first, first + count * step, step))
        if self._dialect == "postgresql":
            statement = _Statement(f"{sql} RETURNING id", values, on_duplicate)
            # Each row's is taken from the sequence in the rows' order, but they may be told in another.
            return sorted(row[0] for row in self._run([statement])[0])
        self._run([_Statement(sql, values, on_duplicate)])
        return list(range(self._last_id - count + 1, self._last_id + 1))

    def ask(self, questions: Sequence[Question]) -> None:
        """Run SELECTs one after the other, behind what waits, and have their rows taken."""
        statements = [_Statement(each.sql, each.values) for each in questions]
        if self._gathers and questions:
            answers = self._run([*self._taken(), *statements])[-len(questions) :]
        else:
            answers = [self._run([each])[0] for each in statements]
        for question, rows in zip(questions, answers, strict=True):
            question.take(rows)

    def send(self) -> None:
        """Run what waits."""
        if self._waiting:
            self._run(self._taken())

    def commit(self) -> None:
        """Run what waits, and end the transaction."""
        if self._waiting:
            self._run([*self._taken(), _Statement("COMMIT", ())])
            self._connection.info[COMMITTED] = True
        self._connection.commit()

    def _taken(self) -> list[_Statement]:
        waiting, self._waiting, self._size = self._waiting, [], 0
        return waiting

    def _run(self, statements: Sequence[_Statement]) -> list[Sequence[Any]]:
        """Run statements, and return the rows that each answers."""
        connection = self._connection
        if not connection.in_transaction():
            connection.begin()
        cursor: Any = connection.connection.cursor()
        answers: list[Sequence[Any]] = []
        try:
            values = [value for each in statements for value in each.values]
            cursor.execute("; ".join(each.sql for each in statements), values)
            while True:
                answers.append(cursor.fetchall() if cursor.description else ())
                if len(answers) == len(statements):
                    break
                cursor.nextset()
            self._last_id = getattr(cursor, "lastrowid", None) or 0  # psycopg's has none
            cursor.close()
        except connection.dialect.loaded_dbapi.Error as error:
            self._fail(error, statements[len(answers)])
        except BaseException as error:
            if self._dialect != "sqlite":  # a part of the answers may be unread
                connection.invalidate(error)
            foreign = foreign_text.met(error) if self._dialect == "mysql" else None
            if foreign is not None:
                raise foreign from None
            raise
        return answers

    def _fail(self, error: Any, statement: _Statement) -> NoReturn:
        """Raise what SQLAlchemy would: a driver's error that tells whether the connection is gone."""
        connection = self._connection
        is_lost = connection.dialect.is_disconnect(error, connection.connection, None)
        if is_lost:
            connection.invalidate(error)
        found = sa.exc.DBAPIError(None, None, error, connection_invalidated=is_lost)
        if refusals.is_duplicate(found):
            raise statement.on_duplicate() from None
        raise found from None
