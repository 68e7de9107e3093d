"""Databases that ZenML 0.13.2 wrote, read through the public API: every fact of their expectation files.

Those files hold what ZenML's own post-execution API said, its defects included: where a run crashed,
where runs were concurrent and where one artifact went to two inputs the rows say otherwise, and the
rows are right. None of that happens in these databases, so the last tests here write such rows.

ZenML's payloads are left alone: its materializers are not ours.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ml_metadata import metadata_store
from ml_metadata.proto import metadata_store_pb2 as mlmd

from tests.zenml_facts import check_artifact, check_step, digest
from zen_mlmd import SqliteConfig, Status, Store, open_store
from zen_mlmd.errors import NoMaterializerError, SchemaVersionError
from zen_mlmd.reading.runs import PipelineRunView

DATA = Path(__file__).parents[1] / "data"
NAMES = ["zenml_0132_basic3", "zenml_0132_bench_30", "zenml_0132_bench_200", "zenml_0132_deep"]
EXPECTED: dict[str, Any] = {
    name: json.loads((DATA / f"{name}.expected.json").read_text("utf-8")) for name in NAMES
}


@pytest.fixture(scope="module", params=NAMES)
def database(request: pytest.FixtureRequest) -> Iterator[str]:
    """The name of a database, whose file the tests leave as it is."""
    name: str = request.param
    before = digest(DATA / f"{name}.db")
    yield name
    assert digest(DATA / f"{name}.db") == before


@pytest.fixture(scope="module", params=["migrated", "as it is"])
def store(
    request: pytest.FixtureRequest, database: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Store]:
    """A copy: migrated, or of its old schema, and then left as it is to the byte."""
    copy = tmp_path_factory.mktemp("zenml") / f"{database}.db"
    shutil.copyfile(DATA / f"{database}.db", copy)
    with open_store(copy, upgrade=request.param == "migrated") as opened:
        yield opened
    if request.param == "as it is":
        assert digest(copy) == digest(DATA / f"{database}.db")
        assert [each.name for each in copy.parent.iterdir() if each.suffix.startswith(".db-")] == []


@pytest.fixture(scope="module")
def runs(store: Store) -> list[PipelineRunView]:
    """Every run, oldest first, listed together."""
    return list(store.runs)[::-1]


def expected_runs(database: str) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    return [(pipeline, run) for pipeline in EXPECTED[database]["pipelines"] for run in pipeline["runs"]]


def test_opening_an_older_schema_is_refused_and_leaves_the_file_to_the_byte(
    database: str, tmp_path: Path
) -> None:
    copy = tmp_path / "copy.db"
    shutil.copyfile(DATA / f"{database}.db", copy)

    with pytest.raises(SchemaVersionError) as caught:
        open_store(f"sqlite:///{copy}?service=native")

    assert digest(copy) == digest(DATA / f"{database}.db")
    assert "upgrade=True" in caught.value.hint
    assert not list(tmp_path.glob("copy.db-*")), "a journal"


def test_a_migrated_copy_needs_no_further_migration(database: str, tmp_path: Path) -> None:
    copy = tmp_path / "copy.db"
    shutil.copyfile(DATA / f"{database}.db", copy)
    open_store(copy, upgrade=True).close()

    with open_store(copy) as again:
        assert [each.name for each in again.pipelines] == [
            each["name"] for each in EXPECTED[database]["pipelines"]
        ]
    assert digest(copy) != digest(DATA / f"{database}.db")


def test_the_pipelines(database: str, store: Store) -> None:
    expected = [(each["id"], each["name"]) for each in EXPECTED[database]["pipelines"]]

    assert [(each.id, each.name) for each in store.pipelines] == expected


def test_the_runs_of_each_pipeline_newest_first(database: str, store: Store) -> None:
    for pipeline in EXPECTED[database]["pipelines"]:
        expected = [(run["id"], run["name"], run["status"]) for run in reversed(pipeline["runs"])]
        found = list(store.pipelines[pipeline["name"]].runs)

        assert [(run.id, run.name, str(run.status)) for run in found] == expected


def test_the_runs_of_all_pipelines(database: str, runs: list[PipelineRunView]) -> None:
    expected = [(run["id"], run["name"], pipeline["name"]) for pipeline, run in expected_runs(database)]

    assert [(run.id, run.name, run.pipeline) for run in runs] == expected
    assert {run.dialect for run in runs} == {"zenml"}


def test_every_run_with_its_steps_inputs_and_outputs(database: str, runs: list[PipelineRunView]) -> None:
    for run, (_, expected) in zip(runs, expected_runs(database), strict=True):
        assert (run.id, str(run.status)) == (expected["id"], expected["status"])
        assert run.step_names == [step["name"] for step in expected["steps"]]
        assert len(run.step_runs) == len(expected["steps"])
        for step, facts in zip(run.step_runs, expected["steps"], strict=True):
            check_step(step, facts)


def test_a_run_by_its_name(database: str, store: Store) -> None:
    for pipeline, expected in expected_runs(database)[-3:]:
        run = store.get_run(expected["name"])

        assert (run.id, run.pipeline, str(run.status)) == (
            expected["id"],
            pipeline["name"],
            expected["status"],
        )
        for facts in expected["steps"]:
            check_step(run[facts["name"]], facts)
        assert store.pipelines[pipeline["name"]].get_run(expected["name"]) == run


def test_a_step_by_its_id_knows_the_same(database: str, store: Store) -> None:
    for _, run in expected_runs(database)[-3:]:
        for facts in run["steps"]:
            step = store.get_step(facts["id"])
            check_step(step, facts)
            assert step.run.name == run["name"]


def test_an_artifact_by_its_path_and_by_its_id(database: str, store: Store) -> None:
    for pipeline, run in expected_runs(database)[:3]:
        for step in run["steps"]:
            for name, facts in step["outputs"].items():
                path = f"{pipeline['name']}/{run['name']}/{step['name']}/{name}"
                check_artifact(store.get_artifact(path), facts)
                alone = store.get_artifact(facts["id"])
                assert alone.uri == facts["uri"]
                assert alone.parent_step_id is None
                assert alone.is_cached is False
                producer = alone.producer_step
                assert producer is not None
                assert producer.id == facts["producer_step_id"]


def test_the_step_source_is_the_code_of_a_step_that_could_be_cached(
    database: str, runs: list[PipelineRunView]
) -> None:
    code = [step.record.code for run in runs[:3] for step in run.step_runs]

    assert code
    assert all(len(each) == hashlib.sha256().digest_size * 2 for each in code), database


def test_zenml_payloads_have_no_materializer_here(store: Store, runs: list[PipelineRunView]) -> None:
    for artifact in runs[0].step_runs[0].outputs.values():
        with pytest.raises(NoMaterializerError):
            artifact.read()


def test_lineage_of_a_chain_is_its_whole_length(tmp_path: Path) -> None:
    """`deep_8`: each of eight steps takes both outputs of the one before."""
    copy = tmp_path / "deep.db"
    shutil.copyfile(DATA / "zenml_0132_deep.db", copy)
    with open_store(copy, upgrade=True) as store:
        steps = store.pipelines["deep_8"].latest_run.step_runs
        last = steps[-1].outputs["p"]
        upstream, downstream = last.upstream(), steps[0].outputs["p"].downstream()

        assert sorted(upstream.steps) == [step.id for step in steps]
        assert sorted(downstream.steps) == [step.id for step in steps[1:]]
        assert len(upstream.artifacts) == 2 * (len(steps) - 1) + 1
        assert len(downstream.artifacts) == 2 * (len(steps) - 1) + 1


# -- where ZenML's own API was wrong -------------------------------------------------------------


class Writer:
    """Writes rows as ZenML 0.13.2 did, with ml-metadata's own client."""

    def __init__(self, path: Path) -> None:
        self._store = metadata_store.MetadataStore(SqliteConfig(path=str(path)).connection_config())
        self._context_types = {
            name: self._store.put_context_type(mlmd.ContextType(name=name))
            for name in ("pipeline", "pipeline_run", "node")
        }
        self._step = self._store.put_execution_type(mlmd.ExecutionType(name="module.step"))
        kind = mlmd.ArtifactType(name="DataArtifact")
        kind.properties["datatype"] = kind.properties["materializer"] = mlmd.STRING
        self._data = self._store.put_artifact_type(kind)

    def artifact(self, uri: str) -> mlmd.Artifact:
        node = mlmd.Artifact(type_id=self._data, uri=uri, state=mlmd.Artifact.LIVE)
        node.properties["datatype"].string_value = "builtins.int"
        node.properties["materializer"].string_value = "zenml.materializers.built_in.BuiltIn@zenml_0.13.2"
        return node

    def execution(
        self,
        run: str,
        name: str,
        state: Any,
        events: list[tuple[mlmd.Artifact, Any, list[str], int]],
    ) -> int:
        """Write one execution; an event is an artifact, its type, the names, and its time."""
        node = mlmd.Execution(type_id=self._step, last_known_state=state)
        node.custom_properties["zenml-pipeline_parameter_name"].string_value = json.dumps(name)
        pairs = []
        for artifact, kind, names, at in events:
            event = mlmd.Event(type=kind, milliseconds_since_epoch=at)
            for each in names:
                event.path.steps.add(key=each)
                event.path.steps.add(index=0)
            if artifact.id:
                event.artifact_id = artifact.id
            pairs.append((artifact, event))
        contexts = [
            mlmd.Context(type_id=self._context_types[kind], name=named)
            for kind, named in (("pipeline", "p"), ("pipeline_run", run), ("node", f"p.{name}"))
        ]
        execution_id, artifact_ids, _ = self._store.put_execution(
            node, pairs, contexts, reuse_context_if_already_exist=True
        )
        for (artifact, *_), made in zip(events, artifact_ids, strict=True):
            artifact.id = made
        return int(execution_id)


