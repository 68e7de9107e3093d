"""The kubeflow flavor: an MLMD gRPC server, Kubeflow's `metadata-grpc-service` or any other."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import SplitResult

from ml_metadata.proto import metadata_store_pb2 as mlmd
from pydantic import Field, SecretStr, field_validator, model_validator
from typing_extensions import Self

from zen_mlmd.errors import ConfigError, ConnectionFailedError, UsageError
from zen_mlmd.flavors.base import StoreConfig, tls_implied
from zen_mlmd.flavors.kubeflow_service import MetadataServer, answering
from zen_mlmd.flavors.lifecycle import Progress, State, Status, asked
from zen_mlmd.service.finding import Finding, Thresholds
from zen_mlmd.service.remote import Endpoint, RemoteService


class KubeflowConfig(StoreConfig):
    """An MLMD gRPC server: at a host and port, or a Service of a Kubernetes cluster.

    Without a host it is the Service. A pod reaches it by what Kubeflow tells it (METADATA_GRPC_SERVICE_HOST,
    METADATA_GRPC_SERVICE_PORT), or by the Service's name; elsewhere `up` opens a port-forward. A port and
    nothing else is one of this machine.

    Attributes:
        host, port: Of the server; the port is the Service's if there is no host.
        namespace, service: The Service's.
        context, kubeconfig: Of the cluster; by default those that kubectl would use.
        local_port: Where the forward listens on 127.0.0.1; by default any that is free.
        tls: Encrypt and check the server's certificate; without `ca`, by the system's authorities.
        ca, certificate, key: PEM files, or what such hold; `certificate` and `key` are for mutual TLS.
        token: Sent as `authorization: Bearer ...`; only over TLS, or to this machine.
        metadata: Further request metadata (Istio's identity headers, say).
        max_message_bytes: Longest message; gRPC's own default of 4 MB is too small for large runs.
        timeout_s: For each call.
    """

    flavor: ClassVar[str] = "kubeflow"
    schemes: ClassVar[tuple[str, ...]] = ("kubeflow", "grpc", "grpcs")

    host: str = ""
    port: int = Field(default=8080, ge=1, le=65535)
    namespace: str = "kubeflow"
    service: str = "metadata-grpc-service"
    context: str = ""
    kubeconfig: str = ""
    local_port: int = Field(default=0, ge=0, le=65535)
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
        if any(char.isspace() or char in "/\0" for char in host):
            raise ValueError("must be a host's name or address")
        return host

    @field_validator("namespace", "service")
    @classmethod
    def _named(cls, name: str) -> str:
        if not _DNS_LABEL.fullmatch(name):
            raise ValueError("must be a name of Kubernetes: small letters, digits and -, at most 63")
        return name

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
    def _where(cls, fields: Any) -> Any:
        if not isinstance(fields, dict):
            return fields
        said = [name for name in _OF_A_CLUSTER if fields.get(name, "") not in ("", cls._usual(name))]
        if fields.get("host") and said:
            raise ValueError(f"either a host or a Service of a cluster, and {', '.join(said)} given")
        if "port" in fields and "host" not in fields and not said:
            return {**fields, "host": "127.0.0.1"}
        return fields

    @classmethod
    def _usual(cls, name: str) -> Any:
        return cls.model_fields[name].default

    @model_validator(mode="before")
    @classmethod
    def _tls(cls, fields: Any) -> Any:
        return tls_implied(fields, "ca", "certificate", "key")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if bool(self.certificate) != bool(self.key):
            raise ValueError("certificate and key go together")
        if self.host and not self._may_send_token(self.host):
            raise ValueError("a token is only sent over TLS: set tls")
        return self

    @property
    def parallel_calls(self) -> int:
        """See `StoreConfig`."""
        return 32

    @property
    def location(self) -> str:
        """`host:port`, an IPv6 address in brackets; of a Service its name, `service.namespace:port`."""
        if not self.host:
            return self.server.name
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def server(self) -> MetadataServer:
        """The Service that the settings name if they have no host."""
        return MetadataServer(
            namespace=self.namespace,
            service=self.service,
            port=self.port,
            context=self.context,
            kubeconfig=self.kubeconfig,
            local_port=self.local_port,
            timeout_s=min(self.timeout_s, _CALL_S),
            is_default=all(
                getattr(self, name) == self._usual(name) for name in (*_OF_A_CLUSTER[:-1], "port")
            ),
        )

    @property
    def server_name(self) -> str:
        """What the server's certificate is to be for: the host, or the Service, also through a forward."""
        if self.host:
            return self.host
        return self.address()[0] if self.server.is_near else self.server.host

    def address(self) -> tuple[str, int]:
        """Return the host and port that clients connect to from here; nothing is asked.

        Raises:
            ForwardError: It takes a forward, and none stands.
            ConfigError: No cluster is known here, or a token would go over the network in clear.
        """
        if self.host:
            return self.host, self.port
        host, port = self.server.address()
        if not self._may_send_token(host):
            raise ConfigError(f"{self.location}: a token is only sent over TLS", hint="set tls")
        return host, port

    @classmethod
    def from_url(cls, url: SplitResult, options: dict[str, str]) -> KubeflowConfig:
        """`kubeflow://host:port?tls=true&ca=...`; `grpcs://` is with TLS. Secrets have no place in it.

        Without a host it is a Service: `kubeflow://?namespace=kubeflow&context=prod`.
        """
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
        host, port = self.address()
        config = mlmd.MetadataStoreClientConfig(host=host, port=port)
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
        return self._open(self.timeout_s)

    def _open(self, timeout_s: float) -> RemoteService:
        host, port = self.address()
        metadata = {name: value.get_secret_value() for name, value in self.metadata.items()}
        if self.token.get_secret_value():
            metadata["authorization"] = f"Bearer {self.token.get_secret_value()}"
        service = RemoteService(
            Endpoint(
                host=host,
                port=port,
                tls=self.tls,
                ca=self._read(self.ca) or None,
                certificate=self._read(self.certificate) or None,
                key=self._read(self.key.get_secret_value()) or None,
                metadata=metadata,
                max_message_bytes=self.max_message_bytes,
                timeout_s=timeout_s,
                server_name=self.server_name if self.tls else "",
            )
        )
        try:
            service.open()
        except ConnectionFailedError as error:
            service.close()
            raise (error if self.host else self.server.explained(error)) from None
        return service

    # -- what is brought up and taken down, see `Lifecycle` ------------------------------------------

    def up(self, name: str, progress: Progress) -> Status:
        """Open a forward if it takes one, and return once the server answers."""
        return self.server.up(name, self._ask, progress) if not self.host else answering(self.status(name))

    def down(self, name: str, progress: Progress) -> Status:
        """Close the forward."""
        self._needs_service()
        return self.server.down(name, progress)

    def status(self, name: str) -> Status:
        """Ask the server how it is."""
        if not self.host:
            return self.server.status(name, self._ask)
        is_up, answer = self._ask()
        state: State = "up" if is_up else "failing"
        what = f"server {self.location}"
        return Status(name=name, state=state, what=what, address=self.location, answer=answer)

    def logs(self, name: str, *, tail: int | None = None, follow: bool = False) -> Iterator[str]:  # noqa: ARG002
        """Return what happened to the forward."""
        self._needs_service()
        return self.server.logs(tail=tail, follow=follow)

    def _ask(self) -> tuple[bool, str]:
        return asked(lambda: self._open(min(self.timeout_s, _CALL_S)))

    def _needs_service(self) -> None:
        if self.host:
            raise UsageError(
                f"{self.location}: this server is named by its host: nothing was opened for it",
                hint="a kubeflow store without a host is reached through a forward",
            )

    def _may_send_token(self, host: str) -> bool:
        return self.tls or host in _LOOPBACK or not self.token.get_secret_value()

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


_OF_A_CLUSTER = ("namespace", "service", "context", "kubeconfig", "local_port")
_DNS_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")

_CALL_S = 10.0
"""For each call of a cluster's API server, and for a question how the server is."""

# What gRPC takes as request metadata; https://grpc.github.io/grpc/core/md_doc__p_r_o_t_o_c_o_l-_h_t_t_p2.html
_NAME = re.compile(r"[0-9a-z_.-]+")
_VALUE = re.compile(r"[ -~]*")

_LOOPBACK = ("127.0.0.1", "localhost", "::1")
