"""What `zen-mlmd doctor` finds and mends, and that ml-metadata goes on with what was mended."""

from __future__ import annotations

import os
import pty
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from ml_metadata.proto import metadata_store_pb2 as mlmd
from ml_metadata.proto import metadata_store_service_pb2 as rpc

from tests.services.mariadb import MariaDb
from tests.sql.places import Place, server_place, sqlite_place
from tests.sql.twins import database_of
from tests.zenml_facts import digest
from zen_mlmd.cli.main import main
from zen_mlmd.doctor import Finding
from zen_mlmd.doctor import examine as examine_store
from zen_mlmd.doctor import mend as mend_store
from zen_mlmd.errors import AlreadyExistsError, UsageError
from zen_mlmd.flavors import config_from_url
from zen_mlmd.flavors.upkeep import migrate_store, plan_migration
from zen_mlmd.service.sql.create import create
from zen_mlmd.service.sql.mend import examine, mend
from zen_mlmd.service.sql.schema import COLUMNS
from zen_mlmd.service.sql.service import SqlService

DATA = Path(__file__).parents[1] / "data"
ROOT = Path(__file__).parents[2]
MYSQL = pytest.param("mysql", marks=pytest.mark.mysql)


def _make(place: Place) -> None:
    place.with_connection(lambda connection: create(connection, "here"))


def _examine(place: Place) -> list[Finding]:
    return place.with_connection(examine)  # type: ignore[no-any-return]


def _mend(place: Place, progress: Callable[[Finding], object] | None = None) -> int:
    return place.with_connection(lambda connection: mend(connection, "here", progress))  # type: ignore[no-any-return]


def _execute(place: Place, *statements: str) -> None:
    def run(connection: sa.Connection) -> None:
        for statement in statements:
            connection.exec_driver_sql(statement)

    place.with_connection(run)


def test_what_is_found_is_mended_and_then_nothing_is_found(place: Place) -> None:
    place.native()
    findings = _examine(place)
    assert findings == _examine(place), "looking changes nothing"
    assert all(each.statements for each in findings)
    assert [(each.code, each.subject) for each in findings[-2:]] == [
        ("index-offered", "Association"),
        ("index-offered", "Attribution"),
    ]
    narrow = [each.subject for each in findings if each.code == "narrow-column"]
    assert ("ArtifactProperty" in narrow) is (place.dialect != "sqlite")
    told: list[Finding] = []
    assert _mend(place, told.append) == len(findings)
    assert told == findings
    assert _examine(place) == []
    assert _mend(place) == 0


def test_ml_metadata_goes_on_with_what_was_mended(place: Place) -> None:
    database = database_of(place)
    _mend(place)
    kinds = {"rows": mlmd.INT, "note": mlmd.STRING}
    with SqlService(database) as service:
        made = mlmd.ArtifactType(name="Data", properties=kinds)
        asked = rpc.PutArtifactTypeRequest(artifact_type=made, all_fields_match=True)
        type_id = service.call("PutArtifactType", asked).type_id
        node = mlmd.Artifact(type_id=type_id, name="n" * 400, uri="u" * 2000)
        node.properties["rows"].int_value = 2**40
        node.properties["note"].string_value = "é" * 3000
        service.call("PutArtifacts", rpc.PutArtifactsRequest(artifacts=[node]))

    store = place.native()
    (found,) = store.get_artifacts_by_type("Data")
    assert found.properties == node.properties
    assert (found.name, found.uri) == (node.name, node.uri)
    assert store.get_artifact_by_type_and_name("Data", "n" * 400).id == found.id
    assert [each.id for each in store.get_artifacts_by_uri("u" * 2000)] == [found.id]
    found.properties["rows"].int_value = 2**41
    found.custom_properties["more"].string_value = "x"
    store.put_artifacts([found])
    step = mlmd.Execution(type_id=store.put_execution_type(mlmd.ExecutionType(name="Step")))
    run = mlmd.Context(type_id=store.put_context_type(mlmd.ContextType(name="Run")), name="r")
    store.put_execution(step, [(found, mlmd.Event(type=mlmd.Event.INPUT))], [run])
    assert [each.name for each in store.get_contexts_by_artifact(found.id)] == ["r"]
    del store

    with SqlService(database) as service:
        asked = rpc.GetArtifactsByIDRequest(artifact_ids=[found.id])
        (again,) = service.call("GetArtifactsByID", asked).artifacts
    assert again.properties["rows"].int_value == 2**41
    assert again.custom_properties["more"].string_value == "x"


