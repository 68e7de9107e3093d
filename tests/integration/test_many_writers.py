"""Many processes and threads record into one store at the same time."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.integration import workers
from tests.integration.workers import Crew, Gate, Worker
from tests.services.mariadb import MariaDb
from zen_mlmd import Store, open_store

WRITERS = 8
RUNS = 25
JOINERS = 4
STEPS = 10

SLOWEST_IN_MEDIANS = 20.0
"""How much longer than the median run the slowest may take; a starved writer's takes hundreds of times."""

SLACK_S = 1.0
"""What a busy machine may add to that."""


def record_together(crew: Crew, directory: Path, url: str) -> list[list[tuple[float, float]]]:
    gate = Gate(directory)
    writers = [
        crew.start("record_runs", url=url, worker=f"w{number}", runs=RUNS, gate=str(gate))
        for number in range(WRITERS)
    ]
    gate.open(writers)
    return [worker.result() for worker in writers]


def check_nothing_lost_or_doubled(store: Store, names: set[str]) -> None:
    assert [each.name for each in store.pipelines] == [workers.PIPELINE]
    runs = list(store.pipelines[workers.PIPELINE].runs)
    assert sorted(run.name for run in runs) == sorted(names)
    for run in runs:
        workers.check_run(run)
    artifacts = [each.uri for each in store.artifacts]
    assert len(artifacts) == len(set(artifacts)) == len(names) * workers.ARTIFACTS_OF_A_RUN
    workers.check_types(store)


def check_nobody_starved(times: list[list[tuple[float, float]]]) -> None:
    """The slowest run is bounded; until the first writer is done, all get on in each half of the time."""
    durations = [end - begin for each in times for begin, end in each]
    limit = SLOWEST_IN_MEDIANS * statistics.median(durations) + SLACK_S
    assert max(durations) <= limit, f"{max(durations):.3f} s, median {statistics.median(durations):.3f} s"

    start = max(each[0][0] for each in times)
    half = (min(each[-1][1] for each in times) - start) / 2
    for each in times:
        ends = [end for _, end in each]
        done = [
            sum(start + half * part < end <= start + half * (part + 1) for end in ends) for part in (0, 1)
        ]
        assert min(done) >= 1, f"runs ended in each half of the time: {done}"


def mariadb_counts(server: MariaDb, url: str) -> dict[str, int]:
    database = url.rpartition("/")[2]
    tables = server.sql("SELECT table_name FROM information_schema.tables WHERE table_schema = %s", database)
    return {name: server.sql(f"SELECT count(*) FROM {database}.`{name}`")[0][0] for (name,) in tables}


def run_names() -> set[str]:
    return {f"w{worker}-{run}" for worker in range(WRITERS) for run in range(RUNS)}


def subset(counts: Mapping[str, int], of: Mapping[str, int]) -> dict[str, int]:
    return {name: counts[name] for name in of}


@pytest.mark.slow
def test_processes_share_an_sqlite_file(crew: Crew, tmp_path: Path, sqlite_path: Path) -> None:
    times = record_together(crew, tmp_path, f"sqlite:///{sqlite_path}")

    counts = crew.sqlite_counts(sqlite_path)
    expected = workers.expected_rows(WRITERS * RUNS)
    assert counts["integrity"] == "ok"
    assert subset(counts, expected) == expected
    with open_store(sqlite_path) as store:
        check_nothing_lost_or_doubled(store, run_names())
    check_nobody_starved(times)


@pytest.mark.mysql
@pytest.mark.slow
def test_processes_share_a_mariadb(crew: Crew, tmp_path: Path, mariadb: MariaDb, mysql_url: str) -> None:
    times = record_together(crew, tmp_path, mysql_url)

    expected = workers.expected_rows(WRITERS * RUNS)
    assert subset(mariadb_counts(mariadb, mysql_url), expected) == expected
    with open_store(mysql_url) as store:
        check_nothing_lost_or_doubled(store, run_names())
    check_nobody_starved(times)


def test_threads_share_an_sqlite_store(crew: Crew, sqlite_path: Path) -> None:
    check_threads(crew, f"sqlite:///{sqlite_path}")
    assert crew.sqlite_counts(sqlite_path)["integrity"] == "ok"


@pytest.mark.mysql
def test_threads_share_a_mariadb_store(crew: Crew, mysql_url: str) -> None:
    check_threads(crew, mysql_url)


def check_threads(crew: Crew, url: str) -> None:
    assert crew.start("record_in_threads", url=url, threads=4, runs=10).result() == 0
    with open_store(url) as store:
        check_nothing_lost_or_doubled(store, {f"t{thread}-{run}" for thread in range(4) for run in range(10)})


def test_processes_share_a_run_on_sqlite(crew: Crew, tmp_path: Path, sqlite_path: Path) -> None:
    check_joined_run(crew, tmp_path, f"sqlite:///{sqlite_path}")


@pytest.mark.mysql
def test_processes_share_a_run_on_mariadb(crew: Crew, tmp_path: Path, mysql_url: str) -> None:
    check_joined_run(crew, tmp_path, mysql_url)


def check_joined_run(crew: Crew, directory: Path, url: str) -> None:
    gate = Gate(directory)
    joiners: list[Worker] = []
    with open_store(url) as store:
        with store.record_run("joined", name="r", parameters={"own": 1}, properties={"mine": "kept"}) as run:
            joiners.extend(
                crew.start("add_to_run", url=url, run="r", worker=f"w{number}", steps=STEPS, gate=str(gate))
                for number in range(JOINERS)
            )
            gate.open(joiners)
            assert [worker.result() for worker in joiners] == [STEPS] * JOINERS
            run.log_properties({"last": True})
        found = store.get_run("r")

    numbers = {f"w{worker}-{step}": step for worker in range(JOINERS) for step in range(STEPS)}
    assert {step.name: step.parameters["number"] for step in found.step_runs} == numbers
    assert len(found.step_runs) == len(numbers)
    assert {step.name: step.output.uri for step in found.step_runs} == {
        name: workers.uri("r", name) for name in numbers
    }
    assert found.properties == {
        "mine": "kept",
        "last": True,
        **{f"note.{name}": step for name, step in numbers.items()},
    }
    assert found.parameters == {"own": 1, **{f"p.{name}": step for name, step in numbers.items()}}
    assert found.metrics == {f"m.{name}": step / 3 for name, step in numbers.items()}
