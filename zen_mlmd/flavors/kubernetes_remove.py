"""Taking a workload away: only objects that an `up` of the deployment made, each known by its uid."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from zen_mlmd.cluster.api import FORBIDDEN
from zen_mlmd.cluster.objects import Object, Objects, contents, polls
from zen_mlmd.errors import ClusterObjectError, ClusterUnreachableError, ConnectionFailedError
from zen_mlmd.flavors.kubernetes_objects import Workload, is_ours

TAKE_BACK_S: Final = 90.0
"""How long a failed `up` may take to clean up; a pod alone is given 60 s to end."""


def remove(
    objects: Objects,
    workload: Workload,
    which: Callable[[Object], bool] = lambda _: True,
    *,
    with_data: bool,
    with_namespace: bool,
    until: float,
    progress: Callable[[str], object] = lambda _: None,
) -> list[str]:
    """Delete a workload's objects, and wait until they are gone.

    Args:
        objects: Where they are.
        workload: What was deployed.
        which: Only objects that it is true of.
        with_data: The claim and the Secret, too.
        with_namespace: The namespace, too, if it is of ours and nothing else is in it.
        until: When to give up, as `time.monotonic` counts.
        progress: Told in one line what is done next.

    Returns:
        What is left, and why, each in one line; what is not ours is left without a word.
    """
    names = [("StatefulSet", workload.name), ("Service", workload.name)]
    if with_data:
        names += [("PersistentVolumeClaim", workload.claim), ("Secret", workload.name)]
    left = []
    for kind, name in names:
        why = _remove(objects, workload, kind, name, which, until, progress)
        if why:
            left.append(f"{kind} {name} ({why})")
    if with_namespace and not left:
        why = _remove(objects, workload, "Namespace", workload.namespace, which, until, progress)
        if why:
            left.append(f"Namespace {workload.namespace} ({why})")
    return left


def _remove(
    objects: Objects,
    workload: Workload,
    kind: str,
    name: str,
    which: Callable[[Object], bool],
    until: float,
    progress: Callable[[str], object],
) -> str:
    """Delete one object, trying again while the API server does not answer; return why it is still there."""
    why = ""
    for left_s in polls(until):
        try:
            found = objects.find(kind, name)
            if found is None or not is_ours(found, workload) or not which(found):
                return ""
            if kind == "Namespace":
                others = ", ".join(f"{kind} {name}" for kind, name in contents(objects))
                if others:
                    return f"others are in it: {others[:300]}"
            if "deletionTimestamp" not in found["metadata"]:
                progress(f"deleting {kind} {name}")
                objects.delete(found)
            if objects.wait_gone(found, until=until):
                return ""
            why = "it is marked as deleted, and still there"
        except ClusterUnreachableError as error:
            why = error.message
        except ClusterObjectError as error:
            if kind == "Namespace" and error.status == FORBIDDEN and found is None:
                return ""
            return error.message
        if left_s <= 0:
            break
    return why


def deadline(timeout_s: float) -> float:
    """Return when `timeout_s` is over, as `time.monotonic` counts."""
    return time.monotonic() + timeout_s


__all__ = ["TAKE_BACK_S", "ConnectionFailedError", "deadline", "remove"]
