"""A lineage graph in other forms: right, and safe whatever the names in the store are."""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
import re
import sys
from collections.abc import Iterable
from decimal import Decimal
from io import BytesIO
from itertools import pairwise
from typing import Any
from xml.etree import ElementTree as ET

import networkx as nx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.clock import loops
from zen_mlmd.errors import MissingExtraError
from zen_mlmd.lineage.export import printable, shorten
from zen_mlmd.lineage.graph import LineageGraph, Node
from zen_mlmd.lineage.layout import lay_out
from zen_mlmd.model import Artifact, Event, EventType, Failure, Slot, Status, StepRun

AT = dt.datetime(2026, 11, 1, 12, tzinfo=dt.timezone.utc)
HOSTILE = [
    'a"b',
    '"]-->x["',
    "two\nlines",
    "\\",
    "\\N\\G\\",
    "]",
    "-->",
    "</title><script>alert(1)</script>",
    "&amp; & &#34;",
    "#quot; #35;",
    "ﬂ°°60¶ß",
    "`**b**`",
    "1. - * item",
    "style: #fff;",
    "%%{init: {}}%%",
    "🎉👩\u200d🔬",
    "\x00\x07\x1b[31m",
    "\ud800 alone",
    "\ufffe\uffff",
    "\u202eright to left",
    "x" * 10_000,
    "",
    "日本語" * 20,
    "]]>",
    "';{}|()<>",
]


def artifact(number: int, name: str = "", **more: Any) -> Artifact:
    return Artifact(**{"id": number, "type": "Dataset", "uri": f"s3://b/{number}", "name": name, **more})


def step(number: int, name: str = "step", status: Status = Status.COMPLETED, **more: Any) -> StepRun:
    return StepRun(**{"id": number, "name": name, "type": "t", "status": status, **more})


def taken(artifact_id: int, step_id: int, *slots: Slot) -> Event:
    return Event(artifact_id, step_id, EventType.INPUT, slots or (Slot("rows"),), AT)


def given_out(artifact_id: int, step_id: int, *slots: Slot) -> Event:
    return Event(artifact_id, step_id, EventType.OUTPUT, slots or (Slot("out"),), AT)


def small() -> LineageGraph:
    """raw -> load -> rows -> train -> (model, by the name of its slot); a cached load gave rows again."""
    return LineageGraph(
        {1: artifact(1, "raw"), 2: artifact(2, "rows"), 3: artifact(3, type="Model")},
        {
            4: step(4, "load", run_name="monday"),
            5: step(5, "train", Status.FAILED, failure=Failure("ValueError", "too\nbad"), started_at=AT),
            6: step(6, "load", Status.CACHED, run_name="tuesday"),
        },
        (
            taken(1, 4),
            given_out(2, 4),
            taken(2, 5),
            given_out(3, 5, Slot("model"), Slot("models", 2)),
            taken(1, 6),
            given_out(2, 6),
        ),
        {2: 4, 3: 5},
        complete=False,
        start=(3,),
        cut=(1,),
    )


def named(names: Iterable[str]) -> LineageGraph:
    """A ring through an artifact, a step, a slot, a type, a run, a URI and an error of each name."""
    artifacts, steps, events, producers = {}, {}, [], {}
    names = list(names)
    for i, name in enumerate(names):
        artifacts[i] = artifact(i, name, type=name, uri=name, content_hash=name)
        steps[i] = step(i, name, Status.FAILED, type=name, run_name=name, failure=Failure(name, name))
        events += [taken(i, i, Slot(name)), given_out((i + 1) % len(names), i, Slot(name, 1), Slot(name))]
        producers[(i + 1) % len(names)] = i
    return LineageGraph(artifacts, steps, tuple(events), producers, start=(0,), cut=(0,))


# --- text ------------------------------------------------------------------------------------------


@given(st.text(st.characters()))
def test_what_can_be_printed_is_one_line_of_xml_and_utf8(text: str) -> None:
    clean = printable(text)
    assert "\n" not in clean
    assert clean.encode().decode() == clean
    assert ET.fromstring(f"<a>{clean.replace('&', '').replace('<', '')}</a>") is not None
    assert printable(clean) == clean


