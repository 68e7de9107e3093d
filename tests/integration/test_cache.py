"""Which run of a step serves for another, and which does not."""

from __future__ import annotations

import dataclasses
import logging
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Protocol

import numpy as np
import polars as pl
import pytest
from ml_metadata.proto import metadata_store_pb2 as mlmd
from ml_metadata.proto import metadata_store_service_pb2 as rpc

import zen_mlmd as zm
from zen_mlmd.payloads import default_registry
from zen_mlmd.pipelines.cache import cache_key
from zen_mlmd.reading.runs import PipelineRunView


class Go(Protocol):
    store: zm.Store

    def __call__(self, function: Callable[..., Any], *args: Any, **options: Any) -> PipelineRunView: ...


@pytest.fixture
def go(tmp_path: Path) -> Go:
    """Runs a function as a pipeline, always in one store, unless another is given."""

    def run(function: Callable[..., Any], *args: Any, **options: Any) -> Any:
        wanted = {"store": run.store, "artifacts": tmp_path / "artifacts", **options}  # type: ignore[attr-defined]
        return zm.pipeline(name="p")(function).options(**wanted)(*args)

    run.store = zm.open_store(tmp_path / "metadata.db")  # type: ignore[attr-defined]
    return run  # type: ignore[return-value]


@dataclasses.dataclass
class A:
    x: int


@dataclasses.dataclass
class B:
    x: int


VALUES: dict[str, Any] = {
    "A": A(1),
    "B": B(1),
    "dict": {"x": 1},
    "scalar": np.float64(1),
    "no_dimension": np.array(1.0),
    "series": pl.Series("a", [1]),
    "frame": pl.DataFrame({"a": [1]}),
}


@zm.step
def make(kind: str) -> Any:
    return VALUES[kind]


@zm.step
def kind_of(value: Any) -> str:
    return type(value).__name__


@zm.step
def ones() -> list[int]:
    return [1]


@zm.step
def show(value: Any) -> str:
    return repr(value)


# -- what a key is made of


@pytest.mark.parametrize("kinds", [("A", "B", "dict"), ("scalar", "no_dimension"), ("series", "frame")])
def test_equal_bytes_of_another_type_are_no_hit(go: Go, kinds: tuple[str, ...]) -> None:
    def pipeline(kind: str) -> None:
        kind_of(make(kind))

    got = [go(pipeline, kind)["kind_of"].output.read() for kind in kinds]
    assert got == [type(VALUES[kind]).__name__ for kind in kinds]
    assert all(go(pipeline, kind)["kind_of"].is_cached for kind in kinds)


class One(zm.Materializer):
    types = (str,)

    def write(self, value: Any, directory: Path) -> None:
        (directory / "a").touch()

    def read(self, directory: Path, data_type: type) -> Any:
        return type(self).__name__


class Two(One):
    pass


def test_equal_bytes_of_another_materializer_are_no_hit(go: Go) -> None:
    def word() -> str:
        return "x"

    steps = [zm.step(materializers=kind, name=f"by_{kind.__name__}")(word) for kind in (One, Two)]

    def pipeline(which: int) -> None:
        show(steps[which]())

    assert [go(pipeline, which)["show"].output.read() for which in (0, 1)] == ["'One'", "'Two'"]


def test_one_output_and_a_list_of_one_are_two_things(go: Go) -> None:
    def pipeline(many: bool) -> None:
        show([ones()] if many else ones())

    assert [go(pipeline, many)["show"].output.read() for many in (False, True)] == ["[1]", "[[1]]"]


@pytest.mark.parametrize(
    "values",
    [(1, "1", 1.0, True), ([1], (1,)), ({1: 2}, {"1": 2}), (0.0, -0.0), (b"1", "b'1'"), (None, "None")],
)
def test_parameters_of_another_type_are_no_hit(go: Go, values: tuple[Any, ...]) -> None:
    def pipeline(value: Any) -> None:
        show(value)

    assert [go(pipeline, value)["show"].output.read() for value in values] == [repr(each) for each in values]


