"""Forwards: real bytes through an API server to real pods, and all that comes between."""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import json
import os
import secrets
import signal
import socket
import socketserver
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme
import yaml

from tests.services import free_port
from tests.services.kubernetes import FakeKubernetes
from zen_mlmd.cluster import forward
from zen_mlmd.cluster import standing as standing_
from zen_mlmd.cluster import tunnel as tunnels
from zen_mlmd.cluster.forwarder import Way, _started
from zen_mlmd.cluster.standing import Place, Standing, Target, Wish
from zen_mlmd.cluster.tunnel import Tunnel
from zen_mlmd.errors import (
    ClusterObjectError,
    ClusterUnreachableError,
    ConfigError,
    ForwardError,
    ZenMlmdError,
)

ROOT = Path(__file__).resolve().parents[2]
SERVICE = "metadata-grpc-service"
LABELS = {"component": "metadata-grpc-server"}


class Echo(socketserver.ThreadingTCPServer):
    """A pod's server: says its name to each client, and all that the client says."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, name: bytes) -> None:
        super().__init__(("127.0.0.1", 0), _Echo)
        self.name = name
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()

    @property
    def port(self) -> int:
        return int(self.server_address[1])

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is no news."""


class _Echo(socketserver.BaseRequestHandler):
    server: Echo

    def handle(self) -> None:
        self.request.sendall(self.server.name)
        while data := self.request.recv(2**16):
            if data == b"bye":
                return
            self.request.sendall(data)


@pytest.fixture(scope="module")
def echoes() -> Iterator[tuple[Echo, Echo]]:
    with Echo(b"one") as first, Echo(b"two") as second:
        yield first, second
        first.shutdown()
        second.shutdown()


@pytest.fixture
def wish(fake: FakeKubernetes, echoes: tuple[Echo, Echo], kubeconfig: Path, state: Path) -> Wish:
    """A forward to a Service with one pod; it may stand already."""
    fake.service("kubeflow", SERVICE, LABELS, {8080: "grpc-api"})
    pod(fake, "one", echoes[0].port)
    target = Target(str(kubeconfig), "tests", "kubeflow", SERVICE, 8080)
    return Wish(target, timeout_s=5, owner="default/prod")


def pod(fake: FakeKubernetes, name: str, local_port: int | None) -> None:
    """Make a pod that is ready, whose port `grpc-api` is a local one."""
    fake.controllers.register("kubeflow", name, {} if local_port is None else {9000: local_port})
    container = {"name": "main", "image": "x", "ports": [{"name": "grpc-api", "containerPort": 9000}]}
    body = {"metadata": {"name": name, "labels": LABELS}, "spec": {"containers": [container]}}
    fake.objects.create("pods", "kubeflow", body)
    fake.wait(lambda: fake.objects.get("pods", "kubeflow", name).get("status"))


def greeted(standing: Standing) -> bytes:
    """Connect, and return what the pod says first; empty if the connection is closed before."""
    with socket.create_connection(("127.0.0.1", standing.port), timeout=10) as client:
        return client.recv(3)


def soon(true: Callable[[], object], timeout_s: float = 10) -> None:
    ends = time.monotonic() + timeout_s
    while not true():
        assert time.monotonic() < ends
        time.sleep(0.01)


def found(wish: Wish) -> Standing:
    standing = forward.find(wish.target)
    assert standing is not None
    return standing


def test_one_that_stands_is_left_and_comes_down_once(wish: Wish, state: Path) -> None:
    told: list[str] = []
    forward.down(wish.target)
    first = forward.up(wish, told.append)
    again = forward.up(wish, told.append)
    assert (again.pid, again.port) == (first.pid, first.port)
    assert len(told) == 1
    assert "opening a forward to Service kubeflow/metadata-grpc-service:8080 (context tests)" in told[0]
    for file in state.iterdir():
        assert file.stat().st_mode & 0o077 == 0
    assert forward.down(wish.target)
    assert forward.find(wish.target) is None
    assert not forward.down(wish.target)
    with pytest.raises(ConnectionRefusedError):
        greeted(first)
    assert [each.partition(" INFO ")[2] for each in forward.log_lines(wish.target, tail=1)] == ["stopped"]


