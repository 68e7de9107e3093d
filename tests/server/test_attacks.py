"""What is done to a server: it stays up, or stops as it should, and loses nothing that it acknowledged."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import grpc
import pytest
from ml_metadata.proto import metadata_store_pb2 as mlmd
from ml_metadata.proto import metadata_store_service_pb2 as rpc
from typing_extensions import Self

import zen_mlmd as zm
from tests.server.conftest import SERVICE, Caller, StartServer, lines_of, outcome_of, soon
from tests.services.mariadb import MariaDb
from zen_mlmd.errors import ConfigError
from zen_mlmd.server.tokens import create_token
from zen_mlmd.service.lock import WriteLock

TYPE = rpc.PutContextTypeRequest(context_type=mlmd.ContextType(name="T"))


def alive(call: Caller) -> None:
    """Fail unless a write and a reading work."""
    type_id = rpc.PutContextTypeResponse.FromString(call("PutContextType", TYPE)).type_id
    node = mlmd.Context(type_id=type_id, name=os.urandom(8).hex())
    call("PutContexts", rpc.PutContextsRequest(contexts=[node]))
    assert node.name.encode() in call("GetContexts")


# -- messages ------------------------------------------------------------------------------------


def test_oversized_messages_are_refused(start: StartServer) -> None:
    server = start(max_message_bytes=100_000)
    with Caller(server.address, max_send_message_length=-1) as call:
        big = rpc.PutContextTypeRequest(context_type=mlmd.ContextType(name="n" * 100_001))
        assert call.refusal("PutContextType", big)[0] == "RESOURCE_EXHAUSTED"
        bomb = call.channel.unary_unary(SERVICE + "PutContextType")
        with pytest.raises(grpc.RpcError) as caught:
            bomb(b"\0" * 50_000_000, timeout=20, compression=grpc.Compression.Gzip)
        assert caught.value.code().name == "RESOURCE_EXHAUSTED"
        alive(call)


@pytest.mark.parametrize(
    "data",
    [
        b"\0" * 100_000,
        b"\xff" * 100_000,
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\xff" * 1000,
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + struct.pack(">IBBI", 0x00FFFF00, 1, 4, 1) + b"\x88" * 65535,
    ],
    ids=["nul", "ones", "http1", "frames", "headers"],
)
def test_garbage_on_the_wire_harms_nobody(start: StartServer, data: bytes) -> None:
    server = start()
    host, _, port = server.address.rpartition(":")
    for _ in range(5):
        with socket.create_connection((host, int(port)), timeout=5) as stream, contextlib.suppress(OSError):
            stream.sendall(data)
            stream.recv(1000)
    pids = server.worker_pids
    with Caller(server.address) as call:
        alive(call)
    assert server.worker_pids == pids


def nested(depth: int) -> bytes:
    """Return a struct value in so many lists, which Python's protobuf itself would refuse to build."""
    value = b""
    for _ in range(depth):
        value = (
            b"\x32" + varint(len(value) + 1 + len(varint(len(value)))) + b"\x0a" + varint(len(value)) + value
        )
    return value


def varint(number: int) -> bytes:
    data = b""
    while number > 127:
        data += bytes([number & 127 | 128])
        number >>= 7
    return data + bytes([number])


@pytest.mark.parametrize("depth", [10, 99, 2_000, 100_000])
def test_nesting_without_end(start: StartServer, depth: int) -> None:
    inner = nested(depth) if depth < 10_000 else nested(2_000) * 2
    entry = b"\x0a\x01k\x12" + varint(len(inner)) + inner
    node = b"\x2a" + varint(len(entry)) + entry
    request = b"\x0a" + varint(len(node)) + node
    with Caller(start().address) as call:
        with contextlib.suppress(grpc.RpcError):
            call("PutContexts", request)
        alive(call)


