"""What is wrong with a SQLite file as a file."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from tests.doctor.conftest import codes, damage
from zen_mlmd.cli.main import main
from zen_mlmd.doctor import examine, mend
from zen_mlmd.errors import UsageError
from zen_mlmd.flavors import SqliteConfig, config_from_url
from zen_mlmd.flavors.sqlite_examination import examine_file
from zen_mlmd.service.finding import Thresholds
from zen_mlmd.service.lock import WriteLock
from zen_mlmd.store import open_store

NOBODY = 65534
SHORT = Thresholds(lock_s=0.1)

_CHILD = """
import os, signal, sqlite3, sys
database = sqlite3.connect(sys.argv[1], isolation_level=None)
{work}
print("ready", flush=True)
sys.stdin.read()
os.kill(os.getpid(), signal.SIGKILL)
"""


@contextmanager
def child(path: Path, *work: str) -> Iterator[subprocess.Popen[str]]:
    """A process that has done something with the file, still has it open, and is killed at the end."""
    script = _CHILD.format(work="\n".join(f"database.execute({each!r})" for each in work))
    with subprocess.Popen(
        [sys.executable, "-S", "-c", script, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield process


def test_a_damaged_page_is_found_and_nothing_more_is_read(path: Path) -> None:
    with closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        ((page,),) = database.execute("SELECT rootpage FROM sqlite_master WHERE name = 'Event'")
        ((size,),) = database.execute("PRAGMA page_size")
    with path.open("r+b") as file:
        file.seek((page - 1) * size)
        file.write(b"\xff" * 64)
    (finding,) = examine(config_from_url(path))
    assert (finding.code, finding.mendable) == ("file-damaged", False)
    assert ".recover" in finding.remedy
    assert main(["doctor", str(path)]) == 3
    before = path.read_bytes()
    told: list[str] = []
    assert (
        mend(config_from_url(path), told.append) == 0
    )  # of such a file any row seems to have lost its owner
    assert (told, path.read_bytes()) == ([], before)


def test_a_damaged_header_is_found(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(100)
        file.write(b"\xff" * 64)
    assert codes(examine(config_from_url(path))) == ["file-damaged"]
    path.write_text("These are the notes of a meeting, and no database at all.\n" * 20)
    assert codes(examine(config_from_url(path))) == ["not-mlmd"]


def test_a_killed_writers_journal_is_rolled_back_if_told(path: Path) -> None:
    damage(path, "PRAGMA journal_mode=delete")
    rows = "SELECT id, name FROM Context ORDER BY id"
    with closing(sqlite3.connect(path)) as database:
        before = database.execute(rows).fetchall()
    spilled = (
        "PRAGMA cache_size=1",
        "BEGIN",
        "UPDATE Context SET name = name || hex(zeroblob(4000))",
        "UPDATE Artifact SET uri = hex(zeroblob(4000))",
    )
    with child(path, *spilled):
        running = examine(config_from_url(path), thresholds=SHORT)
        assert codes(running) == ["lock-held", "writer-stuck"], "it is no leftover while the writer lives"
    journal = Path(f"{path}-journal")
    assert journal.stat().st_size
    (finding,) = examine(config_from_url(path))
    assert (finding.code, finding.mendable) == ("journal-left", True)
    assert journal.exists(), "looking changes nothing"
    assert main(["doctor", str(path), "--fix", "--yes"]) == 0
    assert not journal.exists()
    with closing(sqlite3.connect(path)) as database:
        assert database.execute(rows).fetchall() == before


def test_a_log_that_was_not_taken_in_is(path: Path) -> None:
    damage(path, "PRAGMA journal_mode=wal")
    all_of_it = Thresholds(wal_bytes=0)
    with child(path, "UPDATE Artifact SET uri = 'mem://other' WHERE id = 1"):
        (finding,) = examine(config_from_url(path), thresholds=all_of_it)
        assert (finding.code, finding.mendable) == ("wal-large", True)
        assert mend(config_from_url(path), thresholds=all_of_it) == 1
        assert Path(f"{path}-wal").stat().st_size == 0
        assert examine(config_from_url(path), thresholds=all_of_it) == []


def test_write_ahead_logging_on_a_network_drive_is_told(path: Path, tmp_path: Path) -> None:
    mounts = tmp_path / "mountinfo"
    line = "36 35 98:0 / {point} rw,noatime shared:1 - {kind} server:/share rw\n"
    damage(path, "PRAGMA journal_mode=wal")
    for kind, found in (("nfs4", ["wal-on-network"]), ("ext4", [])):
        mounts.write_text(line.format(point="/", kind="overlay") + line.format(point=tmp_path, kind=kind))
        assert codes(examine_file(path, Thresholds(), mounts=mounts)) == found
    damage(path, "PRAGMA journal_mode=delete")
    mounts.write_text(line.format(point=tmp_path, kind="nfs"))
    assert examine_file(path, Thresholds(), mounts=mounts) == []


@pytest.mark.parametrize("mode", ["delete", "wal"])
def test_a_writer_that_does_not_end_is_named(path: Path, mode: str) -> None:
    damage(path, f"PRAGMA journal_mode={mode}")
    config = config_from_url(path)
    with child(path, "BEGIN IMMEDIATE") as process:
        (finding,) = examine(config, thresholds=SHORT)
        assert finding.code == "writer-stuck"
        assert f"process {process.pid} (python" in finding.what
    assert examine(config, thresholds=SHORT) == []


def test_a_holder_of_our_own_lock_is_named(path: Path) -> None:
    script = (
        "import sys; from zen_mlmd.service.lock import WriteLock; lock = WriteLock(sys.argv[1]);"
        " lock.acquire(); print('ready', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", script, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        (finding,) = examine(config_from_url(path), thresholds=SHORT)
        assert f"process {process.pid} " in finding.what
        damage(path, "DROP INDEX idx_artifact_uri")
        hurried = SqliteConfig(path=str(path), wait_s=0)
        with pytest.raises(Exception, match="write lock"):
            mend(hurried, thresholds=SHORT)
    WriteLock(str(path)).close()


def test_a_reader_that_is_locked_out_says_so(path: Path) -> None:
    damage(path, "PRAGMA journal_mode=delete")
    with child(path, "BEGIN EXCLUSIVE"):
        assert codes(examine(config_from_url(path), thresholds=SHORT)) == ["lock-held", "writer-stuck"]


def test_a_disk_that_is_full_and_a_file_that_is_too_long_to_look_through(path: Path) -> None:
    found = examine(config_from_url(path), thresholds=Thresholds(free_bytes=2**62, checked_bytes=0))
    assert codes(found) == ["disk-full", "unchecked"]
    assert "quick_check" in found[1].remedy


@pytest.fixture
def theirs(path: Path) -> Iterator[Path]:
    """A store of somebody else's, in a folder in which nothing may be made."""
    folder = Path(tempfile.mkdtemp())
    other = shutil.copyfile(path, folder / "metadata.db")
    other.chmod(0o444)
    folder.chmod(0o555)
    yield other
    folder.chmod(0o755)
    shutil.rmtree(folder)


@contextmanager
def somebody() -> Iterator[None]:
    """A user to whom the rights of files mean something."""
    if os.getuid():
        yield
        return
    os.setresuid(NOBODY, NOBODY, 0)
    try:
        yield
    finally:
        os.setresuid(0, 0, 0)


def test_a_store_that_may_not_be_written_is_told(theirs: Path) -> None:
    config = config_from_url(theirs)
    # Rows are read in a process of its own, for which somebody has to be let in where Python lies.
    with somebody():
        in_wal_mode = examine(config, quick=True)
    assert codes(in_wal_mode) == ["grant-missing", "file-unwritable"]
    theirs.parent.chmod(0o755)
    theirs.chmod(0o644)
    damage(theirs, "PRAGMA journal_mode=delete")
    theirs.chmod(0o444)
    theirs.parent.chmod(0o555)
    with somebody():
        (finding,) = examine(config, quick=True)
    assert (finding.code, finding.mendable) == ("file-unwritable", False)
    assert "read_only" in finding.remedy


def test_a_file_that_this_process_has_open_is_not_touched(path: Path) -> None:
    with open_store(path) as store:
        store.list_runs()
        for call in (examine, mend):
            with pytest.raises(UsageError, match="has the file open"):
                call(config_from_url(path))
