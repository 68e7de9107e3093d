"""Fixtures of the SQL service's tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.services.mariadb import MariaDb
from tests.services.postgresql import PostgreSql
from tests.sql.places import Place, server_place, sqlite_place
from tests.sql.twins import database_of
from zen_mlmd.service.sql.service import SqlService

BACKENDS = (
    "sqlite",
    pytest.param("mysql", marks=pytest.mark.mysql),
    pytest.param("postgresql", marks=pytest.mark.postgresql),
)


@pytest.fixture(params=BACKENDS)
def new_place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[[], Place]]:
    """Makes empty databases of each kind: SQLite, MariaDB, PostgreSQL."""
    if request.param == "sqlite":
        numbers = iter(range(100))
        yield lambda: sqlite_place(tmp_path / f"{next(numbers)}.sqlite")
        return
    server: MariaDb | PostgreSql = request.getfixturevalue(
        "mariadb" if request.param == "mysql" else "postgresql"
    )
    made: list[str] = []

    def new() -> Place:
        made.append(server.new_database())
        return server_place(server.url(made[-1]))

    yield new
    for name in made:
        server.drop_database(name)


@pytest.fixture
def place(new_place: Callable[[], Place]) -> Place:
    """One empty database of each kind."""
    return new_place()


@pytest.fixture
def mysql_folding(mariadb: MariaDb) -> Iterator[Place]:
    """An empty database of MariaDB to which names that differ by case, or a blank at the end, are one."""
    name = mariadb.new_database()
    mariadb.sql(f"ALTER DATABASE {name} COLLATE utf8mb4_general_ci")
    yield server_place(mariadb.url(name))
    mariadb.drop_database(name)


@pytest.fixture
def open_service() -> Iterator[Callable[[Place], SqlService]]:
    """Opens the SQL service on a place, each time as another process would."""
    opened = []

    def new(place: Place) -> SqlService:
        opened.append(SqlService(database_of(place)))
        return opened[-1]

    yield new
    for service in opened:
        service.close()
