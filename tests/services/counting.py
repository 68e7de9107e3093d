"""A store that counts its calls at the service port, where each is a round trip to a server."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from zen_mlmd import SqliteConfig, Store
from zen_mlmd.service.base import MetadataService
from zen_mlmd.service.client import Client


class CountingService(MetadataService):
    """Counts the calls to another service, and the nodes that it gave."""

    def __init__(self, service: MetadataService) -> None:
        self.location = service.location
        self.calls: Counter[str] = Counter()
        self.nodes: Counter[str] = Counter()
        self._service = service

    def call(self, method: str, request: Any) -> Any:
        self.calls[method] += 1
        response = self._service.call(method, request)
        for field in ("contexts", "executions", "artifacts"):
            self.nodes[field] += len(getattr(response, field, ()))
        return response

    def close(self) -> None:
        self._service.close()


class CountedStore(Store):
    """A store that knows how many calls it made."""

    def __init__(self, path: Path) -> None:
        config = SqliteConfig(path=str(path))
        self.service = CountingService(config.open_service())
        super().__init__(config, Client(self.service))

    @property
    def calls(self) -> int:
        return self.service.calls.total()
