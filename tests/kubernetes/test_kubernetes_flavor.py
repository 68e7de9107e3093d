"""A MySQL is brought up in a cluster, recorded in, taken down, and is there again with its data."""

from __future__ import annotations

import re
import shlex
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

import zen_mlmd as zm
from tests.services.kubernetes import FakeKubernetes, OwnDatabases, SharedDatabases
from tests.services.mariadb import MariaDb
from zen_mlmd.cli.main import main
from zen_mlmd.cluster import Cluster, forward
from zen_mlmd.cluster.standing import Target
from zen_mlmd.errors import (
    ClusterObjectError,
    ClusterUnreachableError,
    DeploymentError,
    ForwardError,
    LoginPluginError,
    UsageError,
)
from zen_mlmd.flavors import lifecycle
from zen_mlmd.flavors.kubernetes_life import place_of

pytestmark = pytest.mark.mysql

TEAM = ("namespaces", "", "team")


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's state folder."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return tmp_path / "state"


class Bench:
    """A cluster, and stores in it; what was brought up is taken down at the end."""

    def __init__(self, fake: FakeKubernetes, folder: Path) -> None:
        self.fake = fake
        self.kubeconfig = str(fake.kubeconfig(folder / "config", namespace="team"))
        self.told: list[str] = []
        self._targets: list[Target] = []

    def config(self, **settings: Any) -> zm.KubernetesConfig:
        known = {"kubeconfig": self.kubeconfig, "ready_timeout_s": 20.0, "wait_s": 5.0}
        made = zm.KubernetesConfig(**{**known, **settings})
        self._targets.append(place_of(made).target)
        return made

    def up(self, config: zm.KubernetesConfig) -> lifecycle.Status:
        return lifecycle.up(config, config.deployment, self.told.append)

    def down(self, config: zm.KubernetesConfig) -> lifecycle.Status:
        return lifecycle.down(config, config.deployment, self.told.append)

    def purge(self, config: zm.KubernetesConfig) -> lifecycle.Status:
        return lifecycle.purge(config, config.deployment, self.told.append)

    def password(self, config: zm.KubernetesConfig) -> str:
        return config.mysql().password.get_secret_value()

    def close(self) -> None:
        for target in self._targets:
            forward.down(target)


@pytest.fixture
def bench(tmp_path: Path, mariadb: MariaDb) -> Iterator[Bench]:
    """A cluster whose databases are of one server, so that a pod comes at once."""
    with FakeKubernetes(SharedDatabases(mariadb)) as fake:
        made = Bench(fake, tmp_path)
        yield made
        made.close()


def test_what_was_recorded_outlives_down_and_goes_with_purge(
    tmp_path: Path, state: Path, request: pytest.FixtureRequest
) -> None:
    with FakeKubernetes(OwnDatabases()) as fake:
        fake.namespace("others")
        fake.service("others", "web", {"app": "web"}, {80: 80})
        before = fake.objects.there()
        bench = Bench(fake, tmp_path)
        request.addfinalizer(bench.close)
        config = bench.config()
        assert lifecycle.status(config).state == "down"

        found = bench.up(config)
        assert (found.state, found.pod) == ("up", "zen-mlmd-mysql-0")
        password = bench.password(config)
        with zm.open_store(config).record_run("churn", name="monday"):
            pass
        assert bench.up(config).state == "up"
        (line, *_) = lifecycle.logs(config, tail=1)
        assert line

        assert bench.down(config).state == "down"
        stopped = lifecycle.status(config)
        assert (stopped.state, stopped.answer) == ("down", "its data are kept")
        with pytest.raises(ForwardError, match="no port-forward"):
            zm.open_store(config)
        with pytest.raises(DeploymentError, match="no pod"):
            list(lifecycle.logs(config))

        bench.up(config)
        assert zm.open_store(config).get_run("monday").status == "completed"
        assert bench.password(config) == password

        assert bench.purge(config).state == "down"
        assert fake.objects.there() == before
        with pytest.raises(DeploymentError, match="was not brought up"):
            zm.open_store(config)

        written = "".join(each.read_text("utf-8") for each in state.rglob("*") if each.is_file())
        written += "".join(bench.told) + repr(config) + str(found)
        assert password not in written
        assert fake.token not in written


ROOT = Path(__file__).resolve().parents[2]


