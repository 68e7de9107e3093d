"""Who calls, and whether they may."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from zen_mlmd.server.tokens import TokenFile
from zen_mlmd.service import base
from zen_mlmd.service.base import Refusal

_BEARER = "bearer "


class Denied(Refusal):
    """The call is not admitted.

    Attributes:
        client: Who called, as far as it is known.
    """

    def __init__(self, code: int, text: str, client: str) -> None:
        super().__init__(code, text)
        self.client = client


class Access:
    """Decides on each call before it is looked into.

    Args:
        tokens: Callers must send one of these; None asks for none.
        read_only: Refuse every write, whoever asks.
    """

    def __init__(self, tokens: TokenFile | None, *, read_only: bool) -> None:
        self._tokens = tokens
        self._read_only = read_only

    def admit(
        self,
        method: str,
        metadata: Iterable[tuple[str, str | bytes]],
        certificate: Mapping[str, Iterable[bytes]],
    ) -> str:
        """Return who calls, for the log: `token:ci`, `cert:ana`, or nothing.

        Args:
            method: The RPC's name.
            metadata: The call's request metadata.
            certificate: gRPC's authentication context, which holds the client certificate's names.

        Raises:
            Denied: It is not admitted.
        """
        client = _certificate_name(certificate)
        writes = not method.startswith("Get")
        if self._tokens is not None:
            token = self._tokens.find(_bearer(metadata))
            if token is None:
                raise Denied(base.UNAUTHENTICATED, "a valid bearer token is needed", client)
            client = f"{client} token:{token.name}".lstrip()
            if writes and token.scope != "write":
                raise Denied(base.PERMISSION_DENIED, f"the token of {token.name} is for reading only", client)
        if writes and self._read_only:
            raise Denied(base.PERMISSION_DENIED, "this server is for reading only", client)
        return client


def _bearer(metadata: Iterable[tuple[str, str | bytes]]) -> str:
    for key, value in metadata:
        if key == "authorization" and isinstance(value, str) and value[: len(_BEARER)].lower() == _BEARER:
            return value[len(_BEARER) :].strip()
    return ""


_NAMES: Final = ("x509_common_name", "x509_subject_alternative_name")


def _certificate_name(certificate: Mapping[str, Iterable[bytes]]) -> str:
    for key in _NAMES:
        for name in filter(None, certificate.get(key, ())):
            return f"cert:{name.decode('utf-8', 'replace')[:100]}"
    return ""
