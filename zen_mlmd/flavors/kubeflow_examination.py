"""What is wrong with an MLMD gRPC server that answers, as far as its calls tell."""

from __future__ import annotations

import contextlib
import re
import ssl
import time
from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, Final

from zen_mlmd.flavors.certificates import connected, examine_certificate
from zen_mlmd.service.base import RESOURCE_EXHAUSTED, MetadataService, Refusal
from zen_mlmd.service.finding import Finding, Thresholds, slow

if TYPE_CHECKING:
    from zen_mlmd.flavors.kubeflow import KubeflowConfig

_CALL: Final = "GetContextTypesByID"
"""With no id in it, it is answered with nothing."""
_WRITE: Final = "PutContexts"
"""With no context in it, it writes nothing; a question of this length is not sent."""
_ROUNDS: Final = 5
_PADDING: Final = 5 * 2**20
"""More than gRPC's own limit, 4 MiB, in a field that no message has and each server passes over."""
_FIELD: Final = 1000
_GRPC_BYTES: Final = 4 * 2**20
_LARGER: Final = re.compile(r"larger than max \(\d+ vs\. (\d+)\)")


def examine_server(config: KubeflowConfig, service: MetadataService, thresholds: Thresholds) -> list[Finding]:
    """Return what is wrong; nothing is written."""
    found = [*slow(_round_trip_ms(service), thresholds), *_messages(config, service)]
    if config.tls:
        shake = partial(_shake, config.address(), config.server_name, min(config.timeout_s, 5.0))
        found += examine_certificate(shake, config.server_name, thresholds)
    return found


def _round_trip_ms(service: MetadataService) -> float:
    times = []
    for _ in range(_ROUNDS):
        began = time.perf_counter()
        with contextlib.suppress(Refusal):  # an answer too
            service.forward(_CALL, b"")
        times.append(time.perf_counter() - began)
    return min(times) * 1000


def _messages(config: KubeflowConfig, service: MetadataService) -> Iterator[Finding]:
    if config.max_message_bytes < _GRPC_BYTES:
        yield Finding(
            "message-small",
            f"answers of more than {config.max_message_bytes:,} bytes are not taken: long lists fail",
            "raise the setting max_message_bytes: 104857600, say",
            subject="max_message_bytes",
        )
        return  # it holds for questions too
    if config.max_message_bytes < 2 * _PADDING:
        return
    try:
        service.forward(_WRITE, _varint(_FIELD << 3 | 2) + _varint(_PADDING) + bytes(_PADDING))
    except Refusal as refusal:
        said = _LARGER.search(refusal.text)
        if refusal.code == RESOURCE_EXHAUSTED:
            yield Finding(
                "message-small",
                f"the server takes no message of more than {int(said[1]) if said else _GRPC_BYTES:,} bytes:"
                " steps with longer values cannot be recorded",
                "keep what is long in artifacts; `zen-mlmd serve --max-message-bytes` takes more",
                subject=config.location,
            )


def _varint(number: int) -> bytes:
    # https://protobuf.dev/programming-guides/encoding/#varints
    found = bytearray()
    while number > 0x7F:  # noqa: PLR2004 - seven bits a byte
        found.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes((*found, number))


def _shake(address: tuple[str, int], name: str, timeout_s: float, context: ssl.SSLContext) -> ssl.SSLSocket:
    context.set_alpn_protocols(["h2"])
    stream = connected(*address, timeout_s)
    try:
        return context.wrap_socket(stream, server_hostname=name)
    except BaseException:
        stream.close()
        raise
