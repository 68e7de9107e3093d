"""A real PostgreSQL server for tests, from Debian's postgresql."""

from __future__ import annotations

import functools
import os
import secrets
import shutil
import subprocess
from pathlib import Path
from typing import Any

import psycopg

from tests.services.database import DatabaseServer

_OTHER_USER = "postgres"
_FAST = {
    "fsync": "off",
    "shared_buffers": "16MB",
    "max_connections": "60",
    "shared_memory_type": "mmap",
    "dynamic_shared_memory_type": "mmap",
    "autovacuum": "off",
}


class PostgreSql(DatabaseServer):
    """A PostgreSQL server; its options are settings of postgresql.conf, such as `log_statement=all`.

    The user `zen` is its superuser and logs in with `password` (scram-sha-256).
    """

    program = "postgres"

    def stop(self) -> None:
        """Stop the server cleanly, cutting its connections; its data stay for `start`."""
        if self._process is not None:
            subprocess.run(
                [*_as_other(), _program("pg_ctl"), "-D", str(self._data), "-m", "fast", "-W", "stop"],
                check=True,
                stdin=subprocess.DEVNULL,
                capture_output=True,
            )
            self._ended()

    def sql(self, statement: str, *args: object, database: str = "postgres") -> list[tuple[Any, ...]]:
        """Run one statement and return its rows.

        Args:
            statement: SQL; with `args`, `%s` stands for each.
            args: Values for the statement's placeholders.
            database: Where.
        """
        with psycopg.connect(
            host=self.host,
            port=self.port,
            user=self.user,
            password=self.password,
            dbname=database,
            autocommit=True,
        ) as connection:
            cursor = connection.execute(statement.encode(), args or None)
            return cursor.fetchall() if cursor.description else []

    def new_database(self) -> str:
        """Create an empty database and return its name."""
        name = f"zen_{secrets.token_hex(6)}"
        self.sql(f"CREATE DATABASE {name} TEMPLATE template0")
        return name

    def drop_database(self, name: str) -> None:
        """Drop a database; connections that use it are cut."""
        self.sql(f"DROP DATABASE {name} WITH (FORCE)")

    def url(self, database: str) -> str:
        """Return `postgresql://zen:<password>@127.0.0.1:<port>/<database>`."""
        return f"postgresql://{self.user}:{self.password}@{self.host}:{self.port}/{database}"

    def kill_connections(self) -> int:
        """Cut all connections of `zen` but this one; return how many there were."""
        rows = self.sql(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = %s"
            " AND pid <> pg_backend_pid()",
            self.user,
        )
        return len(rows)

    def _make_data(self) -> None:
        password = self.directory / "password"
        password.write_text(self.password)
        self._give(self.directory, password)
        subprocess.run(
            [
                *_as_other(),
                _program("initdb"),
                *("-D", str(self._data), "-U", self.user, "-A", "scram-sha-256", f"--pwfile={password}"),
                *("-E", "UTF8", "--locale=C.UTF-8", "--no-sync"),
            ],
            check=True,
            cwd="/",
            stdin=subprocess.DEVNULL,
            capture_output=True,
        )

        with (self._data / "pg_hba.conf").open("a") as rules:  # initdb lets in this machine only
            rules.write("host all all all scram-sha-256\n")

    def _give(self, *paths: Path) -> None:
        """Let the user that runs the server have files; it passes through this session's directory."""
        if os.geteuid() != 0:
            return
        self.directory.parent.chmod(0o711)
        for path in paths:
            shutil.chown(path, _OTHER_USER)

    def _command(self) -> list[str]:
        settings = {
            **_FAST,
            "port": str(self.port),
            "listen_addresses": self.host,
            "unix_socket_directories": str(self.directory),
        }
        if self.certificates is not None:
            self.certificates.server_key.chmod(0o600)
            self._give(self.certificates.server_cert, self.certificates.server_key, self.certificates.ca)
            settings.update(
                ssl="on",
                ssl_cert_file=str(self.certificates.server_cert),
                ssl_key_file=str(self.certificates.server_key),
                ssl_ca_file=str(self.certificates.ca),
            )
        options = [f"{name}={value}" for name, value in settings.items()] + list(self._options)
        command = [*_as_other(), _program("postgres"), "-D", str(self._data)]
        return [*command, *(part for option in options for part in ("-c", option))]

    def _answers(self) -> bool:
        try:
            return self.sql("SELECT 1") == [(1,)]
        except psycopg.OperationalError:
            return False


@functools.cache
def _program(name: str) -> str:
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda each: float(each.parent.name))
    path = shutil.which(name, path=os.pathsep.join(map(str, reversed(folders)))) or shutil.which(name)
    if path is None:
        raise FileNotFoundError(
            f"{name} is not installed. These tests run a real PostgreSQL server: apt-get install postgresql"
        )
    return path


def _as_other() -> list[str]:
    # PostgreSQL refuses to run as root. Another user's process is told anew to end with its parent.
    if os.geteuid() != 0:
        return []
    user = f"--reuid={_OTHER_USER}"
    return ["setpriv", user, f"--regid={_OTHER_USER}", "--clear-groups", "--pdeathsig=KILL"]
