"""What a filter expression is made of: conditions, and how a recorded value compares with a literal.

`zen_mlmd.reading.filters` reads a text into these and documents their meaning.
"""

# ruff: noqa: D102 -- what `__call__` does is said once, at `Condition`

from __future__ import annotations

import datetime as dt
import difflib
import enum
import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from decimal import Decimal
from pathlib import PurePath
from typing import Any, Final, Literal, TypeAlias
from uuid import UUID


class _Missing(enum.Enum):
    MISSING = "missing"

    def __repr__(self) -> str:
        return "MISSING"


MISSING: Final = _Missing.MISSING
"""What a lookup returns for a name that the record has no value for."""

Name: TypeAlias = tuple[str, ...]
"""A dotted name as its parts: `("parameters", "depth")`."""

Lookup: TypeAlias = Callable[[Name], object]
"""From a name to its value in a record, or `MISSING`."""

Condition: TypeAlias = Callable[[Lookup], bool]
"""What every class here is: asked with a record's lookup, it says whether the record meets it."""

KEYWORDS: Final = frozenset({"and", "or", "not", "in", "like", "is", "null", "true", "false", "now"})
"""Words that are names or values only in quotes, in lower case."""

TIME: Final = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)"
    r"(?:[T ](\d\d):(\d\d)(?::(\d\d)(?:\.(\d{1,9}))?)?(Z|[-+]\d\d(?::?\d\d)?)?)?",
    re.ASCII | re.IGNORECASE,
)
"""A date, or a date and a time of day with or without an offset; fractions of a second to nine digits."""

_PLAIN_PART = re.compile(r"[^\W\d][\w-]*")


@dataclass(frozen=True, slots=True)
class Value:
    """One literal, as what it is to each kind of recorded value; None where it cannot be compared."""

    source: str
    text: str | None = None
    number: float | None = None
    flag: bool | None = None
    moment: dt.datetime | None = None
    is_null: bool = False

    def __str__(self) -> str:
        return self.source


@dataclass(frozen=True, slots=True)
class Field:
    """What a name stands for in every record, so that a comparison that no record meets is an error.

    Attributes:
        kind: keys is a mapping, of which a filter names one key; any is not known before a record is read.
        choices: All texts that it can be, in lower case; empty if it can be any.
    """

    kind: Literal["any", "text", "number", "time", "keys"]
    choices: tuple[str, ...] = ()

    def fit(self, value: Value) -> Value | None:
        """Return a literal as one that this can be; None if it is nothing of the kind."""
        if value.is_null:
            return value
        if self.choices:
            text = (value.text or "").casefold()
            return replace(value, text=text) if text in self.choices else None
        if self.kind == "number":
            return None if value.number is None else value
        return None if self.kind == "time" and value.moment is None else value

    def hint(self, value: Value) -> str:
        """Return what to write instead of a literal that does not fit."""
        if self.choices:
            close = difflib.get_close_matches((value.text or "").casefold(), self.choices, 1)
            guess = f"did you mean {close[0]}? " if close else ""
            return f"{guess}it is one of: {', '.join(self.choices)}"
        if self.kind == "number":
            return "it is a number, written without quotes: 3, 0.5 or 1e-7"
        return "it is a time: 2026-11-01, 2026-11-01T12:00Z, now or now-7d"


ANY: Final = Field("any")
TEXT: Final = Field("text")
NUMBER: Final = Field("number")
MOMENT: Final = Field("time")
KEYS: Final = Field("keys")


@dataclass(frozen=True, slots=True)
class Comparison:
    """A name, one of `= != < <= > >=`, and a literal that is not null."""

    name: Name
    op: str
    value: Value

    def __call__(self, lookup: Lookup) -> bool:
        return _compare(lookup(self.name), self.op, self.value)

    def __str__(self) -> str:
        return f"{_dotted(self.name)} {self.op} {self.value}"


@dataclass(frozen=True, slots=True)
class IsNull:
    """`is null`, or `is not null` if negated."""

    name: Name
    negated: bool

    def __call__(self, lookup: Lookup) -> bool:
        return _is_null(lookup(self.name)) != self.negated

    def __str__(self) -> str:
        return f"{_dotted(self.name)} is {'not ' if self.negated else ''}null"


@dataclass(frozen=True, slots=True)
class In:
    """`in`, or `not in` if negated."""

    name: Name
    values: tuple[Value, ...]
    negated: bool

    def __call__(self, lookup: Lookup) -> bool:
        value = lookup(self.name)
        if self.negated:
            return all(_compare(value, "!=", item) for item in self.values)
        return any(_compare(value, "=", item) for item in self.values)

    def __str__(self) -> str:
        values = ", ".join(map(str, self.values))
        return f"{_dotted(self.name)} {'not ' if self.negated else ''}in ({values})"


@dataclass(frozen=True, slots=True)
class Like:
    """`like`, or `not like` if negated; `segments` is the pattern as `like_segments` returns it."""

    name: Name
    pattern: Value
    segments: tuple[tuple[re.Pattern[str], int], ...]
    negated: bool

    def __call__(self, lookup: Lookup) -> bool:
        value = _as_text(lookup(self.name))
        text = value.value if isinstance(value, enum.Enum) and value is not MISSING else value
        return isinstance(text, str) and _is_like(text, self.segments) != self.negated

    def __str__(self) -> str:
        return f"{_dotted(self.name)} {'not ' if self.negated else ''}like {self.pattern}"


