"""Rows damaged at random: nothing but our own errors comes out, and what was not touched is as before.

The SQL service reads a damaged database in place, in a process of its own. ml-metadata's own core is not
asked: it refuses a whole answer for one row that it cannot read, and ends the process for some.
`ZEN_MLMD_DAMAGED_DATABASES` says how many damaged databases are read, by default 15.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import zen_mlmd as zm
from tests.writers.damage import TABLES
from zen_mlmd.errors import ZenMlmdError
from zen_mlmd.reading.runs import PipelineRunView

ROOT = Path(__file__).parents[2]
DATA = ROOT / "tests" / "data"
FILES = ("kfp_v2_two_runs", "kfp_v1_one_run", "tfx_1_21_0", "zenml_0132_basic3", "zenml_063_train_fail")
DATABASES = int(os.environ.get("ZEN_MLMD_DAMAGED_DATABASES", "15"))

VALUES = st.one_of(
    st.none(),
    st.sampled_from(
        ["", "x" * 300, "{", "[]", "[" * 3000, '{"plan": 3, "after": 4, "metrics": [5]}', "/", "None"]
    ),
    st.sampled_from(["mlmd-struct::", "mlmd-struct::AAAA", "zen_mlmd.run", "run/x", "\u202e", "a\nb"]),
    st.sampled_from([0, -1, 1, 2, 3, 7, 10**8, -(2**62), 2**62, 0.5, 1e300]),
    st.tuples(st.binary(max_size=6), st.booleans()).map(
        lambda each: {"bytes": base64.b64encode(each[0]).decode(), "as_text": each[1]}
    ),
    st.just({"bytes": base64.b64encode(b"\xff\xfeA").decode(), "as_text": True}),
)
DAMAGES = st.lists(
    st.fixed_dictionaries(
        {
            "table": st.sampled_from(sorted(TABLES)),
            "row": st.integers(0, 10**6),
            "action": st.sampled_from(["delete", "set", "set", "set"]),
            "column": st.integers(0, 9),
            "value": VALUES,
        }
    ),
    min_size=1,
    max_size=5,
)


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The databases to be damaged: those of other writers, and one of ours."""
    folder = tmp_path_factory.mktemp("originals")
    own = folder / "zen.db"
    with zm.open_store(f"sqlite:///{own}?journal_mode=delete") as store:
        for number in range(3):
            with store.record_run("churn", name=f"r{number}", parameters={"depth": number}) as run:
                with run.step("load") as step:
                    rows = step.log_output("rows", uri=f"/rows/{number}", type="Dataset")
                with run.step("train", inputs={"rows": rows}) as step:
                    step.log_output("model", uri=f"/model/{number}", type="Model")
                    step.log_metrics({"auc": 0.5})
    for name in FILES:
        shutil.copy(DATA / f"{name}.db", folder / f"{name}.db")
    return {path.stem: path for path in folder.glob("*.db")}


def facts(run: PipelineRunView) -> dict[str, Any]:
    """Return all that a run says of itself, its steps, and what they took and made."""
    return {
        **run.to_dict(),
        "steps": [
            {
                **step.to_dict(),
                "made": {name: found.properties for name, found in step.outputs.items()},
                "by": {name: getattr(found.producer_step, "id", None) for name, found in step.inputs.items()},
                "parents": [each.id for each in step.parents],
                "members": [each.id for each in step.members],
            }
            for step in run.list_steps(include_groups=True)
        ],
        "warnings": run.warnings,
    }


def all_facts(store: zm.Store) -> dict[int, dict[str, Any]]:
    return {run.id: facts(run) for run in store.runs}


