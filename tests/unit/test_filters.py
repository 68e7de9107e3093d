"""Filter expressions: their grammar, what they mean, and how they fail."""

from __future__ import annotations

import datetime as dt
import math
import pickle
from decimal import Decimal
from pathlib import Path, PurePosixPath
from typing import Any
from uuid import UUID

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.clock import loops
from zen_mlmd.errors import FilterSyntaxError
from zen_mlmd.model import EventType, Status
from zen_mlmd.reading.conditions import KEYS, MOMENT, NUMBER, TEXT, Field
from zen_mlmd.reading.filters import MISSING, Filter, Lookup, Name, compile_filter

UTC = dt.timezone.utc
NOON = dt.datetime(2026, 11, 1, 12, tzinfo=UTC)


def lookup(**values: Any) -> Lookup:
    """Values by their dotted names, `__` for the dot."""
    table = {tuple(name.split("__")): value for name, value in values.items()}
    return lambda name: table.get(name, MISSING)


def matches(text: str, **values: Any) -> bool:
    return compile_filter(text, now=NOON).matches(lookup(**values))


def failure(text: str, names: tuple[str, ...] | None = None) -> FilterSyntaxError:
    with pytest.raises(FilterSyntaxError) as caught:
        compile_filter(text, names=names)
    assert caught.value.hint
    return caught.value


# --- comparisons -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "value", "expected"),
    [
        ("x = 3", 3, True),
        ("x == 3", 3, True),
        ("x = 3", 4, False),
        ("x != 3", 4, True),
        ("x <> 3", 3, False),
        ("x < 3", 2, True),
        ("x < 3", 3, False),
        ("x <= 3", 3, True),
        ("x > -3", -2, True),
        ("x >= 1e3", 1000, True),
        ("x = .5", 0.5, True),
        ("x = 5.", 5, True),
        ("x = +5", 5, True),
        ("x < 1e400", 10**300, True),
        ("x = 0.1", Decimal("0.1"), True),
        ("x > 0.1", Decimal("0.05"), False),
        ("x = 1", Decimal("sNaN"), False),
        ("x < 1", Decimal("nan"), False),
        ("x = nan", math.nan, True),
        ("x != nan", math.nan, False),
        ("x != nan", 1.0, True),
        ("x < NaN", 1.0, False),
        ("x = -inf", -math.inf, True),
        ("x = true", True, True),
        ("x = FALSE", False, True),
        ("x != false", True, True),
        ("x = 1", True, False),
        ("x = true", 1, False),
        ("x < true", False, False),
        ("x = abc", "abc", True),
        ("x = 'abc'", "abc", True),
        ('x = "abc"', "abc", True),
        ("x = Abc", "abc", False),
        ("x < b", "abc", True),
        ("x = s3://bucket/a.b-c_d%20*", "s3://bucket/a.b-c_d%20*", True),
        ("x = 'it''s'", "it's", True),
        (r"x = 'it\'s'", "it's", True),
        ('x = "a""b"', 'a"b', True),
        ("x = 'a\"b'", 'a"b', True),
        (r"x = 'C:\new\\'", "C:\\new\\", True),
        ("x = ''", "", True),
        ("x = 'a\nb'", "a\nb", True),
        ("x = 'true'", True, False),
        ("x = 1.10", "1.10", True),
        ("x = 1.10", "1.1", False),
        ("x != 1.10", "1.1", True),
        ("x < 10", "9", False),
        ("x > 10", "9", False),
        ("x = true", "true", True),
        ("x > false", "true", False),
        ("x = 2026-11-01", "2026-11-01", True),
        ("x = now", "now", False),
        ("x = '3'", 3, False),
        ("x != '3'", 3, False),
        ("x = 3", [3], False),
        ("x != 3", [3], False),
        ("x != 3", {"a": 1}, False),
        ("x in (1, 2, 3)", 2, True),
        ("x IN (1)", 2, False),
        ("x not in (1, 2)", 3, True),
        ("x not in (1, 2)", 2, False),
        ("x not in (a, b)", 2, False),
        ("x in ('a', b, null)", "b", True),
        ("x = raw/rows.csv", Path("raw/rows.csv"), True),
        ("x != other", PurePosixPath("/raw"), True),
        ("x > a", PurePosixPath("b"), True),
        ("x = 12345678-1234-5678-1234-567812345678", UUID(int=0x12345678123456781234567812345678), True),
        ("x = '3'", UUID(int=3), False),
        ("x like '%.csv'", PurePosixPath("raw/rows.csv"), True),
        ("x not like '%.csv'", PurePosixPath("raw/rows.csv"), False),
        ("x like '%0003'", UUID(int=3), True),
    ],
)
def test_one_comparison(text: str, value: object, expected: bool) -> None:
    assert matches(text, x=value) is expected


