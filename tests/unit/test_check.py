"""What is refused before it reaches ml-metadata's core, in each kind of write and at each place."""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ml_metadata.proto import metadata_store_pb2 as mlmd
from ml_metadata.proto import metadata_store_service_pb2 as rpc

from zen_mlmd.errors import RejectedRequestError, StoreError
from zen_mlmd.flavors import SqliteConfig
from zen_mlmd.service.base import INVALID_ARGUMENT
from zen_mlmd.service.check import MYSQL, SQLITE, Limits, check_request

ROOT = Path(__file__).parents[2]
NODES = {"artifact": mlmd.Artifact, "execution": mlmd.Execution, "context": mlmd.Context}
SMALL = Limits(name_bytes=10, uri_bytes=20, string_bytes=30, int_bits=32)

Place = Callable[[Any], tuple[str, Any]]


def whole_execution(kind: str) -> Place:
    def place(node: Any) -> tuple[str, Any]:
        request = rpc.PutExecutionRequest()
        if kind == "execution":
            request.execution.CopyFrom(node)
        elif kind == "artifact":
            request.artifact_event_pairs.add().event.artifact_id = 1  # a pair without an artifact of its own
            request.artifact_event_pairs.add().artifact.CopyFrom(node)
        else:
            request.contexts.add().CopyFrom(node)
        return "PutExecution", request

    return place


def listed(method: str, kind: str) -> Place:
    def place(node: Any) -> tuple[str, Any]:
        request = getattr(rpc, f"{method}Request")()
        many = getattr(request, f"{kind}s")
        many.add()  # a sound one first
        many.add().CopyFrom(node)
        return method, request

    return place


PLACES: dict[str, tuple[str, Place]] = {
    **{f"Put{kind.capitalize()}s": (kind, listed(f"Put{kind.capitalize()}s", kind)) for kind in NODES},
    **{f"PutLineageSubgraph {kind}": (kind, listed("PutLineageSubgraph", kind)) for kind in NODES},
    **{f"PutExecution {kind}": (kind, whole_execution(kind)) for kind in NODES},
}
each_place = pytest.mark.parametrize(("kind", "place"), PLACES.values(), ids=PLACES)


def event_requests(event: mlmd.Event) -> Iterator[tuple[str, Any]]:
    yield "PutEvents", rpc.PutEventsRequest(events=[event])
    whole = rpc.PutExecutionRequest()
    whole.artifact_event_pairs.add().event.CopyFrom(event)
    yield "PutExecution", whole
    graph = rpc.PutLineageSubgraphRequest()
    graph.event_edges.add().event.CopyFrom(event)
    yield "PutLineageSubgraph", graph


def type_requests(kind: str, message: Any) -> Iterator[tuple[str, Any]]:
    title = kind.capitalize()
    single = getattr(rpc, f"Put{title}TypeRequest")()
    getattr(single, f"{kind}_type").CopyFrom(message)
    yield f"Put{title}Type", single
    many = rpc.PutTypesRequest()
    getattr(many, f"{kind}_types").add().CopyFrom(message)
    yield "PutTypes", many


def refusal(method: str, request: Any, limits: Limits = SQLITE) -> str:
    with pytest.raises(RejectedRequestError) as caught:
        check_request(method, request, limits)
    assert caught.value.mlmd_code == INVALID_ARGUMENT
    assert caught.value.hint
    assert caught.value.message.startswith("not sent: ")
    return caught.value.message


def test_each_write_of_the_service_is_known_here() -> None:
    """A new one needs a look at what it carries."""
    offered = {
        name[: -len("Request")] for name in dir(rpc) if name.startswith("Put") and name.endswith("Request")
    }
    types = {f"Put{kind.capitalize()}Type" for kind in NODES} | {"PutTypes"}
    links = {"PutAttributionsAndAssociations", "PutParentContexts"}
    tested = {name.split()[0] for name in PLACES} | types | links | {"PutEvents"}
    assert offered == tested


@each_place
@pytest.mark.parametrize("where", ["properties", "custom_properties"])
def test_an_unset_value_is_refused_by_name(kind: str, place: Place, where: str) -> None:
    node = NODES[kind]()
    getattr(node, where)["good"].int_value = 1
    getattr(node, where)["depth"].SetInParent()
    assert f"property 'depth' of the {kind} has no value" in refusal(*place(node))


@each_place
@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_a_double_that_is_not_finite_is_refused(kind: str, place: Place, number: float) -> None:
    node = NODES[kind]()
    node.custom_properties["loss"].double_value = number
    assert f"property 'loss' of the {kind} is not a finite number" in refusal(*place(node))


