"""zen_mlmd: record pipelines in ML Metadata (MLMD), read them back, ask for their lineage.

    import zen_mlmd as zm

    store = zm.open_store("sqlite:///metadata.db")
    with store.record_run("churn", parameters={"depth": 4}) as run:
        with run.step("train") as step:
            step.log_output("model", uri="s3://bucket/model", type="Model")

    model = store.get_artifact("churn/latest/train/model")
    model.upstream().to_mermaid()

The public names below are loaded when they are first used: importing zen_mlmd loads neither
ml_metadata nor grpc.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from zen_mlmd import errors
from zen_mlmd._version import __version__

if TYPE_CHECKING:
    from zen_mlmd.flavors import (
        KubeflowConfig,
        KubernetesConfig,
        MysqlConfig,
        PostgresqlConfig,
        SqliteConfig,
        StoreConfig,
    )
    from zen_mlmd.lineage import LineageGraph
    from zen_mlmd.model import Status
    from zen_mlmd.payloads import Materializer
    from zen_mlmd.pipelines import get_step_context, pipeline, step
    from zen_mlmd.store import Store, open_store

_HOME = {
    "KubeflowConfig": "zen_mlmd.flavors",
    "KubernetesConfig": "zen_mlmd.flavors",
    "LineageGraph": "zen_mlmd.lineage",
    "Materializer": "zen_mlmd.payloads",
    "MysqlConfig": "zen_mlmd.flavors",
    "PostgresqlConfig": "zen_mlmd.flavors",
    "SqliteConfig": "zen_mlmd.flavors",
    "Status": "zen_mlmd.model",
    "Store": "zen_mlmd.store",
    "StoreConfig": "zen_mlmd.flavors",
    "get_step_context": "zen_mlmd.pipelines",
    "open_store": "zen_mlmd.store",
    "pipeline": "zen_mlmd.pipelines",
    "step": "zen_mlmd.pipelines",
}

__all__ = [
    "KubeflowConfig",
    "KubernetesConfig",
    "LineageGraph",
    "Materializer",
    "MysqlConfig",
    "PostgresqlConfig",
    "SqliteConfig",
    "Status",
    "Store",
    "StoreConfig",
    "__version__",
    "errors",
    "get_step_context",
    "open_store",
    "pipeline",
    "step",
]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        value = getattr(import_module(_HOME[name]), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
