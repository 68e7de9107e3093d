"""Fixtures that several test modules share."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from tests.services.grpc_server import GrpcServer
from tests.services.mariadb import MariaDb
from tests.services.postgresql import PostgreSql
from tests.services.tfx import tfx_environment

# A slow machine is no failure.
settings.register_profile("zen_mlmd", deadline=None)
settings.load_profile("zen_mlmd")


@pytest.fixture(scope="session", autouse=True)
def _no_settings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Nobody's own settings count in tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CONFIG_HOME", str(tmp_path_factory.mktemp("config")))
        patch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))
        yield


@pytest.fixture(scope="session")
def mariadb() -> Iterator[MariaDb]:
    """A running MariaDB server without TLS, one per session (per worker of pytest-xdist)."""
    with MariaDb() as server:
        yield server


@pytest.fixture
def mysql_url(mariadb: MariaDb) -> Iterator[str]:
    """The URL of a new, empty database of `mariadb`."""
    database = mariadb.new_database()
    yield mariadb.url(database)
    mariadb.drop_database(database)


@pytest.fixture(scope="session")
def postgresql() -> Iterator[PostgreSql]:
    """A running PostgreSQL server without TLS, one per session (per worker of pytest-xdist)."""
    with PostgreSql() as server:
        yield server


@pytest.fixture
def postgresql_url(postgresql: PostgreSql) -> Iterator[str]:
    """The URL of a new, empty database of `postgresql`."""
    database = postgresql.new_database()
    yield postgresql.url(database)
    postgresql.drop_database(database)


@pytest.fixture
def sqlite_path(tmp_path: Path) -> Path:
    """Where a SQLite file may be made."""
    return tmp_path / "metadata.sqlite"


@pytest.fixture
def grpc_server(tmp_path: Path) -> Iterator[GrpcServer]:
    """A running MLMD gRPC server over a new SQLite file."""
    with GrpcServer(tmp_path / "server.sqlite") as server:
        yield server


@pytest.fixture(scope="session")
def shared_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of this test session that the workers of pytest-xdist share."""
    folder = tmp_path_factory.getbasetemp()
    return folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder


@pytest.fixture(scope="session")
def tfx_python(shared_folder: Path) -> str:
    """The Python of an environment that has TFX."""
    return tfx_environment(shared_folder)
