"""The kubernetes flavor: a MySQL that is deployed into a cluster, and opened as the mysql flavor opens it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, ClassVar, Final
from urllib.parse import SplitResult

from ml_metadata.proto import metadata_store_pb2 as mlmd
from pydantic import Field, field_validator, model_validator
from typing_extensions import Self

from zen_mlmd.cluster import Cluster, connect
from zen_mlmd.errors import ConfigError, LoginPluginError
from zen_mlmd.flavors.base import SQL_CALLS, StoreConfig
from zen_mlmd.flavors.kubernetes_objects import LONGEST_DEPLOYMENT, Workload, quantity
from zen_mlmd.flavors.lifecycle import Progress, Status
from zen_mlmd.flavors.mysql import MysqlConfig
from zen_mlmd.service.base import MetadataService
from zen_mlmd.service.finding import Finding, Thresholds

if TYPE_CHECKING:
    from zen_mlmd.service.sql.database import Database

_NAME: Final = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")
_LONGEST_NAMESPACE: Final = 63


class KubernetesConfig(StoreConfig):
    """A MySQL in a Kubernetes cluster, which `zen-mlmd metadata-store up` deploys there.

    Every object's name begins with `deployment`, so that several live side by side, in one namespace too.

    Attributes:
        deployment: What the objects' names begin with.
        namespace: Where they are; by default that of the kubeconfig's context, or the pod's own. It is made
            if it is not there.
        context, kubeconfig: Which cluster; by default as kubectl has it, and in a pod its own.
        image: MySQL's, or MariaDB's, which ml-metadata's own client can log in to.
        storage, storage_class: How large the data may get, and on which kind of disk (the cluster's default).
        cpu, memory: What is set aside for the container.
        cpu_limit, memory_limit: What it may have at most; empty is no limit.
        database, user: Of MySQL; a password is made by `up`, and only in the cluster's Secret.
        local_port: Where it is reached on this machine outside the cluster; 0 is any that is free.
        ready_timeout_s: How long the pod may take until it answers.
        request_timeout_s: How long the cluster's API server may take for an answer.
        read_only, timeout_s, connect_timeout_s: As for a mysql store.
    """

    flavor: ClassVar[str] = "kubernetes"
    schemes: ClassVar[tuple[str, ...]] = ("kubernetes",)

    deployment: str = "zen-mlmd"
    namespace: str = ""
    context: str = ""
    kubeconfig: str = ""
    image: str = Field(default="mysql:8.4", min_length=1)
    storage: str = "10Gi"
    storage_class: str = ""
    cpu: str = "250m"
    memory: str = "512Mi"
    cpu_limit: str = ""
    memory_limit: str = "2Gi"
    database: str = "metadb"
    user: str = "zen"
    local_port: int = Field(default=0, ge=0, le=65535)
    ready_timeout_s: float = Field(default=600.0, gt=0, allow_inf_nan=False)
    request_timeout_s: float = Field(default=10.0, gt=0, allow_inf_nan=False)
    connect_timeout_s: float = Field(default=5.0, gt=0, allow_inf_nan=False)
    timeout_s: float = Field(default=300.0, gt=0, allow_inf_nan=False)
    read_only: bool = False

    @field_validator("deployment")
    @classmethod
    def _deployment(cls, name: str) -> str:
        if not _NAME.fullmatch(name) or len(name) > LONGEST_DEPLOYMENT:
            raise ValueError(
                "must be small letters, digits and hyphens, begin with a letter, not end with a hyphen, and"
                f" have at most {LONGEST_DEPLOYMENT} characters"
            )
        return name

    @field_validator("namespace", "storage_class")
    @classmethod
    def _namespace(cls, name: str) -> str:
        if name and (
            not re.fullmatch(r"[a-z0-9]([-.a-z0-9]*[a-z0-9])?", name) or len(name) > _LONGEST_NAMESPACE
        ):
            raise ValueError("must be small letters, digits and hyphens, 63 at most")
        return name

    @field_validator("storage", "cpu", "memory", "cpu_limit", "memory_limit")
    @classmethod
    def _quantity(cls, text: str) -> str:
        if text:
            quantity(text)
        return text

    @field_validator("user")
    @classmethod
    def _user(cls, user: str) -> str:
        # MySQL's image makes root by itself, and refuses to make it twice.
        if not re.fullmatch(r"[A-Za-z0-9_-]{1,32}", user) or user == "root":
            raise ValueError("must be letters, digits, _ and -, 32 at most, and not root")
        return user

    @field_validator("database")
    @classmethod
    def _database(cls, name: str) -> str:
        if not re.fullmatch(r"[A-Za-z0-9_]{1,64}", name) or name.lower() in _SYSTEM:
            raise ValueError("must be letters, digits and _, 64 at most, and none of MySQL's own")
        return name

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if not (self.storage and self.cpu and self.memory):
            raise ValueError("storage, cpu and memory cannot be empty")
        for name in ("cpu", "memory"):
            limit = getattr(self, f"{name}_limit")
            if limit and quantity(limit) < quantity(getattr(self, name)):
                raise ValueError(f"{name}_limit is less than {name}")
        return self

    @property
    def parallel_calls(self) -> int:
        """See `StoreConfig`."""
        return SQL_CALLS

    @property
    def location(self) -> str:
        """`kubernetes://namespace/deployment`; the namespace may be empty."""
        return f"kubernetes://{self.namespace}/{self.deployment}"

    @classmethod
    def from_url(cls, url: SplitResult, options: dict[str, str]) -> KubernetesConfig:
        """`kubernetes://namespace/deployment?context=...&storage=20Gi`; both names may be left out."""
        if url.username is not None or url.port is not None:
            raise ConfigError(
                "a kubernetes URL is a namespace and a deployment", hint="kubernetes://namespace/zen-mlmd"
            )
        fields: dict[str, object] = dict(options)
        if url.hostname:
            fields["namespace"] = url.hostname
        if url.path.strip("/"):
            fields["deployment"] = url.path.strip("/")
        return cls.checked(**fields)

    def connection_config(self) -> mlmd.ConnectionConfig:
        """Return MLMD's `ConnectionConfig`, with the password in clear, if ml-metadata could log in with it.

        Raises:
            LoginPluginError: It could not: MySQL 8.4 and newer want a login that it does not speak.
            ConnectionFailedError: The cluster or the store cannot be reached.
        """
        mysql = self.mysql()
        try:
            mysql.probe_native()
        except LoginPluginError as error:
            raise LoginPluginError(
                error.message,
                hint="zen_mlmd itself can; for TFX deploy MariaDB, to which ml-metadata's client can log in:"
                " `image` mariadb:11.8, in a deployment of its own",
            ) from None
        return mysql.connection_config()

    def open_service(self, *, create: bool = False, upgrade: bool = False) -> MetadataService:
        """Open the store that `up` brought up; see `StoreConfig`."""
        return self.mysql().open_service(create=create, upgrade=upgrade)

    def open_database(self, *, create: bool = False) -> Database:
        """Return the database itself; see `StoreConfig.open_database`."""
        return self.mysql().open_database(create=create)

    def examine_way(self, thresholds: Thresholds) -> list[Finding]:
        """See `StoreConfig.examine_way`; from the cluster to the MySQL in it."""
        return self.mysql().examine_way(thresholds)

    def mysql(self) -> MysqlConfig:
        """Return the settings by which the MySQL is reached from here; its password comes from the cluster.

        Raises:
            DeploymentError: It was not brought up, or no port-forward to it is.
            ClusterUnreachableError, ClusterObjectError: The cluster does not answer, or refuses.
        """
        from zen_mlmd.flavors.kubernetes_life import mysql_of

        return mysql_of(self)

    def cluster(self) -> Cluster:
        """Return the cluster that is meant; it is not asked anything yet."""
        return connect(context=self.context, kubeconfig=self.kubeconfig, timeout_s=self.request_timeout_s)

    def workload(self, cluster: Cluster) -> Workload:
        """Return what is to stand in a cluster."""
        names = set(Workload.__dataclass_fields__) - {"namespace"}
        given = {name: getattr(self, name) for name in names}
        return Workload(namespace=self.namespace or cluster.namespace, **given)

    def up(self, name: str, progress: Progress) -> Status:
        """Deploy it, wait until it answers, and make it reachable from here; see `Lifecycle`."""
        from zen_mlmd.flavors.kubernetes_life import up

        return up(self, name, progress)

    def down(self, name: str, progress: Progress) -> Status:
        """Take it away but for the data and the password; see `Lifecycle`."""
        from zen_mlmd.flavors.kubernetes_life import down

        return down(self, name, progress, purge=False)

    def purge(self, name: str, progress: Progress) -> Status:
        """Take it away with the data; see `Lifecycle`."""
        from zen_mlmd.flavors.kubernetes_life import down

        return down(self, name, progress, purge=True)

    def status(self, name: str) -> Status:
        """Ask the cluster and the store; see `Lifecycle`."""
        from zen_mlmd.flavors.kubernetes_life import status

        return status(self, name)

    def logs(self, name: str, *, tail: int | None = None, follow: bool = False) -> Iterator[str]:  # noqa: ARG002
        """Return what the MySQL wrote; see `Lifecycle`."""
        from zen_mlmd.flavors.kubernetes_life import logs

        return logs(self, tail=tail, follow=follow)


_SYSTEM: Final = ("mysql", "sys", "information_schema", "performance_schema")
