"""One worker process: an asyncio gRPC server with one store.

The supervisor starts it, and speaks to it through two pipes: what to do comes on stdin, whose end means to
stop, and how it stands goes to stdout. Both carry pickles, and both ends are ours.
"""

from __future__ import annotations

import asyncio
import os
import pickle
import resource
import signal
import threading
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import IO, Any

from zen_mlmd.flavors.base import StoreConfig
from zen_mlmd.server.config import ServerConfig
from zen_mlmd.server.log import CallLog, log_to, write_event
from zen_mlmd.service.check import FILTER_STACK_BYTES

_LOOK_S = 2.0
"""How often the store is asked whether it is there, and the supervisor told."""

_DRAIN_S = 0.2
_FROZEN_S = 10.0
"""How long beyond a call's deadline a worker may stand still."""


@dataclass(frozen=True)
class Orders:
    """What a worker is to do.

    Attributes:
        number: The worker's, from 0.
        store: The store to serve.
        config: How; its address is the supervisor's choice.
        create, upgrade: For opening the store the first time.
        metrics_folder: Where metrics are counted; empty for none.
        log: Descriptor to write the log to.
    """

    number: int
    store: StoreConfig
    config: ServerConfig
    create: bool
    upgrade: bool
    metrics_folder: str
    log: int


@dataclass(frozen=True)
class News:
    """How a worker stands.

    Attributes:
        up: Whether its store answers.
        problem: Why not.
        error: What kept it from starting.
    """

    up: bool
    problem: str = ""
    error: Exception | None = None


def main(orders_pipe: IO[bytes]) -> None:
    """Run one worker with the orders that come through a pipe, until its other end is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the supervisor, which stops its workers
    news_pipe = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever prints must not print into the pipe
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")  # it tells of each stranger's handshake otherwise
    orders: Orders = pickle.load(orders_pipe)
    log_to(orders.log)
    allow_connections()
    threading.stack_size(FILTER_STACK_BYTES)  # of the threads that ask the store; taken as it is used
    asyncio.run(_Worker(orders, news_pipe).run(orders_pipe))


def allow_connections() -> None:
    """Let this process have as many descriptors as it may."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


