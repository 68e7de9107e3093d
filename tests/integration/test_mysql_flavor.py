"""Stores on MySQL, on real MariaDB servers: which database, which schema, which login, and TLS."""

from __future__ import annotations

import secrets
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from ml_metadata.metadata_store import metadata_store

import zen_mlmd as zm
from tests.services import make_certificates
from tests.services.mariadb import MariaDb
from zen_mlmd.errors import (
    ConnectionFailedError,
    DatabaseMissingError,
    GrantMissingError,
    LoginDeniedError,
    NameClashError,
    NotMlmdError,
    RejectedRequestError,
    SchemaVersionError,
    StoreError,
    TlsError,
    ZenMlmdError,
)
from zen_mlmd.flavors import mysql as flavor

pytestmark = pytest.mark.mysql

CANARY = f"canary-{secrets.token_hex(8)}"


@pytest.fixture(scope="module")
def tls_mariadb() -> Iterator[MariaDb]:
    with MariaDb(tls=True) as server:
        yield server


@pytest.fixture(params=["native", "sql"], autouse=True)
def service(request: pytest.FixtureRequest, mariadb: MariaDb) -> Iterator[str]:
    """What `url` and `config_of` ask for."""
    MariaDb.service = request.param
    yield request.param
    MariaDb.service = "auto"


@pytest.fixture
def database(mariadb: MariaDb) -> Iterator[str]:
    name = mariadb.new_database()
    yield name
    mariadb.drop_database(name)


@pytest.fixture
def name(mariadb: MariaDb) -> Iterator[str]:
    """The name of a database that is not there yet."""
    name = f"zen_{secrets.token_hex(6)}"
    yield name
    mariadb.sql(f"DROP DATABASE IF EXISTS `{name}`")


Accounts = Callable[..., str]


@pytest.fixture
def account() -> Iterator[Accounts]:
    """Makes accounts: `account(server, how, grants=...)` with `how` as in CREATE USER."""
    made: list[tuple[MariaDb, str]] = []

    def make(server: MariaDb, how: str, *args: object, grants: str = "ALL ON *.*") -> str:
        user = f"u{secrets.token_hex(4)}"
        percent = "%%" if args else "%"
        server.sql(f"CREATE USER {user}@'{percent}' {how}", *args)
        server.sql(f"GRANT {grants} TO {user}@'%'")
        made.append((server, user))
        return user

    yield make
    for server, user in made:
        server.sql(f"DROP USER {user}@'%'")


def config_of(server: MariaDb, database: str, **settings: Any) -> zm.MysqlConfig:
    known = {"port": server.port, "user": server.user, "password": server.password, "wait_s": 2.0}
    return zm.MysqlConfig(**{**known, "service": server.service, "database": database, **settings})


def works(store: zm.Store, value: str = "x") -> bool:
    """Record a run and read it back."""
    with store:
        with store.record_run("churn", parameters={"value": value}) as run, run.step("train") as step:
            step.log_output("model", uri="s3://bucket/model")
        found = store.get_run(run.name)
        return found.status is zm.Status.COMPLETED and found.parameters == {"value": value}


def refusal(kind: type[ZenMlmdError], attempt: Callable[[], object]) -> ZenMlmdError:
    with pytest.raises(kind) as caught:
        attempt()
    assert type(caught.value) is kind
    assert caught.value.hint
    return caught.value


def databases(server: MariaDb) -> set[str]:
    return {name for (name,) in server.sql("SHOW DATABASES")}


def tables(server: MariaDb, database: str) -> set[str]:
    query = "SELECT table_name FROM information_schema.tables WHERE table_schema = %s"
    return {name for (name,) in server.sql(query, database)}


def contents(server: MariaDb, database: str) -> dict[str, Any]:
    """Return all tables, how they were made, and their rows."""
    return {
        table: (
            server.sql(f"SHOW CREATE TABLE `{database}`.`{table}`"),
            sorted(server.sql(f"SELECT * FROM `{database}`.`{table}`"), key=repr),
        )
        for table in tables(server, database)
    }


# --- which database ---


def test_an_empty_database_becomes_a_store(mariadb: MariaDb, database: str) -> None:
    assert works(zm.open_store(mariadb.url(database)))
    assert "MLMDEnv" in tables(mariadb, database)


