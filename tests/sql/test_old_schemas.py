"""Databases of older schemas are read as they are: not a byte of them changes."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, MutableSequence
from pathlib import Path
from typing import Any

import pytest
from ml_metadata.metadata_store.metadata_store import MetadataStore
from ml_metadata.proto import metadata_store_pb2 as mlmd
from ml_metadata.proto import metadata_store_service_pb2 as rpc

from tests.sql.places import Place
from tests.sql.twins import outcome
from tests.zenml_facts import check_step, digest
from zen_mlmd import SqliteConfig, Store
from zen_mlmd.errors import SchemaVersionError
from zen_mlmd.service import base
from zen_mlmd.service.client import Client
from zen_mlmd.service.native import NativeService
from zen_mlmd.service.sql.database import Database
from zen_mlmd.service.sql.engines import sqlite_engine
from zen_mlmd.service.sql.learn import learn
from zen_mlmd.service.sql.schema import COLUMNS
from zen_mlmd.service.sql.service import SqlService

DATA = Path(__file__).parents[1] / "data"
ZENML = {
    "zenml_063_train_fail": 7,
    "zenml_0132_basic3": 8,
    "zenml_0132_deep": 8,
    "zenml_0132_bench_30": 8,
}


def open_file(path: Path) -> SqlService:
    """Open a SQLite file so that it cannot be written."""
    engine = lambda: sqlite_engine(str(path), read_only=True)  # noqa: E731
    return SqlService(Database(engine, location=path.name, learn=learn), read_only=True)


@pytest.fixture(params=ZENML)
def zenml(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """The name and a copy of a database of ZenML's, which stays as it is."""
    name: str = request.param
    copy = tmp_path / "copy.db"
    shutil.copyfile(DATA / f"{name}.db", copy)
    yield name, copy
    assert digest(copy) == digest(DATA / f"{name}.db")
    assert [each.name for each in tmp_path.iterdir()] == ["copy.db"]


def test_what_zenml_wrote_is_read_with_all_that_zenml_said_of_it(zenml: tuple[str, Path]) -> None:
    name, copy = zenml
    expected = json.loads((DATA / f"{name}.expected.json").read_text("utf-8"))
    service = open_file(copy)
    with Store(SqliteConfig(path=str(copy), read_only=True), Client(service, wait_s=5)) as store:
        assert {each.name: each.id for each in store.pipelines} == {
            each["name"]: each["id"] for each in expected["pipelines"]
        }
        for pipeline in expected["pipelines"]:
            for facts in pipeline["runs"]:
                run = store.get_run(facts["name"])
                assert (run.id, run.pipeline, str(run.status)) == (
                    facts["id"],
                    pipeline["name"],
                    facts["status"],
                )
                assert len(run.step_runs) == len(facts["steps"])
                for step, said in zip(run.step_runs, facts["steps"], strict=True):
                    check_step(step, said)


def test_an_older_schema_is_not_written(zenml: tuple[str, Path]) -> None:
    name, copy = zenml
    request = rpc.PutArtifactsRequest(artifacts=[mlmd.Artifact(type_id=1)])
    engine = lambda: sqlite_engine(str(copy))  # noqa: E731
    with (
        SqlService(Database(engine, location=name, learn=learn)) as service,
        pytest.raises(
            SchemaVersionError, match=f"its MLMD schema is {ZENML[name]}: it is only read"
        ) as caught,
    ):
        service.call("PutArtifacts", request)
    assert "metadata-store migrate" in caught.value.hint


# -- databases that ml-metadata itself brought down ------------------------------------------------


def fill(store: MetadataStore) -> None:
    """Write something of each kind that the oldest schema keeps, too."""
    kinds = {"words": mlmd.STRING, "number": mlmd.INT, "share": mlmd.DOUBLE, "made": mlmd.STRUCT}
    parent = mlmd.ArtifactType(name="Dataset", base_type=mlmd.ArtifactType.DATASET)
    artifact_type = store.put_artifact_type(parent)
    versioned = store.put_artifact_type(
        mlmd.ArtifactType(name="Model", version="2", description="made by training", properties=kinds)
    )
    execution_type = store.put_execution_type(mlmd.ExecutionType(name="Trainer", properties=kinds))
    run_type = store.put_context_type(mlmd.ContextType(name="run", properties=kinds))
    data = mlmd.Artifact(type_id=artifact_type, uri="/data", name="data", state=mlmd.Artifact.LIVE)
    model = mlmd.Artifact(type_id=versioned, uri="/modèle/日本")
    step = mlmd.Execution(type_id=execution_type, name="train", last_known_state=mlmd.Execution.COMPLETE)
    run = mlmd.Context(type_id=run_type, name="monday")
    for node in (model, step, run):
        node.properties["words"].string_value = "l'été \N{SNOWMAN}"
        node.properties["number"].int_value = -7
        node.properties["share"].double_value = 0.25
        node.properties["made"].struct_value.update({"a": [1, None]})
        node.custom_properties["words"].string_value = ""
    pairs = [
        (data, mlmd.Event(type=mlmd.Event.INPUT, milliseconds_since_epoch=11)),
        (model, mlmd.Event(type=mlmd.Event.OUTPUT, milliseconds_since_epoch=12)),
    ]
    for (_, event), key in zip(pairs, ("rows", "model"), strict=True):
        event.path.steps.add(key=key)
        event.path.steps.add(index=3)
    store.put_execution(step, pairs, [run])
    (pipeline,) = store.put_contexts([mlmd.Context(type_id=run_type, name="pipeline")])
    (run_id,) = (each.id for each in store.get_contexts_by_type("run") if each.name == "monday")
    store.put_parent_contexts([mlmd.ParentContext(child_id=run_id, parent_id=pipeline)])


