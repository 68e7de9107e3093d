"""A connection to a port of a pod, through the API server, over a WebSocket.

Kubernetes' `v4.channel.k8s.io` (k8s.io/kubelet, pkg/cri/streaming/portforward/websocket.go): a message's
first byte is its channel, 0 for data and 1 for an error, and the first two bytes on each are the port. The
pod's end closes the WebSocket; one half of a connection cannot be closed alone.

The official client's own port-forward has no time limit, uses select() and so at most 1024 files, keeps what
is not taken without bound, and lets a client hang if the other end says what it does not expect.
"""

from __future__ import annotations

import contextlib
import select
import socket
import ssl
import time
from collections.abc import Callable
from typing import Any, Final

from zen_mlmd.cluster.access import Cluster
from zen_mlmd.cluster.api import asking
from zen_mlmd.cluster.pods import PodPort

_PROTOCOL: Final = "v4.channel.k8s.io"
_DATA, _ERROR = 0, 1
_PORT_BYTES: Final = 2
_CHUNK: Final = 16 * 1024  # a record of TLS
_MOST: Final = 2**20  # bytes that wait for an end that does not take them
_LONGEST_FAULT: Final = 500

PING_S: Final = 20.0
"""After so long without a word the other end is asked whether it is there."""
SILENCE_S: Final = 60.0
"""After so long it is taken for gone."""


def open_tunnel(cluster: Cluster, to: PodPort) -> Tunnel:
    """Connect to a port of a pod; whether something listens there is only known when bytes go.

    Raises:
        ClusterUnreachableError, ClusterObjectError: See `asking`.
    """
    from websocket import WebSocket

    configuration = cluster.configuration
    server = cluster.server.replace("http", "ws", 1)
    url = f"{server}/api/v1/namespaces/{to.namespace}/pods/{to.pod}/portforward?ports={to.port}"
    # Both verbs: a WebSocket is opened with a GET, and Kubernetes 1.35 asks for `create` too (KEP-4006).
    with asking(cluster, "get, create", "pods/portforward", to.pod, to.namespace):
        link = WebSocket(sslopt=_tls(configuration), skip_utf8_validation=True)
        link.connect(
            url,
            header=[f"{name}: {value}" for name, value in cluster.authorization.items()],
            subprotocols=[_PROTOCOL],
            suppress_origin=True,
            redirect_limit=0,
            timeout=cluster.timeout_s,
            **_proxy(configuration, url),
        )
    return Tunnel(link, cluster.timeout_s)


