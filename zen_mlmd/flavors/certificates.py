"""What is wrong with a server's certificate, asked of OpenSSL: until when it is good, and for which name."""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Callable, Iterator
from typing import Final

from zen_mlmd.service.finding import Finding, Thresholds

Shake = Callable[[ssl.SSLContext], ssl.SSLSocket]
"""Connects anew, and returns the encrypted connection."""

# https://docs.openssl.org/3.0/man3/X509_STORE_CTX_get_error/
_NOT_YET: Final = 9
_EXPIRED: Final = 10
_OTHER_NAME: Final = (62, 64)
_DAY_S: Final = 86400


def examine_certificate(shake: Shake, host: str, thresholds: Thresholds) -> list[Finding]:
    """Return what is wrong with a certificate, whoever signed it; nothing if no TLS is to be had.

    Args:
        shake: Connects to the server, up to three times.
        host: The name that it should be for.
        thresholds: How long it is to be good.
    """
    try:
        return list(_examine(shake, host, thresholds))
    except (OSError, ValueError):  # what opens the store says that, in its own words
        return []


def _examine(shake: Shake, host: str, thresholds: Thresholds) -> Iterator[Finding]:
    with shake(_context("")) as stream:
        shown = ssl.DER_cert_to_PEM_cert(stream.getpeercert(binary_form=True) or b"")
    for check_name in (True, False):
        context = _context(shown)
        context.check_hostname = check_name
        try:
            with shake(context) as stream:
                facts = stream.getpeercert() or {}
        except ssl.SSLCertVerificationError as error:
            if error.verify_code in _OTHER_NAME:
                yield Finding(
                    "certificate-name",
                    f"the server's certificate is not for {host}: who checks it refuses the server",
                    "name the host as its certificate does, or give the server one for this name",
                    subject=host,
                )
                continue
            if error.verify_code in (_EXPIRED, _NOT_YET):
                when = "has expired" if error.verify_code == _EXPIRED else "is not good yet"
                yield _expiry(host, f"the server's certificate {when}")
            return
        yield from _left(str(facts["notAfter"]), host, thresholds)
        return


def _left(until: str, host: str, thresholds: Thresholds) -> Iterator[Finding]:
    days = (ssl.cert_time_to_seconds(until) - time.time()) / _DAY_S
    if days < thresholds.certificate_days:
        yield _expiry(host, f"the server's certificate is good for {days:.0f} days more, until {until}")


def _expiry(host: str, what: str) -> Finding:
    return Finding(
        "certificate-expiry",
        f"{what}: who checks it refuses the server then",
        "have it renewed",
        subject=host,
    )


def _context(pem: str) -> ssl.SSLContext:
    """Return what believes one certificate, be it signed by whomever; without one, anybody."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if not pem:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        return context
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    context.load_verify_locations(cadata=pem)
    return context


def connected(host: str, port: int, timeout_s: float) -> socket.socket:
    """Return a connection in clear."""
    return socket.create_connection((host, port), timeout_s)
