"""What the probe says of real servers, and of listeners that are none."""

from __future__ import annotations

import contextlib
import gc
import http.server
import os
import pickle
import re
import secrets
import socket
import ssl
import struct
import subprocess
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from ml_metadata.metadata_store import metadata_store
from ml_metadata.proto import metadata_store_pb2 as mlmd

from tests.services import free_port, make_certificates
from tests.services.mariadb import MariaDb
from zen_mlmd.errors import (
    ConnectionFailedError,
    GrantMissingError,
    HostNotFoundError,
    LoginDeniedError,
    LoginPluginError,
    NotMlmdError,
    TlsError,
    UnreachableError,
)
from zen_mlmd.flavors.mysql_login import MysqlTarget
from zen_mlmd.flavors.mysql_probe import Probe, probe

Serve = Callable[[socket.socket], None]
Listen = Callable[[Serve], int]
MakeAccount = Callable[..., MysqlTarget]

PASSWORD = "s3cret-Pässwörd-€"
MYSQL9 = os.environ.get("ZEN_MLMD_TEST_MYSQL9", "")
needs_mysql9 = pytest.mark.skipif(
    not MYSQL9, reason="ZEN_MLMD_TEST_MYSQL9 names no MySQL 9 (mysql://user:password@host:port)"
)
TIMEOUT_S = 1.0


def _target(port: int = 3306, *, host: str = "127.0.0.1", database: str = "zen_x") -> MysqlTarget:
    return MysqlTarget(host=host, port=port, database=database, user="zen", password=PASSWORD)


def _zen(server: MariaDb, database: str) -> MysqlTarget:
    return MysqlTarget(
        host=server.host, port=server.port, database=database, user=server.user, password=server.password
    )


def _refused(target: MysqlTarget, kind: type[ConnectionFailedError], *, timeout_s: float = 5.0) -> str:
    """Probe in vain; return the error's text, having checked what holds for each of them."""
    started = time.monotonic()
    with pytest.raises(kind) as caught:
        probe(target, timeout_s=timeout_s)
    assert time.monotonic() - started < timeout_s + 0.75
    error = caught.value
    assert type(error) is kind
    assert error.message.startswith(f"{target}: ")
    assert error.hint
    told = "".join(traceback.format_exception(error)) + repr(error)
    assert not target.password or target.password not in told
    assert "s3cret" not in told
    return str(error)


@pytest.fixture(scope="module")
def tls_mariadb() -> Iterator[MariaDb]:
    with MariaDb(tls=True) as server:
        yield server


@pytest.fixture
def database(mariadb: MariaDb) -> Iterator[str]:
    name = mariadb.new_database()
    yield name
    mariadb.drop_database(name)


@pytest.fixture
def account(mariadb: MariaDb) -> Iterator[MakeAccount]:
    """Makes accounts: `account(how, server=...)`, with `how` as in CREATE USER."""
    made: list[tuple[MariaDb, str]] = []

    def make(how: str, *args: object, server: MariaDb = mariadb, host: str = "%") -> MysqlTarget:
        user = f"u{secrets.token_hex(4)}"
        server.sql(f"CREATE USER {user}@'{host.replace('%', '%%' if args else '%')}' {how}", *args)
        made.append((server, f"{user}@'{host}'"))
        return replace(_target(server.port), user=user)

    yield make
    for server, name in made:
        server.sql(f"DROP USER {name}")


@pytest.fixture
def listen() -> Iterator[Listen]:
    """Starts listeners: each connection is given to a function of the test, then closed."""
    with contextlib.ExitStack() as stack:

        def start(serve: Serve) -> int:
            listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))

            def handle(stream: socket.socket) -> None:
                with stream, contextlib.suppress(OSError):
                    serve(stream)

            def accept() -> None:
                with contextlib.suppress(OSError):
                    while True:
                        threading.Thread(target=handle, args=listener.accept()[:1], daemon=True).start()

            threading.Thread(target=accept, daemon=True).start()
            stack.callback(listener.shutdown, socket.SHUT_RDWR)
            port: int = listener.getsockname()[1]
            return port

        yield start


