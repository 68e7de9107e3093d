"""Why a MySQL or MariaDB server does or does not let ml-metadata in, asked through PyMySQL.

ml-metadata's own client (1.17.1 and 1.21.0, measured) reports each failure as `errno: , error:`,
waits for ever for a server that does not answer, and in the third call to a server that is gone ends
the process. So each opening is preceded by a probe: it logs in as that client would, and ends in time.

The probe shows the password to nobody to whom ml-metadata would not show it: it offers
mysql_native_password, which sends only a proof, and answers no demand for another plugin
(mysql_clear_password, dialog and sha256_password send the password itself).
"""

from __future__ import annotations

import contextlib
import re
import socket
import ssl
import threading
import time
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from dataclasses import dataclass
from typing import Any

import pymysql
from pymysql.constants import CR, ER

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
from zen_mlmd.flavors.mysql_login import PLUGIN_HINT, MysqlLogin, MysqlTarget, any_certificate, context_of

_GRACE_S = 0.25  # for an error that comes at the very end to be told, rather than just the end
_NAMING_S = 1.0  # for finding out what it is that sends no greeting

_SET_TLS = "set tls, and ssl_ca to the PEM file of the authority that signed the server's certificate"
_NATIVE_TLS_HINT = "the server must allow TLS 1.2, as ml-metadata's client speaks no newer one; "
_TLS_HINT = "check ssl_cipher, and ssl_cert and ssl_key if the server wants a client certificate"
# MariaDB says 1698, access denied without a word of a password, of accounts that take none, and now and
# then of users that it does not know (measured, 10.11).
_DENIED_HINT = (
    "check the user's name, the password, the host the account is for, and that it takes a password"
    " (not unix_socket)"
)

# What the server's error codes mean; https://mariadb.com/kb/en/mariadb-error-code-reference/ and
# https://dev.mysql.com/doc/mysql-errors/9.0/en/server-error-reference.html
_MEANINGS: tuple[tuple[tuple[int, ...], type[ConnectionFailedError], str], ...] = (
    ((1040, 1203, 1226), UnreachableError, "end idle clients, or raise the server's or account's limit"),
    ((1129,), UnreachableError, "as an administrator: FLUSH HOSTS"),
    ((1130,), LoginDeniedError, "make an account that may log in from this host"),
    ((1045, 1698), LoginDeniedError, _DENIED_HINT),
    ((1820, 1862), LoginDeniedError, "the password has expired: ALTER USER ... IDENTIFIED BY ..."),
    ((3118, 4151), LoginDeniedError, "the account is locked: ALTER USER ... ACCOUNT UNLOCK"),
    ((1044, 1142, 1143, 1227), GrantMissingError, "GRANT ALL ON `<database>`.* TO '<user>'@'<host>'"),
    ((1251, 1275, 1524), LoginPluginError, PLUGIN_HINT),
    ((3159,), TlsError, _SET_TLS),
)
_BY_CODE = {code: (kind, hint) for codes, kind, hint in _MEANINGS for code in codes}

# A packet: 3 bytes of length, a sequence number, here 0, and a payload that begins with the protocol's
# version, 10, or with 255 for an error.
_MYSQL = re.compile(rb"...\x00[\x0a\xff]", re.DOTALL)
_SPEAKERS = (
    (re.compile(rb"HTTP/|<"), "an HTTP server"),
    (re.compile(rb"[\x15\x16]\x03"), "a TLS port (HTTPS, say)"),
    (re.compile(rb"SSH-"), "an SSH server"),
    (re.compile(rb"[SN]\Z"), "a PostgreSQL server"),
    (re.compile(rb"\x00\x00.\x04", re.DOTALL), "a gRPC server"),  # an HTTP/2 SETTINGS frame
    (re.compile(rb".\x00\x00\x00\x0b", re.DOTALL), "MySQL's X protocol (the classic one is on port 3306)"),
    (re.compile(rb""), "something else"),
)
# Answered with one letter: https://www.postgresql.org/docs/current/protocol-message-formats.html
_POSTGRESQL_SSL_REQUEST = bytes.fromhex("0000000804d2162f")


