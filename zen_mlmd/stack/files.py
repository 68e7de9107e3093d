"""Files of settings: readable YAML that is changed by one process at a time, and whole or not at all."""

from __future__ import annotations

import contextlib
import os
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import yaml
from filelock import FileLock, Timeout

from zen_mlmd.errors import ConfigError, LockTimeoutError

_WAIT_S: Final = 60.0
"""How long a change waits for those of other processes; one takes some milliseconds."""


_PRIVATE: Final = 0o600


class SettingsFile:
    """One YAML file that holds a mapping.

    Args:
        path: Where it is; it need not be there.
        header: A comment to begin a new file with.
        mode: Its permissions, from the moment that it is made.
    """

    def __init__(self, path: Path, *, header: str = "", mode: int = 0o644) -> None:
        self.path = path
        self._header = header
        self._mode = mode
        self._lock = FileLock(path.with_name(f".{path.name}.lock"), timeout=_WAIT_S, mode=self._lock_mode())

    def read(self) -> dict[str, Any]:
        """Return what it holds; an empty mapping if it is not there.

        Raises:
            ConfigError: It cannot be read, or is no mapping; the message names the line and quotes none.
        """
        try:
            text = self.path.read_text("utf-8")
        except FileNotFoundError:
            return {}
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is no UTF-8"
            raise ConfigError(
                f"{self.path}: cannot be read: {reason}", hint="mend the file, or put it aside"
            ) from None
        found, line, problem = _parsed(text)
        if problem:
            raise ConfigError(
                f"{self.path}, line {line}: {problem}",
                hint="mend that line, or put the file aside; it was left as it is",
            )
        return found

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other processes from changing the file; a thread may take it again while it has it.

        Raises:
            ConfigError: The lock's file cannot be made.
            LockTimeoutError: Another process keeps it.
        """
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._lock.acquire()
        except Timeout:
            raise LockTimeoutError(
                f"{self.path}: another process has been changing it for {_WAIT_S:g} s",
                hint="look for a zen-mlmd that hangs, and end it",
            ) from None
        except OSError as error:
            raise self._unwritable(error) from error
        try:
            yield
        finally:
            self._lock.release()

    @contextlib.contextmanager
    def changing(self) -> Iterator[dict[str, Any]]:
        """Give what it holds, to be changed; it is written when the block ends without an exception.

        Raises:
            ConfigError: It cannot be read or written.
            LockTimeoutError: Another process keeps it.
        """
        with self.locked():
            content = self.read()
            yield content
            try:
                self._write(content)
            except OSError as error:
                raise self._unwritable(error) from error

    def _unwritable(self, error: OSError) -> ConfigError:
        return ConfigError(
            f"{self.path}: cannot be written: {error.strerror}",
            hint="see that you may write there and that the disk is not full",
        )

    def _write(self, content: dict[str, Any]) -> None:
        # In Unicode PyYAML writes a next-line character (U+0085) that it reads as another.
        style: dict[str, Any] = {"sort_keys": False, "allow_unicode": self._mode != _PRIVATE, "width": 100}
        text = self._header + yaml.safe_dump(content, **style)
        # A link to a file elsewhere (in a repository of dotfiles, on another disk) stays one.
        target = self.path.resolve()
        # mkstemp gives 0600, and what is put in the file's place keeps that if it is to be so.
        handle, name = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            Path(name).chmod(self._mode_of(target))
            Path(name).replace(target)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise

    def _lock_mode(self) -> int:
        """Return permissions of the lock: who may write in the folder of a project may take it."""
        try:
            writers = stat.S_IMODE(self.path.parent.stat().st_mode) & 0o022
        except OSError:
            writers = 0
        return 0o600 if self._mode == _PRIVATE else 0o600 | writers | writers << 1

    def _mode_of(self, target: Path) -> int:
        """Return the permissions to write with: those the file has, but none for others beside a secret."""
        try:
            found = stat.S_IMODE(target.stat().st_mode)
        except FileNotFoundError:
            return self._mode
        return found & self._mode if self._mode == _PRIVATE else found


def _parsed(text: str) -> tuple[dict[str, Any], int, str]:
    """Return the mapping in a text, or the line and the problem; PyYAML's own message quotes the text."""
    try:
        found = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        return {}, 1 if mark is None else mark.line + 1, "it is no YAML"
    except (ValueError, RecursionError):
        return {}, 1, "it is no YAML of settings"
    if found is None:
        return {}, 0, ""
    if not isinstance(found, dict) or not all(isinstance(key, str) for key in found):
        return {}, 1, "it holds no mapping of names"
    return found, 0, ""
