"""The artifact store: payloads under one root, each written once and whole."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import urllib.parse
from collections.abc import Iterator
from pathlib import Path

from zen_mlmd.errors import ConfigError, PayloadMissingError, UsageError
from zen_mlmd.payloads.places import LOCAL_SCHEMES, LocalPlace, Payload, Place, Writer, shown, translated
from zen_mlmd.payloads.remote import RemotePlace

_MAX_PART = 200  # file names end at 255 bytes
_KEPT_PART = 150


class ArtifactStore:
    """Payloads under one root: a local path, or any URL that fsspec knows.

    Credentials and endpoints come from fsspec's configuration or the environment, never from the
    URL. A process that is killed while it writes leaves at most a directory `.zen_mlmd-*.tmp`
    beside the URI, never part of a payload at a local URI.

    Args:
        root: A path or URL; it is made when the first payload is written.

    Raises:
        ConfigError: No URL that can be used: unknown scheme, a password in it, a chain of URLs.
        MissingExtraError: fsspec needs another package for this scheme.
    """

    def __init__(self, root: str | os.PathLike[str]) -> None:
        given = os.fspath(root)
        if not given:
            raise ConfigError("an artifact store's root is empty", hint="give a path or a URL")
        scheme, separator, rest = given.partition("://")
        if separator:
            given = f"{scheme}://{rest.rstrip('/') or '/' * rest.startswith('/')}"
        place = locate(given)
        self._local = isinstance(place, LocalPlace)
        self._root = place.uri

    def __repr__(self) -> str:
        return f"ArtifactStore({self._root!r})"

    @property
    def root(self) -> str:
        """The root: an absolute path without scheme where it is local (as TFX writes), else a URL."""
        return self._root

    def new_uri(self, *parts: str) -> str:
        """Return `<root>/<part>/<part>...`; writes nothing.

        What is neither a letter or digit of ASCII nor one of `_.-~` is percent-encoded as UTF-8, so
        a part stays one name and different parts stay different; one that would be longer than 200
        bytes is cut and ends in `~` and 32 hex digits of its SHA-256.

        Raises:
            UsageError: No part, or one that is empty or no string.
        """
        if not parts:
            raise UsageError("a URI needs a part below the root", hint="new_uri('pipeline', 'run', ...)")
        return self._join("/".join(_safe(part) for part in parts))

    def write(self, uri: str, writer: Writer) -> Payload:
        """Write a payload: all of it, or nothing.

        A local payload is written beside its target, brought to the disk (fsync) and renamed in one
        step, which holds against any other process. Elsewhere it is written to a local temporary
        directory, uploaded under a temporary name and moved file by file; there, only the threads
        of this process are kept from each other.

        Args:
            uri: Below the root.
            writer: Called once with a fresh local directory; writes one or more files into it.
                What it raises is raised (an OSError as a PayloadError that says where), and nothing
                is left behind.

        Returns:
            The payload as it lies there. If the same content was there already, it was left alone.

        Raises:
            PayloadError: Other content lies there; or the writer made no file, a link or a special
                file; or the file system refused.
            UsageError: `uri` is not below the root.
        """
        return self._below(uri).put(writer)

    def open_local(self, uri: str) -> contextlib.AbstractContextManager[Path]:
        """See `open_local`."""
        return open_local(uri)

    def delete(self, uri: str) -> None:
        """Remove a payload; the directories above it stay.

        Raises:
            PayloadMissingError: There is none.
            PayloadError: The file system refused.
            UsageError: `uri` is not below the root.
        """
        self._below(uri).delete()

    def _join(self, rest: str) -> str:
        return self._root + rest if self._root.endswith("/") else f"{self._root}/{rest}"

    def _below(self, uri: str) -> Place:
        place = locate(uri)
        prefix = self._join("")
        rest = place.uri.removeprefix(prefix).rstrip("/")
        below = place.uri.startswith(prefix) and all(part not in ("", ".", "..") for part in rest.split("/"))
        if not below:
            raise UsageError(
                f"{shown(uri)}: not below the artifact store {shown(self._root)}",
                hint="take a URI from new_uri()",
            )
        return place if self._local else locate(prefix + rest)


@contextlib.contextmanager
def open_local(uri: str) -> Iterator[Path]:
    """Give a local path of the payload at a URI, any store's: a directory, or the single file that it is.

    Where the URI is local it is the very place: do not write into it. Else it is a temporary copy,
    which is gone when the context ends.

    Raises:
        PayloadMissingError: Nothing lies there.
        PayloadError: It cannot be read.
        ConfigError, MissingExtraError: As for `ArtifactStore`.
    """
    with locate(uri).as_local() as path:
        yield path


def payload_hash(uri: str) -> Payload:
    """Return hash and size of what lies at a URI, any store's, read in pieces of 1 MiB.

    The hash is SHA-256 over all files, ordered by the bytes of their names, each as

        <length of name>:<name><size>:<content>

    where both numbers are ASCII decimals without leading zeros, counting bytes, and the name is the
    file's path relative to the URI in UTF-8 with `/` between its parts (bytes that are no UTF-8 stay
    as they are). A single file at the URI itself has the empty name. Directories, times and modes
    do not count. Links to files count as what they point at.

    Raises:
        PayloadMissingError: No file lies there.
        PayloadError: It cannot be read, changes meanwhile, or holds links to directories or special
            files.
        ConfigError, MissingExtraError: As for `ArtifactStore`.
    """
    return locate(uri).measure()


def exists(uri: str) -> bool:
    """Return whether any file lies at a URI, any store's; an empty URI has none.

    Raises:
        PayloadError: The store cannot be asked.
        ConfigError, MissingExtraError: As for `ArtifactStore`.
    """
    if not uri:
        return False
    place = locate(uri)
    with translated(uri, "listed"):
        return bool(place.files())


def locate(uri: str) -> Place:
    """Return the place of a URI; asks nothing of it yet.

    Raises:
        PayloadMissingError: The URI is empty (MLMD's default).
        ConfigError: No URL that can be used.
        MissingExtraError: fsspec needs another package for this scheme.
    """
    if not uri:
        raise PayloadMissingError("the artifact has no URI", hint="its writer recorded no payload")
    if "\0" in uri:
        raise ConfigError("a URI holds a NUL byte", hint="give a path or URL without it")
    scheme, separator, path = uri.partition("://")
    if not separator:
        return LocalPlace(uri)
    if scheme not in LOCAL_SCHEMES:
        return RemotePlace(uri)
    if not path.startswith("/"):
        raise ConfigError(f"{shown(uri)}: not an absolute path", hint="write three slashes: file:///path")
    return LocalPlace(path)


def _safe(part: str) -> str:
    if not isinstance(part, str) or not part:
        raise UsageError("a part of a URI must be a non-empty string", hint="leave it out, or name it")
    safe = urllib.parse.quote(part, safe="", errors="surrogatepass")
    if safe in (".", ".."):
        return safe.replace(".", "%2E")
    if len(safe) <= _MAX_PART:
        return safe
    whole = re.sub(r"%[0-9A-F]?$", "", safe[:_KEPT_PART])
    return f"{whole}~{hashlib.sha256(safe.encode()).hexdigest()[:32]}"
