"""A database that TFX 1.21 wrote, read through the public API: every fact of its expectation file.

All of it twice: through ml-metadata's own core, and through an MLMD gRPC server.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.services.grpc_server import GrpcServer
from zen_mlmd import Status, Store, open_store
from zen_mlmd.model import INPUT_EVENTS, OUTPUT_EVENTS, Event, EventType
from zen_mlmd.reading.artifacts import ArtifactView
from zen_mlmd.reading.runs import PipelineRunView
from zen_mlmd.reading.steps import StepView

DATA = Path(__file__).parents[1] / "data"
DATABASE = DATA / "tfx_1_21_0.db"
EXPECTED = json.loads((DATA / "tfx_1_21_0.expected.json").read_text("utf-8"))
RUNLOG = json.loads((DATA / "tfx_1_21_0.runlog.json").read_text("utf-8"))

PIPELINES = {pipeline["name"]: pipeline for pipeline in EXPECTED["pipelines"]}
RUNS = {run["run_id"]: (pipeline, run) for pipeline in PIPELINES.values() for run in pipeline["runs"]}
STEPS = {step["execution_id"]: step for _, run in RUNS.values() for step in run["steps"]}
ARTIFACTS = {artifact["id"]: artifact for artifact in EXPECTED["artifacts"]}
LINEAGE = {int(artifact): facts for artifact, facts in EXPECTED["lineage"].items()}

CACHED_RUN = "2026-11-23T03:22:00.827972"
"""The second run of `custom_train`: all of it cached."""

STATUS = {"COMPLETE": Status.COMPLETED, "CACHED": Status.CACHED, "FAILED": Status.FAILED}

EVERYTHING = {"include_conditions": True, "include_logs": True}
"""What the expectations count in, and a walk leaves aside by default."""

runs = pytest.mark.parametrize("name", RUNS)
artifacts = pytest.mark.parametrize("artifact_id", ARTIFACTS)


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture(scope="module", params=["native", "sql", "grpc"])
def store(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """The database, a copy of it; reading it changes not one byte of it."""
    before = digest(DATABASE)
    copy = tmp_path_factory.mktemp("tfx") / "tfx.db"
    shutil.copyfile(DATABASE, copy)
    if request.param != "grpc":
        with open_store(f"sqlite:///{copy}?service={request.param}") as opened:
            yield opened
    else:
        with GrpcServer(copy) as server, open_store(f"kubeflow://{server.address}") as opened:
            yield opened
    assert digest(copy) == before
    assert digest(DATABASE) == before


def typed(value: Any) -> Any:
    """Return a value with the type of every part, so that neither 1 and 1.0 nor 1 and True are equal."""
    if isinstance(value, Mapping):
        return {key: typed(each) for key, each in value.items()}
    if isinstance(value, list):
        return [typed(each) for each in value]
    return type(value).__name__, value


def lists(events: Iterable[Event]) -> dict[str, list[int]]:
    """Return artifact ids by name, in the order of their places."""
    placed = sorted((slot.name, slot.index, event.artifact_id) for event in events for slot in event.slots)
    found: dict[str, list[int]] = {}
    for name, _, artifact_id in placed:
        found.setdefault(name, []).append(artifact_id)
    return found


def ids(slots: Any) -> dict[str, list[int]]:
    return {name: [artifact.id for artifact in found] for name, found in slots.lists.items()}


def shown(expected: Mapping[str, list[int]]) -> dict[str, list[int]]:
    """Leave out TFX's conditions, which are no inputs of the user's."""
    return {name: found for name, found in expected.items() if not name.startswith("_")}


def check_artifact(artifact: ArtifactView, expected: Mapping[str, Any]) -> None:
    declared, custom = expected["properties"], expected["custom_properties"]
    assert artifact.id == expected["id"]
    assert artifact.name == (expected["name"] or "")
    assert artifact.type == expected["type"]
    assert artifact.uri == expected["uri"]
    assert artifact.record.state == expected["state"].lower()
    assert typed(artifact.properties) == typed({**custom, **declared})
    assert typed(artifact.record.custom_properties) == typed(custom)


def check_step(step: StepView, expected: Mapping[str, Any]) -> None:
    assert step.id == expected["execution_id"]
    assert step.name == expected["node"]
    assert step.record.type == expected["type"]
    assert step.entrypoint_name == expected["type"].split(".")[-1]
    assert step.record.dialect == "tfx"
    assert step.status is STATUS[expected["state"]]
    assert step.is_cached is expected["cached"]
    assert step.is_completed is (expected["state"] != "FAILED")
    assert typed(step.properties) == typed({**expected["custom_properties"], **expected["properties"]})
    assert ids(step.inputs) == shown(expected["inputs"])
    assert ids(step.outputs) == expected["outputs"]
    assert lists(step.events(INPUT_EVENTS)) == expected["inputs"]
    assert lists(step.events(OUTPUT_EVENTS)) == expected["outputs"]
    assert lists(step.events([EventType.INTERNAL_OUTPUT])) == expected["internal_outputs"]
    for slots in (step.inputs, step.outputs):
        for artifact in (each for found in slots.lists.values() for each in found):
            check_artifact(artifact, ARTIFACTS[artifact.id])


def test_the_pipelines(store: Store) -> None:
    found = {pipeline.name: pipeline.id for pipeline in store.pipelines}

    assert found == {name: pipeline["context_id"] for name, pipeline in PIPELINES.items()}


@pytest.mark.parametrize("name", PIPELINES)
def test_the_runs_of_a_pipeline_newest_first(store: Store, name: str) -> None:
    expected = [(run["context_id"], run["context_name"]) for run in reversed(PIPELINES[name]["runs"])]
    pipeline = store.pipelines[name]

    assert [(run.id, run.name) for run in pipeline.runs] == expected
    assert [(run.id, run.name) for run in store.list_runs(pipeline=name)] == expected
    assert pipeline.latest_run.id == expected[0][0]


def test_the_runs_of_all_pipelines_newest_first(store: Store) -> None:
    expected = [(name, pipeline["name"]) for name, (pipeline, _) in reversed(RUNS.items())]

    assert [(run.name, run.pipeline) for run in store.runs] == expected


@runs
def test_a_run(store: Store, name: str) -> None:
    pipeline, expected = RUNS[name]
    run = store.get_run(name)

    assert (run.id, run.name, run.pipeline) == (expected["context_id"], name, pipeline["name"])
    assert run.dialect == "tfx"
    assert run.step_names == [step["node"] for step in expected["steps"]]
    assert (run.properties, run.parameters, run.plan) == ({}, {}, {})


@runs
def test_the_steps_of_a_run(store: Store, name: str) -> None:
    expected = RUNS[name][1]["steps"]
    steps = store.get_run(name).step_runs

    assert [step.id for step in steps] == [step["execution_id"] for step in expected]
    for step, facts in zip(steps, expected, strict=True):
        check_step(step, facts)
        assert step.run.name == name


def test_steps_by_id_are_the_same_as_those_of_their_run(store: Store) -> None:
    for step_id, expected in STEPS.items():
        check_step(store.get_step(step_id), expected)


def test_the_runs_of_a_listing_are_the_same_as_single_ones(store: Store) -> None:
    for run in store.runs:
        for step, expected in zip(run.step_runs, RUNS[run.name][1]["steps"], strict=True):
            check_step(step, expected)


def test_parameters_are_python_values_without_what_tfx_keeps_for_itself(store: Store) -> None:
    found = {step_id: store.get_step(step_id).parameters for step_id in STEPS}

    assert typed(found[11]) == typed({"layers": [8, 4], "lr": 0.1, "optimizer": "sgd"})
    for step_id, expected in STEPS.items():
        keys = {key for key in expected["custom_properties"] if not key.startswith("__")}
        assert set(found[step_id]) == keys


@artifacts
def test_an_artifact(store: Store, artifact_id: int) -> None:
    check_artifact(store.get_artifact(artifact_id), ARTIFACTS[artifact_id])


def test_the_artifacts_newest_first(store: Store) -> None:
    assert [artifact.id for artifact in store.artifacts] == sorted(ARTIFACTS, reverse=True)


def test_the_artifacts_of_a_type_and_at_a_uri(store: Store) -> None:
    for name in EXPECTED["artifact_types"]:
        expected = [each["id"] for each in ARTIFACTS.values() if each["type"] == name]
        assert [artifact.id for artifact in store.list_artifacts(type=name)] == expected[::-1]
    for artifact_id, facts in ARTIFACTS.items():
        assert [artifact.id for artifact in store.artifacts_at(facts["uri"])] == [artifact_id]


def test_the_types_and_how_many_there_are_of_everything(store: Store) -> None:
    client = store.loader.client
    for kind in ("context", "artifact", "execution"):
        assert client.type_names(kind) == EXPECTED[f"{kind}_types"]
    steps = [step for run in store.runs for step in run.step_runs]
    found = {
        "contexts": sum(len(client.contexts_of_type(name)) for name in EXPECTED["context_types"]),
        "executions": len(steps),
        "artifacts": len(list(store.artifacts)),
        "events": sum(len(step.events()) for step in steps),
    }

    assert found == EXPECTED["counts"]
    assert {artifact.type for artifact in store.artifacts} == set(EXPECTED["artifact_types"])
    assert {step.record.type for step in steps} == set(EXPECTED["execution_types"])


@artifacts
def test_who_made_an_artifact_who_emitted_it_again_and_who_took_it(store: Store, artifact_id: int) -> None:
    expected = LINEAGE[artifact_id]
    artifact = store.get_artifact(artifact_id)
    emitters = artifact.upstream(max_hops=1).steps

    assert artifact.producer_step == store.get_step(expected["producer_execution"])
    assert sorted(emitters) == expected["all_output_executions"]
    assert [step.id for step in artifact.consumers] == expected["consumer_executions"]


@artifacts
def test_the_lineage_of_an_artifact(store: Store, artifact_id: int) -> None:
    expected = LINEAGE[artifact_id]
    artifact = store.get_artifact(artifact_id)
    upstream, downstream = artifact.upstream(**EVERYTHING), artifact.downstream(**EVERYTHING)

    assert (upstream.complete, downstream.complete) == (True, True)
    assert set(upstream.artifacts) - {artifact_id} == set(expected["upstream_artifacts"])
    assert set(downstream.artifacts) - {artifact_id} == set(
        expected["downstream_artifacts_via_original_producers"]
    )
    assert upstream.producers[artifact_id] == expected["producer_execution"]


def test_what_only_a_condition_asked_for_is_no_lineage_unless_it_is_asked_for(store: Store) -> None:
    """Push takes the model, and is run only if the evaluation blessed it."""
    push = store.get_step(13)
    pushed = push.output
    blessing = store.get_step(12).outputs["blessing"]

    assert list(push.inputs) == ["model"]
    assert list(push.list_inputs(include_conditions=True)) == ["_Evaluate.blessing", "model"]
    assert blessing.id not in pushed.upstream().artifacts
    assert blessing.id in pushed.upstream(include_conditions=True).artifacts
    assert pushed.id not in blessing.downstream().artifacts
    assert pushed.id in blessing.downstream(include_conditions=True).artifacts


def test_lineage_tells_the_runs_of_its_steps(store: Store) -> None:
    shown = store.get_artifact(13).upstream().to_text()
    assert "Push  [step #13, completed in 2026-11-23T03:22:00.214159]" in shown


def test_every_artifact_has_its_lineage_checked() -> None:
    assert LINEAGE.keys() == ARTIFACTS.keys()


def test_producers_seen_through_a_run_are_the_same(store: Store) -> None:
    for run in store.runs:
        for step in run.step_runs:
            for artifact in step.outputs.values():
                producer = LINEAGE[artifact.id]["producer_execution"]
                assert artifact.producer_step == store.get_step(producer)
                assert artifact.parent_step_id == step.id
                assert artifact.is_cached is (producer != step.id)


def in_order(store: Store) -> list[PipelineRunView]:
    """Return the runs as the run log has them: oldest first."""
    return list(store.runs)[::-1]


def test_the_runs_are_those_of_the_run_log(store: Store) -> None:
    runs_found = in_order(store)

    assert [run.pipeline for run in runs_found] == [entry["pipeline"] for entry in RUNLOG]
    for run, entry in zip(runs_found, RUNLOG, strict=True):
        wanted = Status.COMPLETED if entry["outcome"] == "ok" else Status.FAILED
        assert run.status is wanted, entry["desc"]
        truth = RUNS[run.name][1]["truth_outcome"]
        assert truth.startswith("ok" if wanted is Status.COMPLETED else "failed")
        assert run.ended_at is not None
        assert run.duration_s is not None


def test_what_happened_in_each_run(store: Store) -> None:
    """The run log's descriptions, in the order of its entries."""
    stats_1, stats_2, train_1, train_2, train_3, train_4, train_5 = in_order(store)
    completed, cached = Status.COMPLETED, Status.CACHED

    def statuses(run: PipelineRunView) -> dict[str, Status]:
        return {step.name: step.status for step in run.step_runs}

    assert set(statuses(stats_1).values()) == {completed}
    assert set(statuses(stats_2).values()) == {cached}
    assert statuses(stats_1).keys() == statuses(stats_2).keys()
    # rows=10 lr=0.1 thr=0.55 -> blessed, Push runs
    assert train_1["MakeData"].parameters == {"rows": 10}
    assert train_1["Train"].parameters["lr"] == 0.1
    assert train_1["Evaluate"].parameters == {"threshold": 0.55}
    assert train_1["Evaluate"].outputs["blessing"].properties["blessed"] == 1
    assert train_1["Push"].status is completed
    # identical -> all CACHED
    assert set(statuses(train_2).values()) == {cached}
    assert statuses(train_2).keys() == statuses(train_1).keys()
    # lr=0.01 -> MakeData cached, Train fresh, not blessed, Push skipped (condition false)
    assert train_3["Train"].parameters["lr"] == 0.01
    assert (train_3["MakeData"].status, train_3["Train"].status) == (cached, completed)
    assert train_3["Evaluate"].outputs["blessing"].properties["blessed"] == 0
    assert "Push" not in train_3.steps
    # + resolver latest_blessed + Flaky ok
    assert train_4["Train"].parameters["lr"] == 0.2
    assert train_4["latest_blessed"].entrypoint_name == "Resolver"
    assert train_4["Flaky"].status is completed
    # cache off, Flaky fails; what comes after it never ran
    assert train_5["MakeData"].status is completed
    assert train_5["Flaky"].status is Status.FAILED
    assert not {"Train", "Evaluate", "Push"} & statuses(train_5).keys()


