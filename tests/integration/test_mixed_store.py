"""One database that holds the runs of many writers answers for each as if it were alone.

The databases that the writers themselves wrote are copied into one, with new ids; all that can be asked
about a writer's runs is asked of that and of the database with its rows alone.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from ml_metadata import metadata_store
from ml_metadata.proto import metadata_store_pb2 as mlmd

from tests.services.grpc_server import GrpcServer
from tests.writers.kfp_v2 import KfpV2Run
from tests.writers.merge import Ids, merge
from tests.writers.zenml import ZenMLWriter
from zen_mlmd import SqliteConfig, Status, Store, open_store
from zen_mlmd.errors import UsageError
from zen_mlmd.reading.runs import PipelineRunView
from zen_mlmd.reading.steps import StepView

DATA = Path(__file__).parents[1] / "data"
FILES = {
    "zenml": "zenml_0132_basic3",
    "tfx": "tfx_1_21_0",
    "kfp_v1": "kfp_v1_one_run",
    "kfp_v2": "kfp_v2_two_runs",
}
DIALECTS = ("zenml", "zen", "tfx", "kfp_v1", "kfp_v2")
OF_IDS = {"parent_dag_id", "cached_execution_id"}
EVERYTHING = {"include_logs": True, "include_conditions": True}

dialects = pytest.mark.parametrize("dialect", DIALECTS)


def record(path: Path) -> None:
    """Record runs of ours: seven that are much alike, a cached step, a failure."""
    with open_store(path) as store:
        for number in range(7):
            with store.record_run("churn", name=f"run-{number}", parameters={"lr": number / 10}) as run:
                with run.step("load", parameters={"rows": 100}) as load:
                    rows = load.log_output("rows", uri=f"mem://{number}/rows", type="Dataset")
                with run.step("train", inputs={"rows": rows}, parameters={"lr": number / 10}) as train:
                    train.log_output("model", uri=f"mem://{number}/model", type="Model")
                    train.log_metrics({"accuracy": number / 7})
        with store.record_run("churn", name="reused") as run:
            run.reuse_step("load", inputs={}, outputs={"rows": rows.record()})
        with (
            pytest.raises(ZeroDivisionError),
            store.record_run("fraud", name="failed") as run,
            run.step("train", inputs={"rows": rows}),
        ):
            raise ZeroDivisionError


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A database for each writer, all of the same schema."""
    folder = tmp_path_factory.mktemp("alone")
    paths = {dialect: folder / f"{dialect}.db" for dialect in DIALECTS}
    for dialect, name in FILES.items():
        shutil.copyfile(DATA / f"{name}.db", paths[dialect])
    open_store(paths["zenml"], upgrade=True).close()
    record(paths["zen"])
    return paths


@pytest.fixture(scope="module")
def merged(alone: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Ids]]:
    """The database with all of it, and the new ids of each writer's rows."""
    path = tmp_path_factory.mktemp("mixed") / "mixed.db"
    open_store(path).close()
    return path, {dialect: merge(alone[dialect], path) for dialect in DIALECTS}


@pytest.fixture(scope="module")
def expected(alone: dict[str, Path], merged: tuple[Path, dict[str, Ids]]) -> dict[str, Any]:
    """What each writer's own database says, told with the ids of the merged one."""
    found: dict[str, Any] = {}
    for dialect in DIALECTS:
        with open_store(alone[dialect]) as store:
            found[dialect] = Facts(store, dialect, merged[1][dialect]).all()
    return found


@pytest.fixture(scope="module", params=["native", "sql", "grpc"])
def mixed(request: pytest.FixtureRequest, merged: tuple[Path, dict[str, Ids]]) -> Iterator[Store]:
    path, _ = merged
    if request.param != "grpc":
        with open_store(f"sqlite:///{path}?service={request.param}") as opened:
            yield opened
    else:
        with GrpcServer(path) as server, open_store(f"kubeflow://{server.address}") as opened:
            yield opened


