"""Which pod answers for a Service, and on which of its ports.

By the Service's selector, as kubectl does it: who may forward to a Service with kubectl may do so here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from zen_mlmd.cluster.access import Cluster
from zen_mlmd.cluster.api import asking
from zen_mlmd.errors import ForwardError


@dataclass(frozen=True, slots=True)
class PodPort:
    """A port of a pod that is ready."""

    namespace: str
    pod: str
    port: int

    def __str__(self) -> str:
        return f"{self.pod}:{self.port}"


def ready_pod(cluster: Cluster, namespace: str, service: str, port: int | str) -> PodPort:
    """Return a pod that is ready behind a Service, and its port.

    Args:
        cluster: Where the Service is.
        namespace: The Service's.
        service: Its name.
        port: The Service's port, by number or name.

    Raises:
        ClusterUnreachableError, ClusterObjectError: See `asking`.
        ForwardError: No pod is ready, or the Service has no such port, or no selector.
    """
    with asking(cluster, "get", "Service", service, namespace):
        found = cluster.core.read_namespaced_service(service, namespace)
    where = f"{cluster.location}: Service {namespace}/{service}"
    wanted = _service_port(found, port, where)
    selector = ",".join(f"{key}={value}" for key, value in sorted((found.spec.selector or {}).items()))
    if not selector:
        raise ForwardError(f"{where} has no selector", hint="name a Service that stands before pods")
    with asking(cluster, "list", "Pods", "", namespace):
        pods = cluster.core.list_namespaced_pod(namespace, label_selector=selector).items
    for pod in sorted(pods, key=lambda each: str(each.metadata.name)):
        if _is_ready(pod):
            return PodPort(namespace, pod.metadata.name, _pod_port(pod, wanted, where))
    told = "; ".join(sorted(_condition(each) for each in pods)) or "there is none"
    raise ForwardError(
        f"{where}: no pod is ready: {told}",
        hint="wait until one is; its events and its log in the cluster say why it is not",
    )


def _service_port(service: Any, port: int | str, where: str) -> int | str:
    """Return the port of the pods that a port of a Service means: a number, or the name of a container's."""
    ports = service.spec.ports or []
    for each in ports:
        if port in (each.port, each.name):
            target = each.target_port or each.port
            return int(target) if str(target).isdigit() else str(target)
    there = ", ".join(f"{each.port}" + (f" ({each.name})" if each.name else "") for each in ports)
    raise ForwardError(f"{where} has no port {port}; it has: {there or 'none'}", hint="name one of them")


def _pod_port(pod: Any, port: int | str, where: str) -> int:
    if isinstance(port, int):
        return port
    # A sidecar is an init container that goes on.
    for container in [*pod.spec.containers, *(pod.spec.init_containers or [])]:
        for each in container.ports or []:
            if each.name == port:
                return int(each.container_port)
    raise ForwardError(
        f"{where}: its pod {pod.metadata.name} has no port of the name {port!r}",
        hint="the Service's targetPort has to be a port of its pods",
    )


def _is_ready(pod: Any) -> bool:
    if pod.metadata.deletion_timestamp is not None or pod.status is None:
        return False
    return any(each.type == "Ready" and each.status == "True" for each in pod.status.conditions or [])


def _condition(pod: Any) -> str:
    """Return how a pod is that is not ready: `x is Pending (ImagePullBackOff)`."""
    if pod.metadata.deletion_timestamp is not None:
        return f"{pod.metadata.name} is being deleted"
    status = pod.status
    containers = (status and status.container_statuses) or []
    waiting = [each.state.waiting.reason for each in containers if each.state and each.state.waiting]
    phase = (status and status.phase) or "Pending"
    return f"{pod.metadata.name} is {phase}" + (f" ({', '.join(filter(None, waiting))})" if waiting else "")
