"""Looks over one store: what is wrong with it, what to do about that, and doing what can be done.

The public names are loaded when they are first used: `environment` is to be asked where nothing else of
ours can be imported, for want of ml-metadata.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from zen_mlmd.doctor.environment import examine_environment
    from zen_mlmd.doctor.examining import examine
    from zen_mlmd.doctor.mending import mend
    from zen_mlmd.service.finding import CODES, Finding, Severity

_HOME = {
    "CODES": "zen_mlmd.service.finding",
    "Finding": "zen_mlmd.service.finding",
    "Severity": "zen_mlmd.service.finding",
    "examine": "zen_mlmd.doctor.examining",
    "examine_environment": "zen_mlmd.doctor.environment",
    "mend": "zen_mlmd.doctor.mending",
}

__all__ = ["CODES", "Finding", "Severity", "examine", "examine_environment", "mend"]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