class Facts:
    """What a store says about the runs of one writer.

    Args:
        store: The store.
        dialect: The writer.
        ids: What its rows' ids are to be told as.
    """

    def __init__(self, store: Store, dialect: str, ids: Ids | None = None) -> None:
        self._store = store
        self._dialect = dialect
        self._ids = ids

    def _artifact(self, number: int) -> int:
        return number if self._ids is None else self._ids.artifacts[number]

    def _step(self, step: StepView | None) -> int | None:
        return None if step is None else self._step_id(step.id)

    def _step_id(self, number: int) -> int:
        return number if self._ids is None else self._ids.steps[number]

    def _run(self, number: int) -> int:
        return number if self._ids is None else self._ids.contexts[number]

    def _slots(self, slots: Any) -> dict[str, list[int]]:
        return {name: [self._artifact(each.id) for each in found] for name, found in slots.lists.items()}

    def all(self) -> dict[str, Any]:
        """Return everything."""
        runs = list(self._store.list_runs(f"dialect = {self._dialect}"))
        artifacts: dict[int, Any] = {}
        for run in runs:
            for step in run.step_runs:
                for slots in (step.list_inputs(**EVERYTHING_IN), step.list_outputs(include_logs=True)):
                    artifacts.update((each.id, each) for found in slots.lists.values() for each in found)
        pipelines = {run.pipeline: self._store.pipelines[run.pipeline] for run in runs}
        return {
            "pipelines": {
                name: (self._run(each.id), each.run_names, each.latest_run.name)
                for name, each in pipelines.items()
            },
            "runs": [self.run(each) for each in runs],
            "by status": {
                str(status): [
                    run.name
                    for run in self._store.list_runs(f"status = {status} and dialect = {self._dialect}")
                ]
                for status in Status
            },
            "artifacts": {self._artifact(each): self.artifact(each) for each in artifacts},
        }

    def run(self, run: PipelineRunView) -> dict[str, Any]:
        """Return what is said of a run, listed and by its name."""
        assert self._store.get_run(run.name) == run
        steps = run.list_steps(include_groups=True)
        return {
            **run.to_dict(),
            "id": self._run(run.id),
            "failure": run.failure,
            "environment": run.environment,
            "plan": run.plan,
            "last sign": run.last_sign_of_life,
            "tree": [self._step(each) for each in run.tree],
            "names": run.step_names,
            "steps": [self.step(each) for each in steps],
        }

    def step(self, step: StepView) -> dict[str, Any]:
        """Return what is said of a step, as one of its run's and by its id."""
        by_id = self._store.get_step(step.id)
        assert (by_id.name, by_id.parameters, by_id.run, by_id.path) == (
            step.name,
            step.parameters,
            step.run,
            step.path,
        )
        return {
            **step.to_dict(),
            "id": self._step(step),
            "path": step.path,
            "dialect": step.record.dialect,
            "inputs": self._slots(step.list_inputs(include_conditions=True)),
            "outputs": self._slots(step.list_outputs(include_logs=True)),
            "shown": (self._slots(step.inputs), self._slots(step.outputs)),
            "properties": {key: each for key, each in step.properties.items() if key not in OF_IDS},
            "members": [self._step(each) for each in step.members],
            "group": self._step(step.group),
            "cached from": self._step(step.cached_from),
            "parents": [self._step(each) for each in step.parents],
            "code": step.record.code,
            "base type": step.record.base_type,
        }

    def artifact(self, artifact_id: int) -> dict[str, Any]:
        """Return what is said of an artifact, by its id and by its URI."""
        artifact = self._store.get_artifact(artifact_id)
        why = artifact.why()
        return {
            "type": (artifact.type, artifact.record.base_type, artifact.record.state),
            "uri": artifact.uri,
            "at its uri": [self._artifact(each.id) for each in self._store.artifacts_at(artifact.uri)],
            "properties": dict(artifact.properties),
            "metrics": dict(artifact.record.metrics),
            "producer": self._step(artifact.producer_step),
            "consumers": [self._step(each) for each in artifact.consumers],
            "lineage": [self._graph(walk) for walk in (artifact.upstream, artifact.downstream)],
            "why": (why.previous.name if why.previous else None, [name for name, _ in why.inputs]),
            "changes": [(each.step, each.kind, each.name) for each in why.changes],
        }

    def _graph(self, walk: Callable[..., Any]) -> list[Any]:
        graphs = [walk(), walk(**EVERYTHING), walk(max_hops=1), walk(reuse=False)]
        return [
            (
                sorted(map(self._artifact, graph.artifacts)),
                sorted(map(self._step_id, graph.steps)),
                {self._artifact(each): self._step_id(step) for each, step in graph.producers.items()},
                graph.complete,
            )
            for graph in graphs
        ]


EVERYTHING_IN = {"include_conditions": True}


@dialects
def test_each_writer_s_runs_are_as_in_a_database_of_their_own(
    mixed: Store, expected: dict[str, Any], dialect: str
) -> None:
    found = Facts(mixed, dialect).all()

    assert found["runs"]
    assert found.keys() == expected[dialect].keys()
    for what, facts in expected[dialect].items():
        assert found[what] == facts, what


