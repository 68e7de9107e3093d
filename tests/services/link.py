"""A link between this machine and a network namespace, which can be cut: what is sent then, nobody gets."""

from __future__ import annotations

import os
import subprocess

from typing_extensions import Self

_NOBODY = "02:00:00:00:00:99"


class Link:
    """A namespace whose one way out is a link to here. Needs root, and iproute2.

    Attributes:
        host: This machine's address on it.
        within: What the command of a process in the namespace begins with.

    Raises:
        OSError: There is no `ip`.
        CalledProcessError: It may not make a namespace.
    """

    def __init__(self) -> None:
        number = os.getpid() % 2**14 * 4
        self._name = f"zen{number}"
        self.host, self._guest = (f"10.213.{number // 256}.{number % 256 + end}" for end in (1, 2))
        self.within = ("ip", "netns", "exec", self._name)

    def __enter__(self) -> Self:
        _ip("netns", "add", self._name)
        try:
            _ip("link", "add", self._name, "type", "veth", "peer", "name", "out", "netns", self._name)
            _ip("addr", "add", f"{self.host}/30", "dev", self._name)
            _ip("link", "set", self._name, "up")
            self._inside("addr", "add", f"{self._guest}/30", "dev", "out")
            self._inside("link", "set", "out", "up")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        _ip("netns", "del", self._name)  # the link goes with it

    def cut(self) -> None:
        """Lose whatever is sent from now on, either way, and tell neither end."""
        # Each end sends to an Ethernet address that the other has not.
        _ip("neigh", "replace", self._guest, "lladdr", _NOBODY, "dev", self._name, "nud", "permanent")
        self._inside("neigh", "replace", self.host, "lladdr", _NOBODY, "dev", "out", "nud", "permanent")

    def mend(self) -> None:
        """Lose nothing from now on."""
        _ip("neigh", "del", self._guest, "dev", self._name)
        self._inside("neigh", "del", self.host, "dev", "out")

    def _inside(self, *arguments: str) -> None:
        _ip("-n", self._name, *arguments)


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, stdin=subprocess.DEVNULL, capture_output=True)
