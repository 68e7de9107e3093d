"""A value comes back as it was, or is refused by its property's name; `doctor --fix` makes room for more."""

from __future__ import annotations

import base64
import math
import random
import struct
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import sqlalchemy as sa
from ml_metadata.proto import metadata_store_pb2 as mlmd
from ml_metadata.proto import metadata_store_service_pb2 as rpc

from tests.sql.places import Place
from tests.sql.twins import database_of
from zen_mlmd.errors import RejectedRequestError
from zen_mlmd.service.sql.limits import exact_collation, folds_blanks, folds_case
from zen_mlmd.service.sql.mend import mend
from zen_mlmd.service.sql.service import SqlService

MYSQL = pytest.param("mysql", marks=pytest.mark.mysql)
POSTGRESQL = pytest.param("postgresql", marks=pytest.mark.postgresql)

DOUBLES = (
    *(1 / 3, 1e-7, 5e-324, 2.2250738585072014e-308, 1.7976931348623157e308, -1.7976931348623157e308),
    *(123456789.123456789, 0.1 + 0.2, 2.0**53, -1.0, 0.0, 4.9406564584124654e-310),
)
WORDS = (
    "",
    " ",
    "trailing ",
    "l'été \\ \" \n \r \x1a % _",
    "\N{PILE OF POO}\U0010ffff",
    "\xc3\xa9\xe2\u201a\xac",
    "\x80\x9f\xa0ÿ",
)


