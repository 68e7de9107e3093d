"""What the columns of an open database hold, from how they are declared.

A value that does not fit is refused by its property's name before it is sent: MySQL says the name of a
column at most, and cuts and wraps values where it is told to be lenient.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Final

from zen_mlmd.service.check import Limits
from zen_mlmd.service.sql.schema import COLUMNS, NODES, Column, Schema

_PROPERTIES: Final = tuple(f"{node}Property" for node in NODES)
NAMES: Final = ("name", "version", "external_id")
"""Columns of names: short texts that are indexed."""

NAME_BYTES: Final = 500
"""Of a name in a column that `mend` made: with it InnoDB's indexes take just less than their 3072 bytes."""

_TEXTS: Final = ("uri", "step_key", "description")

# https://dev.mysql.com/doc/refman/9.0/en/storage-requirements.html
_MYSQL_BYTES: Final = {
    "tinytext": 2**8 - 1,
    "text": 2**16 - 1,
    "mediumtext": 2**24 - 1,
    "longtext": 2**32 - 1,
    "tinyblob": 2**8 - 1,
    "blob": 2**16 - 1,
    "mediumblob": 2**24 - 1,
    "longblob": 2**32 - 1,
}
_STATEMENT_BYTES: Final = 2**16
"""Of a statement, around one long value in it."""

_SQLITE_BYTES: Final = 10**9 - 2**16
"""SQLITE_MAX_LENGTH, of a whole row (https://www.sqlite.org/limits.html)."""

_POSTGRESQL_BYTES: Final = 2**30 - 2**16
"""Of a field (https://www.postgresql.org/docs/current/limits.html)."""

_INDEXED_BYTES: Final = 2600
"""Of a text in an index of PostgreSQL's, after compression; the page takes 2704 with all columns of it."""

REMEDY: Final = "`zen-mlmd doctor --fix` widens the column, and ml-metadata goes on working with it"


def limits_of(schema: Schema) -> Limits:
    """Return what an open database's columns hold, the narrowest of each kind."""
    return _LIMITS[schema.dialect](schema)


def _sqlite(_: Schema) -> Limits:
    return Limits(stored_bytes=_SQLITE_BYTES, signed_zero=False)


def _mysql(schema: Schema) -> Limits:
    collations = [each.collation for each in _declared(schema, ("name",))]
    limits = Limits(
        name_bytes=_least(map(_length, _declared(schema, NAMES))),
        uri_bytes=_least(map(_bytes, _declared(schema, _TEXTS))),
        string_bytes=schema.statement_bytes and schema.statement_bytes - _STATEMENT_BYTES,
        stored_bytes=_least(map(_bytes, _declared(schema, ("string_value", "proto_value"), _PROPERTIES))),
        encoded_twice=not all(_keeps_bytes(each) for each in collations),
        int_bits=_int_bits(schema),
        signed_zero=schema.signed_zero,
        ignores_case=any(folds_case(each) for each in collations),
        ignores_blanks=any(folds_blanks(each) for each in collations),
    )
    return replace(limits, remedy="" if limits.name_bytes == NAME_BYTES else REMEDY)


def _postgresql(schema: Schema) -> Limits:
    name_chars = _least(map(_length, _declared(schema, NAMES)))
    return Limits(
        name_chars=name_chars,
        uri_bytes=_POSTGRESQL_BYTES,
        stored_bytes=_POSTGRESQL_BYTES,
        int_bits=_int_bits(schema),
        remedy="" if name_chars is None else REMEDY,
    )


def _least(sizes: Iterable[int | None]) -> int | None:
    return min((each for each in sizes if each is not None), default=None)


_LIMITS: Final[dict[str, Callable[[Schema], Limits]]] = {
    "sqlite": _sqlite,
    "mysql": _mysql,
    "postgresql": _postgresql,
}


def narrowest(limits: Limits) -> Limits:
    """Return what surely fits, to find out which value a database refused: PostgreSQL compresses first."""
    return replace(
        limits,
        name_bytes=min(limits.name_bytes or _INDEXED_BYTES, _INDEXED_BYTES),
        uri_bytes=_INDEXED_BYTES,
        stored_bytes=_INDEXED_BYTES,
        remedy=REMEDY,
    )


def _declared(
    schema: Schema, columns: tuple[str, ...], tables: tuple[str, ...] | None = None
) -> Iterator[Column]:
    for table in tables or COLUMNS:
        found = schema.present.get(table, {})
        yield from (found[each] for each in columns if each in found)


def _length(column: Column) -> int | None:
    """Return the n of `varchar(n)`, or what MySQL's text takes; MySQL counts bytes of UTF-8 as characters."""
    found = re.fullmatch(r"(?:varchar|char|varbinary|character varying|character)\((\d+)\)", column.declared)
    return int(found[1]) if found else _bytes(column)


def _bytes(column: Column) -> int | None:
    return _MYSQL_BYTES.get(column.declared)


def _int_bits(schema: Schema) -> int:
    declared = _declared(schema, ("int_value",), _PROPERTIES)
    return 64 if all(each.declared.startswith("bigint") for each in declared) else 32


def _keeps_bytes(collation: str) -> bool:
    return collation in ("", "binary") or collation.startswith("latin1")


def folds_case(collation: str) -> bool:
    """Tell whether MySQL takes names that differ by case for one."""
    return "_ci" in collation


def folds_blanks(collation: str) -> bool:
    """Tell whether MySQL takes names that differ by blanks at their end for one."""
    # https://dev.mysql.com/doc/refman/9.0/en/charset-collation-pad-attribute.html, and MariaDB's _nopad_
    return bool(collation) and not re.search(r"_0900_|_nopad_|^binary$", collation)


def exact_collation(collation: str) -> str:
    """Return the collation of the same letters that tells case apart, and blanks as this one does."""
    charset = collation.partition("_")[0]
    if folds_blanks(collation):
        return f"{charset}_bin"
    return f"{charset}_0900_bin" if "_0900_" in collation else f"{charset}_nopad_bin"
