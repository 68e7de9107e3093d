"""A store that does a write and loses the answer, once; a flavor of a user's own, too."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

from zen_mlmd.errors import ConnectionLostError
from zen_mlmd.flavors import SqliteConfig
from zen_mlmd.service.base import MetadataService


class LosingConfig(SqliteConfig):
    """An SQLite file whose first answer to `method` is lost.

    Attributes:
        method: The RPC's name.
    """

    flavor: ClassVar[str] = "losing"
    method: str

    def open_service(self, *, create: bool = False, upgrade: bool = False) -> Any:
        """Open the file."""
        return _Losing(
            super().open_service(create=create, upgrade=upgrade), self.method, Path(f"{self.path}.lost")
        )


class _Losing(MetadataService):
    def __init__(self, inner: MetadataService, method: str, mark: Path) -> None:
        self.location = inner.location
        self._inner, self._method, self._mark = inner, method, mark

    def call(self, method: str, request: Any) -> Any:
        return self._inner.call(method, request)

    def forward(self, method: str, data: bytes) -> bytes:
        answer = self._inner.forward(method, data)
        if method == self._method and not self._mark.exists():
            self._mark.touch()
            raise ConnectionLostError("lost", hint="")
        return answer

    def close(self) -> None:
        self._inner.close()