@dataclass(frozen=True)
class Probe:
    """What a server said to an account that it let in.

    Attributes:
        server_version: As `SELECT VERSION()` says it.
        plugin: The login plugin that was spoken.
        tls_cipher: The connection's cipher; empty if it was not encrypted.
        database_exists: Whether the server has the database; if not, the next fields are 0 or None.
        tables: Tables and views in it that the account may see.
        schema_version: MLMD's, of the table MLMDEnv; None if there is no such table or no row in it.
        schema_rows: Rows of MLMDEnv; MLMD wants exactly 1.
        max_allowed_packet: The longest statement that the server takes, in bytes.
        begun: Whether it has the table that MLMD makes first.
        collation: How MLMD's names are compared, or will be.
    """

    server_version: str
    plugin: str
    tls_cipher: str
    database_exists: bool
    tables: int
    schema_version: int | None
    schema_rows: int
    max_allowed_packet: int
    begun: bool = False
    collation: str = ""


def probe(target: MysqlTarget, *, timeout_s: float = 5.0, create: bool = False) -> Probe:
    """Log in as ml-metadata's client would, and look at the database; nothing is written, unless `create`.

    Two logins are tried where the first is denied and the server offers TLS that `target` does not
    use: accounts with REQUIRE SSL are denied in the same words as a wrong password.

    Args:
        target: What to connect to.
        timeout_s: The longest that this may take, in seconds, looking up the host included.
        create: Make a missing database, one that tells upper from lower case. (What ml-metadata makes has
            the server's default collation, which mostly does not.)

    Returns:
        What was found; a missing database is no error here.

    Raises:
        HostNotFoundError: The host's name does not resolve.
        UnreachableError: Refused, no answer in time, no greeting, or too many connections.
        NotMlmdError: Something else than MySQL listens there, or MLMDEnv is not MLMD's.
        TlsError: The server has no TLS or demands it, its certificate is not of the given authority,
            or a file cannot be read.
        LoginPluginError: The server wants a login plugin that ml-metadata's client does not speak.
        LoginDeniedError: The user, the password, the user's host, or a locked or expired account.
        GrantMissingError: The account may not use the database, or may not read MLMDEnv.
        ConnectionFailedError: Any other error of the server.
    """
    attempt = _Attempt(target, timeout_s, create=create)
    answer: Future[Probe] = Future()

    def run() -> None:
        try:
            answer.set_result(attempt.probe())
        except BaseException as error:  # noqa: BLE001 - handed to the caller's thread
            answer.set_exception(error)
        finally:
            attempt.cut()

    # A thread, as neither a look-up of a name nor an answer that comes byte by byte can be limited.
    threading.Thread(target=run, name="zen-mlmd-mysql-probe", daemon=True).start()
    try:
        return answer.result(timeout_s + _GRACE_S)
    except FutureTimeoutError:
        attempt.cut()
        raise attempt.too_late() from None


