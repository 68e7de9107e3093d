"""Values that SQLite keeps where others are to be: it takes a text in a number's column, and gives it so."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from zen_mlmd.service.finding import Finding
from zen_mlmd.service.sql.schema import COLUMNS, Schema

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
            wrong = {
                column.name: sa.func.coalesce(sa.func.sum(sa.func.typeof(column).not_in(kinds)), 0)
                for column in schema.table(name).columns
                if schema.has(name, column.name) and (kinds := _kinds(column))
            }
            counts = connection.execute(sa.select(*wrong.values())).one()
            found = {column: int(count) for column, count in zip(wrong, counts, strict=True) if count}
            if found:
                yield Finding(
                    "row-damaged",
                    "values of another kind than their column is for:"
                    f" {', '.join(f'{column} in {count:,} rows' for column, count in found.items())}",
                    "set them right from a backup; the rest of those rows is read, and `zen-mlmd warnings`"
                    " lists them",
                    subject=name,
                )


def _kinds(column: sa.Column[object]) -> tuple[str, ...]:
    return next((kinds for kind, kinds in _KEPT if isinstance(column.type, kind)), ())
