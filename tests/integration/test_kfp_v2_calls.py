"""How many calls it takes to read runs of Kubeflow Pipelines v2: no task adds one.

KFP's own client made 1,779 calls for a run of 84 executions.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from ml_metadata import metadata_store
from ml_metadata.proto import metadata_store_pb2 as mlmd
from ml_metadata.proto import metadata_store_service_pb2 as rpc

from tests.services.counting import CountedStore
from tests.writers.kfp_v2 import KfpV2Run
from zen_mlmd import SqliteConfig, Status
from zen_mlmd.model import StepKind
from zen_mlmd.reading.runs import PipelineRunView

MANY = 10_000


def write(store: metadata_store.MetadataStore, name: str, outer: int, inner: int) -> None:
    """Write a run of two loops in each other, each iteration of which has two tasks."""
    kfp = KfpV2Run(store, name)
    root = kfp.root(rows=10)
    kfp.task("load", root, made={"data": "system.Dataset"})
    data = kfp.artifacts["load", "data"]
    loop = kfp.dag("for-loop-1", root, count=outer, tasks=1)
    for i in range(outer):
        body = kfp.dag("for-loop-1", loop, index=i, tasks=1, inputs={"pipelinechannel--data": [data]})
        nested = kfp.dag("for-loop-2", body, count=inner, tasks=2)
        for j in range(inner):
            last = kfp.dag("for-loop-2", nested, index=j, tasks=2)
            kfp.task("train", last, inputs={"data": [data]}, made={"model": "system.Model"})
            model = kfp.artifacts["train", "model"]
            kfp.task("score", last, inputs={"model": [model]}, outputs={"score": i + j})


def read_all(run: PipelineRunView) -> Counter[str]:
    """Look at the tree, and at every status, input, output and producer of a run."""
    seen: Counter[str] = Counter()
    pending = list(run.tree)
    while pending:
        step = pending.pop()
        seen[str(step.kind)] += 1
        assert step.status is Status.COMPLETED
        if step.kind.is_group:
            pending += step.members
            assert step.kind is not StepKind.ITERATION or step.group is not None
        for slots in (step.inputs, step.list_outputs(include_logs=True)):
            for artifact in slots.values():
                producer = artifact.producer_step
                assert producer is not None
                seen[f"from {producer.name}"] += 1
        seen["parents"] += len(step.parents)
    return seen


def test_a_run_of_200_tasks_in_loops_takes_the_calls_of_one_of_20(tmp_path: Path) -> None:
    path = tmp_path / "kfp.db"
    plain = metadata_store.MetadataStore(SqliteConfig(path=str(path)).connection_config())
    write(plain, "small", 2, 5)
    write(plain, "large", 10, 10)
    del plain

    calls: dict[str, Counter[str]] = {}
    for name, outer, inner in (("small", 2, 5), ("large", 10, 10)):
        with CountedStore(path) as store:
            run = store.get_run(name)
            assert run.status is Status.COMPLETED
            bodies = outer * inner
            assert read_all(run) == {
                "task": 2 * bodies + 1,
                "loop": 1 + outer,
                "iteration": outer + bodies,
                # What each takes, and its log.
                "from load": 2 + bodies + outer,
                "from train": 3 * bodies,
                "from score": bodies,
                "parents": 2 * bodies + outer,
            }
            calls[name] = store.service.calls
    assert calls["large"] == calls["small"]
    assert calls["large"].total() <= 12, calls["large"]


def test_what_cached_tasks_came_from_takes_no_call_for_each(tmp_path: Path) -> None:
    path = tmp_path / "kfp.db"
    plain = metadata_store.MetadataStore(SqliteConfig(path=str(path)).connection_config())
    for tag, tasks in (("small", 1), ("large", 6)):
        first, again = KfpV2Run(plain, f"first-{tag}"), KfpV2Run(plain, f"again-{tag}")
        parents = first.dag("sub", first.root()), again.dag("sub", again.root())
        for each in range(tasks):
            made = first.task(f"t{each}", parents[0], made={"model": "system.Model"})
            model = first.artifacts[f"t{each}", "model"]
            again.task(f"t{each}", parents[1], state="CACHED", cached=made, made={"model": model})
        again.task("lost", parents[1], state="CACHED", made={})
        lost = plain.get_executions()[-1]
        lost.custom_properties["cached_execution_id"].string_value = "9" * 19  # no id is as large
        plain.put_executions([lost])
    del plain

    calls = {}
    for tag in ("small", "large"):
        with CountedStore(path) as store:
            for step in store.get_run(f"again-{tag}").step_runs:
                source = step.cached_from
                if step.name == "lost":
                    assert source is None
                    assert step.record.warnings
                    continue
                assert source is not None
                assert (source.key, source.run.name) == (step.key, f"first-{tag}")
                assert step.output.path == f"p/first-{tag}/{step.key}/model"
            calls[tag] = store.calls
    assert calls["small"] == calls["large"]


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """10,000 runs of a task each: rows copied from one that was written as KFP writes."""
    path = tmp_path_factory.mktemp("many") / "kfp.db"
    plain = metadata_store.MetadataStore(SqliteConfig(path=str(path)).connection_config())
    kfp = KfpV2Run(plain, "first")
    root = kfp.root(rows=0)
    task = kfp.task("train", root)
    (context,) = plain.get_contexts_by_type("system.PipelineRun")
    (pipeline,) = plain.get_contexts_by_type("system.Pipeline")
    rows = {each.id: each for each in plain.get_executions_by_id([root, task])}
    del plain
    with CountedStore(path) as store:
        call = store.service.call
        contexts, executions = rpc.PutContextsRequest(), rpc.PutExecutionsRequest()
        for number in range(MANY - 1):
            contexts.contexts.append(copied(context, f"run-{number:04}"))
            executions.executions.append(copied(rows[root], f"run/run-{number:04}"))
            executions.executions[-1].custom_properties["inputs"].struct_value.update({"rows": number})
        runs = call("PutContexts", contexts).context_ids
        roots = call("PutExecutions", executions).execution_ids
        tasks = rpc.PutExecutionsRequest()
        for number, each in enumerate(roots):
            tasks.executions.append(copied(rows[task], ""))
            tasks.executions[-1].custom_properties["parent_dag_id"].int_value = each
            if number % 2:
                tasks.executions[-1].last_known_state = mlmd.Execution.FAILED
        members = call("PutExecutions", tasks).execution_ids
        links, associations = rpc.PutParentContextsRequest(), rpc.PutAttributionsAndAssociationsRequest()
        for run_id, *steps in zip(runs, roots, members, strict=True):
            links.parent_contexts.add(child_id=run_id, parent_id=pipeline.id)
            for each in steps:
                associations.associations.add(execution_id=each, context_id=run_id)
                associations.associations.add(execution_id=each, context_id=pipeline.id)
        call("PutParentContexts", links)
        call("PutAttributionsAndAssociations", associations)
    return path


def copied(node: Any, name: str) -> Any:
    """Return a node as it was before it was in a store."""
    copy = type(node)()
    copy.CopyFrom(node)
    for field in ("id", "name", "create_time_since_epoch", "last_update_time_since_epoch"):
        copy.ClearField(field)
    if name:
        copy.name = name
    return copy


@pytest.mark.slow
def test_the_newest_50_of_10_000_runs_with_their_status(many: Path) -> None:
    with CountedStore(many) as store:
        found = store.list_runs(limit=50)
        shown = [(run.name, run.status, run.parameters["rows"], run.namespace) for run in found]

        assert shown == [
            (f"run-{number:04}", Status.FAILED if number % 2 else Status.COMPLETED, number, "team-a")
            for number in range(MANY - 2, MANY - 52, -1)
        ]
        # MLMD tells the executions of one context a call.
        assert store.service.calls["GetExecutionsByContext"] == 50
        assert store.calls <= 60, store.service.calls
        assert store.service.nodes["contexts"] <= 300
        assert store.service.nodes["executions"] == 100


@pytest.mark.slow
def test_the_newest_run_and_one_by_its_name_are_read_alone(many: Path) -> None:
    with CountedStore(many) as store:
        latest = store.pipelines["p"].latest_run
        assert (latest.name, latest.status) == (f"run-{MANY - 2:04}", Status.COMPLETED)
        assert store.get_run("run-0007").status is Status.FAILED
        assert store.service.calls["GetExecutionsByContext"] == 2
        assert store.calls <= 16, store.service.calls
