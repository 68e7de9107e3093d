"""What TFX's own library does with a metadata store. Run by a Python that has TFX, not by ours.

    python tfx_script.py read < request.json     reads runs with tfx.orchestration.portable.mlmd
    python tfx_script.py run < request.json      runs a TFX pipeline whose Resolver looks for a model
    python tfx_script.py cache < request.json    runs a TFX pipeline that caches
    python tfx_script.py notebook < request.json runs nodes one by one, as notebooks do: in the layout of 0.25

A request names the store by MLMD's own connection config, serialized; the last line printed is the
answer, as JSON. Needs nothing but the packages `ml-pipelines-sdk` and `ml-metadata`.
"""

# No `from __future__ import annotations`: TFX reads a component's annotations as objects.
# mypy: disable-error-code="import-not-found, untyped-decorator, valid-type"

import base64
import contextlib
import json
import sys
from collections.abc import Sequence
from typing import Any

from ml_metadata.proto import metadata_store_pb2 as mlmd
from tfx.dsl.component.experimental.annotations import InputArtifact, OutputArtifact, OutputDict, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.dsl.components.common.importer import Importer
from tfx.dsl.components.common.resolver import Resolver
from tfx.dsl.input_resolution.strategies.latest_artifact_strategy import LatestArtifactStrategy
from tfx.orchestration import data_types, metadata, pipeline
from tfx.orchestration.launcher.in_process_component_launcher import InProcessComponentLauncher
from tfx.orchestration.local.local_dag_runner import LocalDagRunner
from tfx.orchestration.portable import cache_utils
from tfx.orchestration.portable.input_resolution import channel_resolver
from tfx.orchestration.portable.mlmd import artifact_lib, context_lib, event_lib, execution_lib
from tfx.proto.orchestration import pipeline_pb2
from tfx.types import Channel
from tfx.types.standard_artifacts import Model, PushedModel, Schema


def config_of(request: dict[str, Any]) -> Any:
    """Return the connection config of a request: a database's, or a gRPC server's."""
    return getattr(mlmd, request["config_type"]).FromString(base64.b64decode(request["config"]))


def contexts_of(handle: Any, pipeline_name: str, run: str, node: str) -> list[Any]:
    """Return the contexts of a node in a run, as TFX's launcher prepares them before it runs a node."""
    wanted = pipeline_pb2.NodeContexts()
    for kind, name in (
        ("pipeline", pipeline_name),
        ("pipeline_run", run),
        ("node", f"{pipeline_name}.{node}"),
    ):
        context = wanted.contexts.add()
        context.type.name = kind
        context.name.field_value.string_value = name
    return list(context_lib.prepare_contexts(handle, wanted))


def shown(artifacts: Any) -> dict[str, list[dict[str, Any]]]:
    """Return TFX artifacts by key, as plain values."""
    return {
        key: [
            {
                "id": each.id,
                "type": each.type_name,
                "class": type(each).__name__,
                "uri": each.uri,
                "live": each.mlmd_artifact.state == mlmd.Artifact.LIVE,
                "published": each.state == "published",
            }
            for each in found
        ]
        for key, found in artifacts.items()
    }


def state(execution: Any) -> dict[str, bool]:
    """Return what TFX takes an execution for."""
    return {
        "successful": execution_lib.is_execution_successful(execution),
        "failed": execution_lib.is_execution_failed(execution),
        "active": execution_lib.is_execution_active(execution),
        "cached": execution.last_known_state == mlmd.Execution.CACHED,
    }


def read_node(handle: Any, pipeline_name: str, run: str, node: str) -> list[dict[str, Any]]:
    """Return the executions of a node in a run, with their inputs and outputs."""
    contexts = contexts_of(handle, pipeline_name, run, node)
    executions = execution_lib.get_executions_associated_with_all_contexts(handle, contexts)
    return [
        {
            "id": each.id,
            "state": state(each),
            "inputs": shown(execution_lib.get_input_artifacts(handle, each.id)),
            "outputs": shown(execution_lib.get_output_artifacts(handle, each.id)),
            "input_ids": event_lib.reconstruct_artifact_id_multimap(
                [e for e in events_of(handle, each.id) if event_lib.is_valid_input_event(e)]
            ),
            "cached_outputs": cached_outputs(handle, each.id),
        }
        for each in sorted(executions, key=lambda each: int(each.id))
    ]


