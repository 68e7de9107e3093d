"""Which dialect a node is of, told from its type and its own row: one store may hold several."""

from __future__ import annotations

from typing import Final

from ml_metadata.proto import metadata_store_pb2 as mlmd

from zen_mlmd.dialects import kfp_v1, kfp_v2, tfx, tfx_legacy, zen, zenml
from zen_mlmd.dialects.base import Dialect, Role


def _each(*dialects: Dialect) -> tuple[Dialect, ...]:
    return dialects


DIALECTS: Final = _each(zen, zenml, kfp_v2, kfp_v1, tfx_legacy, tfx)
"""The first that claims a node has it; the last takes all."""

PIPELINE_TYPES: Final = frozenset[str]().union(*(each.PIPELINES for each in DIALECTS))
RUN_TYPES: Final = frozenset[str]().union(*(each.RUNS for each in DIALECTS))
RUNS_WITHOUT_PIPELINE: Final = kfp_v1.RUNS | tfx_legacy.RUNS
"""The context types of runs whose own rows name a pipeline that may have no context."""
ASIDE: Final = tuple(sorted({start for each in DIALECTS for start in each.ASIDE}))
GROUP_TYPES: Final = frozenset[str]().union(*(each.GROUPS for each in DIALECTS))
NAMES: Final = tuple(dict.fromkeys(each.NAME for each in DIALECTS))


def of_pipeline(context_type: str) -> Dialect:
    """Return the dialect that a pipeline's context is of; several may share its type."""
    return next(each for each in DIALECTS if context_type in each.PIPELINES)


def of_run(context: mlmd.Context, context_type: str) -> Dialect | None:
    """Return the dialect of a run; None for a context that is no run."""
    if context_type not in RUN_TYPES:
        return None
    return next((each for each in DIALECTS if context_type in each.RUNS and each.is_run(context)), None)


def of_step(execution: mlmd.Execution, kind: mlmd.ExecutionType) -> Dialect:
    """Return the dialect of an execution."""
    return next(each for each in DIALECTS if each.is_step(execution, kind))


def of_artifact(node: mlmd.Artifact, kind: mlmd.ArtifactType) -> Dialect:
    """Return the dialect of an artifact."""
    return next(each for each in DIALECTS if each.is_artifact(node, kind))


def named(name: str) -> Dialect:
    """Return the dialect of that name; of TFX's eras the newest."""
    return next(each for each in reversed(DIALECTS) if name == each.NAME)


def role(dialect: str, slot: str, *, taken: bool) -> Role:
    """Return what an input (`taken`) or output of a step of that dialect is for."""
    return named(dialect).role(slot, taken=taken)