def test_what_can_be_printed_stays() -> None:
    assert printable("größe 日本語 🎉👩\u200d🔬 a_b-c.d/e") == "größe 日本語 🎉👩\u200d🔬 a_b-c.d/e"
    assert printable(" a\t\x00\nb\u202e ") == "a b"


def test_a_long_text_is_shortened_to_32_characters() -> None:
    assert shorten("x" * 32) == "x" * 32
    assert shorten("x" * 33) == "x" * 31 + "…"
    assert shorten("x" * 30 + " yyy") == "x" * 30 + "…"


# --- networkx --------------------------------------------------------------------------------------


def test_networkx_has_every_node_and_event() -> None:
    drawn = small().to_networkx()
    assert isinstance(drawn, nx.MultiDiGraph)
    assert drawn.nodes[Node("artifact", 1)] == {
        "kind": "artifact",
        "id": 1,
        "name": "raw",
        "type": "Dataset",
        "status": "",
        "uri": "s3://b/1",
    }
    assert drawn.nodes[Node("step", 6)] == {
        "kind": "step",
        "id": 6,
        "name": "load",
        "type": "t",
        "status": "cached",
        "uri": "",
    }
    assert drawn.edges[Node("step", 5), Node("artifact", 3), "output"] == {
        "event": "output",
        "slots": "model, models[2]",
        "reuse": False,
    }
    assert drawn.edges[Node("step", 6), Node("artifact", 2), "output"]["reuse"] is True
    assert (drawn.number_of_nodes(), drawn.number_of_edges()) == (6, 6)
    assert nx.is_directed_acyclic_graph(drawn)


def test_networkx_keeps_two_events_between_two_nodes() -> None:
    one = LineageGraph(
        {1: artifact(1)},
        {2: step(2)},
        (taken(1, 2), Event(1, 2, EventType.DECLARED_INPUT, (), None)),
        {},
    )
    assert sorted(one.to_networkx()[Node("artifact", 1)][Node("step", 2)]) == ["declared_input", "input"]


def test_networkx_can_write_the_graph_as_graphml() -> None:
    file = BytesIO()
    nx.write_graphml(small().to_networkx(), file)
    assert b'<node id="artifact:1">' in file.getvalue()


@given(st.lists(st.text(), min_size=1, max_size=5))
def test_no_name_breaks_graphml(names: list[str]) -> None:
    hostile = named([*names, "\x1b[2J", "a\0b", "\ufffe", "\ud800"])
    drawn = hostile.to_networkx()
    file = BytesIO()
    nx.write_graphml(drawn, file)
    again = nx.parse_graphml(file.getvalue().decode())
    assert again.number_of_nodes() == len(hostile)
    assert again.number_of_edges() == len(hostile.events)
    texts = [
        value for *_, data in [*drawn.nodes(data=True), *drawn.edges(data=True)] for value in data.values()
    ]
    assert all(text == printable(text) for text in texts if isinstance(text, str))


def test_without_networkx_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "networkx", None)
    with pytest.raises(MissingExtraError) as caught:
        small().to_networkx()
    assert caught.value.hint == "pip install networkx"


# --- Mermaid ---------------------------------------------------------------------------------------

_TEXT = r"(?:[^\x00-\x7f°¶]|[A-Za-z0-9 ]|(?<=\w)[-_./](?=\w)|#\d+;)*"
_MERMAID_LINE = re.compile(
    rf'flowchart LR|  a\d+\("{_TEXT}<br/>{_TEXT}"\):::artifact|  s\d+\["{_TEXT}<br/>{_TEXT}"\]:::\w+'
    rf'|  [as]\d+ -\.?->(?:\|"{_TEXT}"\|)? [as]\d+|  class [a\d,]+ start|  classDef \w+ [\w:#,\- ]+'
)


def _mermaid_read(text: str) -> str:
    return re.sub(r"#(\d+);", lambda match: chr(int(match[1])), text)


