"""The lineage graph: its edges, what lies up and down of a node, and the ways between two."""

from __future__ import annotations

import dataclasses
import pickle
from collections.abc import Iterable, Mapping
from itertools import islice, pairwise
from types import SimpleNamespace

import networkx as nx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.clock import loops
from zen_mlmd.errors import NotFoundError, UsageError
from zen_mlmd.lineage.graph import LineageGraph, Node
from zen_mlmd.lineage.paths import components
from zen_mlmd.model import Artifact, Event, EventType, Slot, Status, StepRun

STEP_IDS = 1000  # added to a step's number, so that no step shares its id with an artifact by chance


def graph(
    steps: Mapping[int, tuple[Iterable[int], Iterable[int]]], cached: Iterable[int] = ()
) -> LineageGraph:
    """A graph of numbered steps, each with the artifacts that it takes and gives."""
    cached = set(cached)
    events: list[Event] = []
    producers: dict[int, int] = {}
    artifacts: dict[int, Artifact] = {}
    for step, (inputs, outputs) in steps.items():
        for artifact in inputs:
            artifacts[artifact] = Artifact(id=artifact, type="Dataset", uri=f"/{artifact}")
            events.append(Event(artifact, step + STEP_IDS, EventType.INPUT, (Slot("in"),), None))
        for artifact in outputs:
            artifacts[artifact] = Artifact(id=artifact, type="Dataset", uri=f"/{artifact}")
            events.append(Event(artifact, step + STEP_IDS, EventType.OUTPUT, (Slot("out"),), None))
            if step not in cached:
                producers.setdefault(artifact, step + STEP_IDS)
    runs = {
        step + STEP_IDS: StepRun(
            id=step + STEP_IDS,
            name=f"step{step}",
            type="step",
            status=Status.CACHED if step in cached else Status.COMPLETED,
        )
        for step in steps
    }
    return LineageGraph(artifacts, runs, tuple(events), producers)


def a(number: int) -> Node:
    return Node("artifact", number)


def s(number: int) -> Node:
    return Node("step", number + STEP_IDS)


# 1 -> [1] -> 2 -> [2] -> 3, 4;  3 -> [3] -> 5;  4 -> [4] -> 5 is not made there;  2 -> [9 cached] -> 3
DIAMOND = graph({1: ([1], [2]), 2: ([2], [3, 4]), 3: ([3, 4], [5]), 9: ([2], [3])}, cached=[9])


def test_edges_run_with_the_data() -> None:
    assert [(edge.source, edge.target, edge.reuse) for edge in DIAMOND.edges()] == [
        (a(1), s(1), False),
        (s(1), a(2), False),
        (a(2), s(2), False),
        (s(2), a(3), False),
        (s(2), a(4), False),
        (a(3), s(3), False),
        (a(4), s(3), False),
        (s(3), a(5), False),
        (a(2), s(9), False),
        (s(9), a(3), True),
    ]


@pytest.mark.parametrize(
    ("kind", "edges"),
    [
        (EventType.INPUT, [("artifact", "step")]),
        (EventType.DECLARED_INPUT, [("artifact", "step")]),
        (EventType.INTERNAL_INPUT, [("artifact", "step")]),
        (EventType.OUTPUT, [("step", "artifact")]),
        (EventType.DECLARED_OUTPUT, [("step", "artifact")]),
        (EventType.INTERNAL_OUTPUT, [("step", "artifact")]),
        (EventType.PENDING_OUTPUT, [("step", "artifact")]),
        (EventType.UNKNOWN, []),
    ],
)
def test_every_event_type_has_its_direction(kind: EventType, edges: list[tuple[str, str]]) -> None:
    one = graph({1: ([1], [])})
    one = dataclasses.replace(one, events=(Event(1, 1 + STEP_IDS, kind, (), None),))
    assert [(edge.source.kind, edge.target.kind) for edge in one.edges()] == edges


def test_an_event_with_an_end_outside_is_no_edge() -> None:
    away = (Event(99, 1 + STEP_IDS, EventType.INPUT, (), None), Event(1, 99, EventType.OUTPUT, (), None))
    whole = dataclasses.replace(DIAMOND, events=(*DIAMOND.events, *away))
    assert list(whole.edges()) == list(DIAMOND.edges())


def test_an_artifact_and_a_step_of_one_id_are_two_nodes() -> None:
    both = LineageGraph(
        {1: Artifact(id=1, type="A", uri="")},
        {1: StepRun(id=1, name="s", type="t", status=Status.COMPLETED)},
        (Event(1, 1, EventType.OUTPUT, (), None),),
        {1: 1},
    )
    assert both.ancestors(1) == (Node("step", 1),)
    assert both.descendants(Node("step", 1)) == (Node("artifact", 1),)
    assert len(both) == 2


