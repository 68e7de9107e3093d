"""Recording runs by hand, on each kind of store: what is written is what is read."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from ml_metadata.proto import metadata_store_pb2 as mlmd
from ml_metadata.proto import metadata_store_service_pb2 as rpc

import zen_mlmd as zm
from tests.integration.conftest import stores, url_of
from zen_mlmd.errors import (
    EndedError,
    InvalidValueError,
    NotFoundError,
    RejectedRequestError,
    RunExistsError,
    UsageError,
)
from zen_mlmd.service.client import resend
from zen_mlmd.store import Store


@pytest.fixture(
    params=stores("sqlite", "sqlite-sql", "memory", "grpc", "mysql", "mysql-native", "postgresql")
)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    with zm.open_store(url_of(request, request.param, tmp_path)) as opened:
        yield opened


def test_a_run_reads_back_as_it_was_recorded(store: Store) -> None:  # noqa: PLR0915 - one story
    raw = store.import_artifact("s3://raw", type="Examples", properties={"span": 3, "rate": 1e-9})
    before = datetime.now(timezone.utc) - timedelta(seconds=1)
    with store.record_run(
        "churn", parameters={"depth": 4, "lr": 1e-7}, properties={"team": "risk"}, plan={"train": ["load"]}
    ) as run:
        with run.step("load", inputs={"raw": raw}, type="my.Load", docstring="Loads.") as step:
            rows = step.log_output("rows", uri="s3://rows", type="Dataset", properties={"n": 3})
            with pytest.raises(UsageError, match="not in the store yet"):
                _ = rows.id
        assert step.outputs["rows"][0].record().properties == {"n": 3}
        with run.step("train", inputs={"rows": rows}, parameters={"lr": 1e-7}, base_type="train") as step:
            step.log_parameters({"seed": 2**70})
            step.log_metrics({"loss": 0.1, "steps": 3})
            step.log_properties({"device": "cpu"})
            step.log_input("late", raw)
            for part in range(3):
                step.log_output("models", uri=f"s3://model{part}", type="Model", properties={"part": part})
        run.log_metrics({"auc": 0.91})
        run.log_parameters({"late": (1, 2)})
        run.log_properties({"note": 'it\'s \\ "quoted"'})

    found = store.pipelines["churn"].latest_run
    assert found == store.get_run(run.name)
    assert found.status is zm.Status.COMPLETED
    assert found.dialect == "zen"
    assert found.parameters == {"depth": 4, "lr": 1e-7, "late": (1, 2)}
    assert found.properties == {"team": "risk", "note": 'it\'s \\ "quoted"'}
    assert found.metrics == {"auc": 0.91}
    assert found.plan == {"train": ("load",)}
    assert found.failure is None
    assert found.started_at is not None
    assert found.ended_at is not None
    assert before <= found.started_at <= found.ended_at <= datetime.now(timezone.utc)
    assert found.duration_s is not None
    assert found.environment["python"].startswith("3.")
    assert {"user", "host", "zen_mlmd", "ml_metadata"} <= set(found.environment)
    assert found.step_names == ["load", "train"]
    load, train = found["load"], found["train"]
    assert (load.record.type, load.entrypoint_name, load.docstring) == ("my.Load", "Load", "Loads.")
    assert train.parameters == {"lr": 1e-7, "seed": 2**70}
    assert train.metrics == {"loss": 0.1, "steps": 3}
    assert train.properties == {"device": "cpu"}
    assert (train.started_at or before) >= (load.ended_at or before)
    assert {name: [each.id for each in many] for name, many in train.inputs.lists.items()} == {
        "rows": [rows.id],
        "late": [raw.id],
    }
    assert [each.properties["part"] for each in train.outputs.lists["models"]] == [0, 1, 2]
    with pytest.raises(UsageError, match="list of 3"):
        _ = train.outputs["models"]
    assert train.parents == [load]
    assert raw.properties == {"span": 3, "rate": 1e-9}
    assert [step.name for step in raw.consumers] == ["load", "train"]
    assert raw.producer_step is None
    assert store.artifacts_at("s3://rows")[0].path == f"churn/{run.name}/load/rows"
    assert store.get(f"churn/latest/load/rows") == load.output  # noqa: F541
    assert store.get_artifact(rows.id) == load.output
    assert store.get_step(train.id).run == found


def test_an_error_is_recorded_and_goes_on(store: Store) -> None:
    with (  # noqa: PT012
        pytest.raises(ZeroDivisionError),
        store.record_run("p") as run,
        run.step("s") as step,
    ):
        step.log_output("half", uri="mem://half")
        raise ZeroDivisionError("by zero")
    found = store.get_run(run.name)
    assert found.status is zm.Status.FAILED
    assert found["s"].failure.type == "ZeroDivisionError"
    assert found["s"].failure.message == "by zero"
    assert "test_recording" in found["s"].failure.traceback
    assert list(found["s"].outputs) == ["half"]


def test_a_keyboard_interrupt_cancels(store: Store) -> None:
    with pytest.raises(KeyboardInterrupt), store.record_run("p") as run, run.step("s"):
        raise KeyboardInterrupt
    found = store.get_run(run.name)
    assert found.status is zm.Status.CANCELED
    assert found["s"].status is zm.Status.CANCELED


def test_a_run_that_has_not_ended_runs(store: Store) -> None:
    run = store.record_run("p")
    step = run.step("s")
    found = store.get_run(run.name)
    assert found.status is zm.Status.RUNNING
    assert found.ended_at is None
    assert found.duration_s is None
    assert found["s"].status is zm.Status.RUNNING
    assert found["s"].ended_at is None
    first = found.last_sign_of_life
    step.end()
    now = found.refresh()
    assert now["s"].status is zm.Status.COMPLETED
    assert now.status is zm.Status.RUNNING
    assert first is not None
    assert (now.last_sign_of_life or first) >= first
    run.end(zm.Status.CANCELED)
    assert found.refresh().status is zm.Status.CANCELED


def test_names_are_unique_in_the_store(store: Store) -> None:
    with store.record_run("a", name="monday"):
        pass
    with pytest.raises(RunExistsError, match="'monday' is there already"):
        store.record_run("b", name="monday")
    assert [run.pipeline for run in store.runs] == ["a"]


def test_a_run_is_joined_by_name_and_ended_by_its_owner(store: Store) -> None:
    with store.record_run("p", name="r") as run:
        with store.join_run("r") as joined:
            with joined.step("elsewhere") as step:
                step.log_output("x", uri="mem://x")
            joined.log_properties({"joined": True})
        assert store.get_run("r").status is zm.Status.RUNNING
        run.log_properties({"own": 1})
    found = store.get_run("r")
    assert found.status is zm.Status.COMPLETED
    assert found.properties == {"joined": True, "own": 1}
    assert "host" in found["elsewhere"].record.environment
    with pytest.raises(NotFoundError) as caught:
        store.join_run("q")
    assert caught.value.hint


def test_a_step_that_ran_again_shows_its_last_attempt(store: Store) -> None:
    with store.record_run("p") as run:
        for fails in (True, False):
            step = run.step("s")
            step.end(error=ValueError("no") if fails else None)
    found = store.get_run(run.name)
    assert found["s"].status is zm.Status.COMPLETED
    assert [str(each.status) for each in found.step_runs] == ["failed", "completed"]


def test_what_has_ended_takes_no_more(store: Store) -> None:
    with store.record_run("p") as run, run.step("s") as step:
        pass
    for late in (
        lambda: step.log_output("x"),
        lambda: step.log_input("x", 1),
        lambda: step.log_metrics({"a": 1}),
        step.end,
        run.end,
        lambda: run.step("t"),
        lambda: run.log_metrics({"a": 1}),
    ):
        with pytest.raises(EndedError) as caught:
            late()
        assert caught.value.hint


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        (lambda run: run.step(""), InvalidValueError),
        (lambda run: run.step("a\nb"), InvalidValueError),
        (lambda run: run.step(3), UsageError),
        (lambda run: run.step("s", inputs={"x": "s3://a"}), UsageError),
        (lambda run: run.step("s", inputs={"x": True}), UsageError),
        (lambda run: run.step("s", inputs={"x": 0}), UsageError),
        (lambda run: run.step("s", inputs={"x": 999_999}), NotFoundError),
        (lambda run: run.step("s", parameters={"x": object()}), InvalidValueError),
        (lambda run: run.step("s", properties={"zen_mlmd.x": 1}), InvalidValueError),
        (lambda run: run.step("s", properties={"": 1}), InvalidValueError),
        (lambda run: run.step("s", properties={"a\0b": 1}), RejectedRequestError),
        (lambda run: run.step("s", properties={"__MLMD_NULL__": 1}), RejectedRequestError),
        (lambda run: run.step("s", type="T", base_type="Cook"), UsageError),
        (lambda run: run.log_metrics({"a": "high"}), InvalidValueError),
        (lambda run: run.log_metrics({"a": True}), InvalidValueError),
        (lambda run: run.import_artifact(""), UsageError),
    ],
)
def test_bad_input_is_refused_and_nothing_is_written(
    store: Store, wrong: Any, error: type[Exception]
) -> None:
    with store.record_run("p") as run, pytest.raises(error):
        wrong(run)
    found = store.get_run(run.name)
    assert found.step_names == []
    assert found.metrics == {}


def test_refused_values_do_not_cost_a_step_its_results(store: Store) -> None:
    with store.record_run("p") as run, run.step("s") as step:
        output = step.log_output("x", uri="mem://x")
        for log in (step.log_parameters, step.log_properties):
            with pytest.raises(InvalidValueError):
                log({"bad": object()})
        for name in ("", "a\0b"):
            for bad in (
                lambda name=name: step.log_properties({name: 1}),
                lambda name=name: step.log_output("y", properties={name: 1}),
                lambda name=name: step.log_output(name),
                lambda name=name: step.log_input(name, 1),
            ):
                with pytest.raises((InvalidValueError, RejectedRequestError)):
                    bad()
        with pytest.raises(InvalidValueError):
            step.log_metrics({"bad": None})  # type: ignore[dict-item]
        with pytest.raises(UsageError):
            step.end(zm.Status.RUNNING)
    assert store.get_run(run.name)["s"].outputs["x"].id == output.id


def test_reuses_are_not_found_under_their_key(store: Store) -> None:
    with store.record_run("p") as run, run.step("s", cache_key="sha256:k") as step:
        made = step.log_output("x", uri="mem://x")
    for _ in range(3):
        with store.record_run("p") as run:
            run.reuse_step("s", outputs={"x": made}, cache_key="sha256:k")
    assert [each.id for each in store.loader.steps_in_cache("sha256:k")] == [step.id]
    assert store.pipelines["p"].latest_run["s"].record.cache_key == "sha256:k"


def test_an_input_given_at_the_start_cannot_be_given_again(store: Store) -> None:
    raw = store.import_artifact("mem://raw")
    with (
        store.record_run("p") as run,
        run.step("s", inputs={"a": raw}) as step,
        pytest.raises(UsageError, match="was given"),
    ):
        step.log_input("b", raw)


def test_what_is_imported_again_is_the_same_artifact(store: Store) -> None:
    first = store.import_artifact("s3://raw", type="Examples", properties={"span": 3, "rate": 1e-9})
    with store.record_run("p") as run, run.step("s", inputs={"rows": first}) as step:
        step.log_output("model", uri="s3://model", type="Model")
    for same_again in ({}, {"properties": {"span": 3}}, {"properties": {"rate": 1e-9, "span": 3}}):
        assert store.import_artifact("s3://raw", type="Examples", **same_again) == first
    with store.record_run("p") as run:
        assert run.import_artifact("s3://raw", type="Examples").id == first.id
    # What a step made is what it is, too.
    assert store.import_artifact("s3://model", type="Model").producer_step == store.get_step(step.id)
    assert len(store.list_artifacts()) == 2


def test_what_is_other_is_imported_as_another_artifact(store: Store) -> None:
    first = store.import_artifact("s3://raw", type="Examples", properties={"span": 3, "x": [1]})
    others = [
        store.import_artifact("s3://RAW", type="Examples"),
        store.import_artifact("s3://raw", type="Dataset"),
        store.import_artifact("s3://raw", type="Examples", properties={"span": 4}),
        store.import_artifact("s3://raw", type="Examples", properties={"span": 3, "more": None}),
        store.import_artifact("s3://raw", type="Examples", properties={"x": [1.0]}),
        store.import_artifact("s3://raw", type="Examples", properties={"span": 3}, reimport=True),
    ]
    assert len({first, *others}) == 7
    # Of several that fit, the newest.
    assert store.import_artifact("s3://raw", type="Examples") == others[-1]


def test_an_artifact_that_is_not_live_is_not_imported_again(store: Store) -> None:
    first = store.import_artifact("s3://raw")
    (node,) = store.loader.client.artifacts([first.id]).values()
    node.state = mlmd.Artifact.DELETED
    store.loader.client.write("PutArtifacts", rpc.PutArtifactsRequest(artifacts=[node]), resend)
    assert store.get_artifact(first.id).record.state == "deleted"
    second = store.import_artifact("s3://raw")
    assert second != first
    assert store.import_artifact("s3://raw") == second


def test_standard_types_are_registered_as_tfx_does(store: Store) -> None:
    for name, base in [("Model", "mlmd.Model"), ("Examples", "mlmd.Dataset"), ("Schema", "")]:
        assert store.import_artifact(f"mem://{name}", type=name).record.type == name
        assert store.list_artifacts(type=name)[0].record.base_type == base
    assert store.import_artifact("mem://own", type="Own", base_type="Statistics").id
    assert store.list_artifacts(type="Own")[0].record.base_type == "mlmd.Statistics"


def test_a_property_that_its_type_declares_lies_where_tfx_looks_for_it(store: Store) -> None:
    given = {"span": 3, "version": "three", "split_names": '["train"]', "rate": 1e-9}
    artifact = store.get_artifact(store.import_artifact("mem://x", type="Examples", properties=given).id)
    assert artifact.properties == given
    # Of another kind than declared, or not declared at all.
    assert artifact.record.custom_properties == {"version": "three", "rate": 1e-9}


def test_listing_filters_and_tables(store: Store) -> None:
    for number in range(5):
        pipeline = "p" if number % 2 else "q"
        with store.record_run(pipeline, parameters={"depth": number}) as run, run.step("s") as step:
            step.log_output("m", uri=f"mem://{number}", type="Model", properties={"auc": number / 10})
    assert [run.parameters["depth"] for run in store.list_runs("parameters.depth > 1")] == [4, 3, 2]
    assert [run.parameters["depth"] for run in store.list_runs(pipeline="q", limit=2)] == [4, 2]
    assert len(store.list_runs("pipeline = p and status = completed and started_at > now-1h")) == 2
    assert len(store.pipelines["p"].runs) == 2
    assert [each.properties["auc"] for each in store.list_artifacts("properties.auc >= 0.3")] == [0.4, 0.3]
    assert [each.name for each in store.list_pipelines("name like 'p%'")] == ["p"]
    assert store.list_runs(limit=0).to_dicts() == []
    rows = store.list_runs().to_dicts()
    assert {row["pipeline"] for row in rows} == {"p", "q"}
    frame = store.list_runs().to_pandas()
    assert sorted(frame["parameters.depth"]) == [0, 1, 2, 3, 4]
    assert list(store.list_artifacts(limit=2).to_pandas()["type"]) == ["Model", "Model"]
    assert repr(store.list_runs(limit=1)).startswith("[<Run q/")


def test_what_is_not_there_says_what_is(store: Store) -> None:
    with store.record_run("churn", name="r1") as run, run.step("train") as step:
        step.log_output("model", uri="mem://m")
    cases: list[tuple[Any, str]] = [
        (lambda: store.pipelines["chrun"], "churn"),
        (lambda: store.get_run("r2"), "r1"),
        (lambda: store.pipelines["churn"].runs["r3"], "r1"),
        (lambda: store.get("churn/r1/trian"), "train"),
        (lambda: store.get("churn/r1/train/modle"), "model"),
        (lambda: store.get_artifact(12345), "there are none"),
        (lambda: store.get_step(12345), "there are none"),
        (lambda: store.list_runs(pipeline="x"), "churn"),
    ]
    for ask, hint in cases:
        with pytest.raises(NotFoundError) as caught:
            ask()
        assert hint in caught.value.hint
    for path in ("", "/"):
        with pytest.raises(UsageError, match="one part at least"):
            store.get(path)
    with pytest.raises(NotFoundError, match="no step"):
        store.get("churn/r1/group/train/model")
    with pytest.raises(UsageError, match="no artifact's path"):
        store.get_artifact("churn/r1")
    assert store.get_artifact("churn/r1/train").uri == "mem://m"


def test_names_with_slashes_and_dots_have_paths(store: Store) -> None:
    with store.record_run("a/b.c%d", name="r/1") as run, run.step("s.t/u") as step:
        output = step.log_output("o/p", uri="mem://x")
    artifact = store.get_artifact(output.id)
    assert artifact.path == "a%2Fb.c%25d/r%2F1/s.t%2Fu/o%2Fp"
    assert store.get(artifact.path) == artifact


def test_the_runs_of_a_pipeline_can_be_asked_by_what_happened(store: Store) -> None:
    raw = store.import_artifact("mem://raw")
    with store.record_run("p", name="one") as run, run.step("s") as step:
        made = step.log_output("x", uri="mem://x")
    with store.record_run("p", name="two") as run:
        run.reuse_step("s", inputs={"raw": [raw, raw]}, outputs={"x": made}, parameters={"a": 1})
    with pytest.raises(ValueError, match="no"), store.record_run("p", name="three"):
        raise ValueError("no")
    pipeline = store.pipelines["p"]
    assert pipeline.run_names == ["three", "two", "one"]
    assert pipeline.latest_run.name == "three"
    assert pipeline.latest_completed_run.name == "two"
    assert pipeline.get_run_for_completed_step("s").name == "one"
    assert pipeline.get_run("latest").name == "three"
    assert "two" in pipeline.runs
    assert "four" not in pipeline.runs
    assert pipeline.runs[-1].name == "one"
    assert [run.name for run in pipeline.runs.where("status = failed")] == ["three"]
    two = store.get_run("two")["s"]
    assert two.is_cached
    assert two.is_completed
    assert two.parameters == {"a": 1}
    assert two.output.is_cached
    assert not store.get_run("one")["s"].output.is_cached
    assert len(store.pipelines) == 1
    assert "p" in store.pipelines
    assert "q" not in store.pipelines


def test_views_compare_and_show_themselves(store: Store) -> None:
    with store.record_run("p", name="r") as run, run.step("s") as step:
        step.log_output("x", uri="mem://x", type="Model")
    found = store.get_run("r")
    assert {found, store.get_run("r")} == {found}
    assert len({found["s"], found["s"], store.pipelines["p"], store.pipelines["p"]}) == 2
    assert repr(found) == "<Run p/r>"
    assert repr(found["s"]) == "<Step s completed>"
    assert repr(store.pipelines["p"]) == "<Pipeline p>"
    assert "Model" in repr(found["s"].outputs)
    assert "p" in repr(store.pipelines)
    assert repr(run) == "<RunRecorder p/r>"
    assert "s" in repr(step)
    assert found["s"].to_dict()["outputs"] == {"x": [found["s"].output.id]}
    assert store.pipelines["p"].to_dict()["name"] == "p"
    assert found["s"].output.to_dict()["uri"] == "mem://x"
    assert found["s"] != found
    assert repr(store.pipelines["p"].runs) == "<Runs of p>"
