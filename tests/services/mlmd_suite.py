"""MLMD's own Python test suite, from the ml-metadata wheel, against a gRPC server."""

from __future__ import annotations

import re
import subprocess
import sys
from collections import Counter
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from xml.etree import ElementTree as ET

# Four of its gRPC tests call a helper without its first argument, or as `self.self` (ml-metadata 1.17.1 and
# 1.21.0): they fail whatever the server does.
_TESTS = {"1.17.1": 106, "1.21.0": 99}
"""How many of its tests pass on ml-metadata itself; the rest are expected failures.

Those of 1.21.0 are fewer, for it has no filters.
"""

_FAULTY = re.compile(r"_get_metadata_store\((?:self\.self\.cli_args, )?(?=grpc_)")


def assert_suite_passes(folder: Path, address: str) -> None:
    """Run the suite, its four faulty lines mended, and fail unless all pass that pass on ml-metadata itself.

    Args:
        folder: For the copy; a folder is made in it.
        address: The server's `host:port`.
    """
    counts, failures = _run(folder, address)
    assert failures == {}
    assert counts["passed"] == _TESTS[version("ml-metadata")]


def _run(parent: Path, address: str) -> tuple[Counter[str], dict[str, str]]:
    folder = parent / "mlmd_suite"
    folder.mkdir()
    spec = find_spec("ml_metadata.metadata_store")
    assert spec is not None
    assert spec.submodule_search_locations
    source = Path(spec.submodule_search_locations[0])
    text, mended = _FAULTY.subn(
        "_get_metadata_store(self.cli_args, ", _text(source / "metadata_store_test.py")
    )
    assert mended == 4, f"{mended} lines were mended: another suite than the one that is known"
    (folder / "metadata_store_test.py").write_text(text)
    (folder / "conftest.py").write_text(_text(source / "conftest.py"))
    report = folder / "report.xml"
    host, _, port = address.rpartition(":")
    subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--no-header", "--timeout=60"),
            *(f"--junit-xml={report}", "--use_grpc_backend", f"--grpc_host={host}", f"--grpc_port={port}"),
            "metadata_store_test.py",
        ],
        cwd=folder,
        check=False,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        timeout=280,
    )
    return _outcome(report)


def _text(file: Path) -> str:
    return file.read_text(encoding="utf-8")


def _outcome(report: Path) -> tuple[Counter[str], dict[str, str]]:
    counts: Counter[str] = Counter()
    failures: dict[str, str] = {}
    for case in ET.parse(report).iter("testcase"):
        failed = case.find("failure") if case.find("failure") is not None else case.find("error")
        if failed is not None:
            failures[case.get("name", "")] = failed.get("message", "")[:300]
        counts[
            "failed" if failed is not None else "skipped" if case.find("skipped") is not None else "passed"
        ] += 1
    return counts, failures
