"""A lineage graph drawn as SVG, from left to right, with nothing but shapes and text.

No script, no style sheet, no font, no link and no id: a drawing can stand in any page, and several
can stand in one without meeting.
"""

from __future__ import annotations

import unicodedata
from html import escape
from typing import TYPE_CHECKING, Final, NamedTuple

from zen_mlmd.lineage.export import ARTIFACT_COLOURS, STATUS_COLOURS, captions, printable, slot_names
from zen_mlmd.lineage.layout import lay_out
from zen_mlmd.model import Status

if TYPE_CHECKING:
    from collections.abc import Sequence

    from zen_mlmd.lineage.export import Caption, Colours
    from zen_mlmd.lineage.graph import Edge, LineageGraph, Node

# Pixels, in the size that the drawing asks for.
_HEIGHT: Final = 44.0
_ROW_GAP: Final = 18.0
_BEND_GAP: Final = 22.0
_LAYER_GAP: Final = 60.0
_MARGIN: Final = 28.0
_LEGEND_HEIGHT: Final = 36.0
_LEGEND_ITEM: Final = 104.0
_CHAR: Final = 7.4
_ARROW: Final = 8.0

_LINE: Final = "#8492a6"
_INK: Final = "#1a202c"
_FAINT_INK: Final = "#4a5568"
_DASHES: Final = ' stroke-dasharray="5 4"'
_FONT: Final = "system-ui, -apple-system, 'Segoe UI', 'DejaVu Sans', Helvetica, Arial, sans-serif"


class _Box(NamedTuple):
    left: float
    middle: float
    width: float


def draw(graph: LineageGraph) -> str:
    """Return a graph as an SVG document, with a tooltip on each node and edge.

    Steps are boxes in the colour of their status, artifacts are rounded; a cached step's frame and a
    re-use are dashed; what the walk started from has a thick frame.
    """
    shown = captions(graph)
    number = {node: i for i, node in enumerate(shown)}
    edges = list(graph.edges())
    pairs = [(number[edge.source], number[edge.target]) for edge in edges]
    layout = lay_out(
        len(number),
        [pair for pair, edge in zip(pairs, edges, strict=True) if not edge.reuse],
        [pair for pair, edge in zip(pairs, edges, strict=True) if edge.reuse],
        _HEIGHT + _ROW_GAP,
        _BEND_GAP,
    )
    widths = [_width(caption) for caption in shown.values()]
    columns = _columns(layout.layers, widths)
    top = _MARGIN + _HEIGHT / 2
    boxes = []
    for layer, height, width in zip(layout.layers, layout.heights, widths, strict=True):
        left, right = columns[layer]
        boxes.append(_Box((left + right - width) / 2, height + top, width))

    body = []
    for edge, (source, target) in zip(edges, pairs, strict=True):
        passed = columns[layout.layers[source] + 1 :]
        bends = [
            (column, y + top)
            for column, y in zip(passed, layout.bends.get((source, target), ()), strict=False)
        ]
        body.append(_edge(edge, boxes[source], boxes[target], bends))
    body += [_node(graph, node, caption, boxes[number[node]]) for node, caption in shown.items()]
    return _page(graph, edges, body, boxes)


def _page(graph: LineageGraph, edges: Sequence[Edge], body: list[str], boxes: Sequence[_Box]) -> str:
    legend = [
        status for status in STATUS_COLOURS if any(step.status is status for step in graph.steps.values())
    ]
    reuse = any(edge.reuse for edge in edges)
    items = len(legend) + reuse
    right = max([box.left + box.width for box in boxes] + [_MARGIN + items * _LEGEND_ITEM]) + _MARGIN
    bottom = max((box.middle + _HEIGHT / 2 for box in boxes), default=0.0) + _MARGIN
    height = bottom + (_LEGEND_HEIGHT if items else 0.0)
    size = f'width="{_px(right)}" height="{_px(height)}"'
    box = f'viewBox="0 0 {_px(right)} {_px(height)}" {size} role="img" font-family="{_FONT}"'
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {box}>',
        f"<title>{escape(repr(graph)[1:-1])}</title>",
        f'<rect {size} fill="#ffffff"/>',
        *body,
        *_legend(legend, bottom + _LEGEND_HEIGHT / 2 - _MARGIN / 2, reuse=reuse),
        "</svg>",
    ]
    return "\n".join(lines) + "\n"


def _columns(layers: Sequence[int], widths: Sequence[float]) -> list[tuple[float, float]]:
    """Return where each layer begins and ends."""
    widest = [0.0] * (max(layers, default=-1) + 1)
    for layer, width in zip(layers, widths, strict=True):
        widest[layer] = max(widest[layer], width)
    columns, left = [], _MARGIN
    for width in widest:
        columns.append((left, left + width))
        left += width + _LAYER_GAP
    return columns


