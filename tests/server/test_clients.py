"""The clients there are: ml_metadata's own, TFX, Kubeflow Pipelines v1's calls, and one in JavaScript."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest
from filelock import FileLock
from google.protobuf import descriptor_pb2
from grpc_reflection.v1alpha import reflection_pb2
from ml_metadata import errors
from ml_metadata.metadata_store import metadata_store
from ml_metadata.proto import metadata_store_pb2 as mlmd

import zen_mlmd as zm
from tests.server.conftest import Caller, StartServer
from tests.server.test_observed import reflected
from tests.services.tfx import ask_tfx

PACKAGES = ["@grpc/grpc-js@1.14", "@grpc/proto-loader@0.8"]


def mlmd_client(address: str) -> metadata_store.MetadataStore:
    host, _, port = address.rpartition(":")
    return metadata_store.MetadataStore(mlmd.MetadataStoreClientConfig(host=host, port=int(port)))


@pytest.mark.slow
def test_tfx_runs_a_pipeline_and_caches_it_the_second_time(
    start: StartServer, tfx_python: str, tmp_path: Path
) -> None:
    with zm.open_store(f"kubeflow://{start(log='none').address}") as store:
        request = {"pipeline": "cached", "root": str(tmp_path / "root")}
        first = ask_tfx(tfx_python, "cache", store, depth=3, **request)
        assert first["states"] == ["COMPLETE"] * 2
        second = ask_tfx(tfx_python, "cache", store, depth=3, **request)
        assert second["states"] == ["COMPLETE"] * 2 + ["CACHED"] * 2
        third = ask_tfx(tfx_python, "cache", store, depth=4, **request)
        assert third["states"] == ["COMPLETE"] * 2 + ["CACHED"] * 2 + ["COMPLETE"] * 2
        newest, middle, oldest = store.pipelines["cached"].runs
        assert [str(run.status) for run in (newest, middle, oldest)] == ["completed"] * 3
        assert middle.steps["make"].is_cached
        reused = middle.steps["make"].outputs["model"]
        assert reused.id == oldest.steps["make"].outputs["model"].id
        assert newest.steps["make"].outputs["model"].id != reused.id


def test_what_kfp_v1s_metadata_writer_asks(start: StartServer) -> None:
    """The calls of backend/metadata_writer/src/metadata_helpers.py (kubeflow/pipelines), in its order."""
    store = mlmd_client(start(log="none").address)
    assert list(store.get_context_types()) == []

    def type_of(kind: str, name: str, **properties: int) -> int:
        with pytest.raises(errors.NotFoundError):
            getattr(store, f"get_{kind}_type")(type_name=name)
        made = getattr(mlmd, f"{kind.capitalize()}Type")(name=name, properties=properties)
        return int(getattr(store, f"put_{kind}_type")(made))

    assert [each for each in store.get_contexts() if each.name == "run-1"] == []
    text = mlmd.PropertyType.STRING
    run_type = type_of("context", "KfpRun", pipeline_name=text, run_id=text)
    names = {key: mlmd.Value(string_value="run-1") for key in ("pipeline_name", "run_id")}
    (run_id,) = store.put_contexts([mlmd.Context(name="run-1", type_id=run_type, properties=names)])
    (found,) = (each for each in store.get_contexts() if each.name == "run-1")
    assert store.get_context_types_by_id([found.type_id])[0].name == "KfpRun"

    step_type = type_of("execution", "components.Train", pipeline_name=text, run_id=text, component_id=text)
    step = mlmd.Execution(type_id=step_type, properties=names)
    step.custom_properties["kfp_pod_name"].string_value = "pod-1"
    (step_id,) = store.put_executions([step])
    store.put_attributions_and_associations([], [mlmd.Association(execution_id=step_id, context_id=run_id)])

    model_type = type_of("artifact", "Model")
    model = mlmd.Artifact(uri="minio://model", type_id=model_type)
    model.custom_properties["name"].string_value = "train-model"
    (model_id,) = store.put_artifacts([model])
    event = mlmd.Event(execution_id=step_id, artifact_id=model_id, type=mlmd.Event.OUTPUT)
    event.path.steps.add().key = "train-model"
    store.put_events([event])
    store.put_attributions_and_associations([mlmd.Attribution(artifact_id=model_id, context_id=run_id)], [])

    (again,) = store.get_artifacts_by_uri("minio://model")
    assert again.custom_properties["name"].string_value == "train-model"
    assert [each.id for each in store.get_executions_by_context(run_id)] == [step_id]
    assert [each.id for each in store.get_artifacts_by_context(run_id)] == [model_id]
    assert [each.path.steps[0].key for each in store.get_events_by_execution_ids([step_id])] == [
        "train-model"
    ]


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("npm") is None, reason="no npm for a client in JavaScript")
def test_a_javascript_client_made_from_the_reflected_descriptors(
    start: StartServer, shared_folder: Path, tmp_path: Path
) -> None:
    address = start(log="none").address
    with Caller(address) as call:
        ask = reflection_pb2.ServerReflectionRequest(
            file_containing_symbol="ml_metadata.MetadataStoreService"
        )
        (answer,) = reflected(call, ask)
    files = descriptor_pb2.FileDescriptorSet()
    for data in answer.file_descriptor_response.file_descriptor_proto:
        files.file.add().ParseFromString(data)
    descriptors = tmp_path / "descriptors.bin"
    descriptors.write_bytes(files.SerializeToString())

    packages = shared_folder / "javascript"
    with FileLock(f"{packages}.lock"):
        if not packages.exists():
            install = ["npm", "install", "--silent", "--no-audit", "--no-fund", "--prefix", str(packages)]
            subprocess.run([*install, *PACKAGES], check=True, timeout=240)
    script = packages / "client.js"
    script.write_text(Path(__file__).with_name("client.js").read_text())
    done = subprocess.run(
        ["node", str(script), address, str(descriptors)],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    told = json.loads(done.stdout)
    assert told == {
        "uri": "s3://ü",
        "type": "JsModel",
        "refused": {"code": 5, "details": told["refused"]["details"]},
    }
    assert told["refused"]["details"].endswith("No type found for query, type_id: 999")
    (stored,) = mlmd_client(address).get_artifacts_by_uri("s3://ü")
    assert stored.custom_properties["auc"].double_value == 0.5
