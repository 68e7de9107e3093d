"""Where things are kept if nothing else is said."""

from __future__ import annotations

from pathlib import Path

import pytest

import zen_mlmd as zm
from zen_mlmd.errors import ConfigError
from zen_mlmd.stack import active_artifacts, active_config


@pytest.fixture(autouse=True)
def _nothing_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ZEN_MLMD_STORE", raising=False)
    monkeypatch.delenv("ZEN_MLMD_ARTIFACT_STORE", raising=False)


def at_home(monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(home))


@pytest.mark.parametrize("name", ["plain", "we?ird #x%20", "spa ce é", "a@b:c"])
def test_any_home_holds_the_store(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str) -> None:
    at_home(monkeypatch, tmp_path / name)
    with zm.open_store() as store:
        assert store.config.location == str(tmp_path / name / "zen_mlmd" / "metadata.db")
    assert (tmp_path / name / "zen_mlmd" / "metadata.db").exists()
    assert active_artifacts() == str(tmp_path / name / "zen_mlmd" / "artifacts")


def test_a_home_that_cannot_be_made_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    at_home(monkeypatch, tmp_path / "file")
    for ask in (active_config, active_artifacts, zm.open_store):
        with pytest.raises(ConfigError, match="cannot be made: Not a directory") as caught:
            ask()
        assert "ZEN_MLMD_STORE" in caught.value.hint


@zm.step
def make() -> int:
    return 1


@zm.pipeline
def making() -> None:
    make()


def test_the_environment_says_where_payloads_and_metadata_go(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    at_home(monkeypatch, tmp_path / "home")
    monkeypatch.setenv("ZEN_MLMD_STORE", str(tmp_path / "m.db"))
    monkeypatch.setenv("ZEN_MLMD_ARTIFACT_STORE", str(tmp_path / "kept"))
    output = making()["make"].output
    assert Path(output.uri).is_relative_to(tmp_path / "kept")
    assert output.read() == 1
    assert zm.open_store(tmp_path / "m.db").get_artifact(output.id).uri == output.uri
    assert not (tmp_path / "home").exists()


def test_a_path_is_a_config_too(tmp_path: Path) -> None:
    config = zm.SqliteConfig(path=tmp_path / "m.db")
    assert config == zm.SqliteConfig(path=str(tmp_path / "m.db"))
    assert config.location == str(tmp_path / "m.db")
