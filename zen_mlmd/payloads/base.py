"""What a materializer is, and how Python types are named in a store."""

from __future__ import annotations

import abc
import importlib
import sys
from pathlib import Path
from typing import Any, ClassVar

from zen_mlmd.errors import MissingExtraError


class Materializer(abc.ABC):
    """Writes values of some types into files and reads them back.

    A subclass has no state and is made without arguments. Its name is recorded with every artifact
    that it wrote: renaming or moving the class makes those unreadable.

    Attributes:
        types: Which classes, subclasses included, it is for. A string `"package.Name"` stands for a
            class whose package is not to be imported: it fits `package.Name` wherever inside the
            package the class is defined; the full `"package.module.Name"` fits too.
        artifact_type: The MLMD artifact type of what it writes, unless a step names another.
        version: To be raised when it writes the same value into other files.
        needs_type: Whether `read` needs the very class that was written; if it cannot be found,
            reading fails. Else `read` gets `object` then.
        runs_code: Whether reading runs code that the payload brings along, as a pickle does.
    """

    types: ClassVar[tuple[type | str, ...]]
    artifact_type: ClassVar[str] = "Artifact"
    version: ClassVar[int] = 1
    needs_type: ClassVar[bool] = False
    runs_code: ClassVar[bool] = False

    @property
    def name(self) -> str:
        """The class's name, as `module.Class`."""
        return type_name(type(self))

    @property
    def fingerprint(self) -> str:
        """Name and version, as a part of cache keys."""
        return f"{self.name}@{self.version}"

    def suits(self, data_type: type) -> bool:  # noqa: ARG002 - for subclasses
        """Return whether it is for this class, of which `types` says yes already."""
        return True

    def accepts(self, value: Any) -> bool:  # noqa: ARG002 - for subclasses
        """Return whether `read` gives this very value back, equal and of the same types, after `write`.

        If not, the next materializer that fits is asked; the last one is pickle.
        """
        return True

    @abc.abstractmethod
    def write(self, value: Any, directory: Path) -> None:
        """Write `value` as one or more files into an empty local directory."""

    @abc.abstractmethod
    def read(self, directory: Path, data_type: type) -> Any:
        """Return the value from a directory that `write` filled, which must not be changed.

        The directory may be gone afterwards. Whatever is raised becomes a PayloadError.

        Args:
            directory: Local.
            data_type: The class that was written, or `object` if it is not to be found.
        """


def type_name(data_type: type) -> str:
    """Return a class's name as `module.QualName`."""
    return f"{data_type.__module__}.{data_type.__qualname__}"


def data_type_name(value: object) -> str:
    """Return the name of a value's class as `module.QualName`: what is recorded as its data type."""
    return type_name(type(value))


def find_type(name: str, *, allow_import: bool = False) -> type | None:
    """Return the class called `module.QualName`, or None.

    Args:
        name: May come from a store that somebody else wrote: only modules that are imported already are
            searched.
        allow_import: Import submodules of packages that are imported too, but none that is called
            `__main__`, which would run a program. Importing runs code: only for names that you trust.
    """
    if name == "builtins.NoneType":  # its module does not have it
        return type(None)
    parts = name.split(".")
    known = next((i for i in range(len(parts) - 1, 0, -1) if ".".join(parts[:i]) in sys.modules), 0)
    if not known:
        return None
    found: Any = sys.modules[".".join(parts[:known])]
    for i in range(known, len(parts)):
        found = _member(found, parts[i], ".".join(parts[: i + 1]), allow_import=allow_import)
        if found is None:
            return None
    return found if isinstance(found, type) else None


def _member(owner: Any, name: str, path: str, *, allow_import: bool) -> Any:
    try:
        found = getattr(owner, name, None)
        if allow_import and found is None and hasattr(owner, "__path__") and name != "__main__":
            found = importlib.import_module(path)
    except Exception:  # noqa: BLE001 - importing runs any code; whatever it raises, the class is not there
        return None
    return found


def optional(module: str, *, extra: str) -> Any:
    """Return an optional module.

    Raises:
        MissingExtraError: It is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingExtraError(
            f"{module} is not installed", hint=f"pip install 'zen-mlmd[{extra}]'"
        ) from error
