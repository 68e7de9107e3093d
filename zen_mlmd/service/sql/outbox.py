"""Statements on their way to the database, past SQLAlchemy.

Over a network each statement costs a wait, and most of those that write answer nothing that is needed.
To MySQL they go together, in one packet with the next one that does answer, or with the COMMIT: MySQL
runs the statements of a packet one after the other and stops at the first that fails, so that a COMMIT
behind it is not run. SQLite and PostgreSQL get each at once; that SQLAlchemy need not look at it saves
as much there as SQLite takes to run it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, NamedTuple, NoReturn

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from zen_mlmd.service.sql import foreign_text, mysql_text, refusals

TEXT: Final = 2**20
"""Characters of texts in one packet: at worst 8 MiB as SQL, and MySQL takes 16 MiB (`max_allowed_packet`)."""
COMMITTED: Final = "zen_mlmd_committed"
"""In a connection's `info`: MySQL has had the COMMIT."""
_LAST_IDS: Final = "SELECT LAST_INSERT_ID(), @@auto_increment_increment"

OnDuplicate = Callable[[], Exception]
"""Gives what to raise when a row of that key is there already."""


Rows = Sequence[Any]


class Question(NamedTuple):
    """A SELECT, and what is done with its rows."""

    sql: str
    values: Sequence[Any]
    take: Callable[[Rows], None]


class _Statement(NamedTuple):
    """One on its way; `take` gets what it answers, and `numbered` the id of the first row that it made."""

    sql: str
    values: Sequence[Any]
    on_duplicate: OnDuplicate = refusals.DuplicateError
    take: Callable[[Rows], None] | None = None
    numbered: Callable[[int], None] | None = None


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

    def put(self, sql: str, values: Sequence[Any], on_duplicate: OnDuplicate) -> None:
        """Run a statement, now or with one of those that follow.

        Raises:
            Exception: What this one's `on_duplicate` gives, or that of one before.
        """
        self._put(_Statement(sql, values, on_duplicate))

    def insert(
        self,
        sql: str,
        values: Sequence[Any],
        count: int,
        on_duplicate: OnDuplicate,
        take: Callable[[Sequence[int]], None],
    ) -> None:
        """Run an INSERT as `put` does, and have the ids of its rows taken, in order."""
        if self._dialect == "postgresql":
            # Each row's is taken from the sequence in the rows' order, but they may be told in another.
            def take_rows(rows: Rows) -> None:
                take(sorted(row[0] for row in rows))

            self._put(_Statement(f"{sql} RETURNING id", values, on_duplicate, take_rows))
        elif self._dialect == "sqlite":
            last = _Statement(sql, values, on_duplicate, None, lambda it: take(range(it - count + 1, it + 1)))
            self._put(last)
        elif count == 1:
            self._put(_Statement(sql, values, on_duplicate, None, lambda number: take((number,))))
        else:

            def take_range(rows: Rows) -> None:
                ((first, step),) = rows
                take(range(first, first + count * step, step))

            self._put(_Statement(sql, values, on_duplicate))
            self._waiting.append(_Statement(_LAST_IDS, (), take=take_range))

    def ask(self, questions: Sequence[Question], *, later: bool = False) -> None:
        """Run SELECTs one after the other, behind what waits, and have their rows taken.

        Args:
            questions: Any number.
            later: With one of those that follow will do.
        """
        for each in questions:
            self._put(_Statement(each.sql, each.values, take=each.take))
        if questions and not later:
            self.send()

    def send(self) -> None:
        """Run what waits."""
        if self._waiting:
            self._run_waiting()

    def commit(self) -> None:
        """Run what waits, and end the transaction."""
        if self._waiting:
            self._waiting.append(_Statement("COMMIT", ()))
            self._run_waiting()
            self._connection.info[COMMITTED] = True
        self._connection.commit()

    def _put(self, statement: _Statement) -> None:
        if not self._gathers:
            self._run(statement)
            return
        size = size_of(statement.values)
        if self._size + size > TEXT:
            self.send()
        self._waiting.append(statement)
        self._size += size

    def _run(self, statement: _Statement) -> None:
        """Run one statement."""
        connection = self._connection
        if not connection.in_transaction():
            connection.begin()
        rows: Rows = ()
        try:
            cursor: Any = connection.connection.cursor()
            cursor.execute(statement.sql, statement.values)
            if statement.take is not None:
                rows = cursor.fetchall()
            number = cursor.lastrowid if statement.numbered is not None else 0
            cursor.close()
        except connection.dialect.loaded_dbapi.Error as error:
            self._fail(error, statement)
        except BaseException as error:
            if self._dialect != "sqlite":  # a part of the answer may be unread
                connection.invalidate(error)
            raise
        if statement.take is not None:
            statement.take(rows)
        if statement.numbered is not None:
            statement.numbered(number)

    def _run_waiting(self) -> None:
        """Run all that waits, in one packet."""
        statements, self._waiting, self._size = self._waiting, [], 0
        connection = self._connection
        if not connection.in_transaction():
            connection.begin()
        answers: list[tuple[Rows, int]] = []
        try:
            driver: Any = connection.connection.driver_connection
            cursor: Any = driver.cursor()
            cursor.execute(mysql_text.packet(driver, statements))
            while True:
                answers.append((cursor.fetchall() if cursor.description else (), cursor.lastrowid or 0))
                if len(answers) == len(statements):
                    break
                cursor.nextset()
            cursor.close()
        except connection.dialect.loaded_dbapi.Error as error:
            self._fail(error, statements[len(answers)])
        except BaseException as error:
            connection.invalidate(error)  # a part of the answers may be unread
            foreign = foreign_text.met(error)
            if foreign is not None:
                raise foreign from None
            raise
        for statement, (rows, number) in zip(statements, answers, strict=True):
            if statement.take is not None:
                statement.take(rows)
            if statement.numbered is not None:
                statement.numbered(number)

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