@dataclass(frozen=True, slots=True)
class Not:
    """`not`."""

    item: Condition

    def __call__(self, lookup: Lookup) -> bool:
        return not self.item(lookup)

    def __str__(self) -> str:
        return f"not ({self.item})" if isinstance(self.item, AllOf | AnyOf) else f"not {self.item}"


@dataclass(frozen=True, slots=True)
class AllOf:
    """Two or more conditions with `and` between them."""

    items: tuple[Condition, ...]

    def __call__(self, lookup: Lookup) -> bool:
        return all(item(lookup) for item in self.items)

    def __str__(self) -> str:
        return " and ".join(
            f"({item})" if isinstance(item, AllOf | AnyOf) else str(item) for item in self.items
        )


@dataclass(frozen=True, slots=True)
class AnyOf:
    """Two or more conditions with `or` between them."""

    items: tuple[Condition, ...]

    def __call__(self, lookup: Lookup) -> bool:
        return any(item(lookup) for item in self.items)

    def __str__(self) -> str:
        return " or ".join(f"({item})" if isinstance(item, AnyOf) else str(item) for item in self.items)


_OPERATORS: Final[Mapping[str, Callable[[Any, Any], Any]]] = {
    "=": lambda left, right: left == right or (left != left and right != right),  # noqa: PLR0124 -- NaN
    "!=": lambda left, right: left != right and not (left != left and right != right),  # noqa: PLR0124
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


def _as_text(value: object) -> object:
    """Return a path or a UUID as the text that it is written as, anything else as it is."""
    return str(value) if isinstance(value, PurePath | UUID) else value


def _is_null(value: object) -> bool:
    return value is None or value is MISSING


def _compare(left: object, op: str, right: Value) -> bool:
    if right.is_null:
        return _is_null(left) == (op == "=")
    if _is_null(left):
        return False
    try:
        mine, other = _pair(_as_text(left), right, ordered=op not in ("=", "!="))
        return other is not None and bool(_OPERATORS[op](mine, other))
    except ArithmeticError:  # a Decimal NaN has no order, a signalling one compares with nothing
        return False


def _pair(left: object, right: Value, *, ordered: bool) -> tuple[Any, Any]:  # noqa: PLR0911 -- one per kind
    """Return both sides as what can be compared; the second is None where nothing can."""
    if isinstance(left, enum.Enum):
        text = None if right.text is None else right.text.casefold()
        return str(left.value).casefold(), text
    if isinstance(left, bool):
        return left, None if ordered else right.flag
    if isinstance(left, int | float):
        return left, right.number
    if isinstance(left, Decimal):
        return left, None if right.number is None else Decimal(right.source)
    if isinstance(left, str):
        is_text = right.number is None and right.flag is None
        return left, right.text if is_text or not ordered else None
    if isinstance(left, dt.date):
        return _utc(left), right.moment
    return left, None


def _utc(at: dt.date) -> dt.datetime:
    if not isinstance(at, dt.datetime):
        at = dt.datetime(at.year, at.month, at.day, tzinfo=dt.timezone.utc)
    return at if at.utcoffset() is not None else at.replace(tzinfo=dt.timezone.utc)


def moment(match: re.Match[str]) -> dt.datetime | None:
    """Return the time that a match of `TIME` means, in UTC; None if the calendar has none such."""
    year, month, day, hour, minute, second, fraction, offset = match.groups()
    zone = dt.timezone.utc
    try:
        if offset and offset not in "Zz":
            digits = offset[1:].replace(":", "").ljust(4, "0")
            distance = dt.timedelta(hours=int(digits[:2]), minutes=int(digits[2:]))
            zone = dt.timezone(-distance if offset[0] == "-" else distance)
        numbers = [int(part or 0) for part in (year, month, day, hour, minute, second)]
        micros = int((fraction or "").ljust(6, "0")[:6])
        return dt.datetime(*numbers, micros, tzinfo=zone).astimezone(dt.timezone.utc)  # type: ignore[misc, arg-type]
    except (ValueError, OverflowError):
        return None


def like_segments(pattern: str) -> tuple[tuple[re.Pattern[str], int], ...]:
    r"""Return what lies between the `%` of a pattern, each with its length.

    No segment repeats anything, so none can backtrack: `%%%%%a` costs what `%a` does.
    """
    segments: list[list[str]] = [[]]
    for match in re.finditer(r"\\[\\%_]|.", pattern, re.DOTALL):
        char = match[0]
        if char == "%":
            segments.append([])
        else:
            segments[-1].append("." if char == "_" else re.escape(char[-1]))
    inner = [segment for segment in segments[1:-1] if segment]
    kept = [segments[0], *inner, segments[-1]] if len(segments) > 1 else segments
    return tuple((re.compile("".join(segment), re.DOTALL), len(segment)) for segment in kept)


def _is_like(text: str, segments: tuple[tuple[re.Pattern[str], int], ...]) -> bool:
    first, width = segments[0]
    if len(segments) == 1:
        return first.fullmatch(text) is not None
    last, last_width = segments[-1]
    start, end = width, len(text) - last_width
    if first.match(text) is None or end < start or last.match(text, end) is None:
        return False
    for segment, _ in segments[1:-1]:
        # The leftmost place is never worse than a later one: it leaves the most text to the others.
        found = segment.search(text, start, end)
        if found is None:
            return False
        start = found.end()
    return True


def _dotted(name: Name) -> str:
    parts = []
    for part in name:
        is_plain = _PLAIN_PART.fullmatch(part) and part.lower() not in KEYWORDS
        parts.append(part if is_plain else "`" + part.replace("`", "``") + "`")
    return ".".join(parts)