def section() -> str:
    text = (ROOT / "docs" / "kubernetes.md").read_text("utf-8")
    return text[text.index("## A MySQL that is deployed for you") :].partition("\n## ")[0]


def block(language: str) -> str:
    found: str = re.findall(rf"^```{language}\n(.*?)^```$", section(), re.MULTILINE | re.DOTALL)[0]
    return found


def test_the_page_works_as_it_stands_and_its_role_suffices(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "settings"))
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "config"))
    monkeypatch.chdir(tmp_path)
    *commands, purge = block("console").splitlines()
    with FakeKubernetes(OwnDatabases()) as fake:
        fake.kubeconfig(tmp_path / "config")
        fake.namespace("ml")
        for command in commands:
            assert main(shlex.split(command)[1:]) == 0, (command, capfd.readouterr())
        told = capfd.readouterr()
        assert "up" in told.out
        assert "MySQL of deployment zen-mlmd in namespace ml: down" in told.out
        assert main(shlex.split(purge)[1:-1]) == 1  # nobody is there to be asked
        assert ("secrets", "ml", "zen-mlmd-mysql") in fake.objects.there()
        assert main(shlex.split(purge)[1:]) == 0
        assert {key for key in fake.objects.there() if key[1] == "ml"} == set()
        allowed = {
            (verb, resource)
            for rule in yaml.safe_load(block("yaml"))["rules"]
            for verb in rule["verbs"]
            for resource in rule["resources"]
        }
        called = {(call.verb, call.resource) for call in fake.calls if call.resource != "namespaces"}
        named = called | {("create", each) for _, each in called if each == "pods/portforward"}
        assert named <= allowed
        assert named >= allowed - {("update", each) for _, each in allowed} - {("list", "events")}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_an_up_that_is_ended_from_outside_leaves_nothing(bench: Bench, number: signal.Signals) -> None:
    before = bench.fake.objects.there()
    bench.fake.controllers.silent = True
    url = f"kubernetes://team/zen-mlmd?kubeconfig={bench.kubeconfig}"
    command = [sys.executable, "-m", "zen_mlmd", "metadata-store", "up", url]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        while "waiting for Pod" not in process.stderr.readline():
            assert process.poll() is None
        process.send_signal(number)
        said = process.stderr.read()
    assert process.returncode == 130
    assert "taking back what was made" in said
    assert bench.fake.objects.there() == before


def test_two_stores_live_side_by_side(bench: Bench) -> None:
    first, second = (
        bench.config(deployment=name, user=name, database=f"zen_{name}") for name in ("first", "second")
    )
    assert bench.up(first).address != bench.up(second).address
    with zm.open_store(first).record_run("churn", name="monday"):
        pass
    assert not list(zm.open_store(second).list_runs())
    assert bench.password(first) != bench.password(second)
    assert bench.purge(first).state == "down"
    assert lifecycle.status(first).state == "down"
    assert lifecycle.status(second).state == "up"
    assert bench.purge(second).state == "down"
    assert bench.fake.objects.there() == {("namespaces", "", "default")}


def test_a_store_that_is_not_whole_says_so_and_up_mends_it(bench: Bench, state: Path) -> None:
    config = bench.config(deployment="first", user="first", database="zen_first")
    bench.up(config)

    forward.down(place_of(config).target)
    assert (lifecycle.status(config).state, lifecycle.status(config).pod) == ("broken", "first-mysql-0")
    bench.fake.objects.delete("services", "team", "first-mysql", {})
    found = lifecycle.status(config)
    assert (found.state, found.answer) == ("broken", "there is no Service first-mysql")
    assert bench.up(config).state == "up"

    bench.fake.controllers.silent = True
    bench.fake.objects.delete("pods", "team", "first-mysql-0", {})
    found = lifecycle.status(config)
    assert found.state == "failing"
    assert found.remedy

    bench.fake.fail("*", "*", status=503, times=1000)
    found = lifecycle.status(config)
    assert (found.state, "503" in found.answer) == ("failing", True)
    with pytest.raises(ClusterUnreachableError):
        zm.open_store(config)
    assert (
        lifecycle.status(zm.KubernetesConfig(kubeconfig=bench.kubeconfig, context="none")).state == "failing"
    )


