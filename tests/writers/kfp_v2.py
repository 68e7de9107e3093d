"""Rows as Kubeflow Pipelines' v2 driver and launcher write them, from 1.6 to 2.17.

After v2/metadata/client.go (1.6 to 1.8) and backend/src/v2/metadata/client.go (2.x): the same contexts,
types, keys, paths and states.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from ml_metadata import metadata_store
from ml_metadata.proto import metadata_store_pb2 as mlmd

Release = Literal["1.6", "1.7", "1.8", "2.0", "2.17"]
Made = Mapping[str, str | int]
"""Of each output the type of the artifact to make, or the id of the one that is there."""


class KfpV2Run:
    """Writes one run.

    Args:
        store: MLMD's own store.
        name: The run's id.
        pipeline: The name of the pipeline's context.
        release: Of Kubeflow Pipelines.
        namespace: Of the run.

    Attributes:
        artifacts: The ids of all artifacts that were made, by task and output.
    """

    def __init__(
        self,
        store: metadata_store.MetadataStore,
        name: str,
        pipeline: str = "p",
        release: Release = "2.17",
        namespace: str = "team-a",
    ) -> None:
        self.store = store
        self.name = name
        self.release = release
        self.namespace = namespace
        self.artifacts: dict[tuple[str, str], int] = {}
        prefix = "kfp" if release == "1.6" else "system"
        told = {"namespace": namespace, "resource_name": "run-resource"}
        told["pipeline_root"] = f"minio://mlpipeline/v2/artifacts/{pipeline}/{name}"
        if release == "2.17":
            told["store_session_info"] = json.dumps({"Provider": "minio", "Params": {"fromEnv": "false"}})
        self._contexts = [
            self._context(f"{prefix}.Pipeline", pipeline, {}),
            self._context(f"{prefix}.PipelineRun", name, {} if release == "1.6" else told),
        ]
        if release != "1.6":
            links = [mlmd.ParentContext(child_id=self._contexts[1].id, parent_id=self._contexts[0].id)]
            store.put_parent_contexts(links)

    def root(self, **parameters: Any) -> int:
        """Write the DAG of the whole run, which nobody updates."""
        return self.dag("", None, name=f"run/{self.name}", parameters=parameters)

    def dag(
        self,
        task: str,
        parent: int | None,
        *,
        state: str = "RUNNING",
        name: str = "",
        display_name: str | None = None,
        parameters: Mapping[str, Any] | None = None,
        inputs: Mapping[str, Sequence[int]] | None = None,
        count: int | None = None,
        index: int | None = None,
        tasks: int | None = None,
        artifact_outputs: Mapping[str, Sequence[tuple[str, str]]] | None = None,
        parameter_outputs: Mapping[str, Sequence[tuple[str, str]]] | None = None,
    ) -> int:
        """Write a DAG; its outputs are pairs of a task in it and that task's output."""
        told: dict[str, Any] = {"iteration_count": count, "iteration_index": index}
        if self.release == "2.17":
            told["total_dag_tasks"] = tasks
            if artifact_outputs:
                told["artifact_producer_task"] = json.dumps(_artifact_selectors(artifact_outputs))
            if parameter_outputs:
                told["parameter_producer_task"] = _parameter_selectors(parameter_outputs)
        return self.execution(
            "DAGExecution",
            task,
            parent,
            state=state,
            name=name,
            told=told,
            parameters=parameters or {},
            inputs=inputs,
            display_name=display_name,
        )

    def task(
        self,
        task: str,
        parent: int | None = None,
        *,
        state: str = "COMPLETE",
        display_name: str | None = None,
        parameters: Mapping[str, Any] | None = None,
        outputs: Mapping[str, Any] | None = None,
        inputs: Mapping[str, Sequence[int]] | None = None,
        made: Made | None = None,
        cached: int | None = None,
        logs: int = 1,
    ) -> int:
        """Write a container; of `logs` attempts the files that they logged to."""
        ran = cached is None and state in ("COMPLETE", "FAILED")
        told: dict[str, Any] = {
            "pod_name": f"{task}-pod" if ran else "",
            "pod_uid": "1" if ran else "",
            "namespace": self.namespace if ran else "",
            "image": "",
            "cached_execution_id": None if cached is None else str(cached),
        }
        if self.release == "1.6":
            told = {"pipeline_name": "p", "pipeline_run_id": self.name, "kfp_pod_name": f"{task}-pod"}
            told["container_image"] = "python:3.9"
        elif self.release == "2.17" and state != "CANCELED":
            told["cache_fingerprint"] = f"fingerprint-of-{task}"
        files: dict[str, str | int] = {}
        if self.release == "2.17" and ran:
            files = {
                f"executor-logs-{each}" if each else "executor-logs": "system.Artifact"
                for each in range(logs)
            }
        return self.execution(
            "ContainerExecution",
            task,
            parent,
            state=state,
            told=told,
            parameters=parameters or {},
            outputs=outputs,
            inputs=inputs,
            display_name=display_name,
            made={**(made or {}), **files},
        )

    def importer(
        self, task: str, parent: int | None, made: str | int, kind: str = "ImporterExecution"
    ) -> int:
        """Write an importer of an artifact: a new one of a type, or one that is there (reimport=False)."""
        return self.execution(kind, task, parent, state="COMPLETE", made={"artifact": made}, display_name="")

    def execution(
        self,
        kind: str,
        task: str,
        parent: int | None,
        *,
        state: str,
        name: str = "",
        told: Mapping[str, Any] | None = None,
        parameters: Mapping[str, Any] | None = None,
        outputs: Mapping[str, Any] | None = None,
        inputs: Mapping[str, Sequence[int]] | None = None,
        made: Made | None = None,
        display_name: str | None = None,
    ) -> int:
        """Write an execution with its inputs and outputs; return its id."""
        prefix = "kfp" if self.release == "1.6" else "system"
        node = mlmd.Execution(
            type_id=self.store.put_execution_type(mlmd.ExecutionType(name=f"{prefix}.{kind}")),
            last_known_state=mlmd.Execution.State.Value(state),
        )
        if name:
            node.name = name
        told = {"task_name": task, **(told or {})}
        if self.release != "1.6":
            told["display_name"] = task if display_name is None else display_name
        if self.release not in ("1.6", "1.7"):
            told["parent_dag_id"] = parent
        for what, values in (("input", parameters), ("output", outputs)):
            if values is None:
                continue
            if self.release in ("1.6", "1.7"):
                told.update((f"{what}:{key}", value) for key, value in values.items())
            else:
                told[f"{what}s"] = dict(values)
        for key, value in told.items():
            if value is not None:
                _set(node.custom_properties[key], value)
        pairs = [
            (self.store.get_artifacts_by_id([each])[0], self._event(mlmd.Event.INPUT, key))
            for key, ids in (inputs or {}).items()
            for each in ids
        ]
        pairs += [
            (self._artifact(task, key, what), self._event(mlmd.Event.OUTPUT, key))
            for key, what in (made or {}).items()
        ]
        execution_id, ids, _ = self.store.put_execution(node, pairs, self._contexts)
        for key, each in zip(made or {}, ids[len(ids) - len(made or {}) :], strict=True):
            self.artifacts[task, key] = each
        return int(execution_id)

    def _event(self, kind: Any, key: str) -> mlmd.Event:
        event = mlmd.Event(type=kind)
        if self.release != "1.6":
            event.path.steps.add(key=key)
        return event

    def _artifact(self, task: str, key: str, what: str | int) -> mlmd.Artifact:
        if isinstance(what, int):
            found: mlmd.Artifact = self.store.get_artifacts_by_id([what])[0]
            return found
        node = mlmd.Artifact(
            type_id=self.store.put_artifact_type(mlmd.ArtifactType(name=what)),
            uri=f"minio://mlpipeline/{self.name}/{task}/{key}",
            state=mlmd.Artifact.LIVE,
        )
        node.custom_properties["display_name"].string_value = key
        return node

    def _context(self, kind: str, name: str, told: Mapping[str, str]) -> mlmd.Context:
        found = self.store.get_context_by_type_and_name(kind, name)
        if found is not None:
            return found
        context = mlmd.Context(type_id=self.store.put_context_type(mlmd.ContextType(name=kind)), name=name)
        for key, value in told.items():
            context.custom_properties[key].string_value = value
        (context.id,) = self.store.put_contexts([context])
        return context