def test_two_who_ask_at_once_get_one(wish: Wish) -> None:
    got: list[Standing] = []
    askers = [threading.Thread(target=lambda: got.append(forward.up(wish))) for _ in range(2)]
    for each in askers:
        each.start()
    for each in askers:
        each.join(60)
    assert len(got) == 2
    assert got[0].pid == got[1].pid
    assert greeted(got[0]) == b"one"


def test_bytes_go_to_the_pod_and_back(wish: Wish) -> None:
    standing = forward.up(wish)
    assert standing.lives
    assert standing.pod == "one:9000"
    sent = secrets.token_bytes(5_000_000)
    with socket.create_connection(("127.0.0.1", standing.port), timeout=10) as client:
        assert client.recv(3) == b"one"
        threading.Thread(target=client.sendall, args=(sent,)).start()
        came = bytearray()
        while len(came) < len(sent):
            came += client.recv(2**20)
        assert bytes(came) == sent
        client.sendall(b"bye")
        assert client.recv(1) == b""


def test_a_pod_that_goes_gives_way_to_another(
    wish: Wish, fake: FakeKubernetes, echoes: tuple[Echo, Echo]
) -> None:
    standing = forward.up(wish)
    with socket.create_connection(("127.0.0.1", standing.port), timeout=10) as client:
        assert client.recv(3) == b"one"
        fake.objects.delete("pods", "kubeflow", "one", {})
        fake.wait(lambda: fake.objects.find("pods", "kubeflow", "one") is None)
        fake.forwards.cut()
        assert client.recv(1) == b""
        # A client that comes while there is no pod waits for one.
        with socket.create_connection(("127.0.0.1", standing.port), timeout=10) as waiting:
            soon(lambda: "no pod is ready: there is none" in found(wish).fault)
            pod(fake, "two", echoes[1].port)
            assert waiting.recv(3) == b"two"
    now = found(wish)
    assert (now.pid, now.port, now.pod, now.fault) == (standing.pid, standing.port, "two:9000", "")
    assert now.restarts == standing.restarts + 1
    assert now.connections == standing.connections + 2


def test_a_process_that_was_killed_is_noticed_and_mended(wish: Wish, state: Path) -> None:
    first = forward.up(wish)
    os.kill(first.pid, signal.SIGKILL)
    soon(lambda: not found(wish).lives)
    # Its number is another's now, who is left alone.
    with Place(wish.target.key).alive.open("w") as file:
        file.write(str(os.getpid()))
    assert Place(wish.target.key).holder() is None
    second = forward.up(wish)
    assert second.pid != first.pid
    assert second.port == first.port
    assert greeted(second) == b"one"
    os.kill(second.pid, signal.SIGSTOP)  # it does not hear SIGTERM
    os.kill(second.pid, signal.SIGKILL)
    soon(lambda: not found(wish).lives)
    assert forward.down(wish.target)
    assert not list(state.glob("*.json"))


def test_other_settings_take_the_place_of_the_former(wish: Wish, fake: FakeKubernetes) -> None:
    first = forward.up(wish)
    told: list[str] = []
    wanted = Wish(wish.target, local_port=free_port(), timeout_s=5, owner=wish.owner)
    second = forward.up(wanted, told.append)
    assert "stopping" in told[0]
    assert second.port == wanted.local_port
    with pytest.raises(ConnectionRefusedError):
        greeted(first)
    fake.service("kubeflow", "other", LABELS, {81: 9000})
    elsewhere = Target(wish.target.kubeconfig, "tests", "kubeflow", "other", "port-81")
    third = forward.up(Wish(elsewhere, timeout_s=5, owner=wish.owner), told.append)
    assert "where the store was before" in told[2]
    assert forward.find(wish.target) is None
    assert greeted(third) == b"one"


