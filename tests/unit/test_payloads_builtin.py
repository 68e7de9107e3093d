"""The materializers of plain values, models, files and pickle: exact, or passed on."""

from __future__ import annotations

import dataclasses
import datetime as dt
import decimal
import enum
import math
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any, ClassVar
from zoneinfo import ZoneInfo

import numpy as np
import pydantic
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import zen_mlmd.payloads.builtin
from zen_mlmd.errors import NoMaterializerError, PayloadError, UntrustedPickleError
from zen_mlmd.payloads import (
    ArtifactStore,
    Materializer,
    MaterializerRegistry,
    data_type_name,
    default_registry,
    read_payload,
)
from zen_mlmd.payloads.builtin import PickleMaterializer

PROJECT = Path(zen_mlmd.payloads.builtin.__file__).parents[2]
HOUR = dt.timezone(dt.timedelta(hours=1))
PLAIN_TEXT = st.text(st.characters(codec="utf-8"))
PLAIN_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | PLAIN_TEXT,
    lambda inner: st.lists(inner) | st.dictionaries(PLAIN_TEXT, inner),
    max_leaves=10,
)
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
    lambda inner: (
        st.lists(inner)
        | st.tuples(inner, inner)
        | st.dictionaries(st.text() | st.integers() | st.booleans() | st.floats(allow_nan=False), inner)
    ),
    max_leaves=8,
)


class Colour(enum.IntEnum):
    RED = 1


class Text(str):
    __slots__ = ()


class Inner(pydantic.BaseModel):
    x: float = 0.0


class Special(Inner):
    y: int = 1


class Model(pydantic.BaseModel):
    name: str
    at: dt.datetime | None = None
    pair: tuple[int, str] = (1, "a")
    inner: Inner = pydantic.Field(default_factory=Inner)
    odd: Any = None
    long_name: int = pydantic.Field(default=1, alias="longName")
    _private: int = pydantic.PrivateAttr(default=1)


class Login(pydantic.BaseModel):
    password: pydantic.SecretStr


class Moody(pydantic.BaseModel):
    n: int

    @pydantic.field_validator("n")
    @classmethod
    def grow(cls, n: int) -> int:
        return n + 1


@dataclasses.dataclass
class Point:
    x: float
    tags: list[str] = dataclasses.field(default_factory=list)
    made: int = dataclasses.field(default=0, init=False)
    count: ClassVar[int] = 0

    def __post_init__(self) -> None:
        self.made = 99


@dataclasses.dataclass(frozen=True, slots=True)
class Frozen:
    a: int
    b: str = "b"


class Numbered:
    __slots__ = ("number",)
    number: int


@dataclasses.dataclass
class OverSlots(Numbered):
    a: int


@dataclasses.dataclass
class OneSlot:
    a: int
    __slots__ = "a"  # noqa: PLC0205 - as others write it


@dataclasses.dataclass
class Rows(list):  # type: ignore[type-arg]
    label: str = ""


@dataclasses.dataclass
class Angry:
    a: int

    def __getattribute__(self, name: str) -> Any:
        if name == "a":
            raise RuntimeError("no")
        return super().__getattribute__(name)


class Unpicklable:
    def __reduce__(self) -> Any:
        raise RuntimeError("cannot")


class NoRoom:
    def __reduce__(self) -> Any:
        raise OSError(28, "No space left on device")


def round_trip(value: object, tmp: Path, *, allow_pickle: bool = False) -> Any:
    store = ArtifactStore(tmp)
    materializer = default_registry().for_value(value)
    payload = store.write(store.new_uri(os.urandom(8).hex()), lambda to: materializer.write(value, to))
    return read_payload(payload.uri, materializer.name, data_type_name(value), allow_pickle=allow_pickle)


def kind_for(value: object) -> str:
    return type(default_registry().for_value(value)).__name__.removesuffix("Materializer")


def identical(a: Any, b: Any) -> bool:
    if type(a) is not type(b):
        return False
    if isinstance(a, float):
        return (math.isnan(a) and math.isnan(b)) or (a == b and math.copysign(1, a) == math.copysign(1, b))
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(identical, a, b))
    if isinstance(a, dict):
        return identical(list(a.items()), list(b.items()))
    return bool(a == b)


