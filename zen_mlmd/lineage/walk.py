"""Walking through events, breadth first, in batches, to the end.

`get_lineage_subgraph` cannot serve: ml-metadata 1.17.1 returns the nearest 100 hops as if they were
all (rdbms_metadata_access_object.cc, kQueryLineageSubgraphMaxNumHops), and 1.21.0 has it no more.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, TypeVar, get_args, overload

from zen_mlmd.dialects import base
from zen_mlmd.errors import UsageError
from zen_mlmd.lineage.graph import FROM_STEP, TO_STEP, Direction, LineageGraph
from zen_mlmd.loader import Loader
from zen_mlmd.model import INPUT_EVENTS, OUTPUT_EVENTS, Event, EventType, to_millis
from zen_mlmd.service.client import Client

DIRECTIONS: Final = get_args(Direction)
ValueT = TypeVar("ValueT")


@dataclass(frozen=True)
class Bounds:
    """Where a walk stops.

    Attributes:
        max_hops: Edges to follow, 0 or more; None goes to the end. From an artifact to the step that
            made it is one, from there to what the step took another.
        stop_types: Artifacts of these types are shown, and not walked beyond; one type may be a str.
        since, until: Events outside of these times are not followed.
        reuse: Show the steps that emitted an artifact again without making it.
        inputs, outputs: Which event types count, also by name. INTERNAL_* and PENDING_OUTPUT do not by
            default: TFX's Resolver has an INTERNAL_OUTPUT for what it found, and did not make it.

    Raises:
        UsageError: A bound makes no sense.
    """

    max_hops: int | None = None
    stop_types: Collection[str] = ()
    since: datetime | None = None
    until: datetime | None = None
    reuse: bool = True
    inputs: Collection[EventType] = INPUT_EVENTS
    outputs: Collection[EventType] = OUTPUT_EVENTS

    def __post_init__(self) -> None:
        hops = self.max_hops
        if hops is not None and (not isinstance(hops, int) or isinstance(hops, bool) or hops < 0):
            raise UsageError(
                f"max_hops is {hops!r}", hint="give a whole number, 0 or more, or None for no bound"
            )
        for at in (self.since, self.until):
            if at is not None and not (isinstance(at, datetime) and at.tzinfo is not None):
                raise UsageError(
                    f"since and until are times with a time zone, and not {at!r}",
                    hint="datetime(2026, 11, 1, tzinfo=timezone.utc)",
                )
        object.__setattr__(self, "stop_types", frozenset(_texts("stop_types", self.stop_types)))
        object.__setattr__(self, "inputs", _event_types("inputs", self.inputs, TO_STEP))
        object.__setattr__(self, "outputs", _event_types("outputs", self.outputs, FROM_STEP))


def _texts(name: str, given: object) -> list[str]:
    """Return texts; a single one is a list of one, not of its letters."""
    many = isinstance(given, Iterable) and not isinstance(given, str)
    texts: list[Any] = [*given] if many else [given]  # type: ignore[misc]
    if not all(isinstance(each, str) for each in texts):
        raise UsageError(f"{name} is {given!r}", hint="give names, in a list")
    return texts


def _event_types(name: str, given: object, possible: Collection[EventType]) -> frozenset[EventType]:
    known = {str(each): each for each in possible}
    texts = [str(each) if isinstance(each, EventType) else each for each in _texts(name, given)]
    unknown = [each for each in texts if each not in known]
    if unknown:
        raise UsageError(
            f"{name}: {unknown[0]!r} is no type of such events", hint=f"there are: {', '.join(sorted(known))}"
        )
    return frozenset(known[each] for each in texts)


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
        UsageError: There is no such direction.
    """
    if direction not in DIRECTIONS:
        raise UsageError(f"there is no direction {direction!r}", hint=f"give {' or '.join(DIRECTIONS)}")
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
        direction=direction,
        origin=loader.origin,
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
        # The artifacts that are cut because they were not entered, and the steps that lead to them.
        self._not_entered: dict[int, set[int]] = {}
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
        limit = self._bounds.max_hops
        frontier, hops = list(self.start), 0
        events = _Ahead(self._loader.client, frontier, self._bounds, upstream=self._upstream)
        while frontier:
            steps = self._outward_from(frontier, events.of_artifacts(frontier), hops == limit)
            if not steps:
                break
            frontier = self._inward_from(events.of_executions(steps), hops + 1 == limit)
            hops += 2
        if not self._bounds.reuse and not self._upstream:
            self._leave_out_reuses()
        self.cut.update(dict.fromkeys(self._not_entered))

    def _outward_from(self, frontier: list[int], events: list[Any], at_limit: bool) -> list[int]:
        """Follow artifacts to their steps; return the steps that are new."""
        outward, in_time = self._outward, self._in_time
        self._find_producers(events)
        stopped = self._stopped(frontier)
        steps: list[int] = []
        for event in events:
            if event.type not in outward:
                continue
            artifact, step = event.artifact_id, event.execution_id
            is_in_time = not in_time or in_time(event)
            if not self._is_followed(event, artifact, step, is_in_time):
                continue
            if at_limit or not is_in_time or artifact in stopped:
                self.cut[artifact] = None
                continue
            self.events.append(event.SerializeToString())
            if step not in self.steps:
                self.steps[step] = None
                steps.append(step)
        return steps

    def _find_producers(self, events: list[Any]) -> None:
        """Learn who made artifacts, from all of their events."""
        outputs, producers = self._outputs, self.producers
        doubtful = dict[int, set[int]]()
        for event in events:
            if event.type in outputs:
                first = producers.setdefault(event.artifact_id, event.execution_id)
                if first != event.execution_id:
                    doubtful.setdefault(event.artifact_id, {first}).add(event.execution_id)
        if doubtful:
            producers.update(self._loader.choose_producers(doubtful))

    def _is_followed(self, event: Any, artifact: int, step: int, is_in_time: bool) -> bool:
        if self._upstream:
            if self.producers[artifact] == step:
                return True
            if self._bounds.reuse and is_in_time:
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
            if event.type not in inward:
                continue
            artifact, step = event.artifact_id, event.execution_id
            if at_limit or (in_time and not in_time(event)):
                self._not_entered.setdefault(artifact, set()).add(step)
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

    def _leave_out_reuses(self) -> None:
        """Downstream: take away the steps that only emitted again what others made, and all that is theirs.

        Who made an artifact is known only one hop after the step that led to it was met.
        """
        events = [(base.event_of(data), data) for data in self.events]
        emitted = [
            (event.artifact_id, event.step_id) for event, _ in events if event.type in self._bounds.outputs
        ]
        emitted += [(artifact, step) for artifact, steps in self._not_entered.items() for step in steps]
        unknown = {artifact for artifact, _ in emitted} - self.producers.keys()
        self._find_producers(self._loader.client.events_of_artifacts(sorted(unknown)))
        made = {pair for pair in emitted if self.producers[pair[0]] == pair[1]}
        away = {step for _, step in emitted} - {step for _, step in made}
        self.steps = {step: None for step in self.steps if step not in away}
        self.events = [
            data
            for event, data in events
            if event.step_id not in away
            and (event.type in self._bounds.inputs or (event.artifact_id, event.step_id) in made)
        ]
        reached = {artifact for artifact, _ in made} | self.start.keys()
        self.artifacts = {artifact: None for artifact in self.artifacts if artifact in reached}
        self.cut = {artifact: None for artifact in self.cut if artifact in reached}
        self._not_entered = {
            artifact: steps
            for artifact, steps in self._not_entered.items()
            if self.producers[artifact] in steps
        }

    def _stopped(self, frontier: list[int]) -> set[int]:
        """Return the artifacts of a frontier that are of a type to stop at; a start is never one."""
        if not self._bounds.stop_types:
            return set()
        known = self._loader.artifacts(each for each in frontier if each not in self.start)
        return {each.id for each in known.values() if each.type in self._bounds.stop_types}


