"""What a pod is told of its cluster by its environment."""

from __future__ import annotations

import os
from typing import Final

from zen_mlmd.cluster import access

HOST_VARIABLE: Final = "METADATA_GRPC_SERVICE_HOST"
PORT_VARIABLE: Final = "METADATA_GRPC_SERVICE_PORT"
_API_SERVER: Final = "KUBERNETES_SERVICE_HOST"


def told_server() -> tuple[str, str] | None:
    """Return host and port of the MLMD server that Kubeflow tells its pods of; None if it told nothing.

    Kubeflow mounts the config map `metadata-grpc-configmap` into its pods' environment.
    """
    host = os.environ.get(HOST_VARIABLE)
    return (host, os.environ.get(PORT_VARIABLE) or "8080") if host else None


def in_pod() -> bool:
    """Tell whether this process is in a pod, be it one that may ask its cluster's API or not."""
    return bool(os.environ.get(_API_SERVER)) or access.is_inside()