@pytest.fixture(scope="module")
def tmp(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("payloads")


@given(value=PLAIN_JSON)
@settings(deadline=None, max_examples=60)
def test_plain_values_come_back_without_pickle(tmp: Path, value: object) -> None:
    assert identical(round_trip(value, tmp), value)


@given(value=ANYTHING)
@settings(deadline=None, max_examples=60)
def test_any_values_come_back_exactly(tmp: Path, value: object) -> None:
    assert identical(round_trip(value, tmp, allow_pickle=True), value)


@given(value=st.binary(max_size=300))
@settings(deadline=None, max_examples=30)
def test_bytes_come_back(tmp: Path, value: bytes) -> None:
    assert kind_for(value) == "Bytes"
    assert round_trip(value, tmp) == value


@pytest.mark.parametrize("text", ["", "a\r\nb\rc\n", "\ufeffbom", "\0", "\u2028\x85", "\U0001f600", "ü"])
def test_text_comes_back_character_by_character(tmp: Path, text: str) -> None:
    assert kind_for(text) == "String"
    assert round_trip(text, tmp) == text


@pytest.mark.parametrize(
    ("value", "kind", "artifact_type"),
    [
        (None, "Json", "JsonData"),
        (True, "Json", "JsonData"),
        (3, "Json", "JsonData"),
        (1 << 1999, "Json", "JsonData"),
        (0.1, "Json", "JsonData"),
        (math.inf, "Json", "JsonData"),
        ("a", "String", "TextData"),
        (b"a", "Bytes", "BytesData"),
        ([1, {"a": None}], "Json", "JsonData"),
        ({"a": [1.5, float("nan")]}, "Json", "JsonData"),
        ((1, 2), "Json", "JsonData"),
        ([(1, 2)], "Json", "JsonData"),
        ({1: 2}, "Json", "JsonData"),
        ({"a": b"1"}, "Json", "JsonData"),
        ({"$float": "nan"}, "Json", "JsonData"),
        pytest.param(1 << 20000, "Json", "JsonData", id="int of 20001 bits"),
        pytest.param([1 << 20000], "Json", "JsonData", id="list of such"),
        ("\ud83d\ude00", "Pickle", "Pickle"),
        (["\ud83d\ude00"], "Json", "JsonData"),
        ({"\ud800": 1}, "Json", "JsonData"),
        (Colour.RED, "Pickle", "Pickle"),
        ([Colour.RED], "Pickle", "Pickle"),
        (Text("a"), "Pickle", "Pickle"),
        ({Text("a"): 1}, "Pickle", "Pickle"),
        (bytearray(b"a"), "Json", "JsonData"),
        ({1, 2}, "Json", "JsonData"),
        ([np.float64(0.5)], "Pickle", "Pickle"),
        ({np.int64(1)}, "Pickle", "Pickle"),
        (math.sin, "Pickle", "Pickle"),
        (decimal.Decimal("1.00"), "Json", "JsonData"),
        (dt.datetime(2026, 1, 1, 2, fold=1, tzinfo=HOUR), "Json", "JsonData"),
        ([dt.datetime(2026, 1, 1, tzinfo=dt.timezone.utc)], "Json", "JsonData"),
    ],
)
def test_each_value_goes_to_who_keeps_it(tmp: Path, value: object, kind: str, artifact_type: str) -> None:
    materializer = default_registry().for_value(value)
    assert type(materializer).__name__ == f"{kind}Materializer"
    assert materializer.artifact_type == artifact_type
    assert identical(round_trip(value, tmp, allow_pickle=True), value)


@pytest.mark.parametrize("text", ["NaN", "sNaN", "-0", "1E+5", "-Infinity"])
def test_decimals_come_back_digit_by_digit(tmp: Path, text: str) -> None:
    for value in (decimal.Decimal(text), [decimal.Decimal(text)], {"a": (decimal.Decimal(text),)}):
        assert kind_for(value) == "Json"
        assert repr(round_trip(value, tmp)) == repr(value)


def test_a_time_zone_that_has_a_name_goes_to_pickle(tmp: Path) -> None:
    for zone in (dt.timezone(dt.timedelta(hours=1), "CET"), ZoneInfo("Europe/Berlin"), ZoneInfo("UTC")):
        at = dt.datetime(2026, 1, 1, tzinfo=zone)
        for value in (at, [at], dt.time(1, tzinfo=zone), Model(name="a", at=at)):
            assert kind_for(value) == "Pickle"
            assert repr(round_trip(value, tmp, allow_pickle=True)) == repr(value)
    for fixed in (dt.timezone.utc, HOUR):
        model = Model(name="a", at=dt.datetime(2026, 1, 1, tzinfo=fixed))
        assert kind_for(model) == kind_for(round_trip(model, tmp)) == "Pydantic"
        assert round_trip(model, tmp) == model
    assert kind_for(Model(name="a", at=dt.datetime(2026, 1, 1, fold=1))) == "Pickle"  # noqa: DTZ001


def test_deep_and_circular_values_go_to_pickle(tmp: Path) -> None:
    deep: list[Any] = []
    for _ in range(99):
        deep = [deep]
    assert kind_for(deep) == "Json"
    assert round_trip(deep, tmp) == deep
    assert kind_for([deep]) == "Json"
    assert kind_for([[deep]]) == "Pickle"
    circle: dict[str, Any] = {}
    circle["self"] = circle
    assert kind_for(circle) == "Pickle"
    back = round_trip(circle, tmp, allow_pickle=True)
    assert back["self"] is back
    row = {"a": 1}
    assert kind_for([row, row]) == "Json"


def test_a_value_of_another_type_than_was_recorded_is_refused(tmp_path: Path) -> None:
    (tmp_path / "data.json").write_text("true")
    with pytest.raises(PayloadError, match="another type"):
        read_payload(str(tmp_path), "zen_mlmd.payloads.builtin.JsonMaterializer", "builtins.int")


def test_files_are_what_they_are_said_to_be(tmp_path: Path) -> None:
    for value, name, content in [
        ([1, "ü"], "data.json", b'[1, "\\u00fc"]'),
        ("ü\r\n", "data.txt", "ü\r\n".encode()),
        (b"\0", "data.bin", b"\0"),
        (math.nan, "data.json", b"NaN"),
        (Frozen(1), "data.json", b'{"a": 1, "b": "b"}'),
    ]:
        directory = tmp_path / os.urandom(4).hex()
        directory.mkdir()
        default_registry().for_value(value).write(value, directory)
        assert {path.name: path.read_bytes() for path in directory.iterdir()} == {name: content}


@pytest.mark.parametrize(
    ("kind", "name", "content"),
    [
        ("Json", "data.json", b"{"),
        ("Json", "data.json", b'{"$int": 3}'),
        ("Json", "data.json", b"[" * 100000),
        ("String", "data.txt", b"\xff"),
        ("Bytes", "other", b""),
        ("Path", "a", None),
    ],
)
def test_damaged_content_is_a_payload_error(
    tmp_path: Path, kind: str, name: str, content: bytes | None
) -> None:
    (tmp_path / name).write_bytes(content or b"")
    if content is None:
        (tmp_path / "b").write_bytes(b"")
    with pytest.raises(PayloadError) as caught:
        read_payload(str(tmp_path), f"zen_mlmd.payloads.builtin.{kind}Materializer", "builtins.object")
    assert caught.value.hint


def test_model_comes_back_as_the_same_model(tmp: Path) -> None:
    value = Model(
        name="ü", at=dt.datetime(2026, 1, 2, tzinfo=dt.timezone.utc), inner=Inner(x=0.1), longName=7
    )
    assert kind_for(value) == "Pydantic"
    assert default_registry().for_value(value).artifact_type == "JsonData"
    back = round_trip(value, tmp)
    assert type(back) is Model
    assert back == value


def test_models_that_json_would_change_go_to_pickle(tmp: Path) -> None:
    private = Model(name="a")
    private._private = 2

    class Local(pydantic.BaseModel):
        a: int = 1

    for value in [
        Model(name="a", odd=(1, 2)),
        Model(name="a", odd=dt.date(2026, 1, 1)),
        Model(name="a", odd={1: 2}),
        Model(name="a", odd=math.nan),
        Model(name="a", inner=Special(y=2)),
        Model(name="a", odd=object),
        private,
        Moody(n=1),
        Local(),
        Login(password=pydantic.SecretStr("s")),
    ]:
        assert kind_for(value) == "Pickle", value
    assert round_trip(Model(name="a", odd=(1, 2)), tmp, allow_pickle=True).odd == (1, 2)


def test_model_that_no_longer_fits_is_a_payload_error(tmp_path: Path) -> None:
    (tmp_path / "data.json").write_text('{"nme": "a"}')
    name = "zen_mlmd.payloads.builtin.PydanticMaterializer"
    with pytest.raises(PayloadError, match="ValidationError"):
        read_payload(str(tmp_path), name, data_type_name(Model(name="a")))
    with pytest.raises(PayloadError, match="no pydantic model"):
        read_payload(str(tmp_path), name, "builtins.int")


def test_dataclass_comes_back_without_its_init_being_run(tmp: Path) -> None:
    value = Point(0.1, ["a"])
    value.made = 5
    assert kind_for(value) == "Dataclass"
    back = round_trip(value, tmp)
    assert type(back) is Point
    assert (back, back.made) == (value, 5)
    assert round_trip(Frozen(1), tmp) == Frozen(1)
    assert identical(round_trip(Point(math.nan), tmp).x, math.nan)


def test_dataclasses_that_json_would_change_go_to_pickle() -> None:
    extra = Point(1.0)
    extra.more = 1  # type: ignore[attr-defined]
    unset = Point(1.0)
    del unset.made
    del unset.x

    @dataclasses.dataclass
    class Local:
        a: int = 1

    for value in [Point(1.0, ("a",)), Point((1,)), extra, unset, Local(), Rows("x"), Angry(1), Point]:  # type: ignore[arg-type]
        assert kind_for(value) == "Pickle"


def test_a_dataclass_whose_base_has_slots_goes_to_pickle(tmp: Path) -> None:
    value = OverSlots(1)
    value.number = 7
    assert kind_for(value) == "Pickle"
    back = round_trip(value, tmp, allow_pickle=True)
    assert (back.a, back.number) == (1, 7)
    assert kind_for(OneSlot(1)) == "Dataclass"
    assert round_trip(OneSlot(1), tmp) == OneSlot(1)


def test_dataclass_with_other_fields_now_is_a_payload_error(tmp_path: Path) -> None:
    (tmp_path / "data.json").write_text('{"a": 1}')
    name = "zen_mlmd.payloads.builtin.DataclassMaterializer"
    for data_type in (data_type_name(Frozen(1)), "builtins.int"):
        with pytest.raises(PayloadError, match="other fields"):
            read_payload(str(tmp_path), name, data_type)


def test_path_to_a_file_is_copied_and_read_as_a_copy(tmp: Path, tmp_path: Path) -> None:
    source = tmp_path / "model.onnx"
    source.write_bytes(b"1")
    assert kind_for(source) == "Path"
    assert default_registry().for_value(source).artifact_type == "File"
    back = round_trip(source, tmp)
    source.unlink()
    assert isinstance(back, Path)
    assert (back.name, back.read_bytes()) == ("model.onnx", b"1")
    assert not back.is_relative_to(tmp)
    back.write_bytes(b"mine to change")


def test_path_to_a_directory_is_copied_with_what_links_point_at(tmp: Path, tmp_path: Path) -> None:
    source = tmp_path / "model"
    (source / "sub").mkdir(parents=True)
    (source / "sub" / "a").write_bytes(b"1")
    (source / "b").symlink_to(source / "sub" / "a")
    (tmp_path / "link").symlink_to(source)
    for path in (source, tmp_path / "link"):
        back = round_trip(path, tmp)
        assert back.name == path.name
        assert (back / "sub" / "a").read_bytes() == (back / "b").read_bytes() == b"1"
        assert not (back / "b").is_symlink()


def test_a_path_with_dots_is_kept_under_the_name_of_what_it_means(
    tmp: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "source"
    (source / "sub").mkdir(parents=True)
    (source / "a").write_bytes(b"1")
    (tmp_path / "link").symlink_to(source / "sub")
    monkeypatch.chdir(source)
    for path in (source / "sub" / "..", Path("sub/.."), Path(), Path("."), tmp_path / "link" / ".."):  # noqa: PTH201
        back = round_trip(path, tmp)
        assert back.name == "source"
        assert (back / "a").read_bytes() == b"1"


def test_a_folder_that_the_artifact_store_lies_in_is_no_output(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"1")
    with pytest.raises(PayloadError, match="store itself lies in"):
        round_trip(tmp_path, tmp_path / "store")


@pytest.mark.parametrize("kind", ["nothing", "dangling", "link to directory", "fifo"])
def test_paths_that_cannot_be_kept_are_refused_and_not_pickled(tmp: Path, tmp_path: Path, kind: str) -> None:
    source = tmp_path / "x"
    if kind != "nothing":
        source.mkdir()
        (source / "ok").write_bytes(b"")
    if kind == "dangling":
        (source / "link").symlink_to(tmp_path / "no")
    elif kind == "link to directory":
        (source / "link").symlink_to(source)
    elif kind == "fifo":
        os.mkfifo(source / "fifo")
    with pytest.raises(PayloadError) as caught:
        round_trip(source, tmp)
    assert caught.value.hint


def test_copy_of_a_path_is_removed_when_the_process_ends_but_not_by_its_child(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"1")
    program = (
        "import os, sys, zen_mlmd.payloads as p\n"
        "name = 'zen_mlmd.payloads.builtin.PathMaterializer'\n"
        "path = p.read_payload(sys.argv[1], name, 'pathlib.PosixPath')\n"
        "child = os.fork()\n"
        "if not child: sys.exit()\n"
        "os.waitpid(child, 0)\n"
        "print(path, path.exists())"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": str(PROJECT)},
    )
    path, existed = done.stdout.split()
    assert existed == "True"
    assert not Path(path).parent.exists()


def test_pickle_is_refused_unless_allowed_and_nothing_of_it_runs(tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    payload = tmp_path / "p"
    payload.mkdir()
    (payload / "data.pkl").write_bytes(f"cos\nmkdir\n(S'{marker}'\ntR.".encode())
    name = "zen_mlmd.payloads.builtin.PickleMaterializer"
    with pytest.raises(UntrustedPickleError) as caught:
        read_payload(str(payload), name, "builtins.object")
    assert "allow_pickle=True" in caught.value.hint
    assert not marker.exists()
    read_payload(str(payload), name, "builtins.object", allow_pickle=True)
    assert marker.exists()
    (payload / "data.pkl").write_bytes(b"garbage")
    with pytest.raises(PayloadError, match="cannot read"):
        read_payload(str(payload), name, "builtins.object", allow_pickle=True)


def test_local_functions_and_classes_are_pickled_by_value(tmp: Path) -> None:
    class Local:
        n = 5

    n = 3

    def add(x: int) -> int:
        return x + n

    assert round_trip(add, tmp, allow_pickle=True)(4) == 7
    assert round_trip(Local(), tmp, allow_pickle=True).n == 5


def test_a_pickle_that_brings_its_classes_is_told_from_others(tmp_path: Path) -> None:
    class Local:
        pass

    class Kind(enum.Enum):
        A = 1

    for value, wanted in [(Local(), True), ([Kind.A], True), (Special(), False), (lambda: 1, False)]:
        PickleMaterializer().write(value, tmp_path)
        assert PickleMaterializer.brings_classes(tmp_path) is wanted


def test_what_cannot_be_pickled_has_no_materializer_and_leaves_nothing(tmp_path: Path) -> None:
    for value in (threading.Lock(), Unpicklable(), (x for x in [1])):
        with pytest.raises(NoMaterializerError, match="cannot be written") as caught:
            round_trip(value, tmp_path)
        assert caught.value.hint
    with pytest.raises(PayloadError, match=f"{tmp_path}/[0-9a-f]+: cannot be written: No space left"):
        round_trip(NoRoom(), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_registry_of_its_own_has_the_built_in_ones() -> None:
    assert isinstance(MaterializerRegistry().for_value(1), Materializer)