class Tunnel:
    """A connection that is open; `carry` has the bytes go to and fro.

    Attributes:
        answered: Bytes came from the pod.
    """

    def __init__(self, link: Any, timeout_s: float) -> None:
        self._link = link
        self._timeout_s = timeout_s
        self._to_pod = bytearray()
        self._to_client = bytearray()
        self._channel = -1
        self._heads = [_PORT_BYTES, _PORT_BYTES]
        self._error = bytearray()
        self._pod_ended = self._client_ended = False
        self._heard = self._asked = time.monotonic()
        self.answered = False
        self._answers: Callable[[], object] = lambda: None

    def close(self) -> None:
        """Close it, without ado."""
        self._link.shutdown()

    def carry(self, client: socket.socket, *, answers: Callable[[], object] = lambda: None) -> str | None:
        """Carry bytes between a client and the pod until either has ended; the client is not closed.

        Args:
            client: What has connected.
            answers: Called when the first bytes came from the pod, before the client has them.

        Returns:
            None if it was the client; empty if the pod's server closed it; else why the pod's end broke.
        """
        from websocket import WebSocketException

        self._answers = answers
        client.setblocking(False)
        self._link.sock.setblocking(False)
        broken = ""
        try:
            while not self._pod_ended and not (self._client_ended and not self._to_pod):
                self._round(client)
        except (WebSocketException, OSError) as error:
            broken = f"the connection broke: {str(error) or type(error).__name__}"
        finally:
            self.close()
        if self._client_ended:
            return None
        self._flush(client)
        said = " ".join(self._error.decode("utf-8", "replace").split())
        return said[:_LONGEST_FAULT] or broken

    def _round(self, client: socket.socket) -> None:
        """Wait until bytes can go, and have them go."""
        self._wait(client)
        if len(self._to_pod) < _MOST:
            self._from_client(client)
        if self._to_pod:
            with contextlib.suppress(*_LATER):
                del self._to_pod[: self._link.sock.send(self._to_pod[:_CHUNK])]
        if len(self._to_client) < _MOST:
            self._from_link()
        if self._to_client:
            self._into_client(client)
        self._keep_alive()

    def _wait(self, client: socket.socket) -> None:
        link = self._link.sock
        reads_client = not self._client_ended and len(self._to_pod) < _MOST
        reads_link = len(self._to_client) < _MOST
        at_once = reads_link and isinstance(link, ssl.SSLSocket) and link.pending()
        poll = select.poll()
        poll.register(client, select.POLLIN * reads_client | select.POLLOUT * bool(self._to_client))
        poll.register(link, select.POLLIN * reads_link | select.POLLOUT * bool(self._to_pod))
        for number, events in poll.poll(0 if at_once else PING_S / 4 * 1000):
            if number == client.fileno() and events & (select.POLLHUP | select.POLLERR):
                self._client_ended = True

    def _from_client(self, client: socket.socket) -> None:
        from websocket import ABNF

        if self._client_ended:
            return
        try:
            data = client.recv(_CHUNK)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if data:
            self._to_pod += ABNF.create_frame(bytes([_DATA]) + data, ABNF.OPCODE_BINARY).format()
        else:
            self._client_ended = True

    def _into_client(self, client: socket.socket) -> None:
        try:
            del self._to_client[: client.send(self._to_client[:_CHUNK])]
        except BlockingIOError:
            return
        except OSError:
            self._client_ended = True
            self._to_pod.clear()

    def _from_link(self) -> None:
        from websocket import ABNF

        try:
            frame = self._link.recv_frame()
        except _LATER:
            return
        self._heard = time.monotonic()
        if frame.opcode == ABNF.OPCODE_CLOSE:
            self._pod_ended = True
        elif frame.opcode == ABNF.OPCODE_PING:
            self._to_pod += ABNF.create_frame(frame.data, ABNF.OPCODE_PONG).format()
        elif frame.opcode in (ABNF.OPCODE_BINARY, ABNF.OPCODE_CONT):
            self._take(bytes(frame.data), goes_on=frame.opcode == ABNF.OPCODE_CONT)

    def _take(self, data: bytes, *, goes_on: bool) -> None:
        """Take a message, or a further part of one."""
        if not goes_on and data:
            self._channel, data = data[0], data[1:]
        if self._channel not in (_DATA, _ERROR):
            raise OSError(f"a message for channel {self._channel}")
        head = self._heads[self._channel]
        self._heads[self._channel] = max(0, head - len(data))
        if self._channel == _DATA:
            self._to_client += data[head:]
            if self._to_client and not self.answered:
                self.answered = True
                self._answers()
        else:
            self._error += data[head:]

    def _keep_alive(self) -> None:
        """Ask the other end whether it is there if nothing was heard of it for long."""
        from websocket import ABNF

        now = time.monotonic()
        if len(self._to_client) >= _MOST:  # it is not listened to: the client takes nothing
            self._heard = now
        if now - self._heard > SILENCE_S:
            raise OSError(f"nothing was heard for {SILENCE_S:g} s")
        if now - max(self._heard, self._asked) > PING_S:
            self._asked = now
            self._to_pod += ABNF.create_frame(b"", ABNF.OPCODE_PING).format()

    def _flush(self, client: socket.socket) -> None:
        """Give the client what the pod sent before it ended."""
        client.settimeout(self._timeout_s)
        with contextlib.suppress(OSError):
            client.sendall(self._to_client)


_LATER: Final = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)


def _tls(configuration: Any) -> dict[str, Any]:
    """Return the client's settings of TLS as websocket-client takes them; see kubernetes/client/rest.py."""
    context = ssl.create_default_context(
        cafile=configuration.ssl_ca_cert, cadata=getattr(configuration, "ca_cert_data", None)
    )
    if not configuration.verify_ssl or configuration.assert_hostname is False:
        context.check_hostname = False
    if not configuration.verify_ssl:
        context.verify_mode = ssl.CERT_NONE
    if configuration.cert_file:
        context.load_cert_chain(configuration.cert_file, configuration.key_file)
    named = {"server_hostname": configuration.tls_server_name} if configuration.tls_server_name else {}
    return {"context": context, **named}


def _proxy(configuration: Any, url: str) -> dict[str, Any]:
    """Return the client's proxy as websocket-client takes it."""
    if not configuration.proxy:
        return {}
    from kubernetes.stream.ws_client import websocket_proxycare

    found: dict[str, Any] = websocket_proxycare({}, configuration, url, None)
    return found
