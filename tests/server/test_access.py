"""Who gets in: TLS, client certificates, tokens, scopes, read-only servers; and all of it renewed."""

from __future__ import annotations

import shutil
import stat
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
import yaml
from ml_metadata.metadata_store import metadata_store
from ml_metadata.proto import metadata_store_pb2 as mlmd
from ml_metadata.proto import metadata_store_service_pb2 as rpc

import zen_mlmd as zm
from tests.server.conftest import Caller, StartServer, outcome_of, soon
from tests.services import Certificates, make_certificates
from zen_mlmd.errors import ConfigError, GrantMissingError, NotFoundError, UnreachableError, ZenMlmdError
from zen_mlmd.flavors import KubeflowConfig
from zen_mlmd.server import Server, ServerConfig
from zen_mlmd.server.tokens import TokenFile, create_token, read_tokens, revoke_tokens

TYPE = rpc.PutContextTypeRequest(context_type=mlmd.ContextType(name="T"))


@pytest.fixture
def tokens(tmp_path: Path) -> Path:
    return tmp_path / "tokens.yaml"


def client(server: Server, **fields: Any) -> KubeflowConfig:
    host, _, port = server.address.rpartition(":")
    return KubeflowConfig(host=host, port=int(port), timeout_s=5, wait_s=0, **fields)


# -- tokens --------------------------------------------------------------------------------------


def test_scopes(start: StartServer, tokens: Path) -> None:
    reader, writer = create_token(tokens, "ana", "read"), create_token(tokens, "ci", "write")
    with Caller(start(tokens=str(tokens)).address) as call:
        call("PutContextType", TYPE, token=writer)
        assert b"T" in call("GetContextTypes", token=reader)
        assert call.refusal("PutContextType", TYPE, token=reader) == (
            "PERMISSION_DENIED",
            "the token of ana is for reading only",
        )
        for nobody in ("", "x", reader[:-1], f"{reader} x", "zmt_", writer.upper(), " ", "ü".encode().hex()):
            assert call.refusal("GetContextTypes", token=nobody)[0] == "UNAUTHENTICATED"
        for method in ("PutExecution", "PutLineageSubgraph", "PutTypes", "PutEvents"):
            assert call.refusal(method, token=reader)[0] == "PERMISSION_DENIED"


def test_every_write_needs_the_write_scope(start: StartServer, tokens: Path) -> None:
    reader = create_token(tokens, "ana", "read")
    methods = [each.name for each in rpc.DESCRIPTOR.services_by_name["MetadataStoreService"].methods]
    with Caller(start(tokens=str(tokens), log="none").address) as call:
        for method in methods:
            if method.startswith("Get"):
                assert outcome_of(call, method, reader) not in ("PERMISSION_DENIED", "UNAUTHENTICATED")
            else:
                assert call.refusal(method, token=reader)[0] == "PERMISSION_DENIED", method


def test_tokens_expire(start: StartServer, tokens: Path) -> None:
    short = create_token(tokens, "ana", "read", days=2 / 86_400)
    long = create_token(tokens, "ana", "read", days=1)
    with Caller(start(tokens=str(tokens)).address) as call:
        call("GetContextTypes", token=long)

        soon(lambda: outcome_of(call, "GetContextTypes", short) == "UNAUTHENTICATED")
        call("GetContextTypes", token=long)


def test_tokens_are_rotated_without_a_restart(start: StartServer, tokens: Path, capfd: Any) -> None:
    old = create_token(tokens, "ci", "write")
    with Caller(start(tokens=str(tokens), log="none").address) as call:
        call("GetContextTypes", token=old)
        new = create_token(tokens, "ci-2", "write")
        soon(lambda: _works(call, new))
        call("GetContextTypes", token=old)
        assert revoke_tokens(tokens, "ci") == 1
        soon(lambda: not _works(call, old))
        assert _works(call, new)
        # Half a file, or none, locks nobody out, and is told of.
        tokens.write_text("- name: [")
        soon(lambda: "is no YAML" in capfd.readouterr().err)
        assert _works(call, new)
        tokens.unlink()
        soon(lambda: "cannot be read" in capfd.readouterr().err)
        assert _works(call, new)
        tokens.write_text("[]\n")
        soon(lambda: not _works(call, new))


def _works(call: Caller, token: str) -> bool:
    return outcome_of(call, "GetContextTypes", token) == "OK"


def test_the_file_holds_no_token_and_is_its_owners(tokens: Path) -> None:
    made = [create_token(tokens, name, "read") for name in ("a", "b", "a")]
    text = tokens.read_text()
    assert not any(token in text or token[4:] in text for token in made)
    assert stat.S_IMODE(tokens.stat().st_mode) == 0o600
    assert [each.name for each in read_tokens(tokens)] == ["a", "b", "a"]
    assert not any(token in repr(TokenFile(tokens).find(token)) for token in made)
    assert revoke_tokens(tokens, "a") == 2
    with pytest.raises(NotFoundError, match="it has tokens of b"):
        revoke_tokens(tokens, "a")


