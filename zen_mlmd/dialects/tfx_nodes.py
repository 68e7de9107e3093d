"""Which step an execution is of, where only its contexts tell: the `node` contexts of TFX and old ZenML.

A pipeline in a pipeline is a node of the outer one. What runs in it is in the contexts of both: `outer.sub`,
`sub.train` (tfx/dsl/compiler/node_contexts_compiler.py, since 1.8; none of TFX's own runners runs one).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from typing import Final, NamedTuple

from zen_mlmd.dialects import tfx
from zen_mlmd.dialects.properties import text
from zen_mlmd.service.client import Client

SHARE: Final = 32
"""Executions are read in bulk, unless there may be so many times more than those that are wanted."""

_ALONE: Final = 32
"""Of so many executions of a store the contexts are asked one by one; who wants more reads in bulk."""


class Place(NamedTuple):
    """A step's name in its run, and the pipelines in the pipeline that it lies in."""

    scope: str
    name: str


class _Node(NamedTuple):
    """A `node` context: its name, and the pipelines that it may be of, as both may hold dots."""

    name: str
    owners: list[str]


def places(client: Client, executions: Collection[int], pipelines: Sequence[str] | None) -> dict[int, Place]:
    """Return the places of executions; those that no `node` context tells are left out.

    Args:
        client: Asks the store; a call for each of the pipelines' nodes, or for each execution if they are
            fewer, once.
        executions: Their ids.
        pipelines: What they are of; None for any.
    """
    # `taxi.v1.Gen` is a node of `taxi` and of `taxi.v1`, so places are known for the pipelines asked.
    known = client.remembered("nodes of executions")
    found: dict[int, Place] = known.setdefault(None if pipelines is None else tuple(pipelines), {})
    missing = [each for each in executions if each not in found]
    if missing:
        if pipelines is None:
            pipelines = [text(each.name) for each in client.contexts_of_type(tfx.PIPELINE)]
        found.update(_ask(client, missing, [name for name in pipelines if name]))
    return found


def pipeline_of(client: Client, run: str, parents: Sequence[str]) -> str:
    """Return which of several pipelines a run is of: a run is made a child of all that it lies in."""
    inner = [each for each in parents if run.startswith(f"{each}_")]
    if len(parents) == 1 or inner:
        return max(inner or parents, key=len)
    outer = [
        each
        for each in parents
        if not any(client.context(tfx.NODE, f"{other}.{each}") for other in parents if other != each)
    ]
    return (outer or parents)[-1]


def _ask(client: Client, missing: Sequence[int], pipelines: Sequence[str]) -> dict[int, Place]:
    names = {each.id: text(each.name) for each in client.contexts_of_type(tfx.NODE)}
    nodes = _owned(names, pipelines)
    told: dict[int, dict[str, str]] = defaultdict(dict)
    doubtful = set(missing)
    if len(missing) >= len(nodes) and not _are_few(client, missing):
        doubtful = set()
        for node, (name, owners) in nodes.items():
            members = [each.id for each in client.executions_of_context(node)]
            if len(owners) > 1:
                doubtful.update(members)
            for each in members if len(owners) == 1 else ():
                told[each][owners[0]] = tfx.step_name(name, owners[0])
    for execution in doubtful - set(missing):
        told.pop(execution, None)  # till it is asked for
    for execution in doubtful & set(missing):
        # Its own contexts say which of the pipelines it is of.
        contexts = client.contexts_of_execution(execution)
        kinds = {each.id: each.type or client.type_of("context", each.type_id).name for each in contexts}
        own = {text(each.name) for each in contexts if kinds[each.id] == tfx.PIPELINE}
        for context in contexts:
            if context.id in nodes:
                name, owners = nodes[context.id]
                owner = max(owners, key=lambda each: (each in own, len(each)))
                told[execution][owner] = tfx.step_name(name, owner)
    return {execution: _place(steps) for execution, steps in told.items()}


def _are_few(client: Client, missing: Sequence[int]) -> bool:
    """Tell whether executions are few among all there may be, and not many were asked for before."""
    asked = client.remembered("executions asked for their contexts")
    asked["count"] = asked.get("count", 0) + len(missing)
    # No execution has an id above the newest, so there may be as many as that.
    return bool(asked["count"] <= _ALONE and len(missing) * SHARE < max(missing))


def _owned(names: dict[int, str], pipelines: Iterable[str]) -> dict[int, _Node]:
    """Return the nodes of some pipelines, and of those that may be nodes of them."""
    starts = {name[:at] for name in names.values() for at, char in enumerate(name) if char == "."}
    owners: dict[int, list[str]] = {}
    asked: set[str] = set()
    wanted = set(pipelines)
    while wanted:
        for node, name in names.items():
            owners.setdefault(node, []).extend(each for each in wanted if name.startswith(f"{each}."))
        asked |= wanted
        tails = {tfx.step_name(names[node], each) for node, found in owners.items() for each in found}
        wanted = (tails & starts) - asked
    return {node: _Node(names[node], found) for node, found in owners.items() if found}


def _place(steps: dict[str, str]) -> Place:
    """Return the place that an execution's nodes tell, each by the pipeline that it is of."""
    scope: list[str] = []
    pipeline = next((each for each in steps if each not in steps.values()), next(iter(steps)))
    while steps[pipeline] in steps and steps[pipeline] not in (pipeline, *scope):
        pipeline = steps[pipeline]
        scope.append(pipeline)
    return Place("/".join(scope), steps[pipeline])
