"""Writes on the SQL service and on ml-metadata: equal answers, refusals and rows."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import text_format
from ml_metadata.proto import metadata_store_pb2 as mlmd
from ml_metadata.proto import metadata_store_service_pb2 as rpc

from tests.sql.places import sqlite_place
from tests.sql.twins import Twins
from zen_mlmd.service.base import (
    ABORTED,
    ALREADY_EXISTS,
    INTERNAL,
    INVALID_ARGUMENT,
    NOT_FOUND,
    OUT_OF_RANGE,
)

TYPES = """
artifact_types {
  name: "A"
  properties { key: "s" value: STRING } properties { key: "i" value: INT }
  properties { key: "m" value: STRUCT } properties { key: "p" value: PROTO }
}
artifact_types { name: "A2" }
execution_types { name: "E" properties { key: "d" value: DOUBLE } properties { key: "b" value: BOOLEAN } }
context_types { name: "C" properties { key: "s" value: STRING } }
"""
A, A2, E, C = 10, 11, 12, 13
"""Ids of these types, behind those of the nine that each store has."""

NODES = """
artifacts {
  type_id: 10 name: "one" uri: "u" state: LIVE external_id: "a1"
  properties { key: "s" value { string_value: "v" } }
  properties { key: "m" value { struct_value { fields { key: "k" value { number_value: 1 } } } } }
  custom_properties { key: "c" value { int_value: -4611686018427387904 } }
  custom_properties { key: "e" value { string_value: "" } }
}
artifacts {
  type_id: 10 properties { key: "p" value { proto_value { type_url: "t/t" value: "\\000\\377" } } }
}
artifacts { type_id: 11 external_id: "a3" custom_properties { key: "m" value { struct_value {} } } }
executions {
  type_id: 12 name: "one" last_known_state: RUNNING external_id: "e1"
  properties { key: "d" value { double_value: 0.5 } } properties { key: "b" value { bool_value: false } }
}
executions { type_id: 12 }
contexts { type_id: 13 name: "one" external_id: "c1" properties { key: "s" value { string_value: "v" } } }
contexts { type_id: 13 name: "two" }
"""


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a SQLite file for each, which has `TYPES` and `NODES`."""
    folder = tmp_path_factory.mktemp("written")
    twins = _open(folder)
    types = twins.both("PutTypes", message("PutTypes", TYPES))
    assert [*types.artifact_type_ids, *types.execution_type_ids, *types.context_type_ids] == [A, A2, E, C]
    twins.both("PutLineageSubgraph", message("PutLineageSubgraph", NODES))
    twins.close()
    return folder


@pytest.fixture
def twins(written: Path, tmp_path: Path) -> Iterator[Twins]:
    """Both services, each on a copy of its file of `written`: there even the ids are the same."""
    for file in written.iterdir():
        shutil.copy(file, tmp_path)
    made = _open(tmp_path)
    yield made
    made.close()


def _open(folder: Path) -> Twins:
    return Twins(sqlite_place(folder / "theirs.sqlite"), sqlite_place(folder / "ours.sqlite"))


def message(method: str, text: str) -> Any:
    """Return a request of protobuf text."""
    return text_format.Parse(text, getattr(rpc, f"{method}Request")())


def code_of(found: Any) -> int:
    return found if isinstance(found, int) else 0


