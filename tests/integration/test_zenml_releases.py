"""Runs as ZenML's releases from 0.5.0 to 0.13.2 wrote them, all of them the same runs.

The databases that ZenML 0.6.3 and 0.13.2 themselves wrote are read in test_zenml_facts.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ml_metadata import metadata_store

from tests.writers.zenml import RELEASES, Release, ZenMLWriter
from zen_mlmd import SqliteConfig, Status, Store, open_store
from zen_mlmd.errors import NotFoundError

PARAMETERS = {"lr": 0.1, "epochs": 3, "fast": True, "text": "héllo", "none": None, "layers": [8, {"a": 4}]}


class Written:
    """A store with two runs of `train` and one of `other`, written by one release."""

    def __init__(self, path: Path, release: Release) -> None:
        plain = metadata_store.MetadataStore(SqliteConfig(path=str(path)).connection_config())
        self.release = release
        self.path = path
        # Before 0.5.4 nothing tells what the pipeline calls a step.
        self.named = RELEASES.index(release) >= RELEASES.index("0.5.7")
        train, other = ZenMLWriter(plain, "train", release), ZenMLWriter(plain, "other", release)
        self.load, made = train.step("r1", "load", "csv_loader", outputs={"rows": "DataArtifact"})
        self.rows = made["rows"]
        taken = {self.rows: ("a", "b")}
        self.fit, made = train.step(
            "r1", "fit", "fitter", parameters=PARAMETERS, inputs=taken, outputs={"model": "ModelArtifact"}
        )
        self.model = made["model"]
        other.step("o1", "load", "csv_loader", outputs={"rows": "DataArtifact"})
        self.again, _ = train.step("r2", "load", "csv_loader", outputs={"rows": self.rows}, state="cached")
        self.failed, _ = train.step(
            "r2", "fit", "fitter", parameters={**PARAMETERS, "lr": 1}, inputs=taken, state="failed"
        )
        train.step(
            "r3", "fit", "fitter", parameters={"lr": 2}, inputs=taken, outputs={"model": "ModelArtifact"}
        )

    def name(self, name: str, function: str) -> str:
        return name if self.named else function


@pytest.fixture(scope="module", params=RELEASES)
def written(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Written:
    return Written(tmp_path_factory.mktemp("zenml") / "m.db", request.param)


@pytest.fixture(scope="module", params=["native", "sql"])
def store(request: pytest.FixtureRequest, written: Written) -> Iterator[Store]:
    with open_store(f"sqlite:///{written.path}?service={request.param}") as opened:
        yield opened


def test_pipelines_and_runs(store: Store) -> None:
    assert [each.name for each in store.pipelines] == ["train", "other"]
    assert [(run.name, run.pipeline, str(run.status), run.dialect) for run in store.runs] == [
        ("r3", "train", "completed", "zenml"),
        ("r2", "train", "failed", "zenml"),
        ("o1", "other", "completed", "zenml"),
        ("r1", "train", "completed", "zenml"),
    ]
    assert store.pipelines["train"].run_names == ["r3", "r2", "r1"]
    assert [run.name for run in store.list_runs("dialect = zenml and status = failed")] == ["r2"]


def test_steps_are_named_as_in_their_pipeline_where_that_was_noted(written: Written, store: Store) -> None:
    load, fit = written.name("load", "csv_loader"), written.name("fit", "fitter")
    run = store.get_run("r1")

    assert run.step_names == [load, fit]
    assert [each.id for each in run.step_runs] == [written.load, written.fit]
    assert (store.get_step(written.fit).name, store.get_step(written.fit).run) == (fit, run)
    assert [each.entrypoint_name for each in run.step_runs] == ["csv_loader", "fitter"]
    with pytest.raises(NotFoundError):
        _ = run["csv_loader" if written.named else "load"]


def test_parameters_are_what_was_given_without_what_zenml_noted(written: Written, store: Store) -> None:
    found: dict[str, Any] = dict(store.get_step(written.fit).parameters)

    assert found == PARAMETERS
    assert {key: type(value) for key, value in found.items()} == {
        key: type(value) for key, value in PARAMETERS.items()
    }
    assert store.get_step(written.load).parameters == {}
    code = "" if written.release == "0.5.0" else "source-of-fit"
    assert store.get_step(written.fit).record.code == code


def test_inputs_outputs_and_parents(written: Written, store: Store) -> None:
    first, second = store.get_run("r1"), store.get_run("r2")
    fit, failed = store.get_step(written.fit), store.get_step(written.failed)

    assert {name: each.id for name, each in fit.inputs.items()} == {"a": written.rows, "b": written.rows}
    assert {name: each.id for name, each in fit.outputs.items()} == {"model": written.model}
    assert [each.id for each in fit.parents] == [written.load]
    assert [each.id for each in failed.parents] == [written.again]
    assert (failed.status, dict(failed.outputs)) == (Status.FAILED, {})
    assert [str(each.status) for each in second.step_runs] == ["cached", "failed"]
    assert second.step_runs[0].cached_from == first.step_runs[0]
    rows = store.get_artifact(written.rows)
    assert rows.producer_step == first.step_runs[0]
    assert (rows.type, rows.data_type) == ("DataArtifact", "builtins.dict")
    assert rows.record.materializer == f"zenml.materializers.Any@zenml_{written.release}"
    model = store.get_artifact(written.model)
    assert model.upstream().artifacts.keys() == {written.rows, written.model}


def test_why_compares_with_the_last_run_of_the_same_step(written: Written, store: Store) -> None:
    """Its `node` context is named by the step's class; in another pipeline a step has the same name."""
    why = store.get_run("r3").step_runs[0].output.why()

    assert (why.previous.name if why.previous else None) == "r1"
    assert "with lr = 2 (0.1 in the run before)" in str(why)
