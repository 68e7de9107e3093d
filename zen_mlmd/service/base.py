"""The service port: every way to reach an MLMD answers the same calls.

Method names and messages are MLMD's own (`metadata_store_service.proto`), so a service can stand
behind a gRPC server, and MLMD's own test suite can be run against each.
"""

from __future__ import annotations

import abc
import functools
import re
import types
from collections.abc import Callable, Sequence
from typing import Any

from google.protobuf.message import DecodeError
from ml_metadata.proto import metadata_store_service_pb2 as rpc
from typing_extensions import Self

from zen_mlmd.errors import (
    AlreadyExistsError,
    ConnectionLostError,
    ContentionError,
    GrantMissingError,
    NotFoundError,
    RejectedRequestError,
    StoreError,
    TypeConflictError,
    UnreachableError,
    UsageError,
    ZenMlmdError,
)
from zen_mlmd.service.check import check_request
from zen_mlmd.service.edges import EdgeQuery, LineageEdges


class MetadataService(abc.ABC):
    """One MLMD store, open.

    Attributes:
        location: Where it is, for messages: never holds a password or a token.
        generation: Raised whenever the next call may be answered from another database than the last one
            (a file that was made anew, say): ids and types that were learned before are void.
        exact_names: Whether the store takes two names for one only if they are equal, as far as is known.
    """

    location: str = ""
    generation: int = 0
    exact_names: bool = False

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

    def forward(self, method: str, data: bytes) -> bytes:
        """Send a request that is bytes already, and return its response's: what a server does.

        A service that has bytes at hand and MLMD's own words does better than this one.

        Raises:
            Refusal: The store refused it, with MLMD's own code and words.
            StoreError: There is no such RPC.
            RejectedRequestError: It would harm the store or the process, and was not sent.
            ConnectionFailedError: As `call`.
        """
        request = parse_request(method, data)
        try:
            answer: bytes = self.call(method, request).SerializeToString()
        except RejectedRequestError:
            raise
        except StoreError as error:
            raise Refusal(error.mlmd_code, error.message) from None
        return answer

    def check(self, method: str, request: Any) -> None:
        """Refuse what `call` would refuse to send, without sending it.

        Raises:
            RejectedRequestError: The message names the node and the property.
        """
        check_request(method, request)

    def lineage_edges(self, query: EdgeQuery) -> LineageEdges | None:
        """Return all edges on the way up or down from artifacts, if this service has a quick way to them.

        Args:
            query: Which edges.

        Returns:
            Each event of `inputs` and `outputs` of each execution on the way, and each of `outputs` of
            each artifact on the way, once; None if there is no such way.
        """
        del query
        return None

    def delete(
        self,
        *,
        executions: Sequence[int] = (),
        artifacts: Sequence[int] = (),
        contexts: Sequence[int] = (),
        even_used: bool = False,
    ) -> dict[str, int]:
        """Delete nodes with all that hangs on them, in one transaction: all of it, or nothing.

        Artifacts that still have events then stay, unless they are to go `even_used`, with those events;
        contexts that still have executions or children stay.

        Returns:
            How many were deleted, by "executions", "artifacts" and "contexts".

        Raises:
            UsageError: Only the SQL service can.
        """
        del executions, artifacts, contexts, even_used
        raise UsageError(
            f"{self.location}: ml-metadata deletes nothing; only the SQL service does",
            hint="open the database itself with service=sql: mysql://user@host/db, sqlite:///x.db?service=sql",
        )

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


class Refusal(Exception):  # noqa: N818 - an answer, not a fault
    """MLMD's answer to a request that it refuses, as it is; the words may quote the request.

    Attributes:
        code: MLMD's and gRPC's status code.
        text: MLMD's words.
    """

    def __init__(self, code: int, text: str) -> None:
        super().__init__(code)
        self.code = code
        self.text = text


@functools.cache
def request_class(method: str) -> Callable[[], Any]:
    """Return the request message's class of an RPC.

    Raises:
        StoreError: There is no such RPC (code 12, UNIMPLEMENTED).
    """
    return _message_class(method, "Request")


@functools.cache
def response_class(method: str) -> Callable[[], Any]:
    """Return the response message's class of an RPC.

    Raises:
        StoreError: There is no such RPC (code 12, UNIMPLEMENTED).
    """
    return _message_class(method, "Response")


def _message_class(method: str, suffix: str) -> Callable[[], Any]:
    found = getattr(rpc, f"{method}{suffix}", None)
    if found is None:
        raise StoreError(
            f"MLMD has no call {method}",
            hint="its calls are those of metadata_store_service.proto",
            mlmd_code=UNIMPLEMENTED,
        )
    return found  # type: ignore[no-any-return]


LOST_BEHIND = "the store behind this server went away during the call: the write may have been done, or not"
"""What our server says, with code INTERNAL as MLMD's does: clients do again what was UNAVAILABLE."""


def parse_request(method: str, data: bytes) -> Any:
    """Return the message that a request's bytes mean.

    Raises:
        Refusal: They mean none.
        StoreError: There is no such RPC.
    """
    request = request_class(method)()
    try:
        request.ParseFromString(data)
    except DecodeError:
        raise Refusal(INVALID_ARGUMENT, "Could not parse proto") from None
    return request


