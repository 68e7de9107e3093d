"""The store behind a worker: opened when it can be, asked one call for each thread."""

from __future__ import annotations

import threading
import time
from typing import Final

from ml_metadata.proto import metadata_store_service_pb2 as rpc

from zen_mlmd.errors import (
    ConnectionFailedError,
    ConnectionLostError,
    HostNotFoundError,
    LockTimeoutError,
    RejectedRequestError,
    UnreachableError,
    ZenMlmdError,
)
from zen_mlmd.flavors.base import StoreConfig
from zen_mlmd.service import base
from zen_mlmd.service.base import MetadataService, Refusal

AWAY: Final = (UnreachableError, HostNotFoundError, ConnectionLostError)
"""What passes by itself, so that a server waits for it."""

_PAUSE_S = 1.0
"""After a store was found away, calls are answered for so long without another look."""

_AWAY = "the store behind this server is away"
_BUSY = "the store behind this server is kept by another writer"


class Backend:
    """One store; safe over threads.

    Args:
        config: The store.
        create: Passed to `open_service`.
        upgrade: Passed to `open_service`.

    Attributes:
        problem: Why the store was away when it was last asked; empty if it answered. Names hosts, no secret.
    """

    def __init__(self, config: StoreConfig, *, create: bool = False, upgrade: bool = False) -> None:
        self._config = config
        self._create = create
        self._upgrade = upgrade
        self._service: MetadataService | None = None
        self._lock = threading.Lock()
        self._away_until = 0.0
        self.problem = ""

    def open(self) -> None:
        """Open the store now.

        Raises:
            ZenMlmdError: It cannot be opened; one of `AWAY` may pass by itself.
        """
        self._opened()

    def close(self) -> None:
        """Give the store's connection back."""
        with self._lock:
            if self._service is not None:
                self._service.close()

    def forward(self, method: str, data: bytes) -> bytes:
        """Return the store's answer to a request.

        Raises:
            Refusal: With the code and the words for the client.
        """
        if time.monotonic() < self._away_until:
            raise Refusal(base.UNAVAILABLE, _AWAY)
        try:
            answer = self._opened().forward(method, data)
        except LockTimeoutError:
            raise Refusal(base.ABORTED, _BUSY) from None
        except RejectedRequestError as error:
            raise Refusal(base.INVALID_ARGUMENT, error.message) from None
        except ConnectionFailedError as error:
            self.problem = f"{type(error).__name__}: {error.message}"
            if isinstance(error, ConnectionLostError):  # perhaps only that connection: the next call tells
                if method.startswith("Get"):
                    raise Refusal(base.UNAVAILABLE, _AWAY) from None
                raise Refusal(base.INTERNAL, base.LOST_BEHIND) from None
            self._away_until = time.monotonic() + _PAUSE_S
            raise Refusal(base.UNAVAILABLE, _AWAY) from None
        except ZenMlmdError as error:  # of opening it: a file of its settings is gone for a while, say
            self.problem = f"{type(error).__name__}: {error.message}"
            raise Refusal(base.UNAVAILABLE, _AWAY) from None
        self.problem = ""
        return answer

    def _opened(self) -> MetadataService:
        with self._lock:
            if self._service is None:
                self._service = self._config.open_service(create=self._create, upgrade=self._upgrade)
                self.problem = ""
            return self._service

    def is_up(self) -> bool:
        """Ask the store one small question."""
        try:
            self.forward("GetContextTypes", _QUESTION)
        except Refusal as refusal:
            # Whatever else it says, it says something.
            return refusal.code not in (base.UNAVAILABLE, base.ABORTED)
        return True


_QUESTION = rpc.GetContextTypesRequest().SerializeToString()
