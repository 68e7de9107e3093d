"""The gRPC server, against the same calls in process; more clients and workers; and a worker's memory.

A step is one `PutExecution` with an input, two outputs, ten properties and two contexts; a reading is
`GetArtifactsByID` of a hundred artifacts. Clients, server and database share this machine.
"""

from __future__ import annotations

import itertools
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import grpc
from ml_metadata.proto import metadata_store_pb2 as mlmd
from ml_metadata.proto import metadata_store_service_pb2 as rpc

from benchmarks.table import in_turn, print_table, ratio
from zen_mlmd.flavors import StoreConfig, config_from_url
from zen_mlmd.server import Server, ServerConfig

SERVICE = "/ml_metadata.MetadataStoreService/"
CONFIG = ServerConfig(bind="127.0.0.1:0", log="none")
_count = itertools.count()


class Calls:
    """The two calls, whoever answers them."""

    def __init__(self, send: Any) -> None:
        self._send = send
        kinds = rpc.PutTypesRequest()
        kinds.artifact_types.add(name="A")
        kinds.execution_types.add(name="E")
        kinds.context_types.add(name="C")
        types = rpc.PutTypesResponse.FromString(send("PutTypes", kinds.SerializeToString()))
        self._artifact, self._execution, self._context = (
            types.artifact_type_ids[0],
            types.execution_type_ids[0],
            types.context_type_ids[0],
        )
        nodes = [mlmd.Artifact(type_id=self._artifact, uri=f"s3://bucket/{number}") for number in range(100)]
        for node in nodes:
            node.custom_properties["rows"].int_value = 3
        request = rpc.PutArtifactsRequest(artifacts=nodes).SerializeToString()
        self._ids = list(rpc.PutArtifactsResponse.FromString(send("PutArtifacts", request)).artifact_ids)
        self._reading = rpc.GetArtifactsByIDRequest(artifact_ids=self._ids).SerializeToString()
        self._names = [f"{id(self)}-{time.time()}-{number}" for number in range(2)]

    def step(self) -> None:
        """Put one step."""
        request = rpc.PutExecutionRequest()
        request.options.reuse_context_if_already_exist = True
        request.execution.type_id = self._execution
        for number in range(10):
            request.execution.custom_properties[f"p{number}"].string_value = "value"
        pair = request.artifact_event_pairs.add()
        pair.event.artifact_id, pair.event.type = self._ids[0], mlmd.Event.INPUT
        for _ in range(2):
            pair = request.artifact_event_pairs.add()
            pair.artifact.type_id, pair.artifact.uri = self._artifact, f"s3://bucket/{next(_count)}"
            pair.event.type = mlmd.Event.OUTPUT
        request.contexts.extend(mlmd.Context(type_id=self._context, name=name) for name in self._names)
        self._send("PutExecution", request.SerializeToString())

    def read(self) -> None:
        """Read a hundred artifacts."""
        self._send("GetArtifactsByID", self._reading)


def through(address: str, connections: int = 1) -> Any:
    """Return what sends calls to a server, over its connections in turn."""
    options = [("grpc.use_local_subchannel_pool", 1)]
    channels = itertools.cycle([grpc.insecure_channel(address, options=options) for _ in range(connections)])
    return lambda method, data: next(channels).unary_unary(SERVICE + method)(data, wait_for_ready=True)


def run(*, quick: bool = False) -> None:
    """Measure, and print the tables."""
    from tests.services.mariadb import MariaDb

    rounds, seconds = (100, 2.0) if quick else (1000, 6.0)
    with tempfile.TemporaryDirectory() as folder, MariaDb() as database:

        def fresh(name: str) -> StoreConfig:
            if name == "SQLite":
                return config_from_url(Path(folder) / f"{next(_count)}.db")
            return config_from_url(database.url(database.new_database()))

        _latency(fresh, rounds)
        _throughput(fresh, seconds)
        _memory(fresh, 5_000 if quick else 100_000)


def _latency(fresh: Any, rounds: int) -> None:
    rows = []
    for name in ("SQLite", "MariaDB"):
        alone = fresh(name)
        with Server(fresh(name), CONFIG, create=True) as server, alone.open_service(create=True) as service:
            served, direct = Calls(through(server.address)), Calls(service.forward)
            for what in ("step", "read"):
                ours, other = in_turn(rounds, getattr(served, what), getattr(direct, what))
                rows.append([f"{what}, {name}", f"{ratio(ours, other):.2f}", f"{_ms(ours)}", f"{_ms(other)}"])
    print_table(
        "serving: one call through the server to the same call in process",
        ["call", "ratio", "ms through", "ms in process"],
        rows,
    )


def _ms(times: list[float]) -> str:
    return f"{sorted(times)[len(times) // 2] * 1e3:.2f}"


def _throughput(fresh: Any, seconds: float) -> None:
    rows = []
    for name, what in (("MariaDB", "step"), ("MariaDB", "read"), ("SQLite", "step"), ("SQLite", "read")):
        base = 0.0
        for workers in (1, 2):
            with Server(fresh(name), CONFIG.model_copy(update={"workers": workers}), create=True) as server:
                rates = [_together(server.address, what, clients, seconds) for clients in (1, 2, 4)]
            base = base or rates[0]
            rows.append(
                [f"{what}, {name}", workers, *(f"{rate / base:.2f} ({rate:.0f}/s)" for rate in rates)]
            )
    print_table(
        "serving: calls a second, to one client of one worker",
        ["call", "workers", "1 client", "2 clients", "4 clients"],
        rows,
    )


def _together(address: str, what: str, clients: int, seconds: float) -> float:
    command = [sys.executable, "-m", "benchmarks.serving", address, what, str(seconds)]
    pipe = subprocess.PIPE
    running = [subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) for _ in range(clients)]
    for each in running:
        each.stdout.readline()
    for each in running:
        each.stdin.write("go\n")
        each.stdin.flush()
    return sum(int(each.communicate()[0]) for each in running) / seconds


def _client(address: str, what: str, seconds: float) -> None:
    # The kernel gives each connection to one worker, by chance: with one each, two clients may share one.
    action = getattr(Calls(through(address, connections=8)), what)
    for _ in range(20):
        action()
    print("ready", flush=True)
    sys.stdin.readline()
    end, done = time.perf_counter() + seconds, 0
    while time.perf_counter() < end:
        action()
        done += 1
    print(done)


def _memory(fresh: Any, calls: int) -> None:
    with Server(fresh("SQLite"), CONFIG.model_copy(update={"metrics": "127.0.0.1:0"})) as server:
        served = Calls(through(server.address))
        (pid,) = server.worker_pids
        told = {}
        for number in range(1, calls + 1):
            served.step() if number % 10 == 0 else served.read()
            if number in (calls // 100, calls):
                told[number] = _resident(pid)
    first, last = told[calls // 100], told[calls]
    print_table(
        "serving: memory of a worker",
        ["after calls", "MiB", "ratio"],
        [[calls // 100, f"{first:.1f}", "1.00"], [calls, f"{last:.1f}", f"{last / first:.2f}"]],
    )


def _resident(pid: int) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise LookupError(pid)


if __name__ == "__main__":
    _client(sys.argv[1], sys.argv[2], float(sys.argv[3]))
