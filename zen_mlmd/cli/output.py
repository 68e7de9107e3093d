"""How commands print: a table to look at; JSON, YAML and CSV to go on with.

JSON and YAML hold plain values and are ASCII: times are ISO 8601 in UTC, tuples and sets are lists,
and what JSON has no form for (NaN, infinity, bytes, ...) is Python's text of it: for reading, not for
reading back.

CSV has a row on each line. Empty cells are null. A mapping, a list and a text that is not printable
or begins with a quote stand as their JSON, so that a cell that begins with `"`, `{` or `[` in a column
of texts, mappings or lists is JSON.

All of it is what was recorded, to the letter: a cell of CSV that begins with `=` is a formula to a
spreadsheet, if you let it be.

A table on a terminal is drawn to its width and coloured; one that goes elsewhere, or for which the
terminal is too narrow, has neither lines nor colours, and each cell in full on one line.
"""

from __future__ import annotations

import csv
import enum
import io
import json
import math
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

import click

from zen_mlmd.cli.safe import safe

Row = Mapping[str, Any]

_MAX_DIGITS = 4000  # Python prints no integer of more than 4300
_STYLES = {
    "completed": "green",
    "cached": "cyan",
    "running": "yellow",
    "failed": "red",
    "canceled": "magenta",
}
_MINUTE_S, _HOUR_S = 60, 3600
_GAP = 3  # between two columns of a drawn table
_LEAST_NAME = 8  # columns


def text_of(value: object) -> str:
    """Return a value as one line to look at; times in UTC, to the second."""
    if value is None:
        return ""
    if isinstance(value, str):
        return safe(str(value))
    if isinstance(value, datetime):
        return f"{value.astimezone(timezone.utc):%Y-%m-%d %H:%M:%S}"
    return safe(json.dumps(plain(value), ensure_ascii=False))


def took(seconds: float | None) -> str:
    """Return a duration to look at."""
    if seconds is None:
        return ""
    if seconds < _MINUTE_S:
        return f"{seconds:.2f} s"
    minutes, rest = divmod(round(seconds), _MINUTE_S)
    return f"{minutes} m {rest} s" if seconds < _HOUR_S else f"{minutes // 60} h {minutes % 60} m"


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table.

    Attributes:
        key: Of the row's value.
        title: Its heading.
        whole: Its cells are not broken where the terminal is narrow.
        right: Its cells are put to the right.
        text: From a value to what is shown.
    """

    key: str
    title: str
    whole: bool = False
    right: bool = False
    text: Callable[[Any], str] = text_of


def print_rows(rows: Iterable[Row], output: str, *, fields: Sequence[str], columns: Sequence[Column]) -> None:
    """Print rows.

    Args:
        rows: Each with all of `fields`.
        output: table, json, csv or yaml.
        fields: CSV's columns, there even without rows.
        columns: A table's.
    """
    rows = list(rows)
    if output == "csv":
        click.echo(to_csv(rows, fields), nl=False)
    elif output == "table":
        _print_table(rows, columns)
    else:
        print_data(rows, output)


def print_data(data: object, output: str) -> None:
    """Print values as json or yaml."""
    click.echo(to_json(data) if output == "json" else to_yaml(data), nl=output == "json")


def print_facts(facts: Row) -> None:
    """Print what is known of one thing, a fact a line, mappings by dotted names; empty ones are left out."""
    lines = [(safe(name), text) for name, value in _dotted(facts) if (text := _fact(value))]
    width = max((_width(name) for name, _ in lines), default=0)
    click.echo("\n".join(f"{_pad(name, width)}  {text}" for name, text in lines))


def cut_at(limit: int, rows: Sequence[Row]) -> Sequence[Row]:
    """Return at most `limit` rows, and tell beside the output if there were more."""
    if len(rows) > limit:
        note(f"these are the first {limit}, and there are more: --limit shows them")
    return rows[:limit]


def note(text: str) -> None:
    """Tell a person something that is no part of the output."""
    click.echo(safe(text), err=True)


# --- plain values ---------------------------------------------------------------------------------


def plain(value: object) -> Any:  # noqa: PLR0911 -- one per kind
    """Return a value as JSON and YAML have it; new lists and dicts, so that YAML needs no references."""
    if isinstance(value, enum.Enum):
        return plain(value.value)
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, int):
        return value if abs(value) < 10**_MAX_DIGITS else hex(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, Mapping):
        return {str(plain(key)): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, set | frozenset):
        return sorted((plain(item) for item in value), key=repr)
    return str(value)


def to_json(data: object) -> str:
    """Return values as ASCII JSON, in lines."""
    return json.dumps(plain(data), indent=2, allow_nan=False)


def to_yaml(data: object) -> str:
    """Return values as ASCII YAML."""
    import yaml

    text: str = yaml.safe_dump(plain(data), sort_keys=False, default_flow_style=False, width=100)
    return text


def to_csv(rows: Iterable[Row], fields: Sequence[str]) -> str:
    """Return rows as CSV (RFC 4180, but lines end with a newline alone)."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(fields)
    writer.writerows([_csv_cell(plain(row[field])) for field in fields] for row in rows)
    return buffer.getvalue()


