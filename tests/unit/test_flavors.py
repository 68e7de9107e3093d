"""URLs and configs of each flavor, and SQLite files of all sorts."""

from __future__ import annotations

import copy
import os
import pickle
import secrets
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ml_metadata.metadata_store import metadata_store
from ml_metadata.proto import metadata_store_pb2 as mlmd
from pydantic import ValidationError

import zen_mlmd as zm
from tests.services import make_certificates
from zen_mlmd.errors import (
    ConfigError,
    DatabaseMissingError,
    GrantMissingError,
    LockTimeoutError,
    NotMlmdError,
    UnreachableError,
)
from zen_mlmd.flavors import FLAVORS, StoreConfig, config_from_url
from zen_mlmd.service.lock import WriteLock

ROOT = Path(__file__).parents[2]
SECRET = "s3cret-" + secrets.token_hex(6)


def mysql(url: str) -> zm.MysqlConfig:
    config = config_from_url(url)
    assert isinstance(config, zm.MysqlConfig)
    return config


def kubeflow(url: str) -> zm.KubeflowConfig:
    config = config_from_url(url)
    assert isinstance(config, zm.KubeflowConfig)
    return config


def sqlite(url: str | Path) -> zm.SqliteConfig:
    config = config_from_url(url)
    assert isinstance(config, zm.SqliteConfig)
    return config


def fault(url: str | Path) -> str:
    with pytest.raises(ConfigError) as caught:
        config_from_url(url)
    assert caught.value.hint
    return caught.value.message


def in_another_process(script: str, *arguments: object) -> str:
    command = [sys.executable, "-c", script, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, check=False, text=True, cwd=ROOT, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


# --- any URL ---


def test_each_flavor_has_its_schemes() -> None:
    assert set(FLAVORS) == {"sqlite", "mysql", "postgresql", "kubeflow", "kubernetes"}
    schemes = [scheme for config in FLAVORS.values() for scheme in config.schemes]
    assert len(set(schemes)) == len(schemes)


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("", "empty"),
        ("  ", "empty"),
        ("a\0b.db", "empty"),
        ("oracle://host/db", "scheme 'oracle'"),
        ("mssql://host/db", "scheme 'mssql'"),
        ("://host/db", "scheme ''"),
        ("mysql:/zen@host/db", "lacks its //"),
        ("MySQL:zen@host/db", "lacks its //"),
        ("sqlite:metadata.db", "lacks its //"),
        ("mysql://zen:a/b@host/db", "cannot be read"),
        ("mysql://zen:1/b@host", "cannot be read"),
        ("mysql://zen:1?b@host/db", "cannot be read"),
        ("mysql://zen:p@host:port/db", "cannot be read"),
        ("mysql://zen:p@host:99999/db", "cannot be read"),
        ("mysql://zen:p@[::1/db", "cannot be read"),
        ("mysql://host/db?tls", "cannot be read"),
        ("mysql://host/db?tls=true&", "cannot be read"),
        ("mysql://host/db#more", "holds a #"),
        ("sqlite:///a#b.db", "holds a #"),
        ("sqlite:///a.db#", "holds a #"),
        ("mysql://host/d\nb", "control characters"),
        ("sqlite:///a\tb.db", "control characters"),
        ("mysql://host/db?tls=true&tls=false", "given twice"),
        ("mysql://host", "database"),
        ("mysql://host/", "database"),
        ("mysql://host/a%2Fb", "database"),
        ("mysql://host/a%60b", "database"),
        ("mysql://host/k%C3%A4se", "ASCII"),
        ("mysql://z%C3%B6e@host/db", "user"),
        ("mysql://zen:a%00b@host/db", "password"),
        ("mysql://host:0/db", "port"),
        ("mysql://host/db?colour=red", "colour"),
        ("mysql://host/db?tls=perhaps", "tls"),
        ("mysql://host/db?tls=false&ssl_ca=ca.pem", "tls is off"),
        ("mysql://host/db?connect_timeout_s=0", "connect_timeout_s"),
        ("mysql://host/db?connect_timeout_s=inf", "connect_timeout_s"),
        ("mysql://host/db?wait_s=-1", "wait_s"),
        ("mysql://host/db?wait_s=nan", "wait_s"),
        ("kubeflow://host:0", "port"),
        ("kubeflow://host:8080/path", "host and a port"),
        ("kubeflow://user@host:8080", "host and a port"),
        ("kubeflow://host?certificate=a.pem", "go together"),
        ("kubeflow://host?tls=no&ca=a.pem", "tls is off"),
        ("kubeflow://host?token=t", "only sent over TLS"),
        ("kubeflow://host?max_message_bytes=0", "max_message_bytes"),
        ("kubeflow://host?timeout_s=inf", "timeout_s"),
        ("kubeflow://host?colour=red", "colour"),
        ("sqlite://host/metadata.db", "names no host"),
        ("sqlite:///a.db?colour=red", "colour"),
        ("sqlite:///a.db?journal_mode=off", "journal_mode"),
        ("sqlite:///a.db?read_only=perhaps", "read_only"),
        ("sqlite:///%00.db", "name a file"),
        ("sqlite:///s3://b/a.db", "not a URL"),
        ("~no-such-user-here/a.db", "no such user"),
    ],
)
def test_a_url_that_means_no_store_is_told(url: str, message: str) -> None:
    assert message in fault(url)


