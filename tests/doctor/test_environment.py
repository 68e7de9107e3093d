"""Which ml-metadata can be loaded where."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.doctor.conftest import codes
from zen_mlmd.cli.main import main
from zen_mlmd.doctor.environment import Environment, examine_environment

ROOT = Path(__file__).parents[2]
SOUND = Environment(
    python=(3, 11),
    system="Linux",
    machine="x86_64",
    glibc=(2, 36),
    ml_metadata="1.17.1",
    protobuf="4.25.9",
)


@pytest.mark.parametrize(
    ("others", "code", "remedy"),
    [
        ({"ml_metadata": "", "fault": "none"}, "ml-metadata-missing", "ml-metadata~=1.17.0"),
        ({"ml_metadata": "", "fault": "none", "glibc": (2, 41)}, "ml-metadata-missing", "~=1.21.0"),
        ({"ml_metadata": "1.21.0", "fault": "CXXABI_1.3.15"}, "glibc-old", "ml-metadata~=1.17.0"),
        ({"ml_metadata": "", "fault": "x", "machine": "aarch64"}, "wheel-none", "Linux x86_64"),
        ({"ml_metadata": "", "fault": "x", "glibc": ()}, "wheel-none", "Linux x86_64"),
        ({"ml_metadata": "", "fault": "x", "python": (3, 14)}, "wheel-none", "Python 3.10 to 3.13"),
        (
            {"ml_metadata": "1.17.1", "fault": "x", "python": (3, 13), "glibc": (2, 41)},
            "wheel-none",
            "ml-metadata~=1.21.0",
        ),
        ({"protobuf": "3.20.3", "fault": "x"}, "protobuf-old", "protobuf>=4.25,<5"),
        (
            {"ml_metadata": "1.21.0", "glibc": (2, 41), "protobuf": "5.29.6", "fault": "VersionError"},
            "protobuf-old",
            "protobuf>=6.31,<7",
        ),
        ({"fault": "ImportError: libfoo"}, "ml-metadata-broken", "python -m venv"),
        ({"protobuf": "6.33.6"}, "protobuf-undeclared", "protobuf<5"),
    ],
)
def test_what_does_not_fit_is_told_with_what_does(others: dict[str, object], code: str, remedy: str) -> None:
    (finding,) = examine_environment(dataclasses.replace(SOUND, **others))  # type: ignore[arg-type]
    assert finding.code == code
    assert remedy in finding.remedy


def test_what_fits_is_no_finding() -> None:
    assert examine_environment(SOUND) == []
    newer = dataclasses.replace(SOUND, python=(3, 13), glibc=(2, 39), ml_metadata="1.21.0", protobuf="6.33.6")
    assert examine_environment(newer) == []
    assert [each for each in examine_environment() if each.code != "protobuf-undeclared"] == []


def test_an_ml_metadata_that_cannot_be_loaded_is_a_finding_and_no_traceback(
    path: Path, tmp_path: Path
) -> None:
    broken = tmp_path / "broken" / "ml_metadata"
    broken.mkdir(parents=True)
    (broken / "__init__.py").write_text("raise ImportError('libstdc++.so.6: version `CXXABI_1.3.15`')")
    done = subprocess.run(
        [sys.executable, "-m", "zen_mlmd", "doctor", str(path)],
        env={**os.environ, "PYTHONPATH": f"{broken.parent}:{ROOT}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (3, "")
    assert done.stdout.startswith("this machine: 1 error\n")
    assert "ml-metadata-broken" in done.stdout
    assert "CXXABI_1.3.15" in done.stdout


def test_a_sound_store_on_a_sound_machine_is_clean(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", str(path), "-o", "csv"]) == 0
    rows = capsys.readouterr().out.splitlines()
    assert rows[0] == "code,severity,subject,what,remedy,mendable"
    assert {row.split(",")[0] for row in rows[1:]} <= set(codes(examine_environment()))
