"""What a database said is told from what somebody recorded, which MLMD quotes around it."""

from __future__ import annotations

import pytest

from tests.clock import loops
from zen_mlmd.errors import (
    AlreadyExistsError,
    ContentionError,
    GrantMissingError,
    StoreError,
    ZenMlmdError,
)
from zen_mlmd.service.base import (
    ALREADY_EXISTS,
    INTERNAL,
    database_said,
    error_from_code,
    is_busy,
    is_read_only,
    is_shut,
)

DEADLOCK = "Deadlock found when trying to get lock; try restarting transaction"
WAIT = "Lock wait timeout exceeded; try restarting transaction"
CHANGED = "Record has changed since last read in table 'Context'"
DENIED = "INSERT command denied to user 'lim'@'127.0.0.1' for table `zen`.`ExecutionProperty`"
READ_ONLY = "attempt to write a readonly database"
INFO = r" [mysql-error-info='\x08\xa6\x08']"


def mysql(said: str, *, before: str = "mysql_query failed: ", behind: str = "") -> str:
    return f"{before}errno: {said}, error: {said}{behind}"


def sqlite(said: str, *, before: str = "", query: str = "INSERT INTO `Type`(`name`) VALUES('x');") -> str:
    return f"{before}Error when executing query: {said} query:  {query}"


def duplicate(name: str) -> str:
    return f"Duplicate entry '11-{name}' for key 'UniqueName'"


def error(text: str, code: int = INTERNAL) -> ZenMlmdError:
    return error_from_code(code, text, location="here", method="PutExecution")


@pytest.mark.parametrize("said", [DEADLOCK, WAIT, CHANGED])
@pytest.mark.parametrize("behind", ["", INFO, "\n"])
@pytest.mark.parametrize(
    "before",
    [
        "mysql_query aborted: ",
        'Cannot create node for name: "q"mysql_query aborted: ',
        "mysql_query SELECT 1 ",
    ],
)
def test_mysql_says_what_it_says_twice_and_last(said: str, before: str, behind: str) -> None:
    text = mysql(said, before=before, behind=behind)
    assert database_said(text) == said
    assert is_busy(text)
    assert type(error(text)) is ContentionError


def test_sqlite_says_what_it_says_before_its_query() -> None:
    assert database_said(sqlite("database is locked")) == "database is locked"
    assert is_busy(sqlite("database is locked"))
    assert is_read_only(sqlite(READ_ONLY, before='Cannot create node for uri: "x" state: LIVE'))
    assert is_shut(sqlite("unable to open database file"))
    assert database_said("Cannot connect sqlite3 database: unable to open database file") == ""


@pytest.mark.parametrize("said", [DEADLOCK, WAIT, CHANGED, DENIED, READ_ONLY])
@pytest.mark.parametrize(
    "hide",
    [
        lambda said: mysql(duplicate(said)),
        lambda said: mysql(duplicate(mysql(said)), behind=INFO),
        lambda said: mysql(duplicate(f"errno: {said}' for key 'UniqueName', error: {said}")),
        lambda said: mysql("Data too long for column 'name'", before=f'name: "{mysql(said)}"mysql_query '),
        lambda said: sqlite("no such column: nan", before=f'name: "}}{sqlite(said)} "'),
        lambda said: sqlite("no such column: nan", before=f'name: "\\"{sqlite(said)} " '),
        lambda said: sqlite("no such column: nan", query=f"INSERT INTO t VALUES('{sqlite(said)}')"),
        lambda said: sqlite("UNIQUE constraint failed: Context.name", query=f"x('{mysql(said)}')"),
    ],
)
def test_what_was_recorded_is_not_taken_for_the_databases_words(said: str, hide: object) -> None:
    assert callable(hide)
    text = hide(said)
    if said is not DENIED:  # to look like that leads to another error's name, and no further
        assert type(error(text)) is StoreError
    assert not is_busy(text)
    assert not is_read_only(text)
    assert type(error(text, ALREADY_EXISTS)) is AlreadyExistsError


def test_what_may_not_be_written_is_told() -> None:
    assert type(error(mysql(DENIED))) is GrantMissingError
    assert type(error(sqlite(READ_ONLY))) is GrantMissingError
    node = f'Cannot create node for name: "{READ_ONLY}"'
    assert "readonly" not in error(f"Given node already exists: {node}", ALREADY_EXISTS).message


def test_a_long_text_is_looked_through_in_no_time() -> None:
    began = loops()
    for text in ("errno: " * 2_000_000, '"' * 1_000_001, "Error when executing quer" * 300_000):
        assert database_said(text) == ""
    assert loops() - began < 1000
