"""What all views have in common: a record, and the loader to ask more of."""

from __future__ import annotations

from typing import Generic, NoReturn, Protocol, TypeVar

from zen_mlmd.errors import UsageError
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

    def __reduce__(self) -> NoReturn:
        raise UsageError(
            f"{type(self).__name__} cannot be pickled: a view asks an open store",
            hint="pickle its .record or .to_dict(), or its id and ask the store again there",
        )

    def _key(self) -> tuple[str, int, int]:
        return type(self).__name__, self.id, id(self._loader)

    @property
    def origin(self) -> str:
        """Which store it was read from, without secrets: ids are a store's own."""
        return self._loader.origin

    @property
    def id(self) -> int:
        """Its id in the store."""
        return self.record.id

    @property
    def name(self) -> str:
        """Its name; most artifacts have none."""
        return self.record.name
