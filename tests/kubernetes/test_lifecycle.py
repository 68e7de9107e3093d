"""Bringing stores up and taking them down: which have it, and what the commands print."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import zen_mlmd as zm
from zen_mlmd.cli.main import main
from zen_mlmd.errors import UsageError
from zen_mlmd.flavors import lifecycle


def test_a_store_that_is_a_file_is_not_brought_up(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "metadata.db"
    for word in ("up", "down", "logs"):
        assert main(["metadata-store", word, str(path)]) == 1
        assert "a sqlite store needs no up" in capsys.readouterr().err
        with pytest.raises(UsageError, match="needs no up"):
            getattr(lifecycle, word)(zm.SqliteConfig(path=str(path)))
    assert not path.exists()


def test_any_store_is_asked_how_it_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "metadata.db"
    assert main(["metadata-store", "status", str(path), "-o", "json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert (found["state"], found["remedy"]) == ("failing", "zen-mlmd doctor finds out more")
    assert not path.exists()
    zm.open_store(path).close()
    assert main(["metadata-store", "status", str(path), "-o", "json"]) == 0
    assert json.loads(capsys.readouterr().out)["state"] == "up"


@pytest.mark.parametrize("kind", ["artifact-store", "orchestrator"])
def test_nothing_of_other_components_is_brought_up(kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    for word in ("up", "down", "status", "logs"):
        assert main([kind, word]) == 0
        assert "'default' (local): nothing of it is brought up" in capsys.readouterr().out
    assert main([kind, "up", "defautl"]) == 1
    assert "did you mean default?" in capsys.readouterr().err


def test_a_stack_whose_store_is_a_file_is_up(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZEN_MLMD_STORE", str(tmp_path / "metadata.db"))
    zm.open_store().close()
    assert main(["stack", "up"]) == 0
    assert "sqlite store" in capsys.readouterr().out
    assert main(["stack", "down"]) == 0
    assert "nothing of it was brought up" in capsys.readouterr().out
