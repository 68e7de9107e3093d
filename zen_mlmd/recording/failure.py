"""What is kept of an exception."""

from __future__ import annotations

import traceback

from zen_mlmd.model import Failure

_MESSAGE = 2_000
_TRACEBACK = 8_000
_FRAMES = 30


def describe_failure(error: BaseException) -> Failure:
    """Return an exception's type, message and traceback, both trimmed; never raises.

    Of a long traceback the end is kept, where the cause is.
    """
    kind = type(error)
    try:
        message = str(error)
    except Exception:  # noqa: BLE001 - a foreign __str__ may do anything
        message = ""
    try:
        lines = traceback.format_exception(kind, error, error.__traceback__, limit=-_FRAMES)
        trace = "".join(lines)
    except Exception:  # noqa: BLE001 - likewise
        trace = ""
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    return Failure(type=name, message=_head(message), traceback=_tail(trace))


def _head(text: str) -> str:
    return text if len(text) <= _MESSAGE else text[:_MESSAGE] + " ... (cut)"


def _tail(text: str) -> str:
    return text if len(text) <= _TRACEBACK else "(cut) ... " + text[-_TRACEBACK:]
