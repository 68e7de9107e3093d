"""SQLite's write-ahead log (zen_mlmd's default) against its default journal, through zen_mlmd.

One writer, steps in turn; and eight writer processes on one file: how many steps they record together,
how evenly, and how long the slowest step waits.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import zen_mlmd as zm
from benchmarks.table import in_turn, print_table, ratio, timed
from zen_mlmd.flavors import SqliteConfig

WRITERS = 8
MODES = ("wal", "delete")


def run(*, quick: bool = False) -> None:
    """Measure, and print the tables."""
    steps, rounds, seconds = (100, 1, 2.0) if quick else (1000, 3, 8.0)
    with tempfile.TemporaryDirectory() as folder:
        runs = [_begin(Path(folder) / f"one-{mode}.db", mode) for mode in MODES]
        times = dict(zip(MODES, in_turn(steps, *(lambda run=run: _step(run) for run in runs)), strict=True))
        print_table(
            "journal: a step, one writer",
            ["journal", "ratio to WAL", "ms a step", "slowest ms"],
            [
                [
                    mode,
                    f"{ratio(times[mode], times['wal']):.2f}",
                    f"{median(times[mode]) * 1e3:.2f}",
                    f"{max(times[mode]) * 1e3:.0f}",
                ]
                for mode in MODES
            ],
        )
        found: dict[str, list[list[dict[str, Any]]]] = {mode: [] for mode in MODES}
        for turn in range(rounds):
            for mode in MODES:
                found[mode].append(_together(Path(folder) / f"all-{mode}-{turn}.db", mode, seconds))
    rows = [_row(mode, found[mode], found["wal"]) for mode in MODES]
    print_table(
        f"journal: {WRITERS} writer processes on one file, {rounds} x {seconds:g} s",
        ["journal", "throughput to WAL", "steps/s", "each writer's share", "median ms", "slowest ms"],
        rows,
        "Share: 100 % is an eighth of all steps. Every writer's steps were counted in the store afterwards.",
    )


def _row(mode: str, rounds: list[list[dict[str, Any]]], wal: list[list[dict[str, Any]]]) -> list[str]:
    writers = [writer for each in rounds for writer in each]
    shares = [writer["steps"] * WRITERS / _sum(each) for each in rounds for writer in each]
    return [
        mode,
        f"{median(map(_rate, rounds)) / median(map(_rate, wal)):.2f}",
        f"{median(map(_rate, rounds)):.0f}",
        f"{min(shares):.0%} to {max(shares):.0%}",
        f"{median(writer['median_s'] for writer in writers) * 1e3:.0f}",
        f"{max(writer['slowest_s'] for writer in writers) * 1e3:.0f}",
    ]


def _sum(writers: list[dict[str, Any]]) -> int:
    return sum(writer["steps"] for writer in writers)


def _rate(writers: list[dict[str, Any]]) -> float:
    return _sum(writers) / max(writer["seconds"] for writer in writers)


def _begin(file: Path, mode: str) -> Any:
    store = zm.open_store(SqliteConfig(path=str(file), journal_mode=mode))
    run = store.record_run("churn")
    _step(run)
    return run


def _step(run: Any) -> None:
    with run.step("train", parameters={"lr": 0.1}) as step:
        step.log_output("model", uri="s3://bucket/model", type="Model")
        step.log_output("report", uri="s3://bucket/report")


def _together(file: Path, mode: str, seconds: float) -> list[dict[str, Any]]:
    command = [sys.executable, "-m", "benchmarks.journal", str(file), mode, str(seconds)]
    pipe = subprocess.PIPE
    writers = [subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) for _ in range(WRITERS)]
    for writer in writers:
        writer.stdout.readline()
    for writer in writers:
        writer.stdin.write("go\n")
        writer.stdin.flush()
    answers = [json.loads(writer.communicate()[0]) for writer in writers]
    with zm.open_store(SqliteConfig(path=str(file))) as store:
        kept = {run.name: len(run.step_runs) for run in store.pipelines["churn"].runs}
    lost = [each for each in answers if kept[each["run"]] != each["steps"] + 1]
    if lost or len(kept) != WRITERS:
        raise SystemExit(f"steps were lost: {lost}")
    return answers


def _write(file: Path, mode: str, seconds: float) -> None:
    run = _begin(file, mode)
    print("ready", flush=True)
    sys.stdin.readline()
    times, begun = [], time.perf_counter()
    while time.perf_counter() < begun + seconds:
        times.append(timed(lambda: _step(run)))
    answer = {
        "run": run.name,
        "steps": len(times),
        "seconds": time.perf_counter() - begun,
        "median_s": median(times),
        "slowest_s": max(times),
    }
    print(json.dumps(answer))


if __name__ == "__main__":
    _write(Path(sys.argv[1]), sys.argv[2], float(sys.argv[3]))
