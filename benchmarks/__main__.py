"""`python -m benchmarks [NAME ...] [--quick]`: those that are named, by default all."""

from __future__ import annotations

import argparse
import importlib

from benchmarks.table import print_versions

NAMES = ("recording", "reading", "lineage", "startup", "journal", "serving", "sql")


def main() -> None:
    """Run the benchmarks that were named, one after the other."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Ratios, side by side.")
    parser.add_argument("names", nargs="*", metavar="name", help=f"{', '.join(NAMES)}; by default all")
    parser.add_argument("--quick", action="store_true", help="fewer rounds, smaller graphs: to try them out")
    options = parser.parse_args()
    unknown = sorted(set(options.names) - {*NAMES, "all"})
    if unknown:
        parser.error(f"no benchmark {', '.join(unknown)}; there are {', '.join(NAMES)}")
    names = NAMES if not options.names or "all" in options.names else options.names
    print_versions()
    for name in names:
        importlib.import_module(f"benchmarks.{name}").run(quick=options.quick)


if __name__ == "__main__":
    main()
