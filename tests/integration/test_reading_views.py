"""What is read back, by whatever name: paths, mappings, lists, tables; and rows that others wrote."""

from __future__ import annotations

import math
import pickle
import time
from collections.abc import Iterator, Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ml_metadata import metadata_store
from ml_metadata.proto import metadata_store_pb2 as mlmd

import zen_mlmd as zm
from tests.clock import loops
from zen_mlmd.errors import FilterSyntaxError, NotFoundError, UsageError
from zen_mlmd.model import ARTIFACT_STATES, Status, StepRun, WholeRun
from zen_mlmd.reading.cohort import Cohort
from zen_mlmd.reading.paths import quote_part, quote_slot, quote_step, unquote_slot, unquote_step
from zen_mlmd.reading.runs import PipelineRunView
from zen_mlmd.recording import recorder

RED = "\x1b[31mred"


@pytest.fixture
def store() -> Iterator[zm.Store]:
    with zm.open_store("sqlite://") as opened:
        yield opened


class Rows:
    """Writes rows as other programs may, with ml-metadata's own client."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._store = metadata_store.MetadataStore(zm.SqliteConfig(path=str(path)).connection_config())
        self._contexts = {
            name: self._store.put_context_type(mlmd.ContextType(name=name))
            for name in ("pipeline", "pipeline_run", "node")
        }
        self._step = self._store.put_execution_type(mlmd.ExecutionType(name="module.Step"))
        self._kind = self._store.put_artifact_type(mlmd.ArtifactType(name="Data"))
        self._nodes: dict[int, mlmd.Artifact] = {}

    def artifact(self, uri: str) -> int:
        node = mlmd.Artifact(type_id=self._kind, uri=uri, state=mlmd.Artifact.LIVE)
        node.id = self._store.put_artifacts([node])[0]
        self._nodes[node.id] = node
        return int(node.id)

    def execution(
        self,
        contexts: Mapping[str, str],
        events: list[tuple[int, Any, list[str | int]]],
        state: Any = mlmd.Execution.COMPLETE,
    ) -> int:
        """Write an execution; an event is an artifact, its type, and its path of keys and indexes."""
        pairs = []
        for artifact, kind, path in events:
            event = mlmd.Event(artifact_id=artifact, type=kind)
            for part in path:
                step = event.path.steps.add()
                if isinstance(part, str):
                    step.key = part
                else:
                    step.index = part
            pairs.append((self._nodes[artifact], event))
        found, _, _ = self._store.put_execution(
            mlmd.Execution(type_id=self._step, last_known_state=state),
            pairs,
            [mlmd.Context(type_id=self._contexts[kind], name=name) for kind, name in contexts.items()],
            reuse_context_if_already_exist=True,
        )
        return int(found)

    def read(self) -> zm.Store:
        del self._store
        return zm.open_store(self.path)


TAKEN, GIVEN = mlmd.Event.INPUT, mlmd.Event.OUTPUT


@pytest.fixture
def rows(tmp_path: Path) -> Rows:
    return Rows(tmp_path / "rows.db")


# -- rows that others wrote --------------------------------------------------------------------------


def test_a_step_in_no_context_is_read_like_any_other(rows: Rows) -> None:
    """A notebook that took a data set and was recorded without a run, say."""
    source, made = rows.artifact("s3://source"), rows.artifact("s3://made")
    step = rows.execution({}, [(source, TAKEN, ["x", 0]), (made, GIVEN, ["y", 0])])
    with rows.read() as store:
        artifact = store.get_artifact(made)
        assert artifact.producer_step == store.get_step(step)
        assert not store.get_step(step).has_run
        assert artifact.path == "s3://made"
        assert store.get(artifact.path) == artifact
        assert set(store.get_artifact(source).downstream().artifacts) == {source, made}
        assert "Step" in artifact.upstream().to_text()
        assert "was made by Step" in str(artifact.why())
        assert [step.id for step in store.get_artifact(source).consumers] == [step]
        with pytest.raises(NotFoundError, match="belongs to no run"):
            _ = store.get_step(step).path


def test_the_empty_name_finds_nothing(store: zm.Store) -> None:
    with store.record_run("p", name="r"):
        pass
    for ask in (
        lambda: store.get_run(""),
        lambda: store.pipelines[""],
        lambda: store.pipelines["p"].runs[""],
        lambda: store.join_run(""),
        lambda: store.get("%/%"),
    ):
        with pytest.raises(NotFoundError):
            ask()
    assert "" not in store.pipelines
    assert "" not in store.runs


def test_a_run_of_no_pipeline_has_a_path_too(rows: Rows) -> None:
    rows.execution({"pipeline": "p", "pipeline_run": "one"}, [])
    rows.execution({"pipeline": "q", "pipeline_run": "two"}, [])
    made = rows.artifact("s3://made")
    rows.execution({"pipeline_run": "stray"}, [(made, GIVEN, ["y", 0])])
    with rows.read() as store:
        assert {run.name: run.pipeline for run in store.runs} == {"stray": "", "two": "q", "one": "p"}
        artifact = store.get_artifact(made)
        assert artifact.path == "%/stray/Step/y"
        assert store.get(artifact.path) == artifact
        with pytest.raises(NotFoundError):
            store.get("%/one")


def test_an_output_without_a_name_has_a_path_too(rows: Rows) -> None:
    first, second, third = (rows.artifact(f"s3://{number}") for number in range(3))
    contexts = {"pipeline": "p", "pipeline_run": "r"}
    rows.execution(contexts, [(first, GIVEN, []), (second, GIVEN, [1]), (third, GIVEN, ["y"])])
    with rows.read() as store:
        paths = [store.get_artifact(each).path for each in (first, second, third)]
        assert paths == ["p/r/Step/%[0]", "p/r/Step/%[1]", "p/r/Step/y"]
        assert [store.get_artifact(each).id for each in paths] == [first, second, third]


def test_only_what_tfx_names_with_an_underscore_is_left_out(store: zm.Store, rows: Rows) -> None:
    made = rows.artifact("s3://made")
    condition, given_out = rows.artifact("s3://condition"), rows.artifact("s3://out")
    events = [(made, TAKEN, ["x", 0]), (condition, TAKEN, ["_x", 0]), (given_out, GIVEN, ["_y", 0])]
    rows.execution({"pipeline": "p", "pipeline_run": "r"}, events)  # type: ignore[arg-type]
    with rows.read() as theirs:
        step = theirs.get_run("r")["Step"]
        assert (list(step.inputs), list(step.outputs)) == (["x"], ["_y"])
    raw = store.import_artifact("mem://raw")
    with store.record_run("p", name="r") as run, run.step("s", inputs={"_x": raw}) as recorded:
        recorded.log_output("_y", uri="mem://y")
    own = store.get_run("r")["s"]
    assert (own.input, own.output.path) == (raw, "p/r/s/_y")
    assert store.get("p/r/s/_y") == own.output


@pytest.mark.parametrize(
    ("states", "expected"),
    [
        ([mlmd.Execution.CANCELED, mlmd.Execution.CANCELED], Status.CANCELED),
        ([mlmd.Execution.CANCELED, mlmd.Execution.COMPLETE], Status.COMPLETED),
        ([mlmd.Execution.NEW, mlmd.Execution.COMPLETE], Status.RUNNING),
    ],
)
def test_the_steps_tell_how_another_writers_run_stands(
    rows: Rows, states: list[Any], expected: Status
) -> None:
    for number, state in enumerate(states):
        rows.execution({"pipeline": "p", "pipeline_run": "r", "node": f"p.s{number}"}, [], state)
    with rows.read() as store:
        assert store.get_run("r").status is expected
        assert [run.name for run in store.list_runs(f"status = {expected}")] == ["r"]


def test_the_steps_tell_why_another_writers_run_failed(rows: Rows) -> None:
    rows.execution({"pipeline": "p", "pipeline_run": "r"}, [])
    with rows.read() as store:
        assert store.get_run("r").failure is None
        with pytest.raises(ZeroDivisionError), store.join_run("r").step("ours"):
            raise ZeroDivisionError("by zero")
        failure = store.get_run("r").failure
        assert failure is not None
        assert (failure.type, failure.message) == ("ZeroDivisionError", "by zero")


def test_the_states_of_artifacts_are_those_of_mlmd() -> None:
    assert list(ARTIFACT_STATES) == [name.lower() for name in mlmd.Artifact.State.keys()]  # noqa: SIM118


# -- paths -------------------------------------------------------------------------------------------

NAMES = st.one_of(
    st.sampled_from(
        ["a", "latest", "a#1", "a#2", "a[0]", "a[1]", "#1", "[0]", "%", "%25", "/", "a/b", "..", "1"]
    ),
    st.text(st.characters(categories=["L", "N", "P", "S"]), min_size=1, max_size=6),
)


@settings(max_examples=20)
@given(
    pipeline=NAMES,
    runs=st.lists(NAMES, min_size=1, max_size=2, unique=True),
    steps=st.lists(st.tuples(NAMES, st.lists(NAMES, max_size=2)), min_size=1, max_size=2),
)
def test_a_path_leads_to_what_has_it(
    pipeline: str, runs: list[str], steps: list[tuple[str, list[str]]]
) -> None:
    with zm.open_store("sqlite://") as store:
        for name in runs:
            with store.record_run(pipeline, name=name) as run:
                for step_name, outputs in steps * 2:
                    with run.step(step_name) as step:
                        for output in outputs * 2:
                            step.log_output(output, uri="mem://x")
        seen = []
        for run_view in store.runs:
            assert store.get(run_view.path) == run_view
            for step_view in run_view.step_runs:
                assert store.get(step_view.path) == step_view
                seen.append(step_view.path)
        for artifact in store.artifacts:
            assert artifact.path != artifact.uri
            assert store.get(artifact.path) == artifact
            seen.append(artifact.path)
        assert len(seen) == len(set(seen))


@given(st.text(max_size=8), st.one_of(st.none(), st.integers(0, 2**63 - 1)))
def test_a_part_of_a_path_reads_back(name: str, number: int | None) -> None:
    name = name.encode("utf-8", "replace").decode()
    assert unquote_step(quote_step(name, number)) == (name, number)
    assert unquote_slot(quote_slot(name, number)) == (name, number)
    assert "/" not in quote_part(name)
    assert quote_part(name)


def test_steps_and_outputs_are_named_as_they_are_or_by_their_place(store: zm.Store) -> None:
    with store.record_run("p", name="r") as run:
        ids = []
        for _ in range(3):
            with run.step("train") as step:
                for part in range(12):
                    step.log_output("m", uri=f"mem://{part}")
            ids.append(step.id)
        with run.step("train#9") as step:
            step.log_output("m[0]", uri="mem://odd")
    first, second, last, odd = store.get_run("r").step_runs
    assert [each.path for each in (first, second, last)] == [
        f"p/r/train#{ids[0]}",
        f"p/r/train#{ids[1]}",
        "p/r/train",
    ]
    assert last.outputs["m[10]"].path == "p/r/train/m[10]"
    assert store.get(f"p/latest/train#{ids[1]}/m[3]") == second.outputs["m[3]"]
    assert store.get(f"p/r/train#{ids[2]}") == last
    # As one would write them by hand.
    assert (store.get("p/r/train#9"), odd.path) == (odd, "p/r/train%239")
    assert store.get("p/r/train#9/m[0]") == odd.output
    for path in (
        "p/r/train#77",
        f"p/r/other#{ids[0]}",
        "p/r/train/m[12]",
        "p/r/train/x[0]",
        f"p/r/train/m[{'9' * 5000}]",
    ):
        with pytest.raises(NotFoundError):
            store.get(path)
    with pytest.raises(UsageError, match="a list of 12") as caught:
        store.get("p/r/train/m")
    assert "m[0]" in caught.value.hint


def test_a_run_that_is_called_latest_is_that_run(store: zm.Store) -> None:
    for name in ("latest", "newer"):
        with store.record_run("p", name=name):
            pass
    with store.record_run("q", name="only"):
        pass
    assert store.get("p/latest").name == "latest"
    assert store.pipelines["p"].get_run("latest").name == "latest"
    assert store.pipelines["p"].latest_run.name == "newer"
    assert store.get("q/latest").name == "only"


def test_an_artifact_is_found_by_its_uri(store: zm.Store) -> None:
    raw = store.import_artifact("s3://bucket/raw.csv?version=1")
    local = store.import_artifact("/data/raw.csv")
    plain = store.import_artifact("raw.csv")
    deep = store.import_artifact("/a/b/c/d/e/f.csv")
    for artifact in (raw, local, plain, deep):
        assert artifact.path == artifact.uri
        assert store.get(artifact.uri) == artifact
        assert store.get_artifact(artifact.uri) == artifact
    again = store.import_artifact(raw.uri, reimport=True)
    with pytest.raises(UsageError, match="2 artifacts have the URI") as caught:
        store.get_artifact(raw.uri)
    assert f"{raw.id}, {again.id}" in caught.value.hint
    for uri in ("s3://nowhere", "/nowhere/at/all", "nowhere"):
        with pytest.raises(NotFoundError):
            store.get_artifact(uri)


# -- ids and names that are none ---------------------------------------------------------------------


@pytest.mark.parametrize("given", ["1", 1.0, None, True, b"1", [1]])
def test_what_is_no_id_is_refused(store: zm.Store, given: Any) -> None:
    with pytest.raises((UsageError, NotFoundError)) as caught:
        store.get_step(given)
    assert caught.value.hint
    if given != "1":
        with pytest.raises((UsageError, NotFoundError)):
            store.get_artifact(given)


@pytest.mark.parametrize("given", [0, -1, 2**63, 10**30, 7])
def test_an_id_that_nothing_has_is_not_found(store: zm.Store, given: int) -> None:
    for ask in (store.get_step, store.get_artifact, lambda each: store.get_artifact(str(each))):
        with pytest.raises(NotFoundError):
            ask(given)


@pytest.mark.parametrize("given", ["²", "\u0661", "9" * 5000, "1_0", "+1", " 1"])
def test_what_is_no_plain_number_is_no_id(store: zm.Store, given: str) -> None:
    store.import_artifact("mem://x")
    with pytest.raises(NotFoundError):
        store.get_artifact(given)


def test_the_ids_of_a_table_are_ids(store: zm.Store) -> None:
    raw = store.import_artifact("mem://x")
    assert store.get_artifact(np.int64(raw.id)) == raw  # type: ignore[arg-type]
    assert store.get_artifact(store.list_artifacts().to_pandas()["id"][0]) == raw
    assert store.get_artifact("001") == raw


@pytest.mark.parametrize("given", [None, 1, b"p", ["p"]])
def test_what_is_no_name_is_refused(store: zm.Store, given: Any) -> None:
    for ask in (store.get_run, store.join_run, store.get, lambda name: store.pipelines[name]):
        with pytest.raises(UsageError) as caught:
            ask(given)
        assert caught.value.hint
    assert given not in store.pipelines
    assert given not in store.runs


def test_a_name_that_utf8_has_no_form_for_is_in_no_store(store: zm.Store) -> None:
    store.import_artifact("mem://x")
    for ask in (store.get_run, store.get, store.get_artifact, lambda name: store.list_runs(pipeline=name)):
        with pytest.raises(NotFoundError):
            ask("\udcff")
    assert list(store.list_artifacts(type="\udcff")) == []
    assert list(store.artifacts_at("\udcff")) == []
    assert list(store.list_runs("name = '\udcff'")) == []


# -- mappings ----------------------------------------------------------------------------------------


def test_inputs_and_outputs_are_mappings_of_all_their_artifacts(store: zm.Store) -> None:
    raw = store.import_artifact("mem://raw")
    with store.record_run("p", name="r") as run, run.step("s", inputs={"x": raw, "many": [raw, raw]}) as step:
        step.log_output("one", uri="mem://one")
        for part in range(2):
            step.log_output("parts", uri=f"mem://part{part}")
    found = store.get_run("r")["s"]
    assert {name: each.id for name, each in found.inputs.items()} == dict.fromkeys(
        ["many[0]", "many[1]", "x"], raw.id
    )
    outputs = found.outputs
    assert [each.uri for each in outputs.values()] == ["mem://one", "mem://part0", "mem://part1"]
    assert dict(outputs) == {name: outputs[name] for name in ("one", "parts[0]", "parts[1]")}
    assert (len(outputs), list(outputs)) == (3, ["one", "parts[0]", "parts[1]"])
    assert [each.uri for each in outputs.lists["parts"]] == ["mem://part0", "mem://part1"]
    assert "one" in outputs
    assert "parts" in outputs
    assert "parts[2]" not in outputs
    assert "zz" not in outputs
    assert (outputs.get("zz"), outputs.get("zz", 3), outputs.get("one")) == (None, 3, outputs["one"])
    with pytest.raises(UsageError, match="list of 2"):
        _ = outputs["parts"]
    with pytest.raises(UsageError, match="list of 2"):
        outputs.get("parts")
    with pytest.raises(NotFoundError) as caught:
        _ = outputs["oen"]
    assert caught.value.hint == "did you mean one?"
    with pytest.raises(UsageError, match="has 3 outputs") as many:
        _ = found.output
    assert "one, parts[0], parts[1]" in many.value.hint
    assert repr(outputs) == "{one: [<Artifact 2>], parts: [<Artifact 3>, <Artifact 4>]}"


def test_steps_are_a_mapping_that_says_what_there_is(store: zm.Store) -> None:
    with store.record_run("p", name="r") as run:
        for name in ("load", "train", "load"):
            run.step(name).end()
    steps = store.get_run("r").steps
    assert isinstance(steps, Mapping)
    assert (list(steps), len(steps)) == (["load", "train"], 2)
    assert steps["load"] == store.get_run("r").step_runs[2]
    assert "load" in steps
    assert "zz" not in steps
    assert steps.get("zz") is None
    assert dict(steps) == {"load": steps["load"], "train": steps["train"]}
    assert repr(steps) == "{load: <Step load completed>, train: <Step train completed>}"
    with pytest.raises(NotFoundError) as caught:
        _ = steps["trian"]
    assert caught.value.hint == "did you mean train?"


def test_one_step_of_thousands_is_one_view(store: zm.Store) -> None:
    with store.record_run("p", name="r"):
        pass
    record = store.get_run("r").record
    cohort = Cohort(store.loader, [record])
    steps = [
        StepRun(id=number, name=f"s{number}", type="t", status=Status.COMPLETED) for number in range(3_000)
    ]
    cohort._whole[record.id] = WholeRun(record, tuple(steps))
    run = PipelineRunView(record, cohort)
    start = loops()
    assert [run[f"s{number}"].id for number in range(3_000)] == list(range(3_000))
    assert [run.steps[f"s{number}"].id for number in range(3_000)] == list(range(3_000))
    assert loops() - start < 100


# -- runs --------------------------------------------------------------------------------------------


def test_runs_are_a_sequence_and_a_mapping_of_a_pipeline_or_of_all(store: zm.Store) -> None:
    for number in range(12):
        with store.record_run("p" if number % 3 else "q", name=f"r{number}"):
            pass
    newest = [f"r{number}" for number in range(11, -1, -1)]
    assert [run.name for run in store.runs] == newest
    assert (len(store.runs), len(store.pipelines["q"].runs)) == (12, 4)
    assert store.runs["r4"] == store.get_run("r4")
    assert ("r0" in store.runs, "r0" in store.pipelines["p"].runs) == (True, False)
    with pytest.raises(NotFoundError):
        _ = store.pipelines["p"].runs["r0"]
    names = {
        "first": store.runs[0].name,
        "last": store.runs[-1].name,
        "of p": store.pipelines["p"].runs[1].name,
    }
    assert names == {"first": "r11", "last": "r0", "of p": "r10"}
    for part in (
        slice(3),
        slice(2, 5),
        slice(-2, None),
        slice(-3, 5),
        slice(None, None, -1),
        slice(9, 2, -2),
    ):
        assert [run.name for run in store.runs[part]] == newest[part]
    with pytest.raises(IndexError):
        _ = store.runs[12]
    assert repr(store.runs) == "<Runs of all pipelines>"
    assert [run.name for run in store.runs.where("pipeline = q", limit=2)] == ["r9", "r6"]


def test_one_order_everywhere_whatever_the_clocks_said(
    store: zm.Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second run was recorded by a machine whose clock is an hour behind."""
    for name, behind_ms in (("one", 0), ("two", 3_600_000), ("three", 0)):
        monkeypatch.setattr(recorder, "now_ms", lambda late=behind_ms: round(time.time() * 1000) - late)
        with store.record_run("p", name=name):
            pass
    pipeline = store.pipelines["p"]
    expected = ["three", "two", "one"]
    assert store.get_run("two").started_at < store.get_run("one").started_at  # type: ignore[operator]
    for runs in (store.runs, pipeline.runs, store.list_runs(), store.list_runs(pipeline="p")):
        assert [run.name for run in runs] == expected
    assert pipeline.run_names == expected
    assert pipeline.latest_run.name == store.get("p/latest").name == "three"


