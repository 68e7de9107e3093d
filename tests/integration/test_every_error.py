"""Each error is provoked as a user would meet it, on real stores: it has its class, a message and a hint."""

from __future__ import annotations

import os
import pickle
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from ml_metadata.proto import metadata_store_pb2 as mlmd
from ml_metadata.proto import metadata_store_service_pb2 as rpc

import zen_mlmd as zm
from tests.services import free_port
from tests.services.grpc_server import GrpcServer
from tests.services.mariadb import MariaDb
from zen_mlmd import errors
from zen_mlmd.errors import ZenMlmdError

DATA = Path(__file__).parents[1] / "data"


class Bench:
    """What the cases work with; servers are started when a case asks for one."""

    def __init__(self, folder: Path, request: pytest.FixtureRequest) -> None:
        self.folder = folder
        self.path = folder / "metadata.db"
        self._request = request

    @property
    def mariadb(self) -> MariaDb:
        server = self._request.getfixturevalue("mariadb")
        assert isinstance(server, MariaDb)
        return server

    @property
    def grpc(self) -> GrpcServer:
        server = self._request.getfixturevalue("grpc_server")
        assert isinstance(server, GrpcServer)
        return server

    def store(self, **settings: Any) -> zm.Store:
        return zm.open_store(zm.SqliteConfig(path=str(self.path), **settings))

    def mysql(self, **settings: Any) -> zm.MysqlConfig:
        server = self.mariadb
        known = {"port": server.port, "user": server.user, "password": server.password}
        return zm.MysqlConfig(**{**known, "connect_timeout_s": 2.0, "database": "zen_x", **settings})

    def run(self, pipeline: Any) -> Any:
        return pipeline.options(store=self.store(), artifacts=self.folder / "artifacts")()

    def made(self, step: Any) -> Any:
        """The output of a pipeline of one step."""

        @zm.pipeline
        def single() -> None:
            step()

        return self.run(single)[step.name].output


class Point:
    def __init__(self, x: int) -> None:
        self.x = x


class Pair(NamedTuple):
    first: int
    second: int


@zm.step
def numbers() -> list[int]:
    return [1, 2, 3]


@zm.step
def point() -> Point:
    return Point(3)


@zm.step
def half_a_pair() -> Pair:
    return 1  # type: ignore[return-value]


@zm.pipeline
def no_step() -> None:
    pass


@contextmanager
def sqlite_locked_by_another_process(path: Path) -> Iterator[None]:
    script = (
        "import sqlite3, sys; held = sqlite3.connect(sys.argv[1]); held.execute('BEGIN IMMEDIATE');"
        " print('held', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        try:
            yield
        finally:
            process.kill()


def duplicate_type(bench: Bench) -> None:
    service = bench.store().config.open_service()
    for kind in (mlmd.INT, mlmd.STRING):
        request = rpc.PutArtifactTypeRequest()
        request.artifact_type.name = "Rows"
        request.artifact_type.properties["count"] = kind
        service.call("PutArtifactType", request)


def duplicate_artifact(bench: Bench) -> None:
    service = bench.store().config.open_service()
    kind = rpc.PutArtifactTypeRequest(artifact_type=mlmd.ArtifactType(name="Rows"))
    type_id = service.call("PutArtifactType", kind).type_id
    for _ in range(2):
        artifact = mlmd.Artifact(type_id=type_id, name="rows")
        service.call("PutArtifacts", rpc.PutArtifactsRequest(artifacts=[artifact]))


def lost_connection(bench: Bench) -> None:
    server = bench.grpc
    store = zm.open_store(zm.KubeflowConfig(port=server.port, timeout_s=0.5, wait_s=0.2))
    assert server._process is not None
    os.kill(server._process.pid, signal.SIGSTOP)
    try:
        list(store.runs)
    finally:
        os.kill(server._process.pid, signal.SIGCONT)


def contention(bench: Bench) -> None:
    store = bench.store(wait_s=0.1)
    with sqlite_locked_by_another_process(bench.path):
        store.record_run("churn")


def lock_timeout(bench: Bench) -> None:
    from zen_mlmd.service.lock import WriteLock

    store = bench.store(wait_s=0.1)
    with WriteLock(str(bench.path)):
        store.record_run("churn")


def unlockable(bench: Bench) -> None:
    bench.path.with_name("metadata.db.lock").mkdir()
    bench.store()


def old_login(bench: Bench) -> None:
    bench.mariadb.sql(
        "CREATE OR REPLACE USER old@'%' IDENTIFIED VIA mysql_old_password USING '378b243e220ca493'"
    )
    zm.open_store(bench.mysql(user="old"))


def names_differ_by_case(bench: Bench) -> None:
    bench.mariadb.sql("CREATE OR REPLACE DATABASE zen_ci CHARACTER SET utf8mb4 COLLATE utf8mb4_general_ci")
    try:
        store = zm.open_store(bench.mysql(database="zen_ci"))
        store.record_run("churn")
        store.record_run("CHURN")
    finally:
        bench.mariadb.drop_database("zen_ci")


def older_schema(bench: Bench) -> None:
    shutil.copy(DATA / "zenml_0132_basic3.db", bench.path)
    bench.store().record_run("p")


def junk(bench: Bench) -> None:
    bench.path.write_text("a list of things to do")
    bench.store()


def missing_pandas(bench: Bench) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "pandas", None)
        bench.store().list_runs().to_pandas()


