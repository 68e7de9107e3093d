"""What is wrong with the way to a PostgreSQL server into which one can log in."""

from __future__ import annotations

import ssl
from functools import partial
from typing import TYPE_CHECKING, Final

from zen_mlmd.flavors.certificates import connected, examine_certificate
from zen_mlmd.service.finding import Finding, Thresholds

if TYPE_CHECKING:
    from zen_mlmd.flavors.postgresql import PostgresqlConfig

# https://www.postgresql.org/docs/current/protocol-message-formats.html
_SSL_REQUEST: Final = bytes.fromhex("0000000804d2162f")


def examine_server(config: PostgresqlConfig, thresholds: Thresholds) -> list[Finding]:
    """Return what is wrong; up to three more connections are made for it."""
    if not config.tls or config.host.startswith("/"):
        return []
    shake = partial(_shake, config.host, config.port, config.connect_timeout_s)
    return examine_certificate(shake, config.host, thresholds)


def _shake(host: str, port: int, timeout_s: float, context: ssl.SSLContext) -> ssl.SSLSocket:
    stream = connected(host, port, timeout_s)
    try:
        stream.sendall(_SSL_REQUEST)
        stream.recv(1)  # "S"; to anything else the handshake fails
        return context.wrap_socket(stream, server_hostname=host)
    except BaseException:
        stream.close()
        raise
