"""Recording processes are killed at random points: what they finished is there, and only that."""

from __future__ import annotations

import random
import time
from collections import defaultdict
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from tests.integration import workers
from tests.integration.test_many_writers import mariadb_counts
from tests.integration.workers import STEPS, Crew
from tests.services.mariadb import MariaDb
from zen_mlmd import Store, open_store
from zen_mlmd.model import Status
from zen_mlmd.reading.runs import PipelineRunView

AT_ONCE = 6
WAVES = 2
LONG = 100_000
"""More runs than a process comes to record."""


def record_and_kill(crew: Crew, url: str, acks: Path, seed: int) -> None:
    """Kill processes that record, one after another at random moments, until none is left; twice."""
    chance = random.Random(seed)
    for wave in range(WAVES):
        names = {f"w{wave}{number}" for number in range(AT_ONCE)}
        alive = [crew.start("record_runs", url=url, worker=each, runs=LONG, acks=str(acks)) for each in names]
        workers.wait(lambda: names <= {each["run"].partition("-")[0] for each in workers.acknowledged(acks)})  # noqa: B023
        while alive:
            time.sleep(chance.uniform(0.02, 0.25))
            alive.pop(chance.randrange(len(alive))).kill()


def check_what_is_left(store: Store, acks: Path) -> None:
    noted: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for each in workers.acknowledged(acks):
        noted[each["run"]].append(each)
    runs = {run.name: run for run in store.runs}
    assert noted.keys() <= runs.keys()
    assert any("ended" in each[-1] for each in noted.values())
    broken_off = [run for run in runs.values() if not any("ended" in each for each in noted[run.name])]
    assert broken_off
    for run in runs.values():
        notes = noted[run.name]
        if any("ended" in each for each in notes):
            workers.check_run(run)
        elif run.status is Status.COMPLETED:
            # Its end was written, and the process killed before it could note that.
            assert "ending" in notes[-1]
            workers.check_run(run)
        else:
            check_broken_off_run(run, {each["step"] for each in notes if "step" in each})


def check_broken_off_run(run: PipelineRunView, finished: set[str]) -> None:
    assert run.status is Status.RUNNING
    assert run.ended_at is None
    assert run.started_at is not None
    assert run.last_sign_of_life is not None
    # MLMD's clock and ours are the same, but may be rounded to different milliseconds.
    margin = timedelta(milliseconds=2)
    assert run.started_at - margin <= run.last_sign_of_life <= datetime.now(timezone.utc) + margin
    steps = run.steps
    assert len(run.step_runs) == len(steps)
    assert finished <= set(steps)
    # At most one step was written whole and not noted any more.
    completed = {name for name, step in steps.items() if step.status is Status.COMPLETED}
    assert finished <= completed
    assert len(completed - finished) <= 1
    assert len(steps) - len(completed) <= 1
    for name, step in steps.items():
        takes, makes = STEPS[name]
        assert {each: found.uri for each, found in step.inputs.items()} == {
            each: workers.uri(run.name, each) for each in takes
        }
        if name in completed:
            assert step.metrics == {"loss": 1 / 3}
            outputs = {each: workers.uri(run.name, each) for each in makes}
        else:
            assert step.status is Status.RUNNING
            assert step.ended_at is None
            outputs = {}
        assert {each: found.uri for each, found in step.outputs.items()} == outputs


def check_counts(counts: dict[str, Any], store: Store) -> None:
    """Every artifact, execution and event in the database belongs to a run that is read."""
    steps = [step for run in store.runs for step in run.step_runs]
    assert counts["Execution"] == len(steps)
    assert counts["Artifact"] == sum(len(step.outputs) for step in steps)
    assert counts["Event"] == sum(len(step.outputs) + len(step.inputs) for step in steps)


def check_goes_on(store: Store) -> None:
    workers.record(store, "after the kills")
    workers.check_run(store.get_run("after the kills"))


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, pytest.param(2, marks=pytest.mark.exhaustive)])
def test_sqlite_outlives_killed_writers(crew: Crew, tmp_path: Path, sqlite_path: Path, seed: int) -> None:
    record_and_kill(crew, f"sqlite:///{sqlite_path}", tmp_path / "acks", seed)

    counts = crew.sqlite_counts(sqlite_path)
    assert counts["integrity"] == "ok"
    with open_store(sqlite_path) as store:
        check_what_is_left(store, tmp_path / "acks")
        check_counts(counts, store)
        check_goes_on(store)
    assert crew.sqlite_counts(sqlite_path)["integrity"] == "ok"


@pytest.mark.mysql
@pytest.mark.slow
def test_mariadb_outlives_killed_writers(
    crew: Crew, tmp_path: Path, mariadb: MariaDb, mysql_url: str
) -> None:
    record_and_kill(crew, mysql_url, tmp_path / "acks", 3)

    with open_store(mysql_url) as store:
        check_what_is_left(store, tmp_path / "acks")
        check_counts(mariadb_counts(mariadb, mysql_url), store)
        check_goes_on(store)
