"""Random requests, one after another, to ml-metadata and to the SQL service: equal answers, equal tables."""

from __future__ import annotations

import os
import sqlite3
from base64 import b64encode
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import psycopg
import pymysql
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule, run_state_machine_as_test
from ml_metadata.proto import metadata_store_pb2 as mlmd
from ml_metadata.proto import metadata_store_service_pb2 as rpc

from tests.services.mariadb import MariaDb
from tests.services.postgresql import PostgreSql
from tests.sql.differential import Twins, said, tables, told
from tests.sql.requests import READS, WRITES, first_nodes, first_types
from zen_mlmd.flavors import config_from_url
from zen_mlmd.flavors.sqlite import SqliteConfig
from zen_mlmd.service.base import ALREADY_EXISTS, INTERNAL
from zen_mlmd.service.lock import WriteLock
from zen_mlmd.service.sql.create import create
from zen_mlmd.service.sql.database import Database
from zen_mlmd.service.sql.engines import mysql_engine, postgresql_engine, sqlite_engine
from zen_mlmd.service.sql.learn import learn
from zen_mlmd.service.sql.service import SqlService

STEPS = int(os.environ.get("ZEN_MLMD_DIFFERENTIAL_STEPS", "250"))
"""Of each backend."""
_LENGTH = 50

Dump = Callable[[str], list[tuple[Any, ...]]]


class Machine(RuleBasedStateMachine):
    """Requests to twins that `opened` gives, which are empty at first."""

    opened: Callable[[], tuple[Twins, Dump, Dump]]

    def __init__(self) -> None:
        super().__init__()
        self.twins, self.theirs, self.ours = type(self).opened()
        self._same("PutTypes", first_types())
        for method, request in first_nodes(self.twins.world):
            self._same(method, request)

    @rule(data=st.data())
    def write(self, data: st.DataObject) -> None:
        self._both(data, WRITES)

    @rule(data=st.data())
    def write_more(self, data: st.DataObject) -> None:
        self._both(data, WRITES)

    @rule(data=st.data())
    def read(self, data: st.DataObject) -> None:
        self._both(data, READS)

    def _both(self, data: st.DataObject, requests: dict[str, Any]) -> None:
        method = data.draw(st.sampled_from(sorted(requests)))
        self._same(method, requests[method](data.draw, self.twins.world))

    def _same(self, method: str, request: Any) -> None:
        theirs, ours = self.twins.both(method, request)
        if theirs.code == INTERNAL:  # a name or external id that is taken, met by an update
            assert ours.code in (ALREADY_EXISTS, INTERNAL), (method, theirs, ours)
            return
        assert (ours.code, said(ours.text)) == (theirs.code, said(theirs.text)), (method, theirs, ours)
        if not theirs.code:
            ordered = any(field.name == "options" for field, _ in request.ListFields()) and "Get" in method
            assert told(ours.message, ordered=ordered) == told(theirs.message, ordered=ordered), method

    def teardown(self) -> None:
        twins = self.twins
        same = {kind: {id_: id_ for id_ in ids} for kind, ids in twins.known.items()}
        back = {kind: {our: their for their, our in ids.items()} for kind, ids in twins.known.items()}
        twins.native.close()
        twins.ours.close()
        theirs, ours = tables(self.theirs, same), tables(self.ours, back)
        for table, rows in theirs.items():
            assert [row for row in ours[table] if row not in rows] == [], table
            assert [row for row in rows if row not in ours[table]] == [], table


def run_machine(opened: Callable[[], tuple[Twins, Dump, Dump]]) -> None:
    machine = type("Machine", (Machine,), {"opened": staticmethod(opened)})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=max(STEPS // _LENGTH, 1),
            stateful_step_count=_LENGTH,
            deadline=None,
            derandomize=STEPS <= 500,
            phases=(Phase.generate,),  # what shrinks it asks two databases thousands of times
            suppress_health_check=list(HealthCheck),
            print_blob=False,
        ),
    )


def test_on_sqlite(tmp_path_factory: pytest.TempPathFactory) -> None:
    def opened() -> tuple[Twins, Dump, Dump]:
        folder: Path = tmp_path_factory.mktemp("twins")
        paths = [str(folder / name) for name in ("theirs.db", "ours.db")]
        for path in paths:
            SqliteConfig(path=path).open_service().close()
        twins = Twins(SqliteConfig(path=paths[0]).open_service(), sqlite_service(paths[1]))
        return twins, sqlite_dump(paths[0]), sqlite_dump(paths[1])

    run_machine(opened)