@pytest.fixture
def odd_path(tmp_path: Path) -> Path:
    return tmp_path / "odd.db"


def test_one_artifact_given_to_two_inputs_keeps_both_names(odd_path: Path) -> None:
    writer = Writer(odd_path)
    x = writer.artifact("/x")
    load = writer.execution("r", "load", mlmd.Execution.COMPLETE, [(x, mlmd.Event.OUTPUT, ["output"], 10)])
    writer.execution("r", "both", mlmd.Execution.COMPLETE, [(x, mlmd.Event.INPUT, ["a", "b"], 20)])

    with open_store(odd_path) as store:
        both = store.get_run("r")["both"]

        assert {name: each.id for name, each in both.inputs.items()} == {"a": x.id, "b": x.id}
        assert [parent.id for parent in both.parents] == [load]


def test_parents_are_of_the_same_run_however_runs_overlapped(odd_path: Path) -> None:
    writer = Writer(odd_path)
    complete, cached = mlmd.Execution.COMPLETE, mlmd.Execution.CACHED
    x = writer.artifact("/x")
    made = writer.execution("one", "load", complete, [(x, mlmd.Event.OUTPUT, ["output"], 10)])
    again = writer.execution("two", "load", cached, [(x, mlmd.Event.OUTPUT, ["output"], 20)])
    writer.execution("three", "load", cached, [(x, mlmd.Event.OUTPUT, ["output"], 21)])
    writer.execution("two", "use", complete, [(x, mlmd.Event.INPUT, ["x"], 22)])

    with open_store(odd_path) as store:
        use = store.get_run("two")["use"]
        found = use.inputs["x"]
        producer = found.producer_step

        assert [parent.id for parent in use.parents] == [again]
        assert (found.parent_step_id, found.is_cached) == (again, True)
        assert producer is not None
        assert (producer.id, producer.run.name) == (made, "one")


