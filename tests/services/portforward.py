"""The server's end of a port-forward over a WebSocket: it carries real bytes to a local TCP port.

As the kubelet speaks `v4.channel.k8s.io` (k8s.io/kubelet, pkg/cri/streaming/portforward/websocket.go): each
port has a channel for data and one for an error, a message's first byte is its channel, and the first two
bytes of each channel are the port, little-endian.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import socket
import struct
import threading
from http.server import BaseHTTPRequestHandler
from typing import Any

PROTOCOL = "v4.channel.k8s.io"
_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455, 1.3
_BINARY, _CLOSE, _PING, _PONG = 2, 8, 9, 10


class Forwards:
    """The forwards that are open.

    Attributes:
        opened: How many were opened so far.
        pings: How often a client asked whether we are there.
        mute: Nothing is answered any more, as if the link were cut.
    """

    def __init__(self) -> None:
        self.opened = 0
        self.pings = 0
        self.mute = False
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()

    @property
    def open(self) -> int:
        """How many there are now."""
        return len(self._open)

    def cut(self) -> None:
        """Break off all that are open, without a word."""
        with self._lock:
            for each in self._open:
                with contextlib.suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)

    def serve(self, handler: BaseHTTPRequestHandler, pod: str, port: int, local_port: int | None) -> None:
        """Answer a client that asks for a WebSocket, and carry bytes until either side goes.

        Args:
            handler: Of the request, whose answer was not begun.
            pod: For messages.
            port: The pod's, as the client asked for it.
            local_port: Where it is on this machine; None if nothing listens on it.
        """
        key = handler.headers["Sec-WebSocket-Key"].encode()
        accepted = base64.b64encode(hashlib.sha1(key + _GUID).digest()).decode()
        handler.send_response(101)
        for name, value in (
            ("Upgrade", "websocket"),
            ("Connection", "Upgrade"),
            ("Sec-WebSocket-Accept", accepted),
            ("Sec-WebSocket-Protocol", PROTOCOL),
        ):
            handler.send_header(name, value)
        handler.end_headers()
        handler.close_connection = True
        link = handler.connection
        with self._lock:
            self.opened += 1
            self._open.add(link)
        try:
            self._carry(handler, pod, port, local_port)
        except OSError:
            pass  # either side went
        finally:
            with self._lock:
                self._open.discard(link)

    def _carry(self, handler: BaseHTTPRequestHandler, pod: str, port: int, local_port: int | None) -> None:
        send = _Sender(handler.connection)
        for channel in (0, 1):
            send(_BINARY, bytes([channel]) + struct.pack("<H", port))
        try:
            if local_port is None:
                raise ConnectionRefusedError
            to_pod = socket.create_connection(("127.0.0.1", local_port), timeout=10)
        except OSError:
            text = (
                f"error forwarding port {port} to pod {pod}, uid : failed to execute portforward in network"
                f" namespace: dial tcp4 127.0.0.1:{port}: connect: connection refused"
            )
            send(_BINARY, b"\x01" + text.encode())
            send(_CLOSE, struct.pack(">H", 1000))
            return
        with to_pod:
            to_pod.settimeout(None)
            back = threading.Thread(
                target=self._from_pod, args=(to_pod, send, handler.connection), daemon=True
            )
            back.start()
            try:
                self._from_client(handler.rfile, to_pod, send)
            finally:
                with contextlib.suppress(OSError):
                    to_pod.shutdown(socket.SHUT_RDWR)
                back.join(10)

    def _from_client(self, stream: Any, to_pod: socket.socket, send: _Sender) -> None:
        while True:
            kind, data = _frame(stream)
            if kind == _CLOSE:
                send(_CLOSE, data)
                return
            if kind == _PING:
                self.pings += 1
                if not self.mute:
                    send(_PONG, data)
            elif kind == _BINARY and data[:1] == b"\0":
                to_pod.sendall(data[1:])

    def _from_pod(self, to_pod: socket.socket, send: _Sender, link: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := to_pod.recv(32 * 1024):
                if not self.mute:
                    send(_BINARY, b"\0" + data)
            send(_CLOSE, struct.pack(">H", 1000))
            link.shutdown(socket.SHUT_RD)


class _Sender:
    """Sends frames; one at a time."""

    def __init__(self, link: socket.socket) -> None:
        self._link = link
        self._lock = threading.Lock()

    def __call__(self, kind: int, data: bytes) -> None:
        length = (
            bytes([len(data)])
            if len(data) < 126
            else struct.pack(">BH", 126, len(data))
            if len(data) < 2**16
            else struct.pack(">BQ", 127, len(data))
        )
        with self._lock:
            self._link.sendall(bytes([0x80 | kind]) + length + data)


def _frame(stream: Any) -> tuple[int, bytes]:
    """Read a frame of a client: its kind and its data."""
    head = _exactly(stream, 2)
    size = head[1] & 0x7F
    if size == 126:
        (size,) = struct.unpack(">H", _exactly(stream, 2))
    elif size == 127:
        (size,) = struct.unpack(">Q", _exactly(stream, 8))
    if not head[1] & 0x80:
        raise ConnectionError("a client's frame must be masked")
    mask = _exactly(stream, 4)
    data = _exactly(stream, size)
    key = int.from_bytes((mask * (size // 4 + 1))[:size], "big")
    return head[0] & 0x0F, (int.from_bytes(data, "big") ^ key).to_bytes(size, "big")


def _exactly(stream: Any, size: int) -> bytes:
    data: bytes = stream.read(size)
    if len(data) < size:
        raise ConnectionResetError("the client went away")
    return data
