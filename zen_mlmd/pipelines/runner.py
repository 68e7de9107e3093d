"""The local orchestrator: runs a pipeline's steps in this process, independent ones side by side."""

from __future__ import annotations

import contextvars
import logging
from collections.abc import Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from typing import Any

from zen_mlmd.errors import PipelineDefinitionError
from zen_mlmd.model import Artifact
from zen_mlmd.payloads import ArtifactStore, MaterializerRegistry, data_type_name, read_payload
from zen_mlmd.pipelines import context
from zen_mlmd.pipelines.cache import cache_key, find_cached
from zen_mlmd.pipelines.outputs import split_result
from zen_mlmd.pipelines.step import Handle, Node
from zen_mlmd.recording.recorder import RunRecorder
from zen_mlmd.recording.step import StepRecorder
from zen_mlmd.store import Store

_log = logging.getLogger(__name__)


@dataclass
class LocalRunner:
    """Runs one pipeline once.

    Attributes:
        code: Fingerprints of the steps' code, by step name.
        made: The artifacts so far, by step and output name.
        own: Ids of the artifacts that this run made itself: their pickles may be read.
    """

    store: Store
    artifacts: ArtifactStore
    registry: MaterializerRegistry
    run: RunRecorder
    enable_cache: bool
    max_parallel: int
    code: dict[str, str] = field(default_factory=dict)
    made: dict[tuple[str, str], Artifact] = field(default_factory=dict)
    own: set[int] = field(default_factory=set)

    def run_all(self, nodes: Sequence[Node]) -> None:
        """Run all steps, each as soon as those that it waits for have ended.

        When one raises no other is begun, those that run are waited for, and the exception goes on.

        Raises:
            BaseException: What the first failing step raised.
        """
        # All at once and at the start: what runs is the code as it was loaded.
        self.code = {node.name: node.step.code for node in nodes}
        waiting = {node.name: node for node in nodes}
        done: set[str] = set()
        running: dict[Future[None], str] = {}
        failure: BaseException | None = None
        with ThreadPoolExecutor(self.max_parallel, thread_name_prefix="zen_mlmd") as pool:
            while running or (waiting and failure is None):
                ready = [node for node in waiting.values() if node.waits_for <= done]
                for node in ready[: self.max_parallel - len(running)] if failure is None else ():
                    del waiting[node.name]
                    running[pool.submit(contextvars.copy_context().run, self._run_step, node)] = node.name
                if not running:
                    raise PipelineDefinitionError("the steps wait for each other", hint="look at after=")
                ended, _ = wait(running, return_when=FIRST_COMPLETED)
                for future in ended:
                    name = running.pop(future)
                    error = future.exception()
                    failure = failure or error
                    if error is None:
                        done.add(name)
        if failure is not None:
            raise failure

    def _run_step(self, node: Node) -> None:
        step, code = node.step, self.code[node.name]
        inputs = {name: self._artifacts(given) for name, given in node.inputs.items()}
        after = {each.name for each in node.after}
        facts: dict[str, Any] = {
            "inputs": inputs,
            "parameters": node.parameters,
            "type": step.type_name,
            "base_type": step.base_type,
            "after": after - {handle.node.name for handle in node.handles()},
            "code": code,
            "docstring": step.function.__doc__ or "",
        }
        facts["after"] = sorted(facts["after"])
        if self.enable_cache and step.enable_cache:
            facts["cache_key"] = cache_key(step, code, node.parameters, inputs)
            found = find_cached(
                self.store.loader, facts["cache_key"], list(step.outputs), trusted=self.store.config.trusted
            )
            if found is not None:
                self.run.reuse_step(node.name, outputs=found, **facts)
                self.made.update(((node.name, name), each) for name, each in found.items())
                _log.info("step %s: cached", node.name)
                return
        with self.run.step(node.name, **facts) as recorder:
            values = {name: self._values(node.inputs[name], many) for name, many in inputs.items()}
            here = context.StepContext(self.store, self.run, recorder)
            token = context.current.set(here)
            try:
                result = call(node, {**node.parameters, **values})
            finally:
                context.current.reset(token)
            self._keep(
                node, recorder, split_result(result, list(step.outputs), node.name), here.output_properties
            )
        for name, outputs_ in recorder.outputs.items():
            artifact = outputs_[0].record()
            self.made[node.name, name] = artifact
            self.own.add(artifact.id)
        _log.info("step %s: completed", node.name)

    def _keep(
        self, node: Node, recorder: StepRecorder, values: Mapping[str, Any], properties: Mapping[str, Any]
    ) -> None:
        for name, value in values.items():
            chosen = node.step.materializers.get(name)
            materializer = chosen() if chosen is not None else self.registry.for_value(value)
            uri = self.artifacts.new_uri(self.run.pipeline, node.name, name, recorder.uid)
            payload = self.artifacts.write(uri, lambda to, m=materializer, v=value: m.write(v, to))  # type: ignore[misc]
            recorder.log_output(
                name,
                uri=payload.uri,
                type=node.step.artifact_types.get(name) or materializer.artifact_type,
                properties=properties.get(name),
                content_hash=payload.content_hash,
                size_bytes=payload.size_bytes,
                data_type=data_type_name(value),
                materializer=materializer.name,
            )

    def _artifacts(self, given: Handle | list[Handle]) -> list[Artifact]:
        many = given if isinstance(given, list) else [given]
        return [self.made[handle.node.name, handle.name] for handle in many]

    def _values(self, given: Handle | list[Handle], artifacts: Sequence[Artifact]) -> Any:
        """Read the inputs from the artifact store, so that no step sees what another did to a value."""
        values = [
            read_payload(
                each.uri,
                each.materializer,
                each.data_type,
                allow_pickle=each.id in self.own or self.store.config.trusted,
                registry=self.registry,
            )
            for each in artifacts
        ]
        return values if isinstance(given, list) else values[0]


def call(node: Node, arguments: Mapping[str, Any]) -> Any:
    """Call a step's function with arguments by name, positional-only and variadic ones in their places."""
    signature = node.step.signature
    args: list[Any] = []
    kwargs = dict(arguments)
    for name, parameter in signature.parameters.items():
        if parameter.kind is parameter.VAR_POSITIONAL:
            args.extend(kwargs.pop(name, ()))
        elif (
            parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD) and name in kwargs
        ):
            args.append(kwargs.pop(name))
    return node.step.function(*args, **kwargs)
