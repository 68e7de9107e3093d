"""Values as TFX keeps them: in one file at an artifact's URI, encoded by the artifact's type.

`String` and `Bytes` as they are, `Integer` and `Float` as decimal text, `Boolean` as `1` or `0`, `JsonValue`
as JSON (tfx/types/standard_artifacts.py, 0.25 to 1.21). TFX makes the file empty before a step runs, and
leaves it so for None, which only the artifact's property `__is_null__` tells from an empty text.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, ClassVar, Final

from zen_mlmd.errors import UsageError, ZenMlmdError
from zen_mlmd.payloads.base import Materializer, type_name
from zen_mlmd.payloads.places import LOCAL_SCHEMES
from zen_mlmd.payloads.store import locate

_NUMBER_BYTES: Final = 400
"""A longer text is no metric: that of a double has 24 characters, or 309 if somebody writes it out."""


class TfxValue(Materializer):
    """Reads what TFX wrote."""

    types: ClassVar[tuple[type | str, ...]] = ()
    data_type: ClassVar[type]

    def write(self, value: Any, directory: Path) -> None:  # noqa: ARG002 - of every materializer
        """Refuse: TFX wants a file where a payload of ours is a directory.

        Raises:
            UsageError: Always.
        """
        raise UsageError(f"{self.name} only reads", hint="let a TFX component write it")

    def read(self, directory: Path, data_type: type) -> Any:  # noqa: ARG002 - the artifact's type tells
        """Return the value of a file."""
        return self.decode(directory.read_bytes())

    def decode(self, data: bytes) -> Any:
        """Return the value of a file's content."""
        return self.data_type(data)


class TfxBytes(TfxValue):
    """Reads TFX's `Bytes`."""

    data_type = bytes


class TfxInteger(TfxValue):
    """Reads TFX's `Integer`."""

    data_type = int


class TfxFloat(TfxValue):
    """Reads TFX's `Float`; NaN and infinities are `NaN`, `Infinity` and `-Infinity`."""

    data_type = float


class TfxString(TfxValue):
    """Reads TFX's `String`."""

    data_type = str

    def decode(self, data: bytes) -> str:
        """Return the text."""
        return data.decode()


class TfxBoolean(TfxValue):
    """Reads TFX's `Boolean`."""

    data_type = bool

    def decode(self, data: bytes) -> bool:
        """Return False for zero alone."""
        return int(data) != 0


class TfxJson(TfxValue):
    """Reads TFX's `JsonValue`; an object of a class of TFX's stays the dict that names it."""

    data_type = object

    def decode(self, data: bytes) -> Any:
        """Return the value."""
        return json.loads(data)


class TfxNull(TfxValue):
    """Reads None of any of TFX's types."""

    data_type = type(None)

    def decode(self, data: bytes) -> None:
        """Return None."""


TFX_VALUES: Final = {
    "Boolean": TfxBoolean,
    "Bytes": TfxBytes,
    "Float": TfxFloat,
    "Integer": TfxInteger,
    "JsonValue": TfxJson,
    "String": TfxString,
}
"""What reads the artifacts of a type of TFX's."""


def tfx_metric(uri: str, materializer_name: str) -> float | None:
    """Return the number that a TFX `Float` or `Integer` holds; None for all else and what cannot be read.

    Only small files of this machine are looked at, since nobody asked for a payload.
    """
    kind = next((each for each in (TfxFloat, TfxInteger) if type_name(each) == materializer_name), None)
    scheme, remote, _ = uri.partition("://")
    if kind is None or (remote and scheme not in LOCAL_SCHEMES):
        return None
    try:
        path = Path(locate(uri).uri)
        if not path.is_file() or path.stat().st_size > _NUMBER_BYTES:
            return None
        number: float = kind().decode(path.read_bytes())
    except (OSError, ValueError, ZenMlmdError):
        return None
    return number