class Opened:
    """A service on a place, with a type for everything."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self.service = SqlService(database_of(place))
        kinds = {"int": mlmd.INT, "double": mlmd.DOUBLE, "string": mlmd.STRING, "proto": mlmd.PROTO}
        made = rpc.PutArtifactTypeRequest(
            artifact_type=mlmd.ArtifactType(name="T", properties=kinds), all_fields_match=True
        )
        self.type_id = self.service.call("PutArtifactType", made).type_id

    def put(self, **fields: Any) -> mlmd.Artifact:
        """Write an artifact with these fields, or properties; return it as it is read."""
        node = mlmd.Artifact(type_id=self.type_id)
        for name, value in fields.items():
            if name in ("name", "uri", "external_id"):
                setattr(node, name, value)
            else:
                kind = {int: "int_value", float: "double_value", str: "string_value"}[type(value)]
                setattr(node.custom_properties[name], kind, value)
        made = self.service.call("PutArtifacts", rpc.PutArtifactsRequest(artifacts=[node]))
        return self.get(made.artifact_ids[0])

    def get(self, identity: int) -> mlmd.Artifact:
        asked = rpc.GetArtifactsByIDRequest(artifact_ids=[identity])
        return self.service.call("GetArtifactsByID", asked).artifacts[0]


@pytest.fixture
def opened(place: Place) -> Iterator[Opened]:
    """A service on each kind of database."""
    found = Opened(place)
    yield found
    found.service.close()


def _widened(opened: Opened) -> None:
    assert opened.place.with_connection(lambda connection: mend(connection, "here")) > 0
    opened.service.close()


def _bits(value: float) -> bytes:
    return struct.pack("<d", value)


def test_doubles_are_kept_to_the_last_bit(opened: Opened) -> None:
    node = opened.put(**{f"d{place}": value for place, value in enumerate(DOUBLES)})
    found = [node.custom_properties[f"d{place}"].double_value for place in range(len(DOUBLES))]
    assert [_bits(each) for each in found] == [_bits(each) for each in DOUBLES]


def test_the_sign_of_zero_is_kept_or_refused_by_name(opened: Opened) -> None:
    """SQLite and MariaDB cannot store it."""
    if opened.place.dialect != "postgresql":
        with pytest.raises(RejectedRequestError, match=r"property 'zero' of the artifact is -0\.0"):
            opened.put(zero=-0.0)
        return
    check_signed_zeros(opened)


def check_signed_zeros(opened: Opened) -> None:
    """Assert that -0.0 is stored as it is, and told from 0.0 by a change."""
    node = opened.put(zero=-0.0, other=0.0)
    for sign in (-1, 1, -1):
        value = math.copysign(0.0, sign)
        node.custom_properties["zero"].double_value = value
        opened.service.call("PutArtifacts", rpc.PutArtifactsRequest(artifacts=[node]))
        node = opened.get(node.id)
        assert _bits(node.custom_properties["zero"].double_value) == _bits(value)
        assert _bits(node.custom_properties["other"].double_value) == _bits(0.0)


def test_texts_come_back_as_they_were(opened: Opened) -> None:
    node = opened.put(**{f"s{place}": text for place, text in enumerate(WORDS)}, uri=WORDS[3], name=WORDS[4])
    assert [node.custom_properties[f"s{place}"].string_value for place in range(len(WORDS))] == list(WORDS)
    assert (node.uri, node.name) == (WORDS[3], WORDS[4])


def test_numbers_beyond_32_bits_fit_or_are_refused_by_name(opened: Opened) -> None:
    values = {"small": -(2**31), "large": 2**31 - 1}
    assert {name: each.int_value for name, each in opened.put(**values).custom_properties.items()} == values
    if opened.place.dialect != "sqlite":
        for value in (2**31, -(2**31) - 1):
            with pytest.raises(
                RejectedRequestError, match="property 'rows' of the artifact does not"
            ) as caught:
                opened.put(rows=value)
            assert "zen-mlmd doctor --fix" in caught.value.hint
        _widened(opened)
    for value in (2**31, 2**63 - 1, -(2**63)):
        assert opened.put(rows=value).custom_properties["rows"].int_value == value


def test_names_fit_or_are_refused_by_name(opened: Opened) -> None:
    fields = ("name", "external_id", "a property's name")

    def put(field: str, name: str) -> None:
        if field in ("name", "external_id"):
            assert getattr(opened.put(**{field: name}), field) == name
        else:
            assert list(opened.put(**{name: 1}).custom_properties) == [name]

    letters = ("n", "é", "\N{SNOWMAN}")
    sizes = [len(each.encode()) if opened.place.dialect == "mysql" else 1 for each in letters]
    for letter, size in zip(letters, sizes, strict=True):
        for field in fields:
            put(field, letter * (255 // size))
            if opened.place.dialect != "sqlite":
                with pytest.raises(RejectedRequestError, match=field) as caught:
                    put(field, letter * (255 // size + 1))
                assert "doctor --fix" in caught.value.hint
    if opened.place.dialect != "sqlite":
        _widened(opened)
    for letter, size in zip(letters, sizes, strict=True):
        for field in fields:
            put(field, letter * (255 // size + 1))
            put(field, letter * (500 // size))


@pytest.mark.parametrize("new_place", [MYSQL], indirect=True)
def test_on_mysql_texts_are_measured_as_they_are_stored(opened: Opened) -> None:
    limits = opened.service.limits
    every = "".join(map(chr, range(1, 0x250))) + "\N{SNOWMAN}\N{PILE OF POO}"
    opened.put(uri=every)
    lengths = opened.place.with_connection(
        lambda connection: connection.scalar(sa.text("SELECT length(uri) FROM Artifact"))
    )
    assert limits.stored(every) == lengths
    assert len(every.encode()) < lengths
    fits = "é" * (65_535 // 4)
    assert opened.put(uri=fits).uri == fits
    with pytest.raises(RejectedRequestError, match=r"the artifact's uri has 65536 bytes, and .* holds 65535"):
        opened.put(uri=f"{fits}é")
    _widened(opened)
    assert opened.put(uri="é" * 70_000).uri == "é" * 70_000


@pytest.mark.parametrize("new_place", [MYSQL], indirect=True)
def test_on_mysql_strings_up_to_what_the_server_takes_fit(opened: Opened) -> None:
    packet = opened.place.with_connection(
        lambda connection: connection.scalar(sa.text("SELECT @@max_allowed_packet"))
    )
    fits = "x" * (min(packet, 2**24) - 2**17)
    assert opened.put(long=fits).custom_properties["long"].string_value == fits
    with pytest.raises(
        RejectedRequestError, match=r"property 'long' of the artifact has .* max_allowed_packet"
    ):
        opened.put(long="'" * (packet // 2))
    with pytest.raises(
        RejectedRequestError, match=r"property 'long' of the artifact has .* column holds 16777215"
    ):
        opened.put(long="é" * (2**24 // 4))
    opened.put(short="still there")


@pytest.mark.parametrize("new_place", [POSTGRESQL], indirect=True)
def test_on_postgresql_a_text_that_its_index_does_not_take_is_refused_by_name(opened: Opened) -> None:
    assert opened.put(long="x" * 70_000).custom_properties["long"].string_value == "x" * 70_000
    noise = base64.b64encode(random.Random(1).randbytes(6000)).decode()
    with pytest.raises(
        RejectedRequestError, match="property 'noise' of the artifact has 8000 bytes"
    ) as caught:
        opened.put(noise=noise)
    assert "doctor --fix" in caught.value.hint
    with pytest.raises(RejectedRequestError, match="the artifact's uri has 8000 bytes"):
        opened.put(uri=noise)
    _widened(opened)
    node = opened.put(noise=noise * 100, uri=noise)
    assert (node.custom_properties["noise"].string_value, node.uri) == (noise * 100, noise)


@pytest.mark.parametrize("new_place", [MYSQL], indirect=True)
def test_a_lenient_server_cuts_nothing(opened: Opened, new_place: Callable[[], Place]) -> None:
    mode = opened.place.with_connection(
        lambda connection: connection.scalar(sa.text("SELECT @@SESSION.sql_mode"))
    )
    assert "STRICT_ALL_TABLES" in mode


@pytest.mark.parametrize(
    ("collation", "case", "blanks"),
    [
        ("utf8mb4_bin", False, True),
        ("utf8mb4_general_ci", True, True),
        ("latin1_swedish_ci", True, True),
        ("utf8mb4_0900_ai_ci", True, False),
        ("utf8mb4_0900_as_cs", False, False),
        ("utf8mb4_nopad_bin", False, False),
        ("utf8mb4_uca1400_nopad_ai_ci", True, False),
        ("binary", False, False),
        ("", False, False),
    ],
)
def test_what_a_collation_takes_for_one_is_in_its_name(collation: str, case: bool, blanks: bool) -> None:
    assert (folds_case(collation), folds_blanks(collation)) == (case, blanks)


@pytest.mark.parametrize(
    ("collation", "exact"),
    [
        ("utf8mb4_general_ci", "utf8mb4_bin"),
        ("latin1_swedish_ci", "latin1_bin"),
        ("utf8mb4_0900_ai_ci", "utf8mb4_0900_bin"),
        ("utf8mb4_general_nopad_ci", "utf8mb4_nopad_bin"),
    ],
)
def test_mending_case_folds_no_blanks_that_were_apart(collation: str, exact: str) -> None:
    assert exact_collation(collation) == exact
    assert not folds_case(exact)
    assert folds_blanks(exact) is folds_blanks(collation)
