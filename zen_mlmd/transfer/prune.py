"""Deleting old runs, with what they alone made; lineage that something kept depends on stays.

What goes, of the runs that are chosen:

- a run goes with all of its steps, if nothing that stays used, or made again, an output of theirs; else it
  stays whole, and so do the runs whose outputs it used, on and on: what is kept can be traced to its origin;
- an artifact goes with the step that made it, if no step that stays has it; one that was imported stays;
- what its steps could be found by in the cache goes with the last of them; its pipeline stays.

Payloads are not touched. Deleting goes from the newest step to the oldest, in small transactions: a process
that is killed leaves a store in which all can be read, and whoever prunes again goes on where it ended.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Final

from zen_mlmd.dialects.base import OUTPUT_EVENTS
from zen_mlmd.dialects.tfx import CACHE
from zen_mlmd.errors import UsageError
from zen_mlmd.model import Status

if TYPE_CHECKING:
    from zen_mlmd.reading.runs import PipelineRunView
    from zen_mlmd.service.client import Client
    from zen_mlmd.store import Store

_STEPS: Final = 50
"""Step runs in one transaction, so that other writers wait for a moment only."""

_CONTEXTS: Final = 500


@dataclass(frozen=True)
class PrunePlan:
    """What would be deleted.

    Attributes:
        runs: Paths of the runs that go, newest first.
        kept_runs: Paths of chosen runs that stay, as something that is kept depends on one of their steps.
        running: Paths of chosen runs that stay, as they have not ended.
        steps: How many step runs go.
        artifacts: How many artifacts go.
        uris: Their URIs: the payloads, which are left alone.
    """

    runs: tuple[str, ...] = ()
    kept_runs: tuple[str, ...] = ()
    running: tuple[str, ...] = ()
    steps: int = 0
    artifacts: int = 0
    uris: tuple[str, ...] = ()
    _batches: tuple[_Batch, ...] = field(default=(), repr=False)


@dataclass(frozen=True)
class _Batch:
    executions: tuple[int, ...] = ()
    artifacts: tuple[int, ...] = ()
    contexts: tuple[int, ...] = ()


def plan_prune(
    store: Store,
    where: str | None = None,
    *,
    older_than: timedelta | None = None,
    keep_lineage: bool = True,
) -> PrunePlan:
    """Return what `prune` would delete; nothing is changed.

    Args:
        store: A store of the SQL service.
        where: A filter of runs, as `Store.list_runs` takes it.
        older_than: Only runs that began so long ago.
        keep_lineage: Keep the runs on which something depends that stays; without it they go, and what they
            made for others is left without an origin.

    Raises:
        UsageError: Neither `where` nor `older_than` is given.
        FilterSyntaxError: The filter cannot be read.
    """
    if where is None and older_than is None:
        raise UsageError("nothing says which runs are to go", hint="give where, or older_than, or both")
    chosen: list[PipelineRunView] = []
    running: list[PipelineRunView] = []
    until = None if older_than is None else datetime.now(timezone.utc) - older_than
    for run in store.list_runs(where):
        if until is not None and (run.started_at is None or run.started_at >= until):
            continue
        (running if run.status in (Status.RUNNING, Status.PENDING) else chosen).append(run)
    return _Planner(store.loader.client, chosen, keep_lineage=keep_lineage).plan(running)


def prune(
    store: Store, plan: PrunePlan, progress: Callable[[int, int], object] | None = None
) -> dict[str, int]:
    """Delete what a plan names.

    Args:
        store: The store that the plan is of.
        plan: Of `plan_prune`. What somebody began to use since stays.
        progress: Told how many of how many transactions are done.

    Returns:
        How many were deleted, by "executions", "artifacts" and "contexts".

    Raises:
        UsageError: The store is not one of the SQL service: only that deletes.
    """
    gone = {"executions": 0, "artifacts": 0, "contexts": 0}
    service = store.loader.client.service
    for number, batch in enumerate(plan._batches, 1):  # noqa: SLF001 - of this module
        done = service.delete(executions=batch.executions, artifacts=batch.artifacts, contexts=batch.contexts)
        for kind, count in done.items():
            gone[kind] += count
        if progress is not None:
            progress(number, len(plan._batches))  # noqa: SLF001 - of this module
    return gone


class _Planner:
    def __init__(self, client: Client, runs: Sequence[PipelineRunView], *, keep_lineage: bool) -> None:
        self._client = client
        self._runs = list(runs)
        self._keep_lineage = keep_lineage
        self._steps = {
            run.record.id: {each.id for each in client.executions_of_context(run.record.id)} for run in runs
        }

    def plan(self, running: Sequence[PipelineRunView]) -> PrunePlan:
        going = set().union(*self._steps.values())
        made, others = self._events(going)
        if self._keep_lineage:
            going = self._closed(going, made, others)
        gone = [run for run in self._runs if self._steps[run.record.id] <= going]
        artifacts = {
            artifact: min(makers)
            for artifact, makers in made.items()
            if makers & going and not (others.get(artifact, set()) | makers) - going
        }
        found = self._client.artifacts(artifacts)
        return PrunePlan(
            runs=tuple(run.path for run in gone),
            kept_runs=tuple(run.path for run in self._runs if run not in gone),
            running=tuple(run.path for run in running),
            steps=len(going),
            artifacts=len(artifacts),
            uris=tuple(sorted({node.uri for node in found.values() if node.uri})),
            _batches=tuple(self._batches(gone, going, artifacts)),
        )

    def _events(self, going: set[int]) -> tuple[dict[int, set[int]], dict[int, set[int]]]:
        """Return who made and who else has each artifact that the steps made."""
        made: dict[int, set[int]] = {}
        for event in self._client.events_of_executions(sorted(going)):
            if event.type in OUTPUT_EVENTS:
                made.setdefault(event.artifact_id, set()).add(event.execution_id)
        others: dict[int, set[int]] = {}
        for event in self._client.events_of_artifacts(sorted(made)):
            if event.execution_id not in made[event.artifact_id]:
                others.setdefault(event.artifact_id, set()).add(event.execution_id)
        return made, others

    def _closed(self, going: set[int], made: dict[int, set[int]], others: dict[int, set[int]]) -> set[int]:
        """Return the steps that can go; a run goes whole or stays whole."""
        going = set(going)
        while True:
            needed = {
                maker
                for artifact, makers in made.items()
                if (others.get(artifact, set()) | makers) - going
                for maker in makers & going
            }
            staying = {
                step
                for steps in self._steps.values()
                if steps & needed or steps - going
                for step in steps & going
            }
            if not staying:
                return going
            going -= staying

    def _batches(
        self, gone: Iterable[PipelineRunView], going: set[int], artifacts: dict[int, int]
    ) -> Iterator[_Batch]:
        of_maker: dict[int, list[int]] = {}
        for artifact, maker in artifacts.items():
            of_maker.setdefault(maker, []).append(artifact)
        steps = sorted(going, reverse=True)
        for start in range(0, len(steps), _STEPS):
            some = steps[start : start + _STEPS]
            nodes = [artifact for step in some for artifact in of_maker.get(step, ())]
            yield _Batch(executions=tuple(some), artifacts=tuple(nodes))
        contexts = [run.record.id for run in gone]
        if steps:
            # Those that still have a step stay; see `MetadataService.delete`.
            contexts += [context.id for context in self._client.contexts_of_type(CACHE)]
        for start in range(0, len(contexts), _CONTEXTS):
            yield _Batch(contexts=tuple(contexts[start : start + _CONTEXTS]))
