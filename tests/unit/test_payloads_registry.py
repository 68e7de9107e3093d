"""Which materializer is taken, and what a name from a store may do."""

from __future__ import annotations

import abc
import collections
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, ClassVar

import pandas as pd
import pytest

import zen_mlmd.payloads
from zen_mlmd.errors import (
    NoMaterializerError,
    PayloadError,
    PayloadMissingError,
    UntrustedPickleError,
    UsageError,
)
from zen_mlmd.payloads import (
    ArtifactStore,
    Materializer,
    MaterializerRegistry,
    data_type_name,
    default_registry,
    read_payload,
)
from zen_mlmd.payloads.base import find_type

PROJECT = Path(zen_mlmd.payloads.__file__).parents[2]


class Shape:
    pass


class Square(Shape):
    pass


class Writing(Materializer):
    types: ClassVar[tuple[type | str, ...]] = (Shape,)

    def write(self, value: Any, directory: Path) -> None:
        (directory / "name").write_text(type(value).__name__)

    def read(self, directory: Path, data_type: type) -> Any:
        return data_type, (directory / "name").read_text()


class ShapeMaterializer(Writing):
    pass


class SquareMaterializer(Writing):
    types = (Square,)
    version = 3

    def accepts(self, value: Any) -> bool:
        return not hasattr(value, "odd")


class AnyMaterializer(Writing):
    types = (object,)


class Broken(Writing):
    def read(self, directory: Path, data_type: type) -> Any:
        raise LookupError("secret content")


class ByName(Writing):
    types = ("pandas.DataFrame", f"{__name__}.Square")


class Running(Writing):
    runs_code = True


class TypeNeeding(Writing):
    needs_type = True


def test_most_specific_class_wins_then_the_latest_then_who_accepts() -> None:
    registry = MaterializerRegistry()
    registry.register(SquareMaterializer)
    registry.register(ShapeMaterializer)
    assert type(registry.for_value(Square())) is SquareMaterializer
    assert type(registry.for_value(Shape())) is ShapeMaterializer
    odd = Square()
    odd.odd = True  # type: ignore[attr-defined]
    assert type(registry.for_value(odd)) is ShapeMaterializer
    registry.register(AnyMaterializer)
    assert type(registry.for_value(Square())) is SquareMaterializer
    assert type(registry.for_value(range(2))) is AnyMaterializer
    assert type(registry.for_value([1])).__name__ == "JsonMaterializer"


def test_user_materializer_takes_precedence_over_a_built_in_one() -> None:
    registry = MaterializerRegistry()

    @registry.register
    class Numbers(Writing):
        types = (int,)

    assert type(registry.for_value(3)) is Numbers
    assert type(registry.for_value(True)).__name__ == "JsonMaterializer"
    assert type(MaterializerRegistry().for_value(3)).__name__ == "JsonMaterializer"


def test_types_by_name_fit_package_and_full_names() -> None:
    registry = MaterializerRegistry()
    registry.register(ByName)
    assert type(registry.for_value(pd.DataFrame())) is ByName
    assert type(registry.for_value(Square())) is ByName
    assert type(registry.for_value(Shape())).__name__ == "PickleMaterializer"


def test_registering_a_name_again_replaces_it() -> None:
    registry = MaterializerRegistry()

    def make(number: int) -> type[Materializer]:
        class Again(Writing):
            version = number

        return Again

    registry.register(make(1))
    registry.register(make(2))
    assert registry.for_value(Shape()).version == 2
    assert registry.by_name(registry.for_value(Shape()).name).version == 2


def test_unusable_materializers_are_refused() -> None:
    class NoRead(Materializer):
        types = (Shape,)

        def write(self, value: Any, directory: Path) -> None: ...

    class NoTypes(Writing):
        types = ()

    class OneType(Writing):
        types = Shape  # type: ignore[assignment]

    class OddType(Writing):
        types = (3,)  # type: ignore[assignment]

    registry = MaterializerRegistry()
    for kind in (NoRead, NoTypes, OneType, OddType, Shape, Writing()):
        with pytest.raises(UsageError) as caught:
            registry.register(kind)  # type: ignore[type-var]
        assert caught.value.hint


