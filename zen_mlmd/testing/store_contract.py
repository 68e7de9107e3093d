"""What every flavor of metadata store keeps to, as tests that a subclass runs on its own."""

from __future__ import annotations

import multiprocessing
import pickle
import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any, ClassVar, Final

import pytest
from pydantic import SecretStr, ValidationError

from zen_mlmd.errors import ConfigError, NotFoundError, RunExistsError, UsageError
from zen_mlmd.flavors import FLAVORS, StoreConfig, load_flavor
from zen_mlmd.pipelines import pipeline, step
from zen_mlmd.store import Store, open_store
from zen_mlmd.transfer.prune import plan_prune, prune

CAPABILITIES: Final = frozenset({"mlmd_client", "prune", "sharing"})
"""What a flavor may lack.

`mlmd_client`: ml-metadata's own client opens what `connection_config` gives.
`prune`: runs can be deleted.
`sharing`: several processes, and several stores in one, see the same data.
"""

VALUES: Final[dict[str, Any]] = {
    "empty": "",
    "words": "grün, 'quoted', \"twice\", 100% \\ back\nslash \U0001f600",
    "long": "x" * 20_000,
    "whole": 2**31,
    "large": -(2**63),
    "huge": 2**80,
    "small": 1e-7,
    "tenth": 0.1,
    "vast": 1.7976931348623157e308,
    "yes": True,
    "nothing": None,
    "several": [1, 2.5, "three", None],
    "nested": {"depth": {"depth": [False]}},
}
"""Parameters and properties that a store gives back as they were, their types too."""

_CANARY = "canary-of-the-contract"
_MANY = 130
"""Artifacts: more than a page of any of MLMD's calls."""


