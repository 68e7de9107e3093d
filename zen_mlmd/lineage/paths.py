"""The ways from one node of a directed graph to another, one by one, none in vain."""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Iterable, Iterator, Mapping, Sequence
from typing import Generic, TypeAlias, TypeVar

NodeT = TypeVar("NodeT", bound=Hashable)
Links: TypeAlias = Mapping[NodeT, Sequence[NodeT]]


def find_paths(
    source: NodeT, target: NodeT, forward: Links[NodeT], backward: Links[NodeT], limit: int
) -> list[tuple[NodeT, ...]]:
    """Return paths that meet no node twice, depth first; the links each way are those of one graph.

    Args:
        source: Where they begin.
        target: Where they end.
        forward: From a node to those that it leads to.
        backward: From a node to those that lead to it.
        limit: How many at most.
    """
    useful = _reach([target], backward)
    if source not in useful:
        return []
    if source == target:
        return [(source,)]
    cycles = _Cycles(useful, target, forward, backward)
    path: dict[NodeT, None] = {source: None}
    found: list[tuple[NodeT, ...]] = []
    ahead = [cycles.onward(source, path)]
    while ahead and len(found) < limit:
        node = next(ahead[-1], None)
        if node is None:
            ahead.pop()
            path.popitem()
        elif node == target:
            found.append((*path, target))
        else:
            path[node] = None
            ahead.append(cycles.onward(node, path))
    return found


class _Cycles(Generic[NodeT]):
    """Where a path can go on so that it still reaches the target.

    Without cycles every node that leads to the target at all does so whatever the path was. What lies
    ahead of a node on a cycle may lead there only through the path itself; but only as long as it stays
    within that cycle, or those that share nodes with it: whatever leaves them never meets the path.
    """

    def __init__(
        self, useful: set[NodeT], target: NodeT, forward: Links[NodeT], backward: Links[NodeT]
    ) -> None:
        self._forward = forward
        self._backward = backward
        self._useful = useful
        self._component = components(useful, forward)
        # From where a component is left towards the target.
        self._exits: dict[int, list[NodeT]] = {}
        for node in useful:
            own = self._component[node]
            leaves = any(near in useful and self._component[near] != own for near in forward.get(node, ()))
            if leaves or node == target:
                self._exits.setdefault(own, []).append(node)

    def onward(self, node: NodeT, path: Mapping[NodeT, None]) -> Iterator[NodeT]:
        """Yield the nodes that a path ending at `node` may enter next."""
        component, own = self._component, self._component[node]
        nexts = [near for near in self._forward.get(node, ()) if near in self._useful and near not in path]
        if all(component[near] != own for near in nexts):
            return iter(nexts)
        exits = [each for each in self._exits[own] if each not in path]
        leads = _reach(exits, self._backward, lambda near: component.get(near) == own and near not in path)
        return iter([near for near in nexts if component[near] != own or near in leads])


def components(nodes: Collection[NodeT], links: Links[NodeT]) -> dict[NodeT, int]:
    """Return for each node the number of its strongly connected component: of what it shares cycles with.

    Tarjan's algorithm (Depth-first search and linear graph algorithms, 1972) as a loop: O(V + E).
    """
    order: dict[NodeT, int] = {}
    low: dict[NodeT, int] = {}
    found: dict[NodeT, int] = {}
    open_nodes: list[NodeT] = []
    for root in nodes:
        if root in order:
            continue
        order[root] = low[root] = len(order)
        open_nodes.append(root)
        ahead = [(root, iter(links.get(root, ())))]
        while ahead:
            node, nexts = ahead[-1]
            for near in nexts:
                if near not in nodes or near in found:
                    continue
                if near in order:
                    low[node] = min(low[node], order[near])
                    continue
                order[near] = low[near] = len(order)
                open_nodes.append(near)
                ahead.append((near, iter(links.get(near, ()))))
                break
            else:
                ahead.pop()
                if ahead:
                    low[ahead[-1][0]] = min(low[ahead[-1][0]], low[node])
                if low[node] == order[node]:
                    _close(node, open_nodes, found)
    return found


def _close(root: NodeT, open_nodes: list[NodeT], found: dict[NodeT, int]) -> None:
    """Make a component of what is open from `root` on; numbered by how many nodes were closed before."""
    number = len(found)
    while True:
        node = open_nodes.pop()
        found[node] = number
        if node == root:
            return


def _reach(
    starts: Iterable[NodeT], links: Links[NodeT], admits: Callable[[NodeT], bool] | None = None
) -> set[NodeT]:
    """Return what links lead to from some nodes, those nodes too, through admitted nodes alone."""
    found = set(starts)
    ahead = list(found)
    while ahead:
        for near in links.get(ahead.pop(), ()):
            if near not in found and (admits is None or admits(near)):
                found.add(near)
                ahead.append(near)
    return found
