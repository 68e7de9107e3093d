"""TFX's own library reads what zen_mlmd recorded, and a TFX pipeline goes on from it."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import pytest

import zen_mlmd as zm
from tests.services import free_port
from tests.services.tfx import ask_tfx
from zen_mlmd.model import EventType
from zen_mlmd.reading.runs import PipelineRunView
from zen_mlmd.reading.steps import Slots, StepView
from zen_mlmd.server import Server, ServerConfig

# -- what is recorded ----------------------------------------------------------------------------


@zm.step
def load(path: str) -> list[int]:
    return [len(path), 2, 3]


@zm.step(output_types={"model": "Model"}, base_type="Train")
def train(rows: list[int], depth: int) -> Annotated[dict[str, int], "model"]:
    return {"depth": depth, "rows": sum(rows)}


@zm.pipeline
def shop(path: str, depth: int = 3) -> None:
    train(load(path), depth=depth)


def record_churn(store: zm.Store) -> None:
    """Record a run with lists and with one artifact on two inputs, and a run that re-uses and then fails."""
    raw = store.import_artifact("/raw", type="Examples")
    with store.record_run("churn", name="one", parameters={"depth": 4}) as run:
        with run.step("load", inputs={"raw": raw}) as step:
            shards = [step.log_output("rows", uri=f"/rows/{number}", type="Examples") for number in range(3)]
        inputs: dict[str, Any] = {"rows": shards[::-1], "first": shards[0]}
        with run.step("train.big", inputs=inputs, parameters={"lr": 1e-7}, base_type="Train") as step:
            model = step.log_output(
                "model", uri="/model", type="Model", properties={"auc": 0.75, "by": "ana", "rounds": 3}
            )
        with run.step("evaluate", inputs={"model": model, "rows": shards}) as step:
            step.log_output("report", uri="/report", type="churn.Report")
    with store.record_run("churn", name="two") as run:
        run.reuse_step("load", inputs={"raw": raw}, outputs={"rows": shards})
        with pytest.raises(ZeroDivisionError), run.step("train.big", inputs={"rows": shards}):
            raise ZeroDivisionError


CHURN_STEPS = {"one": ["load", "train.big", "evaluate"], "two": ["load", "train.big"]}
SHOP_STEPS = {"fresh": ["load", "train"], "cached": ["load", "train"], "deeper": ["load", "train"]}


@pytest.fixture(scope="module", params=["sqlite", "serve"])
def store(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[zm.Store]:
    """A store with runs of two pipelines: a file that TFX opens itself, or `zen-mlmd serve` that both ask."""
    folder = tmp_path_factory.mktemp("store")
    if request.param == "sqlite":
        with zm.open_store(folder / "metadata.db") as opened:
            record_all(opened, folder)
            yield opened
    else:
        config = ServerConfig.checked(bind="127.0.0.1:0", log="none")
        with (
            Server(folder / "served.db", config) as served,
            zm.open_store(f"grpc://{served.address}") as opened,
        ):
            record_all(opened, folder)
            yield opened


def record_all(store: zm.Store, folder: Path) -> None:
    record_churn(store)
    here = shop.options(store=store, artifacts=folder / "artifacts")
    here.run("raw.csv", name="fresh")
    here.run("raw.csv", name="cached")
    here.run("raw.csv", depth=9, name="deeper")


@pytest.fixture(scope="module")
def churn(tfx_python: str, store: zm.Store) -> Any:
    """What TFX finds of the pipeline that was recorded call by call."""
    return ask_tfx(
        tfx_python,
        "read",
        store,
        pipeline="churn",
        nodes=CHURN_STEPS,
        channels=[
            {"node": "", "key": "", "type_name": "Model"},
            {"node": "train.big", "key": "model", "type_name": "Model"},
            {"node": "load", "key": "rows", "type_name": "Examples"},
            {"node": "load", "key": "other", "type_name": "Examples"},
        ],
        artifacts=[store.get_run("one")["train.big"].outputs["model"].id],
    )


@pytest.fixture(scope="module")
def shop_seen(tfx_python: str, store: zm.Store) -> Any:
    """What TFX finds of the pipeline of decorated functions."""
    return ask_tfx(
        tfx_python,
        "read",
        store,
        pipeline="shop",
        nodes=SHOP_STEPS,
        channels=[{"node": "train", "key": "model", "type_name": "Model"}],
        artifacts=[],
    )


def slots(found: Slots) -> dict[str, list[tuple[int, str, str]]]:
    return {name: [(each.id, each.type, each.uri) for each in listed] for name, listed in found.lists.items()}


def seen(found: dict[str, list[dict[str, Any]]]) -> dict[str, list[tuple[int, str, str]]]:
    return {
        name: [(each["id"], each["type"], each["uri"]) for each in listed] for name, listed in found.items()
    }


def steps_of(run: PipelineRunView) -> dict[str, StepView]:
    return dict(run.steps)


# -- TFX reads -----------------------------------------------------------------------------------


def test_tfx_finds_everything_and_makes_nothing_anew(churn: Any, shop_seen: Any) -> None:
    assert churn["after"] == churn["before"]
    assert shop_seen["after"] == shop_seen["before"]


def test_tfx_finds_the_runs_of_a_pipeline_by_their_parent(
    store: zm.Store, churn: Any, shop_seen: Any
) -> None:
    for name, found in (("churn", churn), ("shop", shop_seen)):
        pipeline = store.pipelines[name]
        assert found["pipeline_id"] == pipeline.id
        assert found["runs"] == {run.name: {"id": run.id, "parents": [name]} for run in pipeline.runs}


@pytest.mark.parametrize("run", CHURN_STEPS)
def test_tfx_finds_the_executions_of_a_node_with_inputs_and_outputs(
    store: zm.Store, churn: Any, run: str
) -> None:
    steps = steps_of(store.get_run(run))

    assert list(steps) == CHURN_STEPS[run]
    for name, step in steps.items():
        (found,) = churn["nodes"][run][name]
        assert found["id"] == step.id
        assert seen(found["inputs"]) == slots(step.inputs)
        assert seen(found["outputs"]) == slots(step.outputs)


def test_tfx_sees_lists_in_order_and_one_artifact_on_two_inputs(store: zm.Store, churn: Any) -> None:
    (load_found,) = churn["nodes"]["one"]["load"]
    (train_found,) = churn["nodes"]["one"]["train.big"]
    rows = [each["id"] for each in load_found["outputs"]["rows"]]

    assert [each["uri"] for each in load_found["outputs"]["rows"]] == ["/rows/0", "/rows/1", "/rows/2"]
    assert [each["id"] for each in train_found["inputs"]["rows"]] == rows[::-1]
    assert [each["id"] for each in train_found["inputs"]["first"]] == rows[:1]
    assert train_found["input_ids"] == {"rows": rows[::-1], "first": rows[:1]}
    assert rows == [each.id for each in store.get_run("one")["load"].outputs.lists["rows"]]


def test_tfx_knows_the_standard_types_as_its_own_classes(churn: Any) -> None:
    classes = {
        each["type"]: each["class"]
        for nodes in churn["nodes"]["one"].values()
        for execution in nodes
        for listed in execution["outputs"].values()
        for each in listed
    }

    assert classes.keys() == {"Examples", "Model", "churn.Report"}
    assert (classes["Examples"], classes["Model"]) == ("Examples", "Model")


def test_tfx_sees_every_output_as_live(churn: Any, shop_seen: Any) -> None:
    outputs = [
        each
        for found in (churn, shop_seen)
        for nodes in found["nodes"].values()
        for executions in nodes.values()
        for execution in executions
        for listed in execution["outputs"].values()
        for each in listed
    ]

    assert len(outputs) > 10
    assert all(each["live"] and each["published"] for each in outputs)


def test_tfx_takes_the_states_for_what_they_are(churn: Any) -> None:
    states = {
        (run, node): found[0]["state"]
        for run, nodes in churn["nodes"].items()
        for node, found in nodes.items()
    }
    plain = {"successful": False, "failed": False, "active": False, "cached": False}

    assert states == {
        ("one", "load"): {**plain, "successful": True},
        ("one", "train.big"): {**plain, "successful": True},
        ("one", "evaluate"): {**plain, "successful": True},
        ("two", "load"): {**plain, "successful": True, "cached": True},
        ("two", "train.big"): {**plain, "failed": True},
    }


def test_tfx_takes_a_running_step_for_active(tfx_python: str, store: zm.Store) -> None:
    with store.record_run("slow", name="running") as run, run.step("wait"):
        found = ask_tfx(
            tfx_python,
            "read",
            store,
            pipeline="slow",
            nodes={"running": ["wait"]},
            channels=[],
            artifacts=[],
        )

    (execution,) = found["nodes"]["running"]["wait"]
    assert execution["state"] == {"successful": False, "failed": False, "active": True, "cached": False}


def test_tfx_reads_properties_under_their_own_names(store: zm.Store, churn: Any) -> None:
    model = store.get_run("one")["train.big"].outputs["model"]

    assert churn["properties"] == {str(model.id): {"auc": 0.75, "by": "ana", "rounds": 3}}


def test_tfx_resolves_what_its_nodes_would_look_for(store: zm.Store, churn: Any, shop_seen: Any) -> None:
    models, made, rows, nothing = churn["resolved"]
    model = store.get_run("one")["train.big"].outputs["model"].id
    shards = [each.id for each in store.get_run("one")["load"].outputs.lists["rows"]]

    assert models["all"] == made["all"] == churn["models"] == churn["published_models"] == [model]
    assert [each["id"] for each in models["latest"]] == [model]
    assert rows["all"] == shards
    assert (nothing["all"], nothing["latest"]) == ([], None)
    newest = store.get_run("deeper")["train"].output
    assert [each["id"] for each in shop_seen["resolved"][0]["latest"]] == [newest.id]


def test_tfx_sees_cached_steps_with_the_outputs_of_those_that_made_them(
    store: zm.Store, shop_seen: Any
) -> None:
    for run, cached in (("fresh", set()), ("cached", {"load", "train"}), ("deeper", {"load"})):
        for name, step in steps_of(store.get_run(run)).items():
            (found,) = shop_seen["nodes"][run][name]
            assert found["id"] == step.id
            assert found["state"]["successful"] is True
            assert found["state"]["cached"] is step.is_cached is (name in cached)
            assert seen(found["inputs"]) == slots(step.inputs)
            assert seen(found["outputs"]) == slots(step.outputs)
    fresh, again = (shop_seen["nodes"][run]["train"][0]["outputs"] for run in ("fresh", "cached"))
    assert fresh == again


def test_tfx_finds_the_outputs_in_the_cache_of_a_decorated_step(store: zm.Store, shop_seen: Any) -> None:
    for run, nodes in shop_seen["nodes"].items():
        for name, (found,) in nodes.items():
            step = store.get_run(run)[name]
            if step.is_cached:  # what it re-uses lies under the key, not the re-use
                assert found["cached_outputs"] is None
            else:
                assert seen(found["cached_outputs"]) == slots(step.outputs)


# -- TFX goes on ---------------------------------------------------------------------------------


def test_a_tfx_pipeline_takes_the_latest_model_that_was_recorded(
    tfx_python: str, store: zm.Store, tmp_path: Path
) -> None:
    """TFX's own runner, with a Resolver, on `store.connection_config()`; and read back with ours."""
    raw = store.import_artifact("/late/raw", type="Examples")
    for number in range(2):
        late = store.record_run("late", name=f"ours_{number}")
        with late, late.step("train", inputs={"raw": raw}) as step:
            step.log_output("model", uri=f"/late/model/{number}", type="Model")
    trained = store.get_run("ours_1")["train"]
    model = trained.output

    ran = ask_tfx(tfx_python, "run", store, pipeline="late", root=str(tmp_path))

    run = store.pipelines["late"].latest_run
    assert store.pipelines["late"].run_names == [run.name, "ours_1", "ours_0"]
    assert (run.dialect, run.status, run.step_names) == ("tfx", zm.Status.COMPLETED, ran["nodes"])
    resolver, served = run["latest_model"], run["serve"]
    assert [event.artifact_id for event in resolver.events([EventType.INTERNAL_OUTPUT])] == [model.id]
    assert served.input == model
    assert served.parameters == {"port": 8501}
    assert served.output.type == "PushedModel"
    assert served.output.properties["served"] == "/late/model/1 on 8501"
    assert list(model.consumers) == [served]
    assert model.producer_step == trained
    upstream, downstream = served.output.upstream(), raw.downstream()
    assert set(upstream.artifacts) == {served.output.id, model.id, raw.id}
    assert set(upstream.steps) == {served.id, trained.id}
    assert served.output.id in downstream.artifacts
    assert resolver.id not in downstream.steps
    assert f"  from model = Model {model.id}\n" in str(served.output.why())
    assert "was made by train of late/ours_1" in str(model.why())
    measured, told = run["measure"], run["announce"]
    assert {name: each.read() for name, each in measured.outputs.items()} == {
        "auc": 0.75,
        "rounds": 3,
        "note": "naïve about PushedModel",
        "steady": True,
        "missing": None,
    }
    assert measured.metrics == {"auc": 0.75, "rounds": 3}
    assert run.list_steps("metrics.auc > 0.7") == [measured]
    assert told.input == measured.outputs["auc"]
    assert told.parameters == {"sizes": [3, 4], "steady": False}
    assert set(told.input.upstream().artifacts) >= {raw.id, model.id, served.output.id}


