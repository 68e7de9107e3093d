"""Reading all steps, inputs, outputs and producers of 200 runs of 3 steps: calls counted, and time.

Read twice: as zen_mlmd records such runs, and as ZenML 0.13.2 recorded them (on a copy of its database
that is migrated to the present schema).
"""

from __future__ import annotations

import shutil
import tempfile
from collections import Counter
from pathlib import Path
from statistics import median
from typing import Any

import zen_mlmd as zm
from benchmarks.table import print_table, timed, verdict
from zen_mlmd.flavors import SqliteConfig
from zen_mlmd.service.base import MetadataService
from zen_mlmd.service.client import Client

RUNS = 200
TARGET = 30
ZENML_DATABASE = Path(__file__).parents[1] / "tests" / "data" / "zenml_0132_bench_200.db"
ZENML_STEP_CALLS, ZENML_CALLS = 2_200, 19_800
"""Calls of ZenML 0.13.2's own client for the steps, and for inputs and outputs, of 200 runs of 3 steps."""


class CountingService(MetadataService):
    """Counts the calls that reach a service."""

    def __init__(self, service: MetadataService) -> None:
        self.service = service
        self.location = service.location
        self.calls: Counter[str] = Counter()

    def call(self, method: str, request: Any) -> Any:
        """Count and pass on."""
        self.calls[method] += 1
        return self.service.call(method, request)

    def close(self) -> None:
        """Close the service."""
        self.service.close()


def run(*, quick: bool = False) -> None:
    """Measure, and print the table."""
    rounds = 1 if quick else 5
    with tempfile.TemporaryDirectory() as name:
        ours, zenml = Path(name) / "ours.db", Path(name) / "zenml.db"
        _record(ours)
        shutil.copy(ZENML_DATABASE, zenml)
        rows = [
            _row("zen_mlmd", ours, rounds, upgrade=False),
            _row("ZenML 0.13.2", zenml, rounds, upgrade=True),
        ]
    print_table(
        f"reading: {RUNS} runs of 3 steps, with inputs, outputs and their producers",
        ["written by", "calls", "target", "fewer than ZenML", "ms", "steps", "artifact reads", "the calls"],
        rows,
        f"ZenML 0.13.2's own client: {ZENML_STEP_CALLS:,} calls for the steps and {ZENML_CALLS:,} for inputs "
        "and outputs.\nA run that ZenML wrote costs a call, its steps nothing: ZenML did not write on its "
        "executions which run they\nare of, as zen_mlmd does, and MLMD tells it only one run at a time.",
    )


def _record(file: Path) -> None:
    """Record runs shaped like those in ZenML's database: the importer cached from the second run on."""
    with zm.open_store(file) as store:
        made: dict[str, Any] = {}
        for number in range(RUNS):
            with store.record_run("train_pipeline", name=f"run_{number:04}") as run:
                if made:
                    run.reuse_step("importer", outputs=made)
                else:
                    with run.step("importer") as step:
                        made = {
                            key: step.log_output(key, uri=f"/data/{key}", type="Examples") for key in "Xy"
                        }
                parameters = {"lr": 0.1 + number, "epochs": 3}
                with run.step("trainer", inputs=made, parameters=parameters) as step:
                    model = step.log_output("output", uri=f"/models/{number}", type="Model")
                with run.step("evaluator", inputs={**made, "model": model}) as step:
                    step.log_output("output", uri=f"/scores/{number}", type="Metrics")


def _row(name: str, file: Path, rounds: int, *, upgrade: bool) -> list[object]:
    times = []
    for _ in range(rounds):
        config = SqliteConfig(path=str(file))
        service = CountingService(config.open_service(upgrade=upgrade))
        store = zm.Store(config, Client(service))
        seen: Counter[str] = Counter()
        times.append(timed(lambda store=store, seen=seen: _read(store, seen)))
        store.close()
        if (seen["runs"], seen["steps"]) != (RUNS, 3 * RUNS) or seen["producers"] != seen["artifacts"]:
            raise SystemExit(f"{name}: not all was read: {dict(seen)}")
    calls = service.calls.total()
    return [
        name,
        calls,
        verdict(calls, TARGET) if name == "zen_mlmd" else "a call a run",
        f"{(ZENML_STEP_CALLS + ZENML_CALLS) / calls:.0f} x",
        f"{median(times) * 1e3:.0f}",
        seen["steps"],
        seen["artifacts"],
        ", ".join(f"{method[3:]} {count}" for method, count in service.calls.most_common(4)),
    ]


def _read(store: zm.Store, seen: Counter[str]) -> None:
    for run in store.pipelines["train_pipeline"].runs:
        seen["runs"] += 1
        for step in run.steps.values():
            seen["steps"] += 1
            for slots in (step.inputs, step.outputs):
                for artifact in slots.values():
                    producer = artifact.producer_step
                    seen["artifacts"] += 1
                    seen["producers"] += bool(artifact.uri and producer is not None and producer.name)
