"""The MLMD service over a relational database: MLMD's requests, its answers, its tables.

ml-metadata is the oracle: what it writes is read here, what is written here it reads, and the same
requests get the same answers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from zen_mlmd.errors import ContentionError
from zen_mlmd.service import base
from zen_mlmd.service.check import SQLITE, Limits, check_request
from zen_mlmd.service.sql import (
    edge_writing,
    edges,
    getters,
    lineage_writing,
    type_writing,
    types,
    writing,
)
from zen_mlmd.service.sql.database import Database
from zen_mlmd.service.sql.session import Session

Call = Callable[[Session, Any], Any]
"""Answers one RPC in one transaction; raises `Refusal` for what MLMD refuses."""

CALLS: Final[Mapping[str, Call]] = {
    **types.CALLS,
    **type_writing.CALLS,
    **writing.CALLS,
    **edge_writing.CALLS,
    **lineage_writing.CALLS,
    **getters.CALLS,
    **edges.CALLS,
}


class SqlService(base.MetadataService):
    """One store in a relational database; safe over threads and after fork.

    Args:
        database: Where the tables are.
        limits: What its columns hold.
        read_only: Refuse writes.
    """

    def __init__(self, database: Database, *, limits: Limits = SQLITE, read_only: bool = False) -> None:
        self.location = database.location
        self.exact_names = limits.exact_names
        self._database = database
        self._limits = limits
        self._read_only = read_only

    @property
    def generation(self) -> int:  # type: ignore[override]
        """See `MetadataService`."""
        return self._database.generation

    def call(self, method: str, request: Any) -> Any:
        """Send one request; see `MetadataService.call`."""
        try:
            return self._answer(method, request)
        except base.Refusal as refusal:
            error = base.error_from_code(refusal.code, refusal.text, location=self.location, method=method)
        raise error

    def forward(self, method: str, data: bytes) -> bytes:
        """Send a request's bytes; see `MetadataService.forward`."""
        request = base.parse_request(method, data)
        try:
            answer: bytes = self._answer(method, request).SerializeToString()
        except ContentionError as error:
            raise base.Refusal(base.ABORTED, error.message) from None
        return answer

    def check(self, method: str, request: Any) -> None:
        """Refuse what this database cannot keep; see `MetadataService.check`."""
        check_request(method, request, self._limits)

    def close(self) -> None:
        """Close all connections; a later call opens others."""
        self._database.close()

    def _answer(self, method: str, request: Any) -> Any:
        answer = CALLS.get(method)
        if answer is None:
            base.request_class(method)
            raise base.Refusal(base.UNIMPLEMENTED, f"{method} is not implemented.")
        check_request(method, request, self._limits)
        if method.startswith("Get"):
            return self._database.read(lambda session: answer(session, request))
        if self._read_only:
            raise base.Refusal(base.PERMISSION_DENIED, f"{self.location} is open for reading only")
        return self._database.write(lambda session: answer(session, request))
