"""Taking a workload away: only objects that an `up` of the deployment made, each known by its uid."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from zen_mlmd.cluster.api import FORBIDDEN
from zen_mlmd.cluster.objects import Object, Objects, contents, polls
from zen_mlmd.errors import ClusterObjectError, ClusterUnreachableError
from zen_mlmd.flavors.kubernetes_objects import Workload, is_ours

TAKE_BACK_S: Final = 90.0
"""How long a failed `up` may take to clean up; a pod alone is given 60 s to end."""

_LONGEST: Final = 300


def remove(
    objects: Objects,
    workload: Workload,
    which: Callable[[Object], bool] = lambda _: True,
    *,
    with_data: bool,
    until: float,
    progress: Callable[[str], object] = lambda _: None,
) -> list[str]:
    """Delete a workload's objects, and wait until they are gone.

    Args:
        objects: Where they are.
        workload: What was deployed.
        which: Only objects that it is true of.
        with_data: The claim and the Secret, too; and the namespace, if it is ours and nothing else is in it.
        until: When to give up, as `time.monotonic` counts.
        progress: Told in one line what is done next.

    Returns:
        What is left, and why, each in one line; what is not ours is left without a word.
    """
    removal = _Removal(objects, workload, which, until, progress)
    names = [("StatefulSet", workload.name), ("Service", workload.name)]
    if with_data:
        names += [("PersistentVolumeClaim", workload.claim), ("Secret", workload.name)]
    tried = [(kind, name, removal.take(kind, name)) for kind, name in names]
    if with_data and not any(why for *_, why in tried):
        tried.append(("Namespace", workload.namespace, removal.take("Namespace", workload.namespace)))
    return [f"{kind} {name} ({why})" for kind, name, why in tried if why]


@dataclass(frozen=True)
class _Removal:
    objects: Objects
    workload: Workload
    which: Callable[[Object], bool]
    until: float
    progress: Callable[[str], object]

    def take(self, kind: str, name: str) -> str:
        """Delete an object, again while the API server does not answer; return why it is there, if it is."""
        why = ""
        for _ in polls(self.until):
            try:
                return self._taken(kind, name)
            except ClusterUnreachableError as error:  # noqa: PERF203 - it is to be tried again
                why = error.message
            except ClusterObjectError as error:
                return error.message
        return why

    def _taken(self, kind: str, name: str) -> str:
        found = self._find(kind, name)
        if found is None or not is_ours(found, self.workload) or not self.which(found):
            return ""
        if kind == "Secret" and self._find("PersistentVolumeClaim", self.workload.claim) is not None:
            return "its password opens the data that are still there"
        if kind == "Namespace":
            others = ", ".join(f"{each} {name}" for each, name in contents(self.objects))
            if others:  # as it is to be
                self.progress(f"Namespace {name} stays: others are in it: {others[:_LONGEST]}")
                return ""
        if "deletionTimestamp" not in found["metadata"]:
            self.progress(f"deleting {kind} {name}")
            self.objects.delete(found)
        gone = self.objects.wait_gone(found, until=self.until)
        return "" if gone else "it is marked as deleted, and still there"

    def _find(self, kind: str, name: str) -> Object | None:
        try:
            return self.objects.find(kind, name)
        except ClusterObjectError as error:
            if kind == "Namespace" and error.status == FORBIDDEN:
                return None  # who may only see into it has not made it
            raise
