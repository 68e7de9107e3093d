"""Which outputs a step has, told from its return annotation.

-> int                                            one output named `output`
-> Annotated[int, "rows"]                         one output named `rows`
-> tuple[Annotated[int, "rows"], Annotated[float, "auc"]]   two outputs
-> SomeNamedTuple                                 one output a field
-> None                                           no output
"""

from __future__ import annotations

import contextlib
import inspect
import re
import types
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, get_args, get_origin, get_type_hints

from zen_mlmd.errors import PipelineDefinitionError, ReturnValueError


@dataclass(frozen=True)
class Outputs:
    """What a step returns.

    Attributes:
        types: By name, in order; `typing.Any` where the annotation says nothing.
        in_tuple: Whether it returns a tuple of them, be it of one; else the one itself.
    """

    types: dict[str, Any]
    in_tuple: bool = False

    def split(self, result: Any, step: str) -> dict[str, Any]:
        """Return what a step returned, by output name.

        Raises:
            ReturnValueError: It returned more or fewer values than it has outputs.
        """
        names = list(self.types)
        if not names:
            if result is not None:
                raise ReturnValueError(
                    f"step {step!r} is annotated `-> None` and returned a {type(result).__qualname__}",
                    hint="annotate what it returns",
                )
            return {}
        if not self.in_tuple:
            return {names[0]: result}
        if not isinstance(result, tuple) or len(result) != len(names):
            got = f"{len(result)} values" if isinstance(result, tuple) else f"a {type(result).__qualname__}"
            raise ReturnValueError(
                f"step {step!r} has the outputs {', '.join(names)} and returned {got}",
                hint=f"return a tuple of {len(names)}",
            )
        return dict(zip(names, result, strict=True))


def outputs_of(function: Callable[..., Any]) -> Outputs:
    """Return the outputs that a function's return annotation names.

    Raises:
        PipelineDefinitionError: Two outputs have one name, or some of a tuple have none; or the
            annotation cannot be evaluated.
    """
    annotations = getattr(function, "__annotations__", None) or {}
    if "return" not in annotations:
        return Outputs({"output": Any})
    inner = inspect.unwrap(function)
    inner = getattr(inner, "__func__", inner)
    try:
        # Of the parameters' annotations one may name what is imported for type checkers only.
        hints = get_type_hints(
            types.SimpleNamespace(__annotations__={"return": annotations["return"]}),
            getattr(inner, "__globals__", {}),
            _enclosing(inner),
            include_extras=True,
        )
        found = _of(hints["return"], function.__qualname__)
    except PipelineDefinitionError:
        raise
    except Exception as error:
        raise PipelineDefinitionError(
            f"step {function.__qualname__!r}: its return annotation cannot be evaluated: {error}",
            hint="import what it names at run time too, or write Any for it: -> Annotated[Any, 'model']",
        ) from error
    for name in found.types:
        if not name.isprintable() or not name.strip():
            raise PipelineDefinitionError(
                f"step {function.__qualname__!r}: an output cannot be named {name!r}",
                hint='give it a printable name: -> Annotated[int, "rows"]',
            )
    return found


def _enclosing(function: Any) -> dict[str, Any]:
    """Return what a function's closure holds by now."""
    names: dict[str, Any] = {}
    for name, cell in zip(
        getattr(getattr(function, "__code__", None), "co_freevars", ()),
        getattr(function, "__closure__", None) or (),
        strict=True,
    ):
        with contextlib.suppress(ValueError):  # not assigned yet
            names[name] = cell.cell_contents
    return names


def _of(annotation: Any, step: str) -> Outputs:
    if annotation is type(None) or annotation is None:
        return Outputs({})
    if isinstance(annotation, type) and issubclass(annotation, tuple) and hasattr(annotation, "_fields"):
        fields = get_type_hints(annotation)
        return Outputs({name: fields.get(name, Any) for name in annotation._fields}, in_tuple=True)
    if get_origin(annotation) is tuple:
        parts = get_args(annotation)
        named = [_name(part) for part in parts]
        if any(named):
            if not all(named) or len(set(named)) != len(named):
                raise PipelineDefinitionError(
                    f"step {step!r}: either all of its outputs have names, each its own, or none has",
                    hint='-> tuple[Annotated[int, "rows"], Annotated[float, "auc"]]',
                )
            types_ = {str(name): get_args(part)[0] for name, part in zip(named, parts, strict=True)}
            return Outputs(types_, in_tuple=True)
    name = _name(annotation)
    return Outputs({name: get_args(annotation)[0]} if name else {"output": annotation})


def _name(annotation: Any) -> str:
    if get_origin(annotation) is not Annotated:
        return ""
    names = [each for each in get_args(annotation)[1:] if isinstance(each, str)]
    return names[0] if names else ""


def type_text(annotation: Any) -> str:
    """Return a type as text that is the same in each process."""
    if isinstance(annotation, type) and get_origin(annotation) is None:
        return f"{annotation.__module__}.{annotation.__qualname__}"
    return re.sub(r" at 0x[0-9a-fA-F]+", "", str(annotation))
