"""The C++ core in this process: handles that are dropped, forks, locks, upgrades."""

from __future__ import annotations

import hashlib
import json
import math
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ml_metadata.proto import metadata_store_pb2 as mlmd
from ml_metadata.proto import metadata_store_service_pb2 as rpc

import zen_mlmd as zm
from tests.services.mariadb import MariaDb
from zen_mlmd.errors import (
    AlreadyExistsError,
    ConnectionFailedError,
    ConnectionLostError,
    GrantMissingError,
    LockTimeoutError,
    NotFoundError,
    NotMlmdError,
    SchemaVersionError,
    StoreError,
    TypeConflictError,
    UnreachableError,
)
from zen_mlmd.flavors import config_from_url
from zen_mlmd.service import native
from zen_mlmd.service.base import INTERNAL, INVALID_ARGUMENT, UNIMPLEMENTED
from zen_mlmd.service.lock import WriteLock
from zen_mlmd.service.native import NativeService

ROOT = Path(__file__).parents[2]
DATA = ROOT / "tests" / "data"


def sqlite_config(path: Path) -> mlmd.ConnectionConfig:
    config = mlmd.ConnectionConfig()
    config.sqlite.filename_uri = str(path)
    return config


@pytest.fixture
def service(tmp_path: Path) -> Iterator[NativeService]:
    with NativeService(sqlite_config(tmp_path / "m.db"), location="here") as opened:
        yield opened


@pytest.fixture
def memory() -> NativeService:
    config = mlmd.ConnectionConfig()
    config.fake_database.SetInParent()
    return NativeService(config, location="memory")


def put_type(service: NativeService, name: str = "Rows") -> int:
    request = rpc.PutArtifactTypeRequest(artifact_type=mlmd.ArtifactType(name=name))
    return int(service.call("PutArtifactType", request).type_id)


def type_names(service: NativeService) -> list[str]:
    found = service.call("GetArtifactTypes", rpc.GetArtifactTypesRequest()).artifact_types
    return sorted(each.name for each in found)


def put_artifact(service: NativeService, type_id: int, **facts: Any) -> int:
    artifact = mlmd.Artifact(type_id=type_id, **facts)
    return int(service.call("PutArtifacts", rpc.PutArtifactsRequest(artifacts=[artifact])).artifact_ids[0])


def is_free(path: Path) -> bool:
    """Tell whether nobody holds the write lock of a file."""
    try:
        with WriteLock(str(path), timeout_s=0):
            return True
    except LockTimeoutError:
        return False