def test_a_parent_is_the_last_step_of_the_run_that_emitted_the_input_before(odd_path: Path) -> None:
    writer = Writer(odd_path)
    complete, output, taken = mlmd.Execution.COMPLETE, mlmd.Event.OUTPUT, mlmd.Event.INPUT
    x = writer.artifact("/x")
    load = writer.execution("r", "load", complete, [(x, output, ["output"], 10)])
    change = writer.execution("r", "change", complete, [(x, taken, ["x"], 20), (x, output, ["x"], 21)])
    writer.execution("r", "use", complete, [(x, taken, ["x"], 30)])
    writer.execution("r", "again", mlmd.Execution.CACHED, [(x, output, ["output"], 40)])

    with open_store(odd_path) as store:
        parents = {step.name: [each.id for each in step.parents] for step in store.get_run("r").step_runs}

        assert parents == {"load": [], "change": [load], "use": [change], "again": []}


def test_a_cached_step_is_no_producer_even_if_its_row_is_older(odd_path: Path) -> None:
    """Ids say little of the order in a store that another one was merged into."""
    writer = Writer(odd_path)
    x = writer.artifact("/x")
    cached = writer.execution("r", "load", mlmd.Execution.CACHED, [(x, mlmd.Event.OUTPUT, ["output"], 20)])
    made = writer.execution("old", "load", mlmd.Execution.COMPLETE, [(x, mlmd.Event.OUTPUT, ["output"], 10)])

    with open_store(odd_path) as store:
        producer = store.get_run("r")["load"].output.producer_step

        assert cached < made
        assert producer is not None
        assert producer.id == made
        assert store.get_artifact(x.id).upstream(reuse=False).steps.keys() == {made}


def test_a_crashed_run_is_not_completed(odd_path: Path) -> None:
    writer = Writer(odd_path)
    x = writer.artifact("/x")
    writer.execution("crashed", "load", mlmd.Execution.COMPLETE, [(x, mlmd.Event.OUTPUT, ["output"], 10)])
    writer.execution("crashed", "use", mlmd.Execution.RUNNING, [(x, mlmd.Event.INPUT, ["x"], 20)])
    writer.execution("failed", "use", mlmd.Execution.FAILED, [(x, mlmd.Event.INPUT, ["x"], 30)])
    writer.execution("cached", "load", mlmd.Execution.CACHED, [(x, mlmd.Event.OUTPUT, ["output"], 40)])

    with open_store(odd_path) as store:
        found = {run.name: run.status for run in store.runs}

        assert found == {"crashed": Status.RUNNING, "failed": Status.FAILED, "cached": Status.COMPLETED}
        assert store.get_run("crashed").ended_at is None
        assert store.get_run("crashed").last_sign_of_life is not None
        assert store.pipelines["p"].latest_completed_run.name == "cached"


def test_an_input_that_no_step_made_has_no_parent(odd_path: Path) -> None:
    writer = Writer(odd_path)
    writer.execution(
        "r", "use", mlmd.Execution.COMPLETE, [(writer.artifact("/x"), mlmd.Event.INPUT, ["x"], 10)]
    )

    with open_store(odd_path) as store:
        use = store.get_run("r")["use"]

        assert list(use.parents) == []
        assert (use.input.producer_step, use.input.parent_step_id) == (None, None)
        assert use.input.is_cached is False