def test_a_files_mode_and_link_stay(tokens: Path, tmp_path: Path) -> None:
    create_token(tokens, "a", "read")
    tokens.chmod(0o640)
    link = tmp_path / "link.yaml"
    link.symlink_to(tokens)
    create_token(link, "b", "read")
    assert link.is_symlink()
    assert len(read_tokens(tokens)) == 2
    assert stat.S_IMODE(tokens.stat().st_mode) == 0o640


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("a: 1", "entry : Input should be a valid list"),
        ("- name: x\n  scope: all\n  sha256: %s\n  created: 2026-01-01T00:00:00Z\n" % ("0" * 64), "scope"),
        ("- name: x\n  scope: read\n  sha256: SECRET\n  created: 2026-01-01T00:00:00Z\n", "sha256"),
        ("- name: x\n  token: SECRET\n", "token"),
        ("\n\n- [", "line 4"),
        ("\x00", "is no YAML"),
    ],
)
def test_a_broken_file_is_named(start: StartServer, tokens: Path, text: str, fault: str) -> None:
    tokens.write_text(text)
    with pytest.raises(ConfigError) as caught:
        start(tokens=str(tokens))
    assert fault in str(caught.value)
    assert "SECRET" not in str(caught.value)
    assert str(tokens) in str(caught.value)


def test_a_name_must_be_one(tokens: Path) -> None:
    for name in ("", "a b", "a\n", "x" * 65, "-x", "ä"):
        with pytest.raises(ConfigError):
            create_token(tokens, name, "read")
    with pytest.raises(ConfigError, match="no time ends after"):
        create_token(tokens, "a", "read", days=1e9)
    with pytest.raises(ConfigError, match="does its folder exist"):
        create_token(tokens.parent / "none" / "t", "a", "read")
    assert not tokens.exists()


def test_a_time_without_zone_is_utc(tokens: Path) -> None:
    token = create_token(tokens, "a", "read")
    rows = yaml.safe_load(tokens.read_text())
    now = datetime.now(timezone.utc).replace(tzinfo=None)
    for offset, there in ((timedelta(hours=1), True), (timedelta(hours=-1), False)):
        rows[0]["expires"] = now + offset
        tokens.write_text(yaml.safe_dump(rows))
        assert (TokenFile(tokens).find(token) is not None) is there


def test_many_processes_may_add_tokens(tokens: Path) -> None:
    from concurrent.futures import ProcessPoolExecutor
    from multiprocessing import get_context

    with ProcessPoolExecutor(4, mp_context=get_context("spawn")) as pool:
        made = list(pool.map(create_token, [tokens] * 20, [f"n{i}" for i in range(20)], ["read"] * 20))
    file = TokenFile(tokens)
    assert all(file.find(token) is not None for token in made)


# -- read-only -----------------------------------------------------------------------------------


def test_a_read_only_server_writes_nothing(start: StartServer, sqlite_path: Path) -> None:
    with zm.open_store(sqlite_path) as store, store.record_run("p"):
        pass
    before = sqlite_path.read_bytes()
    server = start(sqlite_path, read_only=True)
    with Caller(server.address) as call:
        assert b"p-" in call("GetContexts")
        assert call.refusal("PutContextType", TYPE) == (
            "PERMISSION_DENIED",
            "this server is for reading only",
        )
    assert sqlite_path.read_bytes() == before
    with zm.open_store(f"kubeflow://{server.address}") as store, pytest.raises(GrantMissingError):
        store.record_run("p")


# -- TLS -----------------------------------------------------------------------------------------


def test_tls_with_the_clients_there_are(start: StartServer, pem: Certificates) -> None:
    server = start(tls_cert=str(pem.server_cert), tls_key=str(pem.server_key))
    ours = client(server, ca=str(pem.ca))
    with zm.open_store(ours) as store, store.record_run("p"):
        pass
    theirs = metadata_store.MetadataStore(ours.connection_config())
    assert [each.name for each in theirs.get_contexts_by_type("pipeline")] == ["p"]
    with pytest.raises(UnreachableError):
        zm.open_store(client(server))


def test_a_certificate_of_another_authority_is_refused(
    start: StartServer, pem: Certificates, tmp_path: Path
) -> None:
    stranger = make_certificates(_folder(tmp_path / "stranger"))
    server = start(tls_cert=str(pem.server_cert), tls_key=str(pem.server_key), client_ca=str(pem.ca))
    right = {"ca": str(pem.ca), "certificate": str(pem.client_cert), "key": str(pem.client_key)}
    zm.open_store(client(server, **right)).close()
    for wrong in (
        {"ca": str(pem.ca)},
        {"ca": str(stranger.ca), "certificate": str(pem.client_cert), "key": str(pem.client_key)},
        {"ca": str(pem.ca), "certificate": str(stranger.client_cert), "key": str(stranger.client_key)},
        {},
    ):
        with pytest.raises(ZenMlmdError):
            zm.open_store(client(server, **wrong))
    zm.open_store(client(server, **right)).close()


