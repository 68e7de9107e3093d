"""Texts of statements that write many rows at once, and of those that are run for nearly each write.

All names in them are MLMD's own, of `COLUMNS`; all values are bound. SQLAlchemy would build each anew
for another number of rows, at a higher price than SQLite takes for running it.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable
from typing import Final

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


@functools.lru_cache(maxsize=512)
def insert(
    dialect: str,
    table: str,
    columns: tuple[str, ...],
    count: int,
    *,
    skip_known: bool = False,
    of_parent: bool = False,
) -> str:
    """Return an INSERT of several rows.

    Args:
        dialect: sqlite, mysql or postgresql.
        table: Its name.
        columns: What is given of each row.
        count: Of rows.
        skip_known: Leave out those whose key is there already.
        of_parent: The first column is `PARENT`.
    """
    marks = [_mark(dialect)] * len(columns)
    if of_parent:
        marks[0] = PARENT
    rows = ", ".join([f"({', '.join(marks)})"] * count)
    sql = f"INSERT INTO {_name(dialect, table)} ({_list(dialect, columns)}) VALUES {rows}"  # noqa: S608
    if not skip_known:
        return sql
    if dialect == "mysql":  # INSERT IGNORE would pass over other errors, too
        first = _name(dialect, columns[0])
        return f"{sql} ON DUPLICATE KEY UPDATE {first} = {first}"
    return f"{sql} ON CONFLICT DO NOTHING"


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
    rows = ", ".join([f"({', '.join([_mark(dialect)] * len(columns))})"] * count)
    keys = f"VALUES {rows}" if dialect == "sqlite" else rows
    return f"DELETE FROM {_name(dialect, table)} WHERE ({_list(dialect, columns)}) IN ({keys})"  # noqa: S608
