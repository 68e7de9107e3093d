"""A lineage graph in other forms: networkx, Mermaid, Graphviz, JSON.

The names in a store come from anyone, so every text is escaped for the form it goes to, what cannot
be printed is left out, and drawings show the first 32 characters of it.

The JSON, version 1 (later versions only add keys):

    {"schema": "zen_mlmd.lineage", "version": 1,
     "complete": true, "start": [artifact id, ...], "cut": [artifact id, ...],
     "artifacts": [{"id", "name", "type", "uri", "state", "producer_id", "content_hash", "size_bytes",
                    "created_at", "properties", "custom_properties"}, ...],
     "steps": [{"id", "name", "type", "status", "run_name", "started_at", "ended_at", "parameters",
                "properties", "metrics"}, ...],
     "edges": [{"source": {"kind": "artifact", "id": 1}, "target": {"kind": "step", "id": 2},
                "event": "input", "slots": [{"name", "index"}, ...], "at", "reuse"}, ...]}

Nodes are ordered by id, edges by step, artifact and event. Times are ISO 8601 in UTC or null;
`producer_id` and `size_bytes` may be null. In parameters, properties and metrics, what JSON has no
form for (NaN, bytes, sets, ...) is Python's text of it: for reading, not for reading back.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from zen_mlmd.errors import MissingExtraError
from zen_mlmd.model import OUTPUT_EVENTS, Artifact, Event, Slot, Status, StepRun

if TYPE_CHECKING:
    from zen_mlmd.lineage.graph import Edge, LineageGraph, Node

JSON_SCHEMA: Final = "zen_mlmd.lineage"
JSON_VERSION: Final = 1

_MAX_DEPTH = 100  # as deep as a recorded value can be
_MAX_DIGITS = 4000  # Python prints no integer of more than 4300
_MERMAIDS_OWN = "°¶"  # it keeps entities as `ﬂ°°35¶ß` while it parses (mermaid, utils.ts, encodeEntities)
_JOINER = "\u200d"  # not printable by itself, and what holds a family of emoji together


class Colours(NamedTuple):
    """How a kind of node is drawn, as `#rrggbb`."""

    fill: str
    stroke: str


ARTIFACT_COLOURS: Final = Colours("#ffffff", "#64748b")
STATUS_COLOURS: Final[Mapping[Status, Colours]] = {
    Status.COMPLETED: Colours("#dcf5e3", "#2f855a"),
    Status.CACHED: Colours("#e3eefc", "#3b6fb5"),
    Status.RUNNING: Colours("#fff1cc", "#b7791f"),
    Status.FAILED: Colours("#fde0de", "#c53030"),
    Status.CANCELED: Colours("#efe3f7", "#7e4fa8"),
    Status.PENDING: Colours("#eef1f5", "#64748b"),
    Status.UNKNOWN: Colours("#eef1f5", "#64748b"),
}


class Caption(NamedTuple):
    """What a drawing says about a node; all of it can be printed and none of it is escaped.

    Attributes:
        title: The name, or what stands for it, shortened.
        subtitle: The type or the status, shortened.
        details: Lines for a tooltip, in full; the first is the title.
    """

    title: str
    subtitle: str
    details: tuple[str, ...]


def captions(graph: LineageGraph) -> dict[Node, Caption]:
    """Return what a drawing says about each node."""
    made = {
        event.artifact_id: slot_names(event)
        for event in graph.events
        if graph.producers.get(event.artifact_id) == event.step_id and event.type in OUTPUT_EVENTS
    }
    start, cut = frozenset(graph.start), frozenset(graph.cut)
    found: dict[Node, Caption] = {}
    for node in graph.nodes():
        if node.kind == "step":
            found[node] = _step_caption(graph.steps[node.id])
        else:
            caption = _artifact_caption(graph.artifacts[node.id], made.get(node.id, ""))
            if node.id in start:
                caption = caption._replace(details=(*caption.details, "the walk began here"))
            if node.id in cut:
                caption = Caption(
                    caption.title,
                    f"{caption.subtitle} · cut",
                    (*caption.details, "a bound stopped the walk here"),
                )
            found[node] = caption
    return found


def _artifact_caption(artifact: Artifact, slot: str) -> Caption:
    title = printable(artifact.name) or printable(slot) or f"artifact {artifact.id}"
    kind = printable(artifact.type)
    lines = [title, f"{kind} #{artifact.id}", printable(artifact.uri), printable(artifact.content_hash)]
    return Caption(shorten(title), f"{shorten(kind, 20)} #{artifact.id}", tuple(filter(None, lines)))


def _step_caption(step: StepRun) -> Caption:
    title = printable(step.key) or f"step {step.id}"
    run, took, failure = printable(step.run_name), step.duration_s, step.failure
    lines = [
        title,
        f"{printable(step.type)} #{step.id}",
        str(step.status) if took is None else f"{step.status} in {took:.1f} s",
        f"run {run}" if run else "",
        printable(f"{failure.type}: {failure.message}") if failure else "",
    ]
    subtitle = f"{step.status} · {shorten(run, 20)}" if run else f"{step.status} #{step.id}"
    return Caption(shorten(title), subtitle, tuple(filter(None, lines)))


def slot_names(event: Event) -> str:
    """Return the inputs or outputs that an event is about: `rows`, `models[1], best`."""
    return ", ".join(f"{slot.name}[{slot.index}]" if slot.index else slot.name for slot in event.slots)


def printable(text: str) -> str:
    """Return a text on one line, with one blank for each run of what cannot be printed.

    What is left can stand in XML 1.0 and be encoded as UTF-8: no control characters, no lone
    surrogates, no characters that turn the direction of writing.
    """
    kept = "".join(char if char.isprintable() or char == _JOINER else " " for char in text)
    return " ".join(kept.split())


def shorten(text: str, length: int = 32) -> str:
    """Return at most the first `length` characters of a text, the last of them `…` if it is longer."""
    return text if len(text) <= length else text[: length - 1].rstrip() + "…"


# --- networkx -------------------------------------------------------------------------------------


def to_networkx(graph: LineageGraph) -> Any:
    """Return a `networkx.MultiDiGraph`; see `LineageGraph.to_networkx`."""
    try:
        import networkx as nx
    except ImportError:
        raise MissingExtraError("networkx is not installed", hint="pip install networkx") from None
    drawn: Any = nx.MultiDiGraph()
    for node in graph.nodes():
        record = graph.artifacts[node.id] if node.kind == "artifact" else graph.steps[node.id]
        drawn.add_node(
            node,
            kind=node.kind,
            id=node.id,
            name=printable(record.name),
            type=printable(record.type),
            status=str(record.status) if isinstance(record, StepRun) else "",
            uri=printable(record.uri) if isinstance(record, Artifact) else "",
        )
    for edge in graph.edges():
        kind = str(edge.event.type)
        slots = printable(slot_names(edge.event))
        drawn.add_edge(edge.source, edge.target, key=kind, event=kind, slots=slots, reuse=edge.reuse)
    return drawn


# --- Mermaid --------------------------------------------------------------------------------------


def to_mermaid(graph: LineageGraph) -> str:
    """Return a Mermaid flowchart: steps are boxes, artifacts rounded, re-uses dashed."""
    shown = captions(graph)
    lines = ["flowchart LR"]
    for node, caption in shown.items():
        text = f"{_mermaid(caption.title)}<br/>{_mermaid(caption.subtitle)}"
        box = f'("{text}")' if node.kind == "artifact" else f'["{text}"]'
        look = "artifact" if node.kind == "artifact" else str(graph.steps[node.id].status)
        lines.append(f"  {_short_id(node)}{box}:::{look}")
    for edge in graph.edges():
        label = _edge_label(edge, shown)
        text = f'|"{_mermaid(label)}"|' if label else ""
        arrow = "-.->" if edge.reuse else "-->"
        lines.append(f"  {_short_id(edge.source)} {arrow}{text} {_short_id(edge.target)}")
    started = [f"a{artifact}" for artifact in graph.start if artifact in graph.artifacts]
    if started:
        lines.append(f"  class {','.join(started)} start")
    lines.append(f"  classDef artifact {_mermaid_style(ARTIFACT_COLOURS)}")
    for status, colours in STATUS_COLOURS.items():
        dashed = ",stroke-dasharray:5 3" if status is Status.CACHED else ""
        lines.append(f"  classDef {status} {_mermaid_style(colours)}{dashed}")
    lines.append("  classDef start stroke-width:3px")
    return "\n".join(lines) + "\n"


def _mermaid(text: str) -> str:
    """Return a text with the signs of ASCII as Mermaid's entities (`#34;` is a quote).

    Also where Mermaid's grammar would bear them: a label is Markdown to it, and HTML to the browser.
    Some between two letters or digits mean nothing to either, and stay.
    """
    return "".join(
        char
        if char.isalnum()
        or char == " "
        or not (char.isascii() or char in _MERMAIDS_OWN)
        or (char in "_-./" and text[i - 1 : i].isalnum() and text[i + 1 : i + 2].isalnum())
        else f"#{ord(char)};"
        for i, char in enumerate(text)
    )


def _mermaid_style(colours: Colours) -> str:
    return f"fill:{colours.fill},stroke:{colours.stroke},color:#1a202c"


def _short_id(node: Node) -> str:
    return f"{node.kind[0]}{node.id}"


def _edge_label(edge: Edge, shown: Mapping[Node, Caption]) -> str:
    """Return the slots, unless the artifact is called so."""
    artifact = edge.source if edge.source.kind == "artifact" else edge.target
    label = printable(slot_names(edge.event))
    return "" if label == shown[artifact].details[0] else shorten(label)


# --- Graphviz -------------------------------------------------------------------------------------


def to_dot(graph: LineageGraph) -> str:
    """Return a directed graph in Graphviz's language, with tooltips: steps are boxes, artifacts rounded."""
    shown = captions(graph)
    lines = [
        "digraph lineage {",
        "  rankdir=LR;",
        '  node [shape=box, style=filled, fontname="Helvetica", fontsize=11, fontcolor="#1a202c"];',
        '  edge [color="#718096", fontname="Helvetica", fontsize=9, fontcolor="#4a5568"];',
    ]
    for node, caption in shown.items():
        text, tip = rf"{_dot(caption.title)}\n{_dot(caption.subtitle)}", _dot_lines(caption)
        lines.append(f'  {_short_id(node)} [label="{text}", tooltip="{tip}", {_dot_look(graph, node)}];')
    for edge in graph.edges():
        label = _dot(_edge_label(edge, shown))
        style = ", style=dashed" if edge.reuse else ""
        lines.append(f'  {_short_id(edge.source)} -> {_short_id(edge.target)} [label="{label}"{style}];')
    return "\n".join([*lines, "}"]) + "\n"


