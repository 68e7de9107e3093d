"""What the kubernetes flavor deploys: from settings to the objects, as plain dicts. Nothing is asked here.

MySQL's image and MariaDB's are meant, which know the same variables and run as user 999:
https://hub.docker.com/_/mysql, https://hub.docker.com/_/mariadb.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final, TypeAlias

Object: TypeAlias = dict[str, Any]

PORT: Final = 3306
CONTAINER: Final = "mysql"
MANAGED_BY: Final = "app.kubernetes.io/managed-by"
INSTANCE: Final = "app.kubernetes.io/instance"
US: Final = "zen-mlmd"
SPEC: Final = "zen-mlmd/spec"
"""The annotation by which an object is known to be as it is wanted: a hash of its settings."""
RUN: Final = "zen-mlmd/run"
"""The annotation by which the `up` that made an object knows it."""
SETTLED: Final = "zen-mlmd/settled"
"""The annotation of a claim by which it is known that an `up` finished with it."""

LONGEST_DEPLOYMENT: Final = 40
"""Characters: of the pods' label `controller-revision-hash` 63 may be, `-mysql` and a hash among them."""

_USER_ID: Final = 999
_GRACE_S: Final = 60
"""For MySQL to write out what it holds in memory, before it is killed."""

_PING: Final = "exec $(command -v mysqladmin || command -v mariadb-admin) ping --silent --host=127.0.0.1"
"""Answers as soon as MySQL listens, without a password. A bare TCP connection would do, but MySQL counts
such as faults of the client, and shuts it out after a hundred (max_connect_errors)."""

_QUANTITY: Final = re.compile(
    r"(\d+(?:\.\d*)?|\.\d+)(?:([numkMGTPE]|[KMGTPE]i)?|[eE]([+-]?\d{1,3}))", re.ASCII
)
_UNITS: Final = {
    **dict(zip("num", (Decimal(1000) ** power for power in (-3, -2, -1)), strict=True)),
    **{unit: Decimal(1000) ** power for power, unit in enumerate("kMGTPE", 1)},
    **{f"{unit}i": Decimal(1024) ** power for power, unit in enumerate("KMGTPE", 1)},
    "": Decimal(1),
}


@dataclass(frozen=True)
class Workload:
    """What is to stand in a cluster; see `KubernetesConfig` for its settings."""

    deployment: str
    namespace: str
    image: str
    storage: str
    storage_class: str
    cpu: str
    memory: str
    cpu_limit: str
    memory_limit: str
    database: str
    user: str

    @property
    def name(self) -> str:
        """That of the StatefulSet, the Service and the Secret."""
        return f"{self.deployment}-mysql"

    @property
    def claim(self) -> str:
        """The name of the PersistentVolumeClaim."""
        return f"{self.name}-data"

    @property
    def pod(self) -> str:
        """The name of the one pod."""
        return f"{self.name}-0"

    @property
    def host(self) -> str:
        """The Service's, within the cluster."""
        return f"{self.name}.{self.namespace}"

    @property
    def selector(self) -> dict[str, str]:
        """The labels of the pod, and of all the rest."""
        return {"app.kubernetes.io/name": "mysql", INSTANCE: self.deployment, MANAGED_BY: US}


def objects_of(workload: Workload, *, run: str, passwords: Mapping[str, str]) -> list[Object]:
    """Return the objects of a workload in the order in which they are made.

    Args:
        workload: The settings.
        run: Marks what this `up` makes.
        passwords: `password` and `root-password`, for a Secret that is made anew.
    """
    made = [_secret(workload, passwords), _claim(workload), _service(workload), _stateful_set(workload)]
    for each in made:
        each["metadata"]["annotations"] = {SPEC: _hash(each), RUN: run}
    return made


def namespace_of(workload: Workload, *, run: str) -> Object:
    """Return the namespace."""
    labels = {MANAGED_BY: US}
    metadata = {"name": workload.namespace, "labels": labels, "annotations": {RUN: run}}
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": metadata}


def is_ours(found: Object, workload: Workload) -> bool:
    """Whether an `up` of this deployment made an object."""
    metadata = found["metadata"]
    labels = metadata.get("labels") or {}
    return (
        labels.get(MANAGED_BY) == US
        and (found["kind"] == "Namespace" or labels.get(INSTANCE) == workload.deployment)
        and RUN in (metadata.get("annotations") or {})
    )


def annotation(found: Object, name: str) -> str:
    """Return an object's annotation; empty if it has none of that name."""
    return str((found["metadata"].get("annotations") or {}).get(name, ""))


def quantity(text: str) -> Decimal:
    """Return what a Kubernetes quantity such as `10Gi`, `500m` or `1e9` means.

    https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/quantity/

    Raises:
        ValueError: It is none, or not more than nothing.
    """
    match = _QUANTITY.fullmatch(text)
    if match is None:
        raise ValueError("must be a Kubernetes quantity, such as 10Gi, 500m or 2")
    number = Decimal(match[1])
    found = number * Decimal(10) ** int(match[3]) if match[3] else number * _UNITS[match[2] or ""]
    if not found:
        raise ValueError("must be more than nothing")
    return found


