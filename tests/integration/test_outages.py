"""The store goes away while a process records, and comes back; and processes fork with a store open."""

from __future__ import annotations

import random
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pymysql
import pytest
from ml_metadata.proto import metadata_store_service_pb2 as rpc

from tests.integration import workers
from tests.integration.workers import PIPELINE, Crew, Gate, Worker
from tests.services.grpc_server import GrpcServer
from tests.services.mariadb import MariaDb
from zen_mlmd import open_store
from zen_mlmd.errors import ConnectionFailedError, UnreachableError

STEPS = 60
OUR_ERRORS = {"ZM200", "ZM201", "ZM210"}
"""ConnectionFailedError, UnreachableError, ConnectionLostError."""


@pytest.fixture(scope="module")
def own_server() -> Iterator[MariaDb]:
    """A MariaDB that no other module's tests use."""
    with MariaDb() as server:
        yield server


@pytest.fixture
def database(own_server: MariaDb) -> Iterator[str]:
    """The URL of a new database of `own_server`, which runs at the beginning and at the end."""
    name = own_server.new_database()
    yield own_server.url(name)
    own_server.restart()
    own_server.drop_database(name)


def disturb(worker: Worker, acks: Path, strike: Callable[[], object], *, pause_s: tuple[float, float]) -> int:
    """Strike again and again while the worker records; return how often."""
    chance, strikes = random.Random(7), 0
    workers.wait(lambda: len(workers.acknowledged(acks)) > 2)
    while worker.process.poll() is None:
        if strike():
            strikes += 1
        time.sleep(chance.uniform(*pause_s))
    return strikes


@pytest.mark.mysql
@pytest.mark.slow
def test_killed_connections_lose_and_double_nothing(
    crew: Crew, tmp_path: Path, own_server: MariaDb, database: str
) -> None:
    acks = tmp_path / "acks"
    worker = crew.start("record_steps", url=database, run="r", steps=STEPS, acks=str(acks))
    assert disturb(worker, acks, own_server.kill_connections, pause_s=(0.0, 0.1)) >= 5

    assert worker.result() == {"failures": []}
    workers.check_steps(database, "r", STEPS)


@pytest.mark.mysql
@pytest.mark.slow
@pytest.mark.parametrize("end", ["stop", "kill"])
def test_a_database_that_restarts_is_waited_for(
    crew: Crew, tmp_path: Path, own_server: MariaDb, database: str, end: str
) -> None:
    acks = tmp_path / "acks"
    worker = crew.start("record_steps", url=database, run="r", steps=300, acks=str(acks))
    for seen in (20, 100):
        workers.wait(lambda: len(workers.acknowledged(acks)) > seen)  # noqa: B023 - asked at once
        getattr(own_server, end)()
        time.sleep(0.5)
        own_server.start()

    assert worker.result() == {"failures": []}
    workers.check_steps(database, "r", 300)


@pytest.mark.mysql
@pytest.mark.slow
def test_a_database_that_stays_away_fails_in_bounded_time_and_recording_goes_on_after(
    crew: Crew, tmp_path: Path, own_server: MariaDb, database: str
) -> None:
    acks, gate = tmp_path / "acks", Gate(tmp_path)
    worker = crew.start(
        "record_steps",
        url=f"{database}?wait_s=1",
        run="r",
        steps=20,
        acks=str(acks),
        gates={"10": str(gate)},
        patience_s=30,
    )
    workers.wait(lambda: len(workers.acknowledged(acks)) == 10)
    own_server.stop()
    gate.open([worker])
    time.sleep(5)
    own_server.start()

    failures = worker.result()["failures"]
    assert len(failures) >= 2
    for code, seconds in failures:
        assert code in OUR_ERRORS
        assert seconds < 1 + 2
    workers.check_steps(database, "r", 20)


@pytest.mark.mysql
@pytest.mark.slow
def test_reading_fails_in_bounded_time_and_goes_on_after(own_server: MariaDb, database: str) -> None:
    with open_store(f"{database}?wait_s=0.5") as store:
        workers.record(store, "r")
        own_server.stop()
        for _ in range(5):  # the third call of ml-metadata's own client ends the process
            began = time.monotonic()
            with pytest.raises(ConnectionFailedError):
                store.get_run("r")
            assert time.monotonic() - began < 2.5
        own_server.start()
        workers.check_run(store.get_run("r"))


@pytest.mark.mysql
def test_a_database_that_is_down_is_not_opened(own_server: MariaDb, database: str) -> None:
    own_server.stop()
    began = time.monotonic()
    with pytest.raises(UnreachableError):
        open_store(database)
    assert time.monotonic() - began < 6


