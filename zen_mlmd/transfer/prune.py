"""Deleting old runs, steps or artifacts; lineage that something kept depends on stays.

What goes, of what is chosen:

- a run goes with all of its steps, if nothing that stays used, or made again, an output of theirs, and no run
  that stays has one of them, too; else it stays whole, and so do the runs whose outputs it used, on and on:
  what is kept can be traced to its origin;
- a step goes alone, by the same rule; its run stays, and one that has not ended keeps all of its steps;
- an artifact goes with the last of the steps that have it, if one of those made it; chosen by itself it goes
  if no step has it;
- what its steps could be found by in the cache goes with the last of them; its pipeline stays.

Payloads are not touched. Deleting goes from the newest step to the oldest, in small transactions: a process
that is killed leaves a store in which all can be read, and whoever prunes again goes on where it ended.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Final, Literal

from zen_mlmd.dialects.base import OUTPUT_EVENTS
from zen_mlmd.dialects.tfx import CACHE
from zen_mlmd.errors import UsageError
from zen_mlmd.model import Status

if TYPE_CHECKING:
    from zen_mlmd.service.client import Client
    from zen_mlmd.store import Store

What = Literal["runs", "steps", "artifacts"]

_STEPS: Final = 50
"""Step runs in one transaction, so that other writers wait for a moment only."""

_NODES: Final = 500
"""Contexts, or artifacts that go without a step, in one."""

_UNENDED: Final = (Status.RUNNING, Status.PENDING)


@dataclass(frozen=True)
class PrunePlan:
    """What would be deleted.

    Attributes:
        going: What was chosen and goes, newest first: the paths of runs or steps, or the URIs of artifacts.
        kept: What was chosen and stays, as something that is kept depends on it.
        running: What was chosen and stays, as its run has not ended.
        steps: How many step runs go.
        artifacts: How many artifacts go.
        uris: Their URIs: the payloads, which are left alone.
    """

    going: tuple[str, ...] = ()
    kept: tuple[str, ...] = ()
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
    even_used: bool = False


@dataclass(frozen=True)
class _Group:
    """Steps that go together or stay together: a run's, or one."""

    path: str
    steps: frozenset[int]
    run_id: int | None = None


def plan_prune(
    store: Store,
    where: str | None = None,
    *,
    older_than: timedelta | None = None,
    what: What = "runs",
    keep_lineage: bool = True,
) -> PrunePlan:
    """Return what `prune` would delete; nothing is changed.

    Args:
        store: A store of the SQL service.
        where: A filter of runs, as `Store.list_runs` takes it; or of steps, as `PipelineRunView.list_steps`;
            or of artifacts, as `Store.list_artifacts`.
        older_than: Only runs or steps that began, or artifacts that were recorded, so long ago.
        what: What is chosen.
        keep_lineage: Keep that on which something depends that stays; without it that goes, and what is kept
            lacks it: an artifact its origin, or a step an artifact.

    Raises:
        UsageError: Neither `where` nor `older_than` is given.
        FilterSyntaxError: The filter cannot be read.
    """
    if where is None and older_than is None:
        raise UsageError(f"nothing says which {what} are to go", hint="give where, or older_than, or both")
    until = datetime.max.replace(tzinfo=timezone.utc)
    if older_than is not None:
        until = datetime.now(timezone.utc) - older_than
    if what == "artifacts":
        return _plan_artifacts(store, where, until, keep_lineage=keep_lineage)
    groups, running = (_runs if what == "runs" else _steps)(store, where, until)
    chosen = {group.run_id for group in groups}
    kept_runs = {run.record.id for run in store.runs if run.record.id not in chosen} if what == "runs" else ()
    return _Planner(store.loader.client, groups, kept_runs, keep_lineage=keep_lineage).plan(running)


def prune(
    store: Store, plan: PrunePlan, progress: Callable[[int, int], object] | None = None
) -> dict[str, int]:
    """Delete what a plan names.

    Args:
        store: The store that the plan is of.
        plan: Of `plan_prune`. What somebody began to use since stays, but for artifacts that are to go though
            they are used.
        progress: Told how many of how many transactions are done.

    Returns:
        How many were deleted, by "executions", "artifacts" and "contexts".

    Raises:
        UsageError: The store is not one of the SQL service: only that deletes.
    """
    gone = {"executions": 0, "artifacts": 0, "contexts": 0}
    service = store.loader.client.service
    for number, batch in enumerate(plan._batches, 1):  # noqa: SLF001 - of this module
        done = service.delete(
            executions=batch.executions,
            artifacts=batch.artifacts,
            contexts=batch.contexts,
            even_used=batch.even_used,
        )
        for kind, count in done.items():
            gone[kind] += count
        if progress is not None:
            progress(number, len(plan._batches))  # noqa: SLF001 - of this module
    return gone


