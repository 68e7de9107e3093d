"""What a person keeps: components, stacks, profiles, secrets, and what is in force."""

from __future__ import annotations

import stat
import subprocess
import sys
from pathlib import Path

import pytest

import zen_mlmd as zm
from zen_mlmd.errors import ConfigError, UsageError
from zen_mlmd.stack import (
    ActiveStack,
    Components,
    Settings,
    Stacks,
    active_config,
    config_named,
    make_project,
)
from zen_mlmd.stack.words import Kind

CANARY = "canary-7f3a"


@pytest.fixture(autouse=True)
def home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An empty home, and a working directory in no project."""
    for name in ("XDG_CONFIG_HOME", "XDG_DATA_HOME"):
        monkeypatch.setenv(name, str(tmp_path / name))
    for name in ("STORE", "STACK", "PROFILE", "ARTIFACT_STORE", "ORCHESTRATOR"):
        monkeypatch.delenv(f"ZEN_MLMD_{name}", raising=False)
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path


def stores() -> Components:
    return Components(Settings(), "metadata_store")


def register_prod(**fields: object) -> None:
    stores().register("prod", "mysql", {"host": "db", "database": "metadb", **fields})


def everything(folder: Path) -> str:
    """Return all that is kept but the secrets."""
    files = [each for each in folder.rglob("*") if each.is_file() and each.name != "secrets.yaml"]
    return "\n".join(each.read_text("utf-8") for each in files)


# -- components --------------------------------------------------------------------------------------


def test_the_default_stack_is_there_from_the_start(home: Path) -> None:
    (stack,) = Stacks(Settings()).all()
    assert (stack.metadata_store, stack.artifact_store, stack.orchestrator) == ("default",) * 3
    assert active_config() == zm.SqliteConfig(path=str(home / "XDG_DATA_HOME" / "zen_mlmd" / "metadata.db"))
    with zm.open_store("default") as store:
        assert store.config == active_config()


def test_a_component_is_kept_changed_and_forgotten() -> None:
    register_prod(port="3307")
    assert stores().get("prod").fields == {"host": "db", "database": "metadb", "port": 3307}
    stores().update("prod", {"host": "other", "tls": "true"})
    stores().update("prod", {"port": None})
    assert stores().get("prod").fields == {"host": "other", "database": "metadb", "tls": True}
    stores().copy("prod", "copy")
    stores().rename("prod", "old")
    assert [each.name for each in stores().all()] == ["default", "copy", "old"]
    stores().delete("old")
    assert stores().find("old") is None
    assert stores().get("copy").flavor == "mysql"


@pytest.mark.parametrize(
    ("flavor", "fields", "message", "hint"),
    [
        ("mysq", {}, "no flavor 'mysq'", "did you mean mysql?"),
        ("mysql", {"database": "d", "hst": "h"}, "no setting 'hst'", "host"),
        ("mysql", {}, "database: Field required", "its settings are"),
        ("mysql", {"database": "d", "port": CANARY}, "port: Input should be a valid integer", ""),
        ("mysql", {"database": "d", "password": f"{CANARY}\0"}, "password: ", ""),
    ],
)
def test_what_is_wrong_is_refused_by_name_and_nothing_is_kept(
    home: Path, flavor: str, fields: dict[str, str], message: str, hint: str
) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        stores().register("prod", flavor, fields)
    assert hint in caught.value.hint
    assert CANARY not in str(caught.value)
    assert stores().find("prod") is None
    assert CANARY not in everything(home)


def test_a_name_is_taken_once_and_the_default_stays() -> None:
    register_prod()
    with pytest.raises(ConfigError, match="already"):
        register_prod()
    for change in (
        lambda: stores().delete("default"),
        lambda: stores().update("default", {"path": "x"}),
        lambda: Stacks(Settings()).delete("default"),
        lambda: Stacks(Settings()).rename("default", "x"),
    ):
        with pytest.raises(ConfigError, match="built in"):
            change()
    for name in ("", "a b", "a/b", "-x", "x" * 200):
        with pytest.raises(UsageError, match="no name"):
            stores().register(name, "mysql", {"database": "d"})


def test_a_component_of_a_stack_is_not_forgotten_and_its_new_name_is_known() -> None:
    register_prod()
    stacks = Stacks(Settings())
    stacks.register("s", {"metadata_store": "prod", "artifact_store": "default", "orchestrator": "default"})
    with pytest.raises(ConfigError, match="is in the stack 's'"):
        stores().delete("prod")
    stores().rename("prod", "new")
    assert stacks.get("s").metadata_store == "new"
    stacks.set_active("s")
    with pytest.raises(ConfigError, match="active stack"):
        stacks.delete("s")
    stacks.rename("s", "t")
    assert Settings().active_stack()[0] == "t"


# -- secrets -----------------------------------------------------------------------------------------


def test_a_secret_is_kept_apart_and_shown_nowhere(home: Path) -> None:
    register_prod(password=CANARY)
    secrets = Settings().secrets
    assert stat.S_IMODE(secrets.path.stat().st_mode) == 0o600
    assert stores().get("prod").fields["password"] == "${secret:default/metadata_store/prod/password}"
    assert CANARY not in everything(home)
    stacks = Stacks(Settings())
    stacks.register("s", {"metadata_store": "prod", "artifact_store": "default", "orchestrator": "default"})
    stacks.set_active("s")
    config = active_config()
    assert isinstance(config, zm.MysqlConfig)
    assert config.password.get_secret_value() == CANARY
    shown = (repr(config), str(ActiveStack().describe()), str(stacks.export("s")), str(stores().all()))
    assert not any(CANARY in each for each in shown)


def test_secrets_go_with_their_component() -> None:
    register_prod(password=CANARY)
    stores().rename("prod", "old")
    register_prod(password="another")
    config = config_named("old")
    assert isinstance(config, zm.MysqlConfig)
    assert config.password.get_secret_value() == CANARY
    stores().copy("old", "copy")
    stores().delete("old")
    assert Settings().secrets.names() == [
        "default/metadata_store/copy/password",
        "default/metadata_store/prod/password",
    ]
    assert Settings().secrets.get("default/metadata_store/copy/password") == CANARY


def test_a_value_may_lie_elsewhere(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (home / "file").write_text("from a file\n")
    Settings().secrets.set("mine", "kept")
    stores().register(
        "prod",
        "mysql",
        {
            "database": "${env:DB}",
            "user": "${secret:mine}",
            "password": f"${{file:{home}/file}}",
            "port": "${env:PORT}",
        },
    )
    monkeypatch.setenv("ZEN_MLMD_STORE", "prod")
    with pytest.raises(ConfigError, match=r"\$\{env:DB\}: there is no such environment variable"):
        active_config()
    monkeypatch.setenv("DB", "metadb")
    monkeypatch.setenv("PORT", "3311")
    config = active_config()
    assert isinstance(config, zm.MysqlConfig)
    assert (config.database, config.user, config.port) == ("metadb", "kept", 3311)
    assert config.password.get_secret_value() == "from a file"
    (home / "file").unlink()
    with pytest.raises(ConfigError, match="No such file"):
        active_config()


# -- scopes, profiles, the environment ---------------------------------------------------------------


def test_the_project_counts_before_the_user_and_the_environment_before_both(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts: dict[Kind, str] = {
        "metadata_store": "prod",
        "artifact_store": "default",
        "orchestrator": "default",
    }
    register_prod()
    Stacks(Settings()).register("mine", parts)
    Stacks(Settings()).set_active("mine")
    make_project(home / "work")
    deep = home / "work" / "a" / "b"
    deep.mkdir(parents=True)
    monkeypatch.chdir(deep)
    settings = Settings()
    Components(settings, "metadata_store").register("prod2", "sqlite", {"path": "p.db"}, scope="project")
    Stacks(settings).register("ours", {**parts, "metadata_store": "prod2"}, scope="project")
    assert active_config().flavor == "mysql"
    Stacks(settings).set_active("ours")
    assert active_config() == zm.SqliteConfig(path="p.db")
    monkeypatch.chdir(home)
    assert active_config().flavor == "mysql"
    monkeypatch.setenv("ZEN_MLMD_STACK", "default")
    assert active_config().flavor == "sqlite"
    monkeypatch.setenv("ZEN_MLMD_STORE", "prod")
    monkeypatch.setenv("ZEN_MLMD_STORE_HOST", "elsewhere")
    config = active_config()
    assert isinstance(config, zm.MysqlConfig)
    assert config.host == "elsewhere"
    values = {each.field: each.source for each in ActiveStack().resolve("metadata_store").values}
    assert values == {"host": "ZEN_MLMD_STORE_HOST", "database": "user settings"}
    assert config_named("sqlite:///x.db") == zm.SqliteConfig(path="x.db")


def test_a_profile_has_components_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    register_prod(password=CANARY)
    stores().copy("prod", "prod", to=Settings().in_profile("team"))
    Settings().set_profile("team")
    assert Settings().profiles() == ["default", "team"]
    assert stores().get("prod").fields["password"] == "${secret:team/metadata_store/prod/password}"
    stores().delete("prod")
    monkeypatch.setenv("ZEN_MLMD_PROFILE", "default")
    assert stores().get("prod").fields["host"] == "db"


def test_a_stack_goes_to_another_machine_without_its_secrets(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    register_prod(password=CANARY, port=3307)
    stacks = Stacks(Settings())
    parts: dict[Kind, str] = {
        "metadata_store": "prod",
        "artifact_store": "default",
        "orchestrator": "default",
    }
    stacks.register("s", parts)
    exported = stacks.export("s")
    assert CANARY not in str(exported)
    for name in ("XDG_CONFIG_HOME", "XDG_DATA_HOME"):
        monkeypatch.setenv(name, str(home / "other" / name))
    there = Stacks(Settings())
    imported = there.import_(exported)
    assert there.missing_secrets(imported) == ["default/metadata_store/prod/password"]
    Settings().secrets.set("default/metadata_store/prod/password", "mine")
    assert there.missing_secrets(imported) == []
    assert stores().get("prod").fields["port"] == 3307
    with pytest.raises(ConfigError, match="already"):
        there.import_(exported)
    assert there.import_(exported, name="t").metadata_store == "prod"
    for wrong in ({}, {**exported, "orchestrator": None, "name": "u"}, {**exported, "name": "../x"}):
        with pytest.raises((ConfigError, UsageError)):
            there.import_(wrong)


# -- files -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("profiles:\n  default: [\n", "line 3: it is no YAML"),
        ("- a list\n", "no mapping"),
        ("profils: {}\n", "'profils', which means nothing"),
        ("profiles:\n  default:\n    metadata_stores: 3\n", "'metadata_stores' holds no mapping"),
        ("profiles: {default: {metadata_stores: {x: {}}}}\n", "has no flavor"),
        ("profiles: !!python/object/apply:os.system ['true']\n", "no YAML"),
        ("\xff", "no mapping"),
    ],
)
def test_a_file_that_means_nothing_is_an_error_and_stays_as_it_is(text: str, message: str) -> None:
    path = Settings().files["user"].path
    path.parent.mkdir(parents=True)
    path.write_text(text, "utf-8")
    with pytest.raises(ConfigError, match=message) as caught:
        stores().all()
    assert str(path) in str(caught.value)
    with pytest.raises(ConfigError):
        register_prod()
    assert path.read_text("utf-8") == text


@pytest.mark.slow
def test_fifty_processes_change_settings_at_once_and_lose_nothing(home: Path) -> None:
    script = (
        "import sys; from zen_mlmd.stack import Components, Settings\n"
        "name = f's{sys.argv[1]}'\n"
        "Components(Settings(), 'artifact_store').register(name, 'local', {'path': name})\n"
        "Settings().secrets.set(name, name)\n"
    )
    root = str(Path(__file__).parents[2])
    running = [
        subprocess.Popen(
            [sys.executable, "-c", f"import sys; sys.path.insert(0, {root!r})\n{script}", str(number)]
        )
        for number in range(50)
    ]
    assert [process.wait(120) for process in running] == [0] * 50
    names = {f"s{number}" for number in range(50)}
    assert {each.name for each in Components(Settings(), "artifact_store").all()} == {"default", *names}
    assert set(Settings().secrets.names()) == names


def test_a_link_to_a_file_elsewhere_stays_one(home: Path) -> None:
    path = Settings().files["user"].path
    path.parent.mkdir(parents=True)
    (home / "dotfiles.yaml").touch()
    path.symlink_to(home / "dotfiles.yaml")
    register_prod()
    assert path.is_symlink()
    assert "prod" in (home / "dotfiles.yaml").read_text()


# -- custom flavors ----------------------------------------------------------------------------------


def test_a_custom_flavor_is_known_by_its_class(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (home / "my_flavor.py").write_text(
        "from zen_mlmd.flavors import SqliteConfig\n"
        "class MyConfig(SqliteConfig):\n"
        "    flavor = 'mine'\n"
        "    schemes = ('mine',)\n"
        "class Nameless(SqliteConfig):\n"
        "    flavor = ''\n"
    )
    monkeypatch.syspath_prepend(str(home))
    assert Settings().register_flavor("my_flavor.MyConfig").__name__ == "MyConfig"
    stores().register("m", "mine", {"path": "m.db"})
    with zm.open_store("m") as store:
        assert store.config.flavor == "mine"
    for source, message in (
        ("my_flavor.Nameless", "lacks flavor"),
        ("my_flavor.Gone", "cannot be imported"),
        ("pathlib.Path", "no flavor"),
        ("zen_mlmd.flavors.SqliteConfig", "already"),
    ):
        with pytest.raises(ConfigError, match=message):
            Settings().register_flavor(source)
