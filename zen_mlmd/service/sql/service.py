"""The MLMD service over a relational database: MLMD's requests, its answers, its tables.

ml-metadata is the oracle: what it writes is read here, what is written here it reads, and the same
requests get the same answers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from zen_mlmd.errors import ConnectionFailedError, ContentionError, GrantMissingError, SchemaVersionError
from zen_mlmd.service import base
from zen_mlmd.service.check import Limits, check_request
from zen_mlmd.service.edges import EdgeQuery, LineageEdges
from zen_mlmd.service.sql import (
    edge_writing,
    edges,
    getters,
    lineage_writing,
    subgraph,
    type_writing,
    types,
    writing,
)
from zen_mlmd.service.sql.database import Database
from zen_mlmd.service.sql.deleting import delete_nodes
from zen_mlmd.service.sql.limits import limits_of, narrowest
from zen_mlmd.service.sql.lineage import lineage_edges
from zen_mlmd.service.sql.migrate import migrate
from zen_mlmd.service.sql.refusals import TooLargeError
from zen_mlmd.service.sql.schema import SCHEMA_VERSION, Schema
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
    **subgraph.CALLS,
}


def open_sql(database: Database, *, upgrade: bool = False, read_only: bool = False) -> SqlService:
    """Return the service over a database, once it is known to hold MLMD's tables.

    Args:
        database: Where they are.
        upgrade: Migrate an older schema, in place and for ever.
        read_only: Refuse writes.

    Raises:
        ConnectionFailedError: One of its kinds, each with a remedy.
    """
    service = SqlService(database, read_only=read_only)
    try:
        if upgrade and database.schema.version < SCHEMA_VERSION:
            database.maintain(migrate, writes=True)
        _ = service.limits
    except BaseException:
        database.close()
        raise
    return service


class SqlService(base.MetadataService):
    """One store in a relational database; safe over threads and after fork.

    Args:
        database: Where the tables are.
        read_only: Refuse writes.
    """

    def __init__(self, database: Database, *, read_only: bool = False) -> None:
        self.location = database.location
        self._database = database
        self._read_only = read_only
        self._limits: tuple[Schema, Limits] | None = None

    @property
    def generation(self) -> int:  # type: ignore[override]
        """See `MetadataService`."""
        return self._database.generation

    @property
    def exact_names(self) -> bool:  # type: ignore[override]
        """See `MetadataService`."""
        return self.limits.exact_names

    @property
    def limits(self) -> Limits:
        """What the columns of the open database hold."""
        schema = self._database.known
        if schema is None:
            try:
                schema = self._database.schema
            except ConnectionFailedError:
                if self._limits is None:
                    raise
                return self._limits[1]  # as they were: whether it is there, the call itself will find
        if self._limits is None or schema is not self._limits[0]:
            self._limits = schema, limits_of(schema)
        return self._limits[1]

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
        except GrantMissingError as error:
            raise base.Refusal(base.PERMISSION_DENIED, error.message) from None
        return answer

    def check(self, method: str, request: Any) -> None:
        """Refuse what this database cannot keep; see `MetadataService.check`."""
        check_request(method, request, self.limits, to_native=False)

    def lineage_edges(self, query: EdgeQuery) -> LineageEdges | None:
        """Return edges; see `MetadataService.lineage_edges`."""
        return self._database.read(lambda session: lineage_edges(session, query))

    def delete(
        self,
        *,
        executions: Sequence[int] = (),
        artifacts: Sequence[int] = (),
        contexts: Sequence[int] = (),
        even_used: bool = False,
    ) -> dict[str, int]:
        """Delete nodes; see `MetadataService.delete`."""
        self._refuse_writes()
        return self._database.write(
            lambda session: delete_nodes(
                session,
                executions=executions,
                artifacts=artifacts,
                contexts=contexts,
                even_used=even_used,
            )
        )

    def close(self) -> None:
        """Close all connections; a later call opens others."""
        self._database.close()

    def _answer(self, method: str, request: Any) -> Any:
        answer = CALLS.get(method)
        if answer is None:
            base.request_class(method)
            raise base.Refusal(base.UNIMPLEMENTED, f"{method} is not implemented.")
        check_request(method, request, self.limits, to_native=False)
        if method.startswith("Get"):
            return self._database.read(lambda session: answer(session, request))
        self._refuse_writes()
        try:
            return self._database.write(lambda session: answer(session, request))
        except TooLargeError:
            check_request(method, request, narrowest(self.limits), to_native=False)
            raise

    def _refuse_writes(self) -> None:
        if self._read_only:
            raise GrantMissingError(
                f"{self.location}: it is open for reading only", hint="open it without read_only"
            )
        version = self._database.schema.version
        if version < SCHEMA_VERSION:
            raise SchemaVersionError(
                f"{self.location}: its MLMD schema is {version}: it is only read",
                hint="back it up, then `zen-mlmd metadata-store migrate` brings it to "
                f"{SCHEMA_VERSION}, in place and for ever",
            )
