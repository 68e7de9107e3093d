"""Which pipeline a run is of, where its own row does not tell."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import replace
from typing import Final

from ml_metadata.proto import metadata_store_pb2 as mlmd

from zen_mlmd.dialects import registry
from zen_mlmd.dialects.base import Dialect
from zen_mlmd.dialects.properties import text
from zen_mlmd.dialects.tfx_nodes import SHARE, pipeline_of
from zen_mlmd.model import Status, StepRun
from zen_mlmd.service.client import PAGE, Client

_RUNS_ASKED: Final = 16
"""Of so many runs the names are asked for what only shows them."""

_STEPS_NAMED: Final = 100
"""Of more steps that ran most would stay without a name, so none gets one."""


def context_types(client: Client, wanted: AbstractSet[str]) -> AbstractSet[str]:
    """Return which of some context types the store has."""
    return wanted & set(client.type_names("context"))


def type_of_context(client: Client, context: mlmd.Context) -> str:
    """Return the name of a context's type; some versions of MLMD name it beside its id."""
    return str(context.type or client.type_of("context", context.type_id).name)


def runs_of_execution(client: Client, step: StepRun) -> list[tuple[mlmd.Context, Dialect]]:
    """Return the contexts of the runs that an execution is in, one of its own dialect first."""
    own = registry.named(step.dialect).RUNS
    contexts = [(each, type_of_context(client, each)) for each in client.contexts_of_execution(step.id)]
    contexts.sort(key=lambda each: each[1] not in own)
    return [(each, dialect) for each, kind in contexts if (dialect := registry.of_run(each, kind))]


def with_runs(client: Client, steps: Mapping[int, StepRun]) -> dict[int, StepRun]:
    """Return the same steps, those of TFX and ZenML with the names of their runs, if these are few.

    No row of theirs names a run: it takes two calls for each run. Those of steps that ran go first; if
    there are very many of them, none is asked for.
    """
    names: dict[int, str] = {}
    asked = 0
    unnamed = [each for each in steps.values() if not each.run_name]
    if sum(each.status is not Status.CACHED for each in unnamed) > _STEPS_NAMED:
        return dict(steps)
    for step in sorted(unnamed, key=lambda each: each.status is Status.CACHED):
        if step.id in names or asked == _RUNS_ASKED:
            continue
        asked += 1
        for context, dialect in runs_of_execution(client, step)[:1]:
            name = dialect.run(context, "").name
            names.update((each.id, name) for each in client.executions_of_context(context.id))
    named = {key: replace(each, run_name=names[key]) for key, each in steps.items() if key in names}
    return {**steps, **named}


def pipelines_of(client: Client, runs: Mapping[int, Dialect]) -> Mapping[int, str]:
    """Return the pipelines of runs by id; a run of which it cannot be found out is left out.

    TFX up to 1.10 and ZenML link a run to its pipeline by nothing but shared executions: such
    runs cost a call or two each, once.
    """
    known: dict[int, str] = client.remembered("pipelines of runs")
    unplaced = [each for each in runs if each not in known]
    if not unplaced:
        return known
    few = len(unplaced) <= PAGE
    placed = _by_their_parents(client, unplaced) if few else {}
    if len(placed) < len(unplaced):
        kinds = frozenset[str]().union(*(runs[each].PIPELINES for each in unplaced if each not in placed))
        pipelines = {
            context.id: registry.of_pipeline(kind).pipeline_name(context)
            for kind in context_types(client, kinds)
            for context in client.contexts_of_type(kind)
        }
        if not few:
            placed.update(_by_the_children(client, pipelines))
        rest = [each for each in unplaced if each not in placed]
        placed.update(_by_their_executions(client, rest, pipelines))
    known.update(placed)
    return known


def _by_their_parents(client: Client, runs: Sequence[int]) -> dict[int, str]:
    found = {
        run: [
            registry.of_pipeline(kind).pipeline_name(parent)
            for parent in parents
            if (kind := type_of_context(client, parent)) in registry.PIPELINE_TYPES
        ]
        for run, parents in client.parents(runs).items()
    }
    several = client.contexts([run for run, names in found.items() if len(names) > 1])
    return {
        run: pipeline_of(client, text(several[run].name) if run in several else "", names)
        for run, names in found.items()
        if names
    }


def _by_the_children(client: Client, pipelines: Mapping[int, str]) -> dict[int, str]:
    parents: dict[int, list[str]] = defaultdict(list)
    names: dict[int, str] = {}
    for pipeline, name in pipelines.items():
        for child in client.children(pipeline):
            parents[child.id].append(name)
            names[child.id] = text(child.name)
    return {run: pipeline_of(client, names[run], found) for run, found in parents.items()}


def _by_their_executions(client: Client, runs: Sequence[int], pipelines: Mapping[int, str]) -> dict[int, str]:
    if not runs:
        return {}
    if len(pipelines) == 1:
        return dict.fromkeys(runs, next(iter(pipelines.values())))
    executions = {run: client.executions_of_context(run) for run in runs}
    firsts = {run: found[0].id for run, found in executions.items() if found}
    owner: dict[int, str] = client.remembered("pipelines of executions")
    missing = set(firsts.values()) - owner.keys()
    if missing and len(missing) <= PAGE and len(missing) * SHARE < max(missing):
        # All that their pipelines ever ran would be far more.
        for first in missing:
            own = {each.id for each in client.contexts_of_execution(first)}
            owner.update((first, name) for pipeline, name in pipelines.items() if pipeline in own)
    elif missing:
        owner.update(
            (execution.id, name)
            for pipeline, name in pipelines.items()
            for execution in client.executions_of_context(pipeline)
        )
    return {run: owner[first] for run, first in firsts.items() if first in owner}
