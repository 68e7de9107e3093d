"""Rows as TFX of three eras writes them: 0.25 and before (today in notebooks), 1.0 to 1.10, 1.11 and after.

After tfx/orchestration/metadata.py (0.25) and tfx/orchestration/portable/mlmd (1.x): the same contexts,
properties, paths and states, in the same order of calls.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from ml_metadata import metadata_store
from ml_metadata.proto import metadata_store_pb2 as mlmd

Era = Literal["0.25", "1.10", "1.21"]
Outputs = Mapping[str, str]
"""The artifact type of each output."""


class TfxWriter:
    """Writes runs of one pipeline into a store.

    Args:
        config: MLMD's own connection config.
        era: The version of TFX.
        pipeline: The pipeline's name.
        outer: The pipeline that it is a node of, if it is of one (since 1.8).
    """

    def __init__(self, config: Any, era: Era, pipeline: str, *, outer: str = "") -> None:
        self.store = metadata_store.MetadataStore(config)
        self.era = era
        self.pipeline = pipeline
        self.outer = outer

    def step(
        self,
        run: str,
        node: str,
        *,
        type_name: str,
        parameters: Mapping[str, Any] | None = None,
        inputs: Mapping[str, Sequence[int]] | None = None,
        outputs: Outputs | None = None,
        state: Literal["new", "complete", "cached", "failed"] = "complete",
        cached: Mapping[str, int] | None = None,
    ) -> tuple[int, dict[str, int]]:
        """Write a step; return its id, and those of its outputs by name."""
        legacy = self.era == "0.25"
        contexts = self._legacy_contexts(run, node) if legacy else self._contexts(run, node)
        execution = self._execution(run, node, type_name, parameters or {}, state)
        pairs: list[tuple[mlmd.Artifact, mlmd.Event]] = [
            (mlmd.Artifact(id=each), self._event(mlmd.Event.INPUT, key, place))
            for key, ids in (inputs or {}).items()
            for place, each in enumerate(ids)
        ]
        known = self.store.get_artifacts_by_id([pair[0].id for pair in pairs])
        by_id = {each.id: each for each in known}
        pairs = [(by_id[artifact.id], event) for artifact, event in pairs]
        execution.id, _, _ = self.store.put_execution(execution, pairs, contexts)
        # Up to 0.25 outputs are there from the start, and become published; later they come with success.
        made = {} if state == "failed" or cached else outputs or {}
        emitted = [
            (
                self._artifact((run, node, key), kind, execution.id, state, imported="Importer" in type_name),
                self._event(mlmd.Event.OUTPUT, key),
            )
            for key, kind in made.items()
        ]
        emitted += [
            (self.store.get_artifacts_by_id([each])[0], self._event(mlmd.Event.OUTPUT, key))
            for key, each in (cached or {}).items()
        ]
        _, ids, _ = self.store.put_execution(execution, emitted, contexts)
        return execution.id, dict(zip([*made, *(cached or {})], ids, strict=True))

    def _contexts(self, run: str, node: str) -> list[mlmd.Context]:
        # In the order of `prepare_contexts`: first all pipelines, which a run is then made a child of.
        pipelines = [self._context("pipeline", each) for each in (self.pipeline, self.outer) if each]
        wanted = [("pipeline_run", run)]
        if self.outer:
            wanted[:0] = [
                ("pipeline_run", f"{self.pipeline}_{run}"),
                ("node", f"{self.outer}.{self.pipeline}"),
            ]
        contexts = []
        for kind, name in (*wanted, ("node", f"{self.pipeline}.{node}")):
            is_new = self.store.get_context_by_type_and_name(kind, name) is None
            contexts.append(self._context(kind, name))
            if is_new and kind == "pipeline_run" and self.era != "1.10":
                self.store.put_parent_contexts(
                    [mlmd.ParentContext(child_id=contexts[-1].id, parent_id=each.id) for each in pipelines]
                )
        return [*pipelines, *contexts]

    def _legacy_contexts(self, run: str, node: str) -> list[mlmd.Context]:
        told = {"pipeline_name": self.pipeline, "run_id": run}
        return [
            self._context("pipeline", self.pipeline, {"pipeline_name": self.pipeline}),
            self._context("run", f"{self.pipeline}.{run}", told),
            self._context("component_run", f"{self.pipeline}.{run}.{node}", {**told, "component_id": node}),
        ]

    def _context(self, kind: str, name: str, told: Mapping[str, str] | None = None) -> mlmd.Context:
        found = self.store.get_context_by_type_and_name(kind, name)
        if found is not None:
            return found
        message = mlmd.ContextType(name=kind)
        for key in told or {}:
            message.properties[key] = mlmd.STRING
        context = mlmd.Context(
            type_id=self.store.put_context_type(message, can_add_fields=True, can_omit_fields=True), name=name
        )
        for key, value in (told or {}).items():
            context.properties[key].string_value = value
        (context.id,) = self.store.put_contexts([context])
        return context

    def _execution(
        self, run: str, node: str, type_name: str, parameters: Mapping[str, Any], state: str
    ) -> mlmd.Execution:
        kind, execution = mlmd.ExecutionType(name=type_name), mlmd.Execution()
        if self.era == "0.25":
            told = {
                "state": state,
                "pipeline_name": self.pipeline,
                "pipeline_root": f"/tfx/{self.pipeline}",
                "run_id": run,
                "component_id": node,
                **{key: str(value) for key, value in parameters.items()},
            }
            for key, value in told.items():
                kind.properties[key] = mlmd.STRING
                execution.properties[key].string_value = value
        else:
            execution.name = str(uuid.uuid4())
            for key, value in parameters.items():
                field = {int: "int_value", float: "double_value", str: "string_value"}[type(value)]
                setattr(execution.custom_properties[key], field, value)
        execution.type_id = self.store.put_execution_type(kind, can_add_fields=True, can_omit_fields=True)
        execution.last_known_state = {
            "new": mlmd.Execution.RUNNING,
            "complete": mlmd.Execution.COMPLETE,
            "cached": mlmd.Execution.CACHED,
            "failed": mlmd.Execution.FAILED,
        }[state]
        return execution

    def _artifact(
        self, place: tuple[str, str, str], type_name: str, execution_id: int, state: str, *, imported: bool
    ) -> mlmd.Artifact:
        run, node, key = place
        artifact = mlmd.Artifact(
            type_id=self.store.put_artifact_type(mlmd.ArtifactType(name=type_name)),
            uri=f"/tfx/{self.pipeline}/{node}/{key}/{execution_id}",
        )
        custom = artifact.custom_properties
        if self.era == "0.25" and imported:
            return artifact
        if self.era == "0.25":
            custom["name"].string_value = key
            custom["producer_component"].string_value = node
            if state != "new":
                custom["state"].string_value = "published"
                artifact.state = mlmd.Artifact.LIVE
            return artifact
        artifact.state = mlmd.Artifact.LIVE
        custom["tfx_version"].string_value = f"{self.era}.0"
        if self.era == "1.10":
            artifact.name = f"{self.pipeline}:{run}:{node}:{execution_id}:{key}:0"
            custom["name"].string_value = artifact.name
        else:
            custom["is_external"].int_value = int(imported)
        return artifact

    @staticmethod
    def _event(kind: Any, key: str, index: int = 0) -> mlmd.Event:
        event = mlmd.Event(type=kind)
        event.path.steps.add(key=key)
        event.path.steps.add(index=index)
        return event
