"""Where payloads lie: what any place does, and the places on this machine's disk.

A payload is a directory with one or more files, or (written by others) a single file. Directories
without files do not count: object stores have none.
"""

from __future__ import annotations

import abc
import contextlib
import errno
import hashlib
import os
import shutil
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from zen_mlmd.errors import PayloadError, PayloadMissingError, ZenMlmdError

Writer = Callable[[Path], None]
"""Fills the fresh local directory that it is given."""

_CHUNK_BYTES = 1 << 20
LOCAL_SCHEMES = ("file", "local")
"""The schemes that fsspec takes for local paths."""
_TAKEN = (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR)


@dataclass(frozen=True, slots=True)
class Payload:
    """What lies at a URI.

    Attributes:
        uri: A plain absolute path where it is local, else the URL.
        content_hash: `sha256:<hex>`, see `payload_hash`.
        size_bytes: All files together.
    """

    uri: str
    content_hash: str
    size_bytes: int


class Place(abc.ABC):
    """One URI and what lies there, if anything does.

    Attributes:
        uri: A plain absolute path where it is local, else the URL.
    """

    uri: str

    @abc.abstractmethod
    def files(self) -> dict[str, int]:
        """Return each file's name relative to the place, with `/`, and its size in bytes.

        A single file at the very place is named "". Empty if nothing is there.
        """

    @abc.abstractmethod
    def open(self, name: str) -> IO[bytes]:
        """Open one of `files` for reading."""

    @abc.abstractmethod
    def as_local(self) -> contextlib.AbstractContextManager[Path]:
        """Give a local path of the payload for as long as the context lasts."""

    @abc.abstractmethod
    def put(self, writer: Writer) -> Payload:
        """Write what `writer` makes: whole, or not at all, and never over other content."""

    @abc.abstractmethod
    def delete(self) -> None:
        """Remove the payload."""

    def measure(self) -> Payload:
        """Return hash and size of what is there, streamed."""
        with translated(self.uri, "read"):
            files = {_encoded(name): (name, size) for name, size in self.files().items()}
            if not files:
                raise missing(self.uri)
            digest = hashlib.sha256()
            for encoded, (name, size) in sorted(files.items()):
                digest.update(b"%d:%b%d:" % (len(encoded), encoded, size))
                with self.open(name) as stream:
                    if _feed(digest, stream) != size:
                        raise PayloadError(
                            f"{shown(self.uri)}: a file changed while it was read",
                            hint="try again when nothing writes there",
                        )
            size_bytes = sum(size for _, size in files.values())
            return Payload(self.uri, f"sha256:{digest.hexdigest()}", size_bytes)

    def must_equal(self, wanted: Payload) -> None:
        """Raise PayloadError unless `wanted` is what lies there."""
        try:
            same = self.measure() == wanted
        except PayloadMissingError:  # directories, but no file
            same = False
        if not same:
            raise PayloadError(
                f"{shown(self.uri)}: something else lies there already, and nothing is overwritten",
                hint="write to another URI, or delete that payload first",
            )


