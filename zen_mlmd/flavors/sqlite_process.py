"""The SQL service over a SQLite file, in a process of its own.

Two SQLite libraries in one process on one file corrupt it, and ml-metadata, TFX say, may have the file open
in this one at any time. So Python's own never opens it here: a child process does, and is sent the bytes of
requests over its pipes. It ends when they are closed, or when its parent is gone.
"""

from __future__ import annotations

import contextlib
import dataclasses
import gc
import json
import os
import pickle
import select
import struct
import subprocess
import sys
import threading
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final

from zen_mlmd.errors import ConnectionLostError, ContentionError, NotMlmdError, ZenMlmdError
from zen_mlmd.service import base
from zen_mlmd.service.check import SQLITE, check_request
from zen_mlmd.service.edges import EdgeQuery, LineageEdges

if TYPE_CHECKING:
    from zen_mlmd.flavors.sqlite import SqliteConfig

_HEAD: Final = struct.Struct("<IQ")
_ANSWER, _REFUSAL, _ERROR = range(3)
_DELETE: Final = "delete"
_LINEAGE: Final = "GetLineage"
"""Beside MLMD's calls; one that only reads begins as theirs do."""
_NOTHING: Final = b"-"  # in place of edges, whose bytes are a multiple of 24
_PARENT_S: Final = 2.0
"""How often a child without work looks whether its parent is there: a fork of it may keep the pipes open."""

_services: weakref.WeakSet[SqliteProcessService] = weakref.WeakSet()


class SqliteProcessService(base.MetadataService):
    """One SQLite file behind a child process; safe over threads and after fork.

    Args:
        config: The file.
        create: Make MLMD's tables, in a file that has others too.
        upgrade: Migrate an older schema, in place and for ever; done by `open` alone.
    """

    exact_names = True

    def __init__(self, config: SqliteConfig, *, create: bool = False, upgrade: bool = False) -> None:
        self.location = config.location
        self.generation = 0
        self._config = config
        self._first = {"create": create, "upgrade": upgrade}
        self._child: subprocess.Popen[bytes] | None = None
        self._opened_as: object = None
        self._lock = threading.Lock()
        _services.add(self)

    def open(self) -> None:
        """Start the process now, so that what is wrong is said now.

        Raises:
            ConnectionFailedError: The file cannot be opened.
        """
        with self._lock:
            self._started()
            self._first = {"create": False, "upgrade": False}

    def call(self, method: str, request: Any) -> Any:
        """Send one request; see `MetadataService.call`."""
        try:
            data = self.forward(method, request.SerializeToString())
        except base.Refusal as refusal:
            code, text = refusal.code, refusal.text
        else:
            response = base.response_class(method)()
            response.ParseFromString(data)
            return response
        raise base.error_from_code(code, text, location=self.location, method=method)

    def forward(self, method: str, data: bytes) -> bytes:
        """Send a request's bytes; see `MetadataService.forward`."""
        base.request_class(method)
        with self._lock:
            try:
                return self._exchange(method, data)
            except ContentionError as error:
                raise base.Refusal(base.ABORTED, error.message) from None
            except ConnectionLostError:
                if not method.startswith("Get"):
                    raise
                return self._exchange(method, data)

    def delete(
        self,
        *,
        executions: Sequence[int] = (),
        artifacts: Sequence[int] = (),
        contexts: Sequence[int] = (),
        even_used: bool = False,
    ) -> dict[str, int]:
        """Delete nodes; see `MetadataService.delete`."""
        nodes = {"executions": list(executions), "artifacts": list(artifacts), "contexts": list(contexts)}
        wish = {**nodes, "even_used": even_used}
        with self._lock:
            gone: dict[str, int] = json.loads(self._exchange(_DELETE, json.dumps(wish).encode()))
        return gone

    def lineage_edges(self, query: EdgeQuery) -> LineageEdges | None:
        """Return edges; see `MetadataService.lineage_edges`."""
        data = json.dumps(dataclasses.asdict(query)).encode()
        with self._lock:
            try:
                answer = self._exchange(_LINEAGE, data)
            except ConnectionLostError:
                answer = self._exchange(_LINEAGE, data)
        return None if answer == _NOTHING else LineageEdges.from_bytes(answer)

    def check(self, method: str, request: Any) -> None:
        """Refuse what this database cannot keep; see `MetadataService.check`."""
        check_request(method, request, SQLITE)

    def close(self) -> None:
        """End the process; a later call starts another."""
        with self._lock:
            self._end()
            self._opened_as = None

    def _exchange(self, method: str, data: bytes) -> bytes:
        child = self._started()
        if not method.startswith("Get"):
            self._refuse_another()
        try:
            _send(child.stdin, len(method), method.encode() + data)
            kind, answer = _receive(child.stdout)
        except (OSError, EOFError):
            self._end()
            raise ConnectionLostError(
                f"{self.location}: the process that has the file open ended during {method}",
                hint="the next call starts another by itself; was it killed, for want of memory say?",
            ) from None
        except BaseException:  # Ctrl-C, say: the answer is still to come, and is not the next question's
            self._end()
            raise
        if kind == _REFUSAL:
            raise base.Refusal(*pickle.loads(answer))
        if kind == _ERROR:
            raise pickle.loads(answer)
        return answer

    def _refuse_another(self) -> None:
        if self._opened_as != self._config.identity():
            raise NotMlmdError(
                f"{self.location}: the file was deleted or replaced while it was open; nothing was done",
                hint="close the store and open it again: it then takes the file that has its name by now",
            )

    def _started(self) -> subprocess.Popen[bytes]:
        if self._child is not None and self._child.poll() is None:
            return self._child
        self._end()
        if self._opened_as is not None:
            self._refuse_another()
        self._child = subprocess.Popen(
            [sys.executable, "-m", "zen_mlmd.flavors.sqlite_process"],
            bufsize=0,  # a fork takes no half-sent question with it
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,  # a terminal's Ctrl-C is the parent's
            env={**os.environ, "PYTHONPATH": os.pathsep.join(each for each in sys.path if each)},
        )
        weakref.finalize(self, _finish, self._child)
        wish = {"config": json.loads(self._config.model_dump_json()), **self._first}
        try:
            _send(self._child.stdin, 0, json.dumps(wish).encode())
            kind, answer = _receive(self._child.stdout)
        except (OSError, EOFError):
            self._end()
            raise ConnectionLostError(
                f"{self.location}: the process that was to open the file ended",
                hint="what it said stands on this process's standard error",
            ) from None
        except BaseException:
            self._end()
            raise
        if kind == _ERROR:
            self._end()
            raise pickle.loads(answer)
        self._opened_as = self._config.identity()
        self.generation += 1
        return self._child

    def _end(self) -> None:
        child, self._child = self._child, None
        if child is not None:
            _finish(child)

    def after_fork(self) -> None:
        """Leave the process to the parent."""
        self._lock = threading.Lock()
        child, self._child = self._child, None
        if child is not None:
            _close(child)
            child.returncode = 0  # it is not this process's to wait for


