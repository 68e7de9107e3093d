"""When a step need not be run: its outputs are there already, and intact."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from zen_mlmd.errors import (
    ConfigError,
    MissingExtraError,
    PayloadError,
    UntrustedPickleError,
)
from zen_mlmd.loader import Loader
from zen_mlmd.model import OUTPUT_EVENTS, Artifact, Status
from zen_mlmd.payloads import (
    Materializer,
    MaterializerRegistry,
    default_registry,
    find_reader,
    open_local,
    payload_hash,
)
from zen_mlmd.payloads.builtin import PickleMaterializer
from zen_mlmd.pipelines.outputs import type_text
from zen_mlmd.pipelines.step import Step
from zen_mlmd.values import dumps

_VERSION = 2
_CANDIDATES = 10
"""What is never a hit, a pickle in a store that is not trusted, is made anew and so more with each run."""


class Lookup(NamedTuple):
    """What was found under a cache key.

    Attributes:
        outputs: By name; None if there are none that can be used.
        obstacle: Why those of the newest run cannot be used, for a reader; empty if there was none.
    """

    outputs: dict[str, Artifact] | None
    obstacle: str = ""


def cache_key(
    step: Step,
    code: str,
    parameters: Mapping[str, object],
    inputs: Mapping[str, Artifact | Sequence[Artifact]],
    *,
    registry: MaterializerRegistry | None = None,
) -> str:
    """Return what two runs of a step share whose outputs must be the same.

    That is: the function's path and code, the code of the project that it uses, the parameters, the
    content and kind of the inputs (an imported artifact without a recorded hash counts by its id), and
    the outputs' names, types and materializers.
    """
    registry = registry or default_registry()
    parts = {
        "version": _VERSION,
        "step": step.type_name,
        "code": code,
        "parameters": {name: dumps(value, path=name) for name, value in parameters.items()},
        "inputs": {name: _identity(given) for name, given in inputs.items()},
        "outputs": {
            name: [type_text(kind), step.artifact_types.get(name, ""), _materializer(step, name, registry)]
            for name, kind in step.outputs.items()
        },
    }
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"))
    return "sha256:" + hashlib.sha256(text.encode()).hexdigest()


def find_cached(
    loader: Loader,
    key: str,
    outputs: Sequence[str],
    *,
    trusted: bool,
    registry: MaterializerRegistry | None = None,
) -> Lookup:
    """Look for the outputs of the newest run of a step under a cache key.

    One of the newest runs counts whose step completed, and whose outputs are all live, lie where they
    were put, have the content that was recorded, and can be read here by the next step.
    """
    obstacle = ""
    for step in loader.steps_in_cache(key)[:_CANDIDATES]:
        if step.status is not Status.COMPLETED:
            continue
        found: dict[str, int] = {}
        for event in loader.events_of_steps([step.id]):
            if event.type in OUTPUT_EVENTS:
                found.update((slot.name, event.artifact_id) for slot in event.slots)
        artifacts = loader.artifacts(found.values())
        made = {name: artifacts[each] for name, each in found.items() if each in artifacts}
        if set(made) != set(outputs):
            continue
        obstacles = {
            name: _obstacle(each, registry or default_registry(), trusted=trusted)
            for name, each in made.items()
        }
        if not any(obstacles.values()):
            return Lookup(made)
        obstacle = obstacle or next(f"output {name!r} {why}" for name, why in obstacles.items() if why)
    return Lookup(None, obstacle)


def _obstacle(artifact: Artifact, registry: MaterializerRegistry, *, trusted: bool) -> str:
    """Return why an artifact cannot be used again; empty if it can."""
    if artifact.state != "live" or not artifact.content_hash:
        return "is not live any more, or has no recorded content"
    try:
        materializer, _ = find_reader(
            artifact.materializer, artifact.data_type, allow_pickle=trusted, registry=registry
        )
        if payload_hash(artifact.uri).content_hash != artifact.content_hash:
            return "was changed since"
        return "" if _has_its_classes(artifact.uri, materializer) else "is a pickle that brings its own class"
    except UntrustedPickleError:
        return "is a pickle, and the store is not opened as trusted"
    except (PayloadError, ConfigError, MissingExtraError) as error:
        return f"cannot be had here: {error.message}"


def _has_its_classes(uri: str, materializer: Materializer) -> bool:
    if not isinstance(materializer, PickleMaterializer):
        return True
    with open_local(uri) as directory:
        return not materializer.brings_classes(directory)


def _identity(given: Artifact | Sequence[Artifact]) -> list[Any]:
    if isinstance(given, Artifact):
        # Equal bytes are not equal values: {"x": 1} is a dict, and each dataclass with one field x.
        return [given.content_hash or f"artifact:{given.id}", given.materializer, given.data_type]
    return [_identity(each) for each in given]


def _materializer(step: Step, output: str, registry: MaterializerRegistry) -> str:
    chosen = step.materializers.get(output)
    return (chosen() if chosen is not None else registry.for_type(step.outputs[output])).fingerprint
