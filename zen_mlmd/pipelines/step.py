"""`@step`: a Python function as a step of a pipeline."""

from __future__ import annotations

import contextvars
import copy
import functools
import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NoReturn, overload

from zen_mlmd.errors import PipelineDefinitionError, UsageError
from zen_mlmd.fingerprint import code_fingerprint
from zen_mlmd.payloads import Materializer
from zen_mlmd.pipelines.outputs import outputs_of


@dataclass(frozen=True)
class Handle:
    """What a step will make, while a pipeline is being put together: to be passed to other steps."""

    node: Node
    name: str

    def _no_value(self) -> NoReturn:
        raise PipelineDefinitionError(
            f"output {self.name!r} of step {self.node.name!r} has no value yet: the pipeline is still being "
            "put together",
            hint="pass it to another step, and look at it there",
        )

    def __bool__(self) -> bool:  # noqa: PLE0304 - it raises
        self._no_value()

    def __iter__(self) -> NoReturn:
        self._no_value()

    def __len__(self) -> int:  # noqa: PLE0303 - it raises
        self._no_value()

    def __getitem__(self, key: object) -> NoReturn:
        self._no_value()

    def __getattr__(self, name: str) -> NoReturn:
        if name.startswith("__"):
            raise AttributeError(name)
        self._no_value()


@dataclass(eq=False)
class Node:
    """One use of a step in a pipeline."""

    step: Step
    name: str
    parameters: dict[str, Any] = field(default_factory=dict)
    inputs: dict[str, Handle | list[Handle]] = field(default_factory=dict)
    after: tuple[Node, ...] = ()

    @property
    def waits_for(self) -> set[str]:
        """The names of the steps that must end before."""
        return {handle.node.name for handle in self.handles()} | {node.name for node in self.after}

    def handles(self) -> list[Handle]:
        """All that it takes from other steps."""
        many = (value if isinstance(value, list) else [value] for value in self.inputs.values())
        return [handle for handles in many for handle in handles]


class Draft:
    """A pipeline being put together."""

    def __init__(self) -> None:
        self.nodes: list[Node] = []

    def add(self, node: Node) -> None:
        """Add a use of a step; a second one of the same name is called `name_2`, and so on."""
        taken = {each.name for each in self.nodes}
        base, number = node.name, 1
        while node.name in taken:
            number += 1
            node.name = f"{base}_{number}"
        self.nodes.append(node)


draft: contextvars.ContextVar[Draft | None] = contextvars.ContextVar("zen_mlmd_draft", default=None)


