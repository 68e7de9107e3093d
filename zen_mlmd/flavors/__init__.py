"""Which store, and how to open it: one module a flavor, one config class each."""

from zen_mlmd.flavors.base import StoreConfig
from zen_mlmd.flavors.kubeflow import KubeflowConfig
from zen_mlmd.flavors.kubernetes import KubernetesConfig
from zen_mlmd.flavors.mysql import MysqlConfig
from zen_mlmd.flavors.postgresql import PostgresqlConfig
from zen_mlmd.flavors.registry import FLAVORS, config_from_url, installed_flavors, load_flavor
from zen_mlmd.flavors.sqlite import SqliteConfig

__all__ = [
    "FLAVORS",
    "KubeflowConfig",
    "KubernetesConfig",
    "MysqlConfig",
    "PostgresqlConfig",
    "SqliteConfig",
    "StoreConfig",
    "config_from_url",
    "installed_flavors",
    "load_flavor",
]
