"""`@step`: a Python function as a step of a pipeline."""

from __future__ import annotations

import copy
import functools
import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any, overload

from zen_mlmd.errors import PipelineDefinitionError, UsageError
from zen_mlmd.fingerprint import Fingerprint, fingerprint_of
from zen_mlmd.payloads import Materializer
from zen_mlmd.pipelines.draft import Handle, Node, draft, handles_of, kept, nodes_of
from zen_mlmd.pipelines.functions import check_function
from zen_mlmd.pipelines.outputs import outputs_of


class Step:
    """A function as a step. Called in a pipeline it becomes part of it; called elsewhere it just runs.

    Attributes:
        function: The function.
        name: The step's name in pipelines.
        enable_cache: False if it is always to be run.
        outputs: The types of what it returns, by output name.
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
        self.signature = check_function(function, "@step", reserved=["after"])
        self.function = function
        self.name = name or function.__name__
        self.enable_cache = enable_cache
        self.base_type = base_type
        self.returns = outputs_of(function)
        self.outputs = self.returns.types
        self.artifact_types = dict(output_types or {})
        self.materializers = (
            dict(materializers or {})
            if materializers is None or isinstance(materializers, Mapping)
            else dict.fromkeys(self.outputs, materializers)
        )
        for given in (self.artifact_types, self.materializers):
            for each in given:
                if each not in self.outputs:
                    raise UsageError(
                        f"step {self.name!r} has no output {each!r}",
                        hint=f"its outputs: {', '.join(self.outputs)}",
                    )
        for kind in self.materializers.values():
            _check_materializer(kind, self.name)
        functools.update_wrapper(self, function)

    def __repr__(self) -> str:
        return f"<Step {self.name}>"

    def __call__(
        self, /, *args: Any, after: Iterable[Handle | tuple[Handle, ...]] = (), **kwargs: Any
    ) -> Any:
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
            InvalidValueError: A value cannot be recorded.
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
        node = Node(self, self.name, after=nodes_of(after))
        for name, value in self._arguments(bound).items():
            handles = handles_of(value)
            if handles is None:
                node.parameters[name] = kept(value, f"{self.name}.{name}")
            else:
                node.inputs[name] = handles
        pipeline.add(node)
        made = tuple(Handle(node, name) for name in self.outputs)
        return made[0] if len(made) == 1 else made or Handle(node, "")

    def _arguments(self, bound: inspect.BoundArguments) -> dict[str, Any]:
        flat: dict[str, Any] = {}
        for name, value in bound.arguments.items():
            if bound.signature.parameters[name].kind is not inspect.Parameter.VAR_KEYWORD:
                flat[name] = value
                continue
            for clash in sorted(flat.keys() & value.keys()):
                raise PipelineDefinitionError(
                    f"step {self.name!r}: {clash!r} is the name of a positional parameter and of a keyword",
                    hint="give the keyword another name",
                )
            flat.update(value)
        return flat

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
        return self.fingerprint().code

    def fingerprint(self) -> Fingerprint:
        """Return what the function's code and the project's code that it uses are by now."""
        return fingerprint_of(self.function)


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


def _check_materializer(kind: Any, step: str) -> None:
    if not (isinstance(kind, type) and issubclass(kind, Materializer)) or inspect.isabstract(kind):
        raise UsageError(
            f"step {step!r}: materializers= takes subclasses of Materializer that write and read",
            hint="materializers=MyMaterializer, or by output: materializers={'model': MyMaterializer}",
        )
    if "<locals>" in kind.__qualname__:
        raise UsageError(
            f"step {step!r}: {kind.__qualname__} is defined in a function, where nobody who reads finds it",
            hint="define the materializer at the top of a module",
        )