def events_of(handle: Any, execution_id: int) -> list[Any]:
    """Return the events of one execution."""
    return list(handle.store.get_events_by_execution_ids([execution_id]))


def cached_outputs(handle: Any, execution_id: int) -> Any:
    """Return what TFX's cache would serve under an execution's key; None where it would serve nothing."""
    kind = handle.store.get_context_type("execution_cache").id
    keys = [each for each in handle.store.get_contexts_by_execution(execution_id) if each.type_id == kind]
    if not keys:
        return None
    found = cache_utils.get_cached_outputs(handle, keys[0])
    return None if found is None else shown(found)


def runs_of(handle: Any, pipeline_id: int) -> dict[str, dict[str, Any]]:
    """Return the runs of a pipeline: its children, as TFX's partial runs look for them."""
    kind = handle.store.get_context_type("pipeline_run").id
    return {
        each.name: {
            "id": each.id,
            "parents": [parent.name for parent in handle.store.get_parent_contexts_by_context(each.id)],
        }
        for each in handle.store.get_children_contexts_by_context(pipeline_id)
        if each.type_id == kind
    }


def channel(pipeline_name: str, node: str, key: str, type_name: str) -> Any:
    """Return where a TFX node of that pipeline looks for an input; without a node, all of the pipeline's."""
    wanted = pipeline_pb2.InputSpec.Channel(output_key=key)
    wanted.artifact_query.type.name = type_name
    queries = [("pipeline", pipeline_name)]
    if node:
        wanted.producer_node_query.id = node
        queries.append(("node", f"{pipeline_name}.{node}"))
    for kind, name in queries:
        query = wanted.context_queries.add()
        query.type.name = kind
        query.name.field_value.string_value = name
    return wanted


def resolve(handle: Any, pipeline_name: str, wanted: Sequence[dict[str, str]]) -> list[dict[str, Any]]:
    """Return what channels resolve to, and the latest of it by TFX's strategy."""
    answers = []
    for each in wanted:
        found = channel_resolver.resolve_single_channel(handle, channel(pipeline_name, **each))
        latest = LatestArtifactStrategy().resolve_artifacts(handle.store, {"latest": found})
        answers.append({"all": sorted(one.id for one in found), "latest": shown(latest or {}).get("latest")})
    return answers


def count(handle: Any) -> dict[str, int]:
    """Return how much there is in the store: TFX shall find things rather than make them anew."""
    store = handle.store
    return {
        "contexts": len(store.get_contexts()),
        "context_types": len(store.get_context_types()),
        "executions": len(store.get_executions()),
        "artifacts": len(store.get_artifacts()),
    }


def read(request: dict[str, Any]) -> dict[str, Any]:
    """Read the runs that a request names."""
    name = request["pipeline"]
    with metadata.Metadata(config_of(request)) as handle:
        before = count(handle)
        context = context_lib.register_context_if_not_exists(handle, "pipeline", name)
        answer = {
            "pipeline_id": context.id,
            "runs": runs_of(handle, context.id),
            "nodes": {
                run: {node: read_node(handle, name, run, node) for node in nodes}
                for run, nodes in request["nodes"].items()
            },
            "resolved": resolve(handle, name, request["channels"]),
            "models": sorted(each.id for each in handle.get_qualified_artifacts([context], "Model")),
            "published_models": sorted(
                each.id
                for each in handle.get_published_artifacts_by_type_within_context(["Model"], context.id)[
                    "Model"
                ]
            ),
            "properties": {
                each.id: {
                    key: each.get_custom_property(key)
                    for key in each.mlmd_artifact.custom_properties
                    if not key.startswith("zen_mlmd.")
                }
                for each in artifact_lib.get_artifacts_by_ids(handle, request["artifacts"])
            },
        }
        return {**answer, "before": before, "after": count(handle)}


@component
def serve(model: InputArtifact[Model], pushed: OutputArtifact[PushedModel], port: Parameter[int]) -> None:
    """Pretend to serve a model."""
    pushed.set_string_custom_property("served", f"{model.uri} on {port}")