def _packet(number: int, payload: bytes) -> bytes:
    return struct.pack("<I", len(payload))[:3] + bytes([number]) + payload


def _greeting(plugin: bytes, *, capabilities: int = 0x000FF7DF, version: bytes = b"9.0.0") -> bytes:
    """A server's first packet (protocol version 10), without TLS unless `capabilities` have 0x800."""
    return _packet(
        0,
        b"\x0a" + version + b"\0" + struct.pack("<I", 1) + b"12345678\0"
        + struct.pack("<HBHHB", capabilities & 0xFFFF, 45, 2, capabilities >> 16, 21)
        + bytes(10) + b"123456789012\0" + plugin + b"\0",
    )  # fmt: skip


# --- what a target and a probe say ---


def test_a_target_names_the_database_and_hides_the_password() -> None:
    target = _target()
    assert str(target) == "zen@127.0.0.1:3306/zen_x"
    assert str(_target(host="::1")) == "zen@[::1]:3306/zen_x"
    assert str(replace(target, socket="/run/my.sock")) == "zen@/run/my.sock/zen_x"
    assert PASSWORD not in repr(target)
    assert pickle.loads(pickle.dumps(target)) == target


@pytest.mark.mysql
def test_an_empty_database_is_described(mariadb: MariaDb, database: str) -> None:
    mariadb.sql("SET GLOBAL max_allowed_packet = 33554432")
    found = probe(_zen(mariadb, database))
    ((version,),) = mariadb.sql("SELECT VERSION()")
    assert found == Probe(
        server_version=version,
        plugin="mysql_native_password",
        tls_cipher="",
        database_exists=True,
        tables=0,
        schema_version=None,
        schema_rows=0,
        max_allowed_packet=33554432,
        collation="utf8mb4_bin",
    )


@pytest.mark.mysql
def test_a_database_of_mlmd_is_described(mariadb: MariaDb, database: str) -> None:
    target = _zen(mariadb, database)
    config = mlmd.ConnectionConfig()
    config.mysql.host, config.mysql.port, config.mysql.database = target.host, target.port, database
    config.mysql.user, config.mysql.password = target.user, target.password
    store = metadata_store.MetadataStore(config)
    found = probe(target)
    del store
    ((tables,),) = mariadb.sql(
        "SELECT COUNT(*) FROM information_schema.tables WHERE table_schema = %s", database
    )
    assert (found.schema_version, found.schema_rows, found.tables) == (10, 1, tables)
    assert found.tables > 10


@pytest.mark.mysql
@pytest.mark.parametrize(
    ("versions", "expected"), [([], (None, 0)), ([3], (3, 1)), ([9, 10], (10, 2))], ids=str
)
def test_the_rows_of_mlmdenv_are_counted(
    mariadb: MariaDb, database: str, versions: list[int], expected: tuple[int | None, int]
) -> None:
    mariadb.sql(f"CREATE TABLE {database}.MLMDEnv (schema_version INT)")
    for version in versions:
        mariadb.sql(f"INSERT INTO {database}.MLMDEnv VALUES ({version})")
    found = probe(_zen(mariadb, database))
    assert (found.schema_version, found.schema_rows) == expected


@pytest.mark.mysql
@pytest.mark.parametrize("columns", ["other INT", "schema_version TEXT"])
def test_somebody_elses_mlmdenv_is_refused(mariadb: MariaDb, database: str, columns: str) -> None:
    mariadb.sql(f"CREATE TABLE {database}.MLMDEnv ({columns})")
    mariadb.sql(f"INSERT INTO {database}.MLMDEnv VALUES (10)")
    assert "MLMDEnv" in _refused(_zen(mariadb, database), NotMlmdError)


