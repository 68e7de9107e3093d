"""How many calls reading takes: it does not grow with the steps of a run, and hardly with the runs.

Counted at the service port, where each call is a round trip to a server.
"""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ml_metadata import metadata_store
from ml_metadata.proto import metadata_store_pb2 as mlmd
from ml_metadata.proto import metadata_store_service_pb2 as rpc

from tests.services.counting import CountedStore
from zen_mlmd import SqliteConfig, Status, Store, open_store
from zen_mlmd.errors import NotFoundError
from zen_mlmd.reading.runs import PipelineRunView

STEPS = ("load", "train", "evaluate")


def record(store: Store, pipeline: str, name: str, lr: float) -> None:
    """Record a run of three steps."""
    with store.record_run(pipeline, name=name, parameters={"lr": lr}) as run:
        with run.step("load") as load:
            rows = load.log_output("rows", uri=f"/{name}/rows", type="Dataset")
            schema = load.log_output("schema", uri=f"/{name}/schema", type="Schema")
        with run.step("train", inputs={"rows": rows, "schema": schema}, parameters={"lr": lr}) as train:
            model = train.log_output("model", uri=f"/{name}/model", type="Model")
        with run.step("evaluate", inputs={"rows": rows, "model": model}) as evaluate:
            evaluate.log_output("metrics", uri=f"/{name}/metrics", type="Metrics")


def record_long(store: Store, name: str, steps: int) -> None:
    """Record a run of many steps, each of which takes what the one before made."""
    with store.record_run("long", name=name) as run:
        given: dict[str, Any] = {}
        for number in range(steps):
            with run.step(f"step{number}", inputs=given) as step:
                given = {"x": step.log_output("x", uri=f"/{name}/{number}")}


def read_all(run: PipelineRunView) -> list[tuple[Any, ...]]:
    """Look at every step, input, output and producer of a run."""
    seen: list[tuple[Any, ...]] = []
    for step in run.step_runs:
        for what, slots in (("input", step.inputs), ("output", step.outputs)):
            for name, artifact in slots.items():
                producer = artifact.producer_step
                assert producer is not None
                seen.append(
                    (run.name, step.name, what, name, artifact.uri, producer.name, artifact.is_cached)
                )
    return seen


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """300 runs: 200 of the pipeline `churn`, and 100 of `fraud` that are mixed among them."""
    made = tmp_path_factory.mktemp("calls") / "metadata.db"
    with CountedStore(made) as store:
        for number in range(300):
            pipeline = "fraud" if number % 3 == 2 else "churn"
            record(store, pipeline, f"run_{number:03}", number / 1000)
        record_long(store, "short", 3)
        record_long(store, "long", 60)
    return made


@pytest.fixture
def store(path: Path) -> Iterator[CountedStore]:
    """A store that has not read anything yet."""
    with CountedStore(path) as opened:
        yield opened


def calls_for(path: Path, name: str) -> Counter[str]:
    with CountedStore(path) as store:
        read_all(store.get_run(name))
        return store.service.calls


def test_a_run_of_60_steps_takes_the_calls_of_a_run_of_3(path: Path) -> None:
    short, long = calls_for(path, "short"), calls_for(path, "long")

    assert short == long
    assert long.total() <= 10


def test_what_was_read_is_right(store: CountedStore) -> None:
    assert read_all(store.get_run("run_007")) == [
        ("run_007", "load", "output", "rows", "/run_007/rows", "load", False),
        ("run_007", "load", "output", "schema", "/run_007/schema", "load", False),
        ("run_007", "train", "input", "rows", "/run_007/rows", "load", False),
        ("run_007", "train", "input", "schema", "/run_007/schema", "load", False),
        ("run_007", "train", "output", "model", "/run_007/model", "train", False),
        ("run_007", "evaluate", "input", "model", "/run_007/model", "train", False),
        ("run_007", "evaluate", "input", "rows", "/run_007/rows", "load", False),
        ("run_007", "evaluate", "output", "metrics", "/run_007/metrics", "evaluate", False),
    ]


def test_200_runs_with_steps_inputs_outputs_and_producers_take_at_most_30_calls(store: CountedStore) -> None:
    runs = list(store.pipelines["churn"].runs)
    seen = [each for run in runs for each in read_all(run)]

    assert len(runs) == 200
    assert {run.status for run in runs} == {Status.COMPLETED}
    assert len(seen) == 200 * 8
    assert all(uri.startswith(f"/{run}/") for run, _, _, _, uri, _, _ in seen)
    assert store.calls <= 30, store.service.calls


def test_parents_cost_nothing_more(store: CountedStore) -> None:
    runs = list(store.pipelines["churn"].runs)
    parents = [
        {step.name: [parent.name for parent in step.parents] for step in run.step_runs} for run in runs
    ]

    assert parents == [{"load": [], "train": ["load"], "evaluate": ["load", "train"]}] * 200
    assert store.calls <= 30, store.service.calls


