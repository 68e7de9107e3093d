"""The postgresql flavor: how one gets in, what is told if not, and what is enforced."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import zen_mlmd as zm
from tests.services import make_certificates
from tests.services.postgresql import PostgreSql
from zen_mlmd.errors import (
    ConfigError,
    DatabaseMissingError,
    GrantMissingError,
    HostNotFoundError,
    LoginDeniedError,
    NotMlmdError,
    TlsError,
    UnreachableError,
    ZenMlmdError,
)

UNNAMED = "127.0.0.2"
"""An address of this machine for which no server's certificate is."""

pytestmark = pytest.mark.postgresql


@pytest.fixture(scope="module")
def tls_postgresql() -> Iterator[PostgreSql]:
    with PostgreSql(tls=True, options=[f"listen_addresses=127.0.0.1,{UNNAMED}"]) as server:
        yield server


@pytest.fixture
def name(postgresql: PostgreSql) -> Iterator[str]:
    """The name of a database that is not there yet."""
    name = f"zen_{secrets.token_hex(6)}"
    yield name
    postgresql.sql(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')


def config_of(server: PostgreSql, database: str, **settings: Any) -> zm.PostgresqlConfig:
    known = {"port": server.port, "user": server.user, "password": server.password, "wait_s": 2.0}
    return zm.PostgresqlConfig(**{**known, "database": database, **settings})


def works(store: zm.Store, value: str = "x") -> bool:
    with store:
        with store.record_run("churn", parameters={"value": value}) as run, run.step("train") as step:
            step.log_output("model", uri="s3://bucket/model", properties={"note": value})
        found = store.get_run(run.name)
        model = found.steps["train"].outputs["model"]
        return found.parameters == {"value": value} and model.properties["note"] == value


def refusal(kind: type[ZenMlmdError], attempt: Callable[[], object]) -> ZenMlmdError:
    with pytest.raises(kind) as caught:
        attempt()
    assert type(caught.value) is kind
    assert caught.value.hint
    return caught.value


def tables(server: PostgreSql, database: str) -> int:
    ((count,),) = server.sql(
        "SELECT count(*) FROM pg_tables WHERE schemaname = current_schema()", database=database
    )
    return int(count)


def test_an_empty_database_becomes_a_store_that_takes_any_text(postgresql_url: str) -> None:
    for text in ("x", "\\'); DROP TABLE artifact; --", "\\", "é漢😀", "%s %(a)s :x", "x" * 100_000):
        assert works(zm.open_store(postgresql_url), text)


def test_a_missing_database_is_told_and_made_if_asked(postgresql: PostgreSql, name: str) -> None:
    config = config_of(postgresql, name)
    error = refusal(DatabaseMissingError, lambda: zm.open_store(config))
    assert "create=True" in error.hint
    assert works(zm.open_store(config, create=True))
    assert works(zm.open_store(config))


def test_a_database_of_other_tables_is_refused_and_left_as_it_is(postgresql: PostgreSql) -> None:
    name = postgresql.new_database()
    postgresql.sql("CREATE TABLE orders (id INT PRIMARY KEY)", database=name)
    refusal(NotMlmdError, lambda: zm.open_store(config_of(postgresql, name)))
    assert tables(postgresql, name) == 1
    assert works(zm.open_store(config_of(postgresql, name), create=True))
    postgresql.drop_database(name)


def test_why_one_does_not_get_in_is_told(postgresql: PostgreSql, name: str) -> None:
    def attempt(**settings: Any) -> Callable[[], object]:
        return lambda: zm.open_store(config_of(postgresql, "postgres", **settings))

    refusal(LoginDeniedError, attempt(password="canary-wrong"))
    refusal(LoginDeniedError, attempt(user="nobody_of_that_name"))
    refusal(HostNotFoundError, attempt(host="no-such-host.invalid"))
    refusal(UnreachableError, attempt(port=1))
    refusal(TlsError, attempt(tls=True))
    refusal(TlsError, attempt(ssl_ca="/no/such/file.pem"))
    postgresql.sql("CREATE ROLE plain LOGIN PASSWORD 'p'")
    refusal(
        GrantMissingError,
        lambda: zm.open_store(config_of(postgresql, name, user="plain", password="p"), create=True),
    )
    postgresql.sql("DROP ROLE plain")


def test_no_error_tells_the_password(postgresql: PostgreSql) -> None:
    config = config_of(postgresql, "postgres", password="canary-4711")
    error = refusal(LoginDeniedError, lambda: zm.open_store(config))
    assert "canary-4711" not in f"{error!r} {error} {config!r} {error.__cause__!r} {error.__context__!r}"


def test_an_account_that_may_only_read_reads(postgresql: PostgreSql) -> None:
    name = postgresql.new_database()
    with zm.open_store(config_of(postgresql, name)) as store:
        store.record_run("churn", name="monday").end()
    postgresql.sql("CREATE ROLE reader LOGIN PASSWORD 'p'")
    postgresql.sql("GRANT SELECT ON ALL TABLES IN SCHEMA public TO reader", database=name)
    with zm.open_store(config_of(postgresql, name, user="reader", password="p")) as store:
        assert [run.name for run in store.runs] == ["monday"]
        refusal(GrantMissingError, lambda: store.record_run("churn", name="tuesday"))
    postgresql.drop_database(name)
    postgresql.sql("DROP ROLE reader")


def test_read_only_is_the_servers_own(postgresql: PostgreSql) -> None:
    name = postgresql.new_database()
    config = config_of(postgresql, name)
    refusal(NotMlmdError, lambda: zm.open_store(config.model_copy(update={"read_only": True})))
    assert tables(postgresql, name) == 0
    assert works(zm.open_store(config))
    with zm.open_store(config.model_copy(update={"read_only": True})) as store:
        assert len(list(store.runs)) == 1
        refusal(GrantMissingError, lambda: store.record_run("churn"))
        database = store.config.open_database()
        with pytest.raises(GrantMissingError):
            database.write(lambda session: session.connection.exec_driver_sql("DELETE FROM context"))
        database.close()
    postgresql.drop_database(name)


def test_tls_is_enforced_and_names_are_verified(tls_postgresql: PostgreSql, tmp_path: Path) -> None:
    made = tls_postgresql.certificates
    assert made is not None
    name = tls_postgresql.new_database()
    for settings in (
        {"tls": True},
        {"ssl_ca": str(made.ca)},
        {"ssl_ca": str(made.ca), "ssl_verify_server_cert": True},
        {"ssl_ca": str(made.ca), "ssl_verify_server_cert": True, "host": "localhost"},
    ):
        assert works(zm.open_store(config_of(tls_postgresql, name, **settings)))
    unknown = config_of(tls_postgresql, name, ssl_verify_server_cert=True)
    refusal(TlsError, lambda: zm.open_store(unknown))  # of no authority that the system trusts
    other = make_certificates(tmp_path)
    refusal(TlsError, lambda: zm.open_store(config_of(tls_postgresql, name, ssl_ca=str(other.ca))))
    elsewhere = config_of(tls_postgresql, name, host=UNNAMED, ssl_ca=str(made.ca))
    assert works(zm.open_store(elsewhere))
    verified = elsewhere.model_copy(update={"ssl_verify_server_cert": True})
    error = refusal(TlsError, lambda: zm.open_store(verified))  # it is for another name
    assert "certificate" in error.message
    tls_postgresql.drop_database(name)


def test_ml_metadatas_own_client_is_kept_away(postgresql_url: str) -> None:
    with zm.open_store(postgresql_url) as store:
        error = refusal(ConfigError, store.connection_config)
    assert "serve" in error.hint
