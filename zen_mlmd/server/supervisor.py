"""The server as a whole: one address, and the worker processes that serve it.

A worker can be ended by what it does (ml-metadata's C++ core can crash); another takes its place. The
workers share the address by SO_REUSEPORT: the kernel spreads connections over them.
"""

from __future__ import annotations

import os
import signal
import socket
import tempfile
import threading
import types
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from typing_extensions import Self

from zen_mlmd.errors import ConfigError, MissingExtraError, UsageError
from zen_mlmd.flavors import StoreConfig, config_from_url
from zen_mlmd.server.config import Address, ServerConfig
from zen_mlmd.server.log import write_event
from zen_mlmd.server.minder import Minder
from zen_mlmd.server.worker import Orders, allow_connections

_STDERR = 2


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
        self._log = -1
        self._lock = threading.RLock()
        self._reserved: socket.socket | None = None
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._endpoint: Any = None
        self._minders: list[Minder] = []

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
            UsageError: It serves already.
        """
        with self._lock:
            if self._reserved is not None:
                raise UsageError(f"{self!r} serves already", hint="stop() it first, or make another Server")
            try:
                self._log = _own_stderr()
                self._reserve()
                if self.config.metrics:
                    self._open_metrics()
                for number in range(self.config.workers):
                    minder = Minder(self._orders(number), self._forget)
                    self._minders.append(minder)
                    minder.start()
                    minder.wait_until_ready()
            except BaseException:
                self._stop()
                raise

    def stop(self) -> None:
        """Stop: calls that have begun are finished, up to `grace_s`; new ones are refused."""
        with self._lock:
            self._stop()

    def _stop(self) -> None:
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
        if self._log >= 0:
            os.close(self._log)
            self._log = -1

    def _orders(self, number: int) -> Orders:
        # One worker makes or migrates the database, before the others look at it.
        first = self._first if number == 0 else {"create": False, "upgrade": False}
        folder = self._folder.name if self._folder is not None else ""
        return Orders(number, self.store, self.config, **first, metrics_folder=folder, log=self._log)

    def _forget(self, pid: int) -> None:
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
        # Checked once more, by the address that the host's name has here.
        self.config = ServerConfig.checked(**{**self.config.model_dump(), "bind": str(taken)})

    def _open_metrics(self) -> None:
        from zen_mlmd.server.metrics import Endpoint

        self._folder = tempfile.TemporaryDirectory(prefix="zen_mlmd-metrics-")
        self._endpoint = Endpoint(
            Address.parse(self.config.metrics), self._folder.name, lambda: self.is_ready
        )


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
    allow_connections()
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


def _own_stderr() -> int:
    try:
        return os.dup(_STDERR)
    except OSError:  # it is closed
        return os.open(os.devnull, os.O_WRONLY)


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
