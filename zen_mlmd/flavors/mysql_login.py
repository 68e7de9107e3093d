"""How one logs in to a MySQL or MariaDB server: as ml-metadata's client would, or by all that PyMySQL can.

ml-metadata's client offers mysql_native_password, which sends only a proof, and no TLS newer than 1.2. The
SQL service answers a demand for caching_sha2_password and sha256_password too, encrypts where the server
offers it, and sends a password as it is (mysql_clear_password, dialog) over TLS only.
"""

from __future__ import annotations

import contextlib
import ssl
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from pymysql.connections import Connection
from pymysql.constants import CLIENT

from zen_mlmd.errors import ConnectionFailedError, LoginPluginError, TlsError
from zen_mlmd.flavors.links import ABANDONED_S, watch

if TYPE_CHECKING:  # generic in its stubs only
    _Connection = Connection[Any]
else:
    _Connection = Connection

NATIVE_PASSWORD: Final = "mysql_native_password"  # noqa: S105 - a plugin's name
"""The one login plugin that ml-metadata's MySQL client speaks (1.17.1 and 1.21.0, measured)."""

PLUGIN_HINT: Final = (
    "open it with the SQL service, which is the default (service=sql); or make an account for MLMD that is"
    f" IDENTIFIED VIA {NATIVE_PASSWORD} (MariaDB) or IDENTIFIED WITH"
    f" {NATIVE_PASSWORD} (MySQL up to 8.3; 8.4 if started with --mysql-native-password=ON; MySQL 9 has it"
    " no more), or go through an MLMD gRPC server whose own client speaks that plugin. A server may ask"
    " the same of a user that it does not know: check the user's name too"
)
_ABANDONED: Final = f"SET SESSION wait_timeout = 600 /*M!100300 , idle_transaction_timeout = {ABANDONED_S} */"
"""MySQL, unlike MariaDB, has no other limit for a transaction in which nothing is said than for a connection.
One that ended, as it was idle so long between two, is opened anew by whoever wants it."""

_TELLING: Final = frozenset({b"mysql_clear_password", b"dialog"})
"""Plugins that send the password itself."""
_SPOKEN: Final = frozenset(
    {b"mysql_native_password", b"caching_sha2_password", b"sha256_password", b"client_ed25519", *_TELLING}
)


@dataclass(frozen=True)
class MysqlTarget:
    """A database, and how to log in to it; `str` gives `user@host:port/database`, without the password.

    Attributes:
        socket: Path of a Unix socket, used instead of host and port if given.
        native: Log in as ml-metadata's client does.
        tls: Encrypt; with `ssl_ca` or `ssl_capath` the server's certificate must come from there (its
            name is not checked), without them any certificate will do.
        verify: The certificate must be valid for `host` too, and of `ssl_ca`, or else of this system's
            authorities.
        ssl_ca: PEM file of authorities.
        ssl_capath: Directory of authorities, as OpenSSL's rehash makes it.
        ssl_cert: PEM file of the client's certificate.
        ssl_key: PEM file of its key; empty if that is in `ssl_cert`.
        ssl_cipher: OpenSSL's cipher list.
    """

    host: str
    port: int
    database: str
    user: str
    password: str = field(repr=False)
    native: bool = True
    socket: str = ""
    tls: bool = False
    ssl_ca: str = ""
    ssl_capath: str = ""
    ssl_cert: str = ""
    ssl_key: str = ""
    ssl_cipher: str = ""
    verify: bool = False

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.user}@{self.socket or f'{host}:{self.port}'}/{self.database}"


class MysqlLogin(_Connection):
    """A connection that is encrypted if that was asked for, and logs in in no other way than it may.

    Args:
        target: Where to; `native` tells how.
        context: What encrypts; None for no TLS.
        options: More of PyMySQL's.
    """

    server_capabilities: int
    _sock: Any
    _auth_plugin_name: str
    client_flag: int

    def __init__(self, target: MysqlTarget, context: ssl.SSLContext | None, **options: Any) -> None:
        super().__init__(
            user=target.user,
            # As bytes: PyMySQL takes text for Latin-1, and quotes in its error what does not fit.
            password=target.password.encode("utf-8", "surrogateescape"),
            host=target.host,
            port=target.port,
            ssl=context,
            ssl_disabled=context is None,
            **options,
        )
        self._target = target
        self.offers_tls = False
        self.spoken = NATIVE_PASSWORD

    @property
    def cipher(self) -> str:
        """The connection's cipher; empty if it is not encrypted."""
        used = self._sock.cipher() if isinstance(self._sock, ssl.SSLSocket) else None
        return used[0] if used else ""

    def _get_server_information(self) -> None:
        """Take the greeting; before the answer is made from it."""
        watch(self._sock)
        super()._get_server_information()  # type: ignore[misc]
        self.offers_tls = bool(self.server_capabilities & CLIENT.SSL)
        if self._target.tls and not self.offers_tls:  # PyMySQL before 1.2 would go on in clear
            raise TlsError(
                f"{self._target}: tls is set, but the server offers no TLS",
                hint="set ssl_cert and ssl_key in the server's configuration, or reach it through a tunnel",
            )
        if not self.offers_tls:  # and to PyMySQL a context means that it is to be had
            self.ssl, self.client_flag = False, self.client_flag & ~CLIENT.SSL
        if self._target.native or self._auth_plugin_name.encode() not in _SPOKEN - _TELLING:
            # Not the plugin that the server prefers: with sha256_password PyMySQL would send the password.
            self._auth_plugin_name = NATIVE_PASSWORD
        self.spoken = self._auth_plugin_name

    def _process_auth(self, plugin_name: bytes, *rest: Any) -> Any:
        """Answer a demand for another plugin."""
        name = plugin_name.decode("ascii", "replace")
        if self._target.native and plugin_name != NATIVE_PASSWORD.encode():
            raise LoginPluginError(
                f"{self._target}: the server wants {name} for this login, which ml-metadata's MySQL"
                " client does not speak",
                hint=PLUGIN_HINT,
            )
        if plugin_name not in _SPOKEN:
            raise LoginPluginError(
                f"{self._target}: the server wants {name} for this login, which PyMySQL does not speak",
                hint="make an account with caching_sha2_password (MySQL) or mysql_native_password (MariaDB)",
            )
        if plugin_name in _TELLING and not self.cipher:
            raise LoginPluginError(
                f"{self._target}: the server wants {name} for this login, which sends the password in clear",
                hint="set tls, and ssl_ca to the PEM file of the authority of the server's certificate",
            )
        self.spoken = name
        return super()._process_auth(plugin_name, *rest)  # type: ignore[misc]


