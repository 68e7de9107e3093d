"""The sqlite flavor: one file, for one machine; several processes may write it at once.

A new file is made in write-ahead mode (WAL): a step costs less than half of what it costs in
SQLite's default mode, and readers do not stop writers (`benchmarks/`, "journal"). WAL needs a local
disk; `journal_mode="delete"` is for files on a network drive.
"""

from __future__ import annotations

import os
import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path
from typing import Any, ClassVar, Literal
from urllib.parse import SplitResult, unquote

from ml_metadata.proto import metadata_store_pb2 as mlmd
from pydantic import field_validator

from zen_mlmd.errors import ConfigError, DatabaseMissingError, GrantMissingError, NotMlmdError
from zen_mlmd.flavors.base import StoreConfig
from zen_mlmd.service.lock import WriteLock
from zen_mlmd.service.native import NativeService

_PAGE = 4096
_Mode = mlmd.SqliteMetadataSourceConfig.ConnectionMode


class SqliteConfig(StoreConfig):
    """An SQLite file, or a database in memory that dies with its connection.

    Attributes:
        path: The file; `:memory:` for none.
        read_only: Never write the file.
        journal_mode: Of a file that is made anew; an existing one keeps its own.
    """

    flavor: ClassVar[str] = "sqlite"
    schemes: ClassVar[tuple[str, ...]] = ("sqlite",)

    path: str
    read_only: bool = False
    journal_mode: Literal["wal", "delete"] = "wal"

    @field_validator("path", mode="before")
    @classmethod
    def _as_text(cls, path: Any) -> Any:
        return str(path) if isinstance(path, Path) else path

    @field_validator("path")
    @classmethod
    def _local(cls, path: str) -> str:
        if "://" in path:
            raise ValueError("must be a local file, not a URL")
        if not path.strip() or "\0" in path:
            raise ValueError("must name a file")
        try:
            return path if path == ":memory:" else str(Path(path).expanduser().absolute())
        except RuntimeError:
            raise ValueError("begins with ~, and there is no such user") from None

    @property
    def location(self) -> str:
        """The file's path."""
        return self.path

    @classmethod
    def from_url(cls, url: SplitResult, options: dict[str, str]) -> SqliteConfig:
        """`sqlite:///relative.db`, `sqlite:////absolute.db`, `sqlite://` for memory."""
        if url.netloc:
            raise ConfigError(
                "an sqlite URL names no host", hint="sqlite:///relative.db or sqlite:////absolute.db"
            )
        return cls.checked(**{**options, "path": unquote(url.path[1:]) or ":memory:"})

    def connection_config(self) -> mlmd.ConnectionConfig:
        """Return MLMD's `ConnectionConfig`."""
        config = mlmd.ConnectionConfig()
        if self.path == ":memory:":
            config.fake_database.SetInParent()
            return config
        config.sqlite.filename_uri = self.path  # no URI, as it does not begin with "file:"
        config.sqlite.connection_mode = _Mode.READONLY if self.read_only else _Mode.READWRITE_OPENCREATE
        return config

    def open_service(self, *, create: bool = False, upgrade: bool = False) -> NativeService:  # noqa: ARG002
        """Open the file; a file that is not there is made, unless `read_only`.

        Raises:
            DatabaseMissingError: Its folder does not exist, or it is to be only read and not there.
            GrantMissingError: You may not read it, or not write in its folder.
            NotMlmdError: The file is something else.
            SchemaVersionError: Its schema is another than ml-metadata's.
        """
        if self.path == ":memory:":
            service = NativeService(self.connection_config(), location=self.location)
        else:
            try:
                self._look()
            except OSError as error:
                kind = GrantMissingError if isinstance(error, PermissionError) else NotMlmdError
                raise kind(f"{self.location}: {error.strerror}", hint="is the path right?") from None
            lock = None if self.read_only else WriteLock(self.path, timeout_s=self.wait_s)
            service = NativeService(
                self.connection_config(),
                location=self.location,
                probe=self._make,
                write_lock=None if lock is None else lambda: lock,
                upgrade=upgrade,
            )
        service.open(writes=upgrade or not self._has_schema())
        return service

    def _has_schema(self) -> bool:
        """Tell whether the file holds more than SQLite's first page, as only a made one does."""
        try:
            return Path(self.path).stat().st_size > _PAGE
        except OSError:
            return False

    def _look(self) -> None:
        file = Path(self.path)
        if file.is_dir():
            raise NotMlmdError(f"{self.location}: is a folder", hint="name a file in it: metadata.db")
        if not file.exists():
            if self.read_only:
                raise DatabaseMissingError(f"{self.location}: no such file", hint="is the path right?")
            if not file.parent.is_dir():
                raise DatabaseMissingError(
                    f"{self.location}: there is no folder {file.parent}", hint=f"mkdir -p {file.parent}"
                )
            if not os.access(file.parent, os.W_OK):
                raise GrantMissingError(
                    f"{self.location}: you may not write in {file.parent}",
                    hint="choose another folder, or have its rights changed",
                )
            return
        # No look into it: closing it would cancel the locks that SQLite has on it in this process
        # (https://www.sqlite.org/howtocorrupt.html, 2.2), and another process would delete its WAL.
        if not os.access(file, os.R_OK):
            raise GrantMissingError(f"{self.location}: you may not read it", hint="have its rights changed")

    def _make(self) -> None:
        """Make a missing file in WAL mode, where ml-metadata offers no switch.

        Python's SQLite and ml-metadata's would corrupt a file that both had open in one process, so
        Python's only ever sees the file under another name, before it has its own.
        """
        if self.read_only or self.journal_mode == "delete" or Path(self.path).exists():
            return
        name = ""
        try:
            handle, name = tempfile.mkstemp(dir=Path(self.path).parent, prefix=".zen_mlmd-", suffix=".db")
            os.close(handle)
            with closing(sqlite3.connect(name)) as database:
                database.execute("PRAGMA journal_mode=WAL")
            Path(name).chmod(0o666 & ~_umask())
            os.link(name, self.path)
        except FileExistsError:
            pass
        except (sqlite3.Error, OSError) as error:
            raise NotMlmdError(
                f"{self.location}: cannot be made in WAL mode ({error})",
                hint="on a network drive use journal_mode=delete",
            ) from None
        finally:
            if name:
                Path(name).unlink(missing_ok=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