def test_a_parameter_that_changes_later_is_recorded_as_it_was_given(go: Go) -> None:
    @zm.step
    def spoil(rows: list[int]) -> int:
        rows.append(1)
        return 0

    @zm.step
    def size(rows: list[int], after_this: int) -> int:
        return len(rows)

    def pipeline(rows: list[int]) -> None:
        size(rows, spoil(rows))
        rows.append(5)

    for _ in range(2):
        run = go(pipeline, [])
        assert run.parameters == {"rows": []}
        assert run["size"].parameters == {"rows": []}
        assert run["size"].output.read() == 0
    assert run["size"].is_cached


class Shape:
    pass


class ShapeMaterializer(zm.Materializer):
    types = (Shape, str)

    def write(self, value: Any, directory: Path) -> None:
        (directory / "a").write_text(f"{self.version}")

    def read(self, directory: Path, data_type: type) -> Any:
        return (directory / "a").read_text()


class OtherShapeMaterializer(ShapeMaterializer):
    pass


def text() -> str:
    return "x"


def test_the_outputs_of_a_step_are_part_of_its_key() -> None:
    def key(**options: Any) -> str:
        step = zm.step(**options)(text)
        return cache_key(step, "code", {}, {})

    plain = key()
    assert plain == key()
    others = [
        key(output_types={"output": "Text"}),
        key(materializers=ShapeMaterializer),
        key(materializers=OtherShapeMaterializer),
    ]
    for annotation in ("int", "float", "Any", Annotated[str, "name"]):
        text.__annotations__["return"] = annotation
        others.append(key())
    text.__annotations__["return"] = "str"
    assert len({plain, *others}) == 8


def test_an_annotation_with_an_object_in_it_is_the_same_in_each_process() -> None:
    def key(mark: object) -> str:
        def f() -> Any: ...

        f.__annotations__["return"] = list[Annotated[int, mark]]
        return cache_key(zm.step(f), "code", {}, {})

    assert key(object()) == key(object())


def test_a_registered_materializer_and_its_version_count(go: Go, monkeypatch: pytest.MonkeyPatch) -> None:
    @zm.step
    def shape() -> Shape:
        return Shape()

    registry = default_registry().__class__()

    def pipeline() -> None:
        shape()

    def run() -> tuple[bool, str, str]:
        step = go(pipeline, registry=registry)["shape"]
        return step.is_cached, step.output.record.materializer.rpartition(".")[2], step.output.type

    assert run() == (False, "PickleMaterializer", "Pickle")
    registry.register(ShapeMaterializer)
    assert run() == (False, "ShapeMaterializer", "Artifact")
    assert run()[0]
    monkeypatch.setattr(ShapeMaterializer, "version", 2)
    assert not run()[0]
    assert run()[0]
    registry.register(OtherShapeMaterializer)
    assert run() == (False, "OtherShapeMaterializer", "Artifact")


class Config:
    depth = 1


def test_what_is_set_at_run_time_counts(go: Go, monkeypatch: pytest.MonkeyPatch) -> None:
    @zm.step
    def train() -> int:
        return Config.depth

    def pipeline() -> None:
        train()

    assert go(pipeline)["train"].output.read() == 1
    monkeypatch.setattr(Config, "depth", 2)
    assert go(pipeline)["train"].output.read() == 2
    assert go(pipeline)["train"].is_cached


def test_a_step_that_uses_what_cannot_be_told_is_run_each_time_and_says_so(
    go: Go, caplog: pytest.LogCaptureFixture
) -> None:
    gate = threading.Lock()

    @zm.step
    def guarded() -> int:
        with gate:
            return 1

    def pipeline() -> None:
        guarded()

    for _ in range(2):
        caplog.clear()
        assert not go(pipeline)["guarded"].is_cached
        (said,) = (each for each in caplog.records if each.levelno == logging.WARNING)
        assert said.message.startswith("step guarded: not cached, for what it uses may change unseen: gate (")
    assert go(pipeline)["guarded"].record.cache_key == ""
    caplog.clear()
    go(pipeline, enable_cache=False)
    assert not caplog.records