def test_a_fault_names_the_settings_there_are() -> None:
    with pytest.raises(ConfigError) as caught:
        config_from_url("mysql://host/db?pasword=x")
    assert "password" in caught.value.hint
    assert "pasword" in caught.value.message


def test_an_option_cannot_override_what_the_url_says() -> None:
    assert sqlite("sqlite:///a.db?path=b.db").path.endswith("/a.db")
    assert mysql("mysql://host/db?host=other&database=other").host == "host"


@pytest.mark.parametrize(
    "config",
    [
        zm.SqliteConfig(path="a.db"),
        zm.MysqlConfig(database="db", password=SECRET, host="db.example.com", user="zen"),
        zm.KubeflowConfig(token=SECRET, metadata={"x-user": SECRET}),
    ],
    ids=lambda config: config.flavor,
)
def test_a_config_is_frozen_comparable_and_shows_no_secret(config: StoreConfig) -> None:
    with pytest.raises(ValidationError):
        config.wait_s = 1.0  # type: ignore[misc]
    assert pickle.loads(pickle.dumps(config)) == config
    assert copy.deepcopy(config) == config
    assert config.model_copy(update={"wait_s": 1.0}) != config
    for text in (repr(config), str(config), f"{config}", config.model_dump_json(), config.location):
        assert SECRET not in text
    assert type(config).__name__ in repr(config)
    assert config.wait_s == 20.0
    assert config.trusted is False
    with pytest.raises(ValidationError):
        type(config)(**{**config.model_dump(), "colour": "red"})


# --- SQLite: which file ---


def test_slashes_count_as_sqlalchemy_counts_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    here = str(tmp_path / "data" / "a.db")
    assert sqlite("sqlite:///data/a.db").path == here
    assert sqlite("data/a.db").path == here
    assert sqlite("./data/a.db").path == here
    assert sqlite(Path("data/a.db")).path == here
    assert sqlite(f"sqlite:///{tmp_path}/data/a.db").path == here
    assert sqlite("sqlite:////data/a.db").path == "/data/a.db"
    assert sqlite("SQLITE:////data/a.db").path == "/data/a.db"
    config = sqlite("data/a.db")
    monkeypatch.chdir("/")
    assert config.path == here


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///", "sqlite:///:memory:", ":memory:"])
def test_memory_is_meant_by(url: str) -> None:
    config = sqlite(url)
    assert config.path == ":memory:"
    assert config.connection_config().HasField("fake_database")


def test_a_tilde_is_the_home_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/anna")
    assert sqlite("~/a.db").path == "/home/anna/a.db"
    assert sqlite("sqlite:///~/a.db").path == "/home/anna/a.db"


def test_a_url_is_percent_decoded_and_a_path_is_not() -> None:
    assert sqlite("sqlite:////tmp/a%20b%23c%3Fd%25e.db").path == "/tmp/a b#c?d%e.db"
    assert sqlite("/tmp/a%20b.db").path == "/tmp/a%20b.db"
    assert sqlite("sqlite:////tmp/a@b.db").path == "/tmp/a@b.db"


def test_options_of_a_file() -> None:
    config = sqlite("sqlite:///a.db?read_only=true&journal_mode=delete&wait_s=1.5&trusted=yes")
    assert (config.read_only, config.journal_mode, config.wait_s, config.trusted) == (
        True,
        "delete",
        1.5,
        True,
    )