def test_rows_are_the_same_after_mending(place: Place) -> None:
    from tests.sql.test_old_schemas import fill

    fill(place.native())
    before = place.rows(*COLUMNS)
    _mend(place)
    assert place.rows(*COLUMNS) == before


def test_mlmds_own_index_that_is_missing_is_made_again(place: Place) -> None:
    _make(place)
    _mend(place)
    before = place.catalog()
    _execute(place, f"DROP INDEX idx_event_execution_id{' ON `Event`' if place.dialect == 'mysql' else ''}")
    assert [each.what for each in _examine(place)] == ["MLMD's own index idx_event_execution_id is missing"]
    _mend(place)
    assert place.catalog() == before


def test_an_older_schema_is_told_and_left_alone(place: Place) -> None:
    place.native()
    place.downgrade(9)
    before = place.catalog()
    (finding,) = _examine(place)
    assert (finding.what, finding.statements) == ("its MLMD schema is 9: it is only read", ())
    assert "metadata-store migrate" in finding.remedy
    assert _mend(place) == 0
    assert place.catalog() == before


@pytest.fixture
def folding(mariadb: MariaDb) -> Iterator[Place]:
    """A MariaDB database whose names fold case, in latin1."""
    name = mariadb.new_database()
    mariadb.sql(f"ALTER DATABASE {name} CHARACTER SET latin1 COLLATE latin1_swedish_ci")
    yield server_place(mariadb.url(name))
    mariadb.drop_database(name)


@pytest.mark.mysql
def test_names_that_a_collation_folds_are_kept_apart_once_mended(folding: Place) -> None:
    store = folding.native()
    type_id = store.put_context_type(mlmd.ContextType(name="run"))
    store.put_contexts([mlmd.Context(type_id=type_id, name="Mé")])
    database = database_of(folding)
    request = rpc.PutContextsRequest(contexts=[mlmd.Context(type_id=type_id, name="mé")])
    with SqlService(database) as service:
        assert not service.exact_names
        with pytest.raises(AlreadyExistsError):
            service.call("PutContexts", request)
        assert any(each.code == "names-fold" for each in _examine(folding))
        _mend(folding)
        service.close()
        service.call("PutContexts", request)
        asked = rpc.GetContextByTypeAndNameRequest(type_name="run", context_name="Mé")
        assert service.call("GetContextByTypeAndName", asked).context.name == "Mé"
    assert sorted(each.name for each in store.get_contexts_by_type("run")) == ["Mé", "mé"]
    assert not any(each.code == "names-fold" for each in _examine(folding))


@pytest.mark.parametrize("new_place", [MYSQL], indirect=True)
def test_tables_of_another_engine_are_told_and_given_to_innodb(new_place: Callable[[], Place]) -> None:
    place = new_place()
    _make(place)
    _execute(place, "ALTER TABLE `Event` ENGINE = MyISAM")
    assert [each.subject for each in _examine(place) if each.code == "engine"] == ["Event"]
    _mend(place)
    assert "ENGINE=InnoDB" in place.catalog()["Event"]
    assert _examine(place) == []


# -- the command line ------------------------------------------------------------------------------


@pytest.fixture
def old_file(tmp_path: Path) -> Path:
    path = tmp_path / "old.db"
    shutil.copyfile(DATA / "zenml_063_train_fail.db", path)
    return path


def _zen_mlmd(*arguments: str, stdin: Any = subprocess.DEVNULL) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "zen_mlmd", *arguments],
        stdin=stdin,
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )


