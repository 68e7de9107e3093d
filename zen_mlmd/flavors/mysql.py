"""The mysql flavor: MySQL or MariaDB, by the SQL service or through ml-metadata's native client.

That client (ml-metadata 1.17.1 and 1.21.0, measured) speaks only `mysql_native_password`, accepts any
server certificate, cannot verify one, says nothing of why it failed, hangs on a silent server, and
creates the database when it feels like it. So each opening is preceded by a bounded PyMySQL login
that says what is wrong.
"""

from __future__ import annotations

import math
import re
import time
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Literal
from urllib.parse import SplitResult

import pymysql
from ml_metadata.proto import metadata_store_pb2 as mlmd
from pydantic import Field, SecretStr, field_validator, model_validator

from zen_mlmd.errors import DatabaseMissingError, NotMlmdError, SchemaVersionError, TlsError
from zen_mlmd.flavors.base import SQL_CALLS, StoreConfig, server_fields, tls_implied
from zen_mlmd.flavors.mysql_login import MysqlLogin, MysqlTarget, log_in
from zen_mlmd.flavors.mysql_probe import Probe, probe
from zen_mlmd.service.base import MetadataService
from zen_mlmd.service.check import MYSQL, Limits
from zen_mlmd.service.finding import Finding, Thresholds
from zen_mlmd.service.native import NativeService

if TYPE_CHECKING:
    from zen_mlmd.service.sql.database import Database

SCHEMA_VERSION = 10
"""Of ml-metadata 1.14 to 1.21."""

_STATEMENT_BYTES = 2**12
"""What a statement has besides the one long string that is in it."""

_TLS_IDLE_S = 10.0
"""An encrypted connection that was idle for longer is opened anew. ml-metadata's client connects again by
itself to a server that ended an idle connection, without TLS if the server has none by then (measured)."""


