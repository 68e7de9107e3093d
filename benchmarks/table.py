"""Plain tables, the versions they were made with, and the statistics in them."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import sqlite3
from collections.abc import Callable, Sequence
from statistics import median
from time import perf_counter


def print_table(title: str, header: Sequence[str], rows: Sequence[Sequence[object]], note: str = "") -> None:
    """Print rows under a header, text to the left and numbers to the right, and a note below."""
    shown = [[str(cell) for cell in row] for row in rows]
    widths = [max(len(row[i]) for row in [list(header), *shown]) for i in range(len(header))]
    print(f"\n## {title}\n")
    for line in [list(header), ["-" * width for width in widths], *shown]:
        cells = (cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        print("| " + " | ".join(cells) + " |")
    if note:
        print(f"\n{note}")


def print_versions() -> None:
    """Print what the figures depend on."""
    names = ("ml-metadata", "protobuf", "grpcio")
    found = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in names)
    print(
        f"Python {platform.python_version()}, {found}; {platform.system()} {platform.release()}, "
        f"{os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f}; Python's SQLite {sqlite3.sqlite_version}"
    )


def ratio(ours: Sequence[float], other: Sequence[float]) -> float:
    """Return the median of the ratios of each round: a slow while of the machine slows both of its sides."""
    return median(mine / theirs for mine, theirs in zip(ours, other, strict=True))


def verdict(measured: float, target: float) -> str:
    """Return a ratio or a count beside its target."""
    return f"{'ok' if measured <= target else 'OVER'} (<= {target:g})"


def timed(action: Callable[[], object]) -> float:
    """Return the seconds that an action takes."""
    started = perf_counter()
    action()
    return perf_counter() - started


def in_turn(rounds: int, *actions: Callable[[], object]) -> list[list[float]]:
    """Return the seconds of each action in each round; a round runs all, and every other one backwards.

    So a slow moment of the machine, and what an action leaves in its caches, hits all alike.
    """
    times: list[list[float]] = [[] for _ in actions]
    for turn in range(rounds):
        order = range(len(actions))
        for place in order if turn % 2 == 0 else reversed(order):
            times[place].append(timed(actions[place]))
    return times