def _finish(child: subprocess.Popen[bytes]) -> None:
    _close(child)
    if child.returncode is not None:
        return
    try:
        child.wait(5)
    except subprocess.TimeoutExpired:  # in the middle of something long: nobody waits for it any more
        child.kill()
        child.wait()


def _close(child: subprocess.Popen[bytes]) -> None:
    for pipe in (child.stdin, child.stdout):
        if pipe is not None:
            with contextlib.suppress(OSError):
                pipe.close()


def _send(pipe: IO[bytes] | None, kind: int, data: bytes) -> None:
    assert pipe is not None
    left = memoryview(_HEAD.pack(kind, len(data)) + data)
    while left:
        left = left[pipe.write(left) :]


def _receive(pipe: IO[bytes] | None) -> tuple[int, bytes]:
    assert pipe is not None
    kind, size = _HEAD.unpack(_exactly(pipe, _HEAD.size))
    return kind, _exactly(pipe, size)


def _exactly(pipe: IO[bytes], size: int) -> bytes:
    parts = []
    while size:
        part = pipe.read(min(size, 2**20))
        if not part:
            raise EOFError
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


def _serve() -> None:
    """Answer the parent's requests until it closes the pipe, or is gone."""
    # What something prints by mistake is no answer.
    asked, told = os.fdopen(0, "rb", 0), os.fdopen(os.dup(1), "wb", 0)
    os.dup2(2, 1)
    parent = os.getppid()
    try:
        service = _open(json.loads(_receive(asked)[1]))
    except ZenMlmdError as error:
        _send(told, _ERROR, pickle.dumps(error))
        return
    _send(told, _ANSWER, b"")
    # A read makes many rows that are all dropped together: to look at them for garbage takes half as long
    # as to read them. What is here by now stays.
    gc.freeze()
    gc.set_threshold(100_000)
    try:
        _answer_all(service, asked, told, parent)
    finally:
        service.close()  # the last one to close the file takes its WAL in


def _answer_all(service: base.MetadataService, asked: IO[bytes], told: IO[bytes], parent: int) -> None:
    while True:
        while not select.select([asked], [], [], _PARENT_S)[0]:
            if os.getppid() != parent:
                return
        try:
            name, data = _receive(asked)
            _send(told, *_answer(service, data[:name].decode(), data[name:]))
        except (EOFError, OSError):
            return


def _open(wish: dict[str, Any]) -> base.MetadataService:
    from zen_mlmd.flavors.sqlite import SqliteConfig
    from zen_mlmd.service.sql.learn import look
    from zen_mlmd.service.sql.service import open_sql

    config = SqliteConfig(**wish["config"])
    make = not Path(config.path).exists()
    if not make:
        found = config.open_database().maintain(lambda connection, _: look(connection), writes=False)
        make = not found.present and (wish["create"] or not found.others)
    return open_sql(config.open_database(create=make), upgrade=wish["upgrade"], read_only=config.read_only)


def _answer(service: base.MetadataService, method: str, data: bytes) -> tuple[int, bytes]:
    try:
        if method == _DELETE:
            return _ANSWER, json.dumps(service.delete(**json.loads(data))).encode()
        if method == _LINEAGE:
            edges = service.lineage_edges(EdgeQuery(**json.loads(data)))
            return _ANSWER, _NOTHING if edges is None else edges.to_bytes()
        return _ANSWER, service.forward(method, data)
    except base.Refusal as refusal:
        return _REFUSAL, pickle.dumps((refusal.code, refusal.text))
    except ZenMlmdError as error:
        return _ERROR, pickle.dumps(error)
    except (TypeError, ValueError) as error:
        # SQLite keeps whatever is put into a column, and only SQLite does.
        text = f"a row of the database holds what its column cannot ({type(error).__name__})"
        return _REFUSAL, pickle.dumps((base.INTERNAL, text))


def _after_fork() -> None:
    for each in list(_services):
        each.after_fork()


os.register_at_fork(after_in_child=_after_fork)

if __name__ == "__main__":
    _serve()
