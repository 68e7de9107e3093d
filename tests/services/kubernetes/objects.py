"""What a Kubernetes API server keeps: objects with versions, checked when they are written."""

from __future__ import annotations

import copy
import itertools
import threading
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

from tests.services.kubernetes.rules import check, check_change

Object = dict[str, Any]
Key = tuple[str, str, str]
"""Resource, namespace ("" for what is in none), name."""


@dataclass(frozen=True)
class Resource:
    """A kind of object, as its path names it."""

    name: str
    kind: str
    group: str = ""
    namespaced: bool = True

    @property
    def version(self) -> str:
        """`apiVersion` of its objects."""
        return f"{self.group}/v1" if self.group else "v1"

    @property
    def qualified(self) -> str:
        """Its name in messages: `statefulsets.apps`."""
        return f"{self.name}.{self.group}" if self.group else self.name


RESOURCES = {
    each.name: each
    for each in (
        Resource("namespaces", "Namespace", namespaced=False),
        Resource("secrets", "Secret"),
        Resource("configmaps", "ConfigMap"),
        Resource("serviceaccounts", "ServiceAccount"),
        Resource("persistentvolumeclaims", "PersistentVolumeClaim"),
        Resource("services", "Service"),
        Resource("endpoints", "Endpoints"),
        Resource("pods", "Pod"),
        Resource("events", "Event"),
        Resource("statefulsets", "StatefulSet", "apps"),
        Resource("deployments", "Deployment", "apps"),
        Resource("storageclasses", "StorageClass", "storage.k8s.io", namespaced=False),
    )
}