def questions() -> Iterator[tuple[str, Any]]:
    """Yield a request of each way to ask."""
    ids = range(1, 12)
    for kind, type_name in (("Artifact", "Model"), ("Execution", "Trainer"), ("Context", "run")):
        yield f"Get{kind}s", getattr(rpc, f"Get{kind}sRequest")()
        listed = getattr(rpc, f"Get{kind}sRequest")()
        listed.options.max_result_size = 1
        listed.options.order_by_field.field = mlmd.ListOperationOptions.OrderByField.CREATE_TIME
        yield f"Get{kind}s", listed
        yield f"Get{kind}sByID", getattr(rpc, f"Get{kind}sByIDRequest")(**{f"{kind.lower()}_ids": ids})
        yield f"Get{kind}Types", getattr(rpc, f"Get{kind}TypesRequest")()
        yield (
            f"Get{kind}TypesByID",
            getattr(rpc, f"Get{kind}TypesByIDRequest")(type_ids=range(1, 20)),
        )
        filtered = getattr(rpc, f"Get{kind}sRequest")()
        filtered.options.filter_query = (
            "properties.number.int_value = -7 AND custom_properties.words.string_value != 'x'"
        )
        yield f"Get{kind}s", filtered
        version = {"type_version": "2"} if kind == "Artifact" else {}
        yield f"Get{kind}Type", getattr(rpc, f"Get{kind}TypeRequest")(type_name=type_name, **version)
        yield f"Get{kind}sByType", getattr(rpc, f"Get{kind}sByTypeRequest")(type_name=type_name, **version)
        yield (
            f"Get{kind}sByExternalIds",
            getattr(rpc, f"Get{kind}sByExternalIdsRequest")(external_ids=["x"]),
        )
    yield (
        "GetArtifactByTypeAndName",
        rpc.GetArtifactByTypeAndNameRequest(type_name="Dataset", artifact_name="data"),
    )
    yield (
        "GetContextByTypeAndName",
        rpc.GetContextByTypeAndNameRequest(type_name="run", context_name="monday"),
    )
    yield "GetArtifactsByURI", rpc.GetArtifactsByURIRequest(uris=["/data", "/modèle/日本"])
    yield "GetEventsByArtifactIDs", rpc.GetEventsByArtifactIDsRequest(artifact_ids=ids)
    yield "GetEventsByExecutionIDs", rpc.GetEventsByExecutionIDsRequest(execution_ids=ids)
    yield "GetContextsByArtifact", rpc.GetContextsByArtifactRequest(artifact_id=2)
    yield "GetContextsByExecution", rpc.GetContextsByExecutionRequest(execution_id=1)
    yield "GetArtifactsByContext", rpc.GetArtifactsByContextRequest(context_id=1)
    yield "GetExecutionsByContext", rpc.GetExecutionsByContextRequest(context_id=1)
    yield "GetParentContextsByContext", rpc.GetParentContextsByContextRequest(context_id=1)
    yield "GetChildrenContextsByContext", rpc.GetChildrenContextsByContextRequest(context_id=2)


def answers(service: base.MetadataService) -> dict[str, Any]:
    """Return the answer to each question, or the code of its refusal."""
    found = {}
    for number, (method, request) in enumerate(questions()):
        said = outcome(service, method, request)
        found[f"{number} {method}"] = said[0] if isinstance(said, tuple) else in_order(said)
    return found


def in_order(answer: Any) -> dict[str, list[str]]:
    """Return the lists of an answer, sorted: without options a server gives its nodes in any order."""
    return {
        field.name: sorted(map(str, values))
        for field, values in answer.ListFields()
        if isinstance(values, MutableSequence)
    } or {"message": [str(answer)]}


@pytest.mark.parametrize("version", [6, 7, 8, 9])
def test_each_older_schema_is_read_as_the_newest_was(
    new_place: Callable[[], Place], version: int, tmp_path: Path
) -> None:
    place = new_place()
    fill(place.native())
    with NativeService(place.config, location="native") as native:
        native.open()
        expected = answers(native)
    place.downgrade(version)
    before = place.rows(*COLUMNS)
    files = {each.name: digest(each) for each in tmp_path.iterdir()}

    database = Database(place.engine, location="here", learn=learn)
    with SqlService(database, read_only=True) as service:
        assert database.schema.version == version
        found = answers(service)

    # ml-metadata 1.21 has no filters.
    expected = {question: said for question, said in expected.items() if said != base.UNIMPLEMENTED}
    assert {question: found[question] for question in expected} == expected
    assert len(expected) > 30
    assert place.rows(*COLUMNS) == before
    assert {each.name: digest(each) for each in tmp_path.iterdir()} == files