def _runs(store: Store, where: str | None, until: datetime) -> tuple[list[_Group], list[str]]:
    groups, running = [], []
    for run in store.list_runs(where):
        if run.started_at is None or run.started_at >= until:
            continue
        if run.status in _UNENDED:
            running.append(run.path)
        else:
            steps = store.loader.client.executions_of_context(run.record.id)
            groups.append(_Group(run.path, frozenset(each.id for each in steps), run.record.id))
    return groups, running


def _steps(store: Store, where: str | None, until: datetime) -> tuple[list[_Group], list[str]]:
    groups: dict[int, _Group] = {}
    running: dict[int, str] = {}
    for run in store.runs:
        for step in reversed(run.list_steps(where)):
            if step.started_at is None or step.started_at >= until:
                continue
            number = step.record.id
            if run.status in _UNENDED or step.status in _UNENDED:
                running[number] = step.path
            else:
                groups[number] = _Group(step.path, frozenset((number,)))
    # One that is in two runs is kept by either.
    return [group for number, group in groups.items() if number not in running], list(running.values())


def _plan_artifacts(store: Store, where: str | None, until: datetime, *, keep_lineage: bool) -> PrunePlan:
    chosen = {
        each.record.id: each.uri
        for each in store.list_artifacts(where)
        if each.created_at is not None and each.created_at < until
    }
    used: set[int] = set()
    if keep_lineage:
        used = {event.artifact_id for event in store.loader.client.events_of_artifacts(sorted(chosen))}
    going = [number for number in chosen if number not in used]
    batches = (going[start : start + _NODES] for start in range(0, len(going), _NODES))
    return PrunePlan(
        going=tuple(chosen[number] for number in going),
        kept=tuple(uri for number, uri in chosen.items() if number in used),
        artifacts=len(going),
        uris=tuple(sorted({chosen[number] for number in going} - {""})),
        _batches=tuple(_Batch(artifacts=tuple(each), even_used=not keep_lineage) for each in batches),
    )


class _Planner:
    def __init__(
        self, client: Client, groups: Sequence[_Group], kept_runs: Iterable[int], *, keep_lineage: bool
    ) -> None:
        self._client = client
        self._groups = groups
        self._kept_runs = frozenset(kept_runs)
        self._keep_lineage = keep_lineage

    def plan(self, running: Sequence[str]) -> PrunePlan:
        going: set[int] = set().union(*(group.steps for group in self._groups))
        going -= self._shared(going)
        made, others = self._events(going)
        if self._keep_lineage:
            going = self._closed(going, made, others)
        gone = [group for group in self._groups if group.steps <= going]
        artifacts = {
            artifact: min(makers)
            for artifact, makers in made.items()
            if makers & going and not (others.get(artifact, set()) | makers) - going
        }
        found = self._client.artifacts(artifacts)
        return PrunePlan(
            going=tuple(group.path for group in gone),
            kept=tuple(group.path for group in self._groups if group not in gone),
            running=tuple(running),
            steps=len(going),
            artifacts=len(artifacts),
            uris=tuple(sorted({node.uri for node in found.values() if node.uri})),
            _batches=tuple(self._batches(gone, going, artifacts)),
        )

    def _shared(self, going: set[int]) -> set[int]:
        """Return the steps that a run has that is kept."""
        if not self._kept_runs:
            return set()
        found = self._client.context_ids_of_executions(sorted(going))
        return {step for step, contexts in found.items() if contexts & self._kept_runs}

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
        """Return the steps that can go; a group goes whole or stays whole."""
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
                for group in self._groups
                if group.steps & needed or group.steps - going
                for step in group.steps & going
            }
            if not staying:
                return going
            going -= staying

    def _batches(
        self, gone: Iterable[_Group], going: set[int], artifacts: dict[int, int]
    ) -> Iterator[_Batch]:
        of_maker: dict[int, list[int]] = {}
        for artifact, maker in artifacts.items():
            of_maker.setdefault(maker, []).append(artifact)
        steps = sorted(going, reverse=True)
        for start in range(0, len(steps), _STEPS):
            some = steps[start : start + _STEPS]
            nodes = [artifact for step in some for artifact in of_maker.get(step, ())]
            yield _Batch(executions=tuple(some), artifacts=tuple(nodes))
        contexts = [group.run_id for group in gone if group.run_id is not None]
        if steps:
            # Those that still have a step stay; see `MetadataService.delete`.
            contexts += [context.id for context in self._client.contexts_of_type(CACHE)]
        for start in range(0, len(contexts), _NODES):
            yield _Batch(contexts=tuple(contexts[start : start + _NODES]))