def test_ancestors_and_descendants_come_nearest_first_and_not_over_a_reuse() -> None:
    assert DIAMOND.ancestors(3) == (s(2), a(2), s(1), a(1))
    assert DIAMOND.ancestors(5) == (s(3), a(3), a(4), s(2), a(2), s(1), a(1))
    assert DIAMOND.descendants(2) == (s(2), s(9), a(3), a(4), s(3), a(5))
    assert DIAMOND.descendants(s(9)) == ()
    assert DIAMOND.ancestors(1) == ()


def test_roots_and_leaves() -> None:
    assert DIAMOND.roots() == (a(1),)
    assert DIAMOND.leaves() == (a(5), s(9))
    lone = LineageGraph({7: Artifact(id=7, type="A", uri="")}, {}, (), {})
    assert lone.roots() == lone.leaves() == (a(7),)


def test_a_node_is_given_as_id_record_node_tuple_or_view() -> None:
    view = SimpleNamespace(record=DIAMOND.artifacts[2])
    for node in (2, DIAMOND.artifacts[2], a(2), ("artifact", 2), view):
        assert DIAMOND.ancestors(node) == (s(1), a(1))  # type: ignore[arg-type]
    for step in (DIAMOND.steps[1 + STEP_IDS], s(1)):
        assert DIAMOND.ancestors(step) == (a(1),)


@pytest.mark.parametrize("node", ["2", None, True, 2.0, (1, 2), ("artifact",)])
def test_what_is_no_node_is_a_usage_error(node: object) -> None:
    with pytest.raises(UsageError, match="is no node of a graph"):
        DIAMOND.ancestors(node)  # type: ignore[arg-type]


def test_a_node_that_is_not_there_is_not_found() -> None:
    with pytest.raises(NotFoundError, match="artifact 77 is not in this graph"):
        DIAMOND.descendants(77)
    with pytest.raises(NotFoundError, match="step 2 is not in this graph"):
        DIAMOND.paths(1, Node("step", 2))


def test_paths_between_two_artifacts() -> None:
    assert DIAMOND.paths(1, 5) == [
        (a(1), s(1), a(2), s(2), a(3), s(3), a(5)),
        (a(1), s(1), a(2), s(2), a(4), s(3), a(5)),
    ]
    assert DIAMOND.paths(1, 5, limit=1) == DIAMOND.paths(1, 5)[:1]
    assert DIAMOND.paths(s(2), DIAMOND.artifacts[4]) == [(s(2), a(4))]
    assert DIAMOND.paths(3, 3) == [(a(3),)]
    assert DIAMOND.paths(5, 1) == []
    assert DIAMOND.paths(s(9), 5) == []


def test_two_events_between_two_nodes_are_one_way() -> None:
    twice = (*DIAMOND.events, Event(1, 1 + STEP_IDS, EventType.DECLARED_INPUT, (), None))
    assert dataclasses.replace(DIAMOND, events=twice).paths(1, 2) == [(a(1), s(1), a(2))]


@pytest.mark.parametrize("limit", [0, -1])
def test_a_limit_below_one_is_a_usage_error(limit: int) -> None:
    with pytest.raises(UsageError, match="limit is below 1"):
        DIAMOND.paths(1, 5, limit=limit)


def test_a_chain_of_five_thousand_steps_is_walked_at_once() -> None:
    chain = graph({i: ([i], [i + 1]) for i in range(5_000)})
    start = loops()
    (path,) = chain.paths(0, 5_000)
    assert len(path) == 10_001
    assert len(chain.ancestors(5_000)) == len(chain.descendants(0)) == 10_000
    assert loops() - start < 500


def test_dead_ends_and_endless_choices_cost_nothing() -> None:
    # Two ladders of 200 rungs have 2**200 ways each; the first to be met does not lead to the target.
    def ladder(first: int) -> dict[int, tuple[list[int], list[int]]]:
        rungs = range(first, first + 400, 2)
        return {i: ([i, i + 1], [i + 2, i + 3]) for i in rungs}

    whole = graph({-1: ([0], [1000, 1001, 2]), **ladder(1000), **ladder(2)})
    start = loops()
    found = whole.paths(0, 402, limit=500)
    assert len(set(found)) == 500
    assert all(path[:3] == (a(0), s(-1), a(2)) and path[-1] == a(402) for path in found)
    assert loops() - start < 500


def test_a_dense_cycle_does_not_hang() -> None:
    # Every step takes and gives every artifact but one: no order among them at all.
    ids = range(12)
    tangled = graph({i: (ids, [i]) for i in ids})
    found = tangled.paths(0, 5, limit=1_000)
    assert len(found) == len(set(found)) == 1_000
    assert all(len(set(path)) == len(path) for path in found)


