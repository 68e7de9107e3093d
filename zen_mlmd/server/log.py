"""What a server tells: one JSON line each, on stderr, whole even where several processes write there.

No line holds anything that somebody recorded: names of RPCs, codes, sizes, times, and who called.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import threading
from datetime import datetime, timezone
from typing import Any

from zen_mlmd.server.calls import Done
from zen_mlmd.server.config import LogLevel

_lock = threading.Lock()
_descriptor = 2
_dropped = 0


def log_to(descriptor: int) -> None:
    """Write lines there; a worker's own stderr is for what is no line of JSON."""
    global _descriptor  # noqa: PLW0603 - as a process has one stderr
    _descriptor = descriptor


def write_event(event: str, **facts: Any) -> None:
    """Write what happened to the server itself; facts that are empty are left out."""
    _write({"event": event, **{key: value for key, value in facts.items() if value not in ("", None)}})


class CallLog:
    """Writes a line for each call that `level` names.

    Args:
        level: All calls, only those that failed, or none.
        worker: The worker's number.
    """

    def __init__(self, level: LogLevel, worker: int) -> None:
        self._level = level
        self._worker = worker

    def write(self, done: Done) -> None:
        """Write the line of a call, if there is to be one."""
        if self._level == "none" or (self._level == "errors" and done.code == "OK"):
            return
        line: dict[str, Any] = {
            "event": "call",
            "method": done.method,
            "code": done.code,
            "ms": round(done.seconds * 1000, 3),
            "request_bytes": done.request_bytes,
            "response_bytes": done.response_bytes,
            "client": done.client,
            "peer": done.peer,
            "worker": self._worker,
        }
        if done.trace_id:
            line["trace_id"] = done.trace_id
        _write(line)


def _write(line: dict[str, Any]) -> None:
    now = datetime.now(timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    data = (json.dumps({"time": now, **line}) + "\n").encode()
    # A pipe that has room at all has it for 4 KiB, which no line has. If nobody reads, calls go on untold.
    global _dropped  # noqa: PLW0603 - as a process has one log
    with _lock, contextlib.suppress(OSError, ValueError):
        room = select.poll()
        room.register(_descriptor, select.POLLOUT)
        if not room.poll(0):
            _dropped += 1
            return
        if _dropped:
            lost, _dropped = {"time": now, "event": "lines dropped", "count": _dropped}, 0
            data = (json.dumps(lost) + "\n").encode() + data
        os.write(_descriptor, data)
