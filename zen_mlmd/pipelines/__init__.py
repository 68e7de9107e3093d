"""The ZenML-style façade: steps and pipelines as decorated functions, run here, recorded and cached."""

from zen_mlmd.pipelines.context import StepContext, get_step_context
from zen_mlmd.pipelines.pipeline import Pipeline, RunOptions, pipeline
from zen_mlmd.pipelines.step import Step, step

__all__ = ["Pipeline", "RunOptions", "Step", "StepContext", "get_step_context", "pipeline", "step"]
