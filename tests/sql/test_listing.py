"""Listings by pages: the same pages and tokens as ml-metadata's, and whole where its own are not."""

from __future__ import annotations

import base64
import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from ml_metadata.proto import metadata_store_pb2 as mlmd
from ml_metadata.proto import metadata_store_service_pb2 as rpc

from tests.sql.conftest import BACKENDS
from tests.sql.places import Place, sqlite_place
from tests.sql.same_data import SameData, ask, fill, new_place, same_data, selects
from zen_mlmd.service.base import INVALID_ARGUMENT
from zen_mlmd.service.native import NativeService
from zen_mlmd.service.sql.database import Database
from zen_mlmd.service.sql.learn import learn
from zen_mlmd.service.sql.listing import PAGE
from zen_mlmd.service.sql.service import SqlService

Order = mlmd.ListOperationOptions.OrderByField
FIELDS = (Order.ID, Order.CREATE_TIME, Order.LAST_UPDATE_TIME)
SOURCES: dict[str, dict[str, Any]] = {
    "GetArtifacts": {},
    "GetExecutions": {},
    "GetContexts": {},
    "GetArtifactsByType": {"type_name": "Model"},
    "GetExecutionsByType": {"type_name": "Trainer"},
    "GetContextsByType": {"type_name": "pipeline"},
    "GetArtifactsByContext": {"context_id": 1},
    "GetExecutionsByContext": {"context_id": 1},
}
TIES = 230
"""Artifacts that were written in one transaction, and have one time: more than two pages."""


def _fill(service: NativeService, backslash: str) -> None:
    fill(service, backslash)
    types = rpc.PutArtifactTypeRequest(artifact_type=mlmd.ArtifactType(name="Tied"))
    type_id = service.call("PutArtifactType", types).type_id
    request = rpc.PutArtifactsRequest(artifacts=[mlmd.Artifact(type_id=type_id)] * TIES)
    ids = service.call("PutArtifacts", request).artifact_ids
    links = rpc.PutAttributionsAndAssociationsRequest()
    for each in ids:
        links.attributions.add(artifact_id=each, context_id=4)
    service.call("PutAttributionsAndAssociations", links)


def _tie(place: Place) -> None:
    """Give artifacts the times that rows have that one transaction wrote, or a restored clock."""
    for statement in (
        "UPDATE {a} SET create_time_since_epoch = 5 WHERE type_id = (SELECT max(id) FROM {t})",
        "UPDATE {a} SET last_update_time_since_epoch = 7 WHERE create_time_since_epoch = 5",
        "UPDATE {a} SET create_time_since_epoch = 6 WHERE id % 50 = 49",
    ):
        quote = "{}" if place.dialect == "postgresql" else "`{}`"
        sql = statement.format(a=quote.format("Artifact"), t=quote.format("Type"))
        place.with_connection(functools.partial(sa.Connection.execute, statement=sa.text(sql)))


@pytest.fixture(scope="module", params=BACKENDS)
def data(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SameData]:
    """The same rows, read by both."""
    directory = tmp_path_factory.mktemp("listing")
    with new_place(request, request.param, directory) as place:
        with same_data(place, _fill):
            _tie(place if place.dialect != "sqlite" else sqlite_place(directory / "same.copy"))
        if place.dialect == "sqlite":
            _tie(place)
        with same_data(place, lambda *_: None) as both:
            yield both


def _options(size: int = 5, field: int = Order.ID, *, ascending: bool = True) -> mlmd.ListOperationOptions:
    options = mlmd.ListOperationOptions(max_result_size=size)
    options.order_by_field.field = field
    options.order_by_field.is_asc = ascending
    return options


def _pages(
    service: Any, method: str, options: mlmd.ListOperationOptions, **fields: Any
) -> Iterator[tuple[list[int], str]]:
    """Yield pages as ids, with the token behind each."""
    request = getattr(rpc, f"{method}Request")(**(fields or SOURCES[method]))
    request.options.CopyFrom(options)
    nodes = f"{method[3:].partition('By')[0].lower()}"
    for _ in range(200):
        answer = service.call(method, request)
        yield [node.id for node in getattr(answer, nodes)], answer.next_page_token
        if not answer.next_page_token:
            return
        request.options.next_page_token = answer.next_page_token
    raise AssertionError("it does not end")