class MysqlConfig(StoreConfig):
    """A database on a MySQL or MariaDB server.

    Attributes:
        socket: Path of a unix socket, instead of host and port.
        tls: Encrypt the connection; a server that does not is refused.
        ssl_ca: PEM file of the authority that signed the server's certificate.
        ssl_verify_server_cert: The server's certificate must be valid for `host`, and of `ssl_ca` or, without
            it, of an authority that this system trusts. The native client cannot do that.
        connect_timeout_s: How long a server that does not answer is waited for.
        service: `sql` or `native`; `auto` is `sql`, which is faster, logs in to MySQL 8.4 and newer, verifies
            certificates, and outlives a server that goes away.
        read_only: Nothing can be written, whoever asks: the server itself refuses. Needs `sql`.
        timeout_s: How long the server may take for an answer to the SQL service.
    """

    flavor: ClassVar[str] = "mysql"
    schemes: ClassVar[tuple[str, ...]] = ("mysql", "mysql+pymysql", "mariadb")

    host: str = "127.0.0.1"
    port: int = Field(default=3306, ge=1, le=65535)
    database: str = Field(min_length=1, max_length=64)
    user: str = "root"
    password: SecretStr = SecretStr("")
    socket: str = ""
    tls: bool = False
    ssl_ca: str = ""
    ssl_capath: str = ""
    ssl_cert: str = ""
    ssl_key: str = ""
    ssl_cipher: str = ""
    ssl_verify_server_cert: bool = False
    connect_timeout_s: float = Field(default=5.0, gt=0, allow_inf_nan=False)
    service: Literal["auto", "sql", "native"] = "auto"
    read_only: bool = False
    timeout_s: float = Field(default=300.0, gt=0, allow_inf_nan=False)

    @field_validator("database")
    @classmethod
    def _database(cls, name: str) -> str:
        if any(char in name for char in "`\0/\\.") or name != name.strip():
            raise ValueError("must not hold a backquote, dot, slash, backslash, NUL or outer blanks")
        if not name.isascii():
            raise ValueError("must be ASCII: ml-metadata's client sends other letters wrongly")
        return name

    @field_validator("user")
    @classmethod
    def _user(cls, user: str) -> str:
        if not user.isascii() or not user.isprintable():
            raise ValueError("must be printable ASCII: ml-metadata's client sends other letters wrongly")
        return user

    @field_validator("password")
    @classmethod
    def _password(cls, password: SecretStr) -> SecretStr:
        if "\0" in password.get_secret_value():
            raise ValueError("must not hold NUL, where ml-metadata's client would cut it")
        return password

    @field_validator("host")
    @classmethod
    def _host(cls, host: str) -> str:
        if not host or any(char.isspace() or char == "\0" for char in host):
            raise ValueError("must be a host's name or address")
        return host

    @model_validator(mode="before")
    @classmethod
    def _tls(cls, fields: Any) -> Any:
        return tls_implied(
            fields, *("ssl_ca", "ssl_capath", "ssl_cert", "ssl_key", "ssl_cipher", "ssl_verify_server_cert")
        )

    @model_validator(mode="after")
    def _native_can(self) -> MysqlConfig:
        if self.service == "native" and self.read_only:
            raise ValueError("read_only needs service=sql: ml-metadata's client has no such switch")
        return self

    @property
    def parallel_calls(self) -> int:
        """See `StoreConfig`."""
        return 1 if self.service == "native" else SQL_CALLS

    @property
    def location(self) -> str:
        """`user@host:port/database`, an IPv6 address in brackets."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.user}@{self.socket or f'{host}:{self.port}'}/{self.database}"

    @classmethod
    def from_url(cls, url: SplitResult, options: dict[str, str]) -> MysqlConfig:
        """`mysql://user:password@host:port/database?tls=true&ssl_ca=...`."""
        return cls.checked(**server_fields(url, options))

    def connection_config(self) -> mlmd.ConnectionConfig:
        """Return MLMD's `ConnectionConfig`, with the password in clear."""
        config = mlmd.ConnectionConfig()
        mysql = config.mysql
        mysql.database = f"`{self.database}`"  # MLMD pastes it into SQL as it is
        mysql.user, mysql.password = self.user, self.password.get_secret_value()
        mysql.skip_db_creation = True
        if self.socket:
            mysql.socket = self.socket
        else:
            mysql.host = self._address
            mysql.port = self.port
        if self.tls:
            options = mysql.ssl_options
            options.SetInParent()
            for name in ("ca", "capath", "cert", "key", "cipher"):
                value = getattr(self, f"ssl_{name}")
                if value:
                    setattr(options, name, value)
            if not self.ssl_cipher:
                # Without any option set the client stays in clear.
                options.cipher = "HIGH:!aNULL"
        return config

    def open_service(self, *, create: bool = False, upgrade: bool = False) -> MetadataService:
        """Open the database; `create` makes it, or MLMD's tables among others.

        Raises:
            ConnectionFailedError: One of its kinds, each with a remedy.
        """
        if self.service == "native":
            return self._open_native(create=create, upgrade=upgrade)
        state = self._settled()
        self._judge(state, create=create)
        if not state.database_exists:
            probe(self._target(), timeout_s=self.connect_timeout_s, create=True)
        from zen_mlmd.service.sql.service import open_sql

        # Also when it connects again: whoever empties a database that is in use gets the tables back.
        return open_sql(self.open_database(create=True), upgrade=upgrade, read_only=self.read_only)

    def open_database(self, *, create: bool = False) -> Database:
        """Return the database itself; see `StoreConfig.open_database`."""
        from zen_mlmd.service.sql.create import create as make
        from zen_mlmd.service.sql.database import Database
        from zen_mlmd.service.sql.engines import mysql_engine
        from zen_mlmd.service.sql.learn import learn

        return Database(
            partial(mysql_engine, self._log_in),
            location=self.location,
            learn=make if create and not self.read_only else learn,
            wait_s=self.wait_s,
        )

    def _log_in(self, **options: Any) -> MysqlLogin:
        begin = "SET SESSION TRANSACTION READ ONLY" if self.read_only else ""
        times = {"connect_timeout_s": self.connect_timeout_s, "timeout_s": self.timeout_s}
        try:
            return log_in(self._target(), begin=begin, **times, **options)
        except pymysql.MySQLError:
            self._probe()  # says what is wrong
            raise

    def _open_native(self, *, create: bool, upgrade: bool) -> NativeService:
        if self.ssl_verify_server_cert:
            raise TlsError(
                f"{self.location}: ml-metadata's MySQL client cannot verify a server's certificate",
                hint="open it with service=sql, the default; or leave ssl_verify_server_cert out and keep the"
                " way to the server closed to others (a tunnel, a private network)",
            )
        state = self._settled()
        self._judge(state, create=create)
        self._refuse_other_versions(state.schema_version, upgrade=upgrade)
        if not state.database_exists:
            state = probe(self._target(), timeout_s=self.connect_timeout_s, create=True)
        service = NativeService(
            self.connection_config(),
            location=self.location,
            probe=self._probe,
            limits=_limits(state),
            upgrade=upgrade,
            wait_s=self.wait_s,
            max_idle_s=_TLS_IDLE_S if self.tls else math.inf,
        )
        service.open()
        return service

    def probe_native(self) -> Probe:
        """Log in as ml-metadata's own client would, whatever `service` says; nothing is written.

        Raises:
            ConnectionFailedError: One of its kinds, each with a remedy.
        """
        return self.model_copy(update={"service": "native"})._probe()  # noqa: SLF001 - of its own class

    def _probe(self) -> Probe:
        return probe(self._target(), timeout_s=self.connect_timeout_s)

    def _settled(self) -> Probe:
        """Look at the database, once whoever may just be making MLMD's tables has made them."""
        deadline = time.monotonic() + self.wait_s
        state = self._probe()
        while state.begun and state.schema_version is None and time.monotonic() < deadline:
            time.sleep(0.1)
            state = self._probe()
        return state

    def examine_way(self, thresholds: Thresholds) -> list[Finding]:
        """See `StoreConfig.examine_way`; the account logs in twice, once as ml-metadata's client would."""
        from zen_mlmd.flavors.mysql_examination import examine_server

        if not self._probe().database_exists:
            raise self._no_database()
        return examine_server(self, thresholds)

    def _no_database(self) -> DatabaseMissingError:
        return DatabaseMissingError(
            f"{self.location}: the server has no database of that name",
            hint="make it with open_store(..., create=True), or: "
            f"CREATE DATABASE `{self.database}` CHARACTER SET utf8mb4 COLLATE utf8mb4_bin",
        )

    def _judge(self, state: Probe, *, create: bool) -> None:
        if not state.database_exists and not create:
            raise self._no_database()
        if state.database_exists and state.schema_version is None and state.tables and not create:
            raise NotMlmdError(
                f"{self.location}: the database has {state.tables} tables and none of MLMD's",
                hint="is it the right database? MLMD's tables are added with open_store(..., create=True)",
            )

    def _refuse_other_versions(self, version: int | None, *, upgrade: bool) -> None:
        if version is not None and version > SCHEMA_VERSION:
            raise SchemaVersionError(
                f"{self.location}: schema {version} is newer than ml-metadata's {SCHEMA_VERSION}",
                hint="install a newer ml-metadata",
            )
        if version is not None and version < SCHEMA_VERSION and not upgrade:
            raise SchemaVersionError(
                f"{self.location}: schema {version} is older than ml-metadata's {SCHEMA_VERSION}",
                hint="service=sql, the default, reads it as it is; or back it up, and open_store(...,"
                " upgrade=True) migrates it in place and for ever",
            )

    @property
    def _address(self) -> str:
        """The host, but not "localhost", which ml-metadata's client takes for its default unix socket."""
        return "127.0.0.1" if self.host == "localhost" else self.host

    def _target(self) -> MysqlTarget:
        return MysqlTarget(
            host=self._address if self.service == "native" else self.host,
            port=self.port,
            database=self.database,
            user=self.user,
            password=self.password.get_secret_value(),
            socket=self.socket,
            tls=self.tls,
            ssl_ca=self.ssl_ca,
            ssl_capath=self.ssl_capath,
            ssl_cert=self.ssl_cert,
            ssl_key=self.ssl_key,
            ssl_cipher=self.ssl_cipher,
            native=self.service == "native",
            verify=self.ssl_verify_server_cert,
        )


def _limits(state: Probe) -> Limits:
    """Return what the columns hold, what fits one of the server's packets, and how names compare."""
    packet = max(state.max_allowed_packet - _STATEMENT_BYTES, 0)
    return replace(
        MYSQL,
        string_bytes=packet if MYSQL.string_bytes is None else min(packet, MYSQL.string_bytes),
        ignores_case=state.collation.endswith("_ci"),
        # https://dev.mysql.com/doc/refman/9.0/en/charset-collation-pad-attribute.html, and MariaDB's _nopad_
        ignores_blanks=not re.search(r"_0900_|_nopad_|^binary$", state.collation),
    )