def test_mermaid_in_full() -> None:
    lines = small().to_mermaid().splitlines()
    assert lines[:16] == [
        "flowchart LR",
        '  a1("raw<br/>Dataset #35;1 · cut"):::artifact',
        '  a2("rows<br/>Dataset #35;2"):::artifact',
        '  a3("model#44; models#91;2#93;<br/>Model #35;3"):::artifact',
        '  s4["load<br/>completed · monday"]:::completed',
        '  s5["train<br/>failed #35;5"]:::failed',
        '  s6["load<br/>cached · tuesday"]:::cached',
        '  a1 -->|"rows"| s4',
        '  s4 -->|"out"| a2',
        "  a2 --> s5",
        "  s5 --> a3",
        '  a1 -->|"rows"| s6',
        '  s6 -.->|"out"| a2',
        "  class a3 start",
        "  classDef artifact fill:#ffffff,stroke:#64748b,color:#1a202c",
        "  classDef completed fill:#dcf5e3,stroke:#2f855a,color:#1a202c",
    ]
    assert {line.split()[1] for line in lines if "classDef" in line} >= {str(status) for status in Status}


def test_mermaid_escapes_what_its_grammar_its_markdown_and_html_would_read() -> None:
    lines = named(HOSTILE).to_mermaid().splitlines()
    assert len(lines) == 4 * len(HOSTILE) + 1 + 1 + 9
    for line in lines:
        assert _MERMAID_LINE.fullmatch(line), line
    assert '("#34;#93;#45;#45;#62;x#91;#34;<br/>' in lines[2]
    assert _mermaid_read(lines[8]).startswith('  a7("</title><script>alert(1)</scrip…<br/>')


def test_mermaid_marks_no_start_where_there_is_none() -> None:
    for start in ((), (99,)):
        assert "  class " not in dataclasses.replace(small(), start=start).to_mermaid()


@given(st.lists(st.text(st.characters()), min_size=1, max_size=3))
def test_no_name_breaks_mermaid(names: list[str]) -> None:
    text = named(names).to_mermaid()
    assert text.encode()
    for line in text.split("\n")[:-1]:
        assert _MERMAID_LINE.fullmatch(line), line


# --- Graphviz --------------------------------------------------------------------------------------

_QUOTED = r'"(?:[^"\\\n]|\\\\|\\"|\\n)*"'
_ATTRIBUTES = rf"\[\w+=(?:{_QUOTED}|\w+)(?:, \w+=(?:{_QUOTED}|[\w.]+))*\]"
_DOT_LINE = re.compile(
    rf"digraph lineage {{|}}|  rankdir=LR;|  (?:node|edge|[as]\d+|[as]\d+ -> [as]\d+) {_ATTRIBUTES};"
)


def test_dot_has_boxes_and_dashes() -> None:
    lines = small().to_dot().splitlines()
    assert lines[4].startswith(r'  a1 [label="raw\nDataset #1 · cut", tooltip="raw\nDataset #1\ns3://b/1\n')
    assert "penwidth" not in lines[4]
    assert 'style="filled,rounded"' in lines[6]
    assert "penwidth=2.5" in lines[6]
    assert 'style="filled,dashed"' in lines[9]
    assert lines[10:] == [
        '  a1 -> s4 [label="rows"];',
        '  s4 -> a2 [label="out"];',
        '  a2 -> s5 [label=""];',
        '  s5 -> a3 [label=""];',
        '  a1 -> s6 [label="rows"];',
        '  s6 -> a2 [label="out", style=dashed];',
        "}",
    ]


@given(st.lists(st.text(st.characters()), min_size=1, max_size=3))
def test_no_name_breaks_dot(names: list[str]) -> None:
    text = named(names).to_dot()
    assert text.encode()
    for line in text.split("\n")[:-1]:
        assert _DOT_LINE.fullmatch(line), line


def test_dot_escapes_quotes_backslashes_and_entities() -> None:
    text = named(HOSTILE).to_dot()
    for line in text.splitlines():
        assert _DOT_LINE.fullmatch(line), line
    assert r'a1 [label="\"]-->x[\"\n' in text
    assert r'a4 [label="\\N\\G\\\n' in text
    assert r'a8 [label="&amp;amp; &amp; &amp;#34;\n' in text
    assert max(map(len, text.splitlines())) < 3_000


