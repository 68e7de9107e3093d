"""SQLite files that go away, are replaced, are somebody else's, or lie where nothing may be written."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

import zen_mlmd as zm
from zen_mlmd.errors import ConfigError, NotMlmdError
from zen_mlmd.service.lock import WriteLock
from zen_mlmd.store import Store

ROOT = Path(__file__).parents[2]


def record(store: Store, name: str, *, step: str = "s", type: str = "Model") -> int:
    with store.record_run("p", name=name) as run, run.step(step, type=f"test.{step}") as recorder:
        output = recorder.log_output("x", uri=f"mem://{name}", type=type)
    return output.id


def delete(path: Path) -> None:
    for end in ("", "-wal", "-shm"):
        path.with_name(path.name + end).unlink(missing_ok=True)


def run_python(script: str, *arguments: object) -> list[str]:
    command = [sys.executable, "-c", script, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, check=False, text=True, cwd=ROOT, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


# --- deleted, replaced, made anew ---


def replace(path: Path) -> None:
    other = path.with_name("other.db")
    with zm.open_store(other) as store:
        record(store, "other")
    delete(path)
    other.rename(path)


def link_elsewhere(path: Path) -> None:
    other = path.with_name("other.db")
    zm.open_store(other).close()
    path.unlink()
    path.symlink_to(other)


@pytest.mark.parametrize("change", [delete, replace, link_elsewhere])
def test_a_file_that_is_gone_takes_no_writes_until_it_is_opened_again(
    tmp_path: Path, change: Callable[[Path], None]
) -> None:
    path = tmp_path / "m.db"
    real = tmp_path / "real.db"
    if change is link_elsewhere:
        path.symlink_to(real)
    store = zm.open_store(path)
    record(store, "first")
    change(path)
    for name in ("second", "third"):
        with pytest.raises(NotMlmdError, match="deleted or replaced while it was open") as caught:
            record(store, name)
        assert "open it again" in caught.value.hint
    assert path.exists() is (change is not delete)
    store.close()
    record(store, "fourth")
    with zm.open_store(path) as again:
        names = {run.name for run in again.runs}
    assert names - {"other"} == {"fourth"}


def test_a_fork_makes_no_file_in_place_of_one_that_is_gone(tmp_path: Path) -> None:
    script = (
        "import os, sys, pathlib, zen_mlmd as zm\n"
        "from zen_mlmd.errors import NotMlmdError\n"
        "store = zm.open_store(sys.argv[1])\n"
        "store.record_run('p', name='first').end()\n"
        "pathlib.Path(sys.argv[1]).unlink()\n"
        "pid = os.fork()\n"
        "try: store.record_run('p', name='second')\n"
        "except NotMlmdError: status = 42\n"
        "else: status = 1\n"
        "if not pid: os._exit(status)\n"
        "print(status, os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), os.path.exists(sys.argv[1]))\n"
    )
    assert run_python(script, tmp_path / "m.db") == ["42 42 False"]


@pytest.mark.parametrize("memory", [False, True])
def test_a_store_that_was_made_anew_is_asked_anew(tmp_path: Path, memory: bool) -> None:
    """Ids of types and contexts, and whose run is whose, are not those of the database before."""
    path = tmp_path / "m.db"
    store = zm.open_store("sqlite://" if memory else path)
    record(store, "first", step="train", type="Mine")
    assert [run.pipeline for run in store.list_runs()] == ["p"]
    store.close()
    if not memory:
        delete(path)
        other = zm.open_store(path)
        with other, other.record_run("q", name="other") as run, run.step("a", type="test.A") as step:
            step.log_output("x", type="Theirs")
    output = record(store, "first", step="train", type="Mine")
    assert store.get_artifact(output).type == "Mine"
    found = store.get_run("first")
    assert found["train"].record.type == "test.train"
    assert found.pipeline == "p"
    assert [run.name for run in store.pipelines["p"].runs] == ["first"]
    assert store.loader.client.parents([found.id])[found.id][0].name == "p"
    assert store.get_artifact(output).path == "p/first/train/x"


def test_closing_gives_back_all_descriptors(tmp_path: Path) -> None:
    path = tmp_path / "m.db"

    def held() -> list[str]:
        links = [each for each in Path("/proc/self/fd").iterdir() if each.is_symlink()]
        return [name for each in links if str(path) in (name := str(each.readlink()))]

    store = zm.open_store(path)
    record(store, "first")
    assert len(held()) >= 4
    store.close()
    assert held() == []
    record(store, "second")
    with WriteLock(str(path)):
        store.close()
    store.close()
    assert held() == []


# --- somebody else's ---


def foreign(path: Path, *, journal: str = "delete", drop: bool = False) -> None:
    with closing(sqlite3.connect(path)) as database:
        database.execute(f"PRAGMA journal_mode={journal}")
        database.execute("CREATE TABLE people (name TEXT)")
        database.execute("INSERT INTO people VALUES ('ana')")
        if drop:
            database.execute("DROP TABLE people")
        database.commit()


FOREIGN: dict[str, Callable[[Path], object]] = {
    "tables": foreign,
    "tables in WAL mode": lambda path: foreign(path, journal="wal"),
    "dropped tables": lambda path: foreign(path, drop=True),
    "one byte": lambda path: path.write_bytes(b"x"),
    "half a header": lambda path: path.write_bytes(b"SQLite format 3\0"),
}


@pytest.mark.parametrize("kind", FOREIGN)
def test_a_foreign_file_is_refused_and_left_as_it_is(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "m.db"
    FOREIGN[kind](path)
    before = path.read_bytes()
    for url in (str(path), f"sqlite:///{path}?read_only=true"):
        with pytest.raises(NotMlmdError) as caught:
            zm.open_store(url)
        assert caught.value.hint
    assert path.read_bytes() == before


@pytest.mark.parametrize("kind", ["tables", "tables in WAL mode", "dropped tables"])
def test_mlmds_tables_are_put_beside_others_if_asked(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "m.db"
    FOREIGN[kind](path)
    with zm.open_store(path, create=True) as store:
        record(store, "first")
    with zm.open_store(path) as store:
        assert [run.name for run in store.runs] == ["first"]
    script = "import sqlite3, sys; print(*sqlite3.connect(sys.argv[1]).execute('SELECT * FROM people'))"
    if kind != "dropped tables":
        assert run_python(script, path) == ["('ana',)"]


def empty(path: Path, journal: str) -> None:
    with closing(sqlite3.connect(path)) as database:
        database.execute(f"PRAGMA journal_mode={journal}")
        database.execute("PRAGMA user_version=0")


@pytest.mark.parametrize(
    "make", [Path.touch, lambda path: empty(path, "wal"), lambda path: empty(path, "delete")]
)
def test_an_empty_file_becomes_a_store_unasked(tmp_path: Path, make: Callable[[Path], None]) -> None:
    path = tmp_path / "m.db"
    make(path)
    with zm.open_store(path) as store:
        record(store, "first")
        assert [run.name for run in store.runs] == ["first"]


def test_changes_in_a_foreign_files_wal_count(tmp_path: Path) -> None:
    """Its tables are nowhere but in the WAL, as the process that made them was killed."""
    script = (
        "import os, sqlite3, sys\n"
        "database = sqlite3.connect(sys.argv[1])\n"
        "database.execute('PRAGMA journal_mode=WAL')\n"
        "database.execute('CREATE TABLE people (name TEXT)')\n"
        "database.commit()\n"
        "os._exit(0)\n"
    )
    path = tmp_path / "m.db"
    assert run_python(script, path) == []
    assert path.with_name("m.db-wal").stat().st_size
    with pytest.raises(NotMlmdError, match="none of MLMD's tables"):
        zm.open_store(path)


@pytest.mark.parametrize("make", [os.mkfifo, lambda path: path.symlink_to("/dev/null")])
def test_what_is_no_file_is_refused(tmp_path: Path, make: Callable[[Path], None]) -> None:
    make(tmp_path / "m.db")
    with pytest.raises(NotMlmdError, match="a device or a pipe"):
        zm.open_store(tmp_path / "m.db")
    assert len(list(tmp_path.iterdir())) == 1


def test_a_name_that_is_no_utf8_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="must be UTF-8"):
        zm.open_store(f"{tmp_path}/a\udcff.db")


# --- where nothing may be written ---

AS_NOBODY = """
import os, sys
from urllib.parse import quote
import zen_mlmd as zm
from zen_mlmd.errors import ZenMlmdError

