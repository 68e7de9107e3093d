"""What is found of a database server: its distance, clock and limits, and what an account may do."""

from __future__ import annotations

import math
import secrets
from collections.abc import Iterator
from typing import Any

import pytest

from tests.services.mariadb import MariaDb
from tests.services.postgresql import PostgreSql
from zen_mlmd.doctor import Finding, examine
from zen_mlmd.doctor.examining import USUAL
from zen_mlmd.flavors import StoreConfig, config_from_url
from zen_mlmd.service.finding import Thresholds
from zen_mlmd.store import open_store

NOTHING = Thresholds(latency_ms=math.inf, skew_s=math.inf, packet_bytes=0, connections=math.inf, ids=math.inf)

mysql = pytest.mark.mysql
postgresql = pytest.mark.postgresql


@pytest.fixture
def mysql_store(mysql_url: str) -> StoreConfig:
    open_store(mysql_url).close()
    return config_from_url(mysql_url)


@pytest.fixture
def postgresql_store(postgresql_url: str) -> StoreConfig:
    open_store(postgresql_url).close()
    return config_from_url(postgresql_url)


def look(config: StoreConfig, thresholds: Thresholds = USUAL) -> dict[str, Finding]:
    """Return findings by code, without those of columns and indexes."""
    found = examine(config, thresholds=thresholds)
    aside = ("narrow-column", "index-offered", "index-whole-text", "latency", "native-login")
    return {each.code: each for each in found if each.code not in aside or thresholds is not USUAL}


@pytest.mark.parametrize(
    "kind", [pytest.param("mysql", marks=mysql), pytest.param("postgresql", marks=postgresql)]
)
def test_each_is_measured_against_its_threshold(request: pytest.FixtureRequest, kind: str) -> None:
    config: StoreConfig = request.getfixturevalue(f"{kind}_store")
    measured = {"latency", "clock-skew", "connections-full", "ids-running-out", "packet-small"}
    assert look(config) == {}
    assert not measured & look(config, NOTHING).keys()
    everything = Thresholds(latency_ms=0, skew_s=-1, packet_bytes=2**31, connections=0, ids=0)
    found = look(config, everything)
    assert measured & found.keys() == measured - ({"packet-small"} if kind == "postgresql" else set())
    assert found["ids-running-out"].subject == "Type"
    assert "2,147,483,647" in found["ids-running-out"].what
    assert "0.0 s" in found["clock-skew"].what
    assert "max_allowed_packet" in found["packet-small"].remedy if kind == "mysql" else True


@pytest.fixture
def setting(mariadb: MariaDb) -> Iterator[Any]:
    """Changes a setting of the server, until the test's end."""
    before: dict[str, Any] = {}

    def change(name: str, value: object) -> None:
        ((before[name],),) = mariadb.sql(f"SELECT @@GLOBAL.{name}")
        mariadb.sql(f"SET GLOBAL {name} = %s", value)

    yield change
    for name, value in before.items():
        mariadb.sql(f"SET GLOBAL {name} = %s", value)


@mysql
@pytest.mark.parametrize(
    ("name", "value", "code"),
    [
        ("tx_isolation", "READ-UNCOMMITTED", "isolation"),
        ("sql_mode", "", "sql-mode"),
        ("read_only", 1, "server-read-only"),
    ],
)
def test_settings_of_the_server_are_told(
    mysql_store: StoreConfig, setting: Any, name: str, value: object, code: str
) -> None:
    setting(name, value)
    assert look(mysql_store).keys() == {code}


@postgresql
def test_another_encoding_is_told(postgresql: PostgreSql) -> None:
    name = f"zen_{secrets.token_hex(6)}"
    postgresql.sql(f"CREATE DATABASE {name} ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0")
    open_store(postgresql.url(name)).close()
    assert look(config_from_url(postgresql.url(name))).keys() == {"encoding"}
    postgresql.drop_database(name)


# -- what an account may do ------------------------------------------------------------------------