@pytest.mark.parametrize("ascending", [True, False], ids=["asc", "desc"])
@pytest.mark.parametrize("field", FIELDS, ids=Order.Field.Name)
@pytest.mark.parametrize("method", SOURCES)
def test_pages_and_tokens_are_ml_metadatas(data: SameData, method: str, field: int, ascending: bool) -> None:
    options = _options(4 if "Artifacts" not in method or "By" in method else 60, field, ascending=ascending)
    theirs = _pages(data.native, method, options)
    ours = _pages(data.sql, method, options)
    for number, (their, our) in enumerate(zip(theirs, ours, strict=False)):
        assert our == their
        if field != Order.ID and number == 1:
            break  # behind it ml-metadata repeats nodes of one time, or forgets some: see the next test
    else:
        assert next(theirs, None) is next(ours, None) is None


@pytest.mark.parametrize("ascending", [True, False], ids=["asc", "desc"])
@pytest.mark.parametrize("field", FIELDS, ids=Order.Field.Name)
@pytest.mark.parametrize(
    ("method", "fields"),
    [("", {}), ("ByType", {"type_name": "Tied"}), ("ByContext", {"context_id": 4})],
    ids=["all", "type", "context"],
)
def test_every_node_is_listed_once_also_of_many_that_have_one_time(
    data: SameData, method: str, fields: dict[str, Any], field: int, ascending: bool
) -> None:
    method = f"GetArtifacts{method}"
    nodes = data.sql.call(method, getattr(rpc, f"{method}Request")(**fields)).artifacts
    of_field = {
        Order.ID: lambda node: node.id,
        Order.CREATE_TIME: lambda node: (node.create_time_since_epoch, node.id),
        Order.LAST_UPDATE_TIME: lambda node: (node.last_update_time_since_epoch, node.id),
    }[field]
    wanted = [node.id for node in sorted(nodes, key=of_field, reverse=not ascending)]
    assert len(wanted) >= TIES
    pages = list(_pages(data.sql, method, _options(60, field, ascending=ascending), **fields))
    assert [each for page, _ in pages for each in page] == wanted
    assert [len(page) for page, _ in pages[:-1]] == [60] * (len(pages) - 1)


@pytest.mark.parametrize("field", FIELDS, ids=Order.Field.Name)
def test_each_goes_on_with_the_others_token(data: SameData, field: int) -> None:
    options = _options(7, field, ascending=False)
    (_, token) = next(_pages(data.native, "GetExecutions", options))
    options.next_page_token = token
    theirs, ours = data.both("GetExecutions", options=options)
    assert ours == theirs
    options.next_page_token = f"{token}{'=' * (-len(token) % 4)}"
    assert data.same("GetExecutions", options=options) == ours


def test_a_page_holds_a_hundred_at_most_and_says_that_there_are_more(data: SameData) -> None:
    # Of more than 100 ml-metadata gives 101, and does not say that there are more.
    theirs, ours = data.both("GetArtifacts", options=_options(1000))
    assert [len(each.artifacts) for each in (theirs, ours)] == [PAGE + 1, PAGE]
    assert ours.next_page_token
    assert not theirs.next_page_token
    assert data.same("GetArtifacts", options=_options(100)).next_page_token
    assert len(data.same("GetArtifacts", options=mlmd.ListOperationOptions()).artifacts) == 20
    data.same("GetExecutions", options=_options(2**31 - 2))


def test_pages_that_are_just_full_or_empty(data: SameData) -> None:
    count = len(data.sql.call("GetContexts", rpc.GetContextsRequest()).contexts)
    for size in (count - 1, count, count + 1):
        answer = data.same("GetContexts", options=_options(size))
        assert bool(answer.next_page_token) == (size < count)
    last = _options(count - 1)
    last.next_page_token = data.same("GetContexts", options=last).next_page_token
    assert len(data.same("GetContexts", options=last).contexts) == 1
    for method, fields in (
        ("GetContextsByType", {"type_name": "nobody"}),
        ("GetContextsByType", {"type_name": "none"}),
        ("GetArtifactsByContext", {"context_id": 999}),
        ("GetExecutionsByContext", {"context_id": 5}),
    ):
        data.same(method, options=_options(), **fields)
        data.same(method, options=_options(0), **fields)
    assert data.same("GetContextsByType", type_name="run", options=_options(50)).HasField("next_page_token")
    assert not data.same("GetContexts", options=_options(50)).HasField("next_page_token")


def _token(**fields: Any) -> str:
    token = mlmd.ListOperationNextPageToken(**fields)
    token.set_options.order_by_field.field = Order.LAST_UPDATE_TIME
    return base64.urlsafe_b64encode(token.SerializeToString()).decode()


def test_options_that_are_none_are_refused_in_ml_metadatas_words(data: SameData) -> None:
    unspecified = _options(field=Order.FIELD_UNSPECIFIED)
    bad_tokens = [_options(), _options(), _options(field=Order.LAST_UPDATE_TIME)]
    for options, token in zip(bad_tokens, ("*", "AAAA", _token(field_offset=7)), strict=True):
        options.next_page_token = token
    for options in (_options(0), _options(-7), unspecified, *bad_tokens):
        for method, fields in SOURCES.items():
            answer = data.same(method, options=options, **fields)
            assert answer[0] == INVALID_ARGUMENT
            assert answer[1]