def _csv_cell(value: Any) -> Any:
    if isinstance(value, str):
        return value if value.isprintable() and not value.startswith('"') else json.dumps(value)
    return json.dumps(value) if isinstance(value, bool | dict | list) else value


# --- tables ---------------------------------------------------------------------------------------


def _print_table(rows: Sequence[Row], columns: Sequence[Column]) -> None:
    if not rows:
        note("there are none")
        return
    cells = [[column.text(row.get(column.key)) for column in columns] for row in rows]
    if sys.stdout.isatty() and _draw_table(cells, columns):
        return
    cells.insert(0, [column.title for column in columns])
    widths = [max(map(_width, found)) for found in zip(*cells, strict=True)]
    lines = [
        "  ".join(
            _pad(text, width, right=column.right)
            for text, width, column in zip(line, widths, columns, strict=True)
        ).rstrip()
        for line in cells
    ]
    click.echo("\n".join(lines))


def _draw_table(cells: Sequence[Sequence[str]], columns: Sequence[Column]) -> bool:
    """Draw a table if the terminal is wide enough for it."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(file=sys.stdout, highlight=False)
    if _least_width(cells, columns) > console.width:
        return False
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for column in columns:
        justify = "right" if column.right else "left"
        table.add_column(column.title, no_wrap=column.whole, overflow="fold", justify=justify)  # type: ignore[arg-type]
    for line in cells:
        # A Text is taken as it is; a str would be read as rich's markup.
        table.add_row(
            *(
                Text(text, style=_STYLES.get(text, "") if column.key == "status" else "")
                for text, column in zip(line, columns, strict=True)
            )
        )
    console.print(table)
    return True


def _least_width(cells: Sequence[Sequence[str]], columns: Sequence[Column]) -> int:
    """Return how wide a table is at least in which names are broken, but can be read."""
    width = _GAP * (len(columns) - 1)
    for column, found in zip(columns, zip(*cells, strict=True), strict=True):
        full = max(map(_width, [column.title, *found]))
        width += full if column.whole else min(full, _LEAST_NAME)
    return width


def _width(text: str) -> int:
    """Return how many columns a terminal gives a text."""
    if text.isascii():
        return len(text)
    from rich.cells import cell_len

    return cell_len(text)


def _pad(text: str, width: int, *, right: bool = False) -> str:
    blanks = " " * (width - _width(text))
    return blanks + text if right else text + blanks


def _fact(value: object) -> str:
    return f"{text_of(value)} UTC" if isinstance(value, datetime) else text_of(value)


def _dotted(facts: Row, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in facts.items():
        if isinstance(value, Mapping):
            yield from _dotted(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
