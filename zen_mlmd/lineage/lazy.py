"""Records and events of a graph, read when they are first looked at."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias, TypeVar, overload

from zen_mlmd.dialects import base
from zen_mlmd.model import Event

ValueT = TypeVar("ValueT")

Met: TypeAlias = tuple[int, int, int] | tuple[int, int, int, bytes]
"""An event that a walk met: its artifact, its step, its type, and its message if that was read."""


class Lazy(Mapping[int, ValueT]):
    """Records by id, read all at once when the first is looked at; ids that the store lost are left out."""

    def __init__(self, ids: Iterable[int], read: Callable[[Iterable[int]], dict[int, ValueT]]) -> None:
        self._ids = list(ids)
        self._read = read
        self._values: dict[int, ValueT] | None = None

    def _loaded(self) -> dict[int, ValueT]:
        if self._values is None:
            found = self._read(self._ids)
            self._values = {key: found[key] for key in self._ids if key in found}
        return self._values

    def __getitem__(self, key: int) -> ValueT:
        return self._loaded()[key]

    def __iter__(self) -> Iterator[int]:
        return iter(self._loaded())

    def __len__(self) -> int:
        return len(self._loaded())

    def __repr__(self) -> str:
        return f"<{len(self._ids)} records>"

    def __reduce__(self) -> tuple[Any, ...]:
        # What is pickled cannot ask the store any more, so it takes all along.
        return dict, (self._loaded(),)


class LazyEvents(Sequence[Event]):
    """Events, decoded when looked at; those whose messages were not read yet are read then.

    Args:
        met: The events.
        read: Gives the messages of all events of some steps.
    """

    def __init__(self, met: Sequence[Met], read: Callable[[Sequence[int]], Iterable[Any]]) -> None:
        self._met = met
        self._read = read
        self._events: tuple[Event, ...] | None = None

    def _decoded(self) -> tuple[Event, ...]:
        if self._events is None:
            unread = [each for each in self._met if len(each) == _UNREAD]
            read = self._read(list(dict.fromkeys(each[1] for each in unread))) if unread else ()
            found = {(each.artifact_id, each.execution_id, each.type): each for each in read}
            self._events = tuple(_event(each, found) for each in self._met)
        return self._events

    @overload
    def __getitem__(self, index: int) -> Event: ...

    @overload
    def __getitem__(self, index: slice) -> tuple[Event, ...]: ...

    def __getitem__(self, index: int | slice) -> Event | tuple[Event, ...]:
        return self._decoded()[index]

    def __len__(self) -> int:
        return len(self._met)

    def __repr__(self) -> str:
        return f"<{len(self._met)} events>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, LazyEvents | tuple) and self._decoded() == tuple(other)

    __hash__ = None  # type: ignore[assignment]

    def __reduce__(self) -> tuple[Any, ...]:
        return tuple, (self._decoded(),)


_UNREAD = 3
"""Values of an event whose message was not read."""


def _event(met: Met, found: Mapping[tuple[Any, ...], Any]) -> Event:
    artifact, step, number, *data = met
    if data:
        return base.event_of(data[0])
    message = found.get(met)
    return base.lost_event(artifact, step, number) if message is None else base.event(message)