@component
def measure(
    pushed: InputArtifact[PushedModel],
) -> OutputDict(auc=float, rounds=int, note=str, steady=bool, missing=float | None):
    """Return values, each of which TFX keeps in a file; JSON it writes only with TensorFlow's file system."""
    return {
        "auc": 0.75,
        "rounds": 3,
        "note": f"naïve about {pushed.type_name}",
        "steady": True,
        "missing": None,
    }


@component
def announce(auc: float, sizes: Parameter[list[int]], steady: Parameter[bool]) -> None:
    """Take values: one from a step before, which TFX hands over as an artifact, and two that are given."""
    print(auc, sizes, steady, file=sys.stderr)


def run(request: dict[str, Any]) -> dict[str, Any]:
    """Run a TFX pipeline of the requested name: a Resolver for the latest Model, and nodes after it."""
    latest = Resolver(strategy_class=LatestArtifactStrategy, model=Channel(type=Model)).with_id(
        "latest_model"
    )
    taker = serve(model=latest.outputs["model"], port=8501)
    measured = measure(pushed=taker.outputs["pushed"])
    told = announce(auc=measured.outputs["auc"], sizes=[3, 4], steady=False)
    LocalDagRunner().run(
        pipeline.Pipeline(
            pipeline_name=request["pipeline"],
            pipeline_root=request["root"],
            components=[latest, taker, measured, told],
            metadata_connection_config=config_of(request),
        )
    )
    return {"nodes": [latest.id, taker.id, measured.id, told.id]}


@component
def make(model: OutputArtifact[Model], depth: Parameter[int]) -> None:
    """Pretend to train a model."""
    model.set_int_custom_property("depth", depth)


def cache(request: dict[str, Any]) -> dict[str, Any]:
    """Run a pipeline of two nodes with TFX's cache, and tell how each execution in the store stands."""
    made = make(depth=request["depth"])
    taker = serve(model=made.outputs["model"], port=8501)
    LocalDagRunner().run(
        pipeline.Pipeline(
            pipeline_name=request["pipeline"],
            pipeline_root=request["root"],
            components=[made, taker],
            enable_cache=True,
            metadata_connection_config=config_of(request),
        )
    )
    with metadata.Metadata(config_of(request)) as handle:
        executions = sorted(handle.store.get_executions(), key=lambda each: int(each.id))
        return {"states": [mlmd.Execution.State.Name(each.last_known_state) for each in executions]}


@component
def fail(
    model: InputArtifact[Model], pushed: OutputArtifact[PushedModel], sizes: Parameter[list[int]]
) -> None:
    """Do not come to an end."""
    raise ZeroDivisionError


def notebook(request: dict[str, Any]) -> dict[str, Any]:
    """Run a node, the same from the cache, one that fails and an importer: each is a run of its own.

    This is what `InteractiveContext.run` does, which wants IPython, and `AirflowDagRunner` in its tasks.
    """

    def launch(run_id: str, node: Any) -> Any:
        for name, output in node.outputs.items():
            for artifact in output.get():
                artifact.pipeline_name = request["pipeline"]
                artifact.producer_component = node.id
                artifact.name = name
        launcher = InProcessComponentLauncher.create(
            component=node,
            pipeline_info=data_types.PipelineInfo(request["pipeline"], request["root"], run_id),
            driver_args=data_types.DriverArgs(enable_cache=True, interactive_resolution=True),
            metadata_connection=metadata.Metadata(config_of(request)),
            beam_pipeline_args=[],
            additional_pipeline_args={},
        )
        return launcher.launch().execution_id

    ids = {}
    for run_id in ("first", "again"):
        made = make(depth=request["depth"])
        ids[run_id] = launch(run_id, made)
    with contextlib.suppress(ZeroDivisionError):
        launch("failed", fail(model=made.outputs["model"], sizes=[1, 2]))
    source = Importer(source_uri="/outside/schema", artifact_type=Schema, reimport=False).with_id("schema")
    ids["imported"] = launch("imported", source)
    return ids


COMMANDS = {"read": read, "run": run, "cache": cache, "notebook": notebook}

if __name__ == "__main__":
    print(json.dumps(COMMANDS[sys.argv[1]](json.load(sys.stdin))))