NAMES = [
    "a b.db",
    "a?b.db",
    "a#b.db",
    "a%b.db",
    "%41.db",
    "a?mode=ro.db",
    "a&b=c.db",
    "ünï😀.db",
    "a'b\".db",
    "a\\b.db",
    "a\nb.db",
    " a.db ",
    "~",
    "file:x.db",
    ":memory:",
    "a;b.db",
    "?#%",
]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("how", ["path", "url"])
def test_a_file_of_any_name_is_the_one_that_is_opened(tmp_path: Path, name: str, how: str) -> None:
    where = tmp_path / name if how == "path" else f"sqlite:///{quote(str(tmp_path / name))}"
    with zm.open_store(where) as store:
        store.record_run("churn", name="monday").end()
        assert store.config.location == str(tmp_path / name)
    made = {each.name for each in tmp_path.iterdir()}
    assert {name, f"{name}.lock", f"{name}.queue"} <= made <= {name + end for end in ENDS}
    script = (
        "import sqlite3, sys; print(sqlite3.connect(sys.argv[1]).execute"
        "(\"SELECT COUNT(*) FROM Context WHERE name = 'monday'\").fetchone()[0])"
    )
    assert in_another_process(script, tmp_path / name) == "1"


ENDS = ["", ".lock", ".queue", "-wal", "-shm"]


@settings(max_examples=40, deadline=None)
@given(
    name=st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=30)
)
def test_a_quoted_path_comes_back_from_a_url(name: str) -> None:
    path = f"/tmp/{name}"
    assert sqlite(f"sqlite:///{quote(path)}").path == str(Path(path))
    assert sqlite(Path(path)).connection_config().sqlite.filename_uri == str(Path(path))


def test_mlmds_own_client_opens_the_same_file(tmp_path: Path) -> None:
    with zm.open_store(tmp_path / "a ?#%.db") as store:
        store.record_run("churn", name="monday").end()
        theirs = metadata_store.MetadataStore(store.connection_config())
        assert [each.name for each in theirs.get_contexts_by_type("pipeline_run")] == ["monday"]


# --- SQLite: how it is opened ---

MODE = "import sqlite3, sys; print(*sqlite3.connect(sys.argv[1]).execute('PRAGMA journal_mode').fetchone())"


@pytest.mark.parametrize("mode", ["wal", "delete"])
def test_a_new_file_has_the_journal_mode_that_was_asked_for(tmp_path: Path, mode: str) -> None:
    path = tmp_path / "m.db"
    with zm.open_store(f"sqlite:///{path}?journal_mode={mode}") as store:
        store.record_run("churn").end()
        assert in_another_process(MODE, path) == mode
        assert path.with_name("m.db-wal").exists() == (mode == "wal")
    assert in_another_process(MODE, path) == mode


def test_write_ahead_is_the_default_and_an_existing_file_keeps_its_mode(tmp_path: Path) -> None:
    zm.open_store(tmp_path / "new.db").close()
    assert in_another_process(MODE, tmp_path / "new.db") == "wal"
    for mode, other in (("wal", "delete"), ("delete", "wal")):
        path = tmp_path / f"{mode}.db"
        zm.open_store(f"sqlite:///{path}?journal_mode={mode}").close()
        zm.open_store(f"sqlite:///{path}?journal_mode={other}").close()
        assert in_another_process(MODE, path) == mode


