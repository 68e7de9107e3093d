"""What a running step can ask and add: `get_step_context()`."""

from __future__ import annotations

import contextvars
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

from zen_mlmd.errors import UsageError
from zen_mlmd.recording.recorder import RunRecorder
from zen_mlmd.recording.step import StepRecorder

if TYPE_CHECKING:
    from zen_mlmd.store import Store


class StepContext:
    """The step that is running.

    What it logs is lost for a later run that finds the step in the cache: a cached step is not run.
    """

    def __init__(
        self, store: Store, run: RunRecorder, recorder: StepRecorder, outputs: Collection[str]
    ) -> None:
        self.store = store
        self._run = run
        self._recorder = recorder
        self._outputs = outputs
        self.output_properties: dict[str, dict[str, Any]] = {}

    @property
    def pipeline_name(self) -> str:
        """The pipeline's name."""
        return self._run.pipeline

    @property
    def run_name(self) -> str:
        """The run's name."""
        return self._run.name

    @property
    def step_name(self) -> str:
        """The step's name."""
        return self._recorder.name

    def log_metrics(self, values: Mapping[str, float]) -> None:
        """Add metrics to the step."""
        self._recorder.log_metrics(values)

    def log_properties(self, values: Mapping[str, Any]) -> None:
        """Add properties to the step."""
        self._recorder.log_properties(values)

    def log_output_properties(self, values: Mapping[str, Any], *, output: str = "output") -> None:
        """Add properties to an output that the step will return.

        Raises:
            UsageError: The step has no such output.
            InvalidValueError: Something given cannot be kept.
            RejectedRequestError: The store cannot keep something given.
        """
        if output not in self._outputs:
            raise UsageError(
                f"step {self.step_name!r} has no output {output!r}",
                hint=f"its outputs: {', '.join(self._outputs) or 'none'}",
            )
        self._recorder.check_output_properties(values)
        self.output_properties.setdefault(output, {}).update(values)


current: contextvars.ContextVar[StepContext | None] = contextvars.ContextVar("zen_mlmd_step", default=None)


def get_step_context() -> StepContext:
    """Return the context of the step that is running.

    Raises:
        UsageError: No step is running.
    """
    found = current.get()
    if found is None:
        raise UsageError("no step is running", hint="call get_step_context() in a step that a pipeline runs")
    return found
