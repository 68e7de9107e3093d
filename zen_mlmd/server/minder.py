"""What looks after one worker process: starts it, hears how it stands, and starts another when it ends."""

from __future__ import annotations

import contextlib
import pickle
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

from zen_mlmd.errors import UnreachableError
from zen_mlmd.server.log import write_event
from zen_mlmd.server.worker import News, Orders
from zen_mlmd.service.base import first_line

_START_S = 60.0
_END_S = 10.0
_RESTART_S = (0.1, 5.0)
_SILENT_S = 15.0

# The orders come through a pipe, since a command line and an environment are no place for a password. What
# may be imported there is what may be imported here, where a custom flavor lives perhaps.
_WORKER = """
import os, pickle, sys
orders = os.fdopen(os.dup(0), "rb")
sys.path[:] = pickle.load(orders)
from zen_mlmd.server.worker import main
main(orders)
"""


class Minder(threading.Thread):
    """Keeps one worker running.

    Args:
        orders: What the worker is to do.
        ended: Called with the process id of a worker that is no more.

    """

    def __init__(self, orders: Orders, ended: Callable[[int], None]) -> None:
        super().__init__(name=f"worker-{orders.number}", daemon=True)
        self._up = False
        self._heard_at = 0.0
        self._orders = orders
        self._tell_ended = ended
        self._process: subprocess.Popen[bytes] | None = None
        self._news: News | None = None
        self._heard = threading.Event()
        self._stopping = threading.Event()
        self._has_served = False
        self._deadline: threading.Timer | None = None
        self._lock = threading.Lock()

    @property
    def up(self) -> bool:
        """Whether the worker runs and its store answers; one that says nothing stands still."""
        return self._up and time.monotonic() - self._heard_at < _SILENT_S

    @property
    def pid(self) -> int | None:
        """The worker's process id, if one runs."""
        process = self._process
        return process.pid if process is not None and process.poll() is None else None

    def wait_until_ready(self) -> None:
        """Wait for the worker's first news, and raise what is wrong."""
        if not self._heard.wait(_START_S) or self._news is None:
            raise UnreachableError(
                f"worker {self._orders.number} did not start within {_START_S:g} s",
                hint="see what it says on stderr",
            )
        if self._news.error is not None:
            raise self._news.error

    def tell_to_stop(self) -> None:
        """Let the worker finish its calls and end."""
        self._stopping.set()
        with self._lock:
            if self._process is not None and self._process.stdin is not None:
                with contextlib.suppress(OSError):  # it ended by itself
                    self._process.stdin.close()
                self._deadline = threading.Timer(self._orders.config.grace_s + _END_S, self._process.kill)
                self._deadline.daemon = True
                self._deadline.start()

    def run(self) -> None:
        """Start a worker, and another one when it has ended, until told to stop."""
        pause, longest = _RESTART_S
        while not self._stopping.is_set():
            try:
                process = self._spawn()
            except OSError as error:  # no descriptor, process or memory is left: that may pass
                write_event("worker cannot start", worker=self._orders.number, text=str(error.strerror))
                self._stopping.wait(longest)
                continue
            if process is None:
                return
            complaints = threading.Thread(target=self._relay, args=(process,), daemon=True)
            complaints.start()
            was_ready = self._listen(process)
            complaints.join(_END_S)
            code = self._ended(process)
            self._heard.set()
            if self._stopping.is_set() or not self._has_served:
                return
            pause = _RESTART_S[0] if was_ready else min(pause * 2, longest)
            write_event(
                "worker ended", worker=self._orders.number, pid=process.pid, exit_code=code, again_in_s=pause
            )
            self._stopping.wait(pause)

    def _spawn(self) -> subprocess.Popen[bytes] | None:
        command = [sys.executable, "-I", "-c", _WORKER]
        with self._lock:
            if self._stopping.is_set():
                return None
            process = subprocess.Popen(  # noqa: S603 - our own command
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                pass_fds=[self._orders.log],
            )
            self._process = process
        assert process.stdin is not None
        try:
            pickle.dump([path or str(Path.cwd()) for path in sys.path], process.stdin)
            pickle.dump(self._orders, process.stdin)
            process.stdin.flush()
        except (BrokenPipeError, ValueError):
            pass  # it ended at once, or we are to stop: seen below
        return process

    def _listen(self, process: subprocess.Popen[bytes]) -> bool:
        """Take the worker's news until it ends; return whether it served."""
        assert process.stdout is not None
        was_ready = False
        while True:
            try:
                news: News = pickle.load(process.stdout)
            except (EOFError, pickle.UnpicklingError, ConnectionError):
                return was_ready
            changed = was_ready and news != self._news
            self._news, self._up, self._heard_at = news, news.up, time.monotonic()
            if news.error is not None and self._has_served:
                write_event("worker cannot start", worker=self._orders.number, text=news.error.args[0])
            first, was_ready = not was_ready, news.error is None
            self._has_served = self._has_served or was_ready
            self._heard.set()
            if changed or (first and news.problem):
                event = "store answers" if news.up else "store away"
                write_event(event, worker=self._orders.number, text=news.problem)

    def _relay(self, process: subprocess.Popen[bytes]) -> None:
        """Tell as JSON what a worker's libraries print, without what it quotes of somebody's content."""
        assert process.stderr is not None
        with contextlib.suppress(ValueError):  # closed meanwhile
            for line in process.stderr:
                write_event(
                    "stderr", worker=self._orders.number, text=first_line(line.decode("utf-8", "replace"))
                )

    def _ended(self, process: subprocess.Popen[bytes]) -> int:
        self._up = False
        try:
            code = process.wait(_END_S)
        except subprocess.TimeoutExpired:  # it only closed its pipe
            process.kill()
            code = process.wait()
        with self._lock:
            if self._deadline is not None:
                self._deadline.cancel()
            for pipe in (process.stdin, process.stdout, process.stderr):
                if pipe is not None:
                    with contextlib.suppress(OSError):
                        pipe.close()
        with contextlib.suppress(OSError):
            self._tell_ended(process.pid)
        return code
