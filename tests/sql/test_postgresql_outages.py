"""PostgreSQL goes away and comes back: what is recorded meanwhile waits, or fails whole, and goes on."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

import zen_mlmd as zm
from tests.services.postgresql import PostgreSql
from zen_mlmd.errors import ConnectionFailedError

pytestmark = pytest.mark.postgresql


@pytest.fixture
def own() -> Iterator[PostgreSql]:
    with PostgreSql() as server:
        yield server


def record(store: zm.Store, name: str) -> None:
    with store.record_run("p", name=name) as run, run.step("s") as step:
        step.log_output("m", uri="s3://b/m")


def names(store: zm.Store) -> list[str]:
    return sorted(run.name for run in store.runs if run.status is zm.Status.COMPLETED)


def test_connections_that_are_cut_are_not_noticed(own: PostgreSql) -> None:
    with zm.open_store(own.url(own.new_database())) as store:
        for number in range(5):
            record(store, f"r{number}")
            own.kill_connections()
        assert names(store) == [f"r{number}" for number in range(5)]


@pytest.mark.parametrize("how", ["stop", "kill"])
def test_a_server_that_restarts_is_waited_for(own: PostgreSql, how: str) -> None:
    with zm.open_store(own.url(own.new_database())) as store:
        record(store, "before")
        getattr(own, how)()
        waiting = threading.Thread(target=record, args=(store, "after"))
        waiting.start()
        time.sleep(1)
        own.start()  # here: a server ends with the thread that started it
        waiting.join()
        assert names(store) == ["after", "before"]


def test_one_that_stays_away_is_told_in_time_and_gone_on_with_later(own: PostgreSql) -> None:
    with zm.open_store(f"{own.url(own.new_database())}?wait_s=0.5") as store:
        record(store, "before")
        own.stop()
        started = time.monotonic()
        with pytest.raises(ConnectionFailedError):
            store.record_run("p", name="lost")
        assert time.monotonic() - started < 20
        own.start()
        record(store, "after")
        assert names(store) == ["after", "before"]


def test_writers_in_threads_lose_nothing_while_connections_are_cut(own: PostgreSql) -> None:
    with zm.open_store(own.url(own.new_database())) as store:
        writers = [
            threading.Thread(target=lambda n=n: [record(store, f"{n}-{i}") for i in range(8)])  # type: ignore[func-returns-value]
            for n in range(4)
        ]
        for each in writers:
            each.start()
        while any(each.is_alive() for each in writers):
            own.kill_connections()
            time.sleep(0.4)
        for each in writers:
            each.join()
        assert len(names(store)) == 32
