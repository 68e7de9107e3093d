"""Pruning: what goes, what stays as something depends on it, and what a killed one leaves behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from ml_metadata import metadata_store
from ml_metadata.proto import metadata_store_service_pb2 as rpc

import zen_mlmd as zm
from tests.integration.conftest import stores, url_of
from zen_mlmd.errors import FilterSyntaxError, UsageError
from zen_mlmd.transfer.prune import PrunePlan, What, plan_prune, prune


@pytest.fixture(params=stores("sqlite-sql", "mysql", "postgresql"))
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[zm.Store]:
    with zm.open_store(url_of(request, request.param, tmp_path)) as opened:
        yield opened


def record(store: zm.Store, name: str, *, takes: tuple[str, ...] = (), pipeline: str = "p") -> None:
    """Record a run of two steps; the first takes outputs `run/step/output`."""
    inputs = {f"in{number}": store.get_artifact(path) for number, path in enumerate(takes)}
    with store.record_run(pipeline, name=name, parameters={"n": name}) as run:
        with run.step("make", inputs=inputs) as step:
            rows = step.log_output("rows", uri=f"mem://{name}/rows", properties={"n": 1})
        with run.step("train", inputs={"rows": rows}) as step:
            step.log_output("model", uri=f"mem://{name}/model")


def pruned(store: zm.Store, where: str, *, what: What = "runs", keep_lineage: bool = True) -> PrunePlan:
    plan = plan_prune(store, where, what=what, keep_lineage=keep_lineage)
    prune(store, plan)
    return plan


def names(store: zm.Store) -> list[str]:
    return [run.name for run in store.runs]


def test_a_run_goes_with_what_it_alone_made(store: zm.Store) -> None:
    raw = store.import_artifact("mem://raw")
    for name in ("one", "two"):
        record(store, name)
    with store.record_run("p", name="three") as run, run.step("look", inputs={"raw": raw}):
        pass
    plan = plan_prune(store, "name in ('one', 'three')")
    assert (plan.going, plan.steps, plan.artifacts) == (("p/three", "p/one"), 3, 2)
    assert plan.uris == ("mem://one/model", "mem://one/rows")
    assert names(store) == ["three", "two", "one"]  # nothing was done yet
    assert prune(store, plan)["executions"] == 3
    assert names(store) == ["two"]
    assert sorted(each.uri for each in store.list_artifacts()) == [
        "mem://raw",
        "mem://two/model",
        "mem://two/rows",
    ]
    assert store.get_run("two")["train"].outputs["model"].upstream().complete
    assert store.pipelines["p"].latest_run.name == "two"


def test_what_something_depends_on_that_stays_is_kept_on_and_on(store: zm.Store) -> None:
    record(store, "one")
    record(store, "two", takes=("p/one/make/rows",))
    record(store, "three", takes=("p/two/train/model",))
    record(store, "other")
    plan = pruned(store, "name != 'three'")
    assert (plan.going, plan.kept) == (("p/other",), ("p/two", "p/one"))
    assert names(store) == ["three", "two", "one"]
    upstream = store.get_artifact("p/three/train/model").upstream()
    assert {step.name for step in upstream.steps.values()} == {"make", "train"}
    assert len(upstream.steps) == 5


def test_lineage_is_broken_if_asked_and_what_is_used_stays(store: zm.Store) -> None:
    record(store, "one")
    record(store, "two", takes=("p/one/make/rows",))
    plan = pruned(store, "name = 'one'", keep_lineage=False)
    assert (plan.going, plan.artifacts) == (("p/one",), 1)
    assert names(store) == ["two"]
    assert store.get_run("two")["make"].inputs["in0"].uri == "mem://one/rows"


def test_a_run_that_has_not_ended_stays(store: zm.Store) -> None:
    run = store.record_run("p", name="now")
    with run.step("s"):
        pass
    plan = pruned(store, "name = 'now'")
    assert (plan.going, plan.running) == ((), ("p/now",))
    run.end()
    assert pruned(store, "name = 'now'").going == ("p/now",)
    assert names(store) == []


def test_age_counts(store: zm.Store) -> None:
    record(store, "one")
    assert plan_prune(store, older_than=timedelta(hours=1)).going == ()
    assert plan_prune(store, older_than=timedelta(0)).going == ("p/one",)


def test_nothing_hangs_about_and_ml_metadata_lists_all(sqlite_path: Path) -> None:
    with zm.open_store(f"sqlite:///{sqlite_path}?service=sql") as store:
        for name in ("one", "two", "three"):
            record(store, name)
        pruned(store, "name != 'two'")
    theirs = metadata_store.MetadataStore(zm.SqliteConfig(path=str(sqlite_path)).connection_config())
    assert len(theirs.get_executions()) == 2
    assert len(theirs.get_artifacts()) == 2
    ids = [each.id for each in theirs.get_executions()]
    assert len(theirs.get_events_by_execution_ids(ids)) == 3
    assert [each.name for each in theirs.get_contexts_by_type("pipeline_run")] == ["two"]
    del theirs
    assert dangling(sqlite_path) == []


def dangling(path: Path) -> list[str]:
    """Return tables with rows of nodes that are not there; asked in another process."""
    script = """
