"""One relational database: connections, transactions, and what to do when they break.

A unit of work is a function of a `Session`; it runs in one transaction, all or nothing, and is run
again as a whole after a deadlock, a busy file, or a connection that was lost before the commit was
sent. A connection that is lost while it commits leaves open what happened: `ConnectionLostError`.
"""

from __future__ import annotations

import os
import random
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from typing import TypeVar

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine

from zen_mlmd.errors import (
    ConnectionLostError,
    ContentionError,
    NotMlmdError,
    UnreachableError,
    ZenMlmdError,
)
from zen_mlmd.service.base import Refusal, error_from_code
from zen_mlmd.service.lock import WriteLock
from zen_mlmd.service.sql import foreign_text, refusals
from zen_mlmd.service.sql.schema import Schema
from zen_mlmd.service.sql.session import Catalog, Session

_T = TypeVar("_T")
Work = Callable[[Session], _T]

_RACES = 5
"""Attempts to make what others make at the same time."""

_databases: weakref.WeakSet[Database] = weakref.WeakSet()


class Database:
    """A database that has MLMD's tables.

    Safe over threads: each transaction has a connection of its own, from a pool. After a fork the child
    opens its own connections, and leaves the parent's alone.

    Args:
        make_engine: Opens the pool; called again after a fork, and by the first call after `close`.
        location: What messages call the database: never holds a password.
        learn: Asks a connection of its own what tables there are, or makes them: `learn` or `create`.
        write_lock: Held around each writing transaction; None if the database orders writers itself.
        wait_s: How long a transaction is tried again while others are in its way, in seconds.
    """

    def __init__(
        self,
        make_engine: Callable[[], Engine],
        *,
        location: str,
        learn: Callable[[Connection, str], Schema],
        write_lock: WriteLock | None = None,
        wait_s: float = 20.0,
    ) -> None:
        self.location = location
        self.generation = 0
        self._make_engine = make_engine
        self._learn = learn
        self._write_lock = write_lock
        self._wait_s = wait_s
        self._lock = threading.Lock()
        self._engine: Engine | None = None
        self._schema: Schema | None = None
        self._catalog = Catalog()
        _databases.add(self)

    @property
    def known(self) -> Schema | None:
        """The tables, if they were learned since the last connection was lost."""
        return self._schema

    @property
    def schema(self) -> Schema:
        """The tables; asks the database once."""
        known = self._schema
        return self.read(lambda session: session.schema) if known is None else known

    def read(self, work: Work[_T]) -> _T:
        """Run a unit of work that only reads, on one state of the database."""
        return self._run(work, writes=False)

    def write(self, work: Work[_T]) -> _T:
        """Run a unit of work that may write: all of it is done, or nothing.

        Raises:
            ContentionError: Others were in its way for all of `wait_s`; nothing was written.
            ConnectionLostError: The connection went away during the commit: it was done, or not.
            UnreachableError: The database does not answer; nothing was written.
        """
        with self._write_lock or nullcontext():
            return self._run(work, writes=True)

    def maintain(self, work: Callable[[Connection, str], _T], *, writes: bool) -> _T:
        """Do to the tables themselves what sees to its transactions itself: `migrate`, `widen`.

        What was known of them is forgotten afterwards.

        Args:
            work: Takes a connection and the location.
            writes: Whether it may write.
        """
        lock = self._write_lock if writes else None
        try:
            with lock or nullcontext():
                while True:
                    with suppress(foreign_text.MetError), self._connection(writes=writes) as connection:
                        return work(connection, self.location)
        except sa.exc.DBAPIError as error:
            found = refusals.explain(error, self.location)
        finally:
            self.forget()
        if isinstance(found, Refusal):
            raise error_from_code(found.code, found.text, location=self.location, method="maintenance")
        raise found

    def _run(self, work: Work[_T], *, writes: bool) -> _T:
        deadline = time.monotonic() + self._wait_s
        delay = 0.005
        lost = races = 0
        while True:
            try:
                return self._attempt(work, writes=writes)
            except foreign_text.MetError:  # noqa: PERF203 - nothing beside a transaction
                continue
            except ContentionError:
                pause = random.uniform(0.5, 1.0) * delay  # noqa: S311 - to part two writers
                if time.monotonic() + pause > deadline:
                    raise
                time.sleep(pause)
                delay = min(delay * 2, 0.25)
            except refusals.RaceLostError as error:
                races += 1
                if races == _RACES:
                    raise error.refusal from None
            except _LostBeforeCommitError as error:
                # Idle connections of a pool are lost together: the second one is new.
                lost += 1
                self._renew()
                if lost > 1:
                    raise error.reason from None

    def _attempt(self, work: Work[_T], *, writes: bool) -> _T:
        committing = False
        try:
            schema = self._known()
            with self._connection(writes=writes) as connection:
                session = Session(connection, schema, self._catalog)
                result = work(session)
                if writes:
                    committing = True
                    session.commit()
                return result
        except sa.exc.DBAPIError as error:
            raise self._explained(error, committing=committing) from None

    def _explained(self, error: sa.exc.DBAPIError, *, committing: bool) -> Exception:
        found = refusals.explain(error, self.location)
        if refusals.lacks_table(error):
            self.forget()
            return _LostBeforeCommitError(
                NotMlmdError(f"{self.location}: MLMD's tables are gone", hint="is it the right database?")
            )
        if isinstance(found, ConnectionLostError | UnreachableError):
            if committing:
                return ConnectionLostError(found.message, hint=found.hint)
            return _LostBeforeCommitError(found)
        return found

    @contextmanager
    def _connection(self, *, writes: bool) -> Iterator[Connection]:
        engine, pool = self._opened()
        connection = engine.connect()
        try:
            with foreign_text.noticed(connection):
                yield connection.execution_options(zen_mlmd_writes=writes)
        finally:
            try:
                connection.rollback()  # if it is still in a transaction
            finally:
                self._give_back(connection, engine, pool)

    def _give_back(self, connection: Connection, engine: Engine, pool: sa.Pool) -> None:
        """Return a connection to its pool, or close it if another thread has given that pool up."""
        with self._lock:
            if engine is self._engine and engine.pool is pool:
                connection.close()
        if not connection.closed:
            if not connection.invalidated:
                connection.invalidate()
            connection.close()

    def _known(self) -> Schema:
        if self._schema is None:
            with self._connection(writes=False) as connection:
                self._schema = self._learn(connection, self.location)
        return self._schema

    def _opened(self) -> tuple[Engine, sa.Pool]:
        with self._lock:
            if self._engine is None:
                self._engine = self._make_engine()
            return self._engine, self._engine.pool

    def _renew(self) -> None:
        """Drop all connections, for they are lost together, and what may be another in another database.

        The tables are taken for what they were: where they are not there, the next statement tells.
        """
        with self._lock:
            self._catalog = Catalog()
            self.generation += 1
            if self._engine is not None:
                self._engine.dispose()

    def forget(self) -> None:
        """Drop all connections and what was learned: the next call may find another database."""
        with self._lock:
            engine, self._engine = self._engine, None
            self._schema = None
            self._catalog = Catalog()
            self.generation += 1
            if engine is not None:
                engine.dispose()

    close = forget

    def after_fork(self) -> None:
        """Leave the parent's connections to the parent."""
        self._lock = threading.Lock()
        engine, self._engine = self._engine, None
        if engine is not None:
            engine.dispose(close=False)


class _LostBeforeCommitError(Exception):
    """The connection went away while nothing can have been committed."""

    def __init__(self, reason: ZenMlmdError) -> None:
        super().__init__(reason)
        self.reason = reason


def _after_fork() -> None:
    for each in list(_databases):
        each.after_fork()


os.register_at_fork(after_in_child=_after_fork)

__all__: Sequence[str] = ("Database", "Work")
