"""TFX's own library for tests, in an environment of its own.

It is made once for a test session: TFX's packages want other versions than ours, and Python 3.10.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

import zen_mlmd as zm

SCRIPT = Path(__file__).with_name("tfx_script.py")
PACKAGES = ["ml-pipelines-sdk==1.17.3", "ml-metadata==1.17.1", "-e", str(Path(__file__).parents[2])]
"""TFX without TensorFlow, and zen_mlmd beside it, as somebody has it who uses both."""

VERSION = "3.10"
"""Of Python, that `ml-pipelines-sdk` 1.17.3 and zen_mlmd both have releases for."""

CHOICE = "ZEN_MLMD_TEST_PYTHON310"
"""Names a Python to make TFX's environment with; without it one is looked for."""


def find_python() -> str | None:
    """Return a Python that TFX can be installed for, or None."""
    if CHOICE in os.environ:
        return os.environ[CHOICE]
    candidates = (as_python(each, VERSION) for each in (sys.executable, f"python{VERSION}"))
    return next(filter(None, candidates), None)


def as_python(command: str, version: str) -> str | None:
    """Return the interpreter behind a command, which may be a shim of pyenv, if it is of that version."""
    code = "import sys; print('%d.%d' % sys.version_info[:2], sys.executable)"
    if shutil.which(command) is None:
        return None
    environment = {**os.environ, "PYENV_VERSION": version}
    done = subprocess.run([command, "-c", code], env=environment, capture_output=True, text=True, check=False)
    found, _, path = done.stdout.strip().partition(" ")
    return path if done.returncode == 0 and found == version else None


def make_environment(home: Path, python: str) -> None:
    """Install TFX's library into a new environment; with uv if there is one, which is faster."""
    beside_us = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    uv = shutil.which("uv", path=beside_us)
    inside = str(home / "bin" / "python")
    if uv is not None:
        commands = [
            [uv, "venv", "--quiet", "--no-project", "--python", python, str(home)],
            [uv, "pip", "install", "--quiet", "--python", inside, *PACKAGES],
        ]
    else:
        commands = [
            [python, "-m", "venv", str(home)],
            [inside, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *PACKAGES],
        ]
    for command in commands:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{' '.join(command)}\n{done.stderr[-2000:]}"


def tfx_environment(shared: Path) -> str:
    """Return the Python of an environment that has TFX; those who share a folder share it.

    Skips the test where there is no Python for it.
    """
    python = find_python()
    if python is None:
        pytest.skip(f"no Python {VERSION} for ml-pipelines-sdk; name one in {CHOICE}")
    home = shared / "tfx_environment"
    with FileLock(f"{home}.lock"):
        if not (home / "complete").exists():
            make_environment(home, python)
            (home / "complete").touch()
    return str(home / "bin" / "python")


def ask_tfx(python: str, command: str, store: zm.Store, **request: Any) -> Any:
    """Let TFX's library answer about a store, which it opens by the store's own connection config."""
    config = store.connection_config()
    request["config_type"] = type(config).__name__
    request["config"] = base64.b64encode(config.SerializeToString()).decode("ascii")
    done = subprocess.run(
        [python, "-I", "-W", "ignore", str(SCRIPT), command],
        input=json.dumps(request),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return json.loads(done.stdout.splitlines()[-1])
