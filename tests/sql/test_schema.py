"""What the SQL service makes in an empty database is what ml-metadata makes, and each opens the other's."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import sqlalchemy as sa
from ml_metadata.proto import metadata_store_pb2 as mlmd

from tests.sql.places import TABLES_OF_TYPES, Place
from zen_mlmd.errors import NotMlmdError, SchemaVersionError
from zen_mlmd.service.sql import create as making
from zen_mlmd.service.sql import ddl
from zen_mlmd.service.sql.create import create
from zen_mlmd.service.sql.database import Database
from zen_mlmd.service.sql.engines import sqlite_engine
from zen_mlmd.service.sql.learn import learn
from zen_mlmd.service.sql.schema import COLUMNS, Schema


def _make(place: Place) -> Schema:
    return place.with_connection(lambda connection: create(connection, "here"))  # type: ignore[no-any-return]


def _learn(place: Place) -> Schema:
    return place.with_connection(lambda connection: learn(connection, "here"))  # type: ignore[no-any-return]


def _execute(place: Place, *statements: str) -> None:
    def run(connection: sa.Connection) -> None:
        for statement in statements:
            connection.exec_driver_sql(statement)

    place.with_connection(run)


def test_the_catalog_and_the_first_rows_are_those_that_ml_metadata_makes(
    new_place: Callable[[], Place],
) -> None:
    theirs, ours = new_place(), new_place()
    theirs.native()
    schema = _make(ours)
    assert ours.catalog() == theirs.catalog()
    assert ours.rows(*TABLES_OF_TYPES) == theirs.rows(*TABLES_OF_TYPES)
    assert schema == _learn(theirs)
    assert schema.version == 10
    assert {table: tuple(schema.present[table]) for table in COLUMNS}.keys() == schema.present.keys()


def test_ml_metadata_goes_on_in_what_we_made_and_we_in_what_it_made(place: Place) -> None:
    _make(place)
    before = place.catalog()
    store = place.native()
    type_id = store.put_artifact_type(mlmd.ArtifactType(name="Model", properties={"auc": mlmd.DOUBLE}))
    assert type_id == 10, "the built-in types are nine, and ml-metadata adds none"
    del store
    assert _make(place).version == 10
    if place.dialect == "sqlite":  # the others' catalogs tell the next id
        assert place.catalog() == before
    assert len(place.rows("Type")["Type"]) == 10


def test_a_database_learns_its_schema_by_itself(place: Place) -> None:
    database = Database(place.engine, location="here", learn=create)
    assert database.read(lambda session: session.rows(sa.text("SELECT 1"))[0][0]) == 1
    assert database.schema.has("ArtifactProperty", "proto_value")
    database.close()


_MAKERS = """
import os, sys
from tests.sql.places import sqlite_place, server_place
from zen_mlmd.service.sql.create import create
from zen_mlmd.service.sql.database import Database
url = sys.argv[1]
place = sqlite_place(url[len("sqlite://"):]) if url.startswith("sqlite") else server_place(url)
waiting, start = os.pipe()
makers = []
for _ in range(8):
    makers.append(os.fork())
    if not makers[-1]:
        os.close(start)
        os.read(waiting, 1)  # until all are there
        os._exit(Database(place.engine, location="here", learn=create).schema.version)
os.close(start)
print([os.waitstatus_to_exitcode(os.waitpid(each, 0)[1]) for each in makers])
"""


def test_eight_processes_make_it_at_once(place: Place) -> None:
    command = [sys.executable, "-c", _MAKERS, place.url]
    done = subprocess.run(
        command, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout == f"{[10] * 8}\n", done.stderr
    assert len(place.rows("Type")["Type"]) == 9
    assert place.rows("MLMDEnv") == {"MLMDEnv": [(10,)]}


def test_an_empty_database_is_no_store_to_a_reader(place: Place) -> None:
    with pytest.raises(NotMlmdError, match="here: it has none of MLMD's tables: it holds nothing"):
        _learn(place)
    _execute(place, "CREATE TABLE t (n INT)")
    with pytest.raises(NotMlmdError, match="it holds 1 tables of others"):
        _learn(place)
    assert _make(place).version == 10, "tables of others are no obstacle: MLMD takes none"


@pytest.mark.parametrize(("version", "words"), [(11, "install a newer"), (5, "ml-metadata 1.17.1")])
def test_other_versions_are_named(place: Place, version: int, words: str) -> None:
    _make(place)
    _execute(place, f"UPDATE {_env(place)} SET schema_version = {version}")
    for open_it in (_learn, _make):
        with pytest.raises(SchemaVersionError, match=f"its MLMD schema is {version}, and") as caught:
            open_it(place)
        assert words in caught.value.hint


def _env(place: Place) -> str:
    return "mlmdenv" if place.dialect == "postgresql" else "MLMDEnv"


def test_a_schema_that_is_not_whole_is_refused_and_left_alone(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(making, "_IDLE_S", 0.2)
    _make(place)
    quoted = "{}" if place.dialect == "postgresql" else "`{}`"
    _execute(
        place,
        f"DROP TABLE {quoted.format('ParentContext')}",
        f"ALTER TABLE {quoted.format('ArtifactProperty')} DROP COLUMN proto_value",
    )
    for open_it in (_learn, _make):
        with pytest.raises(
            NotMlmdError, match=r"but it lacks ArtifactProperty\.proto_value, ParentContext\n"
        ):
            open_it(place)
    _execute(place, f"INSERT INTO {_env(place)} VALUES (9)")
    with pytest.raises(NotMlmdError, match="MLMDEnv says 2 versions"):
        _make(place)
    _execute(place, f"DELETE FROM {_env(place)}")
    with pytest.raises(NotMlmdError, match="14 of MLMD's 15 tables, and no schema version"):
        _make(place)


@pytest.mark.mysql
@pytest.mark.parametrize("new_place", ["mysql"], indirect=True)
@pytest.mark.parametrize("made", [1, 4, 15])
def test_tables_that_a_dead_process_left_half_made_are_finished(
    new_place: Callable[[], Place], made: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(making, "_IDLE_S", 0.2)
    whole, half = new_place(), new_place()
    whole.native()
    # As ml-metadata leaves them: tables first, indexes afterwards.
    tables = ddl.TABLES[:made]
    _execute(half, *(ddl.create_table("mysql", table) for table in tables))
    _execute(half, *(f"DROP INDEX {name} ON {of}" for name, (of, _) in ddl.INDEXES.items() if of in tables))
    assert _make(half).version == 10
    assert _lines(half) == _lines(whole), "the order of the indexes aside"
    assert half.rows(*TABLES_OF_TYPES) == whole.rows(*TABLES_OF_TYPES)


def _lines(place: Place) -> dict[str, set[str]]:
    return {table: {line.rstrip(",") for line in sql.splitlines()} for table, sql in place.catalog().items()}


def test_another_file_is_no_store(tmp_path: Path) -> None:
    path = tmp_path / "notes.sqlite"
    path.write_bytes(b"not a database, and longer than the header of one is\n" * 40)
    database = Database(lambda: sqlite_engine(str(path)), location="notes", learn=learn)
    with pytest.raises(NotMlmdError, match="notes: it is no SQLite file"):
        _ = database.schema
    database.close()
