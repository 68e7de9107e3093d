"""A Kubeflow installation's metadata server, from outside its cluster and from a pod of it."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import shlex
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme
import yaml

import zen_mlmd as zm
from tests.services import free_port
from tests.services.grpc_server import GrpcServer
from tests.services.kubernetes import FakeKubernetes
from zen_mlmd.cli.main import main
from zen_mlmd.cluster import access
from zen_mlmd.cluster.standing import Place
from zen_mlmd.errors import ClusterObjectError, ConfigError, ForwardError, UsageError
from zen_mlmd.flavors import config_from_url, lifecycle
from zen_mlmd.service.finding import Thresholds

ROOT = Path(__file__).resolve().parents[2]
SERVICE = "metadata-grpc-service"
LABELS = {"component": "metadata-grpc-server"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GrpcServer]:
    """An MLMD server with a pipeline in its database."""
    path = tmp_path_factory.mktemp("server") / "metadata.db"
    with zm.open_store(path) as store:
        store.record_run("churn", name="monday").end()
    with GrpcServer(path) as running:
        yield running


@pytest.fixture
def config(fake: FakeKubernetes, server: GrpcServer, kubeconfig: Path, state: Path) -> zm.KubeflowConfig:
    """A store that is the Service of a Kubeflow installation, whose one pod answers."""
    fake.service("kubeflow", SERVICE, LABELS, {8080: 8080})
    pod(fake, "one", server.port)
    return zm.KubeflowConfig(kubeconfig=str(kubeconfig), timeout_s=5, wait_s=10)


def pod(fake: FakeKubernetes, name: str, local_port: int) -> None:
    fake.pod("kubeflow", name, LABELS, {8080: local_port})
    fake.wait(lambda: fake.objects.get("pods", "kubeflow", name).get("status"))


@pytest.fixture
def shell(
    config: zm.KubeflowConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fake: FakeKubernetes
) -> Callable[..., str]:
    """Runs a command of zen-mlmd where that store is known as `prod`; returns all that it printed."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))

    def run(*command: str, code: int = 0) -> str:
        out = io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
            assert main(command) == code, out.getvalue()
        assert fake.token not in out.getvalue()
        return out.getvalue()

    settings = ["--kubeconfig", config.kubeconfig, "--timeout-s", "5", "--wait-s", "10"]
    run("metadata-store", "register", "prod", "--flavor", "kubeflow", *settings)
    return run


def target(config: zm.KubeflowConfig) -> Place:
    return Place(config.server.target().key)


def test_a_way_is_opened_used_and_closed(
    shell: Callable[..., str],
    config: zm.KubeflowConfig,
    fake: FakeKubernetes,
    server: GrpcServer,
    state: Path,
) -> None:
    assert "[ZM214] " in shell("--store", "prod", "pipelines", "list", code=1)
    assert json.loads(shell("metadata-store", "status", "prod", "-o", "json", code=1))["state"] == "down"

    told = shell("metadata-store", "up", "prod")
    assert "opening a forward to Service kubeflow/metadata-grpc-service:8080 (context tests)" in told
    assert "asking the server at 127.0.0.1:" in told
    assert "state    up" in told
    assert "churn" in shell("--store", "prod", "pipelines", "list")
    before = json.loads(shell("metadata-store", "status", "prod", "-o", "json"))
    assert (before["name"], before["pod"], before["restarts"]) == ("prod", "one:8080", 0)
    assert "it knows " in before["answer"]
    assert before["since"].startswith("20")
    assert shell("metadata-store", "status", "prod", "-o", "csv").startswith("name,state,what,address,")

    # What is open goes on through another pod's server.
    with zm.open_store(config) as store, GrpcServer(server.sqlite) as other:
        assert [each.name for each in store.pipelines] == ["churn"]
        server.kill()
        fake.objects.delete("pods", "kubeflow", "one", {})
        fake.wait(lambda: fake.objects.find("pods", "kubeflow", "one") is None)
        threading.Timer(0.5, pod, (fake, "two", other.port)).start()
        assert [each.name for each in store.list_runs()] == ["monday"]
        now = json.loads(shell("metadata-store", "status", "prod", "-o", "json"))
        assert (now["address"], now["pod"]) == (before["address"], "two:8080")
        assert now["restarts"] >= 1

        pid = target(config).holder()
        assert pid
        os.kill(pid, signal.SIGKILL)
        while target(config).holder():
            time.sleep(0.01)
        gone = json.loads(shell("metadata-store", "status", "prod", "-o", "json", code=1))
        assert (gone["state"], gone["remedy"]) == ("broken", "`zen-mlmd metadata-store up prod` opens it")
        assert "process of its forward is gone" in gone["answer"]
        shell("stack", "register", "s", "-m", "prod", "-a", "default", "-o", "default")
        shell("stack", "up", "s")
        again = json.loads(shell("metadata-store", "status", "prod", "-o", "json"))
        assert again["address"] == before["address"]
        assert [each.name for each in store.list_runs()] == ["monday"]
    server.start()

    assert "one:8080 has ended a connection" in shell("metadata-store", "logs", "prod")
    assert shell("metadata-store", "logs", "prod", "--tail", "2").count("\n") == 2
    for down in (("stack", "down", "s"), ("metadata-store", "down", "prod")):
        assert shell(*down).endswith("(context tests): down\n")
    assert not list(state.glob("*.json"))
    kept = b"".join(each.read_bytes() for each in state.iterdir())
    assert b"listening on" in kept
    assert fake.token.encode() not in kept


