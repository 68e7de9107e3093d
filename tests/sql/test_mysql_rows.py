"""Rows of a MySQL server are what PyMySQL makes of them, and its errors are its own."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pymysql
import pytest

from tests.services.mariadb import MariaDb
from zen_mlmd.service.sql.mysql_rows import quicken

pytestmark = pytest.mark.mysql

VALUES = (
    (1, -(2**63), 0.1, "", b"", True, "1.5"),
    (2, 2**63 - 1, -1.7976931348623157e308, "x" * 250, b"\x00\xff" * 125, False, None),
    (3, 0, 5e-324, "x" * 251, b"y" * 252, None, "-0.000001"),
    (4, None, None, "ü\N{PILE OF POO}" * 30_000, b"z" * 65_536, None, None),
    (5, 7, 1e-7, None, None, True, "9" * 30),
)


@pytest.fixture
def connections(mariadb: MariaDb) -> Iterator[tuple[Any, Any]]:
    """Two connections to a table: PyMySQL's own, and one that reads rows our way."""
    name = mariadb.new_database()
    made: list[Any] = [
        pymysql.connect(
            host=mariadb.host,
            port=mariadb.port,
            user=mariadb.user,
            password=mariadb.password,
            database=name,
            charset="utf8mb4",
            client_flag=pymysql.constants.CLIENT.MULTI_STATEMENTS,
            autocommit=True,
        )
        for _ in range(2)
    ]
    quicken(made[1])
    with made[0].cursor() as cursor:
        cursor.execute(
            "CREATE TABLE t (id INT, i BIGINT, d DOUBLE, s LONGTEXT, b LONGBLOB, f BOOLEAN, n DECIMAL(40, 6))"
        )
        cursor.executemany("INSERT INTO t VALUES (%s, %s, %s, %s, %s, %s, %s)", VALUES)
    yield made[0], made[1]
    for each in made:
        if each.open:
            each.close()
    mariadb.drop_database(name)


def _rows(connection: Any, sql: str) -> list[Any]:
    with connection.cursor() as cursor:
        cursor.execute(sql)
        answers = [(cursor.fetchall(), cursor.description, cursor.rowcount)]
        while cursor.nextset():
            answers.append((cursor.fetchall(), cursor.description, cursor.rowcount))
    return answers


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT * FROM t ORDER BY id",
        "SELECT * FROM t WHERE false",
        "SELECT id FROM t; UPDATE t SET i = i + 1 WHERE id = 5; SELECT s, NOW() > '2000-01-01', NULL FROM t",
        "SELECT DATE '2020-02-03', TIME '10:11:12', TIMESTAMP '2020-02-03 04:05:06.789', 1.5, JSON_ARRAY(1)",
        "SELECT seq FROM seq_1_to_70000",
    ],
)
def test_rows_are_those_that_pymysql_reads(connections: tuple[Any, Any], sql: str) -> None:
    theirs, ours = (_rows(each, sql) for each in connections)
    assert ours == theirs
    assert [[tuple(map(type, row)) for row in rows] for rows, *_ in ours] == [
        [tuple(map(type, row)) for row in rows] for rows, *_ in theirs
    ]


def test_a_row_longer_than_a_packet_is_read_whole(connections: tuple[Any, Any]) -> None:
    own, quick = connections
    for each in connections:
        with each.cursor() as cursor:
            cursor.execute("SELECT @@max_allowed_packet")
            assert cursor.fetchone()[0] >= 2**24
    halves = "SELECT REPEAT('x', 9000000), REPEAT('y', 7777215), id FROM t ORDER BY id"
    assert _rows(quick, halves) == _rows(own, halves)
    # The last packet of the first row is empty: the row has just as many bytes as one packet takes.
    exact = "SELECT REPEAT('x', 16777215 - 4), id FROM t WHERE id < 3"
    assert _rows(quick, exact) == _rows(own, exact)


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT nothing FROM t",
        "SELECT id, (SELECT id FROM t AS b WHERE b.id >= t.id) FROM t ORDER BY id DESC",
        "SELECT 1; SELECT nothing",
    ],
)
def test_what_the_server_refuses_is_raised_and_the_connection_goes_on(
    connections: tuple[Any, Any], sql: str
) -> None:
    errors = []
    for each in connections:
        with pytest.raises(pymysql.Error) as caught:
            _rows(each, sql)
        errors.append((caught.type, caught.value.args))
        assert _rows(each, "SELECT 1")[0][0] == ((1,),)
    assert errors[0] == errors[1]


def test_a_connection_that_ends_amid_rows_is_lost(connections: tuple[Any, Any], mariadb: MariaDb) -> None:
    _, quick = connections
    thread = quick.thread_id()
    killer = threading.Timer(0.3, lambda: mariadb.sql(f"KILL {thread}"))
    killer.start()
    with pytest.raises(pymysql.OperationalError) as caught:
        _rows(quick, "SELECT seq, SLEEP(0.01) FROM seq_1_to_100000")
    killer.join()
    assert caught.value.args[0] in (1317, 1927, 2013)
