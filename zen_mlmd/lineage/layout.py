"""Where the nodes of a drawing go: Sugiyama's method in its simple form, on plain numbers.

Layers by longest paths, an order in each layer by barycentres, and heights that bring neighbours
level without changing that order (Sugiyama, Tagawa, Toda: Methods for visual understanding of
hierarchical system structures, 1981). Everything is a loop: a chain may have any length.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

Pair: TypeAlias = tuple[int, int]

_SWEEPS = 6
_MAX_BENDS = 5_000  # an edge over several layers is led around what stands there, until so many bends


class Layout(NamedTuple):
    """Where things are.

    Attributes:
        layers: For each node its layer, 0 at the left; every node but a few leads to the right.
        heights: For each node the height of its middle, 0 or more.
        bends: For each edge over several layers, its height at each layer in between.
    """

    layers: list[int]
    heights: list[float]
    bends: dict[Pair, list[float]]


def lay_out(count: int, solid: Sequence[Pair], dashed: Sequence[Pair], pitch: float, bend: float) -> Layout:
    """Place the nodes 0 to `count - 1`, in O((V + E) log V) time.

    Args:
        count: The number of nodes.
        solid: Edges that say what is left of what; where they form cycles some are ignored in that.
        dashed: Edges that say so only as far as the solid ones leave it open.
        pitch: The distance between the middles of two nodes in a layer.
        bend: The same between two edges that pass a layer.
    """
    links, layers = _layers(count, dict.fromkeys(solid), dict.fromkeys(dashed))
    all_layers, near, chains = _with_bends(layers, links)
    rows = _rows(all_layers, near)
    _order(rows, all_layers, near)
    sizes = [pitch] * count + [bend] * (len(all_layers) - count)
    heights = _heights(rows, all_layers, near, sizes)
    bends = {pair: [heights[i] for i in chain] for pair, chain in chains.items()}
    return Layout(layers, heights[:count], bends)


def _layers(count: int, solid: Collection[Pair], dashed: Collection[Pair]) -> tuple[list[Pair], list[int]]:
    """Return the edges that run to the right, and each node's layer."""
    led_to = {v for _, v in solid}
    links = _without_cycles(count, [*solid, *(pair for pair in dashed if pair[1] not in led_to)])
    order = _topological(count, links)
    place = {node: i for i, node in enumerate(order)}
    links = list(dict.fromkeys([*links, *(pair for pair in dashed if place[pair[0]] < place[pair[1]])]))
    onward = _grouped(links)
    layers = [0] * count
    for u in order:
        for v in onward[u]:
            layers[v] = max(layers[v], layers[u] + 1)
    # What nothing leads to goes next to what it leads to, not to the far left.
    for u in set(range(count)) - {v for _, v in links}:
        if onward[u]:
            layers[u] = min(layers[v] for v in onward[u]) - 1
    return links, layers


def _without_cycles(count: int, pairs: Iterable[Pair]) -> list[Pair]:
    """Return the pairs but those that close a cycle in a search, depth first."""
    onward = _grouped(pairs)
    kept: list[Pair] = []
    state = bytearray(count)  # 0 not seen, 1 on the way, 2 done
    for start in range(count):
        if state[start]:
            continue
        state[start] = 1
        stack = [(start, iter(onward[start]))]
        while stack:
            u, ahead = stack[-1]
            v = next(ahead, None)
            if v is None:
                state[u] = 2
                stack.pop()
                continue
            if state[v] != 1:
                kept.append((u, v))
            if not state[v]:
                state[v] = 1
                stack.append((v, iter(onward[v])))
    return kept


def _topological(count: int, links: Iterable[Pair]) -> list[int]:
    onward = _grouped(links)
    inward = [0] * count
    for _, v in links:
        inward[v] += 1
    order = [node for node in range(count) if not inward[node]]
    for u in order:  # grows as it goes: it is the queue too
        for v in onward[u]:
            inward[v] -= 1
            if not inward[v]:
                order.append(v)
    return order


def _grouped(pairs: Iterable[Pair]) -> defaultdict[int, list[int]]:
    grouped: defaultdict[int, list[int]] = defaultdict(list)
    for u, v in pairs:
        grouped[u].append(v)
    return grouped


