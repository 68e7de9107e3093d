"""What is other in one run than in another, and why an artifact is as it is."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from ml_metadata import metadata_store
from ml_metadata.proto import metadata_store_pb2 as mlmd

import zen_mlmd as zm
from zen_mlmd.errors import UsageError
from zen_mlmd.lineage.diff import ABSENT
from zen_mlmd.values import same


@pytest.fixture
def store(tmp_path: Path) -> zm.Store:
    return zm.open_store(tmp_path / "metadata.db")


def changes(before: Any, after: Any) -> list[tuple[str, str, str, Any, Any]]:
    return [tuple(each.to_dict().values()) for each in before.diff(after).changes]


def trained(store: zm.Store, name: str, **facts: Any) -> Any:
    """Record a run of one step, with one output; facts are those of the step, or of its output."""
    output = {key: facts.pop(key) for key in ("content_hash",) if key in facts}
    with store.record_run("p", name=name) as run, run.step("train", **facts) as step:
        step.log_output("model", uri=f"mem://{name}", type="Model", **output)
    return store.get_run(name)


# -- diff --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (1, 1.0),
        (1, True),
        (0.0, -0.0),
        ([1, 2], [1, 2.0]),
        ([True], [1]),
        ({"a": [1]}, {"a": [True]}),
        ({"a": 1}, {"a": 1, "b": None}),
        ((1, 2), [1, 2]),
        ({1, 2}, {1, 2.0, 3}),
        ("1", 1),
        ("(absent)", None),
    ],
)
def test_values_that_are_other_in_any_part_are_a_change(store: zm.Store, before: Any, after: Any) -> None:
    for name, value in (("one", before), ("two", after)):
        with store.record_run("p", name=name, parameters={"x": value}):
            pass
    assert changes(store.get_run("one"), store.get_run("two")) == [("", "parameter", "x", before, after)]
    assert not same(before, after)


@pytest.mark.parametrize(
    "value",
    [math.nan, [math.nan], {"a": [math.inf, {"b": math.nan}]}, {"a": 1, "b": [(1,), {2}]}, b"\0", None],
)
def test_equal_values_are_no_change(store: zm.Store, value: Any) -> None:
    for name in ("one", "two"):
        with store.record_run("p", name=name, parameters={"x": value}):
            pass
    assert not store.get_run("one").diff(store.get_run("two"))


def test_the_order_of_a_dict_is_no_change() -> None:
    assert same({"a": 1, "b": {"c": 2, "d": 3}}, {"b": {"d": 3, "c": 2}, "a": 1})
    assert not same({"a": 1, "b": 2}, {"a": 2, "b": 1})


def test_what_one_side_has_not_is_other_than_what_is_called_so(store: zm.Store) -> None:
    for name, parameters in (("one", {}), ("two", {"x": "(absent)"})):
        with store.record_run("p", name=name, parameters=parameters):
            pass
    one, two = store.get_run("one"), store.get_run("two")
    assert changes(one, two) == [("", "parameter", "x", ABSENT, "(absent)")]
    assert "x: (absent) -> '(absent)'" in str(one.diff(two))


def test_outputs_of_one_content_are_the_same(store: zm.Store) -> None:
    one = trained(store, "one", content_hash="sha256:a")
    two = trained(store, "two", content_hash="sha256:a")
    three = trained(store, "three", content_hash="sha256:b")
    four, five = trained(store, "four"), trained(store, "five")
    assert not one.diff(two)
    assert [each[:3] for each in changes(two, three)] == [("train", "output", "model")]
    assert [each[:3] for each in changes(three, four)] == [("train", "output", "model")]
    assert [each[:3] for each in changes(four, five)] == [("train", "output", "model")]


def test_cached_or_run_is_no_change_and_failed_is_one(store: zm.Store) -> None:
    one = trained(store, "one")
    with store.record_run("p", name="two") as run:
        run.reuse_step("train", outputs={"model": one["train"].output})
    with pytest.raises(ZeroDivisionError), store.record_run("p", name="three") as run, run.step("train"):
        raise ZeroDivisionError
    two, three = store.get_run("two"), store.get_run("three")
    assert two["train"].is_cached
    assert not one.diff(two)
    assert ("train", "status", "", "cached", "failed") in changes(two, three)


def test_runs_of_two_stores_are_each_read_in_their_own(store: zm.Store, tmp_path: Path) -> None:
    with zm.open_store(tmp_path / "other.db") as other:
        for number in range(3):
            trained(other, f"before{number}", parameters={"lr": number})
        theirs = trained(other, "run", parameters={"lr": 0.9}, content_hash="sha256:a")
        ours = trained(store, "run", parameters={"lr": 0.1}, content_hash="sha256:a")
        assert changes(ours, theirs) == [("train", "parameter", "lr", 0.1, 0.9)]
        assert changes(theirs, ours) == [("train", "parameter", "lr", 0.9, 0.1)]


def test_ids_of_two_stores_say_nothing_of_each_other(store: zm.Store) -> None:
    with zm.open_store("sqlite://") as one, zm.open_store("sqlite://") as two:
        found = [trained(each, "run") for each in (one, two)]
        assert [run["train"].output.id for run in found] == [1, 1]
        assert [each[:3] for each in changes(*found)] == [("train", "output", "model")]
    # The same store, opened again.
    ours = trained(store, "run")
    with zm.open_store(store.config) as again:
        assert not ours.diff(again.get_run("run"))


def test_a_run_is_compared_with_runs_alone(store: zm.Store) -> None:
    run = trained(store, "run")
    with pytest.raises(UsageError, match="not with a str") as caught:
        run.diff("run")
    assert "get_run" in caught.value.hint


# -- why ---------------------------------------------------------------------------------------------


def model_of(store: zm.Store, run: str) -> Any:
    return store.get_run(run)["train"].output


def test_another_attempt_in_the_same_run_is_not_the_run_before(store: zm.Store) -> None:
    trained(store, "one", parameters={"lr": 0.1})
    with store.record_run("p", name="two") as run:
        for lr in (0.2, 0.3):
            with run.step("train", parameters={"lr": lr}) as step:
                step.log_output("model", uri=f"mem://{lr}", type="Model")
    why = model_of(store, "two").why()
    assert why.previous is not None
    assert why.previous.name == "one"
    assert "with lr = 0.3 (0.1 in the run before)" in str(why)
    first = model_of(store, "one").why()
    assert (first.previous, first.changes) == (None, ())


def test_another_attempt_in_the_same_run_of_another_writer(tmp_path: Path) -> None:
    path = tmp_path / "plain.db"
    plain = metadata_store.MetadataStore(zm.SqliteConfig(path=str(path)).connection_config())
    types = {
        name: plain.put_context_type(mlmd.ContextType(name=name))
        for name in ("pipeline", "pipeline_run", "node")
    }
    step = plain.put_execution_type(mlmd.ExecutionType(name="m.Train"))
    model = plain.put_artifact_type(mlmd.ArtifactType(name="Model"))
    for run in ("one", "two", "two"):
        contexts = [
            mlmd.Context(type_id=types[kind], name=name)
            for kind, name in (("pipeline", "p"), ("pipeline_run", run), ("node", "p.train"))
        ]
        event = mlmd.Event(type=mlmd.Event.OUTPUT)
        event.path.steps.add(key="model")
        plain.put_execution(
            mlmd.Execution(type_id=step, last_known_state=mlmd.Execution.COMPLETE),
            [(mlmd.Artifact(type_id=model, uri=f"mem://{run}"), event)],
            contexts,
            reuse_context_if_already_exist=True,
        )
    del plain
    with zm.open_store(path) as store:
        assert [len(run.step_runs) for run in store.runs] == [2, 1]
        why = model_of(store, "two").why()
        assert why.previous is not None
        assert why.previous.name == "one"


def test_a_run_that_failed_is_not_the_run_before(store: zm.Store) -> None:
    trained(store, "one", parameters={"lr": 0.1})
    with (
        pytest.raises(ZeroDivisionError),
        store.record_run("p", name="two") as run,
        run.step("train", parameters={"lr": 0.2}),
    ):
        raise ZeroDivisionError
    trained(store, "three", parameters={"lr": 0.3})
    why = model_of(store, "three").why()
    assert why.previous is not None
    assert why.previous.name == "one"


def test_changed_code_is_told(store: zm.Store) -> None:
    trained(store, "one", code="sha256:a")
    trained(store, "two", code="sha256:b")
    trained(store, "three", code="sha256:b")
    assert str(model_of(store, "two").why()).endswith("since one: its code was changed")
    assert "code" not in str(model_of(store, "three").why())
