"""Our migration gives what ml-metadata's own gives: tables, columns, indexes and rows."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from ml_metadata.proto import metadata_store_pb2 as mlmd

from tests.sql.places import Place, sqlite_place
from tests.sql.test_old_schemas import ZENML, fill
from zen_mlmd.errors import NotMlmdError, SchemaVersionError
from zen_mlmd.service.sql.create import create
from zen_mlmd.service.sql.learn import learn
from zen_mlmd.service.sql.migrate import Plan, migrate, plan
from zen_mlmd.service.sql.schema import COLUMNS

DATA = Path(__file__).parents[1] / "data"
ROOT = Path(__file__).parents[2]


def _migrate(place: Place, progress: Callable[[int], object] | None = None) -> int:
    return place.with_connection(lambda connection: migrate(connection, "here", progress))  # type: ignore[no-any-return]


def _plan(place: Place) -> Plan:
    return place.with_connection(lambda connection: plan(connection, "here"))  # type: ignore[no-any-return]


def _execute(place: Place, *statements: str) -> None:
    def run(connection: sa.Connection) -> None:
        for statement in statements:
            connection.exec_driver_sql(statement)

    place.with_connection(run)


def _old(place: Place, version: int) -> None:
    """Make a database of an older schema, with an event that is there three times where that was possible."""
    fill(place.native())
    place.downgrade(version)
    if version < 8:
        event, path = ("event", "eventpath") if place.dialect == "postgresql" else ("`Event`", "`EventPath`")
        key = "artifact_id, execution_id, type"
        columns = f"{key}, milliseconds_since_epoch" if place.dialect == "sqlite" else key
        for identity in (20, 10):
            values = f"SELECT {identity}, {columns} FROM {event} WHERE id = 1"
            _execute(place, f"INSERT INTO {event} (id, {columns}) {values}")
            row = f"{identity}, {'false' if place.dialect == 'postgresql' else '0'}, 'k{identity}'"
            _execute(
                place,
                f"INSERT INTO {path} (event_id, is_index_step, step_key) VALUES ({row})",
            )


def _copy(place: Place, other: Place) -> None:
    """Copy all tables of a database."""
    if place.dialect == "sqlite":
        shutil.copyfile(place.url[len("sqlite://") :], other.url[len("sqlite://") :])
        return
    source = place.url.rpartition("/")[2]
    for table, made in place.catalog().items():
        _execute(other, made, f"INSERT INTO `{table}` SELECT * FROM {source}.`{table}`")


def _comparable(catalog: dict[str, Any]) -> dict[str, Any]:
    return {name: re.sub(r" AUTO_INCREMENT=\d+", "", sql) for name, sql in catalog.items()}


@pytest.mark.parametrize("version", [6, 7, 8, 9])
@pytest.mark.parametrize(
    "new_place", ["sqlite", pytest.param("mysql", marks=pytest.mark.mysql)], indirect=True
)
def test_it_gives_what_ml_metadata_gives(new_place: Callable[[], Place], version: int) -> None:
    ours, theirs = new_place(), new_place()
    _old(ours, version)
    _copy(ours, theirs)
    reached: list[int] = []
    assert _migrate(ours, reached.append) == version
    assert reached == list(range(version + 1, 11))
    theirs.migrate_natively()
    assert _comparable(ours.catalog()) == _comparable(theirs.catalog())
    assert ours.rows(*COLUMNS) == theirs.rows(*COLUMNS)
    if version < 8:
        assert {row[0] for row in ours.rows("Event")["Event"]} == {2, 20}
        assert {row[3] for row in ours.rows("EventPath")["EventPath"]} == {None, "model", "k20"}
    _goes_on(ours)


@pytest.mark.postgresql
@pytest.mark.parametrize("version", [6, 7, 8, 9])
@pytest.mark.parametrize("new_place", ["postgresql"], indirect=True)
def test_on_postgresql_it_gives_what_a_new_database_has(new_place: Callable[[], Place], version: int) -> None:
    ours, fresh = new_place(), new_place()
    _old(ours, version)
    before = ours.rows(*COLUMNS)
    assert _migrate(ours) == version
    fresh.native()
    assert _shape(ours) == _shape(fresh)
    after = ours.rows(*COLUMNS)
    for table in ("Artifact", "Execution", "Context", "ArtifactProperty", "ParentContext", "Association"):
        kept = len(before[table][0])
        assert sorted((row[:kept] for row in after[table]), key=repr) == before[table]
    assert {row[0] for row in after["Event"]} == ({2, 20} if version < 8 else {1, 2})
    _goes_on(ours)


def _shape(place: Place) -> dict[str, Any]:
    """Return the catalog but for what ml-metadata's downgrade leaves: order, names, and partial indexes."""
    found = place.catalog()
    return {
        "columns": sorted((table, *rest) for table, _, *rest in found["columns"]),
        "constraints": sorted((table, definition) for table, _, definition in found["constraints"]),
        "indexes": sorted(
            (table, definition.partition(" USING ")[2].partition(" WHERE ")[0])
            for table, _, definition in found["indexes"]
        ),
    }


def _goes_on(place: Place) -> None:
    """ml-metadata writes with what the newest schema has, and reads it."""
    store = place.native()
    model_type = store.get_artifact_type("Model", "2").id
    node = mlmd.Artifact(type_id=model_type, external_id="e")
    node.custom_properties["ok"].bool_value = True
    (identity,) = store.put_artifacts([node])
    assert store.get_artifacts_by_external_ids(["e"])[0].custom_properties["ok"].bool_value is True
    assert identity == 3