def test_a_resolver_resolves_and_does_not_produce(store: Store) -> None:
    resolver, flaky = (store.get_step(each) for each in (25, 26))
    model = flaky.input

    assert STEPS[25]["internal_outputs"]["model"] == [model.id]
    assert model.producer_step == store.get_step(11)
    assert resolver.id not in model.upstream().steps
    assert resolver.id not in model.downstream().steps


def test_the_newest_run_that_completed_is_not_the_one_that_failed(store: Store) -> None:
    pipeline = store.pipelines["custom_train"]

    assert pipeline.latest_run.status is Status.FAILED
    assert pipeline.latest_completed_run.id == 27
    assert pipeline.get_run_for_completed_step("Push").id == 27
    assert [run.id for run in store.list_runs("status = failed")] == [34]


def test_paths_name_what_they_say(store: Store) -> None:
    push = store.get(f"custom_train/{CACHED_RUN}/Push")
    pushed = store.get_artifact(f"custom_train/{CACHED_RUN}/Push/pushed")

    assert isinstance(push, StepView)
    assert (push.id, pushed.id) == (18, 13)
    assert pushed.path == "custom_train/2026-11-23T03:22:00.214159/Push/pushed"


def test_parents_are_the_steps_of_the_same_run_cached_ones_too(store: Store) -> None:
    parents = {step.name: [each.id for each in step.parents] for step in store.get_run(CACHED_RUN).step_runs}

    assert parents == {
        "MakeData": [],
        "SchemaImporter": [],
        "Train": [14, 15],
        "Evaluate": [14, 16],
        "Push": [16, 17],
    }