def sqlite_service(path: str) -> SqlService:
    lock = WriteLock(path, timeout_s=10)
    return SqlService(Database(lambda: sqlite_engine(path), location=path, learn=learn, write_lock=lock))


@pytest.mark.mysql
def test_on_mariadb(mariadb: MariaDb) -> None:
    def opened() -> tuple[Twins, Dump, Dump]:
        names = [mariadb.new_database() for _ in range(2)]
        for name in names:
            config_from_url(mariadb.url(name)).open_service(create=True).close()
        connect: dict[str, Any] = {
            "host": mariadb.host,
            "port": mariadb.port,
            "user": mariadb.user,
            "password": mariadb.password,
            "database": names[1],
        }
        database = Database(
            partial(mysql_engine, partial(pymysql.connect, **connect)),
            location=names[1],
            learn=learn,
        )
        native = config_from_url(mariadb.url(names[0])).open_service()
        return (
            Twins(native, SqlService(database)),
            mysql_dump(mariadb, names[0]),
            mysql_dump(mariadb, names[1]),
        )

    run_machine(opened)


@pytest.mark.postgresql
def test_on_postgresql(postgresql: PostgreSql, tmp_path_factory: pytest.TempPathFactory) -> None:
    """To ml-metadata on SQLite: on PostgreSQL a backslash in a text is an injection to it."""

    def opened() -> tuple[Twins, Dump, Dump]:
        path = str(tmp_path_factory.mktemp("twins") / "theirs.db")
        name = postgresql.new_database()
        connect: dict[str, Any] = {
            "host": postgresql.host,
            "port": postgresql.port,
            "user": postgresql.user,
            "password": postgresql.password,
            "dbname": name,
        }
        database = Database(
            lambda: postgresql_engine(partial(psycopg.connect, **connect)), location=name, learn=create
        )
        twins = Twins(SqliteConfig(path=path).open_service(), SqlService(database))
        return twins, sqlite_dump(path), postgresql_dump(postgresql, name)

    run_machine(opened)


def sqlite_dump(path: str) -> Dump:
    def run(select: str) -> list[tuple[Any, ...]]:
        with closing(sqlite3.connect(path)) as connection:
            return connection.execute(select).fetchall()

    return run


def postgresql_dump(server: PostgreSql, database: str) -> Dump:
    """ml-metadata has messages as bytes there, elsewhere as their base64."""

    def run(select: str) -> list[tuple[Any, ...]]:
        return [
            tuple(b64encode(value).decode() if isinstance(value, bytes) else value for value in row)
            for row in server.sql(select, database=database)
        ]

    return run


def mysql_dump(server: MariaDb, database: str) -> Dump:
    def run(select: str) -> list[tuple[Any, ...]]:
        connection = pymysql.connect(
            host=server.host,
            port=server.port,
            user=server.user,
            password=server.password,
            database=database,
            charset="latin1",
        )
        with closing(connection), connection.cursor() as cursor:
            cursor.execute(select)
            return list(cursor.fetchall())

    return run


def test_a_property_stays_when_one_of_its_name_among_the_custom_ones_goes(sqlite_path: Path) -> None:
    """ml-metadata 1.17.1 changes and deletes both: its statements name no kind of property."""
    SqliteConfig(path=str(sqlite_path)).open_service().close()
    service = sqlite_service(str(sqlite_path))
    kind = mlmd.ExecutionType(name="E", properties={"x": mlmd.INT})
    type_id = service.call("PutExecutionType", rpc.PutExecutionTypeRequest(execution_type=kind)).type_id
    node = mlmd.Execution(type_id=type_id)
    node.properties["x"].int_value = 1
    node.custom_properties["x"].int_value = 2
    (node.id,) = service.call("PutExecutions", rpc.PutExecutionsRequest(executions=[node])).execution_ids
    node.custom_properties["x"].int_value = 3
    service.call("PutExecutions", rpc.PutExecutionsRequest(executions=[node]))
    assert read(service, node.id).properties["x"].int_value == 1
    del node.custom_properties["x"]
    service.call("PutExecutions", rpc.PutExecutionsRequest(executions=[node]))
    assert read(service, node.id).properties["x"].int_value == 1
    assert not read(service, node.id).custom_properties


def read(service: SqlService, node_id: int) -> mlmd.Execution:
    """Read one execution."""
    request = rpc.GetExecutionsByIDRequest(execution_ids=[node_id])
    return service.call("GetExecutionsByID", request).executions[0]