# --- JSON ------------------------------------------------------------------------------------------


def test_json_is_the_documented_schema() -> None:
    document = json.loads(small().to_json())
    assert document == small().to_dict()
    assert list(document) == ["schema", "version", "complete", "start", "cut", "artifacts", "steps", "edges"]
    assert (document["schema"], document["version"]) == ("zen_mlmd.lineage", 1)
    assert (document["complete"], document["start"], document["cut"]) == (False, [3], [1])
    assert document["artifacts"][1] == {
        "id": 2,
        "name": "rows",
        "type": "Dataset",
        "uri": "s3://b/2",
        "state": "unknown",
        "producer_id": 4,
        "content_hash": "",
        "size_bytes": None,
        "created_at": None,
        "properties": {},
        "custom_properties": {},
    }
    assert document["artifacts"][0]["producer_id"] is None
    assert document["steps"][1] == {
        "id": 5,
        "name": "train",
        "type": "t",
        "status": "failed",
        "run_name": "",
        "started_at": "2026-11-01T12:00:00+00:00",
        "ended_at": None,
        "parameters": {},
        "properties": {},
        "metrics": {},
    }
    assert document["edges"][-1] == {
        "source": {"kind": "step", "id": 6},
        "target": {"kind": "artifact", "id": 2},
        "event": "output",
        "slots": [{"name": "out", "index": 0}],
        "at": "2026-11-01T12:00:00+00:00",
        "reuse": True,
    }


def test_json_is_the_same_for_any_order_of_events_and_nodes() -> None:
    one = small()
    other = dataclasses.replace(
        one,
        events=tuple(reversed(one.events)),
        artifacts=dict(reversed(list(one.artifacts.items()))),
        steps=dict(reversed(list(one.steps.items()))),
    )
    assert other.to_json() == one.to_json()
    assert json.loads(one.to_json(indent=2)) == one.to_dict()


def test_json_takes_every_recorded_value() -> None:
    deep: list[Any] = []
    for _ in range(500):
        deep = [deep]
    parameters = {
        "n": None,
        "b": True,
        "i": 2**70,
        "huge": 10**5000,
        "f": 0.1,
        "nan": float("nan"),
        "inf": float("-inf"),
        "at": AT,
        "tuple": (1, [2]),
        "set": {3, 1, 2},
        "bytes": b"\x00",
        "decimal": Decimal("1.10"),
        "dict": {1: {"a": AT}},
        "text": "\ud800\x00",
    }
    one = LineageGraph({}, {1: step(1, parameters=parameters, properties={"deep": deep})}, (), {})
    text = one.to_json()
    assert text.isascii()
    read = json.loads(text)["steps"][0]
    huge = read["parameters"].pop("huge")
    assert int(huge, 16) == 10**5000
    assert read["parameters"] == {
        "n": None,
        "b": True,
        "i": 2**70,
        "f": 0.1,
        "nan": "nan",
        "inf": "-inf",
        "at": "2026-11-01T12:00:00+00:00",
        "tuple": [1, [2]],
        "set": [1, 2, 3],
        "bytes": "b'\\x00'",
        "decimal": "1.10",
        "dict": {"1": {"a": "2026-11-01T12:00:00+00:00"}},
        "text": "\ud800\x00",
    }
    assert "…" in json.dumps(read["properties"], ensure_ascii=False)


# --- SVG -------------------------------------------------------------------------------------------

_SVG = "{http://www.w3.org/2000/svg}"
_TAGS = {_SVG + tag for tag in ("svg", "g", "title", "rect", "text", "path")}


def _parsed(whole: LineageGraph) -> ET.Element:
    root = ET.fromstring(whole.to_svg())
    assert {element.tag for element in root.iter()} <= _TAGS
    for element in root.iter():
        for name, value in element.attrib.items():
            assert not name.lower().startswith(("on", "href", "style", "id")), name
            assert "url(" not in value
            assert "http" not in value
    return root