@pytest.mark.mysql
def test_a_missing_database_is_told_not_raised(mariadb: MariaDb) -> None:
    found = probe(_zen(mariadb, "zen_none"))
    assert (found.database_exists, found.tables, found.schema_version) == (False, 0, None)
    assert mariadb.sql("SHOW DATABASES LIKE %s", "zen_none") == []


@pytest.mark.mysql
@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
def test_a_server_is_found_by_name_and_by_address(mariadb: MariaDb, database: str, host: str) -> None:
    assert probe(replace(_zen(mariadb, database), host=host)).database_exists


@pytest.mark.mysql
def test_a_unix_socket_is_used_instead_of_the_port(mariadb: MariaDb, database: str) -> None:
    target = replace(_zen(mariadb, database), host="no-such-host.invalid", socket=str(mariadb.socket))
    assert probe(target).database_exists


@pytest.mark.mysql
def test_any_password_that_utf8_can_write_logs_in(mariadb: MariaDb, account: MakeAccount) -> None:
    target = account("IDENTIFIED BY %s", PASSWORD)
    mariadb.sql(f"GRANT ALL ON *.* TO {target.user}@'%'")
    assert probe(target).plugin == "mysql_native_password"


@pytest.mark.mysql
def test_a_probe_leaves_nothing_behind(mariadb: MariaDb, database: str) -> None:
    target = _zen(mariadb, database)
    descriptors = set(Path("/proc/self/fd").iterdir())
    probe(target)
    _refused(replace(target, password="wrong"), LoginDeniedError)
    _refused(_target(free_port()), UnreachableError)
    gc.collect()
    assert set(Path("/proc/self/fd").iterdir()) <= descriptors
    assert not [thread for thread in threading.enumerate() if thread.name == "zen-mlmd-mysql-probe"]
    count = "SELECT COUNT(*) FROM information_schema.processlist WHERE user = 'zen'"
    deadline = time.monotonic() + 5
    while mariadb.sql(count) != [(0,)] and time.monotonic() < deadline:
        time.sleep(0.01)
    assert mariadb.sql(count) == [(0,)]


# --- nothing answers, or something else does ---


def test_an_unknown_host_is_told() -> None:
    assert "does not resolve" in _refused(_target(host="no-such-host.invalid"), HostNotFoundError)
    _refused(_target(host=f"{'x' * 70}.test"), HostNotFoundError)


def test_a_closed_port_is_told() -> None:
    assert "connection refused" in _refused(_target(free_port()), UnreachableError)


def test_a_missing_socket_is_told(tmp_path: Path) -> None:
    target = replace(_target(), socket=str(tmp_path / "none.sock"))
    assert "no such file" in _refused(target, UnreachableError)


def test_a_host_that_swallows_packets_is_given_up_in_time() -> None:
    with contextlib.ExitStack() as stack:
        full = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        for _ in range(4):  # Linux drops what does not fit into the queue, as a firewall does
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(full.getsockname())
        text = _refused(_target(full.getsockname()[1]), UnreachableError, timeout_s=TIMEOUT_S)
    assert "connecting took longer than 1 s" in text


def test_a_listener_that_says_nothing_is_given_up_in_time(listen: Listen) -> None:
    port = listen(lambda stream: time.sleep(5))
    assert "no MySQL greeting" in _refused(_target(port), UnreachableError, timeout_s=TIMEOUT_S)


def test_a_greeting_that_comes_too_late_counts_as_none(listen: Listen) -> None:
    connections: list[socket.socket] = []

    def slow_at_first(stream: socket.socket) -> None:
        connections.append(stream)
        time.sleep(5 if len(connections) == 1 else 0)
        stream.sendall(_greeting(b"mysql_native_password"))
        stream.recv(1000)

    port = listen(slow_at_first)
    assert "slow to greet" in _refused(_target(port), UnreachableError, timeout_s=TIMEOUT_S)
    assert len(connections) == 2


