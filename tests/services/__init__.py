"""Real servers for tests: they run as child processes and disappear with the test session."""

from __future__ import annotations

import atexit
import fcntl
import functools
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import trustme

_PREFIX = "zen-mlmd-tests-"

# Linux ends the child with SIGKILL when the thread that started it ends, however that came about
# (prctl(2), PR_SET_PDEATHSIG = 1); the setting survives execve. Asked for in the child rather than by
# preexec_fn, which forks the interpreter with whatever threads gRPC has running in it.
_DIE_WITH_PARENT = """
import ctypes, os, signal, sys
ctypes.CDLL(None).prctl(1, signal.SIGKILL)
if os.getppid() != int(sys.argv[1]):
    sys.exit(1)
os.execvp(sys.argv[2], sys.argv[2:])
"""


def start_child(
    command: Sequence[str], *, stdout: int | IO[bytes], stderr: int | IO[bytes], cwd: Path | None = None
) -> subprocess.Popen[bytes]:
    """Start `command` as a process that is killed when this one ends in whatever way."""
    guard = [sys.executable, "-I", "-S", "-c", _DIE_WITH_PARENT, str(os.getpid())]
    return subprocess.Popen(
        [*guard, *command], stdin=subprocess.DEVNULL, stdout=stdout, stderr=stderr, cwd=cwd
    )


def free_port() -> int:
    """Return a TCP port of 127.0.0.1 that nothing listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


@functools.cache
def session_directory() -> Path:
    """Return this session's directory; it goes with the session, and sweeps away those of dead ones.

    A session keeps a lock on its own directory: one whose lock can be had belongs to nobody any more.
    """
    for stale in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        _remove_if_unused(stale)
    made = Path(tempfile.mkdtemp(prefix=f".{_PREFIX}"))
    lock = (made / "lock").open("w")
    fcntl.flock(lock, fcntl.LOCK_EX)
    directory = made.rename(made.with_name(made.name.removeprefix(".")))  # locked before others see it
    owner = os.getpid()

    def remove() -> None:
        if os.getpid() == owner:  # not in a fork of it
            shutil.rmtree(directory, ignore_errors=True)
        lock.close()

    atexit.register(remove)
    return directory


def _remove_if_unused(directory: Path) -> None:
    try:
        with (directory / "lock").open() as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(directory, ignore_errors=True)
    except OSError:
        return  # locked by a living session, being made or removed just now, or another user's


def new_directory(name: str) -> Path:
    """Return a new, empty directory of this session."""
    return Path(tempfile.mkdtemp(prefix=f"{name}-", dir=session_directory()))


@dataclass(frozen=True)
class Certificates:
    """PEM files: an authority, and what it issued to a server on 127.0.0.1 and to one client."""

    ca: Path
    server_cert: Path
    server_key: Path
    client_cert: Path
    client_key: Path


def make_certificates(directory: Path) -> Certificates:
    """Write a new authority and its certificates into `directory`."""
    authority = trustme.CA()
    server = authority.issue_cert("127.0.0.1", "::1", "localhost")
    client = authority.issue_cert("zen@client.test")
    made = Certificates(
        ca=directory / "ca.pem",
        server_cert=directory / "server.pem",
        server_key=directory / "server.key",
        client_cert=directory / "client.pem",
        client_key=directory / "client.key",
    )
    authority.cert_pem.write_to_path(str(made.ca))
    server.private_key_pem.write_to_path(str(made.server_key))
    client.private_key_pem.write_to_path(str(made.client_key))
    made.server_cert.write_bytes(b"".join(blob.bytes() for blob in server.cert_chain_pems))
    made.client_cert.write_bytes(b"".join(blob.bytes() for blob in client.cert_chain_pems))
    return made