@pytest.mark.mysql
def test_a_lock_that_the_database_gives_up_on_is_waited_for(own_server: MariaDb, database: str) -> None:
    with open_store(database) as store:
        workers.record(store, "before")
    name = database.rpartition("/")[2]
    other = pymysql.connect(
        host=own_server.host, port=own_server.port, user="zen", password=own_server.password, database=name
    )
    own_server.sql("SET GLOBAL innodb_lock_wait_timeout = 1")
    try:
        with other, other.cursor() as cursor, open_store(database) as store:
            cursor.execute("SELECT * FROM Context FOR UPDATE")
            timer = threading.Timer(2.5, other.rollback)
            timer.start()
            began = time.monotonic()
            workers.record(store, "r")
            assert time.monotonic() - began > 2
            timer.join()
            workers.check_run(store.get_run("r"))
            assert len(store.pipelines[PIPELINE].runs) == 2
    finally:
        own_server.sql("SET GLOBAL innodb_lock_wait_timeout = DEFAULT")


@pytest.mark.mysql
def test_a_lock_that_keeps_a_handle_from_being_opened_again_is_contention(
    own_server: MariaDb, database: str
) -> None:
    name = database.rpartition("/")[2]
    database = f"{database}?service=native&"
    other = pymysql.connect(
        host=own_server.host, port=own_server.port, user="zen", password=own_server.password, database=name
    )
    own_server.sql("SET GLOBAL innodb_lock_wait_timeout = 1")
    try:
        with open_store(f"{database}wait_s=0") as store:
            workers.record(store, "before")
        with other, other.cursor() as cursor, open_store(f"{database}wait_s=6") as store:
            cursor.execute("SELECT * FROM Type FOR UPDATE")
            store.close()
            impatient = open_store_later(f"{database}wait_s=0")
            with pytest.raises(ConnectionFailedError, match="keeps them locked") as caught:
                impatient()
            assert caught.value.code == "ZM200"
            timer = threading.Timer(2.5, other.rollback)
            timer.start()
            workers.record(store, "r")
            timer.join()
            workers.check_run(store.get_run("r"))
    finally:
        own_server.sql("SET GLOBAL innodb_lock_wait_timeout = DEFAULT")


def open_store_later(url: str) -> Callable[[], object]:
    return lambda: open_store(url)


@pytest.mark.mysql
def test_a_database_that_was_made_anew_is_asked_anew(own_server: MariaDb, database: str) -> None:
    name = database.rpartition("/")[2]
    with open_store(database) as store, open_store(database) as other:
        with store.record_run("p") as run, run.step("a", type="test.Mine") as step:
            step.log_output("x", type="Mine")
        own_server.drop_database(name)
        own_server.sql(f"CREATE DATABASE {name} CHARACTER SET utf8mb4 COLLATE utf8mb4_bin")
        other.close()
        with other.record_run("q") as run, run.step("b", type="test.Theirs") as step:
            step.log_output("x", type="Theirs")
        with suppress(ConnectionFailedError):  # the connection was cut; whoever waits asks again
            store.loader.client.service.call("GetContextTypes", rpc.GetContextTypesRequest())
        with store.record_run("p", name="r") as run, run.step("a", type="test.Mine") as step:
            made = step.log_output("x", type="Mine")
        assert store.get_artifact(made.id).type == "Mine"
        assert store.get_run("r").pipeline == "p"
        assert store.get_run("r")["a"].record.type == "test.Mine"


def test_a_server_that_goes_away_during_the_login_is_unreachable() -> None:
    greeting = b"\x0a5.5.5-10.11.6-MariaDB\0\1\0\0\0abcdefgh\0\xfe\xf7\x2d\x02\0\xff\x81\x15" + b"\0" * 10
    greeting += b"abcdefghijkl\0mysql_native_password\0"

    def serve() -> None:
        stream, _ = listener.accept()
        with stream:
            stream.sendall(len(greeting).to_bytes(3, "little") + b"\0" + greeting)
            stream.recv(1)
            # Resets the connection, where close alone would end it.
            stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve)
        thread.start()
        with pytest.raises(UnreachableError):
            open_store(f"mysql://zen:x@127.0.0.1:{listener.getsockname()[1]}/zen_x")
        thread.join()


