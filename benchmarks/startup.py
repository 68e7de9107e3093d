"""`import zen_mlmd` and `zen-mlmd --help`, against `python -c pass`, in alternating processes."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import median

from benchmarks.table import in_turn, print_table, ratio, verdict

TARGET_S = 0.15
_LIGHT = (
    "import zen_mlmd, sys; heavy = {'ml_metadata', 'grpc', 'google.protobuf', 'pandas'} & sys.modules.keys();"
    "sys.exit(f'import zen_mlmd imports {heavy}' if heavy else 0)"
)


def run(*, quick: bool = False) -> None:
    """Measure, and print the table."""
    python = sys.executable
    script = Path(python).with_name("zen-mlmd")
    commands = {
        "python -c pass": [python, "-c", "pass"],
        "python -c 'import zen_mlmd'": [python, "-c", "import zen_mlmd"],
        "python -m zen_mlmd --help": [python, "-m", "zen_mlmd", "--help"],
    }
    complete = "zen-mlmd metadata-store register x --flavor mysql --ssl"
    bash = ["env", "_ZEN_MLMD_COMPLETE=bash_complete", f"COMP_WORDS={complete}", "COMP_CWORD=6"]
    commands["completing --flavor mysql --ssl"] = [*bash, python, "-m", "zen_mlmd"]
    commands["zen-mlmd metadata-store list"] = [python, "-m", "zen_mlmd", "metadata-store", "list"]
    if script.exists():
        commands["zen-mlmd --help"] = [str(script), "--help"]
    _start([python, "-c", _LIGHT])
    times = in_turn(
        5 if quick else 40, *(lambda command=command: _start(command) for command in commands.values())
    )
    nothing = times[0]
    rows = [
        [
            name,
            f"{ratio(taken, nothing):.2f}",
            f"{median(taken) - median(nothing):.3f}",
            "" if taken is nothing else verdict(median(taken) - median(nothing), TARGET_S),
            f"{median(taken):.3f}",
            f"{min(taken):.3f}",
        ]
        for name, taken in zip(commands, times, strict=True)
    ]
    print_table(
        "startup: against a Python that does nothing",
        ["command", "ratio", "seconds more", "target", "median s", "least s"],
        rows,
        "import zen_mlmd was checked to import neither ml_metadata nor grpc nor protobuf nor pandas.",
    )


def _start(command: Sequence[str]) -> None:
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=environment)
