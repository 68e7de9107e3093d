"""What callers give, checked: refused by name at once, not when it is sent with all the rest."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from zen_mlmd.errors import InvalidValueError, UsageError
from zen_mlmd.model import Status
from zen_mlmd.values import is_plain_text, unwrap


def check_text(what: str, text: object, *, hint: str = "give a str") -> None:
    """Refuse what is no text, or none that UTF-8 can write.

    Raises:
        UsageError: It is not a str, or an empty one.
        InvalidValueError: It holds a lone surrogate.
    """
    if not isinstance(text, str) or not text:
        given = "empty" if text == "" else f"a {type(text).__qualname__}"
        raise UsageError(f"{what} must be text, and is {given}", hint=hint)
    if not is_plain_text(text):
        raise InvalidValueError(f"{what} holds half a character (a lone surrogate)", hint=hint)


def check_name(what: str, name: object) -> None:
    """Refuse what cannot be the name of a pipeline, run, step, input or output.

    Raises:
        UsageError: It is not a str.
        InvalidValueError: It is blank, or not printable.
    """
    if not isinstance(name, str):
        raise UsageError(f"{what}'s name must be text, not {type(name).__qualname__}", hint="give a str")
    if not name.strip() or not name.isprintable():
        raise InvalidValueError(
            f"{what}'s name must be printable and not blank", hint="give a name such as 'churn'"
        )


def check_uri(uri: object) -> None:
    """Refuse what cannot be where an artifact's payload is.

    Raises:
        UsageError: It is not a str, or an empty one.
        InvalidValueError: It holds a lone surrogate.
    """
    check_text("an artifact's uri", uri, hint="give 's3://bucket/key', say, or str(path)")


def step_names(what: str, names: Iterable[str]) -> list[str]:
    """Return names of steps, sorted.

    Raises:
        UsageError: They are one str, or no strs.
        InvalidValueError: One is blank, or not printable.
    """
    if isinstance(names, str) or not isinstance(names, Iterable):
        raise UsageError(
            f"{what} takes a list of steps, not {type(names).__qualname__}", hint="write ['load'], say"
        )
    listed = list(names)
    for each in listed:
        check_name(f"{what}: a step", each)
    return sorted(listed)


def plan_of(plan: Mapping[str, Iterable[str]] | None) -> dict[str, list[str]]:
    """Return a plan with its lists sorted.

    Raises:
        UsageError: It is no mapping of steps to lists of steps.
        InvalidValueError: A name in it is blank, or not printable.
    """
    if plan is not None and not isinstance(plan, Mapping):
        raise UsageError(
            f"plan must be a dict, not {type(plan).__qualname__}", hint="write {'train': ['load']}, say"
        )
    step_names("plan", plan or ())
    return {step: step_names(f"plan[{step!r}]", waits) for step, waits in (plan or {}).items()}


def check_metrics(values: Mapping[str, float]) -> dict[str, float]:
    """Return metrics as plain numbers; a numpy scalar counts as the number that it holds.

    Raises:
        InvalidValueError: A name is not text, or a value is not a number.
    """
    checked: dict[str, float] = {}
    for key, value in values.items():
        plain = _number(value)
        if not isinstance(key, str) or not is_plain_text(key):
            raise InvalidValueError(f"metrics: {key!r:.100} is not a name", hint="name metrics by text")
        if isinstance(plain, bool) or not isinstance(plain, (int, float)):
            raise InvalidValueError(
                f"metrics.{key}: a {type(value).__qualname__} is not a number", hint="log it as a property"
            )
        checked[key] = plain
    return checked


def _number(value: Any) -> Any:
    """Return the number in a scalar of numpy, or of another library whose tensors have `item`."""
    if type(value).__module__ == "numpy":
        return unwrap(value)
    return value.item() if hasattr(value, "item") and getattr(value, "ndim", None) == 0 else value


def ending(what: str, status: Status | None, error: BaseException | None) -> Status:
    """Return how something ends: as said, or else as what it raised tells.

    Raises:
        UsageError: Nothing ends so.
    """
    if status is None:
        if error is None:
            return Status.COMPLETED
        return Status.CANCELED if isinstance(error, KeyboardInterrupt) else Status.FAILED
    try:
        wanted = Status(status)
    except ValueError:
        wanted = Status.UNKNOWN
    if not wanted.ended:
        raise UsageError(
            f"{what} cannot end as {status!s:.100}", hint="completed, failed, cached or canceled"
        )
    return wanted