def test_a_missing_database_is_told_and_not_made(mariadb: MariaDb, name: str) -> None:
    error = refusal(DatabaseMissingError, lambda: zm.open_store(mariadb.url(name)))
    assert "create=True" in error.hint
    assert f"CREATE DATABASE `{name}`" in error.hint
    assert name not in databases(mariadb)


def test_a_missing_database_is_made_if_asked_and_tells_names_apart_by_case(
    mariadb: MariaDb, name: str
) -> None:
    with zm.open_store(mariadb.url(name), create=True) as store:
        for pipeline in ("churn", "CHURN"):
            store.record_run(pipeline, name=f"{pipeline} run").end()
        assert [each.name for each in store.pipelines] == ["churn", "CHURN"]
    query = "SELECT default_collation_name FROM information_schema.schemata WHERE schema_name = %s"
    assert mariadb.sql(query, name) == [("utf8mb4_bin",)]
    assert works(zm.open_store(mariadb.url(name)))
    assert works(zm.open_store(mariadb.url(name), create=True))


def test_a_database_is_not_made_again_behind_the_users_back(mariadb: MariaDb, name: str) -> None:
    store = zm.open_store(config_of(mariadb, name, wait_s=0.2), create=True)
    store.record_run("churn").end()
    mariadb.drop_database(name)
    with pytest.raises(ZenMlmdError):
        store.record_run("churn")
    assert name not in databases(mariadb)


def test_making_a_database_without_the_right_to_is_told(mariadb: MariaDb) -> None:
    error = refusal(GrantMissingError, lambda: zm.open_store(config_of(mariadb, "elsewhere"), create=True))
    assert "GRANT ALL" in error.hint


def test_a_database_of_other_tables_is_refused_and_left_as_it_is(mariadb: MariaDb, database: str) -> None:
    mariadb.sql(f"CREATE TABLE {database}.orders (id INT PRIMARY KEY)")
    error = refusal(NotMlmdError, lambda: zm.open_store(mariadb.url(database)))
    assert "1 tables and none of MLMD's" in error.message
    assert tables(mariadb, database) == {"orders"}


def test_a_database_that_somebody_is_just_making_is_waited_for(mariadb: MariaDb, database: str) -> None:
    mariadb.sql(f"CREATE TABLE {database}.Type (id INT PRIMARY KEY)")
    made = threading.Timer(0.5, mariadb.sql, [f"DROP TABLE {database}.Type"])
    made.start()
    started = time.monotonic()
    assert works(zm.open_store(mariadb.url(database)))
    assert time.monotonic() - started > 0.4
    made.join()


def test_tables_that_nobody_goes_on_making_are_waited_for_as_long_as_the_config_says(
    mariadb: MariaDb, database: str
) -> None:
    mariadb.sql(f"CREATE TABLE {database}.Type (id INT PRIMARY KEY)")
    started = time.monotonic()
    refusal(NotMlmdError, lambda: zm.open_store(f"{mariadb.url(database)}&wait_s=0.3"))
    assert time.monotonic() - started < 3


@pytest.mark.parametrize(
    ("collation", "case", "blanks"),
    [
        ("utf8mb4_bin", False, True),
        ("utf8mb4_general_ci", True, True),
        ("latin1_swedish_ci", True, True),
        ("utf8mb4_nopad_bin", False, False),
        ("utf8mb4_unicode_nopad_ci", True, False),
    ],
)
@pytest.mark.parametrize("made", ["before", "here"])
def test_names_are_compared_as_the_collation_says(
    mariadb: MariaDb, database: str, *, collation: str, case: bool, blanks: bool, made: str
) -> None:
    charset = collation.partition("_")[0]
    mariadb.sql(f"ALTER DATABASE {database} CHARACTER SET {charset} COLLATE {collation}")
    if made == "before":
        zm.open_store(mariadb.url(database)).close()
        mariadb.sql(f"ALTER DATABASE {database} CHARACTER SET utf8mb4 COLLATE utf8mb4_unicode_nopad_ci")
    store = zm.open_store(mariadb.url(database))
    limits = store.loader.client.service.limits  # type: ignore[attr-defined]
    assert (limits.ignores_case, limits.ignores_blanks) == (case, blanks)
    assert store.loader.client.exact_names is (not case and not blanks)
    store.record_run("p", name="r").end()
    for name, one in (("R", case), ("r ", blanks)):
        if one:
            refusal(NameClashError, lambda name=name: store.record_run("p", name=name))  # type: ignore[misc]
        else:
            store.record_run("p", name=name).end()
    store.close()