with zm.open_store("sqlite://") as store:  # loads all that is needed
    list(store.runs)
if os.getuid() == 0:
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
store = None
def read():
    try:
        print(*[run.name for run in store.runs], flush=True)
    except ZenMlmdError as error:
        print(type(error).__name__, error.message, "|", error.hint, flush=True)
for url in (sys.argv[1], f"sqlite:///{quote(sys.argv[1])}?read_only=true"):
    try:
        store = zm.open_store(url)
    except ZenMlmdError as error:
        print(type(error).__name__, error.message, "|", error.hint, flush=True)
    else:
        read()
for _ in sys.stdin:
    read()
"""


@pytest.fixture
def path() -> Iterator[Path]:
    """A file of two runs in WAL mode, in a folder that others may enter and not write."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    path = folder / "m #%?.db"
    with zm.open_store(path) as store:
        record(store, "first")
        record(store, "second")
    yield path
    shutil.rmtree(folder)


@pytest.fixture
def nobody(path: Path) -> Iterator[subprocess.Popen[str]]:
    """A process of a user who may read the file, but write nothing beside it."""
    if os.getuid() != 0:
        pytest.skip("only root can be another user")
    command = [sys.executable, "-c", AS_NOBODY, str(path)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT
    ) as process:
        yield process
        process.kill()


