"""Lineage is complete, knows producers from re-uses, and says so when a bound cut it."""

from __future__ import annotations

import copy
import pickle
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from ml_metadata import metadata_store
from ml_metadata.proto import metadata_store_pb2 as mlmd

import zen_mlmd as zm
from zen_mlmd.errors import NotFoundError, UsageError
from zen_mlmd.model import EventType
from zen_mlmd.recording.step import Output


@pytest.fixture
def store(tmp_path: Path) -> zm.Store:
    return zm.open_store(tmp_path / "metadata.db")


def names(graph: zm.LineageGraph) -> set[str]:
    return {step.name for step in graph.steps.values()}


def chain(store: zm.Store, length: int) -> list[Output]:
    made: list[Output] = []
    with store.record_run("chain") as run:
        for number in range(length):
            with run.step(f"s{number}", inputs={"x": made[-1]} if made else {}) as step:
                made.append(step.log_output("y", uri=f"mem://{number}", type="Odd" if number % 2 else "Even"))
    return made


def test_a_chain_of_more_than_a_hundred_hops_is_walked_to_its_end(store: zm.Store) -> None:
    made = chain(store, 130)
    up = store.get_artifact(made[-1].id).upstream()
    assert up.complete
    assert set(up.artifacts) == {each.id for each in made}
    assert names(up) == {f"s{number}" for number in range(130)}
    down = store.get_artifact(made[0].id).downstream()
    assert down.complete
    assert set(down.artifacts) == {each.id for each in made}
    assert len(down.events) == 2 * 129
    assert len(up.paths(made[0].id, made[-1].id)) == 1