def test_a_greeting_in_drops_is_given_up_in_time(listen: Listen) -> None:
    def drip(stream: socket.socket) -> None:
        for byte in _greeting(b"mysql_native_password"):
            stream.sendall(bytes([byte]))
            time.sleep(0.1)

    assert "took longer" in _refused(_target(listen(drip)), UnreachableError, timeout_s=TIMEOUT_S)


def test_a_few_bytes_and_silence_are_not_mysql(listen: Listen) -> None:
    def stutter(stream: socket.socket) -> None:
        stream.sendall(b"\x4a\0")
        time.sleep(5)

    _refused(_target(listen(stutter)), NotMlmdError, timeout_s=TIMEOUT_S)


@pytest.mark.parametrize("reset", [False, True])
def test_a_connection_closed_at_once_is_told(listen: Listen, reset: bool) -> None:
    def close(stream: socket.socket) -> None:
        time.sleep(0.1)  # until the other side has done connecting
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", reset, 0))

    assert "closed before any MySQL greeting" in _refused(_target(listen(close)), UnreachableError)


def test_silence_after_the_greeting_is_given_up_in_time(listen: Listen) -> None:
    def greet(stream: socket.socket) -> None:
        stream.sendall(_greeting(b"mysql_native_password"))
        time.sleep(5)

    assert "logging in took longer" in _refused(_target(listen(greet)), UnreachableError, timeout_s=TIMEOUT_S)


def test_a_connection_lost_in_the_login_is_told(listen: Listen) -> None:
    def greet(stream: socket.socket) -> None:
        stream.sendall(_greeting(b"mysql_native_password"))
        stream.recv(1000)

    assert "lost while logging in" in _refused(_target(listen(greet)), UnreachableError)


def test_an_http_server_is_recognised() -> None:
    class Quiet(http.server.BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Quiet) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            text = _refused(_target(server.server_port), NotMlmdError, timeout_s=TIMEOUT_S)
        finally:
            server.shutdown()
            thread.join()
    assert "an HTTP server listens there" in text


def test_a_tls_port_is_recognised(listen: Listen, tmp_path: Path) -> None:
    made = make_certificates(tmp_path)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(made.server_cert, made.server_key)

    def shake_hands(stream: socket.socket) -> None:
        with context.wrap_socket(stream, server_side=True):
            pass

    text = _refused(_target(listen(shake_hands)), NotMlmdError, timeout_s=TIMEOUT_S)
    assert "a TLS port" in text


def test_a_postgresql_server_is_recognised(listen: Listen) -> None:
    def postgresql(stream: socket.socket) -> None:
        if stream.recv(8) == bytes.fromhex("0000000804d2162f"):  # SSLRequest; anything else is dropped
            stream.sendall(b"N")

    text = _refused(_target(listen(postgresql)), NotMlmdError, timeout_s=TIMEOUT_S)
    assert "a PostgreSQL server" in text


@pytest.mark.parametrize(
    ("says", "name"),
    [
        (b"SSH-2.0-OpenSSH_9.2\r\n", "an SSH server"),
        (bytes.fromhex("000012040000000000"), "a gRPC server"),
        (bytes.fromhex("050000000b08051a00"), "MySQL's X protocol"),
        (b"220 mail.test ESMTP\r\n", "something else"),
    ],
)
def test_servers_that_speak_first_are_recognised(listen: Listen, says: bytes, name: str) -> None:
    assert name in _refused(_target(listen(lambda stream: stream.sendall(says))), NotMlmdError)


@pytest.mark.parametrize("greeting", [b"\x0a", b"\x0ax.y\0" + bytes(40), b"\x0a5.5\0" + bytes(14)])
def test_a_garbled_greeting_is_not_mysql(listen: Listen, greeting: bytes) -> None:
    def garble(stream: socket.socket) -> None:
        stream.sendall(_packet(0, greeting))
        stream.recv(1000)

    _refused(_target(listen(garble)), NotMlmdError, timeout_s=TIMEOUT_S)


