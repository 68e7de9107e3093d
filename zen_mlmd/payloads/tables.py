"""The materializers of numpy, pandas and polars, none of which is imported before it is needed.

Whatever npy or parquet files would not give back exactly is not accepted, and goes to pickle.
"""

from __future__ import annotations

import datetime as dt
import io
import json
from pathlib import Path
from typing import Any, ClassVar

from zen_mlmd.payloads.base import Materializer, optional
from zen_mlmd.payloads.builtin import is_plain_json

_NPY = "data.npy"
_PARQUET = "data.parquet"
_MAX_HEADER = 9000  # numpy.load refuses a header of more than 10,000 bytes
_CELLS = frozenset({type(None), bool, int, float, str, bytes, dt.date, dt.time})


class NumpyArrayMaterializer(Materializer):
    """numpy arrays without Python objects in them: `data.npy`."""

    types = ("numpy.ndarray",)
    artifact_type = "Dataset"

    def accepts(self, value: Any) -> bool:
        """See `Materializer.accepts`; subclasses of ndarray are not."""
        return type(value) is optional("numpy", extra="numpy").ndarray and _npy_keeps(value.dtype)

    def write(self, value: Any, directory: Path) -> None:
        """See `Materializer.write`."""
        _save_npy(value, directory)

    def read(self, directory: Path, data_type: type) -> Any:  # noqa: ARG002
        """See `Materializer.read`."""
        return optional("numpy", extra="numpy").load(directory / _NPY, allow_pickle=False)


class NumpyScalarMaterializer(Materializer):
    """numpy scalars: `data.npy`, an array of no dimension."""

    types: ClassVar[tuple[type | str, ...]] = ("numpy.generic",)

    def accepts(self, value: Any) -> bool:
        """See `Materializer.accepts`; an array drops NUL characters at the end of a string."""
        if not _npy_keeps(value.dtype):
            return False
        back = optional("numpy", extra="numpy").asarray(value)[()]
        return type(back) is type(value) and back.tobytes() == value.tobytes()

    def write(self, value: Any, directory: Path) -> None:
        """See `Materializer.write`."""
        _save_npy(optional("numpy", extra="numpy").asarray(value), directory)

    def read(self, directory: Path, data_type: type) -> Any:  # noqa: ARG002
        """See `Materializer.read`."""
        return optional("numpy", extra="numpy").load(directory / _NPY, allow_pickle=False)[()]


class NumpyBooleanMaterializer(NumpyScalarMaterializer):
    """`numpy.bool_`, which numpy 2 calls `numpy.bool`."""

    types = ("numpy.bool_", "numpy.bool")
    artifact_type = "NumberData"


class NumpyIntegerMaterializer(NumpyScalarMaterializer):
    """numpy integers of any width."""

    types = ("numpy.integer",)
    artifact_type = "NumberData"


class NumpyFloatMaterializer(NumpyScalarMaterializer):
    """numpy floats of any width."""

    types = ("numpy.floating",)
    artifact_type = "NumberData"


def _npy_keeps(dtype: Any) -> bool:
    """Return whether an npy file's header names this very dtype (it does not for bfloat16, say)."""
    if dtype.hasobject or dtype.metadata:
        return False
    form = optional("numpy.lib.format", extra="numpy")
    header = form.dtype_to_descr(dtype)
    return len(ascii(header)) <= _MAX_HEADER and bool(form.descr_to_dtype(header) == dtype)


def _save_npy(array: Any, directory: Path) -> None:
    form = optional("numpy.lib.format", extra="numpy")
    with (directory / _NPY).open("wb") as stream:
        try:
            form.write_array(stream, array, version=(1, 0), allow_pickle=False)
        except ValueError:  # a field's name is not Latin-1; `numpy.save` would warn of the newer format
            form.write_array(stream, array, version=(3, 0), allow_pickle=False)


class PandasFrameMaterializer(Materializer):
    """pandas frames, with index, names and dtypes: `data.parquet`.

    Columns that are a RangeIndex come back as the equal Index of int64.
    """

    types = ("pandas.DataFrame",)
    artifact_type = "Dataset"

    def accepts(self, value: Any) -> bool:
        """See `Materializer.accepts`; writes and reads it in memory unless all columns are numbers."""
        return type(value) is optional("pandas", extra="pandas").DataFrame and _pandas_keeps(value)

    def write(self, value: Any, directory: Path) -> None:
        """See `Materializer.write`."""
        optional("pyarrow", extra="pandas")
        value.to_parquet(directory / _PARQUET, engine="pyarrow")

    def read(self, directory: Path, data_type: type) -> Any:  # noqa: ARG002
        """See `Materializer.read`."""
        return _read_pandas(directory)


