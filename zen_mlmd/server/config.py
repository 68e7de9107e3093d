"""What an MLMD server may be told: frozen, checked when made."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator
from typing_extensions import Self

from zen_mlmd.errors import ConfigError

LogLevel = Literal["calls", "errors", "none"]


@dataclass(frozen=True, slots=True)
class Address:
    """Where a server listens; port 0 takes a free one."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach it."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"

    @classmethod
    def parse(cls, text: str) -> Address:
        """Return the address that `host:port` means; an IPv6 address stands in brackets.

        Raises:
            ValueError: It means none.
        """
        host, colon, port = text.rpartition(":")
        if host.startswith("[") and host.endswith("]"):
            host = str(ipaddress.IPv6Address(host[1:-1]))
        elif ":" in host:
            raise ValueError("an IPv6 address stands in brackets: [::1]:8080")
        if not colon or not host or not port.isascii() or not port.isdigit() or int(port) > 65535:  # noqa: PLR2004
            raise ValueError("must be host:port, as 127.0.0.1:8080")
        return cls(host, int(port))


class ServerConfig(BaseModel):
    """The settings of one MLMD server.

    Attributes:
        bind: `host:port`; port 0 takes a free one.
        workers: Processes that serve this address together. One is what an SQLite file gains from.
        tls_cert, tls_key: PEM files: the server's certificate with its chain, and its private key.
        client_ca: PEM file: clients must show a certificate of this authority (mutual TLS).
        tokens: File of `zen-mlmd token`: clients must send one of its tokens.
        read_only: Refuse every write.
        insecure: Listen to other machines without TLS or without knowing who calls.
        max_message_bytes: Longest message, either way.
        max_calls: Calls that one worker has begun or keeps waiting; more are refused at once.
        deadline_s: Longest time that a call may wait and run, where its client sets no shorter one.
        grace_s: How long a server that is told to stop lets its calls go on.
        metrics: `host:port` of Prometheus metrics and of /livez and /readyz, for probes; empty for none.
        log: One JSON line for each call, or only for each that failed, or none.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    bind: str = "127.0.0.1:8080"
    workers: int = Field(default=1, ge=1, le=64)
    tls_cert: str = ""
    tls_key: str = ""
    client_ca: str = ""
    tokens: str = ""
    read_only: bool = False
    insecure: bool = False
    max_message_bytes: int = Field(default=100 * 2**20, ge=1024, lt=2**31)
    max_calls: int = Field(default=128, ge=1, le=10_000)
    deadline_s: float = Field(default=60.0, gt=0, allow_inf_nan=False)
    grace_s: float = Field(default=20.0, ge=0, allow_inf_nan=False)
    metrics: str = ""
    log: LogLevel = "calls"

    @property
    def address(self) -> Address:
        """`bind`, taken apart."""
        return Address.parse(self.bind)

    @property
    def is_open(self) -> bool:
        """Whether other machines reach it, and anybody there could read it or call it."""
        knows_callers = bool(self.client_ca or self.tokens)
        return not self.address.is_loopback and not (self.tls_cert and knows_callers)

    @field_validator("bind", "metrics")
    @classmethod
    def _address(cls, text: str) -> str:
        if text:
            Address.parse(text)
        return text

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if bool(self.tls_cert) != bool(self.tls_key):
            raise ValueError("tls_cert and tls_key go together")
        if self.client_ca and not self.tls_cert:
            raise ValueError("client_ca needs tls_cert and tls_key")
        if not self.bind:
            raise ValueError("bind must be host:port")
        if self.is_open and not self.insecure:
            raise ValueError(
                f"{self.bind} is open to other machines: give tls_cert, tls_key and one of tokens and"
                " client_ca, or allow it with insecure (behind a mesh or a network policy, say)"
            )
        return self

    @classmethod
    def checked(cls, **fields: Any) -> Self:
        """Return a config, its faults as a `ConfigError`.

        Raises:
            ConfigError: A field is unknown or wrong, or two do not go together.
        """
        try:
            return cls(**fields)
        except ValidationError as error:
            faults = "; ".join(
                f"{'.'.join(str(part) for part in fault['loc']) or 'server'}: "
                f"{fault['msg'].removeprefix('Value error, ')}"
                for fault in error.errors(include_url=False, include_input=False, include_context=False)
            )
        # Out here, lest it keep pydantic's error, which has the values, as its context.
        raise ConfigError(f"not a server: {faults}", hint=f"its settings are: {', '.join(cls.model_fields)}")
