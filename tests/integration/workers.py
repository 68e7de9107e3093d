"""Processes that record, for the tests that make them race, kill them, and take the store away from them.

python -m tests.integration.workers JOB '{"url": "sqlite:///x.db", ...}'

does one of the jobs below and prints what came of it as one line of JSON. `Crew` starts such a process.
"""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from typing_extensions import Self

from tests.services import start_child
from zen_mlmd import Store, errors, open_store
from zen_mlmd.model import Status
from zen_mlmd.reading.runs import PipelineRunView
from zen_mlmd.recording.recorder import RunRecorder

ROOT = Path(__file__).resolve().parents[2]
PIPELINE = "churn"
STEPS: Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "load": ((), ("rows",)),
    "train": (("rows",), ("model", "report")),
    "test": (("model", "rows"), ("score",)),
}
"""What each step of a run takes and makes."""

EVENTS_OF_A_RUN = sum(len(takes) + len(makes) for takes, makes in STEPS.values())
ARTIFACTS_OF_A_RUN = sum(len(makes) for _, makes in STEPS.values())
TYPES = {
    "context": {"pipeline", "pipeline_run", "node", "execution_cache"},
    "execution": {f"test.{step}" for step in STEPS},
    "artifact": {f"Test{name}" for _, makes in STEPS.values() for name in makes},
}
"""Names of the types that recording a run registers."""

Note = Callable[..., None]


# -- for tests -----------------------------------------------------------------------------------


class Worker:
    """A process that does a job.

    Attributes:
        process: The process.
        name: What tells it from the others.
    """

    def __init__(
        self, name: str, job: str, arguments: Mapping[str, Any], said: Path, within: Sequence[str] = ()
    ) -> None:
        self.name = name
        self._said = said
        command = [*within, sys.executable, "-m", __name__, job, json.dumps(arguments)]
        with said.open("wb") as stderr:
            self.process = start_child(command, stdout=subprocess.PIPE, stderr=stderr, cwd=ROOT)

    def result(self, *, timeout_s: float = 120) -> Any:
        """Wait for the job's end and return its result; it must have ended well, and shown no error."""
        printed, _ = self.process.communicate(timeout=timeout_s)
        assert (self.process.returncode, self.said) == (0, ""), self.said
        return json.loads(printed)

    def kill(self) -> None:
        """End the process as a crash does; it must have been alive."""
        self.process.kill()
        self.process.communicate()
        assert self.process.returncode == -signal.SIGKILL, self.said

    @property
    def said(self) -> str:
        """What the process wrote on stderr."""
        return self._said.read_text(errors="replace")


class Crew:
    """Starts workers; those that are left at the end of its `with` block are killed.

    Attributes:
        within: What each worker's command begins with, as `ip netns exec` does.
    """

    def __init__(self, directory: Path) -> None:
        self.within: Sequence[str] = ()
        self._directory = directory
        self._workers: list[Worker] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        left = [worker.process for worker in self._workers if worker.process.returncode is None]
        for process in left:
            process.kill()
        for process in left:
            process.communicate()

    def start(self, job: str, **arguments: Any) -> Worker:
        """Start a worker; for the jobs and their arguments see the functions of this module."""
        name = f"{job}-{len(self._workers)}"
        worker = Worker(name, job, arguments, self._directory / f"{name}.stderr", self.within)
        self._workers.append(worker)
        return worker

    def sqlite_counts(self, path: Path) -> dict[str, Any]:
        """Return `integrity` and the rows of each table, as another process reads them with `sqlite3`."""
        counts: dict[str, Any] = self.start("count_sqlite", path=str(path)).result()
        return counts


class Gate:
    """Where workers wait until all are there."""

    def __init__(self, directory: Path, name: str = "gate") -> None:
        self.directory = directory / name
        self.directory.mkdir()

    def __str__(self) -> str:
        return str(self.directory)

    def open(self, workers: Sequence[Worker], *, timeout_s: float = 60) -> None:
        """Let the workers go, as soon as all have come."""

        def come() -> bool:
            for each in workers:
                assert each.process.poll() is None, each.said
            return len(list(self.directory.glob("*.ready"))) >= len(workers)

        wait(come, timeout_s)
        (self.directory / "go").touch()


def acknowledged(file: Path) -> list[dict[str, Any]]:
    """Return what workers noted in a file; a line that a kill cut off does not count."""
    text = file.read_text() if file.exists() else ""
    return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]


def expected_rows(runs: int) -> dict[str, int]:
    """Return how many rows the tables have that hold nothing but so many runs."""
    artifacts = runs * ARTIFACTS_OF_A_RUN
    return {
        "Artifact": artifacts,
        "Execution": runs * len(STEPS),
        "Event": runs * EVENTS_OF_A_RUN,
        "Context": 1 + len(STEPS) + runs,
        "ParentContext": runs,
        "Association": runs * len(STEPS) * 3,
        # An artifact is put into the contexts of each step that it met: run, pipeline, and the steps' nodes.
        "Attribution": artifacts * 2 + runs * EVENTS_OF_A_RUN,
        "MLMDEnv": 1,
    }


