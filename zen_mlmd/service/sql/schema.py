"""MLMD's relational schema, as SQLAlchemy Core sees it.

Tables, columns and their meaning are MLMD's own (`metadata_source_query_config.cc`, schema 10 of
ml-metadata 1.14 to 1.21). A database of an older schema has fewer of them; what it lacks is read as
NULL, or as an empty table, so that the calls above need not know.
"""

from __future__ import annotations

import base64
import enum
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

import sqlalchemy as sa

_T = TypeVar("_T")

SCHEMA_VERSION: Final = 10
"""Of ml-metadata 1.14 to 1.21."""


class TypeKind(enum.IntEnum):
    """`type_kind` of a row of `Type` (`ml_metadata/metadata_store/types.h`)."""

    EXECUTION = 0
    ARTIFACT = 1
    CONTEXT = 2


_NODE = ("external_id", "create_time_since_epoch", "last_update_time_since_epoch")
_VALUES = ("int_value", "double_value", "string_value", "byte_value", "proto_value", "bool_value")

COLUMNS: Final[Mapping[str, tuple[str, ...]]] = {
    "Type": (
        *("id", "name", "version", "type_kind", "description", "input_type", "output_type"),
        "external_id",
    ),
    "ParentType": ("type_id", "parent_type_id"),
    "TypeProperty": ("type_id", "name", "data_type"),
    "Artifact": ("id", "type_id", "uri", "state", "name", *_NODE),
    "ArtifactProperty": ("artifact_id", "name", "is_custom_property", *_VALUES),
    "Execution": ("id", "type_id", "last_known_state", "name", *_NODE),
    "ExecutionProperty": ("execution_id", "name", "is_custom_property", *_VALUES),
    "Context": ("id", "type_id", "name", *_NODE),
    "ContextProperty": ("context_id", "name", "is_custom_property", *_VALUES),
    "ParentContext": ("context_id", "parent_context_id"),
    "Event": ("id", "artifact_id", "execution_id", "type", "milliseconds_since_epoch"),
    "EventPath": ("event_id", "is_index_step", "step_index", "step_key"),
    "Association": ("id", "context_id", "execution_id"),
    "Attribution": ("id", "context_id", "artifact_id"),
    "MLMDEnv": ("schema_version",),
}
"""Of schema 10, in MLMD's order."""


class _Message(sa.LargeBinary):
    """A serialized message, read as base64: so ml-metadata writes it, but as it is on PostgreSQL."""

    def result_processor(self, dialect: Any, coltype: object) -> Callable[[Any], Any] | None:  # noqa: ARG002
        return {"postgresql": _to_base64, "mysql": _to_text}.get(dialect.name)


def _to_base64(stored: bytes | None) -> str | None:
    return None if stored is None else base64.b64encode(stored).decode("ascii")


def _to_text(stored: bytes | None) -> str | None:
    return None if stored is None else stored.decode("ascii", "replace")


_SQL_TYPES: Final[Mapping[str, sa.types.TypeEngine[Any]]] = {
    "double_value": sa.Double(),
    "byte_value": sa.LargeBinary(),
    "proto_value": _Message(),
    **dict.fromkeys(
        ("name", "version", "description", "input_type", "output_type", "external_id", "uri"), sa.Text()
    ),
    **dict.fromkeys(("string_value", "step_key"), sa.Text()),
    **dict.fromkeys(("is_custom_property", "is_index_step", "bool_value"), sa.Boolean()),
}


OLDEST_VERSION: Final = 6
"""That is read: with versions of types, and parents of types and contexts."""

_SINCE: Final[Mapping[str, int]] = {"byte_value": 7, "external_id": 9, "proto_value": 10, "bool_value": 10}


def columns_of(version: int) -> dict[str, tuple[str, ...]]:
    """Return the columns of each table that a schema of version 6 to 10 has."""
    return {
        table: tuple(each for each in columns if _SINCE.get(each, 0) <= version)
        for table, columns in COLUMNS.items()
    }


@dataclass(frozen=True, slots=True)
class Column:
    """How a database declares a column; empty as far as nobody asked it.

    Attributes:
        declared: Its type, in lower case: `int(11)`, `character varying(255)`, say.
        collation: By which MySQL compares it.
    """

    declared: str = ""
    collation: str = ""


@dataclass(frozen=True)
class Schema:
    """The tables of one open database.

    Attributes:
        dialect: SQLAlchemy's name of it: sqlite, mysql or postgresql (MariaDB is mysql).
        version: Of MLMD's schema, 6 to 10.
        present: The columns that the database has, by MLMD's name of the table.
        statement_bytes: Of the longest statement that the server takes; None if there is no such limit.
        signed_zero: Whether the database tells -0.0 from 0.0.
    """

    dialect: str
    version: int = SCHEMA_VERSION
    present: Mapping[str, Mapping[str, Column]] = field(
        default_factory=lambda: {name: dict.fromkeys(columns, Column()) for name, columns in COLUMNS.items()}
    )
    statement_bytes: int | None = None
    signed_zero: bool = True

    def __post_init__(self) -> None:
        metadata = sa.MetaData()
        tables = {name: self._table(name, metadata) for name in COLUMNS}
        object.__setattr__(self, "_tables", tables)
        object.__setattr__(self, "_made", {})

    def _table(self, name: str, metadata: sa.MetaData) -> sa.Table:
        # PostgreSQL has them in lower case, for ml-metadata does not quote them.
        called = name.lower() if self.dialect == "postgresql" else name
        columns = (
            sa.Column(each, _SQL_TYPES.get(each, sa.BigInteger()), primary_key=each == "id")
            for each in COLUMNS[name]
        )
        return sa.Table(called, metadata, *columns)

    def table(self, name: str) -> sa.Table:
        """Return a table of `COLUMNS`, with all columns of schema 10."""
        return self._tables[name]  # type: ignore[attr-defined,no-any-return]

    def has(self, table: str, column: str | None = None) -> bool:
        """Tell whether the database has a table, or a column of it."""
        columns = self.present.get(table, {})
        return column in columns if column else bool(columns)

    def columns(self, table: str, names: Iterable[str] | None = None) -> list[sa.ColumnElement[Any]]:
        """Return a table's columns to select, NULL under its name for one that the database lacks."""
        of = self.table(table)
        null = sa.cast if self.dialect == "postgresql" else sa.type_coerce
        return [
            of.c[each] if self.has(table, each) else null(sa.null(), of.c[each].type).label(each)
            for each in names or COLUMNS[table]
        ]

    def made(self, make: Callable[..., _T], *arguments: str) -> _T:
        """Return `make(schema, *arguments)`, made once: a statement costs more to build than to run."""
        key = (make, *arguments)
        found = self._made.get(key)  # type: ignore[attr-defined]
        if found is None:
            found = self._made[key] = make(self, *arguments)  # type: ignore[attr-defined]
        return found  # type: ignore[no-any-return]


NODES: Final = ("Artifact", "Execution", "Context")


def id_column(node: str) -> str:
    """Return what other tables call the id of a node: `artifact_id` for Artifact."""
    return f"{node.lower()}_id"
