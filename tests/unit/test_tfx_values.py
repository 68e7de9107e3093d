"""TFX's values: what their files hold, read by the artifact's type."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

import pytest
from ml_metadata.proto import metadata_store_pb2 as mlmd

from zen_mlmd.dialects import registry
from zen_mlmd.errors import PayloadError, PayloadMissingError, UsageError
from zen_mlmd.model import Artifact
from zen_mlmd.payloads import read_payload, tfx_metric
from zen_mlmd.payloads.base import type_name
from zen_mlmd.payloads.tfx_values import TfxFloat, TfxInteger, TfxString


def artifact(type_name: str, uri: str = "", *, base_type: int = 0, null: int | None = None) -> Artifact:
    kind = mlmd.ArtifactType(name=type_name)
    if base_type:
        kind.base_type = base_type
    node = mlmd.Artifact(id=1, uri=uri, state=mlmd.Artifact.LIVE)
    if null is not None:
        node.custom_properties["__is_null__"].int_value = null
    return registry.of_artifact(node, kind).artifact(node, kind)


def read(record: Artifact) -> Any:
    return read_payload(record.uri, record.materializer, record.data_type)


# As `encode` of TFX's classes gives them.
CASES = [
    ("String", "naïve\n".encode(), "naïve\n"),
    ("String", b"", ""),
    ("Bytes", b"\xff\x00", b"\xff\x00"),
    ("Integer", b"-12345678901234567890", -12345678901234567890),
    ("Float", b"1e-07", 1e-07),
    ("Float", b"-Infinity", -math.inf),
    ("Boolean", b"1", True),
    ("Boolean", b"0", False),
    ("JsonValue", b'{"a": [1, null, 2.5]}', {"a": [1, None, 2.5]}),
    ("JsonValue", b"null", None),
]


@pytest.mark.parametrize(("type_name", "data", "value"), CASES)
def test_a_value_is_read_from_its_file(tmp_path: Path, type_name: str, data: bytes, value: Any) -> None:
    file = tmp_path / "value"
    file.write_bytes(data)
    for null in (None, 0):
        found = read(artifact(type_name, str(file), null=null))
        assert found == value
        assert type(found) is type(value)


def test_not_a_number_is_read(tmp_path: Path) -> None:
    (tmp_path / "value").write_bytes(b"NaN")
    assert math.isnan(read(artifact("Float", str(tmp_path / "value"))))


@pytest.mark.parametrize("type_name", ["String", "Bytes", "Integer", "Float", "Boolean", "JsonValue"])
def test_none_is_an_empty_file_and_a_property(tmp_path: Path, type_name: str) -> None:
    (tmp_path / "value").touch()
    record = artifact(type_name, str(tmp_path / "value"), null=1)
    assert read(record) is None
    assert record.data_type == "builtins.NoneType"


def test_an_annotated_type_is_that_value_and_has_the_annotations_base() -> None:
    metrics = mlmd.ArtifactType.METRICS
    assert artifact("Float_Metrics", base_type=metrics).materializer == type_name(TfxFloat)
    assert artifact("Float", base_type=0).data_type == "builtins.float"
    assert artifact("Float_Metrics").materializer == ""
    assert artifact("Floats").materializer == artifact("Model").materializer == ""


@pytest.mark.parametrize(
    ("type_name", "data"),
    [
        ("Integer", b""),  # never set
        ("Integer", b"1.5"),
        ("Float", b"much"),
        ("Boolean", b"yes"),
        ("String", b"\xff"),
        ("JsonValue", b"{" * 100_000),
        ("JsonValue", b"[" * 100_000),
    ],
)
def test_what_is_no_value_is_told(tmp_path: Path, type_name: str, data: bytes) -> None:
    (tmp_path / "value").write_bytes(data)
    with pytest.raises(PayloadError, match="cannot read what lies there"):
        read(artifact(type_name, str(tmp_path / "value")))


def test_an_object_of_tfxs_stays_a_dict_and_imports_nothing(tmp_path: Path) -> None:
    text = '{"__tfx_object_type__": "class", "__module__": "os", "__class__": "system"}'
    (tmp_path / "value").write_text(text)
    assert read(artifact("JsonValue", str(tmp_path / "value")))["__module__"] == "os"


def test_a_value_that_is_gone_is_told() -> None:
    with pytest.raises(PayloadMissingError):
        read(artifact("Float", "/nowhere/value"))


def test_values_of_tfx_are_only_read(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="only reads"):
        TfxString().write("x", tmp_path)


def test_a_number_in_a_file_of_this_machine_is_a_metric(tmp_path: Path) -> None:
    (tmp_path / "value").write_bytes(b"0.75")
    (tmp_path / "whole").write_bytes(b"3")
    assert tfx_metric(str(tmp_path / "value"), type_name(TfxFloat)) == 0.75
    assert tfx_metric(f"file://{tmp_path}/whole", type_name(TfxInteger)) == 3


def test_what_is_no_number_here_is_no_metric_and_no_error(tmp_path: Path) -> None:
    (tmp_path / "text").write_bytes(b"much")
    (tmp_path / "empty").touch()
    (tmp_path / "long").write_bytes(b"1" * 100_000)
    os.mkfifo(tmp_path / "pipe")
    places = ["text", "empty", "long", "pipe", "", "none", "n" * 5000]
    uris = [str(tmp_path / each) for each in places]
    uris += ["", "a\0b", "file://relative", "gs://bucket/value", "no-such-scheme://x"]
    for uri in uris:
        for reader in (TfxFloat, TfxInteger):
            assert tfx_metric(uri, type_name(reader)) is None, uri
    assert tfx_metric(str(tmp_path / "text"), type_name(TfxString)) is None
    assert tfx_metric(str(tmp_path / "text"), "") is None
