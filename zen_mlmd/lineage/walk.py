"""Walking through events, breadth first, in batches, to the end.

`get_lineage_subgraph` cannot serve: ml-metadata 1.17.1 returns the nearest 100 hops as if they were
all (rdbms_metadata_access_object.cc, kQueryLineageSubgraphMaxNumHops), and 1.21.0 has it no more.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, TypeVar, overload

from zen_mlmd.dialects import tfx
from zen_mlmd.errors import UsageError
from zen_mlmd.lineage.graph import LineageGraph
from zen_mlmd.loader import Loader
from zen_mlmd.model import INPUT_EVENTS, OUTPUT_EVENTS, Event, EventType, to_millis

Direction = Literal["upstream", "downstream"]
ValueT = TypeVar("ValueT")


@dataclass(frozen=True)
class Bounds:
    """Where a walk stops.

    Attributes:
        max_hops: Edges to follow, 0 or more; None goes to the end. From an artifact to the step that
            made it is one, from there to what the step took another.
        stop_types: Artifacts of these types are shown, and not walked beyond.
        since, until: Events outside of these times are not followed.
        reuse: Show the steps that emitted an artifact again without making it.
        inputs, outputs: Which event types count. INTERNAL_* and PENDING_OUTPUT do not by default: TFX's
            Resolver has an INTERNAL_OUTPUT for what it found, and did not make it.
    """

    max_hops: int | None = None
    stop_types: Collection[str] = ()
    since: datetime | None = None
    until: datetime | None = None
    reuse: bool = True
    inputs: Collection[EventType] = INPUT_EVENTS
    outputs: Collection[EventType] = OUTPUT_EVENTS

    def __post_init__(self) -> None:
        if self.max_hops is not None and self.max_hops < 0:
            raise UsageError("max_hops is negative", hint="give 0 or more, or None for no bound")
        for at in (self.since, self.until):
            if at is not None and at.tzinfo is None:
                raise UsageError(
                    "since and until need a time zone", hint="datetime(..., tzinfo=timezone.utc)"
                )


def walk(
    loader: Loader, start: Iterable[int], direction: Direction, bounds: Bounds | None = None
) -> LineageGraph:
    """Return everything upstream or downstream of artifacts.

    Upstream goes from an artifact to the step that made it: a cached step that emitted it again is
    shown where it was met, and not followed. Downstream goes to the steps that took it, and on to what
    they made themselves.

    Args:
        loader: The store.
        start: Artifact ids, in any order, repeats allowed.
        direction: upstream or downstream.
        bounds: Where to stop; by default nowhere.

    Returns:
        The graph; `complete` is False if a bound cut it. O(V + E) time, one call for each hop and
        thousand nodes of it. Nodes are read when first looked at, in one call a thousand.

    Raises:
        UsageError: A bound makes no sense.
    """
    going = _Walk(loader, bounds or Bounds(), dict.fromkeys(start), upstream=direction == "upstream")
    going.go()
    return LineageGraph(
        artifacts=Lazy(going.artifacts, loader.artifacts),
        steps=Lazy(going.steps, loader.steps),
        events=LazyEvents(going.events),
        producers=going.producers,
        complete=not going.cut,
        start=tuple(going.start),
        cut=tuple(going.cut),
    )


class _Walk:
    """One walk under way: what was found, on the events as MLMD gives them.

    Outward leads from an artifact to steps, inward from a step to artifacts: upstream by output and
    input events, downstream by input and output events.
    """

    def __init__(self, loader: Loader, bounds: Bounds, start: dict[int, None], *, upstream: bool) -> None:
        self.start = start
        self.artifacts: dict[int, None] = dict(start)
        self.steps: dict[int, None] = {}
        # Each artifact and step is asked once, so each event is met once. As bytes, since a kept message
        # keeps the whole response that it came in.
        self.events: list[bytes] = []
        self.producers: dict[int, int] = {}
        self.cut: dict[int, None] = {}
        self._loader = loader
        self._bounds = bounds
        self._upstream = upstream
        self._outputs = _numbers(bounds.outputs)
        inputs = _numbers(bounds.inputs)
        self._outward, self._inward = (self._outputs, inputs) if upstream else (inputs, self._outputs)
        self._in_time = _in_time(bounds)
        # Downstream: the steps that led to an artifact, and the artifacts at which the walk waits
        # because none of those made them.
        self._led_by: dict[int, set[int]] = {}
        self._waiting: set[int] = set()

    def go(self) -> None:
        client, limit = self._loader.client, self._bounds.max_hops
        frontier, hops = list(self.start), 0
        while frontier:
            steps = self._outward_from(frontier, client.events_of_artifacts(frontier), hops == limit)
            if not steps:
                return
            frontier = self._inward_from(client.events_of_executions(steps), hops + 1 == limit)
            hops += 2

    def _outward_from(self, frontier: list[int], events: list[Any], at_limit: bool) -> list[int]:
        """Follow artifacts to their steps; return the steps that are new."""
        outputs, outward, in_time = self._outputs, self._outward, self._in_time
        producers, doubtful = self.producers, dict[int, set[int]]()
        for event in events:
            if event.type in outputs:
                first = producers.setdefault(event.artifact_id, event.execution_id)
                if first != event.execution_id:
                    doubtful.setdefault(event.artifact_id, {first}).add(event.execution_id)
        if doubtful:
            producers.update(self._loader.choose_producers(doubtful))
        stopped = self._stopped(frontier)
        steps: list[int] = []
        for event in events:
            kind = event.type
            if kind not in outward or (in_time and not in_time(event)):
                continue
            artifact, step = event.artifact_id, event.execution_id
            if not self._is_followed(event, artifact, step):
                continue
            if at_limit or artifact in stopped:
                self.cut[artifact] = None
                continue
            self.events.append(event.SerializeToString())
            if step not in self.steps:
                self.steps[step] = None
                steps.append(step)
        return steps

    def _is_followed(self, event: Any, artifact: int, step: int) -> bool:
        if self._upstream:
            if self.producers[artifact] == step:
                return True
            if self._bounds.reuse:
                self.events.append(event.SerializeToString())
                self.steps.setdefault(step)
            return False
        led_by = self._led_by.get(artifact)
        if led_by is None or self.producers.get(artifact) in led_by:
            return True
        self._waiting.add(artifact)
        return False

    def _inward_from(self, events: list[Any], at_limit: bool) -> list[int]:
        """Follow steps to their artifacts; return the artifacts to go on from."""
        inward, in_time, downstream = self._inward, self._in_time, not self._upstream
        frontier: list[int] = []
        for event in events:
            kind = event.type
            if kind not in inward or (in_time and not in_time(event)):
                continue
            artifact, step = event.artifact_id, event.execution_id
            if at_limit:
                self.cut[artifact] = None
                continue
            self.events.append(event.SerializeToString())
            if downstream and artifact not in self.start:
                self._led_by.setdefault(artifact, set()).add(step)
            if artifact not in self.artifacts:
                self.artifacts[artifact] = None
                frontier.append(artifact)
            elif artifact in self._waiting and self.producers.get(artifact) == step:
                self._waiting.discard(artifact)
                frontier.append(artifact)
        return frontier

    def _stopped(self, frontier: list[int]) -> set[int]:
        """Return the artifacts of a frontier that are of a type to stop at; a start is never one."""
        if not self._bounds.stop_types:
            return set()
        known = self._loader.artifacts(each for each in frontier if each not in self.start)
        return {each.id for each in known.values() if each.type in self._bounds.stop_types}


def _in_time(bounds: Bounds) -> Callable[[Any], bool] | None:
    since = to_millis(bounds.since) if bounds.since else None
    until = to_millis(bounds.until) if bounds.until else None
    if since is None and until is None:
        return None

    def inside(event: Any) -> bool:
        at = event.milliseconds_since_epoch
        return (since is None or at >= since) and (until is None or at <= until)

    return inside


def _numbers(wanted: Collection[EventType]) -> frozenset[int]:
    return frozenset(tfx.event_number(each) for each in wanted)


class Lazy(Mapping[int, ValueT]):
    """Records by id, read all at once when the first is looked at; ids that the store lost are left out."""

    def __init__(self, ids: Iterable[int], read: Callable[[Iterable[int]], dict[int, ValueT]]) -> None:
        self._ids = list(ids)
        self._read = read
        self._values: dict[int, ValueT] | None = None

    def _loaded(self) -> dict[int, ValueT]:
        if self._values is None:
            found = self._read(self._ids)
            self._values = {key: found[key] for key in self._ids if key in found}
        return self._values

    def __getitem__(self, key: int) -> ValueT:
        return self._loaded()[key]

    def __iter__(self) -> Iterator[int]:
        return iter(self._loaded())

    def __len__(self) -> int:
        return len(self._loaded())

    def __repr__(self) -> str:
        return f"<{len(self._ids)} records>"


class LazyEvents(Sequence[Event]):
    """Events, decoded when looked at."""

    def __init__(self, messages: list[bytes]) -> None:
        self._messages = messages
        self._events: tuple[Event, ...] | None = None

    def _decoded(self) -> tuple[Event, ...]:
        if self._events is None:
            self._events = tuple(tfx.event_of(each) for each in self._messages)
        return self._events

    @overload
    def __getitem__(self, index: int) -> Event: ...

    @overload
    def __getitem__(self, index: slice) -> tuple[Event, ...]: ...

    def __getitem__(self, index: int | slice) -> Event | tuple[Event, ...]:
        return self._decoded()[index]

    def __len__(self) -> int:
        return len(self._messages)

    def __repr__(self) -> str:
        return f"<{len(self._messages)} events>"