class Refusal(Exception):  # noqa: N818 - it is an answer
    """An answer other than 2xx, with the Status that the real server gives."""

    def __init__(self, code: int, reason: str, message: str, *, causes: list[Object] | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.status: Object = {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": message,
            "reason": reason,
            "details": {"causes": causes or []},
            "code": code,
        }


class Objects:
    """All objects, under one lock; whoever waits on `changed` is woken by every write."""

    def __init__(self) -> None:
        self.changed = threading.Condition(threading.RLock())
        self._all: dict[Key, Object] = {}
        self._versions = itertools.count(1)

    @property
    def version(self) -> str:
        """The newest `resourceVersion`, taken."""
        return str(next(self._versions))

    def create(self, resource: str, namespace: str, body: Object) -> Object:
        """Keep a new object."""
        kind, body = RESOURCES[resource], copy.deepcopy(body)
        metadata = body.setdefault("metadata", {})
        if "name" not in metadata and "generateName" in metadata:
            metadata["name"] = metadata["generateName"] + uuid.uuid4().hex[:5]
        body.setdefault("apiVersion", kind.version)
        body.setdefault("kind", kind.kind)
        if kind.namespaced:
            metadata.setdefault("namespace", namespace)
        self._refuse_invalid(kind, body, check(body))
        name = metadata["name"]
        with self.changed:
            self._refuse_no_namespace(kind, namespace, name)
            if (resource, namespace, name) in self._all:
                raise Refusal(409, "AlreadyExists", f'{kind.qualified} "{name}" already exists')
            _default(resource, body)
            metadata |= {"uid": str(uuid.uuid4()), "creationTimestamp": now(), "generation": 1}
            self._put((resource, namespace, name), body)
            if resource == "namespaces":
                self._furnish(name)
            return copy.deepcopy(body)

    def get(self, resource: str, namespace: str, name: str) -> Object:
        """Return a copy of an object."""
        with self.changed:
            found = self._all.get((resource, namespace, name))
            if found is None:
                raise Refusal(404, "NotFound", f'{RESOURCES[resource].qualified} "{name}" not found')
            return copy.deepcopy(found)

    def find(self, resource: str, namespace: str, name: str) -> Object | None:
        """Return a copy of an object, or None."""
        with self.changed:
            return copy.deepcopy(self._all.get((resource, namespace, name)))

    def list(self, resource: str, namespace: str = "", *, labels: str = "", fields: str = "") -> list[Object]:
        """Return copies of all objects of a namespace, or of all, that the selectors match."""
        with self.changed:
            return [
                copy.deepcopy(each)
                for (kind, within, _), each in sorted(self._all.items())
                if kind == resource
                and namespace in ("", within)
                and _matches(each["metadata"].get("labels", {}), labels)
                and _has_fields(each, fields)
            ]

    def there(self) -> set[Key]:
        """Return what there is, but events, and what each namespace has of itself."""
        with self.changed:
            own = ("events", "configmaps", "serviceaccounts", "endpoints", "storageclasses")
            return {key for key in self._all if key[0] not in own}

    def change(self, resource: str, namespace: str, name: str, edit: Callable[[Object], Object]) -> Object:
        """Put what `edit` makes of an object in its place, checked as the server checks an update."""
        kind = RESOURCES[resource]
        with self.changed:
            before = self.get(resource, namespace, name)
            after = edit(copy.deepcopy(before))
            wanted = after["metadata"].get("resourceVersion")
            if wanted not in (None, before["metadata"]["resourceVersion"]):
                raise Refusal(
                    409,
                    "Conflict",
                    f'Operation cannot be fulfilled on {kind.qualified} "{name}": the object has been'
                    " modified; please apply your changes to the latest version and try again",
                )
            for field in ("uid", "creationTimestamp", "name", "namespace"):
                if field in before["metadata"]:
                    after["metadata"][field] = before["metadata"][field]
            _default(resource, after)
            if "status" in before:
                after["status"] = before["status"]
            forbidden = check_change(before, after)
            if forbidden and forbidden[0] == "forbidden":
                raise Refusal(403, "Forbidden", f'{kind.qualified} "{name}" is forbidden: {forbidden[1]}')
            self._refuse_invalid(kind, after, forbidden or check(after))
            if after.get("spec") != before.get("spec"):
                after["metadata"]["generation"] = before["metadata"].get("generation", 0) + 1
            self._put((resource, namespace, name), after)
            return copy.deepcopy(after)

    def delete(self, resource: str, namespace: str, name: str, options: Mapping[str, Any]) -> Object:
        """Delete an object: at once, or, if something is to end before, mark it."""
        kind = RESOURCES[resource]
        with self.changed:
            found = self._all[self._key(resource, namespace, name)]
            metadata = found["metadata"]
            for field, wanted in (options.get("preconditions") or {}).items():
                if wanted is not None and metadata[field] != wanted:
                    raise Refusal(
                        409,
                        "Conflict",
                        f'Operation cannot be fulfilled on {kind.qualified} "{name}": Precondition failed:'
                        f" {field} in precondition: {wanted}, {field} in object meta: {metadata[field]}",
                    )
            waits = resource in ("namespaces", "pods", "persistentvolumeclaims") or (
                resource == "statefulsets" and options.get("propagationPolicy") == "Foreground"
            )
            if waits or metadata.get("finalizers"):
                metadata.setdefault("deletionTimestamp", now())
                self._put((resource, namespace, name), found)
            else:
                self.remove(resource, namespace, name)
            if options.get("propagationPolicy") == "Orphan":
                self._orphan(metadata["uid"])
            if resource == "secrets":  # of which nothing is to be told
                details = {"name": name, "kind": resource, "uid": metadata["uid"]}
                return {"kind": "Status", "apiVersion": "v1", "status": "Success", "details": details}
            return copy.deepcopy(found)

    # --- for those who act on objects, unchecked -----------------------------------------------------

    def set_status(self, resource: str, namespace: str, name: str, status: Object, **metadata: Any) -> None:
        """Note an object's status, if the object is still there and the status is new."""
        with self.changed:
            found = self._all.get((resource, namespace, name))
            if found is not None and (found.get("status") != status or metadata):
                found["status"] = copy.deepcopy(status)
                found["metadata"] |= metadata
                self._put((resource, namespace, name), found)

    def remove(self, resource: str, namespace: str, name: str) -> None:
        """Take an object away, and the events on it if it is a namespace."""
        with self.changed:
            self._all.pop((resource, namespace, name), None)
            if resource == "namespaces":
                self._all = {key: each for key, each in self._all.items() if key[1] != name}
            self.changed.notify_all()

    def event(self, about: Object, reason: str, message: str) -> None:
        """Note a warning on an object, once."""
        metadata = about["metadata"]
        namespace = metadata["namespace"]
        marked = uuid.uuid5(uuid.NAMESPACE_OID, metadata["uid"] + reason + message)
        named = f"{metadata['name']}.{marked.hex[:16]}"
        with self.changed:
            if ("events", namespace, named) in self._all or ("namespaces", "", namespace) not in self._all:
                return
            self._put(
                ("events", namespace, named),
                {
                    "apiVersion": "v1",
                    "kind": "Event",
                    "metadata": {"name": named, "namespace": namespace, "uid": str(uuid.uuid4())},
                    "involvedObject": {"kind": about["kind"], "namespace": namespace}
                    | {field: metadata[field] for field in ("name", "uid")},
                    "reason": reason,
                    "message": message,
                    "type": "Warning",
                    "lastTimestamp": now(),
                },
            )

    def _key(self, resource: str, namespace: str, name: str) -> Key:
        self.get(resource, namespace, name)
        return (resource, namespace, name)

    def _put(self, key: Key, body: Object) -> None:
        body["metadata"]["resourceVersion"] = self.version
        self._all[key] = body
        self.changed.notify_all()

    def _orphan(self, uid: str) -> None:
        for each in self._all.values():
            owners = each["metadata"].get("ownerReferences", [])
            each["metadata"]["ownerReferences"] = [owner for owner in owners if owner["uid"] != uid]

    def _furnish(self, namespace: str) -> None:
        for resource, name in (("serviceaccounts", "default"), ("configmaps", "kube-root-ca.crt")):
            self.create(resource, namespace, {"metadata": {"name": name}})

    def _refuse_no_namespace(self, kind: Resource, namespace: str, name: str) -> None:
        if not kind.namespaced:
            return
        found = self.get("namespaces", "", namespace)
        if "deletionTimestamp" in found["metadata"]:
            raise Refusal(
                403,
                "Forbidden",
                f'{kind.qualified} "{name}" is forbidden: unable to create new content in namespace'
                f" {namespace} because it is being terminated",
            )

    def _refuse_invalid(self, kind: Resource, body: Object, fault: tuple[str, str] | None) -> None:
        if fault is None:
            return
        field, message = fault
        name = body["metadata"].get("name", "")
        group = f".{kind.group}" if kind.group else ""
        raise Refusal(
            422,
            "Invalid",
            f'{kind.kind}{group} "{name}" is invalid: {field}: {message}',
            causes=[{"reason": "FieldValueInvalid", "field": field, "message": message}],
        )


def now() -> str:
    """Return the time as Kubernetes writes it."""
    return datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def refusal(code: int, resource: str, name: str) -> Refusal:
    """Return the answer that a server gives which fails, or whose rules say no."""
    qualified = RESOURCES[resource].qualified if resource in RESOURCES else resource
    reason, message = {
        401: ("Unauthorized", "Unauthorized"),
        403: ("Forbidden", f'{qualified} "{name}" is forbidden: User "tester" cannot do that here'),
        404: ("NotFound", f'{qualified} "{name}" not found'),
        409: ("Conflict", f'Operation cannot be fulfilled on {qualified} "{name}": it has been modified'),
        422: ("Invalid", f'{qualified} "{name}" is invalid: denied by a policy'),
        429: ("TooManyRequests", "the server has received too many requests"),
        500: ("InternalError", "Internal error occurred: etcdserver: request timed out"),
        503: ("ServiceUnavailable", "the server is currently unable to handle the request"),
    }[code]
    return Refusal(code, reason, message)


def _default(resource: str, body: Object) -> None:
    if resource == "secrets":
        import base64

        for name, text in body.pop("stringData", {}).items():
            body.setdefault("data", {})[name] = base64.b64encode(text.encode()).decode()
        body.setdefault("type", "Opaque")
    elif resource == "namespaces":
        body["status"] = {"phase": "Active"}
    elif resource == "persistentvolumeclaims":
        body.setdefault("status", {"phase": "Pending"})
        body["spec"].setdefault("storageClassName", "standard")
        body["spec"].setdefault("volumeMode", "Filesystem")
    elif resource == "services":
        body["spec"].setdefault("type", "ClusterIP")
        body["spec"].setdefault("clusterIP", f"10.0.{uuid.uuid4().int % 256}.{uuid.uuid4().int % 256}")
        for port in body["spec"].get("ports", []):
            port.setdefault("protocol", "TCP")
            port.setdefault("targetPort", port["port"])
    elif resource == "statefulsets":
        body["spec"].setdefault("replicas", 1)
        body.setdefault("status", {"replicas": 0})


def _matches(labels: Mapping[str, str], selector: str) -> bool:
    """Whether labels fit `a=b,c!=d,e`."""
    for term in filter(None, selector.split(",")):
        name, operator, value = (
            term.partition("!=") if "!=" in term else term.replace("==", "=").partition("=")
        )
        if operator == "!=" and labels.get(name) == value:
            return False
        if operator == "=" and labels.get(name) != value:
            return False
        if not operator and name not in labels:
            return False
    return True


def _has_fields(body: Object, selector: str) -> bool:
    for term in filter(None, selector.split(",")):
        path, _, wanted = term.partition("=")
        value: Any = body
        for part in path.split("."):
            value = value.get(part, "") if isinstance(value, Mapping) else ""
        if value != wanted:
            return False
    return True
