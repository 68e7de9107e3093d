"""The kubeflow flavor: an MLMD gRPC server, Kubeflow's `metadata-grpc-service` or any other."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import SplitResult

from ml_metadata.proto import metadata_store_pb2 as mlmd
from pydantic import Field, SecretStr, field_validator, model_validator
from typing_extensions import Self

from zen_mlmd.errors import ConfigError
from zen_mlmd.flavors.base import StoreConfig, tls_implied
from zen_mlmd.service.finding import Finding, Thresholds
from zen_mlmd.service.remote import Endpoint, RemoteService


class KubeflowConfig(StoreConfig):
    """An MLMD gRPC server.

    Attributes:
        tls: Encrypt and check the server's certificate; without `ca`, by the system's authorities.
        ca, certificate, key: PEM files, or what such hold; `certificate` and `key` are for mutual TLS.
        token: Sent as `authorization: Bearer ...`; only over TLS, or to this machine.
        metadata: Further request metadata (Istio's identity headers, say).
        max_message_bytes: Longest message; gRPC's own default of 4 MB is too small for large runs.
        timeout_s: For each call.
    """

    flavor: ClassVar[str] = "kubeflow"
    schemes: ClassVar[tuple[str, ...]] = ("kubeflow", "grpc", "grpcs")

    host: str = "127.0.0.1"
    port: int = Field(default=8080, ge=1, le=65535)
    tls: bool = False
    ca: str = ""
    certificate: str = ""
    key: SecretStr = SecretStr("")
    token: SecretStr = SecretStr("")
    metadata: dict[str, SecretStr] = Field(default_factory=dict)
    max_message_bytes: int = Field(default=100 * 2**20, gt=0)
    timeout_s: float = Field(default=60.0, gt=0, allow_inf_nan=False)

    @field_validator("host")
    @classmethod
    def _host(cls, host: str) -> str:
        if not host or any(char.isspace() or char in "/\0" for char in host):
            raise ValueError("must be a host's name or address")
        return host

    @field_validator("token")
    @classmethod
    def _token(cls, token: SecretStr) -> SecretStr:
        if not _VALUE.fullmatch(token.get_secret_value()):
            raise ValueError("must be printable ASCII")
        return token

    @field_validator("metadata")
    @classmethod
    def _metadata(cls, metadata: dict[str, SecretStr]) -> dict[str, SecretStr]:
        for name, value in metadata.items():
            lower = name.lower()
            if not _NAME.fullmatch(lower) or lower.startswith("grpc-") or lower.endswith("-bin"):
                raise ValueError(
                    "names must be letters, digits and -_., not begin with grpc- or end with -bin"
                )
            if not _VALUE.fullmatch(value.get_secret_value()):
                raise ValueError("values must be printable ASCII")
        return metadata

    @model_validator(mode="before")
    @classmethod
    def _tls(cls, fields: Any) -> Any:
        return tls_implied(fields, "ca", "certificate", "key")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if bool(self.certificate) != bool(self.key):
            raise ValueError("certificate and key go together")
        if self.token.get_secret_value() and not self.tls and self.host not in _LOOPBACK:
            raise ValueError("a token is only sent over TLS: set tls")
        return self

    @property
    def parallel_calls(self) -> int:
        """See `StoreConfig`."""
        return 32

    @property
    def location(self) -> str:
        """`host:port`, an IPv6 address in brackets."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @classmethod
    def from_url(cls, url: SplitResult, options: dict[str, str]) -> KubeflowConfig:
        """`kubeflow://host:port?tls=true&ca=...`; `grpcs://` is with TLS. Secrets have no place in it."""
        if url.username is not None or url.path.strip("/"):
            raise ConfigError(
                "a kubeflow URL is a host and a port", hint="kubeflow://host:8080?tls=true&ca=ca.pem"
            )
        fields: dict[str, object] = {"tls": True} if url.scheme == "grpcs" else {}
        fields.update(options)
        if url.hostname:
            fields["host"] = url.hostname
        if url.port is not None:
            fields["port"] = url.port
        return cls.checked(**fields)

    def connection_config(self) -> mlmd.MetadataStoreClientConfig:
        """Return MLMD's `MetadataStoreClientConfig`; MLMD's client has no place for request metadata."""
        config = mlmd.MetadataStoreClientConfig(host=self.host, port=self.port)
        config.channel_arguments.max_receive_message_length = self.max_message_bytes
        config.client_timeout_sec = self.timeout_s
        if self.tls:
            config.ssl_config.SetInParent()
            for name, path in (
                ("custom_ca", self.ca),
                ("server_cert", self.certificate),
                ("client_key", self.key.get_secret_value()),
            ):
                if path:
                    setattr(config.ssl_config, name, self._read(path).decode("ascii", "replace"))
        return config

    def open_service(self, *, create: bool = False, upgrade: bool = False) -> RemoteService:  # noqa: ARG002
        """Connect, and ask one question.

        Raises:
            ConnectionFailedError: One of its kinds, each with a remedy.
        """
        metadata = {name: value.get_secret_value() for name, value in self.metadata.items()}
        if self.token.get_secret_value():
            metadata["authorization"] = f"Bearer {self.token.get_secret_value()}"
        service = RemoteService(
            Endpoint(
                host=self.host,
                port=self.port,
                tls=self.tls,
                ca=self._read(self.ca) or None,
                certificate=self._read(self.certificate) or None,
                key=self._read(self.key.get_secret_value()) or None,
                metadata=metadata,
                max_message_bytes=self.max_message_bytes,
                timeout_s=self.timeout_s,
            )
        )
        service.open()
        return service

    def examine_way(self, thresholds: Thresholds) -> list[Finding]:
        """See `StoreConfig.examine_way`; the server is asked some small questions, and one of 5 MB."""
        from zen_mlmd.flavors.kubeflow_examination import examine_server

        with self.open_service() as service:
            return examine_server(self, service, thresholds)

    def _read(self, path: str) -> bytes:
        if not path:
            return b""
        if path.startswith("-----BEGIN "):
            return path.encode("ascii", "replace")
        try:
            return Path(path).expanduser().read_bytes()
        except OSError as error:
            raise ConfigError(
                f"{self.location}: cannot read {path}: {error.strerror}", hint="give the path of a PEM file"
            ) from None


# What gRPC takes as request metadata; https://grpc.github.io/grpc/core/md_doc__p_r_o_t_o_c_o_l-_h_t_t_p2.html
_NAME = re.compile(r"[0-9a-z_.-]+")
_VALUE = re.compile(r"[ -~]*")

_LOOPBACK = ("127.0.0.1", "localhost", "::1")
