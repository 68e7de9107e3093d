"""numpy, pandas and polars: exact, or passed on to pickle."""

from __future__ import annotations

import datetime as dt
import decimal
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import polars.testing
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from zen_mlmd.errors import MissingExtraError, PayloadError
from zen_mlmd.payloads import ArtifactStore, data_type_name, default_registry, read_payload

DTYPES = (
    hnp.boolean_dtypes()
    | hnp.integer_dtypes(endianness="=")
    | hnp.floating_dtypes(endianness="=", sizes=(32, 64))
    | hnp.datetime64_dtypes(endianness="=", max_period="s", min_period="ns")
)


def round_trip(value: object, tmp: Path, *, allow_pickle: bool = False) -> Any:
    store = ArtifactStore(tmp)
    materializer = default_registry().for_value(value)
    payload = store.write(store.new_uri(os.urandom(8).hex()), lambda to: materializer.write(value, to))
    return read_payload(payload.uri, materializer.name, data_type_name(value), allow_pickle=allow_pickle)


def kind_for(value: object) -> str:
    return type(default_registry().for_value(value)).__name__.removesuffix("Materializer")


def same_array(a: Any, b: Any) -> bool:
    return bool(
        type(a) is type(b) and a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
    )


@pytest.fixture(scope="module")
def tmp(tmp_path_factory: pytest.TempPathFactory) -> Path:
    # With what readers of parquet take for partitions and patterns when given a path.
    return tmp_path_factory.mktemp("payloads") / "key=value" / "[a]*"


@given(
    value=hnp.arrays(
        hnp.scalar_dtypes() | hnp.unicode_string_dtypes() | hnp.byte_string_dtypes() | hnp.array_dtypes(),
        hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4),
    )
)
@settings(deadline=None, max_examples=50)
def test_arrays_come_back_byte_by_byte(tmp: Path, value: Any) -> None:
    back = round_trip(value, tmp, allow_pickle=True)
    assert same_array(back, value)


def test_array_layouts_and_kinds(tmp: Path) -> None:
    arrays: list[Any] = [
        np.arange(6).reshape(2, 3).T,
        np.arange(10)[::3],
        np.array(5.0),
        np.array(["a\0", "b"]),
        np.array([], dtype=">f8"),
        np.array(["2026-01-01", "NaT"], dtype="M8[ns]"),
        np.zeros(2, dtype=[("a", "i4"), ("b", "S3")]),
    ]
    for value in arrays:
        assert kind_for(value) == "NumpyArray"
        assert default_registry().for_value(value).artifact_type == "Dataset"
        assert same_array(round_trip(value, tmp), value)


def test_arrays_that_npy_would_change_go_to_pickle(tmp: Path) -> None:
    arrays: list[Any] = [
        np.array([1, "a"], dtype=object),
        np.ma.masked_array([1, 2], [True, False]),
        np.rec.array([(1, 2.0)], dtype=[("a", int), ("b", float)]),
        np.zeros(1, dtype=[(f"field {i}", "f8") for i in range(1000)]),
        np.zeros(2, dtype=[("a", object)]),
        np.zeros(2, dtype=np.dtype("f8", metadata={"unit": "m"})),
    ]
    for value in arrays:
        assert kind_for(value) == "Pickle"
        assert type(round_trip(value, tmp, allow_pickle=True)) is type(value)


def test_npy_with_objects_is_never_unpickled(tmp_path: Path) -> None:
    np.save(tmp_path / "data.npy", np.array([object], dtype=object), allow_pickle=True)
    with pytest.raises(PayloadError, match="cannot read"):
        read_payload(str(tmp_path), "zen_mlmd.payloads.tables.NumpyArrayMaterializer", "numpy.ndarray")


@pytest.mark.parametrize(
    ("value", "kind", "artifact_type"),
    [
        (np.float64(0.1), "NumpyFloat", "NumberData"),
        (np.float32("nan"), "NumpyFloat", "NumberData"),
        (np.int8(-3), "NumpyInteger", "NumberData"),
        (np.bool_(True), "NumpyBoolean", "NumberData"),
        (np.complex64(1j), "NumpyScalar", "Artifact"),
        (np.datetime64("2026-01-01T00:00:00.1"), "NumpyScalar", "Artifact"),
        (np.str_("ü"), "NumpyScalar", "Artifact"),
        (np.array([(1, None)], dtype=[("a", "i4"), ("b", object)])[0], "Pickle", "Pickle"),
    ],
)
def test_numpy_scalars_stay_numpy_scalars(tmp: Path, value: Any, kind: str, artifact_type: str) -> None:
    assert kind_for(value) == kind
    assert default_registry().for_value(value).artifact_type == artifact_type
    back = round_trip(value, tmp, allow_pickle=True)
    assert type(back) is type(value)
    assert back.dtype == value.dtype
    assert repr(back) == repr(value)