CHANGES = (
    ("PutArtifacts", 'artifacts { id: 1 type_id: 10 uri: "new" }', 0),
    ("PutArtifacts", 'artifacts { id: 1 name: "another" }', 0),
    ("PutArtifacts", "artifacts { id: 1 custom_properties { key: 'c' value { int_value: 5 } } }", 0),
    ("PutArtifacts", "artifacts { id: 1 custom_properties { key: 'c' value { string_value: '5' } } }", 0),
    ("PutArtifacts", 'artifacts { id: 1 external_id: "a1" } artifacts { id: 2 external_id: "a1" }', INTERNAL),
    ("PutArtifacts", 'artifacts { id: 1 external_id: "x" } artifacts { id: 2 external_id: "a1" }', 0),
    ("PutArtifacts", 'artifacts { id: 1 } artifacts { type_id: 10 external_id: "a1" }', 0),
    ("PutArtifacts", 'artifacts { type_id: 10 external_id: "a1" } artifacts { id: 1 }', ALREADY_EXISTS),
    ("PutArtifacts", 'artifacts { id: 1 uri: "x" } artifacts { id: 1 uri: "y" }', 0),
    ("PutArtifacts", 'artifacts { type_id: 10 } artifacts { id: 4 uri: "the new one" }', 0),
    ("PutArtifacts", "artifacts { id: 9 }", INVALID_ARGUMENT),
    ("PutArtifacts", "artifacts { id: 1 type_id: 11 }", INVALID_ARGUMENT),
    ("PutArtifacts", "artifacts { id: 1 properties { key: 'no' value { int_value: 1 } } }", INVALID_ARGUMENT),
    ("PutArtifacts", "artifacts { id: 1 properties { key: 's' value { int_value: 1 } } }", INVALID_ARGUMENT),
    ("PutArtifacts", 'artifacts { uri: "x" }', INVALID_ARGUMENT),
    ("PutArtifacts", "artifacts { type_id: 99 }", NOT_FOUND),
    ("PutArtifacts", "artifacts { type_id: 12 }", NOT_FOUND),
    ("PutArtifacts", 'artifacts { type_id: 10 name: "one" }', ALREADY_EXISTS),
    ("PutArtifacts", 'artifacts { type_id: 10 name: "one" } artifacts { id: 9 }', ALREADY_EXISTS),
    ("PutArtifacts", 'artifacts { type_id: 10 name: "fine" } artifacts { id: 9 }', INVALID_ARGUMENT),
    ("PutArtifacts", 'artifacts { type_id: 11 name: "one" }', 0),
    ("PutArtifacts", "", 0),
    ("PutExecutions", "executions { id: 1 last_known_state: COMPLETE }", 0),
    ("PutExecutions", "executions { id: 2 } executions { type_id: 12 }", 0),
    ("PutExecutions", 'executions { type_id: 12 external_id: "e1" }', ALREADY_EXISTS),
    ("PutContexts", 'contexts { id: 1 name: "renamed" } contexts { type_id: 13 name: "one" }', 0),
    ("PutContexts", 'contexts { id: 1 name: "two" }', INTERNAL),
    ("PutContexts", 'contexts { id: 1 custom_properties { key: "k" value { int_value: 1 } } }', 3),
    ("PutContexts", "contexts { type_id: 13 }", INVALID_ARGUMENT),
    ("PutContexts", 'contexts { type_id: 13 name: "one" }', ALREADY_EXISTS),
)


@pytest.mark.parametrize(("method", "text", "code"), CHANGES, ids=range(len(CHANGES)))
def test_nodes_are_made_changed_or_refused_alike(twins: Twins, method: str, text: str, code: int) -> None:
    assert code_of(twins.both(method, message(method, text))) == code
    twins.compare_tables()


MASKS = (
    ["uri"],
    ["state", "external_id"],
    ["name"],
    ["properties"],
    ["properties.s"],
    ["properties.s", "custom_properties.c"],
    ["custom_properties"],
    ["custom_properties.none", "uri"],
    ["properties.i", "propertiesx", "nonsense", "type_id", "id"],
    ["custom_properties.c", "custom_properties"],
)


@pytest.mark.parametrize("paths", MASKS, ids="+".join)
def test_a_mask_says_what_is_changed(twins: Twins, paths: list[str]) -> None:
    request = message(
        "PutArtifacts",
        """
        artifacts {
          id: 1 name: "n" uri: "masked"
          properties { key: "s" value { string_value: "masked" } }
          properties { key: "i" value { int_value: 7 } }
          custom_properties { key: "c" value { string_value: "masked" } }
        }
        artifacts { type_id: 10 name: "new ones take all" uri: "x" }
        """,
    )
    request.update_mask.paths.extend(paths)
    twins.both("PutArtifacts", request)
    request.artifacts[0].properties["unknown"].int_value = 1
    expected = INVALID_ARGUMENT if "properties" in paths else ALREADY_EXISTS
    assert twins.both("PutArtifacts", request) == expected, (
        "an unknown property counts only where it is masked"
    )
    twins.compare_tables()


@pytest.mark.parametrize(
    ("paths", "code"), [(["name"], INVALID_ARGUMENT), (["external_id"], 0), ([], INVALID_ARGUMENT)]
)
def test_a_context_keeps_its_name(twins: Twins, paths: list[str], code: int) -> None:
    request = rpc.PutContextsRequest(contexts=[mlmd.Context(id=1)])
    request.update_mask.paths.extend(paths)
    assert code_of(twins.both("PutContexts", request)) == code
    twins.compare_tables()