@pytest.mark.slow
@pytest.mark.parametrize("end", ["stop", "kill"])
def test_a_grpc_server_that_restarts_is_waited_for(
    crew: Crew, tmp_path: Path, grpc_server: GrpcServer, end: str
) -> None:
    acks, url = tmp_path / "acks", f"kubeflow://{grpc_server.address}"
    worker = crew.start("record_steps", url=url, run="r", steps=300, acks=str(acks))
    for seen in (10, 60, 120, 180):
        workers.wait(lambda: len(workers.acknowledged(acks)) > seen)  # noqa: B023 - asked at once
        getattr(grpc_server, end)()
        grpc_server.start()

    assert worker.result() == {"failures": []}
    workers.check_steps(url, "r", 300)


@pytest.mark.slow
def test_a_grpc_server_that_stays_away_fails_in_bounded_time_and_recording_goes_on_after(
    crew: Crew, tmp_path: Path, grpc_server: GrpcServer
) -> None:
    acks, gate, url = tmp_path / "acks", Gate(tmp_path), f"kubeflow://{grpc_server.address}"
    worker = crew.start(
        "record_steps",
        url=f"{url}?wait_s=1",
        run="r",
        steps=20,
        acks=str(acks),
        gates={"10": str(gate)},
        patience_s=30,
    )
    workers.wait(lambda: len(workers.acknowledged(acks)) == 10)
    grpc_server.kill()
    gate.open([worker])
    time.sleep(4)
    grpc_server.start()

    failures = worker.result()["failures"]
    assert failures
    for code, seconds in failures:
        assert code in OUR_ERRORS
        assert seconds < 1 + 2
    workers.check_steps(url, "r", 20)


def check_forked(crew: Crew, url: str, how: str) -> None:
    children, runs = 2, 5
    assert crew.start("fork", url=url, children=children, runs=runs, how=how).result() == [0] * children
    names = {f"child{child}-{run}" for child in range(children) for run in range(runs)}
    names |= {f"parent-{run}" for run in range(runs)} | {"before", "after"}
    with open_store(url) as store:
        found = list(store.runs)
        assert sorted(run.name for run in found) == sorted(names)
        for run in found:
            workers.check_run(run)
        assert len(list(store.artifacts)) == len(names) * workers.ARTIFACTS_OF_A_RUN
        workers.check_types(store)


HOW = pytest.mark.parametrize("how", ["exit", "_exit", "close"])


@HOW
def test_a_fork_records_into_sqlite(crew: Crew, sqlite_path: Path, how: str) -> None:
    check_forked(crew, f"sqlite:///{sqlite_path}", how)
    assert crew.sqlite_counts(sqlite_path)["integrity"] == "ok"


@pytest.mark.mysql
@HOW
def test_a_fork_records_into_mariadb(crew: Crew, mysql_url: str, how: str) -> None:
    check_forked(crew, mysql_url, how)


@HOW
def test_a_fork_records_through_grpc(crew: Crew, grpc_server: GrpcServer, how: str) -> None:
    check_forked(crew, f"kubeflow://{grpc_server.address}", how)


FORK_AMONG_THREADS = """
import os, sys, threading, time
import zen_mlmd as zm

store = zm.open_store(sys.argv[1])
run, stop = store.record_run("p", name="parent"), threading.Event()

def register():
    number = 0
    with run.step("s") as step:
        while not stop.is_set():
            step.log_output(f"o{number}", type=f"Type{number}")
            number += 1

thread = threading.Thread(target=register)
thread.start()
codes = []
for child in range(8):
    time.sleep(0.01 * (child % 4))
    pid = os.fork()
    if not pid:
        with store.record_run("p", name=f"child{child}") as own, own.step("x") as step:
            step.log_output("o", type=f"Child{child}")
        os._exit(0)
    deadline = time.monotonic() + 20
    while not (done := os.waitpid(pid, os.WNOHANG))[0] and time.monotonic() < deadline:
        time.sleep(0.01)
    if not done[0]:
        os.kill(pid, 9)
        os.waitpid(pid, 0)
    codes.append(done[1] if done[0] else "hangs")
stop.set()
thread.join()
run.end()
print(codes, len(list(store.runs)))
"""


def check_fork_among_threads(url: str) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", FORK_AMONG_THREADS, url],
        capture_output=True,
        check=False,
        text=True,
        cwd=workers.ROOT,
        timeout=200,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"{[0] * 8} 9\n"


def test_a_child_that_is_forked_while_a_thread_registers_records_into_sqlite(sqlite_path: Path) -> None:
    check_fork_among_threads(f"sqlite:///{sqlite_path}")


@pytest.mark.mysql
def test_a_child_that_is_forked_while_a_thread_registers_records_into_mariadb(mysql_url: str) -> None:
    check_fork_among_threads(mysql_url)