def run_exists(bench: Bench) -> None:
    for _ in range(2):
        bench.store().record_run("churn", name="monday")


def ended(bench: Bench) -> None:
    with bench.store().record_run("churn") as run:
        pass
    run.step("train")


def damaged(bench: Bench) -> None:
    output = bench.made(numbers)
    for file in Path(output.uri).iterdir():
        file.write_text("[1, 2")
    output.read()


def deleted(bench: Bench) -> None:
    output = bench.made(numbers)
    shutil.rmtree(output.uri)
    output.read()


def changed(bench: Bench) -> None:
    output = bench.made(numbers)
    for file in Path(output.uri).iterdir():
        file.write_text("[1, 2, 4]")
    output.verify()


def unknown_materializer(bench: Bench) -> None:
    (bench.folder / "rows.csv").write_text("1,2")
    bench.store().import_artifact(str(bench.folder / "rows.csv")).read()


def in_cluster(bench: Bench, server: str) -> None:
    """Ask a cluster for a Service."""
    from tests.kubernetes.answering import write_kubeconfig
    from zen_mlmd.cluster import asking, connect

    cluster = connect(kubeconfig=str(write_kubeconfig(bench.folder / "config", server)))
    with asking(cluster, "get", "Service", "metadata-grpc-service", "kubeflow"):
        cluster.core.read_namespaced_service("metadata-grpc-service", "kubeflow")


def no_such_service(bench: Bench) -> None:
    from tests.kubernetes.answering import answering

    with answering() as server:
        server.status = 404
        in_cluster(bench, server.url)


def no_forward(bench: Bench) -> None:
    from tests.kubernetes.answering import write_kubeconfig

    kubeconfig = write_kubeconfig(bench.folder / "config", f"http://127.0.0.1:{free_port()}")
    zm.open_store(zm.KubeflowConfig(kubeconfig=str(kubeconfig)))


def not_deployed(bench: Bench) -> None:
    from tests.services.kubernetes import FakeKubernetes

    with FakeKubernetes() as fake:
        zm.open_store(zm.KubernetesConfig(kubeconfig=str(fake.kubeconfig(bench.folder / "config"))))


def pickled(bench: Bench) -> None:
    bench.made(point).read()


Case = Callable[[Bench], object]