def blocks(language: str, port: int) -> list[str]:
    """Return the blocks of the page for users of TFX, with a port that is free here."""
    text = (Path(__file__).parents[2] / "docs" / "tfx.md").read_text("utf-8")
    found = re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return [each.replace(":8080", f":{port}") for each in found]


@contextlib.contextmanager
def serving(command: list[str], folder: Path) -> Iterator[None]:
    """Run `zen-mlmd serve` till it takes calls, and for as long as the context lasts."""
    with subprocess.Popen(
        [sys.executable, "-m", "zen_mlmd", *command],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        stderr=subprocess.PIPE,
        text=True,
    ) as server:
        try:
            assert server.stderr is not None
            assert json.loads(server.stderr.readline())["event"] == "serving"
            yield
        finally:
            server.terminate()
            server.communicate(timeout=60)


def test_the_page_for_users_of_tfx_works_as_it_stands(tfx_python: str, tmp_path: Path) -> None:
    port = free_port()
    (command,) = blocks("console", port)
    program, *arguments = shlex.split(command)
    assert program == "zen-mlmd"
    script = tmp_path / "page.py"
    script.write_text("\n".join(blocks("python", port)), "utf-8")
    with serving(arguments, tmp_path):
        done = subprocess.run(
            [tfx_python, "-W", "ignore", str(script)],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
    assert done.returncode == 0, done.stderr[-3000:]
    assert re.search(r"PushedModel \d+ was made by Push of serving/", done.stdout)
    assert re.search(r"  from model = Model \d+\n", done.stdout)
    assert done.stdout.endswith("\n0.75 good\n")
    with zm.open_store(tmp_path / "metadata.db") as store:
        pushed = store.pipelines["serving"].latest_run["Push"].output
        assert pushed.properties["served"] == "/models/monday on 8501"
        assert [step.name for step in pushed.upstream().steps.values()] == ["Push", "train"]
        assert store.pipelines["evaluation"].latest_run["Evaluate"].parameters == {"rows": 100}


def test_what_tfx_runs_for_a_notebook_is_read(tfx_python: str, tmp_path: Path) -> None:
    """TFX's own code for notebooks and Airflow writes as all of TFX did up to 0.25."""
    with zm.open_store(tmp_path / "metadata.db") as store:
        ids = ask_tfx(tfx_python, "notebook", store, pipeline="nb", root=str(tmp_path), depth=3)
        runs = store.pipelines["nb"].runs
        assert [run.name for run in runs] == ["imported", "failed", "again", "first"]
        assert {run.dialect for run in runs} == {"tfx"}
        first, again, failed, imported = (run.step_runs[0] for run in reversed(list(runs)))
        assert {run: store.get_run(run).step_runs[0].id for run in ids} == ids
        assert [each.name for each in (first, again, failed, imported)] == ["make", "make", "fail", "schema"]
        assert first.parameters == {"depth": "3"}
        assert (first.output.record.state, first.output.properties["depth"]) == ("live", 3)
        assert (again.status, again.cached_from, again.output) == ("cached", first, first.output)
        assert first.output.producer_step == first
        # Whether it failed only time can tell.
        assert (failed.status, failed.parameters) == ("running", {"sizes": "[1, 2]"})
        assert (failed.output.record.state, failed.input) == ("pending", first.output)
        assert (imported.kind, imported.status, imported.output.uri) == (
            "importer",
            "cached",
            "/outside/schema",
        )
        assert store.get_artifact("nb/first/make/model") == first.output
        assert "was made by make of nb/first" in str(again.output.why())
