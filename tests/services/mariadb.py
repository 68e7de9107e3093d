"""A real MariaDB server for tests, from Debian's mariadb-server-core."""

from __future__ import annotations

import functools
import getpass
import secrets
import shutil
import signal
import socket
import subprocess
from pathlib import Path
from typing import Any

import pymysql

from tests.services import new_directory
from tests.services.database import DatabaseServer

_UNKNOWN_THREAD = 1094
_SMALL_FILES = ("--innodb-log-file-size=8M", "--innodb-buffer-pool-size=32M")
_FAST = (
    "--innodb-flush-log-at-trx-commit=2",
    "--innodb-data-file-path=ibdata1:2M:autoextend",
    "--innodb-temp-data-file-path=ibtmp1:2M:autoextend",
    "--performance-schema=OFF",
    "--skip-name-resolve",
)


class MariaDb(DatabaseServer):
    """A MariaDB server; its options are those of mariadbd, such as `--require-secure-transport=ON`.

    The user `zen` logs in with `password` (mysql_native_password) from anywhere and has all rights on
    the databases named `zen_...`; root may use only the unix socket.
    """

    program = "mariadbd"
    service = "auto"
    """What its URLs ask for."""

    @property
    def socket(self) -> Path:
        """The unix socket's path."""
        return self.directory / "s.sock"

    def stop(self) -> None:
        """Stop the server cleanly; its data stay for `start`."""
        if self._process is not None:
            self._process.terminate()
            self._ended()

    def pause(self) -> None:
        """Let the server say nothing, and keep its connections."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """Go on after `pause`."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def sql(self, statement: str, *args: object) -> list[tuple[Any, ...]]:
        """Run one statement as root and return its rows.

        Args:
            statement: SQL; with `args`, `%s` stands for each and `%%` for a percent sign.
            args: Values for the statement's placeholders.
        """
        connection = pymysql.connect(
            unix_socket=str(self.socket), user=getpass.getuser(), autocommit=True, ssl_disabled=True
        )
        with connection, connection.cursor() as cursor:
            cursor.execute(statement, args or None)
            return list(cursor.fetchall())

    def new_database(self) -> str:
        """Create an empty database, in which names differ by case, and return its name."""
        name = f"zen_{secrets.token_hex(6)}"
        self.sql(f"CREATE DATABASE {name} CHARACTER SET utf8mb4 COLLATE utf8mb4_bin")
        return name

    def drop_database(self, name: str) -> None:
        """Drop a database; connections that use it are cut, as one in a transaction would block this."""
        self._kill("db", name)
        self.sql(f"DROP DATABASE {name}")

    def url(self, database: str) -> str:
        """Return `mysql://zen:<password>@127.0.0.1:<port>/<database>`, with `?service=` if it was set."""
        asked = "" if self.service == "auto" else f"?service={self.service}"
        return f"mysql://{self.user}:{self.password}@{self.host}:{self.port}/{database}{asked}"

    def kill_connections(self) -> int:
        """Cut all connections of `zen`; return how many there were."""
        return self._kill("user", self.user)

    def _kill(self, column: str, value: str) -> int:
        ids = self.sql(f"SELECT id FROM information_schema.processlist WHERE {column} = %s", value)
        return sum(self._cut(connection_id) for (connection_id,) in ids)

    def _cut(self, connection_id: int) -> bool:
        try:
            self.sql(f"KILL CONNECTION {connection_id}")
        except pymysql.MySQLError as error:
            if error.args[0] != _UNKNOWN_THREAD:
                raise
            return False
        return True

    def _make_data(self) -> None:
        shutil.copytree(_template(), self._data)

    def _furnish(self) -> None:
        self.sql(
            "CREATE USER zen@'%%' IDENTIFIED VIA mysql_native_password USING PASSWORD(%s)", self.password
        )
        self.sql(r"GRANT ALL ON `zen\_%`.* TO zen@'%'")

    def _command(self) -> list[str]:
        command = [
            *_program(self.program),
            f"--datadir={self._data}",
            f"--socket={self.socket}",
            f"--port={self.port}",
            f"--bind-address={self.host}",
            f"--tmpdir={self.directory}",
            f"--pid-file={self.directory / 'pid'}",
            *_FAST,
            *_SMALL_FILES,
        ]
        if self.certificates is not None:
            command += [
                f"--ssl-ca={self.certificates.ca}",
                f"--ssl-cert={self.certificates.server_cert}",
                f"--ssl-key={self.certificates.server_key}",
            ]
        return [*command, *self._options]

    def _answers(self) -> bool:
        with socket.socket(socket.AF_UNIX) as knock:  # PyMySQL leaves its socket open if this fails
            if knock.connect_ex(str(self.socket)):
                return False
        try:
            return self.sql("SELECT 1") == [(1,)]
        except pymysql.OperationalError:
            return False


@functools.cache
def _template() -> Path:
    """Return a data directory that is fresh from mariadb-install-db; made once, copied by each server."""
    data = new_directory("mariadb-template") / "data"
    subprocess.run(
        [
            *_program("mariadb-install-db"),
            f"--datadir={data}",
            f"--tmpdir={data.parent}",  # one that starts removes the temporary tables that it finds there
            "--skip-test-db",
            "--auth-root-authentication-method=socket",
            f"--auth-root-socket-user={getpass.getuser()}",
            *_FAST,
            *_SMALL_FILES,
        ],
        check=True,
        stdin=subprocess.DEVNULL,
        capture_output=True,
    )
    return data


def _program(name: str) -> list[str]:
    path = shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin")
    if path is None:
        raise FileNotFoundError(
            f"{name} is not installed. These tests run a real MariaDB server:"
            " apt-get install mariadb-server-core mariadb-client-core"
        )
    # MariaDB refuses to run as root unless told so by name.
    user = [f"--user={getpass.getuser()}"] if getpass.getuser() == "root" else []
    return [path, "--no-defaults", *user]