@pytest.mark.parametrize("hops", range(8))
def test_max_hops_counts_edges_and_says_what_was_cut(store: zm.Store, hops: int) -> None:
    made = chain(store, 3)
    graph = store.get_artifact(made[-1].id).upstream(max_hops=hops)
    assert len(graph.events) == min(hops, 5)
    assert len(graph.steps) == min((hops + 1) // 2, 3)
    assert graph.complete is (hops >= 5)
    assert bool(graph.cut) is (hops < 5)
    down = store.get_artifact(made[0].id).downstream(max_hops=hops)
    assert len(down.events) == min(hops, 4)
    assert down.complete is (hops >= 4)


def test_stop_types_are_shown_and_not_walked_beyond(store: zm.Store) -> None:
    made = chain(store, 6)
    graph = store.get_artifact(made[5].id).upstream(stop_types=["Even"])
    assert set(graph.artifacts) == {made[5].id, made[4].id}
    assert graph.cut == (made[4].id,)
    start = store.get_artifact(made[4].id).upstream(stop_types=["Even"])
    assert set(start.artifacts) == {made[4].id, made[3].id, made[2].id}
    end = store.get_artifact(made[1].id).upstream(stop_types=["Even"])
    assert set(end.artifacts) == {made[1].id, made[0].id}


def test_one_type_to_stop_at_is_that_name_and_not_its_letters(store: zm.Store) -> None:
    made = chain(store, 6)
    last = store.get_artifact(made[5].id)
    assert last.upstream(stop_types="Even").cut == (made[4].id,)
    assert last.upstream(stop_types="EvenOdd").complete


def test_time_bounds_leave_out_events(store: zm.Store) -> None:
    made = chain(store, 2)
    now = datetime.now(timezone.utc)
    artifact = store.get_artifact(made[1].id)
    assert len(artifact.upstream(since=now - timedelta(hours=1), until=now + timedelta(hours=1)).steps) == 2
    assert len(artifact.upstream(since=now + timedelta(hours=1)).steps) == 0
    assert len(artifact.upstream(until=now - timedelta(hours=1)).steps) == 0


TAKEN, GIVEN = mlmd.Event.INPUT, mlmd.Event.OUTPUT


def written(path: Path, events: list[tuple[int, int, Any, int]], *, cached: int = 0) -> zm.Store:
    """A store of bare rows: events are artifact, execution, type and second; one execution may be CACHED."""
    plain = metadata_store.MetadataStore(zm.SqliteConfig(path=str(path)).connection_config())
    kind = plain.put_artifact_type(mlmd.ArtifactType(name="Data"))
    step = plain.put_execution_type(mlmd.ExecutionType(name="Step"))
    for number in range(1, 1 + max(artifact for artifact, *_ in events)):
        assert plain.put_artifacts([mlmd.Artifact(type_id=kind, uri=f"mem://{number}")]) == [number]
    for number in range(1, 1 + max(execution for _, execution, *_ in events)):
        state = mlmd.Execution.CACHED if number == cached else mlmd.Execution.COMPLETE
        assert plain.put_executions([mlmd.Execution(type_id=step, last_known_state=state)]) == [number]
    for artifact, execution, kind_of_event, at in events:
        event = mlmd.Event(artifact_id=artifact, execution_id=execution, type=kind_of_event)
        event.milliseconds_since_epoch = at * 1000
        plain.put_events([event])
    return zm.open_store(path)


@pytest.fixture
def clocked(tmp_path: Path) -> zm.Store:
    """A chain `1 -> [10 s, 20 s] -> 2 -> [30 s, 40 s] -> 3`, whose events are at those seconds."""
    events = [(1, 1, TAKEN, 10), (2, 1, GIVEN, 20), (2, 2, TAKEN, 30), (3, 2, GIVEN, 40)]
    return written(tmp_path / "clocked.db", events)


def second(at: float) -> datetime:
    return datetime.fromtimestamp(at, timezone.utc)


@pytest.mark.parametrize(
    ("start", "bounds", "found", "cut"),
    [
        (3, {}, [1, 2, 3], ()),
        (3, {"since": second(10), "until": second(40)}, [1, 2, 3], ()),
        (3, {"since": second(10.001)}, [2, 3], (1,)),
        (3, {"since": second(25)}, [2, 3], (2,)),
        (3, {"until": second(39.999)}, [3], (3,)),
    ],
)
def test_a_walk_upstream_that_time_stopped_is_not_complete(
    clocked: zm.Store, start: int, bounds: dict[str, Any], found: list[int], cut: tuple[int, ...]
) -> None:
    graph = clocked.get_artifact(start).upstream(**bounds)
    assert sorted(graph.artifacts) == found
    assert (graph.cut, graph.complete) == (cut, not cut)


@pytest.mark.parametrize(
    ("start", "bounds", "found", "cut"),
    [
        (1, {"since": second(10), "until": second(40)}, [1, 2, 3], ()),
        (1, {"until": second(39.999)}, [1, 2], (3,)),
        (1, {"until": second(25)}, [1, 2], (2,)),
        (1, {"since": second(15)}, [1], (1,)),
        (3, {"until": second(1)}, [3], ()),
    ],
)
def test_a_walk_downstream_that_time_stopped_is_not_complete(
    clocked: zm.Store, start: int, bounds: dict[str, Any], found: list[int], cut: tuple[int, ...]
) -> None:
    graph = clocked.get_artifact(start).downstream(**bounds)
    assert sorted(graph.artifacts) == found
    assert (graph.cut, graph.complete) == (cut, not cut)


def test_a_reuse_out_of_time_cuts_nothing(tmp_path: Path) -> None:
    store = written(tmp_path / "rows.db", [(1, 1, GIVEN, 20), (1, 2, GIVEN, 60)], cached=2)
    assert set(store.get_artifact(1).upstream().steps) == {1, 2}
    before = store.get_artifact(1).upstream(until=second(30))
    assert (set(before.steps), before.complete) == ({1}, True)


@pytest.mark.parametrize(
    "bounds",
    [
        {"max_hops": -1},
        {"max_hops": 1.5},
        {"max_hops": "3"},
        {"max_hops": True},
        {"since": datetime(2026, 1, 1)},  # noqa: DTZ001
        {"since": "2026-01-01"},
        {"until": 1_700_000_000},
        {"stop_types": [1]},
        {"stop_types": 1},
        {"inputs": ["inputs"]},
        {"inputs": ["output"]},
        {"outputs": [EventType.INPUT]},
        {"outputs": [EventType.UNKNOWN]},
    ],
)
def test_senseless_bounds_are_refused(store: zm.Store, bounds: dict[str, Any]) -> None:
    artifact = store.import_artifact("mem://x")
    with pytest.raises(UsageError) as caught:
        artifact.upstream(**bounds)
    assert caught.value.hint


def test_event_types_are_given_by_name_too(store: zm.Store) -> None:
    made = chain(store, 2)
    artifact = store.get_artifact(made[1].id)
    assert artifact.upstream(inputs=["input"], outputs="output") == artifact.upstream()
    assert len(artifact.upstream(inputs=[], outputs=[EventType.OUTPUT]).artifacts) == 1


def test_a_direction_that_there_is_not_is_refused(store: zm.Store) -> None:
    with pytest.raises(UsageError, match="sideways") as caught:
        store.lineage([store.import_artifact("mem://x")], "sideways")  # type: ignore[arg-type]
    assert caught.value.hint == "give upstream or downstream"


def test_what_is_no_artifact_of_the_store_has_no_lineage(store: zm.Store) -> None:
    made = chain(store, 1)
    for unknown in (999, -5, 0, 2**70):
        with pytest.raises(NotFoundError):
            store.lineage([made[0].id, unknown], "upstream")
    for senseless in ("1", 1.5, None, True, store.get_step(1), store.get_step(1).record):
        with pytest.raises((UsageError, NotFoundError)):
            store.lineage([senseless], "upstream")  # type: ignore[list-item]
    assert len(store.lineage([made[0], store.get_artifact(made[0].id)], "upstream").steps) == 1  # type: ignore[list-item]
    assert len(store.lineage([], "upstream")) == 0


def test_ids_of_another_store_are_refused(store: zm.Store, tmp_path: Path) -> None:
    stores = [zm.open_store(tmp_path / "other.db"), zm.open_store("sqlite://"), zm.open_store("sqlite://")]
    ours = store.import_artifact("mem://ours")
    theirs = [each.import_artifact("mem://theirs") for each in stores]
    assert {each.id for each in [ours, *theirs]} == {1}
    for other in theirs:
        with pytest.raises(UsageError, match="another store"):
            store.lineage([other], "upstream")
        with pytest.raises(UsageError, match="another store"):
            ours.upstream().ancestors(other)
    with pytest.raises(UsageError, match="another store"):
        theirs[1].upstream().ancestors(theirs[2])
    assert len({ours, *theirs}) == 4
    again = zm.open_store(tmp_path / "metadata.db")
    assert ours.upstream().ancestors(again.get_artifact(1)) == ()
    assert again.get_artifact(1) != ours


def test_a_graph_is_drawn_the_way_it_was_walked(store: zm.Store) -> None:
    made = chain(store, 2)
    down = store.get_artifact(made[0].id).downstream()
    assert down.direction == "downstream"
    assert [line.split("[")[0].strip("└─ ") for line in down.to_text().splitlines()] == ["", "x: s1", "y"]
    assert down.to_text() == down.to_text(upstream=False)
    assert down.to_text(upstream=True) != down.to_text()
    up = store.get_artifact(made[1].id).upstream()
    assert up.direction == "upstream"
    assert up.to_text() == up.to_text(upstream=True)


def test_a_walked_graph_is_pickled_with_all_that_it_would_ask_for(store: zm.Store) -> None:
    made = chain(store, 3)
    graph = store.get_artifact(made[2].id).upstream()
    again: zm.LineageGraph = pickle.loads(pickle.dumps(graph))
    store.close()
    assert again == graph
    assert again.to_json() == graph.to_json()
    assert copy.deepcopy(graph) == graph
    assert graph != store.get_artifact(made[2].id).upstream(max_hops=2)


def cached_store(store: zm.Store) -> dict[str, int]:
    """`make` is cached in a second run, and its artifact used there by `use`."""
    raw = store.import_artifact("mem://raw")
    other = store.import_artifact("mem://other")
    with store.record_run("p", name="one") as run, run.step("make", inputs={"raw": raw}) as step:
        rows = step.log_output("rows", uri="mem://rows")
    with store.record_run("p", name="two") as run:
        cached = run.reuse_step("make", inputs={"raw": raw, "other": other}, outputs={"rows": rows})
        with run.step("use", inputs={"rows": rows}) as step:
            model = step.log_output("model", uri="mem://model")
    return {"raw": raw.id, "other": other.id, "rows": rows.id, "model": model.id, "cached": cached.id}


def test_a_cached_step_is_a_reuse_and_its_producer_stays(store: zm.Store) -> None:
    ids = cached_store(store)
    up = store.get_artifact(ids["model"]).upstream()
    assert set(up.artifacts) == {ids["model"], ids["rows"], ids["raw"]}
    reuses = [edge for edge in up.edges() if edge.reuse]
    assert [edge.source.id for edge in reuses] == [ids["cached"]]
    assert up.producers[ids["rows"]] != ids["cached"]
    assert ids["cached"] not in store.get_artifact(ids["model"]).upstream(reuse=False).steps
    producer = store.get_artifact(ids["rows"]).producer_step
    assert producer is not None
    assert (producer.name, producer.run.name) == ("make", "one")


def test_downstream_does_not_go_through_a_cached_step(store: zm.Store) -> None:
    ids = cached_store(store)
    # `other` was an input of the cached step only: nothing was made from it.
    down = store.get_artifact(ids["other"]).downstream()
    assert ids["model"] not in down.artifacts
    assert ids["cached"] in down.steps
    assert set(store.get_artifact(ids["raw"]).downstream().artifacts) == {
        ids["raw"],
        ids["rows"],
        ids["model"],
    }


def test_without_reuses_downstream_has_none_of_what_a_cached_step_did(store: zm.Store) -> None:
    ids = cached_store(store)
    down = store.get_artifact(ids["raw"]).downstream(reuse=False)
    assert names(down) == {"make", "use"}
    assert ids["cached"] not in down.steps
    assert not any(edge.reuse for edge in down.edges())
    assert {event.step_id for event in down.events} == set(down.steps)
    assert set(down.artifacts) == {ids["raw"], ids["rows"], ids["model"]}
    assert down.complete
    # Nothing was made from `other`: the step that took it was not run.
    other = store.get_artifact(ids["other"]).downstream(reuse=False)
    assert (set(other.artifacts), len(other.steps), len(other.events)) == ({ids["other"]}, 0, 0)
    assert other.complete


@pytest.mark.parametrize("hops", range(5))
def test_without_reuses_a_bound_cuts_only_what_was_made(store: zm.Store, hops: int) -> None:
    ids = cached_store(store)
    down = store.get_artifact(ids["raw"]).downstream(reuse=False, max_hops=hops)
    assert len(down.events) == hops
    assert len(down.steps) == (hops + 1) // 2
    assert down.cut == ((), (ids["raw"],), (ids["rows"],), (ids["rows"],), (ids["model"],))[(hops + 1) % 5]
    other = store.get_artifact(ids["other"]).downstream(reuse=False, max_hops=hops)
    assert len(other.steps) == 0
    assert other.complete is (hops > 0)


def test_a_step_that_gives_again_what_it_took_and_makes_more_is_no_mere_reuse(tmp_path: Path) -> None:
    made = [(1, 1, TAKEN, 10), (2, 1, GIVEN, 20)]
    changed = [(2, 2, TAKEN, 30), (2, 2, GIVEN, 40), (3, 2, GIVEN, 40)]
    only_cached = [(1, 3, TAKEN, 50), (2, 3, GIVEN, 60)]
    without_output = [(1, 4, TAKEN, 70)]
    store = written(tmp_path / "rows.db", [*made, *changed, *only_cached, *without_output], cached=3)
    whole, down = store.get_artifact(1).downstream(), store.get_artifact(1).downstream(reuse=False)
    assert (set(whole.steps), set(down.steps)) == ({1, 2, 3, 4}, {1, 2, 4})
    assert [(edge.source.id, edge.target.id) for edge in whole.edges() if edge.reuse] == [(3, 2), (2, 2)]
    assert not any(edge.reuse for edge in down.edges())
    assert len(down.events) == len(whole.events) - 3
    assert set(down.artifacts) == set(whole.artifacts)


def test_a_step_met_first_as_a_reuse_is_gone_through_once_it_made_something(tmp_path: Path) -> None:
    # Step 3 took 2, gave 1 again and made 4. From the last artifact, 1 is met one hop before 4 is.
    made = [(1, 1, GIVEN, 10), (2, 2, GIVEN, 20), (2, 3, TAKEN, 30), (1, 3, GIVEN, 40), (4, 3, GIVEN, 40)]
    later = [(4, 4, TAKEN, 50), (5, 4, GIVEN, 60), (5, 5, TAKEN, 70), (1, 5, TAKEN, 70), (6, 5, GIVEN, 80)]
    graph = written(tmp_path / "rows.db", [*made, *later], cached=0).get_artifact(6).upstream()
    assert set(graph.artifacts) == {1, 2, 4, 5, 6}
    assert set(graph.steps) == {1, 2, 3, 4, 5}


def test_what_only_cached_steps_emitted_is_theirs(tmp_path: Path) -> None:
    store = written(tmp_path / "rows.db", [(1, 1, TAKEN, 10), (2, 1, GIVEN, 20)], cached=1)
    assert set(store.get_artifact(1).downstream(reuse=False).artifacts) == {1, 2}


def test_downstream_goes_on_when_the_real_producer_comes_after_a_cached_one(store: zm.Store) -> None:
    raw = store.import_artifact("mem://raw")
    with store.record_run("p") as run:
        with run.step("first", inputs={"raw": raw}) as step:
            middle = step.log_output("middle", uri="mem://middle")
        with run.step("second", inputs={"middle": middle}) as step:
            late = step.log_output("late", uri="mem://late")
        # Emits `late` again, one hop from raw, before the walk meets its producer two hops away.
        run.reuse_step("shortcut", inputs={"raw": raw}, outputs={"late": late})
        with run.step("third", inputs={"late": late}) as step:
            last = step.log_output("last", uri="mem://last")
    down = raw.downstream()
    assert {"first", "second", "third", "shortcut"} <= names(down)
    assert last.id in down.artifacts


def test_one_artifact_on_two_inputs_is_one_event_with_both_names(store: zm.Store) -> None:
    raw = store.import_artifact("mem://raw")
    with (
        store.record_run("p") as run,
        run.step("both", inputs={"a": raw, "b": raw, "many": [raw, raw]}) as step,
    ):
        step.log_output("out", uri="mem://out")
    found = store.pipelines["p"].latest_run["both"]
    assert {name: [each.id for each in many] for name, many in found.inputs.lists.items()} == {
        "a": [raw.id],
        "b": [raw.id],
        "many": [raw.id, raw.id],
    }
    event = next(each for each in raw.downstream().events if each.type is EventType.INPUT)
    assert [(slot.name, slot.index) for slot in event.slots] == [("a", 0), ("b", 0), ("many", 0), ("many", 1)]


def test_diamonds_have_all_paths(store: zm.Store) -> None:
    raw = store.import_artifact("mem://raw")
    with store.record_run("p") as run:
        sides = []
        for side in ("left", "right"):
            with run.step(side, inputs={"raw": raw}) as step:
                sides.append(step.log_output("out", uri=f"mem://{side}"))
        with run.step("join", inputs={"sides": sides}) as step:
            end = step.log_output("out", uri="mem://end")
    graph = store.get_artifact(end.id).upstream()
    assert len(graph.paths(raw.id, end.id)) == 2
    assert store.lineage([sides[0].id, sides[1].id], "downstream").complete


def test_an_artifact_without_events_is_alone(store: zm.Store) -> None:
    raw = store.import_artifact("mem://raw")
    for graph in (raw.upstream(), raw.downstream()):
        assert list(graph.artifacts) == [raw.id]
        assert graph.complete
        assert len(graph.events) == 0
    assert "imported" in str(raw.why())