def test_the_steps_of_a_run_are_filtered(store: zm.Store) -> None:
    with store.record_run("p", name="r") as run:
        for number in range(4):
            with run.step(f"s{number}", parameters={"lr": number / 10}) as step:
                step.log_metrics({"loss": number})
        with pytest.raises(ZeroDivisionError), run.step("s1", parameters={"lr": 1.0}):
            raise ZeroDivisionError
    found = store.get_run("r")
    assert [step.name for step in found.list_steps("parameters.lr > 0.1")] == ["s2", "s3", "s1"]
    assert [step.name for step in found.list_steps("status = failed or metrics.loss = 0")] == ["s0", "s1"]
    assert [step.name for step in found.list_steps(limit=2)] == ["s0", "s1"]
    assert list(found.list_steps("name = s9")) == []
    with pytest.raises(FilterSyntaxError, match="faild"):
        found.list_steps("status = faild")


def test_a_filter_finds_a_key_with_dots_and_a_key_within(store: zm.Store) -> None:
    values = {"a.b": 1, "a": {"b": 2, "c": {"d": 3}}, "e": {"f.g": 4}}
    with store.record_run("p", name="r", parameters=values):
        pass
    for text in ("a.b = 1", "a.c.d = 3", "e.f.g = 4"):
        assert len(store.list_runs(f"parameters.{text}")) == 1
    for text in ("a.b = 2", "a.c = 3", "e.f = 4", "x.y = 1"):
        assert len(store.list_runs(f"parameters.{text}")) == 0


