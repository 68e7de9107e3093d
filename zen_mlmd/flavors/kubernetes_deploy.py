"""Bringing a workload up: what is missing is made, what is there is left or changed, or all is as before.

Objects that no `up` of the deployment made are never touched. Each that this one makes carries its mark, by
which it is known also where the answer to its making was lost, and by which it is taken back.
"""

from __future__ import annotations

import base64
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final, TypeAlias

from zen_mlmd.cluster.api import CONFLICT, FORBIDDEN
from zen_mlmd.cluster.objects import Object, Objects, polls
from zen_mlmd.errors import (
    ClusterObjectError,
    ClusterUnreachableError,
    ConnectionFailedError,
    DeploymentError,
)
from zen_mlmd.flavors.kubernetes_objects import (
    RUN,
    SPEC,
    Workload,
    annotation,
    is_ours,
    namespace_of,
    objects_of,
    quantity,
    storage_of,
)
from zen_mlmd.flavors.kubernetes_reasons import is_ready, trouble_of
from zen_mlmd.flavors.kubernetes_remove import TAKE_BACK_S, remove

Progress: TypeAlias = Callable[[str], object]
Replaced: TypeAlias = tuple[Object, Object]
"""An object as it was before, and as it was to be."""

_UNAUTHORIZED: Final = 401
_PASSWORD_BYTES: Final = 24


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
    with _all_or_nothing(objects, workload, run, progress) as replaced:
        _ensure_namespace(objects, workload, run, progress)
        found = [objects.find(each["kind"], each["metadata"]["name"]) for each in wanted]
        changes = [
            None if have is None else _change(workload, have, want)
            for have, want in zip(found, wanted, strict=True)
        ]
        _refuse_lost_password(workload, found)
        for want, have, change in zip(wanted, found, changes, strict=True):
            if have is None:
                progress(f"making {_named(want)}")
                _create(objects, want, run)
            elif change is not None:
                progress(f"changing {_named(want)}")
                _replace(objects, workload, have, want, replaced)
        _wait_ready(objects, workload, ready_timeout_s, passwords_in(objects, workload), progress)
        then()


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


def _named(thing: Object) -> str:
    return f"{thing['kind']} {thing['metadata']['name']}"


def _ensure_namespace(objects: Objects, workload: Workload, run: str, progress: Progress) -> None:
    try:
        found = objects.find("Namespace", workload.namespace)
    except ClusterObjectError as error:
        if error.status != FORBIDDEN:
            raise
        return  # who may only see into it: it shows with the first object whether it is there
    if found is None:
        progress(f"making Namespace {workload.namespace}")
        _create(objects, namespace_of(workload, run=run), run)
    elif "deletionTimestamp" in found["metadata"]:
        raise _being_deleted(found)


def _create(objects: Objects, want: Object, run: str) -> None:
    """Make an object; one whose making was not answered is looked for."""
    try:
        objects.create(want)
    except (ClusterObjectError, ClusterUnreachableError) as error:
        if isinstance(error, ClusterObjectError) and error.reason != "AlreadyExists":
            raise
        # The answer was lost, or comes yet, for the API server goes on when nobody waits any more. Or a proxy
        # sent the request twice, and this answer is the second's.
        for _ in polls(time.monotonic() + (0.0 if error.status else objects.cluster.timeout_s)):
            found = objects.find(want["kind"], want["metadata"]["name"])
            if found is not None and annotation(found, RUN) == run:
                return
        raise


def _replace(
    objects: Objects, workload: Workload, have: Object, want: Object, replaced: list[Replaced]
) -> None:
    """Change an object; anew from what it is by then if it changed meanwhile, as by a controller's status."""
    now, change = have, _change(workload, have, want)
    for last in (False, False, False, False, True):
        if change is None:
            return
        try:
            objects.replace(change)
        except ClusterObjectError as error:
            if error.status != CONFLICT or last:
                raise
            now = objects.get(have["kind"], have["metadata"]["name"])
            change = _change(workload, now, want)
            continue
        except BaseException:
            replaced.append((have, change))  # perhaps
            raise
        replaced.append((have, change))
        return


def _refuse_lost_password(workload: Workload, found: list[Object | None]) -> None:
    secret, claim, *_ = found
    if secret is None and claim is not None:
        raise DeploymentError(
            f"Secret {workload.namespace}/{workload.name}: it is gone, and PersistentVolumeClaim"
            f" {workload.claim} is there, whose data only its password opens",
            hint="restore the Secret from a backup; `zen-mlmd metadata-store down --purge` deletes the data",
        )


