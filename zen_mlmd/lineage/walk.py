"""Walking through events, breadth first, in batches, to the end.

`get_lineage_subgraph` cannot serve: ml-metadata 1.17.1 returns the nearest 100 hops as if they were
all (rdbms_metadata_access_object.cc, kQueryLineageSubgraphMaxNumHops), and 1.21.0 has it no more.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, get_args

from zen_mlmd.dialects import base
from zen_mlmd.dialects.registry import ASIDE
from zen_mlmd.errors import UsageError
from zen_mlmd.lineage.ahead import Ahead, MetEvent, found_at_once
from zen_mlmd.lineage.aside import Aside
from zen_mlmd.lineage.graph import FROM_STEP, TO_STEP, Direction, LineageGraph
from zen_mlmd.lineage.lazy import Lazy, LazyEvents, Met
from zen_mlmd.loader import Loader
from zen_mlmd.model import INPUT_EVENTS, OUTPUT_EVENTS, EventType, to_millis
from zen_mlmd.service.edges import EdgeQuery, LineageEdges

DIRECTIONS: Final = get_args(Direction)


@dataclass(frozen=True)
class Bounds:
    """Where a walk stops.

    Attributes:
        max_hops: Edges to follow, 0 or more; None goes to the end. From an artifact to the step that
            made it is one, from there to what the step took another.
        stop_types: Artifacts of these types are shown, and not walked beyond; one type may be a str.
        since, until: Events outside of these times are not followed.
        reuse: Show the steps that emitted an artifact again without making it.
        include_logs: Also log files that steps made (Kubeflow: `executor-logs`, `main-logs`).
        include_conditions: Also follow what a step took only to decide whether it runs (TFX).
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
    include_logs: bool = False
    include_conditions: bool = False
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
        The graph; `complete` is False if a bound cut it. O(V + E) time; one call for each hop and
        thousand nodes of it, or one for all where nothing bounds the walk and the service finds edges by
        itself. Nodes, and events of which only that is known, are read when first looked at, in one call a
        thousand.

    Raises:
        UsageError: There is no such direction.
    """
    if direction not in DIRECTIONS:
        raise UsageError(f"there is no direction {direction!r}", hint=f"give {' or '.join(DIRECTIONS)}")
    going = _Walk(loader, bounds or Bounds(), dict.fromkeys(start), upstream=direction == "upstream")
    going.go()
    return LineageGraph(
        artifacts=Lazy(going.artifacts, loader.artifacts),
        steps=Lazy(going.steps, loader.steps_to_show),
        events=LazyEvents(
            going.events if going.edges is None else going.edges, loader.client.events_of_executions
        ),
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
        # Each artifact and step is asked once, so each event is met once. Messages as bytes, since a kept
        # one keeps the whole response that it came in.
        self.events: list[Met] = []
        self.edges: LineageEdges | None = None  # in place of those, if all were found at once
        self.producers: dict[int, int] = {}
        self.cut: dict[int, None] = {}
        # The artifacts that are cut because they were not entered, and the steps that lead to them.
        self._not_entered: dict[int, set[int]] = {}
        self._loader = loader
        self._bounds = bounds
        self._upstream = upstream
        self._outputs = _numbers(bounds.outputs)
        self._inputs = _numbers(bounds.inputs)
        outward, inward = self._outputs, self._inputs
        self._outward, self._inward = (outward, inward) if upstream else (inward, outward)
        self._in_time = _in_time(bounds)
        self._aside = Aside(
            loader, include_logs=bounds.include_logs, include_conditions=bounds.include_conditions
        )
        # Downstream: the steps that led to an artifact, and the artifacts at which the walk waits
        # because none of those made them.
        self._led_by: dict[int, set[int]] = {}
        self._waiting: set[int] = set()
        # Upstream: steps of which only an output that another made was met; nobody asked yet what they took.
        self._reusing: set[int] = set()

    def go(self) -> None:
        edges = self._edges()
        if edges and self._take(edges):
            return
        self._aside.is_idle = bool(edges)
        limit = self._bounds.max_hops
        frontier, hops = list(self.start), 0
        client = self._loader.client
        events = Ahead(edges, client.events_of_artifacts, client.events_of_executions)
        while frontier:
            steps = self._outward_from(frontier, events.of_artifacts(frontier), hops == limit)
            if not steps:
                break
            frontier = self._inward_from(events.of_executions(steps), hops + 1 == limit)
            hops += 2
        if not self._bounds.reuse and not self._upstream:
            self._leave_out_reuses()
        self.cut.update(dict.fromkeys(self._not_entered))

    def _edges(self) -> LineageEdges:
        """Return what a service finds at once, where nothing bounds the walk."""
        bounds, start = self._bounds, list(self.start)
        is_bound = bounds.max_hops is not None or bounds.stop_types or bounds.since or bounds.until
        if not start or is_bound or self._aside.has_groups:
            return LineageEdges()
        query = EdgeQuery(
            artifacts=start,
            upstream=self._upstream,
            inputs=sorted(self._inputs),
            outputs=sorted(self._outputs),
            barred=ASIDE,
        )
        return self._loader.client.lineage_edges(query) or LineageEdges()

    def _take(self, edges: LineageEdges) -> bool:
        """Take the whole graph, if these edges are it."""
        found = found_at_once(
            edges, self.start, upstream=self._upstream, inputs=self._inputs, outputs=self._outputs
        )
        if found is None:
            return False
        self.artifacts, self.steps = found.artifacts, found.steps
        self.edges, self.producers = found.events, found.producers
        return True

    def _outward_from(self, frontier: list[int], events: list[Any], at_limit: bool) -> list[int]:
        """Follow artifacts to their steps; return the steps that are new."""
        outward, in_time = self._outward, self._in_time
        self._find_producers(events)
        stopped = self._stopped(frontier)
        steps: list[int] = []
        followed = [event for event in events if event.type in outward]
        for event in followed if self._upstream else self._aside.without(followed, taken=True):
            artifact, step = event.artifact_id, event.execution_id
            is_in_time = not in_time or in_time(event)
            if not self._is_followed(event, artifact, step, is_in_time):
                continue
            if at_limit or not is_in_time or artifact in stopped:
                self.cut[artifact] = None
                continue
            self.events.append(_met(event))
            if step not in self.steps or step in self._reusing:
                self._reusing.discard(step)
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
                self.events.append(_met(event))
                if step not in self.steps:
                    self.steps[step] = None
                    self._reusing.add(step)
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
        followed = [event for event in events if event.type in inward]
        for event in self._aside.without(followed, taken=self._upstream):
            artifact, step = event.artifact_id, event.execution_id
            if at_limit or (in_time and not in_time(event)):
                self._not_entered.setdefault(artifact, set()).add(step)
                continue
            self.events.append(_met(event))
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
        emitted = [each[:2] for each in self.events if each[2] in self._outputs]
        emitted += [(artifact, step) for artifact, steps in self._not_entered.items() for step in steps]
        unknown = {artifact for artifact, _ in emitted} - self.producers.keys()
        self._find_producers(self._loader.client.events_of_artifacts(sorted(unknown)))
        made = {pair for pair in emitted if self.producers[pair[0]] == pair[1]}
        away = {step for _, step in emitted} - {step for _, step in made}
        self.steps = {step: None for step in self.steps if step not in away}
        self.events = [
            each
            for each in self.events
            if each[1] not in away and (each[2] in self._inputs or each[:2] in made)
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


def _met(event: Any) -> Met:
    ends = event.artifact_id, event.execution_id, event.type
    return ends if isinstance(event, MetEvent) else (*ends, event.SerializeToString())


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