def test_for_type_asks_by_class_alone() -> None:
    registry = MaterializerRegistry()
    for data_type, kind in [
        (int, "Json"),
        (bool, "Json"),
        (type(None), "Json"),
        (list[int], "Json"),
        (dict, "Json"),
        (collections.OrderedDict, "Json"),
        (pd.DataFrame, "PandasFrame"),
        (Path, "Path"),
        (ArtifactStore, "Pickle"),
        (zen_mlmd.payloads.Payload, "Dataclass"),
        (Any, "Pickle"),
        (int | None, "Pickle"),
    ]:
        assert type(registry.for_type(data_type)).__name__ == f"{kind}Materializer"


def test_names_and_fingerprints() -> None:
    assert ShapeMaterializer().name == f"{__name__}.ShapeMaterializer"
    assert SquareMaterializer().fingerprint == f"{__name__}.SquareMaterializer@3"
    assert default_registry().for_value(1).name == "zen_mlmd.payloads.builtin.JsonMaterializer"
    assert data_type_name(1) == "builtins.int"
    assert data_type_name(Shape()) == f"{__name__}.Shape"
    assert default_registry() is default_registry()


def test_by_name_finds_registered_and_imported_ones() -> None:
    registry = MaterializerRegistry()
    assert type(registry.by_name("zen_mlmd.payloads.builtin.JsonMaterializer")).__name__ == "JsonMaterializer"
    assert type(registry.by_name(f"{__name__}.ShapeMaterializer")) is ShapeMaterializer


@pytest.mark.parametrize(
    "name",
    [
        "",
        "nodots",
        "os.system",
        "builtins.dict",
        f"{__name__}.Shape",
        f"{__name__}.NotThere",
        f"{__name__}.Shape.NotThere",
        "zen_mlmd.payloads.base.Materializer",
        "zenml.materializers.numpy_materializer.NumpyMaterializer@zenml_0.13.2",
        "..x",
    ],
)
def test_by_name_refuses_everything_else(name: str) -> None:
    for allow_import in (False, True):
        with pytest.raises(NoMaterializerError) as caught:
            MaterializerRegistry().by_name(name, allow_import=allow_import)
        assert caught.value.hint


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    name = f"pkg_{os.urandom(4).hex()}"
    root = tmp_path / "lib" / name
    root.mkdir(parents=True)
    (root / "__init__.py").write_text("")
    (root / "__main__.py").write_text("raise SystemExit('ran')")
    (root / "broken.py").write_text("raise RuntimeError('at import')")
    (root / "lacking.py").write_text("import there_is_no_such_module")
    (root / "mine.py").write_text(
        "from zen_mlmd.payloads import Materializer\n"
        "class Data: pass\n"
        "class Outer:\n    class Inner: pass\n"
        "class Mine(Materializer):\n"
        "    types = (Data,)\n"
        "    def write(self, value, directory): pass\n"
        "    def read(self, directory, data_type): return data_type\n"
    )
    monkeypatch.syspath_prepend(root.parent)
    return name


def test_by_name_imports_only_when_told_to(package: str) -> None:
    name = f"{package}.mine.Mine"
    with pytest.raises(NoMaterializerError, match="Mine") as caught:
        MaterializerRegistry().by_name(name)
    assert f"import {package}.mine" in caught.value.hint
    assert package not in sys.modules
    assert MaterializerRegistry().by_name(name, allow_import=True).name == name
    with pytest.raises(ModuleNotFoundError, match="there_is_no_such_module"):
        MaterializerRegistry().by_name(f"{package}.lacking.Mine", allow_import=True)


def test_find_type_imports_only_when_told_to_and_only_submodules_of_imported_packages(package: str) -> None:
    assert find_type(f"{package}.mine.Data", allow_import=True) is None
    assert package not in sys.modules
    __import__(package)
    assert find_type(f"{package}.mine.Data") is None
    assert f"{package}.mine" not in sys.modules
    found = find_type(f"{package}.mine.Data", allow_import=True)
    assert found is not None
    assert found.__module__ == f"{package}.mine"
    inner = find_type(f"{package}.mine.Outer.Inner")
    assert inner is not None
    assert inner.__qualname__ == "Outer.Inner"
    for name in ("broken.X", "__main__.X", "nothing.X", "mine.Nothing", "mine.Data.Nothing", "mine"):
        assert find_type(f"{package}.{name}", allow_import=True) is None
    assert f"{package}.__main__" not in sys.modules


