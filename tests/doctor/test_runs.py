"""Runs that never ended are told of, and recorded as failed if that is asked for; payloads are looked at."""

from __future__ import annotations

import json
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest

import zen_mlmd as zm
from tests.doctor.conftest import damage
from tests.zenml_facts import digest
from zen_mlmd.cli.main import main
from zen_mlmd.doctor import Finding, examine, mend
from zen_mlmd.flavors import config_from_url
from zen_mlmd.model import Status
from zen_mlmd.payloads import ArtifactStore
from zen_mlmd.recording.abandoned import end_abandoned_run

ROOT = Path(__file__).parents[2]
DATA = Path(__file__).parents[1] / "data"
NOW = timedelta(0)
TABLES = ("Event", "EventPath", "Artifact", "ArtifactProperty", "Association", "Attribution", "ParentContext")

_KILLED = """
import os, signal, sys
import zen_mlmd as zm
with zm.open_store(sys.argv[1]) as store:
    run = store.record_run("churn", name="tuesday", parameters={"depth": 3})
    with run.step("load") as step:
        step.log_output("rows", uri="mem://rows")
    run.step("train", parameters={"lr": 0.5}, properties={"by": "ada"})
    print("ready", flush=True)
    sys.stdin.read()
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture(scope="session")
def cut_file(sound_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with a run that ended, and one whose process was killed in its second step."""
    path = shutil.copyfile(sound_file, tmp_path_factory.mktemp("cut") / "metadata.db")
    with subprocess.Popen(
        [sys.executable, "-c", _KILLED, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=ROOT,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        (running,) = examine_runs_of(path)
        assert (running.mendable, f"pid {process.pid})" in running.what) == (False, True)
        assert "runs on this machine" in running.remedy
    damage(path, "PRAGMA wal_checkpoint(TRUNCATE)")
    return path


def examine_runs_of(path: Path, stale_after: timedelta = NOW) -> list[Finding]:
    """Return what is found while another process may have the file open."""
    return [
        each
        for each in examine(config_from_url(path), stale_after=stale_after)
        if each.code.endswith("unended")
    ]


@pytest.fixture
def cut(cut_file: Path, tmp_path: Path) -> Path:
    return shutil.copyfile(cut_file, tmp_path / "metadata.db")


def rows(path: Path) -> list[list[object]]:
    with closing(sqlite3.connect(path)) as database:
        return [sorted(database.execute(f"SELECT * FROM {each}"), key=repr) for each in TABLES]


def test_a_run_that_was_killed_is_told_of_once_it_is_old(cut: Path) -> None:
    assert examine(config_from_url(cut)) == []
    (finding,) = examine(config_from_url(cut), stale_after=NOW)
    assert (finding.code, finding.subject, finding.mendable) == ("run-unended", "churn/tuesday", True)
    assert "nothing was written of it for 0 hours, and no end; it is at train (host " in finding.what


def test_it_is_recorded_as_failed_only_if_that_is_asked_for(
    cut: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before, others = digest(cut), rows(cut)
    command = ["doctor", str(cut), "--stale-after", "0h"]
    assert main([*command, "--fix", "--yes"]) == 1
    assert digest(cut) == before
    assert main([*command, "--end-runs"]) == 2
    assert "--end-runs goes with --fix" in capsys.readouterr().err

    assert main([*command, "--fix", "--end-runs", "--yes", "-o", "json"]) == 0
    said = capsys.readouterr()
    assert json.loads(said.out) == []
    assert "churn/tuesday: recorded as failed" in said.err
    assert examine(config_from_url(cut), stale_after=NOW) == []
    assert rows(cut) == others
    with zm.open_store(cut) as store:
        run = store.get_run("tuesday")
        assert run.status is Status.FAILED
        assert run.failure is not None
        assert run.failure.type == "abandoned"
        assert "nothing was written of it since 20" in run.failure.message
        assert run.parameters == {"depth": 3}
        assert run["load"].status is Status.COMPLETED
        step = run["train"]
        assert (step.status, step.failure.type if step.failure else "") == (Status.FAILED, "abandoned")
        assert (step.parameters, step.properties["by"]) == ({"lr": 0.5}, "ada")
        assert run.ended_at is not None
        assert run.started_at is not None
        assert timedelta(0) <= run.ended_at - run.started_at < timedelta(minutes=2), (
            "when it was last written"
        )
        assert store.get_run("monday").status is Status.COMPLETED


def test_a_step_that_is_left_in_a_run_that_has_ended(cut: Path) -> None:
    with zm.open_store(cut) as store:
        store.join_run("tuesday").end(Status.CANCELED)
    config = config_from_url(cut)
    (finding,) = examine(config, stale_after=NOW)
    assert (finding.code, finding.subject, finding.mendable) == ("step-unended", "churn/tuesday/train", True)
    assert mend(config, end_runs=True, stale_after=NOW) == 1
    assert examine(config, stale_after=NOW) == []
    with zm.open_store(cut) as store:
        run = store.get_run("tuesday")
        assert (run.status, run["train"].status) == (Status.CANCELED, Status.FAILED)


def test_what_was_written_meanwhile_is_left_to_its_writer(cut: Path) -> None:
    with zm.open_store(cut) as store:
        whole = store.loader.whole([store.get_run("tuesday").record])
        (read,) = whole.values()
        store.join_run("tuesday").log_metrics({"auc": 0.5})
        assert not end_abandoned_run(store.loader.client, read.run, list(read.steps), "gone")
        assert store.get_run("tuesday").status is Status.RUNNING
        assert store.get_run("tuesday")["train"].status is Status.RUNNING


def test_a_process_that_lives_after_all_records_its_own_end_over_it(path: Path) -> None:
    with zm.open_store(path) as store:
        recorder = store.record_run("churn", name="tuesday")
        step = recorder.step("train")
        (read,) = store.loader.whole([store.get_run("tuesday").record]).values()
        assert end_abandoned_run(store.loader.client, read.run, list(read.steps), "gone")
        assert (store.get_run("tuesday").status, len(read.steps)) == (Status.FAILED, 1)
        step.log_metrics({"auc": 0.5})
        step.end()
        recorder.end()
        run = store.get_run("tuesday")
        assert (run.status, run.failure) == (Status.COMPLETED, None)
        assert (run["train"].status, run["train"].failure) == (Status.COMPLETED, None)
        assert run["train"].metrics == {"auc": 0.5}


def test_runs_of_other_writers_are_told_of_and_left_alone(tmp_path: Path) -> None:
    path = shutil.copyfile(DATA / "kfp_v2_two_runs.db", tmp_path / "kfp.db")
    mend(config_from_url(path))
    damage(
        path,
        "UPDATE Execution SET last_known_state = 2 WHERE id = (SELECT max(e.id) FROM Execution AS e"
        " JOIN Type AS t ON t.id = e.type_id WHERE t.name = 'system.ContainerExecution')",
    )
    before = digest(path)
    (finding,) = examine(config_from_url(path))
    assert (finding.code, finding.mendable) == ("run-unended", False)
    assert "another program wrote it" in finding.remedy
    assert "days, and no end" in finding.what
    assert mend(config_from_url(path), end_runs=True) == 0
    assert digest(path) == before


def test_a_step_of_no_run(cut: Path) -> None:
    damage(cut, "DELETE FROM Association", "DELETE FROM Context WHERE name = 'tuesday'")
    (finding,) = examine_runs_of(cut)
    assert finding.code == "step-unended"
    assert finding.subject.startswith("step ")
    mend(config_from_url(cut), end_runs=True, stale_after=NOW)
    assert examine(config_from_url(cut), stale_after=NOW) == []


def test_of_an_older_schema_it_is_told_and_nothing_is_written(cut: Path) -> None:
    damage(
        cut,
        "UPDATE MLMDEnv SET schema_version = 9",
        *(
            f"ALTER TABLE {node}Property DROP COLUMN {column}_value"
            for node in ("Artifact", "Execution", "Context")
            for column in ("proto", "bool")
        ),
    )
    found = examine(config_from_url(cut), stale_after=NOW)
    assert [(each.code, each.mendable) for each in found] == [("schema-old", False), ("run-unended", False)]


# -- payloads --------------------------------------------------------------------------------------


def test_payloads_that_are_gone_or_other_are_told_of_if_asked_for(
    path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    artifacts = ArtifactStore(tmp_path / "artifacts")
    with (
        zm.open_store(path) as store,
        store.record_run("churn") as run,
        run.step("s") as step,
    ):
        for name in ("kept", "lost", "changed"):
            made = artifacts.write(artifacts.new_uri(name), lambda to: write(to / "data"))
            step.log_output(name, uri=made.uri, content_hash=made.content_hash, size_bytes=made.size_bytes)
        step.log_output("plain", uri=str(tmp_path / "artifacts" / "kept"))
        step.log_output("none", uri=str(tmp_path / "none"))
        step.log_output("far", uri="nosuch://user:canary@bucket/x")
    shutil.rmtree(tmp_path / "artifacts" / "lost")
    (tmp_path / "artifacts" / "changed" / "data").write_text("DATA")

    damage(path, "DELETE FROM Artifact WHERE uri LIKE 'mem:%'", "DELETE FROM Event WHERE artifact_id < 3")
    mend(config_from_url(path))
    assert examine(config_from_url(path)) == []
    assert main(["doctor", str(path), "--payloads", "-o", "json"]) == 1
    said = capsys.readouterr()
    found = [(each["code"], each["what"]) for each in json.loads(said.out) if each["severity"] != "info"]
    assert sorted(found)[:3] == [
        ("payload-changed", f"what lies at {tmp_path}/artifacts/changed is not what was recorded"),
        ("payload-gone", f"nothing lies at {tmp_path}/artifacts/lost"),
        ("payload-gone", f"nothing lies at {tmp_path}/none"),
    ]
    ((code, what),) = sorted(found)[3:]
    assert code == "payload-unreadable"
    assert what.startswith("the payloads of 1 artifacts cannot be looked at: nosuch://: ")
    assert "canary" not in said.out + said.err
    assert "payloads of 6 artifacts were looked for, 4 bytes of them were read" in said.err


def write(path: Path) -> None:
    path.write_text("data")


def test_a_table_has_the_first_of_many(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with (
        zm.open_store(path) as store,
        store.record_run("churn") as run,
        run.step("s") as step,
    ):
        for number in range(25):
            step.log_output("x", uri=f"/no/such/{number}")
    assert main(["doctor", str(path), "--payloads"]) == 1
    said = capsys.readouterr()
    assert said.out.count("error   payload-gone") == 20
    assert "and 5 more of payload-gone: -o json has all" in said.out
