"""Lists of views: plain lists that can be turned into tables."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol, TypeVar, overload

from zen_mlmd.errors import MissingExtraError, NotFoundError
from zen_mlmd.reading.conditions import MISSING
from zen_mlmd.reading.filters import compile_filter


class View(Protocol):
    """What every view offers."""

    def to_dict(self) -> dict[str, Any]:
        """Return the view as plain values."""
        ...


ViewT = TypeVar("ViewT", bound=View)


class ViewList(Sequence[ViewT]):
    """Views in order; also a table, as dicts or as a pandas DataFrame."""

    def __init__(self, views: Iterable[ViewT]) -> None:
        self._views = list(views)

    @overload
    def __getitem__(self, index: int) -> ViewT: ...

    @overload
    def __getitem__(self, index: slice) -> ViewList[ViewT]: ...

    def __getitem__(self, index: int | slice) -> ViewT | ViewList[ViewT]:
        return ViewList(self._views[index]) if isinstance(index, slice) else self._views[index]

    def __len__(self) -> int:
        return len(self._views)

    def __iter__(self) -> Iterator[ViewT]:
        return iter(self._views)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, (ViewList, list, tuple)) and self._views == list(other)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"[{', '.join(map(repr, self._views))}]"

    def to_dicts(self) -> list[dict[str, Any]]:
        """Return each view as a dict of plain values."""
        return [view.to_dict() for view in self._views]

    def to_pandas(self) -> Any:
        """Return a DataFrame with a row for each view; nested dicts become dotted columns.

        Raises:
            MissingExtraError: pandas is not installed.
        """
        try:
            import pandas as pd
        except ImportError:
            raise MissingExtraError(
                "pandas is not installed", hint="pip install 'zen-mlmd[pandas]'"
            ) from None
        return pd.DataFrame([_flat(row) for row in self.to_dicts()])


def select(
    views: Iterable[ViewT], where: str | None, limit: int | None, names: frozenset[str]
) -> ViewList[ViewT]:
    """Return the first `limit` views that a filter matches; asks no more pages than it needs.

    Raises:
        FilterSyntaxError: The filter cannot be read.
    """
    matches = compile_filter(where, names=names).matches if where else None
    found: list[ViewT] = []
    if limit is not None and limit <= 0:
        return ViewList(found)
    for view in views:
        if matches is None or matches(lookup_in(view)):
            found.append(view)
            if limit is not None and len(found) >= limit:
                break
    return ViewList(found)


def lookup_in(view: object) -> Callable[[tuple[str, ...]], Any]:
    """Return what a filter's names mean in a view: its attributes, and the keys of their mappings.

    `properties.a.b` is the key `a.b` of the properties if there is one, else the key `b` of what lies at `a`.
    """

    def lookup(name: tuple[str, ...]) -> Any:
        value, rest = (
            getattr(view, name[0], getattr(getattr(view, "record", None), name[0], MISSING)),
            name[1:],
        )
        while rest:
            if not isinstance(value, Mapping):
                return MISSING
            if ".".join(rest) in value:
                return value[".".join(rest)]
            value, rest = value.get(rest[0], MISSING), rest[1:]
        return value

    return lookup


def not_found(what: str, name: object, known: Iterable[str]) -> NotFoundError:
    """Return an error that names what there is, nearest first."""
    import difflib

    names = list(known)
    near = difflib.get_close_matches(str(name), names, n=3)
    hint = f"did you mean {' or '.join(near)}?" if near else ""
    if not hint:
        shown = ", ".join(names[:10])
        hint = f"there are: {shown}{' ...' if len(names) > 10 else ''}" if names else "there are none"  # noqa: PLR2004
    return NotFoundError(f"no {what} {str(name)[:200]!r}", hint=hint)


def _flat(row: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in row.items():
        if isinstance(value, dict):
            flat.update(_flat(value, f"{prefix}{key}."))
        else:
            flat[prefix + str(key)] = value
    return flat