@pytest.mark.parametrize("number", [2**31, -(2**63) - 1, 10**4000 + 7, 10**5000 + 7], ids="abcd")
def test_an_integer_of_any_size_is_compared_exactly(number: int) -> None:
    digits = str(Decimal(number))
    assert matches(f"x = {digits}", x=number)
    assert not matches(f"x = {digits}", x=number + 1)
    assert matches(f"x < {digits}", x=number - 1)


@pytest.mark.parametrize("value", [None, MISSING])
def test_null_and_missing_make_every_comparison_false_but_is_null(value: object) -> None:
    for text in (
        "x = 1",
        "x != 1",
        "x < 1",
        "x >= a",
        "x in (1, a)",
        "x not in (1, a)",
        "x like '%'",
        "x not like 'a'",
        "x = nan",
        "x != nan",
        "x is not null",
        "x != null",
        "x not in (null)",
    ):
        assert not matches(text, x=value), text
    for text in ("x is null", "x IS Null", "x = null", "x in (1, null)", "not (x = 1)", "not x != 1"):
        assert matches(text, x=value), text


def test_a_value_that_is_there_is_not_null() -> None:
    assert matches("x is not null and x != null and x not in (null)", x=0)
    assert not matches("x is null or x = null or x in (null)", x="")


@pytest.mark.parametrize(
    "text", ["status = failed", "status = FAILED", "status = 'Failed'", "status in (failed)"]
)
def test_a_status_compares_by_its_value_in_any_case(text: str) -> None:
    assert matches(text, status=Status.FAILED)
    assert not matches(text, status=Status.COMPLETED)


def test_a_status_is_unequal_matched_and_incomparable_like_text() -> None:
    assert matches("status != failed", status=Status.CACHED)
    assert matches("status like 'ca%'", status=Status.CACHED)
    assert matches("type not like '%put'", type=EventType.UNKNOWN)
    assert not matches("status = now", status=Status.CACHED)
    assert not matches("status = null", status=Status.CACHED)


# --- times -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "at"),
    [
        ("2026-11-01T12:00:00Z", NOON),
        ("2026-11-01t12:00z", NOON),
        ("'2026-11-01 12:00:00'", NOON),
        ("2026-11-01T12:00", NOON),
        ("2026-11-01T14:00:00+02:00", NOON),
        ("2026-11-01T14:00:00+0200", NOON),
        ("2026-11-01T07:00:00-05", NOON),
        ("2026-11-01T12:00:00.25Z", NOON.replace(microsecond=250_000)),
        ("'2026-11-01T12:00:00.123456789'", NOON.replace(microsecond=123_456)),
        ("2026-11-01", NOON.replace(hour=0)),
        ("now", NOON),
        ("NOW-90s", NOON - dt.timedelta(seconds=90)),
        ("now - 5M", NOON - dt.timedelta(minutes=5)),
        ("now+2h", NOON + dt.timedelta(hours=2)),
        ("now-7d", NOON - dt.timedelta(days=7)),
        ("now -2w", NOON - dt.timedelta(weeks=2)),
    ],
)
def test_a_time_is_read_in_every_form(text: str, at: dt.datetime) -> None:
    tick = dt.timedelta(microseconds=1)
    assert matches(f"at = {text}", at=at)
    assert matches(f"(at > {text})", at=at + tick)
    assert matches(f"at < {text} and at != {text}", at=at - tick)
    assert not matches(f"at < {text}", at=at)


