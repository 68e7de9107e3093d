"""Stores that are brought up and taken down: what a flavor's config offers for it, and how it is asked.

A flavor takes part by having the four methods of `Lifecycle`. None is called by opening a store.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal, Protocol, TypeAlias, runtime_checkable

from ml_metadata.proto import metadata_store_service_pb2 as rpc

from zen_mlmd.errors import UsageError, ZenMlmdError
from zen_mlmd.flavors.base import StoreConfig
from zen_mlmd.service.base import MetadataService

State: TypeAlias = Literal["up", "failing", "broken", "down"]

Progress: TypeAlias = Callable[[str], object]
"""Told in one line what is done next."""


@dataclass(frozen=True, slots=True)
class Status:
    """How a store is, as it was found just now.

    Attributes:
        name: The store's.
        state: `up`: it answered a question. `failing`: what is needed is there, but it does not answer.
            `broken`: what was brought up is gone, or only half there. `down`: it was not brought up.
        what: What the store is: a service of a cluster, say.
        address: `host:port` where clients reach it from here; empty if they cannot.
        answer: What the store answered when it was asked, or why it did not.
        pod: The pod that answers, if it is known.
        since: Since when it is up, if that is known.
        restarts: How often the way to it broke and was made anew.
        remedy: What to do if it is not up.
    """

    name: str
    state: State
    what: str
    address: str = ""
    answer: str = ""
    pod: str = ""
    since: datetime | None = None
    restarts: int = 0
    remedy: str = ""

    @property
    def is_up(self) -> bool:
        """Whether it answered."""
        return self.state == "up"


@runtime_checkable
class Lifecycle(Protocol):
    """What a flavor's config offers whose store can be brought up and taken down.

    `name` is that of the store, under which what belongs to it is kept and found again.
    """

    def up(self, name: str, progress: Progress) -> Status:
        """Bring the store up, and return once it answers; one that is up is left as it is.

        Raises:
            ConnectionFailedError: It cannot be brought up; nothing is left behind that was not there.
        """

    def down(self, name: str, progress: Progress) -> Status:
        """Take the store down, without its data; one that is down is left as it is."""

    def status(self, name: str) -> Status:
        """Find out how the store is, by asking it; what is wrong is told, and not raised."""

    def logs(self, name: str, *, tail: int | None = None, follow: bool = False) -> Iterator[str]:
        """Return what happened, a line at a time, the oldest first.

        Args:
            name: The store's.
            tail: How many of the last lines; None for all.
            follow: Go on with what happens, until the iterator is closed.
        """


@runtime_checkable
class Purging(Lifecycle, Protocol):
    """What a flavor's config offers, besides, that brings up the data, too."""

    def purge(self, name: str, progress: Progress) -> Status:
        """Take the store down, and delete its data for ever; nothing that `up` did not make is touched."""


def is_brought_up(config: StoreConfig) -> bool:
    """Tell whether a store is one that is brought up and taken down."""
    return isinstance(config, Lifecycle)


def lifecycle_of(config: StoreConfig) -> Lifecycle:
    """Return what brings a store up and takes it down.

    Raises:
        UsageError: Nothing does: it is a file, say, or a database that others run.
    """
    if isinstance(config, Lifecycle):
        return config
    raise UsageError(
        f"a {config.flavor} store needs no up: it is there, or others run it",
        hint="open it; `zen-mlmd metadata-store flavor list` has the flavors that are brought up",
    )


def up(config: StoreConfig, name: str = "", progress: Progress = lambda _: None) -> Status:
    """Bring a store up, and return once it answers; one that is up is left as it is.

    Args:
        config: Its settings.
        name: The store's.
        progress: Told in one line what is done next.

    Raises:
        UsageError: Such a store is not brought up.
        ConnectionFailedError: It cannot be brought up; nothing is left behind that was not there.
    """
    return lifecycle_of(config).up(name, progress)


def down(config: StoreConfig, name: str = "", progress: Progress = lambda _: None) -> Status:
    """Take a store down, without its data; one that is down is left as it is. See `up`."""
    return lifecycle_of(config).down(name, progress)


def purge(config: StoreConfig, name: str = "", progress: Progress = lambda _: None) -> Status:
    """Take a store down, and delete its data for ever. See `up`.

    Raises:
        UsageError: It is not `up` that makes the data of such a store.
        ConnectionFailedError: Something is left; the message says what, and why.
    """
    return purging(config).purge(name, progress)


def purging(config: StoreConfig) -> Purging:
    """Return what takes a store away with its data.

    Raises:
        UsageError: Nothing does.
    """
    if isinstance(config, Purging):
        return config
    raise UsageError(
        f"a {config.flavor} store's data are not `up`'s to delete",
        hint="`down` without --purge takes it down",
    )


def status(config: StoreConfig, name: str = "") -> Status:
    """Find out how a store is, by asking it; of any flavor. Nothing is made, and nothing raised."""
    if isinstance(config, Lifecycle):
        return config.status(name)
    if "read_only" in type(config).model_fields:
        config = config.model_copy(update={"read_only": True})
    answered, answer = asked(config.open_service)
    return Status(
        name=name,
        state="up" if answered else "failing",
        what=f"{config.flavor} store {config.location}",
        answer=answer,
        remedy="" if answered else "zen-mlmd doctor finds out more",
    )


def logs(
    config: StoreConfig, name: str = "", *, tail: int | None = None, follow: bool = False
) -> Iterator[str]:
    """Return what happened to a store, a line at a time, the oldest first.

    Args:
        config: Its settings.
        name: The store's.
        tail: How many of the last lines; None for all.
        follow: Go on with what happens, until the iterator is closed.

    Raises:
        UsageError: Such a store is not brought up.
    """
    return lifecycle_of(config).logs(name, tail=tail, follow=follow)


def asked(open_service: Callable[[], MetadataService]) -> tuple[bool, str]:
    """Ask a store one small question; return whether it answered, and the answer, or why there was none."""
    began = time.monotonic()
    try:
        with open_service() as service:
            found = service.call("GetContextTypes", rpc.GetContextTypesRequest())
    except ZenMlmdError as error:
        return False, error.message
    took_ms = (time.monotonic() - began) * _MILLI
    return True, f"it knows {len(found.context_types)} types of context, said in {took_ms:.0f} ms"


_MILLI: Final = 1000