@pytest.mark.parametrize("kind", ["artifact", "execution", "context"])
@pytest.mark.parametrize("where", ["properties", "custom_properties"])
def test_a_value_with_nothing_in_it_kills_no_worker(start: StartServer, kind: str, where: str) -> None:
    server = start()
    title = kind.capitalize()
    node = getattr(mlmd, title)(type_id=10)
    getattr(node, where)["k"].SetInParent()
    requests = {f"Put{title}s": getattr(rpc, f"Put{title}sRequest")(**{f"{kind}s": [node]})}
    graph = rpc.PutLineageSubgraphRequest(**{f"{kind}s": [node]})
    requests["PutLineageSubgraph"] = graph
    one = rpc.PutExecutionRequest()
    one.execution.type_id = 10
    if kind == "artifact":
        one.artifact_event_pairs.add().artifact.CopyFrom(node)
    elif kind == "context":
        one.contexts.append(node)
    else:
        one.execution.CopyFrom(node)
    requests["PutExecution"] = one
    pids = server.worker_pids
    with Caller(server.address) as call:
        for method, request in requests.items():
            code, text = call.refusal(method, request)
            assert code == "INVALID_ARGUMENT"
            assert "no value" in text
        alive(call)
    assert server.worker_pids == pids


@pytest.mark.parametrize(
    "text",
    ["id=" + "~" * 4_000 + "1", "id=" + "~" * 16_370 + "1", "NOT " * 4_000 + "TRUE", "id=1" + "+1" * 8_000],
    ids=["tilde", "longest", "not", "plus"],
)
@pytest.mark.parametrize("method", ["GetArtifacts", "GetLineageSubgraph"])
def test_a_filter_that_overflows_the_parsers_stack_kills_no_worker(
    start: StartServer, method: str, text: str
) -> None:
    server = start()
    pids = server.worker_pids
    request: Any
    if method == "GetArtifacts":
        request = rpc.GetArtifactsRequest()
        request.options.filter_query = text
    else:
        request = rpc.GetLineageSubgraphRequest()
        request.lineage_subgraph_query_options.ending_executions.filter_query = text
        request.lineage_subgraph_query_options.starting_artifacts.filter_query = text
    with Caller(server.address) as call:
        outcome_of(call, method, request=request)
        alive(call)
        assert server.worker_pids == pids
        if method == "GetArtifacts":
            request.options.filter_query = text * 10
            code, words = call.refusal(method, request)
            assert code == "INVALID_ARGUMENT"
            assert "16384 are the most" in words


@pytest.mark.parametrize("seed", range(4))
def test_requests_at_random_get_answers(start: StartServer, seed: int) -> None:
    server = start(log="none")
    pids = server.worker_pids
    chance = random.Random(seed)
    methods = [each.name for each in rpc.DESCRIPTOR.services_by_name["MetadataStoreService"].methods]
    codes: set[str] = set()
    with Caller(server.address) as call:
        for _ in range(500):
            method = chance.choice(methods)
            request = getattr(rpc, f"{method}Request")()
            fill(request, chance)
            data = bytearray(request.SerializeToString())
            if data and chance.random() < 0.2:
                data[chance.randrange(len(data))] = chance.randrange(256)
            codes.add(outcome_of(call, method, request=bytes(data)))
        alive(call)
    assert server.worker_pids == pids
    assert {"OK", "INVALID_ARGUMENT", "NOT_FOUND"} <= codes
    assert not codes & {"UNKNOWN", "UNAVAILABLE", "DEADLINE_EXCEEDED", "CANCELLED"}


NUMBERS = [0, 1, 2, 10, -1, 2**31 - 1, 2**31, 2**63 - 1, -(2**63)]
TEXTS = ["", "a", "U", "id = 1", "__MLMD_NULL__", "\0", "'", "ü", "x" * 300, "artifacts", "events"]


def fill(message: Any, chance: random.Random, depth: int = 0) -> None:
    """Set about half of a message's fields to odd values."""
    for field in message.DESCRIPTOR.fields:
        if chance.random() < 0.5 or depth > 6:
            continue
        kept = getattr(message, field.name)
        with contextlib.suppress(ValueError, TypeError):  # out of the field's range
            if field.message_type and field.message_type.GetOptions().map_entry:
                value = field.message_type.fields_by_name["value"]
                texts = field.message_type.fields_by_name["key"].cpp_type == field.CPPTYPE_STRING
                key = chance.choice(TEXTS if texts else NUMBERS)
                if value.message_type:
                    fill(kept[key], chance, depth + 1)
                else:
                    kept[key] = chance.choice([1, 2, 3])
            elif hasattr(kept, "add"):
                fill(kept.add(), chance, depth + 1)
            elif field.message_type:
                kept.SetInParent()
                fill(kept, chance, depth + 1)
            elif hasattr(kept, "extend"):
                kept.extend([chance.choice(TEXTS if field.cpp_type == field.CPPTYPE_STRING else NUMBERS)])
            else:
                choices: list[Any] = TEXTS if isinstance(kept, str) else NUMBERS
                setattr(
                    message,
                    field.name,
                    chance.choice([0.5, float("nan")] if isinstance(kept, float) else choices),
                )


