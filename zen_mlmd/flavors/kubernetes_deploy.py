"""Bringing a workload up: what is missing is made, what is there is left or changed, or all is as before.

Objects that no `up` of the deployment made are never touched. Each that this one makes carries its mark, by
which it is known also where the answer to its making was lost, and by which it is taken back.
"""

from __future__ import annotations

import base64
import secrets
import time
from collections.abc import Callable
from typing import Final, TypeAlias

from zen_mlmd.cluster.api import CONFLICT, FORBIDDEN
from zen_mlmd.cluster.objects import Object, Objects, polls
from zen_mlmd.errors import ClusterObjectError, ClusterUnreachableError, DeploymentError
from zen_mlmd.flavors.kubernetes_changes import being_deleted, change_of, named, refuse_lost_password
from zen_mlmd.flavors.kubernetes_objects import (
    RUN,
    SETTLED,
    Workload,
    annotation,
    is_ours,
    namespace_of,
    objects_of,
)
from zen_mlmd.flavors.kubernetes_reasons import is_newest, is_ready, trouble_of
from zen_mlmd.flavors.kubernetes_undo import Replaced, all_or_nothing

Progress: TypeAlias = Callable[[str], object]

_UNAUTHORIZED: Final = 401
_PASSWORD_BYTES: Final = 24
_SURE_S: Final = 5.0
"""How long a pod has to be past help, for a registry or a quota may be so for a moment."""
_LATE_S: Final = 10.0
"""How long after nobody waits any more an API server may still make what it was asked for."""


def deploy(
    objects: Objects,
    workload: Workload,
    *,
    ready_timeout_s: float,
    progress: Progress,
    then: Callable[[], None] = lambda: None,
) -> None:
    """Bring a workload up, and return once its pod is ready; what is as it should be is left as it is.

    Args:
        objects: Where to.
        workload: What is to stand there.
        ready_timeout_s: How long the pod may take.
        progress: Told in one line what is done next.
        then: Done once the pod is ready; if it fails, all fails.

    Raises:
        DeploymentError: Something stands in the way, or the pod does not come: which object, and why.
        ClusterObjectError: The API server refuses something.
        ClusterUnreachableError: It does not answer.
    """
    run = secrets.token_hex(8)
    passwords = {name: secrets.token_urlsafe(_PASSWORD_BYTES) for name in ("password", "root-password")}
    wanted = objects_of(workload, run=run, passwords=passwords)
    has_namespace = _has_namespace(objects, workload)
    found = [objects.find(each["kind"], each["metadata"]["name"]) for each in wanted]
    plan = [
        (want, have, have and change_of(workload, have, want))
        for want, have in zip(wanted, found, strict=True)
    ]
    refuse_lost_password(workload, found)
    with all_or_nothing(objects, workload, run, progress) as replaced:
        if not has_namespace:
            plan.insert(0, (namespace_of(workload, run=run), None, None))
        for want, have, change in plan:
            if have is None:
                progress(f"making {named(want)}")
                _create(objects, workload, want, run)
            elif change is not None:
                progress(f"changing {named(want)}")
                _replace(objects, workload, have, want, replaced)
        _wait_ready(objects, workload, ready_timeout_s, passwords_in(objects, workload), progress)
        then()
        _settle(objects, workload, run)


def passwords_in(objects: Objects, workload: Workload) -> dict[str, str]:
    """Return what the Secret of a workload holds, by its keys.

    Raises:
        DeploymentError: It is no Secret of ours, or lacks something.
        ClusterObjectError: There is none, or it may not be read.
    """
    found = objects.get("Secret", workload.name)
    data = found.get("data") or {}
    if not is_ours(found, workload) or not {"user", "password", "database"} <= set(data):
        raise DeploymentError(
            f"Secret {workload.namespace}/{workload.name}: it is not that of the deployment",
            hint="is the store's `deployment` right?",
        )
    return {key: base64.b64decode(text).decode() for key, text in data.items()}