def look_at_everything(store: zm.Store) -> None:
    """Ask for all that can be asked; listings raise nothing, single things our own errors at most."""
    runs = list(store.runs)
    for listing in (
        lambda: [each.to_dict() for each in store.pipelines],
        lambda: store.list_runs("status = failed or parameters.lr > 0").to_dicts(),
        lambda: store.list_artifacts("properties.accuracy > 0").to_dicts(),
        lambda: list(store.warnings()),
        lambda: [run.step_names for run in runs],
        lambda: [(pipeline.name, pipeline.run_names) for pipeline in store.pipelines],
    ):
        listing()
    asks: list[Callable[[], Any]] = [
        lambda: str(runs[0].diff(runs[-1])),
        lambda: [store.get(step.path) for run in runs for step in run.list_steps(include_groups=True)],
    ]
    for artifact in list(store.artifacts)[:5]:
        asks += [
            partial(str, artifact),
            artifact.why,
            partial(artifact.downstream, include_logs=True),
            partial(getattr, artifact, "path"),
            partial(getattr, artifact, "consumers"),
            partial(_exported, artifact),
        ]
    for ask in asks if runs else []:
        with contextlib.suppress(ZenMlmdError):
            ask()


def _exported(artifact: Any) -> tuple[str, str, str]:
    graph = artifact.upstream()
    return graph.to_json(), graph.to_mermaid(), graph.to_text()


def damage(path: Path, damages: list[dict[str, Any]]) -> list[list[Any]]:
    done = subprocess.run(
        [sys.executable, str(ROOT / "tests/writers/damage.py"), str(path)],
        input=json.dumps(damages),
        capture_output=True,
        text=True,
        check=True,
    )
    touched: list[list[Any]] = json.loads(done.stdout)
    return touched


def untouched(store: zm.Store, before: dict[int, dict[str, Any]], touched: list[list[Any]]) -> set[int]:
    """Return the ids of the runs that no damage can have reached.

    None, if a type was touched, or a row that says to which other one something belongs; else all but
    those that have a touched node, or share an artifact with a step that was.
    """
    nodes: dict[str, set[Any]] = {"Artifact": set(), "Execution": set(), "Context": set()}
    for table, row in touched:
        if table not in nodes and not table.endswith("Property"):
            return set()
        kind = table.removesuffix("Property")
        nodes[kind].add(row.get("id", row.get(f"{kind.lower()}_id")))
    if nodes["Context"] - before.keys():
        return set()  # a pipeline, or a node: of whoever is in it
    found = set()
    for run_id in before.keys() - nodes["Context"]:
        events = store.loader.events_of_steps([step["id"] for step in before[run_id]["steps"]])
        artifacts = {event.artifact_id for event in events}
        makers = {event.step_id for event in store.loader.events_of_artifacts(sorted(artifacts))}
        if not (artifacts & nodes["Artifact"]) and not (makers & nodes["Execution"]):
            found.add(run_id)
    return found


@pytest.fixture(scope="module")
def known(originals: dict[str, Path]) -> dict[str, dict[int, dict[str, Any]]]:
    """What each database says of its runs while it is whole."""
    found = {}
    for name, path in originals.items():
        with zm.open_store(f"sqlite:///{path}?service=sql") as store:
            found[name] = all_facts(store)
    return found


