"""What a database says of its schema, and what it has."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.doctor.conftest import change, codes, config_of, damage
from tests.sql.places import Place
from zen_mlmd.cli.main import main
from zen_mlmd.doctor import examine, mend
from zen_mlmd.flavors import config_from_url
from zen_mlmd.flavors.upkeep import migrate_store
from zen_mlmd.service.sql.schema import COLUMNS
from zen_mlmd.store import open_store

ALL = tuple(COLUMNS)


def test_it_is_mended_and_nothing_else(filled: Place) -> None:
    config = config_of(filled)
    before, rows = filled.catalog(), filled.rows(*ALL)
    on = " ON `{}`" if filled.dialect == "mysql" else ""
    damages = [
        (["version-missing"], ["DROP TABLE `MLMDEnv`"]),
        (
            ["index-missing", "index-offered"],
            [
                f"DROP INDEX idx_event_execution_id{on.format('Event')}",
                f"DROP INDEX idx_association_execution_id{on.format('Association')}",
            ],
        ),
    ]
    if filled.dialect == "sqlite":
        damages += [
            (["version-missing"], ["DELETE FROM `MLMDEnv`"]),
            (["version-several"], ["INSERT INTO `MLMDEnv` VALUES (9)"]),
        ]
    for found, statements in damages:
        change(filled, *statements)
        assert [(each.code, each.mendable) for each in examine(config)] == [(each, True) for each in found]
        assert mend(config) == len(found)
        assert examine(config) == []
    assert (filled.catalog(), filled.rows(*ALL)) == (before, rows)


@pytest.mark.parametrize(
    ("code", "statements", "remedy"),
    [
        ("tables-missing", [f"DROP TABLE {each}" for each in COLUMNS], "right database"),
        ("version-missing", ["DELETE FROM MLMDEnv", "DROP TABLE Event"], "half made"),
        ("version-several", ["INSERT INTO MLMDEnv VALUES (9)", "DROP TABLE Event"], "restore a backup"),
        ("schema-newer", ["UPDATE MLMDEnv SET schema_version = 11"], "newer zen_mlmd"),
        ("schema-ancient", ["UPDATE MLMDEnv SET schema_version = 4"], "1.17.1"),
        ("columns-missing", ["DROP TABLE EventPath"], "backup"),
        ("migration-unfinished", ["UPDATE MLMDEnv SET schema_version = 9"], "metadata-store migrate"),
    ],
)
def test_what_a_person_has_to_see_to_is_left_alone(
    path: Path, code: str, statements: list[str], remedy: str
) -> None:
    damage(path, *statements)
    config = config_from_url(path)
    (finding,) = examine(config)
    assert (finding.code, finding.mendable) == (code, False)
    assert remedy in finding.remedy
    assert mend(config) == 0
    assert codes(examine(config)) == [code]
    assert main(["doctor", str(path)]) == 3


@pytest.mark.parametrize("new_place", [pytest.param("mysql", marks=pytest.mark.mysql)], indirect=True)
def test_a_migration_that_was_cut_short_is_gone_on_with(new_place: Callable[[], Place]) -> None:
    place = new_place()
    place.native()
    place.downgrade(9)
    config = config_of(place)
    assert codes(examine(config)) == ["schema-old"]
    change(
        place,
        "ALTER TABLE `ArtifactProperty` ADD COLUMN `proto_value` MEDIUMBLOB",
        "CREATE TABLE `EventTemp` (id INT)",
    )
    (finding,) = examine(config)
    assert finding.code == "migration-unfinished"
    assert "it has ArtifactProperty.proto_value; " in finding.what
    assert "EventTemp was left behind" in finding.what
    migrate_store(config)
    assert "migration-unfinished" not in codes(examine(config))


def test_a_file_of_another_program_is_told_of(tmp_path: Path) -> None:
    damage(tmp_path / "other.db", "CREATE TABLE songs (id INTEGER)")
    (finding,) = examine(config_from_url(tmp_path / "other.db"))
    assert (finding.code, finding.what) == (
        "tables-missing",
        "it has none of MLMD's tables: it holds 1 tables of others",
    )


def test_what_was_mended_is_read_as_before(path: Path) -> None:
    damage(path, "DELETE FROM MLMDEnv")
    assert main(["doctor", str(path), "--fix", "--yes"]) == 0
    with open_store(path) as store:
        assert [each.name for each in store.runs] == ["monday"]