import sqlite3, sys
database = sqlite3.connect(sys.argv[1])
for table, column, of in (
    ("ArtifactProperty", "artifact_id", "Artifact"), ("ExecutionProperty", "execution_id", "Execution"),
    ("ContextProperty", "context_id", "Context"), ("Event", "artifact_id", "Artifact"),
    ("Event", "execution_id", "Execution"), ("EventPath", "event_id", "Event"),
    ("Association", "execution_id", "Execution"), ("Association", "context_id", "Context"),
    ("Attribution", "artifact_id", "Artifact"), ("Attribution", "context_id", "Context"),
    ("ParentContext", "context_id", "Context"), ("ParentContext", "parent_context_id", "Context"),
):
    if database.execute(f"SELECT 1 FROM {table} WHERE {column} NOT IN (SELECT id FROM {of})").fetchone():
        print(table, column)
"""
    command = [sys.executable, "-c", script, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


def test_one_that_is_killed_leaves_a_whole_store_and_the_next_goes_on(sqlite_path: Path) -> None:
    url = f"sqlite:///{sqlite_path}?service=sql"
    with zm.open_store(url) as store:
        for number in range(40):
            record(store, f"r{number}")
    script = (
        "import sys, time, zen_mlmd as zm\n"
        "from zen_mlmd.transfer import prune\n"
        "prune._STEPS = 3\n"
        f"store = zm.open_store({url!r})\n"
        "plan = prune.plan_prune(store, \"name != 'r39'\")\n"
        "print('go', flush=True)\n"
        "prune.prune(store, plan, lambda done, all: (print(done, flush=True), time.sleep(0.01)))\n"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.strip() == "7":
                os.kill(process.pid, signal.SIGKILL)
                break
    time.sleep(0.5)
    assert dangling(sqlite_path) == []
    with zm.open_store(url) as store:
        left = len(store.runs)
        assert left > 1
        assert all(step.record.id for run in store.runs for step in run.step_runs)
        assert len(pruned(store, "name != 'r39'").going) == left - 1
        assert names(store) == ["r39"]
        assert len(list(store.list_artifacts())) == 2
    assert dangling(sqlite_path) == []


def test_bad_wishes_are_refused(store: zm.Store, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="which runs"):
        plan_prune(store)
    with pytest.raises(FilterSyntaxError):
        plan_prune(store, "name =")
    with zm.open_store(tmp_path / "native.db") as native:
        record(native, "one")
        plan = plan_prune(native, "name = 'one'")
        with pytest.raises(UsageError, match="deletes nothing"):
            prune(native, plan)
        assert names(native) == ["one"]


def test_the_command_says_what_and_deletes_if_told(sqlite_path: Path, tmp_path: Path) -> None:
    with zm.open_store(sqlite_path) as store:
        for name in ("one", "two"):
            record(store, name)

    def command(*args: object) -> subprocess.CompletedProcess[str]:
        line = [sys.executable, "-m", "zen_mlmd", *map(str, args)]
        return subprocess.run(line, capture_output=True, text=True, check=False)

    asked = ("prune", "--where", "name = 'one'", "--store", sqlite_path)
    said = command(*asked, "--uris", tmp_path / "uris")
    assert said.returncode == 0, said.stderr
    assert "p/one" in said.stdout
    assert "nothing was deleted" in said.stderr
    assert (tmp_path / "uris").read_text().split() == ["mem://one/model", "mem://one/rows"]
    listed = command("runs", "list", "--store", sqlite_path, "-o", "json")
    assert len(json.loads(listed.stdout)) == 2
    assert "deleted: 2 steps, 2 artifacts" in command(*asked, "--yes").stdout
    listed = command("runs", "list", "--store", sqlite_path, "-o", "json")
    assert [each["name"] for each in json.loads(listed.stdout)] == ["two"]
    said = command("prune", "steps", "--where", "name = 'train'", "--store", sqlite_path, "--yes")
    assert "p/two/train" in said.stdout
    assert "deleted: 1 steps, 1 artifacts" in said.stdout
    said = command("prune", "artifacts", "--older-than", "0h", "--store", sqlite_path)
    assert "mem://two/rows" in said.stdout.partition("kept")[2]
    wrong = command("prune", "--older-than", "soon", "--store", sqlite_path)
    assert wrong.returncode == 2
    assert "90d" in wrong.stderr


def test_steps_go_alone_and_what_others_need_stays(store: zm.Store) -> None:
    record(store, "one")
    record(store, "two", takes=("p/one/train/model",))
    plan = pruned(store, "name = 'train'", what="steps")
    assert (plan.going, plan.kept) == (("p/two/train",), ("p/one/train",))
    assert (plan.steps, plan.uris) == (1, ("mem://two/model",))
    assert {run.name: run.step_names for run in store.runs} == {"two": ["make"], "one": ["make", "train"]}
    assert store.get_artifact("p/two/make/rows").upstream().complete
    assert len(pruned(store, "name = 'make'", what="steps").kept) == 1  # train of one took its rows
    assert pruned(store, "name = 'train'", what="steps", keep_lineage=False).steps == 1
    assert {run.name: run.step_names for run in store.runs} == {"two": [], "one": ["make"]}


def test_steps_of_a_run_that_has_not_ended_stay(store: zm.Store) -> None:
    run = store.record_run("p", name="now")
    with run.step("s"):
        pass
    plan = pruned(store, "name = 's'", what="steps")
    assert (plan.going, plan.running) == ((), ("p/now/s",))
    run.end()
    assert pruned(store, "name = 's'", what="steps").going == ("p/now/s",)


def test_artifacts_go_that_nothing_made_or_used(store: zm.Store) -> None:
    record(store, "one")
    for uri in ("mem://stray", "mem://one"):
        store.import_artifact(uri)
    assert plan_prune(store, what="artifacts", older_than=timedelta(hours=1)).artifacts == 0
    plan = pruned(store, "uri like 'mem://%one%' or uri = 'mem://stray'", what="artifacts")
    assert sorted(plan.going) == ["mem://one", "mem://stray"]
    assert sorted(plan.kept) == ["mem://one/model", "mem://one/rows"]
    assert sorted(each.uri for each in store.list_artifacts()) == ["mem://one/model", "mem://one/rows"]
    pruned(store, "uri = 'mem://one/rows'", what="artifacts", keep_lineage=False)
    assert [each.uri for each in store.list_artifacts()] == ["mem://one/model"]
    assert not store.get_run("one")["make"].outputs
    assert store.get_run("one")["train"].outputs["model"].uri == "mem://one/model"


@pytest.mark.parametrize("keep_lineage", [True, False])
def test_a_step_that_is_in_two_runs_stays_while_one_of_them_does(store: zm.Store, keep_lineage: bool) -> None:
    for name in ("one", "two", "three"):
        record(store, name)
    shared = store.get_run("one")["make"].record.id
    request = rpc.PutAttributionsAndAssociationsRequest()
    request.associations.add(execution_id=shared, context_id=store.get_run("two").record.id)
    store.loader.client.service.call("PutAttributionsAndAssociations", request)
    plan = pruned(store, "name in ('one', 'three')", keep_lineage=keep_lineage)
    assert (plan.going, plan.kept) == (("p/three",), ("p/one",))
    assert names(store) == ["two", "one"]
    assert shared in store.loader.steps([shared])
    assert store.get_run("one").step_names == (["make", "train"] if keep_lineage else ["make"])
    assert set(pruned(store, "name in ('one', 'two')").going) == {"p/one", "p/two"}
    assert (names(store), list(store.list_artifacts())) == ([], [])
