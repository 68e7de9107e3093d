"""Lineage: walk, graph, why, diff, export."""

from zen_mlmd.lineage.diff import Change, RunDiff, diff_runs
from zen_mlmd.lineage.graph import LineageGraph
from zen_mlmd.lineage.walk import Bounds, walk
from zen_mlmd.lineage.why import Explanation, explain

__all__ = ["Bounds", "Change", "Explanation", "LineageGraph", "RunDiff", "diff_runs", "explain", "walk"]
