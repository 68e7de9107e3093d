"""What a store holds, as plain frozen records: the vocabulary of the whole library.

A record is a fact that was read; it holds no connection and asks no question. `zen_mlmd.reading`
wraps records in views that do. Times are aware UTC datetimes with millisecond precision, durations
are seconds, ids are MLMD's own integers.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any


class Status(str, enum.Enum):
    """How a step or a run stands.

    `UNKNOWN` is what a store says that records no states (Kubeflow Pipelines v1, say).
    """

    PENDING = "pending"
    RUNNING = "running"
    COMPLETED = "completed"
    CACHED = "cached"
    FAILED = "failed"
    CANCELED = "canceled"
    UNKNOWN = "unknown"

    def __str__(self) -> str:
        return self.value

    @property
    def ended(self) -> bool:
        """Whether nothing more is expected to happen."""
        return self not in (Status.PENDING, Status.RUNNING, Status.UNKNOWN)


class EventType(str, enum.Enum):
    """MLMD's event types, by their lower-case names (metadata_store.proto, `Event.Type`)."""

    UNKNOWN = "unknown"
    DECLARED_OUTPUT = "declared_output"
    DECLARED_INPUT = "declared_input"
    INPUT = "input"
    OUTPUT = "output"
    INTERNAL_INPUT = "internal_input"
    INTERNAL_OUTPUT = "internal_output"
    PENDING_OUTPUT = "pending_output"

    def __str__(self) -> str:
        return self.value


INPUT_EVENTS = frozenset({EventType.INPUT, EventType.DECLARED_INPUT})
"""The event types that make an artifact an input, unless a caller says otherwise."""

OUTPUT_EVENTS = frozenset({EventType.OUTPUT, EventType.DECLARED_OUTPUT})
"""The event types that make an artifact an output, unless a caller says otherwise."""

ARTIFACT_STATES = ("unknown", "pending", "live", "marked_for_deletion", "deleted", "abandoned", "reference")
"""MLMD's artifact states in lower case (metadata_store.proto, `Artifact.State`)."""


@dataclass(frozen=True, slots=True)
class Slot:
    """A place that an artifact takes at a step: the input's or output's name, and the place in its list."""

    name: str
    index: int = 0


@dataclass(frozen=True, slots=True)
class Event:
    """One artifact met one step run.

    One event carries several slots where one artifact went to several inputs: MLMD keeps a single
    event for an artifact, an execution and a type.
    """

    artifact_id: int
    step_id: int
    type: EventType
    slots: tuple[Slot, ...]
    at: datetime | None


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a step or a run failed."""

    type: str
    message: str
    traceback: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Artifact:
    """Something that a step made or used.

    Attributes:
        properties: All properties, decoded to Python; where a declared and a custom property share
            a key, the declared one is here and `custom_properties` has the other.
        state: MLMD's artifact state in lower case: live, pending, deleted, ...
        content_hash: `sha256:...` over the payload, if it was recorded.
        data_type: The Python type that was written, as `module.Name`, if it was recorded.
        materializer: The class that wrote the payload, as `module.Name`, if it was recorded.
    """

    id: int
    type: str
    uri: str
    name: str = ""
    base_type: str = ""
    state: str = "unknown"
    properties: Mapping[str, Any] = field(default_factory=dict)
    custom_properties: Mapping[str, Any] = field(default_factory=dict)
    content_hash: str = ""
    size_bytes: int | None = None
    data_type: str = ""
    materializer: str = ""
    created_at: datetime | None = None
    updated_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StepRun:
    """One execution of one step.

    Attributes:
        parameters: Python values, exactly as they were given (where the writer kept that).
        properties: What else was recorded, decoded to Python.
        metrics: Name to number.
        after: Names of the steps it waited for without taking an artifact from them.
        code: Fingerprint of the step's code, empty if not recorded.
        cache_key: Empty if the step was not cacheable.
        run_name: Empty if the writer did not put it on the execution.
    """

    id: int
    name: str
    type: str
    status: Status
    base_type: str = ""
    dialect: str = ""
    run_name: str = ""
    parameters: Mapping[str, Any] = field(default_factory=dict)
    properties: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    after: tuple[str, ...] = ()
    code: str = ""
    docstring: str = ""
    cache_key: str = ""
    environment: Mapping[str, Any] = field(default_factory=dict)
    failure: Failure | None = None
    started_at: datetime | None = None
    ended_at: datetime | None = None
    updated_at: datetime | None = None

    @property
    def duration_s(self) -> float | None:
        """Seconds from start to end; None while it runs or if unknown."""
        return _seconds(self.started_at, self.ended_at)


@dataclass(frozen=True, slots=True, kw_only=True)
class PipelineRun:
    """One run of a pipeline.

    Attributes:
        status: As the run's writer recorded it; None if it recorded none and the steps must tell.
        plan: The planned steps and, for each, the steps it waits for; empty if not recorded.
        environment: git_commit, git_dirty, python, zen_mlmd, ml_metadata, user, host, ...
    """

    id: int
    name: str
    pipeline: str
    status: Status | None
    dialect: str
    parameters: Mapping[str, Any] = field(default_factory=dict)
    properties: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    plan: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    environment: Mapping[str, Any] = field(default_factory=dict)
    failure: Failure | None = None
    started_at: datetime | None = None
    ended_at: datetime | None = None
    updated_at: datetime | None = None

    @property
    def duration_s(self) -> float | None:
        """Seconds from start to end; None while it runs or if unknown."""
        return _seconds(self.started_at, self.ended_at)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pipeline:
    """A pipeline: a name that runs share."""

    id: int
    name: str
    created_at: datetime | None = None


def from_millis(millis: int) -> datetime | None:
    """Return MLMD's milliseconds since the epoch as an aware UTC datetime; None for 0, MLMD's unset."""
    return datetime.fromtimestamp(millis / 1000, tz=timezone.utc) if millis else None


def to_millis(at: datetime) -> int:
    """Return an aware datetime as milliseconds since the epoch, rounded."""
    return round(at.timestamp() * 1000)


def _seconds(start: datetime | None, end: datetime | None) -> float | None:
    return None if start is None or end is None else (end - start).total_seconds()
