"""Finds what is narrow, missing or folded in a database of MLMD's, and mends it where it is asked to.

ml-metadata goes on working with what was mended: it asks for its tables and columns by name, and neither
for their types nor for their indexes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from zen_mlmd.service.finding import Finding
from zen_mlmd.service.sql import ddl, versions
from zen_mlmd.service.sql.create import making
from zen_mlmd.service.sql.learn import Index, indexes, look
from zen_mlmd.service.sql.limits import NAME_BYTES, NAMES, exact_collation, folds_case
from zen_mlmd.service.sql.schema import COLUMNS, Column, Schema

OFFERED: Final = {
    "idx_association_execution_id": ("Association", "execution_id"),
    "idx_attribution_artifact_id": ("Attribution", "artifact_id"),
}
"""Indexes that MLMD's schema lacks: without them the contexts of a node are found by reading all links."""

_NARROW: Final = "larger values are refused"
_FOLDS: Final = "names that differ by case are one to it"
_WITHOUT_TRANSACTIONS: Final = ("myisam", "aria", "memory", "csv", "archive")
_MYSQL_WIDER: Final = {"text": "LONGTEXT", "mediumtext": "LONGTEXT", "mediumblob": "LONGBLOB"}
_POSTGRESQL_LONG: Final = tuple(
    name for name, (_, columns) in ddl.INDEXES.items() if columns[-1] in ("uri", "string_value")
)


def examine(connection: Connection) -> list[Finding]:
    """Return what could be better, the worst first; nothing is changed.

    Reads catalogs only, however large the tables are.
    """
    found = look(connection)
    findings = versions.examine(found)
    if not findings:
        schema, there = found.schema(""), indexes(connection)
        findings = [*_COLUMNS[schema.dialect](connection, schema, there), *_missing(schema, there)]
    connection.rollback()
    return findings


def mend(connection: Connection, location: str, progress: Callable[[Finding], object] | None = None) -> int:
    """Mend what `examine` finds and has statements for; return how many findings that were.

    On SQLite and PostgreSQL it is one transaction; on MySQL each statement commits by itself, and a call
    that was cut short is gone on with by another. Writers wait while a table is made anew. What is found
    once a schema's version is mended is left to another call.

    Args:
        connection: Outside a transaction; it is left so.
        location: What messages call the database.
        progress: Told each finding before it is mended.

    Raises:
        ContentionError: Another process is at it.
    """
    findings = [each for each in examine(connection) if each.statements]
    if not findings:
        return 0
    with making(connection, location):
        for finding in findings:
            if progress is not None:
                progress(finding)
            for statement in finding.statements:
                connection.exec_driver_sql(statement)
        connection.commit()
    return len(findings)


def _missing(schema: Schema, there: Sequence[Index]) -> Iterator[Finding]:
    names = {each.name for each in there}
    for name, (table, columns) in ddl.INDEXES.items():
        if name not in names:
            yield Finding(
                "index-missing",
                f"MLMD's own index {name} is missing",
                f"it is made, on {table}({', '.join(columns)})",
                subject=table,
                statements=(ddl.create_index(schema.dialect, name),),
            )
    for name, (table, column) in OFFERED.items():
        if not any(each.table == table.lower() and each.columns[:1] == (column,) for each in there):
            yield Finding(
                "index-offered",
                f"no index on {column}: the contexts of a node are found by reading the whole table",
                f"{name} is made, which MLMD's own schema lacks",
                subject=table,
                statements=(_plain_index(schema.dialect, name, table, column),),
            )


def _plain_index(dialect: str, name: str, table: str, column: str, using: str = "") -> str:
    quoted = table.lower() if dialect == "postgresql" else f"`{table}`"
    return f"CREATE INDEX {name} ON {quoted}{using} ({column})"


# -- MySQL and MariaDB -----------------------------------------------------------------------------