@pytest.mark.slow
@settings(
    max_examples=DATABASES,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(name=st.sampled_from([*FILES, "zen"]), damages=DAMAGES)
def test_damaged_rows_stop_nothing(
    name: str,
    damages: list[dict[str, Any]],
    originals: dict[str, Path],
    known: dict[str, dict[int, dict[str, Any]]],
    tmp_path: Path,
) -> None:
    path = tmp_path / "damaged.db"
    for each in tmp_path.glob("damaged.db*"):
        each.unlink()
    shutil.copy(originals[name], path)
    touched = damage(path, damages)
    with zm.open_store(f"sqlite:///{path}?service=sql") as store:
        look_at_everything(store)
        after = all_facts(store)
        for run in untouched(store, known[name], touched):
            assert after[run] == known[name][run]


def test_what_is_wrong_is_told_and_listed(originals: dict[str, Path], tmp_path: Path) -> None:
    path = tmp_path / "damaged.db"
    shutil.copy(originals["kfp_v2_two_runs"], path)
    damage(
        path,
        [
            # The inputs of the step `train` become a text, the artifact that it made is gone, and so is
            # the link of the last step to its run.
            {
                "table": "ExecutionProperty",
                "row": _inputs_of(path, 5),
                "action": "set",
                "column": 5,
                "value": "x",
            },
            {"table": "Artifact", "row": 5, "action": "delete", "column": 0, "value": None},
            {"table": "Artifact", "row": 1, "action": "set", "column": 1, "value": 9999},
            {"table": "Association", "row": -1, "action": "delete", "column": 0, "value": None},
            {"table": "Association", "row": -1, "action": "delete", "column": 0, "value": None},
        ],
    )
    with zm.open_store(f"sqlite:///{path}?service=sql") as store:
        run = list(store.runs)[-1]
        told = [(each.where, each.what) for each in run.warnings]
        assert ("step 5", "property 'inputs' is no struct") in told
        assert ("step 5", "its output artifact 6 is gone") in told
        assert ("artifact 2", "its type, 9999, is not there") in told
        assert run.steps["train"].parameters == {}
        assert list(run.steps["train"].outputs) == ["metrics"]
        everything = [(each.where, each.what) for each in store.warnings()]
    assert set(told) <= set(everything)
    assert ("step 42", "it belongs to no run") in everything
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "zen_mlmd",
            "--store",
            f"sqlite:///{path}?service=sql",
            "warnings",
            "-o",
            "json",
        ],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert [(row["where"], row["what"]) for row in json.loads(done.stdout)] == everything


@pytest.mark.parametrize("service", ["sql", "native"])
def test_text_that_is_no_utf8_is_shown_by_its_bytes(
    service: str, originals: dict[str, Path], tmp_path: Path
) -> None:
    path = tmp_path / "damaged.db"
    shutil.copy(originals["kfp_v2_two_runs"], path)
    bytes_ = {"bytes": base64.b64encode(b"\xff\xfeA").decode(), "as_text": True}
    artifact, row = json.loads(
        _asked(path, "SELECT json_array(artifact_id, rowid) FROM ArtifactProperty WHERE string_value != ''")
    )
    before = int(_asked(path, f"SELECT COUNT(*) FROM ArtifactProperty WHERE rowid < {row}"))
    damage(
        path,
        [
            {"table": "Context", "row": 2, "action": "set", "column": 2, "value": bytes_},
            {"table": "Artifact", "row": artifact - 1, "action": "set", "column": 2, "value": bytes_},
            {"table": "ArtifactProperty", "row": before, "action": "set", "column": 4, "value": bytes_},
            {"table": "ArtifactProperty", "row": before, "action": "set", "column": 1, "value": bytes_},
        ],
    )
    shown = r"\xff\xfeA"
    with zm.open_store(f"sqlite:///{path}?service={service}") as store:
        assert shown in [run.name for run in store.runs]
        found = store.get_artifact(artifact)
        assert found.uri == shown
        assert found.properties[shown] == shown
        with store.record_run("churn") as run, run.step("load"):
            pass
        assert store.pipelines["churn"].latest_run.steps["load"].status == "completed"


def _inputs_of(path: Path, execution: int) -> int:
    """Return which row of the table has a step's inputs."""
    inputs = f"execution_id = {execution} AND name = 'inputs'"
    before = f"rowid < (SELECT rowid FROM ExecutionProperty WHERE {inputs})"
    return int(_asked(path, f"SELECT COUNT(*) FROM ExecutionProperty WHERE {before}"))


def _asked(path: Path, query: str) -> str:
    script = "import sqlite3, sys; print(sqlite3.connect(sys.argv[1]).execute(sys.argv[2]).fetchone()[0])"
    command = [sys.executable, "-c", script, str(path), query]
    return subprocess.run(command, capture_output=True, check=True, text=True).stdout
