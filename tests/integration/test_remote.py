"""Stores behind gRPC: every way to connect, and every way that fails."""

from __future__ import annotations

import contextlib
import functools
import http.server
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent import futures
from pathlib import Path

import grpc
import pytest
from ml_metadata.metadata_store import metadata_store
from ml_metadata.proto import metadata_store_service_pb2 as rpc

import zen_mlmd as zm
from tests.services import Certificates, free_port, make_certificates
from tests.services.grpc_server import GrpcServer
from zen_mlmd.errors import (
    ConfigError,
    ConnectionFailedError,
    ConnectionLostError,
    GrantMissingError,
    HostNotFoundError,
    NotMlmdError,
    RejectedRequestError,
    StoreError,
    TlsError,
    UnreachableError,
    ZenMlmdError,
)
from zen_mlmd.service.base import RESOURCE_EXHAUSTED, UNIMPLEMENTED
from zen_mlmd.service.remote import Endpoint, RemoteService

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GrpcServer]:
    with GrpcServer(tmp_path_factory.mktemp("plain") / "m.db") as server:
        yield server


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GrpcServer]:
    with GrpcServer(tmp_path_factory.mktemp("tls") / "m.db", tls=True) as server:
        yield server


@pytest.fixture(scope="module")
def mutual(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GrpcServer]:
    with GrpcServer(tmp_path_factory.mktemp("mutual") / "m.db", mutual_tls=True) as server:
        yield server