# -- clients that are slow, many or gone ---------------------------------------------------------


def test_clients_that_never_send_their_request_keep_nobody_out(start: StartServer) -> None:
    server = start(max_calls=16)
    hold = threading.Event()

    def never() -> Iterator[bytes]:
        hold.wait(30)
        yield b""

    with contextlib.ExitStack() as stack:
        for _ in range(10):
            slow = stack.enter_context(Caller(server.address))
            for _ in range(16):
                slow.channel.stream_unary(SERVICE + "GetContextTypes").future(never(), timeout=30)
        time.sleep(0.5)
        with Caller(server.address) as call:
            for _ in range(20):
                alive(call)
        hold.set()


def test_500_idle_connections_keep_nobody_out(start: StartServer) -> None:
    server = start()
    host, _, port = server.address.rpartition(":")
    with contextlib.ExitStack() as stack:
        for number in range(500):
            stream = stack.enter_context(socket.create_connection((host, int(port)), timeout=10))
            if number % 2:
                stream.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0")
        with Caller(server.address) as call:
            for _ in range(20):
                alive(call)


def test_too_many_calls_are_refused_at_once(start: StartServer, sqlite_path: Path) -> None:
    server = start(sqlite_path, max_calls=4)
    with contextlib.ExitStack() as stack:
        calls = [stack.enter_context(Caller(server.address)) for _ in range(3)]
        alive(calls[0])
        with WriteLock(str(sqlite_path)):  # so that each write waits
            waiting = [
                each.channel.unary_unary(SERVICE + "PutContextType").future(
                    TYPE.SerializeToString(), timeout=20, wait_for_ready=True
                )
                for each in calls
                for _ in range(4)  # as many as one connection may have open
            ]
            soon(lambda: sum(each.done() for each in waiting) == 8)
            refused = [each for each in waiting if each.done()]
            assert {each.code().name for each in refused} == {"RESOURCE_EXHAUSTED"}
        assert all(each.result(timeout=10) for each in waiting if each not in refused)


def test_deadlines_hold_while_the_store_is_kept(start: StartServer, sqlite_path: Path) -> None:
    server = start(sqlite_path, deadline_s=2)
    with Caller(server.address) as call:
        alive(call)
        with WriteLock(str(sqlite_path)):
            for timeout, longest in ((0.5, 1.5), (30, 4)):
                began = time.monotonic()
                assert call.refusal("PutContextType", TYPE, timeout=timeout)[0] == "DEADLINE_EXCEEDED"
                assert time.monotonic() - began < longest
        alive(call)


def test_a_client_that_hangs_up_takes_nothing_with_it(start: StartServer, capfd: Any) -> None:
    server = start()
    for _ in range(20):
        with Caller(server.address) as call:
            gone = call.channel.unary_unary(SERVICE + "PutContextType").future(TYPE.SerializeToString())
            gone.cancel()
    with Caller(server.address) as call:
        alive(call)
    told = lines_of(capfd.readouterr().err)
    assert {each["code"] for each in told if each["event"] == "call"} <= {"OK", "CANCELLED"}


# -- the address ---------------------------------------------------------------------------------


def test_an_address_is_not_shared_unseen(start: StartServer, tmp_path: Path) -> None:
    server = start(workers=2)
    with pytest.raises(ConfigError, match="another server"):
        start(tmp_path / "other.db", bind=server.address)
    with (
        socket.create_server(("127.0.0.1", 0)) as taken,
        pytest.raises(ConfigError, match="cannot be listened at"),
    ):
        start(tmp_path / "other.db", bind=f"127.0.0.1:{taken.getsockname()[1]}")
    for nowhere in ("192.0.2.1:0", "no-such-host.invalid:0"):
        with pytest.raises(ConfigError, match="cannot be listened at"):
            start(tmp_path / "other.db", bind=nowhere, insecure=True)
    assert not (tmp_path / "other.db").exists()


# -- the database goes away ----------------------------------------------------------------------


