"""A lineage graph as text: a tree from the artifacts that it was walked from.

A node that several lead to is drawn where it is first met, and only named where it is met again. A
branch that is deeper than a terminal is wide goes on below, as a tree of its own: so a chain of any
length is drawn in lines of bounded width, their number linear in the graph's size.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from zen_mlmd.lineage.export import Caption, captions, printable, shorten, slot_names

if TYPE_CHECKING:
    from zen_mlmd.lineage.graph import LineageGraph, Node

DEPTH = 16
"""How many levels one tree has; each is three columns to the right."""


@dataclass(frozen=True, slots=True)
class _Branch:
    """One node on one way to it.

    Attributes:
        label: The inputs or outputs that led to it; empty where that is the artifact's own name.
        other: It was made by another step than the one that it hangs on, and is not followed.
    """

    node: Node
    label: str = ""
    other: bool = False


@dataclass(slots=True)
class _Drawing:
    graph: LineageGraph
    shown: dict[Node, Caption]
    branches: dict[Node, list[_Branch]] = field(default_factory=dict)
    reuses: Counter[Node] = field(default_factory=Counter)
    met: set[Node] = field(default_factory=set)
    later: deque[Node] = field(default_factory=deque)


def draw_tree(graph: LineageGraph, *, upstream: bool) -> Iterator[str]:
    """Yield the lines of a graph's drawing; O(V + E) of them, in O(V + E) time.

    Args:
        graph: As a walk found it.
        upstream: Draw from what came out to what went in, else the other way.
    """
    drawing = _Drawing(graph, captions(graph))
    _link(drawing, upstream=upstream)
    for node in drawing.shown:
        if node.kind == "artifact" and node.id in graph.start and node not in drawing.met:
            drawing.later.append(node)
            drawing.met.add(node)
    is_first = True
    while drawing.later:
        if not is_first:
            yield ""
        yield from _draw(drawing, drawing.later.popleft())
        is_first = False


def _link(drawing: _Drawing, *, upstream: bool) -> None:
    for edge in drawing.graph.edges():
        source, target = edge.source, edge.target
        if edge.reuse and upstream:
            drawing.reuses[target] += 1
            continue
        node, branch = (target, source) if upstream else (source, target)
        label = printable(slot_names(edge.event))
        artifact = source if source.kind == "artifact" else target
        # What made an artifact is on the line below it: there is nothing to name.
        if label == drawing.shown[artifact].details[0] or (upstream and branch.kind == "step"):
            label = ""
        drawing.branches.setdefault(node, []).append(_Branch(branch, label, edge.reuse))


def _draw(drawing: _Drawing, root: Node) -> Iterator[str]:
    """Yield one tree; what is too deep for it is left for `drawing.later`."""
    yield _line(drawing, _Branch(root))
    levels = [iter(drawing.branches.get(root, ()))]
    prefixes = [""]
    ahead = [next(levels[0], None)]
    while levels:
        branch = ahead[-1]
        if branch is None:
            for stack in (levels, prefixes, ahead):
                stack.pop()
            continue
        ahead[-1] = next(levels[-1], None)
        is_last = ahead[-1] is None
        below = drawing.branches.get(branch.node, ())
        line = prefixes[-1] + ("└─ " if is_last else "├─ ") + _line(drawing, branch)
        if branch.other:
            yield f"{line}  (made by another step)"
        elif branch.node in drawing.met:
            yield f"{line}  (drawn already)" if below else line
        elif below and len(levels) == DEPTH:
            drawing.met.add(branch.node)
            drawing.later.append(branch.node)
            yield f"{line}  (goes on below)"
        else:
            drawing.met.add(branch.node)
            yield line
            levels.append(iter(below))
            prefixes.append(prefixes[-1] + ("   " if is_last else "│  "))
            ahead.append(next(levels[-1], None))


def _line(drawing: _Drawing, branch: _Branch) -> str:
    node, caption = branch.node, drawing.shown[branch.node]
    label = f"{branch.label}: " if branch.label else ""
    if node.kind == "step":
        step = drawing.graph.steps[node.id]
        run = f" in {shorten(printable(step.run_name), 40)}" if step.run_name else ""
        return f"{label}{caption.title}  [step #{node.id}, {step.status}{run}]"
    again = drawing.reuses[node]
    times = f"  (found in the cache {again} time{'s' if again > 1 else ''})" if again else ""
    title = "" if caption.title == f"artifact {node.id}" else f"{caption.title}  "
    return f"{label}{title}[{caption.subtitle}]{times}"
