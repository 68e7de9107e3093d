"""What a pod of a Kubeflow installation is told of its metadata server."""

from __future__ import annotations

from zen_mlmd.cluster.told import HOST_VARIABLE, PORT_VARIABLE, told_server
from zen_mlmd.errors import ConfigError
from zen_mlmd.flavors import KubeflowConfig


def kubeflow_from_environment() -> KubeflowConfig:
    """Return the config of the server that the environment names.

    Raises:
        ConfigError: It names none, or the port is no number.
    """
    told = told_server()
    if told is None:
        raise ConfigError(
            f"{HOST_VARIABLE} is not set: this is no pod of a Kubeflow installation",
            hint=f"set {HOST_VARIABLE} and {PORT_VARIABLE}, or name the store",
        )
    return KubeflowConfig.checked(host=told[0], port=told[1])