def _dot_look(graph: LineageGraph, node: Node) -> str:
    if node.kind == "artifact":
        colours, style = ARTIFACT_COLOURS, "filled,rounded"
        width = ", penwidth=2.5" if node.id in graph.start else ""
    else:
        status = graph.steps[node.id].status
        colours, style = STATUS_COLOURS[status], "filled,dashed" if status is Status.CACHED else "filled"
        width = ""
    return f'style="{style}", fillcolor="{colours.fill}", color="{colours.stroke}"{width}'


def _dot(text: str) -> str:
    r"""Return a text for a quoted string: Graphviz reads `\N` and the like in it, and HTML's entities."""
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("&", "&amp;")


def _dot_lines(caption: Caption) -> str:
    # Graphviz keeps 16 KB of a string in its lexer in some versions; a tooltip needs far less.
    return r"\n".join(_dot(line[:300]) for line in caption.details)


# --- JSON -----------------------------------------------------------------------------------------


def to_dict(graph: LineageGraph) -> dict[str, Any]:
    """Return the graph as plain values; the module's docstring has the schema."""
    edges = sorted(
        graph.edges(), key=lambda edge: (edge.event.step_id, edge.event.artifact_id, edge.event.type)
    )
    return {
        "schema": JSON_SCHEMA,
        "version": JSON_VERSION,
        "complete": graph.complete,
        "start": list(graph.start),
        "cut": list(graph.cut),
        "artifacts": [
            _artifact_dict(graph.artifacts[each], graph.producers.get(each))
            for each in sorted(graph.artifacts)
        ],
        "steps": [_step_dict(graph.steps[each]) for each in sorted(graph.steps)],
        "edges": [_edge_dict(edge) for edge in edges],
    }