def test_reading_imports_a_class_only_if_it_is_needed_and_allowed(package: str, tmp_path: Path) -> None:
    __import__(package)
    (tmp_path / "data.json").write_text("{}")
    (tmp_path / "name").write_text("")
    json = "zen_mlmd.payloads.builtin.JsonMaterializer"
    for allow in (False, True):
        assert read_payload(str(tmp_path), json, f"{package}.mine.Data", allow_pickle=allow) == {}
    with pytest.raises(NoMaterializerError, match="not to be found"):
        read_payload(str(tmp_path), TypeNeeding().name, f"{package}.mine.Data")
    assert f"{package}.mine" not in sys.modules
    data_type, _ = read_payload(str(tmp_path), TypeNeeding().name, f"{package}.mine.Data", allow_pickle=True)
    assert data_type.__module__ == f"{package}.mine"


@pytest.mark.parametrize(
    "name", ["", "int", ".", "a..b", "builtins.", "builtins.len", "os.path", "\0.x", "x.<locals>.Y"]
)
def test_find_type_gives_none_for_what_is_no_class(name: str) -> None:
    assert find_type(name) is None


def test_find_type_knows_builtins_and_none() -> None:
    assert find_type("builtins.int") is int
    assert find_type(data_type_name(None)) is type(None)
    assert find_type(data_type_name(pd.DataFrame())) is pd.DataFrame


def written(tmp_path: Path, materializer: Materializer) -> str:
    store = ArtifactStore(tmp_path)
    return store.write(store.new_uri("x"), lambda to: materializer.write(Shape(), to)).uri


def test_read_payload_gives_the_class_or_object(tmp_path: Path) -> None:
    uri = written(tmp_path, ShapeMaterializer())
    name = ShapeMaterializer().name
    assert read_payload(uri, name, f"{__name__}.Shape") == (Shape, "Shape")
    assert read_payload(uri, name, "gone.Shape") == (object, "Shape")
    assert read_payload(uri, name, "") == (object, "Shape")


def test_read_payload_takes_the_registry_that_is_given(tmp_path: Path) -> None:
    registry = MaterializerRegistry()

    @registry.register
    class Hidden(Writing):
        pass

    uri = written(tmp_path, Hidden())
    assert read_payload(uri, Hidden().name, "", registry=registry) == (object, "Shape")
    with pytest.raises(NoMaterializerError):
        read_payload(uri, Hidden().name, "")


def test_read_payload_says_what_is_missing(tmp_path: Path) -> None:
    uri = written(tmp_path, ShapeMaterializer())
    with pytest.raises(NoMaterializerError, match=r"class 'gone\.Shape'") as caught:
        read_payload(uri, TypeNeeding().name, "gone.Shape")
    assert "import gone" in caught.value.hint
    with pytest.raises(PayloadMissingError):
        read_payload(f"{uri}-no", ShapeMaterializer().name, "")
    with pytest.raises(PayloadError, match="LookupError") as broken:
        read_payload(uri, Broken().name, "")
    assert "secret content" not in str(broken.value)


def test_any_materializer_that_runs_code_needs_to_be_allowed(tmp_path: Path) -> None:
    uri = written(tmp_path, Running())
    with pytest.raises(UntrustedPickleError, match=uri) as caught:
        read_payload(uri, Running().name, "")
    assert "allow_pickle=True" in caught.value.hint
    assert read_payload(uri, Running().name, "", allow_pickle=True) == (object, "Shape")


def test_class_of_main_is_found_in_main(tmp_path: Path) -> None:
    program = """
import dataclasses, sys
import zen_mlmd.payloads as p
@dataclasses.dataclass
class Mine:
    a: int
value, registry = Mine(3), p.default_registry()
materializer = registry.for_value(value)
store = p.ArtifactStore(sys.argv[1])
payload = store.write(store.new_uri("x"), lambda to: materializer.write(value, to))
back = p.read_payload(payload.uri, materializer.name, "__main__.Mine")
print(p.data_type_name(value), materializer.name, back)
"""
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": str(PROJECT)},
    )
    assert done.stdout == "__main__.Mine zen_mlmd.payloads.builtin.DataclassMaterializer Mine(a=3)\n"
    with pytest.raises(NoMaterializerError):
        read_payload(str(tmp_path / "x"), "zen_mlmd.payloads.builtin.DataclassMaterializer", "__main__.Mine")


def test_public_names_are_complete() -> None:
    for name in zen_mlmd.payloads.__all__:
        assert getattr(zen_mlmd.payloads, name).__doc__
    assert issubclass(Materializer, abc.ABC)
