"""What the SQL service reads is what ml-metadata reads of the same rows, and refused alike."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ml_metadata.proto import metadata_store_service_pb2 as rpc

from tests.sql.conftest import BACKENDS
from tests.sql.places import sqlite_place
from tests.sql.same_data import SameData, ask, fill, new_place, same_data, selects
from zen_mlmd.service.base import INVALID_ARGUMENT, NOT_FOUND, request_class
from zen_mlmd.service.native import NativeService
from zen_mlmd.service.sql.database import Database
from zen_mlmd.service.sql.learn import learn
from zen_mlmd.service.sql.nodes import read_nodes
from zen_mlmd.service.sql.service import SqlService

KINDS = ("Artifact", "Execution", "Context")
TYPES = (
    ("Model", ""),
    ("Model", "2"),
    ("Table", ""),
    ("Trainer", ""),
    ("Importer", ""),
    ("run", ""),
    ("pipeline", ""),
    ("nobody", ""),
    ("x", "1"),
)
DATA = Path(__file__).parents[1] / "data"


@pytest.fixture(scope="module", params=BACKENDS)
def data(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SameData]:
    """The same rows, read by both."""
    directory = tmp_path_factory.mktemp("reads")
    with new_place(request, request.param, directory) as place, same_data(place, fill) as both:
        yield both


def _ids(service: Any, kind: str) -> list[int]:
    response = service.call(f"Get{kind}s", request_class(f"Get{kind}s")())
    return [node.id for node in getattr(response, f"{kind.lower()}s")]


@pytest.mark.parametrize("kind", KINDS)
def test_all_nodes_and_those_of_some_ids(data: SameData, kind: str) -> None:
    found = getattr(data.same(f"Get{kind}s"), f"{kind.lower()}s")
    assert len(found) > 8
    assert {each for node in found for each in node.properties} == set("isdbtp")
    ids = [node.id for node in found]
    for wanted in (ids, ids[::-1], [*ids[:3], *ids[:3]], [ids[1], 999, -1, 0, 2**62], [999], []):
        data.same(f"Get{kind}sByID", **{f"{kind.lower()}_ids": wanted})


def test_artifacts_come_with_their_types_if_asked(data: SameData) -> None:
    ids = _ids(data.native, "Artifact")
    found = data.same("GetArtifactsByID", artifact_ids=ids, populate_artifact_types=True)
    assert {each.version for each in found.artifact_types} == {"", "2"}
    assert len(found.artifact_types) == 3
    data.same("GetArtifactsByID", artifact_ids=[ids[0], 999], populate_artifact_types=True)
    data.same("GetArtifactsByID", artifact_ids=[999], populate_artifact_types=True)


@pytest.mark.parametrize("kind", KINDS)
def test_nodes_of_a_type_and_of_a_name(data: SameData, kind: str) -> None:
    found = 0
    names = {node.name for node in getattr(data.same(f"Get{kind}s"), f"{kind.lower()}s")}
    for name, version in TYPES:
        method = f"Get{kind}sByType"
        found += len(getattr(data.same(method, type_name=name, type_version=version), f"{kind.lower()}s"))
        for each in (*names, "no such name"):
            fields = {"type_name": name, "type_version": version, f"{kind.lower()}_name": each}
            data.same(f"Get{kind}ByTypeAndName", **fields)
        data.same(f"Get{kind}ByTypeAndName", type_name=name)
    assert found == len(_ids(data.native, kind))


@pytest.mark.parametrize("kind", KINDS)
def test_nodes_of_external_ids(data: SameData, kind: str) -> None:
    nodes = getattr(data.same(f"Get{kind}s"), f"{kind.lower()}s")
    known = [node.external_id for node in nodes if node.external_id]
    assert len(known) > 2
    method = f"Get{kind}sByExternalIds"
    for wanted in (known, [known[1], known[0], "none", known[1]], []):
        data.same(method, external_ids=wanted)
    for wanted, code in ((["none"], NOT_FOUND), ([known[0], ""], INVALID_ARGUMENT)):
        assert data.same(method, external_ids=wanted)[0] == code


def test_artifacts_of_uris(data: SameData) -> None:
    for uri in ("s3://bucket/a_b", "", "file:///tmp/ü%20x", "s3://nobody", "none", "it's"):
        found = data.both("GetArtifactsByURI", uris=[uri, uri])
        theirs, ours = ([each.uri for each in answer.artifacts] for answer in found)
        assert ours == [each for each in theirs if each == uri], "MySQL takes two that differ by case for one"
    many = ["s3://nobody", "none", "s3://bucket/A_B", *(f"none {n}" for n in range(2500)), "s3://bucket/a_b"]
    found = data.sql.call("GetArtifactsByURI", rpc.GetArtifactsByURIRequest(uris=many)).artifacts
    uris = [each.uri for each in found]
    assert uris == sorted(uris, key=many.index)
    assert set(uris) == {"s3://nobody", "s3://bucket/A_B", "s3://bucket/a_b"}
    assert data.same("GetArtifactsByURI").artifacts == []


def test_the_uri_of_an_old_client_is_refused(data: SameData) -> None:
    request = rpc.GetArtifactsByURIRequest()
    request.MergeFromString(b"\x0a\x04uri1")
    theirs, ours = data.both("GetArtifactsByURI", request)
    assert ours[0] == theirs[0] == INVALID_ARGUMENT
    assert ours[1].partition("Request: ")[0] == theirs[1].partition("Request: ")[0]


@pytest.mark.parametrize("kind", ["Artifact", "Execution"])
def test_nodes_of_a_context_and_contexts_of_a_node(data: SameData, kind: str) -> None:
    found = 0
    for context in (*_ids(data.native, "Context"), 999, -1):
        found += len(getattr(data.same(f"Get{kind}sByContext", context_id=context), f"{kind.lower()}s"))
    assert found > 10
    outcomes = [
        data.same(f"GetContextsBy{kind}", **{f"{kind.lower()}_id": each})
        for each in (*_ids(data.native, kind), 999)
    ]
    assert {outcome[0] for outcome in outcomes if isinstance(outcome, tuple)} == {NOT_FOUND}
    data.same(f"Get{kind}sByContext")
    data.same(f"GetContextsBy{kind}")


@pytest.mark.parametrize("kind", ["Artifact", "Execution"])
def test_events_and_their_paths(data: SameData, kind: str) -> None:
    ids = _ids(data.native, kind)
    for wanted in (ids, ids[::-1], [ids[3], 999], [999], []):
        theirs, ours = data.both(f"GetEventsBy{kind}IDs", **{f"{kind.lower()}_ids": wanted})
        if data.dialect == "sqlite":
            assert ours == theirs
        assert sorted(map(str, ours.events)) == sorted(map(str, theirs.events))
    assert any(len(event.path.steps) == 2 for event in ours.events) or wanted == []


@pytest.mark.parametrize(
    ("line", "field"), [("Parent", "parent_contexts"), ("Children", "children_contexts")]
)
def test_parents_and_children_of_contexts(data: SameData, line: str, field: str) -> None:
    ids = [*_ids(data.native, "Context"), 999]
    of_one = {each: data.same(f"Get{line}ContextsByContext", context_id=each).contexts for each in ids}
    assert sum(map(len, of_one.values())) == 4
    method = f"Get{line}ContextsByContexts"
    request = getattr(rpc, f"{method}Request")(context_ids=[*ids, *ids[:2]])
    found = data.sql.call(method, request)
    assert {each: list(getattr(lines, field)) for each, lines in found.contexts.items()} == {
        each: list(nodes) for each, nodes in of_one.items() if nodes
    }
    assert ask(data.sql, method, request_class(method)()) == (INVALID_ARGUMENT, "Given context_ids is empty.")


def test_more_nodes_than_fit_one_statement_are_read_in_two_a_batch(data: SameData) -> None:
    ids = _ids(data.native, "Execution")
    wanted = [*range(10_000, 20_000), *reversed(ids), *ids]
    with selects(data.database) as seen:
        found = data.database.read(lambda session: read_nodes(session, "Execution", wanted))
    assert [node.id for node in found] == ids
    assert len(seen) == 2 * 3


@pytest.mark.parametrize("path", sorted(DATA.glob("*.db")), ids=lambda path: path.stem)
def test_what_others_wrote_is_read_alike(path: Path, tmp_path: Path) -> None:
    ours = tmp_path / "ours.db"
    theirs = tmp_path / "theirs.db"
    for each in (ours, theirs):
        shutil.copyfile(path, each)
    place = sqlite_place(theirs)
    place.migrate_natively()
    before = ours.read_bytes()
    database = Database(sqlite_place(ours).engine, location="ours", learn=learn)
    with NativeService(place.config, location="native") as native, SqlService(database) as sql:
        both = SameData("sqlite", native, sql, database)
        for kind in KINDS:
            nodes = getattr(both.same(f"Get{kind}s"), f"{kind.lower()}s")
            assert nodes
            if kind != "Context":
                ids = [node.id for node in nodes]
                assert both.same(f"GetEventsBy{kind}IDs", **{f"{kind.lower()}_ids": ids}).events
        for context in _ids(native, "Context"):
            both.same("GetExecutionsByContext", context_id=context)
            both.same("GetArtifactsByContext", context_id=context)
            both.same("GetParentContextsByContext", context_id=context)
    assert ours.read_bytes() == before


def test_what_an_older_schema_lacks_is_not_there(tmp_path: Path) -> None:
    place = sqlite_place(tmp_path / "old.sqlite")
    with same_data(place, fill):
        pass
    place.downgrade(7)
    database = Database(place.engine, location="ours", learn=learn)
    with SqlService(database) as sql:
        assert not any(
            node.external_id for node in sql.call("GetArtifacts", rpc.GetArtifactsRequest()).artifacts
        )
        for kind in KINDS:
            method = f"Get{kind}sByExternalIds"
            answer = ask(sql, method, getattr(rpc, f"{method}Request")(external_ids=["artifact-5"]))
            assert answer == (NOT_FOUND, f"No {kind.lower()}s found for external_ids.")


def test_an_unknown_state_is_read_as_none(tmp_path: Path) -> None:
    place = sqlite_place(tmp_path / "later.sqlite")
    with same_data(place, fill):
        pass
    place.with_connection(lambda connection: connection.exec_driver_sql("UPDATE Artifact SET state = 99"))
    place.with_connection(lambda connection: connection.exec_driver_sql("UPDATE Event SET type = 99"))
    database = Database(place.engine, location="ours", learn=learn)
    with NativeService(place.config, location="native") as native:
        theirs = native.call("GetArtifacts", rpc.GetArtifactsRequest())
    with SqlService(database) as sql:
        ours = sql.call("GetArtifacts", rpc.GetArtifactsRequest())
        events = ask(sql, "GetEventsByArtifactIDs", rpc.GetEventsByArtifactIDsRequest(artifact_ids=range(9)))
    assert not any(node.HasField("state") for node in (*ours.artifacts, *theirs.artifacts))
    assert events.events
    assert not any(event.HasField("type") for event in events.events)