def test_a_recorded_time_in_another_zone_or_in_none_is_compared_as_the_moment_it_is() -> None:
    east = dt.timezone(dt.timedelta(hours=5, minutes=30))
    assert matches("at = 2026-11-01T12:00:00Z", at=NOON.astimezone(east))
    assert matches("at = 2026-11-01T12:00:00Z", at=NOON.replace(tzinfo=None))
    assert matches("at = 2026-11-01", at=dt.date(2026, 11, 1))
    assert matches("at > 2026-10-31T23:59", at=dt.date(2026, 11, 1))


def test_a_recorded_time_compares_with_nothing_but_times() -> None:
    for text in ("at = 3", "at != 3", "at > abc", "at != 'abc'", "at < true", "at > '2026-13-45'"):
        assert not matches(text, at=NOON), text


def test_now_is_the_present_unless_it_is_given() -> None:
    recent = dt.datetime.now(UTC) - dt.timedelta(hours=1)
    assert compile_filter("at > now-1d and at < now").matches(lookup(at=recent))
    assert not compile_filter("at > now-1s").matches(lookup(at=recent))


@pytest.mark.parametrize(
    "text",
    [
        "at > 2026-13-45",
        "at > 0000-01-01",
        "at > 2026-11-01T25:00",
        "at > 2026-11-01T12:00+25:00",
        "at > 0001-01-01T00:00+10:00",
    ],
)
def test_a_time_that_does_not_exist_is_an_error(text: str) -> None:
    assert "is no time that exists" in failure(text).message


@pytest.mark.parametrize("text", ["at > now-7days", "at > now-", "at > now-1.5h", "at > now+d"])
def test_a_misspelt_relative_time_is_an_error(text: str) -> None:
    error = failure(text)
    assert "no relative time" in error.message
    assert "s, m, h, d and w" in error.hint


@pytest.mark.parametrize(
    "text", ["at > now-99999999999d", "at > now-999999w", "at > now-" + "9" * 5000 + "s"]
)
def test_a_relative_time_out_of_the_calendar_is_an_error(text: str) -> None:
    assert "out of the calendar" in failure(text).message


# --- like ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pattern", "text", "expected"),
    [
        ("abc", "abc", True),
        ("abc", "abcd", False),
        ("abc%", "abcd", True),
        ("%bcd", "abcd", True),
        ("%bc%", "abcd", True),
        ("a%d", "abcd", True),
        ("a%a", "a", False),
        ("a%b%c", "aXbXbYc", True),
        ("a%b%c", "acb", False),
        ("%ab%ab%", "xabx", False),
        ("ab%b%cb", "abcb", False),
        ("a_c", "abc", True),
        ("a_c", "ac", False),
        ("_", "\n", True),
        ("%", "", True),
        ("", "", True),
        ("", "a", False),
        ("ABC", "abc", False),
        (r"100\%", "100%", True),
        (r"100\%", "1000", False),
        (r"a\_b", "a_b", True),
        (r"a\_b", "axb", False),
        (r"a.*[b]\d", r"a.*[b]\d", True),
        ("a.b", "axb", False),
        ("%é_", "caféx", True),
    ],
)
def test_like(pattern: str, text: str, expected: bool) -> None:
    assert matches(f"x like '{pattern}'", x=text) is expected
    assert matches(f"x not like '{pattern}'", x=text) is not expected


def test_a_backslash_in_a_pattern_is_written_four_times_and_at_its_end_twice() -> None:
    assert matches(r"x like 'a\\\\b'", x="a\\b")
    assert matches(r"x like 'a\\'", x="a\\")


def test_like_takes_a_bare_word_and_only_asks_text() -> None:
    assert matches("x like ab%", x="abc")
    assert not matches("x like '%'", x=5)
    assert not matches("x not like 'a'", x=5)