# -- tables ------------------------------------------------------------------------------------------


def test_a_table_without_rows_has_its_columns(store: zm.Store) -> None:
    empty: list[Any] = [
        store.list_pipelines(),
        store.list_runs(),
        store.list_artifacts(),
        store.artifacts_at("mem://x"),
    ]
    with store.record_run("p", name="r", parameters={"x": 1}) as run, run.step("s") as step:
        step.log_output("m", uri="mem://m", properties={"auc": 1})
    found = store.get_run("r")
    empty += [
        found.list_steps("name = zz"),
        found["s"].parents,
        found["s"].output.consumers,
        found.step_runs[5:],
    ]
    full: list[Any] = [
        store.list_pipelines(),
        store.list_runs(),
        store.list_artifacts(),
        store.list_artifacts(),
    ]
    full += [found.step_runs] * 4
    for none, some in zip(empty, full, strict=True):
        assert (len(none.to_pandas()), none.to_dicts()) == (0, [])
        columns = list(none.to_pandas().columns)
        assert "id" in columns
        assert columns == [name for name in some.to_pandas().columns if "." not in name]


def test_no_two_values_meet_in_one_column(store: zm.Store) -> None:
    values = {"d": {"a": {"b": 1}}, "d.a": 3, "empty": {}, "nan": math.nan, "list": [1, {"x": 2}]}
    with store.record_run("p", name="one", parameters=values):
        pass
    with store.record_run("p", name="two", parameters={"d.a": 4}):
        pass
    frame = store.list_runs().to_pandas().set_index("name")
    assert {name for name in frame.columns if name.startswith("parameters")} == {
        f"parameters.{name}" for name in values
    }
    assert list(frame["parameters.d.a"]) == [4, 3]
    row = frame.loc["one"]
    assert (row["parameters.d"], row["parameters.empty"], row["parameters.list"]) == (
        {"a": {"b": 1}},
        {},
        [1, {"x": 2}],
    )


