"""The page on upkeep, the code and the tests know the same code words."""

from __future__ import annotations

import re
from pathlib import Path

from zen_mlmd.doctor import CODES, Severity
from zen_mlmd.service.finding import BARRING

ROOT = Path(__file__).parents[2]
_ROW = re.compile(r"^\| `([a-z-]+)` \| ([EWI])(!?)( \*)? \| [^|]+ \| [^|]+ \|$", re.MULTILINE)


def rows() -> dict[str, tuple[str, bool, bool]]:
    text = (ROOT / "docs/upkeep.md").read_text("utf-8")
    return {code: (letter, bool(bars), bool(star)) for code, letter, bars, star in _ROW.findall(text)}


def test_each_code_word_has_a_line_in_the_docs() -> None:
    assert rows().keys() == CODES.keys()


def test_the_docs_say_how_bad_each_is() -> None:
    for code, (letter, bars, _) in rows().items():
        assert CODES[code] is next(each for each in Severity if each[0].upper() == letter), code
        assert bars is (code in BARRING), code


def test_each_has_a_test_and_a_place_where_it_is_found() -> None:
    tests = [*(ROOT / "tests/doctor").glob("test_*.py"), ROOT / "tests/sql/test_doctor.py"]
    tested = "".join(path.read_text("utf-8") for path in tests if path != Path(__file__))
    code = "".join(path.read_text("utf-8") for path in (ROOT / "zen_mlmd").rglob("*.py"))
    assert [each for each in CODES if f'"{each}"' not in tested] == []
    assert [each for each in CODES if code.count(f'"{each}"') < 2] == [], "in the list, and where it is found"