def said(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def ask_again(process: subprocess.Popen[str]) -> str:
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()
    return said(process)


def test_a_file_in_wal_mode_is_read_where_nothing_may_be_written(
    path: Path, nobody: subprocess.Popen[str]
) -> None:
    before = path.read_bytes()
    to_write = said(nobody)
    assert to_write.startswith("GrantMissingError")
    assert "read_only=true" in to_write
    assert said(nobody) == "second first"
    assert ask_again(nobody) == "second first"
    assert path.read_bytes() == before
    assert not path.with_name(f"{path.name}-wal").exists()
    with zm.open_store(path) as store:
        record(store, "third")
    assert ask_again(nobody).startswith("NotMlmdError")


def test_a_file_that_somebody_writes_is_read_where_nothing_may_be_written(
    path: Path, request: pytest.FixtureRequest
) -> None:
    with zm.open_store(path) as store:
        record(store, "third")
        nobody = request.getfixturevalue("nobody")
        assert said(nobody) == "third second first"
        assert said(nobody) == "third second first"
        record(store, "fourth")
        assert ask_again(nobody) == "fourth third second first"


def test_changes_in_a_wal_that_may_not_be_taken_in_are_told(
    path: Path, request: pytest.FixtureRequest
) -> None:
    with zm.open_store(path) as store:
        record(store, "third")
        for end in ("", "-wal"):
            shutil.copy(f"{path}{end}", f"{path}{end}.kept")
    for end in ("", "-wal"):
        Path(f"{path}{end}.kept").rename(f"{path}{end}")
    nobody = request.getfixturevalue("nobody")
    assert said(nobody).startswith("GrantMissingError")
    to_read = said(nobody)
    assert to_read.startswith("GrantMissingError")
    assert "changes in its WAL" in to_read
    assert "-wal" in to_read.partition("|")[2]