class StoreContract:
    """All tests come with the class; a subclass gives the fixture `config`.

    Attributes:
        lacks: What the flavor does not do, of `CAPABILITIES`: those tests are skipped, by name. To claim
            so of a store that prunes is an error.
    """

    lacks: ClassVar[frozenset[str]] = frozenset()

    @pytest.fixture
    def config(self) -> StoreConfig:
        """Return the config of a new, empty store."""
        raise NotImplementedError("a subclass of StoreContract gives a fixture named config")

    @pytest.fixture
    def store(self, config: StoreConfig) -> Iterator[Store]:
        """Give the store, open."""
        with open_store(config, create=True) as opened:
            yield opened

    def need(self, capability: str) -> None:
        """Skip a test of what the flavor lacks."""
        if capability in self.lacks:
            pytest.skip(f"the flavor lacks: {capability}")

    # -- the config ------------------------------------------------------------------------------

    def test_it_lacks_only_what_there_is(self) -> None:
        assert self.lacks <= CAPABILITIES

    def test_the_class_is_a_flavor(self, config: StoreConfig) -> None:
        """It can be registered, and has a first line that `flavor list` shows."""
        kind = type(config)
        if FLAVORS.get(kind.flavor) is not kind:
            load_flavor(f"{kind.__module__}.{kind.__qualname__}")
        assert FLAVORS[kind.flavor] is kind
        assert kind.schemes
        assert (kind.__doc__ or "").strip()

    def test_the_config_is_frozen_and_strict(self, config: StoreConfig) -> None:
        with pytest.raises(ValidationError):
            config.wait_s = 1.0  # type: ignore[misc]
        with pytest.raises(ConfigError, match="nonsense"):
            type(config).checked(**_settings(config), nonsense=_CANARY)

    def test_faults_of_settings_do_not_repeat_them(self, config: StoreConfig) -> None:
        with pytest.raises(ConfigError) as caught:
            type(config).checked(**{**_settings(config), "wait_s": _CANARY})
        assert _CANARY not in f"{caught.value!r}{caught.value}{caught.value.__context__!r}"

    def test_secrets_are_not_shown(self, config: StoreConfig) -> None:
        """A password, token or key is a `SecretStr`, and stands in no text of the config."""
        secret = {key: SecretStr(_CANARY) for key, value in config if isinstance(value, SecretStr)}
        changed = config.model_copy(update=secret)
        assert _CANARY not in f"{changed!r}{changed}{changed.location}"

    def test_the_config_goes_to_other_processes(self, config: StoreConfig) -> None:
        assert pickle.loads(pickle.dumps(config)) == config

    def test_the_location_is_one_short_line(self, config: StoreConfig) -> None:
        assert config.location.isprintable()
        assert config.location

    # -- opening ---------------------------------------------------------------------------------

    def test_a_new_store_is_empty(self, store: Store) -> None:
        assert (list(store.pipelines), list(store.runs), list(store.artifacts)) == ([], [], [])
        with pytest.raises(NotFoundError):
            store.get_run("monday")
        with pytest.raises(NotFoundError):
            store.get_artifact(1)

    def test_a_closed_store_opens_again(self, config: StoreConfig, store: Store) -> None:
        self.need("sharing")
        _record(store, "monday")
        store.close()
        assert [run.name for run in store.runs] == ["monday"]
        with open_store(config) as other:
            assert [run.name for run in other.runs] == ["monday"]

    def test_two_stores_see_the_same(self, config: StoreConfig, store: Store) -> None:
        self.need("sharing")
        with open_store(config) as other:
            _record(store, "monday")
            assert other.get_run("monday").status == "completed"
            _record(other, "tuesday")
        assert [run.name for run in store.runs] == ["tuesday", "monday"]

    def test_another_process_records_beside_this_one(self, config: StoreConfig, store: Store) -> None:
        self.need("sharing")
        _record(store, "monday")
        process = multiprocessing.get_context("spawn").Process(target=_record_elsewhere, args=(config,))
        process.start()
        process.join()
        assert process.exitcode == 0
        assert {run.name for run in store.runs} == {"elsewhere", "monday"}

    def test_ml_metadata_opens_it_too(self, config: StoreConfig, store: Store) -> None:
        self.need("mlmd_client")
        from ml_metadata.metadata_store import metadata_store

        _record(store, "monday")
        client = metadata_store.MetadataStore(config.connection_config())
        assert [each.name for each in client.get_contexts_by_type("pipeline_run")] == ["monday"]

    # -- recording and reading -------------------------------------------------------------------

    def test_values_come_back_as_they_were(self, store: Store) -> None:
        given: dict[str, Any] = {"parameters": VALUES, "properties": VALUES}
        with store.record_run("churn", name="monday", **given) as run, run.step("train", **given) as made:
            made.log_output("model", uri="s3://bucket/model", properties=VALUES)
            made.log_metrics({"loss": 1e-7, "auc": 0.1})
        found = store.get_run("monday")
        train = found["train"]
        for mapping in (
            found.parameters,
            found.properties,
            train.parameters,
            train.properties,
            train.output.properties,
        ):
            assert _exactly(mapping) == _exactly(VALUES)
        assert dict(train.metrics) == {"loss": 1e-7, "auc": 0.1}

    def test_a_run_is_read_as_it_was_recorded(self, store: Store) -> None:
        _record(store, "monday")
        run = store.pipelines["churn"].latest_run
        assert (run.name, run.status, run.dialect) == ("monday", "completed", "zen")
        assert list(run.steps) == ["load", "train"]
        train = run["train"]
        assert [each.uri for each in train.inputs.values()] == ["s3://bucket/monday/rows"]
        model = train.outputs["model"]
        assert (model.type, model.uri) == ("Model", "s3://bucket/monday/model")
        assert store.get("churn/monday/train/model") == store.get_artifact(model.id) == model
        assert model.producer_step == train
        assert train.started_at is not None
        assert train.ended_at is not None
        assert train.started_at <= train.ended_at

    def test_a_failure_is_recorded_and_goes_on(self, store: Store) -> None:
        begun = store.record_run("churn", name="monday")
        with pytest.raises(ZeroDivisionError), begun as run, run.step("train"):
            _ = 1 / 0
        found = store.get_run("monday")
        assert (found.status, found["train"].status) == ("failed", "failed")
        failure = found["train"].failure
        assert failure is not None
        assert failure.type == "ZeroDivisionError"

    def test_a_runs_name_is_taken_once(self, store: Store) -> None:
        _record(store, "monday")
        with pytest.raises(RunExistsError):
            store.record_run("churn", name="monday")
        _record(store, "Monday")
        assert [run.name for run in store.runs] == ["Monday", "monday"]

    def test_names_of_any_letters(self, store: Store) -> None:
        name = "grün 'it''s' 100% \\ \U0001f600"
        with store.record_run(name, name=name) as run, run.step(name) as made:
            made.log_output(name, uri="s3://bucket/ü")
        found = store.pipelines[name].latest_run
        assert (found.name, list(found[name].outputs)) == (name, [name])

    def test_one_artifact_in_two_inputs(self, store: Store) -> None:
        rows = store.import_artifact("s3://bucket/rows", type="Dataset")
        begun = store.record_run("churn", name="monday")
        with begun as run, run.step("train", inputs={"left": rows, "right": rows}):
            pass
        assert sorted(store.get_run("monday")["train"].inputs) == ["left", "right"]
        assert store.import_artifact("s3://bucket/rows", type="Dataset") == rows

    def test_filters(self, store: Store) -> None:
        for depth in (1, 2, 3):
            with store.record_run("churn", name=f"r{depth}", parameters={"depth": depth}):
                pass
        found = store.list_runs("parameters.depth >= 2 and status = completed")
        assert [run.name for run in found] == ["r3", "r2"]

    def test_more_than_a_page(self, store: Store) -> None:
        with store.record_run("churn", name="monday") as run, run.step("split") as made:
            for number in range(_MANY):
                made.log_output(f"part{number}", uri=f"s3://bucket/{number}")
        assert len(store.get_run("monday")["split"].outputs) == _MANY
        assert len({artifact.id for artifact in store.artifacts}) == _MANY

    def test_lineage_goes_to_the_end(self, store: Store) -> None:
        with store.record_run("chain", name="monday") as run:
            last = None
            for number in range(12):
                with run.step(f"s{number}", inputs={"x": last} if last else {}) as made:
                    last = made.log_output("x", uri=f"s3://bucket/{number}")
        found = store.get_artifact("chain/monday/s11/x").upstream()
        assert (found.complete, len(found.artifacts)) == (True, 12)
        assert len(store.get_artifact("chain/monday/s0/x").downstream().artifacts) == 12

    def test_threads_record_at_once(self, store: Store) -> None:
        faults: list[BaseException] = []

        def work(number: int) -> None:
            try:
                for again in range(3):
                    _record(store, f"run-{number}-{again}")
            except BaseException as fault:
                faults.append(fault)

        threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert faults == []
        runs = list(store.runs)
        assert len(runs) == 12
        assert all(run["train"].status == "completed" for run in runs)

    def test_unchanged_steps_are_cached(self, store: Store, tmp_path: Path) -> None:
        churn = _pipeline().options(store=store, artifacts=tmp_path / "artifacts")
        assert [churn()["double"].is_cached, churn()["double"].is_cached] == [False, True]
        assert store.pipelines["doubling"].latest_run["double"].output.read() == 2

    def test_prune_deletes(self, store: Store) -> None:
        _record(store, "monday")
        plan = plan_prune(store, older_than=timedelta(0))
        if "prune" in self.lacks:
            with pytest.raises(UsageError):
                prune(store, plan)
            self.need("prune")
        assert prune(store, plan)["executions"] == 2
        assert list(store.runs) == []


def _settings(config: StoreConfig) -> dict[str, Any]:
    return {name: getattr(config, name) for name in config.model_fields_set}


def _record(store: Store, name: str) -> None:
    with store.record_run("churn", name=name) as run:
        with run.step("load") as made:
            rows = made.log_output("rows", uri=f"s3://bucket/{name}/rows", type="Dataset")
        with run.step("train", inputs={"rows": rows}) as made:
            made.log_output("model", uri=f"s3://bucket/{name}/model", type="Model")


def _record_elsewhere(config: StoreConfig) -> None:
    with open_store(config) as store:
        _record(store, "elsewhere")


def _exactly(values: Any) -> dict[str, tuple[type, str]]:
    """Return values so that 1, 1.0 and True differ."""
    return {key: (type(value), repr(value)) for key, value in values.items()}


def _pipeline() -> Any:
    @step
    def one() -> int:
        return 1

    @step
    def double(number: int) -> int:
        return 2 * number

    @pipeline
    def doubling() -> None:
        double(one())

    return doubling