class _Attempt:
    """One probe, with what it is at."""

    def __init__(self, target: MysqlTarget, timeout_s: float, *, create: bool = False) -> None:
        self.target = target
        self.create = create
        self.timeout_s = timeout_s
        self.deadline = time.monotonic() + timeout_s
        self.doing = "looking up the host"
        self.connected: socket.socket | None = None
        self.offers_tls = False

    def probe(self) -> Probe:
        context = context_of(self.target)
        try:
            connection = self._log_in(context)
        except LoginDeniedError as denied:
            if context is None and self.offers_tls and self._gets_in_with_tls():
                text = f"{self.target}: the account may log in over TLS only, and tls is not set"
                raise TlsError(text, hint=_SET_TLS) from denied
            raise
        self.doing = "asking for the database"
        with connection:
            try:
                return self._look(connection)
            except pymysql.MySQLError as error:
                raise self._meaning(error) from error

    def cut(self) -> None:
        """End whatever is waited for."""
        if self.connected is not None:
            with contextlib.suppress(OSError):
                self.connected.shutdown(socket.SHUT_RDWR)
            self.connected.close()

    def too_late(self) -> UnreachableError:
        """Return the error of a probe that took too long."""
        return UnreachableError(
            f"{self.target}: {self.doing} took longer than {self.timeout_s:g} s",
            hint="check the host and port, and that no firewall swallows the packets; a slow server needs a"
            " longer timeout",
        )

    def left_s(self) -> float:
        return max(self.deadline - time.monotonic(), 0.01)

    def _log_in(self, context: ssl.SSLContext | None) -> _ProbeLogin:
        stream = self._connect()
        try:
            self._check_greeting(stream)
            self.doing = "logging in"
            connection = _ProbeLogin(self, context)
            connection.connect(stream)
        except ConnectionFailedError:
            stream.close()
            raise
        except Exception as error:
            stream.close()
            raise self._meaning(error) from error
        return connection

    def _gets_in_with_tls(self) -> bool:
        try:
            self._log_in(any_certificate(self.target)).close()
        except ConnectionFailedError:
            return False
        return True

    def _connect(self) -> socket.socket:
        stream = self._open_stream()
        self.cut()
        self.connected = stream.dup()  # as PyMySQL closes the stream, and TLS takes it over
        return stream

    def _open_stream(self) -> socket.socket:
        target = self.target
        if target.socket:
            found: list[tuple[int, Any]] = [(socket.AF_UNIX, target.socket)]
        else:
            self.doing = "looking up the host"
            try:
                addresses = socket.getaddrinfo(target.host, target.port, type=socket.SOCK_STREAM)
            except (OSError, UnicodeError) as error:
                text = f"{target}: the host's name does not resolve"
                raise HostNotFoundError(text, hint="check its spelling, and this machine's DNS") from error
            found = [(family, address) for family, _, _, _, address in addresses]
        self.doing = "connecting"
        for place, (family, address) in enumerate(found):
            try:
                return _connected(family, address, self.left_s() / (len(found) - place))
            except OSError as error:  # noqa: PERF203 - a host has few addresses
                last = error
        raise self._unreachable(last) from last

    def _unreachable(self, error: OSError) -> UnreachableError:
        if isinstance(error, TimeoutError):
            return self.too_late()
        return UnreachableError(
            f"{self.target}: cannot connect: {(error.strerror or type(error).__name__).lower()}",
            hint="check that the server runs and listens on this address",
        )

    def _check_greeting(self, stream: socket.socket) -> None:
        """Look at the first bytes without taking them, and raise if MySQL does not begin so."""
        self.doing = "waiting for the server's greeting"
        naming_s = min(_NAMING_S, self.timeout_s / 4)
        try:
            start = _peek(stream, self.left_s() - naming_s)
        except TimeoutError as error:
            start = self._ask_who(naming_s)
            if not start or _MYSQL.match(start):
                raise UnreachableError(
                    f"{self.target}: something takes connections there, but sends no MySQL greeting",
                    hint="check the port, and any proxy or tunnel on the way; a server that looks up its"
                    " clients' names can be slow to greet (skip-name-resolve helps)",
                ) from error
        except OSError:
            start = b""
        if not start:
            raise UnreachableError(
                f"{self.target}: the connection was closed before any MySQL greeting",
                hint="check the port, and that any proxy, tunnel or load balancer on the way has a server",
            )
        if not _MYSQL.match(start):
            speaker = next(name for pattern, name in _SPEAKERS if pattern.match(start))
            text = f"{self.target}: {speaker} listens there, not MySQL or MariaDB"
            raise NotMlmdError(text, hint="check the host and the port")

    def _ask_who(self, limit_s: float) -> bytes:
        """Return the first bytes that what listens there answers to other protocols' first words."""
        words = (b"GET / HTTP/1.0\r\n\r\n", _POSTGRESQL_SSL_REQUEST, _client_hello())
        for word in words:
            with contextlib.suppress(OSError), self._open_stream() as stream:
                stream.settimeout(limit_s / len(words))
                stream.sendall(word)
                if answer := stream.recv(16):
                    return answer
        return b""

    def _look(self, connection: _ProbeLogin) -> Probe:
        ((version, packet),) = connection.rows("SELECT VERSION(), @@max_allowed_packet")
        exists, tables, begun, schema, rows, collation = True, 0, False, None, 0, ""
        try:
            connection.select_db(self.target.database)
        except pymysql.MySQLError as error:
            if _code(error) != ER.BAD_DB_ERROR:
                raise
            exists = self.create
        if exists and self.create:
            self.doing = "making the database"
            name = f"`{self.target.database.replace('`', '``')}`"
            connection.rows(f"CREATE DATABASE IF NOT EXISTS {name} CHARACTER SET utf8mb4 COLLATE utf8mb4_bin")
            connection.select_db(self.target.database)
        if exists:
            ((tables, begun, collation),) = connection.rows(
                "SELECT COUNT(*), MAX(table_name = 'Type'), COALESCE("
                " MAX(CASE table_name WHEN 'Context' THEN table_collation END), @@collation_database)"
                " FROM information_schema.tables WHERE table_schema = DATABASE()"
            )
            schema, rows = self._schema(connection)
        return Probe(
            server_version=str(version),
            plugin=connection.spoken,
            tls_cipher=connection.cipher,
            database_exists=exists,
            tables=int(tables),
            schema_version=schema,
            schema_rows=rows,
            max_allowed_packet=int(packet),
            begun=bool(begun),
            collation=str(collation),
        )

    def _schema(self, connection: _ProbeLogin) -> tuple[int | None, int]:
        try:
            ((version, rows),) = connection.rows("SELECT MAX(schema_version), COUNT(*) FROM MLMDEnv")
        except pymysql.MySQLError as error:
            if _code(error) == ER.NO_SUCH_TABLE:
                return None, 0
            if _code(error) != ER.BAD_FIELD_ERROR:
                raise
            version, rows = "", 0
        if version is not None and not isinstance(version, int):
            raise NotMlmdError(
                f"{self.target}: its table MLMDEnv is not MLMD's", hint="check the database's name"
            )
        return version, rows

    def _meaning(self, error: Exception) -> ConnectionFailedError:
        """Return what an error of PyMySQL means."""
        cause = getattr(error, "original_exception", error)
        if isinstance(cause, ssl.SSLCertVerificationError):
            return TlsError(
                f"{self.target}: the server's certificate is not accepted: {cause.verify_message}",
                hint="ssl_ca must be the PEM file of the authority that signed the server's certificate",
            )
        if isinstance(cause, TimeoutError):
            return self.too_late()
        if isinstance(cause, OSError):  # the stream was open before, so it is TLS that failed
            reason = getattr(cause, "reason", None) or type(cause).__name__
            hint = (_NATIVE_TLS_HINT if self.target.native else "") + _TLS_HINT
            return TlsError(f"{self.target}: the TLS handshake failed: {reason}", hint=hint)
        if not isinstance(error, pymysql.MySQLError):
            text = f"{self.target}: what listens there does not keep to MySQL's protocol"
            return NotMlmdError(text, hint="check the host and the port")
        return self._meaning_of_code(error)

    def _meaning_of_code(self, error: pymysql.MySQLError) -> ConnectionFailedError:
        code = _code(error)
        if code in (CR.CR_SERVER_LOST, CR.CR_SERVER_GONE_ERROR):
            if time.monotonic() >= self.deadline:
                return self.too_late()
            return UnreachableError(
                f"{self.target}: the connection was lost while {self.doing}",
                hint="see the server's log; it may just be starting or stopping",
            )
        kind, hint = _BY_CODE.get(code, (ConnectionFailedError, "see the server's log"))
        if code == ER.ACCESS_DENIED_ERROR and not self.target.ssl_cert:
            hint += "; an account with REQUIRE X509 needs tls, ssl_cert and ssl_key"
        return kind(f"{self.target}: {error.args[-1]} ({code}) while {self.doing}", hint=hint)