# -- what is found


def test_a_forced_run_is_what_later_runs_find(go: Go, tmp_path: Path) -> None:
    source = tmp_path / "source"

    @zm.step
    def read(path: str) -> str:
        return Path(path).read_text()

    def pipeline() -> None:
        read(str(source))

    def forced() -> None:
        read.options(enable_cache=False)(str(source))

    source.write_text("one")
    assert go(pipeline)["read"].output.read() == "one"
    for function, options, wanted in [(pipeline, {"enable_cache": False}, "two"), (forced, {}, "three")]:
        source.write_text(wanted)
        assert go(pipeline)["read"].is_cached
        assert go(function, **options)["read"].output.read() == wanted
        found = go(pipeline)["read"]
        assert (found.is_cached, found.output.read()) == (True, wanted)


def test_a_step_that_failed_is_no_hit_though_it_has_no_outputs(go: Go) -> None:
    @zm.step
    def check() -> None:
        raise ValueError("wrong")

    def pipeline() -> None:
        check()

    for _ in range(2):
        with pytest.raises(ValueError, match="wrong"):
            go(pipeline)
        assert go.store.pipelines["p"].latest_run["check"].status is zm.Status.FAILED


def test_an_output_that_is_not_live_is_no_hit(go: Go, caplog: pytest.LogCaptureFixture) -> None:
    def pipeline() -> None:
        ones()

    made = go(pipeline)["ones"].output
    client = go.store.loader.client
    node = client.artifacts([made.id])[made.id]
    node.state = mlmd.Artifact.MARKED_FOR_DELETION
    client.write("PutArtifacts", rpc.PutArtifactsRequest(artifacts=[node]), lambda: None)
    assert not go(pipeline)["ones"].is_cached
    assert "step ones: run anew, for its cached output 'output' is not live any more" in caplog.text


def test_an_older_run_serves_if_the_newest_is_damaged(go: Go, caplog: pytest.LogCaptureFixture) -> None:
    def pipeline() -> None:
        ones()

    first = go(pipeline)["ones"].output
    second = go(pipeline, enable_cache=False)["ones"].output
    (Path(second.uri) / "data.json").write_text("[2]")
    found = go(pipeline)["ones"]
    assert found.is_cached
    assert found.output == first
    (Path(first.uri) / "data.json").unlink()
    assert not go(pipeline)["ones"].is_cached
    assert "step ones: run anew, for its cached output 'output' was changed since" in caplog.text


@pytest.mark.parametrize("uri", ["gdrive://x/y", "nonsense://x", "/nowhere", "ftp://u:p@h/x"])
def test_an_output_that_lies_out_of_reach_is_a_miss(
    go: Go, uri: str, caplog: pytest.LogCaptureFixture
) -> None:
    key = cache_key(ones, ones.code, {}, {})
    with go.store.record_run("p") as run, run.step("ones", cache_key=key) as step:
        step.log_output(
            "output",
            uri=uri,
            content_hash="sha256:0",
            materializer="zen_mlmd.payloads.builtin.JsonMaterializer",
            data_type="builtins.list",
        )

    def pipeline() -> None:
        ones()

    found = go(pipeline)["ones"]
    assert not found.is_cached
    assert found.output.read() == [1]
    assert "cannot be had here" in caplog.text
    assert "u:p" not in caplog.text


class CodeMaterializer(ShapeMaterializer):
    runs_code = True


@pytest.mark.parametrize("materializer", [CodeMaterializer, None])
def test_what_runs_code_is_a_hit_in_a_trusted_store_only(
    go: Go, materializer: Any, caplog: pytest.LogCaptureFixture
) -> None:
    @zm.step(materializers=materializer)
    def shape() -> Any:
        return range(3)

    @zm.step
    def use(value: Any, n: int) -> int:
        return n

    def pipeline(n: int) -> None:
        use(shape(), n)

    for n in (1, 2):
        run = go(pipeline, n)
        assert run["use"].output.read() == n
        assert not run["shape"].is_cached
    (said,) = (each for each in caplog.records if each.levelno == logging.WARNING)
    assert said.message == (
        "step shape: run anew, for its cached output 'output' is a pickle, "
        "and the store is not opened as trusted"
    )
    trusting = zm.open_store(zm.SqliteConfig(path=go.store.config.location, trusted=True))
    assert go(pipeline, 3, store=trusting)["shape"].is_cached