def check_types(store: Store) -> None:
    """Assert that all types of a recorded run are there, and each once."""
    client = store.loader.client
    for kind, names in TYPES.items():
        assert names <= set(client.type_names(kind))
        known = list(client._load_types(kind).values())
        assert len({each.name for each in known}) == len(known)


def check_run(run: PipelineRunView) -> None:
    """Assert that a run is there whole, with nothing in it that is not its own."""
    assert run.status is Status.COMPLETED
    assert run.parameters == {"run": run.name, "rate": 1e-7}
    assert [step.name for step in run.step_runs] == list(STEPS)
    for step in run.step_runs:
        takes, makes = STEPS[step.name]
        assert step.status is Status.COMPLETED
        assert step.parameters == {"step": f"{run.name}.{step.name}", "depth": 3}
        assert step.properties == {"host": run.name}
        assert step.metrics == {"loss": 1 / 3}
        assert {name: found.uri for name, found in step.inputs.items()} == {
            name: uri(run.name, name) for name in takes
        }
        assert {name: found.uri for name, found in step.outputs.items()} == {
            name: uri(run.name, name) for name in makes
        }


def check_steps(url: str, run_name: str, steps: int) -> None:
    """Assert that exactly the steps of `record_steps` are there, each once, with its input and output."""
    with open_store(url) as store:
        run = store.get_run(run_name)
        assert run.status is Status.COMPLETED
        assert [each.name for each in store.pipelines] == [PIPELINE]
        assert [each.name for each in store.runs] == [run_name]
        assert [step.name for step in run.step_runs] == [f"s{number}" for number in range(steps)]
        for number, step in enumerate(run.step_runs):
            assert step.status is Status.COMPLETED
            assert step.parameters == {"n": number}
            assert step.metrics == {"loss": 1 / (number + 1)}
            assert [each.uri for each in step.outputs.lists["data"]] == [uri(run_name, f"s{number}")]
            before = [uri(run_name, f"s{number - 1}")] if number else []
            assert [each.uri for each in step.inputs.lists.get("before", [])] == before
        assert len(list(store.artifacts)) == steps


def uri(run: str, output: str) -> str:
    """Return where an output of a run would be."""
    return f"mem://{run}/{output}"


def wait(done: Callable[[], bool], timeout_s: float = 60) -> None:
    """Wait until something is so."""
    deadline = time.monotonic() + timeout_s
    while not done():
        if time.monotonic() > deadline:
            raise TimeoutError
        time.sleep(0.002)


# -- in the process ------------------------------------------------------------------------------


def record(store: Store, name: str, note: Note = lambda **_: None, *, pipeline: str = PIPELINE) -> None:
    """Record one run of three steps, noting what is surely in the store."""
    made: dict[str, Any] = {}
    with store.record_run(pipeline, name=name, parameters={"run": name, "rate": 1e-7}) as run:
        for step, (takes, makes) in STEPS.items():
            with run.step(
                step,
                type=f"test.{step}",
                inputs={each: made[each] for each in takes},
                parameters={"step": f"{name}.{step}"},
                properties={"host": name},
            ) as recorded:
                for each in makes:
                    made[each] = recorded.log_output(each, uri=uri(name, each), type=f"Test{each}")
                recorded.log_parameters({"depth": 3})
                recorded.log_metrics({"loss": 1 / 3})
            note(run=name, step=step)
        note(run=name, ending=True)
    note(run=name, ended=True)


def record_runs(
    *, url: str, worker: str, runs: int, gate: str = "", late: bool = False, acks: str = ""
) -> list[tuple[float, float]]:
    """Record runs one after another; return when each began and ended.

    Args:
        url: The store's.
        worker: What the runs' names begin with.
        runs: How many.
        gate: Where to wait for the others.
        late: Wait before the store is opened, not after.
        acks: A file to note in.
    """
    note = _noter(acks) if acks else lambda **_: None
    if late:
        _pass(gate, worker)
    with open_store(url) as store:
        if gate and not late:
            _pass(gate, worker)
        times = []
        for number in range(runs):
            began = time.monotonic()
            record(store, f"{worker}-{number}", note)
            times.append((began, time.monotonic()))
    return times


def record_in_threads(*, url: str, threads: int, runs: int) -> int:
    """Record runs in several threads through one store; return how many errors there were."""
    failures: list[BaseException] = []

    def work(number: int) -> None:
        try:
            for each in range(runs):
                record(store, f"t{number}-{each}")
        except BaseException as error:
            failures.append(error)

    with open_store(url) as store:
        _join([threading.Thread(target=work, args=(number,)) for number in range(threads)])
    for error in failures:
        raise error
    return len(failures)