def test_mlmds_tables_are_put_beside_others_if_asked(mariadb: MariaDb, database: str) -> None:
    mariadb.sql(f"CREATE TABLE {database}.orders (id INT PRIMARY KEY)")
    assert works(zm.open_store(mariadb.url(database), create=True))
    assert {"orders", "MLMDEnv"} <= tables(mariadb, database)
    assert works(zm.open_store(mariadb.url(database)))


@pytest.mark.parametrize(
    "odd", ["zen_a-b", "zen_a b", "zen_order", "zen_a'b", 'zen_a"b', "zen_a$b", "zen_a@b"]
)
def test_a_database_of_any_ascii_name_is_the_one_that_is_opened(mariadb: MariaDb, odd: str) -> None:
    url = mariadb.url(quote(odd, safe=""))
    before = databases(mariadb)
    try:
        assert works(zm.open_store(url, create=True))
        assert databases(mariadb) - before == {odd}
        assert works(zm.open_store(url))
        assert zm.open_store(url).config.location.endswith(f"/{odd}")
    finally:
        mariadb.sql(f"DROP DATABASE IF EXISTS `{odd}`")


@pytest.mark.parametrize("odd", ["order", "123", "zen-x y"])
def test_a_database_named_by_a_word_of_sql_is_opened(mariadb: MariaDb, account: Accounts, odd: str) -> None:
    user = account(mariadb, "IDENTIFIED BY 'p'")
    try:
        assert works(zm.open_store(config_of(mariadb, odd, user=user, password="p"), create=True))
    finally:
        mariadb.sql(f"DROP DATABASE IF EXISTS `{odd}`")


def test_names_that_differ_by_case_clash_where_the_database_takes_them_for_one(
    mariadb: MariaDb, name: str
) -> None:
    mariadb.sql(f"CREATE DATABASE {name} CHARACTER SET utf8mb4 COLLATE utf8mb4_general_ci")
    with zm.open_store(mariadb.url(name)) as store:
        store.record_run("churn").end()
        error = refusal(NameClashError, lambda: store.record_run("Churn"))
    assert "utf8mb4_bin" in error.hint


def test_mlmds_own_client_takes_the_connection_config(mariadb: MariaDb, database: str) -> None:
    with zm.open_store(mariadb.url(database)) as store:
        store.record_run("churn", name="monday").end()
        theirs = metadata_store.MetadataStore(store.connection_config())
        assert [each.name for each in theirs.get_contexts_by_type("pipeline_run")] == ["monday"]


# --- which schema ---


@pytest.fixture
def older(mariadb: MariaDb, database: str) -> str:
    """A database with a run in it, of MLMD's schema 8."""
    with zm.open_store(mariadb.url(database)) as store:
        store.record_run("churn", name="monday").end()
        config = store.connection_config()
    metadata_store.downgrade_schema(config, 8)
    assert mariadb.sql(f"SELECT schema_version FROM {database}.MLMDEnv") == [(8,)]
    return database


def test_an_older_schema_is_refused_or_only_read_and_left_as_it_is(
    mariadb: MariaDb, older: str, service: str
) -> None:
    before = contents(mariadb, older)
    if service == "sql":
        with zm.open_store(mariadb.url(older), create=True) as store:
            assert [run.name for run in store.runs] == ["monday"]
            error = refusal(SchemaVersionError, lambda: store.record_run("churn", name="tuesday"))
        assert "schema is 8" in error.message
        assert "migrate" in error.hint
        assert contents(mariadb, older) == before
        return
    for create in (False, True):
        error = refusal(
            SchemaVersionError,
            lambda create=create: zm.open_store(mariadb.url(older), create=create),  # type: ignore[misc]
        )
        assert "schema 8 is older than ml-metadata's 10" in error.message
        assert "upgrade=True" in error.hint
    assert contents(mariadb, older) == before