@pytest.mark.parametrize("cycles", [[0], [1_000], [1_999], [0, 500, 1_000, 1_999]])
def test_a_cycle_somewhere_in_a_long_chain_costs_nothing_elsewhere(cycles: list[int]) -> None:
    # The step `i` takes the artifact `i` and gives `i + 1`; on a cycle it takes that one too.
    length = 2_000
    steps: dict[int, tuple[list[int], list[int]]] = {i: ([i], [i + 1]) for i in range(length)}
    for i in cycles:
        steps[i] = ([i, i + 1], [i + 1])
    chain = graph(steps)
    start = loops()
    (found,) = chain.paths(0, length)
    assert len(found) == 2 * length + 1
    assert loops() - start < 200


def test_a_way_round_a_cycle_is_another_way() -> None:
    # 0 -> [0] -> 1 -> [1] -> 2 -> [2] -> 1 closes a cycle; both of 1 and 2 lead on to 3.
    turning = graph({0: ([0], [1]), 1: ([1], [2, 3]), 2: ([2], [1]), 3: ([2, 3], [4])})
    assert set(turning.paths(0, 4)) == {
        (a(0), s(0), a(1), s(1), a(2), s(3), a(4)),
        (a(0), s(0), a(1), s(1), a(3), s(3), a(4)),
    }


@st.composite
def graphs(draw: st.DrawFn) -> LineageGraph:
    artifacts = st.lists(st.integers(0, 6), max_size=3, unique=True)
    steps = draw(st.dictionaries(st.integers(0, 5), st.tuples(artifacts, artifacts), min_size=1))
    cached = draw(st.sets(st.sampled_from(sorted(steps))))
    return graph(steps, cached)


def _without_reuse(whole: LineageGraph) -> nx.DiGraph[Node]:
    drawn: nx.DiGraph[Node] = nx.DiGraph()
    drawn.add_nodes_from(whole.nodes())
    drawn.add_edges_from((edge.source, edge.target) for edge in whole.edges() if not edge.reuse)
    return drawn


@given(graphs(), st.data())
def test_every_answer_is_that_of_networkx_cycles_and_all(whole: LineageGraph, data: st.DataObject) -> None:
    oracle = _without_reuse(whole)
    source = data.draw(st.sampled_from(list(whole.nodes())))
    target = data.draw(st.sampled_from(list(whole.nodes())))
    assert set(whole.ancestors(source)) == nx.ancestors(oracle, source)
    assert set(whole.descendants(source)) == nx.descendants(oracle, source)
    assert set(whole.roots()) == {node for node in oracle if oracle.in_degree(node) == 0}
    assert set(whole.leaves()) == {node for node in oracle if oracle.out_degree(node) == 0}
    if source != target:
        expected = {tuple(path) for path in islice(nx.all_simple_paths(oracle, source, target), 10_000)}
        found = whole.paths(source, target, limit=10_000)
        assert len(found) == len(set(found))
        assert set(found) == expected


@given(graphs())
def test_nodes_are_in_one_component_if_they_are_on_a_cycle_together(whole: LineageGraph) -> None:
    oracle = _without_reuse(whole)
    found: dict[int, set[Node]] = {}
    for node, number in components(list(oracle), {each: list(oracle[each]) for each in oracle}).items():
        found.setdefault(number, set()).add(node)
    assert sorted(map(sorted, found.values())) == sorted(
        map(sorted, nx.strongly_connected_components(oracle))
    )


@given(graphs())
def test_paths_follow_edges(whole: LineageGraph) -> None:
    edges = {(edge.source, edge.target) for edge in whole.edges() if not edge.reuse}
    for root in whole.roots():
        for leaf in whole.leaves():
            for path in whole.paths(root, leaf, limit=5):
                assert set(pairwise(path)) <= edges


def test_the_repr_is_one_short_line() -> None:
    assert repr(DIAMOND) == "<LineageGraph: 5 artifacts, 4 steps, 10 events, complete>"
    cut = dataclasses.replace(graph({1: ([1], [])}), complete=False, cut=(1,))
    assert repr(cut) == "<LineageGraph: 1 artifact, 1 step, 1 event, cut at 1 artifact>"
    assert str(a(12)) == "artifact:12"


def test_nothing_is_decoded_before_it_is_asked_for() -> None:
    class Events(tuple[Event, ...]):
        __slots__ = ()

        def __iter__(self) -> None:  # type: ignore[override]
            raise AssertionError("the events were read")

    lazy = dataclasses.replace(DIAMOND, events=Events(DIAMOND.events))
    assert len(lazy) == 9
    assert "10 events" in repr(lazy)
    with pytest.raises(AssertionError, match="the events were read"):
        lazy.roots()


def test_a_graph_is_frozen_compared_and_pickled_by_what_it_holds() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        DIAMOND.complete = False  # type: ignore[misc]
    copy = pickle.loads(pickle.dumps(DIAMOND))
    assert copy == DIAMOND
    assert copy.paths(1, 5) == DIAMOND.paths(1, 5)
    assert dataclasses.replace(DIAMOND, start=(5,)) != DIAMOND
