"""A database that Kubeflow Pipelines' v1 metadata writer wrote: every fact of its expectation file.

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
from ml_metadata.proto import metadata_store_pb2 as mlmd

from tests.services.grpc_server import GrpcServer
from zen_mlmd import Status, Store, open_store
from zen_mlmd.dialects import kfp_v1
from zen_mlmd.errors import NotFoundError
from zen_mlmd.reading.artifacts import ArtifactView
from zen_mlmd.reading.runs import PipelineRunView
from zen_mlmd.reading.steps import StepView

DATA = Path(__file__).parents[1] / "data"
DATABASE = DATA / "kfp_v1_one_run.db"
EXPECTED = json.loads((DATA / "kfp_v1_one_run.expected.json").read_text("utf-8"))

(RUN,) = EXPECTED["runs"]
NAME = RUN["argo_workflow"]
STEPS = {step["execution_id"]: step for step in RUN["steps"]}
ARTIFACTS = {artifact["id"]: artifact for artifact in EXPECTED["artifacts"]}
LINEAGE = {int(artifact): facts for artifact, facts in EXPECTED["lineage"].items()}

EVERYTHING = {"include_logs": True}
"""What the expectations count in, and a walk leaves aside by default."""

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


@pytest.fixture
def run(store: Store) -> PipelineRunView:
    return store.get_run(NAME)


def ids(slots: Any) -> dict[str, list[int]]:
    return {name: [artifact.id for artifact in found] for name, found in slots.lists.items()}


def shown(expected: Mapping[str, list[int]]) -> dict[str, list[int]]:
    return {name: found for name, found in expected.items() if name != "main-logs"}


def check_artifact(artifact: ArtifactView, expected: Mapping[str, Any]) -> None:
    assert artifact.id == expected["id"]
    assert artifact.name == (expected["name"] or "")
    assert (artifact.type, artifact.uri) == (expected["type"], expected["uri"])
    assert artifact.record.state == expected["state"].lower() == "unknown"
    assert artifact.properties == {**expected["custom_properties"], **expected["properties"]}
    assert artifact.record.custom_properties == expected["custom_properties"]
    assert json.loads(artifact.properties["argo_artifact"])["s3"]["bucket"] == "mlpipeline"


def check_step(step: StepView, expected: Mapping[str, Any]) -> None:
    assert (step.id, step.name, step.key) == (
        expected["execution_id"],
        expected["component"],
        expected["component"],
    )
    assert step.record.type == expected["type"]
    assert step.record.code == expected["type"].rpartition("=")[2]
    assert step.record.dialect == "kfp_v1"
    assert step.record.run_name == NAME
    assert expected["state"] == "UNKNOWN"
    assert step.status is Status.UNKNOWN
    assert (step.is_cached, step.is_completed, step.ended_at, step.duration_s) == (False, False, None, None)
    assert step.started_at is not None
    assert step.parameters == expected["parameters"]
    assert step.properties == {
        "pipeline_name": NAME,
        "run_id": NAME,
        "component_id": expected["component"],
        "kfp_pod_name": expected["pod"],
        **{f"input:{key}": value for key, value in expected["parameters"].items()},
    }
    assert ids(step.inputs) == expected["inputs"]
    assert ids(step.outputs) == shown(expected["outputs"])
    assert ids(step.list_outputs(include_logs=True)) == expected["outputs"]
    for slots in (step.inputs, step.list_outputs(include_logs=True)):
        for artifact in (each for found in slots.lists.values() for each in found):
            check_artifact(artifact, ARTIFACTS[artifact.id])


def test_the_pipeline_is_the_workflow_without_its_random_letters(store: Store) -> None:
    (pipeline,) = store.pipelines

    assert (pipeline.id, pipeline.name) == (RUN["context_id"], "churn-v1")
    assert pipeline.to_dict()["created_at"] is not None
    assert "churn-v1" in store.pipelines
    assert store.pipelines["churn-v1"] == pipeline
    assert pipeline.run_names == [NAME]
    assert pipeline.latest_run.id == RUN["context_id"]
    assert pipeline.get_run(NAME).id == RUN["context_id"]
    assert NAME not in store.pipelines


def test_the_run(store: Store, run: PipelineRunView) -> None:
    assert (run.id, run.name, run.pipeline, run.dialect) == (RUN["context_id"], NAME, "churn-v1", "kfp_v1")
    assert run.properties == RUN["properties"]
    assert run.step_names == [step["component"] for step in RUN["steps"]]
    assert [each.id for each in store.runs] == [run.id]
    assert [each.id for each in store.list_runs(pipeline="churn-v1")] == [run.id]


def test_a_run_of_which_nothing_is_known_is_unknown_and_not_completed(
    store: Store, run: PipelineRunView
) -> None:
    assert run.status is Status.UNKNOWN
    assert (run.ended_at, run.duration_s, run.failure) == (None, None, None)
    assert run.last_sign_of_life is not None
    assert [each.name for each in store.list_runs("status = unknown and dialect = kfp_v1")] == [NAME]
    for other in ("completed", "running", "failed", "cached", "pending", "canceled"):
        assert list(store.list_runs(f"status = {other}")) == []
    assert len(run.list_steps("status = unknown")) == len(STEPS)
    assert list(run.list_steps("status != unknown")) == []
    with pytest.raises(NotFoundError):
        _ = store.pipelines["churn-v1"].latest_completed_run
    with pytest.raises(NotFoundError):
        store.pipelines["churn-v1"].get_run_for_completed_step("Train")


def test_the_steps(run: PipelineRunView) -> None:
    assert [step.id for step in run.step_runs] == list(STEPS)
    for step, expected in zip(run.step_runs, RUN["steps"], strict=True):
        check_step(step, expected)
        assert step.run.name == NAME
    assert [step.name for step in run.tree] == [step["component"] for step in RUN["steps"]]
    assert {step.name: [each.name for each in step.parents] for step in run.step_runs} == {
        "Make data": [],
        "Train": ["Make data"],
        "Evaluate": ["Make data", "Train"],
    }


def test_steps_by_id_are_the_same(store: Store) -> None:
    for step_id, expected in STEPS.items():
        step = store.get_step(step_id)
        check_step(step, expected)
        assert step.path == f"churn-v1/{NAME}/{expected['component']}"


@artifacts
def test_an_artifact(store: Store, artifact_id: int) -> None:
    check_artifact(store.get_artifact(artifact_id), ARTIFACTS[artifact_id])
    (found,) = store.artifacts_at(ARTIFACTS[artifact_id]["uri"])
    assert found.id == artifact_id


def test_an_artifact_by_its_path(store: Store) -> None:
    assert store.get_artifact(f"churn-v1/{NAME}/Train/model").id == 4
    assert store.get_artifact("churn-v1/latest/Make data/data").id == 1


def test_the_types_and_how_many_there_are_of_everything(store: Store, run: PipelineRunView) -> None:
    client = store.loader.client
    for kind in ("context", "artifact", "execution"):
        assert client.type_names(kind) == EXPECTED[f"{kind}_types"]
    found = {
        "contexts": len(list(store.runs)),
        "executions": len(run.step_runs),
        "artifacts": len(list(store.artifacts)),
        "events": sum(len(step.events()) for step in run.step_runs),
    }

    assert found == EXPECTED["counts"]
    for name in EXPECTED["artifact_types"]:
        expected = [each["id"] for each in ARTIFACTS.values() if each["type"] == name]
        assert [artifact.id for artifact in store.list_artifacts(type=name)] == expected[::-1]


@artifacts
def test_the_lineage_of_an_artifact(store: Store, artifact_id: int) -> None:
    expected = LINEAGE[artifact_id]
    artifact = store.get_artifact(artifact_id)
    upstream, downstream = artifact.upstream(**EVERYTHING), artifact.downstream(**EVERYTHING)

    assert artifact.producer_step == store.get_step(expected["producer_execution"])
    assert sorted(artifact.upstream(max_hops=1, **EVERYTHING).steps) == expected["all_output_executions"]
    assert [step.id for step in artifact.consumers] == expected["consumer_executions"]
    assert (upstream.complete, downstream.complete) == (True, True)
    assert set(upstream.artifacts) - {artifact_id} == set(expected["upstream_artifacts"])
    assert set(downstream.artifacts) - {artifact_id} == set(
        expected["downstream_artifacts_via_original_producers"]
    )


def test_logs_are_no_lineage_unless_they_are_asked_for(store: Store) -> None:
    logs = {
        number for number, facts in ARTIFACTS.items() if facts["custom_properties"]["name"] == "main-logs"
    }

    for artifact_id in ARTIFACTS.keys() - logs:
        found = store.get_artifact(artifact_id).downstream().artifacts
        expected = {artifact_id, *LINEAGE[artifact_id]["downstream_artifacts_via_original_producers"]}
        assert set(found) == expected - logs


# -- what is not in that database ----------------------------------------------------------------


def kind(name: str, *declared: str) -> mlmd.ExecutionType:
    return mlmd.ExecutionType(name=name, properties=dict.fromkeys(declared, mlmd.STRING))


@pytest.mark.parametrize(
    ("workflow", "pipeline"),
    [
        ("churn-v1-q8m2x", "churn-v1"),
        ("hello-world-9k4zt", "hello-world"),
        ("x-bcdfg", "x"),
        ("a-q8m2x-q8m2x", "a-q8m2x"),
        ("two--q8m2x", "two"),
        ("churn-v1-abc12", "churn-v1"),
        # No end that was generated: vowels, 0, 1 and 3, and other lengths are never in one.
        ("churn-v1", "churn-v1"),
        ("my-train", "my-train"),
        ("etl-20210301", "etl-20210301"),
        ("model-12345", "model-12345"),
        ("sales-q8m2", "sales-q8m2"),
        ("q8m2x", "q8m2x"),
        ("-q8m2x", "-q8m2x"),
        ("", ""),
        # Kubernetes cuts a name so that the letters still fit in 63 characters.
        ("n" * 58 + "q8m2x", "n" * 58),
        ("n" * 57 + "-q8m2x", "n" * 57),
        # A schedule's runs are numbered, and end with a hash (FNV-1a) of all that.
        ("nightlyq8m2x-1-1024337178", "nightly"),
        ("nightlyq8m2x-12-1162116600", "nightly"),
        ("job-q8m2x-1-1600448813", "job"),
        ("SCHEDULE1-1-3321103997", "SCHEDULE1"),
        ("daily-report-7-1234567890", "daily-report"),
        ("daily-report-7-20210301", "daily-report-7-20210301"),
    ],
)
def test_the_pipeline_that_a_workflow_is_of(workflow: str, pipeline: str) -> None:
    context = mlmd.Context(name=workflow)
    context.properties["pipeline_name"].string_value = workflow

    assert kfp_v1.pipeline_of_run(context) == pipeline


def test_a_pipeline_that_somebody_noted_is_taken() -> None:
    context = mlmd.Context(name="w-q8m2x")
    context.properties["pipeline_name"].string_value = "Churn"

    assert kfp_v1.pipeline_of_run(context) == "Churn"


def test_a_class_of_tfx_in_a_module_called_components_is_not_of_kubeflow() -> None:
    legacy = ("pipeline_name", "run_id", "component_id", "pipeline_root", "state", "checksum_md5")
    execution = mlmd.Execution()

    assert kfp_v1.is_step(execution, kind("components.train", "pipeline_name", "run_id", "component_id"))
    assert kfp_v1.is_step(execution, kind("components.Train@sha256=ab"))
    assert not kfp_v1.is_step(execution, kind("components.train.component.Train"))
    assert not kfp_v1.is_step(execution, kind("components.train.component.Train", *legacy))


def test_artifacts_of_the_first_releases_declare_what_is_noted_of_them() -> None:
    """As 0.2 to 0.3 wrote them: no `argo_artifact`, and properties of the type."""
    node, tfx = mlmd.Artifact(uri="minio://b/k"), mlmd.Artifact()
    for key, value in (("name", "data"), ("pipeline_name", "w"), ("run_id", "w")):
        node.properties[key].string_value = value
        tfx.custom_properties[key].string_value = value
    tfx.custom_properties["producer_component"].string_value = "CsvExampleGen"
    csv = mlmd.ArtifactType(name="CSV")

    assert kfp_v1.is_artifact(node, csv)
    assert kfp_v1.artifact(node, csv).properties["name"] == "data"
    assert not kfp_v1.is_artifact(tfx, csv)


@pytest.mark.parametrize(
    ("properties", "name"),
    [
        ({"component_id": "Train", "kfp_pod_name": "pod-1"}, "Train"),
        ({"component_id": "", "kfp_pod_name": "pod-1"}, "pod-1"),
        ({"component_id": "", "task_id": "train-2", "kfp_pod_name": "pod-1"}, "train-2"),
        ({"component_id": "Train", "display_name": "Train it"}, "Train it"),
        ({}, "Train model"),
    ],
)
def test_the_name_of_a_step(properties: dict[str, str], name: str) -> None:
    execution = mlmd.Execution(id=7)
    for key, value in properties.items():
        place = execution.properties if key == "component_id" else execution.custom_properties
        place[key].string_value = value

    assert kfp_v1.step(execution, kind("components.Train model@sha256=ab12")).name == name
