"""From MLMD's own connection configs to a flavor's: the way back of `StoreConfig.connection_config`."""

from __future__ import annotations

from typing import Any

from ml_metadata.proto import metadata_store_pb2 as mlmd
from typing_extensions import assert_never

from zen_mlmd.errors import ConfigError, UsageError
from zen_mlmd.flavors.base import StoreConfig
from zen_mlmd.flavors.kubeflow import KubeflowConfig
from zen_mlmd.flavors.mysql import MysqlConfig
from zen_mlmd.flavors.postgresql import PostgresqlConfig
from zen_mlmd.flavors.sqlite import SqliteConfig

_READ_ONLY = mlmd.SqliteMetadataSourceConfig.READONLY


def config_from_proto(message: mlmd.ConnectionConfig | mlmd.MetadataStoreClientConfig) -> StoreConfig:
    """Return the config that MLMD's own one means.

    Raises:
        ConfigError: It names no store, or a setting is wrong.
        UsageError: It is no such message.
    """
    if isinstance(message, mlmd.MetadataStoreClientConfig):
        return _server(message)
    if not isinstance(message, mlmd.ConnectionConfig):
        raise UsageError(
            f"a {type(message).__qualname__} is no connection config of MLMD's",
            hint="give a ConnectionConfig or a MetadataStoreClientConfig",
        )
    kind = message.WhichOneof("config")
    if kind == "fake_database":
        return SqliteConfig.checked(path=":memory:")
    if kind == "sqlite":
        return _sqlite(message.sqlite)
    if kind == "mysql":
        return _mysql(message.mysql)
    if kind == "postgresql":
        return _postgresql(message.postgresql)
    if kind is None:
        raise ConfigError("the connection config names no store", hint="set its sqlite, mysql or postgresql")
    assert_never(kind)


def _server(message: mlmd.MetadataStoreClientConfig) -> KubeflowConfig:
    fields: dict[str, Any] = {"host": message.host, "port": message.port}
    if message.HasField("ssl_config"):
        ssl = message.ssl_config
        fields |= {"tls": True, "ca": ssl.custom_ca, "certificate": ssl.server_cert, "key": ssl.client_key}
    if message.channel_arguments.max_receive_message_length > 0:
        fields["max_message_bytes"] = message.channel_arguments.max_receive_message_length
    if message.client_timeout_sec > 0:
        fields["timeout_s"] = message.client_timeout_sec
    return KubeflowConfig.checked(**fields)


def _sqlite(message: mlmd.SqliteMetadataSourceConfig) -> SqliteConfig:
    return SqliteConfig.checked(
        path=message.filename_uri.removeprefix("file:") or ":memory:",
        read_only=message.connection_mode == _READ_ONLY,
    )


def _mysql(message: mlmd.MySQLDatabaseConfig) -> MysqlConfig:
    fields: dict[str, Any] = {
        "database": message.database.strip("`"),
        "user": message.user,
        "password": message.password,
        "socket": message.socket,
    }
    fields |= {"host": message.host} if message.host else {}
    fields |= {"port": message.port} if message.port else {}
    options = message.ssl_options
    fields |= {
        f"ssl_{name}": getattr(options, name)
        for name in ("ca", "capath", "cert", "key", "cipher")
        if getattr(options, name)
    }
    if options.verify_server_cert:
        fields["ssl_verify_server_cert"] = True
    return MysqlConfig.checked(**fields)


def _postgresql(message: mlmd.PostgreSQLDatabaseConfig) -> PostgresqlConfig:
    fields: dict[str, Any] = {
        "database": message.dbname,
        "user": message.user,
        "password": message.password,
        "host": message.host or message.hostaddr or "127.0.0.1",
    }
    fields |= {"port": int(message.port)} if message.port else {}
    return PostgresqlConfig.checked(**{key: value for key, value in fields.items() if value != ""})
