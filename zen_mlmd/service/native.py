"""ml-metadata's C++ core in this process.

What it does that shapes this module (ml-metadata 1.17.1 and 1.21.0, measured):

- a third call on a MySQL handle while the server is down is a segmentation fault, and a connection
  lost in a transaction leaves the handle broken for ever: a handle that answered with an internal
  error is dropped, and the next call opens another after a bounded probe;
- a forked child that uses the parent's handle crosses replies with it, and a SQLite connection must not
  even be there: handles are closed before a fork, and opened anew by the next call on either side;
- with two writers on one SQLite file its own retry starves all but one: writes take a file lock;
- a SQLite file that was deleted or replaced while it was open is written on without a word.
"""

from __future__ import annotations

import functools
import math
import os
import random
import re
import threading
import time
import weakref
from collections.abc import Callable
from typing import Any, TypeVar

from ml_metadata.metadata_store.pywrap.metadata_store_extension import metadata_store as core
from ml_metadata.proto import metadata_store_pb2 as mlmd

from zen_mlmd.errors import (
    ConnectionFailedError,
    ConnectionLostError,
    ContentionError,
    NotMlmdError,
    SchemaVersionError,
    StoreError,
    UnreachableError,
    UsageError,
    ZenMlmdError,
)
from zen_mlmd.service import base
from zen_mlmd.service.check import SQLITE, Limits, check_request, needs_look
from zen_mlmd.service.lacking import LACKING
from zen_mlmd.service.lock import WriteLock

_LOST = re.compile(
    r"lost connection|gone away|mysql_real_connect failed|connection was killed"
    r"|errno: (?:2002|2003|2006|2013|2055|1053|1927)\b|transaction already open",
    re.IGNORECASE,
)
_SCHEMA = re.compile(
    r"database version (\d+) is (?:older|greater|newer)\D* library version (\d+)", re.IGNORECASE
)
_MAKING = "concurrent connection to the empty database"
"""What an opener of a database says while another makes its tables; the tables are whole soon after."""

_T = TypeVar("_T")
_Run = Callable[[Any, bytes], tuple[bytes, bytes, int]]
_services: weakref.WeakSet[NativeService] = weakref.WeakSet()
_forking: list[NativeService] = []
"""Those whose locks are held while the process forks."""
_fork_lock = threading.Lock()


