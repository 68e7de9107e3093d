"""Pipelines that are broken off, and pipelines beside each other: Ctrl-C, exit, kill, threads."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import zen_mlmd as zm
from zen_mlmd.model import Status
from zen_mlmd.reading.runs import PipelineRunView

SCRIPT = """
    import os, signal, sys, time
    import zen_mlmd as zm

    HOW, MAX_PARALLEL = sys.argv[1], int(sys.argv[2])
    signal.signal(signal.SIGINT, signal.default_int_handler)  # it is ignored where a shell runs us with &

    @zm.step
    def first() -> int:
        return 1

    @zm.step
    def slow(x: int, s: float) -> int:
        os.write(1, b"begun\\n")  # in one piece, for there are threads
        if HOW == "exit":
            sys.exit(3)
        if HOW == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        until = time.monotonic() + s
        while time.monotonic() < until:
            time.sleep(0.01)
        return x

    @zm.step
    def last(x: int) -> int:
        return x

    @zm.pipeline
    def p():
        one = first()
        last(slow(one, 120.0 if HOW == "long" else 2.0))
        if MAX_PARALLEL > 1:
            last(slow(one, 1.0))

    p.options(store="m.db", artifacts="a", max_parallel=MAX_PARALLEL)()
"""


@contextlib.contextmanager
def script(directory: Path, how: str, max_parallel: int = 1) -> Iterator[subprocess.Popen[str]]:
    """Start the script, and go on when its slow steps have begun."""
    (directory / "main.py").write_text(textwrap.dedent(SCRIPT))
    command = [sys.executable, "main.py", how, str(max_parallel)]
    with subprocess.Popen(
        command, cwd=directory, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            for _ in range(max_parallel):
                assert process.stdout.readline() == "begun\n"
            yield process
        finally:
            process.kill()


def latest(directory: Path) -> tuple[PipelineRunView, dict[str, Status]]:
    run = zm.open_store(directory / "m.db").pipelines["p"].latest_run
    return run, {name: step.status for name, step in run.steps.items()}


def test_ctrl_c_stops_the_step_that_runs(tmp_path: Path) -> None:
    with script(tmp_path, "long") as process:
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == -signal.SIGINT
    assert "KeyboardInterrupt" in errors
    run, steps = latest(tmp_path)
    assert run.status is Status.CANCELED
    assert steps == {"first": Status.COMPLETED, "slow": Status.CANCELED}
    assert run["slow"].failure.type == "KeyboardInterrupt"


def test_ctrl_c_lets_steps_in_threads_end_and_begins_no_other(tmp_path: Path) -> None:
    with script(tmp_path, "short", 2) as process:
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == -signal.SIGINT
    assert "waiting for 2 steps that run" in errors
    run, steps = latest(tmp_path)
    assert run.status is Status.CANCELED
    assert steps == dict.fromkeys(["first", "slow", "slow_2"], Status.COMPLETED)


def test_a_second_ctrl_c_leaves_steps_in_threads(tmp_path: Path) -> None:
    with script(tmp_path, "long", 2) as process:
        process.send_signal(signal.SIGINT)
        assert process.stderr is not None
        assert "waiting for 2 steps" in process.stderr.readline()
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)
    assert process.returncode == -signal.SIGINT
    run, steps = latest(tmp_path)
    assert run.status is Status.CANCELED
    assert steps["slow"] is Status.CANCELED
    assert Status.RUNNING not in steps.values()


@pytest.mark.parametrize("max_parallel", [1, 2])
def test_an_exit_in_a_step_is_one_of_the_process(tmp_path: Path, max_parallel: int) -> None:
    with script(tmp_path, "exit", max_parallel) as process:
        process.communicate(timeout=60)
    assert process.returncode == 3
    run, steps = latest(tmp_path)
    assert run.status is Status.FAILED
    assert steps["slow"] is Status.FAILED
    assert run["slow"].failure.type == "SystemExit"
    assert "last" not in steps


def test_a_process_that_is_killed_in_a_step_leaves_it_running_and_the_cache_whole(tmp_path: Path) -> None:
    with script(tmp_path, "kill") as process:
        process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL
    run, steps = latest(tmp_path)
    assert run.status is Status.RUNNING
    assert run.last_sign_of_life is not None
    assert steps == {"first": Status.COMPLETED, "slow": Status.RUNNING}
    with script(tmp_path, "short") as process:
        process.communicate(timeout=60)
    assert process.returncode == 0
    _, steps = latest(tmp_path)
    assert steps == {"first": Status.CACHED, "slow": Status.COMPLETED, "last": Status.COMPLETED}


# -- in this process


@pytest.fixture
def store(tmp_path: Path) -> zm.Store:
    return zm.open_store(tmp_path / "metadata.db")


def prepared(pipeline: Any, store: zm.Store, tmp_path: Path, **options: Any) -> Any:
    return pipeline.options(store=store, artifacts=tmp_path / "artifacts", **options)


def test_a_step_may_handle_signals(store: zm.Store, tmp_path: Path) -> None:
    @zm.step
    def alarmed() -> int:
        rung: list[int] = []
        before = signal.signal(signal.SIGUSR1, lambda *_: rung.append(1))
        try:
            os.kill(os.getpid(), signal.SIGUSR1)
            return len(rung)
        finally:
            signal.signal(signal.SIGUSR1, before)

    @zm.pipeline
    def p() -> None:
        alarmed()

    assert prepared(p, store, tmp_path)()["alarmed"].output.read() == 1


def test_after_a_failure_no_other_step_is_begun(store: zm.Store, tmp_path: Path) -> None:
    begun = threading.Event()

    @zm.step
    def fails() -> int:
        begun.wait(20)
        raise ValueError("first")

    @zm.step
    def runs() -> int:
        begun.set()
        time.sleep(1)
        return 1

    @zm.step
    def waits(n: int) -> int:
        return n

    @zm.pipeline
    def p() -> None:
        fails()
        after = runs()
        for n in range(5):
            waits(n)
        waits(after)

    with pytest.raises(ValueError, match="first"):
        prepared(p, store, tmp_path, max_parallel=2)()
    run = store.pipelines["p"].latest_run
    assert run.status is Status.FAILED
    assert {name: step.status for name, step in run.steps.items()} == {
        "fails": Status.FAILED,
        "runs": Status.COMPLETED,
    }


def test_no_more_steps_run_at_once_than_may(store: zm.Store, tmp_path: Path) -> None:
    lock = threading.Lock()
    now: list[int] = []
    most: list[int] = []

    @zm.step
    def busy(n: int) -> int:
        with lock:
            now.append(n)
            most.append(len(now))
        time.sleep(0.05)
        with lock:
            now.remove(n)
        return n

    @zm.step
    def total(many: list[int]) -> int:
        return sum(many)

    @zm.pipeline
    def p() -> None:
        total([busy(n) for n in range(9)])

    assert prepared(p, store, tmp_path, max_parallel=3)()["total"].output.read() == 36
    assert max(most) == 3


@zm.step
def number(n: int) -> int:
    time.sleep(0.05)
    return n


@zm.step
def add(a: int, b: int) -> str:
    here = zm.get_step_context()
    return f"{here.pipeline_name} {here.step_name} {a + b}"


def test_pipelines_in_threads_do_not_know_of_each_other(store: zm.Store, tmp_path: Path) -> None:
    def run(k: int) -> str:
        @zm.pipeline(name=f"p{k}", max_parallel=1 + k % 2)
        def p() -> None:
            add(number(k), number(k + 1))

        return str(prepared(p, store, tmp_path)()["add"].output.read())

    with ThreadPoolExecutor(6) as pool:
        found = list(pool.map(run, range(6)))
    assert found == [f"p{k} add {2 * k + 1}" for k in range(6)]
    assert all(each.status is Status.COMPLETED for each in store.runs)


def test_a_step_may_run_a_pipeline(store: zm.Store, tmp_path: Path) -> None:
    @zm.pipeline
    def inner() -> None:
        number(4)

    @zm.step
    def outer(folder: str) -> tuple[int, str]:
        run = inner.options(store=f"{folder}/inner.db", artifacts=f"{folder}/a")()
        return run["number"].output.read() + number(1), zm.get_step_context().step_name

    @zm.pipeline
    def p() -> None:
        outer(str(tmp_path))

    assert prepared(p, store, tmp_path)()["outer"].output.read() == (5, "outer")
    with pytest.raises(zm.errors.UsageError, match="no step is running"):
        zm.get_step_context()


def test_what_is_logged_under_a_name_that_no_output_has_is_refused(store: zm.Store, tmp_path: Path) -> None:
    def logging_step(log: Any) -> Any:
        @zm.step
        def logs() -> int:
            log(zm.get_step_context())
            return 1

        @zm.pipeline
        def p() -> None:
            logs()

        return prepared(p, store, tmp_path)

    refused: list[tuple[Any, type[Exception]]] = [
        (lambda here: here.log_output_properties({"a": 1}, output="other"), zm.errors.UsageError),
        (lambda here: here.log_output_properties({"a\0b": 1}), zm.errors.RejectedRequestError),
        (lambda here: here.log_output_properties({"a": object()}), zm.errors.InvalidValueError),
        (lambda here: here.log_properties({"a\0b": 1}), zm.errors.RejectedRequestError),
    ]
    for log, error in refused:
        with pytest.raises(error) as caught:
            logging_step(log)()
        assert caught.value.hint  # type: ignore[attr-defined]
        assert store.pipelines["p"].latest_run["logs"].status is Status.FAILED


def test_steps_say_what_became_of_them(
    store: zm.Store, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    @zm.pipeline
    def p() -> None:
        number(1)

    caplog.set_level(logging.INFO, "zen_mlmd")
    for _ in range(2):
        prepared(p, store, tmp_path)()
    assert [each.message for each in caplog.records] == ["step number: completed", "step number: cached"]
