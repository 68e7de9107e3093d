r"""Filter expressions: a text such as `status = failed and started_at > now-7d`, asked of a record.

ml-metadata 1.21.0 answers every `filter_query` with UNIMPLEMENTED, and 1.17.1's knows neither
durations nor parameters as their writers understood them; so filters are evaluated here, in Python,
on the decoded records.

    filter      = and_ {"or" and_}
    and_        = not_ {"and" not_}
    not_        = "not" not_ | "(" filter ")" | comparison
    comparison  = name ("=" | "==" | "!=" | "<>" | "<" | "<=" | ">" | ">=") value
                | name ["not"] "in" "(" value {"," value} ")"
                | name ["not"] "like" value
                | name "is" ["not"] "null"
    name        = part {"." part}      part: letters, digits, _ and -, or anything in `backquotes`
    value       = number | 'text' | "text" | word | true | false | null | time
    time        = 2026-11-01 | 2026-11-01T12:00:00Z | now | now-7d     (units s, m, h, d, w)

Keywords are read in any case. In quoted text the quote is written twice or after a backslash, and a
backslash twice; before any other character a backslash is itself. In backquotes, a backquote is
written twice. `like` knows `%` (anything) and `_` (one character), a backslash takes their meaning
away, and case matters. A time without an offset is UTC, a date its midnight.

The logic is two-valued:

- A comparison with a value that is null or missing is false, `!=`, `not in` and `not like`
  included; only `is null`, also written `= null`, is true. `not (x = 1)` is true where x is missing.
- A comparison of two kinds that cannot be compared (a number with `'text'`, a list with anything)
  is false, `!=` included. A recorded string compares with an unquoted number, true, false or time
  by how that is written: `= 1.10` finds the string "1.10", but no string is `< 1.10`.
- true and false equal booleans only, never 1 and 0. A number that is NaN equals `nan`.
- A status compares in any case: `status = FAILED`. A path and a UUID are the text they are written as.

Where the caller says what the names stand for, what could match no record is an error, not an empty
answer: a status that there is not, a number compared with a word, parameters without a name.
"""

from __future__ import annotations

import datetime as dt
import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, NoReturn

