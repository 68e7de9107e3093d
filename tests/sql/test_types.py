"""Types on the SQL service and on ml-metadata: equal answers, refusals and rows; of racers' one stays."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from operator import methodcaller
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import text_format
from ml_metadata.proto import metadata_store_pb2 as mlmd
from ml_metadata.proto import metadata_store_service_pb2 as rpc

from tests.sql.places import Place, sqlite_place
from tests.sql.twins import Twins, outcome, table_rows
from zen_mlmd.service.base import ALREADY_EXISTS, INTERNAL, INVALID_ARGUMENT, NOT_FOUND, UNIMPLEMENTED
from zen_mlmd.service.sql.service import SqlService

KINDS = ("Artifact", "Execution", "Context")
WRITERS = 8


@pytest.fixture
def twins(tmp_path: Path) -> Iterator[Twins]:
    """Both services, each on a SQLite file: there even the ids are the same."""
    made = Twins(sqlite_place(tmp_path / "theirs.sqlite"), sqlite_place(tmp_path / "ours.sqlite"))
    yield made
    made.close()


def put_types(text: str, *, can_add: bool = True, can_omit: bool = True) -> Any:
    """Return a PutTypes request of protobuf text."""
    request = rpc.PutTypesRequest(can_add_fields=can_add, can_omit_fields=can_omit)
    return text_format.Parse(text, request)


FIRST = """
artifact_types {
  name: "A" description: "of a" external_id: "a" base_type: DATASET
  properties { key: "n" value: INT } properties { key: "m" value: STRUCT }
}
artifact_types { name: "A" version: "v2" properties { key: "x" value: BOOLEAN } }
artifact_types { name: "Z" external_id: "0" description: "" }
execution_types {
  name: "E" external_id: "e" base_type: TRAIN
  properties { key: "d" value: DOUBLE } properties { key: "p" value: PROTO }
  input_type { dict {
    properties { key: "rows<é>" value { simple { name: "A" properties { key: "n" value: INT } } } }
    properties { key: "any" value { union_type { candidates { any {} } candidates { none {} } } } }
    none_type_not_required: true
  } }
  output_type { list { element { simple { id: 7 base_type: MODEL } } } }
}
context_types { name: "C" properties { key: "s" value: STRING } }
"""


def test_types_are_told_alike(twins: Twins) -> None:
    ids = twins.both("PutTypes", put_types(FIRST))
    assert [len(getattr(ids, f"{kind.lower()}_type_ids")) for kind in KINDS] == [3, 1, 1]
    for kind in KINDS:
        every = twins.both(f"Get{kind}Types", getattr(rpc, f"Get{kind}TypesRequest")())
        types = getattr(every, f"{kind.lower()}_types")
        assert not any(each.name.startswith("mlmd.") for each in types), "they are not told"
        wanted = [*(each.id for each in types), *range(1, 12), types[0].id, 999]
        request = getattr(rpc, f"Get{kind}TypesByIDRequest")(type_ids=wanted)
        found = getattr(twins.both(f"Get{kind}TypesByID", request), f"{kind.lower()}_types")
        assert [each.id for each in found].count(types[0].id) > 1, "as often as it is asked for"
        for name, version in (("A", ""), ("A", "v2"), ("E", ""), ("C", ""), ("A", "v3"), ("none", "")):
            request = getattr(rpc, f"Get{kind}TypeRequest")(type_name=name, type_version=version)
            twins.both(f"Get{kind}Type", request)
        for external_ids in ([], ["a", "0", "a"], ["none"], ["e", ""], ["e"]):
            request = getattr(rpc, f"Get{kind}TypesByExternalIdsRequest")(external_ids=external_ids)
            twins.both(f"Get{kind}TypesByExternalIds", request)
    twins.compare_tables()


_CYCLE = """
artifact_types { name: "mlmd.Model" base_type: DATASET }
artifact_types { name: "mlmd.Dataset" base_type: MODEL }
"""
_TWICE = """
artifact_types { name: "A" properties { key: "k" value: INT } }
artifact_types { name: "A" properties { key: "k" value: STRING } }
"""
SECOND = (
    ('artifact_types { name: "A" properties { key: "new" value: INT } }', 0),
    ('artifact_types { name: "A" external_id: "other" }', 0),
    ('artifact_types { name: "A" base_type: DATASET }', 0),
    ('artifact_types { name: "Z" base_type: MODEL } execution_types { name: "E" }', 0),
    ('artifact_types { name: "A" } artifact_types { name: "A" external_id: "b" }', 0),
    ('artifact_types { name: "N" external_id: "n" } artifact_types { name: "N" }', 0),
    ('artifact_types { name: "A" properties { key: "n" value: STRING } }', ALREADY_EXISTS),
    ('artifact_types { name: "N" external_id: "a" }', ALREADY_EXISTS),
    ('artifact_types { name: "N" external_id: "n" } artifact_types { name: "M" external_id: "n" }', 6),
    ('context_types { name: "N" external_id: "a" }', INTERNAL),
    ('artifact_types { name: "Z" external_id: "e" }', INTERNAL),
    ('artifact_types { name: "" }', INVALID_ARGUMENT),
    ('artifact_types { name: "N" properties { key: "u" value: UNKNOWN } }', INVALID_ARGUMENT),
    ('artifact_types { name: "A" properties { key: "u" value: UNKNOWN } }', INVALID_ARGUMENT),
    ('artifact_types { name: "A" base_type: MODEL }', UNIMPLEMENTED),
    ('artifact_types { name: "A" base_type: UNSET }', UNIMPLEMENTED),
    ('context_types { name: "N" base_type: UNSET }', UNIMPLEMENTED),
    ('artifact_types { name: "mlmd.Model" base_type: MODEL }', INVALID_ARGUMENT),
    (_CYCLE, INVALID_ARGUMENT),
    (_TWICE, ALREADY_EXISTS),
)


@pytest.mark.parametrize(("text", "code"), SECOND, ids=range(len(SECOND)))
def test_types_are_changed_or_refused_alike(twins: Twins, text: str, code: int) -> None:
    twins.both("PutTypes", put_types(FIRST))
    found = twins.both("PutTypes", put_types(text))
    assert (found if isinstance(found, int) else 0) == code
    twins.compare_tables()


@pytest.mark.parametrize("can_add", [True, False])
@pytest.mark.parametrize("can_omit", [True, False])
def test_fields_are_added_and_omitted_where_they_may(twins: Twins, can_add: bool, can_omit: bool) -> None:
    twins.both("PutTypes", put_types('context_types { name: "C" properties { key: "a" value: INT } }'))
    more = 'context_types { name: "C" properties { key: "a" value: INT } properties { key: "b" value: INT } }'
    for text, may in (('context_types { name: "C" }', can_omit), (more, can_add)):
        found = twins.both("PutTypes", put_types(text, can_add=can_add, can_omit=can_omit))
        assert (found == ALREADY_EXISTS) is not may
    twins.compare_tables()


def test_a_type_alone_and_what_is_no_longer_there(twins: Twins) -> None:
    for kind in KINDS:
        request = getattr(rpc, f"Put{kind}TypeRequest")(can_add_fields=True)
        assert twins.both(f"Put{kind}Type", request) == INVALID_ARGUMENT, "it has no name"
        getattr(request, f"{kind.lower()}_type").name = "T"
        assert twins.both(f"Put{kind}Type", request).type_id == twins.both(f"Put{kind}Type", request).type_id
        request.all_fields_match = False
        assert twins.both(f"Put{kind}Type", request) == UNIMPLEMENTED
    twins.compare_tables()


def test_a_base_type_that_is_not_there(twins: Twins) -> None:
    """As in a store of an ml-metadata that had none yet."""
    twins.native.close()
    for place in (twins.theirs, twins.ours):
        place.with_connection(methodcaller("exec_driver_sql", "DELETE FROM Type WHERE name = 'mlmd.Model'"))
    request = put_types('artifact_types { name: "A" base_type: MODEL }')
    assert outcome(twins.sql, "PutTypes", request)[0] == NOT_FOUND


def test_a_property_that_another_has_added_since(
    place: Place, open_service: Callable[[Place], SqlService]
) -> None:
    """Types are read once; before one is said to lack a property it is read again."""
    ours, other = open_service(place), open_service(place)
    kind = mlmd.ExecutionType(name="E")
    kind_id = ours.call("PutExecutionType", rpc.PutExecutionTypeRequest(execution_type=kind)).type_id
    request = rpc.PutExecutionsRequest(executions=[mlmd.Execution(type_id=kind_id)])
    ours.call("PutExecutions", request)
    kind.properties["late"] = mlmd.INT
    other.call("PutExecutionType", rpc.PutExecutionTypeRequest(execution_type=kind, can_add_fields=True))
    request.executions[0].properties["late"].int_value = 1
    (number,) = ours.call("PutExecutions", request).execution_ids
    assert number
    request.executions[0].properties["later"].int_value = 1
    assert outcome(ours, "PutExecutions", request)[0] == INVALID_ARGUMENT


def test_those_who_register_a_type_at_once_get_the_same(
    place: Place, open_service: Callable[[Place], SqlService]
) -> None:
    """No key keeps two of one name apart; in PostgreSQL ml-metadata makes several."""
    services = [open_service(place) for _ in range(WRITERS)]

    def register(number: int, turn: int) -> Any:
        request = rpc.PutTypesRequest(can_add_fields=True, can_omit_fields=True)
        for name in ("A", "B"):
            kind = request.artifact_types.add(name=f"{name}{turn}", base_type=mlmd.ArtifactType.MODEL)
            kind.properties["common"] = mlmd.INT
            kind.properties[f"of {number}"] = mlmd.STRING
        return tuple(services[number].call("PutTypes", request).artifact_type_ids)

    with ThreadPoolExecutor(WRITERS) as pool:
        for turn in range(3):
            got = set(pool.map(register, range(WRITERS), [turn] * WRITERS))
            assert len(got) == 1, got
            (ids,) = got
            request = rpc.GetArtifactTypesByIDRequest(type_ids=ids)
            for kind in services[0].call("GetArtifactTypesByID", request).artifact_types:
                assert set(kind.properties) == {"common", *(f"of {number}" for number in range(WRITERS))}
                assert kind.base_type == mlmd.ArtifactType.MODEL
    rows = place.with_connection(table_rows)["Type"]
    assert len({row[1] for row in rows}) == len(rows) == 15


@pytest.mark.mysql
def test_names_that_differ_by_case_are_two_types(
    mysql_folding: Place, open_service: Callable[[Place], SqlService]
) -> None:
    """ml-metadata takes the one for the other where the database does."""
    service = open_service(mysql_folding)
    ids = [
        service.call(
            "PutContextType", rpc.PutContextTypeRequest(context_type=mlmd.ContextType(name=name))
        ).type_id
        for name in ("Pipeline", "pipeline", "pipeline ")
    ]
    assert len(set(ids)) == 3
    for number, name in zip(ids, ("Pipeline", "pipeline", "pipeline "), strict=True):
        request = rpc.GetContextTypeRequest(type_name=name)
        assert service.call("GetContextType", request).context_type.id == number


@pytest.mark.parametrize("column", ["input_type", "output_type"])
def test_a_struct_that_is_none(twins: Twins, column: str) -> None:
    twins.both("PutTypes", put_types(FIRST))
    twins.native.close()
    for place in (twins.theirs, twins.ours):
        statement = f"UPDATE Type SET {column} = '{{nonsense' WHERE name = 'E'"
        place.with_connection(methodcaller("exec_driver_sql", statement))
    assert twins.both("GetExecutionType", rpc.GetExecutionTypeRequest(type_name="E")) == INTERNAL