def test_numpy_strings_that_an_array_would_cut_are_not_accepted() -> None:
    assert kind_for(np.str_("a\0")) == kind_for(np.bytes_(b"a\0")) == "Pickle"


@st.composite
def frames(draw: st.DrawFn) -> Any:
    rows = draw(st.integers(0, 4))
    names = draw(st.lists(st.text("abü ", min_size=1, max_size=3), min_size=1, max_size=3, unique=True))
    columns = {name: draw(hnp.arrays(draw(DTYPES), rows)) for name in names}
    texts = draw(st.lists(st.none() | st.text(st.characters(codec="utf-8")), min_size=rows, max_size=rows))
    columns["text"] = pd.Series(texts, dtype=draw(st.sampled_from([object, "string"]))).array
    index = draw(st.none() | st.just(pd.Index(range(3, 3 + rows), name="n")) | st.just(list("wxyz")[:rows]))
    return pd.DataFrame(columns, index=index)


@given(value=frames())
@settings(deadline=None, max_examples=50)
def test_frames_come_back_exactly(tmp: Path, value: Any) -> None:
    back = round_trip(value, tmp, allow_pickle=True)
    pd.testing.assert_frame_equal(back, value, check_exact=True)
    for a, b in zip(back["text"], value["text"], strict=True):
        assert type(a) is type(b)


@pytest.mark.parametrize(
    "value",
    [
        pd.DataFrame({"a": [1, 2], "b": [0.5, np.nan]}),
        pd.DataFrame({"a": [1, 2]}, index=pd.RangeIndex(5, 15, 5, name="q")),
        pd.DataFrame({"a": [1, 2]}, index=[3, 3]),
        pd.DataFrame(np.arange(4).reshape(2, 2)),
        pd.DataFrame({"a": ["x", None]}),
        pd.DataFrame({"a": pd.to_datetime(["2026-01-01T00:00:00.000000001", "NaT"])}),
        pd.DataFrame({"a": pd.to_datetime(["2026-01-01"]).tz_localize("Europe/Berlin")}),
        pd.DataFrame({"a": pd.Categorical(["x", "y"], categories=["y", "x", "z"], ordered=True)}),
        pd.DataFrame({"a": pd.array([1, None], dtype="Int8"), "b": pd.array([True, None], dtype="boolean")}),
        pd.DataFrame({"a": [1]}, index=pd.MultiIndex.from_tuples([(1, "x")], names=["i", None])),
        pd.DataFrame({"a": pd.to_timedelta([1, None], unit="s")}),
        pd.DataFrame({"a": [b"1", None]}),
        pd.DataFrame(index=["a", "b"]),
        pd.DataFrame({"a": pd.Series([], dtype="float32")}),
    ],
)
def test_frames_that_parquet_keeps(tmp: Path, value: Any) -> None:
    value.attrs["unit"] = "m"
    assert kind_for(value) == "PandasFrame"
    back = round_trip(value, tmp)
    pd.testing.assert_frame_equal(back, value, check_exact=True)
    assert back.attrs == {"unit": "m"}


@pytest.mark.parametrize(
    "value",
    [
        pd.DataFrame([[1, 2]], columns=["a", "a"]),
        pd.DataFrame({"a": [1j]}),
        pd.DataFrame({"a": [[1], [2]]}),
        pd.DataFrame({"a": [(1, 2)]}),
        pd.DataFrame({"a": [{"x": 1}, {"y": 2}]}),
        pd.DataFrame({"a": [{"x": 1}]}),
        pd.DataFrame({"a": [1, "x"]}, dtype=object),
        pd.DataFrame({"a": [None, 1.0]}, dtype=object),
        pd.DataFrame({"a": [np.nan, None, "x"]}, dtype=object),
        pd.DataFrame({"a": [1, True]}, dtype=object),
        pd.DataFrame({"a": [decimal.Decimal("1.0"), decimal.Decimal("1.00")]}),
        pd.DataFrame({"a": [object]}),
        pd.DataFrame({"a": pd.arrays.SparseArray([0, 1])}),
        pd.DataFrame({"a": [1.0, 2.0]}, index=pd.date_range("2026", periods=2)),
        pd.DataFrame({"a": [1]}, index=pd.Index([(1, 2)], tupleize_cols=False)),
        pd.DataFrame([[1, 2]], columns=["1", 1]),
        pd.DataFrame(index=pd.RangeIndex(3)),
    ],
)
def test_frames_that_parquet_would_change_go_to_pickle(tmp: Path, value: Any) -> None:
    assert kind_for(value) == "Pickle"
    back = round_trip(value, tmp, allow_pickle=True)
    pd.testing.assert_frame_equal(back, value, check_exact=True)