def test_an_unknown_error_of_the_server_is_passed_on(listen: Listen) -> None:
    def fail(stream: socket.socket) -> None:
        stream.sendall(_packet(0, b"\xff" + struct.pack("<H", 1053) + b"#08S01Server shutdown in progress"))

    text = _refused(_target(listen(fail)), ConnectionFailedError)
    assert "Server shutdown in progress (1053)" in text


# --- the server does not let the account in ---


@pytest.mark.mysql
def test_a_wrong_password_is_told(mariadb: MariaDb, database: str) -> None:
    target = _zen(mariadb, database)
    assert "Access denied" in _refused(replace(target, password="wrong-s3cret"), LoginDeniedError)
    assert "Access denied" in _refused(replace(target, password=""), LoginDeniedError)


@pytest.mark.mysql
def test_an_unknown_user_is_refused_with_a_word_on_the_name(mariadb: MariaDb, database: str) -> None:
    # MariaDB answers for a user that it does not know as for one of a plugin drawn by the name.
    for number in range(8):
        target = replace(_zen(mariadb, database), user=f"nobody{number}")
        with pytest.raises((LoginDeniedError, LoginPluginError)) as caught:
            probe(target)
        assert "check the user's name" in caught.value.hint


@pytest.mark.mysql
@pytest.mark.parametrize(
    ("how", "remedy"),
    [
        ("IDENTIFIED VIA unix_socket", "not unix_socket"),
        ("IDENTIFIED BY %s ACCOUNT LOCK", "ACCOUNT UNLOCK"),
        ("IDENTIFIED BY %s PASSWORD EXPIRE", "expired"),
    ],
)
def test_accounts_that_cannot_log_in_are_told(account: MakeAccount, how: str, remedy: str) -> None:
    target = account(how, *[PASSWORD] * how.count("%s"))
    assert remedy in _refused(target, LoginDeniedError)


@pytest.mark.mysql
def test_an_account_of_another_host_is_denied(account: MakeAccount) -> None:
    target = account("IDENTIFIED BY %s", PASSWORD, host="192.0.2.1")
    with pytest.raises((LoginDeniedError, LoginPluginError)) as caught:  # as for a user that is not known
        probe(target)
    assert "check the user's name" in caught.value.hint


@pytest.mark.mysql
def test_a_server_without_a_free_connection_is_told() -> None:
    with MariaDb(options=["--max-connections=10"]) as server, contextlib.ExitStack() as stack:
        for _ in range(11):
            waiting = stack.enter_context(socket.create_connection((server.host, server.port)))
            waiting.recv(1)
        text = _refused(_zen(server, "zen_x"), UnreachableError)
    assert "connections (1040)" in text


@pytest.mark.mysql
def test_a_database_out_of_bounds_is_told(mariadb: MariaDb, account: MakeAccount) -> None:
    assert "to database 'other'" in _refused(_zen(mariadb, "other"), GrantMissingError)
    assert "GRANT ALL" in _refused(account("IDENTIFIED BY %s", PASSWORD), GrantMissingError)


@pytest.mark.mysql
def test_an_account_that_may_not_read_mlmds_version_is_told(
    mariadb: MariaDb, database: str, account: MakeAccount
) -> None:
    target = replace(account("IDENTIFIED BY %s", PASSWORD), database=database)
    mariadb.sql(f"CREATE TABLE {database}.MLMDEnv (schema_version INT)")
    mariadb.sql(f"GRANT INSERT ON {database}.* TO {target.user}@'%'")
    assert "MLMDEnv" in _refused(target, GrantMissingError)


@pytest.mark.mysql
def test_a_password_in_the_old_format_is_told(account: MakeAccount) -> None:
    target = account("IDENTIFIED VIA mysql_old_password USING '378b243e220ca493'")
    assert "old format" in _refused(target, LoginPluginError)


# --- login plugins ---


