"""Views in lists, which can be turned into tables, and views by name."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar, Protocol, TypeVar, overload

from zen_mlmd.errors import MissingExtraError, NotFoundError, UsageError
from zen_mlmd.lineage.export import printable
from zen_mlmd.reading.conditions import MISSING, Field
from zen_mlmd.reading.filters import compile_filter


class View(Protocol):
    """What every view offers.

    Attributes:
        FIELDS: What a filter may ask of it.
        COLUMNS: The keys of `to_dict` that hold one value each, rather than a mapping.
    """

    FIELDS: ClassVar[Mapping[str, Field]]
    COLUMNS: ClassVar[Sequence[str]]

    def to_dict(self) -> dict[str, Any]:
        """Return the view as plain values."""
        ...


ViewT = TypeVar("ViewT", bound=View)
ValueT_co = TypeVar("ValueT_co", covariant=True)
DefaultT = TypeVar("DefaultT")


class Named(Mapping[str, ValueT_co]):
    """Things by name. `named["x"]` says what there is if there is no `x`: it raises `NotFoundError`.

    `Mapping` takes a `KeyError` for that, so what it derives from `[]` is asked of the names instead.
    """

    @abstractmethod
    def __contains__(self, name: object) -> bool: ...

    @overload
    def get(self, key: str, /) -> ValueT_co | None: ...

    @overload
    def get(self, key: str, /, default: DefaultT) -> ValueT_co | DefaultT: ...

    def get(self, key: str, /, default: Any = None) -> Any:
        """Return what has this name, or `default` if nothing has."""
        if key in self:
            return self[key]
        return default


class ViewList(Sequence[ViewT]):
    """Views in order; also a table, as dicts or as a pandas DataFrame.

    Args:
        views: What is in the list.
        kind: The class of all of them: what says the columns of a table without rows.
    """

    def __init__(self, views: Iterable[ViewT], kind: type[ViewT]) -> None:
        self._views = list(views)
        self._kind = kind

    @overload
    def __getitem__(self, index: int) -> ViewT: ...

    @overload
    def __getitem__(self, index: slice) -> ViewList[ViewT]: ...

    def __getitem__(self, index: int | slice) -> ViewT | ViewList[ViewT]:
        if isinstance(index, slice):
            return ViewList(self._views[index], self._kind)
        return self._views[index]

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
        """Return a DataFrame with a row for each view.

        The keys of parameters, properties and the like are columns: `parameters.depth`. What lies deeper
        stays as it is, so that no two values meet in one column.

        Raises:
            MissingExtraError: pandas is not installed.
        """
        try:
            import pandas as pd
        except ImportError:
            raise MissingExtraError("pandas is not installed", hint="pip install pandas") from None
        rows = [_flat(row) for row in self.to_dicts()]
        return pd.DataFrame(rows) if rows else pd.DataFrame(columns=list(self._kind.COLUMNS))


def select(
    views: Iterable[ViewT], where: str | None, limit: int | None, kind: type[ViewT]
) -> ViewList[ViewT]:
    """Return the first `limit` views that a filter matches; asks no more pages than it needs.

    Raises:
        FilterSyntaxError: The filter cannot be read.
    """
    matches = compile_filter(where, names=kind.FIELDS).matches if where else None
    found: list[ViewT] = []
    if limit is not None and limit <= 0:
        return ViewList(found, kind)
    for view in views:
        if matches is None or matches(lookup_in(view)):
            found.append(view)
            if limit is not None and len(found) >= limit:
                break
    return ViewList(found, kind)


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


def name_of(what: str, name: object) -> str:
    """Return a name that was given for something.

    Raises:
        UsageError: It is no text.
    """
    if not isinstance(name, str):
        raise UsageError(
            f"a {what} is asked for by its name, not by a {type(name).__qualname__}", hint="give a str"
        )
    return name


def not_found(what: str, name: object, known: Iterable[str]) -> NotFoundError:
    """Return an error that names what there is, nearest first."""
    import difflib

    names = [printable(each) for each in known]
    near = difflib.get_close_matches(str(name), names, n=3)
    hint = f"did you mean {' or '.join(near)}?" if near else ""
    if not hint:
        shown = ", ".join(names[:10])
        hint = f"there are: {shown}{' ...' if len(names) > 10 else ''}" if names else "there are none"  # noqa: PLR2004
    return NotFoundError(f"no {what} {str(name)[:200]!r}", hint=hint)


def _flat(row: Mapping[str, Any]) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in row.items():
        if isinstance(value, Mapping):
            flat.update((f"{key}.{name}", item) for name, item in value.items())
        else:
            flat[key] = value
    return flat
