"""What an examination of a store finds: a code word, what it is, and what to do about it.

`docs/upkeep.md` has a line for each code word.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from zen_mlmd.errors import (
    ClusterObjectError,
    ClusterUnreachableError,
    ConfigError,
    ConnectionLostError,
    ContentionError,
    DatabaseMissingError,
    DeploymentError,
    ForwardError,
    GrantMissingError,
    HostNotFoundError,
    LockTimeoutError,
    LoginDeniedError,
    LoginPluginError,
    MissingExtraError,
    NotMlmdError,
    TlsError,
    UnreachableError,
    ZenMlmdError,
)


class Severity(str, enum.Enum):
    """How bad a finding is: errors and warnings are to be seen to, an info is advice."""

    ERROR = "error"
    WARNING = "warning"
    INFO = "info"

    __str__ = str.__str__


CODES: Final[Mapping[str, Severity]] = {
    # this machine
    **dict.fromkeys(
        ("ml-metadata-missing", "ml-metadata-broken", "wheel-none", "glibc-old", "protobuf-old"),
        Severity.ERROR,
    ),
    "protobuf-undeclared": Severity.INFO,
    # the way to the store
    **dict.fromkeys(
        (
            *("setting-wrong", "extra-missing", "host-unknown", "unreachable", "connection-lost"),
            *("login-plugin", "login-denied", "tls", "grant-missing", "database-missing", "not-mlmd"),
            *("lock-held", "refused"),
            *("cluster-unreachable", "cluster-refused", "forward-down", "deployment-down"),
        ),
        Severity.ERROR,
    ),
    **dict.fromkeys(("certificate-expiry", "certificate-name"), Severity.WARNING),
    **dict.fromkeys(("native-login", "message-small", "latency", "unchecked"), Severity.INFO),
    # a SQLite file
    **dict.fromkeys(("file-damaged", "wal-on-network", "journal-left"), Severity.ERROR),
    **dict.fromkeys(("file-unwritable", "disk-full", "wal-large", "writer-stuck"), Severity.WARNING),
    # its schema
    **dict.fromkeys(
        (
            *("tables-missing", "version-missing", "version-several", "schema-newer", "schema-ancient"),
            *("migration-unfinished", "columns-missing"),
        ),
        Severity.ERROR,
    ),
    **dict.fromkeys(("schema-old", "index-missing", "names-fold", "engine"), Severity.WARNING),
    **dict.fromkeys(("narrow-column", "index-offered", "index-whole-text"), Severity.INFO),
    # what its account may do, and its server does
    "grant-read": Severity.ERROR,
    **dict.fromkeys(
        (
            *("grant-write", "server-read-only", "clock-skew", "isolation", "sql-mode", "encoding"),
            *("connections-full", "ids-running-out"),
        ),
        Severity.WARNING,
    ),
    **dict.fromkeys(("grant-ddl", "packet-small"), Severity.INFO),
    # its rows
    "type-gone": Severity.ERROR,
    **dict.fromkeys(
        (
            *("events-orphaned", "events-dangling", "paths-orphaned", "properties-orphaned"),
            *("links-orphaned", "type-parts-orphaned", "type-twice", "row-damaged"),
        ),
        Severity.WARNING,
    ),
    # its runs and artifacts
    **dict.fromkeys(("payload-gone", "payload-changed"), Severity.ERROR),
    **dict.fromkeys(("run-unended", "step-unended", "payload-unreadable"), Severity.WARNING),
}
"""Each code word, and how bad what it stands for is."""

_ERRORS: Final[Mapping[type[ZenMlmdError], str]] = {
    ConfigError: "setting-wrong",
    MissingExtraError: "extra-missing",
    HostNotFoundError: "host-unknown",
    UnreachableError: "unreachable",
    ConnectionLostError: "connection-lost",
    LoginPluginError: "login-plugin",
    LoginDeniedError: "login-denied",
    TlsError: "tls",
    GrantMissingError: "grant-missing",
    DatabaseMissingError: "database-missing",
    NotMlmdError: "not-mlmd",
    LockTimeoutError: "lock-held",
    ClusterUnreachableError: "cluster-unreachable",
    ClusterObjectError: "cluster-refused",
    ForwardError: "forward-down",
    DeploymentError: "deployment-down",
    ContentionError: "lock-held",
    ZenMlmdError: "refused",
}

BARRING: Final = frozenset(
    (
        *_ERRORS.values(),
        *("ml-metadata-missing", "ml-metadata-broken", "wheel-none", "glibc-old", "protobuf-old"),
        *("tables-missing", "version-missing", "version-several", "schema-newer", "schema-ancient"),
        *("migration-unfinished", "columns-missing", "file-damaged", "journal-left"),
    )
)
"""Behind one of these nothing more can be found: the store was not examined to its end."""


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is wrong, or could be better.

    Attributes:
        code: One of `CODES`.
        what: What was found, and what comes of it.
        remedy: What would be done about it, or is to be done.
        subject: At what it was found: a table, a run, an artifact.
        mendable: Whether `zen_mlmd.doctor.mend` does what `remedy` says; runs only with `end_runs`.
        statements: Of SQL, that mend it; it is mendable then.
    """

    code: str
    what: str
    remedy: str
    subject: str = ""
    mendable: bool = False
    statements: tuple[str, ...] = field(default=(), repr=False)

    def __post_init__(self) -> None:
        if self.statements:
            object.__setattr__(self, "mendable", True)

    @property
    def severity(self) -> Severity:
        """How bad it is."""
        return CODES[self.code]

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain values."""
        return {
            "code": self.code,
            "severity": str(self.severity),
            "subject": self.subject,
            "what": self.what,
            "remedy": self.remedy,
            "mendable": self.mendable,
        }


def finding_of(error: ZenMlmdError, location: str = "") -> Finding:
    """Return what an error says that kept somebody from examining a store.

    Args:
        error: Of a connection, a setting, or a call.
        location: What its message begins with, and the finding need not repeat.
    """
    code = next(_ERRORS[kind] for kind in type(error).__mro__ if kind in _ERRORS)
    what = error.message.removeprefix(f"{location}: ") if location else error.message
    return Finding(code, what, error.hint or "see docs/errors.md", subject=error.code)


@dataclass(frozen=True, slots=True, kw_only=True)
class Thresholds:
    """From where on something is found.

    Attributes:
        latency_ms: Of one question and its answer, the quickest of several.
        skew_s: By which the server's clock and this one's differ.
        packet_bytes: Of the longest statement, or message, that the server takes.
        certificate_days: That the server's certificate is still good for.
        connections: The share of a server's connections that is in use, from 0 to 1.
        ids: The share of the ids of 32 bits that is used, from 0 to 1.
        wal_bytes: Of SQLite's write-ahead log.
        free_bytes: On the disk of a SQLite file.
        checked_bytes: Of the largest SQLite file that is looked through for damage.
        lock_s: That a process keeps SQLite's write lock all the time.
    """

    latency_ms: float = 20.0
    skew_s: float = 2.0
    packet_bytes: int = 16 * 2**20
    certificate_days: float = 30.0
    connections: float = 0.8
    ids: float = 0.8
    wal_bytes: int = 64 * 2**20
    free_bytes: int = 256 * 2**20
    checked_bytes: int = 2**30
    lock_s: float = 1.0


def slow(round_trip_ms: float, thresholds: Thresholds) -> list[Finding]:
    """Return a finding if a question and its answer take long."""
    if round_trip_ms <= thresholds.latency_ms:
        return []
    return [
        Finding(
            "latency",
            f"a question and its answer take {round_trip_ms:.1f} ms, and a step needs two to nine of them",
            "run nearer to the store, or let `zen-mlmd serve` run beside it",
        )
    ]