def test_a_pod_that_refuses_is_told_of(wish: Wish, fake: FakeKubernetes) -> None:
    standing = forward.up(wish)
    fake.objects.delete("pods", "kubeflow", "one", {})
    fake.wait(lambda: fake.objects.find("pods", "kubeflow", "one") is None)
    pod(fake, "deaf", None)
    assert greeted(standing) == b""
    soon(lambda: "connection refused" in found(wish).fault)
    assert found(wish).restarts == standing.restarts + 1
    log = "\n".join(forward.log_lines(wish.target))
    assert "WARNING deaf:9000 has ended a connection: error forwarding port 9000 to pod deaf" in log


def test_credentials_that_are_renewed_in_the_kubeconfig_are_taken(wish: Wish, fake: FakeKubernetes) -> None:
    standing = forward.up(wish)
    old, fake.token = fake.token, f"canary-{secrets.token_hex(12)}"
    try:
        with socket.create_connection(("127.0.0.1", standing.port), timeout=10) as client:
            soon(lambda: "does not know you" in found(wish).fault)
            fake.kubeconfig(Path(wish.target.kubeconfig))
            assert client.recv(3) == b"one"
        kept = "".join(each.read_text() for each in Place(wish.target.key).folder.iterdir())
        assert "listening" in kept
        assert old not in kept
        assert fake.token not in kept
    finally:
        fake.token = yaml.safe_load(Path(wish.target.kubeconfig).read_text())["users"][0]["user"]["token"]


def test_what_happens_can_be_followed(wish: Wish) -> None:
    standing = forward.up(wish)
    ended = threading.Event()

    def greet() -> None:
        while not ended.wait(0.1):
            assert greeted(standing) == b"one"

    greeter = threading.Thread(target=greet)
    greeter.start()
    lines = forward.log_lines(wish.target, tail=0, follow=True)
    assert any(next(lines).endswith("a client is connected to one:9000") for _ in range(10))
    ended.set()
    greeter.join(10)
    Place(wish.target.key).log.write_text("begun anew\n")
    assert any(next(lines) == "begun anew" for _ in range(30))


# -- what goes wrong at the start ------------------------------------------------------------------

GET, LIST, OPEN = ("get", "services"), ("list", "pods"), ("get", "pods/portforward")

FAULTS: dict[str, tuple[dict[str, Any], type[ZenMlmdError], str]] = {
    "403": ({"status": 403}, ClusterObjectError, "forbidden (403)"),
    "404": ({"status": 404}, ClusterObjectError, "there is no such object (404)"),
    "409": ({"status": 409}, ClusterObjectError, "changed meanwhile (409)"),
    "422": ({"status": 422}, ClusterObjectError, "invalid (422)"),
    "500": ({"status": 500}, ClusterUnreachableError, "fails (500)"),
    "401": ({"status": 401}, ClusterUnreachableError, "does not know you (401)"),
    "cut": ({"cut": True}, ClusterUnreachableError, "the connection broke"),
    "slow": ({"delay_s": 1}, ClusterUnreachableError, "no answer in time"),
}


@pytest.mark.parametrize("call", [GET, LIST, OPEN], ids=["service", "pods", "portforward"])
@pytest.mark.parametrize("fault", FAULTS)
def test_a_call_that_fails_is_named_and_nothing_is_left(
    wish: Wish, fake: FakeKubernetes, call: tuple[str, str], fault: str
) -> None:
    forward.down(wish.target)
    place = Place(wish.target.key)
    place.make()
    what, kind, words = FAULTS[fault]
    fake.fail(*call, **what)
    with pytest.raises(kind) as caught:
        start_here(Wish(wish.target, timeout_s=0.3), place)
    assert words in caught.value.message
    named = {
        GET: "get Service kubeflow/metadata-",
        LIST: "list Pods in",
        OPEN: "create pods/portforward kube",
    }
    assert named[call] in caught.value.message
    assert fake.token not in str(caught.value)
    assert caught.value.hint
    assert place.holder() is None
    assert place.read() is None


def start_here(wish: Wish, place: Place) -> None:
    """Do in this process what a forward's does first: another needs seconds to import kubernetes."""
    held, forwarder = _started(wish, place, 0)
    held.close()
    forwarder.close()


