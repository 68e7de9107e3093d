"""ZenML 0.5 to 0.13: TFX's layout without parent contexts; parameters and its own notes as JSON strings.

Releases differ in what else they write: the names of executions (since 0.7) and artifacts (since 0.8),
contexts of the stack and of requirements (`stack` and `pipeline_requirements` in 0.6 to 0.10, `zenml`
since 0.11). None of that is needed to read them. A step's name in its pipeline is noted since 0.5.4.
"""

from __future__ import annotations

import dataclasses
import json
from typing import Any

from ml_metadata.proto import metadata_store_pb2 as mlmd

from zen_mlmd.dialects import base, tfx
from zen_mlmd.dialects.properties import text
from zen_mlmd.model import Artifact, StepRun

NAME = "zenml"
PIPELINES = tfx.PIPELINES
RUNS = tfx.RUNS
NODE = ""  # its `node` contexts are named by the step's class, not by its name in the pipeline
GROUPS = tfx.GROUPS
ASIDE = tfx.ASIDE

_PREFIX = "zenml-"
_STEP_NAME = "zenml-pipeline_parameter_name"
_FIRST_TYPES = "zenml.steps.base_step."
"""What the types of steps begin with in 0.5.0, which notes nothing of its own."""

# A run is TFX's in all but its steps.
pipeline_name, pipeline_of_run, run_contexts = tfx.pipeline_name, tfx.pipeline_of_run, tfx.run_contexts
run, role, assemble = tfx.run, tfx.role, tfx.assemble


def is_run(_context: mlmd.Context) -> bool:
    """Claim no run: only its steps tell a run of ZenML's from one of TFX's."""
    return False


def is_step(execution: mlmd.Execution, kind: mlmd.ExecutionType) -> bool:
    """Tell whether ZenML wrote an execution."""
    own = any(text(key).startswith(_PREFIX) for key in execution.custom_properties)
    return own or text(kind.name).startswith(_FIRST_TYPES)


def is_artifact(node: mlmd.Artifact, _kind: mlmd.ArtifactType) -> bool:
    """Tell whether ZenML wrote an artifact."""
    return "materializer" in node.properties and "datatype" in node.properties


def step(execution: mlmd.Execution, kind: mlmd.ExecutionType) -> StepRun:
    """Return a step run, named as the pipeline's function names it, or before 0.5.4 as its class."""
    values = {key: _json(value) for key, value in base.custom_properties(execution).items()}
    name = str(values.get(_STEP_NAME) or text(kind.name).rpartition(".")[2])
    plain = base.plain_step(execution, kind, name=name, dialect=NAME)
    return dataclasses.replace(
        plain,
        parameters={key: value for key, value in values.items() if not key.startswith(_PREFIX)},
        code=str(values.get("zenml-step_source") or ""),
    )


def artifact(node: mlmd.Artifact, kind: mlmd.ArtifactType) -> Artifact:
    """Return an artifact with the Python type and the materializer that ZenML noted."""
    plain = base.plain_artifact(node, kind)
    return dataclasses.replace(
        plain,
        data_type=str(plain.properties.get("datatype") or ""),
        materializer=str(plain.properties.get("materializer") or ""),
    )


def _json(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        return value
