"""Values come back from each database as they were given, to the last bit and of the same type."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

import zen_mlmd as zm
from tests.integration.conftest import stores, url_of
from zen_mlmd.errors import InvalidValueError, RejectedRequestError
from zen_mlmd.store import Store

SIX_DECIMALS = st.builds(
    lambda whole, part: float(f"{whole}.{part:06d}"), st.integers(-(10**15), 10**15), st.integers(0, 999_999)
)
FLOATS = st.floats() | SIX_DECIMALS | st.integers(-(10**17), 10**17).map(float)
TEXTS = st.text(st.characters(exclude_categories=())) | st.sampled_from(
    [
        "__MLMD_NULL__",
        "\0",
        "a\0b",
        "\\",
        "'\"`;--",
        "'); DROP TABLE Artifact; --",
        "😀é\ud800",
        "x" * 100_000,
    ]
)
VALUES = FLOATS | st.integers() | st.integers(-(2**33), 2**33) | TEXTS | st.booleans() | st.none()
ODD_FLOATS = [
    *(-0.0, 0.0, 0.1, 1 / 3, 1e-6, -1e-6, 1e-7, 5e-324, 1e308, math.inf, -math.inf, math.nan),
    *(1795646920.123457, 1234567890.123456, 123456789012.3456, 999999999999999.1, 99999999999999.98),
    *(4503599627370.4966, 281474976710655.94, 562949953421311.9, 1e15 - 0.125, 1e14 + 0.5, 123456789.123457),
]

quick = settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], database=None
)


@pytest.fixture(params=stores("sqlite", "sqlite-sql", "mysql", "mysql-native", "postgresql"))
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    with zm.open_store(url_of(request, request.param, tmp_path)) as opened:
        yield opened


def same(a: Any, b: Any) -> bool:
    return type(a) is type(b) and (repr(a) == repr(b) if isinstance(a, float) else bool(a == b))


@quick
@example(values=[*ODD_FLOATS, 2**31, -(2**31) - 1, 2**63])
@given(values=st.lists(VALUES, min_size=1, max_size=40))
def test_values_come_back_exactly(store: Store, values: list[Any]) -> None:
    named = {f"k{number}": value for number, value in enumerate(values)}
    with store.record_run("p", parameters=named, properties=named) as run:
        with run.step("s", parameters=named, properties=named) as step:
            made = step.log_output("x", uri="mem://x", properties=named)
        run.log_parameters({"late": values})
    found = store.get_run(run.name)
    places = [found.parameters, found.properties, found["s"].parameters, found["s"].record.properties]
    for place in (*places, store.get_artifact(made.id).properties):
        for key, value in named.items():
            assert same(place[key], value), (key, value, place[key])
    assert all(map(same, found.parameters["late"], values))


@quick
@example(name="__MLMD_NULL__")
@given(name=TEXTS)
def test_names_come_back_exactly_or_are_refused(store: Store, name: str) -> None:
    with store.record_run("p") as run, run.step("s") as step:
        for log in (step.log_properties, step.log_parameters, step.log_metrics, run.log_metrics):
            with contextlib.suppress(InvalidValueError, RejectedRequestError):
                log({name: 1})
    found = store.get_run(run.name)
    assert found["s"].status is zm.Status.COMPLETED
    for place in (found["s"].record.properties, found["s"].parameters, found["s"].metrics, found.metrics):
        assert set(place) <= {name}


def test_numpys_scalars_are_plain_for_other_clients(store: Store) -> None:
    scalars = {"f": np.float64(0.91), "i": np.int64(3), "b": np.bool_(True), "s": np.str_("a")}
    with store.record_run("p") as run, run.step("s") as step:
        made = step.log_output(
            "x", uri="mem://x", type="Examples", properties={**scalars, "span": np.int32(7)}
        )
    (node,) = store.loader.client.artifacts([made.id]).values()
    assert {key: value.WhichOneof("value") for key, value in node.custom_properties.items()} == {
        "f": "double_value",
        "i": "int_value",
        "b": "bool_value",
        "s": "string_value",
    }
    assert node.properties["span"].int_value == 7
    assert store.get_artifact(made.id).properties == {"f": 0.91, "i": 3, "b": True, "s": "a", "span": 7}


@pytest.mark.parametrize(
    "time",
    [
        np.datetime64("2026-11-26T00:00:00.000000000"),
        np.datetime64("2026-11-26"),
        np.datetime64("NaT", "ns"),
        np.timedelta64(5, "ns"),
        np.complex128(1j),
    ],
)
def test_numpys_times_are_refused(store: Store, time: Any) -> None:
    with store.record_run("p") as run, run.step("s") as step:
        for log in (step.log_parameters, step.log_properties, step.log_metrics, run.log_metrics):
            with pytest.raises(InvalidValueError):
                log({"t": time})