def test_an_older_schema_is_migrated_if_asked(mariadb: MariaDb, older: str) -> None:
    with zm.open_store(mariadb.url(older), upgrade=True) as store:
        assert [run.name for run in store.runs] == ["monday"]
        store.record_run("churn", name="tuesday").end()
    assert mariadb.sql(f"SELECT schema_version FROM {older}.MLMDEnv") == [(10,)]
    with zm.open_store(mariadb.url(older)) as store:
        assert [run.name for run in store.runs] == ["tuesday", "monday"]


@pytest.mark.parametrize("upgrade", [False, True])
def test_a_newer_schema_is_refused_and_left_as_it_is(mariadb: MariaDb, database: str, upgrade: bool) -> None:
    zm.open_store(mariadb.url(database)).close()
    mariadb.sql(f"UPDATE {database}.MLMDEnv SET schema_version = 11")
    before = contents(mariadb, database)
    error = refusal(SchemaVersionError, lambda: zm.open_store(mariadb.url(database), upgrade=upgrade))
    assert "11" in error.message
    assert error.hint.startswith("install a newer ")
    assert contents(mariadb, database) == before


# --- who ---


@pytest.mark.parametrize(
    "password", ["p@ss/wörd:?#%&= +€", "😀", "'\"`\\", " blank ", "a\nb\tc", "%41", "\x01\x7f", "x" * 80]
)
def test_a_password_of_any_letters_logs_in(
    mariadb: MariaDb, account: Accounts, database: str, password: str
) -> None:
    user = account(mariadb, "IDENTIFIED BY %s", password)
    address = f"127.0.0.1:{mariadb.port}/{database}"
    assert works(
        zm.open_store(f"mysql://{user}:{quote(password, safe='')}@{address}?service={mariadb.service}")
    )
    assert works(zm.open_store(config_of(mariadb, database, user=user, password=password)))
    wrong = quote(password + "!", safe="")
    refusal(LoginDeniedError, lambda: zm.open_store(f"mysql://{user}:{wrong}@{address}"))


def test_an_account_that_may_only_read_reads(mariadb: MariaDb, account: Accounts, database: str) -> None:
    with zm.open_store(mariadb.url(database)) as store:
        store.record_run("churn", name="monday").end()
    user = account(mariadb, "IDENTIFIED BY 'p'", grants=f"SELECT ON {database}.*")
    with zm.open_store(config_of(mariadb, database, user=user, password="p")) as store:
        assert [run.name for run in store.runs] == ["monday"]
        error = refusal(GrantMissingError, lambda: store.record_run("churn", name="tuesday"))
        assert "INSERT command denied" in error.message
        assert "GRANT" in error.hint
        assert [run.name for run in store.runs] == ["monday"]


def test_an_account_without_rights_is_told(mariadb: MariaDb, account: Accounts, database: str) -> None:
    user = account(mariadb, "IDENTIFIED BY 'p'", grants="USAGE ON *.*")
    refusal(GrantMissingError, lambda: zm.open_store(config_of(mariadb, database, user=user, password="p")))


# --- by which way ---


def test_a_unix_socket_is_a_way(mariadb: MariaDb, database: str) -> None:
    path = quote(str(mariadb.socket), safe="")
    url = f"mysql://{mariadb.user}:{mariadb.password}@/{database}?socket={path}&service={mariadb.service}"
    assert works(zm.open_store(url))
    nowhere = config_of(mariadb, database, socket=str(mariadb.socket), host="no-such-host.invalid", port=1)
    assert works(zm.open_store(nowhere))
    gone = config_of(mariadb, database, socket=f"{mariadb.socket}.gone")
    with pytest.raises(ConnectionFailedError, match=r"s\.sock\.gone"):
        zm.open_store(gone)


def test_localhost_is_reached_at_its_port(mariadb: MariaDb, database: str) -> None:
    """ml-metadata's client takes the name for a unix socket at a path where this server has none."""
    assert works(zm.open_store(config_of(mariadb, database, host="localhost")))
    url = f"mysql://{mariadb.user}:{mariadb.password}@localhost:{mariadb.port}/{database}?service={mariadb.service}"
    assert works(zm.open_store(url))


RELAY = """
import socket, sys, threading
listener = socket.create_server(("127.0.0.1", 0))
log = open(sys.argv[2], "ab", buffering=0)
print(listener.getsockname()[1], flush=True)

def pump(source, target):
    try:
        while data := source.recv(65536):
            log.write(data)
            target.sendall(data)
    except OSError:
        pass
    for stream in (source, target):
        try:
            stream.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass

while True:
    client, _ = listener.accept()
    server = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
    for pair in ((client, server), (server, client)):
        threading.Thread(target=pump, args=pair, daemon=True).start()
"""


