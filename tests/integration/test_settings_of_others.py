"""Stacks where several projects, an argument and the environment each have a say; and what files keep."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from zen_mlmd.cli.main import main
from zen_mlmd.errors import ConfigError
from zen_mlmd.stack import ActiveStack, Components, Settings, Stacks, config_named, make_project
from zen_mlmd.stack.settings import Scope

CANARY = "canary-9b1d"
MYSQL = {"database": "d", "password": "of the user"}


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def stores(start: Path | None = None) -> Components:
    return Components(Settings(start), "metadata_store")


def password(start: Path, name: str = "prod") -> str:
    settings = Settings(start)
    found: str = settings.secrets.resolve(stores(start).get(name).fields["password"])
    return found


def test_a_password_in_a_url_is_not_told(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ZEN_MLMD_STORE", f"mysql://u:{CANARY}@h/db")
    assert main(["metadata-store", "get"]) == 0
    assert main(["metadata-store", "describe"]) == 1
    register = ["metadata-store", "register", "p", "--flavor", "mysql", "--database", "d", "--password"]
    assert main([*register, f"@{CANARY}"]) == 1
    told = capsys.readouterr()
    assert CANARY not in told.out + told.err
    assert "u@h:3306/db" in told.out


def test_projects_keep_their_passwords_apart(home: Path) -> None:
    scopes: dict[str, Scope] = {"a": "project", "b": "project", "": "user"}
    for name, scope in scopes.items():
        folder = home / name
        if name:
            folder.mkdir()
            make_project(folder)
        stores(folder).register("prod", "mysql", {**MYSQL, "password": f"of {name}"}, scope=scope)
    assert [password(home / name) for name in scopes] == ["of a", "of b", "of "]
    stores(home / "b").delete("prod")
    assert [password(home / "a"), password(home)] == ["of a", "of "]
    kept = (home / "config" / "zen_mlmd" / "secrets.yaml").read_text()
    assert "of b" not in kept


def test_a_copy_refers_to_what_its_original_refers_to(home: Path) -> None:
    settings = Settings()
    settings.secrets.set("default/shared", CANARY)
    stores().register("one", "mysql", {**MYSQL, "user": "${secret:default/shared}"})
    copied = stores().copy("one", "two")
    assert copied.fields["user"] == "${secret:default/shared}"
    assert password(home, "two") == "of the user"
    assert CANARY not in (home / "config" / "zen_mlmd" / "settings.yaml").read_text()
    stores().update("two", {"password": None})
    assert "of the user" not in str([settings.secrets.names(), stores().get("two")])


def test_an_argument_is_above_the_environment(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("one", "two"):
        stores().register(name, "sqlite", {"path": f"/{name}.db"})
    monkeypatch.setenv("ZEN_MLMD_STORE", "one")
    monkeypatch.setenv("ZEN_MLMD_STORE_PATH", "/changed.db")
    assert config_named("one").location == "/changed.db"
    assert config_named("two").location == "/two.db"
    assert ActiveStack(name="default").resolve("metadata_store").name == "default"


def test_the_rights_of_a_file_stay_as_they_were(home: Path) -> None:
    stores().register("one", "sqlite", {"path": "/one.db"})
    path = home / "config" / "zen_mlmd" / "settings.yaml"
    path.chmod(0o600)
    stores().update("one", {"path": "/two.db"})
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.parametrize(
    "text",
    [
        "stacks: {s: {metadata_store: 2024}}\nactive_stack: s\n",
        "metadata_stores: {2024: {flavor: sqlite, path: a.db}}\n",
        "metadata_store_flavors: a.B\n",
    ],
)
def test_what_yaml_takes_for_a_number_is_refused_and_kept(home: Path, text: str) -> None:
    path = home / "config" / "zen_mlmd" / "settings.yaml"
    path.parent.mkdir(parents=True)
    path.write_text(f"profiles:\n  default:\n    {text}" if not text.startswith("metadata_store_f") else text)
    before = path.read_text()
    with pytest.raises(ConfigError):
        ActiveStack().describe()
    assert path.read_text() == before


def test_a_reference_is_one_or_is_refused(home: Path) -> None:
    with pytest.raises(ConfigError, match="looks like a reference"):
        stores().register("one", "mysql", {**MYSQL, "host": "${evn:DBHOST}"})
    artifacts = Components(Settings(), "artifact_store")
    assert artifacts.register("s", "remote", {"uri": "${env:BUCKET}"}).fields == {"uri": "${env:BUCKET}"}


def test_a_secret_that_was_written_into_the_settings_is_not_shown(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = home / "config" / "zen_mlmd" / "settings.yaml"
    path.parent.mkdir(parents=True)
    fields = f"flavor: mysql, database: d, password: {CANARY}, pasword: {CANARY}"
    path.write_text(f"profiles: {{default: {{metadata_stores: {{prod: {{{fields}}}}}}}}}")
    for command in (
        ["list"],
        ["list", "-o", "json"],
        ["describe", "prod"],
        ["describe", "prod", "-o", "yaml"],
    ):
        assert main(["metadata-store", *command]) == 0
    assert main(["stack", "register", "s", "-m", "prod", "-a", "default", "-o", "default"]) == 0
    assert main(["stack", "export", "s"]) == 1
    told = capsys.readouterr()
    assert "holds password in clear" in told.err
    assert CANARY not in told.out + told.err


def test_what_an_import_made_is_taken_back(home: Path) -> None:
    content = {
        "zen_mlmd_stack": 1,
        "name": "s",
        "metadata_store": {"name": "m", "flavor": "sqlite", "path": "/m.db"},
        "artifact_store": {"name": "a", "flavor": "nowhere"},
    }
    exported = Stacks(Settings()).export("default")
    content = {**{key: exported[key] for key in exported if key not in content}, **content}
    with pytest.raises(ConfigError, match="nowhere"):
        Stacks(Settings()).import_(content)
    assert [each.name for each in stores().all()] == ["default"]
