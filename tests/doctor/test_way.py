"""A store that cannot be reached, or only just, is told of with a remedy, by the command as by Python."""

from __future__ import annotations

import json
import secrets
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
import trustme

from tests.doctor.conftest import codes
from tests.services import free_port
from tests.services.counting import CountingService
from tests.services.grpc_server import GrpcServer
from tests.services.mariadb import MariaDb
from tests.services.postgresql import PostgreSql
from zen_mlmd import errors
from zen_mlmd.cli.main import main
from zen_mlmd.doctor import CODES, examine, mend
from zen_mlmd.doctor.examining import USUAL
from zen_mlmd.flavors import KubeflowConfig, StoreConfig, config_from_url
from zen_mlmd.flavors.certificates import examine_certificate
from zen_mlmd.model import Status
from zen_mlmd.service.client import Client
from zen_mlmd.service.finding import BARRING, Thresholds, finding_of
from zen_mlmd.store import Store, open_store

FOR_EVER = Thresholds(certificate_days=10**6)
CANARY = "canary-5e1f"
NO_HOST = f"{'a' * 64}.invalid"  # a longer label than DNS has, so that nobody is asked


def told(capsys: pytest.CaptureFixture[str], *arguments: str, code: int) -> list[str]:
    """Return the codes that the command prints; never a password."""
    assert main(["doctor", *arguments, "-o", "json"]) == code
    said = capsys.readouterr()
    assert CANARY not in said.out + said.err
    assert said.err == ""
    found = json.loads(said.out)
    assert all(each["what"] and each["remedy"] for each in found)
    return [each["code"] for each in found if each["code"] != "protobuf-undeclared"]


@pytest.mark.parametrize(
    ("url", "code"),
    [
        (f"mysql://u:{CANARY}@127.0.0.1:{{port}}/d", "unreachable"),
        (f"postgresql://u:{CANARY}@127.0.0.1:{{port}}/d", "unreachable"),
        ("kubeflow://127.0.0.1:{port}", "unreachable"),
        (f"mysql://u:{CANARY}@{NO_HOST}/d", "host-unknown"),
        (f"mysql://u:{CANARY}@h/d?prot=1", "setting-wrong"),
        (f"mysql://u:{CANARY}@127.0.0.1:{{port}}/d?ssl_ca=/no/such/file", "tls"),
        (f"oracle://u:{CANARY}@h/d", "setting-wrong"),
        ("no/such/folder/metadata.db", "database-missing"),
        ("/", "not-mlmd"),
    ],
)
def test_a_store_that_is_not_there(url: str, code: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert told(capsys, url.format(port=free_port()), code=3) == [code]


def test_a_package_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    (finding,) = examine(config_from_url("postgresql://u@127.0.0.1/d"))
    assert (finding.code, finding.remedy) == ("extra-missing", "pip install 'zen-mlmd[postgresql]'")


def test_each_error_of_a_connection_is_a_finding() -> None:
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type)]
    found = {
        finding_of(kind("host: it failed", hint="do this"), "host")
        for kind in kinds
        if issubclass(kind, errors.ZenMlmdError)
    }
    assert {each.what for each in found} == {"it failed"}
    assert {each.code for each in found} <= BARRING <= CODES.keys()
    by_subject = {each.subject: each.code for each in found}
    assert (by_subject["ZM210"], by_subject["ZM203"]) == ("connection-lost", "login-plugin")
    assert (by_subject["ZM300"], by_subject["ZM208"]) == ("refused", "not-mlmd")
    cluster = [by_subject[f"ZM21{last}"] for last in (2, 3, 4, 5)]
    assert cluster == ["cluster-unreachable", "cluster-refused", "forward-down", "deployment-down"]


def test_a_cluster_that_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    kubeconfig = tmp_path / "config"
    cluster = {"server": f"https://127.0.0.1:{free_port()}", "insecure-skip-tls-verify": True}
    kubeconfig.write_text(
        json.dumps(
            {
                "current-context": "c",
                "contexts": [{"name": "c", "context": {"cluster": "c", "user": "c"}}],
                "clusters": [{"name": "c", "cluster": cluster}],
                "users": [{"name": "c", "user": {"token": CANARY}}],
            }
        )
    )
    url = f"kubernetes://ns/metadata?kubeconfig={kubeconfig}"
    assert told(capsys, url, code=3) == ["cluster-unreachable"]