def _boxes(root: ET.Element) -> dict[str, tuple[float, float, float, float]]:
    """Left, top, right and bottom of each node, by the second line of its tooltip."""
    boxes = {}
    for group in root.findall(f"{_SVG}g"):
        rect = group.find(f"{_SVG}rect")
        if rect is not None:
            x, y, width, height = (float(rect.attrib[key]) for key in ("x", "y", "width", "height"))
            boxes[str(group.findtext(f"{_SVG}title")).split("\n")[1]] = (x, y, x + width, y + height)
    return boxes


def test_svg_says_everything_in_its_tooltips() -> None:
    root = _parsed(small())
    titles = [element.text for element in root.iter(f"{_SVG}title")]
    assert titles == [
        "LineageGraph: 3 artifacts, 3 steps, 6 events, cut at 1 artifact",
        "input: rows",
        "output: out",
        "input: rows",
        "output: model, models[2]",
        "input: rows",
        "output: out (used again, made before)",
        "raw\nDataset #1\ns3://b/1\na bound stopped the walk here",
        "rows\nDataset #2\ns3://b/2",
        "model, models[2]\nModel #3\ns3://b/3\nthe walk began here",
        "load\nt #4\ncompleted\nrun monday",
        "train\nt #5\nfailed\nValueError: too bad",
        "load\nt #6\ncached\nrun tuesday",
    ]


def test_svg_shows_states_by_colour_and_dashes_and_explains_them() -> None:
    root = _parsed(small())
    dashed = [element.tag for element in root.iter() if "stroke-dasharray" in element.attrib]
    # The re-use and the cached step, and both again in the legend.
    assert dashed == [_SVG + tag for tag in ("path", "rect", "rect", "path")]
    assert [element.get("stroke-width") for element in root.iter(f"{_SVG}rect")].count("3") == 1
    assert [text.text for text in root.findall(f"{_SVG}text")] == [
        "completed",
        "cached",
        "failed",
        "used again",
    ]


def test_svg_runs_from_left_to_right_inside_its_frame() -> None:
    root = _parsed(small())
    boxes = _boxes(root)
    order = ["Dataset #1", "t #4", "Dataset #2", "t #5", "Model #3"]
    for left, right in pairwise(order):
        assert boxes[left][2] < boxes[right][0]
    _, _, width, height = map(float, root.attrib["viewBox"].split())
    assert all(0 < x0 < x1 < width and 0 < y0 < y1 < height for x0, y0, x1, y1 in boxes.values())


def test_svg_of_hostile_names_is_xml_with_nothing_else_in_it() -> None:
    root = _parsed(named(HOSTILE))
    texts = [element.text or "" for element in root.iter(f"{_SVG}text")]
    assert "</title><script>alert(1)</scrip…" in texts
    assert max(map(len, texts)) <= 36
    assert "x" * 10_000 in [str(title.text).split("\n")[0] for title in root.iter(f"{_SVG}title")]


@given(st.lists(st.text(st.characters()), min_size=1, max_size=3))
def test_no_name_breaks_svg(names: list[str]) -> None:
    _parsed(named(names))


def test_svg_of_nothing_and_of_one_node() -> None:
    assert _boxes(_parsed(LineageGraph({}, {}, (), {}))) == {}
    assert list(_boxes(_parsed(LineageGraph({1: artifact(1)}, {}, (), {})))) == ["Dataset #1"]


def test_every_status_is_drawn() -> None:
    steps = {i: step(i, status=status) for i, status in enumerate(Status)}
    root = _parsed(LineageGraph({}, steps, (), {}))
    assert {text.text for text in root.findall(f"{_SVG}text")} == {str(status) for status in Status}


def _chain(length: int) -> LineageGraph:
    events = [event for i in range(length) for event in (taken(i, i), given_out(i + 1, i), taken(0, i))]
    return LineageGraph(
        {i: artifact(i) for i in range(length + 1)},
        {i: step(i) for i in range(length)},
        tuple(dict.fromkeys(events)),
        {i + 1: i for i in range(length)},
    )