class _Worker:
    def __init__(self, orders: Orders, news: IO[bytes]) -> None:
        from zen_mlmd.server.backend import Backend

        self._orders = orders
        self._config = orders.config
        self._news = news
        self._backend = Backend(orders.store, create=orders.create, upgrade=orders.upgrade)
        self._log = CallLog(orders.config.log, orders.number)
        self._metrics: Any = None
        self._tokens: Any = None
        self._warned = ""
        self._stop = asyncio.Event()

    async def run(self, orders_pipe: IO[bytes]) -> None:
        """Serve until told to stop."""
        from zen_mlmd.errors import ZenMlmdError

        try:
            server, calls, health = await self._start()
        except ZenMlmdError as error:
            self._tell(News(up=False, error=error))
            return
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self._stop.set)
        _when_it_ends(orders_pipe, lambda: loop.call_soon_threadsafe(self._stop.set))
        tasks = [asyncio.create_task(self._look_after(calls, health)), asyncio.create_task(self._tick(calls))]
        await self._stop.wait()
        tasks[0].cancel()
        calls.refuse_new()
        # gRPC breaks off what it took in and did not begin: that shall be answered first, by a refusal.
        await asyncio.sleep(_DRAIN_S)
        health.close()
        await server.stop(self._config.grace_s)
        calls.close()
        self._backend.close()

    async def _start(self) -> tuple[Any, Any, Any]:
        import grpc
        from grpc_reflection.v1alpha import reflection

        from zen_mlmd.server.access import Access
        from zen_mlmd.server.backend import AWAY
        from zen_mlmd.server.calls import SERVICE, Calls
        from zen_mlmd.server.health import Health
        from zen_mlmd.server.metrics import WorkerMetrics
        from zen_mlmd.server.tokens import TokenFile

        config = self._config
        self._tokens = TokenFile(config.tokens) if config.tokens else None
        threads = self._orders.store.parallel_calls
        calls = Calls(
            self._backend.forward,
            Access(self._tokens, read_only=config.read_only),
            threads=threads,
            max_calls=config.max_calls,
            max_message_bytes=config.max_message_bytes,
            deadline_s=config.deadline_s,
            done=self._done,
            complain=_complain,
        )
        if self._orders.metrics_folder:
            self._metrics = WorkerMetrics(self._orders.metrics_folder, self._orders.number, threads)
        try:
            await calls.run(self._backend.open)
        except AWAY as error:
            self._backend.problem = error.message
        server = grpc.aio.server(options=_options(config))
        server.add_generic_rpc_handlers((calls.handler(),))
        health = Health(["", SERVICE.full_name])
        health.add_to(server)
        names = (SERVICE.full_name, Health.SERVICE_NAME, reflection.SERVICE_NAME)
        reflection.enable_server_reflection(names, server)
        self._bind(server)
        self._publish(health)
        await server.start()
        return server, calls, health

    def _bind(self, server: Any) -> None:
        from zen_mlmd.errors import ConfigError
        from zen_mlmd.server.certificates import Certificates

        address = str(self._config.address)
        try:
            if self._config.tls_cert:
                certificates = Certificates(self._config, lambda why: write_event("warning", text=why))
                server.add_secure_port(address, certificates.credentials())
            else:
                server.add_insecure_port(address)
        except RuntimeError:  # gRPC's word for it
            raise ConfigError(f"{address} cannot be listened at", hint="choose another --bind") from None

    async def _tick(self, calls: Any) -> None:
        """Let the kernel end this process if its loop stands still.

        ml-metadata's core keeps Python's lock while it waits for a database that says nothing, or computes
        what a filter asks for: no deadline of ours fires then, and no signal of Python's.
        """
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        while True:
            signal.setitimer(signal.ITIMER_REAL, self._config.deadline_s + _FROZEN_S)
            if self._metrics is not None:
                self._metrics.calls_are_open(calls.open_calls)
            await asyncio.sleep(1)

    async def _look_after(self, calls: Any, health: Any) -> None:
        while True:
            await asyncio.sleep(_LOOK_S)
            try:
                await calls.run(self._backend.is_up)
                self._publish(health)
                self._warn_of_tokens()
            except Exception as error:  # noqa: BLE001 - it is to look again
                _complain(error)

    def _warn_of_tokens(self) -> None:
        if self._tokens is None:
            return
        self._tokens.look()
        problem = self._tokens.problem
        if problem != self._warned:
            self._warned = problem
            write_event("warning", text=problem or "the file of tokens is in order again")

    def _publish(self, health: Any) -> None:
        problem = self._backend.problem
        health.set(serving=not problem)
        if self._metrics is not None:
            self._metrics.store_is(up=not problem)
        self._tell(News(up=not problem, problem=problem))

    def _done(self, done: Any) -> None:
        self._log.write(done)
        if self._metrics is not None:
            self._metrics.count(done)

    def _tell(self, news: News) -> None:
        pickle.dump(news, self._news)
        self._news.flush()


def _complain(error: BaseException) -> None:
    """Tell of a fault of ours: its kind and place, not its words, which may quote what somebody recorded."""
    frames = traceback.extract_tb(error.__traceback__)
    place = f"{frames[-1].filename}:{frames[-1].lineno}" if frames else ""
    write_event("fault", kind=type(error).__qualname__, place=place)


def _options(config: ServerConfig) -> list[tuple[str, int]]:
    return [
        ("grpc.so_reuseport", 1),
        ("grpc.max_receive_message_length", config.max_message_bytes),
        ("grpc.max_send_message_length", config.max_message_bytes),
        # Proxies add much to a call (identity headers of a mesh); 8 KiB is gRPC's default.
        ("grpc.max_metadata_size", 16_384),
        ("grpc.absolute_max_metadata_size", 32_768),
        # A connection that never says hello, or too many calls on one, must not keep others out.
        ("grpc.server_handshake_timeout_ms", 20_000),
        ("grpc.max_concurrent_streams", config.max_calls),
        # Clients that keep idle connections alive are welcome.
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
        # Dead peers are found: a client that lost its network holds no connection for ever.
        ("grpc.keepalive_time_ms", 120_000),
        ("grpc.keepalive_timeout_ms", 20_000),
        # A connection does not stay with one worker for ever, nor does one that reads no answers.
        ("grpc.max_connection_age_ms", 1_800_000),
        ("grpc.max_connection_age_grace_ms", int((config.deadline_s + _FROZEN_S) * 1000)),
    ]


def _when_it_ends(pipe: IO[bytes], then: Callable[[], object]) -> None:
    def wait() -> None:
        pipe.read()
        then()

    threading.Thread(target=wait, name="orders", daemon=True).start()
