"""A filter's text, cut into words as ZetaSQL cuts it, in one pass and linear time.

https://github.com/google/zetasql/blob/master/docs/lexical.md
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Final, NoReturn

from zen_mlmd.service.base import INVALID_ARGUMENT, Refusal

MOST_BYTES: Final = 2**16
"""Of a filter."""
MOST_WORDS: Final = 20_000
"""Of a filter."""
MOST_NESTED: Final = 30
"""Parentheses in parentheses, or NOTs and signs in a row: the parser recurses."""

KEYWORDS: Final = frozenset({"AND", "OR", "NOT", "IN", "LIKE", "BETWEEN", "IS", "NULL", "TRUE", "FALSE"})


@dataclass(frozen=True, slots=True)
class Literal:
    """A number or a text."""

    value: int | float | str


@dataclass(frozen=True, slots=True)
class Path:
    """A name, or names with dots between them.

    Attributes:
        parts: The names.
        is_quoted: The first one stands in backquotes.
    """

    parts: tuple[str, ...]
    is_quoted: bool


@dataclass(frozen=True, slots=True)
class Word:
    """One word of a filter.

    Attributes:
        place: Where it begins: the number of its line, and of its character there.
        symbol: An operator, or a keyword in capitals; empty for an operand.
        operand: What it means, if it is no symbol.
    """

    place: tuple[int, int]
    symbol: str = ""
    operand: Literal | Path | None = None


def refuse(what: str, place: tuple[int, int] | None = None) -> NoReturn:
    """Refuse a filter as ml-metadata does.

    Raises:
        Refusal: INVALID_ARGUMENT.
    """
    where = f" [at {place[0]}:{place[1]}]" if place else ""
    raise Refusal(INVALID_ARGUMENT, f"Invalid `filter_query`: {what}{where}")


_NAME = r"(?:[A-Za-z_][A-Za-z0-9_]*)"
_QUOTED = r"(?:`(?:[^`\\\n\r]|\\[^\n\r])*`)"
_BLANK = re.compile(r"(?:\s|\u200b)+|(?:--|\#)[^\n\r]*")
_PATH = re.compile(rf"({_NAME}|{_QUOTED})((?:\.(?:[A-Za-z0-9_]+|{_QUOTED}))*)")
_PART = re.compile(rf"\.([A-Za-z0-9_]+|{_QUOTED})")
_NUMBER = re.compile(r"0[xX][0-9A-Fa-f]+|(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_SYMBOL = re.compile(r"!=|<>|<=|>=|[=<>+\-*/(),]")
_TEXT_START = re.compile(r"([rR]?)('''|\"\"\"|'|\")")
_TEXT_END: Final = {
    "'": re.compile(r"((?:[^'\\\n\r]|\\[^\n\r])*)'"),
    '"': re.compile(r'((?:[^"\\\n\r]|\\[^\n\r])*)"'),
    "'''": re.compile(r"((?:[^'\\]|\\.|'(?!''))*)'''", re.DOTALL),
    '"""': re.compile(r'((?:[^"\\]|\\.|"(?!""))*)"""', re.DOTALL),
}
_ESCAPE = re.compile(
    r"\\(?:([abfnrtv\\?\"'`])|[xX]([0-9A-Fa-f]{2})|u([0-9A-Fa-f]{4})|U([0-9A-Fa-f]{8})|([0-3][0-7]{2})|.?)",
    re.DOTALL,
)
_SIMPLE: Final = dict(zip("abfnrtv", "\a\b\f\n\r\t\v", strict=True))

_LONGEST_NUMBER: Final = 400
"""Digits of one: those of the longest integers and doubles, and some noughts."""


class _Reader:
    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self._line = 1
        self._line_start = 0

    @property
    def place(self) -> tuple[int, int]:
        return self._line, self.at - self._line_start + 1

    def go_to(self, end: int) -> None:
        """Go on, and count lines."""
        newlines = self.text.count("\n", self.at, end)
        if newlines:
            self._line += newlines
            self._line_start = self.text.rindex("\n", self.at, end) + 1
        self.at = end

    def skip_blanks(self) -> None:
        """Go over blanks and comments."""
        while True:
            found = _BLANK.match(self.text, self.at)
            if found is not None:
                self.go_to(found.end())
            elif self.text.startswith("/*", self.at):
                end = self.text.find("*/", self.at + 2)
                if end < 0:
                    refuse("Syntax error: Unclosed comment", self.place)
                self.go_to(end + 2)
            else:
                return

    def word(self) -> Word:
        """Read one word."""
        place = self.place
        start = _TEXT_START.match(self.text, self.at)
        if start is not None:
            return Word(place, operand=Literal(self._text(start, place)))
        number = _NUMBER.match(self.text, self.at)
        if number is not None:
            return Word(place, operand=Literal(self._number(number, place)))
        path = _PATH.match(self.text, self.at)
        if path is not None:
            return self._name(path, place)
        symbol = _SYMBOL.match(self.text, self.at)
        if symbol is None:
            character = self.text[self.at]
            if character == "`":
                refuse("Syntax error: Unclosed identifier literal", place)
            refuse(f"Syntax error: Unexpected {character!r}", place)
        self.go_to(symbol.end())
        return Word(place, symbol=symbol[0])

    def _text(self, start: re.Match[str], place: tuple[int, int]) -> str:
        found = _TEXT_END[start[2]].match(self.text, start.end())
        if found is None:
            refuse("Syntax error: Unclosed string literal", place)
        self.go_to(found.end())
        return found[1] if start[1] else _unescaped(found[1], place)

    def _number(self, found: re.Match[str], place: tuple[int, int]) -> int | float:
        self.go_to(found.end())
        if re.match(r"\w|`", self.text[self.at : self.at + 1]):
            refuse("Syntax error: Missing whitespace between literal and alias", self.place)
        digits = found[0]
        if len(digits) > _LONGEST_NUMBER:
            refuse("Invalid literal: a number of too many digits", place)
        if digits[:2] in ("0x", "0X"):
            value: int | float = int(digits, 16)
        elif digits.isdecimal():
            value = int(digits)
        else:
            value = float(digits)
            if math.isinf(value):
                refuse(f"Invalid floating point literal: {digits}", place)
        if value > 2**63 and isinstance(value, int):
            refuse(f"Invalid integer literal: {digits}", place)
        return value

    def _name(self, found: re.Match[str], place: tuple[int, int]) -> Word:
        self.go_to(found.end())
        first, rest = found.groups()
        if not rest and first.upper() in KEYWORDS:
            return Word(place, symbol=first.upper())
        parts = (first, *_PART.findall(rest))
        return Word(place, operand=Path(tuple(_unquoted(part, place) for part in parts), first[0] == "`"))


def _unquoted(name: str, place: tuple[int, int]) -> str:
    if name[0] != "`":
        return name
    if name == "``":
        refuse("Syntax error: Invalid empty identifier", place)
    return _unescaped(name[1:-1], place)


def _unescaped(text: str, place: tuple[int, int]) -> str:
    if "\\" not in text:
        return text

    def meant(found: re.Match[str]) -> str:
        simple, *codes, octal = found.groups()
        if simple:
            return _SIMPLE.get(simple, simple)
        digits = next(filter(None, codes), None)
        code = int(digits, 16) if digits else int(octal, 8) if octal else 0
        if code == 0 or code > 0x10FFFF or 0xD800 <= code < 0xE000:  # noqa: PLR2004 - of Unicode
            refuse(f"Syntax error: Illegal escape sequence: {found[0]}", place)
        return chr(code)

    return _ESCAPE.sub(meant, text)


def read_words(text: str | bytes) -> list[Word]:
    """Cut a filter into words.

    Raises:
        Refusal: It has what no filter has, or too much of all.
    """
    if isinstance(text, bytes):  # as protobuf gives it then
        refuse("it is no UTF-8")
    if len(text) > MOST_BYTES or len(text.encode("utf-8", "surrogatepass")) > MOST_BYTES:
        refuse(f"it is longer than {MOST_BYTES} bytes")
    if "\0" in text:
        refuse("Syntax error: Illegal input character NUL")
    reader = _Reader(text)
    words: list[Word] = []
    reader.skip_blanks()
    while reader.at < len(text):
        words.append(reader.word())
        reader.skip_blanks()
        if len(words) > MOST_WORDS:
            refuse(f"it has more than {MOST_WORDS} words")
    if not words:
        refuse("Syntax error: Unexpected end of expression", reader.place)
    _bound_nesting(words)
    return words


def _bound_nesting(words: list[Word]) -> None:
    depth = prefixes = 0
    for word in words:
        prefixes = prefixes + 1 if word.symbol in ("NOT", "+", "-") else 0
        depth += (word.symbol == "(") - (word.symbol == ")")
        if max(depth, prefixes) > MOST_NESTED:
            refuse(f"it is nested deeper than {MOST_NESTED}", word.place)
