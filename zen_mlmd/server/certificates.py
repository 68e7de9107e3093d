"""A server's TLS certificate, read again when its files change."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc

from zen_mlmd.errors import ConfigError
from zen_mlmd.server.config import ServerConfig

_Stamp = tuple[tuple[int, int, int], ...]


class Certificates:
    """Gives gRPC the certificate for each new connection.

    Files that are gone or do not fit together (half of them renewed, say) leave the ones that were good.

    Args:
        config: With `tls_cert`, `tls_key` and perhaps `client_ca`.
        tell: Told what is wrong with the files, once for each change.

    Raises:
        ConfigError: The files cannot be used to begin with.
    """

    def __init__(self, config: ServerConfig, tell: Callable[[str], None]) -> None:
        self._files = [config.tls_cert, config.tls_key, *([config.client_ca] if config.client_ca else [])]
        self._tell = tell
        self._told = ""
        self._seen = self._stamp()
        self._initial = self._read()

    def credentials(self) -> grpc.ServerCredentials:
        """Return what a gRPC server's port is given."""
        return grpc.dynamic_ssl_server_credentials(
            self._initial,
            self._renewed,
            require_client_authentication=len(self._files) > 2,  # noqa: PLR2004
        )

    def _renewed(self) -> Any:
        """Return a new configuration, or None to go on with the last one; called for each connection."""
        stamp = self._stamp()
        if stamp == self._seen:
            return None
        try:
            renewed = self._read()
        except ConfigError as error:
            if error.message != self._told:
                self._told = error.message
                self._tell(error.message)
            return None
        self._seen, self._told = stamp, ""
        return renewed

    def _stamp(self) -> _Stamp | None:
        try:
            found = [Path(file).stat() for file in self._files]
        except OSError:
            return None
        return tuple((each.st_mtime_ns, each.st_size, each.st_ino) for each in found)

    def _read(self) -> Any:
        certificate, key, *authority = self._files
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        file = certificate
        try:
            blobs = [Path(file := each).read_bytes() for each in self._files]
            # gRPC takes anything, and then fails each handshake. A passphrase, lest OpenSSL ask for one.
            file = f"{certificate} and {key}"
            context.load_cert_chain(certificate, key, password="")
            if authority:
                file = authority[0]
                context.load_verify_locations(file)
        except (OSError, ValueError) as error:
            reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or "not readable"
            raise ConfigError(
                f"TLS cannot use {file}: {reason}",
                hint="tls_cert, tls_key and client_ca are PEM files, the key that of the certificate and"
                " without a passphrase",
            ) from None
        return grpc.ssl_server_certificate_configuration(
            [(blobs[1], blobs[0])], root_certificates=blobs[2] if authority else None
        )