def test_an_up_whose_store_does_not_answer_leaves_no_way_behind(bench: Bench, state: Path) -> None:
    config = bench.config(deployment="first", user="first", database="zen_first")
    bench.up(config)
    bench.down(config)
    secret = bench.fake.objects.get("secrets", "team", "first-mysql")
    bench.fake.objects.change(
        "secrets", "team", "first-mysql", lambda old: {**old, "data": {**old["data"], "password": "d3Jvbmc="}}
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("zen_mlmd.flavors.kubernetes_life._ANSWERS_S", 0.1)
        with pytest.raises(DeploymentError, match="Access denied") as caught:
            bench.up(config)
    assert "wrong" not in str(caught.value)
    assert forward.find(place_of(config).target) is None
    kept = {kind for kind, namespace, _ in bench.fake.objects.there() if namespace == "team"}
    assert kept == {"secrets", "persistentvolumeclaims"}
    bench.fake.objects.change("secrets", "team", "first-mysql", lambda old: {**old, "data": secret["data"]})
    assert bench.up(config).state == "up"


def test_an_up_to_which_there_is_no_way_leaves_nothing(bench: Bench) -> None:
    config = bench.config(deployment="first", user="first", database="zen_first")
    bench.fake.fail("get", "pods/portforward", status=403, times=1000)
    with pytest.raises(ClusterObjectError, match=r"pods/portforward .*forbidden"):
        bench.up(config)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ForwardError, match=rf"127\.0\.0\.1:{port}: cannot listen there"):
            bench.up(config.model_copy(update={"local_port": port}))
    assert bench.fake.objects.there() == {("namespaces", "", "default")}
    assert forward.find(place_of(config).target) is None


ML_METADATA = """
import sys
from ml_metadata.metadata_store import MetadataStore
from ml_metadata.proto import metadata_store_pb2 as mlmd
config = mlmd.ConnectionConfig.FromString(sys.stdin.buffer.read())
print([each.name for each in MetadataStore(config).get_contexts_by_type("pipeline_run")])
"""


def test_ml_metadata_gets_a_config_that_it_can_log_in_with(bench: Bench, mariadb: MariaDb) -> None:
    config = bench.config(deployment="first", user="first", database="zen_first")
    bench.up(config)
    with zm.open_store(config).record_run("churn", name="monday"):
        pass
    given = config.connection_config()
    # In a process of its own: it keeps the GIL, and so the cluster of these tests from answering.
    told = subprocess.run(
        [sys.executable, "-c", ML_METADATA], input=given.SerializeToString(), capture_output=True, check=True
    )
    assert told.stdout == b"['monday']\n"
    mysql = given.mysql
    assert (mysql.host, mysql.user, mysql.password) == ("127.0.0.1", "first", bench.password(config))
    assert config.open_database().location.endswith("/zen_first")
    mariadb.sql("ALTER USER first@'%' IDENTIFIED VIA mysql_old_password USING '378b243e220ca493'")
    with pytest.raises(LoginPluginError, match="password in the old format") as caught:
        config.connection_config()
    assert "mariadb" in caught.value.hint


def test_the_log_is_followed(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zen_mlmd.flavors.kubernetes_life._FOLLOW_S", 0.02)
    config = bench.config(deployment="first", user="first", database="zen_first")
    bench.up(config)
    password = bench.password(config)
    assert list(lifecycle.logs(config)) == ["ready for connections"]
    lines = lifecycle.logs(config, follow=True)
    assert next(lines) == "ready for connections"
    bench.fake.controllers.crash = f"one\nthe password is {password}\n"
    assert next(lines) == "the password is ***"


def test_in_a_pod_the_service_is_asked_itself(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    config = bench.config(deployment="first", user="first", database="zen_first", wait_s=0.0)
    bench.up(config)
    outside = config.cluster()
    inside = Cluster(outside.configuration, namespace="team", timeout_s=10)
    assert inside.inside
    monkeypatch.setattr(zm.KubernetesConfig, "cluster", lambda _: inside)
    mysql = config.mysql()
    assert (mysql.host, mysql.port, mysql.database) == ("first-mysql.team", 3306, "zen_first")
    found = lifecycle.status(config)  # no name of a Service resolves here
    assert (found.state, found.address) == ("failing", "first-mysql.team:3306")
    assert "first-mysql.team" in found.answer


def test_a_store_that_is_a_file_is_not_purged() -> None:
    with pytest.raises(UsageError, match="a sqlite store's data"):
        lifecycle.purge(zm.SqliteConfig(path="x.db"))
