"""The server as a whole: one address, and the worker processes that serve it.

A worker can be ended by what it does (ml-metadata's C++ core can crash); another takes its place. The
workers share the address by SO_REUSEPORT: the kernel spreads connections over them.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import types
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from typing_extensions import Self

from zen_mlmd.errors import ConfigError, MissingExtraError, UnreachableError
from zen_mlmd.flavors import StoreConfig, config_from_url
from zen_mlmd.server.config import Address, ServerConfig
from zen_mlmd.server.log import write_event
from zen_mlmd.server.worker import News, Orders
from zen_mlmd.service.base import first_line

_STDERR = 2
_START_S = 60.0
_END_S = 10.0
_RESTART_S = (0.1, 5.0)

# The orders come through a pipe, since a command line and an environment are no place for a password. What
# may be imported there is what may be imported here, where a custom flavor lives perhaps.
_WORKER = """
import os, pickle, sys
orders = os.fdopen(os.dup(0), "rb")
sys.path[:] = pickle.load(orders)
from zen_mlmd.server.worker import main
main(orders)
"""


class Server:
    """An MLMD gRPC server: worker processes and what looks after them; a context manager.

    Args:
        store: A URL, the path of an SQLite file, or a flavor's config; by default the active store.
        config: How to serve it.
        create: Make a database that is not there yet.
        upgrade: Let ml-metadata migrate an older schema, in place and for ever.

    Raises:
        ConfigError: `store` means no store, or cannot be served so.
        MissingExtraError: The packages of `zen-mlmd[server]` are not installed.
    """

    def __init__(
        self,
        store: str | Path | StoreConfig | None = None,
        config: ServerConfig | None = None,
        *,
        create: bool = False,
        upgrade: bool = False,
    ) -> None:
        _check_packages()
        if store is None:
            from zen_mlmd.stack import active_config

            store = active_config()
        self.config = config or ServerConfig()
        self.store = store if isinstance(store, StoreConfig) else config_from_url(store)
        if self.store.flavor == "sqlite":
            self._check_sqlite()
        self._first = {"create": create, "upgrade": upgrade}
        self._log = _STDERR
        self._reserved: socket.socket | None = None
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._endpoint: Any = None
        self._minders: list[_Minder] = []

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: types.TracebackType | None
    ) -> None:
        self.stop()

    def __repr__(self) -> str:
        return f"<Server {self.config.bind} {self.store.location}>"

    @property
    def address(self) -> str:
        """`host:port`, with the port that was taken."""
        return self.config.bind

    @property
    def metrics_address(self) -> str:
        """`host:port` of the metrics, with the port that was taken; empty if there are none."""
        return str(self._endpoint.address) if self._endpoint is not None else ""

    @property
    def is_ready(self) -> bool:
        """Whether a worker runs whose store answers."""
        return any(minder.up for minder in self._minders)

    @property
    def worker_pids(self) -> list[int]:
        """The process ids of the workers that run."""
        return [minder.pid for minder in self._minders if minder.pid]

    def start(self) -> None:
        """Begin to serve; returns when calls are answered.

        A store that is away does not keep it from starting: calls are UNAVAILABLE until it comes.

        Raises:
            ConfigError: The address is taken, or a file of the settings cannot be used.
            ConnectionFailedError: The store cannot be opened, and that will not pass by itself.
        """
        try:
            self._log = os.dup(_STDERR)
            self._reserve()
            if self.config.metrics:
                self._open_metrics()
            for number in range(self.config.workers):
                minder = _Minder(self, number, **(self._first if number == 0 else {}))
                self._minders.append(minder)
                minder.start()
                minder.wait_until_ready()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Stop: calls that have begun are finished, up to `grace_s`; new ones are refused."""
        for minder in self._minders:
            minder.tell_to_stop()
        for minder in self._minders:
            minder.join()
        self._minders.clear()
        if self._endpoint is not None:
            self._endpoint.close()
            self._endpoint = None
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = None
        if self._reserved is not None:
            self._reserved.close()
            self._reserved = None
        if self._log != _STDERR:
            os.close(self._log)
            self._log = _STDERR

    def orders(self, number: int, *, create: bool, upgrade: bool) -> Orders:
        """Return what a worker is to do."""
        folder = self._folder.name if self._folder is not None else ""
        return Orders(number, self.store, self.config, create, upgrade, folder, log=self._log)

    def forget(self, pid: int) -> None:
        """Drop what a worker that is no more said of its present."""
        if self._endpoint is not None:
            self._endpoint.forget(pid)

    def _check_sqlite(self) -> None:
        if self.config.workers > 1 and self.store.location == ":memory:":
            raise ConfigError("a database in memory has one worker", hint="leave --workers out")
        if self.config.read_only:
            self.store = self.store.model_copy(update={"read_only": self.store.location != ":memory:"})

    def _reserve(self) -> None:
        """Take the address, so that its port is known, and nobody else's server shares it unseen."""
        wanted = self.config.address
        try:
            family, _, _, _, where = socket.getaddrinfo(
                wanted.host, wanted.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
            )[0]
            with socket.socket(family, socket.SOCK_STREAM) as alone:
                alone.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                alone.bind(where)
            self._reserved = socket.socket(family, socket.SOCK_STREAM)
            self._reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            self._reserved.bind(where)
        except OSError as error:
            raise ConfigError(
                f"{wanted} cannot be listened at: {error.strerror}",
                hint="is another server there? choose another --bind; port 0 takes a free one",
            ) from None
        taken = Address(*self._reserved.getsockname()[:2])
        self.config = self.config.model_copy(update={"bind": str(taken)})

    def _open_metrics(self) -> None:
        from zen_mlmd.server.metrics import Endpoint

        self._folder = tempfile.TemporaryDirectory(prefix="zen_mlmd-metrics-")
        self._endpoint = Endpoint(
            Address.parse(self.config.metrics), self._folder.name, lambda: self.is_ready
        )


