"""Statements for MySQL with their values in them: PyMySQL makes three calls for each value to do the same."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol


class Statement(Protocol):
    """A statement, and what stands for each `%s` in it."""

    @property
    def sql(self) -> str:
        """Its text."""
        ...

    @property
    def values(self) -> Sequence[Any]:
        """Its values."""
        ...


def packet(connection: Any, statements: Iterable[Statement]) -> str:
    """Return the text of several statements.

    Args:
        connection: PyMySQL's, of an engine of `engines`: a backslash escapes there.
        statements: Any number.
    """
    from pymysql.converters import escape_string

    def text(value: str) -> str:
        return f"'{escape_string(value)}'"

    known: dict[type, Callable[[Any], str]] = {int: str, str: text, bool: "{:d}".format}
    other = connection.escape
    return "; ".join(
        [
            each.sql % tuple([known.get(type(value), other)(value) for value in each.values])
            if each.values
            else each.sql
            for each in statements
        ]
    )
