"""A database that Kubeflow Pipelines' own Go code wrote: every fact of its expectation file.

All of it three times: through ml-metadata's own core, the SQL service, and an MLMD gRPC server.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.services.grpc_server import GrpcServer
from zen_mlmd import Status, Store, open_store
from zen_mlmd.errors import UsageError
from zen_mlmd.model import StepKind
from zen_mlmd.reading.runs import PipelineRunView
from zen_mlmd.reading.steps import StepView

DATA = Path(__file__).parents[1] / "data"
DATABASE = DATA / "kfp_v2_two_runs.db"
EXPECTED = json.loads((DATA / "kfp_v2_two_runs.expected.json").read_text("utf-8"))

(PIPELINE,) = EXPECTED["pipelines"]
RUNS = {run["run_id"]: run for run in PIPELINE["runs"]}
FRESH, CACHED = RUNS
STEPS = {step["execution_id"]: step for run in RUNS.values() for step in run["steps"]}
ARTIFACTS = {artifact["id"]: artifact for artifact in EXPECTED["artifacts"]}
LINEAGE = {int(artifact): facts for artifact, facts in EXPECTED["lineage"].items()}
GROUPS = {"root", "dag", "loop", "iteration"}
STATUS = {
    "COMPLETE": Status.COMPLETED,
    "CACHED": Status.CACHED,
    "CANCELED": Status.CANCELED,
    "RUNNING": Status.RUNNING,
}
KINDS = {"container": {"task"}, "dag": {"dag", "condition"}}
"""The file tells no condition from another DAG."""

EVERYTHING = {"include_logs": True}

runs = pytest.mark.parametrize("name", RUNS)
artifacts = pytest.mark.parametrize("artifact_id", ARTIFACTS)


@pytest.fixture(scope="module", params=["native", "sql", "grpc"])
def store(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """A copy of the database, of which reading changes not one byte."""
    copy = tmp_path_factory.mktemp("kfp") / "kfp.db"
    shutil.copyfile(DATABASE, copy)
    before = hashlib.sha256(copy.read_bytes()).hexdigest()
    if request.param != "grpc":
        with open_store(f"sqlite:///{copy}?service={request.param}") as opened:
            yield opened
    else:
        with GrpcServer(copy) as server, open_store(f"kubeflow://{server.address}") as opened:
            yield opened
    assert hashlib.sha256(copy.read_bytes()).hexdigest() == before


def ids(slots: Any) -> dict[str, list[int]]:
    return {name: [artifact.id for artifact in found] for name, found in slots.lists.items()}


def check_step(step: StepView, expected: Mapping[str, Any]) -> None:
    assert step.id == expected["execution_id"]
    assert step.name == expected["task_name"]
    assert step.display_name == (expected["display_name"] or expected["task_name"])
    assert str(step.kind) in KINDS.get(expected["kind"], {expected["kind"]})
    assert step.record.type == expected["type"]
    assert step.record.dialect == "kfp_v2"
    assert step.parameters == expected["parameters"]
    assert ids(step.list_inputs(include_conditions=True)) == expected["inputs"]
    if not step.kind.is_group:
        assert step.status is STATUS[expected["state"]]
        assert step.output_parameters == expected["output_parameters"]
        assert ids(step.list_outputs(include_logs=True)) == expected["outputs"]
        shown = {name: found for name, found in expected["outputs"].items() if name != "executor-logs"}
        assert ids(step.outputs) == shown
        assert step.record.cache_key == expected.get("cache_fingerprint", "")
        origin = expected.get("cached_execution_id")
        assert (step.cached_from.id if step.cached_from else None) == (int(origin) if origin else None)
        assert step.properties.get("pod_name") == expected.get("pod_name")


def members(step: StepView) -> list[int]:
    return [each.id for each in step.members]


def expected_members(run: Mapping[str, Any], group: int) -> list[int]:
    return [each["execution_id"] for each in run["steps"] if each["parent_dag_id"] == group]


def test_the_pipeline_and_its_runs_newest_first(store: Store) -> None:
    (pipeline,) = store.pipelines

    assert (pipeline.id, pipeline.name) == (PIPELINE["context_id"], PIPELINE["name"])
    assert [run.name for run in pipeline.runs] == [CACHED, FRESH]
    assert [run.name for run in store.list_runs("namespace = 'kubeflow-user-example-com'")] == [CACHED, FRESH]
    assert [run.name for run in store.list_runs("dialect = kfp_v2 and parameters.lr < 1")] == [CACHED, FRESH]


@runs
def test_a_run(store: Store, name: str) -> None:
    expected = RUNS[name]
    run = store.get_run(name)

    assert (run.id, run.name, run.pipeline) == (expected["context_id"], name, PIPELINE["name"])
    assert (run.dialect, run.namespace) == ("kfp_v2", expected["namespace"])
    assert run.parameters == expected["parameters"]
    assert run.properties["pipeline_root"] == expected["pipeline_root"]
    # Its root DAG says RUNNING for ever.
    assert expected["root_execution_state"] == "RUNNING"
    assert run.status is STATUS[expected["derived_status_from_leaves"]]
    assert run.duration_s is not None
    assert run.duration_s > 0
    assert run == store.pipelines[PIPELINE["name"]].get_run(name)
    assert run.status is next(each for each in store.runs if each.name == name).status


@runs
def test_its_steps_flat(store: Store, name: str) -> None:
    run, expected = store.get_run(name), RUNS[name]["steps"]
    work = [step for step in expected if step["kind"] not in GROUPS]
    everything = [step for step in expected if step["kind"] != "root"]

    assert [step.id for step in run.step_runs] == [step["execution_id"] for step in work]
    assert run.step_names == [step["path"] for step in work]
    found = run.list_steps(include_groups=True)
    assert [step.key for step in found] == [step["path"] for step in everything]
    for step, facts in zip(found, everything, strict=True):
        check_step(step, facts)
        assert run.steps[facts["path"]] == step
        assert step.run == run


@runs
def test_its_steps_as_a_tree(store: Store, name: str) -> None:
    run = store.get_run(name)
    root = RUNS[name]["steps"][0]["execution_id"]

    assert [step.id for step in run.tree] == expected_members(RUNS[name], root)
    for step in run.list_steps(include_groups=True):
        assert members(step) == expected_members(RUNS[name], step.id)
        group = STEPS[step.id]["parent_dag_id"]
        assert (None if step.group is None else step.group.id) == (None if group == root else group)
    assert [step.iteration for step in run.steps["for-loop-2"].members] == [0, 1, 2]


def test_steps_by_id_are_the_same_as_those_of_their_run(store: Store) -> None:
    for step_id, expected in STEPS.items():
        if expected["kind"] not in GROUPS:
            check_step(store.get_step(step_id), expected)


@pytest.mark.parametrize("name", [FRESH, CACHED])
def test_a_step_by_id_knows_its_groups_and_a_group_its_members(store: Store, name: str) -> None:
    for step in store.get_run(name).list_steps(include_groups=True):
        alone = store.get_step(step.id)
        assert (alone.key, alone.status, alone.ended_at) == (step.key, step.status, step.ended_at)
        assert alone.output_parameters == step.output_parameters
        assert alone.record.run_name == name
        for artifact in step.list_outputs(include_logs=True).values():
            assert store.get_artifact(artifact.path) == artifact
        source = step.cached_from
        if name == CACHED and step.is_cached:
            assert source is not None
            assert (source.key, source.run.name) == (step.key, FRESH)
    maker = store.get_artifact(12).producer_step
    assert maker is not None
    assert maker.key == "for-loop-2[0]/trial"
    assert "for-loop-2[0]/trial  [step #10, completed in" in store.get_artifact(12).upstream().to_text()
    assert store.pipelines["churn-training"].get_run_for_completed_step("train").name == FRESH
    assert "made by for-loop-2[0]/trial of " in str(store.get_artifact(12).why())
    assert store.get_artifact(3).path.endswith("/make-data/executor-logs")


def test_groups_stand_as_their_members_do(store: Store) -> None:
    fresh, cached = store.get_run(FRESH), store.get_run(CACHED)

    # Of the cached run the rows say RUNNING: no launcher ran that could have updated them.
    assert STEPS[25]["state"] == STEPS[29]["state"] == "RUNNING"
    for name in ("train-sub", "for-loop-2", "for-loop-2[1]", "condition-3"):
        assert fresh.steps[name].status is Status.COMPLETED
        assert cached.steps[name].status is Status.CACHED
        assert cached.steps[name].ended_at is not None
    for run in (fresh, cached):
        assert run.steps["condition-4"].status is Status.CANCELED
        assert run.steps["condition-3"].kind is StepKind.CONDITION
        assert "deploy" in run.steps


def test_groups_hand_on_what_their_members_return(store: Store) -> None:
    run = store.get_run(FRESH)

    assert run.steps["train-sub"].output_parameters == {"score": 0.85}
    assert ids(run.steps["train-sub"].outputs) == {"model": [6]}
    assert run.steps["for-loop-2"].output_parameters == {"pipelinechannel--trial-Output": [0.6, 0.7, 0.8]}


def test_a_name_is_enough_where_only_one_step_has_it(store: Store) -> None:
    run = store.get_run(FRESH)

    assert run.steps["evaluate"].key == "train-sub/evaluate"
    with pytest.raises(UsageError, match=r"3 steps of run .* are named 'trial'") as caught:
        run.get_step("trial")
    assert "for-loop-2[0]/trial" in caught.value.hint
    assert "trial" not in run.steps


def test_metrics_are_those_of_the_artifacts_that_are_metrics(store: Store) -> None:
    assert [each.id for each in store.list_artifacts("metrics.score > 0.6")] == [17, 15]
    by_artifact = {
        artifact.id: artifact.record.metrics for artifact in store.artifacts if artifact.record.metrics
    }

    assert by_artifact == {int(artifact): found for artifact, found in EXPECTED["metrics"].items()}
    assert store.get_run(FRESH).steps["train"].metrics == {"accuracy": 0.7, "loss": 0.3}
    assert store.get_run(CACHED).steps["for-loop-2[2]/trial"].metrics == {"lr": 0.3, "score": 0.8}


@artifacts
def test_an_artifact(store: Store, artifact_id: int) -> None:
    artifact, expected = store.get_artifact(artifact_id), ARTIFACTS[artifact_id]

    assert (artifact.type, artifact.uri, artifact.name) == (
        expected["type"],
        expected["uri"],
        expected["name"] or "",
    )
    assert artifact.record.state == expected["state"].lower()
    assert artifact.properties == {**expected["custom_properties"], **expected["properties"]}


def test_how_many_there_are_of_everything(store: Store) -> None:
    client = store.loader.client
    steps = [step for run in store.runs for step in run.list_steps(include_groups=True)]
    found = {
        "contexts": sum(len(client.contexts_of_type(name)) for name in EXPECTED["context_types"]),
        # Each run has a root, which is no step.
        "executions": len(steps) + len(RUNS),
        "artifacts": len(list(store.artifacts)),
        "events": sum(len(step.events()) for step in steps),
    }

    assert found == EXPECTED["counts"]
    for kind in ("context", "artifact", "execution"):
        assert client.type_names(kind) == EXPECTED[f"{kind}_types"]


@artifacts
def test_the_lineage_of_an_artifact(store: Store, artifact_id: int) -> None:
    expected = LINEAGE[artifact_id]
    artifact = store.get_artifact(artifact_id)
    upstream, downstream = artifact.upstream(**EVERYTHING), artifact.downstream(**EVERYTHING)

    assert (upstream.complete, downstream.complete) == (True, True)
    assert sorted(artifact.upstream(max_hops=1).steps) == expected["all_output_executions"]
    assert [step.id for step in artifact.consumers] == expected["consumer_executions"]
    assert set(upstream.artifacts) - {artifact_id} == set(expected["upstream_artifacts"])
    assert set(downstream.artifacts) - {artifact_id} == set(
        expected["downstream_artifacts_via_original_producers"]
    )
    assert upstream.producers[artifact_id] == expected["producer_execution"]
    assert artifact.producer_step == store.get_step(expected["producer_execution"])
    assert not any(step.kind.is_group for graph in (upstream, downstream) for step in graph.steps.values())


def test_logs_are_no_lineage_unless_they_are_asked_for(store: Store) -> None:
    data = store.get_artifact(2)
    logs = {each for each in ARTIFACTS if "executor-logs" in ARTIFACTS[each]["uri"]}

    assert not logs & set(data.downstream().artifacts)
    assert logs & set(data.downstream(include_logs=True).artifacts)
    # Who asks for one gets it.
    assert set(store.get_artifact(4).upstream().artifacts) == {4, 2}


def test_paths_name_steps_in_groups(store: Store) -> None:
    model = store.get_artifact(6)

    assert model.path == f"churn-training/{FRESH}/train-sub/train/model"
    assert store.get_artifact(model.path) == model
    assert store.get(f"churn-training/{FRESH}/train-sub").id == 4
    assert store.get("churn-training/latest/for-loop-2[1]/trial/metrics").id == 15
    for run in store.runs:
        for step in run.list_steps(include_groups=True):
            assert store.get(step.path) == step


def test_why_and_diff(store: Store) -> None:
    fresh, cached = store.get_run(FRESH), store.get_run(CACHED)

    assert fresh.diff(cached).changes == ()
    report = store.get_artifact(6).why()
    assert (report.step.name if report.step else "") == "train"
    assert [(name, artifact.id) for name, artifact in report.inputs] == [("data", 2)]


def test_parents_are_the_steps_that_gave_an_artifact(store: Store) -> None:
    def parents(run: PipelineRunView) -> dict[str, list[str]]:
        return {step.key: [each.key for each in step.parents] for step in run.step_runs if step.parents}

    wanted = {
        "train-sub/train": ["make-data"],
        "train-sub/evaluate": ["importer", "train-sub/train"],
        "flaky": ["train-sub/train"],
        "for-loop-2[0]/trial": ["make-data"],
        "for-loop-2[1]/trial": ["make-data"],
        "for-loop-2[2]/trial": ["make-data"],
        "condition-3/deploy": ["train-sub/train"],
    }
    assert parents(store.get_run(FRESH)) == wanted
    assert parents(store.get_run(CACHED)) == wanted
