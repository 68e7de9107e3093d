"""Many edges of a lineage in little memory: a graph of a million steps is three numbers an edge."""

from __future__ import annotations

import itertools
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias, overload

LineageEdge: TypeAlias = tuple[int, int, int]
"""An event's artifact, execution and type, of which there is one in a store."""

_WIDTH = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class EdgeQuery:
    """Which edges are wanted: all on the way up or down from artifacts.

    Attributes:
        artifacts: Where to begin.
        upstream: Up, to what made them, or down.
        inputs: Numbers of the types of events that lead into a step.
        outputs: Numbers of those that lead out of one.
        barred: Beginnings of names of inputs and outputs: where an event on the way has such a name,
            or may have, there is no quick way.
    """

    artifacts: Sequence[int]
    upstream: bool
    inputs: Sequence[int]
    outputs: Sequence[int]
    barred: Sequence[str] = ()


class LineageEdges(Sequence[LineageEdge]):
    """Edges in order.

    As one array, for the garbage collector looks at each tuple that is kept, again and again.

    Args:
        edges: To begin with.
    """

    def __init__(self, edges: Iterable[LineageEdge] = ()) -> None:
        self._numbers = array("q")
        self.extend(edges)

    @classmethod
    def from_bytes(cls, data: bytes) -> LineageEdges:
        """Return the edges that `to_bytes` gave, on the same machine."""
        made = cls()
        made._numbers.frombytes(data)
        return made

    def to_bytes(self) -> bytes:
        """Return the edges as bytes."""
        return self._numbers.tobytes()

    def extend(self, edges: Iterable[LineageEdge]) -> None:
        """Add edges; one that is not of three numbers, of a damaged row, is left out."""
        rows = list(edges)
        before = len(self._numbers)
        try:
            self._numbers.extend(itertools.chain.from_iterable(rows))
        except (TypeError, OverflowError):
            del self._numbers[before:]
            whole = (row for row in rows if all(type(each) is int for each in row))
            self._numbers.extend(itertools.chain.from_iterable(whole))

    def columns(self) -> tuple[array[int], array[int], array[int]]:
        """Return the artifacts, the executions and the types."""
        return self._numbers[::_WIDTH], self._numbers[1::_WIDTH], self._numbers[2::_WIDTH]

    def __len__(self) -> int:
        return len(self._numbers) // _WIDTH

    def __iter__(self) -> Iterator[LineageEdge]:
        numbers = iter(self._numbers)
        return zip(numbers, numbers, numbers, strict=True)

    @overload
    def __getitem__(self, index: int) -> LineageEdge: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[LineageEdge]: ...

    def __getitem__(self, index: int | slice) -> LineageEdge | Sequence[LineageEdge]:
        if isinstance(index, slice):
            return list(self)[index]
        place = range(len(self))[index] * _WIDTH
        artifact, execution, kind = self._numbers[place : place + _WIDTH]
        return artifact, execution, kind
