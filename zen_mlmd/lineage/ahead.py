"""What a walk would meet, found all at once by a service that has a quick way to it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from zen_mlmd.service.edges import LineageEdge, LineageEdges


@dataclass(frozen=True, slots=True)
class Found:
    """The whole of a graph.

    Attributes:
        artifacts: Their ids.
        steps: Their ids.
        events: Of them.
        producers: From an artifact's id to the one step that made it.
    """

    artifacts: dict[int, None]
    steps: dict[int, None]
    events: LineageEdges
    producers: dict[int, int]


def found_at_once(
    edges: LineageEdges,
    start: Iterable[int],
    *,
    upstream: bool,
    inputs: Collection[int],
    outputs: Collection[int],
) -> Found | None:
    """Return the graph that edges are, where no step emitted again what another had made.

    Then nothing is to be chosen: a walk without bounds would meet the same.

    Args:
        edges: As `MetadataService.lineage_edges` gives them.
        start: Ids of artifacts.
        upstream: Up or down.
        inputs: Numbers of types of events.
        outputs: Numbers of types of events.
    """
    artifacts, steps, types = edges.columns()
    reached: dict[int, None] = dict.fromkeys(start)
    if upstream:
        reached.update(dict.fromkeys([artifact for artifact, _, kind in edges if kind in inputs]))
    else:
        takers = dict.fromkeys([step for step, kind in zip(steps, types, strict=True) if kind in inputs])
        made = [artifact for artifact, step, kind in edges if kind in outputs and step in takers]
        reached.update(dict.fromkeys(made))
    producers = {artifact: step for artifact, step, kind in edges if kind in outputs and artifact in reached}
    makers = [step for step, kind in zip(steps, types, strict=True) if kind in outputs]
    # As many as there are artifacts: then each has one, and the longer look at each is not needed.
    if len(makers) != len(producers) and any(
        producers.get(artifact, step) != step for artifact, step, kind in edges if kind in outputs
    ):
        return None
    met = dict.fromkeys(producers.values()) if upstream else takers
    if not (reached.keys() >= set(artifacts) and met.keys() >= set(steps)):
        edges = LineageEdges(each for each in edges if each[0] in reached and each[1] in met)
    return Found(artifacts=reached, steps=met, events=edges, producers=producers)


class MetEvent(NamedTuple):
    """An event of which only its ends and its type were read; the names are MLMD's."""

    artifact_id: int
    execution_id: int
    type: int


class Ahead:
    """Events by node, where they were found at once; where they were not, the store is asked.

    What a service finds may be more than the walk meets, which chooses, and less where somebody writes
    meanwhile: then it is asked again.

    Args:
        edges: As `MetadataService.lineage_edges` gives them.
        of_artifacts: Asks the store for all events of artifacts.
        of_executions: Asks the store for all events of executions.
    """

    def __init__(self, edges: Iterable[LineageEdge], of_artifacts: _Ask, of_executions: _Ask) -> None:
        self._ask = of_artifacts, of_executions
        self._known: tuple[dict[int, list[Any]], dict[int, list[Any]]] = {}, {}
        artifacts, executions = self._known
        for event in map(MetEvent._make, edges):
            artifacts.setdefault(event.artifact_id, []).append(event)
            executions.setdefault(event.execution_id, []).append(event)

    def of_artifacts(self, ids: list[int]) -> list[Any]:
        """Return the events of artifacts: those that lead outward, and those of who made them."""
        return self._of(0, ids)

    def of_executions(self, ids: list[int]) -> list[Any]:
        """Return the events of executions: those that lead inward."""
        return self._of(1, ids)

    def _of(self, end: int, ids: list[int]) -> list[Any]:
        known, ask = self._known[end], self._ask[end]
        if not known:
            return ask(ids)
        unknown = [each for each in ids if each not in known]
        events = [event for each in ids for event in known.get(each, ())]
        return events + ask(unknown) if unknown else events


_Ask = Callable[[Sequence[int]], list[Any]]
