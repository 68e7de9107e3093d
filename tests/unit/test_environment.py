from __future__ import annotations

import os
import platform
import shutil
import stat
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from zen_mlmd._version import __version__
from zen_mlmd.recording import environment
from zen_mlmd.recording.environment import capture_environment

ROOT = Path(__file__).parents[2]
GIT_KEYS = {"git_commit", "git_branch", "git_dirty"}


def git(directory: Path, *arguments: str) -> str:
    names = ("-c", "user.name=a", "-c", "user.email=a@b", "-c", "init.defaultBranch=main")
    environment = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}
    command = ["git", "-C", str(directory), *names, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout.strip()


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    directory = tmp_path / "work tree"
    directory.mkdir()
    git(directory, "init", "-q")
    (directory / "a.txt").write_text("1")
    git(directory, "add", "a.txt")
    git(directory, "commit", "-q", "-m", "first")
    return directory


@pytest.fixture(autouse=True)
def _nothing_known() -> None:
    environment._git_state.cache_clear()
    environment._process.cache_clear()


def run(code: str, *arguments: str, cwd: Path) -> str:
    command = [sys.executable, "-c", code, *arguments]
    variables = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, check=True, capture_output=True, text=True, cwd=cwd, env=variables).stdout


def test_says_interpreter_versions_host_and_process(tmp_path: Path) -> None:
    captured = capture_environment(tmp_path)
    assert captured["python"] == platform.python_version()
    assert captured["zen_mlmd"] == __version__
    assert captured["ml_metadata"] == version("ml-metadata")
    assert captured["platform"] == platform.platform()
    assert captured["host"] == platform.node()
    assert captured["pid"] == os.getpid()
    assert captured["user"]
    assert not GIT_KEYS & set(captured)


def test_takes_the_programs_name_and_no_argument(tmp_path: Path) -> None:
    script = tmp_path / "train.py"
    script.write_text("from zen_mlmd.recording.environment import *; print(capture_environment())")
    variables = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, str(script), "--password=geheim"]
    output = subprocess.run(command, check=True, capture_output=True, text=True, env=variables).stdout
    assert "'argv0': 'train.py'" in output
    assert "geheim" not in output


def test_an_embedded_interpreter_without_argv_has_an_empty_program_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(sys, "argv")
    assert capture_environment(tmp_path)["argv0"] == ""


def test_a_clean_work_tree_gives_commit_and_branch(repository: Path) -> None:
    captured = capture_environment(repository)
    assert captured["git_commit"] == git(repository, "rev-parse", "HEAD")
    assert len(str(captured["git_commit"])) == 40
    assert captured["git_branch"] == "main"
    assert captured["git_dirty"] is False


def test_a_directory_below_the_top_is_in_the_work_tree(repository: Path) -> None:
    (repository / "sub").mkdir()
    assert capture_environment(repository / "sub")["git_branch"] == "main"


def test_a_changed_tracked_file_makes_it_dirty(repository: Path) -> None:
    (repository / "a.txt").write_text("2")
    assert capture_environment(repository)["git_dirty"] is True


def test_an_untracked_file_does_not_make_it_dirty(repository: Path) -> None:
    (repository / "b.txt").write_text("2")
    assert capture_environment(repository)["git_dirty"] is False


def test_a_detached_head_has_no_branch(repository: Path) -> None:
    git(repository, "checkout", "-q", "--detach")
    captured = capture_environment(repository)
    assert captured["git_branch"] == ""
    assert captured["git_commit"] == git(repository, "rev-parse", "HEAD")


def test_a_repository_without_a_commit_gives_no_git_keys(tmp_path: Path) -> None:
    git(tmp_path, "init", "-q")
    assert not GIT_KEYS & set(capture_environment(tmp_path))


def test_a_bare_repository_is_no_work_tree(repository: Path, tmp_path: Path) -> None:
    git(tmp_path, "clone", "-q", "--bare", str(repository), str(tmp_path / "bare"))
    assert not GIT_KEYS & set(capture_environment(tmp_path / "bare"))


