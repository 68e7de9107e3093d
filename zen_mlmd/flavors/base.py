"""What every flavor of metadata store has in common."""

from __future__ import annotations

import abc
from typing import TYPE_CHECKING, Any, ClassVar, Final, TypeVar
from urllib.parse import SplitResult, unquote

from ml_metadata.proto import metadata_store_pb2 as mlmd
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from typing_extensions import Self

from zen_mlmd.errors import ConfigError, UsageError
from zen_mlmd.service.base import MetadataService
from zen_mlmd.service.finding import Finding, Thresholds

if TYPE_CHECKING:  # SQLAlchemy takes long to import
    from zen_mlmd.service.sql.database import Database

ConfigT = TypeVar("ConfigT", bound="StoreConfig")

SQL_CALLS: Final = 8
"""Calls at once to the SQL service, which keeps so many connections (`service/sql/engines.py`)."""


class StoreConfig(BaseModel, abc.ABC):
    """The settings of one metadata store: frozen, checked when made, secrets never shown.

    Attributes:
        flavor: The flavor's name.
        schemes: The URL schemes that mean this flavor.
        wait_s: How long a call waits for a store that went away, and for other writers, in seconds.
        trusted: Everyone who can write there is trusted: artifacts that are pickles are read unasked.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    flavor: ClassVar[str]
    schemes: ClassVar[tuple[str, ...]]
    wait_s: float = Field(default=20.0, ge=0, allow_inf_nan=False)
    trusted: bool = False

    @property
    def parallel_calls(self) -> int:
        """How many calls its service gains from at once; ml-metadata's core takes one at a time."""
        return 1

    @property
    @abc.abstractmethod
    def location(self) -> str:
        """Where the store is, for messages: without password or token."""

    @abc.abstractmethod
    def connection_config(self) -> mlmd.ConnectionConfig | mlmd.MetadataStoreClientConfig:
        """Return MLMD's own connection config, as `ml_metadata.MetadataStore` and TFX take it.

        It holds the password in clear, as MLMD wants it.
        """

    @abc.abstractmethod
    def open_service(self, *, create: bool = False, upgrade: bool = False) -> MetadataService:
        """Open the store.

        Args:
            create: Make a database that is not there yet, where a flavor does not do so by default.
            upgrade: Let ml-metadata migrate an older schema, in place and for ever.

        Raises:
            ConnectionFailedError: One of its kinds, each with a remedy.
        """

    def open_database(self, *, create: bool = False) -> Database:  # noqa: ARG002 - of those that are one
        """Return the database itself, for the SQL service and for what migrates and mends it.

        Nothing is asked of it yet.

        Args:
            create: Make it, or MLMD's tables in it, when it is first asked.

        Raises:
            UsageError: The store is a server that has a database of its own.
        """
        raise UsageError(
            f"{self.location}: a {self.flavor} store is no database",
            hint="name the database behind the server: mysql://user@host/metadb, say",
        )

    @property
    def is_database(self) -> bool:
        """Whether `open_database` gives one: whether it is no server that has a database of its own."""
        return type(self).open_database is not StoreConfig.open_database

    def examine_way(self, thresholds: Thresholds) -> list[Finding]:  # noqa: ARG002 - of those that measure
        """Return what is wrong with the way to the store, as far as it is no error of opening it.

        By default it is opened and closed. Nothing is changed, made or migrated by the built-in flavors.

        Args:
            thresholds: From where on something is found.

        Raises:
            ConnectionFailedError: One of its kinds, each with a remedy.
        """
        self.open_service().close()
        return []

    def mend_way(self, finding: Finding) -> None:
        """Do what the remedy of a finding of `examine_way` says, if it is mendable."""
        raise UsageError(f"{self.location}: {finding.code} cannot be mended", hint=finding.remedy)

    @classmethod
    @abc.abstractmethod
    def from_url(cls: type[ConfigT], url: SplitResult, options: dict[str, str]) -> ConfigT:
        """Return the config that a URL means; `options` is its query."""

    @classmethod
    def checked(cls, **fields: object) -> Self:
        """Return a config, its faults as a `ConfigError` that names the fields and no value.

        Raises:
            ConfigError: A field is missing, unknown or wrong.
        """
        try:
            return cls(**fields)
        except ValidationError as error:
            faults = "; ".join(
                f"{'.'.join(str(part) for part in fault['loc']) or cls.flavor}: {fault['msg']}"
                for fault in error.errors(include_url=False, include_input=False, include_context=False)
            )
        # Out here, lest it keep pydantic's error, which has the values, as its context.
        raise ConfigError(
            f"not a {cls.flavor} store: {faults}", hint=f"its settings are: {', '.join(cls.model_fields)}"
        )


def server_fields(url: SplitResult, options: dict[str, str]) -> dict[str, object]:
    """Return the settings that a database server's URL gives: `user:password@host:port/database?options`."""
    fields: dict[str, object] = dict(options)
    if url.hostname:
        fields["host"] = url.hostname
    if url.port is not None:
        fields["port"] = url.port
    if url.username is not None:
        fields["user"] = unquote(url.username)
    if url.password is not None:
        fields["password"] = unquote(url.password)
    fields["database"] = unquote(url.path.lstrip("/"))
    return fields


def tls_implied(fields: Any, *names: str) -> Any:
    """Turn `tls` on where one of its settings is given; off beside such a setting is a fault."""
    if not isinstance(fields, dict) or not any(fields.get(name) for name in names):
        return fields
    if str(fields.get("tls", True)).lower() in ("false", "0", "no", "off"):
        raise ValueError(f"tls is off, and {', '.join(name for name in names if fields.get(name))} given")
    return {**fields, "tls": True}
