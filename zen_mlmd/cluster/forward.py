"""Forwards to Services of a cluster, each kept up by a process of its own."""

from __future__ import annotations

import dataclasses
import json
import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from filelock import FileLock, Timeout

from zen_mlmd.cluster.standing import Place, Standing, Target, Wish, places
from zen_mlmd.errors import ForwardError, ZenMlmdError

_CALLS: Final = 4
_START_S: Final = 60.0
"""For the process to begin; a slow machine needs some seconds to import kubernetes."""
_STOP_S: Final = 3.0
_POLL_S: Final = 0.05


def find(target: Target) -> Standing | None:
    """Return the forward to a target, whether its process lives or not; None if none was started."""
    return Place(target.key).read()


def up(wish: Wish, progress: Callable[[str], object] = lambda _: None) -> Standing:
    """See that a forward stands as it is wished; one that does is left as it is.

    Two that ask at once get the same.

    Args:
        wish: What is wanted.
        progress: Told in one line what is done next.

    Raises:
        ConfigError, MissingExtraError: The cluster is not known here, or kubernetes is not installed.
        ClusterUnreachableError, ClusterObjectError: The API server does not answer, or refuses something.
        ForwardError: No pod is ready, or the local port is taken. No process is left behind.
    """
    place = Place(wish.target.key)
    place.make()
    with _turn(place, wish.timeout_s):
        _stop_others(wish, place, progress)
        found = place.read()
        if found is not None and found.lives and _same(found.wish, wish):
            return found
        if place.holder() is not None:
            progress(f"stopping the forward to {wish.target} that has other settings")
            _stop(place)
        progress(f"opening a forward to {wish.target}")
        return _start(wish, place, found.port if found else 0)


def down(target: Target, *, owner: str = "") -> bool:
    """Stop the forward to a target, and forget it; tell whether there was one. Its log stays.

    Args:
        target: Where it goes.
        owner: A store whose other forwards are stopped too: those of its former settings.
    """
    was_there = _down(Place(target.key))
    for other in [each for each in places() if owner and _owner(each) == owner]:
        was_there = _down(other) or was_there
    return was_there


def _down(place: Place) -> bool:
    if not place.folder.is_dir():
        return False
    with _turn(place, 0):
        was_there = place.read() is not None or place.holder() is not None
        _stop(place)
        place.forget()
    return was_there


def _owner(place: Place) -> str:
    found = place.read()
    return found.wish.owner if found else ""


def log_lines(target: Target, *, tail: int | None = None, follow: bool = False) -> Iterator[str]:
    """Return the lines of a forward's log, the oldest first.

    Args:
        target: Where the forward goes.
        tail: How many of the last lines; None for all.
        follow: Go on with what happens, until the iterator is closed.
    """
    path = Place(target.key).log
    older, newer = (_read(each, 0) for each in (path.with_name(f"{path.name}.1"), path))
    lines = (older + newer).decode("utf-8", "replace").splitlines()
    yield from lines if tail is None else lines[len(lines) - min(tail, len(lines)) :]
    position = len(newer)
    while follow:
        time.sleep(_POLL_S)
        if path.exists() and path.stat().st_size < position:
            position = 0  # it was begun anew
        more = _read(path, position)
        position += len(more)
        yield from more.decode("utf-8", "replace").splitlines()


def _read(path: Path, position: int) -> bytes:
    """Return the whole lines of a file from a position on."""
    try:
        with path.open("rb") as file:
            file.seek(position)
            text = file.read()
    except FileNotFoundError:
        return b""
    return text[: text.rfind(b"\n") + 1]


def _same(one: Wish, other: Wish) -> bool:
    """Tell whether two wishes are for the same forward, whosever it is; any port will do if none is named."""
    wanted = dataclasses.replace(other, owner=one.owner)
    return one == wanted


def _stop_others(wish: Wish, place: Place, progress: Callable[[str], object]) -> None:
    """Stop what stood for the same store before its settings were changed."""
    for other in places():
        found = other.read() if wish.owner and other.state != place.state else None
        if found is not None and found.wish.owner == wish.owner:
            progress(f"stopping the forward to {found.wish.target}, where the store was before")
            _stop(other)
            other.forget()


@contextmanager
def _turn(place: Place, timeout_s: float) -> Iterator[None]:
    """Keep others from starting or stopping the same forward meanwhile."""
    lock = FileLock(place.turn, timeout=_CALLS * timeout_s + _START_S + _STOP_S, mode=0o600)
    try:
        lock.acquire()
    except Timeout:
        raise ForwardError(
            f"{place.turn}: another process is starting or stopping this forward and does not end",
            hint="see who it is with `fuser`, and end it",
        ) from None
    try:
        yield
    finally:
        lock.release()


def _start(wish: Wish, place: Place, preferred: int) -> Standing:
    """Start the process, and wait until it stands.

    Raises:
        ZenMlmdError: It cannot, for the reason that it gives.
    """
    given = json.dumps({"wish": dataclasses.asdict(wish), "preferred": preferred}).encode()
    limit_s = _CALLS * wish.timeout_s + _START_S
    with _log(place) as log:
        try:
            said = subprocess.run(  # it ends at once; its child goes on
                [sys.executable, "-m", "zen_mlmd.cluster.forwarder"],
                input=given,
                stdout=subprocess.PIPE,
                stderr=log,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(each for each in sys.path if each)},
                cwd="/",
                start_new_session=True,
                timeout=limit_s,
                check=False,
            ).stdout
        except subprocess.TimeoutExpired:
            said = b""
    outcome = pickle.loads(said) if said else None
    found = place.read()
    if isinstance(outcome, int) and found is not None and found.lives:
        return found
    _stop(place)
    place.forget()
    if isinstance(outcome, ZenMlmdError):
        raise outcome
    raise ForwardError(
        f"the forward's process ended without a word, or needed more than {limit_s:g} s",
        hint=f"what it wrote is in {place.log}",
    )


@contextmanager
def _log(place: Place) -> Iterator[int]:
    number = os.open(place.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        yield number
    finally:
        os.close(number)


def _stop(place: Place) -> None:
    """End the process of a forward, if there is one; no other process is ever meant.

    Raises:
        ForwardError: It does not end.
    """
    for number in (signal.SIGTERM, signal.SIGKILL):
        pid = place.holder()
        if pid is None:
            return
        _send(place, pid, number)
        ends = time.monotonic() + _STOP_S
        while place.holder() is not None:
            if time.monotonic() > ends:
                break
            time.sleep(0.01)
        else:
            return
    raise ForwardError(
        f"{place.alive}: the forward's process does not end", hint="end it yourself: it is named there"
    )


def _send(place: Place, pid: int, number: signal.Signals) -> None:
    """Send a signal to the process that keeps the lock: what has its number later is another."""
    if not pid or not _is_forwarder(pid):
        return
    descriptor = None
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    except (AttributeError, OSError):  # this Python, the kernel or a sandbox has none
        pass
    try:
        if place.holder() == pid:
            if descriptor is None:
                os.kill(pid, number)
            else:
                signal.pidfd_send_signal(descriptor, number)
    except ProcessLookupError:
        return
    finally:
        if descriptor is not None:
            os.close(descriptor)


def _is_forwarder(pid: int) -> bool:
    """Tell whether a process is a forward's: who keeps the lock may be another container's, or machine's."""
    try:
        return b"zen_mlmd.cluster.forwarder" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False