def _like_by_definition(text: str, pattern: str) -> bool:
    """The textbook table: row by row, which beginnings of the text the pattern so far matches."""
    row = [True] + [False] * len(text)
    for char in pattern:
        if char == "%":
            new = [row[0]]
            for i in range(1, len(text) + 1):
                new.append(row[i] or new[i - 1])
        else:
            new = [False] + [row[i] and char in ("_", text[i]) for i in range(len(text))]
        row = new
    return row[-1]


@given(st.text("ab", max_size=12), st.text("ab%_", max_size=8))
def test_like_agrees_with_its_definition(text: str, pattern: str) -> None:
    assert matches(f"x like '{pattern}'", x=text) is _like_by_definition(text, pattern)


@pytest.mark.parametrize(
    "pattern", ["%" * 900 + "a", "%a" * 400 + "%", "_%" * 400 + "b", "%" + "_" * 900 + "b%"]
)
def test_no_pattern_is_slow(pattern: str) -> None:
    filter_ = compile_filter(f"x like '{pattern}'")
    start = loops()
    filter_.matches(lookup(x="a" * 20_000))
    assert loops() - start < 200


def test_a_pattern_that_is_none_or_too_long_is_an_error() -> None:
    assert "is no pattern" in failure("x like null").message
    assert "is no pattern" in failure("x like now").message
    assert "at most 1000 characters" in failure(f"x like '{'a' * 1001}'").message


# --- logic -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("t = 1 or t = 1 and f = 1", True),
        ("(t = 1 or t = 1) and f = 1", False),
        ("f = 1 and f = 1 or t = 1", True),
        ("f = 1 and (f = 1 or t = 1)", False),
        ("not f = 1 and f = 1", False),
        ("not (f = 1 and f = 1)", True),
        ("NOT not T2 = 1", True),
        ("not t = 1 OR t = 1", True),
        ("((t = 1))", True),
    ],
)
def test_not_binds_closer_than_and_and_and_closer_than_or(text: str, expected: bool) -> None:
    assert matches(text, t=1, f=0, T2=1) is expected


def test_a_long_filter_is_no_deep_one() -> None:
    text = " or ".join(f"x = {i}" for i in range(5_000))
    assert matches(text, x=4_999)
    assert not matches(text, x=5_000)


def test_fifty_deep_is_read_and_printed_and_read_again() -> None:
    text = "(" * 25 + "not " * 25 + "x = 1" + ")" * 25
    assert not compile_filter(str(compile_filter(text))).matches(lookup(x=1))


@pytest.mark.parametrize("text", ["(" * 51 + "x = 1" + ")" * 51, "not " * 51 + "x = 1", "(" * 90_000])
def test_deeper_is_an_error_and_no_recursion(text: str) -> None:
    assert "nested more than 50 deep" in failure(text).message


# --- names -----------------------------------------------------------------------------------------


def test_names_say_what_the_caller_has_to_load() -> None:
    filter_ = compile_filter(
        "status = failed and (parameters.depth > 3 or not parameters.`learning rate` is null)"
    )
    assert filter_.names == {("status",), ("parameters", "depth"), ("parameters", "learning rate")}


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("a = 1", ("a",)),
        ("a.b.c = 1", ("a", "b", "c")),
        ("a.0 = 1", ("a", "0")),
        ("parameters.learning-rate=1", ("parameters", "learning-rate")),
        ("größe.überall = 1", ("größe", "überall")),
        ("`or` = 1", ("or",)),
        ("`now` = 1", ("now",)),
        ("a.or = 1", ("a", "or")),
        ("a.`b.c` = 1", ("a", "b.c")),
        ("a.`b``c` = 1", ("a", "b`c")),
        ("`=`.` `.`('` = 1", ("=", " ", "('")),
    ],
)
def test_a_name_is_its_parts(text: str, name: Name) -> None:
    filter_ = compile_filter(text)
    assert filter_.names == {name}
    assert compile_filter(str(filter_)).names == {name}


