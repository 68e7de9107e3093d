"""MLMD's tables and indexes as each database declares them, word for word as ml-metadata 1.17.1 does.

ml-metadata opens what is made from here, and a catalog does not tell who made it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

DIALECTS: Final = ("sqlite", "mysql", "postgresql")

# A kind of column, and its words on SQLite, MySQL and MariaDB, and PostgreSQL.
_WORDS: Final[Mapping[str, tuple[str, str, str]]] = {
    "serial": (
        "INTEGER PRIMARY KEY AUTOINCREMENT",
        "INTEGER PRIMARY KEY AUTO_INCREMENT",
        "SERIAL PRIMARY KEY",
    ),
    "version": ("INTEGER PRIMARY KEY", "INTEGER PRIMARY KEY", "INT PRIMARY KEY"),
    "int": ("INT", "INT", "INT"),
    "null int": ("INT NULL", "INT NULL", "INT NULL"),
    "kind": ("TINYINT(1)", "TINYINT(1)", "SMALLINT"),
    "flag": ("TINYINT(1)", "TINYINT(1)", "BOOLEAN"),
    "bool": ("BOOLEAN", "BOOLEAN", "BOOLEAN"),
    "name": ("VARCHAR(255)", "VARCHAR(255)", "VARCHAR(255)"),
    "external id": ("VARCHAR(255) UNIQUE", "VARCHAR(255) UNIQUE", "VARCHAR(255) UNIQUE"),
    "text": ("TEXT", "TEXT", "TEXT"),
    "string": ("TEXT", "MEDIUMTEXT", "TEXT"),
    "bytes": ("BLOB", "MEDIUMBLOB", "BYTEA"),
    "double": ("DOUBLE", "DOUBLE", "DOUBLE PRECISION"),
    "ms": ("INT", "BIGINT", "BIGINT"),
    "time": ("INT NOT NULL DEFAULT 0", "BIGINT NOT NULL DEFAULT 0", "BIGINT NOT NULL DEFAULT 0"),
}

# Of schema 10, in the order in which ml-metadata makes them; `!` stands for NOT NULL.
_TIMES: Final = {"create_time_since_epoch": "time", "last_update_time_since_epoch": "time"}
_VALUES: Final = {
    "name": "name!",
    "is_custom_property": "flag!",
    "int_value": "int",
    "double_value": "double",
    "string_value": "string",
    "byte_value": "bytes",
    "proto_value": "bytes",
    "bool_value": "bool",
}
_TABLES: Final[Mapping[str, Mapping[str, str]]] = {
    "Type": {
        "id": "serial",
        "name": "name!",
        "version": "name",
        "type_kind": "kind!",
        "description": "text",
        "input_type": "text",
        "output_type": "text",
        "external_id": "external id",
    },
    "TypeProperty": {"type_id": "int!", "name": "name!", "data_type": "null int"},
    "ParentType": {"type_id": "int!", "parent_type_id": "int!"},
    "Artifact": {
        "id": "serial",
        "type_id": "int!",
        "uri": "text",
        "state": "int",
        "name": "name",
        "external_id": "external id",
        **_TIMES,
    },
    "ArtifactProperty": {"artifact_id": "int!", **_VALUES},
    "Execution": {
        "id": "serial",
        "type_id": "int!",
        "last_known_state": "int",
        "name": "name",
        "external_id": "external id",
        **_TIMES,
    },
    "ExecutionProperty": {"execution_id": "int!", **_VALUES},
    "Event": {
        "id": "serial",
        "artifact_id": "int!",
        "execution_id": "int!",
        "type": "int!",
        "milliseconds_since_epoch": "ms",
    },
    "EventPath": {"event_id": "int!", "is_index_step": "flag!", "step_index": "int", "step_key": "text"},
    "MLMDEnv": {"schema_version": "version"},
    "Context": {"id": "serial", "type_id": "int!", "name": "name!", "external_id": "external id", **_TIMES},
    "ContextProperty": {"context_id": "int!", **_VALUES},
    "ParentContext": {"context_id": "int!", "parent_context_id": "int!"},
    "Association": {"id": "serial", "context_id": "int!", "execution_id": "int!"},
    "Attribution": {"id": "serial", "context_id": "int!", "artifact_id": "int!"},
}
TABLES: Final = tuple(_TABLES)
"""In the order in which ml-metadata makes them."""

_PRIMARY_KEYS: Final[Mapping[str, tuple[str, ...]]] = {
    "TypeProperty": ("type_id", "name"),
    "ParentType": ("type_id", "parent_type_id"),
    "ArtifactProperty": ("artifact_id", "name", "is_custom_property"),
    "ExecutionProperty": ("execution_id", "name", "is_custom_property"),
    "ContextProperty": ("context_id", "name", "is_custom_property"),
    "ParentContext": ("context_id", "parent_context_id"),
}
# With the constraint's name, which SQLite is not told.
_UNIQUE: Final[Mapping[str, tuple[str, tuple[str, ...]]]] = {
    "Artifact": ("UniqueArtifactTypeName", ("type_id", "name")),
    "Execution": ("UniqueExecutionTypeName", ("type_id", "name")),
    "Context": ("", ("type_id", "name")),
    "Event": ("UniqueEvent", ("artifact_id", "execution_id", "type")),
    "Association": ("", ("context_id", "execution_id")),
    "Attribution": ("", ("context_id", "artifact_id")),
}

_PROPERTY: Final = ("name", "is_custom_property")
INDEXES: Final[Mapping[str, tuple[str, tuple[str, ...]]]] = {
    "idx_artifact_uri": ("Artifact", ("uri",)),
    "idx_artifact_create_time_since_epoch": ("Artifact", ("create_time_since_epoch",)),
    "idx_artifact_last_update_time_since_epoch": ("Artifact", ("last_update_time_since_epoch",)),
    "idx_event_execution_id": ("Event", ("execution_id",)),
    "idx_parentcontext_parent_context_id": ("ParentContext", ("parent_context_id",)),
    "idx_type_name": ("Type", ("name",)),
    "idx_execution_create_time_since_epoch": ("Execution", ("create_time_since_epoch",)),
    "idx_execution_last_update_time_since_epoch": ("Execution", ("last_update_time_since_epoch",)),
    "idx_context_create_time_since_epoch": ("Context", ("create_time_since_epoch",)),
    "idx_context_last_update_time_since_epoch": ("Context", ("last_update_time_since_epoch",)),
    "idx_eventpath_event_id": ("EventPath", ("event_id",)),
    **{
        f"idx_{node.lower()}_property_{kind}": (f"{node}Property", (*_PROPERTY, f"{kind}_value"))
        for node in ("Artifact", "Execution", "Context")
        for kind in ("int", "double", "string")
    },
    "idx_type_external_id": ("Type", ("external_id",)),
    "idx_artifact_external_id": ("Artifact", ("external_id",)),
    "idx_execution_external_id": ("Execution", ("external_id",)),
    "idx_context_external_id": ("Context", ("external_id",)),
}
"""MLMD's secondary indexes: table and columns, in the order in which ml-metadata makes them."""

