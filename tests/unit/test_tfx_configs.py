"""Stores as TFX takes them, and the way back."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ml_metadata.metadata_store import MetadataStore
from ml_metadata.proto import metadata_store_pb2 as mlmd

import zen_mlmd as zm
import zen_mlmd.tfx
from tests.services.mariadb import MariaDb
from zen_mlmd.errors import ConfigError, UsageError
from zen_mlmd.flavors.protos import config_from_proto
from zen_mlmd.stack import Components, Settings

CONFIGS = [
    zm.SqliteConfig(path="a b.db"),
    zm.SqliteConfig(path=":memory:"),
    zm.SqliteConfig(path="x.db", read_only=True),
    zm.MysqlConfig(host="127.0.0.1", port=3307, database="metadb", user="ana", password="p`w"),
    zm.MysqlConfig(database="metadb", socket="/run/mysqld.sock"),
    zm.KubeflowConfig(host="metadata.example", port=443, tls=True, timeout_s=5, max_message_bytes=1000),
]


@pytest.mark.parametrize("config", CONFIGS, ids=lambda each: type(each).__name__)
def test_a_config_goes_to_mlmds_and_back(config: Any) -> None:
    assert config_from_proto(config.connection_config()) == config


def test_tls_goes_to_mlmds_and_back(tmp_path: Path) -> None:
    pem = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
    (tmp_path / "ca.pem").write_text(pem)
    server = zm.KubeflowConfig(host="h", ca=str(tmp_path / "ca.pem"))
    message = zen_mlmd.tfx.connection_config(server)
    assert isinstance(message, mlmd.MetadataStoreClientConfig)
    assert message.ssl_config.custom_ca == pem
    assert zen_mlmd.tfx.connection_config(config_from_proto(message)) == message
    database = zm.MysqlConfig(database="d", ssl_ca="/ca.pem", ssl_cipher="AES128-SHA")
    assert config_from_proto(zen_mlmd.tfx.connection_config(database)) == database


def test_a_store_is_named_by_name_url_path_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = str(tmp_path / "m.db")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    Components(Settings(), "metadata_store").register("prod", "sqlite", {"path": path})
    monkeypatch.setenv("ZEN_MLMD_STORE", path)
    with zm.open_store(path) as store:
        ways: list[Any] = [store, store.config, "prod", f"sqlite:///{path}", Path(path), None]
        found = [zen_mlmd.tfx.connection_config(each) for each in ways]
    assert all(each == found[0] for each in found)
    assert isinstance(found[0], mlmd.ConnectionConfig)
    assert found[0].sqlite.filename_uri == path


def test_a_pipelines_store_is_opened(tmp_path: Path) -> None:
    config = zen_mlmd.tfx.connection_config(tmp_path / "m.db")
    pipeline = SimpleNamespace(metadata_connection_config=config)
    with zen_mlmd.tfx.open_store_of(pipeline) as store, store.record_run("p", name="r"):
        pass
    with zen_mlmd.tfx.open_store_of(config) as store:
        assert store.get_run("r").pipeline == "p"
    for wrong in (SimpleNamespace(metadata_connection_config=None), object(), 3):
        with pytest.raises(UsageError):
            zen_mlmd.tfx.open_store_of(wrong)
    with pytest.raises(ConfigError, match="names no store"):
        zen_mlmd.tfx.open_store_of(mlmd.ConnectionConfig())


def test_the_environment_of_a_pod_names_the_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("METADATA_GRPC_SERVICE_HOST", raising=False)
    with pytest.raises(ConfigError, match="METADATA_GRPC_SERVICE_HOST is not set"):
        zen_mlmd.tfx.from_environment()
    monkeypatch.setenv("METADATA_GRPC_SERVICE_HOST", "metadata-grpc-service.kubeflow")
    monkeypatch.setenv("METADATA_GRPC_SERVICE_PORT", "8081")
    config = zen_mlmd.tfx.from_environment()
    assert (config.host, config.port) == ("metadata-grpc-service.kubeflow", 8081)
    assert config.channel_arguments.max_receive_message_length == 100 * 2**20
    monkeypatch.setenv("METADATA_GRPC_SERVICE_PORT", "http")
    with pytest.raises(ConfigError, match="port"):
        zen_mlmd.tfx.from_environment()


def test_old_runners_take_json() -> None:
    assert json.loads(zen_mlmd.tfx.kubeflow_metadata_config_json()) == {
        "grpcConfig": {
            "grpcServiceHost": {"environmentVariable": "METADATA_GRPC_SERVICE_HOST"},
            "grpcServicePort": {"environmentVariable": "METADATA_GRPC_SERVICE_PORT"},
        }
    }
    assert json.loads(zen_mlmd.tfx.kubeflow_metadata_config_json("kubeflow://h:9")) == {
        "grpcConfig": {"grpcServiceHost": {"value": "h"}, "grpcServicePort": {"value": "9"}}
    }
    for wrong in ("sqlite:///x.db", "grpcs://h:443", zm.KubeflowConfig(token="t")):
        with pytest.raises(ConfigError, match="in clear and without a token"):
            zen_mlmd.tfx.kubeflow_metadata_config_json(wrong)


@pytest.mark.parametrize(
    ("store", "why"),
    [
        ("postgresql://user@host/metadb", "not safe on PostgreSQL"),
        ("mysql://user@host/metadb?ssl_verify_server_cert=true", "cannot verify"),
        ("mysql://user@host/metadb?read_only=true", "no read_only"),
        ("sqlite://", "in memory"),
        (zm.KubeflowConfig(token="t"), "sends no token"),
        (zm.KubeflowConfig(metadata={"kubeflow-userid": "ana"}), "no request metadata"),
    ],
)
def test_a_store_that_mlmds_client_cannot_use_is_refused_with_the_remedy(store: Any, why: str) -> None:
    with pytest.raises(ConfigError, match=why) as caught:
        zen_mlmd.tfx.connection_config(store)
    assert "zen-mlmd serve" in caught.value.hint


@pytest.mark.mysql
def test_the_server_of_an_open_store_is_asked_whether_it_lets_mlmds_client_in(
    mariadb: MariaDb, mysql_url: str
) -> None:
    with zm.open_store(mysql_url) as store:
        config = zen_mlmd.tfx.connection_config(store)
        assert config.mysql.database == f"`{store.config.location.rpartition('/')[2]}`"
        server = MetadataStore(config)  # as TFX does
        server.put_context_type(mlmd.ContextType(name="by TFX's client"))
        del server
        with zen_mlmd.tfx.open_store_of(config) as again:
            assert again.config.location == store.config.location
