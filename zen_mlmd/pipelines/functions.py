"""Which functions can be steps and pipelines."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection
from typing import Any

from zen_mlmd.errors import UsageError

_NAMES = ("__module__", "__name__", "__qualname__")


def check_function(
    function: Callable[..., Any], decorator: str, *, reserved: Collection[str]
) -> inspect.Signature:
    """Return the signature of a function that is being decorated.

    Args:
        function: What the decorator was put on.
        decorator: `@step`, say.
        reserved: Names of parameters that the decorated function takes for itself.

    Raises:
        UsageError: It is no plain function, or has a parameter that is reserved.
    """
    signature = _signature(function)
    if signature is None:
        raise UsageError(
            f"{decorator} goes on a function, and this is a {type(function).__qualname__}",
            hint="def train(rows: list) -> dict: ...",
        )
    name = function.__qualname__
    if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
        raise UsageError(
            f"{decorator}: {name} is a coroutine", hint="await in a plain function: asyncio.run(...)"
        )
    if inspect.isgeneratorfunction(function):
        raise UsageError(f"{decorator}: {name} is a generator", hint="return a list of what it yields")
    owner = name.rpartition(".")[0]
    if owner and not owner.endswith("<locals>") and next(iter(signature.parameters), "") in ("self", "cls"):
        raise UsageError(
            f"{decorator}: {name} is a method, and only functions are supported",
            hint="move it out of its class, and pass what it needs as parameters",
        )
    for each in reserved:
        if each in signature.parameters:
            raise UsageError(
                f"{decorator}: {name} has a parameter {each!r}, which {decorator} takes for itself",
                hint="give the parameter another name",
            )
    return signature


def _signature(function: Any) -> inspect.Signature | None:
    if isinstance(function, type) or not callable(function):
        return None
    if not all(isinstance(getattr(function, name, None), str) for name in _NAMES):
        return None
    try:
        return inspect.signature(function)
    except ValueError:  # of `max`, say, nobody knows the parameters
        return None
