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


class StepKind(str, enum.Enum):
    """What a step is: work, or a group of steps, as Kubeflow Pipelines has them (its DAG executions)."""

    TASK = "task"
    IMPORTER = "importer"
    RESOLVER = "resolver"
    DAG = "dag"
    LOOP = "loop"
    ITERATION = "iteration"
    CONDITION = "condition"
    CONDITION_BRANCHES = "condition_branches"
    EXIT_HANDLER = "exit_handler"
    ROOT = "root"

    def __str__(self) -> str:
        return self.value

    @property
    def is_group(self) -> bool:
        """Whether it only holds other steps."""
        return self not in (StepKind.TASK, StepKind.IMPORTER, StepKind.RESOLVER)


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
        materializer: The class that wrote the payload, or reads what another writer wrote, as `module.Name`;
            empty if that is not known.
        metrics: Name to number, of an artifact that is metrics (`system.Metrics`).
        warnings: What is wrong with its row, a sentence each.
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
    metrics: Mapping[str, float] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
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
        kind: Whether it is work, or a group of steps and which.
        scope: The groups that it lies in, from the run down: `train-sub`, `for-loop-2[0]`.
        group_id: The id of the group that it lies in; None if it lies in none.
        iteration: Of an iteration of a loop, which, from 0.
        display_name: What a user called it; empty if that was not recorded.
        output_parameters: The values that it returned and that are no artifacts, by name.
        output_sources: Of a group: where an output of its comes from, as pairs of a step in it and that
            step's output; of several one ran.
        cached_from_id: The id of the step run whose outputs it took, if its writer noted that.
        warnings: What is wrong with its row, a sentence each.
    """

    id: int
    name: str
    type: str
    status: Status
    base_type: str = ""
    dialect: str = ""
    run_name: str = ""
    kind: StepKind = StepKind.TASK
    scope: str = ""
    group_id: int | None = None
    iteration: int | None = None
    display_name: str = ""
    output_parameters: Mapping[str, Any] = field(default_factory=dict)
    output_sources: Mapping[str, tuple[tuple[str, str], ...]] = field(default_factory=dict)
    cached_from_id: int | None = None
    warnings: tuple[str, ...] = ()
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
    def key(self) -> str:
        """Its name in its run, with the groups that it lies in: `train-sub/train`, `for-loop-2[0]/trial`.

        All attempts of one step have the same.
        """
        own = self.name if self.iteration is None else f"{self.name}[{self.iteration}]"
        return f"{self.scope}/{own}" if self.scope else own

    @property
    def duration_s(self) -> float | None:
        """Seconds from start to end; None while it runs or if unknown."""
        return _seconds(self.started_at, self.ended_at)


@dataclass(frozen=True, slots=True, kw_only=True)
class PipelineRun:
    """One run of a pipeline.

    Attributes:
        status: As the run's writer recorded it; None if it recorded none and the steps must tell the rest.
        namespace: The Kubernetes namespace, where the writer noted it.
        warnings: What is wrong with its row, a sentence each.
        plan: The planned steps and, for each, the steps it waits for; empty if not recorded.
        environment: git_commit, git_dirty, python, zen_mlmd, ml_metadata, user, host, ...
        stack: The stack's `name`, and `name` and `flavor` of its `metadata_store`, `artifact_store` and
            `orchestrator`; empty if not recorded.
    """

    id: int
    name: str
    pipeline: str
    status: Status | None
    dialect: str
    namespace: str = ""
    warnings: tuple[str, ...] = ()
    parameters: Mapping[str, Any] = field(default_factory=dict)
    properties: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    plan: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    environment: Mapping[str, Any] = field(default_factory=dict)
    stack: Mapping[str, Any] = field(default_factory=dict)
    failure: Failure | None = None
    started_at: datetime | None = None
    ended_at: datetime | None = None
    updated_at: datetime | None = None

    @property
    def duration_s(self) -> float | None:
        """Seconds from start to end; None while it runs or if unknown."""
        return _seconds(self.started_at, self.ended_at)


@dataclass(frozen=True, slots=True)
class Flaw:
    """Something that is wrong with what a store holds; it was read all the same.

    Attributes:
        where: What it was found at: `run monday`, `step 12`, `artifact 7`.
        what: What is wrong, in a sentence.
    """

    where: str
    what: str


@dataclass(frozen=True, slots=True)
class WholeRun:
    """A run and all of its step runs, in the order they began, groups of steps among them."""

    run: PipelineRun
    steps: tuple[StepRun, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pipeline:
    """A pipeline: a name that runs share, whoever wrote them.

    Attributes:
        id: Of its context; of a pipeline that has none (Kubeflow Pipelines v1), of its first run's.
    """

    id: int
    name: str
    created_at: datetime | None = None


def from_millis(millis: int) -> datetime | None:
    """Return MLMD's milliseconds since the epoch as an aware UTC datetime.

    None for 0, MLMD's unset, and for what a damaged row may hold that is no time of this calendar.
    """
    try:
        return datetime.fromtimestamp(millis / 1000, tz=timezone.utc) if millis else None
    except (OverflowError, ValueError, OSError):
        return None


def to_millis(at: datetime) -> int:
    """Return an aware datetime as milliseconds since the epoch, rounded."""
    return round(at.timestamp() * 1000)


def _seconds(start: datetime | None, end: datetime | None) -> float | None:
    return None if start is None or end is None else (end - start).total_seconds()