@each_place
@pytest.mark.parametrize(("text", "why"), [("a\0b", "NUL"), ("__MLMD_NULL__", "cannot read again")])
def test_text_that_mlmd_would_spoil_is_refused(kind: str, place: Place, text: str, why: str) -> None:
    for field in ("name", "external_id", *(["uri"] if kind == "artifact" else [])):
        message = refusal(*place(NODES[kind](**{field: text})))
        assert f"the {kind}'s {field}" in message
        assert why in message
    value, key = NODES[kind](), NODES[kind]()
    value.properties["note"].string_value = text
    assert f"property 'note' of the {kind}" in refusal(*place(value))
    key.custom_properties[text].int_value = 1
    assert why in refusal(*place(key))
    assert "a\0b" not in refusal(*place(value))


@each_place
def test_integers_are_refused_where_columns_have_32_bits(kind: str, place: Place) -> None:
    for number, fits in ((2**31 - 1, True), (2**31, False), (-(2**31), True), (-(2**31) - 1, False)):
        node = NODES[kind]()
        node.properties["rows"].int_value = number
        check_request(*place(node), SQLITE)
        if fits:
            check_request(*place(node), MYSQL)
        else:
            assert "property 'rows'" in refusal(*place(node), MYSQL)


@each_place
@pytest.mark.parametrize(("letter", "size"), [("x", 1), ("é", 2), ("€", 3), ("😀", 4)])
def test_names_are_measured_in_bytes(kind: str, place: Place, letter: str, size: int) -> None:
    for field, limit in (("name", 10), ("external_id", 10), *([("uri", 20)] if kind == "artifact" else [])):
        fits, exceeds = letter * (limit // size), letter * (limit // size + 1)
        check_request(*place(NODES[kind](**{field: fits})), SMALL)
        check_request(*place(NODES[kind](**{field: exceeds})), SQLITE)
        message = refusal(*place(NODES[kind](**{field: exceeds})), SMALL)
        assert (
            f"{field} has {len(exceeds.encode())} bytes, and this database's column holds {limit}" in message
        )
    for length, fits_ in ((10 // size, True), (10 // size + 1, False)):
        node = NODES[kind]()
        node.custom_properties[letter * length].int_value = 1
        if fits_:
            check_request(*place(node), SMALL)
        else:
            assert "property's name" in refusal(*place(node), SMALL)


@each_place
@pytest.mark.parametrize("letter", ["x", "'", '"', "\\", "\n", "\r", "\x1a"])
def test_strings_are_measured_as_sql_writes_them(kind: str, place: Place, letter: str) -> None:
    size = 1 if letter == "x" else 2
    for length, fits in ((30 // size, True), (30 // size + 1, False)):
        node = NODES[kind]()
        node.properties["note"].string_value = letter * length
        check_request(*place(node), SQLITE)
        if fits:
            check_request(*place(node), SMALL)
        else:
            assert "property 'note'" in refusal(*place(node), SMALL)


def test_a_databases_limits_are_those_of_mlmds_columns() -> None:
    name = mlmd.Context(name="x" * 255)
    check_request("PutContexts", rpc.PutContextsRequest(contexts=[name]), MYSQL)
    name.name += "x"
    assert "holds 255" in refusal("PutContexts", rpc.PutContextsRequest(contexts=[name]), MYSQL)
    check_request("PutContexts", rpc.PutContextsRequest(contexts=[name]), SQLITE)


@pytest.mark.parametrize("text", ["a\0b", "__MLMD_NULL__", "x" * 21])
def test_the_keys_of_event_paths_are_checked(text: str) -> None:
    event = mlmd.Event()
    event.path.steps.add(index=3)
    event.path.steps.add(key="rows")
    for method, request in event_requests(event):
        check_request(method, request, SMALL)
    event.path.steps.add(key=text)
    for method, request in event_requests(event):
        assert "an event path's key" in refusal(method, request, SMALL)


@pytest.mark.parametrize("kind", NODES)
@pytest.mark.parametrize("text", ["a\0b", "__MLMD_NULL__", "x" * 31])
def test_the_texts_of_types_are_checked(kind: str, text: str) -> None:
    message = {"artifact": mlmd.ArtifactType, "execution": mlmd.ExecutionType, "context": mlmd.ContextType}[
        kind
    ]
    sound = message(name="Rows", version="1", description="some rows", external_id="r")
    sound.properties["count"] = mlmd.INT
    for method, request in type_requests(kind, sound):
        check_request(method, request, SMALL)
    for field in ("name", "version", "description", "external_id"):
        for method, request in type_requests(kind, message(**{field: text})):
            assert f"a type's {field}" in refusal(method, request, SMALL)
    spoilt = message(name="Rows")
    spoilt.properties[text] = mlmd.INT
    for method, request in type_requests(kind, spoilt):
        assert "a property's name of type 'Rows'" in refusal(method, request, SMALL)


def test_reads_and_links_pass_as_they_are() -> None:
    check_request("GetArtifactType", rpc.GetArtifactTypeRequest(type_name="a\0b"))
    check_request("PutParentContexts", rpc.PutParentContextsRequest(parent_contexts=[mlmd.ParentContext()]))
    links = rpc.PutAttributionsAndAssociationsRequest(attributions=[mlmd.Attribution(artifact_id=1)])
    check_request("PutAttributionsAndAssociations", links)


@pytest.mark.parametrize("held", ["struct_value", "proto_value", "bool_value"])
def test_values_of_other_kinds_pass(held: str) -> None:
    node = mlmd.Artifact()
    if held == "bool_value":
        node.properties["x"].bool_value = False
    else:
        getattr(node.properties["x"], held).SetInParent()
    if held == "proto_value":
        node.properties["x"].proto_value.type_url = "type.googleapis.com/google.protobuf.Empty"
    check_request("PutArtifacts", rpc.PutArtifactsRequest(artifacts=[node]), SMALL)


DEADLY = """
import sys
from ml_metadata.proto import metadata_store_pb2 as mlmd
from ml_metadata.proto import metadata_store_service_pb2 as rpc
from zen_mlmd.errors import RejectedRequestError
from zen_mlmd.flavors import SqliteConfig

def deadly(kind):
    node = kind(type_id=1)
    node.custom_properties["depth"].SetInParent()
    return node

artifact, execution, context = deadly(mlmd.Artifact), deadly(mlmd.Execution), deadly(mlmd.Context)
whole = rpc.PutExecutionRequest(execution=mlmd.Execution(type_id=1), contexts=[context])
refused = 0
with SqliteConfig(path=sys.argv[1]).open_service() as service:
    for method, request in [
        ("PutArtifacts", rpc.PutArtifactsRequest(artifacts=[artifact])),
        ("PutExecutions", rpc.PutExecutionsRequest(executions=[execution])),
        ("PutContexts", rpc.PutContextsRequest(contexts=[context])),
        ("PutExecution", rpc.PutExecutionRequest(execution=execution)),
        ("PutExecution", whole),
        ("PutLineageSubgraph", rpc.PutLineageSubgraphRequest(artifacts=[artifact])),
    ]:
        try:
            service.call(method, request)
        except RejectedRequestError:
            refused += 1
    if "unchecked" in sys.argv:
        import zen_mlmd.service.native as native
        native.check_request = lambda *_: None
        service.call("PutArtifacts", rpc.PutArtifactsRequest(artifacts=[artifact]))
    rows = rpc.PutArtifactTypeRequest(artifact_type=mlmd.ArtifactType(name="Rows"))
    service.call("PutArtifactType", rows)
    (found,) = service.call("GetArtifactTypes", rpc.GetArtifactTypesRequest()).artifact_types
print("alive", refused, found.name)
"""


def run_deadly(path: Path, *how: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", DEADLY, str(path), *how]
    return subprocess.run(command, capture_output=True, check=False, text=True, cwd=ROOT, timeout=60)


def test_a_process_outlives_requests_that_would_end_it(tmp_path: Path) -> None:
    done = run_deadly(tmp_path / "m.db")
    assert (done.stdout, done.returncode) == ("alive 6 Rows\n", 0), done.stderr


def test_without_the_check_such_a_request_ends_the_process(tmp_path: Path) -> None:
    """If this fails, ml-metadata has learnt to refuse it by itself."""
    assert run_deadly(tmp_path / "m.db", "unchecked").returncode < 0


TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20) | st.sampled_from(
    ["", "__MLMD_NULL__", "mlmd-struct::", "'; --", "\\", "nan"]
)
VALUES = st.one_of(
    st.builds(lambda each: mlmd.Value(string_value=each), TEXTS),
    st.builds(lambda each: mlmd.Value(int_value=each), st.integers(-(2**63), 2**63 - 1)),
    st.builds(lambda each: mlmd.Value(double_value=each), st.floats()),
    st.builds(lambda each: mlmd.Value(bool_value=each), st.booleans()),
    st.just(mlmd.Value()),
)


@settings(max_examples=200, deadline=None)
@given(name=TEXTS, uri=TEXTS, external_id=TEXTS, values=st.dictionaries(TEXTS, VALUES, max_size=3))
def test_what_passes_is_kept_or_refused_by_mlmd_without_harm(
    name: str, uri: str, external_id: str, values: dict[str, mlmd.Value]
) -> None:
    """Whatever a node holds, the process lives, and what was accepted is read back."""
    with SqliteConfig(path=":memory:").open_service() as service:
        kind = rpc.PutArtifactTypeRequest(artifact_type=mlmd.ArtifactType(name="Rows"))
        artifact = mlmd.Artifact(type_id=service.call("PutArtifactType", kind).type_id, uri=uri)
        artifact.name, artifact.external_id = name, external_id
        for key, value in values.items():
            artifact.custom_properties[key].CopyFrom(value)
        try:
            made = service.call("PutArtifacts", rpc.PutArtifactsRequest(artifacts=[artifact])).artifact_ids
        except (RejectedRequestError, StoreError):
            made = []
        (*found,) = service.call("GetArtifacts", rpc.GetArtifactsRequest()).artifacts
        assert [each.id for each in found] == list(made)
        for each in found:
            assert (each.name, each.uri, each.external_id) == (name, uri, external_id)
            assert set(each.custom_properties) == set(values)
