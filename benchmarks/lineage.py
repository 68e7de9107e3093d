"""Lineage to the end, against the least raw `ml_metadata` calls that visit the same nodes.

The raw side is the plainest breadth first search there is: sets of ids, two calls a hop, of events only
their ids looked at. Beside it, for what a database could do if it were asked directly, a recursive SQL
query over a copy of the file, by Python's SQLite in a process of its own.

`python -m benchmarks.lineage build FILE NAME SIZE` and `... query FILE ARTIFACT` are those processes.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.table import in_turn, print_table, ratio, timed, verdict

TARGET = 1.3
LAYER = 100
CHUNK = 500
_INPUTS, _OUTPUTS = (2, 3), (1, 4)
"""DECLARED_INPUT and INPUT, DECLARED_OUTPUT and OUTPUT (metadata_store.proto, Event.Type)."""

_QUERY = f"""
WITH RECURSIVE hop(artifact, step) AS (
    SELECT artifact_id, execution_id FROM Event WHERE artifact_id = ? AND type IN {_OUTPUTS}
    UNION
    SELECT made.artifact_id, made.execution_id
    FROM hop
    JOIN Event AS taken ON taken.execution_id = hop.step AND taken.type IN {_INPUTS}
    JOIN Event AS made ON made.artifact_id = taken.artifact_id AND made.type IN {_OUTPUTS}
)
SELECT COUNT(DISTINCT artifact), COUNT(DISTINCT step) FROM hop
"""


def chain(steps: int) -> list[list[int]]:
    """Return, for each step, the steps whose artifacts it takes: each the one before it."""
    return [[number - 1] if number else [] for number in range(steps)]


def layers(steps: int) -> list[list[int]]:
    """Return the same for layers of a hundred steps, each of which takes two or three of the layer above."""
    taken: list[list[int]] = []
    for number in range(steps):
        layer, place = divmod(number, LAYER)
        # So far apart that one step leads to a whole layer within some ten layers.
        offsets = (0, 33, 61)[: 2 + number % 2]
        taken.append([(layer - 1) * LAYER + (place + each) % LAYER for each in offsets] if layer else [])
    return taken


GRAPHS = {"chain": chain, "layers": layers}


def run(*, quick: bool = False) -> None:
    """Measure, and print the table."""
    sizes = {"chain": 500, "layers": 1000} if quick else {"chain": 5_000, "layers": 10_000}
    rounds = 5 if quick else 21
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for name, size in sizes.items():
            rows.extend(_compare(Path(folder), name, size, rounds))
    print_table(
        "lineage: everything upstream of the last artifact",
        ["graph", "question", "ours / raw", "target", "ours / SQL", "ours ms", "raw ms", "SQL ms", "found"],
        rows,
        "raw: breadth first by MetadataStore.get_events_by_artifact_ids and get_events_by_execution_ids; "
        "`+ records` also\nreads the nodes, which zen_mlmd decodes and raw leaves as messages. SQL: WITH "
        "RECURSIVE, ids only, in another process.\nMedians, in turn. Complete means: as many artifacts and "
        "steps as the graph was built with.",
    )


def _compare(folder: Path, name: str, size: int, rounds: int) -> Iterator[list[object]]:
    from ml_metadata import MetadataStore

    import zen_mlmd as zm

    file, copy = folder / f"{name}.db", folder / f"{name}-copy.db"
    last = int(_helper("build", str(file), name, str(size)))
    shutil.copy(file, copy)
    expected = _reached(GRAPHS[name](size))
    ours = zm.open_store(file)
    raw = MetadataStore(ours.connection_config())
    artifact = ours.get_artifact(last)
    asked = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.lineage", "query", str(copy), str(last)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    sql: list[float] = []

    def query() -> None:
        asked.stdin.write("go\n")
        asked.stdin.flush()
        answer = json.loads(asked.stdout.readline())
        _same(answer["found"], expected)
        sql.append(answer["seconds"])

    times = in_turn(
        rounds,
        artifact.upstream,
        lambda: _same(raw_upstream(raw, last), expected),
        lambda: _same(_sizes(artifact.upstream()), expected),
        lambda: _raw_records(raw, last),
        query,
    )
    asked.communicate()
    ours.close()
    found = f"{expected[0]:,} + {expected[1]:,}, complete"
    for label, mine, theirs in (("ids and events", *times[:2]), ("+ records", *times[2:4])):
        yield [
            f"{name}, {size:,} steps",
            label,
            f"{ratio(mine, theirs):.2f}",
            verdict(ratio(mine, theirs), TARGET) if mine is times[0] else "",
            f"{ratio(mine, sql):.1f}",
            f"{median(mine) * 1e3:.0f}",
            f"{median(theirs) * 1e3:.0f}",
            f"{median(sql) * 1e3:.0f}",
            found,
        ]


def raw_upstream(store: Any, start: int) -> tuple[set[int], set[int]]:
    """Return the ids of all artifacts and steps upstream of an artifact, itself included."""
    artifacts, steps, frontier = {start}, set(), [start]
    while frontier:
        events = store.get_events_by_artifact_ids(frontier)
        made_by = {event.execution_id for event in events if event.type in _OUTPUTS} - steps
        if not made_by:
            break
        steps |= made_by
        events = store.get_events_by_execution_ids(list(made_by))
        frontier = list({event.artifact_id for event in events if event.type in _INPUTS} - artifacts)
        artifacts.update(frontier)
    return artifacts, steps


def _raw_records(store: Any, start: int) -> None:
    artifacts, steps = raw_upstream(store, start)
    store.get_artifacts_by_id(artifacts)
    store.get_executions_by_id(steps)


def _sizes(graph: Any) -> tuple[int, int]:
    if not graph.complete:
        raise SystemExit("the walk says that it is not complete")
    return len(graph.artifacts), len(graph.steps)


def _reached(taken: list[list[int]]) -> tuple[int, int]:
    steps, ahead = {len(taken) - 1}, [len(taken) - 1]
    while ahead:
        for each in taken[ahead.pop()]:
            if each not in steps:
                steps.add(each)
                ahead.append(each)
    return len(steps), len(steps)


def _same(found: Any, expected: tuple[int, int]) -> None:
    counts = tuple(each if isinstance(each, int) else len(each) for each in found)
    if counts != expected:
        raise SystemExit(f"found {counts} artifacts and steps of {expected}")


def _helper(*arguments: str) -> str:
    command = [sys.executable, "-m", "benchmarks.lineage", *arguments]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def _build(file: str, name: str, size: int) -> None:
    """Store a graph by ml-metadata, and print the last artifact's id."""
    import zen_mlmd as zm

    with zm.open_store(file) as made:  # in WAL mode
        print(put_graph(made.loader.client.service, GRAPHS[name](size)))


