"""What all views have in common: a record, and the loader to ask more of."""

from __future__ import annotations

from typing import Generic, Protocol, TypeVar

from zen_mlmd.loader import Loader


class Record(Protocol):
    """What a view is of."""

    @property
    def id(self) -> int:
        """Its id in the store."""
        ...

    @property
    def name(self) -> str:
        """Its name."""
        ...


RecordT = TypeVar("RecordT", bound=Record)


class RecordView(Generic[RecordT]):
    """A record of a store, with the questions one asks of it.

    Two views are equal if they are of the same thing in the same open store.

    Attributes:
        record: What was read.
    """

    def __init__(self, record: RecordT, loader: Loader) -> None:
        self.record = record
        self._loader = loader

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and self._key() == other._key()

    def __hash__(self) -> int:
        return hash(self._key())

    def _key(self) -> tuple[str, int, int]:
        return type(self).__name__, self.id, id(self._loader)

    @property
    def id(self) -> int:
        """Its id in the store."""
        return self.record.id

    @property
    def name(self) -> str:
        """Its name; most artifacts have none."""
        return self.record.name