CASES: dict[type[ZenMlmdError], Case] = {
    errors.UsageError: lambda bench: bench.store().get("/"),
    errors.InvalidValueError: lambda bench: bench.store().record_run("churn", parameters={"x": object()}),
    errors.ConfigError: lambda _: zm.open_store("oracle://host/metadb"),
    errors.FilterSyntaxError: lambda bench: bench.store().list_runs("status = (failed"),
    errors.NotFoundError: lambda bench: bench.store().get_run("monday"),
    errors.MissingExtraError: missing_pandas,
    errors.ConnectionFailedError: unlockable,
    errors.UnreachableError: lambda _: zm.open_store(f"mysql://zen@127.0.0.1:{free_port()}/metadb"),
    errors.HostNotFoundError: lambda _: zm.open_store("mysql://zen@no-such-host.invalid/metadb"),
    errors.LoginPluginError: old_login,
    errors.LoginDeniedError: lambda bench: zm.open_store(bench.mysql(password="wrong")),
    errors.GrantMissingError: lambda bench: zm.open_store(bench.mysql(database="mysql")),
    errors.DatabaseMissingError: lambda bench: zm.open_store(bench.folder / "missing" / "metadata.db"),
    errors.TlsError: lambda bench: zm.open_store(f"grpcs://{bench.grpc.address}"),
    errors.NotMlmdError: junk,
    errors.SchemaVersionError: older_schema,
    errors.ConnectionLostError: lost_connection,
    errors.LockTimeoutError: lock_timeout,
    errors.ClusterUnreachableError: lambda bench: in_cluster(bench, f"http://127.0.0.1:{free_port()}"),
    errors.ClusterObjectError: no_such_service,
    errors.ForwardError: no_forward,
    errors.DeploymentError: not_deployed,
    errors.StoreError: lambda bench: bench.store().config.open_service().call("Frobnicate", None),
    errors.AlreadyExistsError: duplicate_artifact,
    errors.ContentionError: contention,
    errors.RejectedRequestError: lambda bench: bench.store().import_artifact("s3://a\0b"),
    errors.RunExistsError: run_exists,
    errors.NameClashError: names_differ_by_case,
    errors.TypeConflictError: duplicate_type,
    errors.EndedError: ended,
    errors.PayloadError: damaged,
    errors.PayloadMissingError: deleted,
    errors.PayloadChangedError: changed,
    errors.NoMaterializerError: unknown_materializer,
    errors.UntrustedPickleError: pickled,
    errors.PipelineDefinitionError: lambda bench: bench.run(no_step),
    errors.ReturnValueError: lambda bench: bench.made(half_a_pair),
}

ROOTS = {errors.ZenMlmdError, errors.RecordingError, errors.PipelineError}
"""Never raised themselves."""

NEED_MARIADB = {
    errors.LoginPluginError,
    errors.LoginDeniedError,
    errors.GrantMissingError,
    errors.NameClashError,
}


def classes() -> set[type[ZenMlmdError]]:
    """All classes of the module, so that one without a case makes a test fail."""
    found = {ZenMlmdError}
    while True:
        more = {below for kind in found for below in kind.__subclasses__()} - found
        more = {kind for kind in more if kind.__module__ == errors.__name__}
        if not more:
            return found
        found |= more


@pytest.fixture
def bench(tmp_path: Path, request: pytest.FixtureRequest) -> Bench:
    return Bench(tmp_path, request)


@pytest.mark.parametrize(
    "kind",
    [
        pytest.param(kind, id=kind.__name__, marks=[pytest.mark.mysql] if kind in NEED_MARIADB else [])
        for kind in CASES
    ],
)
def test_an_error_comes_with_a_message_and_a_hint(kind: type[ZenMlmdError], bench: Bench) -> None:
    with pytest.raises(kind) as caught:
        CASES[kind](bench)
    error = caught.value
    assert type(error) is kind
    assert len(error.message) > 10
    if kind is not errors.FilterSyntaxError:  # which draws where it stopped
        assert "\n" not in error.message
    assert len(error.hint) > 5
    assert str(error) == f"[{kind.code}] {error.message}\n  hint: {error.hint}"
    assert str(pickle.loads(pickle.dumps(error))) == str(error)


def test_each_class_has_a_case_or_is_a_root_of_some() -> None:
    assert classes() == set(CASES) | ROOTS
    assert not ROOTS & set(CASES)


@pytest.mark.parametrize("root", sorted(ROOTS, key=repr))
def test_a_root_catches_what_stands_below_it(root: type[ZenMlmdError]) -> None:
    assert any(issubclass(kind, root) for kind in CASES)
