"""The service port: every way to reach an MLMD answers the same calls.

Method names and messages are MLMD's own (`metadata_store_service.proto`), so a service can stand
behind a gRPC server, and MLMD's own test suite can be run against each.
"""

from __future__ import annotations

import abc
import functools
import re
import types
from collections.abc import Callable
from typing import Any

from ml_metadata.proto import metadata_store_service_pb2 as rpc
from typing_extensions import Self

from zen_mlmd.errors import (
    AlreadyExistsError,
    ConnectionLostError,
    ContentionError,
    GrantMissingError,
    NotFoundError,
    StoreError,
    TypeConflictError,
    UnreachableError,
    ZenMlmdError,
)


class MetadataService(abc.ABC):
    """One MLMD store, open.

    Attributes:
        location: Where it is, for messages: never holds a password or a token.
    """

    location: str = ""

    @abc.abstractmethod
    def call(self, method: str, request: Any) -> Any:
        """Send one request of `MetadataStoreService` and return its response.

        Args:
            method: The RPC's name, `PutExecution` say.
            request: That RPC's request message.

        Raises:
            StoreError: The store refused it; `mlmd_code` tells why.
            ConnectionFailedError: The store cannot be reached. `ConnectionLostError` if that happened
                after the request was sent, so that a write may or may not have been done.
        """

    @abc.abstractmethod
    def close(self) -> None:
        """Give back what the service holds; calls after it open it again."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: types.TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.location}>"


@functools.cache
def response_class(method: str) -> Callable[[], Any]:
    """Return the response message's class of an RPC.

    Raises:
        StoreError: There is no such RPC (code 12, UNIMPLEMENTED).
    """
    found = getattr(rpc, f"{method}Response", None)
    if found is None:
        raise StoreError(f"MLMD has no call {method}", mlmd_code=UNIMPLEMENTED)
    return found  # type: ignore[no-any-return]


CANCELLED, UNKNOWN, INVALID_ARGUMENT, DEADLINE_EXCEEDED, NOT_FOUND = 1, 2, 3, 4, 5
ALREADY_EXISTS, PERMISSION_DENIED, RESOURCE_EXHAUSTED, FAILED_PRECONDITION = 6, 7, 8, 9
ABORTED, OUT_OF_RANGE, UNIMPLEMENTED, INTERNAL, UNAVAILABLE, DATA_LOSS, UNAUTHENTICATED = range(10, 17)


def error_from_code(code: int, text: str, *, location: str, method: str) -> ZenMlmdError:
    """Return our error for one of MLMD's status codes (they are gRPC's, `absl/status/status.h`)."""
    what = f"{location}: {method}: {_first_line(text)}"
    if "Type already exists with different properties" in text:
        return TypeConflictError(
            what,
            hint="a type of that name has other properties: use another type name, or the same properties",
        )
    kind = _KINDS.get(code)
    hint = _HINTS.get(code, "")
    return StoreError(what, mlmd_code=code, hint=hint) if kind is None else kind(what, hint=hint)


_KINDS: dict[int, type[ZenMlmdError]] = {
    ALREADY_EXISTS: AlreadyExistsError,
    ABORTED: ContentionError,
    UNAVAILABLE: UnreachableError,
    DEADLINE_EXCEEDED: ConnectionLostError,
    PERMISSION_DENIED: GrantMissingError,
    UNAUTHENTICATED: GrantMissingError,
    NOT_FOUND: NotFoundError,
}

_HINTS = {
    ALREADY_EXISTS: "read what is there, or choose another name",
    ABORTED: "another writer was in the way; the call was rolled back and can be repeated",
    UNAVAILABLE: "is the server running, and does a firewall let you through?",
    DEADLINE_EXCEEDED: "the server was too slow: raise timeout_s, or look at its load",
    PERMISSION_DENIED: "give the token or request metadata that the server asks for",
    UNAUTHENTICATED: "give the token or request metadata that the server asks for",
    NOT_FOUND: "does it lie in this store? ids and names are a store's own",
    RESOURCE_EXHAUSTED: "the message is larger than a limit allows: raise max_message_bytes on both sides",
    UNIMPLEMENTED: "the server is older than the call, or is not an MLMD server",
    INTERNAL: "the database refused; its own words are in the message",
}


_CONTENT = re.compile(
    r"\b(?:query:|type_id:|(?:custom_)?properties\b|string_value|uri:|name:|INSERT|UPDATE|VALUES)",
    re.IGNORECASE,
)


def _first_line(text: str, limit: int = 300) -> str:
    """Cut MLMD's text where it begins to quote SQL or nodes, for those hold what users recorded."""
    line = " ".join(text.split())
    found = _CONTENT.search(line)
    if found:
        line = line[: found.start()].rstrip(" :")
    return line if len(line) <= limit else line[:limit] + " ..."
