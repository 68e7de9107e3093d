"""Where a run happens: interpreter, versions, host, process and the state of the code in git.

Nothing here may hold a secret: of the command line only the program's name is taken, of git neither
remote URLs nor messages.
"""

from __future__ import annotations

import functools
import getpass
import importlib.metadata
import os
import platform
import subprocess
import sys
from pathlib import Path

from zen_mlmd._version import __version__

_GIT_TIMEOUT_S = 2.0

# env(1) changes git's environment without this process reading its own. A git hook sets GIT_DIR and
# its kin, which would otherwise answer for another repository than the one that was asked for.
_GIT = (
    *("env", "-u", "GIT_DIR", "-u", "GIT_WORK_TREE", "-u", "GIT_INDEX_FILE", "-u", "GIT_PREFIX"),
    *("GIT_TERMINAL_PROMPT=0", "GIT_OPTIONAL_LOCKS=0", "git"),
    # Neither a monitor that a repository names nor a fetch of a partial clone's blobs may start.
    *("-c", "core.fsmonitor=false", "-c", "protocol.allow=never"),
)


def capture_environment(directory: Path | None = None) -> dict[str, str | int | bool]:
    """Return where this process runs, in plain values.

    Computed once per process and directory; a later call costs microseconds and returns a new dict.
    A forked child keeps its parent's answers, as it runs its parent's code, but has its own `pid`.
    The first call for a directory waits for git, at most 2 s for each of two questions.

    Args:
        directory: Whose git work tree is meant; the current directory if None.

    Returns:
        `python` ("3.11.7"), `zen_mlmd`, `ml_metadata` (empty if not installed), `platform`, `user`
        (the uid as text if it has no name), `host`, `pid`, `argv0` (the program's base name, never
        its arguments). If the directory lies in a git work tree with a commit: `git_commit` (the
        full hash), `git_branch` (empty if HEAD is detached) and `git_dirty` (whether a tracked file
        is changed; left out if git takes too long). Never raises: what cannot be found out is left
        out or empty.
    """
    environment: dict[str, str | int | bool] = {**_process(), "pid": os.getpid()}
    try:
        where = os.path.realpath(Path.cwd() if directory is None else directory)
    except (OSError, ValueError):
        return environment
    return environment | _git_state(where)


@functools.lru_cache(maxsize=1)
def _process() -> dict[str, str]:
    argv = getattr(sys, "argv", None) or [""]
    return {
        "python": platform.python_version(),
        "zen_mlmd": __version__,
        "ml_metadata": _ml_metadata_version(),
        "platform": platform.platform(),
        "user": _user(),
        "host": platform.node(),
        "argv0": Path(argv[0]).name,
    }


def _ml_metadata_version() -> str:
    try:
        return importlib.metadata.version("ml-metadata")
    except importlib.metadata.PackageNotFoundError:
        return ""


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):
        # A container's uid often has no line in /etc/passwd: KeyError, since Python 3.13 OSError.
        return str(os.getuid())


@functools.lru_cache(maxsize=64)
def _git_state(directory: str) -> dict[str, str | bool]:
    head = _git(directory, "rev-parse", "--is-inside-work-tree", "HEAD", "--abbrev-ref", "HEAD")
    lines = head.splitlines() if head is not None else []
    if len(lines) != 3 or lines[0] != "true":  # noqa: PLR2004 - one line for each of three questions
        return {}
    branch = "" if lines[2] == "HEAD" else lines[2]
    state: dict[str, str | bool] = {"git_commit": lines[1], "git_branch": branch}
    changes = _git(directory, "status", "--porcelain", "--untracked-files=no")
    if changes is not None:
        state["git_dirty"] = bool(changes)
    return state


def _git(directory: str, *arguments: str) -> str | None:
    """Return git's answer; None if there is no git, no repository, no permission or no time."""
    try:
        answer = subprocess.run(  # noqa: S603 - a fixed command; the directory is one argument
            [*_GIT, "-C", directory, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=_GIT_TIMEOUT_S,
            check=False,
            start_new_session=True,  # no terminal to ask at
        )
    except (OSError, ValueError, subprocess.SubprocessError):
        return None
    return answer.stdout.decode(errors="replace") if answer.returncode == 0 else None
