r"""Text from a store, as it may reach a terminal.

Anyone who can write to a store chooses the names in it. A control character among them would be an
order to the terminal (`\x1b[2J` clears it), a newline would forge a row, and a character that turns
the direction of writing would show another name.
"""

from __future__ import annotations

_JOINER = "\u200d"  # not printable by itself, and what holds a family of emoji together


def safe(text: str) -> str:
    r"""Return a text on one line, each character that is not printable as its escape (`\x1b`)."""
    if text.isprintable():
        return text
    return "".join(
        char if char.isprintable() or char == _JOINER else char.encode("unicode_escape").decode()
        for char in text
    )


def safe_lines(text: str) -> str:
    """Return a text with its lines, and with nothing else that is not printable."""
    return "\n".join(safe(line) for line in text.split("\n"))
