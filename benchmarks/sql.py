"""The SQL service against ml-metadata's own core, on databases of their own, in turn in one process.

A step is one `PutExecution` with two inputs, two outputs and twenty properties. The link with a delay is a
relay in a process of its own, which holds what goes each way back for half of it.

Lineage is everything upstream of the last artifact: ids, edges, and who made what; records and slots are
read later, when they are looked at. The bare query is the fastest recursive one that was found by hand and
gives the same edges: the artifact, the execution and the type of each event of each step on the way, fetched
into a list of tuples by the plain driver, `sqlite3` or PyMySQL, and nothing is done with them.

`python -m benchmarks.sql relay PORT MILLISECONDS` is that relay, and `... edges FILE ARTIFACT` runs the bare
query on a SQLite file, in a process of its own, as the SQL service does.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

from ml_metadata.proto import metadata_store_pb2 as mlmd
from ml_metadata.proto import metadata_store_service_pb2 as rpc

from benchmarks.lineage import GRAPHS, put_graph
from benchmarks.table import in_turn, print_table, ratio, timed
from zen_mlmd.flavors import config_from_url
from zen_mlmd.service.base import MetadataService
from zen_mlmd.service.client import Client
from zen_mlmd.store import Store

_count = itertools.count()
Fresh = Callable[[], Any]
"""Gives the config of a new store."""


class Writer:
    """Puts steps into a store of one service."""

    def __init__(self, service: MetadataService) -> None:
        self.service = service
        types = rpc.PutTypesRequest()
        for kind in (types.artifact_types.add(name="A"), types.execution_types.add(name="E")):
            for number in range(10):
                kind.properties[f"p{number}"] = mlmd.STRING
        types.context_types.add(name="C")
        made = service.call("PutTypes", types)
        self._artifact, self._execution = made.artifact_type_ids[0], made.execution_type_ids[0]
        self._context = made.context_type_ids[0]
        nodes = [mlmd.Artifact(type_id=self._artifact, uri=f"s3://in/{number}") for number in range(2)]
        put = service.call("PutArtifacts", rpc.PutArtifactsRequest(artifacts=nodes))
        self._inputs = list(put.artifact_ids)

    def step(self) -> None:
        """Put one step: twenty properties, on its execution and on its outputs."""
        request = rpc.PutExecutionRequest()
        request.options.reuse_context_if_already_exist = True
        request.execution.type_id = self._execution
        for number in range(10):
            request.execution.properties[f"p{number}"].string_value = "value"
        for artifact in self._inputs:
            event = request.artifact_event_pairs.add().event
            event.artifact_id, event.type = artifact, mlmd.Event.INPUT
        for _ in range(2):
            pair = request.artifact_event_pairs.add()
            pair.artifact.type_id, pair.artifact.uri = self._artifact, f"s3://out/{next(_count)}"
            for number in range(5):
                pair.artifact.properties[f"p{number}"].string_value = "value"
            pair.event.type = mlmd.Event.OUTPUT
        request.contexts.extend(mlmd.Context(type_id=self._context, name=name) for name in ("p", "r"))
        self.service.call("PutExecution", request)

    def many(self, steps: int) -> None:
        """Put steps in one call."""
        request = rpc.PutLineageSubgraphRequest()
        request.options.reuse_context_if_already_exist = True
        request.contexts.add(type_id=self._context, name="p")
        for number in range(steps):
            request.executions.add(type_id=self._execution).properties["p0"].string_value = "value"
            request.artifacts.add(type_id=self._artifact, uri=f"s3://out/{next(_count)}")
            edge = request.event_edges.add(execution_index=number, artifact_index=number)
            edge.event.type = mlmd.Event.OUTPUT
        self.service.call("PutLineageSubgraph", request)

    def rows(self) -> tuple[int, int]:
        """Return how many executions and artifacts there are."""
        executions = self.service.call("GetExecutions", rpc.GetExecutionsRequest()).executions
        artifacts = self.service.call("GetArtifacts", rpc.GetArtifactsRequest()).artifacts
        return len(executions), len(artifacts)


def run(*, quick: bool = False) -> None:
    """Measure, and print the tables."""
    from tests.services.mariadb import MariaDb

    steps, bulk, runs = (60, 1_000, 100) if quick else (600, 10_000, 1_000)
    with tempfile.TemporaryDirectory() as folder, MariaDb() as database, ExitStack() as stack:

        def sqlite() -> Any:
            return config_from_url(Path(folder) / f"{next(_count)}.db")

        def mariadb(port: int = database.port) -> Any:
            url = database.url(database.new_database())
            return config_from_url(url.replace(f":{database.port}/", f":{port}/"))

        places: list[tuple[str, Fresh, int]] = [("SQLite", sqlite, steps), ("MariaDB", mariadb, steps)]
        for delay in (1, 5):
            port = stack.enter_context(relay(database.port, delay))
            places.append((f"MariaDB, {delay} ms away", partial(mariadb, port), steps // 10))
        _steps(places)
        _bulk(places[:2], bulk)
        _reading(places[:2], runs)
        _lineage(folder, database, fresh=(sqlite, mariadb), steps=2_000 if quick else 100_000)


def opened(config: Any, service: str) -> MetadataService:
    """Open a store by a service: native or sql."""
    made: MetadataService = config.model_copy(update={"service": service}).open_service()
    return made


def _steps(places: list[tuple[str, Fresh, int]]) -> None:
    rows = []
    for name, fresh, rounds in places:
        native, ours = Writer(opened(fresh(), "native")), Writer(opened(fresh(), "sql"))
        theirs, mine = in_turn(rounds, native.step, ours.step)
        assert native.rows() == ours.rows()
        rows.append([name, f"{ratio(theirs, mine):.2f}", _ms(theirs), _ms(mine), rounds])
        native.service.close()
        ours.service.close()
    print_table(
        "sql: a step with 2 inputs, 2 outputs, 20 properties",
        ["on", "native / sql", "native ms", "sql ms", "steps"],
        rows,
        "More than 1: the SQL service is faster. On SQLite it is in a process of its own.",
    )


def _bulk(places: list[tuple[str, Fresh, int]], steps: int) -> None:
    rows = []
    for name, fresh, _ in places:
        writers = [Writer(opened(fresh(), "native")), Writer(opened(fresh(), "sql"))]
        times = [timed(lambda writer=writer: _import(writer, steps)) for writer in writers]  # type: ignore[misc]
        assert writers[0].rows() == writers[1].rows()
        rows.append([name, f"{times[0] / times[1]:.2f}", f"{times[0]:.1f}", f"{times[1]:.1f}", steps])
        for writer in writers:
            writer.service.close()
    print_table(
        "sql: import of steps, a hundred in one PutLineageSubgraph",
        ["into", "native / sql", "native s", "sql s", "steps"],
        rows,
    )


def _import(writer: Writer, steps: int) -> None:
    for _ in range(steps // 100):
        writer.many(100)


def _reading(places: list[tuple[str, Fresh, int]], runs: int) -> None:
    rows = []
    for name, fresh, _ in places:
        config = fresh()
        with Store(config, Client(opened(config, "native"))) as store:
            for number in range(runs):
                with store.record_run("p", name=f"r{number}") as recorded, recorded.step("s") as step:
                    step.log_output("x", uri=f"s3://x/{number}")
        times = []
        for which in ("native", "sql"):
            with Store(config, Client(opened(config, which))) as store:
                times.append(median(timed(lambda store=store: _read(store, runs)) for _ in range(3)))  # type: ignore[misc]
        rows.append([name, f"{times[0] / times[1]:.2f}", f"{times[0]:.2f}", f"{times[1]:.2f}", runs])
    print_table(
        "sql: reading runs with their steps and outputs",
        ["from", "native / sql", "native s", "sql s", "runs"],
        rows,
    )


def _read(store: Store, runs: int) -> None:
    assert sum(len(each.outputs) for run in store.list_runs() for each in run.step_runs) == runs


_EDGES = """
WITH RECURSIVE walk(step) AS (
    SELECT execution_id FROM Event WHERE artifact_id = {0} AND type IN (1, 4)
    UNION
    SELECT made.execution_id
    FROM walk
    JOIN Event AS taken ON taken.execution_id = walk.step AND taken.type IN (2, 3)
    JOIN Event AS made ON made.artifact_id = taken.artifact_id AND made.type IN (1, 4)
)
SELECT artifact_id, execution_id, type
FROM walk JOIN Event ON Event.execution_id = walk.step AND Event.type IN (1, 2, 3, 4)
"""
"""Types: DECLARED_OUTPUT and OUTPUT, DECLARED_INPUT and INPUT."""


def _lineage(folder: str, database: Any, *, fresh: tuple[Fresh, Fresh], steps: int) -> None:
    """Measure a chain and a layered graph of some steps, on SQLite and MariaDB."""
    rows = []
    for name, make in GRAPHS.items():
        for place, new in zip(("SQLite", "MariaDB"), fresh, strict=True):
            config = new()
            with Store(config, Client(opened(config, "sql"))) as store:
                last = put_graph(store.loader.client.service, make(steps))
            bare = (
                _bare_sqlite(config, folder, last)
                if place == "SQLite"
                else _bare_mysql(config, database, last)
            )
            row = _lineage_row(config, last, bare, 5)
            rows.append([f"{name}, {steps:,} steps", place, *row])
    print_table(
        "sql: everything upstream of the last artifact",
        ["graph", "on", "native / sql", "sql / bare query", "native ms", "sql ms", "bare ms", "edges"],
        rows,
        "Native once, the others medians in turn.",
    )


def _lineage_row(config: Any, last: int, bare: Callable[[], tuple[float, int]], rounds: int) -> list[object]:
    with Store(config, Client(opened(config, "sql"))) as store:
        artifact = store.get_artifact(last)
        found: list[Any] = []
        asked: list[tuple[float, int]] = []
        (mine, _) = in_turn(rounds, lambda: found.append(artifact.upstream()), lambda: asked.append(bare()))
        edges = {len(graph.events) for graph in found} | {each for _, each in asked}
    with Store(config, Client(opened(config, "native"))) as store:
        artifact = store.get_artifact(last)
        theirs = timed(lambda: found.append(artifact.upstream()))
        edges.add(len(found[-1].events))
    assert len(edges) == 1, f"not the same edges: {edges}"
    assert all(found[-1].producers == graph.producers and graph.complete for graph in found)
    seconds = [each for each, _ in asked]
    return [
        f"{theirs / median(mine):.1f}",
        f"{ratio(mine, seconds):.2f}",
        f"{theirs * 1e3:.0f}",
        _ms(mine),
        _ms(seconds),
        edges.pop(),
    ]


def _bare_sqlite(config: Any, folder: str, artifact: int) -> Callable[[], tuple[float, int]]:
    copy = Path(folder) / f"{next(_count)}-copy.db"
    shutil.copy(config.path, copy)
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.sql", "edges", str(copy), str(artifact)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )

    def ask() -> tuple[float, int]:
        process.stdin.write("go\n")
        process.stdin.flush()
        seconds, edges = json.loads(process.stdout.readline())
        return seconds, edges

    return ask


def _edges(file: str, artifact: str) -> None:
    """Run the bare query for each line of the input, and print its seconds and how many edges there are."""
    import sqlite3

    database = sqlite3.connect(file)
    found: list[Any] = []
    for _ in sys.stdin:
        found.clear()
        seconds = timed(lambda: found.extend(database.execute(_EDGES.format(artifact)).fetchall()))
        print(json.dumps([seconds, len(found)]), flush=True)


def _bare_mysql(config: Any, database: Any, artifact: int) -> Callable[[], tuple[float, int]]:
    import pymysql

    connection = pymysql.connect(
        host="127.0.0.1",
        port=database.port,
        user=database.user,
        password=database.password,
        database=config.database,
        init_command="SET max_recursive_iterations = 4294967295",
    )

    def ask() -> tuple[float, int]:
        found: list[Any] = []
        with connection.cursor() as cursor:
            seconds = timed(
                lambda: (cursor.execute(_EDGES.format(artifact)), found.extend(cursor.fetchall()))
            )
        return seconds, len(found)

    return ask


def _ms(times: list[float]) -> str:
    return f"{median(times) * 1e3:.2f}"


@contextmanager
def relay(port: int, delay_ms: float) -> Iterator[int]:
    """A port that leads to another, with a delay for what goes there and back."""
    command = [sys.executable, "-m", "benchmarks.sql", "relay", str(port), str(delay_ms)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield int(process.stdout.readline())
        finally:
            process.kill()


async def _relay(port: int, delay_ms: float) -> None:
    loop = asyncio.get_running_loop()

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(2**16):
            loop.call_later(delay_ms / 2000, writer.write, data)
        loop.call_later(delay_ms / 2000, writer.close)

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        to, back = await asyncio.open_connection("127.0.0.1", port)
        await asyncio.gather(pump(reader, back), pump(to, writer))

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    if sys.argv[1] == "edges":
        _edges(*sys.argv[2:])
    else:
        asyncio.run(_relay(int(sys.argv[2]), float(sys.argv[3])))
