"""What a database says, in our errors and MLMD's codes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

import sqlalchemy as sa

from zen_mlmd.errors import (
    ConnectionLostError,
    ContentionError,
    DatabaseMissingError,
    GrantMissingError,
    NotMlmdError,
    UnreachableError,
    ZenMlmdError,
)
from zen_mlmd.service.base import ALREADY_EXISTS, INTERNAL, INVALID_ARGUMENT, Refusal

# https://mariadb.com/kb/en/mariadb-error-codes/ and https://dev.mysql.com/doc/mysql-errors/9.0/en/
_MYSQL_BUSY: Final = frozenset({1205, 1213, 1020})
_MYSQL_AWAY: Final = frozenset({2002, 2003, 1040, 1053, 1129})
_MYSQL_LOST: Final = frozenset({0, 1927, 2006, 2013, 2055, 4031})
_MYSQL_DUPLICATE: Final = frozenset({1062})
_MYSQL_TOO_LARGE: Final = frozenset({1118, 1153, 1264, 1406})
_MYSQL_DENIED: Final = frozenset({1044, 1142, 1143, 1227, 1290, 1792, 1836})
# https://www.postgresql.org/docs/15/errcodes-appendix.html
_POSTGRESQL_BUSY: Final = frozenset({"40001", "40P01", "55P03"})
_POSTGRESQL_DUPLICATE: Final = frozenset({"23505"})
_POSTGRESQL_TOO_LARGE: Final = frozenset({"22001", "22003", "54000"})
_POSTGRESQL_LOST: Final = frozenset({"25P03", "57P01", "57P02", "57P03", "08000", "08003", "08006"})
_MYSQL_NO_TABLE: Final = frozenset({1146})
_POSTGRESQL_NO_TABLE: Final = frozenset({"42P01"})
_POSTGRESQL_DENIED: Final = frozenset({"42501", "25006"})
_SQLITE_DENIED: Final = ("SQLITE_READONLY",)
_DENIED: Final = re.compile(r"[A-Z, ]{3,60} command denied")
_SQLITE_BUSY: Final = ("SQLITE_BUSY", "SQLITE_LOCKED")
_SQLITE_DUPLICATE: Final = ("SQLITE_CONSTRAINT_UNIQUE", "SQLITE_CONSTRAINT_PRIMARYKEY")
_SQLITE_TOO_LARGE: Final = ("SQLITE_TOOBIG",)
_SQLITE_FILES: Final[Mapping[str, tuple[type[ZenMlmdError], str, str]]] = {
    "SQLITE_NOTADB": (NotMlmdError, "it is no SQLite file", "is it the right file, and whole?"),
    "SQLITE_CANTOPEN": (DatabaseMissingError, "it cannot be opened", "is it there, and may you read it?"),
    "SQLITE_READONLY": (
        GrantMissingError,
        "it may not be written",
        "have the file's and folder's rights changed",
    ),
}
# For Python 3.10, which keeps the code to itself.
_SQLITE_TEXTS: Final[Mapping[str, str]] = {
    "database is locked": "SQLITE_BUSY",
    "database table is locked": "SQLITE_LOCKED",
    "UNIQUE constraint failed": "SQLITE_CONSTRAINT_UNIQUE",
    "file is not a database": "SQLITE_NOTADB",
    "attempt to write a readonly database": "SQLITE_READONLY",
    "unable to open database file": "SQLITE_CANTOPEN",
    "string or blob too big": "SQLITE_TOOBIG",
}


class DuplicateError(Exception):
    """A row of that key is there already; a caller that knows of what says so to its own."""


class TooLargeError(Refusal):
    """A value is too large for its column or its index; the database does not say which one."""


class RaceLostError(Exception):
    """Another writer has made what was to be made: run again as a whole, the transaction will find it.

    Attributes:
        refusal: What to say if that happens again and again.
    """

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.text)
        self.refusal = refusal


def explain(error: sa.exc.DBAPIError, location: str) -> Exception:
    """Return what an error of the database's client means; none of its words hold what users recorded.

    Returns:
        `ContentionError`: the transaction was rolled back, and may be run again. `ConnectionLostError` or
        `UnreachableError`: the connection is gone, or cannot be had. An error of opening. Else a `Refusal`.
    """
    if is_busy(error):
        return ContentionError(
            f"{location}: another writer was in the way", hint="it was rolled back and can be repeated"
        )
    if is_away(error):
        return UnreachableError(f"{location}: nothing answers there", hint="is the server running?")
    if is_lost(error):
        return ConnectionLostError(
            f"{location}: the connection was lost during a transaction",
            hint="is the server up? the next call connects again by itself",
        )
    for name, (kind, words, hint) in _SQLITE_FILES.items():
        if _sqlite_name(error.orig).startswith(name):
            return kind(f"{location}: {words}", hint=hint)
    if _says(error, _MYSQL_DENIED, _POSTGRESQL_DENIED, _SQLITE_DENIED):
        denied = _DENIED.match(str(error.orig.args[-1])) if error.orig is not None else None
        what = denied[0] if denied else "it may not be written"
        return GrantMissingError(
            f"{location}: {what} ({_words(error)})",
            hint="GRANT the user what the message names, open it without read_only, or only read",
        )
    return _refusal(error)


def _refusal(error: sa.exc.DBAPIError) -> Refusal:
    if is_duplicate(error):
        return Refusal(ALREADY_EXISTS, "Given node already exists.")
    if _says(error, _MYSQL_TOO_LARGE, _POSTGRESQL_TOO_LARGE, _SQLITE_TOO_LARGE):
        return TooLargeError(INVALID_ARGUMENT, f"a value is too large for this database: {_words(error)}")
    return Refusal(INTERNAL, f"the database refused: {_words(error)}")


def is_busy(error: sa.exc.DBAPIError) -> bool:
    """Tell whether another transaction won, or keeps what is wanted."""
    return _says(error, _MYSQL_BUSY, _POSTGRESQL_BUSY, _SQLITE_BUSY)


def is_duplicate(error: sa.exc.DBAPIError) -> bool:
    """Tell whether a row of that key is there already."""
    return _says(error, _MYSQL_DUPLICATE, _POSTGRESQL_DUPLICATE, _SQLITE_DUPLICATE)


def is_away(error: sa.exc.DBAPIError) -> bool:
    """Tell whether no connection can be had."""
    return _says(error, _MYSQL_AWAY, frozenset(), ())


def is_lost(error: sa.exc.DBAPIError) -> bool:
    """Tell whether the connection is gone."""
    return error.connection_invalidated or _says(error, _MYSQL_LOST, _POSTGRESQL_LOST, ())


def lacks_table(error: sa.exc.DBAPIError) -> bool:
    """Tell whether a table is missing: somebody has emptied the database, or another one answers."""
    return _says(error, _MYSQL_NO_TABLE, _POSTGRESQL_NO_TABLE, ())


def _says(
    error: sa.exc.DBAPIError, mysql: frozenset[int], postgresql: frozenset[str], sqlite: tuple[str, ...]
) -> bool:
    cause = error.orig
    name = _sqlite_name(cause)
    if name:
        return any(name.startswith(each) for each in sqlite)
    code = cause.args[0] if cause is not None and cause.args else None
    if isinstance(code, int):  # PyMySQL's, which newer ones give an sqlstate beside
        return code in mysql
    return getattr(cause, "sqlstate", None) in postgresql


def _sqlite_name(cause: Any) -> str:
    """Return SQLite's name of an error, or nothing if it is none of SQLite's."""
    name = getattr(cause, "sqlite_errorname", "")
    if name or type(cause).__module__ != "sqlite3":
        return str(name)
    return next((code for text, code in _SQLITE_TEXTS.items() if str(cause).startswith(text)), "SQLITE_ERROR")


def _words(error: sa.exc.DBAPIError) -> str:
    """Return the code of a database's refusal: its text quotes values."""
    cause = error.orig
    code = cause.args[0] if cause is not None and cause.args else None
    if isinstance(code, int):
        return f"{type(cause).__name__} {code}"
    return str(_sqlite_name(cause) or getattr(cause, "sqlstate", None) or type(cause).__name__)
