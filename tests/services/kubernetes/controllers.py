"""What goes on behind the API: claims are bound, stateful sets have pods, pods run, what is marked goes."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections.abc import Mapping
from typing import Any

from tests.services.kubernetes.databases import Databases, answers
from tests.services.kubernetes.objects import Object, Objects, Refusal

PodKey = tuple[str, str]

_PULL = (
    'Back-off pulling image "{0}": ErrImagePull: failed to resolve reference "{0}": pull access denied,'
    " repository does not exist or may require authorization"
)


class Controllers:
    """One thread that does what controllers and kubelets do, whenever an object has changed.

    Attributes:
        images: What can be pulled.
        quota: The message of a quota that no pod fits any more; "" is none.
        crash: The last log lines of containers that end as soon as they run; "" lets them live.
        silent: Containers run and never get ready.
        bind: Claims are bound.
        room: A node has room for a pod.
        databases: What a container runs on its claim's data; None is nothing, and always ready.
    """

    def __init__(self, objects: Objects) -> None:
        self.images = {"mysql:8.4", "mysql:9.7", "mariadb:11.8"}
        self.quota = ""
        self.crash = ""
        self.silent = False
        self.bind = True
        self.room = True
        self.databases: Databases | None = None
        self._objects = objects
        self._ports: dict[PodKey, Mapping[int, int]] = {}
        self._claims: dict[PodKey, str] = {}
        self._registered: set[PodKey] = set()
        self._ended = False
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End, and all containers with it."""
        with self._objects.changed:
            self._ended = True
            self._objects.changed.notify_all()
        self._thread.join(30)
        for claim in self._objects.list("persistentvolumeclaims"):
            if self.databases is not None:
                self.databases.remove(claim["metadata"]["uid"])

    def register(self, namespace: str, name: str, ports: Mapping[int, int]) -> None:
        """Let a pod be what listens on local ports."""
        self._registered.add((namespace, name))
        self._ports[(namespace, name)] = ports

    def local_port(self, namespace: str, name: str, port: int) -> int | None:
        """Return where a pod's port is on this machine, or None if nothing listens on it."""
        return self._ports.get((namespace, name), {}).get(port)

    def log(self, namespace: str, name: str) -> str:
        """Return what a pod's container has written."""
        if self.crash:
            return self.crash
        claim = self._claims.get((namespace, name))
        if claim is None or self.databases is None:
            return ""
        return self.databases.log(claim)

    def _run(self) -> None:
        while True:
            with self._objects.changed:
                seen = self._objects.version
                if self._ended:
                    return
            self._round()
            with self._objects.changed:
                # `version` takes a number: more than one is gone if something was written meanwhile.
                if not self._ended and int(self._objects.version) == int(seen) + 1:
                    self._objects.changed.wait()

    def _round(self) -> None:
        for claim in self._objects.list("persistentvolumeclaims"):
            self._claim(claim)
        for each in self._objects.list("statefulsets"):
            self._statefulset(each)
        for pod in self._objects.list("pods"):
            self._pod(pod)
        for namespace in self._objects.list("namespaces"):
            if "deletionTimestamp" in namespace["metadata"]:
                self._namespace(namespace["metadata"]["name"])

    def _namespace(self, name: str) -> None:
        for resource in (
            "statefulsets",
            "deployments",
            "pods",
            "services",
            "secrets",
            "persistentvolumeclaims",
        ):
            for each in self._objects.list(resource, name):
                if "deletionTimestamp" not in each["metadata"]:
                    self._objects.delete(resource, name, each["metadata"]["name"], {})
        left = {key for key in self._objects.there() if key[1] == name}
        if not left:
            self._objects.remove("namespaces", "", name)

    def _claim(self, claim: Object) -> None:
        metadata = claim["metadata"]
        place = (metadata["namespace"], metadata["name"])
        if "deletionTimestamp" in metadata:
            pods = self._objects.list("pods", metadata["namespace"])
            if metadata["name"] not in {_claim_of(pod) for pod in pods}:
                if self.databases is not None:
                    self.databases.remove(metadata["uid"])
                self._objects.remove("persistentvolumeclaims", *place)
            return
        chosen = claim["spec"]["storageClassName"]
        if self._objects.find("storageclasses", "", chosen) is None:
            text = f'storageclass.storage.k8s.io "{chosen}" not found'
            self._objects.event(claim, "ProvisioningFailed", text)
        elif self.bind:
            status = {"phase": "Bound", "capacity": claim["spec"]["resources"]["requests"]}
            self._objects.set_status("persistentvolumeclaims", *place, status)
        elif claim["status"]["phase"] != "Bound":
            self._objects.event(claim, "ProvisioningFailed", "failed to provision volume: no space is left")

    def _statefulset(self, owner: Object) -> None:
        metadata, spec = owner["metadata"], owner["spec"]
        namespace, name = metadata["namespace"], metadata["name"]
        pod = self._objects.find("pods", namespace, f"{name}-0")
        leaves = "deletionTimestamp" in metadata
        revision = f"{name}-{hashlib.sha256(json.dumps(spec['template']).encode()).hexdigest()[:10]}"
        if pod is None:
            if leaves:
                self._objects.remove("statefulsets", namespace, name)
            elif spec["replicas"] and self._fits(owner, f"{name}-0"):
                self._make_pod(owner, revision)
        elif not _is_of(pod, metadata["uid"]):
            if leaves:
                self._objects.remove("statefulsets", namespace, name)
        elif "deletionTimestamp" not in pod["metadata"]:
            had = pod["metadata"]["labels"].get("controller-revision-hash")
            if leaves or not spec["replicas"] or had != revision:
                self._objects.delete("pods", namespace, f"{name}-0", {})
        ready = int(pod is not None and _is_ready(pod))
        status = {
            "replicas": int(pod is not None),
            "readyReplicas": ready,
            "availableReplicas": ready,
            "observedGeneration": metadata["generation"],
            "updateRevision": revision,
        }
        self._objects.set_status("statefulsets", namespace, name, status)

    def _fits(self, owner: Object, name: str) -> bool:
        if not self.quota:
            return True
        self._objects.event(
            owner,
            "FailedCreate",
            f"create Pod {name} in StatefulSet {owner['metadata']['name']} failed error:"
            f' pods "{name}" is forbidden: {self.quota}',
        )
        return False

    def _make_pod(self, owner: Object, revision: str) -> None:
        template, metadata = owner["spec"]["template"], owner["metadata"]
        labels = {**template["metadata"]["labels"], "controller-revision-hash": revision}
        reference = {"apiVersion": "apps/v1", "kind": "StatefulSet", "controller": True}
        reference |= {field: metadata[field] for field in ("name", "uid")}
        made = {"name": f"{metadata['name']}-0", "labels": labels, "ownerReferences": [reference]}
        try:
            self._objects.create("pods", metadata["namespace"], {"metadata": made, "spec": template["spec"]})
        except Refusal:
            return  # the namespace ends

    def _pod(self, pod: Object) -> None:
        metadata = pod["metadata"]
        place = (metadata["namespace"], metadata["name"])
        owners = {each["metadata"]["uid"] for each in self._objects.list("statefulsets", place[0])}
        if any(each["uid"] not in owners for each in metadata.get("ownerReferences", [])):
            self._objects.delete("pods", *place, {})
        if "deletionTimestamp" in self._objects.get("pods", *place)["metadata"]:
            self._end(place)
            self._objects.remove("pods", *place)
        elif place in self._registered:
            self._objects.set_status("pods", *place, _status(pod, {"running": {}}, ready=True))
        elif place not in self._ports:
            self._objects.set_status("pods", *place, self._started(pod, place))

    def _end(self, place: PodKey) -> None:
        self._registered.discard(place)
        self._ports.pop(place, None)
        claim = self._claims.pop(place, None)
        if claim is not None and self.databases is not None:
            self.databases.stop(claim)

    def _started(self, pod: Object, place: PodKey) -> Object:  # noqa: PLR0911 - one per way it ends
        """Start a pod's container, and return the pod's status."""
        namespace = place[0]
        claim = self._objects.find("persistentvolumeclaims", namespace, _claim_of(pod) or "")
        unbound = _claim_of(pod) and (claim is None or claim["status"]["phase"] != "Bound")
        if unbound or not self.room:
            why = "pod has unbound immediate PersistentVolumeClaims" if unbound else "3 Insufficient memory"
            text = f"0/3 nodes are available: {why}."
            self._objects.event(pod, "FailedScheduling", text)
            unscheduled = {
                "type": "PodScheduled",
                "status": "False",
                "reason": "Unschedulable",
                "message": text,
            }
            return {"phase": "Pending", "conditions": [unscheduled]}
        container = pod["spec"]["containers"][0]
        image = container["image"]
        if image not in self.images:
            self._objects.event(pod, "Failed", _PULL.format(image))
            return _waiting(pod, "ImagePullBackOff", _PULL.format(image))
        env, missing = self._env(container, namespace)
        if missing:
            return _waiting(pod, "CreateContainerConfigError", f'secret "{missing}" not found')
        if self.crash:
            ended = {"terminated": {"exitCode": 1, "reason": "Error"}}
            text = "back-off 10s restarting failed container"
            return _waiting(pod, "CrashLoopBackOff", text, last=ended, restarts=3)
        if self.silent:
            return _status(pod, {"running": {}}, ready=False)
        if self.databases is not None and claim is not None:
            uid = claim["metadata"]["uid"]
            port = self.databases.start(uid, env)
            self._claims[place] = uid
            self._ports[place] = {3306: port}
            return _status(pod, {"running": {}}, ready=answers(port, env))
        self._ports[place] = {}
        return _status(pod, {"running": {}}, ready=True)

    def _env(self, container: Object, namespace: str) -> tuple[dict[str, str], str]:
        """Return a container's environment, and the name of a secret that is missing."""
        found: dict[str, str] = {}
        for each in container.get("env", []):
            wanted = each.get("valueFrom", {}).get("secretKeyRef")
            if wanted is None:
                found[each["name"]] = each.get("value", "")
                continue
            secret = self._objects.find("secrets", namespace, wanted["name"])
            if secret is None or wanted["key"] not in secret["data"]:
                return found, wanted["name"]
            found[each["name"]] = base64.b64decode(secret["data"][wanted["key"]]).decode()
        return found, ""


