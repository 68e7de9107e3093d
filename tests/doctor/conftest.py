"""Stores that are sound, to be damaged."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

import zen_mlmd as zm
from tests.sql.conftest import new_place, place
from tests.sql.places import Place
from tests.sql.test_old_schemas import fill
from zen_mlmd.doctor import Finding, examine, mend
from zen_mlmd.flavors import StoreConfig, config_from_url

__all__ = ["new_place", "place"]


def config_of(place: Place) -> StoreConfig:
    return config_from_url(place.url.replace("sqlite://", "sqlite:///"))


def codes(found: list[Finding]) -> list[str]:
    return [each.code for each in found]


@pytest.fixture(scope="session")
def sound_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SQLite store with a run, a step, an input and an output, of which nothing is wrong."""
    path = tmp_path_factory.mktemp("sound") / "sound.db"
    with zm.open_store(path) as store:
        rows = store.import_artifact("mem://rows")
        with (
            store.record_run("churn", name="monday") as run,
            run.step("train", inputs={"rows": rows}) as step,
        ):
            step.log_output("model", uri="mem://model", type="Model", properties={"auc": 0.9})
    config = config_from_url(path)
    mend(config)
    assert examine(config) == []
    return path


@pytest.fixture
def path(sound_file: Path, tmp_path: Path) -> Path:
    """A copy of it, to be damaged."""
    return shutil.copyfile(sound_file, tmp_path / "metadata.db")


def damage(path: Path, *statements: str) -> None:
    """Change a file that nobody has open."""
    with closing(sqlite3.connect(path)) as database:
        for statement in statements:
            database.execute(statement)
        database.commit()


@pytest.fixture
def filled(new_place: Callable[[], Place]) -> Place:
    """A database of each kind with rows of each kind, of which nothing is wrong."""
    made = new_place()
    fill(made.native())
    mend(config_of(made))
    return made


def change(place: Place, *statements: str) -> None:
    """Run statements in which ` quotes a name."""

    def run(connection: Any) -> None:
        for statement in statements:
            connection.exec_driver_sql(
                statement.replace("`", "") if place.dialect == "postgresql" else statement
            )

    place.with_connection(run)
