"""How a cluster is found and asked, and what its refusals mean."""

from __future__ import annotations

import json
import os
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme
import yaml

from tests.kubernetes.answering import CANARY, Answering, answering, write_kubeconfig
from tests.services import free_port
from zen_mlmd.cluster import Cluster, access, asking, connect
from zen_mlmd.errors import (
    ClusterObjectError,
    ClusterUnreachableError,
    ConfigError,
    MissingExtraError,
    ZenMlmdError,
)


@pytest.fixture
def server() -> Iterator[Answering]:
    with answering() as made:
        yield made


def cluster_at(folder: Path, url: str, timeout_s: float = 5.0) -> Cluster:
    return connect(kubeconfig=str(write_kubeconfig(folder / "config", url)), timeout_s=timeout_s)


def read(cluster: Cluster, kind: str = "Service") -> Any:
    with asking(cluster, "get", kind, "metadata-grpc-service", "kubeflow"):
        if kind == "Secret":
            return cluster.core.read_namespaced_secret("metadata-grpc-service", "kubeflow")
        return cluster.core.read_namespaced_service("metadata-grpc-service", "kubeflow")


def refused(server: Answering, folder: Path, status: int, kind: str = "Service", **body: Any) -> ZenMlmdError:
    server.status, server.body = status, json.dumps({"kind": "Status", **body}).encode()
    with pytest.raises(ZenMlmdError) as caught:
        read(cluster_at(folder, server.url), kind)
    assert CANARY not in str(caught.value)
    return caught.value


def test_a_call_goes_out_with_the_contexts_token(server: Answering, tmp_path: Path) -> None:
    server.body = json.dumps({"kind": "Service", "metadata": {"name": "it"}}).encode()
    cluster = cluster_at(tmp_path, server.url)
    assert read(cluster).metadata.name == "it"
    assert server.headers[0]["authorization"] == f"Bearer {CANARY}"
    assert (cluster.inside, cluster.namespace, cluster.context) == (False, "kubeflow", "here")
    assert cluster.server == server.url
    assert CANARY not in repr(cluster)


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (403, "forbidden"),
        (404, "no such object"),
        (409, "exists already"),
        (422, "invalid"),
        (400, "refused"),
    ],
)
def test_a_refusal_names_the_object_and_the_reason(
    server: Answering, tmp_path: Path, status: int, words: str
) -> None:
    error = refused(server, tmp_path, status, message="because\nso", reason="Because")
    assert isinstance(error, ClusterObjectError)
    assert (error.status, error.reason) == (status, "Because")
    assert "get Service kubeflow/metadata-grpc-service: " in error.message
    assert words in error.message
    assert error.message.endswith(f"({status}): because so")
    assert "context here" in error.message
    assert error.hint


@pytest.mark.parametrize(("status", "words"), [(401, "does not know you"), (500, "fails"), (429, "fails")])
def test_a_server_that_fails_or_does_not_know_us_is_not_reached(
    server: Answering, tmp_path: Path, status: int, words: str
) -> None:
    error = refused(server, tmp_path, status, message="oh")
    assert isinstance(error, ClusterUnreachableError)
    assert error.status == status
    assert words in error.message


def test_of_a_secret_no_value_is_told(server: Answering, tmp_path: Path) -> None:
    error = refused(
        server,
        tmp_path,
        422,
        "Secret",
        message="data[password]: Invalid value: hunter2",
        reason="Invalid",
        details={
            "causes": [{"field": "data[password]", "reason": "FieldValueInvalid", "message": "hunter2"}]
        },
    )
    assert "hunter2" not in str(error)
    assert error.message.endswith("Invalid, data[password] (FieldValueInvalid)")


def test_a_proxys_page_is_no_answer(server: Answering, tmp_path: Path) -> None:
    server.status, server.body = 502, b"<html>Bad gateway</html>"
    with pytest.raises(ClusterUnreachableError, match=r"fails \(502\): it does not say why"):
        read(cluster_at(tmp_path, server.url))


@pytest.mark.parametrize("body", [b"<html>", b"[]"])
def test_an_answer_that_is_none_of_an_api_server(server: Answering, tmp_path: Path, body: bytes) -> None:
    server.body = body
    cluster = cluster_at(tmp_path, server.url)
    words = r"no JSON|connection broke \(ConnectionError\)"
    with pytest.raises(ClusterUnreachableError, match=words), asking(cluster, "list", "Pods", "", "kubeflow"):
        cluster.get("/api/v1/namespaces/kubeflow/pods")