def _set(place: mlmd.Value, value: Any) -> None:
    """Write a custom property; a dict as a struct, whose numbers are doubles."""
    if isinstance(value, dict):
        place.struct_value.SetInParent()  # an empty one is a value, too
        place.struct_value.update(value)
    elif isinstance(value, int):
        place.int_value = value
    elif isinstance(value, float):
        place.double_value = value
    else:
        place.string_value = value


def _artifact_selectors(outputs: Mapping[str, Sequence[tuple[str, str]]]) -> dict[str, Any]:
    """Return what Go's encoding/json makes of the outputs of a DAG."""
    return {
        name: {
            "artifact_selectors": [
                {"producer_subtask": task, "output_artifact_key": output} for task, output in sources
            ]
        }
        for name, sources in outputs.items()
    }


def _parameter_selectors(outputs: Mapping[str, Sequence[tuple[str, str]]]) -> dict[str, str]:
    """Return what Go's protojson makes of them: of one source a selector, of several a list of them."""
    told: dict[str, str] = {}
    for name, sources in outputs.items():
        selectors = [{"producerSubtask": task, "outputParameterKey": output} for task, output in sources]
        one_of = {"valueFromOneof": {"parameterSelectors": selectors}}
        told[name] = json.dumps({"valueFromParameter": selectors[0]} if len(selectors) == 1 else one_of)
    return told