@pytest.mark.mysql
def test_what_keeps_one_from_logging_in_to_mysql(
    mariadb: MariaDb, mysql_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    place = mysql_url.rpartition("@")[2]
    assert told(capsys, f"mysql://zen:{CANARY}@{place}", code=3) == ["login-denied"]
    assert told(capsys, f"{mysql_url}?tls=true", code=3) == ["tls"]
    assert told(capsys, f"{mysql_url}_not", code=3) == ["database-missing"]
    assert told(capsys, mysql_url, code=3) == ["tables-missing"]
    user = f"acc_{secrets.token_hex(4)}"
    mariadb.sql(f"CREATE USER {user}@'%' IDENTIFIED VIA mysql_old_password USING '378b243e220ca493'")
    assert told(capsys, f"mysql://{user}:{CANARY}@{place}", code=3) == ["login-plugin"]
    mariadb.sql(f"DROP USER {user}@'%'")


@pytest.mark.postgresql
def test_what_keeps_one_from_logging_in_to_postgresql(
    postgresql: PostgreSql, postgresql_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    place = postgresql_url.rpartition("@")[2]
    assert told(capsys, f"postgresql://zen:{CANARY}@{place}", code=3) == ["login-denied"]
    assert told(capsys, f"{postgresql_url}?tls=true", code=3) == ["tls"]
    assert told(capsys, f"{postgresql_url}_not", code=3) == ["database-missing"]
    assert told(capsys, f"mysql://zen:{CANARY}@{place}", code=3) == ["not-mlmd"]


# -- certificates ----------------------------------------------------------------------------------


def issue(folder: Path, days: float, *names: str) -> tuple[Path, Path]:
    """Return PEM files of a certificate for some names, and of its key."""
    made = trustme.CA().issue_cert(*names, not_after=datetime.now(timezone.utc) + timedelta(days=days))
    made.cert_chain_pems[0].write_to_path(str(folder / "server.pem"))
    made.private_key_pem.write_to_path(str(folder / "server.key"))
    return folder / "server.pem", folder / "server.key"


@pytest.fixture
def shake(tmp_path: Path) -> Iterator[Callable[..., Callable[[ssl.SSLContext], ssl.SSLSocket]]]:
    """Starts a TLS server with a certificate of so many days for some names; returns who connects to it."""
    listeners = []

    def serve(days: float, *names: str) -> Callable[[ssl.SSLContext], ssl.SSLSocket]:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*issue(tmp_path, days, *names))
        listener = socket.create_server(("127.0.0.1", 0))
        listeners.append(listener)

        def answer() -> None:
            while True:
                try:
                    stream, _ = listener.accept()
                except OSError:
                    return
                try:
                    with context.wrap_socket(stream, server_side=True) as secure:
                        secure.recv(1)
                except OSError:
                    pass

        threading.Thread(target=answer, daemon=True).start()

        def connect(client: ssl.SSLContext) -> ssl.SSLSocket:
            stream = socket.create_connection(listener.getsockname(), 5)
            try:
                return client.wrap_socket(stream, server_hostname="localhost")
            except BaseException:
                stream.close()
                raise

        return connect

    yield serve
    for each in listeners:
        each.shutdown(socket.SHUT_RDWR)
        each.close()


@pytest.mark.parametrize(
    ("days", "name", "found"),
    [
        (100, "localhost", []),
        (7.2, "localhost", ["certificate-expiry"]),
        (100, "db.example", ["certificate-name"]),
        (-1, "localhost", ["certificate-expiry"]),
        (7.2, "db.example", ["certificate-name", "certificate-expiry"]),
    ],
)
def test_until_when_and_for_whom_a_certificate_is(
    shake: Callable[..., Callable[[ssl.SSLContext], ssl.SSLSocket]], days: float, name: str, found: list[str]
) -> None:
    told = examine_certificate(shake(days, name), "localhost", USUAL)
    assert codes(told) == found
    if days == 7.2:
        assert "good for 7 days more" in told[-1].what


@pytest.mark.mysql
def test_a_mysql_server_whose_certificate_is_of_another_name_and_ends_soon(tmp_path: Path) -> None:
    certificate, key = issue(tmp_path, 7.2, "db.example")
    with MariaDb(options=[f"--ssl-cert={certificate}", f"--ssl-key={key}"]) as server:
        url = server.url(server.new_database())
        open_store(url).close()
        found = codes(examine(config_from_url(f"{url}?tls=true")))
        assert {"certificate-name", "certificate-expiry"} <= set(found)
        server.sql("ALTER USER zen@'%' REQUIRE SSL")
        (native,) = (each for each in examine(config_from_url(url)) if each.code == "native-login")
        assert "over TLS only" in native.what
        assert "tls" in native.remedy
        assert "certificate-name" not in codes(examine(config_from_url(url))), "nobody looks at it"


@pytest.mark.postgresql
def test_the_certificate_of_a_postgresql_server_is_looked_at() -> None:
    with PostgreSql(tls=True) as server:
        url = server.url(server.new_database())
        open_store(url).close()
        config = config_from_url(f"{url}?tls=true")
        assert "certificate-expiry" in codes(examine(config, thresholds=FOR_EVER))
        assert "certificate-expiry" not in codes(examine(config))


# -- MLMD gRPC servers -----------------------------------------------------------------------------


def test_an_mlmd_server_is_asked_for_what_its_calls_tell(tmp_path: Path) -> None:
    with GrpcServer(tmp_path / "m.db", tls=True) as server:
        assert server.certificates is not None
        config: StoreConfig = KubeflowConfig(
            host="127.0.0.1", port=server.port, tls=True, ca=str(server.certificates.ca)
        )
        found = {each.code: each for each in examine(config)}
        assert {"unchecked", "message-small"} == found.keys() - {"latency"}
        assert "no message of more than 4,194,304 bytes" in found["message-small"].what
        assert "zen-mlmd doctor mysql://" in found["unchecked"].remedy
        assert mend(config) == 0
        all_of_it = Thresholds(certificate_days=10**6, latency_ms=0)
        found = {each.code: each for each in examine(config, thresholds=all_of_it)}
        assert {"latency", "certificate-expiry"} < found.keys()
        small = config.model_copy(update={"max_message_bytes": 2**20})
        (told,) = (each for each in examine(small) if each.code == "message-small")
        assert told.subject == "max_message_bytes"


def test_a_server_that_has_no_filters_is_asked_for_all_steps(path: Path) -> None:
    from zen_mlmd.doctor.runs import examine_runs

    class Newer(CountingService):
        """Answers filters as ml-metadata 1.21.0 does."""

        def call(self, method: str, request: Any) -> Any:
            if "filter_query" in str(request):
                raise errors.StoreError(f"{method}: UnimplementedError", mlmd_code=12)
            return super().call(method, request)

    config = config_from_url(path)
    with config.open_service() as service:
        store = Store(config, Client(Newer(service)))
        run = store.record_run("churn", name="tuesday")
        run.step("train")
        run.end(Status.CANCELED)
        (finding,) = examine_runs(store.loader, timedelta(0))
    assert (finding.code, finding.subject) == ("step-unended", "churn/tuesday/train")


def test_a_server_that_takes_large_messages(tmp_path: Path) -> None:
    with GrpcServer(tmp_path / "m.db", max_message=100 * 2**20) as server:
        assert "message-small" not in codes(examine(config_from_url(f"kubeflow://{server.address}")))


# -- how it is said --------------------------------------------------------------------------------


def test_a_table_is_read_at_80_columns(tmp_path: Path) -> None:
    name = f"{'long/' * 20}metadata.db"
    done = subprocess.run(
        [sys.executable, "-m", "zen_mlmd", "doctor", name],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        env={"PYTHONPATH": str(Path(__file__).parents[2]), "COLUMNS": "80", "HOME": str(tmp_path)},
    )
    assert done.returncode == 3
    first, *lines = done.stdout.splitlines()
    assert first.endswith("metadata.db: 1 error")
    assert lines[0] == "  error   database-missing  (ZM206)"
    assert [line for line in lines if len(line) > 80] == []
    assert lines[-1].startswith("    -> ")


def test_the_store_is_a_name_or_the_active_one(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    register = ["metadata-store", "register", "mine", "--flavor", "sqlite", "--path", str(path)]
    assert main(register) == 0
    capsys.readouterr()
    assert main(["doctor", "mine"]) == 0
    assert capsys.readouterr().out.startswith(f"{path}: ")
    monkeypatch.setenv("ZEN_MLMD_STORE", "mine")
    assert main(["doctor", "-o", "yaml"]) == 0
    capsys.readouterr()
    monkeypatch.setenv("ZEN_MLMD_STORE", str(tmp_path / "none.db"))
    assert told(capsys, code=3) == ["database-missing"]
