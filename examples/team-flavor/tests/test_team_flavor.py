import json
import subprocess
import sys
from pathlib import Path

import pytest
from team_flavor import TeamConfig

from zen_mlmd import open_store
from zen_mlmd.errors import ConfigError
from zen_mlmd.testing import StoreContract


class TestTeamStore(StoreContract):
    lacks = frozenset({"prune"})  # an SQLite file is opened by ml-metadata, which deletes nothing

    @pytest.fixture
    def config(self, tmp_path: Path) -> TeamConfig:
        return TeamConfig(root=str(tmp_path), team="fraud")


def test_each_team_has_a_file(tmp_path: Path) -> None:
    with open_store(f"team://fraud?root={tmp_path}") as store, store.record_run("churn", name="monday"):
        pass
    with open_store(f"team://risk?root={tmp_path}") as store:
        assert list(store.runs) == []
    assert sorted(path.name for path in tmp_path.glob("*.db")) == ["fraud.db", "risk.db"]


def test_a_team_is_no_path(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="team"):
        TeamConfig.checked(root=str(tmp_path), team="../risk")


def test_the_installed_package_brings_its_flavor() -> None:
    command = [sys.executable, "-m", "zen_mlmd", "metadata-store", "flavor", "list", "-o", "json"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert {row["flavor"]: row["class"] for row in json.loads(done.stdout)}[
        "team"
    ] == "team_flavor.TeamConfig"