@contextmanager
def wiretap(server: MariaDb, log: Path) -> Iterator[int]:
    """A port that leads to the server; what passes is written down. A process, for the core keeps the GIL."""
    command = [sys.executable, "-c", RELAY, str(server.port), str(log)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as relay:
        assert relay.stdout is not None
        try:
            yield int(relay.stdout.readline())
        finally:
            relay.kill()


def passed(server: MariaDb, log: Path, **settings: Any) -> bytes:
    """Record the canary, and return all that went over the wire."""
    database = server.new_database()
    with wiretap(server, log) as port:
        assert works(zm.open_store(config_of(server, database, port=port, **settings)), CANARY)
    server.drop_database(database)
    return log.read_bytes()


def test_where_the_server_has_tls_the_native_service_alone_goes_without(
    tls_mariadb: MariaDb, tmp_path: Path, service: str
) -> None:
    seen = passed(tls_mariadb, tmp_path / "log")
    assert (CANARY.encode() in seen) is (service == "native")
    assert (b"INSERT INTO" in seen) is (service == "native")


def test_where_the_server_has_no_tls_all_goes_in_clear(mariadb: MariaDb, tmp_path: Path) -> None:
    seen = passed(mariadb, tmp_path / "log")
    assert CANARY.encode() in seen
    assert b"INSERT INTO" in seen


@pytest.mark.parametrize("how", ["tls", "ssl_ca", "ssl_cipher", "certificate"])
def test_with_tls_nothing_goes_in_clear(tls_mariadb: MariaDb, tmp_path: Path, how: str) -> None:
    made = tls_mariadb.certificates
    assert made is not None
    settings: dict[str, dict[str, Any]] = {
        "tls": {"tls": True},
        "ssl_ca": {"ssl_ca": str(made.ca)},
        "ssl_cipher": {"ssl_cipher": "ECDHE-ECDSA-AES128-GCM-SHA256"},
        "certificate": {"ssl_cert": str(made.client_cert), "ssl_key": str(made.client_key)},
    }
    seen = passed(tls_mariadb, tmp_path / "log", **settings[how])
    assert len(seen) > 10_000
    for clear in (CANARY.encode(), b"INSERT", b"SELECT", b"MLMDEnv"):
        assert clear not in seen


def test_an_account_that_requires_tls_gets_in_with_it_only(
    tls_mariadb: MariaDb, account: Accounts, service: str
) -> None:
    database = tls_mariadb.new_database()
    user = account(tls_mariadb, "IDENTIFIED BY 'p' REQUIRE SSL")
    config = config_of(tls_mariadb, database, user=user, password="p")
    if service == "native":
        error = refusal(TlsError, lambda: zm.open_store(config))
        assert "set tls" in error.hint
    else:  # which encrypts where it can
        assert works(zm.open_store(config))
    assert works(zm.open_store(config.model_copy(update={"tls": True})))
    tls_mariadb.drop_database(database)


def test_an_account_that_requires_a_certificate_gets_in_with_one_only(
    tls_mariadb: MariaDb, account: Accounts
) -> None:
    made = tls_mariadb.certificates
    assert made is not None
    database = tls_mariadb.new_database()
    user = account(tls_mariadb, "IDENTIFIED BY 'p' REQUIRE X509")
    refusal(
        LoginDeniedError,
        lambda: zm.open_store(config_of(tls_mariadb, database, user=user, password="p", tls=True)),
    )
    pair = {"ssl_cert": str(made.client_cert), "ssl_key": str(made.client_key)}
    assert works(zm.open_store(config_of(tls_mariadb, database, user=user, password="p", **pair)))
    tls_mariadb.drop_database(database)


def test_tls_that_the_server_does_not_give_is_an_error(
    mariadb: MariaDb, database: str, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    with wiretap(mariadb, log) as port:
        error = refusal(TlsError, lambda: zm.open_store(config_of(mariadb, database, port=port, tls=True)))
    assert "offers no TLS" in error.message
    assert mariadb.user.encode() not in log.read_bytes()  # nobody logged in
    assert tables(mariadb, database) == set()


def test_a_server_of_another_authority_is_refused(tls_mariadb: MariaDb, tmp_path: Path) -> None:
    other = make_certificates(tmp_path)
    database = tls_mariadb.new_database()
    config = config_of(tls_mariadb, database, ssl_ca=str(other.ca))
    refusal(TlsError, lambda: zm.open_store(config))
    assert tables(tls_mariadb, database) == set()
    tls_mariadb.drop_database(database)


def test_the_servers_name_is_verified_if_asked(tls_mariadb: MariaDb, service: str) -> None:
    made = tls_mariadb.certificates
    assert made is not None
    if service == "native":
        pytest.skip("the native service cannot; see the next test")
    database = tls_mariadb.new_database()
    verified = {"ssl_ca": str(made.ca), "ssl_verify_server_cert": True}
    for host in ("127.0.0.1", "localhost"):
        assert works(zm.open_store(config_of(tls_mariadb, database, host=host, **verified)))
    other = refusal(
        TlsError, lambda: zm.open_store(config_of(tls_mariadb, database, host="127.1", **verified))
    )
    assert "127.1" in other.message
    unknown = config_of(tls_mariadb, database, ssl_verify_server_cert=True)
    refusal(TlsError, lambda: zm.open_store(unknown))
    tls_mariadb.drop_database(database)


def test_verifying_the_server_is_refused_before_anything_is_sent(service: str) -> None:
    if service == "sql":
        pytest.skip("it verifies; see the test before")
    met: list[object] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def accept() -> None:
            try:
                met.append(listener.accept()[1])
            except OSError:
                return

        waiting = threading.Thread(target=accept)
        waiting.start()
        url = f"mysql://zen:p@127.0.0.1:{listener.getsockname()[1]}/metadb?service=native&ssl_verify_server_cert=true"
        error = refusal(TlsError, lambda: zm.open_store(url))
        assert "cannot verify" in error.message
        time.sleep(0.1)
        listener.shutdown(socket.SHUT_RDWR)
        waiting.join()
    assert met == []


def test_a_server_that_gives_up_tls_is_not_spoken_to_in_clear() -> None:
    """Neither after a restart, nor after the server has ended an idle connection."""
    with MariaDb(tls=True) as server, pytest.MonkeyPatch.context() as patch:
        patch.setattr(flavor, "_TLS_IDLE_S", 1.0)
        database = server.new_database()
        store = zm.open_store(config_of(server, database, tls=True, wait_s=0.5))
        assert list(store.runs) == []
        server.sql("SET GLOBAL wait_timeout = 1")
        certificates = server.certificates
        idle = zm.open_store(config_of(server, database, tls=True, wait_s=0.5))
        assert list(idle.runs) == []
        time.sleep(2.5)
        server.stop()
        server.certificates = None
        server.start()
        for each in (store, idle):
            for _ in range(2):
                refusal(TlsError, lambda each=each: list(each.runs))  # type: ignore[misc]
        server.stop()
        server.certificates = certificates
        server.start()
        assert list(store.runs) == []
        assert works(idle)


# --- limits ---


def test_a_text_that_is_longer_than_the_servers_packet_is_refused_by_name(service: str) -> None:
    beside = 5_000 if service == "native" else 2**16
    with MariaDb(options=["--max-allowed-packet=1M"]) as server:
        database = server.new_database()
        with zm.open_store(config_of(server, database)) as store:
            fits = "x" * (2**20 - beside)
            made = store.import_artifact("s3://b/rows", properties={"note": fits})
            assert store.get_artifact(made.id).properties["note"] == fits
            for letter in ("x" * 2, "'"):
                error = refusal(
                    RejectedRequestError,
                    lambda letter=letter: store.import_artifact(  # type: ignore[misc]
                        "s3://b/rows", properties={"note": letter * (2**20 - beside)}
                    ),
                )
                assert "property 'note' of the artifact" in error.message


def test_a_name_that_is_longer_than_its_column_is_refused_by_name(mariadb: MariaDb, database: str) -> None:
    with zm.open_store(mariadb.url(database)) as store:
        store.record_run("churn", name="x" * 255).end()
        error = refusal(RejectedRequestError, lambda: store.record_run("churn", name="x" * 256))
        assert isinstance(error, StoreError)
        assert "the context's name has 256 bytes" in error.message
        assert len(list(store.runs)) == 1
