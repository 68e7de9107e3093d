"""Lineage is complete, knows producers from re-uses, and says so when a bound cut it."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

import zen_mlmd as zm
from zen_mlmd.errors import UsageError
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


def test_time_bounds_leave_out_events(store: zm.Store) -> None:
    made = chain(store, 2)
    now = datetime.now(timezone.utc)
    artifact = store.get_artifact(made[1].id)
    assert len(artifact.upstream(since=now - timedelta(hours=1), until=now + timedelta(hours=1)).steps) == 2
    assert len(artifact.upstream(since=now + timedelta(hours=1)).steps) == 0
    assert len(artifact.upstream(until=now - timedelta(hours=1)).steps) == 0


@pytest.mark.parametrize(
    "bounds",
    [{"max_hops": -1}, {"since": datetime(2026, 1, 1)}],  # noqa: DTZ001
)
def test_senseless_bounds_are_refused(store: zm.Store, bounds: dict[str, Any]) -> None:
    artifact = store.import_artifact("mem://x")
    with pytest.raises(UsageError):
        artifact.upstream(**bounds)


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
