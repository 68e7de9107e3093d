"""Pipelines of decorated functions: run, recorded, cached, read back."""

from __future__ import annotations

import subprocess
import sys
import textwrap
import threading
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import pytest

import zen_mlmd as zm
from zen_mlmd.errors import (
    PipelineDefinitionError,
    ReturnValueError,
    UntrustedPickleError,
    UsageError,
)


class CallLog:
    """Which steps were run."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def __reduce__(self) -> Any:
        return CallLog, ()  # what it holds by now is nothing to the steps' results

    def append(self, name: str) -> None:
        self.names.append(name)

    def clear(self) -> None:
        self.names.clear()

    def __eq__(self, other: object) -> bool:
        return self.names == other

    def __hash__(self) -> int:
        return id(self)

    def __repr__(self) -> str:
        return repr(self.names)


calls = CallLog()


@zm.step
def load(path: str) -> list[int]:
    """Load the rows."""
    calls.append("load")
    return [len(path), 2, 3]


@zm.step(output_types={"model": "Model"}, base_type="Train")
def train(
    rows: list[int], depth: int = 3
) -> tuple[Annotated[dict[str, int], "model"], Annotated[float, "auc"]]:
    calls.append("train")
    here = zm.get_step_context()
    here.log_metrics({"loss": 0.5})
    here.log_properties({"device": "cpu"})
    here.log_output_properties({"auc": 0.75}, output="model")
    return {"depth": depth, "rows": sum(rows)}, 0.75


@zm.step
def report(models: list[dict[str, int]]) -> str:
    calls.append("report")
    return repr(models)


@zm.pipeline
def churn(path: str, depth: int = 3) -> None:
    rows = load(path)
    model, _ = train(rows, depth=depth)
    other, _ = train(rows, depth + 10, after=[model])
    report([model, other])


@pytest.fixture(autouse=True)
def _no_calls() -> None:
    calls.clear()


@pytest.fixture
def store(tmp_path: Path) -> zm.Store:
    return zm.open_store(tmp_path / "metadata.db")


def prepared(pipeline: Any, store: zm.Store, tmp_path: Path, **options: Any) -> Any:
    return pipeline.options(store=store, artifacts=tmp_path / "artifacts", **options)


def test_a_run_is_recorded_with_all_that_it_took_and_made(store: zm.Store, tmp_path: Path) -> None:
    run = prepared(churn, store, tmp_path)("raw.csv", depth=4)
    assert run.status is zm.Status.COMPLETED
    assert run.parameters == {"path": "raw.csv", "depth": 4}
    assert run.step_names == ["load", "train", "train_2", "report"]
    assert run.plan == {
        "load": (),
        "train": ("load",),
        "train_2": ("load", "train"),
        "report": ("train", "train_2"),
    }
    first = run["train"]
    assert first.parameters == {"depth": 4}
    assert first.metrics == {"loss": 0.5}
    assert first.properties == {"device": "cpu"}
    assert first.record.base_type == "mlmd.Train"
    assert first.record.type == f"{__name__}.train"
    assert first.inputs["rows"] == run["load"].output
    model = first.outputs["model"]
    assert (model.type, model.properties, model.data_type) == ("Model", {"auc": 0.75}, "builtins.dict")
    assert model.read() == {"depth": 4, "rows": 12}
    model.verify()
    assert run["load"].docstring == "Load the rows."
    assert [each.name for each in run["train_2"].parents] == ["load", "train"]
    assert run["train_2"].record.after == ("train",)
    assert [each.read()["depth"] for each in run["report"].inputs.lists["models"]] == [4, 14]
    assert run["report"].output.read() == repr([{"depth": 4, "rows": 12}, {"depth": 14, "rows": 12}])


def test_unchanged_steps_are_cached_and_changed_ones_are_not(store: zm.Store, tmp_path: Path) -> None:
    pipeline = prepared(churn, store, tmp_path)
    first = pipeline("raw.csv")
    calls.clear()
    again = pipeline("raw.csv")
    assert calls == []
    assert {str(step.status) for step in again.steps.values()} == {"cached"}
    model = again["train"].outputs["model"]
    assert model.is_cached
    assert model.producer_step == first["train"]
    assert model.parent_step_id == again["train"].id
    changed = pipeline("raw.csv", depth=7)
    assert calls == ["train", "train", "report"]
    assert [str(step.status) for step in changed.steps.values()] == ["cached", *["completed"] * 3]


def test_the_cache_can_be_switched_off_for_a_run_and_for_a_step(store: zm.Store, tmp_path: Path) -> None:
    @zm.step(enable_cache=False)
    def now() -> int:
        calls.append("now")
        return 1

    @zm.pipeline
    def clock() -> None:
        now()
        load("x")

    pipeline = prepared(clock, store, tmp_path)
    pipeline()
    pipeline()
    assert calls == ["now", "load", "now"]
    pipeline.run(enable_cache=False, name="third")
    assert calls == ["now", "load", "now", "now", "load"]
    assert store.get_run("third").status is zm.Status.COMPLETED


@pytest.mark.parametrize("damage", ["gone", "changed"])
def test_a_payload_that_is_gone_or_changed_is_no_hit(store: zm.Store, tmp_path: Path, damage: str) -> None:
    pipeline = prepared(churn, store, tmp_path)
    rows = pipeline("raw.csv")["load"].output
    file = next(path for path in Path(rows.uri).rglob("*") if path.is_file())
    if damage == "gone":
        file.unlink()
    else:
        file.write_text("[1]")
    assert not rows.is_intact()
    calls.clear()
    run = pipeline("raw.csv")
    assert calls == ["load"]
    assert run["load"].output.is_intact()
    assert run["train"].is_cached


def test_equal_content_from_elsewhere_is_a_hit(store: zm.Store, tmp_path: Path) -> None:
    pipeline = prepared(churn, store, tmp_path)
    pipeline("raw.csv")
    calls.clear()
    pipeline("abc.csv")
    assert calls == ["load"]


def test_a_failing_step_is_recorded_and_its_exception_goes_on(store: zm.Store, tmp_path: Path) -> None:
    @zm.step
    def explode(rows: list[int]) -> int:
        raise ZeroDivisionError(f"no luck with {len(rows)}")

    @zm.pipeline
    def doomed() -> None:
        report([explode(load("x"))])

    with pytest.raises(ZeroDivisionError, match="no luck with 3"):
        prepared(doomed, store, tmp_path)()
    run = store.pipelines["doomed"].latest_run
    assert run.status is zm.Status.FAILED
    step = run["explode"]
    assert step.status is zm.Status.FAILED
    assert step.failure.type == "ZeroDivisionError"
    assert step.failure.message == "no luck with 3"
    assert "raise ZeroDivisionError" in step.failure.traceback
    assert run.failure is not None
    assert run.failure.message == "no luck with 3"
    assert run["load"].status is zm.Status.COMPLETED
    assert "report" not in run.steps
    assert run.plan["report"] == ("explode",)
    with pytest.raises(zm.errors.NotFoundError):
        _ = store.pipelines["doomed"].latest_completed_run


def test_independent_steps_run_side_by_side(store: zm.Store, tmp_path: Path) -> None:
    meeting = threading.Barrier(2, timeout=20)

    @zm.step
    def meet(who: str) -> str:
        meeting.wait()
        return who

    @zm.step
    def both(people: list[str]) -> str:
        return " and ".join(people)

    @zm.pipeline
    def meeting_point() -> None:
        both([meet("a"), meet("b")])

    run = prepared(meeting_point, store, tmp_path, max_parallel=2)()
    assert run["both"].output.read() == "a and b"


def test_a_step_sees_no_change_that_another_made_to_a_value(store: zm.Store, tmp_path: Path) -> None:
    @zm.step
    def spoil(rows: list[int]) -> int:
        rows.clear()
        return 0

    @zm.step
    def count(rows: list[int]) -> int:
        return len(rows)

    @zm.pipeline
    def sharing() -> None:
        rows = load("x")
        spoilt = spoil(rows)
        count(rows, after=spoilt)

    assert prepared(sharing, store, tmp_path)()["count"].output.read() == 3


def test_pickles_are_passed_within_a_run_and_read_later_only_when_allowed(
    store: zm.Store, tmp_path: Path
) -> None:
    @zm.step
    def make() -> Any:
        return range(5)

    @zm.step
    def use(numbers: Any) -> int:
        return len(numbers)

    @zm.pipeline
    def pickled() -> None:
        use(make())

    run = prepared(pickled, store, tmp_path)()
    assert run["use"].output.read() == 5
    numbers = run["make"].output
    with pytest.raises(UntrustedPickleError, match="pickle") as caught:
        numbers.read()
    assert "allow_pickle=True" in caught.value.hint
    assert numbers.read(allow_pickle=True) == range(5)
    again = prepared(pickled, store, tmp_path)()
    assert not again["make"].is_cached
    trusting = zm.open_store(zm.SqliteConfig(path=store.config.location, trusted=True))
    assert prepared(pickled, trusting, tmp_path)()["make"].is_cached
    assert trusting.get_artifact(numbers.id).read() == range(5)


class Pair(NamedTuple):
    left: int
    right: str


def test_named_tuples_name_the_outputs(store: zm.Store, tmp_path: Path) -> None:
    @zm.step
    def split() -> Pair:
        return Pair(1, "b")

    @zm.step
    def nothing(right: str) -> None:
        assert right == "b"

    @zm.pipeline
    def pairs() -> None:
        _, right = split()
        done = nothing(right)
        load("x", after=done)

    run = prepared(pairs, store, tmp_path)()
    assert {name: each.read() for name, each in run["split"].outputs.items()} == {"left": 1, "right": "b"}
    assert len(run["nothing"].outputs) == 0
    with pytest.raises(UsageError, match="has 2 outputs"):
        _ = run["split"].output
    assert [each.name for each in run["load"].parents] == ["nothing"]


@pytest.mark.parametrize(("result", "says"), [((1,), "1 values"), ("ab", "a str"), ((1, 2, 3), "3 values")])
def test_a_step_that_returns_other_outputs_than_it_names_fails(
    store: zm.Store, tmp_path: Path, result: Any, says: str
) -> None:
    @zm.step
    def odd() -> tuple[Annotated[int, "a"], Annotated[int, "b"]]:
        return result  # type: ignore[no-any-return]

    @zm.pipeline
    def oddly() -> None:
        odd()

    with pytest.raises(ReturnValueError, match=says):
        prepared(oddly, store, tmp_path)()
    assert store.pipelines["oddly"].latest_run["odd"].status is zm.Status.FAILED


def test_a_step_annotated_none_must_return_none(store: zm.Store, tmp_path: Path) -> None:
    @zm.step
    def silent() -> None:
        return 1  # type: ignore[return-value]

    @zm.pipeline
    def loud() -> None:
        silent()

    with pytest.raises(ReturnValueError, match="-> None"):
        prepared(loud, store, tmp_path)()


def test_variadic_steps_take_many(store: zm.Store, tmp_path: Path) -> None:
    @zm.step
    def many(*lists: list[int], **named: Any) -> int:
        return sum(map(len, lists)) + int(named["extra"]) + len(named["more"])

    @zm.pipeline
    def variadic() -> None:
        many(load("a"), load("bb"), extra=10, more=load("c"))

    assert prepared(variadic, store, tmp_path)()["many"].output.read() == 19


def test_what_is_no_pipeline_says_so(store: zm.Store, tmp_path: Path) -> None:
    def defined(function: Any) -> Any:
        return prepared(zm.pipeline(function), store, tmp_path)

    cases: list[tuple[Any, str]] = [
        (lambda: None, "uses no step"),
        (lambda: load("a") and None, "has no value yet"),
        (lambda: [each for each in load("a")], "has no value yet"),  # noqa: C416
        (lambda: len(load("a")), "has no value yet"),
        (lambda: load("a")[0], "has no value yet"),
        (lambda: load("a").real, "has no value yet"),
        (lambda: load(), "missing a required argument"),  # noqa: PLW0108 - load itself is a pipeline then
        (lambda: report([load("a"), 3]), "plain values"),
        (lambda: load("a", after=["b"]), "after="),  # type: ignore[list-item]
        (lambda: churn("a"), "within another"),
    ]
    for function, says in cases:
        with pytest.raises(PipelineDefinitionError, match=says) as caught:
            defined(function)()
        assert caught.value.hint
    assert list(store.runs) == []


def test_misuse_of_steps_and_options_says_so() -> None:
    with pytest.raises(UsageError, match="no output 'other'"):
        zm.step(output_types={"other": "Model"})(lambda: 1)
    with pytest.raises(UsageError, match="@step goes on a function"):
        zm.step(int)
    with pytest.raises(UsageError, match="no such option"):
        churn.options(speed=3)
    with pytest.raises(UsageError, match="max_parallel"):
        churn.options(max_parallel=0)
    with pytest.raises(UsageError, match="no step is running"):
        zm.get_step_context()
    with pytest.raises(PipelineDefinitionError, match="have names"):

        @zm.step
        def twice() -> tuple[Annotated[int, "a"], Annotated[int, "a"]]:
            return 1, 2


def test_a_step_called_outside_of_a_pipeline_just_runs() -> None:
    assert load("abc") == [3, 2, 3]
    assert load.options(name="other").name == "other"


class Upper(zm.Materializer):
    """Text in upper case."""

    types = (str,)
    artifact_type = "ShoutedText"

    def write(self, value: Any, directory: Path) -> None:
        (directory / "text").write_text(value.upper())

    def read(self, directory: Path, data_type: type) -> Any:
        return (directory / "text").read_text()


def test_own_materializers_write_and_read(store: zm.Store, tmp_path: Path) -> None:
    @zm.step(materializers=Upper)
    def shout() -> str:
        return "hello"

    @zm.pipeline
    def loud() -> None:
        shout()

    output = prepared(loud, store, tmp_path)()["shout"].output
    assert output.type == "ShoutedText"
    assert output.read() == "HELLO"


def test_why_names_what_changed_since_the_run_before(store: zm.Store, tmp_path: Path) -> None:
    pipeline = prepared(churn, store, tmp_path)
    before = pipeline("raw.csv", depth=3)
    after = pipeline("raw.csv", depth=4)
    text = str(after["train"].outputs["model"].why())
    assert f"was made by train of churn/{after.name}" in text
    assert "from rows = JsonData" in text
    assert "with depth = 4 (3 in the run before)" in text
    changes = {(each.step, each.kind, each.name) for each in before.diff(after).changes}
    assert ("", "parameter", "depth") in changes
    assert ("train", "parameter", "depth") in changes
    assert ("train", "output", "model") in changes
    assert ("load", "output", "output") not in changes
    assert not before.diff(before)


CODE = """
    import sys
    import zen_mlmd as zm
    from helper import scale

    @zm.step
    def double(x: int) -> int:
        {comment}
        return scale(x)

    @zm.pipeline
    def doubling():
        double(4)

    run = doubling.options(store="m.db", artifacts="a")()
    print(run["double"].status, run["double"].output.read())
"""


def test_a_changed_helper_misses_the_cache_and_a_comment_does_not(tmp_path: Path) -> None:
    def run(comment: str, factor: str) -> str:
        (tmp_path / "helper.py").write_text(f"def scale(x):\n    return x * {factor}\n")
        (tmp_path / "main.py").write_text(textwrap.dedent(CODE.format(comment=comment)))
        done = subprocess.run(
            [sys.executable, "main.py"], cwd=tmp_path, capture_output=True, text=True, check=True
        )
        return done.stdout.strip()

    assert run("# one", "2") == "completed 8"
    assert run("# another", "2") == "cached 8"
    assert run("# another", "3") == "completed 12"
    assert run("", "2") == "cached 8"
