"""Recording a step, against the least sequence of raw `ml_metadata` calls that stores the same rows.

Both sides write what is known when a step begins (RUNNING, its input, parameters and properties) and
what is known when it ends (its state, its outputs), so that is two `put_execution` calls for the raw
side too; contexts are named and reused, which is the cheaper way (with ids and `force_reuse_context`
MLMD reads each whole context). The raw side makes its values from the same Python values, by plain
`json.dumps`, and checks, locks and retries nothing.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

from ml_metadata import MetadataStore
from ml_metadata.proto import metadata_store_pb2 as mlmd

import zen_mlmd as zm
from benchmarks.table import in_turn, print_table, ratio, verdict

TARGET = 1.3
PARAMETERS = {"lr": 0.1, "epochs": 3}
PROPERTIES = {"team": "vision", "fold": 4}
TABLES = (
    *("Artifact", "ArtifactProperty", "Execution", "ExecutionProperty", "Context", "ContextProperty"),
    *("Event", "EventPath", "Association", "Attribution", "ParentContext", "Type"),
)


class Ours:
    """Steps through zen_mlmd's recorder."""

    def __init__(self, config: Any) -> None:
        self.store = zm.open_store(config)
        self.source = self.store.import_artifact("s3://bucket/rows", type="Examples")
        self.run = self.store.record_run("churn", name="run-1")
        self.step()

    def step(self) -> None:
        """Record a step."""
        with self.run.step(
            "train", inputs={"rows": self.source}, parameters=PARAMETERS, properties=PROPERTIES
        ) as step:
            step.log_output("model", uri="s3://bucket/model", type="Model", properties={"auc": 0.5})
            step.log_output("report", uri="s3://bucket/report")


class Raw:
    """The same steps through `ml_metadata` itself."""

    def __init__(self, config: Any) -> None:
        ours = Ours(config)
        client = ours.store.loader.client
        (step,) = client.executions([1]).values()
        outputs = [event.artifact_id for event in client.events_of_executions([1]) if event.type == _OUTPUT]
        self.step_type = step.type_id
        self.output_types = [node.type_id for _, node in sorted(client.artifacts(outputs).items())]
        self.contexts = [(each.type_id, each.name) for each in client.contexts_of_execution(1)]
        self.source = ours.source.id
        connection = ours.store.connection_config()
        ours.store.close()
        self.store = MetadataStore(connection)

    def step(self) -> None:
        """Record a step."""
        execution = mlmd.Execution(
            type_id=self.step_type, name=str(uuid.uuid4()), last_known_state=mlmd.Execution.RUNNING
        )
        kept = execution.custom_properties
        about = {"run": "run-1", "name": "train", "started_at": round(time.time() * 1000)}
        kept["zen_mlmd.step"].string_value = json.dumps(about)
        kept["zen_mlmd.parameters"].string_value = json.dumps(PARAMETERS)
        kept["team"].string_value = PROPERTIES["team"]
        kept["fold"].int_value = PROPERTIES["fold"]
        contexts = [mlmd.Context(type_id=kind, name=name) for kind, name in self.contexts]
        taken = mlmd.Event(artifact_id=self.source, type=mlmd.Event.INPUT, path=_path("rows"))
        execution.id, _, _ = self.store.put_execution(
            execution, [(None, taken)], contexts, reuse_context_if_already_exist=True
        )
        execution.last_known_state = mlmd.Execution.COMPLETE
        kept["zen_mlmd.end"].string_value = json.dumps({"ended_at": round(time.time() * 1000)})
        model = mlmd.Artifact(type_id=self.output_types[0], uri="s3://bucket/model", state=mlmd.Artifact.LIVE)
        model.external_id = f"zen_mlmd.{execution.name}"
        model.custom_properties["auc"].double_value = 0.5
        report = mlmd.Artifact(
            type_id=self.output_types[1], uri="s3://bucket/report", state=mlmd.Artifact.LIVE
        )
        made = [
            (model, mlmd.Event(type=_OUTPUT, path=_path("model"))),
            (report, mlmd.Event(type=_OUTPUT, path=_path("report"))),
        ]
        self.store.put_execution(execution, made, contexts, reuse_context_if_already_exist=True)


