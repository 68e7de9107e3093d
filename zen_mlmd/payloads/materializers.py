"""Which materializer writes a value, and reading a payload by what a store recorded of it."""

from __future__ import annotations

import importlib
import inspect
import sys
import typing
from collections.abc import Iterator
from typing import Any, TypeVar

from zen_mlmd.errors import (
    NoMaterializerError,
    PayloadError,
    UntrustedPickleError,
    UsageError,
    ZenMlmdError,
)
from zen_mlmd.payloads import builtin, tables, tfx_values
from zen_mlmd.payloads.base import Materializer, find_type, type_name
from zen_mlmd.payloads.places import shown
from zen_mlmd.payloads.store import open_local

_Kind = TypeVar("_Kind", bound=type[Materializer])

_BUILT_IN: tuple[type[Materializer], ...] = (
    builtin.PickleMaterializer,
    builtin.DataclassMaterializer,
    builtin.PydanticMaterializer,
    builtin.PathMaterializer,
    builtin.BytesMaterializer,
    builtin.StringMaterializer,
    builtin.JsonMaterializer,
    tables.NumpyArrayMaterializer,
    tables.NumpyScalarMaterializer,
    tables.NumpyFloatMaterializer,
    tables.NumpyIntegerMaterializer,
    tables.NumpyBooleanMaterializer,
    tables.PandasFrameMaterializer,
    tables.PandasSeriesMaterializer,
    tables.PolarsFrameMaterializer,
    tables.PolarsSeriesMaterializer,
    *tfx_values.TFX_VALUES.values(),
    tfx_values.TfxNull,
)


class MaterializerRegistry:
    """Materializers by the types they are for and by name; begins with the built-in ones.

    The most specific class of a value decides (the order of its MRO), and for one class the
    materializer that was registered last. Whoever does not accept a value is passed over.
    """

    def __init__(self) -> None:
        self._kinds: tuple[type[Materializer], ...] = _BUILT_IN

    def register(self, materializer_class: _Kind) -> _Kind:
        """Add a materializer, and return its class, so that this can be its decorator.

        One of the same name is replaced, as when a notebook's cell is run again.

        Raises:
            UsageError: It is no complete subclass of `Materializer`, or `types` is empty or holds
                something else than classes and names.
        """
        if not (isinstance(materializer_class, type) and issubclass(materializer_class, Materializer)):
            raise UsageError("only subclasses of Materializer can be registered", hint="give the class")
        name = type_name(materializer_class)
        if inspect.isabstract(materializer_class):
            raise UsageError(f"{name} lacks a method", hint="define write and read")
        types = getattr(materializer_class, "types", None)
        if not isinstance(types, tuple) or not types or not all(isinstance(t, (type, str)) for t in types):
            raise UsageError(
                f"{name}.types does not say what it is for", hint='types = (MyClass, "package.Name")'
            )
        # Replaced as a whole: other threads may be going through it.
        self._kinds = (*(kind for kind in self._kinds if type_name(kind) != name), materializer_class)
        return materializer_class

    def for_value(self, value: object) -> Materializer:
        """Return the materializer that gives this value back exactly.

        Raises:
            MissingExtraError: Its own needs a package that is not installed.
        """
        for materializer in self._candidates(type(value)):
            if materializer.accepts(value):
                return materializer
        raise NoMaterializerError(  # pragma: no cover - pickle accepts everything, unless it was replaced
            f"nothing can write a {type_name(type(value))}", hint="register a Materializer for its class"
        )

    def for_type(self, data_type: Any) -> Materializer:
        """Return the materializer that is asked first for values of a type.

        Args:
            data_type: A class; of `list[int]` and the like the class counts, and what is none
                (`Any`, a union) counts as `object`.
        """
        kind = typing.get_origin(data_type) or data_type
        return next(self._candidates(kind if isinstance(kind, type) else object))

    def by_name(self, name: str, *, allow_import: bool = False) -> Materializer:
        """Return a materializer by its name, `module.Class`.

        Args:
            name: Of a registered one; or of any subclass of `Materializer` in a module that is
                imported already.
            allow_import: Import the module that the name says. Importing runs code: only for names
                from a store that you trust.

        Raises:
            NoMaterializerError: There is none, or its module is not imported.
        """
        for kind in self._kinds:
            if type_name(kind) == name:
                return kind()
        found = _imported_class(name, allow_import=allow_import)
        if not (isinstance(found, type) and issubclass(found, Materializer)) or inspect.isabstract(found):
            module = name.rpartition(".")[0]
            hint = f"import {module} first, or pass allow_import=True" if module else "was one recorded?"
            raise NoMaterializerError(f"no materializer is called {name!r} here", hint=hint)
        return found()

    def _candidates(self, data_type: type) -> Iterator[Materializer]:
        kinds = tuple(reversed(self._kinds))
        for cls in data_type.__mro__:
            names = {type_name(cls), f"{cls.__module__.partition('.')[0]}.{cls.__qualname__}"}
            for kind in kinds:
                if any(fits is cls or (isinstance(fits, str) and fits in names) for fits in kind.types):
                    materializer = kind()
                    if materializer.suits(data_type):
                        yield materializer


