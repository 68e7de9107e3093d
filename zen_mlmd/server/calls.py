"""One call, from its bytes to its answer: who calls, may they, when, what came out, what is told of it."""

from __future__ import annotations

import asyncio
import functools
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import grpc
from ml_metadata.proto import metadata_store_service_pb2 as rpc

from zen_mlmd.server.access import Access, Denied
from zen_mlmd.server.tracing import Tracing
from zen_mlmd.service import base
from zen_mlmd.service.base import Refusal

SERVICE = rpc.DESCRIPTOR.services_by_name["MetadataStoreService"]

_CODES = {code.value[0]: code for code in grpc.StatusCode}
_DETAIL_BYTES = 2000
"""Of a status text. It travels as a header, percent-encoded, and gRPC's peers take 8 KiB of those."""


@dataclass(frozen=True, slots=True)
class Done:
    """What is told of a call once it is over; never what it held."""

    method: str
    code: str
    seconds: float
    request_bytes: int
    response_bytes: int
    client: str
    peer: str
    trace_id: str


class Calls:
    """Answers all calls of `MetadataStoreService`; lives in one event loop.

    The store is asked by a few threads, one call each; calls beyond those wait for their turn, and calls
    beyond `max_calls` are refused at once.

    Args:
        forward: Takes an RPC's name and its request's bytes, returns the response's or raises `Refusal`.
        access: Decides who may call what.
        threads: How many calls the store is asked at once.
        max_calls: Begun or waiting.
        max_message_bytes: Longest response.
        deadline_s: Longest time for a call to wait and run.
        done: Told of each call that is over.
    """

    def __init__(
        self,
        forward: Callable[[str, bytes], bytes],
        access: Access,
        *,
        threads: int,
        max_calls: int,
        max_message_bytes: int,
        deadline_s: float,
        done: Callable[[Done], None],
    ) -> None:
        self._forward = forward
        self._access = access
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="store")
        self._max_calls = max_calls
        self._max_message_bytes = max_message_bytes
        self._deadline_s = deadline_s
        self._done = done
        self._tracing = Tracing()
        self.open_calls = 0

    def handler(self) -> grpc.GenericRpcHandler:
        """Return what a gRPC server is given: requests and responses stay bytes."""
        methods = {
            each.name: grpc.unary_unary_rpc_method_handler(functools.partial(self._answer, each.name))
            for each in SERVICE.methods
        }
        return grpc.method_handlers_generic_handler(SERVICE.full_name, methods)

    def close(self) -> None:
        """Wait for what the store's threads have begun."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    def run(self, function: Callable[[], Any]) -> asyncio.Future[Any]:
        """Run a function in one of the store's threads."""
        return asyncio.get_running_loop().run_in_executor(self._pool, function)

    async def _answer(self, method: str, data: bytes, context: Any) -> bytes:
        started = time.perf_counter()
        self.open_calls += 1
        code, text, client, answer = base.CANCELLED, "", "", b""
        metadata = context.invocation_metadata() or ()
        with self._tracing.call(method, metadata) as trace_id:
            try:
                client = self._access.admit(method, metadata, context.auth_context())
                answer = await self._ask(method, data, self._time_left(context))
                code = 0
            except Refusal as refusal:
                code, text = refusal.code, refusal.text
                client = refusal.client if isinstance(refusal, Denied) else client
            except asyncio.TimeoutError:
                code, text = base.DEADLINE_EXCEEDED, "the call was not done in its time"
            finally:
                self.open_calls -= 1
                self._done(
                    Done(
                        method=method,
                        code=_CODES.get(code, grpc.StatusCode.UNKNOWN).name,
                        seconds=time.perf_counter() - started,
                        request_bytes=len(data),
                        response_bytes=len(answer),
                        client=client,
                        peer=context.peer(),
                        trace_id=trace_id,
                    )
                )
        if code:
            await context.abort(_CODES.get(code, grpc.StatusCode.UNKNOWN), shortened(text))
        return answer

    async def _ask(self, method: str, data: bytes, time_left: float) -> bytes:
        if self.open_calls > self._max_calls:
            raise Refusal(
                base.RESOURCE_EXHAUSTED, f"{self._max_calls} calls are open here already: try again"
            )
        if time_left <= 0:
            raise asyncio.TimeoutError
        work = functools.partial(self._forward, method, data)
        answer: bytes = await asyncio.wait_for(self.run(self._tracing.carried(work)), time_left)
        if len(answer) > self._max_message_bytes:
            raise Refusal(
                base.RESOURCE_EXHAUSTED,
                f"the answer has {len(answer)} bytes, and this server sends {self._max_message_bytes}:"
                " ask for less at once, or start it with a larger --max-message-bytes",
            )
        return answer

    def _time_left(self, context: Any) -> float:
        left = context.time_remaining()
        return self._deadline_s if left is None else min(float(left), self._deadline_s)


def shortened(text: str) -> str:
    """Cut a status text to what peers take as a header."""
    data = text.encode("utf-8", "backslashreplace")
    if len(data) <= _DETAIL_BYTES:
        return data.decode()
    return data[:_DETAIL_BYTES].decode("utf-8", "ignore") + " ..."
