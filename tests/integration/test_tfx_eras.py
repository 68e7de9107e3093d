"""Runs of TFX of three eras, read with one API."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from ml_metadata import metadata_store
from ml_metadata.proto import metadata_store_pb2 as mlmd

from tests.services.counting import CountedStore
from tests.writers.tfx import Era, TfxWriter
from zen_mlmd import SqliteConfig, Status, Store, open_store
from zen_mlmd.dialects import tfx
from zen_mlmd.model import StepKind

GEN = "tfx.components.example_gen.csv_example_gen.component.CsvExampleGen"
TRAINER = "tfx.components.trainer.component.Trainer"
LEGACY_IMPORTER = "tfx.components.common_nodes.importer_node.ImporterNode"

eras = pytest.mark.parametrize("era", ["0.25", "1.10", "1.21"])


def write(path: Path, era: Era) -> None:
    """Write two pipelines; the first with a whole run, one from the cache, and one that failed."""
    taxi = TfxWriter(SqliteConfig(path=str(path)).connection_config(), era, "taxi.v1")
    _, made = taxi.step(
        "r1", "Gen", type_name=GEN, parameters={"input": "csv"}, outputs={"examples": "Examples"}
    )
    examples = [made["examples"]]
    _, trained = taxi.step(
        "r1",
        "Trainer.main",
        type_name=TRAINER,
        parameters={"steps": 10},
        inputs={"examples": examples},
        outputs={"model": "Model"},
    )
    taxi.step("r2", "Gen", type_name=GEN, state="cached", cached={"examples": examples[0]})
    taxi.step(
        "r2",
        "Trainer.main",
        type_name=TRAINER,
        inputs={"examples": examples},
        state="cached",
        cached={"model": trained["model"]},
    )
    taxi.step("r3", "Gen", type_name=GEN, outputs={"examples": "Examples"})
    # What failed is left as it was begun up to 0.25.
    taxi.step(
        "r3",
        "Trainer.main",
        type_name=TRAINER,
        parameters={"steps": 11},
        inputs={"examples": examples * 1},
        outputs={"model": "Model"},
        state="new" if era == "0.25" else "failed",
    )
    other = TfxWriter(SqliteConfig(path=str(path)).connection_config(), era, "taxi")
    other.step("r9", "v1.Gen", type_name=GEN, outputs={"examples": "Examples"})


def open_past(path: Path) -> Store:
    """Open a store whose rows were written long ago."""
    # In a process of its own: two SQLite libraries must not share a file.
    script = (
        "import sqlite3, sys; c = sqlite3.connect(sys.argv[1])\n"
        "for table in ('Execution', 'Artifact', 'Context'):\n"
        "    c.execute(f'UPDATE {table} SET create_time_since_epoch = create_time_since_epoch - 864000000,'\n"
        "              ' last_update_time_since_epoch = last_update_time_since_epoch - 864000000')\n"
        "c.commit()"
    )
    subprocess.run([sys.executable, "-c", script, str(path)], check=True)
    return open_store(path)


@eras
def test_the_runs_of_each_era(tmp_path: Path, era: Era) -> None:
    write(tmp_path / "m.db", era)
    with open_past(tmp_path / "m.db") as store:
        assert [each.name for each in store.pipelines] == ["taxi.v1", "taxi"]
        runs = store.pipelines["taxi.v1"].runs
        assert [run.name for run in runs] == ["r3", "r2", "r1"]
        assert [run.pipeline for run in store.runs] == ["taxi", *["taxi.v1"] * 3]
        assert {run.dialect for run in store.runs} == {"tfx"}
        assert [run.status for run in runs] == [Status.FAILED, Status.COMPLETED, Status.COMPLETED]
        first, second, third = (store.get_run(name) for name in ("r1", "r2", "r3"))
        assert first.step_names == ["Gen", "Trainer.main"]
        assert store.get_run("r9").step_names == ["v1.Gen"]
        assert {step.status for step in second.step_runs} == {Status.CACHED}
        assert second["Trainer.main"].cached_from == first["Trainer.main"]
        steps = first["Trainer.main"].parameters["steps"]
        assert steps == ("10" if era == "0.25" else 10)
        model = first["Trainer.main"].output
        assert model.producer_step == first["Trainer.main"]
        assert [each.id for each in model.upstream().artifacts.values()] == [
            model.id,
            first["Gen"].output.id,
        ]
        assert second["Trainer.main"].output == model
        assert third["Trainer.main"].status is Status.FAILED
        assert [each.record.state for each in third["Trainer.main"].outputs.values()] == (
            ["pending"] if era == "0.25" else []
        )
        assert store.get_artifact("taxi.v1/r1/Trainer.main/model").path == "taxi.v1/r1/Trainer.main/model"
        assert "steps = " in str(model.why())
        assert [run.name for run in store.list_runs("status = failed")] == ["r3"]


def test_a_step_that_was_just_begun_runs(tmp_path: Path) -> None:
    write(tmp_path / "m.db", "0.25")
    with open_store(tmp_path / "m.db") as store:
        run = store.get_run("r3")
        trainer = run["Trainer.main"]
        assert (run.status, trainer.status) == (Status.RUNNING, Status.RUNNING)
        assert trainer.record.warnings == ()
        assert trainer.output.record.state == "pending"
        assert run["Gen"].output.record.state == "live"


def test_the_oldest_era_keeps_an_artifacts_state_in_a_property(tmp_path: Path) -> None:
    path = tmp_path / "m.db"
    config = SqliteConfig(path=str(path)).connection_config()
    _, made = TfxWriter(config, "0.25", "taxi").step("r1", "Gen", type_name=GEN, outputs={"x": "Examples"})
    raw = metadata_store.MetadataStore(config)
    (node,) = raw.get_artifacts_by_id([made["x"]])
    # As `Metadata.update_artifact_state` does, which leaves MLMD's own state alone.
    node.custom_properties["state"].string_value = "MARKED_FOR_DELETION"
    raw.put_artifacts([node])
    del raw
    with open_store(path) as store:
        assert store.get_run("r1")["Gen"].output.record.state == "marked_for_deletion"


def test_what_the_oldest_era_says_of_a_step_and_an_artifact(tmp_path: Path) -> None:
    path = tmp_path / "m.db"
    writer = TfxWriter(SqliteConfig(path=str(path)).connection_config(), "0.25", "taxi")
    writer.step(
        "r1",
        "Importer",
        type_name=LEGACY_IMPORTER,
        parameters={"source_uri": "/x", "reimport": None},
        outputs={"result": "Schema"},
        state="cached",
    )
    writer.step("r1", "Gen", type_name=GEN, outputs={"examples": "Examples"})
    with open_past(path) as store:
        step = store.get_run("r1")["Importer"]
        assert step.kind is StepKind.IMPORTER
        assert step.parameters == {"source_uri": "/x", "reimport": None}
        assert step.properties["pipeline_root"] == "/tfx/taxi"
        assert (step.status, step.cached_from) == (Status.CACHED, None)
        assert step.output.producer_step == step
        assert step.output.record.properties == {}
        made = store.get_run("r1")["Gen"].output
        assert (made.record.name, made.properties["state"]) == ("examples", "published")


def test_a_notebook_of_today_writes_as_the_oldest_era_did(tmp_path: Path) -> None:
    path = tmp_path / "m.db"
    writer = TfxWriter(SqliteConfig(path=str(path)).connection_config(), "0.25", "notebook")
    importer = "tfx.dsl.components.common.importer.Importer"
    writer.step("t1", "Importer", type_name=importer, outputs={"result": "Schema"}, state="cached")
    resolver = "tfx.dsl.components.common.resolver.Resolver"
    writer.step("t2", "Latest", type_name=resolver, state="cached")
    writer.step("t3", "Importer", type_name="my.Importer", state="complete")
    with open_store(path) as store:
        kinds = [run.step_runs[0].kind for run in store.pipelines["notebook"].runs]
        assert kinds == [StepKind.TASK, StepKind.RESOLVER, StepKind.IMPORTER]


def test_all_eras_in_one_store(tmp_path: Path) -> None:
    path = tmp_path / "m.db"
    config = SqliteConfig(path=str(path)).connection_config()
    wanted: tuple[Era, ...] = ("0.25", "1.10", "1.21")
    for era in wanted:
        writer = TfxWriter(config, era, f"p{era}")
        writer.step(f"run {era}", "Gen", type_name=GEN, outputs={"examples": "Examples"})
    with open_past(path) as store:
        found = {run.pipeline: (run.name, run.step_names, str(run.status)) for run in store.runs}
        assert found == {f"p{era}": (f"run {era}", ["Gen"], "completed") for era in ("0.25", "1.10", "1.21")}
        for pipeline in store.pipelines:
            assert [run.pipeline for run in pipeline.runs] == [pipeline.name]


def test_a_run_names_its_pipeline_where_that_has_no_context(tmp_path: Path) -> None:
    path = tmp_path / "m.db"
    plain = metadata_store.MetadataStore(SqliteConfig(path=str(path)).connection_config())
    kind = mlmd.ContextType(name="run", properties={"pipeline_name": mlmd.STRING, "run_id": mlmd.STRING})
    run = mlmd.Context(type_id=plain.put_context_type(kind), name="taxi.r1")
    run.properties["pipeline_name"].string_value = "taxi"
    run.properties["run_id"].string_value = "r1"
    plain.put_contexts([run])
    del plain
    with open_store(path) as store:
        assert [each.name for each in store.pipelines] == ["taxi"]
        assert store.get("taxi/latest") == store.get("taxi/r1") == store.get_run("r1")


def test_one_run_of_a_long_history_is_read_alone(tmp_path: Path) -> None:
    path = tmp_path / "m.db"
    config = SqliteConfig(path=str(path)).connection_config()
    TfxWriter(config, "1.10", "other").step("r0", "Gen", type_name=GEN)
    taxi = TfxWriter(config, "1.10", "taxi")
    taxi.step("r1", "Gen", type_name=GEN)
    plain = taxi.store
    kind = plain.get_execution_type(GEN).id
    many = plain.put_executions([mlmd.Execution(type_id=kind)] * 200)
    contexts = [
        plain.get_context_by_type_and_name(*each).id for each in (("pipeline", "taxi"), ("node", "taxi.Gen"))
    ]
    links = [mlmd.Association(execution_id=each, context_id=context) for each in many for context in contexts]
    plain.put_attributions_and_associations([], links)
    taxi.step("r2", "Gen", type_name=GEN, state="failed")
    del plain, taxi
    with CountedStore(path) as store:
        run = store.get_run("r2")
        assert (run.pipeline, run.step_names, run.status) == ("taxi", ["Gen"], Status.FAILED)
        assert store.service.nodes["executions"] < 10


@pytest.mark.parametrize("kind", [mlmd.Event.PENDING_OUTPUT, mlmd.Event.INTERNAL_OUTPUT])
def test_what_is_pending_or_resolved_was_not_made(tmp_path: Path, kind: mlmd.Event.Type) -> None:
    config = SqliteConfig(path=str(tmp_path / "m.db")).connection_config()
    writer = TfxWriter(config, "1.21", "taxi")
    other, _ = writer.step("r1", "Early", type_name=GEN, state="new")
    _, made = writer.step("r1", "Gen", type_name=GEN, outputs={"examples": "Examples"})
    event = mlmd.Event(artifact_id=made["examples"], execution_id=other, type=kind)
    event.path.steps.add(key="examples")
    event.path.steps.add(index=0)
    writer.store.put_events([event])
    with open_store(tmp_path / "m.db") as store:
        early, gen = store.get_run("r1").step_runs
        assert (dict(early.outputs), early.status) == ({}, Status.RUNNING)
        assert len(early.events()) == 1
        assert gen.output.producer_step == gen
        assert set(gen.output.upstream().steps) == {gen.id}


@pytest.mark.parametrize("first", ["outer", "inner"])
def test_a_pipeline_in_a_pipeline(tmp_path: Path, first: str) -> None:
    """Both have a run; what runs within is in both, in the outer one under the inner one's name."""
    config = SqliteConfig(path=str(tmp_path / "m.db")).connection_config()
    outer, inner = TfxWriter(config, "1.21", "taxi"), TfxWriter(config, "1.21", "tune", outer="taxi")
    for run in ("r1", "r2"):
        writers = (outer, inner) if first == "outer" else (inner, outer)
        for writer in writers:
            writer.step(run, "Gen", type_name=GEN, outputs={"examples": "Examples"})
        inner.step(run, "Trainer", type_name=TRAINER, parameters={"run": run}, outputs={"model": "Model"})
    with open_store(tmp_path / "m.db") as store:
        assert {run.name: run.pipeline for run in store.runs} == {
            "r1": "taxi",
            "r2": "taxi",
            "tune_r1": "tune",
            "tune_r2": "tune",
        }
        whole = store.get_run("r2")
        assert sorted(whole.step_names) == ["Gen", "tune/Gen", "tune/Trainer"]
        assert store.get_run("tune_r2").step_names == ["Gen", "Trainer"]
        trainer = whole["tune/Trainer"]
        assert trainer == store.get_run("tune_r2")["Trainer"]
        assert store.get_artifact("taxi/r2/tune/Trainer/model") == trainer.output
        assert trainer.path == "taxi/r2/tune/Trainer"
        found = trainer.output.producer_step
        assert found is not None
        assert found.path == "taxi/r2/tune/Trainer"
        assert "run = 'r2' ('r1' in the run before)" in str(trainer.output.why())