@pytest.fixture(scope="module")
def strangers(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """Certificates of an authority that no server here knows."""
    return make_certificates(tmp_path_factory.mktemp("strangers"))


def certificates(server: GrpcServer) -> Certificates:
    assert server.certificates is not None
    return server.certificates


def works(store: zm.Store) -> bool:
    """Record a run and read it back."""
    with store, store.record_run("churn") as run, run.step("train") as step:
        step.log_output("model", uri="s3://bucket/model")
    return store.get_run(run.name).status is zm.Status.COMPLETED


def refusal(kind: type[ZenMlmdError], attempt: Callable[[], object]) -> ZenMlmdError:
    with pytest.raises(kind) as caught:
        attempt()
    assert type(caught.value) is kind
    assert caught.value.hint
    return caught.value


# --- ways that work ---


@pytest.mark.parametrize("scheme", ["kubeflow", "grpc"])
def test_a_plain_server_is_reached_by_url(plain: GrpcServer, scheme: str) -> None:
    store = zm.open_store(f"{scheme}://{plain.address}")
    assert repr(store) == f"<Store kubeflow {plain.address}>"
    assert repr(store.loader.client.service) == f"<RemoteService grpc://{plain.address}>"
    assert works(store)


@pytest.mark.parametrize("url", ["grpcs://{0}?ca={1}", "kubeflow://{0}?tls=true&ca={1}", "grpc://{0}?ca={1}"])
def test_a_server_with_tls_is_reached_with_its_authority(tls: GrpcServer, url: str) -> None:
    store = zm.open_store(url.format(tls.address, certificates(tls).ca))
    assert store.loader.client.location == f"grpcs://{tls.address}"
    assert works(store)


def test_a_server_with_tls_is_known_by_each_of_its_names(tls: GrpcServer) -> None:
    assert works(zm.open_store(f"grpcs://localhost:{tls.port}?ca={certificates(tls).ca}"))


def test_a_server_that_wants_a_certificate_gets_one(mutual: GrpcServer) -> None:
    made = certificates(mutual)
    pair = f"certificate={made.client_cert}&key={made.client_key}"
    assert works(zm.open_store(f"grpcs://{mutual.address}?ca={made.ca}&{pair}"))


def test_a_token_and_request_metadata_are_sent_with_every_call(tmp_path: Path) -> None:
    required = {"authorization": "Bearer t0k=n !", "kubeflow-userid": "anna@example.com"}
    with GrpcServer(tmp_path / "m.db", require_metadata=required) as server:
        config = zm.KubeflowConfig(
            port=server.port, token="t0k=n !", metadata={"Kubeflow-UserId": "anna@example.com"}
        )
        assert works(zm.open_store(config))
        for wrong in (
            {"token": "t0k=n !"},
            {"metadata": {"kubeflow-userid": "anna@example.com"}},
            {"token": "t0k=n", "metadata": {"kubeflow-userid": "anna@example.com"}},
        ):
            other = zm.KubeflowConfig(port=server.port, **wrong)
            error = refusal(GrantMissingError, lambda other=other: zm.open_store(other))  # type: ignore[misc]
            assert "give the token or request metadata" in error.hint


def test_mlmds_own_client_takes_the_connection_config(
    plain: GrpcServer, tls: GrpcServer, mutual: GrpcServer
) -> None:
    pair = f"certificate={certificates(mutual).client_cert}&key={certificates(mutual).client_key}"
    for url in (
        f"kubeflow://{plain.address}",
        f"grpcs://{tls.address}?ca={certificates(tls).ca}",
        f"grpcs://{mutual.address}?ca={certificates(mutual).ca}&{pair}",
    ):
        with zm.open_store(url) as store:
            assert works(store)
            theirs = metadata_store.MetadataStore(store.connection_config())
            names = [context.name for context in theirs.get_contexts_by_type("pipeline")]
            assert names == [pipeline.name for pipeline in store.pipelines]


def test_a_closed_service_connects_again(plain: GrpcServer) -> None:
    service = zm.KubeflowConfig(port=plain.port).open_service()
    before = service._channel
    service.close()
    service.close()
    assert service._channel is None
    service.call("GetContextTypes", rpc.GetContextTypesRequest())
    assert service._channel is not before
    service.close()


def test_an_ipv6_address_stands_in_brackets() -> None:
    endpoint = Endpoint(host="::1", port=8080, tls=True)
    assert endpoint.target == "[::1]:8080"
    assert RemoteService(endpoint).location == "grpcs://[::1]:8080"
    assert zm.KubeflowConfig(host="::1").location == "[::1]:8080"


# --- TLS that cannot be had ---


def test_a_server_of_another_authority_is_refused(tls: GrpcServer, strangers: Certificates) -> None:
    error = refusal(TlsError, lambda: zm.open_store(f"grpcs://{tls.address}?ca={strangers.ca}"))
    assert "CERTIFICATE_VERIFY_FAILED" in error.message
    assert "is `ca` the one that signed its certificate" in error.hint


def test_a_server_of_a_private_authority_is_refused_without_it(tls: GrpcServer) -> None:
    refusal(TlsError, lambda: zm.open_store(f"grpcs://{tls.address}"))


def test_tls_wanted_from_a_plain_server_is_never_a_plain_connection(plain: GrpcServer) -> None:
    error = refusal(TlsError, lambda: zm.open_store(f"grpcs://{plain.address}"))
    assert "does the server speak TLS" in error.hint


def test_a_plain_connection_to_a_server_with_tls_is_told(tls: GrpcServer) -> None:
    error = refusal(UnreachableError, lambda: zm.open_store(f"kubeflow://{tls.address}"))
    assert "closes the connection" in error.message
    assert error.hint == "it may want TLS (tls=true)"


@pytest.mark.parametrize("shown", ["none", "stranger"])
def test_a_client_without_the_right_certificate_is_told(
    mutual: GrpcServer, strangers: Certificates, shown: str
) -> None:
    url = f"grpcs://{mutual.address}?ca={certificates(mutual).ca}"
    if shown == "stranger":
        url += f"&certificate={strangers.client_cert}&key={strangers.client_key}"
    with pytest.raises((TlsError, UnreachableError)) as caught:
        zm.open_store(url)
    assert "client certificate" in caught.value.hint


def test_files_that_hold_no_certificate_are_told(tls: GrpcServer, tmp_path: Path) -> None:
    junk = tmp_path / "junk.pem"
    junk.write_text("junk")
    refusal(TlsError, lambda: zm.open_store(f"grpcs://{tls.address}?ca={junk}"))
    pair = f"ca={certificates(tls).ca}&certificate={junk}&key={junk}"
    refusal(TlsError, lambda: zm.open_store(f"grpcs://{tls.address}?{pair}"))
    missing = tmp_path / "missing.pem"
    error = refusal(ConfigError, lambda: zm.open_store(f"grpcs://{tls.address}?ca={missing}"))
    assert str(missing) in error.message
    refusal(ConfigError, lambda: zm.KubeflowConfig(ca=str(missing)).connection_config())


# --- limits ---


@pytest.fixture(scope="module")
def narrow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GrpcServer]:
    with GrpcServer(tmp_path_factory.mktemp("narrow") / "m.db", max_message=20_000) as server:
        yield server