@pytest.mark.parametrize(
    "text",
    ["", "   ", "3 = x", "'x' = 3", "-x = 1", "a. = 1", ".a = 1", "a..b = 1", "a/b = 1", "or = 1",
     "null is null", "now = 1", "now=1", "and", "status = 1 and", "not", "()", "a`b` = 1", "`a`b = 1"],
)  # fmt: skip
def test_what_is_no_name_is_an_error(text: str) -> None:
    error = failure(text, ("status", "type"))
    assert "expected a name" in error.message
    assert "known names: status, type" in error.hint


def test_a_name_that_is_not_known_is_an_error_with_the_nearest() -> None:
    error = failure("statsu = failed", ("type", "status"))
    assert "unknown name `statsu`" in error.message
    assert error.hint == "did you mean status? known names: status, type"
    assert failure("xyz = 1", ("type",)).hint == "known names: type"
    assert failure("xyz = 1", ()).hint == "known names: none"


def test_a_name_is_known_by_its_first_part() -> None:
    assert compile_filter("parameters.x = 1", names=["parameters"]).names == {("parameters", "x")}


# --- what a name stands for ------------------------------------------------------------------------

FIELDS = {
    "id": NUMBER,
    "name": TEXT,
    "status": Field("text", tuple(Status)),
    "started_at": MOMENT,
    "parameters": KEYS,
}


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("status = complete", "did you mean completed? it is one of: pending, running, completed, cached"),
        ("status in (completed, faild)", "did you mean failed?"),
        ("status = true", "it is one of: pending"),
        ("status = 3", "it is one of: pending"),
        ("id > x", "it is a number"),
        ("id = '3'", "it is a number"),
        ("id in (3, true)", "it is a number"),
        ("id = 2026-11-01", "it is a number"),
        ("started_at > foo", "it is a time: 2026-11-01"),
        ("started_at = 3", "it is a time"),
        ("started_at like '2026%'", "use =, <, > or `in`"),
        ("id not like '3%'", "use =, <, > or `in`"),
        ("parameters = 3", "name one of them: parameters.NAME"),
        ("parameters is null", "name one of them"),
        ("not (name = a and parameters in (1))", "name one of them"),
        ("name.first = a", "write name alone"),
        ("status.x is null", "write status alone"),
    ],
)
def test_what_could_match_no_record_is_an_error(text: str, hint: str) -> None:
    with pytest.raises(FilterSyntaxError) as caught:
        compile_filter(text, names=FIELDS)
    assert caught.value.hint.startswith(hint)
    assert "at column" in caught.value.message


@pytest.mark.parametrize(
    "text",
    [
        "status = COMPLETED or status in (failed, 'Canceled', null)",
        "status like '%ed' and status != cached",
        "id > 3 and id in (1, 2.5, nan) and id is not null",
        "started_at > now-7d and started_at <= '2026-11-01' and started_at = null",
        "name = 3 or name = true or name = 2026-11-01 or name like 'a%'",
        "parameters.x = 3 or parameters.a.b = x or parameters.c is null",
    ],
)
def test_what_could_match_is_none(text: str) -> None:
    assert str(compile_filter(str(compile_filter(text, names=FIELDS)), names=FIELDS))


def test_a_choice_matches_a_plain_text_in_any_case_of_the_filter() -> None:
    state = compile_filter("state = LIVE", names={"state": Field("text", ("live", "deleted"))})
    assert state.matches(lookup(state="live"))
    assert not state.matches(lookup(state="deleted"))
    assert str(state) == "state = LIVE"


def test_names_without_fields_are_compared_with_anything() -> None:
    assert compile_filter("status = complete and x.y > z", names=("status", "x"))


