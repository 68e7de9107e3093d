"""The tree of a Kubeflow Pipelines run: which step lies in which group, and how groups stand.

Groups are told from their members: a DAG that never got its last update stays RUNNING for ever, and one
may say FAILED though a retry of its task succeeded (kubeflow/pipelines#13591). What a group returns is
taken from its members, too: nobody writes it to the group itself.
"""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

from zen_mlmd.dialects.base import status_of_steps
from zen_mlmd.model import Status, StepKind, StepRun


def grown(steps: Sequence[StepRun], root_name: str) -> tuple[StepRun | None, list[StepRun]]:
    """Return the root of a run, if it has one, and all its steps in the order they began.

    Args:
        steps: As their own rows tell of them; `group_id` is the DAG that each names as its parent.
        root_name: What the root's execution is called.

    Returns:
        Of each step `group_id` is None if it lies in the run itself, and `scope` names its groups. A step
        whose parent is gone, or is among its own members, lies in the run itself and says so.
    """
    tree = _Tree(steps, root_name)
    finished = {each.id: tree.finished(each.id) for each in sorted(steps, key=lambda each: each.id)}
    return (None if tree.root is None else finished[tree.root]), list(finished.values())


def placed(steps: Sequence[StepRun]) -> list[tuple[StepRun, StepRun | None]]:
    """Return steps with their scopes, each with the root above it, if there is one.

    Args:
        steps: Of several runs perhaps; all groups above a step are among them.
    """
    tree = _Tree(steps, "")
    return [(tree.with_scope(each.id), tree.root_above(each)) for each in steps]


class _Tree:
    def __init__(self, steps: Sequence[StepRun], root_name: str) -> None:
        self._given = {each.id: each for each in steps}
        self.steps = dict(self._given)
        roots = [each for each in steps if each.kind is StepKind.ROOT]
        roots.sort(key=lambda each: (each.name != root_name, each.id))
        self.root = roots[0].id if roots else None
        self._roots = {each.id for each in roots}
        self._finished: dict[int, StepRun] = {}
        self._members: dict[int, list[int]] = defaultdict(list)
        for step in list(self.steps.values()):
            self._settle_place(step)
        for step in sorted(self.steps.values(), key=_in_order):
            if step.group_id is not None:
                self._members[step.group_id].append(step.id)

    def _settle_place(self, step: StepRun) -> None:
        """Take a step out of a group that is none."""
        group, warning = step.group_id, ""
        if group is not None and (group not in self.steps or not self.steps[group].kind.is_group):
            group, warning = None, f"its parent DAG {step.group_id} is not among the steps of its run"
        elif group is not None and self._leads_to(group, step.id):
            group, warning = None, f"its parent DAG {step.group_id} is one of its own members"
        elif group in self._roots:
            group = None
        if group != step.group_id:
            warnings = (*step.warnings, warning) if warning else step.warnings
            self.steps[step.id] = dataclasses.replace(step, group_id=group, warnings=warnings)

    def _leads_to(self, start: int, wanted: int) -> bool:
        """Tell whether the way up from a step meets another."""
        seen: set[int] = set()
        at: int | None = start
        while at is not None and at in self.steps and at not in seen:
            if at == wanted:
                return True
            seen.add(at)
            at = self.steps[at].group_id
        return False

    def finished(self, step_id: int) -> StepRun:
        """Return a step with its scope, and a group as its members have it."""
        # Depth first without recursion: a run's own data says how deep it is nested.
        pending = [step_id]
        while pending:
            at = pending[-1]
            members = self._members.get(at, [])
            missing = [each for each in members if each not in self._finished]
            if missing and at not in self._finished:
                pending.extend(missing)
                continue
            pending.pop()
            if at not in self._finished:
                step = self.with_scope(at)
                self._finished[at] = self._as_members_have_it(
                    step, [self._finished[each] for each in members]
                )
        return self._finished[step_id]

    def with_scope(self, step_id: int) -> StepRun:
        """Return a step as its own row has it, with its scope."""
        return dataclasses.replace(self.steps[step_id], scope=self._scope(step_id))

    def root_above(self, step: StepRun) -> StepRun | None:
        """Return the root that a step lies below; `step` names its group as its row does."""
        while step.group_id is not None:
            group = self.steps.get(step.group_id)
            above = self.steps[step.id].group_id
            if group is None or (above is None and group.id not in self._roots):
                return None
            step = self._given[group.id]
        return step if step.id in self._roots else None

    def _scope(self, step_id: int) -> str:
        """Return the groups above a step; an iteration is named with its loop, and stands for it."""
        parts: list[str] = []
        step = self.steps[step_id]
        while step.group_id is not None:
            group = self.steps[step.group_id]
            if not (group.kind is StepKind.LOOP and step.kind is StepKind.ITERATION):
                parts.append(group.name if group.iteration is None else f"{group.name}[{group.iteration}]")
            step = group
        return "/".join(reversed(parts))

    def _as_members_have_it(self, step: StepRun, members: Sequence[StepRun]) -> StepRun:
        if not step.kind.is_group or step.kind is StepKind.ROOT:
            return step
        status = _status(step, members)
        ends = [each.ended_at for each in members if each.ended_at]
        return dataclasses.replace(
            step,
            status=status,
            ended_at=(max(ends) if ends else step.ended_at) if status.ended else None,
            output_parameters={**_outputs(step, members), **step.output_parameters},
        )


def _in_order(step: StepRun) -> tuple[int, int]:
    return (-1 if step.iteration is None else step.iteration, step.id)


def state_of(members: Iterable[StepRun]) -> Status:
    """Return how what consists of steps stands; one that was begun again stands as its last attempt.

    CANCELED is what Kubeflow Pipelines writes of a condition that was not met, and of nothing else: what
    has only such members is through.
    """
    told = status_of_steps([each.status for each in _latest(members)])
    return Status.COMPLETED if told is Status.CANCELED else told


def _latest(members: Iterable[StepRun]) -> list[StepRun]:
    """Return the last attempt of each task, and of each iteration."""
    return list({(each.name, each.iteration): each for each in sorted(members, key=_in_order)}.values())


def _status(group: StepRun, members: Sequence[StepRun]) -> Status:
    """Return how a group stands: as its members, or as it says itself if it has none or has not all."""
    planned = group.properties.get("iteration_count" if group.kind is StepKind.LOOP else "total_dag_tasks")
    if not members:
        is_empty = planned == 0 and group.status is Status.RUNNING
        return Status.COMPLETED if is_empty else group.status
    told = state_of(members)
    if told is not Status.COMPLETED:
        return told
    latest = _latest(members)
    if isinstance(planned, int) and len(latest) < planned and group.status is Status.RUNNING:
        return Status.RUNNING
    did = {each.status for each in latest} - {Status.CANCELED}
    return Status.CACHED if did == {Status.CACHED} else Status.COMPLETED


def _outputs(group: StepRun, members: Sequence[StepRun]) -> dict[str, Any]:
    """Return what a group returns: of a loop the list of what its iterations return."""
    if group.kind is StepKind.LOOP:
        latest = _latest(members)
        names = dict.fromkeys(name for each in latest for name in each.output_parameters)
        return {name: [each.output_parameters.get(name) for each in latest] for name in names}
    named = {each.name: each for each in members if each.status is not Status.CANCELED}
    values: dict[str, Any] = {}
    for name, sources in group.output_sources.items():
        for task, output in sources:
            if task in named and output in named[task].output_parameters:
                values[name] = named[task].output_parameters[output]
                break
    return values