def test_the_pipelines_and_runs_of_all_are_listed_together(mixed: Store, alone: dict[str, Path]) -> None:
    names: list[str] = []
    runs: list[tuple[str, str, str]] = []
    for dialect in DIALECTS:
        with open_store(alone[dialect]) as store:
            names += [each.name for each in store.pipelines]
            runs += [(each.pipeline, each.name, dialect) for each in reversed(list(store.runs))]

    assert [each.name for each in mixed.pipelines] == names
    assert [(each.pipeline, each.name, each.dialect) for each in reversed(list(mixed.runs))] == runs
    assert len(mixed.runs) == len(runs)
    assert mixed.list_runs(limit=3)[0].name == runs[-1][1]
    assert {run.dialect for run in mixed.list_runs("status = unknown")} == {"kfp_v1"}


# -- names that several writers use --------------------------------------------------------------


@pytest.fixture
def namesakes(tmp_path: Path) -> Iterator[Store]:
    """Runs `r` and `r2` of pipelines `p` and `q` of several writers, each with a step `train`."""
    path = tmp_path / "m.db"
    with open_store(path) as store:
        for name in ("r", "a", "b", "c", "d", "e", "f"):
            with store.record_run("p", name=name) as run, run.step("train", parameters={"by": "zen"}) as step:
                step.log_output("model", uri="mem://zen", type="Model")
    plain = metadata_store.MetadataStore(SqliteConfig(path=str(path)).connection_config())
    for name, pipeline in (("r", "p"), ("r2", "q")):
        kfp = KfpV2Run(plain, name, pipeline)
        kfp.task("train", kfp.root(), parameters={"by": "kfp_v2"}, made={"model": "system.Model"})
    ZenMLWriter(plain, "p", "0.13.2").step("r2", "train", "trainer", parameters={"by": "zenml"})
    kind = mlmd.ContextType(name="KfpRun", properties={"pipeline_name": mlmd.STRING, "run_id": mlmd.STRING})
    (context,) = plain.put_contexts([mlmd.Context(type_id=plain.put_context_type(kind), name="p-q8m2x")])
    component = plain.put_execution_type(mlmd.ExecutionType(name="components.train@sha256=ab"))
    execution = mlmd.Execution(type_id=component)
    execution.custom_properties["input:by"].string_value = "kfp_v1"
    plain.put_execution(execution, [], [plain.get_contexts_by_id([context])[0]])
    del plain
    with open_store(path) as store:
        yield store


def test_a_pipeline_has_the_runs_of_all_who_call_it_so(namesakes: Store) -> None:
    found = [(run.name, run.dialect, run["train"].parameters["by"]) for run in namesakes.pipelines["p"].runs]

    assert [each.name for each in namesakes.pipelines] == ["p", "q"]
    assert namesakes.pipelines["p"].id == next(iter(namesakes.pipelines)).id
    assert found == [
        ("p-q8m2x", "kfp_v1", "kfp_v1"),
        ("r2", "zenml", "zenml"),
        ("r", "kfp_v2", "kfp_v2"),
        *((name, "zen", "zen") for name in "fedcba"),
        ("r", "zen", "zen"),
    ]
    assert len(namesakes.pipelines["p"].runs) == 10
    (run,) = namesakes.list_runs("dialect = kfp_v2", pipeline="p")
    assert run["train"].parameters == {"by": "kfp_v2"}


def test_a_name_that_two_runs_have_is_told_apart_by_the_pipeline_or_the_id(namesakes: Store) -> None:
    assert "r2" in namesakes.runs
    with pytest.raises(UsageError) as caught:
        namesakes.get_run("r2")
    assert {"p/r2", "q/r2"} <= set(caught.value.hint.split())
    for pipeline, dialect in (("p", "zenml"), ("q", "kfp_v2")):
        assert namesakes.get(f"{pipeline}/r2/train").to_dict()["parameters"] == {"by": dialect}

    assert "r" in namesakes.pipelines["p"].runs
    with pytest.raises(UsageError) as caught:
        namesakes.get("p/r")
    for run in namesakes.list_runs("name = r"):
        assert f"the one of {run.dialect}: list_runs('id = {run.id}')" in caught.value.hint
        (found,) = namesakes.list_runs(f"id = {run.id}")
        assert found["train"].parameters == {"by": run.dialect}
        assert namesakes.get_step(found["train"].id).run == run
        assert found.refresh() == run


def test_why_looks_for_the_step_before_among_those_of_the_same_writer(namesakes: Store) -> None:
    found = {run.dialect: run for run in namesakes.list_runs("name = r")}

    assert found["kfp_v2"]["train"].output.why().previous is None
    assert found["zen"]["train"].output.why().previous is None
    previous = namesakes.get_run("b")["train"].output.why().previous
    assert previous is not None
    assert (previous.name, previous.dialect) == ("a", "zen")
