"""What is kept of an exception."""

from __future__ import annotations

import logging
import sys
import traceback
from collections.abc import Callable

from zen_mlmd.errors import ZenMlmdError
from zen_mlmd.model import Failure

_MESSAGE = 2_000
_TRACEBACK = 8_000
_FRAMES = 30


_log = logging.getLogger(__name__)


def describe_failure(error: BaseException) -> Failure:
    """Return an exception's type, message and traceback, both trimmed; never raises.

    Of a long traceback the end is kept, where the cause is.
    """
    kind = type(error)
    name = _text(lambda: f"{kind.__module__}.{kind.__qualname__}".removeprefix("builtins."))
    message = _text(lambda: str(error))
    trace = _text(
        lambda: "".join(traceback.format_exception(kind, error, error.__traceback__, limit=-_FRAMES))
    )
    return Failure(type=name, message=_head(message), traceback=_tail(trace))


def tell_unrecorded(error: BaseException, what: str, failed: ZenMlmdError) -> None:
    """Tell, with an exception that goes on, that it could not be recorded."""
    text = f"{what} could not be recorded as ended: {failed}"
    if sys.version_info >= (3, 11):
        error.add_note(text)
    else:
        _log.warning(text)


def _text(get: Callable[[], str]) -> str:
    """Return a foreign text as plain str; nothing of it if there is none to be had."""
    try:
        return str.__str__(get())
    except BaseException:  # noqa: BLE001 - a foreign __str__ may do anything, exit included
        return ""


def _head(text: str) -> str:
    return text if len(text) <= _MESSAGE else text[:_MESSAGE] + " ... (cut)"


def _tail(text: str) -> str:
    return text if len(text) <= _TRACEBACK else "(cut) ... " + text[-_TRACEBACK:]
