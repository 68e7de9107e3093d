"""The metadata server of a Kubeflow installation, named by its Service: how it is reached from here.

From a pod by the address that Kubeflow tells it, or by the Service's name; from elsewhere through a forward,
which `up` opens and `down` closes.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any, Final

from zen_mlmd.cluster import forward
from zen_mlmd.cluster.kubeconfig import current_context, kubeconfig_in_force
from zen_mlmd.cluster.standing import Standing, Target, Wish
from zen_mlmd.cluster.told import PORT_VARIABLE, in_pod, told_server
from zen_mlmd.errors import ConfigError, ConnectionFailedError, ForwardError, UsageError, ZenMlmdError
from zen_mlmd.flavors.lifecycle import Progress, Status

Ask = Callable[[], tuple[bool, str]]
"""Asks the server a question; tells whether it answered, and what, or why not."""

_UP: Final = "`zen-mlmd metadata-store up {}` opens it"
_LOOK: Final = "`zen-mlmd metadata-store logs {}` tells what happened"
_NAME: Final = "NAME"


@dataclass(frozen=True, slots=True)
class MetadataServer:
    """A Service of a cluster, as a store's settings name it.

    Attributes:
        namespace, service, port: The Service's.
        context, kubeconfig: Of the cluster; empty for those in force.
        local_port: Where a forward is to listen; 0 for any that is free.
        timeout_s: For each call of the API server.
        is_default: Nothing of it was said, so that what Kubeflow tells its pods counts.
    """

    namespace: str
    service: str
    port: int
    context: str
    kubeconfig: str
    local_port: int
    timeout_s: float
    is_default: bool

    @property
    def host(self) -> str:
        """The Service's name in its cluster's DNS."""
        return f"{self.service}.{self.namespace}"

    @property
    def name(self) -> str:
        """The same, and its port."""
        return f"{self.host}:{self.port}"

    @property
    def is_near(self) -> bool:
        """Whether it is reached without a forward: this is a pod, and no other cluster is named."""
        if self.context or self.kubeconfig:
            return False
        return in_pod() or (self.is_default and told_server() is not None)

    def address(self, name: str = _NAME) -> tuple[str, int]:
        """Return where clients connect to from here; nothing is asked.

        Args:
            name: The store's, for the hint.

        Raises:
            ForwardError: It takes a forward, and none stands.
            ConfigError: No cluster is known here, or what this pod is told is no address.
        """
        if self.is_near:
            return self._near()
        found = forward.find(self.target())
        if found is None:
            raise ForwardError(f"{self.name}: no way to it was opened from here", hint=_UP.format(name))
        if not found.lives:
            raise ForwardError(f"{self.name}: the process of its forward is gone", hint=_UP.format(name))
        return "127.0.0.1", found.port

    def explained(self, error: ConnectionFailedError) -> ConnectionFailedError:
        """Return why a server cannot be opened, with what the forward knows of it."""
        found = None if self.is_near else forward.find(self.target())
        if found is None or not found.fault:
            return error
        message = f"{self.name}: {error.message}; the forward says: {found.fault}"
        return ForwardError(message, hint=_LOOK.format(_NAME))

    def target(self) -> Target:
        """Return where a forward goes.

        Raises:
            ConfigError: No cluster is known here.
        """
        kubeconfig = kubeconfig_in_force(self.kubeconfig)
        context = self.context or current_context(kubeconfig)
        return Target(kubeconfig, context, self.namespace, self.service, self.port)

    def _near(self) -> tuple[str, int]:
        told = told_server() if self.is_default else None
        if told is None:
            return self.host, self.port
        if not told[1].isdigit():
            raise ConfigError(f"{PORT_VARIABLE} is no port: {told[1][:20]!r}", hint="set it to a number")
        return told[0], int(told[1])

    # -- its lifecycle ---------------------------------------------------------------------------

    def up(self, name: str, ask: Ask, progress: Progress) -> Status:
        """See `Lifecycle.up`."""
        if self.is_near:
            return answering(self.status(name, ask))
        target = self.target()
        before = forward.find(target)
        standing = forward.up(Wish(target, self.local_port, self.timeout_s, name), progress)
        try:
            progress(f"asking the server at {standing.address}")
            return answering(self.status(name, ask))
        except BaseException:
            if before is None or before.pid != standing.pid:
                forward.down(target)
            raise

    def down(self, name: str, progress: Progress) -> Status:
        """See `Lifecycle.down`."""
        if self.is_near:
            raise UsageError(f"{self.name}: nothing was opened for it", hint="others run this server")
        target = self.target()
        if forward.find(target) is not None:
            progress(f"closing the forward to {target}")
        forward.down(target, owner=name)
        return Status(name=name, state="down", what=str(target), remedy=_UP.format(name or _NAME))

    def status(self, name: str, ask: Ask) -> Status:
        """See `Lifecycle.status`."""
        what, standing = f"Service {self.name}", None
        try:
            host, port = self.address(name or _NAME)
            if not self.is_near:
                what, standing = str(self.target()), forward.find(self.target())
        except ForwardError as error:
            return self._not_standing(name, error)
        except ZenMlmdError as error:
            return Status(name=name, state="down", what=what, answer=error.message, remedy=error.hint)
        is_up, answer = ask()
        found = Status(name=name, state="up", what=what, address=f"{host}:{port}", answer=answer)
        if standing is not None:
            standing = forward.find(self.target()) or standing  # it knows more now
            found = dataclasses.replace(found, **_facts(standing))
        return (
            found
            if is_up
            else dataclasses.replace(found, state="failing", remedy=_LOOK.format(name or _NAME))
        )

    def _not_standing(self, name: str, error: ForwardError) -> Status:
        target = self.target()
        found = forward.find(target)
        status = Status(name=name, state="down", what=str(target), answer=error.message, remedy=error.hint)
        return dataclasses.replace(status, state="broken", **_facts(found)) if found else status

    def logs(self, *, tail: int | None, follow: bool) -> Iterator[str]:
        """See `Lifecycle.logs`."""
        if self.is_near:
            raise UsageError(
                f"{self.name}: nothing was opened for it", hint="its pod's log in the cluster has more"
            )
        return forward.log_lines(self.target(), tail=tail, follow=follow)


def answering(status: Status) -> Status:
    """Return a status if it is up.

    Raises:
        ForwardError: It is not.
    """
    if status.is_up:
        return status
    raise ForwardError(f"{status.what}: {status.answer}", hint=status.remedy)


def _facts(standing: Standing) -> dict[str, Any]:
    since = datetime.fromtimestamp(standing.since, timezone.utc)
    return {"pod": standing.pod, "since": since, "restarts": standing.restarts}
