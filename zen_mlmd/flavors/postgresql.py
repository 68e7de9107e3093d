"""The postgresql flavor: by the SQL service alone.

ml-metadata's own client writes texts into its statements unescaped there (a backslash in one is an injection)
and was built without TLS (1.17.1 and 1.21.0, measured).
"""

from __future__ import annotations

import re
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Final, Literal
from urllib.parse import SplitResult

from ml_metadata.proto import metadata_store_pb2 as mlmd
from pydantic import Field, SecretStr, field_validator, model_validator

from zen_mlmd.errors import (
    ConfigError,
    ConnectionFailedError,
    DatabaseMissingError,
    GrantMissingError,
    HostNotFoundError,
    LoginDeniedError,
    LoginPluginError,
    MissingExtraError,
    NotMlmdError,
    TlsError,
    UnreachableError,
)
from zen_mlmd.flavors.base import SQL_CALLS, StoreConfig, server_fields, tls_implied
from zen_mlmd.flavors.links import ABANDONED_S, LIBPQ
from zen_mlmd.service.base import MetadataService
from zen_mlmd.service.finding import Finding, Thresholds

if TYPE_CHECKING:
    from zen_mlmd.service.sql.database import Database

# libpq gives no code of what fails before one is logged in: its words are all there is.
_MEANINGS: Final[tuple[tuple[str, type[ConnectionFailedError], str], ...]] = (
    (
        r"could not translate host name|Name or service not known",
        HostNotFoundError,
        "check its spelling, and DNS",
    ),
    (
        r"no encryption|SSL (?:connection|encryption) is required|pg_hba\.conf rejects .* no encryption",
        TlsError,
        "set tls, and ssl_ca to the PEM file of the authority that signed the server's certificate",
    ),
    (
        r"does not support SSL|certificate|SSL error|SSL SYSCALL|root\.crt|sslmode|private key",
        TlsError,
        "check ssl_ca, ssl_cert and ssl_key, and that the server offers TLS for that name",
    ),
    (
        r"no pg_hba\.conf entry|pg_hba\.conf rejects",
        LoginDeniedError,
        "have this user, database and host allowed in the server's pg_hba.conf",
    ),
    (
        r"authentication failed|role \".*\" does not exist|no password supplied|not permitted to log in",
        LoginDeniedError,
        "check the user's name and the password",
    ),
    (r"authentication method", LoginPluginError, "give the account a password (scram-sha-256)"),
    (r"permission denied", GrantMissingError, "GRANT CONNECT ON DATABASE ..., and USAGE on its schema"),
    (
        r"too many (?:clients|connections)|remaining connection slots",
        UnreachableError,
        "end idle clients, or raise the server's limit",
    ),
    (
        (
            r"refused|timeout|No such file|starting up|shutting down|closed the|unreachable|No route|reset by"
            r"|in recovery mode|not yet accepting|terminating connection"
        ),
        UnreachableError,
        "check that the server runs and listens on this address, and that no firewall swallows the packets",
    ),
    (r"invalid response|unsupported frontend protocol", NotMlmdError, "check the host and the port"),
)
_MISSING: Final = re.compile(r'database ".*" does not exist')
_TABLES: Final = "SELECT count(*) FROM pg_catalog.pg_tables WHERE schemaname = current_schema()"


