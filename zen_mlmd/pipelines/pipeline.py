"""`@pipeline`: a function that puts steps together; calling it runs them, recorded and cached."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, overload

from zen_mlmd.errors import PipelineDefinitionError, UsageError
from zen_mlmd.payloads import ArtifactStore, MaterializerRegistry, default_registry
from zen_mlmd.pipelines.draft import Draft, Handle, Node, draft, kept
from zen_mlmd.pipelines.functions import check_function
from zen_mlmd.pipelines.runner import LocalRunner
from zen_mlmd.reading.runs import PipelineRunView
from zen_mlmd.stack import ActiveStack, active_artifacts, active_max_parallel
from zen_mlmd.stack.words import Kind
from zen_mlmd.store import Store, open_store


@dataclass(frozen=True)
class RunOptions:
    """How a pipeline is run.

    Attributes:
        name: The run's name; made of the pipeline's and the time if None.
        enable_cache: False to run every step.
        store: Where it is recorded: a store, a URL, or None for the active one.
        artifacts: Root of the artifact store; the active one if None.
        max_parallel: How many independent steps may run at once, in threads; what the active
            orchestrator has if None.
        registry: The materializers.
    """

    name: str | None = None
    enable_cache: bool = True
    store: Store | str | Path | None = None
    artifacts: str | Path | None = None
    max_parallel: int | None = None
    registry: MaterializerRegistry | None = None

    def __post_init__(self) -> None:
        at_once = 1 if self.max_parallel is None else self.max_parallel
        if type(at_once) is not int or at_once < 1:
            raise UsageError(
                "max_parallel is not a number from 1 on", hint="give how many steps may run at once"
            )

    def but(self, **options: Any) -> RunOptions:
        """Return them with others in their place.

        Raises:
            UsageError: There is no such option.
        """
        for unknown in sorted(options.keys() - self.__dataclass_fields__.keys()):
            known = ", ".join(self.__dataclass_fields__)
            raise UsageError(f"no such option of a pipeline: {unknown}", hint=f"there are: {known}")
        return replace(self, **options)


class Pipeline:
    """A function that puts steps together.

    Attributes:
        name: The pipeline's name.
        run_options: How its runs are run.
    """

    def __init__(self, function: Callable[..., Any], *, name: str | None = None, **options: Any) -> None:
        self.signature = check_function(function, "@pipeline", reserved=["name", "enable_cache"])
        self.function = function
        self.name = name or function.__name__
        self.run_options = RunOptions().but(**options)
        functools.update_wrapper(self, function)

    def __repr__(self) -> str:
        return f"<Pipeline {self.name}>"

    def options(self, **options: Any) -> Pipeline:
        """Return the pipeline with other `RunOptions`: `churn.options(name="monday")("raw.csv")`."""
        other = copy.copy(self)
        other.run_options = self.run_options.but(**options)
        return other

    def run(
        self, /, *args: Any, name: str | None = None, enable_cache: bool | None = None, **kwargs: Any
    ) -> Any:
        """Run the pipeline once, under a name, or with caching switched; else like a call."""
        wanted: dict[str, Any] = {"name": name} if name is not None else {}
        if enable_cache is not None:
            wanted["enable_cache"] = enable_cache
        return self.options(**wanted)(*args, **kwargs)

    def plan(self, /, *args: Any, **kwargs: Any) -> list[Node]:
        """Put the steps together without running them.

        Raises:
            PipelineDefinitionError: The function uses no step, or is called within another pipeline.
        """
        if draft.get() is not None:
            raise PipelineDefinitionError(
                f"pipeline {self.name!r} is called within another", hint="call its steps instead"
            )
        made = Draft()
        token = draft.set(made)
        try:
            self.function(*args, **kwargs)
        finally:
            draft.reset(token)
        if not made.nodes:
            raise PipelineDefinitionError(
                f"pipeline {self.name!r} uses no step", hint="call functions decorated with @step in it"
            )
        return list(made.nodes.values())

    def __call__(self, /, *args: Any, **kwargs: Any) -> PipelineRunView:
        """Run the pipeline and return its run.

        Raises:
            PipelineDefinitionError: Its steps do not form a pipeline, or the arguments do not fit.
            InvalidValueError: An argument cannot be recorded.
            Exception: What a step raised, after it was recorded.
        """
        parameters = self._parameters(args, kwargs)
        nodes = self.plan(*args, **kwargs)
        options = self.run_options
        store = options.store if isinstance(options.store, Store) else open_store(options.store)
        run = store.record_run(
            self.name,
            name=options.name,
            parameters=parameters,
            plan={node.name: node.waits_for for node in nodes},
            stack=self._stack(store),
        )
        with run:
            LocalRunner(
                store=store,
                artifacts=ArtifactStore(options.artifacts or active_artifacts()),
                registry=options.registry or default_registry(),
                run=run,
                enable_cache=options.enable_cache,
                max_parallel=options.max_parallel or active_max_parallel(),
            ).run_all(nodes)
        return store.get_run(run.name)

    def _stack(self, store: Store) -> dict[str, Any]:
        options = self.run_options
        others: dict[Kind, str] = {}
        if options.store is not None:
            others["metadata_store"] = store.config.flavor
        if options.artifacts is not None:
            others["artifact_store"] = "remote" if "://" in str(options.artifacts) else "local"
        return ActiveStack().recorded(others)

    def _parameters(self, args: Any, kwargs: Any) -> dict[str, Any]:
        """Return the parameters as they are before the function sees them."""
        try:
            bound = self.signature.bind(*args, **kwargs)
        except TypeError as error:
            raise PipelineDefinitionError(
                f"pipeline {self.name!r}: {error}", hint=f"it is {self.name}{self.signature}"
            ) from None
        bound.apply_defaults()
        return {name: kept(value, f"{self.name}.{name}") for name, value in bound.arguments.items()}


@overload
def pipeline(function: Callable[..., Any], /) -> Pipeline: ...


@overload
def pipeline(**options: Any) -> Callable[[Callable[..., Any]], Pipeline]: ...


def pipeline(function: Callable[..., Any] | None = None, /, **options: Any) -> Any:
    """Turn a function that calls steps into a pipeline.

    Args:
        function: The function. It is called to put the steps together: they get each other's outputs,
            which have no value yet.
        options: `name`, the pipeline's; and what `RunOptions` has, as defaults of its runs
            (`enable_cache=False`, `max_parallel=4`, `store=...`, `artifacts=...`).
    """
    if function is None:
        return lambda each: Pipeline(each, **options)
    return Pipeline(function, **options)


__all__ = ["Handle", "Pipeline", "RunOptions", "pipeline"]
