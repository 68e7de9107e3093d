"""When a step need not be run: its outputs are there already, and intact."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence

from zen_mlmd.errors import PayloadError
from zen_mlmd.loader import Loader
from zen_mlmd.model import OUTPUT_EVENTS, Artifact, Status
from zen_mlmd.payloads import payload_hash
from zen_mlmd.pipelines.outputs import type_text
from zen_mlmd.pipelines.step import Step
from zen_mlmd.values import dumps

_VERSION = 1


def cache_key(
    step: Step, code: str, parameters: Mapping[str, object], inputs: Mapping[str, Sequence[Artifact]]
) -> str:
    """Return what two runs of a step share whose outputs must be the same.

    That is: the function's path and code, the code of the project that it uses, the parameters, the
    content of the inputs (an imported artifact without a recorded hash counts by its id), and the
    outputs' names, types and materializers.
    """
    parts = {
        "version": _VERSION,
        "step": step.type_name,
        "code": code,
        "parameters": {name: dumps(value, path=name) for name, value in parameters.items()},
        "inputs": {name: [_identity(each) for each in many] for name, many in inputs.items()},
        "outputs": {
            name: [type_text(kind), step.artifact_types.get(name, ""), _materializer(step, name)]
            for name, kind in step.outputs.items()
        },
    }
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"))
    return "sha256:" + hashlib.sha256(text.encode()).hexdigest()


def find_cached(
    loader: Loader, key: str, outputs: Sequence[str], *, trusted: bool
) -> dict[str, Artifact] | None:
    """Return the outputs, by name, of the newest run of a step under a cache key; None if there are none.

    A run counts whose step completed, and whose outputs are all live, lie where they were put, and have
    the content that was recorded. A pickle counts only in a trusted store, because it would be refused
    by the next step.
    """
    for step in loader.steps_in_cache(key):
        if step.status is not Status.COMPLETED:
            continue
        found: dict[str, int] = {}
        for event in loader.events_of_steps([step.id]):
            if event.type in OUTPUT_EVENTS:
                found.update((slot.name, event.artifact_id) for slot in event.slots)
        artifacts = loader.artifacts(found.values())
        made = {name: artifacts[each] for name, each in found.items() if each in artifacts}
        if set(made) == set(outputs) and all(_usable(each, trusted=trusted) for each in made.values()):
            return made
    return None


def _usable(artifact: Artifact, *, trusted: bool) -> bool:
    if artifact.state != "live" or not artifact.content_hash:
        return False
    if not trusted and artifact.materializer.endswith(".PickleMaterializer"):
        return False
    try:
        return payload_hash(artifact.uri).content_hash == artifact.content_hash
    except PayloadError:
        return False


def _identity(artifact: Artifact) -> str:
    return artifact.content_hash or f"artifact:{artifact.id}"


def _materializer(step: Step, output: str) -> str:
    chosen = step.materializers.get(output)
    return chosen().fingerprint if chosen is not None else ""
