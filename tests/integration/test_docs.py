"""What the README and the guide tell a newcomer to type works as it stands."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def blocks(document: str, language: str) -> list[str]:
    text = (ROOT / document).read_text("utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


@pytest.fixture
def shell(tmp_path: Path) -> dict[str, str]:
    """The environment of a newcomer: nothing is set, nothing recorded."""
    mine = {name: value for name, value in os.environ.items() if not name.startswith("ZEN_MLMD")}
    programs = str(Path(sys.executable).parent)
    return {
        **mine,
        "XDG_DATA_HOME": str(tmp_path / "home"),
        "XDG_CONFIG_HOME": str(tmp_path / "config"),
        "PATH": f"{programs}:{mine['PATH']}",
        "PYTHONPATH": str(ROOT),
    }


def run(command: list[str], shell: dict[str, str], folder: Path) -> str:
    done = subprocess.run(
        command, env=shell, cwd=folder, capture_output=True, text=True, check=False, timeout=120
    )
    assert (done.returncode, done.stderr.replace("there are none\n", "")) == (0, ""), (command, done)
    return done.stdout


def run_python(document: str, shell: dict[str, str], folder: Path, *, after: str) -> str:
    """Run all Python of a document, in order and in one module, and some checks after it."""
    script = folder / "newcomer.py"
    script.write_text("\n".join([*blocks(document, "python"), after]), "utf-8")
    return run([sys.executable, "-W", "error", str(script)], shell, folder)


def test_the_readme_works_as_it_stands(shell: dict[str, str], tmp_path: Path) -> None:
    checks = """
assert store.pipelines["churn"].runs[-1]["train"].output.read() == {"depth": 3, "rows": 2}
assert store.get_run("monday")["load"].is_cached
assert store.pipelines["churn"].latest_run.steps["train"].outputs["model"] == model
assert [node.id for node in graph.ancestors(model)] == [model.producer_step.id, rows.id]
assert store.list_runs("status = completed and parameters.depth in (3, 4) and started_at > now-7d")
"""
    told = run_python("README.md", shell, tmp_path, after=checks)
    assert "was made by train of churn/" in told
    commands = [line for block in blocks("README.md", "console") for line in block.splitlines()]
    # A server goes on until it is stopped, and has tests of its own.
    tried = [shlex.split(line) for line in commands if re.match(r"zen-mlmd (?!serve\b)", line)]
    assert len(tried) >= 3
    for command in tried:
        run(command, shell, tmp_path)


def test_the_readmes_first_command_activates_what_its_next_ones_need() -> None:
    first, *_ = blocks("README.md", "console")
    assert first.split(" && ") == [
        "python3 -m venv .venv",
        ". .venv/bin/activate",
        "pip install .",
        "zen-mlmd quickstart\n",
    ]


def test_the_kubeflow_history_is_read_as_it_stands(shell: dict[str, str], tmp_path: Path) -> None:
    shutil.copy(ROOT / "tests/data/kfp_v2_two_runs.db", tmp_path / "metadata.db")
    shell["ZEN_MLMD_STORE"] = "metadata.db"
    checks = """
assert (str(run.status), run.parameters["lr"]) == ("completed", 0.1)
assert (train.cached_from.id, train.metrics["accuracy"], model.id) == (5, 0.7, 6)
assert run.steps["train"] == train
"""
    told = run_python("docs/history.md", shell, tmp_path, after=checks)
    assert "for-loop-2[1] {'pipelinechannel--loop-item-param-1': 0.2}" in told
    assert "was made by train-sub/train of churn-training/" in told
    commands = [line for block in blocks("docs/history.md", "console") for line in block.splitlines()]
    assert len(commands) >= 9
    for command in commands:
        assert run(shlex.split(command), shell, tmp_path)


def test_the_page_on_stacks_works_as_it_stands(shell: dict[str, str], tmp_path: Path) -> None:
    shell |= {"MLMD_PASSWORD": "x", "COLUMNS": "200"}
    commands = [line for block in blocks("docs/stacks.md", "console") for line in block.splitlines()]
    assert len(commands) >= 10
    for command in commands:
        done = subprocess.run(
            shlex.split(command),
            env=shell,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        assert done.returncode == 0, (command, done)
    told = run(["zen-mlmd", "stack", "describe", "-o", "csv"], shell, tmp_path)
    assert "metadata store,prod,mysql,host,db.example,user settings" in told


def test_the_page_on_flavors_works_as_it_stands(shell: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "test_shared.py").write_text("\n".join(blocks("docs/flavors.md", "python")), "utf-8")
    told = run([sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "."], shell, tmp_path)
    assert re.search(r"^2\d passed, 1 skipped", told, re.MULTILINE), told
    assert f"```toml\n{entry_point()}```" in (ROOT / "docs/flavors.md").read_text("utf-8")


def entry_point() -> str:
    text = (ROOT / "examples/team-flavor/pyproject.toml").read_text("utf-8")
    return text[text.index("[project.entry-points.") : text.index("\n[tool.pytest")]


def test_the_guide_works_as_it_stands(shell: dict[str, str], tmp_path: Path) -> None:
    checks = """
assert [run.name for run in store.list_runs(pipeline="churn", limit=1)] == ["tuesday"]
assert store.get_run("tuesday")["evaluate"].is_cached
assert store.import_artifact("s3://bucket/rows.parquet", type="Dataset") == rows
assert graph.paths(graph.roots()[0], model)
"""
    told = run_python("docs/guide.md", shell, tmp_path, after=checks)
    assert told.count("done") == 3
    assert "was made by train of churn/monday" in told


@pytest.mark.parametrize(
    "document", ["README.md", *(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md"))]
)
def test_links_lead_somewhere(document: str) -> None:
    text = (ROOT / document).read_text("utf-8")
    for link in re.findall(r"\]\((?!https?:)([^)#]+)", text):
        assert (ROOT / document).parent.joinpath(link).exists(), link