# --- errors ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "message", "column"),
    [
        ("status", "expected a comparison (=, !=, <, <=, >, >=, in, like, is), found the end", 7),
        ("status failed", "expected a comparison (=, !=, <, <=, >, >=, in, like, is), found `failed`", 8),
        ("status =", "expected a value, found the end", 9),
        ("status = and", "expected a value, found `and`", 10),
        ("status = `a`", "expected a value, found ``a``", 10),
        ("status = = 1", "expected a value, found `=`", 10),
        ("a = 1 b = 2", "expected `and`, `or` or the end, found `b`", 7),
        ("a = 1)", "expected `and`, `or` or the end, found `)`", 6),
        ("(a = 1", "expected `)` for the `(` at column 1, found the end", 7),
        ("a in 1", "expected `(` after `in`, found `1`", 6),
        ("a in ()", "expected a value, found `)`", 7),
        ("a in (1, )", "expected a value, found `)`", 10),
        ("a in (1 2)", "expected `)` or `,`, found `2`", 9),
        ("a not = 1", "expected `in` or `like`, found `=`", 7),
        ("a is 1", "expected `null`, found `1`", 6),
        ("a is not 1", "expected `null`, found `1`", 10),
        ("a < null", "nothing is less or greater than null", 5),
        ("a = 'b", "the quote ' is not closed", 5),
        ("a = b'", "the quote ' is not closed", 6),
        ("`a = 1", "the quote ` is not closed", 1),
        ("a = b!", "`!` has no meaning here", 6),
    ],
)
def test_an_error_says_what_was_expected_and_where(text: str, message: str, column: int) -> None:
    error = failure(text)
    assert error.message == f"{message}, at column {column}\n    {text}\n    {' ' * (column - 1)}^"


def test_an_error_in_a_long_filter_shows_its_neighbourhood_on_one_line() -> None:
    text = "a = 1 and\n" * 50 + "a = = 1" + " and a = 1" * 50
    _, shown, caret = failure(text).message.split("\n")
    assert len(shown) < 90
    assert shown[caret.index("^")] == "="
    assert shown.startswith("    …")


def test_a_long_word_is_shortened_in_the_message() -> None:
    assert len(failure("a " + "b" * 10_000).message) < 300


def test_a_filter_that_is_too_long_is_an_error() -> None:
    assert "100000 are read" in failure("x = 1 or " * 20_000 + "x = 1").message


def test_no_text_is_slow_to_read() -> None:
    start = loops()
    for text in (
        "'" * 99_999,
        "`" * 99_999,
        "x = '" + "\\" * 90_000,
        "x = " + "1" * 99_000 + "e)",
        "x = " + "1" * 99_000 + ")",
        "now " * 24_000,
        "now" + " " * 90_000 + "-",
        "x in (" + "1," * 40_000,
    ):
        failure(text)
    assert loops() - start < 500


# --- any text, any tree ----------------------------------------------------------------------------

_PIECES = st.sampled_from(
    ["and", "or", "not", "(", ")", "in", "like", "is", "null", "=", "!=", "<>", "<=", ",", "x", "y.z",
     "`q r`", "'a%'", '"b', "1", "-2.5e3", "true", "now", "now-7d", "2026-11-01", "'2026-11-01T00:00Z'",
     "\\", "!", "''", "nan"]
)  # fmt: skip
_RECORDED: st.SearchStrategy[Any] = st.one_of(
    st.none(),
    st.just(MISSING),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.decimals(),
    st.text(max_size=5),
    st.datetimes(),
    st.datetimes(timezones=st.timezones()),
    st.dates(),
    st.sampled_from(list(Status)),
    st.lists(st.integers(), max_size=2),
    st.binary(max_size=3),
    st.complex_numbers(),
)


@given(
    st.one_of(st.text(), st.lists(_PIECES, max_size=15).map(" ".join), st.lists(_PIECES).map("".join)),
    _RECORDED,
)
@example("x < 1e99999999999999999999", Decimal(1))
@example("x = 2026-11-01", dt.datetime(1, 1, 1))  # noqa: DTZ001
def test_any_text_is_a_filter_that_answers_or_a_syntax_error(text: str, value: object) -> None:
    try:
        filter_ = compile_filter(text)
    except FilterSyntaxError:
        return
    assert filter_.matches(lambda _: value) in (True, False)
    assert filter_.names