class PostgresqlConfig(StoreConfig):
    """A database on a PostgreSQL server; needs the extra `postgresql`.

    Attributes:
        host: A name, an address, or the folder of a unix socket.
        tls: Encrypt the connection; a server that does not is refused. Without it, the connection is
            encrypted if the server offers that.
        ssl_ca: PEM file of the authority that signed the server's certificate, which is then checked.
        ssl_verify_server_cert: The certificate must be valid for `host` too; without `ssl_ca`, of an
            authority that this system trusts.
        connect_timeout_s: How long a server that does not answer is waited for, in whole seconds.
        service: There is only `sql`.
        read_only: Nothing can be written, whoever asks: the server itself refuses.
    """

    flavor: ClassVar[str] = "postgresql"
    schemes: ClassVar[tuple[str, ...]] = ("postgresql", "postgres", "postgresql+psycopg")

    host: str = "127.0.0.1"
    port: int = Field(default=5432, ge=1, le=65535)
    database: str = Field(min_length=1, max_length=63)
    user: str = "postgres"
    password: SecretStr = SecretStr("")
    tls: bool = False
    ssl_ca: str = ""
    ssl_cert: str = ""
    ssl_key: str = ""
    ssl_verify_server_cert: bool = False
    connect_timeout_s: float = Field(default=5.0, ge=1, allow_inf_nan=False)
    service: Literal["auto", "sql"] = "auto"
    read_only: bool = False

    @field_validator("host", "database", "user")
    @classmethod
    def _plain(cls, text: str) -> str:
        if not text.strip() or "\0" in text:
            raise ValueError("must not be empty, nor hold NUL")
        return text

    @field_validator("password")
    @classmethod
    def _password(cls, password: SecretStr) -> SecretStr:
        if "\0" in password.get_secret_value():
            raise ValueError("must not hold NUL")
        return password

    @model_validator(mode="before")
    @classmethod
    def _tls(cls, fields: Any) -> Any:
        return tls_implied(fields, "ssl_ca", "ssl_cert", "ssl_key", "ssl_verify_server_cert")

    @property
    def parallel_calls(self) -> int:
        """See `StoreConfig`."""
        return SQL_CALLS

    @property
    def location(self) -> str:
        """`user@host:port/database`, an IPv6 address in brackets."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.user}@{host}:{self.port}/{self.database}"

    @classmethod
    def from_url(cls, url: SplitResult, options: dict[str, str]) -> PostgresqlConfig:
        """`postgresql://user:password@host:port/database?tls=true&ssl_ca=...`."""
        return cls.checked(**server_fields(url, options))

    def connection_config(self) -> mlmd.ConnectionConfig:
        """Refuse: ml-metadata's own client is not safe on PostgreSQL.

        Raises:
            ConfigError: Always.
        """
        raise ConfigError(
            f"{self.location}: ml-metadata's own client is not safe on PostgreSQL: it writes texts into its"
            " statements as they are, and has no TLS",
            hint="let it talk to `zen-mlmd serve --store ...`, and give it that server's address",
        )

    def open_service(self, *, create: bool = False, upgrade: bool = False) -> MetadataService:
        """Open the database; `create` makes it, or MLMD's tables among others.

        Raises:
            ConnectionFailedError: One of its kinds, each with a remedy.
            MissingExtraError: psycopg is not installed.
        """
        from zen_mlmd.service.sql.learn import look
        from zen_mlmd.service.sql.service import open_sql

        try:
            self._log_in().close()
        except DatabaseMissingError:
            if not create or self.read_only:
                raise
            self._make()
        found = self.open_database().maintain(lambda connection, _: look(connection), writes=False)
        if not found.present and found.others and not create:
            raise NotMlmdError(
                f"{self.location}: the database has {found.others} tables and none of MLMD's",
                hint="is it the right database? MLMD's tables are added with open_store(..., create=True)",
            )
        return open_sql(self.open_database(create=True), upgrade=upgrade, read_only=self.read_only)

    def open_database(self, *, create: bool = False) -> Database:
        """Return the database itself; see `StoreConfig.open_database`."""
        from zen_mlmd.service.sql.create import create as make
        from zen_mlmd.service.sql.database import Database
        from zen_mlmd.service.sql.engines import postgresql_engine
        from zen_mlmd.service.sql.learn import learn

        return Database(
            partial(postgresql_engine, self._log_in),
            location=self.location,
            learn=make if create and not self.read_only else learn,
            wait_s=self.wait_s,
        )

    def examine_way(self, thresholds: Thresholds) -> list[Finding]:
        """See `StoreConfig.examine_way`."""
        from zen_mlmd.flavors.postgresql_examination import examine_server

        self._log_in().close()
        return examine_server(self, thresholds)

    def _log_in(self, **others: Any) -> Any:
        try:
            import psycopg
        except ImportError:
            raise MissingExtraError(
                "a postgresql store needs psycopg", hint="pip install 'zen-mlmd[postgresql]'"
            ) from None
        settings = {**self._settings(), **others}
        try:
            made = psycopg.connect(**{**settings, "autocommit": True})
            # Not among the options, in which a pooler like PgBouncer refuses what it does not know.
            made.execute(f"SET idle_in_transaction_session_timeout = '{ABANDONED_S}s'")
            made.autocommit = settings.get("autocommit", False)
        except psycopg.OperationalError as error:
            text = " ".join(str(error).split())
        else:
            return made
        raise self._meaning(text)

    def _settings(self) -> dict[str, Any]:
        mode = "prefer"
        if self.tls:
            mode = "verify-full" if self.ssl_verify_server_cert else "verify-ca" if self.ssl_ca else "require"
        files = {"sslrootcert": self.ssl_ca, "sslcert": self.ssl_cert, "sslkey": self.ssl_key}
        if mode == "verify-full" and not self.ssl_ca:
            files["sslrootcert"] = "system"
        return {
            "host": self.host,
            "port": self.port,
            "dbname": self.database,
            "user": self.user,
            "password": self.password.get_secret_value(),
            "sslmode": mode,
            "connect_timeout": round(self.connect_timeout_s),
            "application_name": "zen-mlmd",
            "client_encoding": "UTF8",
            **LIBPQ,
            "options": "-c default_transaction_read_only=on" if self.read_only else "",
            **{name: value for name, value in files.items() if value},
        }

    def _meaning(self, text: str) -> ConnectionFailedError:
        if _MISSING.search(text):
            return DatabaseMissingError(
                f"{self.location}: the server has no database of that name",
                hint=f'make it with open_store(..., create=True), or: CREATE DATABASE "{self.database}"',
            )
        for pattern, kind, hint in _MEANINGS:
            found = re.search(pattern, text, re.IGNORECASE)
            if found is not None:
                return kind(f"{self.location}: {found[0]}", hint=hint)
        return ConnectionFailedError(
            f"{self.location}: the server let nobody in", hint="see the server's log"
        )

    def _make(self) -> None:
        import psycopg
        from psycopg import sql

        with self._log_in(dbname="postgres", autocommit=True) as connection:
            try:
                connection.execute(
                    sql.SQL("CREATE DATABASE {} ENCODING 'UTF8' TEMPLATE template0").format(
                        sql.Identifier(self.database)
                    )
                )
            except (psycopg.errors.DuplicateDatabase, psycopg.errors.UniqueViolation):
                return  # another process was faster
            except psycopg.errors.InsufficientPrivilege:
                pass
            else:
                return
        raise GrantMissingError(
            f"{self.location}: there is no such database, and the user may not make it",
            hint=f'as an administrator: CREATE DATABASE "{self.database}" OWNER "{self.user}"',
        )