@pytest.mark.mysql
def test_a_database_that_stops_is_unavailable_and_comes_back(start: StartServer, capfd: Any) -> None:
    with MariaDb() as database:
        server = start(database.url(database.new_database()), create=True, metrics="127.0.0.1:0", workers=2)
        with Caller(server.address) as call:
            alive(call)
            pids = server.worker_pids
            database.kill()
            for _ in range(12):  # ml-metadata's client crashes at the third call
                assert call.refusal("GetContexts")[0] == "UNAVAILABLE"
                assert call.refusal("PutContextType", TYPE)[0] == "UNAVAILABLE"
            soon(lambda: not server.is_ready)
            database.start()
            soon(lambda: _up(call))
            soon(lambda: server.is_ready)
            alive(call)
            assert server.worker_pids == pids
    events = [each["event"] for each in lines_of(capfd.readouterr().err)]
    assert "store away" in events
    assert "store answers" in events[events.index("store away") :]


def _up(call: Caller) -> bool:
    outcome = outcome_of(call, "GetContexts")
    assert outcome in ("OK", "UNAVAILABLE")
    return outcome == "OK"


@pytest.mark.mysql
def test_connections_that_are_cut_cost_one_call_each(start: StartServer) -> None:
    with MariaDb() as database:
        server = start(database.url(database.new_database()), create=True, log="none")
        with Caller(server.address) as call:
            for _ in range(3):
                alive(call)
                database.kill_connections()
                with contextlib.suppress(grpc.RpcError):
                    call("GetContexts")
                alive(call)


@pytest.mark.mysql
def test_a_server_starts_before_its_database(start: StartServer, capfd: Any) -> None:
    with MariaDb() as database:
        url = database.url(database.new_database())
        zm.open_store(url, create=True).close()
        database.stop()
        server = start(url)
        with Caller(server.address) as call:
            code, text = call.refusal("GetContexts")
            assert code == "UNAVAILABLE"
            assert database.password not in text
            assert not server.is_ready
            database.start()
            soon(lambda: _up(call))
            alive(call)
    assert database.password not in capfd.readouterr().err


@pytest.mark.mysql
@pytest.mark.slow
def test_recording_through_the_server_outlives_the_database(start: StartServer) -> None:
    """A client that waits loses nothing and doubles nothing while the database is restarted."""
    with MariaDb() as database:
        server = start(database.url(database.new_database()), create=True, log="none", workers=2)
        store = zm.open_store(f"kubeflow://{server.address}?wait_s=60")

        def record() -> None:
            with store.record_run("p", name="r") as run:
                for number in range(40):
                    with run.step(f"s{number}") as step:
                        step.log_output("o", uri=f"u{number}")

        thread = threading.Thread(target=record)
        thread.start()
        while thread.is_alive():
            database.kill_connections()
            thread.join(0.2)
            database.restart()
            thread.join(0.3)
        steps = store.get_run("r").step_runs
        assert sorted(each.name for each in steps) == sorted(f"s{number}" for number in range(40))
        assert all(str(each.status) == "completed" for each in steps)
        assert sorted(each.uri for each in store.artifacts) == sorted(f"u{number}" for number in range(40))


# -- the server ends -----------------------------------------------------------------------------


class Command:
    """`zen-mlmd serve` as a process."""

    def __init__(self, *arguments: str, environment: Mapping[str, str] | None = None) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "zen_mlmd", "serve", "--bind", "127.0.0.1:0", *arguments],
            env={**os.environ, **(environment or {})},
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.process.stderr is not None
        self.told: list[dict[str, Any]] = []
        for line in self.process.stderr:
            self.told += lines_of(line)
            if self.told[-1]["event"] == "serving":
                break
        self.address = str(self.told[-1]["address"])

    def end(self, how: int = signal.SIGTERM) -> int:
        """Send a signal and return the exit code."""
        self.process.send_signal(how)
        assert self.process.stderr is not None
        with self.process.stderr:
            self.told += lines_of(self.process.stderr.read())
        return self.process.wait(60)


class Load:
    """Clients that put artifacts and keep what was acknowledged."""

    def __init__(self, address: str, clients: int = 4) -> None:
        self.acknowledged: list[str] = []
        self.codes: set[str] = set()
        self._address = address
        kind = rpc.PutArtifactTypeRequest(artifact_type=mlmd.ArtifactType(name="A"))
        with Caller(address) as call:
            self._type_id = rpc.PutArtifactTypeResponse.FromString(call("PutArtifactType", kind)).type_id
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run) for _ in range(clients)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _run(self) -> None:
        with Caller(self._address) as call:
            while not self._stop.is_set():
                uri = os.urandom(12).hex()
                node = mlmd.Artifact(type_id=self._type_id, uri=uri)
                try:
                    call("PutArtifacts", rpc.PutArtifactsRequest(artifacts=[node]), timeout=10)
                except grpc.RpcError as error:
                    self.codes.add(error.code().name)
                    time.sleep(0.01)
                else:
                    self.acknowledged.append(uri)


