"""One SQLite file for each team, in a folder that all share."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import SplitResult

from pydantic import Field

from zen_mlmd.flavors import SqliteConfig, StoreConfig


class TeamConfig(StoreConfig):
    """A team's file in a folder that all teams share.

    Attributes:
        root: The folder; it is there already, as whoever mounts it sees to its rights.
        team: Letters, digits and dashes.
    """

    flavor: ClassVar[str] = "team"
    schemes: ClassVar[tuple[str, ...]] = ("team",)

    root: str
    team: str = Field(pattern="^[a-z0-9-]+$")

    @property
    def location(self) -> str:
        """Where the store is, for messages."""
        return f"{self.team} in {self.root}"

    @classmethod
    def from_url(cls, url: SplitResult, options: dict[str, str]) -> TeamConfig:
        """Return what `team://fraud?root=/mnt/metadata` means."""
        return cls.checked(team=url.hostname or "", **options)

    def connection_config(self) -> Any:
        """Return MLMD's own connection config, for TFX."""
        return self._file().connection_config()

    def open_service(self, *, create: bool = False, upgrade: bool = False) -> Any:
        """Open the team's file; a new team's is made."""
        return self._file().open_service(create=create, upgrade=upgrade)

    def open_database(self, *, create: bool = False) -> Any:
        """Return the database, for `zen-mlmd doctor` and `metadata-store migrate`."""
        return self._file().open_database(create=create)

    def _file(self) -> SqliteConfig:
        path = Path(self.root) / f"{self.team}.db"
        return SqliteConfig.checked(path=str(path), wait_s=self.wait_s, trusted=self.trusted)