def test_what_a_process_cannot_do_is_raised_here(wish: Wish, fake: FakeKubernetes, state: Path) -> None:
    forward.down(wish.target)
    fake.fail(*OPEN, status=403)
    with pytest.raises(
        ClusterObjectError, match="get, create pods/portforward kubeflow/one: forbidden"
    ) as caught:
        forward.up(wish)
    assert caught.value.status == 403
    assert forward.find(wish.target) is None
    assert Place(wish.target.key).holder() is None
    assert "it cannot stand" in next(forward.log_lines(wish.target, tail=1))


def test_who_wanted_it_and_went_leaves_nothing(wish: Wish, state: Path) -> None:
    forward.down(wish.target)
    place = Place(wish.target.key)
    place.make()
    with subprocess.Popen(
        [sys.executable, "-m", "zen_mlmd.cluster.forwarder"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        cwd=ROOT,
    ) as process:
        assert process.stdin is not None
        with process.stdin as stdin:
            stdin.write(json.dumps({"wish": dataclasses.asdict(wish), "preferred": 0}).encode())
    soon(lambda: any("whoever wanted it has gone" in each for each in forward.log_lines(wish.target)), 20)
    soon(lambda: place.holder() is None)
    assert not list(state.glob("*.json"))


def test_a_process_that_ends_without_a_word(wish: Wish, monkeypatch: pytest.MonkeyPatch) -> None:
    forward.down(wish.target)
    monkeypatch.setattr(forward, "_CALLS", 0)
    monkeypatch.setattr(forward, "_START_S", 0.0)
    with pytest.raises(ForwardError, match="ended without a word, or needed more than 0 s") as caught:
        forward.up(wish)
    assert str(Place(wish.target.key).log) in caught.value.hint


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"port": 9999}, "has no port 9999; it has: 8080 (port-8080)"),
        ({"service": "gone"}, "there is no such object"),
        ({"namespace": "gone"}, "there is no such object"),
        ({"context": "gone"}, "there is no context 'gone'"),
        ({"service": "bare"}, "has no selector"),
        ({"service": "odd"}, "has no port of the name 'odd'"),
        ({"service": "alone"}, "no pod is ready: there is none"),
        ({"service": "slow"}, "no pod is ready: slow is Pending (ImagePullBackOff)"),
    ],
)
def test_a_target_that_is_not_there(
    wish: Wish, fake: FakeKubernetes, change: dict[str, Any], words: str
) -> None:
    fake.objects.create(
        "services", "kubeflow", {"metadata": {"name": "bare"}, "spec": {"ports": [{"port": 8080}]}}
    )
    fake.service("kubeflow", "odd", LABELS, {8080: "odd"})
    fake.service("kubeflow", "alone", {"app": "none"}, {8080: 8080})
    fake.service("kubeflow", "slow", {"app": "slow"}, {8080: 8080})
    containers = [{"name": "main", "image": "none"}]
    named = {"name": "slow", "labels": {"app": "slow"}}
    fake.objects.create("pods", "kubeflow", {"metadata": named, "spec": {"containers": containers}})
    fake.wait(lambda: fake.objects.get("pods", "kubeflow", "slow").get("status"))
    target = dataclasses.replace(wish.target, **change)
    place = Place(target.key)
    place.make()
    with pytest.raises(ZenMlmdError) as caught:
        start_here(Wish(target, timeout_s=2), place)
    assert words in caught.value.message
    assert isinstance(caught.value, ForwardError | ClusterObjectError | ConfigError)


def test_a_port_that_is_taken(wish: Wish, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(standing_, "_LOCK_S", 0.1)
    forward.down(wish.target)
    place = Place(wish.target.key)
    place.make()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ForwardError, match=f"{port}: cannot listen there: Address already in use"):
            start_here(Wish(wish.target, local_port=port), place)
        held, forwarder = _started(wish, place, port)  # one that is only preferred
    with held:
        assert forwarder.standing.port != port
        with pytest.raises(ForwardError, match="another process is this forward already"):
            place.hold()
    forwarder.close()


def test_a_process_that_is_no_forward_is_not_ended(wish: Wish, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forward, "_STOP_S", 0.1)
    forward.down(wish.target)
    place = Place(wish.target.key)
    place.make()
    # The lock is another container's, whose numbers of processes mean others here.
    with subprocess.Popen(["sleep", "60"]) as other, place.hold() as held:
        held.seek(0)
        held.truncate(0)
        held.write(str(other.pid).encode())
        with pytest.raises(ForwardError, match="does not end"):
            forward.down(wish.target)
        assert other.poll() is None
        other.kill()