def lost(where: Any, load: Load) -> set[str]:
    with zm.open_store(where) as store:
        return set(load.acknowledged) - {each.uri for each in store.artifacts}


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_told_to_stop_under_load_it_finishes_what_it_began(sqlite_path: Path, how: int) -> None:
    command = Command("--store", str(sqlite_path), "--log", "errors")
    with Load(command.address) as load:
        soon(lambda: len(load.acknowledged) > 50)
        assert command.end(how) == 0
    events = [each["event"] for each in command.told if each["event"] != "call"]
    assert events == ["serving", "stopping", "stopped"]
    assert load.codes <= {"UNAVAILABLE", "CANCELLED"}
    assert lost(sqlite_path, load) == set()


def test_a_killed_supervisor_takes_its_workers_with_it(sqlite_path: Path) -> None:
    command = Command("--store", str(sqlite_path), "--log", "none")
    with Load(command.address) as load:
        soon(lambda: len(load.acknowledged) > 50)
        command.end(signal.SIGKILL)
        soon(lambda: not _listens(command.address))
    assert lost(sqlite_path, load) == set()


def _listens(address: str) -> bool:
    host, _, port = address.rpartition(":")
    with socket.socket() as stream:
        return stream.connect_ex((host, int(port))) == 0


def test_a_killed_worker_is_replaced(start: StartServer, sqlite_path: Path, capfd: Any) -> None:
    server = start(sqlite_path, log="none")
    (before,) = server.worker_pids
    with Load(server.address) as load:
        soon(lambda: len(load.acknowledged) > 50)
        os.kill(before, signal.SIGKILL)
        soon(lambda: server.worker_pids not in ([], [before]))
        already = len(load.acknowledged)
        soon(lambda: len(load.acknowledged) > already + 50)
    server.stop()
    assert lost(sqlite_path, load) == set()
    (told,) = (each for each in lines_of(capfd.readouterr().err) if each["event"] == "worker ended")
    assert told["exit_code"] == -signal.SIGKILL


@pytest.mark.mysql
@pytest.mark.slow
def test_restarts_lose_nothing(mysql_url: str) -> None:
    zm.open_store(mysql_url, create=True).close()
    acknowledged = 0
    for _ in range(3):
        command = Command("--store", mysql_url, "--workers", "2", "--log", "none")
        with Load(command.address) as load:
            soon(lambda load=load: len(load.acknowledged) > 30)  # type: ignore[misc]
            assert command.end() == 0
        assert lost(mysql_url, load) == set()
        acknowledged += len(load.acknowledged)
    assert acknowledged > 90


@pytest.mark.slow
def test_a_call_that_outlives_the_grace_is_broken_off(start: StartServer, sqlite_path: Path) -> None:
    server = start(sqlite_path, grace_s=0.5)
    with Caller(server.address) as call:
        alive(call)
        with WriteLock(str(sqlite_path)):
            waiting = call.channel.unary_unary(SERVICE + "PutContextType").future(TYPE.SerializeToString())
            time.sleep(0.5)
            began = time.monotonic()
            server.stop()
            assert waiting.exception(timeout=10) is not None
    assert time.monotonic() - began < 15
    assert server.worker_pids == []


# -- nobody gets in ------------------------------------------------------------------------------


def test_slow_and_many_strangers_keep_no_friend_out(start: StartServer, tmp_path: Path) -> None:
    token = create_token(tmp_path / "tokens", "ci", "write")
    server = start(tokens=str(tmp_path / "tokens"), log="none", max_calls=8)
    stop = threading.Event()

    def knock() -> None:
        with Caller(server.address) as stranger:
            while not stop.is_set():
                with contextlib.suppress(grpc.RpcError):
                    stranger("GetContextTypes", token="zmt_guess")

    threads = [threading.Thread(target=knock) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        with Caller(server.address) as call:
            for _ in range(50):
                call("GetContextTypes", token=token)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