def put_graph(service: Any, taken: list[list[int]]) -> int:
    """Store a graph, many steps a call, and return the last artifact's id.

    Args:
        service: Of an empty store.
        taken: As `GRAPHS` gives it.
    """
    from ml_metadata.proto import metadata_store_pb2 as mlmd
    from ml_metadata.proto import metadata_store_service_pb2 as rpc

    types = rpc.PutTypesRequest()
    types.artifact_types.add(name="Rows")
    types.execution_types.add(name="Step")
    put = service.call("PutTypes", types)
    ids: list[int] = []
    # An artifact of the same call has no id yet, and is meant by its place in it.
    for first in range(0, len(taken), CHUNK):
        request = rpc.PutLineageSubgraphRequest()
        for place, step in enumerate(range(first, min(first + CHUNK, len(taken)))):
            request.artifacts.add(
                type_id=put.artifact_type_ids[0], uri=f"/rows/{step}", state=mlmd.Artifact.LIVE
            )
            request.executions.add(
                type_id=put.execution_type_ids[0],
                name=f"step {step}",
                last_known_state=mlmd.Execution.COMPLETE,
            )
            made = request.event_edges.add(execution_index=place, artifact_index=place)
            _fill(made.event, mlmd.Event.OUTPUT, 0)
            for index, source in enumerate(taken[step]):
                edge = request.event_edges.add(execution_index=place)
                _fill(edge.event, mlmd.Event.INPUT, index)
                if source < first:
                    edge.event.artifact_id = ids[source]
                else:
                    edge.artifact_index = source - first
        ids.extend(service.call("PutLineageSubgraph", request).artifact_ids)
    return ids[-1]


def _fill(event: Any, kind: int, index: int) -> None:
    event.type = kind
    event.path.steps.add(key="rows")
    event.path.steps.add(index=index)


def _answer(file: str, artifact: int) -> None:
    """Run the recursive query for each line of the input."""
    import sqlite3

    database = sqlite3.connect(file)
    found: list[Any] = []
    for _ in sys.stdin:
        seconds = timed(lambda: found.append(database.execute(_QUERY, [artifact]).fetchone()))
        print(json.dumps({"seconds": seconds, "found": found[-1]}), flush=True)


if __name__ == "__main__":
    if sys.argv[1] == "build":
        _build(sys.argv[2], sys.argv[3], int(sys.argv[4]))
    else:
        _answer(sys.argv[2], int(sys.argv[3]))
