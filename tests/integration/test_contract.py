"""The contract that is shipped for custom flavors, on those that are built in."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import SecretStr

from tests.services.grpc_server import GrpcServer
from zen_mlmd.flavors import KubeflowConfig, SqliteConfig, StoreConfig, config_from_url
from zen_mlmd.store import open_store
from zen_mlmd.testing import StoreContract

_NEVER_PRUNES = frozenset({"prune"})


class TestSqlite(StoreContract):
    lacks = _NEVER_PRUNES

    @pytest.fixture
    def config(self, sqlite_path: Path) -> StoreConfig:
        return config_from_url(sqlite_path)


class TestSqliteInMemory(StoreContract):
    lacks = frozenset({"prune", "sharing", "mlmd_client"})

    @pytest.fixture
    def config(self) -> StoreConfig:
        return config_from_url("sqlite://")


class TestSqliteBySql(StoreContract):
    @pytest.fixture
    def config(self, sqlite_path: Path) -> StoreConfig:
        return config_from_url(f"sqlite:///{sqlite_path}?service=sql")


@pytest.mark.mysql
class TestMysql(StoreContract):
    @pytest.fixture
    def config(self, mysql_url: str) -> StoreConfig:
        return config_from_url(mysql_url)


@pytest.mark.postgresql
class TestPostgresql(StoreContract):
    lacks = frozenset({"mlmd_client"})

    @pytest.fixture
    def config(self, postgresql_url: str) -> StoreConfig:
        return config_from_url(postgresql_url)


class TestKubeflow(StoreContract):
    lacks = _NEVER_PRUNES

    @pytest.fixture
    def config(self, grpc_server: GrpcServer) -> StoreConfig:
        host, _, port = grpc_server.address.rpartition(":")
        return KubeflowConfig(host=host, port=int(port))


class TellingConfig(SqliteConfig):
    """A flavor with a fault: it tells its secret."""

    flavor = "telling"
    schemes = ("telling",)
    token: SecretStr = SecretStr("")

    @property
    def location(self) -> str:
        return f"{self.path}?token={self.token.get_secret_value()}"


class Wrong(StoreContract):
    """Its class is not collected; it claims that it cannot what it can."""

    __test__ = False
    lacks = _NEVER_PRUNES


def test_a_flavor_that_tells_its_secret_is_found() -> None:
    with pytest.raises(AssertionError):
        Wrong().test_secrets_are_not_shown(TellingConfig(path="x.db"))


def test_a_gap_that_is_none_is_found(sqlite_path: Path) -> None:
    with open_store(f"sqlite:///{sqlite_path}?service=sql") as store, pytest.raises(pytest.fail.Exception):
        Wrong().test_prune_deletes(store)


def test_an_unknown_gap_is_found() -> None:
    contract = Wrong()
    contract.lacks = frozenset({"purne"})  # type: ignore[misc]
    with pytest.raises(AssertionError):
        contract.test_it_lacks_only_what_there_is()