def test_a_forward_is_ended_where_processes_have_no_descriptors(
    wish: Wish, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(os, "pidfd_open")  # as in builds of Python for older kernels
    assert greeted(forward.up(wish)) == b"one"
    assert forward.down(wish.target)
    assert Place(wish.target.key).holder() is None


def test_a_damaged_note_is_none(wish: Wish, state: Path) -> None:
    forward.down(wish.target)
    place = Place(wish.target.key)
    place.make()
    for text in ("", "[]", "{}", '{"wish": {"target": {}}}', "\xff"):
        place.state.write_text(text)
        assert forward.find(wish.target) is None


def test_a_state_folder_that_cannot_be_made(
    wish: Wish, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    forward.down(wish.target)
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "file"))
    assert not forward.down(wish.target)
    with pytest.raises(ConfigError, match="your state folder cannot be made: Not a directory"):
        forward.up(wish)


# -- the tunnel itself -----------------------------------------------------------------------------


@pytest.fixture
def secure(echoes: tuple[Echo, Echo]) -> Iterator[tuple[FakeKubernetes, trustme.CA]]:
    """An API server that speaks TLS, and wants a certificate of its clients."""
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    authority.configure_trust(context)
    context.verify_mode = ssl.CERT_REQUIRED
    fake = FakeKubernetes()
    fake._server.socket = context.wrap_socket(fake._server.socket, server_side=True)
    with fake:
        fake.namespace("kubeflow")
        fake.service("kubeflow", SERVICE, LABELS, {8080: 9000})
        pod(fake, "one", echoes[0].port)
        yield fake, authority


class Proxy(Echo):
    """An HTTP proxy that knows CONNECT alone, as is needed for TLS."""

    class Handler(socketserver.StreamRequestHandler):
        server: Proxy

        def handle(self) -> None:
            verb, address, _ = self.rfile.readline().split()
            while self.rfile.readline().strip():
                pass
            host, _, port = address.decode().partition(":")
            self.server.asked.append(verb)
            with socket.create_connection((host, int(port))) as there:
                self.wfile.write(b"HTTP/1.1 200 OK\r\n\r\n")
                back = threading.Thread(target=pump, args=(there, self.connection), daemon=True)
                back.start()
                pump(self.connection, there)
                back.join(10)

    def __init__(self) -> None:
        super().__init__(b"")
        self.RequestHandlerClass = self.Handler
        self.asked: list[bytes] = []


