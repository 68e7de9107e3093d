"""One call, from its bytes to its answer: who calls, may they, when, what came out, what is told of it."""

from __future__ import annotations

import asyncio
import functools
import time
from collections.abc import AsyncIterator, Callable
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
        complain: Told of a fault of ours.

    Attributes:
        open_calls: Those that have begun, until their answers are sent.
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
        complain: Callable[[BaseException], None],
    ) -> None:
        self._forward = forward
        self._access = access
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="store")
        self._max_calls = max_calls
        self._max_message_bytes = max_message_bytes
        self._deadline_s = deadline_s
        self._done = done
        self._complain = complain
        self._refuses = False
        self._tracing = Tracing()
        self.open_calls = 0

    def handler(self) -> grpc.GenericRpcHandler:
        """Return what a gRPC server is given: requests and responses stay bytes.

        To gRPC they are streams of one request, so that a stranger's is not taken in before it is refused.
        """
        methods = {
            each.name: grpc.stream_unary_rpc_method_handler(functools.partial(self._answer, each.name))
            for each in SERVICE.methods
        }
        return grpc.method_handlers_generic_handler(SERVICE.full_name, methods)

    def refuse_new(self) -> None:
        """Refuse calls that come from now on; those that have begun go on."""
        self._refuses = True

    def close(self) -> None:
        """Wait for what the store's threads have begun."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    def run(self, function: Callable[[], Any]) -> asyncio.Future[Any]:
        """Run a function in one of the store's threads."""
        return asyncio.get_running_loop().run_in_executor(self._pool, function)

    async def _answer(self, method: str, requests: AsyncIterator[bytes], context: Any) -> bytes:
        call = _Call(method)
        metadata = context.invocation_metadata() or ()
        with self._tracing.call(method, metadata) as call.trace_id:
            try:
                call.client = self._access.admit(method, metadata, context.auth_context())
                await self._work(call, requests, context)
            except Refusal as refusal:
                call.code, call.text = refusal.code, refusal.text
                call.client = refusal.client if isinstance(refusal, Denied) else call.client
            except asyncio.TimeoutError:
                call.code, call.text = base.DEADLINE_EXCEEDED, "the call was not done in its time"
            except asyncio.CancelledError:
                call.code = base.CANCELLED
                raise
            except Exception as error:  # noqa: BLE001 - a fault of ours ends no other call
                call.code, call.text = base.INTERNAL, f"a fault of this server: {type(error).__name__}"
                self._complain(error)
            finally:
                self._done(call.told(context.peer()))
        if call.code:
            await context.abort(_CODES.get(call.code, grpc.StatusCode.UNKNOWN), shortened(call.text))
        return call.answer

    async def _work(self, call: _Call, requests: AsyncIterator[bytes], context: Any) -> None:
        left = context.time_remaining()
        until = call.started + (self._deadline_s if left is None else min(float(left), self._deadline_s))
        call.request = await asyncio.wait_for(_first(requests), until - time.perf_counter())
        if self._refuses:
            raise Refusal(base.UNAVAILABLE, "this server is stopping")
        if self.open_calls >= self._max_calls:
            raise Refusal(
                base.RESOURCE_EXHAUSTED, f"{self._max_calls} calls are open here already: try again"
            )
        self.open_calls += 1
        context.add_done_callback(self._close_call)  # when its answer is sent, too
        work = self._tracing.carried(functools.partial(self._forward, call.method, call.request))
        answer: bytes = await asyncio.wait_for(self.run(work), until - time.perf_counter())
        if len(answer) > self._max_message_bytes:
            raise Refusal(
                base.RESOURCE_EXHAUSTED,
                f"the answer has {len(answer)} bytes, and this server sends {self._max_message_bytes}:"
                " ask for less at once, or start it with a larger --max-message-bytes",
            )
        call.code, call.answer = 0, answer

    def _close_call(self, _: Any) -> None:
        self.open_calls -= 1


class _Call:
    """What is known of a call while it lasts."""

    def __init__(self, method: str) -> None:
        self.method = method
        self.started = time.perf_counter()
        self.code = base.UNKNOWN
        self.text = self.client = self.trace_id = ""
        self.request = self.answer = b""

    def told(self, peer: str) -> Done:
        """Return what is told of it."""
        return Done(
            method=self.method,
            code=_CODES.get(self.code, grpc.StatusCode.UNKNOWN).name,
            seconds=time.perf_counter() - self.started,
            request_bytes=len(self.request),
            response_bytes=len(self.answer),
            client=self.client,
            peer=peer,
            trace_id=self.trace_id,
        )


async def _first(requests: AsyncIterator[bytes]) -> bytes:
    async for data in requests:
        return data
    raise asyncio.CancelledError  # the caller hung up


def shortened(text: str) -> str:
    """Cut a status text to what peers take as a header."""
    data = text.encode("utf-8", "backslashreplace")
    if len(data) <= _DETAIL_BYTES:
        return data.decode()
    return data[:_DETAIL_BYTES].decode("utf-8", "ignore") + " ..."