def test_a_new_file_has_the_rights_that_the_umask_leaves(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        zm.open_store(tmp_path / "m.db").close()
    finally:
        os.umask(before)
    assert (tmp_path / "m.db").stat().st_mode & 0o777 == 0o640
    assert not list(tmp_path.glob(".zen_mlmd-*"))


@pytest.mark.parametrize("mode", ["wal", "delete"])
def test_a_file_that_is_only_read_is_not_written(tmp_path: Path, mode: str) -> None:
    path = tmp_path / "m.db"
    with zm.open_store(f"sqlite:///{path}?journal_mode={mode}") as store:
        store.record_run("churn", name="monday").end()
    for end in (".lock", ".queue"):
        path.with_name(f"m.db{end}").unlink()
    copied = tmp_path / "copy.db"
    shutil.copy(path, copied)
    with zm.open_store(f"sqlite:///{path}?read_only=true") as store:
        assert [run.name for run in store.runs] == ["monday"]
        with pytest.raises(GrantMissingError, match="readonly") as refused:
            store.record_run("churn")
        assert "read_only" in refused.value.hint
    assert path.read_bytes() == copied.read_bytes()
    assert not path.with_name("m.db.lock").exists()


def test_a_file_that_is_only_read_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(DatabaseMissingError, match="no such file"):
        zm.open_store(f"sqlite:///{tmp_path}/m.db?read_only=true")
    assert list(tmp_path.iterdir()) == []


def test_an_empty_file_becomes_a_store(tmp_path: Path) -> None:
    (tmp_path / "m.db").touch()
    with zm.open_store(tmp_path / "m.db") as store:
        store.record_run("churn", name="monday").end()
        assert [run.name for run in store.runs] == ["monday"]


def test_a_link_that_leads_to_no_file_yet_is_followed(tmp_path: Path) -> None:
    (tmp_path / "link.db").symlink_to(tmp_path / "m.db")
    with zm.open_store(tmp_path / "link.db") as store:
        store.record_run("churn", name="monday").end()
    with zm.open_store(tmp_path / "m.db") as store:
        assert [run.name for run in store.runs] == ["monday"]
    assert (tmp_path / "link.db").is_symlink()
    assert not list(tmp_path.glob(".zen_mlmd-*"))


def test_a_missing_folder_is_told_and_not_made(tmp_path: Path) -> None:
    with pytest.raises(DatabaseMissingError) as error:
        zm.open_store(tmp_path / "a" / "m.db")
    assert error.value.hint == f"mkdir -p {tmp_path / 'a'}"
    assert list(tmp_path.iterdir()) == []


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(NotMlmdError, match="is a folder"):
        zm.open_store(tmp_path)


@pytest.mark.parametrize("content", [b"hello", b"{}" * 5000, b"SQLite format 2\0" + bytes(5000)])
def test_a_file_of_something_else_is_refused_and_left_as_it_is(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "m.db"
    path.write_bytes(content)
    with pytest.raises(NotMlmdError, match="not a database"):
        zm.open_store(path)
    assert path.read_bytes() == content


def test_a_name_that_is_too_long_is_told(tmp_path: Path) -> None:
    with pytest.raises(NotMlmdError, match="too long"):
        zm.open_store(tmp_path / ("x" * 300))


def test_the_write_lock_is_waited_for_as_long_as_the_config_says(tmp_path: Path) -> None:
    path = tmp_path / "m.db"
    with zm.open_store(f"sqlite:///{path}?wait_s=0.2") as store, WriteLock(str(path)):
        assert list(store.runs) == []
        with pytest.raises(LockTimeoutError, match=r"within 0\.2 s"):
            store.record_run("churn")


AS_NOBODY = """
import os, sys
import zen_mlmd as zm
from zen_mlmd.errors import ZenMlmdError

with zm.open_store("sqlite://") as store:  # loads all that is needed
    list(store.runs)
if os.getuid() == 0:
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
for path in sys.argv[1:]:
    try:
        zm.open_store(path)
        print("opened")
    except ZenMlmdError as error:
        print(error.code, bool(error.hint), error.message)
"""


@pytest.fixture
def public_folder() -> Iterator[Path]:
    """A folder that everybody may enter, as pytest's own may be entered by its owner only."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    yield folder
    for each in folder.rglob("*"):
        each.chmod(0o755)
    shutil.rmtree(folder)


def test_what_may_not_be_read_or_written_is_told(public_folder: Path) -> None:
    for name, mode in (("read", 0o555), ("closed", 0o000), ("open", 0o777)):
        (public_folder / name).mkdir()
        zm.open_store(public_folder / name / "m.db").close()
        (public_folder / name / "secret.db").touch(mode=0o000)
        (public_folder / name).chmod(mode)
    wanted = ["read/new.db", "read/secret.db", "closed/m.db", "open/secret.db"]
    said = in_another_process(AS_NOBODY, *(public_folder / each for each in wanted)).splitlines()
    assert [line[:10] for line in said] == ["ZM205 True"] * 4
    assert f"you may not write in {public_folder}/read" in said[0]
    assert "you may not read it" in said[1]
    assert "Permission denied" in said[2]
    assert "you may not read it" in said[3]


# --- MySQL ---


def test_a_mysql_url_is_taken_apart() -> None:
    config = mysql(
        "mysql://z%40n:p%40%2F%3A%3F%23%25%20ss%E2%82%AC@db.example.com:3307/meta-db%20x"
        "?ssl_ca=/etc/ca.pem&connect_timeout_s=2&wait_s=3&trusted=true"
    )
    assert (config.host, config.port, config.database) == ("db.example.com", 3307, "meta-db x")
    assert (config.user, config.password.get_secret_value()) == ("z@n", "p@/:?#% ss€")
    assert (config.tls, config.ssl_ca) == (True, "/etc/ca.pem")
    assert (config.connect_timeout_s, config.wait_s, config.trusted) == (2.0, 3.0, True)
    assert config.location == "z@n@db.example.com:3307/meta-db x"


@pytest.mark.parametrize("scheme", ["mysql", "mysql+pymysql", "mariadb", "MySQL"])
def test_each_scheme_of_mysql_means_it(scheme: str) -> None:
    config = mysql(f"{scheme}://host/db")
    assert (config.host, config.port, config.user, config.password.get_secret_value()) == (
        "host",
        3306,
        "root",
        "",
    )
    assert config.tls is False


def test_parts_of_a_mysql_url_may_be_missing() -> None:
    config = mysql("mysql:///db?user=zen&password=p&port=3310&socket=/run/my.sock")
    assert (config.host, config.port, config.user) == ("127.0.0.1", 3310, "zen")
    assert config.password.get_secret_value() == "p"
    assert config.location == "zen@/run/my.sock/db"
    assert mysql("mysql://:p@host/db").user == ""
    assert mysql("mysql://zen:@host/db").password.get_secret_value() == ""


def test_an_ipv6_address_of_a_mysql_server() -> None:
    config = mysql("mysql://zen@[2001:db8::1]:3307/db")
    assert config.host == "2001:db8::1"
    assert config.location == "zen@[2001:db8::1]:3307/db"
    assert config.connection_config().mysql.host == "2001:db8::1"


@settings(max_examples=100, deadline=None)
@given(password=st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])))
def test_any_password_comes_through_a_url(password: str) -> None:
    config = mysql(f"mysql://zen:{quote(password, safe='')}@host:1/db")
    assert config.password.get_secret_value() == password
    assert (config.host, config.port, config.database) == ("host", 1, "db")
    assert config.connection_config().mysql.password == password


def mysql_fields(config: zm.MysqlConfig) -> dict[str, Any]:
    return {field.name: value for field, value in config.connection_config().mysql.ListFields()}


def test_mlmds_config_of_a_mysql_database() -> None:
    config = zm.MysqlConfig(host="db", port=3307, database="metadb", user="zen", password="p")
    assert mysql_fields(config) == {
        "host": "db",
        "port": 3307,
        "database": "`metadb`",
        "user": "zen",
        "password": "p",
        "skip_db_creation": True,
    }


@pytest.mark.parametrize("name", ["meta-db", "meta db", "order", "123", "a'b", "$x"])
def test_a_databases_name_is_quoted_for_sql(name: str) -> None:
    assert zm.MysqlConfig(database=name).connection_config().mysql.database == f"`{name}`"


def test_a_unix_socket_stands_instead_of_host_and_port() -> None:
    fields = mysql_fields(zm.MysqlConfig(database="db", socket="/run/my.sock", host="ignored"))
    assert fields["socket"] == "/run/my.sock"
    assert not {"host", "port"} & set(fields)


def test_localhost_is_the_loopback_address_and_no_socket() -> None:
    """ml-metadata's client takes the name for a unix socket at its own default path."""
    config = zm.MysqlConfig(database="db", host="localhost")
    assert config.connection_config().mysql.host == "127.0.0.1"
    assert config.location == "root@localhost:3306/db"


def test_mlmds_config_of_tls() -> None:
    def options(**settings: Any) -> dict[str, Any]:
        config = zm.MysqlConfig(database="db", **settings).connection_config()
        assert config.mysql.HasField("ssl_options")
        return {field.name: value for field, value in config.mysql.ssl_options.ListFields()}

    assert options(tls=True) == {"cipher": "HIGH:!aNULL"}  # with nothing set the client stays in clear
    assert options(ssl_ca="ca.pem") == {"ca": "ca.pem", "cipher": "HIGH:!aNULL"}
    given = {"ssl_ca": "a", "ssl_capath": "b", "ssl_cert": "c", "ssl_key": "d", "ssl_cipher": "e"}
    assert options(**given) == {key.removeprefix("ssl_"): value for key, value in given.items()}
    assert not zm.MysqlConfig(database="db").connection_config().mysql.HasField("ssl_options")


@pytest.mark.parametrize("name", ["ssl_ca", "ssl_capath", "ssl_cert", "ssl_key", "ssl_cipher"])
def test_a_setting_of_tls_turns_it_on(name: str) -> None:
    assert zm.MysqlConfig(database="db", **{name: "x"}).tls is True
    with pytest.raises(ConfigError, match="tls is off"):
        zm.MysqlConfig.checked(database="db", tls=False, **{name: "x"})


@pytest.mark.parametrize("host", ["", "a b", "a\0b"])
def test_a_host_must_be_one(host: str) -> None:
    kinds: list[type[StoreConfig]] = [zm.MysqlConfig]
    if host:  # a kubeflow store may have none
        kinds.append(zm.KubeflowConfig)
    for kind in kinds:
        with pytest.raises(ConfigError, match="host"):
            kind.checked(host=host, **({"database": "db"} if kind is zm.MysqlConfig else {}))


# --- PostgreSQL ---


@pytest.mark.parametrize(
    "said",
    [
        "FATAL: the database system is in recovery mode",
        "FATAL: the database system is not yet accepting connections DETAIL: Consistent recovery",
        "terminating connection due to administrator command",
    ],
)
def test_a_server_that_restarts_is_waited_for(said: str) -> None:
    config = zm.PostgresqlConfig(database="metadb")
    assert isinstance(config._meaning(f'connection to server at "db" failed: {said}'), UnreachableError)


# --- Kubeflow ---


def test_a_kubeflow_url_is_taken_apart() -> None:
    config = kubeflow(
        "kubeflow://mlmd.example.com:9000?tls=true&token=t%40k&timeout_s=2&max_message_bytes=1000"
    )
    assert (config.host, config.port, config.tls) == ("mlmd.example.com", 9000, True)
    assert (config.token.get_secret_value(), config.timeout_s, config.max_message_bytes) == ("t@k", 2.0, 1000)
    assert config.location == "mlmd.example.com:9000"


def test_schemes_of_kubeflow() -> None:
    assert kubeflow("grpc://host").tls is False
    assert kubeflow("grpcs://host").tls is True
    assert kubeflow("kubeflow://host").port == 8080
    assert kubeflow("kubeflow://").host == ""
    assert kubeflow("kubeflow://:81").host == "127.0.0.1"
    assert kubeflow("kubeflow://host/").host == "host"
    assert kubeflow("kubeflow://[::1]:1").location == "[::1]:1"
    assert kubeflow("kubeflow://host?port=81").port == 81


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1"])
def test_a_token_may_go_to_this_machine_in_clear(host: str) -> None:
    assert zm.KubeflowConfig(host=host, token="t").tls is False


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ({"a b": "x"}, "names must be"),
        ({"": "x"}, "names must be"),
        ({":path": "x"}, "names must be"),
        ({"grpc-timeout": "x"}, "names must be"),
        ({"Trace-BIN": "x"}, "names must be"),
        ({"x": "a\nb"}, "values must be"),
        ({"x": "é"}, "values must be"),
    ],
)
def test_metadata_that_grpc_would_refuse_is_refused_by_name(metadata: dict[str, str], message: str) -> None:
    with pytest.raises(ConfigError, match=f"metadata: .*{message}"):
        zm.KubeflowConfig.checked(metadata=metadata)