def test_a_step_may_be_named_as_a_pipeline_is(tmp_path: Path) -> None:
    config = SqliteConfig(path=str(tmp_path / "m.db")).connection_config()
    for pipeline in ("taxi", "tune"):
        writer = TfxWriter(config, "1.21", pipeline)
        for node in ("taxi", "tune"):
            writer.step(f"{pipeline} 1", node, type_name=GEN)
    with open_store(tmp_path / "m.db") as store:
        for pipeline in ("taxi", "tune"):
            assert store.get_run(f"{pipeline} 1").step_names == ["taxi", "tune"]


def test_a_context_of_the_type_run_may_be_anybodys(tmp_path: Path) -> None:
    path = tmp_path / "m.db"
    raw = metadata_store.MetadataStore(SqliteConfig(path=str(path)).connection_config())
    raw.put_contexts([mlmd.Context(type_id=raw.put_context_type(mlmd.ContextType(name="run")), name="x")])
    del raw
    with open_store(path) as store:
        assert list(store.runs) == []
        assert len(store.pipelines) == 0
        assert "x" not in store.runs


def test_the_pod_of_a_step_on_kubeflow_is_no_parameter() -> None:
    execution = mlmd.Execution(id=1)
    execution.custom_properties["lr"].double_value = 0.5
    execution.custom_properties["kfp_pod_name"].string_value = "taxi-q8m2x-123"

    step = tfx.step(execution, mlmd.ExecutionType(name="T"))
    assert step.parameters == {"lr": 0.5}
    assert step.properties["kfp_pod_name"] == "taxi-q8m2x-123"