def run_script(script: str, *arguments: object) -> str:
    """Run Python code in a process of its own and return what it printed; it must end well."""
    command = [sys.executable, "-c", script, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, check=False, text=True, cwd=ROOT, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


# --- calls ---


def test_requests_are_answered_and_refusals_are_translated(service: NativeService) -> None:
    type_id = put_type(service)
    put_artifact(service, type_id, name="rows")
    with pytest.raises(AlreadyExistsError, match="here: PutArtifacts: Given node already exists"):
        put_artifact(service, type_id, name="rows")
    with pytest.raises(NotFoundError, match="GetContextType"):
        service.call("GetContextType", rpc.GetContextTypeRequest(type_name="none"))
    with pytest.raises(StoreError) as refused:
        put_artifact(service, type_id, properties={"depth": mlmd.Value(int_value=1)})
    assert refused.value.mlmd_code == INVALID_ARGUMENT


def test_a_type_with_other_properties_is_a_conflict(service: NativeService) -> None:
    put_type(service)
    request = rpc.PutArtifactTypeRequest(artifact_type=mlmd.ArtifactType(name="Rows"))
    request.artifact_type.properties["count"] = mlmd.INT
    with pytest.raises(TypeConflictError, match="PutArtifactType: Type already exists with different"):
        service.call("PutArtifactType", request)
    with pytest.raises(TypeConflictError, match="PutTypes: Type already exists with different"):
        service.call("PutTypes", rpc.PutTypesRequest(artifact_types=[request.artifact_type]))


def test_what_was_recorded_is_not_taken_for_a_conflict_of_types(service: NativeService) -> None:
    type_id, name = put_type(service), "Type already exists with different properties"
    put_artifact(service, type_id, name=name)
    with pytest.raises(AlreadyExistsError):
        put_artifact(service, type_id, name=name)


def test_a_call_that_mlmd_does_not_have_is_told(service: NativeService) -> None:
    with pytest.raises(StoreError, match="no call Frobnicate") as made_up:
        service.call("Frobnicate", rpc.GetArtifactsRequest())
    assert made_up.value.mlmd_code == UNIMPLEMENTED


def test_a_call_that_only_servers_have_is_told(service: NativeService) -> None:
    with pytest.raises(StoreError, match="GetLineageGraph is not implemented") as missing:
        service.call("GetLineageGraph", rpc.GetLineageGraphRequest())
    assert missing.value.mlmd_code == UNIMPLEMENTED


def test_the_representation_is_the_class_and_the_place(service: NativeService) -> None:
    assert repr(service) == "<NativeService here>"


def test_a_call_after_closing_opens_the_file_again(service: NativeService) -> None:
    put_type(service)
    service.close()
    assert type_names(service) == ["Rows"]
    service.close()
    service.close()
    assert put_type(service, "More") > 0


def test_a_store_in_memory_dies_when_it_is_closed(memory: NativeService) -> None:
    put_type(memory)
    memory.close()
    assert type_names(memory) == []


def test_each_opening_is_preceded_by_the_probe(tmp_path: Path) -> None:
    probes: list[int] = []
    config = sqlite_config(tmp_path / "m.db")
    with NativeService(config, location="here", probe=lambda: probes.append(1)) as service:
        service.open()
        service.open()
        type_names(service)
        assert len(probes) == 1
        service.close()
        type_names(service)
    assert len(probes) == 2


def test_what_the_probe_raises_comes_before_the_core_is_asked(tmp_path: Path) -> None:
    def down() -> None:
        raise UnreachableError("it is down", hint="start it")

    service = NativeService(sqlite_config(tmp_path / "m.db"), location="here", probe=down)
    for attempt in (service.open, lambda: type_names(service), lambda: put_type(service)):
        with pytest.raises(UnreachableError, match="it is down"):
            attempt()
    assert list(tmp_path.iterdir()) == []


def test_a_handle_that_was_idle_for_too_long_is_opened_anew(tmp_path: Path) -> None:
    probes: list[int] = []
    config = sqlite_config(tmp_path / "m.db")
    with NativeService(config, location="here", probe=lambda: probes.append(1), max_idle_s=0.0) as service:
        for _ in range(3):
            type_names(service)
    assert len(probes) == 3


def test_writes_hold_the_lock_and_reads_do_not(tmp_path: Path) -> None:
    path = tmp_path / "m.db"
    others = WriteLock(str(path))
    lock = WriteLock(str(path), timeout_s=0)
    with NativeService(sqlite_config(path), location="here", write_lock=lock) as service:
        with others, pytest.raises(LockTimeoutError):
            service.open()
        service.open()
        assert is_free(path)
        with others:
            assert type_names(service) == []
            service.open(writes=False)
            with pytest.raises(LockTimeoutError):
                put_type(service)
        put_type(service)
        assert is_free(path)
        with pytest.raises(NotFoundError):
            put_artifact(service, 99)
        assert is_free(path)


def test_threads_may_share_one_service(service: NativeService) -> None:
    type_id = put_type(service)
    failures: list[BaseException] = []

    def work(number: int) -> None:
        try:
            for turn in range(20):
                made = put_artifact(service, type_id, name=f"{number}/{turn}")
                request = rpc.GetArtifactsByIDRequest(artifact_ids=[made])
                (found,) = service.call("GetArtifactsByID", request).artifacts
                assert found.name == f"{number}/{turn}"
                if turn % 7 == 0:
                    service.close()
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert len(service.call("GetArtifacts", rpc.GetArtifactsRequest()).artifacts) == 80


# --- internal errors ---


def provoke_internal_error(service: NativeService, patch: pytest.MonkeyPatch) -> None:
    """Send what the check would refuse, and SQLite cannot read: `nan` as a number."""
    with patch.context() as unchecked:
        unchecked.setattr(native, "check_request", lambda *_: None)
        with pytest.raises(StoreError, match="no such column: nan") as error:
            put_artifact(
                service, put_type(service), custom_properties={"x": mlmd.Value(double_value=math.nan)}
            )
    assert error.value.mlmd_code == INTERNAL


def test_an_internal_error_drops_the_handle_of_a_file(
    service: NativeService, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_type(service)
    before = service._handle
    assert before is not None
    provoke_internal_error(service, monkeypatch)
    assert service._handle is None
    assert type_names(service) == ["Rows"]
    assert service._handle is not before


def test_an_internal_error_costs_a_store_in_memory_nothing(
    memory: NativeService, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = put_artifact(memory, put_type(memory), name="rows")
    provoke_internal_error(memory, monkeypatch)
    (found,) = memory.call("GetArtifacts", rpc.GetArtifactsRequest()).artifacts
    assert (found.id, found.name) == (kept, "rows")


@pytest.mark.mysql
def test_an_internal_error_drops_the_connection_to_a_server(mariadb: MariaDb, mysql_url: str) -> None:
    config = config_from_url(mysql_url).connection_config()
    assert isinstance(config, mlmd.ConnectionConfig)

    def connections() -> list[Any]:
        return mariadb.sql("SELECT id FROM information_schema.processlist WHERE user = 'zen' ORDER BY id")

    # Without MySQL's limits, so that the server itself refuses the number.
    with NativeService(config, location="here") as service:
        type_id = put_type(service)
        before = connections()
        with pytest.raises(StoreError, match="Out of range value for column 'int_value'"):
            put_artifact(service, type_id, custom_properties={"x": mlmd.Value(int_value=2**40)})
        assert put_artifact(service, type_id) > 0
        assert connections() != before
    assert type_names(service) == ["Rows"]


@pytest.mark.mysql
def test_what_was_recorded_is_not_taken_for_a_lost_connection(mysql_url: str) -> None:
    config = config_from_url(mysql_url).connection_config()
    assert isinstance(config, mlmd.ConnectionConfig)
    with NativeService(config, location="here") as service:
        type_id = put_type(service)
        for text in ("Lost connection to MySQL server", "mysql_query failed: errno: gone away"):
            with pytest.raises(StoreError, match="Data too long for column 'name'"):
                put_artifact(service, type_id, name=text + "x" * 300)


@pytest.mark.mysql
def test_a_cut_connection_is_told_and_the_next_call_connects(mariadb: MariaDb, mysql_url: str) -> None:
    config = config_from_url(mysql_url).connection_config()
    assert isinstance(config, mlmd.ConnectionConfig)
    with NativeService(config, location="here") as service:
        put_type(service)
        mariadb.kill_connections()
        with pytest.raises(
            ConnectionLostError, match="here: the connection was lost during GetArtifactTypes"
        ):
            type_names(service)
        assert type_names(service) == ["Rows"]


@pytest.mark.parametrize(
    ("text", "lost"),
    [
        ("Transaction already open.", True),
        ("mysql_query failed: errno: Lost connection to server during query, error: Lost connection", True),
        ('name: "x" mysql_query failed: errno: MySQL server has gone away, error: gone away', True),
        ("mysql_real_connect failed: errno: , error:", True),
        ("mysql_query failed: errno: 2013, error: x", True),
        ("mysql_query failed: errno: Data too long for column 'name' at row 1, error: Data too long", False),
        ('name: "lost connection" mysql_query failed: errno: Data too long, error: Data too long', False),
        ('name: "Transaction already open" was refused', False),
        ("no such column: nan", False),
    ],
)
def test_a_lost_connection_is_told_by_the_clients_last_words(text: str, lost: bool) -> None:
    assert native._is_lost(text) is lost


# --- what cannot be opened ---


def test_a_file_that_may_not_be_written_refuses_writes_by_name(tmp_path: Path) -> None:
    path = tmp_path / "m.db"
    with NativeService(sqlite_config(path), location="here") as service:
        put_type(service)
    config = sqlite_config(path)
    config.sqlite.connection_mode = mlmd.SqliteMetadataSourceConfig.READONLY
    with NativeService(config, location="here") as service:
        assert type_names(service) == ["Rows"]
        with pytest.raises(GrantMissingError, match="attempt to write a readonly database"):
            put_type(service, "More")


@pytest.mark.mysql
def test_text_of_a_server_that_is_no_utf8_is_told_all_the_same(mysql_url: str) -> None:
    config = config_from_url(mysql_url).connection_config()
    assert isinstance(config, mlmd.ConnectionConfig)
    config.mysql.database = "käse"  # as it is pasted into SQL, the server quotes half a letter
    with pytest.raises(NotMlmdError, match=r"ml-metadata cannot open it: ."):
        NativeService(config, location="here").open()


def test_a_file_of_an_older_schema_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "old.db"
    shutil.copy(DATA / "zenml_0132_basic3.db", path)
    before = hashlib.sha256(path.read_bytes()).hexdigest()
    with pytest.raises(
        SchemaVersionError, match="its MLMD schema is 8, and this ml-metadata's is 10"
    ) as error:
        NativeService(sqlite_config(path), location="here").open()
    assert "upgrade=True" in error.value.hint
    assert hashlib.sha256(path.read_bytes()).hexdigest() == before
    assert [each.name for each in tmp_path.iterdir()] == ["old.db"]


def test_a_file_of_an_older_schema_is_migrated_if_asked(tmp_path: Path) -> None:
    path = tmp_path / "old.db"
    shutil.copy(DATA / "zenml_0132_basic3.db", path)
    facts = json.loads((DATA / "zenml_0132_basic3.expected.json").read_text())
    assert facts
    with zm.open_store(path, upgrade=True) as store:
        names = [pipeline.name for pipeline in store.pipelines]
    assert names
    with zm.open_store(path) as store:  # for ever
        assert [pipeline.name for pipeline in store.pipelines] == names


def test_a_file_of_a_newer_schema_is_refused_even_with_upgrade(tmp_path: Path) -> None:
    path = tmp_path / "m.db"
    run_script(
        "import sqlite3, sys, zen_mlmd as zm\n"
        "zm.open_store(sys.argv[1]).close()\n"
        "with sqlite3.connect(sys.argv[1]) as database:\n"
        "    database.execute('UPDATE MLMDEnv SET schema_version = 11')",
        path,
    )
    for upgrade in (False, True):
        with pytest.raises(SchemaVersionError, match="schema is 11") as error:
            NativeService(sqlite_config(path), location="here", upgrade=upgrade).open()
        assert error.value.hint == "install a newer ml-metadata"


def test_a_file_that_is_none_of_sqlites_is_refused(tmp_path: Path) -> None:
    (tmp_path / "m.db").write_bytes(b"something else" * 1000)
    service = NativeService(sqlite_config(tmp_path / "m.db"), location="here")
    for _ in range(2):
        with pytest.raises(NotMlmdError, match="file is not a database"):
            service.open()
    assert issubclass(NotMlmdError, ConnectionFailedError)


# --- forks, and several handles on one file ---

FORK = """
import os, sys
from ml_metadata.proto import metadata_store_pb2 as mlmd
from ml_metadata.proto import metadata_store_service_pb2 as rpc
from zen_mlmd.flavors import config_from_url

service = config_from_url(sys.argv[1]).open_service()
kind = rpc.PutArtifactTypeRequest(artifact_type=mlmd.ArtifactType(name="Rows"))
type_id = service.call("PutArtifactType", kind).type_id

def write(who):
    for turn in range(15):
        artifact = mlmd.Artifact(type_id=type_id, name=f"{who}{turn}")
        (made,) = service.call("PutArtifacts", rpc.PutArtifactsRequest(artifacts=[artifact])).artifact_ids
        asked = rpc.GetArtifactsByIDRequest(artifact_ids=[made])
        (found,) = service.call("GetArtifactsByID", asked).artifacts
        assert found.name == artifact.name, (found.name, artifact.name)

write("before")
children = []
for number in range(2):
    pid = os.fork()
    if not pid:
        try:
            if number:
                service.close()
            write(f"child{number}-")
            os._exit(0)
        finally:
            os._exit(1)
    children.append(pid)
write("parent")
assert [os.waitpid(pid, 0)[1] for pid in children] == [0, 0]
write("after")
print(len(service.call("GetArtifacts", rpc.GetArtifactsRequest()).artifacts))
"""


def test_forks_write_one_file_side_by_side(tmp_path: Path) -> None:
    assert run_script(FORK, f"sqlite:///{tmp_path}/m.db") == "75\n"


@pytest.mark.mysql
def test_forks_write_one_server_side_by_side(mysql_url: str) -> None:
    assert run_script(FORK, mysql_url) == "75\n"


OTHER = """
import sys
import zen_mlmd as zm
with zm.open_store(sys.argv[1]) as store:
    print(sorted(run.name for run in store.runs))
"""


def test_opening_a_file_again_leaves_sqlites_locks_on_it(tmp_path: Path) -> None:
    """If they were gone, another process that closes the file would delete the WAL that is in use."""
    path = tmp_path / "m.db"
    with zm.open_store(path) as store:
        store.record_run("churn", name="first").end()
        with zm.open_store(path) as again:
            assert [run.name for run in again.runs] == ["first"]
        assert run_script(OTHER, path) == "['first']\n"
        assert (tmp_path / "m.db-wal").exists()
        store.record_run("churn", name="second").end()
        assert run_script(OTHER, path) == "['first', 'second']\n"


def test_no_handle_is_carried_over_a_fork(tmp_path: Path) -> None:
    """SQLite forbids it: the child would believe to hold its parent's locks."""
    script = (
        "import os, sys, threading\n"
        "import zen_mlmd as zm\n"
        "def files(): return [os.readlink(f'/proc/self/fd/{each}') for each in os.listdir('/proc/self/fd')\n"
        "                     if os.path.islink(f'/proc/self/fd/{each}')]\n"
        "store = zm.open_store(sys.argv[1])\n"
        "store.record_run('churn', name='first').end()\n"
        "assert any(each.endswith(('.db', '.db-wal')) for each in files())\n"
        "memory = zm.open_store('sqlite://')\n"
        "memory.record_run('churn', name='kept').end()\n"
        "pid = os.fork()\n"
        "if not pid:\n"
        "    assert not any(each.endswith(('.db', '.db-wal', '.db-shm')) for each in files())\n"
        "    store.record_run('churn', name='child').end()\n"
        "    os._exit(len(list(memory.runs)) - 1)\n"
        "assert os.waitpid(pid, 0)[1] == 0\n"
        "print([run.name for run in store.runs], [run.name for run in memory.runs])\n"
    )
    assert run_script(script, tmp_path / "m.db") == "['child', 'first'] ['kept']\n"
