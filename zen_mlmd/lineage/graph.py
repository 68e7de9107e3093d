"""The graph that a lineage walk found: artifacts, the steps between them, and who made what.

Edges run with the data: from an input to the step that took it, from a step to its output. An output
of a step that is not the artifact's producer is a re-use (a cached step emits old artifacts again):
it is drawn, and it is not lineage, so no question about ancestors or paths follows it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal, NamedTuple, Protocol, TypeAlias

from zen_mlmd.errors import NotFoundError, UsageError
from zen_mlmd.lineage import export, svg
from zen_mlmd.lineage.paths import find_paths
from zen_mlmd.model import Artifact, Event, EventType, StepRun

TO_STEP: Final = frozenset({EventType.INPUT, EventType.DECLARED_INPUT, EventType.INTERNAL_INPUT})
"""Events whose edge runs from the artifact to the step."""

FROM_STEP: Final = frozenset(
    {EventType.OUTPUT, EventType.DECLARED_OUTPUT, EventType.INTERNAL_OUTPUT, EventType.PENDING_OUTPUT}
)
"""Events whose edge runs from the step to the artifact."""

Direction: TypeAlias = Literal["upstream", "downstream"]
"""Which way a walk goes: to what an artifact came from, or to what was made from it."""

_MAX_SHOWN = 400  # nodes; and twice as many edges: what a notebook draws by itself


class Node(NamedTuple):
    """An artifact or a step run in a graph."""

    kind: Literal["artifact", "step"]
    id: int

    def __str__(self) -> str:
        return f"{self.kind}:{self.id}"


@dataclass(frozen=True, slots=True)
class Edge:
    """One event, as an edge that runs with the data.

    Attributes:
        reuse: The source is a step that emitted the artifact and is not its producer.
    """

    source: Node
    target: Node
    event: Event
    reuse: bool


class HasRecord(Protocol):
    """A view of an artifact or a step."""

    @property
    def record(self) -> Artifact | StepRun:
        """What was read."""
        ...


NodeLike: TypeAlias = Node | Artifact | StepRun | HasRecord | int
"""A node, a record, a view of one, or an artifact's id."""

_Links: TypeAlias = dict[Node, tuple[Node, ...]]


