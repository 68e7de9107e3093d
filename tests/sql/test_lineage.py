"""The walk over the SQL service, which finds all events at once: it finds what the native one finds."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ml_metadata.proto import metadata_store_pb2 as mlmd
from ml_metadata.proto import metadata_store_service_pb2 as rpc

import zen_mlmd as zm
from tests.integration.conftest import stores, url_of
from zen_mlmd.lineage.walk import walk
from zen_mlmd.service.base import MetadataService
from zen_mlmd.service.client import Client
from zen_mlmd.service.edges import EdgeQuery
from zen_mlmd.service.sql.service import open_sql
from zen_mlmd.store import Store

_NODES = 6
NODE = st.integers(1, _NODES)
EVENTS = st.lists(st.tuples(NODE, NODE, st.integers(1, 7)), unique=True, max_size=16)


@pytest.fixture(params=stores("sqlite", "mysql", "postgresql"))
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    if request.param == "sqlite":
        config = zm.SqliteConfig(path=str(tmp_path / "m.db"))
        with Store(config, Client(open_sql(config.open_database(create=True)))) as opened:
            yield opened
    else:
        with zm.open_store(url_of(request, request.param, tmp_path)) as opened:
            yield opened


def put(service: MetadataService, events: list[tuple[int, int, int]], count: int, cached: list[int]) -> None:
    """Put nodes 1 to `count` of each kind, and events between them."""
    types = service.call(
        "PutTypes",
        rpc.PutTypesRequest(
            artifact_types=[mlmd.ArtifactType(name="A")], execution_types=[mlmd.ExecutionType(name="E")]
        ),
    )
    artifacts = [mlmd.Artifact(type_id=types.artifact_type_ids[0]) for _ in range(count)]
    service.call("PutArtifacts", rpc.PutArtifactsRequest(artifacts=artifacts))
    executions = [mlmd.Execution(type_id=types.execution_type_ids[0]) for _ in range(count)]
    for number in cached:
        executions[number - 1].last_known_state = mlmd.Execution.CACHED
    service.call("PutExecutions", rpc.PutExecutionsRequest(executions=executions))
    request = rpc.PutEventsRequest()
    for artifact, execution, kind in events:
        event = request.events.add(artifact_id=artifact, execution_id=execution, milliseconds_since_epoch=1)
        event.type = kind
        event.path.steps.add(key="x")
    service.call("PutEvents", request)


def found(store: Store, start: list[int], direction: Any) -> Any:
    graph = walk(store.loader, start, direction)
    events = sorted((e.artifact_id, e.step_id, str(e.type), str(e.slots)) for e in graph.events)
    return set(graph.artifacts), set(graph.steps), events, dict(graph.producers), graph.complete


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(events=EVENTS, start=st.lists(NODE, min_size=1, max_size=2), cached=st.lists(NODE, max_size=2))
def test_it_finds_what_the_native_service_finds(
    events: list[tuple[int, int, int]], start: list[int], cached: list[int]
) -> None:
    config = zm.SqliteConfig(path=":memory:")
    services = (config.open_service(), open_sql(config.open_database(create=True)))
    for service in services:
        put(service, events, _NODES, cached)
    native, ours = (Store(config, Client(service)) for service in services)
    for direction in ("upstream", "downstream"):
        theirs, mine = found(native, start, direction), found(ours, start, direction)
        # Who made what the walk did not meet is asked in passing, and told or not.
        assert mine[:3] == theirs[:3]
        assert mine[4] == theirs[4]
        assert {key: mine[3].get(key) for key in theirs[0]} == {key: theirs[3].get(key) for key in theirs[0]}
    native.close()
    ours.close()


def test_a_long_chain_is_found_in_a_few_calls(store: Store) -> None:
    length = 1500
    events = [(number, number, mlmd.Event.OUTPUT) for number in range(1, length + 1)]
    events += [(number, number + 1, mlmd.Event.INPUT) for number in range(1, length)]
    put(store.loader.client.service, events, length, [])
    asked = []
    service = store.loader.client.service
    call = service.call
    service.call = lambda method, request: (asked.append(method), call(method, request))[1]  # type: ignore[method-assign,func-returns-value]
    graph = walk(store.loader, [length], "upstream")
    assert (len(graph.artifacts), len(graph.steps), len(graph.events)) == (length, length, 2 * length - 1)
    assert graph.complete
    assert len(asked) <= 9, asked  # for the records: types, and nodes by the thousand
    down = walk(store.loader, [1], "downstream")
    assert len(down.artifacts) == length


def test_a_process_finds_a_chain_in_one_call(tmp_path: Path) -> None:
    config = zm.SqliteConfig(path=str(tmp_path / "m.db"), service="sql")
    with Store(config, Client(config.open_service())) as store:
        put(store.loader.client.service, [(1, 1, 4), (2, 1, 4), (1, 2, 3), (3, 2, 4)], 3, [])
        asked = []
        service = store.loader.client.service
        call = service.call
        service.call = lambda method, request: (asked.append(method), call(method, request))[1]  # type: ignore[method-assign,func-returns-value]
        graph = walk(store.loader, [3], "upstream")
        assert not [each for each in asked if "Events" in each]
        # What the first step made besides is not on the way.
        assert set(graph.artifacts) == {1, 3}
        assert sorted((event.artifact_id, event.step_id) for event in graph.events) == [
            (1, 1),
            (1, 2),
            (3, 2),
        ]
        assert [slot.name for event in graph.events for slot in event.slots] == ["x", "x", "x"]


def test_an_event_that_was_deleted_before_it_was_looked_at_has_no_slots(store: Store) -> None:
    service = store.loader.client.service
    put(service, [(1, 1, 4), (1, 2, 3), (2, 2, 4)], 2, [])
    graph = walk(store.loader, [2], "upstream")
    service.delete(executions=[1])
    slots = {(event.artifact_id, event.step_id): event.slots for event in graph.events}
    assert slots[1, 1] == ()
    assert [slot.name for slot in slots[2, 2]] == ["x"]
    assert set(graph.steps) == {2}


def test_a_cached_step_is_no_producer_in_a_graph_that_was_found_at_once(store: Store) -> None:
    put(store.loader.client.service, [(1, 1, 4), (1, 2, 4), (1, 3, 3), (2, 3, 4)], 3, [1])
    graph = walk(store.loader, [2], "upstream")
    assert graph.producers == {1: 2, 2: 3}
    assert set(graph.steps) == {1, 2, 3}


def test_edges_are_not_told_where_a_name_on_the_way_is_barred(store: Store) -> None:
    service = store.loader.client.service
    put(service, [(1, 1, 4), (1, 2, 3), (2, 2, 4), (3, 3, 4)], 3, [])
    query = EdgeQuery(artifacts=[2], upstream=True, inputs=[3], outputs=[4])
    found = service.lineage_edges(replace(query, barred=["y", "_"]))
    assert found is not None
    assert set(found) == {(1, 1, 4), (1, 2, 3), (2, 2, 4)}
    assert service.lineage_edges(replace(query, barred=["y", "x"])) is None
    request = rpc.PutEventsRequest()
    event = request.events.add(artifact_id=3, execution_id=1, type=mlmd.Event.OUTPUT)
    event.path.steps.add(key="y")
    service.call("PutEvents", request)
    assert service.lineage_edges(replace(query, barred=["y"])) is None
    apart = service.lineage_edges(replace(query, outputs=[1], barred=["y"]))
    assert apart is not None, "no step is met that has it"
    assert list(apart) == []


def test_a_bound_is_kept(store: Store) -> None:
    put(store.loader.client.service, [(1, 1, 4), (1, 2, 3), (2, 2, 4), (2, 3, 3), (3, 3, 4)], 3, [])
    graph = store.get_artifact(3).upstream(max_hops=2)
    assert set(graph.artifacts) == {2, 3}
    assert not graph.complete