_WORD = st.text("abcdefgh_09", min_size=1, max_size=4)
_NAMES = st.lists(st.one_of(_WORD, st.text(min_size=1, max_size=4)), min_size=1, max_size=3).map(
    lambda parts: ".".join("`" + part.replace("`", "``") + "`" for part in parts)
)
_TEXTS = st.text(max_size=6)
_LITERALS = st.one_of(
    st.integers().map(str),
    st.floats().map(str),
    st.sampled_from(["true", "FALSE", "word", "now", "now-3h", "NOW + 1W", "2026-11-01", "'2026-11-01'"]),
    _TEXTS.map(lambda text: "'" + text.replace("\\", "\\\\").replace("'", "''") + "'"),
    _TEXTS.map(lambda text: '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'),
)
_COMPARISONS = st.one_of(
    st.tuples(_NAMES, st.sampled_from(["=", "==", "!=", "<>", "<", "<=", ">", ">="]), _LITERALS).map(
        " ".join
    ),
    st.tuples(_NAMES, st.sampled_from(["is null", "IS NOT NULL", "= null", "!=null"])).map(" ".join),
    st.tuples(
        _NAMES,
        st.sampled_from([" in (", " not in ("]),
        st.lists(st.one_of(_LITERALS, st.just("null")), min_size=1, max_size=3).map(",".join),
        st.just(")"),
    ).map("".join),
    st.tuples(_NAMES, st.sampled_from(["like", "not like"]), st.text("ab%_", max_size=4).map(repr)).map(
        " ".join
    ),
)
_EXPRESSIONS: st.SearchStrategy[str] = st.recursive(
    _COMPARISONS,
    lambda inner: st.one_of(
        inner.map(lambda text: f"not ({text})"),
        st.lists(inner.map(lambda text: f"({text})"), min_size=2, max_size=3).map(" and ".join),
        st.lists(inner.map(lambda text: f"({text})"), min_size=2, max_size=3).map(" OR ".join),
    ),
    max_leaves=8,
)


@given(_EXPRESSIONS, st.data())
def test_a_filter_printed_and_read_again_is_the_same(text: str, data: st.DataObject) -> None:
    filter_ = compile_filter(text, now=NOON)
    again = compile_filter(str(filter_), now=NOON)
    assert str(again) == str(filter_)
    assert again.names == filter_.names
    values = {name: data.draw(_RECORDED) for name in sorted(filter_.names)}
    assert again.matches(values.__getitem__) == filter_.matches(values.__getitem__)


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("STATUS=failed", "STATUS = failed"),
        ("a==1 AND b<>2", "a = 1 and b != 2"),
        ("((a = 1 or (b = 2)))", "a = 1 or b = 2"),
        ("a = 1 and (b = 2 or c = 3)", "a = 1 and (b = 2 or c = 3)"),
        ("a = 1 or (b = 2 or c = 3)", "a = 1 or (b = 2 or c = 3)"),
        ("a = 1 and (b = 2 and c = 3)", "a = 1 and (b = 2 and c = 3)"),
        ("not (a = 1)", "not a = 1"),
        ("not (a = 1 and b = 2)", "not (a = 1 and b = 2)"),
        ('a = "it\'s \\\\"', r"a = 'it\'s \\'"),
        ("a NOT IN(1,'b',NULL)", "a not in (1, 'b', null)"),
        ("a not LIKE 'x%'", "a not like 'x%'"),
        ("a = null", "a is null"),
        ("a != null", "a is not null"),
        ("a > NOW - 7D", "a > now-7d"),
        ("a > Now", "a > now"),
        ("a.`b c`.d = TRUE", "a.`b c`.d = true"),
    ],
)
def test_the_normalised_text(text: str, normal: str) -> None:
    assert str(compile_filter(text)) == normal


def test_a_filter_has_a_short_repr_and_can_be_pickled() -> None:
    filter_ = compile_filter("a like 'x%' and b=1")
    assert repr(filter_) == "<Filter a like 'x%' and b = 1>"
    copy: Filter = pickle.loads(pickle.dumps(filter_))
    assert copy == filter_
    assert copy.matches(lookup(a="xy", b=1))
    assert repr(MISSING) == "MISSING"