class _ProbeLogin(MysqlLogin):
    """A login that ends in time."""

    def __init__(self, attempt: _Attempt, context: ssl.SSLContext | None) -> None:
        timeout_s = attempt.left_s()
        super().__init__(
            attempt.target,
            context,
            charset="utf8mb4",
            autocommit=None,
            read_timeout=timeout_s,
            write_timeout=timeout_s,
            defer_connect=True,
        )
        self._attempt = attempt

    def rows(self, statement: str) -> tuple[tuple[Any, ...], ...]:
        """Run a statement and return its rows."""
        with self.cursor() as cursor:
            cursor.execute(statement)
            return tuple(cursor.fetchall())

    def _get_server_information(self) -> None:
        try:
            super()._get_server_information()
        finally:
            self._attempt.offers_tls = self.offers_tls


def _connected(family: int, address: Any, timeout_s: float) -> socket.socket:
    stream = socket.socket(family, socket.SOCK_STREAM)
    try:
        stream.settimeout(timeout_s)
        stream.connect(address)
    except BaseException:
        stream.close()
        raise
    return stream


def _peek(stream: socket.socket, timeout_s: float) -> bytes:
    """Return the first bytes without taking them: 5 or more, or what came in time."""
    deadline = time.monotonic() + timeout_s
    while True:
        stream.settimeout(max(deadline - time.monotonic(), 0.01))
        start = stream.recv(16, socket.MSG_PEEK)
        if not start or len(start) > 4 or time.monotonic() > deadline:  # noqa: PLR2004 - see _MYSQL
            return start
        time.sleep(0.01)


def _code(error: Exception) -> int:
    return error.args[0] if error.args and isinstance(error.args[0], int) else 0


def _client_hello() -> bytes:
    hello, context = ssl.MemoryBIO(), ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    with contextlib.suppress(ssl.SSLWantReadError):
        context.wrap_bio(ssl.MemoryBIO(), hello).do_handshake()
    return hello.read()
