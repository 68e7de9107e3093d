"""The SQL service over a SQLite file: in a process of its own, which comes and goes as it should."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from ml_metadata import metadata_store
from ml_metadata.proto import metadata_store_service_pb2 as rpc

import zen_mlmd as zm
from zen_mlmd.errors import ConnectionLostError, DatabaseMissingError, GrantMissingError, NotMlmdError
from zen_mlmd.flavors.sqlite_process import SqliteProcessService

_DEADLINE_S = 20.0


def opened(path: Path, **settings: object) -> zm.Store:
    return zm.open_store(zm.SqliteConfig(path=str(path), service="sql", **settings))


def service_of(store: zm.Store) -> SqliteProcessService:
    service = store.loader.client.service
    assert isinstance(service, SqliteProcessService)
    return service


def pid_of(store: zm.Store) -> int:
    child = service_of(store)._child
    assert child is not None
    return child.pid


def record(store: zm.Store, name: str) -> None:
    with store.record_run("p", name=name) as run, run.step("s") as step:
        step.log_output("m", uri="s3://b/m")


def names(store: zm.Store) -> set[str]:
    return {run.name for run in store.runs}


def is_gone(pid: int) -> bool:
    deadline = time.monotonic() + _DEADLINE_S
    while time.monotonic() < deadline:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            return True
        if state == "Z":
            return True
        time.sleep(0.02)
    return False


def test_it_records_and_ml_metadata_in_this_process_reads_and_writes_beside_it(sqlite_path: Path) -> None:
    with opened(sqlite_path) as store:
        record(store, "one")
        theirs = metadata_store.MetadataStore(store.connection_config())
        assert [each.name for each in theirs.get_contexts_by_type("pipeline_run")] == ["one"]
        with zm.open_store(sqlite_path) as native:
            record(native, "two")
        record(store, "three")
        assert names(store) == {"one", "two", "three"}
        assert len(theirs.get_contexts_by_type("pipeline_run")) == 3


def test_a_killed_process_is_replaced_and_loses_no_acknowledged_write(sqlite_path: Path) -> None:
    with opened(sqlite_path) as store:
        record(store, "one")
        for number in range(5):
            os.kill(pid_of(store), signal.SIGKILL)
            record(store, f"more{number}")
        assert names(store) == {"one", *(f"more{number}" for number in range(5))}


def test_a_process_that_dies_in_a_write_is_told_and_in_a_read_is_asked_again(sqlite_path: Path) -> None:
    with opened(sqlite_path) as store:
        service = service_of(store)
        request = rpc.PutTypesRequest()
        for method, message in (("PutTypes", request), ("GetContextTypes", rpc.GetContextTypesRequest())):
            pid = pid_of(store)
            os.kill(pid, signal.SIGSTOP)
            killer = threading.Timer(0.3, os.kill, (pid, signal.SIGKILL))
            killer.start()
            if method == "PutTypes":
                with pytest.raises(ConnectionLostError):
                    service.call(method, message)
                service.call(method, message)
            else:
                assert service.call(method, message).context_types == []
            killer.join()


def test_it_ends_with_its_parent_however_that_ends(sqlite_path: Path) -> None:
    script = (
        "import os, sys, time, zen_mlmd as zm\n"
        f"store = zm.open_store(zm.SqliteConfig(path={str(sqlite_path)!r}, service='sql'))\n"
        "if os.fork() == 0:\n"  # it keeps the pipes
        "    time.sleep(60)\n"
        "print(store.loader.client.service._child.pid, flush=True)\n"
        "time.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        assert Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
        parent.kill()
        assert is_gone(pid)
        subprocess.run(["pkill", "-f", str(sqlite_path)], check=False)


def test_a_closed_store_leaves_no_process(sqlite_path: Path) -> None:
    store = opened(sqlite_path)
    pid = pid_of(store)
    store.close()
    assert is_gone(pid)
    assert names(store) == set()  # a later call opens it again
    store.close()


def test_parent_and_fork_record_side_by_side(sqlite_path: Path) -> None:
    with opened(sqlite_path) as store:
        record(store, "before")
        pid = os.fork()
        if pid == 0:
            try:
                for number in range(10):
                    record(store, f"child{number}")
                store.close()
                os._exit(0)
            except BaseException:
                os._exit(1)
        for number in range(10):
            record(store, f"parent{number}")
        assert os.waitpid(pid, 0)[1] == 0
        assert len(names(store)) == 21


def test_threads_share_it(sqlite_path: Path) -> None:
    with opened(sqlite_path) as store:
        threads = [threading.Thread(target=record, args=(store, str(number))) for number in range(12)]
        for each in threads:
            each.start()
        for each in threads:
            each.join()
        assert len(names(store)) == 12


def test_what_cannot_be_opened_is_told(sqlite_path: Path, tmp_path: Path) -> None:
    with pytest.raises(DatabaseMissingError):
        opened(sqlite_path, read_only=True)
    sqlite_path.write_bytes(b"no database at all, and long enough to be one" * 50)
    with pytest.raises(NotMlmdError):
        opened(sqlite_path)
    assert sqlite_path.read_bytes().startswith(b"no database at all")


def test_a_read_only_store_takes_no_write(sqlite_path: Path) -> None:
    with opened(sqlite_path) as store:
        record(store, "one")
    with opened(sqlite_path, read_only=True) as store:
        assert names(store) == {"one"}
        with pytest.raises(GrantMissingError):
            record(store, "two")
        assert names(store) == {"one"}


def test_a_file_that_was_replaced_is_not_written_on(sqlite_path: Path) -> None:
    with opened(sqlite_path) as store:
        record(store, "one")
        sqlite_path.rename(sqlite_path.with_suffix(".old"))
        with pytest.raises(NotMlmdError, match="deleted or replaced"):
            record(store, "two")
