"""Reads what fits of a damaged row: SQLite keeps a text where a number is to be, and gives it back.

One such row must not keep a whole answer from being given, in which it may be one of thousands.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

WRONG: Final = (TypeError, ValueError, OverflowError, AttributeError)
"""What a message or its maker raises for a value that a field cannot hold."""


def in_order(ids: Iterable[int]) -> list[int]:
    """Return ids sorted, each once; what a damaged link has in place of one is left out."""
    wanted = set(ids)
    try:
        return sorted(wanted)
    except TypeError:
        return sorted(each for each in wanted if isinstance(each, int))


def salvaged(make: Callable[..., Any], into: Any, count: int, values: Mapping[str, Any]) -> Any:
    """Return a message of those values that its fields can hold.

    Args:
        make: Makes the message.
        into: The field of a response that it is added to, or None.
        count: How many it has without this one; a failed `add` leaves one more, which is empty.
        values: By field; None for what is not there.
    """
    message = into[-1] if into is not None and len(into) > count else make()
    message.Clear()
    for name, value in values.items():
        if value is not None:
            try:
                setattr(message, name, value)
            except WRONG:
                continue
    return message