def _claim_of(pod: Object) -> str | None:
    for volume in pod["spec"].get("volumes", []):
        if "persistentVolumeClaim" in volume:
            return str(volume["persistentVolumeClaim"]["claimName"])
    return None


def _is_of(pod: Object, uid: str) -> bool:
    return uid in {each["uid"] for each in pod["metadata"].get("ownerReferences", [])}


def _is_ready(pod: Object) -> bool:
    conditions = pod.get("status", {}).get("conditions", [])
    return any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)


def _waiting(pod: Object, reason: str, message: str, *, last: Any = None, restarts: int = 0) -> Object:
    state = {"waiting": {"reason": reason, "message": message}}
    return _status(pod, state, ready=False, last=last, restarts=restarts)


def _status(pod: Object, state: Object, *, ready: bool, last: Any = None, restarts: int = 0) -> Object:
    container = pod["spec"]["containers"][0]
    return {
        "phase": "Running" if "running" in state else "Pending",
        "podIP": "10.1.0.1",
        "conditions": [
            {"type": "PodScheduled", "status": "True"},
            {"type": "Ready", "status": "True" if ready else "False"},
        ],
        "containerStatuses": [
            {
                "name": container["name"],
                "image": container["image"],
                "imageID": "",
                "ready": ready,
                "restartCount": restarts,
                "state": state,
                "lastState": last or {},
            }
        ],
    }
