"""Rows as ZenML's releases from 0.5.0 to 0.13.2 write them, through TFX's launcher.

What differs between them: which of a step's own notes are there, the names of executions and artifacts,
and further contexts (zenml/orchestrators/context_utils.py, zenml/steps/base_step.py).
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from ml_metadata import metadata_store
from ml_metadata.proto import metadata_store_pb2 as mlmd

Release = Literal["0.5.0", "0.5.3", "0.5.7", "0.6.3", "0.7.3", "0.8.1", "0.11.0", "0.13.2"]
RELEASES: tuple[Release, ...] = ("0.5.0", "0.5.3", "0.5.7", "0.6.3", "0.7.3", "0.8.1", "0.11.0", "0.13.2")
STATES = {
    "completed": mlmd.Execution.COMPLETE,
    "cached": mlmd.Execution.CACHED,
    "failed": mlmd.Execution.FAILED,
    "running": mlmd.Execution.RUNNING,
}


class ZenMLWriter:
    """Writes runs of one pipeline.

    Args:
        store: MLMD's own store.
        pipeline: The pipeline's name.
        release: Of ZenML.
    """

    def __init__(self, store: metadata_store.MetadataStore, pipeline: str, release: Release) -> None:
        self.store = store
        self.pipeline = pipeline
        self.release = release
        self._at = RELEASES.index(release)

    def step(
        self,
        run: str,
        name: str,
        function: str,
        *,
        parameters: Mapping[str, Any] | None = None,
        inputs: Mapping[int, Sequence[str]] | None = None,
        outputs: Mapping[str, str | int] | None = None,
        state: str = "completed",
    ) -> tuple[int, dict[str, int]]:
        """Write a step; return its id, and those of its outputs by name.

        Args:
            run: The run's name.
            name: What the pipeline's function calls the step.
            function: What the step's function is called, which its class is named after.
            parameters: Of the step.
            inputs: The names under which it takes each artifact.
            outputs: The type of each output to make, or the id of the one that was cached.
            state: How it ended.
        """
        module = "zenml.steps.base_step" if self.release == "0.5.0" else "pipe"
        node = mlmd.Execution(
            type_id=self.store.put_execution_type(mlmd.ExecutionType(name=f"{module}.{function}")),
            last_known_state=STATES[state],
        )
        if self._since("0.7.3"):
            node.name = str(uuid.uuid4())
        told = {**(parameters or {}), **self._notes(name, list(outputs or {}))}
        for key, value in told.items():
            node.custom_properties[key].string_value = json.dumps(value)
        contexts = self._contexts(run, function)
        taken = [
            (self._known(each), _event(mlmd.Event.INPUT, names)) for each, names in (inputs or {}).items()
        ]
        node.id, _, _ = self.store.put_execution(node, taken, contexts)
        made = [
            (self._artifact((run, function, key), what, node.id), _event(mlmd.Event.OUTPUT, [key]))
            for key, what in (outputs or {}).items()
        ]
        _, ids, _ = self.store.put_execution(node, made, contexts)
        return int(node.id), dict(zip(outputs or {}, ids, strict=True))

    def _since(self, release: Release) -> bool:
        return self._at >= RELEASES.index(release)

    def _notes(self, name: str, outputs: Sequence[str]) -> dict[str, Any]:
        notes: dict[str, Any] = {}
        if self._since("0.5.3"):
            notes["zenml-step_source"] = f"source-of-{name}"
        if self._since("0.5.7"):
            notes["zenml-pipeline_parameter_name"] = name
            notes.update((f"zenml-{each}_materializer_source", "hash") for each in outputs)
        if self._since("0.6.3"):
            notes["zenml-custom_step_operator"] = None
        return notes

    def _contexts(self, run: str, function: str) -> list[mlmd.Context]:
        wanted: list[tuple[str, str, dict[str, str]]] = [
            ("pipeline", self.pipeline, {}),
            ("pipeline_run", run, {}),
            ("node", f"{self.pipeline}.{function}", {}),
            ("execution_cache", f"{self.pipeline}.{function}".encode().hex(), {}),
        ]
        if self._since("0.11.0"):
            requirements = "pipeline_requirements" if self.release == "0.11.0" else "docker_configuration"
            told = {"stack": "{}", "runtime_configuration": "{}", requirements: "{}"}
            wanted.append(("zenml", "0cc175b9c0f1b6a831c399e269772661", told))
        elif self._since("0.6.3"):
            stack = {"name": "local", "orchestrator": "local", "artifact_store": "a", "metadata_store": "m"}
            wanted.append(("stack", "-4185895746316213463", stack))
            wanted.append(("pipeline_requirements", "0", {}))
        return [self._context(*each) for each in wanted]

    def _context(self, kind: str, name: str, told: Mapping[str, str]) -> mlmd.Context:
        found = self.store.get_context_by_type_and_name(kind, name)
        if found is not None:
            return found
        context = mlmd.Context(type_id=self.store.put_context_type(mlmd.ContextType(name=kind)), name=name)
        for key, value in told.items():
            context.custom_properties[key].string_value = value
        (context.id,) = self.store.put_contexts([context])
        return context

    def _artifact(self, place: tuple[str, str, str], what: str | int, execution: int) -> mlmd.Artifact:
        if isinstance(what, int):
            return self._known(what)
        run, function, key = place
        kind = mlmd.ArtifactType(name=what)
        kind.properties["datatype"] = kind.properties["materializer"] = mlmd.STRING
        node = mlmd.Artifact(
            type_id=self.store.put_artifact_type(kind),
            uri=f"/store/{function}/{key}/{execution}",
            state=mlmd.Artifact.LIVE,
        )
        node.properties["datatype"].string_value = "builtins.dict"
        node.properties["materializer"].string_value = f"zenml.materializers.Any@zenml_{self.release}"
        name = f"{self.pipeline}:{run}:{function}:{key}:0"
        node.custom_properties["name"].string_value = name if self._since("0.5.7") else key
        node.custom_properties["tfx_version"].string_value = "1.8.0"
        if self._since("0.8.1"):
            node.name = name
        return node

    def _known(self, artifact_id: int) -> mlmd.Artifact:
        found: mlmd.Artifact = self.store.get_artifacts_by_id([artifact_id])[0]
        return found


def _event(kind: Any, names: Sequence[str]) -> mlmd.Event:
    event = mlmd.Event(type=kind)
    for name in names:
        event.path.steps.add(key=name)
        event.path.steps.add(index=0)
    return event
