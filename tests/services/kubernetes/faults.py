"""What can go wrong with a call, and which call it is to go wrong with."""

from __future__ import annotations

import threading
from dataclasses import dataclass


@dataclass(frozen=True)
class Call:
    """One request: what a role would have to allow.

    Attributes:
        verb: get, list, watch, create, update, patch or delete.
        resource: With its subresource: `pods/log`.
    """

    verb: str
    resource: str
    namespace: str = ""
    name: str = ""


@dataclass
class Fault:
    """What happens with calls instead of, or besides, an answer.

    Attributes:
        status: The answer's status; 0 is that of the call itself.
        delay_s: How long the answer takes.
        lost: The call is done, and the connection cut before the answer.
        cut: The connection is cut, and nothing done.
        times: How many calls it still is for.
        skip: How many calls of those that it is for go well before.
    """

    verb: str
    resource: str
    status: int = 0
    delay_s: float = 0.0
    lost: bool = False
    cut: bool = False
    times: int = 1
    name: str = ""
    skip: int = 0


class Faults:
    """Those that are still to happen."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._all: list[Fault] = []

    def add(self, fault: Fault) -> None:
        """Let it happen from now on."""
        with self._lock:
            self._all.append(fault)

    @property
    def pending(self) -> bool:
        """Whether something is still to go wrong."""
        with self._lock:
            return any(each.times for each in self._all)

    def clear(self) -> None:
        """Let nothing go wrong any more."""
        with self._lock:
            self._all.clear()

    def take(self, call: Call) -> Fault | None:
        """Return what goes wrong with a call."""
        with self._lock:
            for each in self._all:
                if each.times and (
                    each.verb in ("*", call.verb)
                    and each.resource in ("*", call.resource)
                    and each.name in ("", call.name)
                ):
                    if each.skip:
                        each.skip -= 1
                        continue
                    each.times -= 1
                    return each
        return None