def _change(workload: Workload, have: Object, want: Object) -> Object | None:
    """Return what an object that is there has to become; None if it is as it should be.

    Raises:
        DeploymentError: It is not ours, or cannot become that.
    """
    if "deletionTimestamp" in have["metadata"]:
        raise _being_deleted(have)
    if not is_ours(have, workload):
        raise DeploymentError(
            f"{have['kind']} {workload.namespace}/{have['metadata']['name']}: it is there already, and no"
            f" `up` of the deployment {workload.deployment} made it; it was not touched",
            hint="give the store another `deployment` or `namespace`",
        )
    return _CHANGES[have["kind"]](have, want)


def _secret_change(have: Object, want: Object) -> Object | None:
    if annotation(have, SPEC) == annotation(want, SPEC):
        return None
    raise _fixed(
        have,
        "`database` and `user` are made with the data, and stay",
        "set them as they were; or give the store another `deployment`, which has data of its own",
    )


def _claim_change(have: Object, want: Object) -> Object | None:
    asked = want["spec"].get("storageClassName")
    if asked is not None and asked != have["spec"].get("storageClassName"):
        raise _fixed(
            have,
            f"its storage class is {have['spec'].get('storageClassName')!r}, and stays",
            "set `storage_class` as it was; or give the store another `deployment`, with data of its own",
        )
    had, size = quantity(storage_of(have)), quantity(storage_of(want))
    if size < had:
        raise _fixed(
            have,
            f"it has {storage_of(have)}, and no claim gets smaller",
            f"set `storage` to {storage_of(have)} or more",
        )
    if size == had:
        return None
    resources = {**have["spec"]["resources"], "requests": want["spec"]["resources"]["requests"]}
    return _changed(have, want, resources=resources)


def _service_change(have: Object, want: Object) -> Object | None:
    if annotation(have, SPEC) == annotation(want, SPEC):
        return None
    return _changed(have, want, selector=want["spec"]["selector"], ports=want["spec"]["ports"])


def _stateful_set_change(have: Object, want: Object) -> Object | None:
    same = annotation(have, SPEC) == annotation(want, SPEC)
    if same and have["spec"].get("replicas") == want["spec"]["replicas"]:
        return None
    for field in ("serviceName", "selector", "podManagementPolicy"):
        if have["spec"].get(field) != want["spec"][field]:
            raise _fixed(
                have,
                f"its {field} cannot be changed",
                "zen-mlmd metadata-store down, which keeps the data, and up again",
            )
    return _changed(have, want, template=want["spec"]["template"], replicas=want["spec"]["replicas"])


_CHANGES: Final = {
    "Secret": _secret_change,
    "PersistentVolumeClaim": _claim_change,
    "Service": _service_change,
    "StatefulSet": _stateful_set_change,
}


def _changed(have: Object, want: Object, **spec: object) -> Object:
    annotations = {**have["metadata"]["annotations"], SPEC: annotation(want, SPEC)}
    metadata = {**have["metadata"], "annotations": annotations}
    return {**have, "metadata": metadata, "spec": {**have["spec"], **spec}}


def _fixed(have: Object, why: str, hint: str) -> DeploymentError:
    place = f"{have['metadata'].get('namespace')}/{have['metadata']['name']}"
    return DeploymentError(f"{have['kind']} {place}: {why}; it was not touched", hint=hint)


def _being_deleted(have: Object) -> DeploymentError:
    return DeploymentError(
        f"{_named(have)}: it is being deleted", hint="wait until it is gone, and bring the store up again"
    )


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
    for left_s in polls(until):
        try:
            if _is_current(objects, workload):
                return
            trouble = trouble_of(objects, workload, secrets=blot)
        except ClusterUnreachableError as error:
            if left_s <= 0 or error.status == _UNAUTHORIZED:
                raise
            continue  # an API server that is busy or restarts
        if trouble.final or left_s <= 0:
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
    status = owner.get("status") or {}
    seen = status.get("observedGeneration", 0) >= owner["metadata"].get("generation", 0)
    revision = (pod["metadata"].get("labels") or {}).get("controller-revision-hash")
    return bool(seen and revision == status.get("updateRevision") and is_ready(pod))


@contextmanager
def _all_or_nothing(
    objects: Objects, workload: Workload, run: str, progress: Progress
) -> Iterator[list[Replaced]]:
    """Take back what a run made, and put back what it replaced, if it fails or is interrupted.

    Yields:
        To be filled with what is replaced.
    """
    replaced: list[Replaced] = []
    try:
        yield replaced
    except BaseException as error:
        progress("it failed: taking back what was made")
        until = time.monotonic() + TAKE_BACK_S
        left = _put_back(objects, replaced, until=until)
        left += remove(
            objects,
            workload,
            lambda found: annotation(found, RUN) == run,
            with_data=True,
            until=until,
        )
        if left:
            text = f"could not be taken back: {'; '.join(left)}"
            progress(text)
            if isinstance(error, ConnectionFailedError):
                error.message += f" ({text})"
        raise


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
            left.append(f"{_named(before)} ({why})")
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
