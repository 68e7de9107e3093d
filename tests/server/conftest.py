"""Servers for one test, and the plainest of clients."""

from __future__ import annotations

import contextlib
import json
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from typing_extensions import Self

from tests.services import Certificates, make_certificates
from zen_mlmd.flavors import StoreConfig
from zen_mlmd.server import Server, ServerConfig

SERVICE = "/ml_metadata.MetadataStoreService/"

StartServer = Callable[..., Server]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[StartServer]:
    """Starts servers, by default over a new SQLite file; they end with the test."""
    with contextlib.ExitStack() as stack:

        def begin(
            store: str | Path | StoreConfig | None = None, *, create: bool = False, **settings: Any
        ) -> Server:
            config = ServerConfig.checked(**{"bind": "127.0.0.1:0", "grace_s": 5, **settings})
            where = tmp_path / "served.db" if store is None else store
            return stack.enter_context(Server(where, config, create=create))

        yield begin


@pytest.fixture
def pem(tmp_path: Path) -> Certificates:
    """An authority, a server's certificate and a client's."""
    folder = tmp_path / "pem"
    folder.mkdir()
    return make_certificates(folder)


class Caller:
    """Calls by name with bytes, over one channel."""

    def __init__(self, address: str, credentials: Any = None, **options: int) -> None:
        arguments = [(f"grpc.{key}", value) for key, value in options.items()]
        arguments.append(("grpc.use_local_subchannel_pool", 1))
        self.channel = (
            grpc.insecure_channel(address, options=arguments)
            if credentials is None
            else grpc.secure_channel(address, credentials, options=arguments)
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.channel.close()

    def __call__(self, method: str, request: Any = b"", *, timeout: float = 20, token: str = "") -> bytes:
        """Return the response's bytes; raises `grpc.RpcError`."""
        data = request if isinstance(request, bytes) else request.SerializeToString()
        metadata = [("authorization", f"Bearer {token}")] if token else []
        answer: bytes = self.channel.unary_unary(SERVICE + method)(data, timeout=timeout, metadata=metadata)
        return answer

    def refusal(self, method: str, request: Any = b"", **how: Any) -> tuple[str, str]:
        """Return the code and the text of a call that is refused."""
        with pytest.raises(grpc.RpcError) as caught:
            self(method, request, **how)
        error: Any = caught.value
        return error.code().name, error.details()


def lines_of(text: str) -> list[dict[str, Any]]:
    """Return the JSON lines of a server's stderr; fails if there is any other."""
    # gRPC's core of this very process, of a test before, may say something late.
    return [json.loads(line) for line in text.splitlines() if not re.match(r"[IWEF]\d{4} ", line)]


def soon(condition: Callable[[], bool], limit_s: float = 20) -> None:
    """Wait until it holds; files are looked at once a second."""
    deadline = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def outcome_of(call: Caller, method: str, token: str = "", *, request: Any = b"") -> str:
    """Return the name of a call's code."""
    try:
        call(method, request, token=token)
    except grpc.RpcError as error:
        return str(error.code().name)
    return "OK"
