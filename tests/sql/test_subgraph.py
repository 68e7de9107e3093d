"""`GetLineageSubgraph`: as ml-metadata answers it, and to the end where that stops."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ml_metadata.metadata_store.pywrap.metadata_store_extension import metadata_store as core
from ml_metadata.proto import metadata_store_pb2 as mlmd
from ml_metadata.proto import metadata_store_service_pb2 as rpc

from tests.sql.differential import ask, told
from zen_mlmd.flavors import SqliteConfig
from zen_mlmd.service.base import MetadataService
from zen_mlmd.service.sql.service import open_sql

_NODES = 5
Options = mlmd.LineageSubgraphQueryOptions


class Pair:
    """Both services in memory, with the same events between nodes 1 to 5 of each kind."""

    def __init__(self) -> None:
        config = SqliteConfig(path=":memory:")
        self.native = config.open_service()
        self.ours = open_sql(config.open_database(create=True))
        for service in (self.native, self.ours):
            types = rpc.PutTypesRequest(
                artifact_types=[mlmd.ArtifactType(name="A")],
                execution_types=[mlmd.ExecutionType(name="E")],
                context_types=[mlmd.ContextType(name="C")],
            )
            made = service.call("PutTypes", types)
            for kind, type_id in (
                ("Artifact", made.artifact_type_ids[0]),
                ("Execution", made.execution_type_ids[0]),
                ("Context", made.context_type_ids[0]),
            ):
                request = getattr(rpc, f"Put{kind}sRequest")()
                for number in range(_NODES):
                    getattr(request, f"{kind.lower()}s").add(type_id=type_id, name=f"n{number}")
                service.call(f"Put{kind}s", request)

    def put(self, method: str, request: Any) -> None:
        for service in (self.native, self.ours):
            service.call(method, request)

    def close(self) -> None:
        self.native.close()
        self.ours.close()


@pytest.fixture
def pair() -> Iterator[Pair]:
    made = Pair()
    yield made
    made.close()


NODE = st.integers(1, _NODES)
EVENTS = st.lists(st.tuples(NODE, NODE, st.integers(1, 7)), unique=True, max_size=14)
LINKS = st.lists(st.tuples(NODE, NODE), unique=True, max_size=4)
FIELDS = sorted(mlmd.LineageGraph.DESCRIPTOR.fields_by_name)


@pytest.mark.skipif(
    not hasattr(core, "GetLineageSubgraph"), reason="this ml-metadata has no lineage call to compare with"
)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), events=EVENTS, attributions=LINKS, associations=LINKS)
def test_it_answers_as_ml_metadata_does(
    data: st.DataObject,
    events: list[tuple[int, int, int]],
    attributions: list[tuple[int, int]],
    associations: list[tuple[int, int]],
) -> None:
    pair = Pair()
    try:
        put = rpc.PutEventsRequest()
        for artifact, execution, kind in events:
            event = put.events.add(artifact_id=artifact, execution_id=execution, milliseconds_since_epoch=1)
            event.type = kind
        pair.put("PutEvents", put)
        links = rpc.PutAttributionsAndAssociationsRequest()
        for context, node in attributions:
            links.attributions.add(context_id=context, artifact_id=node)
        for context, node in associations:
            links.associations.add(context_id=context, execution_id=node)
        pair.put("PutAttributionsAndAssociations", links)
        for _ in range(4):
            request = a_question(data.draw)
            theirs, ours = (ask(each, "GetLineageSubgraph", request) for each in (pair.native, pair.ours))
            if theirs.code == 12:
                pytest.skip("this ml-metadata has no filters")
            assert (ours.code, ours.text.split(":")[0]) == (theirs.code, theirs.text.split(":")[0])
            if not theirs.code:
                assert told(ours.message, ordered=False) == told(theirs.message, ordered=False)
    finally:
        pair.close()


def a_question(draw: Any) -> rpc.GetLineageSubgraphRequest:
    """Draw what is asked; ids are given as a filter, for there is no other way."""
    request = rpc.GetLineageSubgraphRequest()
    options = request.lineage_subgraph_query_options
    start = draw(st.sampled_from(["starting_artifacts", "starting_executions"]))
    getattr(options, start).filter_query = f"id <= {draw(NODE)} AND id > {draw(st.integers(0, 3))}"
    if draw(st.booleans()):
        options.max_num_hops = draw(st.integers(-1, 6))
    if draw(st.booleans()):
        options.direction = draw(st.sampled_from([0, 1, 2, 3]))
    for kind in ("ending_artifacts", "ending_executions"):
        if draw(st.integers(0, 2)) == 0:
            getattr(options, kind).filter_query = f"name = 'n{draw(st.integers(0, _NODES - 1))}'"
            getattr(options, kind).include_ending_nodes = draw(st.booleans())
    request.read_mask.paths.extend(draw(st.lists(st.sampled_from(FIELDS), unique=True)))
    return request


def chain(service: MetadataService, length: int) -> int:
    """Put a chain of steps; return its last artifact."""
    types = rpc.PutTypesRequest(
        artifact_types=[mlmd.ArtifactType(name="L")], execution_types=[mlmd.ExecutionType(name="L")]
    )
    made = service.call("PutTypes", types)
    request = rpc.PutLineageSubgraphRequest()
    for number in range(length):
        request.artifacts.add(type_id=made.artifact_type_ids[0], uri=str(number))
        request.executions.add(type_id=made.execution_type_ids[0])
        edge = request.event_edges.add(artifact_index=number, execution_index=number)
        edge.event.type = mlmd.Event.OUTPUT
        if number:
            edge = request.event_edges.add(artifact_index=number - 1, execution_index=number)
            edge.event.type = mlmd.Event.INPUT
    return int(service.call("PutLineageSubgraph", request).artifact_ids[-1])


def test_a_chain_of_more_than_a_hundred_hops_is_told_to_its_end(sqlite_path: Path) -> None:
    service = open_sql(SqliteConfig(path=str(sqlite_path)).open_database(create=True))
    last = chain(service, 300)
    request = rpc.GetLineageSubgraphRequest()
    options = request.lineage_subgraph_query_options
    options.starting_artifacts.filter_query = f"id = {last}"
    options.direction = Options.UPSTREAM
    graph = service.call("GetLineageSubgraph", request).lineage_subgraph
    assert (len(graph.artifacts), len(graph.executions), len(graph.events)) == (300, 300, 599)
    options.max_num_hops = 500
    graph = service.call("GetLineageSubgraph", request).lineage_subgraph
    assert (len(graph.artifacts), len(graph.executions)) == (251, 250)
    service.close()


def test_more_than_a_hundred_nodes_to_start_from_are_all_taken(sqlite_path: Path) -> None:
    service = open_sql(SqliteConfig(path=str(sqlite_path)).open_database(create=True))
    chain(service, 300)
    request = rpc.GetLineageSubgraphRequest()
    request.lineage_subgraph_query_options.starting_executions.filter_query = "type = 'L'"
    request.lineage_subgraph_query_options.max_num_hops = 0
    assert len(service.call("GetLineageSubgraph", request).lineage_subgraph.executions) == 300
    service.close()
