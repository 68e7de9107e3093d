"""Why a pod does not come: read from the pod, its claim, its log and the events on them."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any, Final

from zen_mlmd.cluster.objects import Object, Objects
from zen_mlmd.errors import ConnectionFailedError
from zen_mlmd.flavors.kubernetes_objects import CONTAINER, Workload

_LOG_LINES: Final = 5
_LONGEST: Final = 600

_IMAGE: Final = "check the store's `image`, and whether the cluster may pull it (registry, pull secret)"
_HINTS: Final = {
    "InvalidImageName": _IMAGE,
    "ImagePullBackOff": _IMAGE,
    "ErrImageNeverPull": _IMAGE,
    "CrashLoopBackOff": "read what it wrote: `zen-mlmd metadata-store logs NAME`",
    "CreateContainerConfigError": "is the deployment's Secret there?",
    "CreateContainerError": "read what the container runtime says",
}
"""What a container waits for that will not pass by itself; the kubelet has tried before it says so."""

_CLAIM: Final = (
    "check the store's `storage_class` and `storage`; `kubectl get storageclass` lists what there is"
)
_QUOTA: Final = "ask for less (`cpu`, `memory` and their limits), or have the namespace's quota raised"
_SCHEDULE: Final = "the cluster has no room for it, or its nodes are closed to it; or ask for less"
_SLOW: Final = "give it more time with `ready_timeout_s`, or read `zen-mlmd metadata-store logs NAME`"


@dataclass(frozen=True)
class Trouble:
    """Why there is no pod that answers.

    Attributes:
        where: The object that it is seen at, such as `Pod zen-mlmd-mysql-0`.
        why: What Kubernetes says, in one line.
        hint: What to do.
        final: It will not pass by waiting.
    """

    where: str
    why: str
    hint: str
    final: bool = False

    @property
    def is_worth_telling(self) -> bool:
        """Whether it is more than that a pod takes its time."""
        return self.hint != _SLOW


def trouble_of(objects: Objects, workload: Workload, *, secrets: Collection[str]) -> Trouble:
    """Return why the workload's pod is not ready.

    Args:
        objects: Where it is.
        workload: What was deployed.
        secrets: Texts that are blotted out of what containers wrote.
    """
    pod = objects.find("Pod", workload.pod)
    owner = objects.find("StatefulSet", workload.name)
    if owner is None:
        where = f"StatefulSet {workload.name}"
        return Trouble(where, "it is gone: somebody deleted it meanwhile", "bring it up again", final=True)
    if pod is None:
        return _no_pod(objects, owner)
    owners = pod["metadata"].get("ownerReferences") or []
    if owner["metadata"]["uid"] not in {each["uid"] for each in owners}:
        return _others_pod(pod, owner)
    if not is_newest(pod, owner):
        return Trouble(f"Pod {workload.pod}", "it is still that of the settings before", _SLOW)
    return _pods_trouble(objects, workload, pod, secrets)


def is_ready(pod: Object) -> bool:
    """Whether a pod answers, as the cluster found."""
    return any(each["type"] == "Ready" and each["status"] == "True" for each in _conditions(pod))


def is_newest(pod: Object, owner: Object) -> bool:
    """Whether a pod is made from what its StatefulSet is now, as far as its controller knows."""
    status = owner.get("status") or {}
    revision = (pod["metadata"].get("labels") or {}).get("controller-revision-hash")
    seen = status.get("observedGeneration", 0) >= owner["metadata"].get("generation", 0)
    return bool(seen and revision == status.get("updateRevision"))


def blotted(text: str, secrets: Collection[str]) -> str:
    """Return a text without secrets."""
    for each in secrets:
        if each:
            text = text.replace(each, "***")
    return text


def _pods_trouble(objects: Objects, workload: Workload, pod: Object, secrets: Collection[str]) -> Trouble:
    for status in _containers(pod):
        waiting = (status.get("state") or {}).get("waiting") or {}
        if waiting.get("reason") in _HINTS:
            return _stuck(objects, pod, waiting, secrets)
    for condition in _conditions(pod):
        if condition["type"] == "PodScheduled" and condition["status"] == "False":
            return _unscheduled(objects, workload, condition)
    text = "it does not answer yet" + _log_end(objects, workload.pod, secrets)
    return Trouble(f"Pod {workload.pod}", text, _SLOW)


def _others_pod(pod: Object, owner: Object) -> Trouble:
    where = f"Pod {pod['metadata']['name']}"
    if "deletionTimestamp" in pod["metadata"]:
        return Trouble(where, "its predecessor of the same name is still ending", _SLOW)
    return Trouble(
        where,
        f"it is there already, and not of StatefulSet {owner['metadata']['name']}; it was not touched",
        "give the store another `deployment` or `namespace`",
        final=True,
    )


def _no_pod(objects: Objects, owner: Object) -> Trouble:
    where = f"StatefulSet {owner['metadata']['name']}"
    for event in _warnings(objects, owner):
        if event.get("reason") == "FailedCreate":
            return Trouble(where, _one_line(event), _QUOTA, final=True)
    return Trouble(where, "it has made no pod yet", _SLOW)


def _stuck(objects: Objects, pod: Object, waiting: Object, secrets: Collection[str]) -> Trouble:
    reason, name = waiting["reason"], pod["metadata"]["name"]
    text = f"{reason}: {_one_line(waiting)}"
    if reason == "CrashLoopBackOff":
        text += _log_end(objects, name, secrets, previous=True)
    return Trouble(f"Pod {name}", blotted(text, secrets), _HINTS[reason], final=True)


def _unscheduled(objects: Objects, workload: Workload, condition: Object) -> Trouble:
    claim = objects.find("PersistentVolumeClaim", workload.claim)
    if claim is None or (claim.get("status") or {}).get("phase") == "Bound":
        return Trouble(f"Pod {workload.pod}", f"it cannot be scheduled: {_one_line(condition)}", _SCHEDULE)
    said = [_one_line(event) for event in _warnings(objects, claim)]
    why = said[-1] if said else _one_line(condition)
    return Trouble(f"PersistentVolumeClaim {workload.claim}", f"it is not bound: {why}", _CLAIM)


def _warnings(objects: Objects, about: Object) -> list[Object]:
    """Return the warnings on an object, the oldest first; none if they may not be read."""
    try:
        found = objects.list("Event", fields=f"involvedObject.uid={about['metadata']['uid']},type=Warning")
    except ConnectionFailedError:
        return []
    return sorted(found, key=lambda event: str(event.get("lastTimestamp") or event.get("eventTime") or ""))


def _log_end(objects: Objects, pod: str, secrets: Collection[str], *, previous: bool = False) -> str:
    """Return the last lines of a container's log, as the end of a sentence; nothing if there are none."""
    try:
        text = objects.log(pod, CONTAINER, tail=_LOG_LINES, previous=previous)
    except ConnectionFailedError:
        return ""
    lines = [" ".join(line.split()) for line in text.splitlines() if line.strip()]
    if not lines:
        return ""
    return "; its log ends with: " + blotted(" | ".join(lines[-_LOG_LINES:]), secrets)[-_LONGEST:]


def _containers(pod: Object) -> Iterator[Object]:
    status = pod.get("status") or {}
    yield from status.get("initContainerStatuses") or ()
    yield from status.get("containerStatuses") or ()


def _conditions(pod: Object) -> list[Object]:
    found: list[Object] = (pod.get("status") or {}).get("conditions") or []
    return found


def _one_line(said: dict[str, Any]) -> str:
    text = " ".join(str(said.get("message") or said.get("reason") or "it is not said why").split())
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]} ..."