@pytest.fixture
def account(mariadb: MariaDb) -> Iterator[Any]:
    """Makes accounts of MariaDB: `account(url, how)`; returns the URL with it."""
    made = []

    def new(url: str, how: str = "IDENTIFIED BY 'p'") -> str:
        made.append(f"acc_{secrets.token_hex(4)}")
        mariadb.sql(f"CREATE USER {made[-1]}@'%' {how}")
        return f"mysql://{made[-1]}:p@{url.rpartition('@')[2]}"

    yield new
    for user in made:
        mariadb.sql(f"DROP USER {user}@'%'")


@mysql
def test_rights_that_an_account_of_mysql_lacks(
    mariadb: MariaDb, mysql_store: StoreConfig, mysql_url: str, account: Any
) -> None:
    database = mysql_url.rpartition("/")[2]
    url = account(mysql_url)
    user = url.partition("//")[2].partition(":")[0]
    config = config_from_url(url)
    (refused,) = examine(config)
    assert (refused.code, refused.subject) == ("grant-missing", "ZM205")

    mariadb.sql(f"GRANT SELECT ON {database}.* TO {user}@'%'")
    found = look(config)
    assert found.keys() == {"grant-write", "grant-ddl"}
    assert "INSERT on all tables; UPDATE on all tables; DELETE on all tables" in found["grant-write"].what
    mariadb.sql(f"GRANT INSERT, UPDATE ON {database}.* TO {user}@'%'")
    for table in ("Artifact", "Event"):
        mariadb.sql(f"GRANT DELETE ON {database}.{table} TO {user}@'%'")
    assert "DELETE on Type, " in look(config)["grant-write"].what
    assert "Event," not in look(config)["grant-write"].what
    before = mariadb.sql(f"SELECT count(*) FROM {database}.Type")
    mariadb.sql(f"GRANT ALL ON {database}.* TO {user}@'%'")
    assert look(config) == {}
    assert mariadb.sql(f"SELECT count(*) FROM {database}.Type") == before

    mariadb.sql(f"REVOKE ALL ON {database}.* FROM {user}@'%'")
    role = f"role_{user}"
    mariadb.sql(f"CREATE ROLE {role}")
    mariadb.sql(f"GRANT ALL ON {database}.* TO {role}")
    mariadb.sql(f"GRANT {role} TO {user}@'%'")
    mariadb.sql(f"SET DEFAULT ROLE {role} FOR {user}@'%'")
    assert look(config) == {}, "a role has all of it"
    mariadb.sql(f"DROP ROLE {role}")

    for table in ("MLMDEnv", "Type", "Event"):
        mariadb.sql(f"GRANT SELECT ON {database}.{table} TO {user}@'%'")
    assert look(config).keys() == {"columns-missing"}, "it sees those tables alone"


@postgresql
def test_rights_that_an_account_of_postgresql_lacks(
    postgresql: PostgreSql, postgresql_store: StoreConfig, postgresql_url: str
) -> None:
    database = postgresql_url.rpartition("/")[2]
    user = f"acc_{secrets.token_hex(4)}"
    postgresql.sql(f"CREATE USER {user} PASSWORD 'p'")
    config = config_from_url(f"postgresql://{user}:p@{postgresql_url.rpartition('@')[2]}")

    def grant(right: str) -> None:
        postgresql.sql(f"GRANT {right} TO {user}", database=database)

    grant("SELECT ON mlmdenv")
    found = look(config)
    assert found.keys() == {"grant-read", "grant-write", "grant-ddl"}
    assert "Artifact" in found["grant-read"].what
    assert "MLMDEnv" not in found["grant-read"].what
    grant("SELECT ON ALL TABLES IN SCHEMA public")
    assert look(config).keys() == {"grant-write", "grant-ddl"}
    grant("INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public")
    assert look(config).keys() == {"grant-ddl"}
    postgresql.sql(f"DROP OWNED BY {user}", database=database)
    postgresql.sql(f"DROP USER {user}")