def test_payloads_in_memory_are_found_again(go: Go) -> None:
    def pipeline() -> None:
        show([ones(), ones()])

    first = go(pipeline, artifacts="memory://cache/a")
    assert first["ones"].output.uri.startswith("memory://cache/a/")
    assert first["show"].output.read() == "[[1], [1]]"
    again = go(pipeline, artifacts="memory://cache/a")
    assert all(step.is_cached for step in again.steps.values())
    assert again["show"].output.read() == "[[1], [1]]"


# -- in another process


def run_script(directory: Path, text: str, *arguments: str) -> str:
    (directory / "main.py").write_text(textwrap.dedent(text))
    done = subprocess.run(
        [sys.executable, "main.py", *arguments], cwd=directory, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


ARGUMENTS = """
    import argparse
    import zen_mlmd as zm

    parser = argparse.ArgumentParser()
    parser.add_argument("--depth", type=int)
    args = parser.parse_args()

    @zm.step
    def train() -> int:
        return args.depth

    @zm.pipeline
    def p():
        train()

    run = p.options(store="m.db", artifacts="a")()
    print(run["train"].status, run["train"].output.read())
"""


def test_the_command_line_counts(tmp_path: Path) -> None:
    assert run_script(tmp_path, ARGUMENTS, "--depth", "3") == "completed 3"
    assert run_script(tmp_path, ARGUMENTS, "--depth", "5") == "completed 5"
    assert run_script(tmp_path, ARGUMENTS, "--depth", "3") == "cached 3"


LATE = """
    import sys
    import zen_mlmd as zm

    @zm.step
    def make():
        from models import Model
        return Model(1)

    @zm.step
    def use(model, n: int) -> int:
        return model.x + n

    @zm.pipeline
    def p(n: int):
        use(make(), n)

    run = p.options(store="m.db", artifacts="a")(int(sys.argv[1]))
    print(run["make"].status, run["use"].output.read())
"""


def test_an_output_whose_class_is_not_imported_here_is_a_miss(tmp_path: Path) -> None:
    (tmp_path / "models.py").write_text(
        "from dataclasses import dataclass\n@dataclass\nclass Model:\n    x: int\n"
    )
    assert run_script(tmp_path, LATE, "1") == "completed 2"
    assert run_script(tmp_path, LATE, "2") == "completed 3"
    early = LATE.replace("import sys\n", "import sys, models\n")
    assert run_script(tmp_path, early, "3") == "cached 4"


OWN = """
    import sys
    import zen_mlmd as zm
    from models import Imported

    class Own:
        pass

    @zm.step
    def own():
        return Own()

    @zm.step
    def many():
        return [Own()]

    @zm.step
    def imported():
        return Imported()

    @zm.step
    def check(own, many, imported, n: int) -> bool:
        return isinstance(own, Own) and isinstance(many[0], Own) and isinstance(imported, Imported)

    @zm.pipeline
    def p(n: int):
        check(own(), many(), imported(), n)

    store = zm.open_store(zm.SqliteConfig(path="m.db", trusted=True))
    run = p.options(store=store, artifacts="a")(int(sys.argv[1]))
    print(*(step.status for step in run.steps.values()), run["check"].output.read())
"""


def test_a_pickle_that_brings_its_own_class_is_no_hit(tmp_path: Path) -> None:
    (tmp_path / "models.py").write_text("class Imported:\n    pass\n")
    assert run_script(tmp_path, OWN, "1") == "completed completed completed completed True"
    assert run_script(tmp_path, OWN, "2") == "completed completed cached completed True"