def _mysql(connection: Connection, schema: Schema, _: Sequence[Index]) -> Iterator[Finding]:
    facts = sa.text(
        "SELECT lower(table_name) AS t, lower(engine) AS e, lower(row_format) AS f"
        " FROM information_schema.tables WHERE table_schema = database()"
    )
    kept = {table: (engine, row_format) for table, engine, row_format in connection.execute(facts)}
    for table in COLUMNS:
        engine, row_format = kept.get(table.lower(), ("innodb", ""))
        if engine in _WITHOUT_TRANSACTIONS:
            yield Finding(
                "engine",
                f"{engine} keeps it: a write that fails in the middle stays half done",
                "it is given to InnoDB",
                subject=table,
                statements=(f"ALTER TABLE `{table}` ENGINE = InnoDB",),
            )
        # Elsewhere InnoDB indexes 767 bytes of a text.
        long_names = row_format in ("dynamic", "compressed")
        changes = [
            each
            for name, column in schema.present[table].items()
            if (each := _mysql_change(table, name, column, long_names=long_names))
        ]
        if changes:
            parts = ", ".join(f"MODIFY COLUMN {words}" for words, _, _ in changes)
            whys = list(dict.fromkeys(each for _, why, _ in changes for each in why))
            yield Finding(
                "names-fold" if _FOLDS in whys else "narrow-column",
                "; ".join(whys),
                ", ".join(to for _, _, to in changes),
                subject=table,
                statements=(f"ALTER TABLE `{table}` {parts}",),
            )


def _mysql_change(
    table: str, name: str, column: Column, *, long_names: bool
) -> tuple[str, tuple[str, ...], str] | None:
    """Return how a column is declared better, why, and from what to what; None if it is well."""
    if name not in COLUMNS[table]:
        return None
    words = _mysql_wider(name, column, long_names=long_names)
    folds = name in NAMES and folds_case(column.collation)
    if not words and not folds:
        return None
    why = (_NARROW,) * bool(words) + (_FOLDS,) * folds
    words = words or column.declared.upper()
    collation = exact_collation(column.collation) if folds else column.collation
    declared = " ".join(
        (
            *(f"`{name}`", words),
            *(("COLLATE", collation) if collation else ()),
            "NOT NULL" if ddl.is_required(table, name) else "NULL",
        )
    )
    return declared, why, f"{name} {column.declared} -> {words}{f' {collation}' if folds else ''}"


def _mysql_wider(name: str, column: Column, *, long_names: bool) -> str:
    if name == "int_value" and column.declared.startswith("int"):
        return "BIGINT"
    if name in NAMES and long_names and column.declared == "varchar(255)":
        return f"VARCHAR({NAME_BYTES})"
    return _MYSQL_WIDER.get(column.declared, "")


# -- PostgreSQL ------------------------------------------------------------------------------------


def _postgresql(_: Connection, schema: Schema, there: Sequence[Index]) -> Iterator[Finding]:
    for table in COLUMNS:
        wider = {}
        for name, column in schema.present[table].items():
            if name == "int_value" and column.declared == "integer":
                wider[name] = "BIGINT"
            elif name in NAMES and column.declared.startswith("character varying"):
                wider[name] = "TEXT"
        if wider:
            parts = ", ".join(f"ALTER COLUMN {name} TYPE {words}" for name, words in wider.items())
            declared = schema.present[table]
            yield Finding(
                "narrow-column",
                _NARROW,
                ", ".join(f"{name} {declared[name].declared} -> {words}" for name, words in wider.items()),
                subject=table,
                statements=(f"ALTER TABLE {table.lower()} {parts}",),
            )
    for index in there:
        if index.name in _POSTGRESQL_LONG and index.method == "btree":
            table, columns = ddl.INDEXES[index.name]
            yield Finding(
                "index-whole-text",
                f"{index.name} indexes whole texts: those of more than 2600 bytes, compressed, are refused",
                "it is made anew as a hash, which finds texts of any length",
                subject=table,
                statements=(
                    f"DROP INDEX {index.name}",
                    _plain_index("postgresql", index.name, table, columns[-1], " USING hash"),
                ),
            )


def _nothing(_: Connection, __: Schema, ___: Sequence[Index]) -> Iterator[Finding]:
    """Say nothing of SQLite's columns, which hold whatever comes."""
    yield from ()


_COLUMNS: Final[Mapping[str, Callable[[Connection, Schema, Sequence[Index]], Iterator[Finding]]]] = {
    "sqlite": _nothing,
    "mysql": _mysql,
    "postgresql": _postgresql,
}