def to_json(graph: LineageGraph, *, indent: int | None = None) -> str:
    """Return `to_dict` as ASCII JSON."""
    return json.dumps(to_dict(graph), indent=indent, allow_nan=False)


def _artifact_dict(artifact: Artifact, producer_id: int | None) -> dict[str, Any]:
    return {
        "id": artifact.id,
        "name": artifact.name,
        "type": artifact.type,
        "uri": artifact.uri,
        "state": artifact.state,
        "producer_id": producer_id,
        "content_hash": artifact.content_hash,
        "size_bytes": artifact.size_bytes,
        "created_at": _plain(artifact.created_at),
        "properties": _plain(artifact.properties),
        "custom_properties": _plain(artifact.custom_properties),
    }


def _step_dict(step: StepRun) -> dict[str, Any]:
    return {
        "id": step.id,
        "name": step.name,
        "type": step.type,
        "status": str(step.status),
        "run_name": step.run_name,
        "started_at": _plain(step.started_at),
        "ended_at": _plain(step.ended_at),
        "parameters": _plain(step.parameters),
        "properties": _plain(step.properties),
        "metrics": _plain(step.metrics),
    }


def _edge_dict(edge: Edge) -> dict[str, Any]:
    def slot(each: Slot) -> dict[str, Any]:
        return {"name": each.name, "index": each.index}

    return {
        "source": edge.source._asdict(),
        "target": edge.target._asdict(),
        "event": str(edge.event.type),
        "slots": [slot(each) for each in edge.event.slots],
        "at": _plain(edge.event.at),
        "reuse": edge.reuse,
    }


def _plain(value: Any, depth: int = 0) -> Any:  # noqa: PLR0911 -- one per kind
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, int):
        return value if abs(value) < 10**_MAX_DIGITS else hex(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, datetime):
        return value.isoformat()
    if depth == _MAX_DEPTH:
        return "…"
    if isinstance(value, Mapping):
        return {str(_plain(key, depth + 1)): _plain(item, depth + 1) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item, depth + 1) for item in value]
    if isinstance(value, set | frozenset):
        return sorted((_plain(item, depth + 1) for item in value), key=repr)
    return str(value)