def test_migrate_says_what_it_will_do_and_does_it_only_if_told(
    old_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = digest(old_file)
    asked = _zen_mlmd("metadata-store", "migrate", str(old_file))
    assert (asked.returncode, digest(old_file)) == (1, before)
    assert asked.stdout.startswith(f"{old_file}: MLMD schema 7 -> 10, in place\n")
    assert "--yes does it unasked" in asked.stderr

    assert main(["metadata-store", "migrate", str(old_file), "--yes"]) == 0
    told = capsys.readouterr().out
    assert told.startswith(asked.stdout)
    assert told.endswith("schema 8 is reached\nschema 9 is reached\nschema 10 is reached\n")
    assert len(sqlite_place(old_file).native().get_executions()) == 12

    assert main(["--store", str(old_file), "metadata-store", "migrate"]) == 0
    assert "nothing is to be done" in capsys.readouterr().out


@pytest.mark.parametrize(("answer", "code"), [(b"n\n", 1), (b"y\n", 0)])
def test_at_a_terminal_it_asks(old_file: Path, answer: bytes, code: int) -> None:
    before = digest(old_file)
    terminal, stdin = pty.openpty()
    os.write(terminal, answer)
    done = _zen_mlmd("metadata-store", "migrate", str(old_file), stdin=stdin)
    os.close(stdin)
    os.close(terminal)
    assert (done.returncode, digest(old_file) == before) == (code, code == 1)
    assert "Is there a backup" in done.stdout + done.stderr


def test_doctor_looks_and_mends_only_if_told(old_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = digest(old_file)
    assert main(["doctor", str(old_file)]) == 1
    assert "warning schema-old" in capsys.readouterr().out
    assert digest(old_file) == before
    main(["metadata-store", "migrate", str(old_file), "--yes"])
    capsys.readouterr()
    before = digest(old_file)

    assert main(["doctor", str(old_file)]) == 0
    said = capsys.readouterr()
    assert said.out.count("* info    index-offered") == 2
    assert "--fix mends what has a star" in said.err
    assert _zen_mlmd("doctor", str(old_file), "--fix").returncode == 1
    assert digest(old_file) == before

    assert main(["--store", str(old_file), "doctor", "--fix", "--yes"]) == 0
    assert "idx_association_execution_id is made" in capsys.readouterr().err
    assert main(["doctor", str(old_file)]) == 0
    assert capsys.readouterr().out == f"{old_file}: nothing is wrong\n"


def test_both_work_on_each_kind_of_database(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    place.native()
    place.downgrade(9)
    url = place.url.replace("sqlite://", "sqlite:///")
    assert main(["doctor", url]) == 1
    assert "its MLMD schema is 9" in capsys.readouterr().out
    assert main(["metadata-store", "migrate", url, "--yes"]) == 0
    told = capsys.readouterr().out
    assert "MLMD schema 9 -> 10" in told
    assert told.endswith("schema 10 is reached\n")
    assert main(["doctor", url, "--fix", "--yes"]) == 0
    assert main(["doctor", url]) == 0
    told = capsys.readouterr().out
    assert told.endswith(": nothing is wrong\n")
    password = place.url.rpartition("@")[0].rpartition(":")[2]
    assert place.dialect == "sqlite" or password not in told


def test_the_same_in_python(old_file: Path) -> None:
    config = config_from_url(old_file)
    assert plan_migration(config).version == 7
    assert [each.code for each in examine_store(config)] == ["schema-old"]
    assert migrate_store(config) == 7
    assert mend_store(config) == 2
    assert examine_store(config) == []


def test_a_server_with_a_database_of_its_own_is_told_so() -> None:
    config = config_from_url("kubeflow://host:8080")
    for call in (plan_migration, migrate_store):
        with pytest.raises(UsageError, match="host:8080: a kubeflow store is no database") as caught:
            call(config)
        assert "mysql://user@host/metadb" in caught.value.hint


def test_a_file_that_is_not_there_is_not_made(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", str(tmp_path / "none.db")]) == 3
    assert "database-missing" in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == []
