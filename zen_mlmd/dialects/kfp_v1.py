"""Kubeflow Pipelines v1, as its metadata writer notes it, from 0.2 to 2.17.

That is a watcher of pods: it writes a context `KfpRun` for an Argo workflow, an execution for a pod, and
the pod's files as artifacts. It notes no pipeline, and nothing of how a pod ended; what came from Argo's
or KFP's cache it does not note at all (backend/metadata_writer/src).
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from ml_metadata.proto import metadata_store_pb2 as mlmd

from zen_mlmd.dialects import base
from zen_mlmd.dialects.properties import text
from zen_mlmd.model import Artifact, PipelineRun, StepRun, WholeRun

NAME = "kfp_v1"
PIPELINES = frozenset[str]()
RUNS = frozenset({"KfpRun"})
NODE = ""
GROUPS = frozenset[str]()
ASIDE: tuple[str, ...] = ("main-logs",)

_TYPE = "components."
_DIGEST = "@sha256="
_INPUT = "input:"
_ONLY_TFX = ("pipeline_root", "producer_component", "tfx_version")

_LETTERS: Final = "bcdfghjklmnpqrstvwxz2456789"
"""What Kubernetes makes its five random letters of (apimachinery/pkg/util/rand)."""

_TYPED = re.compile(r"(.+?)-+(?=[a-z0-9]*[a-z])(?=[a-z0-9]*[0-9])[a-z0-9]{5}", re.DOTALL)
"""Five letters and digits that Kubernetes would not take all of, but that no word is made of."""

_GENERATED = re.compile(rf"(.+?)-+[{_LETTERS}]{{5}}", re.DOTALL)
_CUT = re.compile(rf"(.{{58}})[{_LETTERS}]{{5}}", re.DOTALL)
"""A generated name of Kubernetes' 63 characters: what came before the random ones was cut."""
_SCHEDULED = re.compile(r"((.+)-[1-9][0-9]*)-([0-9]{1,10})", re.DOTALL)
_LARGE: Final = 10**8
"""Nearly all hashes are larger; a day, `20210301`, is not."""
_OF_A_SCHEDULE = re.compile(rf"(.{{1,25}}?)-*[{_LETTERS}]{{5}}", re.DOTALL)


def is_run(_context: mlmd.Context) -> bool:
    """Take every run of this type."""
    return True


def is_step(_execution: mlmd.Execution, kind: mlmd.ExecutionType) -> bool:
    """Tell whether the metadata writer wrote an execution, and not TFX for a module called `components`."""
    name = text(kind.name)
    if not name.startswith(_TYPE):
        return False
    return _DIGEST in name or ("component_id" in kind.properties and "pipeline_root" not in kind.properties)


def is_artifact(node: mlmd.Artifact, _kind: mlmd.ArtifactType) -> bool:
    """Tell whether the metadata writer wrote an artifact; up to 0.3 its type declares what it notes."""
    if "argo_artifact" in node.custom_properties:
        return True
    keys = {*node.custom_properties, *node.properties}
    return keys >= {"name", "pipeline_name", "run_id"} and keys.isdisjoint(_ONLY_TFX)


def pipeline_name(context: mlmd.Context) -> str:
    """Return the name of a pipeline's context; this dialect has none."""
    return text(context.name)


def pipeline_of_run(context: mlmd.Context) -> str:
    """Return the pipeline of a run: its workflow's name without what was generated, see `without_suffix`.

    The writer notes the workflow's name as the pipeline's; a name that somebody else noted is taken.
    """
    workflow = _workflow(context)
    noted = base.properties(context).get("pipeline_name")
    if isinstance(noted, str) and noted not in ("", workflow):
        return noted
    return without_suffix(workflow)


def without_suffix(workflow: str) -> str:
    """Return a workflow's name without what was generated at its end: a guess, as nothing tells for sure.

    - `churn-v1-q8m2x`: a dash and Kubernetes' five random letters, which are no vowels and not 0, 1 or 3,
      or those alone where a long name was cut. Any other five are taken for such if letters and digits
      are among them: `churn-v1-abc12`.
    - `nightlyq8m2x-12-1162116600`: a run of a schedule ends with its number and the hash of what stands
      before it; the schedule's name is that of its recurring run, and five random letters. With a number
      as large as a hash that is another one (`nightly-12-1234567890`), only the two numbers are taken off.
    - Any other name is the pipeline's: `churn-v1`, `hello-world`.
    """
    scheduled = _SCHEDULED.fullmatch(workflow)
    if scheduled and int(scheduled[3]) == _hash(scheduled[1]):
        own = _OF_A_SCHEDULE.fullmatch(scheduled[2])
        return scheduled[2] if own is None else own[1]
    if scheduled and _LARGE <= int(scheduled[3]) < 2**32:
        return scheduled[2]
    generated = _GENERATED.fullmatch(workflow) or _CUT.fullmatch(workflow) or _TYPED.fullmatch(workflow)
    return workflow if generated is None else generated[1]


def run_contexts(name: str, _pipelines: Callable[[], Sequence[str]]) -> Iterable[str]:
    """Return the names that the context of a run may have."""
    return [name]


def run(context: mlmd.Context, pipeline: str) -> PipelineRun:
    """Return a run, named as its workflow; nothing tells how it ended."""
    return base.plain_run(context, name=_workflow(context), pipeline=pipeline, dialect=NAME)


def step(execution: mlmd.Execution, kind: mlmd.ExecutionType) -> StepRun:
    """Return a step run, named as its component; its parameters are as its pod had them, mostly text."""
    custom, declared = base.custom_properties(execution), base.declared_properties(execution)
    component, _, digest = text(kind.name).removeprefix(_TYPE).partition(_DIGEST)
    names = (
        # As Kubeflow's own UI looks for it (frontend/src/mlmd/MlmdUtils.ts).
        custom.get("display_name"),
        custom.get("task_name"),
        declared.get("name"),
        declared.get("component_id"),
        custom.get("task_id"),
        custom.get("kfp_pod_name"),
        component,
    )
    name = next((each for each in names if isinstance(each, str) and each), str(execution.id))
    workflow = declared.get("run_id")
    return dataclasses.replace(
        base.plain_step(execution, kind, name=name, dialect=NAME),
        run_name=workflow if isinstance(workflow, str) else "",
        parameters={
            key.removeprefix(_INPUT): value for key, value in custom.items() if key.startswith(_INPUT)
        },
        code=digest,
    )


def artifact(node: mlmd.Artifact, kind: mlmd.ArtifactType) -> Artifact:
    """Return an artifact; the names of its output and workflow, and Argo's own note, are properties.

    Its type is a name alone: a base type is of another writer who uses the name, too (`Model`).
    """
    return dataclasses.replace(base.plain_artifact(node, kind), base_type="")


def role(slot: str, *, taken: bool) -> base.Role:
    """Return what an output is for: Argo keeps each pod's log as an output."""
    return "log" if slot == "main-logs" and not taken else ""


def assemble(run: PipelineRun, steps: Sequence[StepRun]) -> WholeRun:
    """Return a run and its steps; of a run that failed the steps that came after are missing."""
    return WholeRun(base.settled(run, steps), tuple(steps))


def _workflow(context: mlmd.Context) -> str:
    noted = base.properties(context).get("run_id")
    return text(context.name) or (noted if isinstance(noted, str) else "")


def _hash(name: str) -> int:
    """Return a name's FNV-1a hash of 32 bits (backend/src/crd/controller/scheduledworkflow/util)."""
    value = 0x811C9DC5
    for byte in name.encode():
        value = (value ^ byte) * 0x01000193 % 2**32
    return value