def test_nobody_waits_longer_than_was_said(server: Answering, tmp_path: Path) -> None:
    server.delay_s = 3
    cluster = cluster_at(tmp_path, server.url, timeout_s=0.2)
    assert cluster.core  # which takes long to import
    began = time.monotonic()
    with pytest.raises(ClusterUnreachableError, match="no answer in time"):
        read(cluster)
    assert time.monotonic() - began < 2.5


def test_nothing_there_a_broken_connection_and_no_tls(tmp_path: Path) -> None:
    with pytest.raises(ClusterUnreachableError, match="nothing answers there"):
        read(cluster_at(tmp_path, f"http://127.0.0.1:{free_port()}"))
    with pytest.raises(ClusterUnreachableError, match="no TLS connection"), answering() as plain:
        read(cluster_at(tmp_path, plain.url.replace("http:", "https:")))
    with pytest.raises(ClusterUnreachableError, match=r"does not resolve|nothing answers"):
        read(cluster_at(tmp_path, "http://no-such-host.invalid"))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        cluster = cluster_at(tmp_path, f"http://127.0.0.1:{listener.getsockname()[1]}", timeout_s=0.2)
        with pytest.raises(ClusterUnreachableError, match="no answer in time"):
            read(cluster)


def test_what_is_no_answer_of_the_api_is_raised_as_it_is(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), asking(cluster_at(tmp_path, "http://x"), "get", "Service"):
        _ = 1 / 0


# -- which cluster ---------------------------------------------------------------------------------


def test_the_first_current_context_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = write_kubeconfig(tmp_path / "first", "http://one", context="one", namespace="n1")
    second = write_kubeconfig(tmp_path / "second", "http://two", context="two", namespace="n2")
    absent = tmp_path / "absent"
    monkeypatch.setenv("KUBECONFIG", os.pathsep.join(map(str, (absent, first, second))))
    cluster = connect()
    assert (cluster.context, cluster.namespace) == ("one", "n1")
    assert connect(context="two").context == "two"
    assert connect(kubeconfig=str(second)).namespace == "n2"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "there is no such kubeconfig"),
        ("", "holds no mapping"),
        (f"a: [{CANARY}", "is no YAML"),
        ("a: 1", "no current context"),
        ("current-context: gone\ncontexts: []", "no context 'gone'|Invalid"),
        (
            yaml.safe_dump(
                {
                    "current-context": "c",
                    "contexts": [{"name": "c", "context": {"cluster": "x", "user": "y"}}],
                    "clusters": [],
                    "users": [],
                }
            ),
            "Expected|Invalid",
        ),
        (f"current-context: c\ncontexts: {CANARY}", "cannot be read|Invalid"),
    ],
)
def test_a_kubeconfig_that_cannot_be_used(tmp_path: Path, content: str | None, words: str) -> None:
    path = tmp_path / "config"
    if content is not None:
        path.write_text(content)
    with pytest.raises(ConfigError, match=words) as caught:
        connect(kubeconfig=str(path))
    assert str(path) in caught.value.message
    assert CANARY not in str(caught.value)


def test_a_context_that_is_not_there(tmp_path: Path) -> None:
    path = write_kubeconfig(tmp_path / "config", "http://one")
    with pytest.raises(ConfigError, match="there is no context 'there'; there are: here"):
        connect(kubeconfig=str(path), context="there")
    path.chmod(0)
    if os.geteuid():
        with pytest.raises(ConfigError, match="Permission denied"):
            connect(kubeconfig=str(path))


@pytest.fixture
def pod(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What Kubernetes puts into a pod."""
    monkeypatch.setattr(access, "SERVICE_ACCOUNT", tmp_path)
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "1")
    (tmp_path / "token").write_text(CANARY)
    (tmp_path / "namespace").write_text("team-a\n")
    trustme.CA().cert_pem.write_to_path(str(tmp_path / "ca.crt"))
    return tmp_path


@pytest.mark.usefixtures("pod")
def test_a_pod_means_its_own_cluster(tmp_path: Path) -> None:
    cluster = connect()
    assert (cluster.inside, cluster.namespace, cluster.context) == (True, "team-a", "")
    assert cluster.server == "https://127.0.0.1:1"
    path = write_kubeconfig(tmp_path / "config", "http://one")
    assert not connect(kubeconfig=str(path)).inside


def test_a_pod_that_lacks_what_it_needs(pod: Path) -> None:
    (pod / "namespace").unlink()
    assert connect().namespace == "default"
    (pod / "ca.crt").unlink()
    with pytest.raises(ConfigError, match="incomplete: Service certification file"):
        connect()


def test_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "kubernetes.client", None)
    with pytest.raises(MissingExtraError, match=r"zen-mlmd\[kubernetes\]"):
        connect()