from zen_mlmd.errors import FilterSyntaxError
from zen_mlmd.reading.conditions import (
    ANY,
    KEYWORDS,
    MISSING,
    TIME,
    AllOf,
    AnyOf,
    Comparison,
    Condition,
    Field,
    In,
    IsNull,
    Like,
    Lookup,
    Name,
    Not,
    Value,
    like_segments,
    moment,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["MISSING", "Filter", "Lookup", "Name", "compile_filter"]

_MAX_LENGTH = 100_000  # characters of a whole expression
_MAX_PATTERN = 1_000  # characters; matching takes the product of this and of the text, at worst
_MAX_DEPTH = 50  # of `(` and `not` in each other: far from Python's own limit, which would be a crash
_EXAMPLE = "a filter reads like: status = failed and started_at > now-7d"


def compile_filter(
    text: str,
    *,
    names: Mapping[str, Field] | Iterable[str] | None = None,
    now: dt.datetime | None = None,
) -> Filter:
    """Return the filter that `text` is; the module's docstring has the grammar.

    Args:
        text: At most 100,000 characters, at most 50 parentheses and `not` deep.
        names: The first parts of names that records have, with what each stands for if that is known;
            None permits any.
        now: What `now` means, an aware datetime; the present if None. It is the same for every
            record that the filter is asked about.

    Raises:
        FilterSyntaxError: The text is no such expression, uses a name that is not in `names`, or
            compares one with what it can never be; the message points at the place, the hint says
            what would be right.
    """
    if len(text) > _MAX_LENGTH:
        raise FilterSyntaxError(
            f"the filter has {len(text)} characters; {_MAX_LENGTH} are read",
            hint="split it, and apply one filter after the other",
        )
    known = None if names is None else dict(sorted(_fields(names).items()))
    parser = _Parser(text, known, now or dt.datetime.now(dt.timezone.utc))
    root = parser.parse()
    return Filter(root, frozenset(parser.used))


def _fields(names: Mapping[str, Field] | Iterable[str]) -> Mapping[str, Field]:
    return names if isinstance(names, Mapping) else dict.fromkeys(names, ANY)


@dataclass(frozen=True, slots=True, repr=False)
class Filter:
    """A condition on a record, made by `compile_filter`; `str` gives its normalised text.

    Attributes:
        names: The names it asks for, each as its parts: what a caller has to load.
    """

    _root: Condition
    names: frozenset[Name]

    def matches(self, lookup: Lookup) -> bool:
        """Return whether the record that `lookup` speaks for meets the condition.

        Args:
            lookup: From a name's parts, `("parameters", "depth")`, to its value, or to `MISSING`.
                What it raises is raised here.
        """
        return self._root(lookup)

    def __str__(self) -> str:
        return str(self._root)

    def __repr__(self) -> str:
        return f"<Filter {self}>"


_TOKEN = re.compile(
    r"""
      (?P<space>  \s+ )
    | (?P<string> '(?:[^'\\]|\\.|'')*'(?!') | "(?:[^"\\]|\\.|"")*"(?!") )
    | (?P<op>     == | != | <> | <= | >= | = | < | > )
    | (?P<mark>   [(),] )
    | (?P<now>    [nN][oO][wW] (?:\s*[-+]\s*[0-9]+\s*[smhdwSMHDW])? (?=[\s(),]|$) )
    | (?P<word>   (?: [^\s()'",=<>!`] | `(?:[^`]|``)+`(?!`) )+ )
    """,
    re.VERBOSE | re.DOTALL,
)
_PART = r"(?:[\w-]+|`(?:[^`]|``)+`(?!`))"
_NAME = re.compile(rf"(?![0-9-]){_PART}(?:\.{_PART})*", re.DOTALL)
_PARTS = re.compile(_PART, re.DOTALL)
_INTEGER = re.compile(r"[-+]?[0-9]+")
_NUMBER = re.compile(r"[-+]?(?:(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][-+]?[0-9]+)?|(?i:inf|nan))")
_RELATIVE = re.compile(r"now\s*([-+])\s*([0-9]+)\s*([smhdw])", re.IGNORECASE)
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_SAME = {"==": "=", "<>": "!="}


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str
    text: str
    at: int

    def is_word(self, *words: str) -> bool:
        return self.kind == "word" and self.text.lower() in words

    def __str__(self) -> str:
        return "the end" if self.kind == "end" else f"`{_shorten(self.text)}`"


class _Parser:
    def __init__(self, text: str, names: Mapping[str, Field] | None, now: dt.datetime) -> None:
        self._text = text
        self._names = names
        self._now = now
        self._tokens = self._scan()
        self._next = 0
        self._depth = 0
        self.used: set[Name] = set()

    def parse(self) -> Condition:
        node = self._any()
        if self._token.kind != "end":
            self._fail(self._token, f"expected `and`, `or` or the end, found {self._token}")
        return node

    # -- tokens

    def _scan(self) -> list[_Token]:
        tokens, at = [], 0
        while at < len(self._text):
            match = _TOKEN.match(self._text, at)
            if match is None:
                token = _Token("other", self._text[at], at)
                if token.text in "'\"`":
                    self._fail(token, f"the quote {token.text} is not closed", f"end it with {token.text}")
                self._fail(token, f"{token} has no meaning here", "quote a text: 'like this!'")
            if match.lastgroup != "space":
                tokens.append(_Token(str(match.lastgroup), match[0], at))
            at = match.end()
        tokens.append(_Token("end", "", len(self._text)))
        return tokens

    @property
    def _token(self) -> _Token:
        return self._tokens[self._next]

    def _take(self) -> _Token:
        token = self._token
        self._next += 1
        return token

    def _took(self, *words: str) -> bool:
        if self._token.is_word(*words):
            self._next += 1
            return True
        return False

    def _expect_mark(self, mark: str, why: str) -> None:
        token = self._token
        if token.kind != "mark" or token.text != mark:
            self._fail(token, f"expected `{mark}` {why}, found {token}")
        self._next += 1

    # -- conditions

    def _any(self) -> Condition:
        items = [self._all()]
        while self._took("or"):
            items.append(self._all())
        return items[0] if len(items) == 1 else AnyOf(tuple(items))

    def _all(self) -> Condition:
        items = [self._not()]
        while self._took("and"):
            items.append(self._not())
        return items[0] if len(items) == 1 else AllOf(tuple(items))

    def _not(self) -> Condition:
        token = self._token
        is_group = token.kind == "mark" and token.text == "("
        if not is_group and not token.is_word("not"):
            return self._comparison()
        if self._depth == _MAX_DEPTH:
            self._fail(token, f"nested more than {_MAX_DEPTH} deep", "use fewer parentheses and `not`")
        self._next += 1
        self._depth += 1
        node: Condition = self._any() if is_group else Not(self._not())
        self._depth -= 1
        if is_group:
            self._expect_mark(")", f"for the `(` at column {token.at + 1}")
        return node

    def _comparison(self) -> Condition:
        name, field = self._name()
        token = self._take()
        if token.kind == "op":
            return self._simple(name, field, _SAME.get(token.text, token.text))
        if token.is_word("is"):
            negated = self._took("not")
            if not self._took("null"):
                self._fail(self._token, f"expected `null`, found {self._token}", "write: is null")
            return IsNull(name, negated)
        negated = token.is_word("not")
        if negated:
            token = self._take()
        if token.is_word("in"):
            return In(name, self._values(name, field), negated)
        if token.is_word("like"):
            return self._like(name, field, negated=negated)
        wanted = "`in` or `like`" if negated else "a comparison (=, !=, <, <=, >, >=, in, like, is)"
        return self._fail(token, f"expected {wanted}, found {token}")

    def _simple(self, name: Name, field: Field, op: str) -> Condition:
        token = self._token
        value = self._fitting(name, field)
        if value.is_null:
            if op not in ("=", "!="):
                self._fail(token, "nothing is less or greater than null", "write `is null` or `is not null`")
            return IsNull(name, op == "!=")
        return Comparison(name, op, value)

    def _values(self, name: Name, field: Field) -> tuple[Value, ...]:
        self._expect_mark("(", "after `in`")
        values = [self._fitting(name, field)]
        while self._token.kind == "mark" and self._token.text == ",":
            self._next += 1
            values.append(self._fitting(name, field))
        self._expect_mark(")", "or `,`")
        return tuple(values)

    def _like(self, name: Name, field: Field, *, negated: bool) -> Condition:
        token = self._token
        if field.kind in ("number", "time"):
            self._fail(token, f"`like` asks texts, and {name[0]} is a {field.kind}", "use =, <, > or `in`")
        pattern = self._value()
        if pattern.text is None:
            self._fail(token, f"{token} is no pattern", "quote it: like 'abc%'")
        if len(pattern.text) > _MAX_PATTERN:
            self._fail(token, f"a pattern has at most {_MAX_PATTERN} characters", "ask for less of it")
        return Like(name, pattern, like_segments(pattern.text), negated)

    # -- names and values

    def _name(self) -> tuple[Name, Field]:
        token = self._take()
        is_name = token.kind == "word" and _NAME.fullmatch(token.text) and not token.is_word(*KEYWORDS)
        if not is_name:
            hint = "a name has letters, digits, _ and -; put `backquotes` around any other part of it"
            known = f"; known names: {', '.join(self._names)}" if self._names is not None else ""
            self._fail(token, f"expected a name, found {token}", hint + known)
        parts = [
            part[1:-1].replace("``", "`") if part.startswith("`") else part
            for part in _PARTS.findall(token.text)
        ]
        if self._names is not None and parts[0] not in self._names:
            close = difflib.get_close_matches(parts[0], self._names, 1)
            guess = f"did you mean {close[0]}? " if close else ""
            self._fail(
                token,
                f"unknown name `{_shorten(parts[0])}`",
                f"{guess}known names: {', '.join(self._names) or 'none'}",
            )
        name = tuple(parts)
        field = ANY if self._names is None else self._names[name[0]]
        if field.kind == "keys" and len(name) == 1:
            self._fail(token, f"{token} holds several values", f"name one of them: {token.text}.NAME")
        if field.kind not in ("any", "keys") and len(name) > 1:
            self._fail(token, f"`{name[0]}` is a {field.kind}, and has no parts", f"write {name[0]} alone")
        self.used.add(name)
        return name, field

    def _fitting(self, name: Name, field: Field) -> Value:
        """Take a value that the name can have."""
        token = self._token
        value = self._value()
        fitting = field.fit(value)
        if fitting is None:
            self._fail(token, f"{token} is nothing that {name[0]} can be", field.hint(value))
        return fitting

    def _value(self) -> Value:
        token = self._take()
        if token.kind == "string":
            return _quoted(token.text)
        if token.kind == "now":
            return self._relative(token)
        if token.kind != "word":
            self._fail(token, f"expected a value, found {token}")
        word = token.text.lower()
        if word == "null":
            return Value("null", is_null=True)
        if word in ("true", "false"):
            return Value(word, text=token.text, flag=word == "true")
        if word in KEYWORDS or "`" in word:
            self._fail(token, f"expected a value, found {token}", "put a text in 'quotes'")
        return self._word(token)

    def _word(self, token: _Token) -> Value:
        text = token.text
        if _NUMBER.fullmatch(text):
            # By way of Decimal, because int() refuses more than 4300 digits, and a parameter may have them.
            number = int(Decimal(text)) if _INTEGER.fullmatch(text) else float(text)
            return Value(text, text=text, number=number)
        if match := TIME.fullmatch(text):
            at = moment(match)
            if at is None:
                self._fail(token, f"{token} is no time that exists", "quote it if it is a text")
            return Value(text, text=text, moment=at)
        if re.match(r"now[-+]", text, re.IGNORECASE):
            self._fail(
                token,
                f"{token} is no relative time",
                "write now-7d, the units are s, m, h, d and w; quote it if it is a text",
            )
        return Value(text, text=text)

    def _relative(self, token: _Token) -> Value:
        match = _RELATIVE.fullmatch(token.text)
        if match is None:
            return Value("now", moment=self._now)
        sign, count, unit = match[1], match[2], match[3].lower()
        try:
            distance = dt.timedelta(**{_UNITS[unit]: int(sign + count)})
            at = self._now + distance
        except (OverflowError, ValueError):
            self._fail(token, f"{token} is out of the calendar", "give fewer of a larger unit")
        return Value(f"now{sign}{count}{unit}", moment=at)

    # -- errors

    def _fail(self, token: _Token, message: str, hint: str = _EXAMPLE) -> NoReturn:
        start = max(0, token.at - 40)
        before = ("…" if start else "") + self._text[start : token.at]
        after = self._text[token.at : token.at + 40]
        shown = "".join(char if char.isprintable() else " " for char in before + after)
        raise FilterSyntaxError(
            f"{message}, at column {token.at + 1}\n    {shown}\n    {' ' * len(before)}^", hint=hint
        )


def _quoted(source: str) -> Value:
    quote = source[0]
    text = re.sub(rf"\\([\\{quote}])|{quote}({quote})", lambda match: match[1] or match[2], source[1:-1])
    match = TIME.fullmatch(text)
    shown = "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
    return Value(shown, text=text, moment=moment(match) if match else None)


def _shorten(text: str) -> str:
    shown = text if len(text) <= 40 else text[:39] + "…"  # noqa: PLR2004
    return "".join(char if char.isprintable() else " " for char in shown)
