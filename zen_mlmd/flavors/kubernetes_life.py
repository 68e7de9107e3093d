"""A kubernetes store's life: brought up and reachable, asked, read about, taken down."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, Final

from zen_mlmd.cluster import Cluster, forward
from zen_mlmd.cluster.api import NOT_FOUND
from zen_mlmd.cluster.objects import Object, Objects, polls
from zen_mlmd.cluster.standing import Standing, Target, Wish
from zen_mlmd.errors import ClusterObjectError, DeploymentError, ForwardError, ZenMlmdError
from zen_mlmd.flavors.kubernetes_deploy import Progress, deploy, passwords_in
from zen_mlmd.flavors.kubernetes_objects import CONTAINER, PORT, Workload, is_ours
from zen_mlmd.flavors.kubernetes_reasons import blotted, is_ready, trouble_of
from zen_mlmd.flavors.kubernetes_remove import TAKE_BACK_S, remove
from zen_mlmd.flavors.lifecycle import Status, asked
from zen_mlmd.flavors.mysql import MysqlConfig

if TYPE_CHECKING:
    from zen_mlmd.flavors.kubernetes import KubernetesConfig

_UP: Final = "zen-mlmd metadata-store up NAME"
_ANSWERS_S: Final = 10.0
"""For a Service to learn of a pod that has just become ready."""
_FOLLOW_S: Final = 1.0
_FOLLOWED: Final = 1000
"""Lines that are looked at each time; what writes more in a second is not followed to the letter."""


@dataclass(frozen=True)
class Place:
    """Where a store is, as its settings say."""

    cluster: Cluster
    workload: Workload

    @property
    def objects(self) -> Objects:
        """Those of its namespace."""
        return Objects(self.cluster, self.workload.namespace)

    @property
    def target(self) -> Target:
        """Where a port-forward to it goes."""
        namespace, service = self.workload.namespace, self.workload.name
        return Target(self.cluster.kubeconfig, self.cluster.context, namespace, service, PORT)

    @property
    def title(self) -> str:
        """What it is, for people."""
        return f"MySQL of deployment {self.workload.deployment} in namespace {self.workload.namespace}"

    def forwarded(self) -> Standing | None:
        """Return the port-forward, if it is needed and stands."""
        found = None if self.cluster.inside else forward.find(self.target)
        return found if found is not None and found.lives else None

    def is_reached(self) -> bool:
        """Whether there is a way to it from here."""
        return self.cluster.inside or self.forwarded() is not None


def place_of(config: KubernetesConfig) -> Place:
    """Return where a store is; nothing is asked yet."""
    cluster = config.cluster()
    return Place(cluster, config.workload(cluster))


def mysql_of(config: KubernetesConfig) -> MysqlConfig:
    """Return the settings by which the MySQL is reached from here; see `KubernetesConfig.mysql`."""
    place = place_of(config)
    workload = place.workload
    try:
        login = passwords_in(place.objects, workload)
    except ClusterObjectError as error:
        if error.status != NOT_FOUND:
            raise
        login = {}
    if not login:
        raise DeploymentError(f"{config.location}: it was not brought up", hint=f"{_UP}, and then open it")
    host, port = workload.host, PORT
    if not place.cluster.inside:
        found = place.forwarded()
        if found is None:
            raise ForwardError(
                f"{config.location}: no port-forward to it stands on this machine",
                hint=f"{_UP}, which leaves what runs in the cluster as it is",
            )
        host, port = "127.0.0.1", found.port
    same = ("wait_s", "trusted", "connect_timeout_s", "timeout_s", "read_only")
    return MysqlConfig.checked(
        host=host,
        port=port,
        database=login["database"],
        user=login["user"],
        password=login["password"],
        **{name: getattr(config, name) for name in same},
    )


def up(config: KubernetesConfig, name: str, progress: Progress) -> Status:
    """Deploy it, and make it reachable from here; all, or nothing that was not there."""
    place = place_of(config)
    deploy(
        place.objects,
        place.workload,
        ready_timeout_s=config.ready_timeout_s,
        progress=progress,
        then=lambda: _reach(config, place, name, progress),
    )
    return status(config, name)


def down(config: KubernetesConfig, name: str, progress: Progress, *, purge: bool) -> Status:
    """Take it away, and its data if they are to go, too.

    Raises:
        DeploymentError: Something is left; it says what, and why.
    """
    place = place_of(config)
    if not place.cluster.inside and forward.down(place.target):
        progress("the port-forward is stopped")
    until = time.monotonic() + TAKE_BACK_S
    left = remove(place.objects, place.workload, with_data=purge, until=until, progress=progress)
    if left:
        raise DeploymentError(
            f"{place.title}: there is left: {'; '.join(left)}", hint="mend it, and try again"
        )
    return Status(name, "down", place.title)


def status(config: KubernetesConfig, name: str) -> Status:
    """Find out how it is, by asking the cluster, and then the store itself."""
    try:
        place = place_of(config)
    except ZenMlmdError as error:
        return Status(name, "failing", config.location, answer=error.message, remedy=error.hint)
    try:
        return _status(config, place, name)
    except ZenMlmdError as error:
        return Status(name, "failing", place.title, answer=error.message, remedy=error.hint)


def logs(config: KubernetesConfig, *, tail: int | None, follow: bool) -> Iterator[str]:
    """Return what the MySQL wrote, without the passwords."""
    place = place_of(config)
    blot = _passwords(place)
    pod = place.workload.pod
    if not follow:
        try:
            text = place.objects.log(pod, CONTAINER, tail=tail)
        except ClusterObjectError as error:
            if error.status != NOT_FOUND:
                raise
            hint = f"{_UP} makes one"
            raise DeploymentError(
                f"{place.title}: it has no pod that could have written", hint=hint
            ) from None
        for line in text.splitlines():
            yield blotted(line, blot)
        return
    seen, count = "", tail
    while True:
        for line in place.objects.log(pod, CONTAINER, tail=count, timestamps=True).splitlines():
            when, _, text = line.partition(" ")
            if when > seen:
                seen = when
                yield blotted(text, blot)
        count = _FOLLOWED
        time.sleep(_FOLLOW_S)


def _reach(config: KubernetesConfig, place: Place, name: str, progress: Progress) -> None:
    """See that there is a way to it from here, and that it answers; no way is left behind if it does not.

    Raises:
        DeploymentError: It does not answer.
        ForwardError: There is no way.
    """
    with _forward(config, place, name, progress):
        progress("asking the store")
        answers, said = False, ""
        for _ in polls(time.monotonic() + _ANSWERS_S):
            answers, said = asked(config.open_service)
            if answers:
                return
        raise DeploymentError(
            f"{place.title}: its pod is ready, but the store does not answer: {said}",
            hint="does the Secret have the password that the data were made with?",
        )


@contextmanager
def _forward(config: KubernetesConfig, place: Place, name: str, progress: Progress) -> Iterator[None]:
    if place.cluster.inside:
        yield
        return
    before, standing = place.forwarded(), None
    try:
        standing = forward.up(
            Wish(place.target, config.local_port, config.request_timeout_s, owner=name), progress
        )
        yield
    except BaseException:
        if before is None or (standing is not None and standing.pid != before.pid):
            forward.down(place.target)
        raise


def _status(config: KubernetesConfig, place: Place, name: str) -> Status:
    objects, workload = place.objects, place.workload
    found = {kind: objects.find(kind, each) for kind, each in _parts(workload).items()}
    ours = {kind: each for kind, each in found.items() if each is not None and is_ours(each, workload)}
    if "StatefulSet" not in ours:
        answer = "its data are kept" if "PersistentVolumeClaim" in ours else ""
        return Status(name, "down", place.title, answer=answer, remedy=_UP)
    missing = [f"{kind} {each}" for kind, each in _parts(workload).items() if kind not in ours]
    if missing:
        return Status(name, "broken", place.title, answer=f"there is no {', '.join(missing)}", remedy=_UP)
    pod = objects.find("Pod", workload.pod)
    if pod is None or not is_ready(pod):
        trouble = trouble_of(objects, workload, secrets=_passwords(place))
        answer = f"{trouble.where}: {trouble.why}"
        return Status(name, "failing", place.title, answer=answer, remedy=trouble.hint)
    return _asked(config, place, name, pod)


def _asked(config: KubernetesConfig, place: Place, name: str, pod: Object) -> Status:
    way = place.forwarded()
    known = Status(name, "up", place.title, pod=place.workload.pod, since=_since(pod))
    if way is None and not place.cluster.inside:
        answer = "no port-forward to it stands on this machine"
        return replace(known, state="broken", answer=answer, remedy=_UP)
    answers, said = asked(config.open_service)
    return replace(
        known,
        state="up" if answers else "failing",
        address=way.address if way else f"{place.workload.host}:{PORT}",
        answer=said,
        remedy="" if answers else "zen-mlmd metadata-store logs NAME",
    )


def _parts(workload: Workload) -> dict[str, str]:
    return {
        "StatefulSet": workload.name,
        "Service": workload.name,
        "Secret": workload.name,
        "PersistentVolumeClaim": workload.claim,
    }


def _since(pod: Object) -> datetime | None:
    text = str(pod["metadata"].get("creationTimestamp") or "").replace("Z", "+00:00")
    return datetime.fromisoformat(text) if text else None


def _passwords(place: Place) -> Collection[str]:
    try:
        found = passwords_in(place.objects, place.workload)
    except ZenMlmdError:
        return ()
    return [text for key, text in found.items() if "password" in key]
