"""Places behind fsspec: memory, object stores, other machines."""

from __future__ import annotations

import contextlib
import tempfile
import threading
import urllib.parse
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from zen_mlmd.errors import ConfigError, MissingExtraError, PayloadError
from zen_mlmd.payloads.places import (
    LocalPlace,
    Payload,
    Place,
    Writer,
    missing,
    of_writer,
    shown,
    temporary_name,
    translated,
)


class RemotePlace(Place):
    """A URL that fsspec knows."""

    def __init__(self, uri: str) -> None:
        self.uri = uri
        self._fs, self._path = _filesystem(uri)

    def files(self) -> dict[str, int]:
        """See `Place.files`; asks anew, past fsspec's cache of listings."""
        self._fs.invalidate_cache()
        try:
            there = self._fs.info(self._path)
        except FileNotFoundError:
            return {}
        if there["type"] == "file":
            return {"": there["size"]}
        # Object stores mark a directory by an empty object whose name ends in a slash.
        return {
            name[len(self._path) + 1 :]: entry["size"]
            for name, entry in self._fs.find(self._path, detail=True).items()
            if entry["type"] == "file" and name != self._path and not name.endswith("/")
        }

    def open(self, name: str) -> IO[bytes]:
        """See `Place.open`."""
        stream: IO[bytes] = self._fs.open(self._join(self._path, name), "rb")
        return stream

    def measure(self) -> Payload:
        """See `Place.measure`."""
        with _lock_of(self.uri):
            return super().measure()

    @contextlib.contextmanager
    def as_local(self) -> Iterator[Path]:
        """Give a copy in the machine's temporary directory."""
        with tempfile.TemporaryDirectory(prefix="zen_mlmd-") as directory:
            local = Path(directory, "payload")
            with _lock_of(self.uri), translated(self.uri, "read"):
                files = self.files()
                if not files:
                    raise missing(self.uri)
                for name in files:
                    target = local / _inside(name, self.uri) if name else local
                    target.parent.mkdir(parents=True, exist_ok=True)
                    self._fs.get_file(self._join(self._path, name), str(target))
            yield local

    def put(self, writer: Writer) -> Payload:
        """Upload under a temporary name, then move file by file.

        fsspec offers no rename of a directory that is one step everywhere (on object stores it is
        a copy), so a payload of several files can be seen half while it is moved, and of two
        processes that write other content to one URI at one time both may believe to be first.
        """
        with tempfile.TemporaryDirectory(prefix="zen_mlmd-") as directory:
            local = Path(directory, "payload")
            local.mkdir()
            made = of_writer(writer, local, self.uri)
            with _lock_of(self.uri), translated(self.uri, "written"):
                if self.files():
                    self.must_equal(made)
                else:
                    self._publish(local, LocalPlace(str(local)).files())
            return made

    def _publish(self, local: Path, files: dict[str, int]) -> None:
        temporary = f"{self._path.rpartition('/')[0]}/{temporary_name()}"
        moved: list[str] = []
        try:
            for name in files:
                self._upload(local / name, self._join(temporary, name))
            for name in files:
                target = self._join(self._path, name)
                self._fs.makedirs(target.rpartition("/")[0], exist_ok=True)
                moved.append(target)
                self._move(self._join(temporary, name), target)
            self._must_hold(files)
        except BaseException:
            for target in moved:
                with contextlib.suppress(Exception):
                    self._fs.rm_file(target)
            self._remove_directories(self._path, moved)
            raise
        finally:
            left = [self._join(temporary, name) for name in files]
            for path in left:
                with contextlib.suppress(Exception):
                    self._fs.rm_file(path)
            self._remove_directories(temporary, left)

    def _must_hold(self, files: dict[str, int]) -> None:
        if self.files() != files:
            raise PayloadError(
                f"{shown(self.uri)}: something else was written there at the same time",
                hint="give every step's output a URI of its own",
            )

    def delete(self) -> None:
        """See `Place.delete`."""
        with _lock_of(self.uri), translated(self.uri, "deleted"):
            files = self.files()
            if not files:
                raise missing(self.uri)
            paths = [self._join(self._path, name) for name in files]
            for path in paths:
                self._fs.rm_file(path)
            self._remove_directories(self._path, paths)

    def _upload(self, local: Path, path: str) -> None:
        self._fs.makedirs(path.rpartition("/")[0], exist_ok=True)
        self._fs.put_file(str(local), path)

    def _move(self, source: str, target: str) -> None:
        # fsspec's `mv` expands `*`, `?` and `[` in names; `cp_file` does not, but some lack it.
        try:
            self._fs.cp_file(source, target)
        except NotImplementedError:
            self._fs.mv(source, target)
        else:
            self._fs.rm_file(source)

    def _remove_directories(self, top: str, paths: list[str]) -> None:
        """Remove the directories that held `paths`, up to `top`, where they are empty now."""
        directories = {top}
        for path in paths:
            directory = path.rpartition("/")[0]
            while directory.startswith(f"{top}/"):
                directories.add(directory)
                directory = directory.rpartition("/")[0]
        with contextlib.suppress(Exception):
            self._fs.invalidate_cache()
        for directory in sorted(directories, key=len, reverse=True):
            with contextlib.suppress(Exception):
                if self._fs.isdir(directory):
                    self._fs.rmdir(directory)

    @staticmethod
    def _join(path: str, name: str) -> str:
        return f"{path}/{name}" if name else path


def _filesystem(uri: str) -> tuple[Any, str]:
    import fsspec.core  # here, for it costs 50 ms that local paths need not pay

    scheme = uri.partition("://")[0]
    if "::" in scheme:
        raise ConfigError(f"{scheme}: chained URLs are not supported", hint="give the inner URL alone")
    if urllib.parse.urlsplit(uri).password is not None:
        raise ConfigError(
            f"{shown(uri)}: holds a password, which would be recorded with every artifact",
            hint="put credentials into fsspec's configuration (~/.config/fsspec) or the environment",
        )
    try:
        filesystem, path = fsspec.core.url_to_fs(uri)
    except ImportError as error:
        raise MissingExtraError(f"{scheme}:// needs a package of its own", hint=str(error)) from error
    except ValueError as error:
        raise ConfigError(
            f"{scheme}:// is no kind of store that fsspec knows", hint="use file, memory, s3, gs, abfs, ..."
        ) from error
    return filesystem, path.rstrip("/")


def _inside(name: str, uri: str) -> str:
    # An object's key may be anything; as a path it must not lead out of the directory.
    if any(part in ("", ".", "..") for part in name.split("/")):
        raise PayloadError(f"{shown(uri)}: holds a file whose name leads elsewhere", hint="do not trust it")
    return name


class _Lock:
    """A reentrant lock that can be referred to weakly."""

    def __init__(self) -> None:
        self._lock = threading.RLock()

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()


_locks: weakref.WeakValueDictionary[str, _Lock] = weakref.WeakValueDictionary()
_locks_guard = threading.Lock()


def _lock_of(uri: str) -> _Lock:
    """Return this process's lock for a remote URI: fsspec's memory files share one read position."""
    with _locks_guard:
        return _locks.setdefault(uri, _Lock())