def test_listing_the_newest_50_of_300_runs_with_their_status_takes_few_calls(store: CountedStore) -> None:
    found = store.list_runs("parameters.lr < 1", limit=50)
    shown = [(run.name, run.pipeline, run.status, run.duration_s) for run in found]

    assert [name for name, *_ in shown] == [f"run_{number:03}" for number in range(299, 249, -1)]
    assert {status for _, _, status, _ in shown} == {Status.COMPLETED}
    assert {pipeline for _, pipeline, _, _ in shown} == {"churn", "fraud"}
    assert store.calls <= 4, store.service.calls


def test_listing_them_with_their_steps_takes_few_calls_more(store: CountedStore) -> None:
    found = store.list_runs("parameters.lr < 1", limit=50)

    assert all([step.name for step in run.step_runs] == list(STEPS) for run in found)
    assert store.calls <= 20, store.service.calls


def test_looking_at_one_run_of_a_listing_does_not_load_the_others(store: CountedStore) -> None:
    run = next(iter(store.pipelines["churn"].runs))
    read_all(run)
    loaded_with_it = store.calls

    assert loaded_with_it <= 12, store.service.calls
    read_all(run)
    assert store.calls == loaded_with_it


def test_outputs_taken_from_the_cache_know_their_producers_without_a_call_each(tmp_path: Path) -> None:
    """40 steps of one run re-use what 40 steps of another made."""
    with CountedStore(tmp_path / "cached.db") as store:
        record_long(store, "made", 40)
        with store.record_run("long", name="reused") as run:
            for step in store.get_run("made").step_runs:
                run.reuse_step(step.name, inputs=dict(step.inputs), outputs=dict(step.outputs))

    with CountedStore(tmp_path / "cached.db") as store:
        steps = store.get_run("reused").step_runs
        makers = [step.output.producer_step for step in steps]

        assert [maker and maker.name for maker in makers] == [step.name for step in steps]
        assert all(step.output.is_cached for step in steps)
        assert all(step.input.is_cached for step in steps[1:])
        assert store.calls <= 12, store.service.calls


# -- a store of many runs ----------------------------------------------------------------------------

MANY = 2_000


def copied(node: Any, **fields: Any) -> Any:
    """Return a node as it was before it was in a store, with other fields."""
    copy = type(node)()
    copy.CopyFrom(node)
    for field in ("id", "name", "create_time_since_epoch", "last_update_time_since_epoch"):
        copy.ClearField(field)
    for field, value in fields.items():
        setattr(copy, field, value)
    return copy


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """2,000 runs of `churn` of a step each, and before them one of `rare`: rows copied from recorded ones."""
    made = tmp_path_factory.mktemp("many") / "metadata.db"
    with open_store(made) as store:
        for pipeline in ("rare", "churn"):
            with store.record_run(pipeline, name=f"{pipeline}-first") as run, run.step("train") as step:
                step.log_output("model", uri="mem://model", type="Model")
        call, client = store.loader.client.service.call, store.loader.client
        run_context, pipeline_context = (
            client.context(kind, name)
            for kind, name in (("pipeline_run", "churn-first"), ("pipeline", "churn"))
        )
        assert run_context is not None
        assert pipeline_context is not None
        execution = client.executions([step.id])[step.id]
        contexts, executions = rpc.PutContextsRequest(), rpc.PutExecutionsRequest()
        for number in range(MANY - 1):
            contexts.contexts.append(copied(run_context, name=f"churn-{number}"))
            copy = copied(execution, name=f"step-{number}")
            noted = json.loads(copy.custom_properties["zen_mlmd.step"].string_value)
            copy.custom_properties["zen_mlmd.step"].string_value = json.dumps(
                {**noted, "run": f"churn-{number}"}
            )
            executions.executions.append(copy)
        runs = call("PutContexts", contexts).context_ids
        steps = call("PutExecutions", executions).execution_ids
        links, members = rpc.PutParentContextsRequest(), rpc.PutAttributionsAndAssociationsRequest()
        for run_id, step_id in zip(runs, steps, strict=True):
            links.parent_contexts.add(child_id=run_id, parent_id=pipeline_context.id)
            for context in (run_id, pipeline_context.id):
                members.associations.add(execution_id=step_id, context_id=context)
        call("PutParentContexts", links)
        call("PutAttributionsAndAssociations", members)
    return made


@pytest.mark.parametrize(
    "ask",
    [
        lambda store: [store.pipelines["churn"].latest_run],
        lambda store: [store.get("churn/latest")],
        lambda store: store.list_runs(pipeline="churn", limit=5),
        lambda store: store.list_runs(limit=5),
        lambda store: store.pipelines["churn"].runs[:5],
        lambda store: [store.pipelines["churn"].runs[0]],
        lambda store: [store.pipelines["churn"].get_run_for_completed_step("train")],
    ],
)
def test_the_newest_runs_of_many_are_read_alone(many: Path, ask: Any) -> None:
    with CountedStore(many) as store:
        found = ask(store)
        names = [run.name for run in found]
        assert names == [f"churn-{MANY - 2 - number}" for number in range(len(found))]
        assert store.calls <= 6, store.service.calls
        assert store.service.nodes["contexts"] <= 105
        assert store.service.nodes["executions"] <= 1
        # Looking into them reads them and no others.
        assert [[step.name for step in run.step_runs] for run in found] == [["train"]] * len(found)
        assert store.service.nodes["executions"] <= 6