class NativeService(base.MetadataService):
    """One store behind ml-metadata's C++ core; safe over threads and after fork.

    The core keeps Python's global lock during each call, so threads do not run in parallel here.

    Args:
        config: MLMD's own `ConnectionConfig`. It must be whole: an invalid one ends the process.
        location: What messages call the store.
        probe: Called before each opening; raises, within a bound, if the server does not answer.
        limits: What the database's columns hold.
        write_lock: Held around each write; None if the database orders writers itself.
        upgrade: Let ml-metadata migrate an older schema, in place and for ever.
        wait_s: How long `open` waits for others that make the tables or keep them locked.
        identity: Tells which file is opened; once it is another, or none, writes are refused until `close`.
        immutable: The database takes the file for one that nobody writes: then reads are refused too.
        max_idle_s: A handle that was idle for longer is opened anew, after the probe: a server that ended
            an idle connection is otherwise connected to again by the core itself, and in clear if it
            offers no TLS any more.
    """

    def __init__(
        self,
        config: mlmd.ConnectionConfig,
        *,
        location: str,
        probe: Callable[[], object] | None = None,
        limits: Limits = SQLITE,
        write_lock: WriteLock | None = None,
        upgrade: bool = False,
        wait_s: float = 20.0,
        identity: Callable[[], object] | None = None,
        immutable: bool = False,
        max_idle_s: float = math.inf,
    ) -> None:
        self.location = location
        self.exact_names = limits.exact_names
        self._config = config.SerializeToString()
        self._migration = mlmd.MigrationOptions(enable_upgrade_migration=upgrade).SerializeToString()
        self._probe = probe
        self.limits = limits
        self._write_lock = write_lock
        self._wait_s = wait_s
        self._identity = identity
        self._immutable = immutable
        self._opened_as: object = None
        self._handle: Any = None
        self._droppable = not config.HasField("fake_database")
        self._max_idle_s = max_idle_s
        self._used_at = 0.0
        self._lock = threading.RLock()
        _services.add(self)

    def call(self, method: str, request: Any) -> Any:
        """Send one request; see `MetadataService.call`."""
        run, answer, reads = _entry(method)
        if run is None:
            return self._lacking(method, request)
        data = request.SerializeToString()
        if not reads or needs_look(data):
            check_request(method, request, self.limits)
        data, text, code = self._exchange(run, data, reads=reads)
        if code:
            raise self._error(code, text, method)
        response = answer()
        response.ParseFromString(data)
        return response

    def check(self, method: str, request: Any) -> None:
        """Refuse what this database cannot keep; see `MetadataService.check`."""
        check_request(method, request, self.limits)

    def forward(self, method: str, data: bytes) -> bytes:
        """Send a request's bytes; see `MetadataService.forward`."""
        run, _, reads = _entry(method)
        if run is None or not reads or needs_look(data):
            request = base.parse_request(method, data)
            if run is None:
                return self._forward_lacking(method, request)
            check_request(method, request, self.limits)
        try:
            answer, text, code = self._exchange(run, data, reads=reads)
        except ContentionError as error:
            raise base.Refusal(base.ABORTED, error.message) from None
        if not code:
            return answer
        lost = self._lost_error(code, text, method)
        if lost is not None:
            raise lost
        raise base.Refusal(code, text)

    def _exchange(self, run: _Run, data: bytes, *, reads: bool) -> tuple[bytes, str, int]:
        if reads and not self._immutable:
            with self._lock:
                return self._run(run, data)
        if self._write_lock is None:
            with self._lock:
                return self._run_on_same(run, data)
        return self._holding(self._write_lock, lambda: self._run_on_same(run, data))

    def _holding(self, lock: WriteLock, work: Callable[[], _T]) -> _T:
        try:
            with lock, self._lock:
                return work()
        finally:
            lock.release()  # again, for Ctrl-C may have broken off the block's own release

    def _lacking(self, method: str, request: Any) -> Any:
        """Answer a call that MLMD's server has and this core has not."""
        ask = LACKING.get(method)
        if ask is None:
            text = f"{method} is not implemented."
            raise base.error_from_code(base.UNIMPLEMENTED, text, location=self.location, method=method)
        return ask(self, request)

    def _forward_lacking(self, method: str, request: Any) -> bytes:
        try:
            answer: bytes = self._lacking(method, request).SerializeToString()
        except StoreError as error:
            raise base.Refusal(error.mlmd_code, error.message.rpartition(f"{method}: ")[2]) from None
        return answer

    def close(self) -> None:
        """Close the database handle; a later call opens it again."""
        with self._lock:
            self._drop()
            self._opened_as = None
        if self._write_lock is not None:
            try:
                self._write_lock.close()
            except UsageError:
                pass  # another thread is just writing
            finally:
                self._write_lock.release()

    def open(self, *, writes: bool = True) -> None:
        """Open the handle now, so that what is wrong is said now.

        Args:
            writes: Opening may write: the schema into an empty database, say.

        Raises:
            ConnectionFailedError: It cannot be opened.
        """
        deadline = time.monotonic() + self._wait_s
        while True:
            try:
                if writes and self._write_lock is not None:
                    self._holding(self._write_lock, self._opened)
                else:
                    with self._lock:
                        self._opened()
            except ContentionError as error:
                if time.monotonic() > deadline:
                    raise ConnectionFailedError(error.message, hint=error.hint) from None
            else:
                return
            time.sleep(random.uniform(0.02, 0.1))  # noqa: S311

    def _opened(self) -> Any:
        if self._handle is None:
            self._refuse_another()
            if self._probe is not None:
                self._probe()
            try:
                self._handle = core.CreateMetadataStore(self._config, self._migration)
            except (RuntimeError, UnicodeDecodeError) as error:
                raise self._open_error(_text_of(error)) from None
            if self._identity is not None:
                self._opened_as = self._identity()
        return self._handle

    def _drop(self) -> None:
        """Close the handle. The next one may find another database: what was known of this one is void."""
        if self._handle is not None:
            self._handle = None
            self.generation += 1

    def _run_on_same(self, run: _Run, request: bytes) -> tuple[bytes, str, int]:
        self._refuse_another()
        return self._run(run, request)

    def _refuse_another(self) -> None:
        if self._identity is not None and self._opened_as not in (None, self._identity()):
            raise NotMlmdError(
                f"{self.location}: the file was deleted or replaced while it was open; nothing was done",
                hint="close the store and open it again: it then takes the file that has its name by now",
            )

    def _run(self, run: _Run, request: bytes) -> tuple[bytes, str, int]:
        if self._max_idle_s is not math.inf:
            now = time.monotonic()
            if now - self._used_at > self._max_idle_s:
                self._drop()
            self._used_at = now
        answer, text, code = run(self._handle or self._opened(), request)
        if not code:
            return answer, "", 0
        message = text.decode("utf-8", "replace")
        if self._droppable and (code in (base.INTERNAL, base.UNKNOWN, base.DATA_LOSS) or _is_lost(message)):
            self._drop()
        return answer, message, code

    def _error(self, code: int, text: str, method: str) -> ZenMlmdError:
        lost = self._lost_error(code, text, method)
        return lost or base.error_from_code(code, text, location=self.location, method=method)

    def _lost_error(self, code: int, text: str, method: str) -> ConnectionLostError | None:
        if code in (base.INTERNAL, base.FAILED_PRECONDITION, base.UNKNOWN) and _is_lost(text):
            return ConnectionLostError(
                f"{self.location}: the connection was lost during {method}",
                hint="is the server up? the next call connects again by itself",
            )
        return None

    def _open_error(self, text: str) -> ZenMlmdError:
        if _MAKING in text or base.is_busy(text):
            return ContentionError(
                f"{self.location}: another process is making MLMD's tables, or keeps them locked",
                hint="try again; if no other process is there, its tables were left half made: drop them",
            )
        if _LOST.search(text):
            return UnreachableError(
                f"{self.location}: the server went away while connecting", hint="is the server up? try again"
            )
        versions = _SCHEMA.search(text)
        if versions is not None:
            theirs, ours = versions.groups()
            if int(theirs) < int(ours):
                hint = (
                    "service=sql reads it as it is; or back it up, and open_store(..., upgrade=True) migrates"
                    " it in place and for ever"
                )
            else:
                hint = "install a newer ml-metadata"
            return SchemaVersionError(
                f"{self.location}: its MLMD schema is {theirs}, and this ml-metadata's is {ours}", hint=hint
            )
        if base.is_read_only(text):
            return NotMlmdError(
                f"{self.location}: it has none of MLMD's tables, and may not be written to make them",
                hint="is it the right database? if so, open it once without read_only",
            )
        return NotMlmdError(
            f"{self.location}: ml-metadata cannot open it: {base.first_line(text) or 'it says nothing more'}",
            hint="is it an MLMD database, whole, and may you read and write it?",
        )

    def before_fork(self) -> None:
        """Close the handle, and let nobody open another until the process has forked.

        SQLite forbids to carry a connection over a fork: a child that opened its own would believe to
        hold the parent's locks (https://www.sqlite.org/howtocorrupt.html, 2.6; it lost a file, measured).
        A MySQL client in the child would answer to the parent's.
        """
        self._lock.acquire()
        if self._droppable:
            self._drop()

    def after_fork(self, *, child: bool) -> None:
        """Go on: by the lock in the parent, by a new one in the child, whose other threads are gone."""
        if child:
            self._lock = threading.RLock()
        else:
            self._lock.release()