@pytest.mark.parametrize("plugin", ["caching_sha2_password", "sha256_password", "client_ed25519", "dialog"])
@pytest.mark.parametrize("preferred", [True, False])
def test_a_plugin_that_mlmd_does_not_speak_is_named_and_gets_no_password(
    listen: Listen, plugin: str, preferred: bool
) -> None:
    heard: list[bytes] = []

    def ask(stream: socket.socket) -> None:
        name = plugin.encode()
        stream.sendall(_greeting(name if preferred else b"mysql_native_password"))
        heard.append(stream.recv(1000))
        stream.sendall(_packet(2, b"\xfe" + name + b"\0" + b"12345678901234567890\0"))
        heard.append(stream.recv(1000))

    text = _refused(_target(listen(ask)), LoginPluginError)
    assert f"wants {plugin}" in text
    assert "IDENTIFIED VIA mysql_native_password" in text
    deadline = time.monotonic() + 5
    while len(heard) < 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert b"mysql_native_password\0" in heard[0]
    assert not heard[1]
    assert PASSWORD.encode() not in heard[0]


@pytest.mark.mysql
def test_a_server_that_prefers_another_plugin_may_still_take_the_native_one(
    mariadb: MariaDb, database: str, listen: Listen
) -> None:
    """Through a relay that renames the greeting's plugin, as MySQL 8 prefers caching_sha2_password."""

    def relay(client: socket.socket) -> None:
        with socket.create_connection((mariadb.host, mariadb.port)) as server:
            greeting = server.recv(1000)
            name, other = b"mysql_native_password", b"caching_sha2_password"
            client.sendall(greeting.replace(name, other))
            threading.Thread(target=_copy, args=(client, server), daemon=True).start()
            _copy(server, client)

    assert probe(replace(_zen(mariadb, database), port=listen(relay))).database_exists


@pytest.mark.mysql
def test_a_server_may_switch_to_the_native_plugin(mariadb: MariaDb, account: MakeAccount) -> None:
    target = account("IDENTIFIED VIA unix_socket OR mysql_native_password USING PASSWORD(%s)", PASSWORD)
    mariadb.sql(f"GRANT ALL ON *.* TO {target.user}@'%'")
    assert probe(target).plugin == "mysql_native_password"


def _copy(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)


@pytest.fixture
def mysql9() -> MysqlTarget:
    parts = urlsplit(MYSQL9)
    return MysqlTarget(
        host=parts.hostname or "",
        port=parts.port or 3306,
        database="zen_x",
        user=parts.username or "",
        password=parts.password or "",
    )


@needs_mysql9
@pytest.mark.parametrize("tls", [False, True])
def test_mysql_9_wants_another_plugin(mysql9: MysqlTarget, tls: bool) -> None:
    with pytest.raises(LoginPluginError, match="wants caching_sha2_password") as caught:
        probe(replace(mysql9, tls=tls))
    assert "MySQL 9 has it no more" in caught.value.hint


@needs_mysql9
def test_mysql_9_does_not_tell_an_unknown_user_apart(mysql9: MysqlTarget) -> None:
    with pytest.raises(LoginPluginError, match=re.compile("wants (caching_sha2|sha256)_password")) as caught:
        probe(replace(mysql9, user="nobody"))
    assert "check the user's name" in caught.value.hint


# --- TLS ---


def _with_tls(server: MariaDb, target: MysqlTarget) -> MysqlTarget:
    assert server.certificates is not None
    return replace(target, tls=True, ssl_ca=str(server.certificates.ca))


@pytest.fixture
def tls_target(tls_mariadb: MariaDb) -> Iterator[MysqlTarget]:
    database = tls_mariadb.new_database()
    yield _with_tls(tls_mariadb, _zen(tls_mariadb, database))
    tls_mariadb.drop_database(database)


@pytest.mark.mysql
def test_tls_is_used_if_asked_for(tls_target: MysqlTarget) -> None:
    assert probe(tls_target).tls_cipher
    assert probe(replace(tls_target, ssl_ca="")).tls_cipher
    assert probe(replace(tls_target, tls=False)).tls_cipher == ""


