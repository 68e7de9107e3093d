"""Which pod answers for a Service, and on which of its ports.

By the Service's selector, as kubectl does it: who may forward to a Service with kubectl may do so here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

from zen_mlmd.cluster.access import Cluster
from zen_mlmd.cluster.api import asking
from zen_mlmd.errors import ForwardError

Object: TypeAlias = dict[str, Any]


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
    place = f"/api/v1/namespaces/{namespace}"
    with asking(cluster, "get", "Service", service, namespace):
        spec = cluster.get(f"{place}/services/{service}").get("spec") or {}
    where = f"{cluster.location}: Service {namespace}/{service}"
    wanted = _service_port(spec, port, where)
    selector = ",".join(f"{key}={value}" for key, value in sorted((spec.get("selector") or {}).items()))
    if not selector:
        raise ForwardError(f"{where} has no selector", hint="name a Service that stands before pods")
    with asking(cluster, "list", "Pods", "", namespace):
        pods = cluster.get(f"{place}/pods", labelSelector=selector).get("items") or []
    for pod in sorted(pods, key=_name):
        if _is_ready(pod):
            return PodPort(namespace, _name(pod), _pod_port(pod, wanted, where))
    told = "; ".join(sorted(map(_condition, pods))) or "there is none"
    raise ForwardError(
        f"{where}: no pod is ready: {told}",
        hint="wait until one is; its events and its log in the cluster say why it is not",
    )


def _service_port(spec: Object, port: int | str, where: str) -> int | str:
    """Return the port of the pods that a port of a Service means: a number, or the name of a container's."""
    ports = spec.get("ports") or []
    for each in ports:
        if port in (each["port"], each.get("name")):
            target = each.get("targetPort") or each["port"]
            return int(target) if str(target).isdigit() else str(target)
    there = ", ".join(f"{each['port']}" + (f" ({each['name']})" if "name" in each else "") for each in ports)
    raise ForwardError(f"{where} has no port {port}; it has: {there or 'none'}", hint="name one of them")


def _pod_port(pod: Object, port: int | str, where: str) -> int:
    if isinstance(port, int):
        return port
    spec = pod["spec"]
    # A sidecar is an init container that goes on.
    for container in [*spec["containers"], *(spec.get("initContainers") or [])]:
        for each in container.get("ports") or []:
            if each.get("name") == port:
                return int(each["containerPort"])
    raise ForwardError(
        f"{where}: its pod {_name(pod)} has no port of the name {port!r}",
        hint="the Service's targetPort has to be a port of its pods",
    )


def _name(pod: Object) -> str:
    return str(pod["metadata"]["name"])


def _is_ready(pod: Object) -> bool:
    if pod["metadata"].get("deletionTimestamp"):
        return False
    conditions = (pod.get("status") or {}).get("conditions") or []
    return any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)


def _condition(pod: Object) -> str:
    """Return how a pod is that is not ready: `x is Pending (ImagePullBackOff)`."""
    if pod["metadata"].get("deletionTimestamp"):
        return f"{_name(pod)} is being deleted"
    status = pod.get("status") or {}
    states = [each.get("state") or {} for each in status.get("containerStatuses") or []]
    waiting = ", ".join(
        each["waiting"]["reason"] for each in states if (each.get("waiting") or {}).get("reason")
    )
    return f"{_name(pod)} is {status.get('phase') or 'Pending'}" + (f" ({waiting})" if waiting else "")