def run(*, quick: bool = False) -> None:
    """Measure on SQLite and MariaDB, and print the table."""
    steps = 200 if quick else 2000
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        rows.append(_row("SQLite file", _sqlite(Path(folder), steps), TARGET))
    if Path("/dev/shm").is_dir():
        with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
            rows.append(_row("SQLite file in RAM", _sqlite(Path(folder), steps), None))
    rows.append(_mariadb(steps // 2))
    print_table(
        "recording: a step with 1 input, 2 outputs, 2 parameters, 2 properties",
        ["on", "ours / raw", "target", "ours ms", "raw ms", "overhead us", "steps", "rows equal"],
        rows,
        "raw: two ml_metadata.MetadataStore.put_execution calls. Medians of single steps, in turn in one "
        "process. In RAM no disk is waited for: there Python weighs most.",
    )


def _sqlite(folder: Path, steps: int) -> tuple[list[list[float]], int]:
    files = [folder / "ours.db", folder / "raw.db"]
    times = _measure(str(files[0]), str(files[1]), steps)
    return times, _same(*(_counts_in_file(each) for each in files))


def _mariadb(steps: int) -> list[object]:
    from tests.services.mariadb import MariaDb

    server = MariaDb()
    cpus = sorted(os.sched_getaffinity(0))
    try:
        # On one CPU: a server's thread on another one takes two or three times as long to wake, and the
        # two sides would differ by where the system happened to put their connections.
        os.sched_setaffinity(0, cpus[:1])
        server.start()
        names = [server.new_database(), server.new_database()]
        times = _measure(*(server.url(name) for name in names), steps)
        counts = (
            {table: server.sql(f"SELECT COUNT(*) FROM {name}.{table}")[0][0] for table in TABLES}
            for name in names
        )
        version = server.sql("SELECT VERSION()")[0][0].split("-")[0]
        return _row(f"MariaDB {version}", (times, _same(*counts)), TARGET)
    except FileNotFoundError as error:
        return ["MariaDB", "not measured", str(error).split(".")[0], "", "", "", "", ""]
    finally:
        os.sched_setaffinity(0, cpus)
        server.remove()


def _measure(ours_at: str, raw_at: str, steps: int) -> list[list[float]]:
    ours, raw = Ours(ours_at), Raw(raw_at)
    for _ in range(20):
        ours.step()
        raw.step()
    times = in_turn(steps, ours.step, raw.step)
    ours.store.close()
    return times


def _row(name: str, measured: tuple[list[list[float]], int], target: float | None) -> list[object]:
    (ours, raw), equal = measured
    return [
        name,
        f"{ratio(ours, raw):.2f}",
        "" if target is None else verdict(ratio(ours, raw), target),
        f"{median(ours) * 1e3:.2f}",
        f"{median(raw) * 1e3:.2f}",
        f"{(median(ours) - median(raw)) * 1e6:.0f}",
        len(ours),
        f"yes, {equal}",
    ]


def _same(ours: dict[str, int], raw: dict[str, int]) -> int:
    if ours != raw:
        raise SystemExit(f"the two sides stored different rows: {ours} and {raw}")
    return sum(ours.values())


def _counts_in_file(file: Path) -> dict[str, int]:
    """Count in another process: Python's SQLite never opens a file that MLMD's has open."""
    program = (
        "import sqlite3, sys, json; c = sqlite3.connect(sys.argv[1]);"
        "print(json.dumps({t: c.execute(f'SELECT COUNT(*) FROM {t}').fetchone()[0] for t in sys.argv[2:]}))"
    )
    answer = subprocess.run(
        [sys.executable, "-c", program, str(file), *TABLES], check=True, capture_output=True, text=True
    )
    return json.loads(answer.stdout)


def _path(key: str) -> mlmd.Event.Path:
    step: Callable[..., Any] = mlmd.Event.Path.Step
    return mlmd.Event.Path(steps=[step(key=key), step(index=0)])


_OUTPUT = mlmd.Event.OUTPUT
