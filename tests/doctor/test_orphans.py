"""Rows whose owners are gone: what nothing reads goes, what something reads stays."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.doctor.conftest import change, codes, config_of, damage
from tests.sql.places import Place
from zen_mlmd.cli.main import main
from zen_mlmd.doctor import examine, mend
from zen_mlmd.flavors import config_from_url
from zen_mlmd.service.sql.schema import COLUMNS

ALL = tuple(COLUMNS)


def _insert(table: str, **values: object) -> str:
    names = ", ".join(values)
    return f"INSERT INTO `{table}` ({names}) VALUES ({', '.join(map(str, values.values()))})"


ORPHANS = {
    "events-orphaned": _insert("Event", id=77, artifact_id=88, execution_id=99, type=3),
    "paths-orphaned": _insert("EventPath", event_id=78, is_index_step="{no}", step_index=1),
    "properties-orphaned": _insert(
        "ExecutionProperty", execution_id=99, name="'x'", is_custom_property="{no}", int_value=1
    ),
    "links-orphaned": _insert("Association", id=79, context_id=1, execution_id=99),
    "type-parts-orphaned": _insert("TypeProperty", type_id=99, name="'x'", data_type=1),
}
MORE = {
    "ArtifactProperty": _insert(
        "ArtifactProperty", artifact_id=99, name="'x'", is_custom_property="{no}", int_value=1
    ),
    "ContextProperty": _insert(
        "ContextProperty", context_id=99, name="'x'", is_custom_property="{no}", int_value=1
    ),
    "Attribution": _insert("Attribution", id=79, context_id=99, artifact_id=1),
    "ParentContext": _insert("ParentContext", context_id=99, parent_context_id=1),
    "ParentType": _insert("ParentType", type_id=11, parent_type_id=99),
}


def _with(place: Place, statement: str) -> str:
    return statement.replace("{no}", "false" if place.dialect == "postgresql" else "0")


def test_rows_that_nothing_reads_go_and_all_others_stay(filled: Place) -> None:
    config = config_of(filled)
    assert examine(config) == []
    before = filled.rows(*ALL)
    change(filled, *(_with(filled, each) for each in (*ORPHANS.values(), *MORE.values())))
    found = examine(config)
    assert sorted(each.subject for each in found) == sorted(
        ("Event", "EventPath", "ExecutionProperty", "Association", "TypeProperty", *MORE)
    )
    assert set(codes(found)) == set(ORPHANS)
    assert all(each.mendable and each.what.startswith("1 rows whose") for each in found)
    told: list[str] = []
    assert mend(config, told.append) == len(found)
    assert "ParentType: 1 rows were deleted" in told
    assert examine(config) == []
    assert filled.rows(*ALL) == before


def test_many_go_in_batches(path: Path) -> None:
    damage(
        path,
        "WITH RECURSIVE n(i) AS (SELECT 1000 UNION ALL SELECT i + 1 FROM n WHERE i < 2700)"
        " INSERT INTO ArtifactProperty (artifact_id, name, is_custom_property, int_value)"
        " SELECT i, 'x', 1, 1 FROM n",
    )
    config = config_from_url(path)
    (finding,) = examine(config)
    assert finding.what.startswith("1,701 rows")
    told: list[str] = []
    mend(config, told.append)
    assert told == ["ArtifactProperty: 1,701 rows were deleted"]
    assert examine(config) == []


def test_quick_does_not_read_tables(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    damage(path, ORPHANS["links-orphaned"])
    assert main(["doctor", str(path), "--quick"]) == 0
    assert main(["doctor", str(path)]) == 1
    assert "links-orphaned" in capsys.readouterr().out


SQLITE = pytest.mark.parametrize("new_place", ["sqlite"], indirect=True)


@SQLITE
def test_an_event_of_which_one_end_is_there_stays(filled: Place) -> None:
    change(filled, _insert("Event", id=77, artifact_id=88, execution_id=1, type=3))
    rows = filled.rows(*ALL)
    config = config_of(filled)
    (finding,) = examine(config)
    assert (finding.code, finding.mendable) == ("events-dangling", False)
    assert mend(config) == 0
    assert filled.rows(*ALL) == rows


@SQLITE
def test_nodes_whose_type_is_gone_are_told_of_and_what_tells_of_the_type_stays(filled: Place) -> None:
    rows: dict[str, Any] = filled.rows("Type", "TypeProperty", "Execution")
    ((type_id,),) = {(row[1],) for row in rows["Execution"]}
    assert any(row[0] == type_id for row in rows["TypeProperty"])
    change(filled, f"DELETE FROM `Type` WHERE id = {type_id}")
    config = config_of(filled)
    (finding,) = examine(config)
    assert (finding.code, finding.subject, finding.mendable) == ("type-gone", "Execution", False)
    assert finding.what.startswith("1 rows whose type is gone")
    assert finding.what.endswith(f": {type_id}")
    mend(config)
    assert filled.rows("TypeProperty")["TypeProperty"] == rows["TypeProperty"]


def test_a_node_of_a_type_of_another_kind_has_none(path: Path) -> None:
    damage(
        path,
        "UPDATE Artifact SET type_id = (SELECT min(id) FROM Type WHERE type_kind = 0) WHERE id = 1",
        *(f"INSERT INTO Context (type_id, name) VALUES ({each}, 'x')" for each in range(900, 907)),
    )
    artifacts, contexts = examine(config_from_url(path))
    assert (artifacts.code, artifacts.subject) == ("type-gone", "Artifact")
    assert "7 rows" in contexts.what
    assert contexts.what.endswith(": 900, 901, 902, 903, 904 and 2 more")


def test_types_that_were_registered_twice_are_told_of(path: Path) -> None:
    damage(path, "INSERT INTO Type (name, type_kind) VALUES ('Model', 1), ('Model', 0)")
    (finding,) = examine(config_from_url(path))
    assert (finding.code, finding.subject, finding.what[:8]) == ("type-twice", "Model", "2 types ")


def test_rows_in_which_sqlite_keeps_what_is_no_id_are_told_of_and_go_if_nothing_reads_them(
    path: Path,
) -> None:
    damage(
        path,
        "INSERT INTO ContextProperty (context_id, name, is_custom_property) VALUES (x'ff', 'x', 1)",
        "INSERT INTO Attribution (context_id, artifact_id) VALUES (CAST(x'fffe00' AS TEXT), 1)",
        "INSERT INTO Type (name, type_kind) VALUES (CAST(x'ff' AS TEXT), 1), (CAST(x'ff' AS TEXT), 1)",
        "UPDATE Artifact SET uri = 7.5, create_time_since_epoch = 'yesterday' WHERE id = 1",
        "UPDATE Execution SET last_known_state = 5000000000 WHERE id = 1",
        "UPDATE EventPath SET is_index_step = 1, step_index = NULL, step_key = NULL",
        "UPDATE ExecutionProperty SET is_custom_property = 7, string_value = NULL",
    )
    config = config_from_url(path)
    found = {(each.code, each.subject): each for each in examine(config, quick=False)}
    damaged = {subject: each.what for (code, subject), each in found.items() if code == "row-damaged"}
    lasting = {"Artifact", "Execution", "EventPath", "ExecutionProperty"}
    assert damaged.keys() == {"ContextProperty", "Attribution"} | lasting
    assert "last_known_state of more than 32 bits in 1 rows" in damaged["Execution"]
    assert "a step of a list without its index" in damaged["EventPath"]
    assert "is_custom_property that is neither 0 nor 1" in damaged["ExecutionProperty"]
    assert "a property without a value" in damaged["ExecutionProperty"]
    assert "context_id in 1 rows" in damaged["Attribution"]
    assert "create_time_since_epoch in 1 rows" in damaged["Artifact"]
    assert ("type-twice", "\N{REPLACEMENT CHARACTER}") in found
    assert mend(config) == 2
    left = examine(config)
    assert {each.subject for each in left if each.code == "row-damaged"} == lasting
    assert not any(each.mendable for each in left)


def test_a_quick_fix_deletes_no_rows_that_it_did_not_list(path: Path) -> None:
    damage(
        path,
        "DROP INDEX idx_artifact_uri",
        "INSERT INTO ArtifactProperty (artifact_id, name, is_custom_property, int_value)"
        " VALUES (99, 'x', 1, 1)",
    )
    assert main(["doctor", str(path), "--quick", "--fix", "--yes"]) == 0
    (finding,) = examine(config_from_url(path))
    assert finding.code == "properties-orphaned"
    assert main(["doctor", str(path), "--fix", "--yes"]) == 0
    assert examine(config_from_url(path)) == []