def storage_of(claim: Object) -> str:
    """Return how much a claim asks for."""
    return str(claim["spec"]["resources"]["requests"]["storage"])


def _object(workload: Workload, kind: str, name: str, **body: Any) -> Object:
    metadata = {"name": name, "namespace": workload.namespace, "labels": workload.selector}
    version = "apps/v1" if kind == "StatefulSet" else "v1"
    return {"apiVersion": version, "kind": kind, "metadata": metadata, **body}


def _secret(workload: Workload, passwords: Mapping[str, str]) -> Object:
    text = {"database": workload.database, "user": workload.user, **passwords}
    return _object(workload, "Secret", workload.name, type="Opaque", stringData=text)


def _claim(workload: Workload) -> Object:
    spec: Object = {
        "accessModes": ["ReadWriteOnce"],
        "resources": {"requests": {"storage": workload.storage}},
    }
    if workload.storage_class:
        spec["storageClassName"] = workload.storage_class
    return _object(workload, "PersistentVolumeClaim", workload.claim, spec=spec)


def _service(workload: Workload) -> Object:
    port = {"name": "mysql", "port": PORT, "targetPort": "mysql", "protocol": "TCP"}
    spec = {"type": "ClusterIP", "selector": workload.selector, "ports": [port]}
    return _object(workload, "Service", workload.name, spec=spec)


def _stateful_set(workload: Workload) -> Object:
    pod = {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": _GRACE_S,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": _USER_ID,
            "runAsGroup": _USER_ID,
            "fsGroup": _USER_ID,
            "fsGroupChangePolicy": "OnRootMismatch",
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [_container(workload)],
        "volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": workload.claim}}],
    }
    spec = {
        "serviceName": workload.name,
        "replicas": 1,
        # Else a pod that never gets ready is not replaced by that of mended settings:
        # https://kubernetes.io/docs/concepts/workloads/controllers/statefulset/#forced-rollback
        "podManagementPolicy": "Parallel",
        "selector": {"matchLabels": workload.selector},
        "template": {"metadata": {"labels": workload.selector}, "spec": pod},
    }
    return _object(workload, "StatefulSet", workload.name, spec=spec)


def _container(workload: Workload) -> Object:
    return {
        "name": CONTAINER,
        "image": workload.image,
        # The collation in which MLMD's names differ by case and by blanks, and room for its long strings.
        "args": [
            "--character-set-server=utf8mb4",
            "--collation-server=utf8mb4_bin",
            "--max-allowed-packet=64M",
        ],
        "env": [
            _from_secret(workload, "MYSQL_DATABASE", "database"),
            _from_secret(workload, "MYSQL_USER", "user"),
            _from_secret(workload, "MYSQL_PASSWORD", "password"),
            _from_secret(workload, "MYSQL_ROOT_PASSWORD", "root-password"),
            {"name": "MYSQL_ROOT_HOST", "value": "localhost"},
        ],
        "ports": [{"name": "mysql", "containerPort": PORT, "protocol": "TCP"}],
        "resources": _resources(workload),
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
        # The first start makes the data, a later one may have to recover or upgrade them. Killed halfway they
        # are lost, so it is `ready_timeout_s` that ends the waiting, and not this: a day.
        "startupProbe": _probe(periodSeconds=5, failureThreshold=17280),
        "readinessProbe": _probe(periodSeconds=5, failureThreshold=3),
        "livenessProbe": _probe(periodSeconds=15, failureThreshold=6),
        # A subfolder: a disk of its own has lost+found in it, and MySQL makes its data in empty folders only.
        "volumeMounts": [{"name": "data", "mountPath": "/var/lib/mysql", "subPath": "mysql"}],
    }


def _probe(**times: int) -> Object:
    return {"exec": {"command": ["sh", "-c", _PING]}, "timeoutSeconds": 5, **times}


def _from_secret(workload: Workload, variable: str, key: str) -> Object:
    return {"name": variable, "valueFrom": {"secretKeyRef": {"name": workload.name, "key": key}}}


def _resources(workload: Workload) -> Object:
    limits = {"cpu": workload.cpu_limit, "memory": workload.memory_limit}
    return {
        "requests": {"cpu": workload.cpu, "memory": workload.memory},
        "limits": {name: text for name, text in limits.items() if text},
    }


def _hash(made: Object) -> str:
    """Return what stands for an object's settings; passwords are none of them."""
    known = {key: value for key, value in made.items() if key != "metadata"}
    if "stringData" in known:
        known["stringData"] = {key: known["stringData"][key] for key in ("database", "user")}
    return hashlib.sha256(json.dumps(known, sort_keys=True).encode()).hexdigest()[:16]