@pytest.mark.mysql
def test_authorities_may_lie_in_a_directory(tls_target: MysqlTarget, tmp_path: Path) -> None:
    digest = subprocess.run(
        ["openssl", "x509", "-hash", "-noout", "-in", tls_target.ssl_ca],
        check=True, capture_output=True, text=True,
    ).stdout.strip()  # fmt: skip
    (tmp_path / f"{digest}.0").symlink_to(tls_target.ssl_ca)
    assert probe(replace(tls_target, ssl_ca="", ssl_capath=str(tmp_path))).tls_cipher
    empty = tmp_path / "empty"
    empty.mkdir()
    text = _refused(replace(tls_target, ssl_ca="", ssl_capath=str(empty)), TlsError)
    assert "certificate is not accepted" in text


@pytest.mark.mysql
def test_a_cipher_may_be_chosen(tls_target: MysqlTarget) -> None:
    cipher = "ECDHE-ECDSA-AES128-GCM-SHA256"
    assert probe(replace(tls_target, ssl_cipher=cipher)).tls_cipher == cipher
    assert "handshake failed" in _refused(replace(tls_target, ssl_cipher="AES128-SHA"), TlsError)
    assert "ssl_cipher=NO-SUCH" in _refused(replace(tls_target, ssl_cipher="NO-SUCH"), TlsError)


@pytest.mark.mysql
def test_a_server_of_another_authority_is_refused(tls_target: MysqlTarget, tmp_path: Path) -> None:
    other = make_certificates(tmp_path)
    text = _refused(replace(tls_target, ssl_ca=str(other.ca)), TlsError)
    assert "certificate is not accepted" in text
    assert "ssl_ca must be" in text


@pytest.mark.mysql
def test_the_certificates_name_is_not_compared(tls_mariadb: MariaDb, tls_target: MysqlTarget) -> None:
    assert probe(replace(tls_target, host="db.test", socket=str(tls_mariadb.socket))).tls_cipher


@pytest.mark.mysql
def test_a_server_without_tls_is_refused_before_the_login(mariadb: MariaDb, database: str) -> None:
    target = replace(_zen(mariadb, database), tls=True, password="wrong")
    assert "the server offers no TLS" in _refused(target, TlsError)


@pytest.mark.mysql
def test_a_server_with_tls_13_only_is_refused_as_mlmd_would_be() -> None:
    with MariaDb(tls=True, options=["--tls-version=TLSv1.3"]) as server:
        text = _refused(_with_tls(server, _zen(server, "zen_x")), TlsError)
    assert "must allow TLS 1.2" in text


@pytest.mark.mysql
def test_an_account_that_requires_tls_is_told(tls_mariadb: MariaDb, account: MakeAccount) -> None:
    target = account("IDENTIFIED BY %s REQUIRE SSL", PASSWORD, server=tls_mariadb)
    tls_mariadb.sql(f"GRANT ALL ON *.* TO {target.user}@'%'")
    text = _refused(target, TlsError)
    assert "over TLS only" in text
    assert "set tls, and ssl_ca" in text
    assert probe(_with_tls(tls_mariadb, target)).tls_cipher
    _refused(replace(target, password="wrong"), LoginDeniedError)


@pytest.mark.mysql
def test_a_server_that_requires_tls_is_told() -> None:
    with MariaDb(tls=True, options=["--require-secure-transport=ON"]) as server:
        target = _zen(server, server.new_database())
        assert "set tls, and ssl_ca" in _refused(target, TlsError)
        assert probe(_with_tls(server, target)).tls_cipher


def test_mysqls_demand_for_tls_is_told(listen: Listen) -> None:
    def demand(stream: socket.socket) -> None:
        stream.sendall(_greeting(b"caching_sha2_password"))
        stream.recv(1000)
        text = b"Connections using insecure transport are prohibited"
        stream.sendall(_packet(2, b"\xff" + struct.pack("<H", 3159) + b"#HY000" + text))

    assert "set tls, and ssl_ca" in _refused(_target(listen(demand)), TlsError)


