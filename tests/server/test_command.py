"""`zen-mlmd serve` and `zen-mlmd token`, as they are typed."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

import zen_mlmd as zm
from tests.server.conftest import Caller
from tests.server.test_attacks import Command
from tests.services import Certificates


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "zen_mlmd", *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_a_server_with_everything(pem: Certificates, tmp_path: Path, sqlite_path: Path) -> None:
    file = str(tmp_path / "tokens.yaml")
    made = run("token", "create", "--file", file, "--scope", "write", "--days", "90", "ci")
    assert made.returncode == 0
    token = made.stdout.strip()
    command = Command(
        *("--store", str(sqlite_path), "--tls-cert", str(pem.server_cert), "--tls-key", str(pem.server_key)),
        *("--client-ca", str(pem.ca), "--tokens", file, "--metrics", "127.0.0.1:0", "--max-calls", "64"),
        *("--deadline", "30", "--grace", "5", "--max-message-bytes", "1000000"),
    )
    try:
        (serving,) = command.told
        assert serving["store"] == str(sqlite_path)
        assert serving["workers"] == 1
        assert serving["metrics"].startswith("127.0.0.1:")
        host, _, port = command.address.rpartition(":")
        config = zm.KubeflowConfig(
            host=host,
            port=int(port),
            token=token,
            ca=str(pem.ca),
            certificate=str(pem.client_cert),
            key=str(pem.client_key),
        )
        with zm.open_store(config) as store, store.record_run("p"):
            pass
    finally:
        assert command.end() == 0
    assert token not in json.dumps(command.told)


@pytest.mark.slow
def test_it_says_what_keeps_it_from_starting(tmp_path: Path) -> None:
    (tmp_path / "no.db").write_text("this is no database, " * 300)
    for arguments, fault in (
        (["--bind", "0.0.0.0:0"], "allow it with insecure"),
        (["--store", str(tmp_path / "no.db")], "ml-metadata cannot open it"),
        (["--store", "ftp://x"], "no flavor has URLs of scheme 'ftp'"),
        (["--store", "sqlite://", "--workers", "2"], "a database in memory has one worker"),
        (["--tokens", str(tmp_path / "none")], "cannot be read"),
        (["--deadline", "-1"], "deadline_s"),
    ):
        done = run("serve", "--bind", "127.0.0.1:0", *arguments)
        assert done.returncode == 1, done.stderr
        assert fault in done.stderr
        assert "hint:" in done.stderr
        assert "Traceback" not in done.stderr


def test_open_to_others_it_warns(sqlite_path: Path) -> None:
    command = Command("--store", str(sqlite_path), "--bind", "0.0.0.0:0", "--insecure")
    warning, serving = command.told
    with Caller(f"127.0.0.1:{serving['address'].rpartition(':')[2]}") as call:
        call("GetContextTypes")
    assert command.end() == 0
    assert warning["event"] == "warning"
    assert "open to other machines" in warning["text"]


def test_tokens_are_listed_and_revoked(tmp_path: Path) -> None:
    file = str(tmp_path / "tokens.yaml")
    token = run("token", "create", "--file", file, "ana").stdout.strip()
    run("token", "create", "--file", file, "--scope", "write", "--days", "0.00001", "ci")
    listed = run("token", "list", "--file", file, "-o", "json")
    ana, ci = json.loads(listed.stdout)
    assert (ana["name"], ana["scope"], ana["expires"], ana["valid"]) == ("ana", "read", None, True)
    assert (ci["name"], ci["scope"]) == ("ci", "write")
    deadline = time.monotonic() + 30
    while json.loads(run("token", "list", "--file", file, "-o", "json").stdout)[1]["valid"]:
        assert time.monotonic() < deadline, "a token of less than a second has not expired"
    table = run("token", "list", "--file", file).stdout
    assert "ana" in table
    assert token not in table + listed.stdout
    assert run("token", "revoke", "--file", file, "ana").stdout == "1 token of ana revoked\n"
    again = run("token", "revoke", "--file", file, "ana")
    assert again.returncode == 1
    assert "it has tokens of ci" in again.stderr
    assert run("token", "list", "--file", str(tmp_path / "none")).returncode == 1


@pytest.mark.parametrize("command", [["serve"], ["token"], ["token", "create"]])
def test_help_needs_nothing(command: list[str]) -> None:
    done = run(*command, "--help")
    assert done.returncode == 0
    assert "Usage:" in done.stdout
