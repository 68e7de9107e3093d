"""An MLMD gRPC server: Kubeflow's `metadata-grpc-service`, or any other."""

from __future__ import annotations

import os
import sys
import threading
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import grpc
from ml_metadata.proto import metadata_store_service_pb2 as rpc

from zen_mlmd.errors import (
    ConnectionFailedError,
    ConnectionLostError,
    HostNotFoundError,
    NotMlmdError,
    StoreError,
    TlsError,
    UnreachableError,
)
from zen_mlmd.service import base
from zen_mlmd.service.check import SQLITE, check_request, needs_look

_SERVICE = "/ml_metadata.MetadataStoreService/"
_services: weakref.WeakSet[RemoteService] = weakref.WeakSet()
_inherited: list[Any] = []
"""Channels of a parent process, which are not ours to close."""


@dataclass(frozen=True)
class Endpoint:
    """Where an MLMD gRPC server is and how to speak to it.

    Attributes:
        ca, certificate, key: PEM bytes; `certificate` and `key` for mutual TLS.
        metadata: Sent with every call (Istio identity headers, a bearer token, ...); never shown.
        max_message_bytes: Longest message either way; gRPC's own default is 4 MB, which a large
            context exceeds.
        timeout_s: For each call.
        server_name: What the server's certificate is to be for; empty for the host.
    """

    host: str
    port: int
    tls: bool = False
    ca: bytes | None = field(default=None, repr=False)
    certificate: bytes | None = field(default=None, repr=False)
    key: bytes | None = field(default=None, repr=False)
    metadata: Mapping[str, str] = field(default_factory=dict, repr=False)
    max_message_bytes: int = 100 * 2**20
    timeout_s: float = 60.0
    keepalive_s: float = 60.0
    server_name: str = ""

    @property
    def target(self) -> str:
        """`host:port`, an IPv6 address in brackets."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


class RemoteService(base.MetadataService):
    """One MLMD behind gRPC; safe over threads and after fork.

    Raises:
        TlsError: The certificate or key cannot be used.
    """

    def __init__(self, endpoint: Endpoint) -> None:
        self.location = f"grpc{'s' if endpoint.tls else ''}://{endpoint.target}"
        self._endpoint = endpoint
        self._metadata: Sequence[tuple[str, str]] = [(k.lower(), v) for k, v in endpoint.metadata.items()]
        self._lock = threading.Lock()
        self._channel: Any = None
        self._reached = False
        self._methods: dict[str, Any] = {}
        _services.add(self)

    def call(self, method: str, request: Any) -> Any:
        """Send one request; see `MetadataService.call`."""
        response = base.response_class(method)()
        check_request(method, request, SQLITE)
        try:
            response.ParseFromString(self._send(method, request.SerializeToString()))
        except grpc.RpcError as error:
            failed = self._error(error, method)
        else:
            return response
        raise failed  # here, lest it keep the RpcError, which quotes what was recorded, as its context

    def forward(self, method: str, data: bytes) -> bytes:
        """Send a request's bytes; see `MetadataService.forward`."""
        if not method.startswith("Get") or needs_look(data):
            check_request(method, base.parse_request(method, data), SQLITE)
        try:
            return self._send(method, data)
        except grpc.RpcError as error:
            failed, code, text = self._error(error, method), error.code().value[0], str(error.details() or "")
        if code in (base.UNAVAILABLE, base.CANCELLED):  # what the server itself says of a call is its answer
            raise failed
        raise base.Refusal(code, text)

    def open(self) -> None:
        """Ask the server one small question, so that what is wrong is said now.

        Raises:
            ConnectionFailedError: It cannot be reached, or is no MLMD server.
        """
        try:
            self.call("GetContextTypes", rpc.GetContextTypesRequest())
            self._reached = True
        except ConnectionLostError as error:
            raise UnreachableError(
                f"{self.location}: no answer within {self._endpoint.timeout_s:g} s, or a broken connection",
                hint="is it an MLMD gRPC server, and up? a slow one needs a larger timeout_s",
            ) from error
        except StoreError as error:
            if error.mlmd_code == base.UNIMPLEMENTED:
                raise NotMlmdError(
                    f"{self.location}: it speaks gRPC, but is no MLMD server",
                    hint="MLMD's port in Kubeflow is metadata-grpc-service:8080",
                ) from None
            raise

    def close(self) -> None:
        """Close the channel; a later call opens another."""
        with self._lock:
            channel, self._channel, self._methods = self._channel, None, {}
            self.generation += 1
        if channel is not None:
            channel.close()

    def _send(self, method: str, data: bytes) -> bytes:
        metadata = traced(self._metadata)
        while True:
            send = self._methods.get(method) or self._method(method)
            try:
                answer: bytes = send(data, timeout=self._endpoint.timeout_s, metadata=metadata)
            except ValueError:
                # gRPC's word for a channel that another thread has closed meanwhile; nothing was sent.
                if self._methods.get(method) is send:
                    raise
            else:
                return answer

    def _method(self, method: str) -> Any:
        with self._lock:
            if self._channel is None:
                self._channel = self._connect()
            send = self._channel.unary_unary(_SERVICE + method)
            self._methods[method] = send
        return send

    def _connect(self) -> Any:
        end = self._endpoint
        options: list[tuple[str, int | str]] = [
            ("grpc.max_receive_message_length", end.max_message_bytes),
            ("grpc.max_send_message_length", end.max_message_bytes),
            ("grpc.keepalive_time_ms", int(end.keepalive_s * 1000)),
            ("grpc.keepalive_timeout_ms", 20_000),
            ("grpc.initial_reconnect_backoff_ms", 100),
            ("grpc.max_reconnect_backoff_ms", 2_000),
        ]
        if not end.tls:
            return grpc.insecure_channel(end.target, options=options)
        if end.server_name:
            options.append(("grpc.ssl_target_name_override", end.server_name))
        credentials = grpc.ssl_channel_credentials(end.ca, end.key, end.certificate)
        return grpc.secure_channel(end.target, credentials, options=options)

    def _error(self, error: Any, method: str) -> Exception:
        code, text = error.code().value[0], str(error.details() or "")
        lower = text.lower()
        if code == base.UNAVAILABLE:
            self.generation += 1  # who answers next may have another database
            return self._unavailable(text, lower, method)
        if code == base.CANCELLED:
            # Nobody here cancels: a server that stops does so with the calls that it has begun.
            return ConnectionLostError(
                f"{self.location}: {method}: the call was broken off",
                hint="is the server being restarted? call again: a connection is opened by itself",
            )
        if code == base.INTERNAL and text == base.LOST_BEHIND:
            return ConnectionLostError(
                f"{self.location}: {method}: {text}", hint="the next call finds it again when it is back"
            )
        return base.error_from_code(code, text, location=self.location, method=method)

    def _unavailable(self, text: str, lower: str, method: str) -> ConnectionFailedError:
        # First, for such words quote the host's name, which may hold any of the words below.
        if any(word in lower for word in ("dns resolution", "domain name not found")):
            return self._unresolved(method)
        if any(word in lower for word in ("ssl", "tls", "certificate", "handshake", "hostname verification")):
            return TlsError(
                f"{self.location}: no TLS connection: {' '.join(text.split())[:300]}",
                hint="does the server speak TLS, is `ca` the one that signed its certificate, "
                "and does it ask for a client certificate?",
            )
        if "http/2" in lower and not self._reached:
            return NotMlmdError(
                f"{self.location}: something else than a gRPC server answers there",
                hint="check the host and the port; a server that wants TLS needs tls=true",
            )
        if "socket closed" in lower and "failed to connect" in lower:
            return UnreachableError(
                f"{self.location}: the server closes the connection at once",
                hint="it may want a client certificate (certificate, key)"
                if self._endpoint.tls
                else "it may want TLS (tls=true)",
            )
        if any(word in lower for word in ("failed to connect", "refused", "no route")):
            return UnreachableError(
                f"{self.location}: nothing answers there ({' '.join(text.split())[:200]})",
                hint="is the server running? one in a cluster is reached from outside by a kubeflow store "
                "without a host: `zen-mlmd metadata-store up` opens the way",
            )
        return self._lost(method)

    def _unresolved(self, method: str) -> ConnectionFailedError:
        """Return what is wrong with a host's name; of one that worked before it is a passing trouble."""
        if self._reached:
            return self._lost(method)
        return HostNotFoundError(
            f"{self.location}: the host's name does not resolve",
            hint="check its spelling, and this machine's DNS",
        )

    def _lost(self, method: str) -> ConnectionLostError:
        return ConnectionLostError(
            f"{self.location}: the connection was lost during {method}",
            hint="is the server up? the next call connects again by itself",
        )

    def _after_fork(self) -> None:
        if self._channel is not None:
            _inherited.append(self._channel)
        self._lock = threading.Lock()
        self._channel, self._methods = None, {}
        self.generation += 1


def traced(metadata: Sequence[tuple[str, str]]) -> Sequence[tuple[str, str]]:
    """Add OpenTelemetry's present trace to request metadata, if somebody here uses OpenTelemetry."""
    propagate: Any = sys.modules.get("opentelemetry.propagate")
    if propagate is None:
        return metadata
    carrier: dict[str, str] = {}
    propagate.inject(carrier)
    return [*metadata, *carrier.items()] if carrier else metadata


def _forget_channels() -> None:
    for service in list(_services):
        service._after_fork()  # noqa: SLF001


os.register_at_fork(after_in_child=_forget_channels)
