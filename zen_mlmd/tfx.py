"""A store as TFX takes it, and a TFX pipeline's as a store; TFX itself is not imported.

from tfx import v1 as tfx
import zen_mlmd.tfx

pipeline = tfx.dsl.Pipeline(..., metadata_connection_config=zen_mlmd.tfx.connection_config("prod"))
store = zen_mlmd.tfx.open_store_of(pipeline)
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final, TypeAlias

from ml_metadata.proto import metadata_store_pb2 as mlmd

from zen_mlmd.errors import ConfigError, LoginPluginError, UsageError
from zen_mlmd.flavors import KubeflowConfig, KubernetesConfig, MysqlConfig, SqliteConfig, StoreConfig
from zen_mlmd.flavors.protos import config_from_proto
from zen_mlmd.store import Store, config_of, open_store

__all__ = ["connection_config", "from_environment", "kubeflow_metadata_config_json", "open_store_of"]

_SERVE: Final = (
    "start `zen-mlmd serve --store ...` for it, which opens it in its own way, and give TFX that server's"
    " address: connection_config('kubeflow://127.0.0.1:8080')"
)

AnyStore: TypeAlias = Store | StoreConfig | str | Path | None
"""A store, its config, its name, URL or path, or None for that of the active stack."""


def connection_config(store: AnyStore = None) -> mlmd.ConnectionConfig | mlmd.MetadataStoreClientConfig:
    """Return what `tfx.dsl.Pipeline(metadata_connection_config=...)` and TFX's `Metadata` take.

    It holds the password in clear, as MLMD wants it. Nothing is opened; of an open store on MySQL, the
    server is asked whether it lets ml-metadata's own client in.

    Args:
        store: An open store, a config such as `MysqlConfig(...)`, a name, a URL or a path; by default the
            store of the active stack.

    Raises:
        ConfigError: It means no store, or one that ml-metadata's own client cannot safely use: PostgreSQL, a
            database in memory, a server's certificate that is to be verified, a token.
        LoginPluginError: The server wants a login plugin that this client does not speak, as MySQL 8.4 and
            newer do.
    """
    config = _config(store)
    lacking = _lacking(config)
    if lacking:
        raise ConfigError(f"{config.location}: {lacking}", hint=_SERVE)
    if isinstance(store, Store) and isinstance(config, MysqlConfig):
        try:
            config.probe_native()
        except LoginPluginError as error:
            raise LoginPluginError(error.message, hint=_SERVE) from None
    return config.connection_config()


def from_environment() -> mlmd.MetadataStoreClientConfig:
    """Return the config of the server that a pod of Kubeflow's is told of.

    That is `METADATA_GRPC_SERVICE_HOST` and `METADATA_GRPC_SERVICE_PORT`.

    Raises:
        ConfigError: The environment names none.
    """
    from zen_mlmd.stack.cluster import kubeflow_from_environment

    return kubeflow_from_environment().connection_config()


def kubeflow_metadata_config_json(store: AnyStore = None) -> str:
    """Return a `KubeflowMetadataConfig` as JSON, for TFX up to 1.15 on Kubeflow Pipelines v1.

    `KubeflowDagRunnerConfig(kubeflow_metadata_config=...)` takes `json_format.Parse(text,
    KubeflowMetadataConfig())` and tells each pod which server to ask (tfx/orchestration/kubeflow/proto).

    Args:
        store: An MLMD server; None for the one that pods are told of by their environment.

    Raises:
        ConfigError: The store is no server, or one that such a config cannot describe: with TLS or a token.
    """
    if store is None:
        host = {"environmentVariable": "METADATA_GRPC_SERVICE_HOST"}
        port = {"environmentVariable": "METADATA_GRPC_SERVICE_PORT"}
    else:
        config = _config(store)
        if not isinstance(config, KubeflowConfig) or config.tls or config.token.get_secret_value():
            raise ConfigError(
                f"{config.location}: TFX's pods ask an MLMD server in clear and without a token",
                hint="give one such: kubeflow://metadata-grpc-service.kubeflow:8080; `zen-mlmd serve` is one",
            )
        name = config.host or f"{config.service}.{config.namespace}"  # it is pods that ask
        host, port = {"value": name}, {"value": str(config.port)}
    return json.dumps({"grpcConfig": {"grpcServiceHost": host, "grpcServicePort": port}})


def open_store_of(pipeline: Any) -> Store:
    """Open the store that a TFX pipeline records into.

    Args:
        pipeline: A `tfx.dsl.Pipeline`, or MLMD's connection config itself.

    Raises:
        UsageError: It is no pipeline, or has no connection config.
        ConnectionFailedError: The store cannot be opened.
    """
    given = getattr(pipeline, "metadata_connection_config", pipeline)
    if given is None or not isinstance(given, mlmd.ConnectionConfig | mlmd.MetadataStoreClientConfig):
        raise UsageError(
            "the pipeline has no connection config" if given is None else "this is no TFX pipeline",
            hint="give it one: metadata_connection_config=zen_mlmd.tfx.connection_config(...)",
        )
    return open_store(config_from_proto(given))


def _lacking(config: StoreConfig) -> str:
    """Return what ml-metadata's own client would not do as the config says; empty if it does all."""
    if isinstance(config, MysqlConfig) and config.ssl_verify_server_cert:
        return "ml-metadata's own client cannot verify a server's certificate"
    if isinstance(config, MysqlConfig | KubernetesConfig) and config.read_only:
        return "ml-metadata's own client has no read_only for MySQL"
    if isinstance(config, SqliteConfig) and config.path == ":memory:":
        return "a database in memory is of one connection, and TFX opens several"
    if isinstance(config, KubeflowConfig) and (config.token.get_secret_value() or config.metadata):
        return "ml-metadata's own client sends no token and no request metadata"
    return ""


def _config(store: AnyStore) -> StoreConfig:
    return store.config if isinstance(store, Store) else config_of(store)