def try_opening(config: mlmd.ConnectionConfig) -> str:
    """Open a database and close it again; return ml-metadata's words if it cannot be opened, or nothing."""
    try:
        core.CreateMetadataStore(config.SerializeToString(), mlmd.MigrationOptions().SerializeToString())
    except (RuntimeError, UnicodeDecodeError) as error:
        return _text_of(error)
    return ""


def lacks_tables(text: str) -> bool:
    """Tell whether ml-metadata says of a database that it may only read that tables are missing."""
    return base.is_read_only(text) or _MAKING in text


@functools.cache
def _entry(method: str) -> tuple[Any, Callable[[], Any], bool]:
    """Return the core's function for an RPC, its response's class, and whether it only reads."""
    return getattr(core, method, None), base.response_class(method), method.startswith("Get")


def _is_lost(text: str) -> bool:
    """Tell a lost connection by what the client said last: before it stands what somebody recorded."""
    said = text[text.rfind("mysql_") :] if "mysql_" in text else ""
    return text.startswith("Transaction already open") or _LOST.search(said) is not None


def _text_of(error: RuntimeError | UnicodeDecodeError) -> str:
    """Return what the core said, also where that is no UTF-8 (a server that speaks German, say)."""
    return error.object.decode("utf-8", "replace") if isinstance(error, UnicodeDecodeError) else str(error)


def _before_fork() -> None:
    _fork_lock.acquire()
    _forking.extend(_services)
    for service in _forking:
        service.before_fork()


def _after_fork(*, child: bool) -> None:
    while _forking:
        _forking.pop().after_fork(child=child)
    _fork_lock.release()


os.register_at_fork(
    before=_before_fork,
    after_in_parent=functools.partial(_after_fork, child=False),
    after_in_child=functools.partial(_after_fork, child=True),
)
