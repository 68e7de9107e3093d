"""Taking back what a failed `up` did: what it made goes, what it changed is as before."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeAlias

from zen_mlmd.cluster.api import CONFLICT
from zen_mlmd.cluster.objects import Object, Objects, polls
from zen_mlmd.errors import ClusterObjectError, ClusterUnreachableError, ConnectionFailedError
from zen_mlmd.flavors.kubernetes_changes import named
from zen_mlmd.flavors.kubernetes_objects import RUN, SETTLED, SPEC, Workload, annotation, storage_of
from zen_mlmd.flavors.kubernetes_remove import TAKE_BACK_S, remove

Replaced: TypeAlias = tuple[Object, Object]
"""An object as it was before, and as it was to be."""


@contextmanager
def all_or_nothing(
    objects: Objects, workload: Workload, run: str, progress: Callable[[str], object]
) -> Iterator[list[Replaced]]:
    """Take back what a run made, and put back what it replaced, if it fails or is interrupted.

    What could not be taken back is added to the error's message.

    Yields:
        To be filled with what is replaced.
    """
    replaced: list[Replaced] = []
    try:
        yield replaced
    except BaseException as error:
        progress("it failed: taking back what was made")
        left = _taken_back(objects, workload, run, replaced)
        if left:
            text = f"could not be taken back: {'; '.join(left)}"
            progress(text)
            if isinstance(error, ConnectionFailedError):
                error.message += f" ({text})"
        raise


def _taken_back(objects: Objects, workload: Workload, run: str, replaced: list[Replaced]) -> list[str]:
    until = time.monotonic() + TAKE_BACK_S
    if _is_in_use(objects, workload, run, until):
        return ["another `up` finished meanwhile, and it is in use"]
    left = _put_back(objects, replaced, until=until)
    return left + remove(
        objects, workload, lambda found: annotation(found, RUN) == run, with_data=True, until=until
    )


def _is_in_use(objects: Objects, workload: Workload, run: str, until: float) -> bool:
    """Whether another `up` finished with the data that this one made: then somebody may record in them."""
    for _ in polls(until):
        try:
            claim = objects.find("PersistentVolumeClaim", workload.claim)
        except ClusterUnreachableError:
            continue
        except ClusterObjectError:
            return False
        is_mine = claim is not None and annotation(claim, RUN) == run
        return is_mine and claim is not None and annotation(claim, SETTLED) not in ("", run)
    return False


def _put_back(objects: Objects, replaced: list[Replaced], *, until: float) -> list[str]:
    """Give objects the settings that they had before; return what could not be put back."""
    left = []
    for before, change in reversed(replaced):
        why = ""
        for _ in polls(until):
            try:
                why = _put_one_back(objects, before, change)
                break
            except ClusterObjectError as error:
                why = error.message
                if error.status != CONFLICT:
                    break
            except ClusterUnreachableError as error:
                why = error.message
        if why:
            left.append(f"{named(before)} ({why})")
    return left


def _put_one_back(objects: Objects, before: Object, change: Object) -> str:
    now = objects.get(before["kind"], before["metadata"]["name"])
    if now["spec"] == before["spec"] or annotation(now, SPEC) != annotation(change, SPEC):
        return ""  # it was not changed, or by others since
    if now["kind"] == "PersistentVolumeClaim":
        return f"it has {storage_of(now)} now, and no claim gets smaller"
    metadata = {**now["metadata"], "annotations": before["metadata"]["annotations"]}
    objects.replace({**now, "metadata": metadata, "spec": before["spec"]})
    return ""