CANCELLED, UNKNOWN, INVALID_ARGUMENT, DEADLINE_EXCEEDED, NOT_FOUND = 1, 2, 3, 4, 5
ALREADY_EXISTS, PERMISSION_DENIED, RESOURCE_EXHAUSTED, FAILED_PRECONDITION = 6, 7, 8, 9
ABORTED, OUT_OF_RANGE, UNIMPLEMENTED, INTERNAL, UNAVAILABLE, DATA_LOSS, UNAUTHENTICATED = range(10, 17)


def error_from_code(code: int, text: str, *, location: str, method: str) -> ZenMlmdError:
    """Return our error for one of MLMD's status codes (they are gRPC's, `absl/status/status.h`)."""
    what = f"{location}: {method}: {first_line(text)}"
    said = database_said(text) if code == INTERNAL else ""
    if _ROLLED_BACK.match(said):
        code = ABORTED
    if text.startswith("Type already exists with different properties"):
        return TypeConflictError(
            what,
            hint="a type of that name has other properties: use another type name, or the same properties",
        )
    if _DENIED.match(said):
        return GrantMissingError(what, hint="GRANT the user what the message names, or only read")
    if said == _READ_ONLY:
        return GrantMissingError(what, hint="open it without read_only, and see that you may write the file")
    kind = _KINDS.get(code)
    hint = _HINTS.get(code, "see the log of the store's server, and try again")
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
    INVALID_ARGUMENT: "the request does not fit what the store holds: look at its types, ids and names",
    FAILED_PRECONDITION: "the request does not fit what the store holds: look at its types, ids and names",
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


_ROLLED_BACK = re.compile(r"Deadlock found|Lock wait timeout exceeded|Record has changed since last read")
"""MySQL's words for a transaction that another one won: MLMD says ABORTED only if a write met them, and
INTERNAL if a read did (ml-metadata 1.17.1, measured)."""

_DENIED = re.compile(r"[A-Z, ]{3,60} command denied to user '")
_READ_ONLY = "attempt to write a readonly database"

_MYSQL_SAID = re.compile(
    r"errno: (?P<said>.{1,600}), error: (?P=said)(?:\s*\[mysql-error-info=.{0,99}\])?\s*\Z", re.DOTALL
)
_MYSQL_TAIL = 1300  # twice the longest message of MySQL, 512 bytes, and what stands around it
_SQLITE_SAID = re.compile(r"Error when executing query: (?P<said>[^\n]{1,200}?) query: ")
_LITERAL = re.compile(r'"(?:[^"\\]|\\.)*"', re.DOTALL)


def database_said(text: str) -> str:
    """Return what the database itself said, of MLMD's text around it; empty if that is not to be found.

    Nobody's content is taken for it: MLMD quotes nodes before MySQL's words, which end the text, and before
    and behind SQLite's, but in quotes before. Of a duplicate MySQL itself quotes the name, in its middle.
    """
    mysql = _MYSQL_SAID.search(text[-_MYSQL_TAIL:])
    if mysql is not None:
        return mysql["said"]
    sqlite = _SQLITE_SAID.search(_LITERAL.sub("", text))
    return "" if sqlite is None else sqlite["said"]


def is_busy(text: str) -> bool:
    """Tell whether MLMD's text says that another transaction won, or keeps what is wanted."""
    said = database_said(text)
    return said == "database is locked" or _ROLLED_BACK.match(said) is not None


def is_read_only(text: str) -> bool:
    """Tell whether MLMD's text says that SQLite may not write, be it to make MLMD's tables."""
    return database_said(text) == _READ_ONLY


def is_shut(text: str) -> bool:
    """Tell whether MLMD's text says that SQLite may not make the files that even a reader of a WAL needs."""
    return database_said(text) == "unable to open database file"


_SAID_TWICE = re.compile(r"mysql_query failed: errno: (.*), error: \1")
_CONTENT = re.compile(
    r"""["`{]  # protobuf text, and names that somebody chose
    |\b(?:query|type_id|uri|name|path|key|external_id):
    |\bproperties\b|\bstring_value\b
    |\bDuplicate\ entry\b|\bvalue:?\ '|\bnear\ '
    |\b(?:INSERT\ INTO|UPDATE\ \S+\ SET|SELECT\ .*\bFROM|DELETE\ FROM|VALUES\ ?\()""",
    re.IGNORECASE | re.VERBOSE,
)

# What databases say that holds nobody's content.
_CAUSE = re.compile(
    rf"{_READ_ONLY}|database or disk is full|disk I/O error|database is locked"
    r"|database disk image is malformed|Incorrect string value|The table '\w{1,40}' is full"
    r"|(?:Data too long|Out of range value) for column '[a-z_]{1,40}'"
    r"|(?:INSERT|UPDATE|DELETE|SELECT)[A-Z, ]* command denied to user"
)


def first_line(text: str, limit: int = 300) -> str:
    """Cut MLMD's text where it begins to quote SQL or nodes, for those hold what users recorded."""
    line = " ".join(text[:4000].split())
    line = _SAID_TWICE.sub(r"\1", line).replace("Error when executing query: ", "")
    found = _CONTENT.search(line)
    if found:
        line = line[: found.start()].rstrip(" :,") or "refused"
        cause = _CAUSE.match(database_said(text))
        if cause and cause[0] not in line:
            line = f"{line}: {cause[0]}"
    return line if len(line) <= limit else line[:limit] + " ..."
