"""Bringing stores up and taking them down: which have it, and what the commands print."""

from __future__ import annotations

from pathlib import Path

import pytest

import zen_mlmd as zm
from zen_mlmd.cli.main import main
from zen_mlmd.errors import UsageError
from zen_mlmd.flavors import lifecycle


def test_a_store_that_is_a_file_is_not_brought_up(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "metadata.db"
    for word in ("up", "down", "status", "logs"):
        assert main(["metadata-store", word, str(path)]) == 1
        assert "a sqlite store needs no up" in capsys.readouterr().err
        with pytest.raises(UsageError, match="needs no up"):
            getattr(lifecycle, word)(zm.SqliteConfig(path=str(path)))
    assert not path.exists()