def pump(origin: socket.socket, to: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := origin.recv(2**16):
            to.sendall(data)
        to.shutdown(socket.SHUT_WR)


@pytest.fixture
def proxy() -> Iterator[Proxy]:
    with Proxy() as server:
        yield server
        server.shutdown()


@pytest.mark.filterwarnings("ignore:Unverified HTTPS request")
def test_an_api_server_that_speaks_tls(
    secure: tuple[FakeKubernetes, trustme.CA], proxy: Proxy, tmp_path: Path
) -> None:
    fake, authority = secure
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    trustme.CA().cert_pem.write_to_path(str(tmp_path / "other.pem"))
    own = authority.issue_cert("tester@example.com")
    own.private_key_and_cert_chain_pem.write_to_path(str(tmp_path / "own.pem"))
    path = fake.kubeconfig(tmp_path / "kubeconfig")
    settings = yaml.safe_load(path.read_text())
    settings["users"][0]["user"] |= {"client-certificate": "own.pem", "client-key": "own.pem"}

    def trusting(**cluster: Any) -> Way:
        url = fake.url.replace("http:", "https:")
        settings["clusters"][0]["cluster"] = {"server": url, **cluster}
        path.write_text(yaml.safe_dump(settings))
        return Way(Wish(Target(str(path), "tests", "kubeflow", SERVICE, 8080), timeout_s=5))

    pem = authority.cert_pem.bytes()
    for cluster in (
        {"certificate-authority": "ca.pem"},
        {"certificate-authority-data": base64.b64encode(pem).decode()},
        {"certificate-authority": "ca.pem", "proxy-url": f"http://127.0.0.1:{proxy.port}"},
        {"insecure-skip-tls-verify": True},
        {"certificate-authority": "ca.pem", "tls-server-name": "127.0.0.1"},
    ):
        tunnel, _ = trusting(**cluster).find()
        assert talked(tunnel, b"a" * 300_000) == b"one" + b"a" * 300_000
    assert len(proxy.asked) >= 2
    with pytest.raises(ClusterUnreachableError, match="no TLS connection"):
        trusting(**{"certificate-authority": "other.pem"}).find()


def test_credentials_of_a_plugin_are_asked_for_again(
    wish: Wish, fake: FakeKubernetes, tmp_path: Path
) -> None:
    path = fake.kubeconfig(tmp_path / "config")
    settings = yaml.safe_load(path.read_text())
    version = "client.authentication.k8s.io/v1"
    plugin = tmp_path / "plugin"
    given = tmp_path / "token"
    given.write_text("run out")
    answer = f'{{"apiVersion": "{version}", "kind": "ExecCredential", "status": {{"token": "%s"}}}}'
    plugin.write_text(f"#!/bin/sh\nprintf '{answer}' \"$(cat '{given}')\"\n")
    plugin.chmod(0o700)
    command = {"apiVersion": version, "command": str(plugin), "interactiveMode": "Never"}
    settings["users"][0]["user"] = {"exec": command}
    path.write_text(yaml.safe_dump(settings))
    way = Way(dataclasses.replace(wish, target=dataclasses.replace(wish.target, kubeconfig=str(path))))
    with pytest.raises(ClusterUnreachableError, match="does not know you"):
        way.find()
    given.write_text(fake.token)
    tunnel, _ = way.find()
    assert talked(tunnel, b"hello") == b"onehello"


def talked(tunnel: Tunnel, text: bytes) -> bytes:
    """Send a text through a tunnel; return as much more than it as the pod says first."""
    ours, theirs = socket.socketpair()
    carrier = threading.Thread(target=tunnel.carry, args=(theirs,))
    carrier.start()
    with theirs:
        with ours:
            threading.Thread(target=ours.sendall, args=(text,)).start()
            came = bytearray()
            while len(came) < len(text) + 3:
                came += ours.recv(2**20)
        carrier.join(10)
    return bytes(came)


def test_a_client_that_does_not_read_is_waited_for(wish: Wish) -> None:
    tunnel, _ = Way(wish).find()
    text = secrets.token_bytes(12 * 2**20)
    ours, theirs = socket.socketpair()
    endings: list[str | None] = []
    carrier = threading.Thread(target=lambda: endings.append(tunnel.carry(theirs)))
    carrier.start()
    with ours, theirs:
        threading.Thread(target=ours.sendall, args=(text,)).start()
        soon(lambda: len(tunnel._to_client) >= 2**20)
        time.sleep(0.1)
        assert len(tunnel._to_client) + len(tunnel._to_pod) < 3 * 2**20
        came = bytearray()
        while len(came) < len(text) + 3:
            came += ours.recv(2**20)
        assert bytes(came[3:]) == text
        ours.shutdown(socket.SHUT_WR)
        carrier.join(10)
    assert endings == [None]


def test_an_end_that_is_silent_is_asked_and_then_left(
    wish: Wish, fake: FakeKubernetes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tunnels, "PING_S", 0.05)
    monkeypatch.setattr(tunnels, "SILENCE_S", 0.3)
    tunnel, _ = Way(wish).find()
    ours, theirs = socket.socketpair()
    endings: list[str | None] = []
    carrier = threading.Thread(target=lambda: endings.append(tunnel.carry(theirs)))
    carrier.start()
    with ours, theirs:
        pings = fake.forwards.pings
        time.sleep(0.6)
        assert carrier.is_alive()  # it is answered
        assert fake.forwards.pings > pings + 2
        fake.forwards.mute = True
        carrier.join(10)
    assert endings == ["the connection broke: nothing was heard for 0.3 s"]