class Step:
    """A function as a step. Called in a pipeline it becomes part of it; called elsewhere it just runs.

    Attributes:
        function: The function.
        name: The step's name in pipelines.
        enable_cache: False if it is always to be run.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        *,
        name: str | None = None,
        enable_cache: bool = True,
        output_types: Mapping[str, str] | None = None,
        materializers: Mapping[str, type[Materializer]] | type[Materializer] | None = None,
        base_type: str = "",
    ) -> None:
        if not callable(function) or isinstance(function, type):
            raise UsageError("@step goes on a function", hint="def train(rows: list) -> dict: ...")
        self.function = function
        self.name = name or function.__name__
        self.enable_cache = enable_cache
        self.base_type = base_type
        self.outputs = outputs_of(function)
        self.artifact_types = dict(output_types or {})
        self.materializers = (
            dict.fromkeys(self.outputs, materializers)
            if isinstance(materializers, type)
            else dict(materializers or {})
        )
        for given in (self.artifact_types, self.materializers):
            for each in given:
                if each not in self.outputs:
                    raise UsageError(
                        f"step {self.name!r} has no output {each!r}",
                        hint=f"its outputs: {', '.join(self.outputs)}",
                    )
        self.signature = inspect.signature(function)
        functools.update_wrapper(self, function)

    def __repr__(self) -> str:
        return f"<Step {self.name}>"

    def __call__(self, *args: Any, after: Iterable[Handle | tuple[Handle, ...]] = (), **kwargs: Any) -> Any:
        """Add the step to the pipeline being put together, or run the function where there is none.

        Args:
            *args: The function's: values become parameters, other steps' outputs its inputs.
            **kwargs: Likewise, by name.
            after: Outputs of steps that must end before, though nothing is taken from them.

        Returns:
            A handle for its output, or a tuple of handles; what the function returns, outside of a
            pipeline.

        Raises:
            PipelineDefinitionError: The arguments do not fit the function.
        """
        pipeline = draft.get()
        if pipeline is None:
            return self.function(*args, **kwargs)
        try:
            bound = self.signature.bind(*args, **kwargs)
        except TypeError as error:
            raise PipelineDefinitionError(
                f"step {self.name!r}: {error}", hint=f"it is {self.name}{self.signature}"
            ) from None
        bound.apply_defaults()
        node = Node(self, self.name, after=_nodes(after))
        for name, value in _arguments(bound).items():
            handles = _handles(value)
            if handles is None:
                node.parameters[name] = value
            else:
                node.inputs[name] = handles
        pipeline.add(node)
        made = tuple(Handle(node, name) for name in self.outputs)
        return made[0] if len(made) == 1 else made or Handle(node, "")

    def options(self, *, name: str | None = None, enable_cache: bool | None = None) -> Step:
        """Return the same step under another name, or with caching switched."""
        other = copy.copy(self)
        other.name = name or self.name
        other.enable_cache = self.enable_cache if enable_cache is None else enable_cache
        return other

    @property
    def type_name(self) -> str:
        """The execution type's name: the function's dotted path."""
        return f"{self.function.__module__}.{self.function.__qualname__}"

    @property
    def code(self) -> str:
        """Fingerprint of the function and of the project's code that it uses."""
        return code_fingerprint(self.function)


@overload
def step(function: Callable[..., Any], /) -> Step: ...


@overload
def step(
    *,
    name: str | None = ...,
    enable_cache: bool = ...,
    output_types: Mapping[str, str] | None = ...,
    materializers: Mapping[str, type[Materializer]] | type[Materializer] | None = ...,
    base_type: str = ...,
) -> Callable[[Callable[..., Any]], Step]: ...


def step(function: Callable[..., Any] | None = None, /, **options: Any) -> Step | Callable[..., Step]:
    """Turn a function into a step.

    Args:
        function: The function; what it returns become artifacts, named by its return annotation.
        options: `name`; `enable_cache=False` to run it always; `output_types`, artifact types by output
            name (`{"model": "Model"}`); `materializers`, one class or classes by output name;
            `base_type`, Train, Transform, Process, Evaluate or Deploy.
    """
    if function is None:
        return lambda each: Step(each, **options)
    return Step(function, **options)


def _arguments(bound: inspect.BoundArguments) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in bound.arguments.items():
        if bound.signature.parameters[name].kind is inspect.Parameter.VAR_KEYWORD:
            flat.update(value)
        else:
            flat[name] = list(value) if isinstance(value, tuple) and _handles(value) else value
    return flat


def _handles(value: Any) -> Handle | list[Handle] | None:
    """Return the outputs that an argument is; None if it is a plain value."""
    if isinstance(value, Handle):
        return value
    if isinstance(value, (list, tuple)) and any(isinstance(each, Handle) for each in value):
        if not all(isinstance(each, Handle) for each in value):
            raise PipelineDefinitionError(
                "a list of steps' outputs and plain values cannot be passed to a step",
                hint="pass them as two arguments",
            )
        return list(value)
    return None


def _nodes(after: Any) -> tuple[Node, ...]:
    if isinstance(after, Handle):
        after = (after,)
    flat = [each for item in after for each in (item if isinstance(item, tuple) else (item,))]
    if not all(isinstance(each, Handle) for each in flat):
        raise PipelineDefinitionError(
            "after= takes other steps' outputs", hint="train(rows, after=[checked])"
        )
    return tuple(dict.fromkeys(each.node for each in flat))