def _width(caption: Caption) -> float:
    """Return the width of a box, by a guess: the font is the reader's."""
    longest = max(_columns_of(caption.title) * _CHAR * 1.06, _columns_of(caption.subtitle) * _CHAR * 0.88)
    return round(max(longest + 26, 84.0))


def _columns_of(text: str) -> float:
    wide = sum(unicodedata.east_asian_width(char) in "WF" for char in text)
    return len(text) + 0.8 * wide


def _node(graph: LineageGraph, node: Node, caption: Caption, box: _Box) -> str:
    top = box.middle - _HEIGHT / 2
    if node.kind == "artifact":
        colours, radius, dashes = ARTIFACT_COLOURS, _HEIGHT / 2, ""
    else:
        status = graph.steps[node.id].status
        colours, radius, dashes = STATUS_COLOURS[status], 4.0, _DASHES if status is Status.CACHED else ""
    thickness = 3 if node.kind == "artifact" and node.id in graph.start else 1.4
    frame = f'rx="{_px(radius)}" {_paint(colours)} stroke-width="{thickness}"{dashes}'
    text = f'<text x="{_px(box.left + box.width / 2)}" text-anchor="middle"'
    title, subtitle = escape(caption.title), escape(caption.subtitle)
    tooltip = escape("\n".join(caption.details))
    return (
        f"<g><title>{tooltip}</title>"
        f'<rect x="{_px(box.left)}" y="{_px(top)}" width="{_px(box.width)}" height="{_px(_HEIGHT)}" {frame}/>'
        f'{text} y="{_px(top + 19)}" font-size="12.5" font-weight="600" fill="{_INK}">{title}</text>'
        f'{text} y="{_px(top + 34)}" font-size="10.5" fill="{_FAINT_INK}">{subtitle}</text></g>'
    )


def _paint(colours: Colours) -> str:
    return f'fill="{colours.fill}" stroke="{colours.stroke}"'


def _edge(edge: Edge, source: _Box, target: _Box, bends: Sequence[tuple[tuple[float, float], float]]) -> str:
    x, y = source.left + source.width, source.middle
    end = target.left - _ARROW
    path = [f"M{_px(x)} {_px(y)}"]
    for (left, right), height in bends:
        path.append(f"{_curve(x, y, left, height)}H{_px(right)}")
        x, y = right, height
    path.append(_curve(x, y, end, target.middle))
    what = printable(slot_names(edge.event)) or str(edge.event.type)
    tooltip = f"{edge.event.type}: {what}" + (" (used again, made before)" if edge.reuse else "")
    dashes = _DASHES if edge.reuse else ""
    head = f"M{_px(end + _ARROW)} {_px(target.middle)}l-{_px(_ARROW)} -4v8z"
    return (
        f"<g><title>{escape(tooltip)}</title>"
        f'<path d="{"".join(path)}" fill="none" stroke="{_LINE}" stroke-width="1.4"{dashes}/>'
        f'<path d="{head}" fill="{_LINE}"/></g>'
    )


def _curve(x: float, y: float, to_x: float, to_y: float) -> str:
    if to_x > x:
        middle = _px((x + to_x) / 2)
        return f"C{middle} {_px(y)} {middle} {_px(to_y)} {_px(to_x)} {_px(to_y)}"
    # To the left, in a cycle or for a re-use: round the lower of the two boxes, in the gap under it.
    lane = max(y, to_y) + (_HEIGHT + _ROW_GAP) / 2
    out, back = _px(x + 24), _px(to_x - 24)
    return (
        f"C{out} {_px(y)} {out} {_px(lane)} {_px(x)} {_px(lane)}H{_px(to_x)}"
        f"C{back} {_px(lane)} {back} {_px(to_y)} {_px(to_x)} {_px(to_y)}"
    )


def _legend(statuses: Sequence[Status], y: float, *, reuse: bool) -> list[str]:
    items = []
    for i, status in enumerate(statuses):
        colours = STATUS_COLOURS[status]
        dashes = _DASHES if status is Status.CACHED else ""
        x = _MARGIN + i * _LEGEND_ITEM
        items.append(
            f'<rect x="{_px(x)}" y="{_px(y - 7)}" width="20" height="14" rx="3" {_paint(colours)} '
            f'stroke-width="1.4"{dashes}/>{_legend_text(x, y, str(status))}'
        )
    if reuse:
        x = _MARGIN + len(statuses) * _LEGEND_ITEM
        line = f'<path d="M{_px(x)} {_px(y)}h20" stroke="{_LINE}" stroke-width="1.4"{_DASHES}/>'
        items.append(line + _legend_text(x, y, "used again"))
    return items


def _legend_text(x: float, y: float, text: str) -> str:
    return f'<text x="{_px(x + 27)}" y="{_px(y + 4)}" font-size="11" fill="{_FAINT_INK}">{text}</text>'


def _px(number: float) -> str:
    return f"{number:.1f}".removesuffix(".0")
