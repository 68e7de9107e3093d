"""gRPC's standard health checks.

grpcio-health-checking gives the messages, not the servicer: its asyncio `Watch` writes to a watcher while it
holds what `set` waits for, so that one who does not read stops all, and one who leaves makes the others deaf
(1.62.3, measured).
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from typing import Any

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

_Response = health_pb2.HealthCheckResponse


class Health:
    """Tells whether the server can serve; lives in one event loop.

    Args:
        services: The names that are asked for.
    """

    SERVICE_NAME = health.SERVICE_NAME

    def __init__(self, services: Collection[str]) -> None:
        self._services = frozenset(services)
        self._status = _Response.NOT_SERVING
        self._changed = asyncio.Event()
        self._closed = False

    def add_to(self, server: grpc.aio.Server) -> None:
        """Let a server answer for it."""
        health_pb2_grpc.add_HealthServicer_to_server(self, server)

    def set(self, *, serving: bool) -> None:
        """Say whether it can serve."""
        status = _Response.SERVING if serving else _Response.NOT_SERVING
        if status != self._status:
            self._status = status
            self._wake()

    def close(self) -> None:
        """Say that it serves no more, and end all watchers."""
        self._closed, self._status = True, _Response.NOT_SERVING
        self._wake()

    def _wake(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    async def Check(self, request: Any, context: Any) -> Any:  # noqa: N802 - gRPC's name
        """Answer once."""
        if request.service not in self._services:
            await context.abort(grpc.StatusCode.NOT_FOUND, "no such service")
        return _Response(status=self._status)

    async def Watch(self, request: Any, context: Any) -> None:  # noqa: N802 - gRPC's name
        """Answer now, and at each change."""
        told = None
        while True:
            changed = self._changed
            known = request.service in self._services
            status = self._status if known else _Response.SERVICE_UNKNOWN
            if status != told:
                await context.write(_Response(status=status))
                told = status
            if self._closed:
                await context.abort(grpc.StatusCode.UNAVAILABLE, "this server is stopping")
            await changed.wait()
