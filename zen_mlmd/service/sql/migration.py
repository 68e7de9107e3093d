"""The statements that bring MLMD's schema one version further, on each database.

Each is left out, or does nothing, where a table shows that it was done.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Final

from sqlalchemy.engine import Connection

from zen_mlmd.service.sql import ddl
from zen_mlmd.service.sql.learn import index_names, look
from zen_mlmd.service.sql.schema import NODES, Column

_PROPERTIES: Final = tuple(f"{node}Property" for node in NODES)
EVENT_KEY: Final = ("artifact_id", "execution_id", "type")
_OLD_EVENT_INDEX: Final = "idx_event_artifact_id"

# What each version added: columns by table, and indexes.
_COLUMNS: Final[Mapping[int, Mapping[str, tuple[str, ...]]]] = {
    7: dict.fromkeys(_PROPERTIES, ("byte_value",)),
    8: {},
    9: dict.fromkeys(("Type", *NODES), ("external_id",)),
    10: dict.fromkeys(_PROPERTIES, ("proto_value", "bool_value")),
}
_INDEXES: Final[Mapping[int, tuple[str, ...]]] = {
    7: ("idx_eventpath_event_id",),
    8: tuple(name for name in ddl.INDEXES if "_property_" in name),
    9: tuple(name for name in ddl.INDEXES if name.endswith("_external_id")),
    10: (),
}

EVENTS_VERSION: Final = 8
"""The one that made events unique: of an artifact, an execution and a type the newest is kept."""
_BYTES_VERSION: Final = 7
_EXTERNAL_IDS_VERSION: Final = 9


def statements(connection: Connection, version: int) -> Iterator[str]:
    """Yield what brings the schema from the version before to this one; each is to be run before the next."""
    yield from _STATEMENTS[connection.dialect.name](connection, version)


# -- SQLite: tables are made anew, for a constraint cannot be added ----------------------------------


def _sqlite(connection: Connection, version: int) -> Iterator[str]:
    if version == EVENTS_VERSION:
        yield from (ddl.create_index("sqlite", name) for name in _INDEXES[version])
        yield from _copied("Event", ("id", *EVENT_KEY, "milliseconds_since_epoch"), "ORDER BY `id` DESC")
        yield ddl.create_index("sqlite", "idx_event_execution_id")
        yield "DELETE FROM `EventPath` WHERE `event_id` NOT IN (SELECT `id` FROM `Event`)"
    elif version == _EXTERNAL_IDS_VERSION:
        present = look(connection).present
        for table in _COLUMNS[version]:
            yield from _copied(table, tuple(present[table]))
        for name, (table, _) in ddl.INDEXES.items():
            if table in _COLUMNS[version]:
                yield ddl.create_index("sqlite", name)
    else:
        for table, columns in _COLUMNS[version].items():
            for column in columns:
                words = ddl.column_words("sqlite", table, column)
                yield f"ALTER TABLE `{table}` ADD COLUMN `{column}` {words}"
        yield from (ddl.create_index("sqlite", name) for name in _INDEXES[version])


def _copied(table: str, columns: tuple[str, ...], order: str = "") -> Iterator[str]:
    """Yield what makes a table anew with the constraints of schema 10; of rows of one key the first stays."""
    names = ", ".join(f"`{each}`" for each in columns)
    copy = f"{table}Temp"
    yield f"DROP TABLE IF EXISTS `{copy}`"
    yield ddl.create_table("sqlite", table, called=copy)
    ignoring = "OR IGNORE " if order else ""
    yield f"INSERT {ignoring}INTO `{copy}` ({names}) SELECT {names} FROM `{table}` {order}"  # noqa: S608
    yield f"DROP TABLE `{table}`"
    yield f"ALTER TABLE `{copy}` RENAME TO `{table}`"


# -- MySQL and MariaDB -----------------------------------------------------------------------------


def _mysql(connection: Connection, version: int) -> Iterator[str]:
    if version == EVENTS_VERSION:
        yield from _mysql_events(connection)
    present, indexes = look(connection).present, index_names(connection)
    changes: dict[str, list[str]] = {}
    for table, words in (*_mysql_columns(version, present), *_mysql_indexes(version, indexes)):
        changes.setdefault(table, []).append(words)
    for table, parts in changes.items():
        yield f"ALTER TABLE `{table}` {', '.join(parts)}"


def _mysql_columns(version: int, present: Mapping[str, Mapping[str, Column]]) -> Iterator[tuple[str, str]]:
    for table, columns in _COLUMNS[version].items():
        if version == _BYTES_VERSION and present[table]["string_value"].declared == "text":
            yield table, f"MODIFY COLUMN `string_value` {ddl.column_words('mysql', table, 'string_value')}"
        for column in columns:
            if column not in present[table]:
                words = ddl.column_words("mysql", table, column)
                yield table, f"ADD COLUMN `{column}` {words.removesuffix(' UNIQUE')}"
                if words.endswith(" UNIQUE"):
                    yield table, f"ADD CONSTRAINT Unique{table}ExternalId UNIQUE (`{column}`)"


def _mysql_indexes(version: int, there: set[str]) -> Iterator[tuple[str, str]]:
    for name in _INDEXES[version]:
        if name not in there:
            yield ddl.INDEXES[name][0], f"ADD {ddl.index_words(name)}"


def _mysql_events(connection: Connection) -> Iterator[str]:
    if "Event" not in look(connection).present:
        # ml-metadata was cut short, once the copy of all events that are kept was whole.
        yield "ALTER TABLE `EventTemp` RENAME TO `Event`"
    yield "DROP TABLE IF EXISTS `EventTemp`"
    same = " AND ".join(f"newer.`{each}` = older.`{each}`" for each in EVENT_KEY)
    yield f"DELETE older FROM `Event` AS older JOIN `Event` AS newer ON {same} AND newer.`id` > older.`id`"
    yield "DELETE FROM `EventPath` WHERE `event_id` NOT IN (SELECT `id` FROM `Event`)"
    indexes = index_names(connection)
    words: list[str] = []
    if "UniqueEvent" not in indexes:
        words.append(f"ADD CONSTRAINT UniqueEvent UNIQUE ({', '.join(EVENT_KEY)})")
    if _OLD_EVENT_INDEX in indexes:
        words.append(f"DROP INDEX `{_OLD_EVENT_INDEX}`")
    if "idx_event_execution_id" not in indexes:
        words.append(f"ADD {ddl.index_words('idx_event_execution_id')}")
    if words:
        yield f"ALTER TABLE `Event` {', '.join(words)}"


# -- PostgreSQL ------------------------------------------------------------------------------------


def _postgresql(connection: Connection, version: int) -> Iterator[str]:
    if version == EVENTS_VERSION:
        same = " AND ".join(f"newer.{each} = older.{each}" for each in EVENT_KEY)
        older = f"{same} AND newer.id > older.id"
        yield f"DELETE FROM event AS older USING event AS newer WHERE {older}"  # noqa: S608
        yield "DELETE FROM eventpath WHERE event_id NOT IN (SELECT id FROM event)"
        if "uniqueevent" not in index_names(connection):
            yield f"ALTER TABLE event ADD CONSTRAINT uniqueevent UNIQUE ({', '.join(EVENT_KEY)})"
        yield f"DROP INDEX IF EXISTS {_OLD_EVENT_INDEX}"
        yield ddl.create_index("postgresql", "idx_event_execution_id")
    for table, columns in _COLUMNS[version].items():
        for column in columns:
            words = ddl.column_words("postgresql", table, column)
            yield f"ALTER TABLE {table.lower()} ADD COLUMN IF NOT EXISTS {column} {words}"
    yield from (ddl.create_index("postgresql", name) for name in _INDEXES[version])


_STATEMENTS: Final[Mapping[str, Callable[[Connection, int], Iterator[str]]]] = {
    "sqlite": _sqlite,
    "mysql": _mysql,
    "postgresql": _postgresql,
}