@dataclass(frozen=True, slots=True, repr=False)
class LineageGraph:
    """Artifacts and step runs, with the events between them; `len` counts both.

    Attributes:
        artifacts: By id.
        steps: By id.
        events: The input and output events. One whose artifact or step is not here, or whose type
            has no direction (UNKNOWN), is no edge.
        producers: From an artifact's id to the id of the step run that made it: the earliest
            execution that is not CACHED.
        complete: Whether no bound cut the walk.
        start: The ids of the artifacts that it was walked from.
        cut: The ids of the artifacts where a bound stopped the walk.
        direction: Which way it was walked.
        origin: Which store it is of, without secrets; empty for any.
    """

    artifacts: Mapping[int, Artifact]
    steps: Mapping[int, StepRun]
    events: Sequence[Event]
    producers: Mapping[int, int]
    complete: bool = True
    start: tuple[int, ...] = ()
    cut: tuple[int, ...] = ()
    direction: Direction = "upstream"
    origin: str = field(default="", compare=False)
    _links: tuple[_Links, _Links] | None = field(default=None, init=False, compare=False)

    def __len__(self) -> int:
        return len(self.artifacts) + len(self.steps)

    def __repr__(self) -> str:
        events = _count(self.events, "event")
        counts = f"{_count(self.artifacts, 'artifact')}, {_count(self.steps, 'step')}, {events}"
        state = "complete" if self.complete else f"cut at {_count(self.cut, 'artifact')}"
        return f"<LineageGraph: {counts}, {state}>"

    def nodes(self) -> Iterator[Node]:
        """Yield every node, artifacts first, each kind in the order of its mapping."""
        for artifact_id in self.artifacts:
            yield Node("artifact", artifact_id)
        for step_id in self.steps:
            yield Node("step", step_id)

    def edges(self) -> Iterator[Edge]:
        """Yield an edge for each event that has a direction and both its ends in the graph."""
        for event in self.events:
            if event.artifact_id not in self.artifacts or event.step_id not in self.steps:
                continue
            artifact, step = Node("artifact", event.artifact_id), Node("step", event.step_id)
            if event.type in TO_STEP:
                yield Edge(artifact, step, event, reuse=False)
            elif event.type in FROM_STEP:
                reuse = self.producers.get(event.artifact_id) != event.step_id
                yield Edge(step, artifact, event, reuse)

    # -- questions; none of them follows a re-use

    def ancestors(self, node: NodeLike) -> tuple[Node, ...]:
        """Return everything upstream of a node, nearest first, without the node itself.

        Raises:
            NotFoundError: The node is not in the graph.
            UsageError: It is nothing that could be a node.
        """
        return tuple(_reached(self._find(node), self._backward()))[1:]

    def descendants(self, node: NodeLike) -> tuple[Node, ...]:
        """Return everything downstream of a node, nearest first, without the node itself.

        Raises:
            NotFoundError: The node is not in the graph.
            UsageError: It is nothing that could be a node.
        """
        return tuple(_reached(self._find(node), self._forward()))[1:]

    def roots(self) -> tuple[Node, ...]:
        """Return the nodes that nothing in the graph leads to."""
        backward = self._backward()
        return tuple(node for node in self.nodes() if node not in backward)

    def leaves(self) -> tuple[Node, ...]:
        """Return the nodes that lead to nothing in the graph."""
        forward = self._forward()
        return tuple(node for node in self.nodes() if node not in forward)

    def paths(self, source: NodeLike, target: NodeLike, *, limit: int = 100) -> list[tuple[Node, ...]]:
        """Return the ways from `source` downstream to `target`, none of which meets a node twice.

        A graph of n diamonds in a row has 2**n of them, hence the limit. O(V + E) time, and for each
        path what its length is; where events form cycles (a step that takes and gives the same artifact,
        say), for each node on one the size of that cycle and of those that it shares nodes with.

        Args:
            source: Where the paths begin, upstream.
            target: Where they end; from a node to itself there is one path, of that node.
            limit: Paths to return at most, 1 or more.

        Returns:
            The nodes of each path from `source` to `target`, both included; empty if there is no way.

        Raises:
            NotFoundError: A node is not in the graph.
            UsageError: The limit is below 1, or a node is nothing that could be one.
        """
        if limit < 1:
            raise UsageError("limit is below 1", hint="give the number of paths to return at most")
        return find_paths(self._find(source), self._find(target), self._forward(), self._backward(), limit)

    # -- other forms

    def to_networkx(self) -> Any:
        """Return a `networkx.MultiDiGraph` whose nodes are `Node`s and whose keys are event types.

        Node attributes: kind, id, name, type, status, uri. Edge attributes: event, slots (names
        joined by commas), reuse. All are strings, integers and booleans, which every writer of
        networkx takes; what a node lacks is an empty string. Of texts only what can be printed is
        there: nothing else may stand in GraphML.

        Raises:
            MissingExtraError: networkx is not installed.
        """
        return export.to_networkx(self)

    def to_text(self, *, upstream: bool | None = None) -> str:
        """Return a tree of text, drawn the way that the walk went, or as `upstream` says."""
        from zen_mlmd.lineage.text import draw_tree

        is_upstream = self.direction == "upstream" if upstream is None else upstream
        return "\n".join(draw_tree(self, upstream=is_upstream))

    def to_mermaid(self) -> str:
        """Return a Mermaid flowchart; its viewers draw 500 edges unless `maxEdges` is set."""
        return export.to_mermaid(self)

    def to_dot(self) -> str:
        """Return a graph in Graphviz's language."""
        return export.to_dot(self)

    def to_dict(self) -> dict[str, Any]:
        """Return the graph as plain values, in the schema that `zen_mlmd.lineage.export` documents."""
        return export.to_dict(self)

    def to_json(self, *, indent: int | None = None) -> str:
        """Return `to_dict()` as ASCII JSON, the same for the same graph whatever the order of events."""
        return export.to_json(self, indent=indent)

    def to_svg(self) -> str:
        """Return a drawing, left to right, that needs nothing else: no script, style sheet or font."""
        return svg.draw(self)

    def _repr_svg_(self) -> str | None:
        too_large = len(self) > _MAX_SHOWN or len(self.events) > 2 * _MAX_SHOWN
        return None if too_large or not len(self) else self.to_svg()

    def _repr_mimebundle_(
        self, include: Iterable[str] | None = None, exclude: Iterable[str] | None = None
    ) -> dict[str, str]:
        forms: dict[str, Callable[[], str | None]] = {
            "text/plain": self.__repr__,
            "image/svg+xml": self._repr_svg_,
        }
        wanted = [
            form
            for form in forms
            if (include is None or form in include) and (exclude is None or form not in exclude)
        ]
        drawn = {form: forms[form]() for form in wanted}
        return {form: text for form, text in drawn.items() if text is not None}

    # -- what the questions are asked of

    def _find(self, node: NodeLike) -> Node:
        record: Any = getattr(node, "record", node)
        if isinstance(record, Artifact | StepRun):
            found = Node("artifact" if isinstance(record, Artifact) else "step", record.id)
        elif isinstance(record, int) and not isinstance(record, bool):
            found = Node("artifact", record)
        elif isinstance(record, tuple) and len(record) == 2 and record[0] in ("artifact", "step"):  # noqa: PLR2004
            found = Node(*record)
        else:
            raise UsageError(
                f"a {type(node).__name__} is no node of a graph",
                hint="give a Node, an artifact or a step, or an artifact's id",
            )
        origin = getattr(node, "origin", "")
        if origin and self.origin and origin != self.origin:
            raise UsageError(
                f"{node!r} is of another store, whose ids mean other things here",
                hint="find it in this graph's store: store.artifacts_at(artifact.uri)",
            )
        if found.id not in (self.artifacts if found.kind == "artifact" else self.steps):
            raise NotFoundError(
                f"{found.kind} {found.id} is not in this graph",
                hint="walk from it, or the other way (upstream, downstream), or with wider bounds",
            )
        return found

    def _forward(self) -> _Links:
        return self._linked()[0]

    def _backward(self) -> _Links:
        return self._linked()[1]

    def _linked(self) -> tuple[_Links, _Links]:
        # Not in __post_init__: a walk's events are decoded when first looked at.
        links = self._links
        if links is None:
            links = _link(self.edges())
            object.__setattr__(self, "_links", links)
        return links


def _link(edges: Iterable[Edge]) -> tuple[_Links, _Links]:
    forward: dict[Node, dict[Node, None]] = {}
    backward: dict[Node, dict[Node, None]] = {}
    for edge in edges:
        if not edge.reuse:
            forward.setdefault(edge.source, {})[edge.target] = None
            backward.setdefault(edge.target, {})[edge.source] = None
    return {node: tuple(near) for node, near in forward.items()}, {
        node: tuple(near) for node, near in backward.items()
    }


def _count(things: Mapping[int, object] | Sequence[object], name: str) -> str:
    return f"{len(things)} {name}{'' if len(things) == 1 else 's'}"


def _reached(start: Node, links: _Links) -> dict[Node, None]:
    """Return what `links` reach from `start`, which comes first, breadth first."""
    found = {start: None}
    queue = deque(found)
    while queue:
        for near in links.get(queue.popleft(), ()):
            if near not in found:
                found[near] = None
                queue.append(near)
    return found