def _has_namespace(objects: Objects, workload: Workload) -> bool:
    try:
        found = objects.find("Namespace", workload.namespace)
    except ClusterObjectError as error:
        if error.status != FORBIDDEN:
            raise
        return True  # who may only see into it: it shows with the first object whether it is there
    if found is not None and "deletionTimestamp" in found["metadata"]:
        raise being_deleted(found)
    return found is not None


def _create(objects: Objects, workload: Workload, want: Object, run: str) -> None:
    """Make an object; one whose making was not answered is looked for, and one of another `up` will do."""
    try:
        objects.create(want)
    except (ClusterObjectError, ClusterUnreachableError) as error:
        if isinstance(error, ClusterObjectError) and error.reason != "AlreadyExists":
            raise
        # The answer was lost, or comes yet, for the API server goes on when nobody waits any more. Or a proxy
        # sent the request twice, and this answer is the second's.
        for _ in polls(time.monotonic() + (0.0 if error.status else _LATE_S)):
            found = objects.find(want["kind"], want["metadata"]["name"])
            if found is not None and (annotation(found, RUN) == run or _will_do(workload, found, want)):
                return
        raise


def _will_do(workload: Workload, found: Object, want: Object) -> bool:
    return want["kind"] == "Namespace" or change_of(workload, found, want) is None


def _replace(
    objects: Objects, workload: Workload, have: Object, want: Object, replaced: list[Replaced]
) -> None:
    """Change an object; anew from what it is by then if it changed meanwhile, as by a controller's status."""
    now, change = have, change_of(workload, have, want)
    for last in (False, False, False, False, True):
        if change is None:
            return
        try:
            objects.replace(change)
        except ClusterObjectError as error:
            if error.status != CONFLICT or last:
                raise
            now = objects.get(have["kind"], have["metadata"]["name"])
            change = change_of(workload, now, want)
            continue
        except BaseException:
            replaced.append((have, change))  # perhaps
            raise
        replaced.append((have, change))
        return


def _wait_ready(
    objects: Objects, workload: Workload, timeout_s: float, passwords: dict[str, str], progress: Progress
) -> None:
    """Wait until the pod of the newest settings is ready.

    Raises:
        DeploymentError: It will not be, or is not in time.
        ClusterUnreachableError: The API server did not answer to the end.
    """
    progress(f"waiting for Pod {workload.pod}")
    until = time.monotonic() + timeout_s
    blot = [text for key, text in passwords.items() if "password" in key]
    sure, told = until, ""
    for left_s in polls(until):
        try:
            if _is_current(objects, workload):
                return
            trouble = trouble_of(objects, workload, secrets=blot)
        except ClusterUnreachableError as error:
            if left_s <= 0 or error.status == _UNAUTHORIZED:
                raise
            continue  # an API server that is busy or restarts
        if trouble.is_worth_telling and trouble.where != told:
            told = trouble.where
            progress(f"waiting: {trouble.where}: {trouble.why}")
        now = time.monotonic()
        sure = min(sure, now + _SURE_S) if trouble.final else until
        if left_s <= 0 or (trouble.final and now >= sure):
            late = "" if trouble.final else f" (after {timeout_s:g} s)"
            raise DeploymentError(
                f"deployment {workload.deployment} in namespace {workload.namespace}: {trouble.where}:"
                f" {trouble.why}{late}",
                hint=trouble.hint,
            )


def _is_current(objects: Objects, workload: Workload) -> bool:
    """Whether the pod is ready, and made from what the StatefulSet is now."""
    owner = objects.find("StatefulSet", workload.name)
    pod = objects.find("Pod", workload.pod)
    if owner is None or pod is None or "deletionTimestamp" in pod["metadata"]:
        return False
    return is_newest(pod, owner) and is_ready(pod)


def _settle(objects: Objects, workload: Workload, run: str) -> None:
    """Note on the data that an `up` finished with them, lest another that fails takes them back."""
    for last in (False, False, False, False, True):
        claim = objects.get("PersistentVolumeClaim", workload.claim)
        if annotation(claim, SETTLED):
            return
        claim["metadata"]["annotations"][SETTLED] = run
        try:
            objects.replace(claim)
        except ClusterObjectError as error:
            if error.status != CONFLICT or last:
                raise
        else:
            return