def add_to_run(*, url: str, run: str, worker: str, steps: int, gate: str) -> int:
    """Add steps, properties, parameters and metrics to a run that was begun elsewhere."""
    with open_store(url) as store:
        joined = store.join_run(run)
        _pass(gate, worker)
        for number in range(steps):
            name = f"{worker}-{number}"
            with joined.step(name, parameters={"number": number}) as step:
                step.log_output("data", uri=uri(run, name))
            joined.log_properties({f"note.{name}": number})
            joined.log_parameters({f"p.{name}": number})
            joined.log_metrics({f"m.{name}": number / 3})
    return steps


def record_steps(
    *,
    url: str,
    run: str,
    steps: int,
    acks: str,
    gates: Mapping[str, str] | None = None,
    patience_s: float = 0,
) -> dict[str, Any]:
    """Record one run of many steps, each taking what the one before it made.

    Args:
        url: The store's.
        run: The run's name.
        steps: How many.
        acks: A file to note in.
        gates: Before which steps to wait, and at which gate.
        patience_s: How long to try again what failed because the store was away.

    Returns:
        `failures`: the code of each of our errors that came of the store's absence, and the seconds
        that the call took.
    """
    note, failures = _noter(acks), list[tuple[str, float]]()

    def stubborn(work: Callable[[], Any]) -> Any:
        deadline = time.monotonic() + patience_s
        while True:
            began = time.monotonic()
            try:
                return work()
            except errors.ConnectionFailedError as error:
                failures.append((error.code, time.monotonic() - began))
                if time.monotonic() > deadline:
                    raise

    with open_store(url) as store:
        recorder = stubborn(lambda: store.record_run(PIPELINE, name=run))
        made: list[Any] = []
        for number in range(steps):
            if gates and str(number) in gates:
                _pass(gates[str(number)], run)
            made = [stubborn(lambda: _record_step(recorder, number, made))]  # noqa: B023 - called at once
            note(run=run, step=number)
        stubborn(recorder.end)
        note(run=run, ended=True)
    return {"failures": failures}


def _record_step(recorder: RunRecorder, number: int, inputs: list[Any]) -> Any:
    name = f"s{number}"
    with recorder.step(name, inputs={"before": inputs} if inputs else {}, parameters={"n": number}) as step:
        step.log_metrics({"loss": 1 / (number + 1)})
        return step.log_output("data", uri=uri(recorder.name, name))


def fork(*, url: str, children: int, runs: int, how: str) -> list[int]:
    """Fork with the store open; all record at the same time; return the children's return codes.

    Args:
        url: The store's.
        children: How many.
        runs: Of each process.
        how: `exit` ends the children as Python ends, `_exit` as multiprocessing does; `close` closes
            the parent's store while the children record.
    """
    store = open_store(url)
    record(store, "before")
    pids = []
    for number in range(children):
        pid = os.fork()
        if not pid:
            _be_child(store, number, runs, how)
        pids.append(pid)
    if how == "close":
        store.close()
        time.sleep(0.3)
    codes = []
    for each in range(runs):
        record(store, f"parent-{each}")
    for pid in pids:
        _, status = os.waitpid(pid, 0)
        codes.append(os.waitstatus_to_exitcode(status))
    record(store, "after")
    store.close()
    return codes


def _be_child(store: Store, number: int, runs: int, how: str) -> None:
    try:
        for each in range(runs):
            record(store, f"child{number}-{each}")
    except BaseException:
        import traceback

        traceback.print_exc()
        os._exit(1)
    if how == "exit":
        sys.exit(0)
    store.close()
    os._exit(0)


def count_sqlite(*, path: str) -> dict[str, Any]:
    """Return the integrity and the rows of each table of a file; nobody may have it open."""
    with closing(sqlite3.connect(path)) as database:
        tables = [name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        counts = {name: database.execute(f'SELECT count(*) FROM "{name}"').fetchone()[0] for name in tables}
        counts["integrity"] = database.execute("PRAGMA integrity_check").fetchone()[0]
        return counts


def _noter(file: str) -> Note:
    stream = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def note(**what: Any) -> None:
        os.write(stream, json.dumps(what).encode() + b"\n")
        os.fsync(stream)

    return note


def _pass(gate: str, worker: str) -> None:
    (Path(gate) / f"{worker}.ready").touch()
    wait((Path(gate) / "go").exists, 120)


def _join(threads: Iterable[threading.Thread]) -> None:
    threads = list(threads)
    for each in threads:
        each.start()
    for each in threads:
        each.join()


JOBS: dict[str, Callable[..., Any]] = {
    job.__name__: job
    for job in (record_runs, record_in_threads, add_to_run, record_steps, fork, count_sqlite)
}

if __name__ == "__main__":
    print(json.dumps(JOBS[sys.argv[1]](**json.loads(sys.argv[2]))))
