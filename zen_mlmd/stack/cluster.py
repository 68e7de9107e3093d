"""What a pod of a Kubeflow installation is told of its metadata server.

Kubeflow mounts the config map `metadata-grpc-configmap` into its pods' environment.
"""

from __future__ import annotations

import os
from typing import Final

from zen_mlmd.errors import ConfigError
from zen_mlmd.flavors import KubeflowConfig

HOST_VARIABLE: Final = "METADATA_GRPC_SERVICE_HOST"
PORT_VARIABLE: Final = "METADATA_GRPC_SERVICE_PORT"


def kubeflow_from_environment() -> KubeflowConfig:
    """Return the config of the server that the environment names.

    Raises:
        ConfigError: It names none, or the port is no number.
    """
    host = os.environ.get(HOST_VARIABLE)
    if not host:
        raise ConfigError(
            f"{HOST_VARIABLE} is not set: this is no pod of a Kubeflow installation",
            hint=f"set {HOST_VARIABLE} and {PORT_VARIABLE}, or name the store",
        )
    return KubeflowConfig.checked(host=host, port=os.environ.get(PORT_VARIABLE) or 8080)