def test_what_a_filter_has_read_of_a_run_is_not_read_again(tmp_path: Path) -> None:
    copy = tmp_path / "zenml.db"
    shutil.copyfile(Path(__file__).parents[1] / "data" / "zenml_0132_basic3.db", copy)
    open_store(copy, upgrade=True).close()
    with CountedStore(copy) as store:
        found = store.list_runs("status = completed", limit=3)
        before = store.calls
        assert [run.status for run in found] == [Status.COMPLETED] * len(found)
        assert found
        assert store.calls == before


def test_a_run_that_is_not_there_is_told_without_reading_all(many: Path) -> None:
    with CountedStore(many) as store:
        with pytest.raises(NotFoundError) as caught:
            store.pipelines["churn"].get_run("churn-1998x")
        assert "churn-1998" in caught.value.hint
        assert store.calls <= 4, store.service.calls


def test_the_second_run_of_a_listing_does_not_read_the_whole_pipeline(many: Path) -> None:
    with CountedStore(many) as store:
        runs = iter(store.pipelines["churn"].runs)
        for _ in range(8):
            assert len(next(runs).step_runs) == 1
        assert store.service.nodes["executions"] == 8


def test_all_runs_of_many_are_listed_in_order_and_those_of_a_rare_pipeline_found(many: Path) -> None:
    with CountedStore(many) as store:
        expected = [f"churn-{number}" for number in range(MANY - 2, -1, -1)]
        found = [run.name for run in store.pipelines["churn"].runs]
        assert found == [*expected, "churn-first"]
        assert [run.name for run in store.runs] == [*found, "rare-first"]
        assert store.pipelines["rare"].run_names == ["rare-first"]
        assert len(store.pipelines["churn"].runs) == MANY


def test_all_steps_of_many_runs_take_few_calls(many: Path) -> None:
    with CountedStore(many) as store:
        assert [run.step_names for run in store.pipelines["churn"].runs] == [["train"]] * MANY
        # Run by run while they are few of all, then by their pipeline.
        assert store.service.calls["GetExecutionsByContext"] <= 40
        assert store.service.calls["GetContexts"] + store.service.calls["GetContextsByType"] <= 9


def test_artifacts_of_a_type_are_a_page_and_then_all(tmp_path: Path) -> None:
    path = tmp_path / "artifacts.db"
    plain = metadata_store.MetadataStore(SqliteConfig(path=str(path)).connection_config())
    kinds = [plain.put_artifact_type(mlmd.ArtifactType(name=name)) for name in ("Data", "Model")]
    ids = plain.put_artifacts(
        [mlmd.Artifact(type_id=kinds[number % 2], uri=f"mem://{number}") for number in range(700)]
    )
    del plain
    with CountedStore(path) as store:
        assert [each.id for each in store.list_artifacts(type="Model")] == ids[::-2]
        assert store.service.calls["GetArtifactsByType"] == 2
        assert [each.id for each in store.list_artifacts(type="Data", limit=100)] == ids[-2::-2][:100]
        assert store.service.calls["GetArtifactsByType"] == 3
        assert [each.id for each in store.artifacts] == ids[::-1]
        assert list(store.list_artifacts(type="Nothing")) == []


def test_the_newest_run_of_another_writer_is_found_by_its_own_links(tmp_path: Path) -> None:
    """As TFX 1.11 and newer write them: nothing on the run says whose it is."""
    path = tmp_path / "plain.db"
    plain = metadata_store.MetadataStore(SqliteConfig(path=str(path)).connection_config())
    kinds = [plain.put_context_type(mlmd.ContextType(name=name)) for name in ("pipeline", "pipeline_run")]
    pipelines = plain.put_contexts([mlmd.Context(type_id=kinds[0], name=name) for name in "pq"])
    for number in range(150):
        (run,) = plain.put_contexts([mlmd.Context(type_id=kinds[1], name=f"r{number:03}")])
        plain.put_parent_contexts([mlmd.ParentContext(child_id=run, parent_id=pipelines[number % 2])])
    del plain
    with CountedStore(path) as store:
        assert store.pipelines["p"].latest_run.name == "r148"
        assert store.service.calls["GetChildrenContextsByContext"] == 0
        assert store.calls <= 12, store.service.calls
    with CountedStore(path) as store:
        assert store.pipelines["q"].run_names == [f"r{number:03}" for number in range(149, 0, -2)]
        assert store.service.calls["GetParentContextsByContext"] == 0
        assert store.calls <= 14, store.service.calls
