"""Objects of a cluster as plain dicts, as YAML has them: read, made, replaced, deleted; errors are ours."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from typing import Any, Final, TypeAlias

from zen_mlmd.cluster.access import Cluster
from zen_mlmd.cluster.api import CONFLICT, NOT_FOUND, asking
from zen_mlmd.errors import ClusterObjectError

Object: TypeAlias = dict[str, Any]

# The client's methods: `create_namespaced_secret` and so on, of its API for the group.
_METHODS: Final = {
    "Namespace": ("core", "namespace"),
    "Secret": ("core", "namespaced_secret"),
    "PersistentVolumeClaim": ("core", "namespaced_persistent_volume_claim"),
    "Service": ("core", "namespaced_service"),
    "StatefulSet": ("apps", "namespaced_stateful_set"),
    "Pod": ("core", "namespaced_pod"),
    "Event": ("core", "namespaced_event"),
}

_POLL_S: Final = 0.05
_SLOWER: Final = 1.5
_LONGEST_POLL_S: Final = 2.0


class Objects:
    """Those of one namespace.

    Attributes:
        cluster: Where they are.
        namespace: Its name.
    """

    def __init__(self, cluster: Cluster, namespace: str) -> None:
        self.cluster = cluster
        self.namespace = namespace

    def get(self, kind: str, name: str) -> Object:
        """Return an object.

        Raises:
            ClusterObjectError: There is none (404), or it may not be read.
            ClusterUnreachableError: The API server does not answer.
        """
        return self._call("get", "read", kind, name)

    def find(self, kind: str, name: str) -> Object | None:
        """Return an object, or None if there is none; errors as `get`."""
        try:
            return self.get(kind, name)
        except ClusterObjectError as error:
            if error.status != NOT_FOUND:
                raise
            return None

    def list(self, kind: str, *, fields: str = "", labels: str = "") -> list[Object]:
        """Return the objects that a field selector and a label selector match; errors as `get`."""
        selectors = {"field_selector": fields, "label_selector": labels}
        given = {name: text for name, text in selectors.items() if text}
        found: list[Object] = self._call("list", "list", kind, "", **given).get("items") or []
        return found

    def create(self, body: Object) -> Object:
        """Make an object; errors as `get`, and 409 if it is there already."""
        return self._call("create", "create", body["kind"], body["metadata"]["name"], body=body)

    def replace(self, body: Object) -> Object:
        """Put an object in the place of the one it was made from; 409 if that has changed meanwhile."""
        return self._call("update", "replace", body["kind"], body["metadata"]["name"], body=body)

    def delete(self, found: Object) -> bool:
        """Delete the very object that was found, a StatefulSet after its pods; False if it is gone already.

        One of the same name that was made since stays as it is.
        """
        metadata = found["metadata"]
        options = {
            "apiVersion": "v1",
            "kind": "DeleteOptions",
            "propagationPolicy": "Foreground" if found["kind"] == "StatefulSet" else "Background",
            "preconditions": {"uid": metadata["uid"]},
        }
        try:
            self._call("delete", "delete", found["kind"], metadata["name"], body=options)
        except ClusterObjectError as error:
            gone = error.status == NOT_FOUND or (
                error.status == CONFLICT and not self._is_there(found["kind"], metadata)
            )
            if not gone:
                raise
            return False
        return True

    def wait_gone(self, found: Object, *, until: float) -> bool:
        """Wait until an object that was deleted is no more; False if it still is at `until` (monotonic)."""
        return any(not self._is_there(found["kind"], found["metadata"]) for _ in polls(until))

    def log(
        self,
        pod: str,
        container: str,
        *,
        tail: int | None = None,
        previous: bool = False,
        timestamps: bool = False,
    ) -> str:
        """Return what a container of a pod has written, or its predecessor; with times if asked.

        A pod may have more than ours: service meshes put one of theirs into each.
        """
        arguments: dict[str, Any] = {"container": container, "previous": previous, "timestamps": timestamps}
        if tail is not None:
            arguments["tail_lines"] = tail
        with asking(self.cluster, "get", "pods/log", pod, self.namespace):
            return str(self.cluster.core.read_namespaced_pod_log(pod, self.namespace, **arguments) or "")

    def _is_there(self, kind: str, metadata: Object) -> bool:
        found = self.find(kind, metadata["name"])
        return found is not None and found["metadata"].get("uid") == metadata["uid"]

    def _call(self, verb: str, word: str, kind: str, name: str, **arguments: Any) -> Object:
        api, noun = _METHODS[kind]
        has_namespace = noun.startswith("namespaced_")
        place = [name] if word not in ("list", "create") else []
        place += [self.namespace] if has_namespace else []
        with asking(self.cluster, verb, kind, name, self.namespace if has_namespace else ""):
            found = getattr(getattr(self.cluster, api), f"{word}_{noun}")(*place, **arguments)
            made: Object = self.cluster.client.sanitize_for_serialization(found)
        if word in ("read", "create", "replace"):
            made["kind"] = kind  # which a list's items lack, too
        return made


def contents(objects: Objects) -> Iterator[tuple[str, str]]:
    """Return kind and name of whatever is in a namespace, custom resources included.

    What the cluster itself puts there, or derives from others, is left out.

    Raises:
        ConnectionFailedError: Not everything may be listed.
    """
    cluster, namespace = objects.cluster, objects.namespace
    for group, version, names in _listable(cluster):
        for plural, kind in names:
            with asking(cluster, "list", kind, "", namespace):
                items = _items(cluster, group, version, namespace, (plural, kind))
            named = ((kind, str(item["metadata"]["name"])) for item in items)
            yield from (each for each in named if each not in _CLUSTERS_OWN)


_CLUSTERS_OWN: Final = {
    ("ServiceAccount", "default"),
    ("ConfigMap", "kube-root-ca.crt"),
    ("ConfigMap", "openshift-service-ca.crt"),
    ("ConfigMap", "istio-ca-root-cert"),
}
_DERIVED: Final = {"Event", "Endpoints", "EndpointSlice", "PodMetrics", "ControllerRevision", "Lease"}


def _listable(cluster: Cluster) -> Iterator[tuple[str, str, list[tuple[str, str]]]]:
    from kubernetes.client import ApisApi, CustomObjectsApi

    with asking(cluster, "get", "APIResourceList", "v1"):
        yield "", "v1", _names(cluster.core.get_api_resources())
    with asking(cluster, "get", "APIGroupList"):
        groups = ApisApi(cluster.client).get_api_versions().groups
    for group in groups:
        version = group.preferred_version.version
        with asking(cluster, "get", "APIResourceList", group.preferred_version.group_version):
            yield (
                group.name,
                version,
                _names(CustomObjectsApi(cluster.client).get_api_resources(group.name, version)),
            )


def _names(resources: Any) -> list[tuple[str, str]]:
    return [
        (each.name, each.kind)
        for each in resources.resources
        if each.namespaced and "/" not in each.name and "list" in each.verbs and each.kind not in _DERIVED
    ]


def _items(
    cluster: Cluster, group: str, version: str, namespace: str, names: tuple[str, str]
) -> list[Object]:
    from kubernetes.client import CustomObjectsApi

    plural, kind = names
    if group:
        api = CustomObjectsApi(cluster.client)
        found = api.list_namespaced_custom_object(group, version, namespace, plural)
    else:
        snake = re.sub(r"(?<!^)(?=[A-Z])", "_", kind).lower()
        found = getattr(cluster.core, f"list_namespaced_{snake}")(namespace)
    items: list[Object] = cluster.client.sanitize_for_serialization(found).get("items") or []
    return items


def polls(until: float) -> Iterator[float]:
    """Yield at once, then after pauses that get longer, and a last time at `until`; the time that is left."""
    pause_s = _POLL_S
    while True:
        left_s = until - time.monotonic()
        yield left_s
        if left_s <= 0:
            return
        time.sleep(min(pause_s, max(left_s, 0.0)))
        pause_s = min(pause_s * _SLOWER, _LONGEST_POLL_S)
