"""Prometheus metrics: counted in the workers, told by the supervisor.

prometheus_client's way for several processes: each worker counts in files of a shared folder, which the
supervisor adds up when it is asked, so that a worker that was replaced is not forgotten.
"""

from __future__ import annotations

import os
import socket
import sys
import threading
from collections.abc import Callable, Iterable
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from zen_mlmd.errors import ConfigError
from zen_mlmd.server.calls import Done
from zen_mlmd.server.config import Address

_MOST_CONNECTIONS = 32
_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)


class WorkerMetrics:
    """What one worker counts; makes no sense twice in a process.

    Args:
        folder: Shared by the workers of a server.
        worker: The worker's number.
        threads: How many calls the store is asked at once.
    """

    def __init__(self, folder: str, worker: int, threads: int) -> None:
        # prometheus_client chooses how it counts when it is imported.
        if "prometheus_client" in sys.modules:
            raise RuntimeError("prometheus_client was imported too early")
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = folder
        from prometheus_client import Counter, Gauge, Histogram

        self._calls = Counter("mlmd_calls", "Calls that are over.", ["method", "code"])
        self._seconds = Histogram(
            "mlmd_call_seconds", "Time from request to answer.", ["method"], buckets=_BUCKETS
        )
        self._bytes = Counter("mlmd_message_bytes", "Bytes of messages.", ["direction"])
        label = ["worker"]
        self._open = Gauge(
            "mlmd_open_calls", "Calls begun or waiting.", label, multiprocess_mode="livemostrecent"
        )
        self._up = Gauge(
            "mlmd_store_up", "Whether the store answers.", label, multiprocess_mode="livemostrecent"
        )
        self._threads = Gauge(
            "mlmd_store_threads",
            "Calls that the store is asked at once.",
            label,
            multiprocess_mode="livemostrecent",
        )
        self._worker = str(worker)
        self._threads.labels(self._worker).set(threads)

    def count(self, done: Done) -> None:
        """Count a call that is over."""
        self._calls.labels(done.method, done.code).inc()
        self._seconds.labels(done.method).observe(done.seconds)
        self._bytes.labels("received").inc(done.request_bytes)
        self._bytes.labels("sent").inc(done.response_bytes)

    def calls_are_open(self, count: int) -> None:
        """Note how many calls are begun or waiting."""
        self._open.labels(self._worker).set(count)

    def store_is(self, up: bool) -> None:
        """Note whether the store answers."""
        self._up.labels(self._worker).set(up)


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True

    def __init__(self, address: tuple[str, int], *args: Any) -> None:
        self.address_family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        self._places = threading.BoundedSemaphore(_MOST_CONNECTIONS)
        super().__init__(address, *args)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Take a connection, or close it at once if there are too many."""
        if self._places.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Answer one connection."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._places.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: a prober that hangs up is no news."""


class _Handler(WSGIRequestHandler):
    timeout = 10.0

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing of each scrape."""


class Endpoint:
    """`/metrics` of all workers, `/livez`, and `/readyz`, which says 503 while no worker can serve.

    Args:
        address: Where it listens.
        folder: Where the workers count.
        is_ready: Whether a worker can serve.

    Raises:
        ConfigError: The address is taken, or not this machine's.
    """

    def __init__(self, address: Address, folder: str, is_ready: Callable[[], bool]) -> None:
        self._folder = folder
        self._is_ready = is_ready
        try:
            self._server = make_server(
                address.host, address.port, self._answer, server_class=_Server, handler_class=_Handler
            )
        except OSError as error:
            raise ConfigError(
                f"metrics cannot be told at {address}: {error.strerror}", hint="choose another host:port"
            ) from None
        self.address = Address(address.host, self._server.server_port)
        threading.Thread(target=self._server.serve_forever, name="metrics", daemon=True).start()

    def close(self) -> None:
        """Listen no more."""
        self._server.shutdown()
        self._server.server_close()

    def forget(self, pid: int) -> None:
        """Drop what a worker that is no more said of its present; what it counted stays."""
        from prometheus_client.multiprocess import mark_process_dead

        mark_process_dead(pid, self._folder)  # type: ignore[no-untyped-call]

    def _answer(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        path = environ.get("PATH_INFO", "")
        if path == "/metrics":
            return self._metrics(environ, start_response)
        status, text = {
            "/livez": ("200 OK", b"ok\n"),
            "/readyz": ("200 OK", b"ok\n")
            if self._is_ready()
            else ("503 Service Unavailable", b"store away\n"),
        }.get(path, ("404 Not Found", b"/metrics, /livez, /readyz\n"))
        start_response(status, [("Content-Type", "text/plain; charset=utf-8")])
        return [text]

    def _metrics(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        from prometheus_client import CollectorRegistry, make_wsgi_app
        from prometheus_client.multiprocess import MultiProcessCollector

        registry = CollectorRegistry()
        MultiProcessCollector(registry, path=self._folder)  # type: ignore[no-untyped-call]
        answer: Iterable[bytes] = make_wsgi_app(registry)(environ, start_response)
        return answer
