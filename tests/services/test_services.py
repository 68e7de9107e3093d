"""The servers that other tests rely on do what they say."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import grpc
import pymysql
import pytest
from ml_metadata.proto import metadata_store_service_pb2 as service_pb2
from ml_metadata.proto import metadata_store_service_pb2_grpc as service_grpc

from tests.services.grpc_server import GrpcServer
from tests.services.mariadb import MariaDb


def _connect(url: str, **options: Any) -> pymysql.connections.Connection[Any]:
    parts = urlsplit(url)
    return pymysql.connect(
        host=parts.hostname,
        port=parts.port or 0,
        user=parts.username,
        password=parts.password or "",
        database=parts.path[1:],
        **{"ssl_disabled": True, **options},
    )


@pytest.fixture
def own_mariadb() -> Iterator[MariaDb]:
    with MariaDb() as server:
        yield server


@pytest.fixture(scope="module")
def tls_mariadb() -> Iterator[MariaDb]:
    with MariaDb(tls=True) as server:
        yield server


@pytest.mark.mysql
def test_a_database_url_logs_in_and_keeps_names_apart_by_case(mysql_url: str) -> None:
    with _connect(mysql_url) as connection, connection.cursor() as cursor:
        cursor.execute("CREATE TABLE t (name VARCHAR(20) UNIQUE)")
        assert cursor.execute("INSERT INTO t VALUES ('a'), ('A'), ('ä')") == 3


@pytest.mark.mysql
def test_each_database_is_new(mariadb: MariaDb) -> None:
    first, second = mariadb.new_database(), mariadb.new_database()
    assert first != second
    mariadb.drop_database(first)
    assert mariadb.sql("SHOW DATABASES LIKE %s", first) == []
    assert mariadb.sql("SHOW DATABASES LIKE %s", second) == [(second,)]
    mariadb.drop_database(second)


@pytest.mark.mysql
def test_a_database_is_dropped_under_an_open_transaction(mariadb: MariaDb) -> None:
    database = mariadb.new_database()
    connection = _connect(mariadb.url(database))
    with connection.cursor() as cursor:
        cursor.execute("CREATE TABLE t (n INT)")
        cursor.execute("INSERT INTO t VALUES (1)")
    mariadb.drop_database(database)
    connection.close()


@pytest.mark.mysql
def test_zen_has_no_rights_elsewhere(mysql_url: str) -> None:
    with _connect(mysql_url) as connection, connection.cursor() as cursor:
        with pytest.raises(pymysql.OperationalError, match="denied"):
            cursor.execute("CREATE DATABASE elsewhere")
        with pytest.raises(pymysql.OperationalError, match="denied"):
            cursor.execute("SELECT * FROM mysql.user")


@pytest.mark.mysql
def test_killing_connections_cuts_those_of_zen(mariadb: MariaDb, mysql_url: str) -> None:
    connection = _connect(mysql_url)
    assert mariadb.kill_connections() >= 1
    with pytest.raises(pymysql.OperationalError), connection.cursor() as cursor:
        cursor.execute("SELECT 1")
    connection.close()
    _connect(mysql_url).close()


@pytest.mark.mysql
@pytest.mark.parametrize("end", ["stop", "kill"])
def test_data_outlive_the_server(own_mariadb: MariaDb, end: str) -> None:
    url = own_mariadb.url(own_mariadb.new_database())
    with _connect(url, autocommit=True) as connection, connection.cursor() as cursor:
        cursor.execute("CREATE TABLE t (n INT)")
        cursor.execute("INSERT INTO t VALUES (7)")
    getattr(own_mariadb, end)()
    with pytest.raises(pymysql.OperationalError, match="refused"):
        _connect(url)
    own_mariadb.restart()
    with _connect(url) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT n FROM t")
        assert cursor.fetchall() == ((7,),)


@pytest.mark.mysql
def test_a_server_starts_within_three_seconds(mariadb: MariaDb) -> None:
    assert mariadb.sql("SELECT 1") == [(1,)]  # the template is there now
    started = time.monotonic()
    with MariaDb() as server:
        assert time.monotonic() - started < 3
    assert not server.directory.exists()


@pytest.mark.mysql
def test_tls_is_offered_if_asked_for(tls_mariadb: MariaDb) -> None:
    certificates = tls_mariadb.certificates
    assert certificates is not None
    url = tls_mariadb.url(tls_mariadb.new_database())
    options: dict[str, Any] = {
        "ssl_disabled": False,
        "ssl_ca": str(certificates.ca),
        "ssl_cert": str(certificates.client_cert),
        "ssl_key": str(certificates.client_key),
        "ssl_verify_cert": True,
        "ssl_verify_identity": True,
    }
    with _connect(url, **options) as connection, connection.cursor() as cursor:
        cursor.execute("SHOW STATUS LIKE 'Ssl_cipher'")
        (row,) = cursor.fetchall()
        assert row[1]
    with pytest.raises(pymysql.OperationalError, match=r"(?i)certificate verify failed"):
        _connect(url, ssl_disabled=False, ssl=ssl.create_default_context())


@pytest.mark.mysql
def test_a_server_that_cannot_start_says_why() -> None:
    server = MariaDb(options=["--no-such-option"])
    with pytest.raises(RuntimeError, match="no-such-option"):
        server.start()
    server.remove()


def test_a_missing_program_is_named_with_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda *_, **__: None)
    with pytest.raises(FileNotFoundError, match="apt-get install mariadb-server-core"):
        MariaDb().start()


_SESSION = """
import sys
from tests.services import session_directory
from tests.services.mariadb import MariaDb
server = MariaDb()
server.start()
print(server.port, session_directory(), flush=True)
sys.stdin.read()
"""


@pytest.mark.mysql
@pytest.mark.parametrize("how", ["end", "kill"])
def test_nothing_outlives_a_session(how: str) -> None:
    root = Path(__file__).resolve().parents[2]
    session = subprocess.Popen(
        [sys.executable, "-c", _SESSION], cwd=root, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert session.stdout is not None
    port, directory = session.stdout.readline().decode().split()
    with socket.create_connection(("127.0.0.1", int(port)), 5):
        pass
    if how == "kill":
        os.kill(session.pid, signal.SIGKILL)
    session.communicate()
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline and _listens(int(port)):
        time.sleep(0.05)
    assert not _listens(int(port))
    if how == "kill":  # the next session sweeps
        subprocess.run(
            [sys.executable, "-c", "import tests.services as s; s.session_directory()"], cwd=root, check=True
        )
    assert not Path(directory).exists()


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _types(channel: grpc.Channel, **call: Any) -> set[str]:
    stub = service_grpc.MetadataStoreServiceStub(channel)
    answer = stub.GetArtifactTypes(service_pb2.GetArtifactTypesRequest(), timeout=10, **call)
    return {kind.name for kind in answer.artifact_types}


def _put_type(channel: grpc.Channel, name: str) -> None:
    request = service_pb2.PutArtifactTypeRequest()
    request.artifact_type.name = name
    service_grpc.MetadataStoreServiceStub(channel).PutArtifactType(request, timeout=10)


def _code(error: pytest.ExceptionInfo[grpc.RpcError]) -> grpc.StatusCode:
    code: grpc.StatusCode = error.value.code()
    return code


def test_the_grpc_server_writes_and_reads(grpc_server: GrpcServer) -> None:
    with grpc.insecure_channel(grpc_server.address) as channel:
        _put_type(channel, "Rows")
        assert "Rows" in _types(channel)


def test_the_grpc_server_passes_status_codes_and_texts_through(grpc_server: GrpcServer) -> None:
    with grpc.insecure_channel(grpc_server.address) as channel:
        stub = service_grpc.MetadataStoreServiceStub(channel)
        with pytest.raises(grpc.RpcError) as not_found:
            stub.GetContextType(service_pb2.GetContextTypeRequest(type_name="none"))
        with pytest.raises(grpc.RpcError) as unknown:
            channel.unary_unary("/ml_metadata.MetadataStoreService/NoSuchMethod", bytes, bytes)(b"")
    assert _code(not_found) is grpc.StatusCode.NOT_FOUND
    assert "none" in (not_found.value.details() or "")
    assert _code(unknown) is grpc.StatusCode.UNIMPLEMENTED


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_the_grpc_server_comes_back_on_the_same_port_with_its_data(grpc_server: GrpcServer, end: str) -> None:
    with grpc.insecure_channel(grpc_server.address) as channel:
        _put_type(channel, "Rows")
    getattr(grpc_server, end)()
    assert not _listens(grpc_server.port)
    grpc_server.restart()
    with grpc.insecure_channel(grpc_server.address) as channel:
        assert "Rows" in _types(channel)


def test_mutual_tls_lets_in_only_who_shows_a_certificate(sqlite_path: Path) -> None:
    with GrpcServer(sqlite_path, mutual_tls=True) as server:
        made = server.certificates
        assert made is not None
        known = grpc.ssl_channel_credentials(
            made.ca.read_bytes(), made.client_key.read_bytes(), made.client_cert.read_bytes()
        )
        with grpc.secure_channel(server.address, known) as channel:
            _put_type(channel, "Rows")
        stranger = grpc.ssl_channel_credentials(made.ca.read_bytes())
        with grpc.secure_channel(server.address, stranger) as channel, pytest.raises(grpc.RpcError) as error:
            _types(channel)
    assert _code(error) is grpc.StatusCode.UNAVAILABLE


def test_tls_is_checked_against_the_authority(sqlite_path: Path) -> None:
    with GrpcServer(sqlite_path, tls=True) as server:
        assert server.certificates is not None
        right = grpc.ssl_channel_credentials(server.certificates.ca.read_bytes())
        with grpc.secure_channel(server.address, right) as channel:
            _put_type(channel, "Rows")
        with (
            grpc.secure_channel(server.address, grpc.ssl_channel_credentials()) as channel,
            pytest.raises(grpc.RpcError) as error,
        ):
            _types(channel)
    assert _code(error) is grpc.StatusCode.UNAVAILABLE


def test_required_request_metadata_is_required(sqlite_path: Path) -> None:
    with (
        GrpcServer(sqlite_path, require_metadata={"kubeflow-userid": "anna@example.com"}) as server,
        grpc.insecure_channel(server.address) as channel,
    ):
        assert _types(channel, metadata=[("kubeflow-userid", "anna@example.com")]) == set()
        with pytest.raises(grpc.RpcError) as error:
            _types(channel, metadata=[("kubeflow-userid", "eve@example.com")])
    assert _code(error) is grpc.StatusCode.UNAUTHENTICATED


def test_messages_are_limited(sqlite_path: Path) -> None:
    with (
        GrpcServer(sqlite_path, max_message=10_000) as server,
        grpc.insecure_channel(server.address) as channel,
    ):
        _put_type(channel, "n" * 5_000)
        with pytest.raises(grpc.RpcError) as error:
            _put_type(channel, "n" * 11_000)
    assert _code(error) is grpc.StatusCode.RESOURCE_EXHAUSTED


def test_a_grpc_server_that_cannot_start_says_why(tmp_path: Path) -> None:
    server = GrpcServer(tmp_path / "missing" / "directory" / "file.sqlite")
    with pytest.raises(RuntimeError, match="unable to open database file"):
        server.start()
