"""Runs of Kubeflow Pipelines v2 as its releases wrote them, and what a run may look like in the middle.

The database that KFP's own code wrote (test_kfp_v2_facts.py) holds two runs that went well.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from ml_metadata import metadata_store

from tests.writers.kfp_v2 import KfpV2Run, Release
from zen_mlmd import SqliteConfig, Status, Store, open_store
from zen_mlmd.model import StepKind
from zen_mlmd.reading.runs import PipelineRunView

COMPLETED, FAILED, RUNNING, CACHED = Status.COMPLETED, Status.FAILED, Status.RUNNING, Status.CACHED


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "kfp.db"


@pytest.fixture
def written(path: Path) -> metadata_store.MetadataStore:
    return metadata_store.MetadataStore(SqliteConfig(path=str(path)).connection_config())


@pytest.fixture
def kfp(written: metadata_store.MetadataStore) -> KfpV2Run:
    return KfpV2Run(written, "r")


@pytest.fixture
def store(path: Path) -> Iterator[Store]:
    """The store, to be read after it was written."""
    with closing(open_store(path)) as opened:
        yield opened


def statuses(run: PipelineRunView) -> dict[str, str]:
    return {step.key: str(step.status) for step in run.list_steps(include_groups=True)}


# -- releases ------------------------------------------------------------------------------------


@pytest.mark.parametrize("release", ["1.6", "1.7", "1.8", "2.0", "2.17"])
def test_a_run_of_each_release(written: metadata_store.MetadataStore, path: Path, release: Release) -> None:
    """Two pipelines, as a single one would be guessed; no release before 1.7 links a run to its own."""
    compatible = release in ("1.6", "1.7")
    made: dict[str, tuple[int, int, int, int]] = {}
    for name, pipeline in (("r1", "churn"), ("r2", "fraud")):
        context = f"namespace/team-a/pipeline/{pipeline}" if release == "1.7" else pipeline
        kfp = KfpV2Run(written, name, context, release)
        root = None if compatible else kfp.root(rows=10, fast=True)
        first = kfp.task(
            "make-data", root, parameters={"rows": 10, "how": "fast"}, made={"data": "system.Dataset"}
        )
        data = kfp.artifacts["make-data", "data"]
        second = kfp.task(
            "train",
            root,
            parameters={"lr": 0.1},
            inputs={"data": [data]},
            made={"metrics": "system.Metrics"},
            outputs={"epochs": 3},
        )
        made[pipeline] = (first, second, data, kfp.artifacts["train", "metrics"])

    with open_store(path) as store:
        assert [each.name for each in store.pipelines] == ["churn", "fraud"]
        assert [(run.name, run.pipeline, run.dialect) for run in store.runs] == [
            ("r2", "fraud", "kfp_v2"),
            ("r1", "churn", "kfp_v2"),
        ]
        for pipeline, (first, second, data, metrics) in made.items():
            run = store.pipelines[pipeline].latest_run
            assert (run.status, run.namespace) == (COMPLETED, "" if release == "1.6" else "team-a")
            assert run.parameters == ({} if compatible else {"rows": 10.0, "fast": True})
            assert run.step_names == ["make-data", "train"]
            assert [step.id for step in run.step_runs] == [first, second]
            assert {step.kind for step in run.step_runs} == {StepKind.TASK}
            train = run["train"]
            assert run["make-data"].parameters == {"rows": 10, "how": "fast"}
            assert type(run["make-data"].parameters["rows"]) is (int if compatible else float)
            assert train.parameters == {"lr": 0.1}
            assert train.output_parameters == {"epochs": 3}
            assert train.display_name == "train"
            slot = "" if release == "1.6" else "metrics"  # whose events have no path
            assert {name: each.id for name, each in train.outputs.items()} == {slot: metrics}
            assert train.input.id == data
            assert [each.name for each in train.parents] == ["make-data"]
            assert train.output.producer_step == train


def test_pipelines_of_several_namespaces_are_one_and_their_runs_say_where_they_ran(
    written: metadata_store.MetadataStore, store: Store
) -> None:
    for name, namespace, pipeline in (
        ("r1", "team-a", "namespace/team-a/pipeline/churn"),
        ("r2", "team-b", "namespace/team-b/pipeline/churn"),
        ("r3", "team-b", "pipeline/churn"),
        ("r4", "team-a", "churn"),
    ):
        KfpV2Run(written, name, pipeline, "1.7", namespace).task("t")

    assert [each.name for each in store.pipelines] == ["churn"]
    assert store.pipelines["churn"].run_names == ["r4", "r3", "r2", "r1"]
    found = store.list_runs("namespace = 'team-b'", pipeline="churn")
    assert [run.name for run in found] == ["r3", "r2"]


# -- groups --------------------------------------------------------------------------------------


def test_nested_loops_whatever_order_their_iterations_were_written_in(kfp: KfpV2Run, store: Store) -> None:
    root = kfp.root()
    outer = kfp.dag("for-loop-1", root, count=2, tasks=1)
    expected = []
    for i in (1, 0):
        iteration = kfp.dag("for-loop-1", outer, index=i, tasks=1, parameters={"lr": i / 10})
        inner = kfp.dag("for-loop-2", iteration, count=3, tasks=1)
        for j in (2, 0, 1):
            body = kfp.dag("for-loop-2", inner, index=j, tasks=1)
            kfp.task("trial", body, outputs={"score": 10 * i + j}, made={"m": "system.Metrics"})
            expected.append(f"for-loop-1[{i}]/for-loop-2[{j}]/trial")

    run = store.get_run("r")
    loop = run.steps["for-loop-1"]

    assert run.step_names == expected
    assert [each.key for each in run.tree] == ["for-loop-1"]
    assert [each.key for each in loop.members] == ["for-loop-1[0]", "for-loop-1[1]"]
    assert [(each.kind, each.iteration, each.parameters) for each in loop.members] == [
        (StepKind.ITERATION, 0, {"lr": 0.0}),
        (StepKind.ITERATION, 1, {"lr": 0.1}),
    ]
    (nested,) = loop.members[1].members
    assert (nested.key, nested.kind) == ("for-loop-1[1]/for-loop-2", StepKind.LOOP)
    assert [each.key for each in nested.members] == [f"for-loop-1[1]/for-loop-2[{j}]" for j in range(3)]
    trial = run.steps["for-loop-1[1]/for-loop-2[2]/trial"]
    assert trial.output_parameters == {"score": 12}
    assert trial.group == nested.members[2]
    assert set(statuses(run).values()) == {"completed"}
    assert run.status is COMPLETED


def test_what_a_loop_returns_is_in_the_order_of_its_iterations(kfp: KfpV2Run, store: Store) -> None:
    handed = {"score": [("trial", "score")]}
    loop = kfp.dag("for-loop-1", kfp.root(), count=3, tasks=1)
    made = {}
    for i in (2, 0, 1):
        body = kfp.dag(
            "for-loop-1",
            loop,
            index=i,
            tasks=1,
            parameter_outputs=handed,
            artifact_outputs={"model": [("trial", "m")]},
        )
        kfp.task("trial", body, outputs={"score": i}, made={"m": "system.Model"})
        made[i] = kfp.artifacts["trial", "m"]

    found = store.get_run("r").steps["for-loop-1"]

    assert found.output_parameters == {"score": [0, 1, 2]}
    assert [each.id for each in found.outputs.lists["model"]] == [made[i] for i in range(3)]
    assert found.members[1].outputs["model"].id == made[1]


def test_a_loop_over_nothing_is_through_and_one_that_was_not_come_to_is_canceled(
    kfp: KfpV2Run, store: Store
) -> None:
    root = kfp.root()
    kfp.dag("for-loop-1", root, count=0, tasks=2)
    condition = kfp.dag("condition-2", root, tasks=1, state="CANCELED")
    kfp.dag("for-loop-3", root, tasks=1, state="CANCELED")
    kfp.task("last", root)

    run = store.get_run("r")

    assert statuses(run) == {
        "for-loop-1": "completed",
        "condition-2": "canceled",
        "for-loop-3": "canceled",
        "last": "completed",
    }
    assert run.status is COMPLETED
    assert {each.name: str(each.kind) for each in run.tree} == {
        "for-loop-1": "loop",
        "condition-2": "condition",
        "for-loop-3": "loop",
        "last": "task",
    }
    assert list(store.get_step(condition).members) == []


def test_if_and_else_hand_on_what_the_branch_that_ran_made(kfp: KfpV2Run, store: Store) -> None:
    root = kfp.root()
    sources = [("condition-2", "model"), ("condition-3", "model")]
    branches = kfp.dag(
        "condition-branches-1",
        root,
        tasks=2,
        artifact_outputs={"pipelinechannel--oneof-1": sources},
        parameter_outputs={"pipelinechannel--oneof-2": [(task, "depth") for task, _ in sources]},
    )
    handed = {"model": [("train", "model")]}
    kfp.dag("condition-2", branches, state="CANCELED", tasks=1, artifact_outputs=handed)
    taken = kfp.dag(
        "condition-3",
        branches,
        tasks=1,
        artifact_outputs=handed,
        parameter_outputs={"depth": [("train", "depth")]},
    )
    kfp.task("train", taken, made={"model": "system.Model"}, outputs={"depth": 4})
    model = kfp.artifacts["train", "model"]
    kfp.task("use", root, inputs={"model": [model]})

    run = store.get_run("r")
    group = run.steps["condition-branches-1"]

    assert statuses(run) == {
        "condition-branches-1": "completed",
        "condition-branches-1/condition-2": "canceled",
        "condition-branches-1/condition-3": "completed",
        "condition-branches-1/condition-3/train": "completed",
        "use": "completed",
    }
    assert (group.kind, group.members[1].kind) == (StepKind.CONDITION_BRANCHES, StepKind.CONDITION)
    assert {name: each.id for name, each in group.outputs.items()} == {"pipelinechannel--oneof-1": model}
    assert group.output_parameters == {"pipelinechannel--oneof-2": 4}
    assert [each.key for each in run["use"].parents] == ["condition-branches-1/condition-3/train"]


def test_conditions_that_were_not_met_cancel_no_run(kfp: KfpV2Run, store: Store) -> None:
    root = kfp.root()
    branches = kfp.dag("condition-branches-1", root, tasks=2)
    for number in (2, 3):
        kfp.dag(f"condition-{number}", branches, state="CANCELED", tasks=1)

    run = store.get_run("r")

    assert (run.status, run.steps["condition-branches-1"].status) == (COMPLETED, COMPLETED)
    assert {each.status for each in run.steps["condition-branches-1"].members} == {Status.CANCELED}
    assert list(run.steps) == []


def test_an_exit_handler_fails_and_what_comes_after_it_runs(kfp: KfpV2Run, store: Store) -> None:
    root = kfp.root()
    handler = kfp.dag("exit-handler-1", root, tasks=3, display_name="try it")
    kfp.task("good", handler, made={"data": "system.Dataset"})
    failed = kfp.task("bad", handler, state="FAILED", inputs={"data": [kfp.artifacts["good", "data"]]})
    kfp.task("cleanup", root)

    run = store.get_run("r")

    assert statuses(run) == {
        "exit-handler-1": "failed",
        "exit-handler-1/good": "completed",
        "exit-handler-1/bad": "failed",
        "cleanup": "completed",
    }
    assert (run.status, run.duration_s is None) == (FAILED, False)
    assert run.steps["exit-handler-1"].kind is StepKind.EXIT_HANDLER
    assert run.steps["exit-handler-1"].display_name == "try it"
    assert [each.id for each in store.list_runs("status = failed")] == [run.id]
    bad = store.get_step(failed)
    assert bad.status is FAILED
    assert dict(bad.outputs) == {}
    assert list(bad.list_outputs(include_logs=True)) == ["executor-logs"]


def test_parameters_are_in_the_order_of_their_names(kfp: KfpV2Run, store: Store) -> None:
    """MLMD keeps none, and two readers would not agree."""
    names = [chr(each) for each in range(ord("a"), ord("z") + 1)]
    kfp.root(**dict.fromkeys(reversed(names), 1.5))

    assert list(store.get_run("r").parameters) == names


def test_a_diff_tells_parameters_values_and_metrics(kfp: KfpV2Run, store: Store) -> None:
    other = KfpV2Run(kfp.store, "other")
    for run, lr in ((kfp, 0.1), (other, 0.2)):
        run.task("train", run.root(lr=lr), outputs={"loss": 1 - lr}, made={"scores": "system.Metrics"})
        (scores,) = kfp.store.get_artifacts_by_id([run.artifacts["train", "scores"]])
        scores.custom_properties["accuracy"].double_value = lr
        kfp.store.put_artifacts([scores])

    changes = store.get_run("r").diff(store.get_run("other")).changes
    assert [(each.step, each.kind, each.name, each.before, each.after) for each in changes] == [
        ("", "parameter", "lr", 0.1, 0.2),
        ("train", "output", "scores", "system.Metrics 1", "system.Metrics 3"),
        ("train", "output", "loss", 0.9, 0.8),
        ("train", "metric", "accuracy", 0.1, 0.2),
    ]


def test_a_dag_of_cached_tasks_that_nobody_updated(kfp: KfpV2Run, store: Store) -> None:
    old = kfp.task("train", kfp.dag("sub", kfp.root(), tasks=1), made={"model": "system.Model"})
    model = kfp.artifacts["train", "model"]
    again = KfpV2Run(kfp.store, "again")
    sub = again.dag("sub", again.root(), tasks=1, artifact_outputs={"model": [("train", "model")]})
    again.task("train", sub, state="CACHED", cached=old, made={"model": model})

    run = store.get_run("again")
    train = run.steps["sub/train"]

    assert statuses(run) == {"sub": "cached", "sub/train": "cached"}
    assert run.status is COMPLETED
    assert train.cached_from is not None
    assert (train.cached_from.id, train.cached_from.run.name) == (old, "r")
    assert run.steps["sub"].outputs["model"].id == model
    assert store.get_artifact(model).producer_step == store.get_step(old)
    assert train.outputs["model"].is_cached


def test_a_dag_that_says_failed_though_its_task_was_tried_again_and_succeeded(
    kfp: KfpV2Run, store: Store
) -> None:
    """The same execution is written again; only its logs tell of the attempts (kubeflow/pipelines#13591)."""
    sub = kfp.dag("sub", kfp.root(), tasks=1, state="FAILED")
    kfp.task("flaky", sub, logs=3, made={"data": "system.Dataset"})

    run = store.get_run("r")

    assert statuses(run) == {"sub": "completed", "sub/flaky": "completed"}
    assert run.status is COMPLETED
    assert list(run["flaky"].outputs) == ["data"]
    assert len(run["flaky"].list_outputs(include_logs=True)) == 4


def test_a_task_that_has_two_executions_stands_as_the_later_one(kfp: KfpV2Run, store: Store) -> None:
    root = kfp.root()
    sub = kfp.dag("sub", root, tasks=1)
    first, second = (kfp.task("flaky", sub, state=state) for state in ("FAILED", "COMPLETE"))
    kfp.task("top", root, state="FAILED")
    kfp.task("top", root)

    run = store.get_run("r")

    assert statuses(run)["sub"] == "completed"
    assert run.status is COMPLETED
    assert run["flaky"].id == second
    assert [each.id for each in run.step_runs if each.name == "flaky"] == [first, second]


def test_a_dag_that_has_not_all_of_its_tasks_runs(kfp: KfpV2Run, store: Store) -> None:
    root = kfp.root()
    kfp.task("one", kfp.dag("sub", root, tasks=2))
    loop = kfp.dag("for-loop-1", root, count=2, tasks=1)
    kfp.task("trial", kfp.dag("for-loop-1", loop, index=0, tasks=1))

    run = store.get_run("r")

    assert (run.steps["sub"].status, run.steps["for-loop-1"].status, run.status) == (RUNNING,) * 3
    assert run.steps["for-loop-1[0]"].status is COMPLETED
    assert (run.ended_at, run.steps["sub"].ended_at) == (None, None)


def test_importers(kfp: KfpV2Run, store: Store) -> None:
    root = kfp.root()
    first = kfp.importer("importer", root, "system.Dataset")
    data = kfp.artifacts["importer", "artifact"]
    again = kfp.importer("importer-2", root, data)
    workspace = kfp.importer("importer-3", root, "system.Model", "ImporterWorkspaceExecution")

    run = store.get_run("r")

    assert [each.id for each in run.step_runs] == [first, again, workspace]
    assert {each.kind for each in run.step_runs} == {StepKind.IMPORTER}
    assert statuses(run) == dict.fromkeys(("importer", "importer-2", "importer-3"), "completed")
    assert run["importer-2"].output.id == data
    assert run["importer-2"].output.producer_step == store.get_step(first)
    assert (run["importer-2"].is_cached, run["importer-2"].cached_from) == (False, None)


def test_a_run_of_which_only_the_root_is_there_runs(kfp: KfpV2Run, store: Store) -> None:
    kfp.root(rows=3)

    run = store.get_run("r")

    assert (run.status, run.ended_at, run.parameters) == (RUNNING, None, {"rows": 3.0})
    assert (list(run.steps), list(run.tree), list(run.step_runs)) == ([], [], [])


def test_a_list_of_artifacts_keeps_its_order_and_a_dag_consumes_nothing(kfp: KfpV2Run, store: Store) -> None:
    root = kfp.root()
    for number in range(3):
        kfp.task(f"make-{number}", root, made={"data": "system.Dataset"})
    made = [kfp.artifacts[f"make-{number}", "data"] for number in (2, 0, 1)]
    sub = kfp.dag("sub", root, tasks=1, inputs={"pipelinechannel--data": made})
    use = kfp.task("use", sub, inputs={"data": made}, made={"model": "system.Model"})

    run = store.get_run("r")

    assert [each.id for each in run["use"].inputs.lists["data"]] == made
    assert run["use"].inputs["data[1]"].id == made[1]
    assert [each.id for each in store.get_artifact(made[0]).consumers] == [use]
    model = kfp.artifacts["use", "model"]
    assert store.get_artifact(model).upstream().artifacts.keys() == {model, *made}