class LocalPlace(Place):
    """A path of this machine."""

    def __init__(self, path: str) -> None:
        self.path = Path(os.path.abspath(os.path.expanduser(path)))  # noqa: PTH100, PTH111 - keeps links
        self.uri = str(self.path)

    def files(self) -> dict[str, int]:
        """See `Place.files`; raises PayloadError for a link to a directory or a special file in it."""
        if self.path.is_file():
            return {"": self.path.stat().st_size}
        if not self.path.is_dir():
            return {}
        found = {}
        for directory, subdirectories, names in os.walk(self.path, onerror=_raise):
            if any(Path(directory, name).is_symlink() for name in subdirectories):
                raise _not_plain(self.uri)
            for name in names:
                path = Path(directory, name)
                if not path.is_file():
                    raise _not_plain(self.uri)
                found[path.relative_to(self.path).as_posix()] = path.stat().st_size
        return found

    def open(self, name: str) -> IO[bytes]:
        """See `Place.open`."""
        return (self.path / name).open("rb")

    @contextlib.contextmanager
    def as_local(self) -> Iterator[Path]:
        """Give the very path."""
        with translated(self.uri, "read"):
            if not self.files():
                raise missing(self.uri)
        yield self.path

    def put(self, writer: Writer) -> Payload:
        """Write beside the target, then rename: one step, in which no other process can come between."""
        parent = self.path.parent
        temporary = parent / temporary_name()
        with translated(self.uri, "written"):
            parent.mkdir(parents=True, exist_ok=True)
            temporary.mkdir()  # not mkdtemp, whose mode would shut out all other users for ever
        try:
            made = of_writer(writer, temporary, self.uri)
            with translated(self.uri, "written"):
                for directory, _, names in os.walk(temporary):
                    for path in (*(Path(directory, name) for name in names), Path(directory)):
                        _fsync(path)
                try:
                    temporary.rename(self.path)
                except OSError as error:
                    if error.errno not in _TAKEN:
                        raise
                    self.must_equal(made)
                _fsync(parent)
            return made
        finally:
            shutil.rmtree(temporary, ignore_errors=True)

    def delete(self) -> None:
        """Rename it away first, so that nobody meets half of it."""
        with translated(self.uri, "deleted"):
            if not self.files():
                raise missing(self.uri)
            doomed = self.path.parent / temporary_name()
            self.path.rename(doomed)
            if doomed.is_symlink() or doomed.is_file():
                doomed.unlink()
            else:
                shutil.rmtree(doomed)


def shown(uri: str) -> str:
    """Return a URI as messages may show it: without user, password and query."""
    scheme, separator, rest = uri.partition("://")
    if not separator or scheme in LOCAL_SCHEMES:
        return uri
    rest = rest.partition("?")[0]
    host, slash, path = rest.partition("/")
    return f"{scheme}://{host.rpartition('@')[2]}{slash}{path}"


def missing(uri: str) -> PayloadMissingError:
    """Return the error for a place without files."""
    return PayloadMissingError(
        f"{shown(uri)}: nothing lies there",
        hint="it was deleted or moved, or this machine does not see that store",
    )


@contextlib.contextmanager
def translated(uri: str, deed: str, *, only: type[Exception] = Exception) -> Iterator[None]:
    """Turn what a file system raises into a PayloadError that says what could not be done."""
    try:
        yield
    except ZenMlmdError:
        raise
    except only as error:
        if isinstance(error, FileNotFoundError) and deed == "read":
            raise missing(uri) from error
        # Not the error's own text: it may hold a signed URL.
        reason = (isinstance(error, OSError) and error.strerror) or type(error).__name__
        raise PayloadError(
            f"{shown(uri)}: cannot be {deed}: {reason}",
            hint="check that the place exists, has room, and that you may use it",
        ) from error


def of_writer(writer: Writer, directory: Path, uri: str) -> Payload:
    """Let the writer fill a directory; return what it made, under the URI that it will have."""
    with translated(uri, "written", only=OSError):
        writer(directory)
    for parent, _, names in os.walk(directory):
        if any(Path(parent, name).is_symlink() for name in names):
            raise _not_plain(uri)
    place = LocalPlace(str(directory))
    if not place.files():
        raise PayloadError(f"{shown(uri)}: nothing was written", hint="write at least one file")
    made = place.measure()
    return Payload(uri, made.content_hash, made.size_bytes)


def _not_plain(uri: str) -> PayloadError:
    return PayloadError(
        f"{shown(uri)}: holds something else than plain files and directories",
        hint="a payload must not hold links or special files; copy what they point at",
    )


def _encoded(name: str) -> bytes:
    return name.encode("utf-8", "surrogateescape")


def _feed(digest: Any, stream: IO[bytes]) -> int:
    total = 0
    while chunk := stream.read(_CHUNK_BYTES):
        digest.update(chunk)
        total += len(chunk)
    return total


def temporary_name() -> str:
    """Return a name that nothing else has, and that says whose leavings it is."""
    return f".zen_mlmd-{uuid.uuid4().hex}.tmp"


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _raise(error: OSError) -> None:
    raise error