class _Ahead:
    """Events by node: all at once from a service that finds them so, where nothing bounds the walk.

    What a service finds may be more than the walk meets, which chooses, and less where somebody writes
    meanwhile: then it is asked again.
    """

    def __init__(self, client: Client, start: list[int], bounds: Bounds, *, upstream: bool) -> None:
        self._client = client
        self._artifacts: dict[int, list[Any]] = {}
        self._executions: dict[int, list[Any]] = {}
        if not start or bounds.max_hops is not None or bounds.stop_types or bounds.since or bounds.until:
            return
        inputs, outputs = sorted(_numbers(bounds.inputs)), sorted(_numbers(bounds.outputs))
        found = client.lineage_events(start, upstream=upstream, inputs=inputs, outputs=outputs)
        for event in found[0] if found else ():
            self._artifacts.setdefault(event.artifact_id, []).append(event)
        for event in found[1] if found else ():
            self._executions.setdefault(event.execution_id, []).append(event)

    def of_artifacts(self, ids: list[int]) -> list[Any]:
        """Return the events of artifacts."""
        return _known(self._artifacts, ids, self._client.events_of_artifacts)

    def of_executions(self, ids: list[int]) -> list[Any]:
        """Return the events of executions."""
        return _known(self._executions, ids, self._client.events_of_executions)


def _known(
    known: dict[int, list[Any]], ids: list[int], ask: Callable[[Sequence[int]], list[Any]]
) -> list[Any]:
    if not known:
        return ask(ids)
    unknown = [each for each in ids if each not in known]
    events = [event for each in ids for event in known.get(each, ())]
    return events + ask(unknown) if unknown else events


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
    return frozenset(base.event_number(each) for each in wanted)


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

    def __reduce__(self) -> tuple[Any, ...]:
        # What is pickled cannot ask the store any more, so it takes all along.
        return dict, (self._loaded(),)


class LazyEvents(Sequence[Event]):
    """Events, decoded when looked at."""

    def __init__(self, messages: list[bytes]) -> None:
        self._messages = messages
        self._events: tuple[Event, ...] | None = None

    def _decoded(self) -> tuple[Event, ...]:
        if self._events is None:
            self._events = tuple(base.event_of(each) for each in self._messages)
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

    def __eq__(self, other: object) -> bool:
        return isinstance(other, LazyEvents | tuple) and self._decoded() == tuple(other)

    __hash__ = None  # type: ignore[assignment]

    def __reduce__(self) -> tuple[Any, ...]:
        return tuple, (self._decoded(),)
