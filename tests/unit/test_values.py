"""Values come back exactly: equal, of the same type, to the last bit."""

from __future__ import annotations

import datetime as dt
import decimal
import json
import math
import pathlib
import uuid
import zoneinfo
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from ml_metadata.proto import metadata_store_pb2 as mlmd

from zen_mlmd.dialects.properties import JSON_PREFIX, from_property, to_property
from zen_mlmd.errors import InvalidValueError
from zen_mlmd.values import dumps, loads

texts = st.text(st.characters(exclude_categories=())) | st.sampled_from(
    ["__MLMD_NULL__", JSON_PREFIX + "1", "mlmd-struct::", "\0", "\ud83d\ude00", "😀", "a'b\"c\\d", "$int"]
)
scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | texts
    | st.binary()
    | st.datetimes(timezones=st.none() | st.just(dt.timezone.utc))
    | st.dates()
    | st.times()
    | st.timedeltas()
    | st.uuids()
    | st.decimals(allow_nan=False)
)
keys = texts | st.integers() | st.tuples(texts, st.integers())
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner)
        | st.dictionaries(keys, inner, max_size=4)
        | st.lists(inner, max_size=3).map(tuple)
        | st.sets(st.integers() | texts)
        | st.frozensets(st.integers())
    ),
    max_leaves=12,
)


def same(a: Any, b: Any) -> bool:
    if type(a) is not type(b):
        return False
    if isinstance(a, float):
        return repr(a) == repr(b)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, dict):
        return same(list(a.items()), list(b.items()))
    return bool(a == b)


@given(values)
def test_json_gives_back_what_was_given(value: Any) -> None:
    text = dumps(value)
    assert text.isascii()
    assert "\n" not in text
    assert "\0" not in text
    assert same(loads(text), value)


@given(values)
def test_a_property_gives_back_what_was_given(value: Any) -> None:
    assert same(from_property(to_property(value)), value)


@given(values)
def test_a_property_survives_what_mlmd_does_to_its_columns(value: Any) -> None:
    held = to_property(value)
    kind = held.WhichOneof("value")
    if kind == "double_value":
        assert repr(float(f"{held.double_value:.6f}")) == repr(held.double_value)
        assert repr(float(f"{held.double_value:.15g}")) == repr(held.double_value) != "-0.0"
    elif kind == "int_value":
        assert -(2**31) <= held.int_value < 2**31
    elif kind == "string_value":
        assert "\0" not in held.string_value
        assert held.string_value != "__MLMD_NULL__"


@pytest.mark.parametrize(
    ("value", "kind"),
    [(3, "int_value"), (0.91, "double_value"), ("a", "string_value"), (True, "bool_value")],
)
def test_plain_values_stay_plain_for_other_clients(value: Any, kind: str) -> None:
    held = to_property(value)
    assert held.WhichOneof("value") == kind
    assert getattr(held, kind) == value


@pytest.mark.parametrize(
    "value",
    [1e-7, 1 / 3, math.nan, math.inf, -0.0, 1e300, 2**31, 1795646920.123457, "zen_mlmd:json:x"],
)
def test_what_mlmd_would_change_is_kept_as_text(value: Any) -> None:
    held = to_property(value)
    assert held.string_value.startswith(JSON_PREFIX)
    assert same(from_property(held), value)


def test_paths_numpy_scalars_and_huge_integers() -> None:
    assert loads(dumps(pathlib.Path("/a/b"))) == pathlib.Path("/a/b")
    assert type(loads(dumps(pathlib.PurePosixPath("a")))) is pathlib.PurePosixPath
    assert same(loads(dumps(np.float64(0.1))), 0.1)
    assert same(loads(dumps(np.int64(7))), 7)
    assert loads(dumps(-(10**9000))) == -(10**9000)
    assert loads(dumps(dt.datetime(2026, 1, 1, fold=1))).fold == 1  # noqa: DTZ001


class Text(str):
    __slots__ = ()


@pytest.mark.parametrize(
    "value",
    [object(), {"a": [1, object()]}, Text("a"), np.arange(3), 1j, lambda: 1],
)
def test_other_types_are_refused_by_name_and_without_their_content(value: Any) -> None:
    with pytest.raises(InvalidValueError, match=r"^\[ZM102\] depth") as caught:
        dumps(value, path="depth")
    assert "artifact" in caught.value.hint


def test_time_zones_with_rules_are_refused() -> None:
    at = dt.datetime(2026, 1, 1, tzinfo=zoneinfo.ZoneInfo("Europe/Berlin"))
    with pytest.raises(InvalidValueError, match="fixed offset"):
        dumps(at)


def test_endless_nesting_is_refused() -> None:
    circle: list[Any] = []
    circle.append(circle)
    with pytest.raises(InvalidValueError, match="contains itself"):
        dumps(circle)


@pytest.mark.parametrize(
    "text", ["{", '{"$int": "xyz"}', '{"$bytes": "*"}', '{"$tuple": 1}', '{"$datetime": 3}', "[" * 100_000]
)
def test_damaged_text_is_our_error(text: str) -> None:
    with pytest.raises(InvalidValueError, match="damaged"):
        loads(text)


def test_properties_of_other_writers() -> None:
    assert from_property(mlmd.Value()) is None
    assert from_property(mlmd.Value(string_value=JSON_PREFIX + "{")) == JSON_PREFIX + "{"
    struct = mlmd.Value()
    struct.struct_value.update({"a": [1, "b"]})
    assert from_property(struct) == {"a": [1.0, "b"]}
    assert json.loads(dumps({"a": 1})) == {"a": 1}


def test_a_decimal_keeps_its_digits() -> None:
    assert str(loads(dumps(decimal.Decimal("1.10")))) == "1.10"
    assert loads(dumps(uuid.UUID(int=5))) == uuid.UUID(int=5)