def test_other_options_than_the_token_is_of_are_refused(data: SameData) -> None:
    token = next(_pages(data.sql, "GetContexts", _options(3)))[1]
    for options in (_options(3, Order.CREATE_TIME), _options(3, ascending=False)):
        options.next_page_token = token
        theirs, ours = data.both("GetContexts", options=options)
        assert ours[0] == theirs[0] == INVALID_ARGUMENT
        assert ours[1].split()[:6] == theirs[1].split()[:6]
    other_size = _options(4)
    other_size.next_page_token = token
    data.same("GetContexts", options=other_size)


@pytest.mark.parametrize("method", SOURCES)
def test_a_page_is_three_statements(data: SameData, method: str) -> None:
    options = _options(3, Order.CREATE_TIME)
    options.next_page_token = next(_pages(data.sql, method, options))[1]
    with selects(data.database) as seen:
        ask(data.sql, method, getattr(rpc, f"{method}Request")(**SOURCES[method], options=options))
    # SQLite is asked how many there are, too: it has no statistics of its own.
    assert len(seen) == 3 + ("ByType" in method) + 2 * (data.dialect == "sqlite" and "By" in method)


LARGE = 3000
"""Artifacts, half of which are in one context, in the order of their ids but not of their times."""


@pytest.mark.parametrize("field", FIELDS, ids=Order.Field.Name)
@pytest.mark.parametrize("method", ["GetArtifactsByContext", "GetArtifactsByType"])
def test_each_page_of_many_costs_the_same(tmp_path: Path, method: str, field: int) -> None:
    steps: list[int] = []

    def fill_many(service: NativeService, _: str) -> None:
        types = rpc.PutTypesRequest()
        for name in ("A", "B"):
            types.artifact_types.add(name=name)
        types.context_types.add(name="C")
        made = service.call("PutTypes", types)
        request = rpc.PutArtifactsRequest()
        for number in range(LARGE):
            request.artifacts.add(type_id=made.artifact_type_ids[number % 2])
        ids = service.call("PutArtifacts", request).artifact_ids
        contexts = rpc.PutContextsRequest()
        contexts.contexts.add(type_id=made.context_type_ids[0], name="half")
        service.call("PutContexts", contexts)
        links = rpc.PutAttributionsAndAssociationsRequest()
        for each in ids[::2]:
            links.attributions.add(artifact_id=each, context_id=1)
        service.call("PutAttributionsAndAssociations", links)

    place = sqlite_place(tmp_path / "many.sqlite")
    with same_data(place, fill_many):
        pass
    place.with_connection(
        functools.partial(
            sa.Connection.exec_driver_sql,
            statement="UPDATE Artifact SET create_time_since_epoch = id * 7919 % 3001,"
            " last_update_time_since_epoch = id * 7907 % 3001",
        )
    )
    fields: dict[str, Any] = {"type_name": "A"} if "Type" in method else {"context_id": 1}
    with SqlService(Database(place.engine, location="many", learn=learn)) as service:
        service.call("GetArtifactTypes", rpc.GetArtifactTypesRequest())
        engine, _ = service._database._opened()

        @sa.event.listens_for(engine, "checkout")
        def count(connection: Any, *_: Any) -> None:
            steps.append(0)

            def step() -> None:
                steps[-1] += 1

            connection.set_progress_handler(step, 100)

        pages = list(_pages(service, method, _options(100, field), **fields))
    assert [len(page) for page, _ in pages] == [100] * (LARGE // 200)
    # Sorted anew for each page, what is left would cost the first one twice as much as the last.
    assert max(steps) < 1.3 * min(steps)


def test_a_page_of_a_context_by_id_is_read_from_an_index(tmp_path: Path) -> None:
    plans: list[str] = []

    def explain(connection: Any, _: Any, sql: str, values: Any, *more: Any) -> None:
        if "Association" in sql and "LIMIT" in sql:
            cursor = connection.connection.cursor()
            plans.extend(str(row) for row in cursor.execute(f"EXPLAIN QUERY PLAN {sql}", values))

    with same_data(sqlite_place(tmp_path / "plan.sqlite"), fill) as data:
        sa.event.listen(data.database._opened()[0], "before_cursor_execute", explain)
        assert len(list(_pages(data.sql, "GetExecutionsByContext", _options(3)))) > 2
    assert plans
    assert not [each for each in plans if "TEMP B-TREE" in each or "SCAN" in each]