def test_frame_subclasses_odd_attributes_and_flags_go_to_pickle() -> None:
    class Mine(pd.DataFrame):
        pass

    odd = pd.DataFrame({"a": [1]})
    odd.attrs["x"] = (1, 2)
    assert kind_for(Mine({"a": [1]})) == "Pickle"
    assert kind_for(odd) == "Pickle"
    assert kind_for(pd.DataFrame({"a": [1]}).set_flags(allows_duplicate_labels=False)) == "Pickle"


@pytest.mark.parametrize("name", [None, "n", "values", 3, True, 0.5])
def test_series_come_back_with_name_and_index(tmp: Path, name: Any) -> None:
    for index in (None, ["k", "l"], pd.Index([7, 8], name="i")):
        value = pd.Series([1.5, np.nan], index=index, name=name)
        assert kind_for(value) == "PandasSeries"
        back = round_trip(value, tmp)
        pd.testing.assert_series_equal(back, value, check_exact=True)
        assert type(back.name) is type(name)


def test_series_that_parquet_would_change_go_to_pickle() -> None:
    odd = pd.Series([1])
    odd.attrs["x"] = 1
    values: list[Any] = [
        pd.Series([1], name=("a", 1)),
        pd.Series([1j]),
        pd.Series([1], index=pd.Index([1], name="values")).rename(np.int64(1)),
        odd,
    ]
    for value in values:
        assert kind_for(value) == "Pickle"


@pytest.mark.parametrize(
    "value",
    [
        pl.DataFrame({"a": [1, None], "b": ["x", None], "c": [0.5, float("nan")], "d": [True, None]}),
        pl.DataFrame(),
        pl.DataFrame({"a": []}, schema={"a": pl.Int8}),
        pl.DataFrame({"a": pl.Series(["x", "y"], dtype=pl.Categorical)}),
        pl.DataFrame({"a": pl.Series(["x"], dtype=pl.Enum(["z", "x"]))}),
        pl.DataFrame({"a": [[1, 2], None], "b": [{"x": 1}, {"x": None}]}),
        pl.DataFrame({"a": [decimal.Decimal("1.50")]}),
        pl.DataFrame(
            {
                "a": [dt.datetime(2026, 1, 1, tzinfo=dt.timezone.utc)],
                "b": [dt.timedelta(1)],
                "c": [dt.time(1)],
                "d": [None],
            }
        ),
        pl.DataFrame({"a": [b"1"]}),
    ],
)
def test_polars_frames_come_back(tmp: Path, value: Any) -> None:
    assert kind_for(value) == "PolarsFrame"
    assert default_registry().for_value(value).artifact_type == "Dataset"
    back = round_trip(value, tmp)
    assert back.schema == value.schema
    pl.testing.assert_frame_equal(back, value, check_exact=True)


def test_polars_series_come_back_with_their_name(tmp: Path) -> None:
    for name in ("", "q"):
        value = pl.Series(name, [1, None], dtype=pl.UInt16)
        assert kind_for(value) == "PolarsSeries"
        back = round_trip(value, tmp)
        pl.testing.assert_series_equal(back, value, check_exact=True)
        assert back.name == name


def test_polars_objects_lazy_frames_and_empty_structs_go_to_pickle() -> None:
    assert kind_for(pl.DataFrame({"a": [1]}).lazy()) == "Pickle"
    assert kind_for(pl.DataFrame({"a": pl.Series([object()], dtype=pl.Object)})) == "Pickle"
    assert kind_for(pl.Series([object()], dtype=pl.Object)) == "Pickle"
    assert kind_for(pl.DataFrame({"a": [{}]})) == "Pickle"


def test_damaged_tables_are_payload_errors(tmp_path: Path) -> None:
    for kind, name in [
        ("NumpyArray", "data.npy"),
        ("PandasFrame", "data.parquet"),
        ("PolarsFrame", "data.parquet"),
    ]:
        (tmp_path / name).write_bytes(b"garbage")
        with pytest.raises(PayloadError, match="cannot read"):
            read_payload(str(tmp_path), f"zen_mlmd.payloads.tables.{kind}Materializer", "x.Y")


@pytest.mark.parametrize(
    ("package", "kind", "extra"),
    [
        ("numpy", "NumpyArray", "numpy"),
        ("pandas", "PandasFrame", "pandas"),
        ("pyarrow", "PandasFrame", "pandas"),
        ("polars", "PolarsFrame", "polars"),
    ],
)
def test_missing_package_names_the_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, package: str, kind: str, extra: str
) -> None:
    (tmp_path / "data.parquet").write_bytes(b"")
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingExtraError) as caught:
        read_payload(str(tmp_path), f"zen_mlmd.payloads.tables.{kind}Materializer", "x.Y")
    assert caught.value.hint == f"pip install 'zen-mlmd[{extra}]'"


def test_frame_without_pyarrow_is_an_error_and_not_silently_a_pickle(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingExtraError, match="pyarrow"):
        default_registry().for_value(pd.DataFrame({"a": [1]}))
