"""What is wrong with a SQLite file as a file: its rights, its disk, its journal, its pages, who locks it.

Python's SQLite opens it, so no other library of this process may have it open.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from zen_mlmd.errors import ConnectionFailedError, GrantMissingError, LockTimeoutError, NotMlmdError
from zen_mlmd.service.finding import Finding, Thresholds, finding_of

MOUNTS: Final = Path("/proc/self/mountinfo")
_LOCKS: Final = Path("/proc/locks")
_NETWORK: Final = frozenset(
    ("nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "afs", "ceph", "lustre", "glusterfs", "beegfs", "gpfs")
)
_PROBLEMS: Final = 5
_BUSY_S: Final = 2.0
_POLL_S: Final = 0.02

# https://www.sqlite.org/fileformat2.html, 1.5 and 2.3.3 ("WAL_WRITE_LOCK"), and os.h of SQLite: the byte
# that a writer has locked, of the file in the older modes, of the -shm file in WAL mode.
_RESERVED_BYTE: Final = 0x40000001
_WAL_WRITE_BYTE: Final = 120

_REASONS: Final[tuple[tuple[tuple[str, ...], type[ConnectionFailedError], str, str], ...]] = (
    (
        ("file is not a database",),
        NotMlmdError,
        "it is no SQLite file",
        "is it the right file, and whole?",
    ),
    (
        ("database is locked", "database table is locked"),
        LockTimeoutError,
        f"a writer kept it locked for {_BUSY_S:g} s, for readers too",
        "let it finish, or end it",
    ),
    (
        ("unable to open", "attempt to write"),
        GrantMissingError,
        "you may not open it as its mode wants",
        "in WAL mode a reader makes files in its folder, too: have the folder's rights changed",
    ),
)
"""What SQLite says, and means by it."""


def examine_file(path: Path, thresholds: Thresholds, *, mounts: Path = MOUNTS) -> list[Finding]:
    """Return what is wrong with a file; nothing is changed.

    Args:
        path: Of a file that is there.
        thresholds: From where on something is found.
        mounts: Where Linux tells what is mounted.
    """
    path = path.resolve()
    found = [
        *_writer(path, thresholds),
        *_unwritable(path),
        *_room(path, thresholds),
        *_log(path, thresholds),
    ]
    journal = Path(f"{path}-journal")
    if _size(journal) and not _writers(path):
        found.append(
            Finding(
                "journal-left",
                "a writer was killed in the middle of a transaction, and left its journal",
                "what that had changed is rolled back",
                subject=journal.name,
                mendable=True,
            )
        )
        return found
    return [*found, *_content(path, thresholds, mounts)]


def mend_file(path: Path, finding: Finding) -> None:
    """Do what the remedy of a finding says: `journal-left` or `wal-large`."""
    with contextlib.closing(_connect(path.resolve(), "rw")) as database:
        # The first to read rolls back what a journal is left of.
        database.execute("SELECT count(*) FROM sqlite_master").fetchall()
        if finding.code == "wal-large":
            database.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()


def _unwritable(path: Path) -> Iterator[Finding]:
    for place in (path, path.parent):
        if not os.access(place, os.W_OK):
            yield Finding(
                "file-unwritable",
                f"you may read the store, and not write {place.name or place}",
                "have its rights changed, or open it with read_only=true",
                subject=str(place),
            )
            return


def _room(path: Path, thresholds: Thresholds) -> Iterator[Finding]:
    disk = os.statvfs(path.parent)
    free = disk.f_bavail * disk.f_frsize
    if free < thresholds.free_bytes:
        yield Finding(
            "disk-full",
            f"its disk has {free // 2**20} MiB left: writes will fail",
            "make room, or move the file",
            subject=str(path.parent),
        )


def _log(path: Path, thresholds: Thresholds) -> Iterator[Finding]:
    log = Path(f"{path}-wal")
    size = _size(log)
    if size > thresholds.wal_bytes:
        yield Finding(
            "wal-large",
            f"its write-ahead log has {size / 2**20:,.1f} MiB: some reader kept it from being taken in",
            "it is taken in, as far as readers let it",
            subject=log.name,
            mendable=True,
        )


def _content(path: Path, thresholds: Thresholds, mounts: Path) -> Iterator[Finding]:
    size = path.stat().st_size
    try:
        with contextlib.closing(_connect(path, "ro")) as database:
            ((mode,),) = database.execute("PRAGMA journal_mode").fetchall()
            yield from _on_network(path, str(mode), mounts)
            if size <= thresholds.checked_bytes:
                yield from _damaged(path, database)
            else:
                yield Finding(
                    "unchecked",
                    f"it has {size // 2**20:,} MiB, and was not looked through for damage",
                    "sqlite3 FILE 'PRAGMA quick_check'",
                    subject=path.name,
                )
    except sqlite3.DatabaseError as error:
        yield _unreadable(path, error)


def _damaged(path: Path, database: sqlite3.Connection) -> Iterator[Finding]:
    problems = [row[0] for row in database.execute(f"PRAGMA quick_check({_PROBLEMS})")]
    if problems != ["ok"]:
        # A problem's text has table and page numbers in it, and no values; the first line names the database.
        lines = [line for text in problems for line in str(text).splitlines() if not line.startswith("*** ")]
        yield _damage(path, "; ".join(lines[:_PROBLEMS]))


def _unreadable(path: Path, error: sqlite3.DatabaseError) -> Finding:
    text = str(error)
    for words, kind, what, hint in _REASONS:
        if text.startswith(words):
            return finding_of(kind(what, hint=hint))
    return _damage(path, text)


def _damage(path: Path, text: str) -> Finding:
    return Finding(
        "file-damaged",
        f"SQLite finds it damaged: {text}",
        "restore a backup; or save what can be read: sqlite3 FILE .recover | sqlite3 NEW",
        subject=path.name,
    )


def _on_network(path: Path, mode: str, mounts: Path) -> Iterator[Finding]:
    kind = _file_system(path, mounts)
    if mode == "wal" and kind in _NETWORK:
        yield Finding(
            "wal-on-network",
            f"it is in WAL mode on a network file system ({kind}): machines that share it damage it",
            "move it to a local disk; or, when nobody has it open: sqlite3 FILE 'PRAGMA journal_mode=delete'",
            subject=path.name,
        )


def _file_system(path: Path, mounts: Path) -> str:
    """Return the kind of file system that a path lies on; empty if that is not told here."""
    # https://man7.org/linux/man-pages/man5/proc_pid_mountinfo.5.html
    best, kind = "", ""
    try:
        lines = mounts.read_text("utf-8", "surrogateescape").splitlines()
    except OSError:
        return ""
    for line in lines:
        before, _, after = line.partition(" - ")
        point = before.split(" ")[4].replace("\\040", " ")
        if len(point) >= len(best) and path.is_relative_to(point):
            best, kind = point, after.split(" ")[0]
    return kind


def _writer(path: Path, thresholds: Thresholds) -> Iterator[Finding]:
    """Find a process that keeps the write lock all the time that we look."""
    until = time.monotonic() + thresholds.lock_s
    stuck = _writers(path)
    while stuck and time.monotonic() < until:
        time.sleep(_POLL_S)
        stuck &= _writers(path)
    for process in sorted(stuck):
        yield Finding(
            "writer-stuck",
            f"process {process} ({_program(process)}) has kept the write lock for {thresholds.lock_s:g} s",
            "let it finish, or end it: all other writers wait for it",
            subject=path.name,
        )


def _writers(path: Path) -> set[int]:
    """Return the processes of this machine that have a lock to write, of SQLite's or ours."""
    try:
        lines = _LOCKS.read_text("ascii", "replace").splitlines()
    except OSError:
        return set()
    files = {_inode(path): _RESERVED_BYTE, _inode(Path(f"{path}-shm")): _WAL_WRITE_BYTE}
    ours = _inode(Path(f"{path}.lock"))
    found = set()
    for line in lines:
        # 1: POSIX  ADVISORY  WRITE 4711 fe:00:12345 1073741825 1073741825
        fields = line.partition(": ")[2].split()
        if len(fields) < 7 or fields[2] != "WRITE":  # noqa: PLR2004 - one that waits begins with an arrow
            continue
        inode = int(fields[4].rpartition(":")[2])
        byte = files.get(inode)
        mine = fields[0] == "FLOCK" and inode == ours
        if mine or (byte is not None and _covers(fields[5], fields[6], byte)):
            found.add(int(fields[3]))
    return found - {os.getpid()}


def _covers(first: str, last: str, byte: int) -> bool:
    return int(first) <= byte and (last == "EOF" or byte <= int(last))


def _program(process: int) -> str:
    try:
        return Path(f"/proc/{process}/comm").read_text("utf-8", "replace").strip()
    except OSError:
        return "gone by now"


def _inode(path: Path) -> int:
    try:
        return path.stat().st_ino
    except OSError:
        return -1


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _connect(path: Path, mode: str) -> sqlite3.Connection:
    return sqlite3.connect(f"{path.as_uri()}?mode={mode}", uri=True, timeout=_BUSY_S, isolation_level=None)
