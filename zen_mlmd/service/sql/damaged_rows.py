"""Values that SQLite keeps where others are to be: it takes a text in a number's column, and gives it so.

Some of them end the process that asks ml-metadata 1.17.1 for their rows: they are looked for by SQL.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from zen_mlmd.service.finding import Finding
from zen_mlmd.service.sql.schema import COLUMNS, Schema
from zen_mlmd.service.sql.values import VALUE_COLUMNS

# https://www.sqlite.org/datatype3.html; what bytes are stored as differs between writers.
_KEPT: Final[tuple[tuple[type, tuple[str, ...]], ...]] = (
    (sa.Text, ("text", "null")),
    (sa.Double, ("real", "integer", "null")),
    (sa.Boolean, ("integer", "null")),
    (sa.Integer, ("integer", "null")),
)


def examine(connection: Connection, schema: Schema) -> Iterator[Finding]:
    """Yield what is found in each table; all columns of each row are looked at, and only on SQLite."""
    if schema.dialect != "sqlite":
        return
    for name in COLUMNS:
        if schema.has(name):
            wrong = dict(_wrong(schema, name))
            sums = (sa.func.coalesce(sa.func.sum(each), 0) for each in wrong.values())
            counts = connection.execute(sa.select(*sums)).one()
            found = {words: int(count) for words, count in zip(wrong, counts, strict=True) if count}
            if found:
                yield Finding(
                    "row-damaged",
                    "values that their columns are not for:"
                    f" {', '.join(f'{words} in {count:,} rows' for words, count in found.items())}",
                    "set them right from a backup; the rest of those rows is read, and `zen-mlmd warnings`"
                    " lists them",
                    subject=name,
                )


def _wrong(schema: Schema, name: str) -> Iterator[tuple[str, sa.ColumnElement[bool]]]:
    """Yield what a row of a table may not be like, in words, and the condition."""
    columns = {each.name: each for each in schema.table(name).columns if schema.has(name, each.name)}
    for column in columns.values():
        kinds = _kinds(column)
        if kinds:
            yield column.name, sa.func.typeof(column).not_in(kinds)
    for flag in ("is_custom_property", "is_index_step"):
        if flag in columns:
            number = sa.type_coerce(columns[flag], sa.Integer)
            yield f"{flag} that is neither 0 nor 1", sa.and_(_is_integer(number), number.not_in((0, 1)))
    for state in _STATES & columns.keys():
        too_large = ~columns[state].between(-_INT32, _INT32 - 1)
        yield f"{state} of more than 32 bits", sa.and_(_is_integer(columns[state]), too_large)
    if "step_index" in columns:
        is_index = sa.type_coerce(columns["is_index_step"], sa.Integer) == 1
        yield "a step of a list without its index", sa.and_(is_index, columns["step_index"].is_(None))
    values = [columns[each] for each in VALUE_COLUMNS if each in columns]
    if values:
        yield "a property without a value", sa.and_(*(each.is_(None) for each in values))


def _is_integer(column: sa.ColumnElement[Any]) -> sa.ColumnElement[bool]:
    return sa.func.typeof(column) == "integer"


_INT32: Final = 2**31
_STATES: Final = frozenset(("state", "last_known_state", "type", "type_kind"))


def _kinds(column: sa.Column[object]) -> tuple[str, ...]:
    return next((kinds for kind, kinds in _KEPT if isinstance(column.type, kind)), ())
