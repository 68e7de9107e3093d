"""How a database server does: its distance, its clock, its limits, what it lets this account do."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from zen_mlmd.service.finding import Finding, Thresholds, slow
from zen_mlmd.service.sql.schema import Schema

_ROUNDS: Final = 5
_MOST_IDS: Final = 2**31 - 1
_WITH_IDS: Final = ("Type", "Artifact", "Execution", "Context", "Event", "Association", "Attribution")

_MYSQL_SETTINGS: Final = (
    "SHOW GLOBAL VARIABLES WHERE Variable_name IN ('max_allowed_packet', 'transaction_isolation',"
    " 'tx_isolation', 'sql_mode', 'read_only', 'super_read_only', 'max_connections')"
)
_POSTGRESQL_SETTINGS: Final = (
    "SELECT name, setting FROM pg_catalog.pg_settings WHERE name IN ('server_encoding', 'max_connections')"
    " UNION ALL SELECT 'recovery', pg_catalog.pg_is_in_recovery()::text"
    " UNION ALL SELECT 'connections', count(*)::text FROM pg_catalog.pg_stat_activity"
    " WHERE backend_type = 'client backend'"
)


def examine(connection: Connection, schema: Schema, thresholds: Thresholds) -> list[Finding]:
    """Return what is found of the server; nothing of SQLite, which has none."""
    measure = _MEASURES.get(schema.dialect)
    if measure is None:
        return []
    return [
        *_distance(connection, thresholds),
        *measure(connection, thresholds),
        *_ids(connection, schema, thresholds),
    ]


def _distance(connection: Connection, thresholds: Thresholds) -> Iterator[Finding]:
    clock = "SELECT unix_timestamp(now(6))"
    if connection.dialect.name == "postgresql":
        clock = "SELECT extract(epoch FROM clock_timestamp())"
    found = []
    for _ in range(_ROUNDS):
        wall, began = time.time(), time.perf_counter()
        there = float(connection.exec_driver_sql(clock).scalar_one())
        took = time.perf_counter() - began
        found.append((took, there - wall - took / 2))
    # What takes longer than the quickest is this machine's load, or the server's.
    quickest, skew = min(found)
    yield from slow(quickest * 1000, thresholds)
    if abs(skew) > thresholds.skew_s:
        yield Finding(
            "clock-skew",
            f"the server's clock is {abs(skew):.1f} s {'ahead of' if skew > 0 else 'behind'} this one:"
            " times that several machines recorded are in no order",
            "let both be set by NTP",
        )


def _mysql(connection: Connection, thresholds: Thresholds) -> Iterator[Finding]:
    settings = {str(name): str(value) for name, value in connection.exec_driver_sql(_MYSQL_SETTINGS)}
    packet = int(settings["max_allowed_packet"])
    if packet < thresholds.packet_bytes:
        yield Finding(
            "packet-small",
            f"the server takes no statement of more than {packet:,} bytes: longer texts are refused",
            f"in the server's configuration: max_allowed_packet = {thresholds.packet_bytes}",
        )
    isolation = settings.get("transaction_isolation") or settings.get("tx_isolation", "")
    if isolation.upper() == "READ-UNCOMMITTED":
        yield Finding(
            "isolation",
            f"new connections are {isolation}: ml-metadata reads what another may yet take back",
            "SET GLOBAL TRANSACTION ISOLATION LEVEL REPEATABLE READ, and in the server's configuration",
        )
    if "STRICT_" not in settings["sql_mode"]:
        yield Finding(
            "sql-mode",
            "its sql_mode is lenient: ml-metadata's own client stores what does not fit cut off, unasked",
            "in the server's configuration: sql_mode with STRICT_TRANS_TABLES",
        )
    if "ON" in (settings["read_only"].upper(), settings.get("super_read_only", "").upper()):
        yield _read_only("its setting read_only is on: a replica?")
    ((_, used),) = connection.exec_driver_sql("SHOW GLOBAL STATUS LIKE 'Threads_connected'")
    yield from _connections(int(used), int(settings["max_connections"]), thresholds)


def _postgresql(connection: Connection, thresholds: Thresholds) -> Iterator[Finding]:
    settings = {str(name): str(value) for name, value in connection.exec_driver_sql(_POSTGRESQL_SETTINGS)}
    if settings["server_encoding"] != "UTF8":
        yield Finding(
            "encoding",
            f"its encoding is {settings['server_encoding']}: texts with other letters are refused",
            "dump it, and restore it into a database made with ENCODING 'UTF8' TEMPLATE template0",
        )
    if settings["recovery"] == "true":
        yield _read_only("it is a standby")
    yield from _connections(int(settings["connections"]), int(settings["max_connections"]), thresholds)


_MEASURES: Final[Mapping[str, Callable[[Connection, Thresholds], Iterator[Finding]]]] = {
    "mysql": _mysql,
    "postgresql": _postgresql,
}


def _read_only(why: str) -> Finding:
    return Finding(
        "server-read-only", f"the server takes no writes: {why}", "name the primary server, or only read"
    )


def _connections(used: int, most: int, thresholds: Thresholds) -> Iterator[Finding]:
    if used > most * thresholds.connections:
        yield Finding(
            "connections-full",
            f"{used} of the server's {most} connections are in use: soon nobody gets in any more",
            "end idle clients, or raise max_connections",
        )


def _ids(connection: Connection, schema: Schema, thresholds: Thresholds) -> Iterator[Finding]:
    for name in _WITH_IDS:
        if schema.present[name]["id"].declared.startswith("bigint"):
            continue
        last: Any = connection.scalar(sa.select(sa.func.max(schema.table(name).c.id)))
        if last is not None and last > _MOST_IDS * thresholds.ids:
            yield Finding(
                "ids-running-out",
                f"its newest id is {last:,}, and {_MOST_IDS:,} is the last that its column holds",
                "make the id, and all columns that refer to it, BIGINT; or begin a new database",
                subject=name,
            )
