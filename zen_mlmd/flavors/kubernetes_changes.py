"""What an object that is there has to become, and what it cannot become: refused before anything is done."""

from __future__ import annotations

from typing import Final

from zen_mlmd.cluster.objects import Object
from zen_mlmd.errors import DeploymentError
from zen_mlmd.flavors.kubernetes_objects import SPEC, Workload, annotation, is_ours, quantity, storage_of


def named(thing: Object) -> str:
    """Return kind and name of an object."""
    return f"{thing['kind']} {thing['metadata']['name']}"


def refuse_lost_password(workload: Workload, found: list[Object | None]) -> None:
    """Refuse data whose password is gone.

    Args:
        workload: What is to stand.
        found: Its Secret, its claim, and the rest.

    Raises:
        DeploymentError: The claim is there, and the Secret is not.
    """
    secret, claim, *_ = found
    if secret is None and claim is not None:
        raise DeploymentError(
            f"Secret {workload.namespace}/{workload.name}: it is gone, and PersistentVolumeClaim"
            f" {workload.claim} is there, whose data only its password opens",
            hint="restore the Secret; or delete the data: `zen-mlmd metadata-store down NAME --purge`",
        )


def change_of(workload: Workload, have: Object, want: Object) -> Object | None:
    """Return what an object that is there has to become; None if it is as it should be.

    Raises:
        DeploymentError: It is not ours, or cannot become that.
    """
    if "deletionTimestamp" in have["metadata"]:
        raise being_deleted(have)
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
                "zen-mlmd metadata-store down NAME, which keeps the data, and up again",
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


def being_deleted(have: Object) -> DeploymentError:
    """Return what is raised about an object that is marked as deleted."""
    return DeploymentError(
        f"{named(have)}: it is being deleted", hint="wait until it is gone, and bring the store up again"
    )
