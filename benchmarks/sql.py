"""The SQL service against ml-metadata's own core, on databases of their own, in turn in one process.

A step is one `PutExecution` with two inputs, two outputs and twenty properties. The link with a delay is a
relay in a process of its own, which holds what goes each way back for half of it.

`python -m benchmarks.sql relay PORT MILLISECONDS` is that relay.
"""

from __future__ import annotations

import asyncio
import itertools
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
    asyncio.run(_relay(int(sys.argv[2]), float(sys.argv[3])))