_default = MaterializerRegistry()


def default_registry() -> MaterializerRegistry:
    """Return the registry of this process, the one that is used where none is given."""
    return _default


def read_payload(
    uri: str,
    materializer_name: str,
    data_type_name: str,
    *,
    allow_pickle: bool = False,
    registry: MaterializerRegistry | None = None,
) -> Any:
    """Return the value of a payload, read by what was recorded when it was written.

    No module is imported because a store names it; with `allow_pickle`, where the class is needed,
    submodules of packages that are imported are.

    Args:
        uri: Where it lies, in any store.
        materializer_name: Of the materializer that wrote it, as `module.Class`.
        data_type_name: Of the class that was written, as `module.QualName`.
        allow_pickle: Read pickles too. Reading one runs whatever code its writer put into it: only
            for a store that you trust.
        registry: Where the materializer is looked up; `default_registry()` if None.

    Raises:
        UntrustedPickleError: It is a pickle (or the like), and `allow_pickle` is False.
        NoMaterializerError: The materializer, or the class that it needs, is not to be found.
        PayloadMissingError: Nothing lies at `uri`.
        PayloadError: What lies there cannot be read.
        MissingExtraError: An optional package is missing.
    """
    try:
        materializer, data_type = find_reader(
            materializer_name, data_type_name, allow_pickle=allow_pickle, registry=registry
        )
    except UntrustedPickleError as error:
        raise UntrustedPickleError(f"{shown(uri)}: {error.message}", hint=error.hint) from None
    with open_local(uri) as directory:
        try:
            return materializer.read(directory, data_type)
        except ZenMlmdError:
            raise
        except Exception as error:
            raise PayloadError(
                f"{shown(uri)}: {materializer_name} cannot read what lies there ({type(error).__name__})",
                hint="compare it with its recorded hash; if it is whole, its class or a package has changed",
            ) from error


def find_reader(
    materializer_name: str,
    data_type_name: str,
    *,
    allow_pickle: bool = False,
    registry: MaterializerRegistry | None = None,
) -> tuple[Materializer, type]:
    """Return what reads a payload, and the class that was written, `object` if it is not to be found.

    Args:
        materializer_name: As for `read_payload`, like all others.
        data_type_name: As above.
        allow_pickle: As above.
        registry: As above.

    Raises:
        UntrustedPickleError: As for `read_payload`.
        NoMaterializerError: As for `read_payload`.
    """
    materializer = (registry or default_registry()).by_name(materializer_name)
    if materializer.runs_code and not allow_pickle:
        raise UntrustedPickleError(
            "a pickle, which can run any code when it is read",
            hint="if you trust whoever wrote it, pass allow_pickle=True",
        )
    data_type = find_type(data_type_name, allow_import=allow_pickle and materializer.needs_type)
    if data_type is None and materializer.needs_type:
        module = data_type_name.rpartition(".")[0] or "its module"
        raise NoMaterializerError(
            f"the class {data_type_name!r} of the value is not to be found", hint=f"import {module} first"
        )
    return materializer, data_type or object


def _imported_class(name: str, *, allow_import: bool) -> Any:
    parts = name.split(".")
    if "" in parts:  # which would make it a relative import
        return None
    for i in range(len(parts) - 1, 0, -1):
        module = ".".join(parts[:i])
        if allow_import and module not in sys.modules:
            try:
                importlib.import_module(module)
            except ModuleNotFoundError as error:
                if error.name is None or not f"{module}.".startswith(f"{error.name}."):
                    raise  # the module is there, but lacks another one
        if module in sys.modules:
            found: Any = sys.modules[module]
            for part in parts[i:]:
                found = getattr(found, part, None)
            return found
    return None
