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
from typing import TYPE_CHECKING, Any, ClassVar, Literal
from urllib.parse import SplitResult, unquote

from ml_metadata.proto import metadata_store_pb2 as mlmd
from pydantic import field_validator

from zen_mlmd.errors import (
    ConfigError,
    DatabaseMissingError,
    GrantMissingError,
    NotMlmdError,
    SchemaVersionError,
    UsageError,
)
from zen_mlmd.flavors.base import StoreConfig
from zen_mlmd.service.base import MetadataService, is_read_only, is_shut
from zen_mlmd.service.finding import Finding, Thresholds
from zen_mlmd.service.lock import WriteLock
from zen_mlmd.service.native import NativeService, lacks_tables, try_opening
from zen_mlmd.values import is_plain_text

if TYPE_CHECKING:
    from zen_mlmd.service.sql.database import Database

_Mode = mlmd.SqliteMetadataSourceConfig.ConnectionMode
# https://www.sqlite.org/fileformat2.html, 1.3: the schema cookie is 0 as long as nothing was ever made.
_MAGIC, _HEAD, _COOKIE = b"SQLite format 3\0", 100, slice(40, 44)


class SqliteConfig(StoreConfig):
    """An SQLite file, or a database in memory that dies with its connection.

    Attributes:
        path: The file; `:memory:` for none.
        read_only: Never write the file.
        journal_mode: Of a file that is made anew; an existing one keeps its own.
        service: `native` or `sql`, the latter in a process of its own, for two SQLite libraries in one
            process corrupt a file that both have open; `auto` is `native`, and `sql` for a file of an older
            schema, which is read as it is.
    """

    flavor: ClassVar[str] = "sqlite"
    schemes: ClassVar[tuple[str, ...]] = ("sqlite",)

    path: str
    read_only: bool = False
    journal_mode: Literal["wal", "delete"] = "wal"
    service: Literal["auto", "native", "sql"] = "auto"

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
            path = path if path == ":memory:" else str(Path(path).expanduser().absolute())
        except RuntimeError:
            raise ValueError("begins with ~, and there is no such user") from None
        if not is_plain_text(path):
            raise ValueError("must be UTF-8: ml-metadata takes no other name")
        return path

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

    def open_service(self, *, create: bool = False, upgrade: bool = False) -> MetadataService:
        """Open the file; one that is not there is made, unless `read_only`.

        Args:
            create: Make MLMD's tables in a file that has others.
            upgrade: Let ml-metadata migrate an older schema, in place and for ever.

        Raises:
            DatabaseMissingError: Its folder does not exist, or it is to be only read and not there.
            GrantMissingError: You may not read it, or not write in its folder.
            NotMlmdError: The file is something else.
            SchemaVersionError: Its schema is another than ml-metadata's, and cannot be read either.
        """
        if self.path == ":memory:":
            return self._open_in_memory()
        self._look()
        if self.service == "sql":
            return self._open_sql(create=create, upgrade=upgrade)
        try:
            if self.read_only:
                return self._open_to_read()
            return self._open_to_write(create=create, upgrade=upgrade)
        except SchemaVersionError:
            if self.service == "native":
                raise
        return self._open_sql(create=create, upgrade=upgrade)

    def _open_in_memory(self) -> MetadataService:
        if self.service == "sql":
            from zen_mlmd.service.sql.service import open_sql

            return open_sql(self.open_database(create=True))
        service = NativeService(self.connection_config(), location=self.location)
        service.open(writes=False)
        return service

    def _open_sql(self, *, create: bool, upgrade: bool) -> MetadataService:
        from zen_mlmd.flavors.sqlite_process import SqliteProcessService

        self._make()
        service = SqliteProcessService(self, create=create, upgrade=upgrade)
        service.open()
        return service

    def open_database(self, *, create: bool = False) -> Database:
        """Return the file as Python's SQLite sees it: never beside ml-metadata in one process.

        Raises:
            UsageError: This process has the file open.
        """
        from functools import partial

        from zen_mlmd.service.sql.create import create as make
        from zen_mlmd.service.sql.database import Database
        from zen_mlmd.service.sql.engines import sqlite_engine
        from zen_mlmd.service.sql.learn import learn

        self._refuse_if_open()
        create = create and not self.read_only
        alone = self.read_only or self.path == ":memory:"
        return Database(
            partial(sqlite_engine, self.path, read_only=self.read_only, create=create),
            location=self.location,
            learn=make if create else learn,
            write_lock=None if alone else WriteLock(self.path, timeout_s=self.wait_s),
            wait_s=self.wait_s,
        )

    def _refuse_if_open(self) -> None:
        """Two SQLite libraries on one file in one process corrupt it: closing one drops the other's locks."""
        mine = self.identity()
        if mine is None or not os.path.isdir("/proc/self/fd"):  # noqa: PTH112 - Linux's
            return
        for number in os.listdir("/proc/self/fd"):  # noqa: PTH208
            try:
                found = os.fstat(int(number))
            except OSError:
                continue
            if (found.st_dev, found.st_ino) == mine:
                raise UsageError(
                    f"{self.location}: this process has the file open, with ml-metadata's SQLite perhaps",
                    hint="close the store first, or do it from the command line",
                )

    def _open_to_write(self, *, create: bool, upgrade: bool) -> NativeService:
        lock = WriteLock(self.path, timeout_s=self.wait_s)
        service = NativeService(
            self.connection_config(),
            location=self.location,
            probe=self._make,
            write_lock=lock,
            upgrade=upgrade,
            wait_s=self.wait_s,
            identity=self.identity,
        )
        new = not Path(self.path).exists()
        said = "" if new else self._said_to_a_reader()
        if (is_read_only(said) or is_shut(said)) and not self._may_make_files():
            raise GrantMissingError(
                f"{self.location}: you may not write in {Path(self.path).parent}, where SQLite keeps its WAL",
                hint="open it with read_only=true, or have the folder's rights changed",
            )
        if is_read_only(said) and not create:
            try:
                with lock:
                    self._refuse_others()
            finally:
                lock.release()
        service.open(writes=new or upgrade or lacks_tables(said))
        return service

    def _open_to_read(self) -> NativeService:
        config = self.connection_config()
        service = NativeService(config, location=self.location, wait_s=self.wait_s, identity=self.identity)
        said = "" if self._may_make_files() else self._said_to_a_reader()
        if is_read_only(said) or is_shut(said):
            # In WAL mode even a reader makes files, unless SQLite is told that nobody writes.
            if self._wal_bytes():
                raise GrantMissingError(
                    f"{self.location}: there are changes in its WAL, which you may not take in",
                    hint="open it once as somebody who may write in its folder, or copy it together with "
                    f"{Path(self.path).name}-wal",
                )
            config.sqlite.filename_uri = f"{Path(self.path).as_uri()}?immutable=1"
            service = NativeService(
                config, location=self.location, identity=self._identity_and_state, immutable=True
            )
        service.open(writes=False)
        return service

    def _said_to_a_reader(self) -> str:
        """Return what ml-metadata says if it may only read the file; nothing if it is a store.

        It tries to make the tables that it misses: that it may not write is said of a file without them.
        """
        config = self.connection_config()
        config.sqlite.connection_mode = _Mode.READONLY
        return try_opening(config)

    def _refuse_others(self) -> None:
        """Raise if the file holds something, and not MLMD's tables; hold the lock meanwhile.

        ml-metadata looks first, once more: somebody may just have made the tables. If it finds none, no
        handle of this process has the file as a store, whose locks our own look at it would cancel
        (https://www.sqlite.org/howtocorrupt.html, 2.2).
        """
        if not Path(self.path).exists() or not is_read_only(self._said_to_a_reader()):
            return
        if self._beside("journal"):
            return  # a killed writer's: what the file holds shows only once a writer has rolled it back
        with Path(self.path).open("rb") as file:
            head = file.read(_HEAD)
        made_empty = head.startswith(_MAGIC) and len(head) == _HEAD and not any(head[_COOKIE])
        if head and not (made_empty and not self._wal_bytes()):
            raise NotMlmdError(
                f"{self.location}: the file is not empty, and has none of MLMD's tables",
                hint="is it the right file? MLMD's tables are added with open_store(..., create=True)",
            )

    def _may_make_files(self) -> bool:
        return os.access(Path(self.path).resolve().parent, os.W_OK)

    def _wal_bytes(self) -> int:
        return self._beside("wal")

    def _beside(self, what: str) -> int:
        """Return the bytes of a file that SQLite keeps beside this one; 0 if there is none."""
        try:
            return os.stat(f"{os.path.realpath(self.path)}-{what}").st_size  # noqa: PTH116 - as below
        except OSError:
            return 0

    def identity(self) -> tuple[int, ...] | None:
        """Return what tells this file from another of its name; None if there is none."""
        try:
            found = os.stat(self.path)  # noqa: PTH116 - before each call: 5x faster
        except OSError:
            return None
        return found.st_dev, found.st_ino

    def _identity_and_state(self) -> tuple[int, ...] | None:
        """Tell a file that is taken for immutable from itself after somebody wrote to it."""
        try:
            found = os.stat(self.path)  # noqa: PTH116 - as above
        except OSError:
            return None
        return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, self._wal_bytes()

    def examine_way(self, thresholds: Thresholds) -> list[Finding]:
        """See `StoreConfig.examine_way`; the file is looked at by Python's SQLite.

        Raises:
            UsageError: This process has the file open.
        """
        from zen_mlmd.flavors.sqlite_examination import examine_file

        self._refuse_if_open()
        if not Path(self.path).exists():
            raise DatabaseMissingError(f"{self.location}: no such file", hint="is the path right?")
        self._look()
        return examine_file(Path(self.path), thresholds)

    def mend_way(self, finding: Finding) -> None:
        """See `StoreConfig.mend_way`; other writers are kept out meanwhile."""
        from zen_mlmd.flavors.sqlite_examination import mend_file

        self._refuse_if_open()
        with WriteLock(self.path, timeout_s=self.wait_s):
            mend_file(Path(self.path), finding)

    def _look(self) -> None:
        try:
            self._look_at_it()
        except OSError as error:
            kind = GrantMissingError if isinstance(error, PermissionError) else NotMlmdError
            raise kind(f"{self.location}: {error.strerror}", hint="is the path right?") from None

    def _look_at_it(self) -> None:
        file = Path(self.path)
        if file.is_dir():
            raise NotMlmdError(f"{self.location}: is a folder", hint="name a file in it: metadata.db")
        if file.exists() and not file.is_file():
            raise NotMlmdError(f"{self.location}: is a device or a pipe", hint="name a file")
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