@pytest.mark.mysql
def test_an_account_that_requires_a_certificate_is_told(
    tls_mariadb: MariaDb, account: MakeAccount, tmp_path: Path
) -> None:
    target = account("IDENTIFIED BY %s REQUIRE X509", PASSWORD, server=tls_mariadb)
    tls_mariadb.sql(f"GRANT ALL ON *.* TO {target.user}@'%'")
    for bare in (target, _with_tls(tls_mariadb, target)):
        assert "REQUIRE X509 needs tls, ssl_cert and ssl_key" in _refused(bare, LoginDeniedError)
    made = tls_mariadb.certificates
    assert made is not None
    full = replace(
        _with_tls(tls_mariadb, target), ssl_cert=str(made.client_cert), ssl_key=str(made.client_key)
    )
    assert probe(full).tls_cipher
    both = tmp_path / "both.pem"
    both.write_bytes(made.client_key.read_bytes() + made.client_cert.read_bytes())
    assert probe(replace(full, ssl_cert=str(both), ssl_key="")).tls_cipher
    assert "REQUIRE X509" not in _refused(replace(full, password="wrong"), LoginDeniedError)
    stranger = make_certificates(tmp_path)
    foreign = replace(full, ssl_cert=str(stranger.client_cert), ssl_key=str(stranger.client_key))
    assert "handshake failed" in _refused(foreign, TlsError)


def test_files_that_cannot_be_used_are_named(tmp_path: Path) -> None:
    made = make_certificates(tmp_path)
    target = replace(_target(free_port()), tls=True)
    none, noise = str(tmp_path / "none"), tmp_path / "noise"
    noise.write_text("noise")
    cert = replace(target, ssl_cert=str(made.client_cert))
    for wrong, text in [
        (replace(target, ssl_ca=none), f"ssl_ca={none}"),
        (replace(target, ssl_ca=str(noise)), f"ssl_ca={noise}"),
        (replace(target, ssl_capath=none), f"ssl_capath={none}"),
        (replace(target, ssl_cert=none), f"ssl_cert={none}"),
        (replace(target, ssl_cert=str(noise)), f"ssl_cert={noise}"),
        (replace(cert, ssl_key=none), f"ssl_key={none}"),
        (replace(cert, ssl_key=str(made.server_key)), "ssl_cert="),
        (replace(target, ssl_key=str(made.client_key)), "ssl_key is set without ssl_cert"),
    ]:
        assert text in _refused(wrong, TlsError)


def test_a_key_with_a_passphrase_is_refused_without_asking_for_it(tmp_path: Path) -> None:
    made = make_certificates(tmp_path)
    locked = tmp_path / "locked.key"
    subprocess.run(
        ["openssl", "pkey", "-aes256", "-passout", "pass:x", "-in", made.client_key, "-out", locked],
        check=True, capture_output=True,
    )  # fmt: skip
    target = replace(_target(free_port()), tls=True, ssl_cert=str(made.client_cert), ssl_key=str(locked))
    assert "without a passphrase" in _refused(target, TlsError)


def test_silence_in_the_tls_handshake_is_given_up_in_time(listen: Listen) -> None:
    def greet(stream: socket.socket) -> None:
        stream.sendall(_greeting(b"mysql_native_password", capabilities=0x000FFFDF))
        time.sleep(5)

    target = replace(_target(listen(greet)), tls=True)
    assert "logging in took longer" in _refused(target, UnreachableError, timeout_s=TIMEOUT_S)


def test_a_connection_lost_in_the_tls_handshake_is_told(listen: Listen) -> None:
    def greet(stream: socket.socket) -> None:
        stream.sendall(_greeting(b"mysql_native_password", capabilities=0x000FFFDF))
        stream.recv(1000)

    target = replace(_target(listen(greet)), tls=True)
    assert "TLS handshake failed" in _refused(target, TlsError)
