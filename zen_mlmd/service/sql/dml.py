"""Texts of statements that write many rows at once, and of those that are run for nearly each write.

All names in them are MLMD's own, of `COLUMNS`; all values are bound. SQLAlchemy would build each anew
for another number of rows, at a higher price than SQLite takes for running it.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterable, Sequence
from typing import Any, Final

PARENT: Final = "%s * @@auto_increment_increment + LAST_INSERT_ID()"
"""In MySQL: the id of a row, counted from 0, of the INSERT before."""


def _mark(dialect: str) -> str:
    return "?" if dialect == "sqlite" else "%s"


def _name(dialect: str, name: str) -> str:
    # PostgreSQL has tables in lower case, for ml-metadata does not quote them.
    if dialect == "mysql":
        return f"`{name}`"
    return f'"{name.lower() if dialect == "postgresql" else name}"'


def _list(dialect: str, names: Iterable[str]) -> str:
    return ", ".join(_name(dialect, each) for each in names)


def insert(
    dialect: str,
    table: str,
    columns: tuple[str, ...],
    rows: Sequence[tuple[Any, ...]],
    *,
    skip_known: bool = False,
    of_parent: bool = False,
) -> tuple[str, Sequence[Any]]:
    """Return an INSERT of several rows, and the values that are bound in it.

    Args:
        dialect: sqlite, mysql or postgresql.
        table: Its name.
        columns: What is given of each row.
        rows: One or more.
        skip_known: Leave out those whose key is there already.
        of_parent: The first column is `PARENT`.
    """
    if dialect == "mysql":
        # Its client puts each value into the text, which takes longer than all else; most of a property's
        # are NULL.
        nulls = (tuple(value is None for value in row) for row in rows)
        marks = ", ".join(_marks(each, of_parent=of_parent) for each in nulls)
        values: Sequence[Any] = [value for row in rows for value in row if value is not None]
    else:
        marks = _all_marks(dialect, len(columns), len(rows))
        values = tuple(itertools.chain.from_iterable(rows))
    sql = f"{_insert(dialect, table, columns)}{marks}"
    if not skip_known:
        return sql, values
    if dialect == "mysql":  # INSERT IGNORE would pass over other errors, too
        first = _name(dialect, columns[0])
        return f"{sql} ON DUPLICATE KEY UPDATE {first} = {first}", values
    return f"{sql} ON CONFLICT DO NOTHING", values


@functools.lru_cache(maxsize=512)
def _insert(dialect: str, table: str, columns: tuple[str, ...]) -> str:
    return f"INSERT INTO {_name(dialect, table)} ({_list(dialect, columns)}) VALUES "  # noqa: S608


@functools.lru_cache(maxsize=512)
def _marks(nulls: tuple[bool, ...], *, of_parent: bool) -> str:
    marks = ["NULL" if is_null else "%s" for is_null in nulls]
    if of_parent:
        marks[0] = PARENT
    return f"({', '.join(marks)})"


@functools.lru_cache(maxsize=512)
def _all_marks(dialect: str, columns: int, rows: int) -> str:
    return ", ".join([f"({', '.join([_mark(dialect)] * columns)})"] * rows)


_LOCKS: Final = {
    ("mysql", "write"): " FOR UPDATE",
    ("mysql", "read"): " LOCK IN SHARE MODE",
    ("postgresql", "write"): " FOR NO KEY UPDATE",
}


@functools.lru_cache(maxsize=512)
def select(
    dialect: str, table: str, columns: tuple[str, ...], where: tuple[tuple[str, int], ...], lock: str = ""
) -> str:
    """Return a SELECT of the rows of which some columns each have one of several values.

    Args:
        dialect: sqlite, mysql or postgresql.
        table: Its name.
        columns: What is asked of each row.
        where: Columns, and of how many values each may be; the rows are ordered by the first.
        lock: "write", if others may not change the rows before the transaction has ended; "read", if
            what MySQL gives is to be what is there by now.
    """
    marks = ((_name(dialect, name), ", ".join([_mark(dialect)] * count)) for name, count in where)
    conditions = " AND ".join(f"{name} IN ({several})" for name, several in marks)
    sql = f"SELECT {_list(dialect, columns)} FROM {_name(dialect, table)} WHERE {conditions}"  # noqa: S608
    return f"{sql} ORDER BY {_name(dialect, where[0][0])}{_LOCKS.get((dialect, lock), '')}"


@functools.lru_cache(maxsize=512)
def update(dialect: str, table: str, columns: tuple[str, ...], count: int) -> str:
    """Return an UPDATE that sets columns of several rows, known by their ids, to the same values."""
    mark = _mark(dialect)
    values = ", ".join(f"{_name(dialect, each)} = {mark}" for each in columns)
    ids = ", ".join([mark] * count)
    return f"UPDATE {_name(dialect, table)} SET {values} WHERE {_name(dialect, 'id')} IN ({ids})"  # noqa: S608


@functools.lru_cache(maxsize=512)
def delete(dialect: str, table: str, columns: tuple[str, ...], count: int) -> str:
    """Return a DELETE of several rows, known by their keys."""
    start = f"DELETE FROM {_name(dialect, table)} WHERE "  # noqa: S608
    if count == 1:  # MariaDB looks through the whole table for the one that is in a list of one
        return start + " AND ".join(f"{_name(dialect, each)} = {_mark(dialect)}" for each in columns)
    rows = _all_marks(dialect, len(columns), count)
    keys = f"VALUES {rows}" if dialect == "sqlite" else rows
    return f"{start}({_list(dialect, columns)}) IN ({keys})"
