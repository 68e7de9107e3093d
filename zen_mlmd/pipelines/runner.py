"""The local orchestrator: runs a pipeline's steps in this process, independent ones side by side."""

from __future__ import annotations

import contextlib
import contextvars
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from zen_mlmd.errors import ZenMlmdError
from zen_mlmd.fingerprint import Fingerprint
from zen_mlmd.model import Artifact, Status
from zen_mlmd.payloads import ArtifactStore, MaterializerRegistry, data_type_name, read_payload
from zen_mlmd.pipelines import context
from zen_mlmd.pipelines.cache import cache_key, find_cached
from zen_mlmd.pipelines.draft import Handle, Node
from zen_mlmd.pipelines.parallel import run_side_by_side
from zen_mlmd.recording.recorder import RunRecorder
from zen_mlmd.recording.step import StepRecorder
from zen_mlmd.store import Store

_log = logging.getLogger(__name__)
_Taken = Artifact | list[Artifact]


@dataclass
class LocalRunner:
    """Runs one pipeline once.

    Attributes:
        code: Fingerprints of the steps' code, by step name.
        made: The artifacts so far, by step and output name.
        own: Ids of the artifacts that this run made itself: their pickles may be read.
        begun: The steps that are running.
    """

    store: Store
    artifacts: ArtifactStore
    registry: MaterializerRegistry
    run: RunRecorder
    enable_cache: bool
    max_parallel: int
    code: dict[str, Fingerprint] = field(default_factory=dict)
    made: dict[tuple[str, str], Artifact] = field(default_factory=dict)
    own: set[int] = field(default_factory=set)
    begun: dict[str, StepRecorder] = field(default_factory=dict)

    def run_all(self, nodes: Sequence[Node]) -> None:
        """Run all steps, one after another in this thread, or several at once in threads of their own.

        In this thread Ctrl-C stops the step that runs, which may also handle signals.

        Args:
            nodes: In the order of the calls, in which each waits only for earlier ones.

        Raises:
            BaseException: What the first failing step raised.
        """
        # All at once and at the start: what runs is the code as it was loaded.
        steps = {id(node.step.function): node.step for node in nodes}
        code = {key: step.fingerprint() for key, step in steps.items()}
        self.code = {node.name: code[id(node.step.function)] for node in nodes}
        if self.max_parallel > 1:
            run_side_by_side(nodes, self._run_step, at_most=self.max_parallel, leave=self._leave)
            return
        for node in nodes:
            contextvars.copy_context().run(self._run_step, node)

    def _run_step(self, node: Node) -> None:
        inputs = {name: self._artifacts(given) for name, given in node.inputs.items()}
        facts: dict[str, Any] = {
            "inputs": inputs,
            "parameters": node.parameters,
            "type": node.step.type_name,
            "base_type": node.step.base_type,
            "after": sorted({each.name for each in node.after} - {each.node.name for each in node.handles()}),
            "code": self.code[node.name].code,
            "docstring": node.step.function.__doc__ or "",
            "cache_key": self._cache_key(node, inputs),
        }
        found = self._find_cached(node, facts["cache_key"])
        if found is not None:
            self.run.reuse_step(node.name, outputs=found, **facts)
            self.made.update(((node.name, name), each) for name, each in found.items())
            _log.info("step %s: cached", node.name)
            return
        with self.run.step(node.name, **facts) as recorder:
            self.begun[node.name] = recorder
            self._execute(node, recorder, {name: self._values(each) for name, each in inputs.items()})
        del self.begun[node.name]
        for name, outputs in recorder.outputs.items():
            artifact = outputs[0].record()
            self.made[node.name, name] = artifact
            self.own.add(artifact.id)
        _log.info("step %s: completed", node.name)

    def _cache_key(self, node: Node, inputs: Mapping[str, _Taken]) -> str:
        """Return the key under which later runs may find the step; empty if none may.

        It is recorded whether or not this run looks there: a forced run is the newest there then.
        """
        code = self.code[node.name]
        if not code.unseen:
            return cache_key(node.step, code.code, node.parameters, inputs, registry=self.registry)
        if self.enable_cache and node.step.enable_cache:
            _log.warning(
                "step %s: not cached, for what it uses may change unseen: %s (make it in the step, "
                "or pass what it is made from as a parameter)",
                node.name,
                ", ".join(code.unseen),
            )
        return ""

    def _find_cached(self, node: Node, key: str) -> dict[str, Artifact] | None:
        if not (key and self.enable_cache and node.step.enable_cache):
            return None
        found = find_cached(
            self.store.loader,
            key,
            list(node.step.outputs),
            trusted=self.store.config.trusted,
            registry=self.registry,
        )
        if found.obstacle and found.outputs is None:
            _log.warning("step %s: run anew, for its cached %s", node.name, found.obstacle)
        return found.outputs

    def _execute(self, node: Node, recorder: StepRecorder, values: Mapping[str, Any]) -> None:
        here = context.StepContext(self.store, self.run, recorder, node.step.outputs)
        token = context.current.set(here)
        try:
            result = call(node, {**node.parameters, **values})
        finally:
            context.current.reset(token)
        outputs = node.step.returns.split(result, node.name)
        self._keep(node, recorder, outputs, here.output_properties)

    def _leave(self) -> None:
        """End the steps that run as canceled: what they still make is lost."""
        for recorder in list(self.begun.values()):
            with contextlib.suppress(ZenMlmdError):
                recorder.end(Status.CANCELED)

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

    def _artifacts(self, given: Handle | list[Handle]) -> _Taken:
        if isinstance(given, list):
            return [self.made[handle.node.name, handle.name] for handle in given]
        return self.made[given.node.name, given.name]

    def _values(self, taken: _Taken) -> Any:
        """Read an input from the artifact store, so that no step sees what another did to a value."""
        if isinstance(taken, list):
            return [self._values(each) for each in taken]
        return read_payload(
            taken.uri,
            taken.materializer,
            taken.data_type,
            allow_pickle=taken.id in self.own or self.store.config.trusted,
            registry=self.registry,
        )


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