def _with_bends(
    layers: Sequence[int], links: Iterable[Pair]
) -> tuple[list[int], list[list[int]], dict[Pair, list[int]]]:
    """Return the layers and the neighbours with a node for each bend, and which bends an edge has.

    Short edges first: the long ones are those that nobody could follow anyway.
    """
    all_layers = list(layers)
    near: list[list[int]] = [[] for _ in layers]
    chains: dict[Pair, list[int]] = {}
    for u, v in sorted(links, key=lambda pair: layers[pair[1]] - layers[pair[0]]):
        between = range(layers[u] + 1, layers[v])
        last = u
        if between and len(all_layers) - len(layers) + len(between) <= _MAX_BENDS:
            first = len(all_layers)
            all_layers.extend(between)
            chains[u, v] = list(range(first, len(all_layers)))
            for i in chains[u, v]:
                near.append([last])
                near[last].append(i)
                last = i
        near[last].append(v)
        near[v].append(last)
    return all_layers, near, chains


def _rows(layers: Sequence[int], near: Sequence[Sequence[int]]) -> list[list[int]]:
    """Return the nodes of each layer, in the order of a search that keeps together what hangs together."""
    rows: list[list[int]] = [[] for _ in range(max(layers, default=-1) + 1)]
    seen = bytearray(len(layers))
    for start in sorted(range(len(layers)), key=layers.__getitem__):
        stack = [start]
        while stack:
            node = stack.pop()
            if not seen[node]:
                seen[node] = 1
                rows[layers[node]].append(node)
                stack.extend(reversed(near[node]))
    return rows


def _order(rows: list[list[int]], layers: Sequence[int], near: Sequence[Sequence[int]]) -> None:
    """Order each row by where the neighbours of its nodes are in the row before, to and fro."""
    place = [0.0] * len(layers)
    for row in rows:
        for i, node in enumerate(row):
            place[node] = float(i)
    for side in (-1, 1) * _SWEEPS:
        for row in rows if side < 0 else reversed(rows):
            row.sort(key=_wishes(row, side, place, layers, near).__getitem__)
            for i, node in enumerate(row):
                place[node] = float(i)


def _heights(
    rows: list[list[int]], layers: Sequence[int], near: Sequence[Sequence[int]], sizes: Sequence[float]
) -> list[float]:
    heights = [0.0] * len(layers)
    for side in (*(-1, 1) * _SWEEPS, 0):
        for row in rows if side <= 0 else reversed(rows):
            wishes = _wishes(row, side, heights, layers, near)
            level = _spread([wishes[node] for node in row], [sizes[node] for node in row])
            for node, height in zip(row, level, strict=True):
                heights[node] = height
    top = min(heights, default=0.0)
    return [height - top for height in heights]


def _wishes(
    row: Sequence[int],
    side: int,
    values: Sequence[float],
    layers: Sequence[int],
    near: Sequence[Sequence[int]],
) -> dict[int, float]:
    """Return the mean value of each node's neighbours at one side, or at both for 0; else its own."""
    wishes = {}
    for node in row:
        there = [values[each] for each in near[node] if not side or (layers[each] - layers[node]) * side > 0]
        wishes[node] = sum(there) / len(there) if there else values[node]
    return wishes


def _spread(wishes: Sequence[float], sizes: Sequence[float]) -> list[float]:
    """Return the heights nearest to the wishes, by squares, that keep the order and the distances.

    Isotonic regression (pool adjacent violators) on what is left of a wish after the room that those
    above need.
    """
    rooms, room = [], 0.0
    for i, size in enumerate(sizes):
        room += (sizes[i - 1] + size) / 2 if i else 0.0
        rooms.append(room)
    pools: list[tuple[float, int]] = []
    for wish, room in zip(wishes, rooms, strict=True):
        total, size = wish - room, 1
        while pools and pools[-1][0] * size >= total * pools[-1][1]:
            before, members = pools.pop()
            total, size = total + before, size + members
        pools.append((total, size))
    level = [total / size for total, size in pools for _ in range(size)]
    return [height + room for height, room in zip(level, rooms, strict=True)]
