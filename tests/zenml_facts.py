"""What ZenML said of its runs, held against what is read of them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from zen_mlmd.model import INPUT_EVENTS, OUTPUT_EVENTS
from zen_mlmd.reading.artifacts import ArtifactView
from zen_mlmd.reading.steps import StepView


def digest(path: Path) -> str:
    """Return the SHA-256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def typed(values: Mapping[str, Any]) -> dict[str, tuple[str, Any]]:
    """Return values with their types, so that neither 1 and 1.0 nor 1 and True are equal."""
    return {key: (type(value).__name__, value) for key, value in values.items()}


def check_artifact(artifact: ArtifactView, expected: Mapping[str, Any]) -> None:
    producer = artifact.producer_step
    found = {
        "id": artifact.id,
        "type": artifact.type,
        "uri": artifact.uri,
        "data_type": artifact.data_type,
        "materializer": artifact.record.materializer,
        "parent_step_id": artifact.parent_step_id,
        "producer_step_id": None if producer is None else producer.id,
        "is_cached": artifact.is_cached,
    }
    assert found == expected
    assert artifact.record.state == "live"


def check_step(step: StepView, expected: Mapping[str, Any]) -> None:
    found = {
        "id": step.id,
        "name": step.name,
        "entrypoint_name": step.entrypoint_name,
        "status": str(step.status),
        "parents_step_ids": [parent.id for parent in step.parents],
    }
    assert found == {key: expected[key] for key in found}
    assert typed(step.parameters) == typed(expected["parameters"])
    assert step.record.dialect == "zenml"
    assert step.is_cached is (expected["status"] == "cached")
    assert step.is_completed is (expected["status"] in ("completed", "cached"))
    for slots, artifacts, types in (
        (step.inputs, expected["inputs"], INPUT_EVENTS),
        (step.outputs, expected["outputs"], OUTPUT_EVENTS),
    ):
        assert list(slots) == sorted(artifacts)
        # Where the rows have a name that ZenML's API lost, there would be more of them.
        assert sorted(slot.name for event in step.events(types) for slot in event.slots) == sorted(artifacts)
        for name, facts in artifacts.items():
            check_artifact(slots[name], facts)
