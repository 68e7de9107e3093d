"""Which outputs a step has, told from its return annotation.

-> int                                            one output named `output`
-> Annotated[int, "rows"]                         one output named `rows`
-> tuple[Annotated[int, "rows"], Annotated[float, "auc"]]   two outputs
-> SomeNamedTuple                                 one output a field
-> None                                           no output
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Annotated, Any, get_args, get_origin, get_type_hints

from zen_mlmd.errors import PipelineDefinitionError, ReturnValueError


def outputs_of(function: Callable[..., Any]) -> dict[str, Any]:
    """Return the outputs' types by name, in order; `typing.Any` where the annotation says nothing.

    Raises:
        PipelineDefinitionError: Two outputs have one name, or some of a tuple have none.
    """
    hints = _hints(function)
    if "return" not in hints:
        return {"output": Any}
    return _of(hints["return"], function.__qualname__)


def split_result(result: Any, names: list[str], step: str) -> dict[str, Any]:
    """Return what a step returned, by output name.

    Raises:
        ReturnValueError: It returned more or fewer values than it has outputs.
    """
    if not names:
        if result is not None:
            raise ReturnValueError(
                f"step {step!r} is annotated `-> None` and returned a {type(result).__qualname__}",
                hint="annotate what it returns",
            )
        return {}
    if len(names) == 1:
        return {names[0]: result}
    if not isinstance(result, tuple) or len(result) != len(names):
        got = f"{len(result)} values" if isinstance(result, tuple) else f"a {type(result).__qualname__}"
        raise ReturnValueError(
            f"step {step!r} has the outputs {', '.join(names)} and returned {got}",
            hint=f"return a tuple of {len(names)} values",
        )
    return dict(zip(names, result, strict=True))


def _hints(function: Callable[..., Any]) -> dict[str, Any]:
    try:
        return get_type_hints(function, include_extras=True)
    except Exception:  # noqa: BLE001 - an annotation that cannot be evaluated says nothing
        signature = inspect.signature(function)
        plain = {} if signature.return_annotation is inspect.Signature.empty else {"return": Any}
        return {**plain, **({"return": type(None)} if signature.return_annotation in (None, "None") else {})}


def _of(annotation: Any, step: str) -> dict[str, Any]:
    if annotation is type(None) or annotation is None:
        return {}
    if isinstance(annotation, type) and issubclass(annotation, tuple) and hasattr(annotation, "_fields"):
        fields = get_type_hints(annotation)
        return {name: fields.get(name, Any) for name in annotation._fields}
    if get_origin(annotation) is tuple:
        parts = get_args(annotation)
        named = [_name(part) for part in parts]
        if any(named):
            if not all(named) or len(set(named)) != len(named):
                raise PipelineDefinitionError(
                    f"step {step!r}: either all of its outputs have names, each its own, or none has",
                    hint='-> tuple[Annotated[int, "rows"], Annotated[float, "auc"]]',
                )
            return {str(name): get_args(part)[0] for name, part in zip(named, parts, strict=True)}
    name = _name(annotation)
    return {name: get_args(annotation)[0]} if name else {"output": annotation}


def _name(annotation: Any) -> str:
    if get_origin(annotation) is not Annotated:
        return ""
    names = [each for each in get_args(annotation)[1:] if isinstance(each, str)]
    return names[0] if names else ""


def type_text(annotation: Any) -> str:
    """Return a type as text that is the same in each process."""
    return (
        annotation.__module__ + "." + annotation.__qualname__
        if isinstance(annotation, type)
        else str(annotation)
    )