_PREFIX: Final = 255
"""Of the texts that MySQL indexes: it takes no more of one."""
_LONG: Final = ("uri", "string_value")


def create_table(dialect: str, table: str, *, called: str | None = None) -> str:
    """Return the statement that makes a table; on MySQL with its indexes, for each statement commits there.

    Args:
        dialect: One of `DIALECTS`.
        table: One of `TABLES`.
        called: Another name for it.
    """
    parts = [f"{_quoted(dialect, name)} {column_words(dialect, table, name)}" for name in _TABLES[table]]
    parts.extend(_constraints(dialect, table))
    if dialect == "mysql":
        parts.extend(index_words(name) for name, (of, _) in INDEXES.items() if of == table)
    return f"CREATE TABLE IF NOT EXISTS {_quoted(dialect, called or table)} ( {', '.join(parts)} )"


def _constraints(dialect: str, table: str) -> Iterator[str]:
    if table in _PRIMARY_KEYS:
        yield f"PRIMARY KEY ({_list(dialect, _PRIMARY_KEYS[table])})"
    if table in _UNIQUE:
        name, columns = _UNIQUE[table]
        named = f"CONSTRAINT {name} " if name and dialect != "sqlite" else ""
        yield f"{named}UNIQUE({_list(dialect, columns)})"


def column_words(dialect: str, table: str, column: str) -> str:
    """Return how a column is declared: `VARCHAR(255) NOT NULL`, say."""
    kind = _TABLES[table][column]
    words = _WORDS[kind.rstrip("!")][DIALECTS.index(dialect)]
    return f"{words} NOT NULL" if kind.endswith("!") else words


def is_required(table: str, column: str) -> bool:
    """Tell whether a column is NOT NULL."""
    return _TABLES[table][column].endswith("!")


def create_index(dialect: str, name: str) -> str:
    """Return the statement that makes one of `INDEXES`; MySQL refuses it if there is one of that name."""
    table, columns = INDEXES[name]
    if dialect == "mysql":
        return f"ALTER TABLE `{table}` ADD {index_words(name)}"
    where = ""
    if dialect == "sqlite" and columns[-1].endswith("_value"):
        where = f" WHERE {_quoted(dialect, columns[-1])} IS NOT NULL"
    on = f"{_quoted(dialect, table)}({_list(dialect, columns)})"
    return f"CREATE INDEX IF NOT EXISTS {_quoted(dialect, name)} ON {on}{where}"


def index_words(name: str) -> str:
    """Return how MySQL is told one of `INDEXES` beside others, in a statement on its table."""
    columns = ", ".join(f"`{each}`({_PREFIX})" if each in _LONG else f"`{each}`" for each in INDEXES[name][1])
    return f"INDEX `{name}` ({columns})"


def _list(dialect: str, columns: tuple[str, ...]) -> str:
    return ", ".join(_quoted(dialect, each) for each in columns)


def _quoted(dialect: str, name: str) -> str:
    # ml-metadata quotes nothing on PostgreSQL, which then takes names in lower case.
    return name.lower() if dialect == "postgresql" else f"`{name}`"
