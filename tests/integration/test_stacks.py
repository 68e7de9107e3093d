"""From a laptop's SQLite to a MySQL by one command and no code: the commands as a user calls them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.services.mariadb import MariaDb
from zen_mlmd.flavors import FLAVORS
from zen_mlmd.stack.built_in import SECRETS, SETTINGS
from zen_mlmd.stack.components import flavors, is_secret
from zen_mlmd.stack.words import KINDS, Kind

ROOT = Path(__file__).resolve().parents[2]
CANARY = "canary-7f3a"
PIPELINE = """
import zen_mlmd as zm

@zm.step
def load() -> list:
    return [1, 2, 3]

@zm.step
def total(rows: list) -> int:
    return sum(rows)

@zm.pipeline
def adding():
    total(load())

adding()
"""


class Machine:
    """One user's machine: an empty home, and a project's folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "project").mkdir(parents=True)
        (folder / "project" / "adding.py").write_text(PIPELINE)
        self.env = {
            "PATH": "/usr/bin:/bin",
            "HOME": str(folder),
            "XDG_CONFIG_HOME": str(folder / "config"),
            "XDG_DATA_HOME": str(folder / "data"),
            "PYTHONPATH": str(ROOT),
            "COLUMNS": "80",
        }

    def run(self, *command: str, code: int = 0, given: str = "", **env: str) -> str:
        """Run a command of zen-mlmd; return all that it printed."""
        return self._run([sys.executable, "-m", "zen_mlmd", *command], code, given, env)

    def python(self, script: str, **env: str) -> str:
        return self._run([sys.executable, script], 0, "", env)

    def _run(self, command: list[str], code: int, given: str, env: dict[str, str]) -> str:
        done = subprocess.run(
            command,
            env={**self.env, **env},
            cwd=self.folder / "project",
            input=given,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        assert done.returncode == code, (command, done)
        return done.stdout + done.stderr


@pytest.fixture
def laptop(tmp_path: Path) -> Machine:
    return Machine(tmp_path / "laptop")


def runs(machine: Machine, **env: str) -> list[str]:
    rows = json.loads(machine.run("runs", "list", "-o", "json", code=0, given="", **env))
    return [row["pipeline"] for row in rows]


def tables_with(text: str, mariadb: MariaDb, database: str) -> list[str]:
    """Return the tables of a database in which a text stands."""
    tables = [name for (name,) in mariadb.sql(f"SHOW TABLES FROM {database}")]
    return [name for name in tables if text in str(mariadb.sql(f"SELECT * FROM {database}.`{name}`"))]


@pytest.mark.mysql
def test_a_pipeline_moves_from_sqlite_to_mysql_by_one_command(
    laptop: Machine, mariadb: MariaDb, tmp_path: Path
) -> None:
    database = mariadb.new_database()
    laptop.python("adding.py")
    assert runs(laptop) == ["adding"]
    laptop.run(
        *("metadata-store", "register", "prod", "--flavor", "mysql", "--host", "127.0.0.1"),
        *("--port", str(mariadb.port), "--database", database, "--user", mariadb.user),
        *("--password", mariadb.password),
    )
    laptop.run("artifact-store", "register", "shared", "-f", "local", "--path", str(tmp_path / "shared"))
    laptop.run("stack", "register", "prod", "-m", "prod", "-a", "shared", "-o", "default")
    laptop.run("stack", "set", "prod")
    assert laptop.run("stack", "get") == "prod\n"
    laptop.python("adding.py")
    assert runs(laptop) == ["adding"]
    assert json.loads(laptop.run("artifacts", "list", "-o", "json"))[0]["uri"].startswith(
        f"{tmp_path}/shared/"
    )
    shown = json.loads(laptop.run("runs", "show", "adding/latest", "-o", "json"))
    assert shown["stack"] == {
        "name": "prod",
        "metadata_store": {"name": "prod", "flavor": "mysql"},
        "artifact_store": {"name": "shared", "flavor": "local"},
        "orchestrator": {"name": "default", "flavor": "local"},
    }
    assert "ContextProperty" in tables_with("adding", mariadb, database)
    assert tables_with(mariadb.password, mariadb, database) == []
    # Each store has what was recorded while it was the active one, under its name too.
    assert runs(laptop, ZEN_MLMD_STACK="default") == runs(laptop, ZEN_MLMD_STORE="default") == ["adding"]
    laptop.python("adding.py", ZEN_MLMD_STACK="default")
    assert runs(laptop, ZEN_MLMD_STACK="default") == ["adding", "adding"]

    laptop.run("stack", "export", "prod", "prod.yaml")
    other = Machine(tmp_path / "other")
    exported = (laptop.folder / "project" / "prod.yaml").read_text()
    assert mariadb.password not in exported
    (other.folder / "project" / "prod.yaml").write_text(exported)
    told = other.run("stack", "import", "prod.yaml", "--name", "production")
    assert "zen-mlmd secret set default/metadata_store/prod/password" in told
    other.run("stack", "set", "production")
    told = other.run("runs", "list", code=1)
    assert "there is no secret 'default/metadata_store/prod/password'" in told
    other.run("secret", "set", "default/metadata_store/prod/password", given=f"{mariadb.password}\n")
    assert runs(other) == ["adding"]


def test_no_command_shows_a_secret(laptop: Machine) -> None:
    secrets = {
        (flavor, field)
        for flavor, config in FLAVORS.items()
        for field in config.model_fields
        if is_secret(config, field)
    }
    assert secrets == {
        ("mysql", "password"),
        ("postgresql", "password"),
        ("kubeflow", "key"),
        ("kubeflow", "token"),
        ("kubeflow", "metadata"),
    }
    laptop.run("secret", "set", "mine", given=CANARY)
    laptop.run(
        *("metadata-store", "register", "pg", "--flavor", "postgresql", "--host", "127.0.0.1"),
        *("--port", "1", "--database", "metadb", "--password", CANARY),
    )
    laptop.run(
        *("metadata-store", "register", "prod", "--flavor", "mysql", "--host", "127.0.0.1", "--port", "1"),
        *("--database", "metadb", "--password", CANARY),
    )
    laptop.run(
        *("metadata-store", "register", "kf", "--flavor", "kubeflow", "--tls", "--token", CANARY),
        *("--metadata", f"kubeflow-userid={CANARY}", "--certificate", "-----BEGIN CERTIFICATE-----"),
        *("--key", f"-----BEGIN PRIVATE KEY----- {CANARY}"),
    )
    laptop.run("stack", "register", "s", "-m", "prod", "-a", "default", "-o", "default", "--set")
    told = [
        laptop.run(*command, "-o", output)
        for command in (
            ("metadata-store", "list"),
            ("metadata-store", "describe", "prod"),
            ("metadata-store", "describe", "kf"),
            ("metadata-store", "describe", "pg"),
            ("stack", "list"),
            ("stack", "describe"),
            ("secret", "list"),
        )
        for output in ("table", "json", "yaml", "csv")
    ]
    told.append(laptop.run("stack", "export"))
    told += [laptop.run("--store", name, "runs", "list", code=1) for name in ("pg", "kf")]
    told.append(laptop.run("runs", "list", code=1))
    told.append(laptop.run("runs", "list", code=1, ZEN_MLMD_STORE_PORT=CANARY))
    told.append(laptop.run("metadata-store", "update", "prod", "--port", CANARY, code=1))
    assert not any(CANARY in each for each in told)
    kept = [each for each in laptop.folder.rglob("*") if each.is_file() and CANARY in each.read_text("utf-8")]
    assert [each.name for each in kept] == ["secrets.yaml"]


def test_the_commands_of_a_component(laptop: Machine) -> None:
    laptop.run("metadata-store", "register", "lite", "-f", "sqlite", "--path", "a.db")
    laptop.run(
        "metadata-store", "register", "by-url", "-f", "mysql", "--url", "mysql://ana:pw@host:33/metadb"
    )
    (laptop.folder / "project" / "database").write_text("from-a-file\n")
    laptop.run("metadata-store", "update", "by-url", "--database=@database", "--no-tls")
    described = json.loads(laptop.run("metadata-store", "describe", "by-url", "-o", "json"))
    assert described["settings"] == {
        "database": "from-a-file",
        "host": "host",
        "password": "${secret:default/metadata_store/by-url/password}",
        "port": 33,
        "tls": False,
        "user": "ana",
    }
    laptop.run("metadata-store", "remove-attribute", "by-url", "--tls", "port")
    laptop.run("metadata-store", "copy", "lite", "lite2", "--to", "team")
    laptop.run("metadata-store", "rename", "lite", "light")
    assert "light" in laptop.run("metadata-store", "list")
    assert "lite2" in laptop.run("metadata-store", "list", ZEN_MLMD_PROFILE="team")
    laptop.run("metadata-store", "delete", "light")
    assert laptop.run("metadata-store", "get") == "default\n"
    assert "did you mean" in laptop.run("metadata-store", "describe", "by-ur", code=1)
    assert "Did you mean" in laptop.run("metadata-store", "update", "by-url", "--databse", "x", code=2)
    assert "--ssl-ca" in laptop.run("metadata-store", "register", "x", "--flavor", "mysql", "--help")
    listed = json.loads(laptop.run("artifact-store", "flavor", "list", "-o", "json"))
    assert [row["flavor"] for row in listed] == ["local", "remote"]
    assert "max_parallel" in laptop.run("orchestrator", "flavor", "describe", "local")
    assert "payloads" in laptop.run("artifact-store", "explain")
    told = laptop.run("orchestrator", "register", "x", "--flavor", "local", "--help")
    assert "How many independent steps may run at once" in " ".join(told.split())
    settings = json.loads(laptop.run("metadata-store", "flavor", "describe", "mysql", "-o", "json"))
    by_name = {row["setting"]: row for row in settings}
    assert (by_name["password"]["secret"], by_name["password"]["default"]) == (True, None)
    assert by_name["wait_s"]["description"].startswith("How long a call waits")
    laptop.run("orchestrator", "register", "wide", "--flavor", "local", "--max-parallel", "4")
    told = laptop.run("orchestrator", "list")
    assert all(len(line) <= 80 for line in told.splitlines())


def offered(machine: Machine, line: str) -> list[str]:
    """Return what bash would be offered at the end of a line."""
    words = line.split(" ")
    env = {"COMP_WORDS": line, "COMP_CWORD": str(len(words) - 1), "_ZEN_MLMD_COMPLETE": "bash_complete"}
    told = machine.run(code=0, given="", **env)
    return [each.partition(",")[2] for each in told.split()]


def test_a_shell_completes_commands_names_and_settings(laptop: Machine) -> None:
    laptop.run("metadata-store", "register", "lite", "-f", "sqlite", "--path", "a.db")
    laptop.run("stack", "register", "light", "-m", "lite", "-a", "default", "-o", "default")
    assert offered(laptop, "zen-mlmd metadata-store re") == ["register", "remove-attribute", "rename"]
    assert offered(laptop, "zen-mlmd metadata-store register x --flavor my") == ["mysql"]
    assert offered(laptop, "zen-mlmd metadata-store register x --flavor mysql --ssl-c") == [
        *("--ssl-ca", "--ssl-capath", "--ssl-cert", "--ssl-cipher"),
    ]
    assert offered(laptop, "zen-mlmd metadata-store update lite --jour") == ["--journal-mode"]
    assert offered(laptop, "zen-mlmd metadata-store describe l") == ["lite"]
    assert offered(laptop, "zen-mlmd stack set ") == ["default", "light"]
    (laptop.folder / "config" / "zen_mlmd" / "settings.yaml").write_text("{")
    assert offered(laptop, "zen-mlmd stack set ") == []


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_known_without_a_flavors_class_is_what_it_says(kind: Kind) -> None:
    found = flavors(kind)
    fields = {name: sorted(config.model_fields) for name, config in found.items()}
    assert fields == {name: sorted(each) for name, each in SETTINGS[kind].items()}
    for config in found.values():
        secrets = {each for each in config.model_fields if is_secret(config, each)}
        assert secrets == SECRETS & config.model_fields.keys()


def test_a_project_has_an_active_stack_of_its_own(laptop: Machine) -> None:
    laptop.run("init")
    laptop.run("metadata-store", "register", "ours", "-f", "sqlite", "--path", "ours.db", "--project")
    laptop.run("stack", "register", "ours", "-m", "ours", "-a", "default", "-o", "default", "--project")
    laptop.run("stack", "set", "ours")
    laptop.python("adding.py")
    assert (laptop.folder / "project" / "ours.db").exists()
    assert "ours" in (laptop.folder / "project" / ".zen_mlmd" / "settings.yaml").read_text()
    assert not (laptop.folder / "config" / "zen_mlmd" / "settings.yaml").exists()
    told = laptop.run("stack", "describe", ZEN_MLMD_STORE_WAIT_S="3")
    assert "ZEN_MLMD_STORE_WAIT_S" in told
    assert "project settings" in told
