"""What callers give is kept as it was then, or refused at once; it costs a step nothing that it has."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import zen_mlmd as zm
from tests.integration.conftest import stores, url_of
from tests.services.mariadb import MariaDb
from zen_mlmd.errors import (
    InvalidValueError,
    NameClashError,
    NotFoundError,
    RejectedRequestError,
    UsageError,
    ZenMlmdError,
)
from zen_mlmd.recording.step import StepRecorder
from zen_mlmd.store import Store

HUGE = "y" * (17 * 2**20)


@pytest.fixture(params=stores("sqlite", "grpc", "mysql", "postgresql"))
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    with zm.open_store(url_of(request, request.param, tmp_path)) as opened:
        yield opened


@pytest.fixture
def mysql(mysql_url: str) -> Iterator[Store]:
    with zm.open_store(mysql_url) as opened:
        yield opened


@pytest.fixture
def folding(mariadb: MariaDb) -> Iterator[Store]:
    """A database that takes names for one that differ by case."""
    mariadb.sql("CREATE OR REPLACE DATABASE zen_folds CHARACTER SET utf8mb4 COLLATE utf8mb4_general_ci")
    with zm.open_store(mariadb.url("zen_folds")) as opened:
        yield opened
    mariadb.drop_database("zen_folds")


Log = Callable[[StepRecorder, zm.reading.artifacts.ArtifactView], object]


def check_refused(store: Store, log: Log, error: type[ZenMlmdError]) -> None:
    """Refused when it is logged, by an error with a hint; the step ends with all the rest."""
    raw = store.import_artifact("mem://raw")
    with store.record_run("p") as run, run.step("s", parameters={"depth": 3}) as step:
        output = step.log_output("good", uri="mem://good")
        step.log_metrics({"auc": 0.5})
        with pytest.raises(error) as caught:
            log(step, raw)
        assert type(caught.value) is error
        assert caught.value.hint
    found = store.get_run(run.name)["s"]
    assert found.status is zm.Status.COMPLETED
    assert {name: each.id for name, each in found.outputs.items()} == {"good": output.id}
    assert (found.parameters, found.metrics, dict(found.inputs)) == ({"depth": 3}, {"auc": 0.5}, {})


@pytest.mark.parametrize(
    ("log", "error"),
    [
        (lambda step, _: step.log_output("a\0b"), InvalidValueError),
        (lambda step, _: step.log_output("\ud800"), InvalidValueError),
        (lambda step, _: step.log_output(""), InvalidValueError),
        (lambda step, _: step.log_output(5), UsageError),
        (lambda step, _: step.log_output("__MLMD_NULL__"), RejectedRequestError),
        (lambda step, _: step.log_output("m", uri="a\0"), RejectedRequestError),
        (lambda step, _: step.log_output("m", uri="__MLMD_NULL__"), RejectedRequestError),
        (lambda step, _: step.log_output("m", uri="\ud800"), InvalidValueError),
        (lambda step, _: step.log_output("m", uri=Path("/x")), UsageError),
        (lambda step, _: step.log_output("m", uri=5), UsageError),
        (lambda step, _: step.log_output("m", type="\ud800"), InvalidValueError),
        (lambda step, _: step.log_output("m", type="a\0"), RejectedRequestError),
        (lambda step, _: step.log_output("m", type=""), UsageError),
        (lambda step, _: step.log_output("m", properties={"a\0": 1}), RejectedRequestError),
        (lambda step, _: step.log_output("m", properties={"\ud800": 1}), InvalidValueError),
        (lambda step, _: step.log_properties({"k\0": 1}), RejectedRequestError),
        (lambda step, _: step.log_properties({"__MLMD_NULL__": 1}), RejectedRequestError),
        (lambda step, _: step.log_properties({"\ud800": 1}), InvalidValueError),
        (lambda step, _: step.log_metrics({1: 2.0}), InvalidValueError),
        (lambda step, raw: step.log_input(5, raw), UsageError),
        (lambda step, raw: step.log_input("a\0", raw), InvalidValueError),
        (lambda step, raw: step.log_input("__MLMD_NULL__", raw), RejectedRequestError),
        (lambda step, raw: step.log_input("x", raw, index=2**70), UsageError),
        (lambda step, raw: step.log_input("x", raw, index=-1), UsageError),
        (lambda step, raw: step.log_input("x", raw, index="0"), UsageError),
        (lambda step, _: step.log_input("x", 2**70), UsageError),
        (lambda step, _: step.log_input("x", "mem://raw"), UsageError),
        (lambda step, _: step.log_input("x", 999_999), NotFoundError),
    ],
)
def test_what_no_store_keeps_is_refused_when_it_is_logged(
    tmp_path: Path, log: Log, error: type[ZenMlmdError]
) -> None:
    check_refused(zm.open_store(tmp_path / "m.db"), log, error)


@pytest.mark.mysql
@pytest.mark.parametrize(
    "log",
    [
        lambda step, _: step.log_output("m", uri="x" * 70_000),
        lambda step, _: step.log_output("m" * 70_000),
        lambda step, _: step.log_output("m", type="t" * 300),
        lambda step, _: step.log_output("m", properties={"k" * 300: 1}),
        lambda step, _: step.log_output("m", properties={"x": HUGE}),
        lambda step, _: step.log_output("m", properties={"acc": 1, "acc ": 2}),
        lambda step, _: step.log_properties({"k" * 300: 1}),
        lambda step, _: step.log_properties({"x": HUGE}),
        lambda step, _: step.log_parameters({"x": HUGE}),
        lambda step, _: step.log_metrics({"m" * 2**24: 1.0}),
        lambda step, raw: step.log_input("x" * 70_000, raw),
    ],
)
def test_what_mysql_cannot_keep_is_refused_when_it_is_logged(mysql: Store, log: Log) -> None:
    check_refused(mysql, log, RejectedRequestError)


@pytest.mark.mysql
@pytest.mark.parametrize(
    "log",
    [
        lambda step, _: step.log_properties({"Acc": 1, "acc": 2}),
        lambda step, _: step.log_output("m", properties={"Acc": 1, "ACC": 2}),
    ],
)
def test_keys_that_the_database_takes_for_one_are_refused(folding: Store, log: Log) -> None:
    check_refused(folding, log, RejectedRequestError)


@pytest.mark.mysql
def test_a_late_key_that_the_database_takes_for_an_earlier_one_is_refused(folding: Store) -> None:
    with folding.record_run("p") as run, run.step("s", properties={"Acc": 1}) as step:
        step.log_properties({"Acc": 2})
        with pytest.raises(RejectedRequestError, match="'Acc' and 'acc' of the execution have one name"):
            step.log_properties({"acc": 3})
    assert folding.get_run(run.name)["s"].record.properties == {"Acc": 2}
    with pytest.raises(RejectedRequestError, match="have one name"):
        folding.record_run("p", properties={"a": 1, "A": 2})


@pytest.mark.mysql
def test_names_that_the_database_takes_for_one_are_refused(folding: Store, mysql: Store) -> None:
    for store, names in ((folding, ("TRAIN", "Train", "train ")), (mysql, ("train ",))):
        with store.record_run("p", name="r") as run:
            run.step("train").end()
            run.step("train").end()
            for name in names:
                with pytest.raises(NameClashError, match=f"the step {name!r} collides") as caught:
                    run.step(name)
                assert caught.value.hint
            run.step("other").end()
        assert store.get_run("r").step_names == ["train", "other"]
        for name in ("R", "r ") if store is folding else ("r ",):
            with pytest.raises(NameClashError, match=f"the run {name!r} collides"):
                store.record_run("p", name=name)
    with mysql.record_run("p", name="R") as run:
        run.step("TRAIN").end()


def test_mutable_values_are_kept_as_they_were_given(store: Store) -> None:
    early: dict[str, Any] = {"lr": 1}
    late: dict[str, Any] = {"seed": [1]}
    listed = [1]
    run = store.record_run("p", parameters={"a": early})
    with run, run.step("s", parameters={"early": early}, properties={"listed": listed}) as step:
        step.log_parameters({"late": late})
        early["lr"] = 2
        late["seed"].append(object())
        listed.append(2)
        step.log_parameters({"more": 1})
        step.log_properties({"other": listed})
    found = store.get_run(run.name)["s"]
    assert found.parameters == {"early": {"lr": 1}, "late": {"seed": [1]}, "more": 1}
    assert found.record.properties == {"listed": [1], "other": [1, 2]}


def test_what_is_logged_later_counts(store: Store) -> None:
    with (
        store.record_run("p") as run,
        run.step("s", parameters={"a": 1, "b": 1}, properties={"x": 1}) as step,
    ):
        step.log_parameters({"b": (2, 3)})
        step.log_properties({"x": 2})
        step.log_metrics({"m": 1})
        step.log_metrics({"m": 2, "n": 3.5})
    found = store.get_run(run.name)["s"]
    assert found.parameters == {"a": 1, "b": (2, 3)}
    assert (found.record.properties, found.metrics) == ({"x": 2}, {"m": 2, "n": 3.5})


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        (lambda store, run, _: run.step("s", after="load"), UsageError),
        (lambda store, run, _: run.step("s", after=[1]), UsageError),
        (lambda store, run, _: run.step("s", after=None), UsageError),
        (lambda store, run, _: run.step("s", after=["a\nb"]), InvalidValueError),
        (lambda store, run, raw: run.reuse_step("s", outputs={"x": raw}, after="load"), UsageError),
        (lambda store, run, raw: run.reuse_step("s", outputs={"x": raw}, bogus=3), TypeError),
        (lambda store, run, raw: run.step("s", inputs={5: raw}), UsageError),
        (lambda store, run, raw: run.step("s", inputs={"\ud800": raw}), InvalidValueError),
        (lambda store, run, raw: run.step("s", inputs=[raw]), UsageError),
        (lambda store, run, _: run.step("s", inputs={"x": ""}), UsageError),
        (lambda store, run, _: run.step("s", inputs={"x": [""]}), UsageError),
        (lambda store, run, _: run.step("s", type="\ud800"), InvalidValueError),
        (lambda store, run, _: run.step("s", type=7), UsageError),
        (lambda store, run, _: run.log_metrics({1: 2}), InvalidValueError),
        (lambda store, run, _: run.log_metrics({"\ud800": 2}), InvalidValueError),
        (lambda store, run, _: run.log_parameters({1: 2}), InvalidValueError),
        (lambda store, run, _: run.log_parameters({"\ud800": 2}), InvalidValueError),
        (lambda store, run, _: run.log_properties({"\ud800": 2}), InvalidValueError),
        (lambda store, run, _: store.record_run("p", plan={"train": "load"}), UsageError),
        (lambda store, run, _: store.record_run("p", plan={"a": None}), UsageError),
        (lambda store, run, _: store.record_run("p", plan={"a": [1, "b"]}), UsageError),
        (lambda store, run, _: store.record_run("p", plan={3: []}), UsageError),
        (lambda store, run, _: store.record_run("p", plan=["a"]), UsageError),
        (lambda store, run, _: store.import_artifact("\ud800"), InvalidValueError),
        (lambda store, run, _: store.import_artifact(Path("/x")), UsageError),
        (lambda store, run, _: store.import_artifact("x", type="\ud800"), InvalidValueError),
    ],
)
def test_what_means_nothing_is_refused_and_nothing_is_written(
    tmp_path: Path, wrong: Any, error: type[Exception]
) -> None:
    store = zm.open_store(tmp_path / "m.db")
    raw = store.import_artifact("mem://raw")
    with store.record_run("p", name="r") as run, pytest.raises(error) as caught:
        wrong(store, run, raw)
    assert getattr(caught.value, "hint", "TypeError of Python itself")
    assert [run.name for run in store.runs] == ["r"]
    assert store.get_run("r").step_names == []
    assert len(list(store.artifacts)) == 1


# --- artifacts of other stores ---


@pytest.fixture
def other(tmp_path: Path) -> Store:
    """Another store, in which the first five artifacts are not those of the first."""
    made = zm.open_store(tmp_path / "other.db")
    for number in range(5):
        made.import_artifact(f"mem://other/{number}")
    return made


def test_an_artifact_of_another_store_is_refused(store: Store, other: Store) -> None:
    for number in range(9):
        store.import_artifact(f"mem://{number}")
    with other.record_run("p") as run, run.step("s") as step:
        output = step.log_output("x")
    strangers: list[Any] = [
        other.get_artifact(2),
        other.get_artifact(3).record,
        other.import_artifact("mem://x"),
        output,
    ]
    with store.record_run("p") as run:
        for stranger in strangers:
            with pytest.raises(UsageError, match="comes from another store") as caught:
                run.step("s", inputs={"x": stranger})
            assert caught.value.hint
            with pytest.raises(UsageError):
                run.reuse_step("s", outputs={"x": [stranger]})
        with run.step("t") as step, pytest.raises(UsageError, match="artifact 2 comes from another store"):
            step.log_input("x", strangers[0])
    assert store.get_run(run.name).step_names == ["t"]


def test_an_artifact_of_equal_id_and_uri_is_told_by_its_type_and_time(store: Store, other: Store) -> None:
    kinds = {"Model": store.import_artifact("mem://same", type="Model", reimport=True)}
    theirs = zm.open_store(other.config).import_artifact("mem://same", type="Dataset")
    while kinds["Model"].id < theirs.id:
        kinds["Model"] = store.import_artifact("mem://same", type="Model", reimport=True)
    again = other.import_artifact("mem://same", type="Model", reimport=True)
    time.sleep(0.005)  # MLMD's times are in milliseconds
    while again.id > kinds["Model"].id:
        kinds["Model"] = store.import_artifact("mem://same", type="Model", reimport=True)
    with store.record_run("p") as run:
        for stranger in (theirs, other.get_artifact(again.id)):
            with pytest.raises(UsageError, match="comes from another store"):
                run.step("s", inputs={"x": stranger})


def test_the_same_store_opened_twice_is_one_store(tmp_path: Path) -> None:
    first, second = zm.open_store(tmp_path / "m.db"), zm.open_store(tmp_path / "m.db")
    raw = first.import_artifact("mem://raw")
    with first.record_run("p") as run, run.step("s") as step:
        output = step.log_output("x", uri="mem://x")
    inputs: dict[str, Any] = {
        "a": raw,
        "b": output,
        "c": first.get_artifact(output.id),
        "d": raw.record,
        "e": raw.id,
    }
    with second.record_run("p") as run, run.step("t", inputs=inputs):
        pass
    assert [each.uri for each in second.get_run(run.name)["t"].inputs.values()] == [
        each.uri if hasattr(each, "uri") else "mem://raw" for each in inputs.values()
    ]


def test_an_output_of_a_step_that_has_not_ended_is_no_input(tmp_path: Path) -> None:
    store = zm.open_store(tmp_path / "m.db")
    with store.record_run("p") as run, run.step("s") as step:
        output = step.log_output("x")
        with pytest.raises(UsageError, match="not in the store yet"):
            run.step("t", inputs={"x": output})


def test_artifacts_that_were_seen_are_not_asked_for_again(tmp_path: Path) -> None:
    from tests.services.counting import CountingService

    store = zm.open_store(tmp_path / "m.db")
    counted = CountingService(store.loader.client.service)
    store.loader.client.service = counted
    raw = store.import_artifact("mem://raw")
    with store.record_run("p") as run:
        run.step("s", inputs={"x": raw}).end()
        counted.calls.clear()
        for artifact in (raw, raw.record, raw.id):
            with run.step("s", inputs={"x": artifact}) as step:
                output = step.log_output("y", uri="mem://y")
            with run.step("s", inputs={"x": output.record()}) as step:
                step.log_output("y", uri="mem://y")
    assert set(counted.calls) == {"PutExecution", "PutContexts"}
