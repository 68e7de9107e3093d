"""What is wrong with the way to a MySQL or MariaDB server into which one can log in."""

from __future__ import annotations

import ssl
import struct
from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, Final

from pymysql.constants import CLIENT

from zen_mlmd.errors import ConnectionFailedError
from zen_mlmd.flavors.certificates import connected, examine_certificate
from zen_mlmd.service.finding import Finding, Thresholds

if TYPE_CHECKING:
    from zen_mlmd.flavors.mysql import MysqlConfig

_UTF8MB4: Final = 45
_HEAD: Final = 4  # three bytes of length, and a sequence number


def examine_server(config: MysqlConfig, thresholds: Thresholds) -> list[Finding]:
    """Return what is wrong; two to four more connections are made for it."""
    found = list(_native_login(config))
    if config.tls and not config.socket:
        shake = partial(_shake, config.host, config.port, config.connect_timeout_s)
        found += examine_certificate(shake, config.host, thresholds)
    return found


def _native_login(config: MysqlConfig) -> Iterator[Finding]:
    """Find out whether ml-metadata's own client could log in too."""
    if config.service == "native":
        return
    try:
        config.probe_native()
    except ConnectionFailedError as error:
        yield Finding(
            "native-login",
            "zen_mlmd can log in, and ml-metadata's own client, TFX's too, cannot:"
            f" {error.message.removeprefix(f'{config.location}: ')}",
            error.hint,
            subject=config.user,
        )


def _shake(host: str, port: int, timeout_s: float, context: ssl.SSLContext) -> ssl.SSLSocket:
    # https://dev.mysql.com/doc/dev/mysql-server/latest/page_protocol_connection_phase_packets_protocol_ssl_request.html
    stream = connected(host, port, timeout_s)
    try:
        size = int.from_bytes(stream.recv(_HEAD)[:3], "little")
        while size > 0:
            part = stream.recv(size)
            size -= len(part) or size
        flags = CLIENT.PROTOCOL_41 | CLIENT.SSL | CLIENT.SECURE_CONNECTION
        request = struct.pack("<IIB23x", flags, 2**24, _UTF8MB4)
        stream.sendall(len(request).to_bytes(3, "little") + b"\1" + request)
        return context.wrap_socket(stream, server_hostname=host)
    except BaseException:
        stream.close()
        raise