def test_the_current_directory_is_the_default(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(repository)
    assert capture_environment() == capture_environment(repository)
    assert capture_environment()["git_branch"] == "main"


def test_a_git_hook_does_not_divert_the_question_to_another_repository(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "plain").mkdir()
    monkeypatch.setenv("GIT_DIR", str(repository / ".git"))
    monkeypatch.setenv("GIT_WORK_TREE", str(repository))
    assert not GIT_KEYS & set(capture_environment(tmp_path / "plain"))


def test_a_repository_that_git_does_not_trust_gives_no_git_keys(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")  # git's own switch for its own tests
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", "/dev/null")
    assert not GIT_KEYS & set(capture_environment(repository))


def test_a_program_that_the_repository_names_is_not_started(repository: Path, tmp_path: Path) -> None:
    monitor = tmp_path / "monitor"
    monitor.write_text(f"#!/bin/sh\ntouch '{tmp_path}/started'\n")
    monitor.chmod(stat.S_IRWXU)
    git(repository, "config", "core.fsmonitor", str(monitor))
    assert capture_environment(repository)["git_dirty"] is False
    assert not (tmp_path / "started").exists()


def test_credentials_in_a_remote_url_are_not_recorded(repository: Path) -> None:
    git(repository, "remote", "add", "origin", "https://me:geheim@example.org/x.git")
    assert "geheim" not in repr(capture_environment(repository))


def test_git_writes_nothing_into_the_repository(repository: Path) -> None:
    os.utime(repository / "a.txt", (1, 1))  # a stale index entry, which git would like to refresh
    index = repository / ".git" / "index"
    before = (index.read_bytes(), sorted((repository / ".git").iterdir()))
    capture_environment(repository)
    assert (index.read_bytes(), sorted((repository / ".git").iterdir())) == before


def fake_git(directory: Path, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    directory.mkdir()
    program = directory / "git"
    program.write_text(text)
    program.chmod(stat.S_IRWXU)
    monkeypatch.setenv("PATH", f"{directory}:{os.environ['PATH']}")


def test_no_git_program_gives_no_git_keys(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    captured = capture_environment(repository)
    assert not GIT_KEYS & set(captured)
    assert captured["python"] == platform.python_version()


def test_a_status_that_takes_too_long_leaves_out_only_dirty(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = (
        f'#!/bin/sh\ncase "$*" in *" status "*) exec sleep 60;; *) exec {shutil.which("git")} "$@";; esac\n'
    )
    fake_git(tmp_path / "bin", script, monkeypatch)
    monkeypatch.setattr(environment, "_GIT_TIMEOUT_S", 0.5)
    captured = capture_environment(repository)
    assert captured["git_branch"] == "main"
    assert "git_dirty" not in captured


def test_git_has_no_terminal_and_no_input_to_ask_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = '#!/bin/sh\necho "$GIT_TERMINAL_PROMPT $GIT_OPTIONAL_LOCKS $(wc -c)" > "$0.said"\nexit 1\n'
    fake_git(tmp_path / "bin", script, monkeypatch)
    capture_environment(tmp_path)
    assert (tmp_path / "bin" / "git.said").read_text() == "0 0 0\n"


def test_is_asked_of_git_once_for_a_directory(repository: Path) -> None:
    first = capture_environment(repository)
    (repository / "a.txt").write_text("2")
    assert capture_environment(repository) == first
    assert environment._git_state.cache_info().hits == 1


def test_a_caller_may_change_its_copy(repository: Path) -> None:
    capture_environment(repository)["git_branch"] = "changed"
    assert capture_environment(repository)["git_branch"] == "main"


def test_a_forked_child_has_its_own_pid(tmp_path: Path) -> None:
    capture_environment(tmp_path)
    pid = os.fork()
    if pid == 0:
        os._exit(42 if capture_environment(tmp_path)["pid"] == os.getpid() else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 42


def test_a_deleted_current_directory_gives_no_git_keys(tmp_path: Path) -> None:
    code = (
        "import os, sys; from zen_mlmd.recording.environment import capture_environment as capture\n"
        "os.rmdir(sys.argv[1]); print(sorted(capture()))"
    )
    gone = tmp_path / "gone"
    gone.mkdir()
    assert "git_commit" not in run(code, str(gone), cwd=gone)


@pytest.mark.parametrize("name", ["missing", "a.txt", "nul\0byte"])
def test_something_else_than_a_directory_gives_no_git_keys(tmp_path: Path, name: str) -> None:
    (tmp_path / "a.txt").write_text("")
    assert not GIT_KEYS & set(capture_environment(tmp_path / name))


def test_a_uid_without_a_name_is_given_as_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr(os, "getuid", lambda: 3_999_999_999)
    assert capture_environment(tmp_path)["user"] == "3999999999"


def test_without_ml_metadata_its_version_is_empty(tmp_path: Path) -> None:
    code = (
        "import sys; sys.path = [p for p in sys.path if 'site-packages' not in p]\n"
        "from zen_mlmd.recording.environment import capture_environment as capture\n"
        "print(repr(capture()['ml_metadata']))"
    )
    assert run(code, cwd=tmp_path) == "''\n"


def test_importing_loads_neither_ml_metadata_nor_grpc(tmp_path: Path) -> None:
    code = (
        "import sys; from zen_mlmd.recording.environment import capture_environment as capture; capture()\n"
        "print({'ml_metadata', 'grpc', 'google.protobuf'} & set(sys.modules))"
    )
    assert run(code, cwd=tmp_path) == "set()\n"
