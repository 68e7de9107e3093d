"""The words of a filter as a tree, parsed by sqlglot.

It gets to see operators, keywords and numbered names only: texts, names and numbers of the filter stay
with their words. So what it knows of other SQL does not matter, and neither do its escapes and quotes.
sqlglot takes a third of a second to import; only a filter does.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from typing import Any

from zen_mlmd.service.sql.filters.lexer import Path, Word, refuse

_NUMBERED = re.compile(r"w[0-9]+")


def parse(words: Sequence[Word]) -> Any:
    """Return the tree of sqlglot's; its columns and functions are called `w` and the number of their word.

    Raises:
        Refusal: The words are no expression.
    """
    from sqlglot import ParseError, exp, parse_one

    _refuse_stray_commas(words)
    ends: list[int] = []
    texts: list[str] = []
    for number, word in enumerate(words):
        texts.append(word.symbol or f"w{number}")
        ends.append((ends[-1] + 1 if ends else 0) + len(texts[-1]))
    try:
        return parse_one(" ".join(texts), into=exp.Condition)
    except ParseError as error:
        column = error.errors[0].get("col") if error.errors else None
        near = next((words[i] for i, end in enumerate(ends) if column is not None and end >= column), None)
        if near is None or (near is words[-1] and near.symbol not in ("", ")")):
            near = words[-1]
            refuse(f"Syntax error: Unexpected end of expression behind {_described(near)}", near.place)
        refuse(f"Syntax error: Unexpected {_described(near)}", near.place)
    except RecursionError:
        refuse("it is nested too deep")


def number_of(name: str) -> int:
    """Return the number of the word that a name in the tree stands for.

    Raises:
        Refusal: It stands for none: sqlglot takes some keywords for names where no keyword can be.
    """
    if not _NUMBERED.fullmatch(name):
        refuse(f"Syntax error: Unexpected {name or 'expression'}")
    return int(name[1:])


def _described(word: Word) -> str:
    """Return what messages call a word."""
    if word.symbol:
        return f'"{word.symbol}"' if not word.symbol.isalpha() else f"keyword {word.symbol}"
    return f'"{".".join(word.operand.parts)}"' if isinstance(word.operand, Path) else "literal"


def _refuse_stray_commas(words: Sequence[Word]) -> None:
    for before, word in itertools.pairwise(words):
        if word.symbol in (",", ")") and before.symbol in (",", "("):
            refuse(f'Syntax error: Unexpected "{word.symbol}"', word.place)
