"""OpenTelemetry, where its package is installed: a call's trace goes on behind the server.

Without the package nothing happens, and nothing is imported.
"""

from __future__ import annotations

import contextlib
import contextvars
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from importlib.util import find_spec
from typing import Any, TypeVar

ResultT = TypeVar("ResultT")


class Tracing:
    """Continues the trace that a caller's request metadata names."""

    def __init__(self) -> None:
        self._is_there = (
            find_spec("opentelemetry") is not None and find_spec("opentelemetry.trace") is not None
        )

    def call(self, method: str, metadata: Iterable[tuple[str, str | bytes]]) -> AbstractContextManager[str]:
        """Return a context manager for one call; it gives the id of the caller's trace, or nothing."""
        if not self._is_there or not any(key == "traceparent" for key, _ in metadata):
            return contextlib.nullcontext("")
        return self._span(method, metadata)

    def carried(self, work: Callable[[], ResultT]) -> Callable[[], ResultT]:
        """Return `work` so that it runs in the present trace, in whatever thread."""
        return _in_context(contextvars.copy_context(), work) if self._is_there else work

    @contextlib.contextmanager
    def _span(self, method: str, metadata: Iterable[tuple[str, str | bytes]]) -> Iterator[str]:
        from opentelemetry import propagate, trace

        carrier = {key: value for key, value in metadata if isinstance(value, str)}
        tracer = trace.get_tracer("zen_mlmd.server")
        attributes: dict[str, Any] = {
            "rpc.system": "grpc",
            "rpc.service": "ml_metadata.MetadataStoreService",
            "rpc.method": method,
        }
        with tracer.start_as_current_span(
            f"ml_metadata.MetadataStoreService/{method}",
            context=propagate.extract(carrier),
            kind=trace.SpanKind.SERVER,
            attributes=attributes,
        ) as span:
            context = span.get_span_context()
            yield trace.format_trace_id(context.trace_id) if context.is_valid else ""


def _in_context(context: contextvars.Context, work: Callable[[], ResultT]) -> Callable[[], ResultT]:
    return lambda: context.run(work)