RUNS = (
    ("execution { type_id: 12 }", 0),
    (
        """
        execution { type_id: 12 name: "run" }
        artifact_event_pairs { artifact { id: 1 type_id: 10 uri: "u" } event { type: INPUT
          path { steps { key: "in" } steps { index: 1 } steps {} } } }
        artifact_event_pairs { event { artifact_id: 2 type: INPUT milliseconds_since_epoch: 5 } }
        artifact_event_pairs { artifact { type_id: 10 } event { type: OUTPUT path { steps { index: 0 } } } }
        artifact_event_pairs { artifact { type_id: 11 } }
        contexts { type_id: 13 name: "new" } contexts { id: 1 type_id: 13 name: "one" }
        """,
        0,
    ),
    ("execution { id: 1 } options { force_update_time: true }", 0),
    ('execution { type_id: 12 } contexts { type_id: 13 name: "one" }', ALREADY_EXISTS),
    (
        """
        execution { type_id: 12 } contexts { type_id: 13 name: "one" } contexts { type_id: 13 name: "n" }
        contexts { type_id: 13 name: "n" } options { reuse_context_if_already_exist: true }
        """,
        0,
    ),
    (
        """
        execution { type_id: 12 } contexts { type_id: 13 name: "n" external_id: "c1" }
        options { reuse_context_if_already_exist: true }
        """,
        ABORTED,
    ),
    ("execution { type_id: 12 } contexts { id: 2 } options { force_reuse_context: true }", 0),
    ("execution { type_id: 12 } contexts { id: 9 } options { force_reuse_context: true }", NOT_FOUND),
    ('execution { type_id: 12 } contexts { name: "x" }', INVALID_ARGUMENT),
    ("execution { type_id: 12 } contexts { type_id: 13 }", INVALID_ARGUMENT),
    (
        """
        execution { type_id: 12 }
        artifact_event_pairs { artifact { type_id: 10 external_id: "a1" uri: "x" } }
        artifact_event_pairs { artifact { type_id: 10 external_id: "n" uri: "y" } event { type: INPUT } }
        artifact_event_pairs { artifact { type_id: 10 external_id: "n" uri: "z" } event { type: OUTPUT } }
        options { reuse_artifact_if_already_exist_by_external_id: true }
        """,
        0,
    ),
    ('execution { type_id: 12 } artifact_event_pairs { artifact { type_id: 10 external_id: "a1" } }', 6),
    ("execution { type_id: 12 } artifact_event_pairs {} contexts { type_id: 13 name: 'n' }", 0),
    ("execution { type_id: 12 } artifact_event_pairs { event { type: INPUT } }", INVALID_ARGUMENT),
    ("execution { type_id: 12 } artifact_event_pairs { event { artifact_id: 1 } }", INVALID_ARGUMENT),
    ("execution { id: 1 } artifact_event_pairs { event { artifact_id: 1 execution_id: 2 type: INPUT } }", 3),
    (
        """
        execution { id: 1 }
        artifact_event_pairs { artifact { id: 1 } event { artifact_id: 2 type: INPUT } }
        """,
        INVALID_ARGUMENT,
    ),
    (
        """
        execution { id: 1 } artifact_event_pairs { event { artifact_id: 1 type: INPUT } }
        artifact_event_pairs { event { artifact_id: 1 type: INPUT } }
        """,
        ALREADY_EXISTS,
    ),
    (
        """
        execution { id: 1 } artifact_event_pairs { event { artifact_id: 1 type: INPUT } }
        artifact_event_pairs { event { artifact_id: 1 type: INPUT } } contexts { id: 9 }
        """,
        ALREADY_EXISTS,
    ),
    ("artifact_event_pairs { artifact { type_id: 10 } }", INVALID_ARGUMENT),
    ("execution { id: 9 } artifact_event_pairs { artifact { type_id: 10 name: 'one' } }", ALREADY_EXISTS),
)


@pytest.mark.parametrize(("text", "code"), RUNS, ids=range(len(RUNS)))
def test_an_execution_with_all_that_is_its(twins: Twins, text: str, code: int) -> None:
    assert code_of(twins.both("PutExecution", message("PutExecution", text))) == code
    twins.both("PutExecution", message("PutExecution", text))  # what it names or reuses is there by now
    twins.compare_tables()