@pytest.mark.parametrize("token", ["a\nb", "é", "\0"])
def test_a_token_that_grpc_would_refuse_is_refused(token: str) -> None:
    with pytest.raises(ConfigError, match=r"token: .*printable ASCII"):
        zm.KubeflowConfig.checked(token=token)


def test_mlmds_config_of_a_server(tmp_path: Path) -> None:
    plain = zm.KubeflowConfig(host="host", port=1, timeout_s=2.5, max_message_bytes=1000).connection_config()
    assert (plain.host, plain.port, plain.client_timeout_sec) == ("host", 1, 2.5)
    assert plain.channel_arguments.max_receive_message_length == 1000
    assert not plain.HasField("ssl_config")
    assert (
        zm.KubeflowConfig(host="h", tls=True).connection_config().ssl_config
        == mlmd.MetadataStoreClientConfig.SSLConfig()
    )
    made = make_certificates(tmp_path)
    pems = {"ca": str(made.ca), "certificate": str(made.client_cert), "key": str(made.client_key)}
    config = zm.KubeflowConfig(host="h", **pems)
    assert config.tls is True
    found = config.connection_config().ssl_config
    assert found.custom_ca == made.ca.read_text()
    assert found.server_cert == made.client_cert.read_text()
    assert found.client_key == made.client_key.read_text()


def test_python_and_mlmd_read_one_sqlite_format(tmp_path: Path) -> None:
    with zm.open_store(tmp_path / "m.db") as store:
        store.record_run("churn").end()
    with sqlite3.connect(tmp_path / "m.db") as database:
        assert database.execute("SELECT schema_version FROM MLMDEnv").fetchall() == [(10,)]
    database.close()