# -- how views show themselves -----------------------------------------------------------------------


def test_no_repr_and_no_error_is_an_order_to_the_terminal(rows: Rows) -> None:
    made = rows.artifact(f"s3://{RED}")
    for output in ("one", "two"):
        contexts = {"pipeline": RED, "pipeline_run": f"run {RED}", "node": f"{RED}.{RED}"}
        rows.execution(contexts, [(made, GIVEN, [RED + output, 0])])
    with rows.read() as store:
        pipeline, run = store.pipelines[RED], store.get_run(f"run {RED}")
        step = run.step_runs[0]
        graph = step.output.upstream()
        shown = [pipeline, run, step, step.outputs, run.steps, run.step_runs, step.output, store.pipelines]
        shown += [pipeline.runs, store.runs, graph, step.output.why(), run.diff(run), store]
        texts = [repr(each) for each in shown] + [graph.to_text(), str(step.output.why())]
        for ask in (
            lambda: store.pipelines["x"],
            lambda: store.pipelines[RED + "x"],
            lambda: store.get_run("x"),
            lambda: run["x"],
            lambda: run.steps[f"{RED}x"],
            lambda: step.outputs["x"],
            lambda: pipeline.get_run_for_completed_step("x"),
            lambda: store.get(f"s3://{RED}x"),
            step.output.verify,
            step.output.read,
        ):
            with pytest.raises(zm.errors.ZenMlmdError) as caught:
                ask()
            texts.append(str(caught.value))
    assert [text for text in texts if "\x1b" in text] == []


def test_a_view_is_not_pickled_and_says_what_is(store: zm.Store) -> None:
    with store.record_run("p", name="r") as run, run.step("s") as step:
        step.log_output("m", uri="mem://m")
    found = store.get_run("r")
    for view in (store.pipelines["p"], found, found["s"], found["s"].output, found.step_runs):
        with pytest.raises(UsageError, match="cannot be pickled") as caught:
            pickle.dumps(view)
        assert ".record" in caught.value.hint
    for record in (found.record, found["s"].record, found["s"].output.record, found.to_dict()):
        assert pickle.loads(pickle.dumps(record)) == record


def test_a_view_says_which_store_it_is_of(tmp_path: Path) -> None:
    with zm.open_store(tmp_path / "m.db") as store:
        assert store.import_artifact("mem://x").origin == str(tmp_path / "m.db")
    with zm.open_store("sqlite://") as one, zm.open_store("sqlite://") as two:
        assert one.import_artifact("mem://x").origin != two.import_artifact("mem://x").origin


def test_times_are_aware(store: zm.Store) -> None:
    assert (store.import_artifact("mem://x").created_at or datetime.now(timezone.utc)).tzinfo is not None
