"""Writes are all or nothing, few waits long, and lose nothing to those that are made at the same time."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pymysql
import pytest
from ml_metadata.proto import metadata_store_pb2 as mlmd
from ml_metadata.proto import metadata_store_service_pb2 as rpc

from tests.sql.places import Place, server_place
from tests.sql.twins import outcome, table_rows
from zen_mlmd.service.base import ALREADY_EXISTS, FAILED_PRECONDITION
from zen_mlmd.service.sql.service import SqlService

WRITERS = 8
ROUNDS = 4
MIB = 2**20

Open = Callable[[Place], SqlService]


class Store:
    """A service with a type of each kind: whose properties are `key` and `value`, both texts."""

    def __init__(self, service: SqlService) -> None:
        self.service = service
        request = rpc.PutTypesRequest()
        for kinds in (request.artifact_types, request.execution_types, request.context_types):
            kinds.add(name="T", properties={"key": mlmd.STRING, "value": mlmd.STRING})
        types = service.call("PutTypes", request)
        (self.artifact,), (self.execution,) = types.artifact_type_ids, types.execution_type_ids
        (self.context,) = types.context_type_ids

    def put(self, method: str, **fields: Any) -> Any:
        return self.service.call(method, getattr(rpc, f"{method}Request")(**fields))

    def put_artifact(self, **fields: Any) -> int:
        node = mlmd.Artifact(type_id=self.artifact, **fields)
        (number,) = self.put("PutArtifacts", artifacts=[node]).artifact_ids
        return int(number)

    def artifact_of(self, number: int) -> Any:
        return self.put("GetArtifactsByID", artifact_ids=[number]).artifacts[0]

    def step(self, name: str, inputs: list[int], *, contexts: tuple[str, ...] = ("pipeline", "run")) -> Any:
        """Return the request of a step with these inputs, 2 outputs and 20 properties."""
        request = rpc.PutExecutionRequest()
        request.options.reuse_context_if_already_exist = True
        request.execution.type_id, request.execution.name = self.execution, name
        for number in range(20):
            request.execution.custom_properties[f"property {number}"].double_value = number / 3
        for number in inputs:
            event = request.artifact_event_pairs.add().event
            event.type, event.artifact_id = mlmd.Event.INPUT, number
            event.path.steps.add().key = "in"
        for number in range(2):
            pair = request.artifact_event_pairs.add()
            pair.artifact.type_id, pair.artifact.uri = self.artifact, f"{name}/{number}"
            pair.artifact.properties["key"].string_value = name
            pair.event.type = mlmd.Event.OUTPUT
            pair.event.path.steps.add().key = f"out {number}"
        for each in contexts:
            request.contexts.add(type_id=self.context, name=each)
        return request


@pytest.fixture
def store(place: Place, open_service: Open) -> Store:
    """A store on each kind of database."""
    return Store(open_service(place))


@pytest.fixture
def mysql_place(mysql_url: str) -> Place:
    """An empty database of MariaDB."""
    return server_place(mysql_url)


@contextmanager
def packets() -> Iterator[list[str]]:
    """Collect what is sent to MySQL: each is a wait for the network."""
    sent: list[str] = []
    connections: Any = pymysql.connections.Connection
    original = connections._execute_command

    def counted(self: Any, command: int, sql: Any) -> Any:
        sent.append(sql if isinstance(sql, str) else bytes(sql).decode("utf-8", "replace"))
        return original(self, command, sql)

    connections._execute_command = counted
    try:
        yield sent
    finally:
        connections._execute_command = original


@pytest.mark.mysql
def test_a_step_is_two_waits(mysql_place: Place, open_service: Open) -> None:
    """ml-metadata 1.17.1 sends some 70 statements for it."""
    store = Store(open_service(mysql_place))
    inputs = [store.put_artifact(uri="in") for _ in range(2)]
    store.service.call("PutExecution", store.step("first", inputs))
    with packets() as sent:
        answer = store.service.call("PutExecution", store.step("second", inputs))
    assert len(sent) == 2, sent
    with packets() as sent:
        request = store.step("second", [])
        request.execution.id = answer.execution_id
        request.execution.last_known_state = mlmd.Execution.COMPLETE
        del request.artifact_event_pairs[:]
        store.service.call("PutExecution", request)
    assert len(sent) == 2, sent
    events = store.put("GetEventsByExecutionIDs", execution_ids=[answer.execution_id]).events
    assert [[step.key for step in event.path.steps] for event in events] == [
        *(["in"], ["in"]),
        *(["out 0"], ["out 1"]),
    ], "each path is its event's, though nobody was told the event's id"


def test_a_refused_write_leaves_nothing(store: Store, place: Place) -> None:
    """Also where the database refuses it behind much that was done, and in one packet with the end."""
    (number,) = [store.put_artifact(uri="in")]
    before = place.with_connection(table_rows)
    request = store.step("doomed", [number, number], contexts=("new",))
    assert outcome(store.service, "PutExecution", request)[0] == ALREADY_EXISTS
    assert place.with_connection(table_rows) == before
    store.service.call("PutExecution", store.step("fine", [number]))


def test_many_rows_get_ids_in_their_order(store: Store) -> None:
    """More than one statement takes."""
    request = rpc.PutLineageSubgraphRequest()
    for number in range(3000):
        node = request.artifacts.add(type_id=store.artifact, uri=str(number))
        node.custom_properties["number"].int_value = number
        request.executions.add(type_id=store.execution, name=str(number))
        edge = request.event_edges.add(artifact_index=number, execution_index=number)
        edge.event.type = mlmd.Event.OUTPUT
        for step in (number, 1):
            edge.event.path.steps.add().index = step
    answer = store.service.call("PutLineageSubgraph", request)
    artifacts = store.put("GetArtifactsByID", artifact_ids=answer.artifact_ids).artifacts
    assert [each.id for each in artifacts] == sorted(answer.artifact_ids)
    by_id = {each.id: each for each in artifacts}
    for number, artifact_id in enumerate(answer.artifact_ids):
        assert by_id[artifact_id].uri == str(number)
        assert by_id[artifact_id].custom_properties["number"].int_value == number
    events = store.put("GetEventsByArtifactIDs", artifact_ids=answer.artifact_ids).events
    of_artifact = {event.artifact_id: event for event in events}
    for number, artifact_id in enumerate(answer.artifact_ids):
        event = of_artifact[artifact_id]
        assert event.execution_id == answer.execution_ids[number]
        assert [step.index for step in event.path.steps] == [number, 1]
    for node in request.artifacts:
        node.id = answer.artifact_ids[int(node.uri)]
        node.custom_properties["number"].int_value += 1
    store.put("PutArtifacts", artifacts=request.artifacts)
    artifacts = store.put("GetArtifactsByID", artifact_ids=answer.artifact_ids).artifacts
    assert all(each.custom_properties["number"].int_value == int(each.uri) + 1 for each in artifacts)


@pytest.mark.mysql
def test_more_than_one_packet_takes(mysql_place: Place, open_service: Open) -> None:
    """MariaDB takes 16 MiB at once."""
    store = Store(open_service(mysql_place))
    text = "\N{PILE OF POO}'\\" * (MIB // 4)
    values = {f"property {number}": text + str(number) for number in range(18)}
    node = mlmd.Artifact(type_id=store.artifact)
    for name, value in values.items():
        node.custom_properties[name].string_value = value
    number = store.put("PutArtifacts", artifacts=[node]).artifact_ids[0]
    found = store.artifact_of(number)
    assert {name: value.string_value for name, value in found.custom_properties.items()} == values


def test_the_time_of_update_is_set_by_a_change_only(store: Store) -> None:
    number = store.put_artifact(uri="u", properties={"key": mlmd.Value(string_value="v")})
    stored = store.artifact_of(number)
    assert stored.create_time_since_epoch == stored.last_update_time_since_epoch
    _wait_beyond(stored)
    store.put("PutArtifacts", artifacts=[stored])
    assert store.artifact_of(number) == stored
    del stored.properties["key"]
    store.put("PutArtifacts", artifacts=[stored])
    changed = store.artifact_of(number)
    assert changed.last_update_time_since_epoch > changed.create_time_since_epoch
    assert changed.create_time_since_epoch == stored.create_time_since_epoch


def test_force_update_time_sets_it_all_the_same(store: Store) -> None:
    (number,) = store.put("PutExecutions", executions=[mlmd.Execution(type_id=store.execution)]).execution_ids
    (stored,) = store.put("GetExecutionsByID", execution_ids=[number]).executions
    _wait_beyond(stored)
    request = rpc.PutExecutionRequest(execution=stored)
    store.service.call("PutExecution", request)
    assert store.put("GetExecutionsByID", execution_ids=[number]).executions == [stored]
    request.options.force_update_time = True
    store.service.call("PutExecution", request)
    (forced,) = store.put("GetExecutionsByID", execution_ids=[number]).executions
    assert forced.last_update_time_since_epoch > stored.last_update_time_since_epoch


def _wait_beyond(node: Any) -> None:
    """Let the clock go on, by a millisecond or so."""
    while int(time.time() * 1000) <= node.last_update_time_since_epoch:
        time.sleep(0.0005)


def test_who_read_an_old_state_may_ask_to_be_refused(store: Store) -> None:
    options = rpc.PutArtifactsRequest.Options(abort_if_latest_updated_time_changed=True)
    number = store.put_artifact(uri="0")
    stored = store.artifact_of(number)
    for turn in range(1, 4):  # within one millisecond, maybe: the time goes on all the same
        stored.uri = str(turn)
        store.put("PutArtifacts", artifacts=[stored], options=options)
        old, stored = stored, store.artifact_of(number)
        assert stored.last_update_time_since_epoch > old.last_update_time_since_epoch
        request = rpc.PutArtifactsRequest(artifacts=[old], options=options)
        assert outcome(store.service, "PutArtifacts", request)[0] == FAILED_PRECONDITION


def at_once(work: Callable[[int], Any]) -> list[Any]:
    """Do something in `WRITERS` threads, which begin together."""
    barrier = threading.Barrier(WRITERS)

    def begin(number: int) -> Any:
        barrier.wait()
        return work(number)

    with ThreadPoolExecutor(WRITERS) as pool:
        return list(pool.map(begin, range(WRITERS)))


def test_those_who_begin_a_run_at_once_share_its_contexts(store: Store) -> None:
    inputs = [store.put_artifact(uri=str(number)) for number in range(2)]
    for turn in range(ROUNDS):
        contexts = (f"pipeline {turn}", f"run {turn}")

        def begin(number: int, turn: int = turn, contexts: tuple[str, ...] = contexts) -> Any:
            request = store.step(f"{turn} {number}", inputs, contexts=contexts)
            return store.service.call("PutExecution", request)

        answers = at_once(begin)
        assert len({tuple(answer.context_ids) for answer in answers}) == 1
        for context_id in answers[0].context_ids:
            found = store.put("GetExecutionsByContext", context_id=context_id).executions
            assert {each.id for each in found} == {answer.execution_id for answer in answers}
            made = store.put("GetArtifactsByContext", context_id=context_id).artifacts
            assert {each.id for each in made} == {each for answer in answers for each in answer.artifact_ids}


def test_those_who_make_an_artifact_of_one_external_id_at_once_share_it(store: Store) -> None:
    for turn in range(ROUNDS):

        def make(number: int, turn: int = turn) -> Any:
            request = rpc.PutExecutionRequest(execution=mlmd.Execution(type_id=store.execution))
            request.options.reuse_artifact_if_already_exist_by_external_id = True
            node = request.artifact_event_pairs.add().artifact
            node.type_id, node.external_id, node.uri = store.artifact, f"external {turn}", str(number)
            return store.service.call("PutExecution", request).artifact_ids[0]

        assert len(set(at_once(make))) == 1


def test_masked_changes_of_one_node_do_not_undo_each_other(store: Store) -> None:
    number = store.put_artifact(uri="u")

    def change(writer: int) -> None:
        for turn in range(ROUNDS):
            node = mlmd.Artifact(id=number)
            node.custom_properties[f"of {writer}"].int_value = turn
            mask = {"paths": [f"custom_properties.of {writer}"]}
            store.put("PutArtifacts", artifacts=[node], update_mask=mask)

    at_once(change)
    found = store.artifact_of(number).custom_properties
    assert {name: found[name].int_value for name in found} == {
        f"of {writer}": ROUNDS - 1 for writer in range(WRITERS)
    }


def test_those_who_change_the_same_nodes_in_opposite_order_all_succeed(store: Store) -> None:
    numbers = [store.put_artifact(uri=str(number)) for number in range(4)]

    def change(writer: int) -> None:
        for turn in range(ROUNDS):
            order = numbers if writer % 2 else numbers[::-1]
            nodes = [mlmd.Artifact(id=number, uri=f"{writer} {turn}") for number in order]
            for node in nodes:
                node.custom_properties["by"].string_value = f"{writer} {turn}"
            store.put("PutArtifacts", artifacts=nodes)

    at_once(change)
    found = [store.artifact_of(number) for number in numbers]
    assert len({(each.uri, each.custom_properties["by"].string_value) for each in found}) == 1
    assert found[0].uri == found[0].custom_properties["by"].string_value


def test_two_who_would_be_each_others_ancestors(store: Store) -> None:
    contexts = [mlmd.Context(type_id=store.context, name=str(number)) for number in range(2)]
    for _ in range(ROUNDS):
        for each in contexts:
            each.name += "+"
        one, other = store.put("PutContexts", contexts=contexts).context_ids

        def tie(number: int, pair: tuple[int, int] = (one, other)) -> Any:
            parent, child = pair if number % 2 else pair[::-1]
            request = rpc.PutParentContextsRequest()
            request.parent_contexts.add(parent_id=parent, child_id=child)
            return outcome(store.service, "PutParentContexts", request)

        done = [each for each in at_once(tie) if not isinstance(each, tuple)]
        assert len(done) == 1


@pytest.mark.mysql
def test_a_context_that_differs_by_case_is_not_taken_for_another(
    mysql_folding: Place, open_service: Open
) -> None:
    """ml-metadata gives the execution to the other context."""
    store = Store(open_service(mysql_folding))
    store.service.call("PutExecution", store.step("one", [], contexts=("Run",)))
    code, text = outcome(store.service, "PutExecution", store.step("two", [], contexts=("run",)))
    assert code == ALREADY_EXISTS
    assert "'Run' and 'run'" in text
