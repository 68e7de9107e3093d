"""Bearer tokens: a readable file that holds no token, only the hash of each.

A token is 256 random bits, so that a plain SHA-256 of it can neither be guessed nor looked up; slow
hashes are for what people choose. Tokens are made here only, never taken from a user.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from zen_mlmd.errors import ConfigError, NotFoundError

Scope = Literal["read", "write"]

PREFIX = "zmt_"
"""Begins every token, so that scanners for leaked secrets know one."""

_HEAD = "# Tokens of an MLMD server (zen-mlmd token): hashes only. A token is valid until `expires`.\n"
_LOOK_S = 1.0
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the one in C where there is one: 10 times as fast


class Token(BaseModel):
    """One token, as its file keeps it.

    Attributes:
        name: Who has it; several may have one name, while one replaces another.
        scope: `read` for reading only, `write` for both.
        sha256: Of the token, in hexadecimal.
        expires: The moment from which it is refused; None for never.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._@-]{0,63}$")
    scope: Scope
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$", repr=False)
    created: datetime
    expires: datetime | None = None

    def is_valid(self, at: datetime) -> bool:
        """Tell whether it is not expired; a time without a zone is UTC."""
        if self.expires is None:
            return True
        end = self.expires if self.expires.tzinfo else self.expires.replace(tzinfo=timezone.utc)
        return at < end


_LIST = TypeAdapter(list[Token])


class TokenFile:
    """The tokens of a file, read again when it changes.

    A file that is gone or cannot be read any more leaves the tokens that were valid: half a file must not
    lock everyone out. To revoke all, write an empty list.

    Attributes:
        problem: What was wrong with the file when it was last looked at; empty if nothing.

    Raises:
        ConfigError: The file cannot be read when it is opened.
    """

    def __init__(self, path: str | Path) -> None:
        self._path = Path(path)
        self.problem = ""
        self._seen = _stamp(self._path)
        self._by_hash = _by_hash(read_tokens(self._path))
        self._looked_at = time.monotonic()
        self._lock = threading.Lock()

    def find(self, token: str) -> Token | None:
        """Return who has this token, or None: unknown, revoked or expired."""
        self.look()
        found = self._by_hash.get(_hash(token))
        return found if found is not None and found.is_valid(_now()) else None

    def look(self) -> None:
        """Read the file again if it changed; once a second at most."""
        with self._lock:
            if time.monotonic() - self._looked_at < _LOOK_S:
                return
            self._looked_at = time.monotonic()
            stamp = _stamp(self._path)
            if stamp == self._seen and not self.problem:
                return
            try:
                self._by_hash = _by_hash(read_tokens(self._path))
            except ConfigError as error:
                self.problem = error.message
            else:
                self._seen, self.problem = stamp, ""


def read_tokens(path: Path) -> list[Token]:
    """Return the tokens of a file.

    Raises:
        ConfigError: It cannot be read, or is no such file; the message names the line or the entry.
    """
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), Loader=_LOADER)  # noqa: S506 - a safe one
        return _LIST.validate_python([] if content is None else content)
    except OSError as error:
        raise ConfigError(
            f"{path}: cannot be read: {error.strerror}", hint=f"zen-mlmd token create --file {path} NAME"
        ) from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark is not None else ""
        fault = f"{path}{where}: is no YAML"
        hint = "it is a list of entries that `zen-mlmd token create` writes"
    except ValidationError as error:
        faults = "; ".join(
            f"entry {'.'.join(str(part) for part in fault['loc'])}: {fault['msg']}"
            for fault in error.errors(include_url=False, include_input=False, include_context=False)
        )
        fault = f"{path}: {faults}"
        hint = "each entry has name, scope (read or write), sha256, created, expires"
    # Out here, lest it keep an error that quotes the file, where somebody may have put a token.
    raise ConfigError(fault, hint=hint)


def create_token(path: Path, name: str, scope: Scope, *, days: float | None = None) -> str:
    """Add a token to a file, which is made if there is none, and return it: it can be shown only now.

    Args:
        path: The file.
        name: Who has it.
        scope: `read` or `write`.
        days: How long it is valid; None for ever.

    Raises:
        ConfigError: The name is no name, or the file cannot be read or written.
    """
    text = PREFIX + secrets.token_urlsafe(32)
    now = _now().replace(microsecond=0)
    token = None
    with contextlib.suppress(ValidationError, OverflowError):
        token = Token(
            name=name,
            scope=scope,
            sha256=_hash(text),
            created=now,
            expires=None if days is None else now + timedelta(days=days),
        )
    if token is None:  # told here, lest it keep pydantic's error, which has the values, as its context
        raise ConfigError(
            f"{name!r} for {days} days makes no token",
            hint="a name has 1 to 64 letters, digits and ._@-, and no time ends after the year 9999",
        )
    with _locked(path):
        known = read_tokens(path) if path.exists() else []
        _write(path, [*known, token])
    return text


def revoke_tokens(path: Path, name: str) -> int:
    """Take all tokens of a name out of a file; return how many there were.

    Raises:
        ConfigError: The file cannot be read or written.
        NotFoundError: There is none of that name.
    """
    with _locked(path):
        known = read_tokens(path)
        kept = [each for each in known if each.name != name]
        if len(kept) == len(known):
            names = ", ".join(sorted({each.name for each in known})) or "nobody"
            raise NotFoundError(f"{path}: no token of {name!r}", hint=f"it has tokens of {names}")
        _write(path, kept)
    return len(known) - len(kept)


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    import fcntl

    try:
        # On its folder: the file itself is replaced.
        descriptor = os.open(path.resolve().parent, os.O_RDONLY)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}", hint="does its folder exist?") from None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _write(path: Path, tokens: Iterable[Token]) -> None:
    path = path.resolve()
    rows: list[dict[str, Any]] = [each.model_dump(exclude_none=True) for each in tokens]
    name = ""
    try:
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=".tokens-")  # mode 0600
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(_HEAD + yaml.safe_dump(rows, sort_keys=False))
            file.flush()
            os.fsync(file.fileno())
        if path.exists():
            before = path.stat()  # the server may be another user's
            Path(name).chmod(before.st_mode & 0o777)
            with contextlib.suppress(PermissionError):
                os.chown(name, before.st_uid, before.st_gid)
        Path(name).replace(path)
    except OSError as error:
        Path(name).unlink(missing_ok=True) if name else None
        raise ConfigError(
            f"{path}: cannot be written: {error.strerror}", hint="may you write there?"
        ) from None


def _by_hash(tokens: Iterable[Token]) -> dict[str, Token]:
    return {each.sha256: each for each in tokens}


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()


def _now() -> datetime:
    return datetime.now(timezone.utc)
