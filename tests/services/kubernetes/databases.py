"""What the containers of the tests run: MariaDB, with what its image's entrypoint does on first start."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping

import pymysql

from tests.services import free_port
from tests.services.mariadb import MariaDb


class Databases(ABC):
    """The data of claims, by the claim's uid, and the server that runs on them."""

    @abstractmethod
    def start(self, claim: str, env: Mapping[str, str]) -> int:
        """Run a server on a claim's data, and return its port; new data are furnished as `env` says."""

    @abstractmethod
    def stop(self, claim: str) -> None:
        """End the server; the data stay."""

    @abstractmethod
    def remove(self, claim: str) -> None:
        """Delete the data."""

    def log(self, claim: str) -> str:
        """Return what the server has written."""
        return "ready for connections\n"


class OwnDatabases(Databases):
    """A MariaDB server for each claim."""

    def __init__(self) -> None:
        self._servers: dict[str, MariaDb] = {}

    def start(self, claim: str, env: Mapping[str, str]) -> int:
        """See `Databases`."""
        is_new = claim not in self._servers
        server = self._servers.setdefault(claim, MariaDb())
        for tries_left in (2, 1, 0):
            try:
                server.start()
                break
            except RuntimeError:  # while it did not run, a client's connection got its port
                if not tries_left:
                    raise
                server.port = free_port()
        if is_new:
            furnish(server, env)
        return server.port

    def stop(self, claim: str) -> None:
        """See `Databases`."""
        if claim in self._servers:
            self._servers[claim].stop()

    def remove(self, claim: str) -> None:
        """See `Databases`."""
        if claim in self._servers:
            self._servers.pop(claim).remove()

    def log(self, claim: str) -> str:
        """See `Databases`."""
        return (self._servers[claim].directory / "log").read_text("utf-8", "replace")


class SharedDatabases(Databases):
    """One server for all claims, which makes a pod start at once; what it furnished goes with the claim."""

    def __init__(self, server: MariaDb) -> None:
        self._server = server
        self._made: dict[str, Mapping[str, str]] = {}

    def start(self, claim: str, env: Mapping[str, str]) -> int:
        """See `Databases`."""
        assert env["MYSQL_USER"] != self._server.user, "other tests need that one"
        if claim not in self._made:
            self._made[claim] = env
            furnish(self._server, env)
        return self._server.port

    def stop(self, claim: str) -> None:
        """See `Databases`."""

    def remove(self, claim: str) -> None:
        """See `Databases`."""
        env = self._made.pop(claim, None)
        if env is not None:
            self._server.drop_database(env["MYSQL_DATABASE"])
            self._server.sql(f"DROP USER '{env['MYSQL_USER']}'@'%'")


def furnish(server: MariaDb, env: Mapping[str, str]) -> None:
    """Do what the entrypoint of MySQL's and MariaDB's images does with new data."""
    name, user = env["MYSQL_DATABASE"], env["MYSQL_USER"]
    server.sql(f"CREATE DATABASE IF NOT EXISTS `{name}` CHARACTER SET utf8mb4 COLLATE utf8mb4_bin")
    server.sql(f"CREATE OR REPLACE USER '{user}'@'%%' IDENTIFIED BY %s", env["MYSQL_PASSWORD"])
    server.sql(f"GRANT ALL ON `{name}`.* TO '{user}'@'%'")


def answers(port: int, env: Mapping[str, str]) -> bool:
    """Whether one can log in, as the readiness of the container is asked."""
    try:
        pymysql.connect(
            host="127.0.0.1",
            port=port,
            user=env["MYSQL_USER"],
            password=env["MYSQL_PASSWORD"],
            ssl_disabled=True,
            connect_timeout=2,
        ).close()
    except pymysql.MySQLError as error:
        return bool(error.args) and error.args[0] == 1045  # it answers, though with no
    return True
