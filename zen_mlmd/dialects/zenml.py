"""ZenML 0.13: TFX's layout without parent contexts; parameters and its own notes as JSON strings."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

from ml_metadata.proto import metadata_store_pb2 as mlmd

from zen_mlmd.dialects import tfx
from zen_mlmd.dialects.properties import from_property
from zen_mlmd.model import Artifact, StepRun

NAME = "zenml"
_PREFIX = "zenml-"
_STEP_NAME = "zenml-pipeline_parameter_name"


def is_step(execution: mlmd.Execution) -> bool:
    """Tell whether ZenML wrote an execution."""
    return _STEP_NAME in execution.custom_properties


def is_artifact(node: mlmd.Artifact) -> bool:
    """Tell whether ZenML wrote an artifact."""
    return "materializer" in node.properties and "datatype" in node.properties


def step(execution: mlmd.Execution, kind: mlmd.ExecutionType) -> StepRun:
    """Return a step run, named as the pipeline's function names it."""
    values = {key: _json(from_property(value)) for key, value in execution.custom_properties.items()}
    plain = tfx.step(execution, kind, str(values[_STEP_NAME]))
    return dataclasses.replace(
        plain,
        dialect=NAME,
        parameters={key: value for key, value in values.items() if not key.startswith(_PREFIX)},
        code=str(values.get("zenml-step_source") or ""),
    )


def artifact(node: mlmd.Artifact, kind: mlmd.ArtifactType) -> Artifact:
    """Return an artifact with the Python type and the materializer that ZenML noted."""
    plain = tfx.artifact(node, kind)
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
    except ValueError:
        return value