@pytest.mark.parametrize("name", ZENML)
def test_what_zenml_wrote_is_migrated_as_ml_metadata_does(name: str, tmp_path: Path) -> None:
    ours, theirs = (sqlite_place(tmp_path / f"{each}.db") for each in ("ours", "theirs"))
    for each in ("ours", "theirs"):
        shutil.copyfile(DATA / f"{name}.db", tmp_path / f"{each}.db")
    assert _migrate(ours) == ZENML[name]
    theirs.migrate_natively()
    assert ours.catalog() == theirs.catalog()
    assert ours.rows(*COLUMNS, "sqlite_sequence") == theirs.rows(*COLUMNS, "sqlite_sequence")


def test_the_plan_names_versions_steps_and_what_is_lost_and_changes_nothing(place: Place) -> None:
    _old(place, 7)
    before = place.catalog()
    made = _plan(place)
    assert [each.version for each in made.steps] == [8, 9, 10]
    assert [each.loses for each in made.steps] == [
        "2 older events of the same artifact, execution and type, with their paths",
        "",
        "",
    ]
    text = str(made)
    assert text.startswith("here: MLMD schema 7 -> 10, in place\n  to 8: ")
    assert "back the database up first" in text
    assert ("one transaction" in text) is (place.dialect != "mysql")
    assert place.catalog() == before
    assert place.with_connection(lambda connection: learn(connection, "here")).version == 7


def test_the_newest_schema_is_left_alone(place: Place) -> None:
    place.with_connection(lambda connection: create(connection, "here"))
    before = place.catalog()
    assert str(_plan(place)) == "here: its MLMD schema is 10, the newest: nothing is to be done"
    assert _migrate(place) == 10
    assert place.catalog() == before


def test_what_is_no_older_schema_is_refused(place: Place) -> None:
    for call in (_plan, _migrate):
        with pytest.raises(NotMlmdError, match="none of MLMD's tables"):
            call(place)
    place.with_connection(lambda connection: create(connection, "here"))
    environment = "mlmdenv" if place.dialect == "postgresql" else "MLMDEnv"
    _execute(place, f"UPDATE {environment} SET schema_version = 5")
    for call in (_plan, _migrate):
        with pytest.raises(SchemaVersionError, match="5, and 6 is the oldest"):
            call(place)


@pytest.mark.parametrize(
    "new_place", ["sqlite", pytest.param("postgresql", marks=pytest.mark.postgresql)], indirect=True
)
def test_a_migration_that_fails_in_the_middle_changes_nothing(new_place: Callable[[], Place]) -> None:
    place = new_place()
    _old(place, 7)
    before = place.catalog(), place.rows(*COLUMNS)

    def fail(version: int) -> None:
        if version == 9:
            raise OSError("the disk is full")

    with pytest.raises(OSError, match="full"):
        _migrate(place, fail)
    assert (place.catalog(), place.rows(*COLUMNS)) == before


_KILLED = """
import os, signal, sys
import sqlalchemy as sa
from tests.sql.places import server_place
from zen_mlmd.service.sql.migrate import migrate

def migrate_some(left):
    engine = server_place(sys.argv[1]).engine()

    @sa.event.listens_for(engine, "before_cursor_execute")
    def die(connection, cursor, statement, *_):
        nonlocal left
        if statement.split()[0] in ("ALTER", "DELETE", "DROP", "CREATE", "UPDATE"):
            left -= 1
            if left < 0:
                os.kill(os.getpid(), signal.SIGKILL)

    with engine.connect() as connection:
        migrate(connection, "here")

codes = []
while 0 not in codes:  # before the first statement, then before the second one of those that are left ...
    child = os.fork()
    if not child:
        migrate_some(len(codes))
        os._exit(0)
    codes.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
print(codes)
"""


@pytest.mark.mysql
@pytest.mark.parametrize("new_place", ["mysql"], indirect=True)
def test_on_mysql_a_migration_that_is_killed_again_and_again_is_gone_on_with(
    new_place: Callable[[], Place],
) -> None:
    ours, theirs = new_place(), new_place()
    _old(ours, 6)
    _copy(ours, theirs)
    command = [sys.executable, "-c", _KILLED, ours.url]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=120)
    *killed, last = json.loads(done.stdout)
    assert (set(killed), last) == ({-signal.SIGKILL}, 0)
    assert len(killed) > 5
    theirs.migrate_natively()
    assert _comparable(ours.catalog()) == _comparable(theirs.catalog())
    assert ours.rows(*COLUMNS) == theirs.rows(*COLUMNS)


@pytest.mark.mysql
@pytest.mark.parametrize("new_place", ["mysql"], indirect=True)
@pytest.mark.parametrize("whole", [False, True])
def test_on_mysql_what_ml_metadata_left_half_migrated_is_gone_on_with(
    new_place: Callable[[], Place], whole: bool
) -> None:
    ours, theirs = new_place(), new_place()
    _old(ours, 7)
    _copy(ours, theirs)
    theirs.migrate_natively()
    # What it does before and after the moment at which it lost its connection.
    _execute(
        ours,
        "CREATE TABLE EventTemp (id INTEGER PRIMARY KEY AUTO_INCREMENT, artifact_id INT NOT NULL,"
        " execution_id INT NOT NULL, type INT NOT NULL, milliseconds_since_epoch BIGINT,"
        " CONSTRAINT UniqueEvent UNIQUE(artifact_id, execution_id, type))",
    )
    if whole:
        columns = "id, artifact_id, execution_id, type, milliseconds_since_epoch"
        _execute(
            ours,
            f"INSERT IGNORE INTO EventTemp SELECT {columns} FROM Event ORDER BY id DESC",
            "DROP TABLE Event",
        )
    assert _migrate(ours) == 7
    assert _comparable(ours.catalog()) == _comparable(theirs.catalog())
    assert ours.rows(*COLUMNS) == theirs.rows(*COLUMNS)