def _fan(width: int) -> LineageGraph:
    return LineageGraph(
        {i: artifact(i) for i in range(width)},
        {i: step(i) for i in range(width)},
        tuple(taken(0, i) for i in range(width)) + tuple(given_out(i, i) for i in range(1, width)),
        {i: i for i in range(1, width)},
    )


def _ring(size: int) -> LineageGraph:
    return LineageGraph(
        {i: artifact(i) for i in range(size)},
        {i: step(i) for i in range(size)},
        tuple(
            event
            for i in range(size)
            for event in (taken(i, i), taken((i * 7 + 3) % size, i), given_out((i + 1) % size, i))
        ),
        {(i + 1) % size: i for i in range(size)},
    )


@pytest.mark.parametrize("whole", [_chain(1_000), _fan(1_000), _ring(1_000)], ids=["chain", "fan", "ring"])
def test_two_thousand_nodes_are_drawn_at_once(whole: LineageGraph) -> None:
    start = loops()
    text = whole.to_svg()
    assert loops() - start < 400
    assert text.count("<rect") >= 2_000


# --- layout ----------------------------------------------------------------------------------------

_PAIRS = st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)).filter(lambda pair: pair[0] != pair[1]))


@given(_PAIRS, _PAIRS)
def test_no_two_things_of_a_layer_lie_upon_each_other(
    solid: list[tuple[int, int]], dashed: list[tuple[int, int]]
) -> None:
    layout = lay_out(10, solid, dashed, 60, 20)
    assert min(layout.layers) == 0
    assert min(layout.heights) >= 0
    things = [(layer, height, 60) for layer, height in zip(layout.layers, layout.heights, strict=True)]
    for (source, target), heights in layout.bends.items():
        between = range(layout.layers[source] + 1, layout.layers[target])
        things += [(layer, height, 20) for layer, height in zip(between, heights, strict=True)]
    things.sort()
    for (layer, height, size), (next_layer, next_height, next_size) in pairwise(things):
        if layer == next_layer:
            assert next_height - height >= (size + next_size) / 2 - 1e-6


@given(_PAIRS, _PAIRS)
def test_without_cycles_every_edge_runs_to_the_right(
    solid: list[tuple[int, int]], dashed: list[tuple[int, int]]
) -> None:
    solid = [(min(pair), max(pair)) for pair in solid]
    dashed = [pair for pair in dashed if pair[0] < pair[1]]
    layout = lay_out(10, solid, dashed, 60, 20)
    for source, target in solid:
        assert layout.layers[source] < layout.layers[target]


def test_two_edges_side_by_side_do_not_cross() -> None:
    layout = lay_out(6, [(0, 3), (1, 2), (2, 5), (3, 4)], [], 60, 20)
    left, middle, right = ([layout.heights[i] for i in row] for row in ((0, 1), (3, 2), (4, 5)))
    assert (left[0] < left[1]) == (middle[0] < middle[1]) == (right[0] < right[1])


def test_what_only_a_reuse_leads_to_stands_right_of_it() -> None:
    layout = lay_out(4, [(0, 1), (1, 2)], [(2, 3)], 60, 20)
    assert layout.layers == [0, 1, 2, 3]


def test_a_source_stands_next_to_what_takes_it() -> None:
    layout = lay_out(5, [(0, 1), (1, 2), (2, 3), (4, 3)], [], 60, 20)
    assert layout.layers == [0, 1, 2, 3, 2]


# --- notebooks -------------------------------------------------------------------------------------


def test_a_notebook_shows_the_drawing_and_a_text() -> None:
    whole = small()
    assert whole._repr_svg_() == whole.to_svg()
    assert whole._repr_mimebundle_() == {"text/plain": repr(whole), "image/svg+xml": whole.to_svg()}
    assert list(whole._repr_mimebundle_(include={"text/plain"})) == ["text/plain"]
    assert list(whole._repr_mimebundle_(exclude={"text/plain"})) == ["image/svg+xml"]


def test_a_notebook_shows_text_only_if_the_drawing_would_be_huge_or_empty() -> None:
    for whole in (_fan(300), LineageGraph({}, {}, (), {})):
        assert whole._repr_svg_() is None
        assert whole._repr_mimebundle_() == {"text/plain": repr(whole)}