class _Minder(threading.Thread):
    """Keeps one worker running."""

    def __init__(self, server: Server, number: int, *, create: bool = False, upgrade: bool = False) -> None:
        super().__init__(name=f"worker-{number}", daemon=True)
        self.up = False
        self._server = server
        self._number = number
        self._orders = server.orders(number, create=create, upgrade=upgrade)
        self._process: subprocess.Popen[bytes] | None = None
        self._news: News | None = None
        self._heard = threading.Event()
        self._stopping = threading.Event()
        self._has_served = False
        self._deadline: threading.Timer | None = None
        self._lock = threading.Lock()

    @property
    def pid(self) -> int | None:
        """The worker's process id, if one runs."""
        process = self._process
        return process.pid if process is not None and process.poll() is None else None

    def wait_until_ready(self) -> None:
        """Wait for the worker's first news, and raise what is wrong."""
        if not self._heard.wait(_START_S) or self._news is None:
            raise UnreachableError(
                f"worker {self._number} did not start within {_START_S:g} s",
                hint="see what it says on stderr",
            )
        if self._news.error is not None:
            raise self._news.error

    def tell_to_stop(self) -> None:
        """Let the worker finish its calls and end."""
        self._stopping.set()
        with self._lock:
            if self._process is not None and self._process.stdin is not None:
                self._process.stdin.close()
                self._deadline = threading.Timer(self._server.config.grace_s + _END_S, self._process.kill)
                self._deadline.daemon = True
                self._deadline.start()

    def run(self) -> None:
        """Start a worker, and another one when it has ended, until told to stop."""
        pause, longest = _RESTART_S
        while not self._stopping.is_set():
            process = self._spawn()
            if process is None:
                return
            complaints = threading.Thread(target=self._relay, args=(process,), daemon=True)
            complaints.start()
            was_ready = self._listen(process)
            complaints.join(_END_S)
            code = self._ended(process)
            self._heard.set()
            if self._stopping.is_set() or not self._has_served:
                return
            pause = _RESTART_S[0] if was_ready else min(pause * 2, longest)
            write_event(
                "worker ended", worker=self._number, pid=process.pid, exit_code=code, again_in_s=pause
            )
            self._stopping.wait(pause)

    def _spawn(self) -> subprocess.Popen[bytes] | None:
        command = [sys.executable, "-I", "-c", _WORKER]
        with self._lock:
            if self._stopping.is_set():
                return None
            process = subprocess.Popen(  # noqa: S603 - our own command
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                pass_fds=[self._orders.log],
            )
            self._process = process
        assert process.stdin is not None
        try:
            pickle.dump([path or str(Path.cwd()) for path in sys.path], process.stdin)
            pickle.dump(self._orders, process.stdin)
            process.stdin.flush()
        except (BrokenPipeError, ValueError):
            pass  # it ended at once, or we are to stop: seen below
        return process

    def _listen(self, process: subprocess.Popen[bytes]) -> bool:
        """Take the worker's news until it ends; return whether it served."""
        assert process.stdout is not None
        was_ready = False
        while True:
            try:
                news: News = pickle.load(process.stdout)
            except (EOFError, pickle.UnpicklingError, ConnectionError):
                return was_ready
            first, self._news, self.up = not was_ready, news, news.up
            was_ready = news.error is None
            self._has_served = self._has_served or was_ready
            self._heard.set()
            if news.problem or not first:
                event = "store answers" if news.up else "store away"
                write_event(event, worker=self._number, text=news.problem)

    def _relay(self, process: subprocess.Popen[bytes]) -> None:
        """Tell as JSON what a worker's libraries print, without what it quotes of somebody's content."""
        assert process.stderr is not None
        with contextlib.suppress(ValueError):  # closed meanwhile
            for line in process.stderr:
                write_event("stderr", worker=self._number, text=first_line(line.decode("utf-8", "replace")))

    def _ended(self, process: subprocess.Popen[bytes]) -> int:
        self.up = False
        try:
            code = process.wait(_END_S)
        except subprocess.TimeoutExpired:  # it only closed its pipe
            process.kill()
            code = process.wait()
        with self._lock:
            if self._deadline is not None:
                self._deadline.cancel()
            for pipe in (process.stdin, process.stdout, process.stderr):
                if pipe is not None:
                    with contextlib.suppress(OSError):
                        pipe.close()
        self._server.forget(process.pid)
        return code


