"""Links that are cut: how soon either end learns that nothing comes any more."""

from __future__ import annotations

import socket
from typing import Any, Final

# A cut link says nothing: who waits for an answer, or sends again and again what nobody takes, learns of it
# from TCP alone, which by itself gives up after two hours, or a quarter of one. 15 s is longer than what a
# link that is only bad takes to mend a loss. A server that is busy with a long statement is not meant: its
# kernel answers.
_IDLE_S: Final = 5
_INTERVAL_S: Final = 5
_PROBES: Final = 2
_NOTICED_S: Final = _IDLE_S + _PROBES * _INTERVAL_S

ABANDONED_S: Final = 60
"""How long a server keeps the locks of a transaction in which nothing is said, and a client that was cut off
is in its own way. A living one leaves none open so long, but to convert what it read."""

LIBPQ: Final = {
    "keepalives_idle": _IDLE_S,
    "keepalives_interval": _INTERVAL_S,
    "keepalives_count": _PROBES,
    "tcp_user_timeout": _NOTICED_S * 1000,
}
"""For libpq, which leaves out what a system lacks."""

_TCP: Final = {
    "TCP_KEEPIDLE": _IDLE_S,
    "TCP_KEEPALIVE": _IDLE_S,  # macOS's name of it
    "TCP_KEEPINTVL": _INTERVAL_S,
    "TCP_KEEPCNT": _PROBES,
    "TCP_USER_TIMEOUT": _NOTICED_S * 1000,
}


def watch(stream: Any) -> None:
    """Have a connected socket say soon that its link is cut; a unix socket has none."""
    if stream.family not in (socket.AF_INET, socket.AF_INET6):
        return
    stream.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _TCP.items():
        option = getattr(socket, name, None)
        if option is not None:
            stream.setsockopt(socket.IPPROTO_TCP, option, value)
