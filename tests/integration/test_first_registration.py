"""Processes open a store that does not exist yet at the same instant, and record at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.integration import workers
from tests.integration.test_many_writers import check_nothing_lost_or_doubled, mariadb_counts, subset
from tests.integration.workers import Crew, Gate
from tests.services.mariadb import MariaDb
from zen_mlmd import open_store

WRITERS = 8
RUNS = 2
ROUNDS = 3


def begin_together(crew: Crew, gate: Gate, url: str) -> None:
    writers = [
        crew.start("record_runs", url=url, worker=f"w{number}", runs=RUNS, gate=str(gate), late=True)
        for number in range(WRITERS)
    ]
    gate.open(writers)
    for writer in writers:
        writer.result()


def run_names() -> set[str]:
    return {f"w{worker}-{run}" for worker in range(WRITERS) for run in range(RUNS)}


@pytest.mark.slow
@pytest.mark.parametrize("attempt", range(ROUNDS))
def test_a_new_sqlite_file(crew: Crew, tmp_path: Path, attempt: int) -> None:
    path = tmp_path / "new.db"
    begin_together(crew, Gate(tmp_path), f"sqlite:///{path}")

    counts = crew.sqlite_counts(path)
    expected = workers.expected_rows(WRITERS * RUNS)
    assert counts["integrity"] == "ok"
    assert subset(counts, expected) == expected
    assert sorted(each.name for each in tmp_path.glob("*.db*")) == ["new.db", "new.db.lock", "new.db.queue"]
    with open_store(path) as store:
        check_nothing_lost_or_doubled(store, run_names())


@pytest.mark.mysql
@pytest.mark.slow
@pytest.mark.parametrize("attempt", range(ROUNDS))
def test_an_empty_mariadb(crew: Crew, tmp_path: Path, mariadb: MariaDb, mysql_url: str, attempt: int) -> None:
    begin_together(crew, Gate(tmp_path), mysql_url)

    expected = workers.expected_rows(WRITERS * RUNS)
    assert subset(mariadb_counts(mariadb, mysql_url), expected) == expected
    with open_store(mysql_url) as store:
        check_nothing_lost_or_doubled(store, run_names())