def test_the_page_works_as_it_stands_and_its_role_suffices(
    config: zm.KubeflowConfig,
    shell: Callable[..., str],
    fake: FakeKubernetes,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    page = (ROOT / "docs" / "kubernetes.md").read_text("utf-8").partition("## The metadata server of")[2]
    commands, role = (re.findall(rf"```{kind}\n(.*?)```", page, re.DOTALL)[0] for kind in ("console", "yaml"))
    monkeypatch.setenv("KUBECONFIG", config.kubeconfig)
    shell("metadata-store", "delete", "prod")
    fake.calls.clear()
    told = [shell(*shlex.split(line)[1:]) for line in commands.splitlines()]
    assert "churn" in told[2]
    assert "state    up" in told[3]
    allowed = {
        (verb, resource)
        for rule in yaml.safe_load(role)["rules"]
        for verb in rule["verbs"]
        for resource in rule["resources"]
    }
    assert allowed == {(call.verb, call.resource) for call in fake.calls} | {("create", "pods/portforward")}


def test_what_does_not_answer_is_not_up_and_leaves_nothing(
    config: zm.KubeflowConfig, fake: FakeKubernetes, state: Path
) -> None:
    lifecycle.down(config)
    fake.fail("get", "pods/portforward", status=403)
    with pytest.raises(ClusterObjectError, match="get, create pods/portforward kubeflow/one: forbidden"):
        lifecycle.up(config)
    fake.objects.delete("pods", "kubeflow", "one", {})
    fake.wait(lambda: fake.objects.find("pods", "kubeflow", "one") is None)
    pod(fake, "wrong", free_port())
    # What the forward heard, or what the client saw of it: whichever came last.
    said = "connection refused|closes the connection at once"
    with pytest.raises(ForwardError, match=said) as caught:
        lifecycle.up(config.model_copy(update={"timeout_s": 1.0}), "prod")
    assert caught.value.hint == "`zen-mlmd metadata-store logs prod` tells what happened"
    assert not list(state.glob("*.json"))
    assert target(config).holder() is None
    assert lifecycle.status(config).state == "down"


def test_one_that_fails_later_says_so_and_stays(config: zm.KubeflowConfig, fake: FakeKubernetes) -> None:
    quick = config.model_copy(update={"timeout_s": 0.6})
    assert lifecycle.up(quick, "prod").is_up
    fake.objects.delete("pods", "kubeflow", "one", {})
    fake.wait(lambda: fake.objects.find("pods", "kubeflow", "one") is None)
    fake.forwards.cut()
    found = lifecycle.status(quick, "prod")
    assert found.state == "failing"
    assert "the forward says: " in found.answer
    assert "no pod is ready: there is none" in found.answer
    for opened in (lambda: lifecycle.up(quick, "prod"), quick.open_service):
        with pytest.raises(ForwardError, match="no pod is ready: there is none"):
            opened()
    assert target(config).holder()  # it stood before, and waits for the server to come back
    assert lifecycle.down(quick, "prod").state == "down"


def test_a_server_that_speaks_tls_is_checked_by_its_services_name(
    config: zm.KubeflowConfig, fake: FakeKubernetes, server: GrpcServer, tmp_path: Path
) -> None:
    authority = trustme.CA()
    with GrpcServer(tmp_path / "tls.db", tls=True) as secure:
        secure.stop()
        assert secure.certificates is not None
        issued = authority.issue_cert("metadata-grpc-service.kubeflow")
        issued.private_key_pem.write_to_path(str(secure.certificates.server_key))
        issued.cert_chain_pems[0].write_to_path(str(secure.certificates.server_cert))
        authority.cert_pem.write_to_path(str(secure.certificates.ca))
        secure.start()
        fake.objects.delete("pods", "kubeflow", "one", {})
        fake.wait(lambda: fake.objects.find("pods", "kubeflow", "one") is None)
        pod(fake, "secure", secure.port)
        encrypted = config.model_copy(update={"tls": True, "ca": str(secure.certificates.ca)})
        assert lifecycle.up(encrypted).is_up
        assert not {each.code for each in encrypted.examine_way(Thresholds())} & {"certificate-name"}
        direct = zm.KubeflowConfig(port=secure.port, ca=str(secure.certificates.ca), timeout_s=1)
        assert "no TLS connection" in lifecycle.status(direct).answer
    lifecycle.down(config)


# -- from a pod ------------------------------------------------------------------------------------


def test_a_pod_finds_the_server_by_what_it_is_told(
    server: GrpcServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.setenv("METADATA_GRPC_SERVICE_HOST", "127.0.0.1")
    monkeypatch.setenv("METADATA_GRPC_SERVICE_PORT", str(server.port))
    with zm.open_store("kubeflow://") as store:
        assert [each.name for each in store.pipelines] == ["churn"]
    config = zm.KubeflowConfig()
    for found in (lifecycle.status(config, "prod"), lifecycle.up(config, "prod")):
        assert (found.state, found.address, found.pod) == ("up", f"127.0.0.1:{server.port}", "")
    for call in (lifecycle.down, lifecycle.logs):
        with pytest.raises(UsageError, match="nothing was opened for it"):
            call(config, "prod")
    assert not list(tmp_path.iterdir())
    monkeypatch.setenv("METADATA_GRPC_SERVICE_PORT", "http")
    with pytest.raises(ConfigError, match="METADATA_GRPC_SERVICE_PORT is no port: 'http'"):
        config.address()


def test_a_pod_finds_the_server_by_its_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("METADATA_GRPC_SERVICE_HOST", raising=False)
    monkeypatch.setattr(access, "SERVICE_ACCOUNT", tmp_path)
    (tmp_path / "token").write_text("t")
    assert zm.KubeflowConfig().address() == ("metadata-grpc-service.kubeflow", 8080)
    (tmp_path / "token").unlink()
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")  # it may not ask the API
    message = zm.KubeflowConfig(namespace="team", service="mlmd").connection_config()
    assert (message.host, message.port) == ("mlmd.team", 8080)
    monkeypatch.setenv("METADATA_GRPC_SERVICE_HOST", "elsewhere")  # what is said counts before what is told
    assert zm.KubeflowConfig(namespace="team").address() == ("metadata-grpc-service.team", 8080)
    assert zm.KubeflowConfig(local_port=5000).address() == ("elsewhere", 8080)
    with pytest.raises(ConfigError, match="a token is only sent over TLS"):
        zm.KubeflowConfig(token="t").address()
    assert zm.KubeflowConfig(token="t", tls=True).address() == ("elsewhere", 8080)
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    with pytest.raises(ConfigError, match="no such kubeconfig"):
        zm.KubeflowConfig(kubeconfig=str(tmp_path / "none")).address()


# -- how it is named -------------------------------------------------------------------------------


def test_a_server_that_is_named_by_its_host_is_only_asked(server: GrpcServer) -> None:
    config = zm.KubeflowConfig(port=server.port, timeout_s=1)
    assert lifecycle.up(config, "prod").address == f"127.0.0.1:{server.port}"
    for call in (lifecycle.down, lifecycle.logs):
        with pytest.raises(UsageError, match="this server is named by its host"):
            call(config, "prod")
    nobody = zm.KubeflowConfig(host="127.0.0.1", port=free_port(), timeout_s=1)
    assert lifecycle.status(nobody).state == "failing"
    with pytest.raises(ForwardError, match="nothing answers there"):
        lifecycle.up(nobody)


def test_what_a_service_is_named_by() -> None:
    config: Any = config_from_url("kubeflow://?namespace=team&context=prod&service=mlmd&local_port=5000")
    assert (config.host, config.namespace, config.context, config.local_port) == ("", "team", "prod", 5000)
    assert config.location == "mlmd.team:8080"
    assert zm.KubeflowConfig(port=81).host == "127.0.0.1"
    for same in (config, zm.KubeflowConfig(), zm.KubeflowConfig(host="h"), zm.KubeflowConfig(port=81)):
        again = zm.KubeflowConfig(**dict(same))
        assert again == same
        assert again.server == same.server
    assert zm.KubeflowConfig(port=81, context="prod").location == "metadata-grpc-service.kubeflow:81"
    for wrong, words in (
        ({"host": "h", "namespace": "n"}, "either a host or a Service of a cluster, and namespace given"),
        ({"namespace": "Team_A"}, "namespace: .*must be a name of Kubernetes"),
        ({"service": "a" * 64}, "service: .*must be a name of Kubernetes"),
        ({"local_port": -1}, "local_port"),
    ):
        with pytest.raises(ConfigError, match=words):
            zm.KubeflowConfig.checked(**wrong)


def test_no_cluster_is_known(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("METADATA_GRPC_SERVICE_HOST", raising=False)
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    found = lifecycle.status(zm.KubeflowConfig(), "prod")
    assert found.state == "down"
    assert "no such kubeconfig" in found.answer
    with pytest.raises(ConfigError, match="no such kubeconfig"):
        lifecycle.up(zm.KubeflowConfig(), "prod")