PIECES = (
    (
        """
        artifacts { type_id: 10 } artifacts { id: 1 type_id: 10 } executions { type_id: 12 }
        contexts { type_id: 13 name: "n" } contexts { id: 1 type_id: 13 name: "one" }
        event_edges {
          execution_index: 0 artifact_index: 0 event { type: OUTPUT path { steps { key: "k" } } }
        }
        event_edges { execution_index: 0 event { artifact_id: 2 type: INPUT } }
        event_edges { artifact_index: 1 event { execution_id: 1 type: DECLARED_INPUT } }
        """,
        0,
    ),
    ('contexts { type_id: 13 name: "one" } options { reuse_context_if_already_exist: true }', 0),
    ('contexts { type_id: 13 name: "one" }', ALREADY_EXISTS),
    (
        """
        artifacts { type_id: 10 external_id: "a1" } artifacts { type_id: 10 external_id: "n" }
        options { reuse_artifact_if_already_exist_by_external_id: true }
        """,
        0,
    ),
    (
        """
        artifacts { type_id: 10 external_id: "n" } artifacts { type_id: 10 external_id: "n" }
        options { reuse_artifact_if_already_exist_by_external_id: true }
        """,
        ALREADY_EXISTS,
    ),
    ("artifacts { id: 1 }", INVALID_ARGUMENT),
    ("artifacts { type_id: 10 } executions { type_id: 99 }", NOT_FOUND),
    ("executions { type_id: 12 properties { key: 'x' value { int_value: 1 } } }", INVALID_ARGUMENT),
    ("event_edges { execution_index: 0 artifact_index: 0 }", INVALID_ARGUMENT),
    ("event_edges { artifact_index: 0 event { type: INPUT } }", INVALID_ARGUMENT),
    ("executions { type_id: 12 } event_edges { execution_index: 0 event { type: INPUT } }", INVALID_ARGUMENT),
    ("event_edges { execution_index: 0 artifact_index: 0 event { type: INPUT } }", OUT_OF_RANGE),
    (
        "executions { type_id: 12 } event_edges { execution_index: 0 artifact_index: -1 event { type: 3 } }",
        11,
    ),
    ("executions { type_id: 12 } event_edges { execution_index: 0 event { execution_id: 1 type: 3 } }", 3),
    ("executions { id: 2 type_id: 12 } event_edges { execution_index: 0 event { execution_id: 1 } }", 3),
    (
        "artifacts { type_id: 10 } event_edges { artifact_index: 0 event { execution_id: 1 } }",
        INVALID_ARGUMENT,
    ),
)


@pytest.mark.parametrize(("text", "code"), PIECES, ids=range(len(PIECES)))
def test_a_piece_of_lineage(twins: Twins, text: str, code: int) -> None:
    assert code_of(twins.both("PutLineageSubgraph", message("PutLineageSubgraph", text))) == code
    twins.compare_tables()


EDGES = (
    ("PutEvents", "events { artifact_id: 1 execution_id: 1 type: INPUT path { steps { key: '' } } }", 0),
    ("PutEvents", "events { artifact_id: 1 execution_id: 1 }", INVALID_ARGUMENT),
    ("PutEvents", "events { artifact_id: 1 type: INPUT }", INVALID_ARGUMENT),
    ("PutEvents", "events { artifact_id: 9 execution_id: 1 type: INPUT }", INVALID_ARGUMENT),
    ("PutEvents", "events { artifact_id: 1 execution_id: 9 type: INPUT }", INVALID_ARGUMENT),
    ("PutAttributionsAndAssociations", "attributions { context_id: 1 artifact_id: 1 }", 0),
    ("PutAttributionsAndAssociations", "associations { context_id: 1 execution_id: 2 }", 0),
    ("PutAttributionsAndAssociations", "attributions { context_id: 9 artifact_id: 1 }", INVALID_ARGUMENT),
    ("PutAttributionsAndAssociations", "associations { context_id: 1 }", INVALID_ARGUMENT),
    ("PutParentContexts", "parent_contexts { parent_id: 1 child_id: 2 }", 0),
    ("PutParentContexts", "parent_contexts { parent_id: 1 child_id: 1 }", INVALID_ARGUMENT),
    ("PutParentContexts", "parent_contexts { parent_id: 1 }", INVALID_ARGUMENT),
    ("PutParentContexts", "parent_contexts { parent_id: 1 child_id: 9 }", INVALID_ARGUMENT),
)


@pytest.mark.parametrize(("method", "text", "code"), EDGES, ids=range(len(EDGES)))
def test_what_ties_nodes_together(twins: Twins, method: str, text: str, code: int) -> None:
    assert code_of(twins.both(method, message(method, text))) == code
    again = code_of(twins.both(method, message(method, text)))
    assert again == (code or (0 if "And" in method else ALREADY_EXISTS))
    twins.compare_tables()


def test_contexts_are_no_ancestors_of_their_own(twins: Twins) -> None:
    twins.both("PutContexts", message("PutContexts", 'contexts { type_id: 13 name: "three" }'))
    twins.both(
        "PutParentContexts", message("PutParentContexts", "parent_contexts { parent_id: 1 child_id: 2 }")
    )
    for text in (
        "parent_contexts { parent_id: 2 child_id: 1 }",
        "parent_contexts { parent_id: 2 child_id: 3 } parent_contexts { parent_id: 3 child_id: 1 }",
    ):
        assert twins.both("PutParentContexts", message("PutParentContexts", text)) == INVALID_ARGUMENT
    twins.compare_tables()