def test_a_message_above_the_servers_limit_is_told(narrow: GrpcServer) -> None:
    with zm.open_store(f"kubeflow://{narrow.address}") as store:
        error = refusal(
            StoreError, lambda: store.import_artifact("s3://b/rows", properties={"note": "x" * 30_000})
        )
        assert isinstance(error, StoreError)
        assert error.mlmd_code == RESOURCE_EXHAUSTED
        assert "raise max_message_bytes" in error.hint
        assert works(store)


def test_a_message_above_our_own_limit_is_told(narrow: GrpcServer) -> None:
    with zm.open_store(f"kubeflow://{narrow.address}") as store:
        for _ in range(5):
            store.import_artifact("s3://b/rows", properties={"note": "x" * 1_000}, reimport=True)
    config = zm.KubeflowConfig(port=narrow.port, max_message_bytes=3_000)
    with zm.open_store(config) as store:
        sent = refusal(
            StoreError, lambda: store.import_artifact("s3://b/rows", properties={"note": "x" * 4_000})
        )
        received = refusal(StoreError, lambda: list(store.artifacts))
    for error in (sent, received):
        assert isinstance(error, StoreError)
        assert error.mlmd_code == RESOURCE_EXHAUSTED


def test_answers_larger_than_grpcs_own_limit_arrive(tmp_path: Path) -> None:
    with (
        GrpcServer(tmp_path / "m.db", max_message=2**24) as server,
        zm.open_store(f"kubeflow://{server.address}") as store,
    ):
        for _ in range(6):
            store.import_artifact("s3://b/rows", properties={"note": "x" * 2**20}, reimport=True)
        assert sum(len(each.properties["note"]) for each in store.artifacts) == 6 * 2**20
        small = zm.KubeflowConfig(port=server.port, max_message_bytes=4 * 2**20)
        refusal(StoreError, lambda: list(zm.open_store(small).artifacts))


def test_requests_are_checked_before_they_are_sent(plain: GrpcServer) -> None:
    """An unset value would end the server's process."""
    with zm.KubeflowConfig(port=plain.port).open_service() as service:
        request = rpc.PutArtifactsRequest()
        request.artifacts.add().custom_properties["x"].SetInParent()
        refusal(RejectedRequestError, lambda: service.call("PutArtifacts", request))
        service.call("GetContextTypes", rpc.GetContextTypesRequest())


# --- nothing, or something else, listens there ---


def test_a_closed_port_is_told() -> None:
    error = refusal(UnreachableError, lambda: zm.open_store(f"kubeflow://127.0.0.1:{free_port()}"))
    assert "nothing answers there" in error.message
    assert "zen-mlmd metadata-store up" in error.hint


def test_an_unknown_host_is_told() -> None:
    error = refusal(HostNotFoundError, lambda: zm.open_store("kubeflow://no-such-host.invalid:8080"))
    assert "does not resolve" in error.message