def log_in(
    target: MysqlTarget, *, connect_timeout_s: float, timeout_s: float, begin: str = "", **options: Any
) -> MysqlLogin:
    """Return a connection to the database, for the SQL service.

    Args:
        target: The database.
        connect_timeout_s: How long a server that does not answer is waited for.
        timeout_s: How long an answer, or a part of one, may take.
        begin: A statement to begin with.
        options: More of PyMySQL's; CLIENT.MULTI_STATEMENTS among them if there is `begin`.

    Raises:
        pymysql.MySQLError: The server, or the way to it; `probe` tells what it means.
        ConnectionFailedError: What is wanted of TLS, or the login, cannot be had.
    """
    made = MysqlLogin(
        target,
        context_of(target),
        unix_socket=target.socket or None,
        database=target.database,
        connect_timeout=connect_timeout_s,
        read_timeout=timeout_s,
        write_timeout=timeout_s,
        init_command="; ".join(filter(None, (_ABANDONED, begin))),
        defer_connect=True,
        **options,
    )
    try:
        made.connect()
    except ConnectionFailedError:
        with contextlib.suppress(OSError):
            made._force_close()  # type: ignore[attr-defined]  # noqa: SLF001 - its close() would say goodbye
        raise
    return made


def context_of(target: MysqlTarget) -> ssl.SSLContext | None:
    """Return what encrypts: as asked for, or any encryption that the server offers to the SQL service."""
    if target.tls:
        return _tls_context(target)
    return None if target.native or target.socket else any_certificate(target)


def any_certificate(target: MysqlTarget) -> ssl.SSLContext:
    """Return what encrypts and believes any server."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if target.native:
        context.maximum_version = ssl.TLSVersion.TLSv1_2  # as ml-metadata's client (measured)
    return context


def _tls_context(target: MysqlTarget) -> ssl.SSLContext:
    """Return what encrypts the connection.

    Raises:
        TlsError: A file cannot be read or does not hold what it should; no cipher of that name.
    """
    context = any_certificate(target)
    if target.ssl_capath and not Path(target.ssl_capath).is_dir():  # OpenSSL does not mind
        raise TlsError(
            f"{target}: ssl_capath={target.ssl_capath} is no directory", hint="name a directory of PEM files"
        )
    if target.ssl_key and not target.ssl_cert:
        raise TlsError(f"{target}: ssl_key is set without ssl_cert", hint="set both, or neither")
    setting = "ssl_ca"
    try:
        for setting in ("ssl_ca", "ssl_cert", "ssl_key"):
            if path := getattr(target, setting):
                Path(path).read_bytes()
        setting = "ssl_ca"
        if target.ssl_ca or target.ssl_capath:
            context.load_verify_locations(target.ssl_ca or None, target.ssl_capath or None)
            context.verify_mode = ssl.CERT_REQUIRED
        elif target.verify:
            context.load_default_certs()
            context.verify_mode = ssl.CERT_REQUIRED
        context.check_hostname = target.verify
        setting = "ssl_cert"
        if target.ssl_cert:
            # Without a passphrase OpenSSL would ask for one on the terminal.
            context.load_cert_chain(target.ssl_cert, target.ssl_key or None, password="")
        setting = "ssl_cipher"
        if target.ssl_cipher:
            context.set_ciphers(target.ssl_cipher)
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or "not readable"
        raise TlsError(
            f"{target}: {setting}={getattr(target, setting)} is of no use: {reason}",
            hint="ssl_ca, ssl_cert and ssl_key are readable PEM files, the key without a passphrase and that"
            " of the certificate; ssl_cipher is a cipher list of OpenSSL",
        ) from error
    return context
