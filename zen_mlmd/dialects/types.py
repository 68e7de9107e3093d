"""MLMD types by name, from `proto_types/*.textproto`."""

from __future__ import annotations

import functools
from importlib import resources
from pathlib import Path
from typing import Any

from google.protobuf import text_format
from ml_metadata.proto import metadata_store_pb2 as mlmd
from ml_metadata.proto import metadata_store_service_pb2 as rpc

from zen_mlmd.errors import UsageError

BASE_TYPES = {
    "artifact": dict(mlmd.ArtifactType.SystemDefinedBaseType.items()),
    "execution": dict(mlmd.ExecutionType.SystemDefinedBaseType.items()),
}


def standard_type(kind: str, name: str, base_type: str = "") -> Any:
    """Return the type message to register for a name: the known one, or a new one without properties.

    Args:
        kind: artifact, execution or context.
        name: The type's name.
        base_type: Of a name that is not known: Dataset, Model, ... or Train, Transform, ...

    Raises:
        UsageError: No such base type.
    """
    known = _known().get((kind, name))
    if known is not None:
        return known
    made = {"artifact": mlmd.ArtifactType, "execution": mlmd.ExecutionType, "context": mlmd.ContextType}[
        kind
    ](name=name)
    if base_type:
        number = BASE_TYPES.get(kind, {}).get(base_type.removeprefix("mlmd.").upper())
        if number is None:
            names = ", ".join(each.capitalize() for each in BASE_TYPES.get(kind, {}) if each != "UNSET")
            raise UsageError(f"no base type {base_type!r}", hint=f"MLMD's are: {names}")
        made.base_type = number
    return made


@functools.cache
def _known() -> dict[tuple[str, str], Any]:
    known: dict[tuple[str, str], Any] = {}
    for file in sorted(_folder().iterdir(), key=lambda each: each.name):
        request = text_format.Parse(file.read_text("utf-8"), rpc.PutTypesRequest())
        for kind in ("artifact", "execution", "context"):
            for each in getattr(request, f"{kind}_types"):
                known[kind, each.name] = each
    return known


def _folder() -> Any:
    installed = resources.files("zen_mlmd") / "proto_types"
    return installed if installed.is_dir() else Path(__file__).parents[2] / "proto_types"