def test_an_http_server_is_told() -> None:
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Quiet) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            config = zm.KubeflowConfig(port=server.server_port, timeout_s=5)
            error = refusal(NotMlmdError, lambda: zm.open_store(config))
        finally:
            server.shutdown()
            thread.join()
    assert "something else than a gRPC server" in error.message


@contextlib.contextmanager
def other_server() -> Iterator[int]:
    """A gRPC server that knows no call."""
    server = grpc.server(futures.ThreadPoolExecutor(1))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield port
    finally:
        server.stop(None).wait()


def test_another_grpc_server_is_told() -> None:
    with other_server() as port:
        error = refusal(NotMlmdError, lambda: zm.open_store(f"grpc://127.0.0.1:{port}"))
    assert "no MLMD server" in error.message


@pytest.mark.parametrize("scheme", ["grpc", "grpcs"])
def test_a_listener_that_says_nothing_is_given_up_in_time(scheme: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        started = time.monotonic()
        url = f"{scheme}://127.0.0.1:{listener.getsockname()[1]}?timeout_s=0.5"
        error = refusal(UnreachableError, lambda: zm.open_store(url))
        assert time.monotonic() - started < 2
    assert "no answer within 0.5 s" in error.message


def test_a_call_that_no_server_has_is_told(plain: GrpcServer) -> None:
    with zm.KubeflowConfig(port=plain.port).open_service() as service:
        made_up = refusal(StoreError, lambda: service.call("Frobnicate", None))
        missing = refusal(StoreError, lambda: service.call("GetLineageGraph", rpc.GetLineageGraphRequest()))
    for error in (made_up, missing):
        assert isinstance(error, StoreError)
        assert error.mlmd_code == UNIMPLEMENTED


# --- a server that goes away ---


def test_a_call_that_takes_too_long_counts_as_lost(grpc_server: GrpcServer) -> None:
    service = zm.KubeflowConfig(port=grpc_server.port, timeout_s=0.5).open_service()
    assert grpc_server._process is not None
    pid = grpc_server._process.pid
    os.kill(pid, signal.SIGSTOP)
    os.waitid(os.P_PID, pid, os.WSTOPPED)  # a signal is sent at once, and obeyed soon
    try:
        started = time.monotonic()
        error = refusal(
            ConnectionLostError, lambda: service.call("GetContextTypes", rpc.GetContextTypesRequest())
        )
        assert 0.4 < time.monotonic() - started < 2
    finally:
        os.kill(pid, signal.SIGCONT)
    assert "timeout_s" in error.hint
    service.close()


def test_a_server_that_ends_is_told_and_found_again(grpc_server: GrpcServer) -> None:
    service = zm.KubeflowConfig(port=grpc_server.port, timeout_s=10).open_service()
    request = rpc.GetContextTypesRequest()
    grpc_server.kill()
    for _ in range(2):
        with pytest.raises((UnreachableError, ConnectionLostError)) as gone:
            service.call("GetContextTypes", request)
        assert gone.value.hint
    grpc_server.start()
    deadline = time.monotonic() + 10
    while True:
        try:
            service.call("GetContextTypes", request)
            break
        except ConnectionFailedError:
            assert time.monotonic() < deadline
            time.sleep(0.05)
    service.close()


def test_trouble_with_an_address_that_worked_before_is_taken_for_passing() -> None:
    """A name server's hiccup must not end a recording: what is unreachable is asked again."""
    service = RemoteService(Endpoint(host="mlmd.example.com", port=8080))
    text = "DNS resolution failed for mlmd.example.com: Timeout while contacting DNS servers"
    before = service._unavailable(text, text.lower(), "GetArtifacts")
    service._reached = True
    after = service._unavailable(text, text.lower(), "GetArtifacts")
    assert type(before) is HostNotFoundError
    assert isinstance(after, ConnectionLostError | UnreachableError)


@pytest.mark.parametrize("host", ["tls-gateway.invalid", "ssl.certificate.invalid", "http2.invalid"])
def test_a_name_that_does_not_resolve_is_told_whatever_words_it_holds(host: str) -> None:
    error = refusal(HostNotFoundError, lambda: zm.open_store(f"kubeflow://{host}:8080?wait_s=0&timeout_s=5"))
    assert host in error.message
    service = RemoteService(Endpoint(host=host, port=8080))
    service._reached = True
    text = f"DNS resolution failed for {host}:8080: Timeout while contacting DNS servers"
    assert type(service._unavailable(text, text.lower(), "GetArtifacts")) is ConnectionLostError


def test_closing_in_the_middle_of_other_threads_calls_is_no_error_of_grpcs(plain: GrpcServer) -> None:
    store = zm.open_store(f"kubeflow://{plain.address}")
    until = time.monotonic() + 2

    def work() -> int:
        done = 0
        while time.monotonic() < until:
            with contextlib.suppress(ConnectionLostError):  # after wait_s of nothing but closing
                with store.record_run("closing") as run, run.step("train"):
                    pass
                done += 1
        return done

    with futures.ThreadPoolExecutor(3) as pool:
        workers = [pool.submit(work) for _ in range(3)]
        while time.monotonic() < until:
            store.close()
            time.sleep(0.001)
        assert sum(worker.result() for worker in workers) > 0
    store.close()


def test_ids_are_asked_anew_of_a_server_that_was_seen_away(tmp_path: Path) -> None:
    """It may have another database than before."""
    with GrpcServer(tmp_path / "m.db") as server:
        store = zm.open_store(f"kubeflow://{server.address}")
        ask = functools.partial(
            store.loader.client.service.call, "GetContextTypes", rpc.GetContextTypesRequest()
        )
        with store.record_run("p") as run, run.step("s", type="test.Mine") as step:
            step.log_output("x", type="Mine")
        server.kill()
        (tmp_path / "m.db").unlink()
        with pytest.raises(ConnectionFailedError):
            ask()
        server.start()
        store.loader.client.read("GetContextTypes", rpc.GetContextTypesRequest())  # waits for it
        with zm.open_store(f"kubeflow://{server.address}") as other, other.record_run("q") as run:
            run.step("t", type="test.Theirs").end()
        with store.record_run("p", name="r") as run, run.step("s", type="test.Mine") as step:
            made = step.log_output("x", type="Mine")
        assert store.get_artifact(made.id).type == "Mine"
        assert store.get_run("r")["s"].record.type == "test.Mine"
        store.close()


# --- forks ---

FORK = """
import os, sys
import zen_mlmd as zm

store = zm.open_store(sys.argv[1])
def record(name):
    with store.record_run("churn", name=name) as run, run.step("train"):
        pass

record("before")
children = []
for number in range(2):
    pid = os.fork()
    if not pid:
        try:
            if number:
                store.close()
            record(f"child{number}")
            os._exit(0)
        finally:
            os._exit(1)
    children.append(pid)
record("parent")
assert [os.waitpid(pid, 0)[1] for pid in children] == [0, 0]
record("after")
print(sorted(run.name for run in store.runs))
"""


def test_forks_record_side_by_side(grpc_server: GrpcServer) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FORK, f"kubeflow://{grpc_server.address}"],
        capture_output=True,
        check=False,
        text=True,
        cwd=ROOT,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "['after', 'before', 'child0', 'child1', 'parent']\n"


def test_a_fork_leaves_its_parents_channel_alone(plain: GrpcServer) -> None:
    """What the fork hook does, without a fork: gRPC's threads do not like one in a test process."""
    service = zm.KubeflowConfig(port=plain.port).open_service()
    inherited = service._channel
    service._after_fork()
    assert service._channel is None
    service.call("GetContextTypes", rpc.GetContextTypesRequest())
    assert service._channel is not inherited
    service._after_fork()
    service._after_fork()
    service.close()