def test_mutual_tls_and_tokens_go_together(
    start: StartServer, pem: Certificates, tokens: Path, capfd: Any
) -> None:
    token = create_token(tokens, "ci", "write")
    server = start(
        tls_cert=str(pem.server_cert), tls_key=str(pem.server_key), client_ca=str(pem.ca), tokens=str(tokens)
    )
    right = {"ca": str(pem.ca), "certificate": str(pem.client_cert), "key": str(pem.client_key)}
    with zm.open_store(client(server, token=token, metadata={"kubeflow-userid": "ana"}, **right)) as store:
        with store.record_run("p"):
            pass
        assert len(store.list_runs()) == 1
    with pytest.raises(GrantMissingError, match="a valid bearer token is needed"):
        zm.open_store(client(server, **right))
    told = capfd.readouterr().err
    assert "cert:zen@client.test token:ci" in told
    assert token not in told


def test_certificates_are_renewed_without_a_restart(
    start: StartServer, pem: Certificates, tmp_path: Path, capfd: Any
) -> None:
    server = start(tls_cert=str(pem.server_cert), tls_key=str(pem.server_key))
    old_ca = tmp_path / "old-ca.pem"
    shutil.copy(pem.ca, old_ca)
    with zm.open_store(client(server, ca=str(old_ca))) as store:
        renewed = make_certificates(_folder(tmp_path / "renewed"))
        shutil.copy(renewed.server_cert, pem.server_cert)  # half of it: does not fit its key
        zm.open_store(client(server, ca=str(old_ca))).close()
        assert "TLS cannot use" in capfd.readouterr().err
        shutil.copy(renewed.server_key, pem.server_key)
        zm.open_store(client(server, ca=str(renewed.ca))).close()
        with pytest.raises(ZenMlmdError):
            zm.open_store(client(server, ca=str(old_ca)))
        assert store.list_runs() == []  # an open connection stays
    pem.server_key.unlink()
    zm.open_store(client(server, ca=str(renewed.ca))).close()


def _folder(path: Path) -> Path:
    path.mkdir()
    return path


@pytest.mark.parametrize(
    ("fields", "fault"),
    [
        ({"bind": "0.0.0.0:0"}, "open to other machines"),
        ({"bind": "[::]:0", "tls_cert": "c", "tls_key": "k"}, "open to other machines"),
        ({"bind": "example.org:0", "tokens": "t"}, "open to other machines"),
        ({"tls_cert": "c"}, "go together"),
        ({"client_ca": "c"}, "client_ca needs"),
        ({"bind": "8080"}, "must be host:port"),
        ({"bind": ":8080"}, "must be host:port"),
        ({"bind": "::1:8080"}, "brackets"),
        ({"bind": "h:99999"}, "must be host:port"),
        ({"bind": "h:²"}, "must be host:port"),
        ({"bind": ""}, "bind must be"),
        ({"metrics": "9090"}, "must be host:port"),
        ({"workers": 0}, "workers"),
        ({"deadline_s": "inf"}, "deadline_s"),
        ({"verbose": True}, "verbose"),
    ],
)
def test_settings_that_mean_no_server(fields: dict[str, Any], fault: str) -> None:
    with pytest.raises(ConfigError) as caught:
        ServerConfig.checked(**fields)
    assert fault in str(caught.value)


@pytest.mark.parametrize(
    ("bind", "is_open"),
    [
        ("127.0.0.1:0", False),
        ("[::1]:0", False),
        ("localhost:0", False),
        ("127.9.9.9:0", False),
        ("0.0.0.0:0", True),
    ],
)
def test_loopback_needs_nothing(bind: str, is_open: bool) -> None:
    assert ServerConfig.checked(bind=bind, insecure=is_open).is_open is is_open


def test_tls_and_callers_known_need_no_leave() -> None:
    for known in ({"tokens": "t"}, {"client_ca": "a"}):
        config = ServerConfig.checked(bind="0.0.0.0:0", tls_cert="c", tls_key="k", **known)
        assert not config.is_open


@pytest.mark.parametrize("which", ["tls_cert", "tls_key", "client_ca"])
@pytest.mark.parametrize("how", ["missing", "garbage"])
def test_a_certificate_that_is_none_is_named(
    start: StartServer, pem: Certificates, which: str, how: str
) -> None:
    files = {"tls_cert": pem.server_cert, "tls_key": pem.server_key, "client_ca": pem.ca}
    files[which].unlink() if how == "missing" else files[which].write_text("SECRET")
    with pytest.raises(ConfigError) as caught:
        start(**{name: str(file) for name, file in files.items()})
    assert str(files[which]) in str(caught.value)
    assert "SECRET" not in str(caught.value)