def serve(
    store: str | Path | StoreConfig | None = None,
    config: ServerConfig | None = None,
    *,
    create: bool = False,
    upgrade: bool = False,
) -> None:
    """Serve a store until SIGTERM or Ctrl-C; call it in the main thread.

    Args:
        store: A URL, the path of an SQLite file, or a flavor's config; by default the active store.
        config: How to serve it.
        create: Make a database that is not there yet.
        upgrade: Let ml-metadata migrate an older schema, in place and for ever.

    Raises:
        ConfigError: What was given means no server.
        ConnectionFailedError: The store cannot be opened, and that will not pass by itself.
    """
    stop = threading.Event()
    before = {
        number: signal.signal(number, lambda *_: stop.set()) for number in (signal.SIGTERM, signal.SIGINT)
    }
    try:
        with Server(store, config, create=create, upgrade=upgrade) as server:
            if server.config.is_open:
                write_event(
                    "warning",
                    text=f"{server.address} is open to other machines, without TLS or without authentication",
                )
            write_event(
                "serving",
                address=server.address,
                store=server.store.location,
                workers=server.config.workers,
                metrics=server.metrics_address,
            )
            stop.wait()
            write_event("stopping", grace_s=server.config.grace_s)
        write_event("stopped")
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _check_packages() -> None:
    missing = [
        package
        for module, package in (
            ("grpc_health", "grpcio-health-checking"),
            ("grpc_reflection", "grpcio-reflection"),
            ("prometheus_client", "prometheus-client"),
        )
        if find_spec(module) is None
    ]
    if missing:
        raise MissingExtraError(f"a server needs {', '.join(missing)}", hint="pip install 'zen-mlmd[server]'")
