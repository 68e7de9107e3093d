"""What the database servers of the tests have in common: a process, a directory, a port, one user."""

from __future__ import annotations

import abc
import secrets
import shutil
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from typing_extensions import Self

from tests.services import Certificates, free_port, make_certificates, new_directory, start_child

_START_TIMEOUT_S = 30.0
_STOP_TIMEOUT_S = 30.0


class DatabaseServer(abc.ABC):
    """One server on a free port of 127.0.0.1, with data of its own.

    Attributes:
        program: What its process is called.
        port: The TCP port; the same after `restart`.
        password: The password of `zen`.
        directory: Its files.
        certificates: The PEM files, if made with `tls=True`.
    """

    host = "127.0.0.1"
    user = "zen"
    program: ClassVar[str]

    def __init__(self, *, tls: bool = False, options: Sequence[str] = ()) -> None:
        """Prepare a server.

        Args:
            tls: Offer TLS, with a certificate for 127.0.0.1 and localhost.
            options: More settings, as the server has them; they win over those of the tests.
        """
        self.port = free_port()
        self.password = secrets.token_urlsafe(12)
        self.directory = new_directory(self.program)
        self.certificates: Certificates | None = make_certificates(self.directory) if tls else None
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.remove()

    def start(self) -> None:
        """Start the server and wait until it answers.

        Raises:
            FileNotFoundError: It is not installed.
            RuntimeError: It ended at once; the text has the end of its log.
        """
        is_new = not self._data.exists()
        if is_new:
            self._make_data()
        with self._log.open("ab") as log:
            self._process = start_child(self._command(), stdout=log, stderr=log)
        self._wait()
        if is_new:
            self._furnish()

    @abc.abstractmethod
    def stop(self) -> None:
        """Stop the server cleanly; its data stay for `start`."""

    def kill(self) -> None:
        """End the server with SIGKILL, as a crash does."""
        if self._process is not None:
            self._process.kill()
            self._ended()

    def restart(self) -> None:
        """Stop the server if it runs, and start it again on the same port and data."""
        self.stop()
        self.start()

    def remove(self) -> None:
        """Kill the server and delete its data."""
        self.kill()
        shutil.rmtree(self.directory, ignore_errors=True)

    @property
    def _data(self) -> Path:
        return self.directory / "data"

    @property
    def _log(self) -> Path:
        return self.directory / "log"

    @abc.abstractmethod
    def _make_data(self) -> None:
        """Make the directory `_data`."""

    def _furnish(self) -> None:  # noqa: B027 - not every server needs it
        """Do what a server needs that has just been made and runs."""

    @abc.abstractmethod
    def _command(self) -> list[str]: ...

    @abc.abstractmethod
    def _answers(self) -> bool: ...

    def _wait(self) -> None:
        assert self._process is not None
        deadline = time.monotonic() + _START_TIMEOUT_S
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                log_end = self._log.read_text(errors="replace")[-2000:]
                self.kill()
                raise RuntimeError(f"{self.program} did not start; its log ends with:\n{log_end}")
            time.sleep(0.02)

    def _ended(self) -> None:
        assert self._process is not None
        try:
            self._process.wait(_STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            raise
        finally:
            self._process = None