class PandasSeriesMaterializer(Materializer):
    """pandas series: `data.parquet` with one column `values`, and the series' name in `name.json`."""

    types = ("pandas.Series",)
    artifact_type = "Dataset"

    def accepts(self, value: Any) -> bool:
        """See `Materializer.accepts`."""
        return (
            type(value) is optional("pandas", extra="pandas").Series
            and is_plain_json(value.name)
            and not value.attrs
            and _pandas_keeps(value.to_frame("values"))
        )

    def write(self, value: Any, directory: Path) -> None:
        """See `Materializer.write`."""
        optional("pyarrow", extra="pandas")
        value.to_frame("values").to_parquet(directory / _PARQUET, engine="pyarrow")
        (directory / "name.json").write_text(json.dumps(value.name), encoding="ascii")

    def read(self, directory: Path, data_type: type) -> Any:  # noqa: ARG002
        """See `Materializer.read`."""
        name = json.loads((directory / "name.json").read_text(encoding="ascii"))
        return _read_pandas(directory)["values"].rename(name)


def _read_pandas(directory: Path) -> Any:
    optional("pyarrow", extra="pandas")
    pandas = optional("pandas", extra="pandas")
    # A stream: given a path, pyarrow takes a directory `key=value` above it for another column.
    with (directory / _PARQUET).open("rb") as stream:
        return pandas.read_parquet(stream, engine="pyarrow")


def _pandas_keeps(frame: Any) -> bool:
    pandas = optional("pandas", extra="pandas")
    optional("pyarrow", extra="pandas")
    numpy_dtype = optional("numpy", extra="numpy").dtype
    if not is_plain_json(frame.attrs):
        return False
    dtypes = [*frame.dtypes, frame.index.dtype]
    numbers = all(isinstance(dtype, numpy_dtype) and dtype.kind in "biuf" for dtype in dtypes)
    # Parquet keeps all numbers; for the rest, and for rows without columns, it depends on the values.
    sample = frame.iloc[:0] if numbers and frame.shape[1] else frame
    buffer = io.BytesIO()
    try:
        sample.to_parquet(buffer, engine="pyarrow")
        buffer.seek(0)
        back = pandas.read_parquet(buffer, engine="pyarrow")
        pandas.testing.assert_frame_equal(back, sample, check_exact=True)
    except Exception:  # noqa: BLE001 - pyarrow and pandas refuse in many ways; pickle is next
        return False
    return bool(back.attrs == frame.attrs and all(map(_same_cells, _columns(back), _columns(sample))))


def _columns(frame: Any) -> list[Any]:
    levels = [frame.index.get_level_values(i) for i in range(frame.index.nlevels)]
    return [*levels, *(frame.iloc[:, i] for i in range(frame.shape[1]))]


def _same_cells(left: Any, right: Any) -> bool:
    """Compare columns of Python objects one by one: pandas takes None for NaN and True for 1."""
    dtype = right.dtype
    if not (isinstance(dtype, optional("numpy", extra="numpy").dtype) and dtype.kind == "O"):
        return True
    return all(
        type(a) in _CELLS and type(a) is type(b) and repr(a) == repr(b)
        for a, b in zip(left, right, strict=True)
    )


class PolarsFrameMaterializer(Materializer):
    """polars frames (not lazy ones), with their schema: `data.parquet`."""

    types = ("polars.DataFrame",)
    artifact_type = "Dataset"

    def accepts(self, value: Any) -> bool:
        """See `Materializer.accepts`; writes and reads it in memory unless all is numbers and text."""
        return type(value) is optional("polars", extra="polars").DataFrame and _polars_keeps(value)

    def write(self, value: Any, directory: Path) -> None:
        """See `Materializer.write`."""
        value.write_parquet(directory / _PARQUET)

    def read(self, directory: Path, data_type: type) -> Any:  # noqa: ARG002
        """See `Materializer.read`."""
        return _read_polars(directory)


class PolarsSeriesMaterializer(Materializer):
    """polars series: `data.parquet` with one column that has the series' name."""

    types = ("polars.Series",)
    artifact_type = "Dataset"

    def accepts(self, value: Any) -> bool:
        """See `Materializer.accepts`."""
        return type(value) is optional("polars", extra="polars").Series and _polars_keeps(value.to_frame())

    def write(self, value: Any, directory: Path) -> None:
        """See `Materializer.write`."""
        value.to_frame().write_parquet(directory / _PARQUET)

    def read(self, directory: Path, data_type: type) -> Any:  # noqa: ARG002
        """See `Materializer.read`."""
        return _read_polars(directory).to_series(0)


def _read_polars(directory: Path) -> Any:
    polars = optional("polars", extra="polars")
    # A stream: given a path, polars takes `*` and `[` in it for a pattern.
    with (directory / _PARQUET).open("rb") as stream:
        return polars.read_parquet(stream)


def _polars_keeps(frame: Any) -> bool:
    polars = optional("polars", extra="polars")
    dtypes = frame.schema.dtypes()
    if "Object" in str(dtypes):  # of which parquet knows nothing, and polars panics
        return False
    plain = all(
        dtype.is_integer() or dtype.is_float() or dtype in (polars.Boolean, polars.String) for dtype in dtypes
    )
    sample = frame.clear() if plain and dtypes else frame
    buffer = io.BytesIO()
    try:
        sample.write_parquet(buffer)
        buffer.seek(0)
        back = polars.read_parquet(buffer)
    except Exception:  # noqa: BLE001 - polars refuses in many ways; pickle is next
        return False
    return bool(back.schema == sample.schema and back.shape == sample.shape and back.equals(sample))
