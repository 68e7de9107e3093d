"""What is known on this machine of forwards: which there are, where they listen, what happened.

In the user's state folder, for nobody else's eyes. A forward's process keeps a lock on a file as long as it
lives, and its number is in that file: a process that only has the same number is never taken for it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import hashlib
import json
import os
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final

import platformdirs

from zen_mlmd.errors import ConfigError, ForwardError

_LOCK_S: Final = 2.0


@dataclass(frozen=True, slots=True)
class Target:
    """Which port of which Service is forwarded to.

    Attributes:
        kubeconfig: Its path, or several, as `kubeconfig_in_force` returns it.
        context: Of the kubeconfig.
        namespace: The Service's.
        service: Its name.
        port: Its port, by number or name.
    """

    kubeconfig: str
    context: str
    namespace: str
    service: str
    port: int | str

    def __str__(self) -> str:
        return f"Service {self.namespace}/{self.service}:{self.port} (context {self.context})"

    @property
    def key(self) -> str:
        """What names its files: the same for the same Service, whatever else is wished."""
        named = (self.kubeconfig, self.context, self.namespace, self.service, str(self.port))
        return hashlib.sha256("\0".join(named).encode()).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class Wish:
    """A forward as it is wanted.

    Attributes:
        target: Where it goes.
        local_port: On 127.0.0.1; 0 for any that is free.
        timeout_s: For each call of the API server, and for a client to wait for a pod.
        owner: Which store it is for; whatever else stood for that one is taken down.
    """

    target: Target
    local_port: int = 0
    timeout_s: float = 10.0
    owner: str = ""


@dataclass(frozen=True, slots=True)
class Standing:
    """A forward as its process has noted it.

    Attributes:
        wish: What it was started for.
        port: Where it listens on 127.0.0.1.
        pid: Its process.
        since: When it was started, in seconds since 1970.
        pod: The last pod that it was connected to, and the pod's port; empty if there was none.
        connections: How many clients it has had.
        restarts: How often a connection broke at the pod's end, so that another was needed.
        fault: The last thing that went wrong and was not mended since; empty if nothing is.
        lives: Its process is there.
    """

    wish: Wish
    port: int
    pid: int
    since: float
    pod: str = ""
    connections: int = 0
    restarts: int = 0
    fault: str = ""
    lives: bool = False

    @property
    def address(self) -> str:
        """Where clients connect to."""
        return f"127.0.0.1:{self.port}"


class Place:
    """The files of one forward."""

    def __init__(self, key: str) -> None:
        folder = Path(platformdirs.user_state_dir("zen_mlmd")) / "forwards"
        self.folder = folder
        self.state = folder / f"{key}.json"
        self.log = folder / f"{key}.log"
        self.alive = folder / f"{key}.pid"
        self.turn = folder / f"{key}.lock"

    def make(self) -> None:
        """Make the folder.

        Raises:
            ConfigError: It cannot be made.
        """
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(
                f"{self.folder}: your state folder cannot be made: {error.strerror}",
                hint="name another place in XDG_STATE_HOME",
            ) from error

    def read(self) -> Standing | None:
        """Return what was noted; None if nothing was, or it is damaged."""
        try:
            fields = json.loads(self.state.read_bytes())
            wish = fields.pop("wish")
            target = Target(**wish.pop("target"))
            found = Standing(wish=Wish(target=target, **wish), **fields)
        except (OSError, ValueError, TypeError, KeyError, AttributeError):
            return None
        return dataclasses.replace(found, lives=self.holder() == found.pid)

    def write(self, standing: Standing) -> None:
        """Note it, all at once."""
        fields = {**dataclasses.asdict(standing)}
        del fields["lives"]
        number, name = tempfile.mkstemp(dir=self.folder, prefix=".state-")  # mode 0600
        with open(number, "w", encoding="ascii") as file:  # noqa: PTH123 - a descriptor
            json.dump(fields, file)
        Path(name).replace(self.state)

    def holder(self) -> int | None:
        """Return the process of the forward; None if there is none, 0 if it has only just begun."""
        try:
            file = self.alive.open("rb")
        except OSError:
            return None
        with file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                text = file.read(20)
                return int(text) if text.isdigit() else 0
        return None

    def hold(self) -> IO[Any]:
        """Be the process of the forward, until the file that is returned is closed.

        Raises:
            ForwardError: Another is.
        """
        ends = time.monotonic() + _LOCK_S  # somebody may only be looking
        file = open(os.open(self.alive, os.O_RDWR | os.O_CREAT, 0o600), "r+b", buffering=0)  # noqa: PTH123, SIM115
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() < ends:
                    time.sleep(0.02)
                    continue
                file.close()
                raise ForwardError(
                    "another process is this forward already", hint="ask for its `status`"
                ) from None
            file.truncate(0)
            file.write(str(os.getpid()).encode())
            return file

    def forget(self) -> None:
        """Forget that there was a forward; its log stays."""
        for path in (self.state, self.alive):
            with contextlib.suppress(FileNotFoundError):
                path.unlink()


def places() -> list[Place]:
    """Return the files of all forwards that are noted."""
    folder = Path(platformdirs.user_state_dir("zen_mlmd")) / "forwards"
    return [Place(each.stem) for each in sorted(folder.glob("*.json")) if not each.name.startswith(".")]
