"""What ml-metadata would do to the store, to itself or to everybody else, and what the server lets it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2
from ml_metadata.proto import metadata_store_pb2 as mlmd
from ml_metadata.proto import metadata_store_service_pb2 as rpc

import zen_mlmd as zm
from tests.server.conftest import SERVICE, Caller, StartServer, lines_of, outcome_of, soon
from tests.server.losing import LosingConfig
from tests.server.test_attacks import Command, alive
from tests.server.test_observed import get, samples
from tests.services.mariadb import MariaDb
from zen_mlmd.errors import GrantMissingError, UsageError
from zen_mlmd.server.tokens import create_token

TYPE = rpc.PutContextTypeRequest(context_type=mlmd.ContextType(name="T"))


def filtered(text: str) -> rpc.GetArtifactsRequest:
    request = rpc.GetArtifactsRequest()
    request.options.filter_query = text
    return request


# -- filters that are SQL ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        """uri = 'x\\'\\")); DELETE FROM Artifact; --'""",
        """uri = "x\\")); DELETE FROM Artifact; --" """,
        """uri = 'x")); DELETE FROM Artifact; --'""",
        """uri = '''x")); DELETE FROM Artifact; --'''""",
        """uri = r'x\\")); DELETE FROM Artifact; --'""",
        """properties.`k" UNION SELECT 1,1,1,uri,false FROM Artifact HAVING "1"="1`.string_value = 'x'""",
        """custom_properties.`k')); DELETE FROM Artifact; --`.int_value = 1""",
        """uri = 'x' /* ' */ OR TRUE""",
    ],
)
def test_a_reader_runs_no_sql(start: StartServer, sqlite_path: Path, tmp_path: Path, text: str) -> None:
    with zm.open_store(sqlite_path) as store:
        store.import_artifact("s3://a")
    reader = create_token(tmp_path / "tokens", "ana", "read")
    with Caller(start(sqlite_path, tokens=str(tmp_path / "tokens"), log="none").address) as call:
        code, words = call.refusal("GetArtifacts", filtered(text), token=reader)
        assert (code, "filter_query" in words) == ("INVALID_ARGUMENT", True)
        assert b"s3://a" in call("GetArtifacts", token=reader)


@pytest.mark.parametrize(
    "text",
    [
        "uri = 's3://a'",
        'uri = "s3://a"',
        "uri LIKE 's3:%' AND NOT uri = 'b#--c'",
        "custom_properties.`a b`.int_value = 1",
    ],
)
def test_filters_that_mean_no_harm_pass(start: StartServer, sqlite_path: Path, text: str) -> None:
    with zm.open_store(sqlite_path) as store:
        store.import_artifact("s3://a", properties={"a b": 1})
    with Caller(start(sqlite_path, log="none").address) as call:
        if outcome_of(call, "GetArtifacts", request=filtered("id = 1")) == "UNIMPLEMENTED":
            pytest.skip("ml-metadata 1.21 has no filters")
        assert b"s3://a" in call("GetArtifacts", filtered(text))


# -- rows and types that are poison --------------------------------------------------------------


def test_no_row_is_written_that_nobody_can_list(start: StartServer) -> None:
    with Caller(start(log="none").address) as call:
        alive(call)
        message, text = mlmd.Context(type_id=10, name="m"), mlmd.Context(type_id=10, name="t")
        message.custom_properties["k"].proto_value.SetInParent()
        text.custom_properties["k"].string_value = "mlmd-struct::xx"
        for node in (message, text):
            code, words = call.refusal("PutContexts", rpc.PutContextsRequest(contexts=[node]))
            assert (code, "property 'k' of the context" in words) == ("INVALID_ARGUMENT", True)
        alive(call)


@pytest.mark.parametrize("kind", ["list", "union_type", "intersection", "tuple", "dict"])
@pytest.mark.parametrize("field", ["input_type", "output_type"])
def test_a_type_that_nests_too_deep_kills_no_worker(start: StartServer, kind: str, field: str) -> None:
    server = start()
    pids = server.worker_pids
    with Caller(server.address) as call:
        for depth, refused in ((20, False), (32, True), (90, True)):
            request = rpc.PutExecutionTypeRequest(execution_type=mlmd.ExecutionType(name=f"E{depth}"))
            inner = getattr(request.execution_type, field)
            for _ in range(depth):
                inner = _deeper(inner, kind)
            inner.none.SetInParent()
            outcome = outcome_of(call, "PutExecutionType", request=request)
            assert (outcome == "INVALID_ARGUMENT") is refused, (depth, outcome)
        alive(call)
    assert server.worker_pids == pids


def _deeper(struct: Any, kind: str) -> Any:
    held = getattr(struct, kind)
    if kind == "list":
        return held.element
    if kind == "dict":
        return held.properties["k"]
    return getattr(
        held, {"union_type": "candidates", "intersection": "constraints", "tuple": "elements"}[kind]
    ).add()


def test_questions_without_end_are_refused(start: StartServer) -> None:
    with Caller(start(log="none").address) as call:
        ids = rpc.GetArtifactsByIDRequest(artifact_ids=range(2**40, 2**40 + 200_000))
        code, words = call.refusal("GetArtifactsByID", ids)
        assert (code, "ask for less at once" in words) == ("INVALID_ARGUMENT", True)
        many = rpc.GetParentContextsByContextsRequest(context_ids=range(1, 10_002))
        code, words = call.refusal("GetParentContextsByContexts", many)
        assert (code, "10000 are the most" in words) == ("INVALID_ARGUMENT", True)
        alive(call)


# -- a core that stands still --------------------------------------------------------------------


@pytest.mark.mysql
@pytest.mark.slow
def test_a_database_that_says_nothing_is_told_of_and_its_worker_replaced(
    start: StartServer, capfd: Any
) -> None:
    with MariaDb() as database:
        url = f"{database.url(database.new_database())}?service=native"  # which lets no other thread run
        server = start(url, create=True, deadline_s=1, metrics="127.0.0.1:0", log="none")
        with Caller(server.address) as call:
            alive(call)
            (before,) = server.worker_pids
            database.pause()
            assert outcome_of(call, "GetContexts") in ("DEADLINE_EXCEEDED", "UNAVAILABLE")
            soon(lambda: not server.is_ready, 40)
            assert get(server.metrics_address, "/readyz")[0] == 503
            soon(lambda: before not in server.worker_pids, 40)
            database.go_on()
            soon(lambda: outcome_of(call, "GetContexts") == "OK", 40)
            alive(call)
    (told,) = (each for each in lines_of(capfd.readouterr().err) if each["event"] == "worker ended")
    assert told["exit_code"] == -signal.SIGALRM


# -- writes whose answer is lost -----------------------------------------------------------------


@pytest.mark.parametrize("method", ["PutExecution", "PutContexts", "PutTypes", "PutArtifacts"])
def test_a_write_that_may_have_been_done_is_not_unavailable(
    start: StartServer, sqlite_path: Path, method: str
) -> None:
    server = start(LosingConfig(path=str(sqlite_path), method=method), log="none")
    with zm.open_store(f"kubeflow://{server.address}") as store:
        rows = store.import_artifact("s3://rows")
        with store.record_run("p", name="r") as run, run.step("s", inputs={"rows": rows}) as step:
            step.log_output("o", uri="s3://o")
        assert Path(f"{sqlite_path}.lost").exists()
        (step_run,) = store.get_run("r").step_runs
        assert step_run.outputs["o"].uri == "s3://o"
        assert sorted(each.uri for each in store.artifacts) == ["s3://o", "s3://rows"]
        assert len(store.list_runs()) == 1
        step_type = store.loader.client.type_named("execution", "zen_mlmd.Step")
    fields = {"execution": {"type_id": step_type.id}} if method == "PutExecution" else {}  # type: ignore[union-attr]
    Path(f"{sqlite_path}.lost").unlink()
    with Caller(server.address) as call:
        code, words = call.refusal(method, getattr(rpc, f"{method}Request")(**fields))
        assert (code, "may have been done" in words) == ("INTERNAL", True)


# -- servers behind servers ----------------------------------------------------------------------


def test_what_is_denied_behind_is_denied_in_front_and_no_more(start: StartServer, sqlite_path: Path) -> None:
    with zm.open_store(sqlite_path) as store, store.record_run("p"):
        pass
    front = start(f"kubeflow://{start(sqlite_path, read_only=True, log='none').address}", log="none")
    with Caller(front.address) as call:
        for _ in range(3):
            assert call.refusal("PutContextType", TYPE)[0] == "PERMISSION_DENIED"
            assert call("GetContexts")
    with zm.open_store(f"kubeflow://{front.address}") as store, pytest.raises(GrantMissingError):
        store.record_run("q")


# -- strangers -----------------------------------------------------------------------------------


def test_a_strangers_request_is_not_taken_in(start: StartServer, tmp_path: Path) -> None:
    create_token(tmp_path / "tokens", "ci", "write")
    server = start(tokens=str(tmp_path / "tokens"), log="none")
    (pid,) = server.worker_pids
    with Caller(server.address, max_send_message_length=-1) as call:
        call.refusal("GetContextTypes")
        before = _resident(pid)
        sent = [
            call.channel.unary_unary(SERVICE + "PutArtifacts").future(b"\x0a\x00" * 20_000_000, timeout=30)
            for _ in range(6)
        ]
        for each in sent:
            error: Any = each.exception(timeout=30)
            assert error.code().name == "UNAUTHENTICATED"
        assert _resident(pid) - before < 60  # MiB; one of them has 38


def _resident(pid: int) -> float:
    (line,) = (
        each for each in Path(f"/proc/{pid}/status").read_text().splitlines() if each.startswith("VmRSS")
    )
    return int(line.split()[1]) / 1024


def test_large_metadata_of_a_mesh_is_welcome(start: StartServer) -> None:
    with Caller(start(log="none").address) as call:
        send = call.channel.unary_unary(SERVICE + "GetContextTypes")
        for _ in range(30):
            send(b"", metadata=[("x-identity", "x" * 14_000)], timeout=10)


# -- watchers, probes and logs that nobody reads -------------------------------------------------


@pytest.mark.mysql
def test_a_watcher_that_leaves_makes_no_other_deaf_and_none_holds_up_the_end(start: StartServer) -> None:
    with MariaDb() as database, contextlib.ExitStack() as stack:
        server = start(database.url(database.new_database()), create=True, log="none", grace_s=20)
        watches = []
        for _ in range(3):
            call = stack.enter_context(Caller(server.address))
            watch = call.channel.unary_stream("/grpc.health.v1.Health/Watch")(b"", timeout=120)
            assert health_pb2.HealthCheckResponse.FromString(next(watch)).status == 1
            watches.append(watch)
        watches[0].cancel()
        database.kill()
        for watch in watches[1:]:
            assert health_pb2.HealthCheckResponse.FromString(next(watch)).status == 2
        began = time.monotonic()
        server.stop()
        assert time.monotonic() - began < 15
        for watch in watches[1:]:
            with pytest.raises(grpc.RpcError):
                next(watch)


def test_a_log_that_nobody_reads_holds_nobody_up(sqlite_path: Path) -> None:
    command = Command("--store", str(sqlite_path))
    with Caller(command.address) as call:
        for _ in range(1500):  # far more than a pipe takes
            call("GetContextTypes", timeout=5)
    command.process.send_signal(signal.SIGTERM)
    assert command.process.wait(20) == 0
    assert command.process.stderr is not None
    with command.process.stderr:
        told = lines_of(command.process.stderr.read())
    assert 100 < len(told) < 1500


def test_probers_that_stay_keep_no_other_out(start: StartServer) -> None:
    server = start(metrics="127.0.0.1:0", log="none")
    host, _, port = server.metrics_address.rpartition(":")
    with contextlib.ExitStack() as stack:
        for _ in range(60):
            stack.enter_context(socket.create_connection((host, int(port)), timeout=5))
        time.sleep(0.2)
    soon(lambda: get(server.metrics_address, "/livez")[0] == 200)
    with Caller(server.address) as call:
        alive(call)


def test_metrics_over_ipv6_and_the_calls_that_wait(start: StartServer, sqlite_path: Path) -> None:
    from zen_mlmd.service.lock import WriteLock

    server = start(sqlite_path, metrics="[::1]:0", log="none")
    with Caller(server.address) as call:
        alive(call)
        with WriteLock(str(sqlite_path)):
            waiting = [
                call.channel.unary_unary(SERVICE + "PutContextType").future(
                    TYPE.SerializeToString(), timeout=20
                )
                for _ in range(5)
            ]
            soon(lambda: samples(server)['mlmd_open_calls{worker="0"}'] == 5)
        assert all(each.result(timeout=10) for each in waiting)
        soon(lambda: samples(server)['mlmd_open_calls{worker="0"}'] == 0)


# -- the server's own life -----------------------------------------------------------------------


def test_a_server_starts_once(start: StartServer) -> None:
    server = start(log="none")
    with pytest.raises(UsageError, match="serves already"):
        server.start()
    with Caller(server.address) as call:
        alive(call)
    server.stop()
    server.stop()
    server.start()
    with Caller(server.address) as call:
        alive(call)


def test_why_a_worker_cannot_come_back_is_told(start: StartServer, tmp_path: Path, capfd: Any) -> None:
    tokens = tmp_path / "tokens"
    token = create_token(tokens, "ci", "read")
    server = start(tokens=str(tokens), log="none")
    kept = tokens.read_text()
    tokens.unlink()
    os.kill(server.worker_pids[0], signal.SIGKILL)
    soon(lambda: '"worker cannot start"' in capfd.readouterr().err)
    tokens.write_text(kept)
    with Caller(server.address) as call:
        soon(lambda: outcome_of(call, "GetContextTypes", token) == "OK")


def test_serve_runs_in_process_until_a_signal() -> None:
    code = """
import os, signal, sys, threading, time
from zen_mlmd.server import ServerConfig, serve
threading.Timer(3, os.kill, (os.getpid(), signal.SIGTERM)).start()
before = signal.getsignal(signal.SIGTERM)
serve("sqlite://", ServerConfig(bind="127.0.0.1:0"))
assert signal.getsignal(signal.SIGTERM) is before
print("went on")
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout == "went on\n"
    assert [json.loads(line)["event"] for line in done.stderr.splitlines()] == [
        "serving",
        "stopping",
        "stopped",
    ]


def test_a_server_with_its_stderr_closed_serves(sqlite_path: Path) -> None:
    code = """
import os, sys
os.close(2)
from zen_mlmd.server import Server, ServerConfig
with Server(sys.argv[1], ServerConfig(bind="127.0.0.1:0")) as server:
    print(server.is_ready)
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(sqlite_path)],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        timeout=60,
    )
    assert done.stdout == "True\n"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give a file away")
def test_a_file_of_tokens_stays_its_owners(tmp_path: Path) -> None:
    tokens = tmp_path / "tokens"
    create_token(tokens, "a", "read")
    os.chown(tokens, 65534, 65534)
    create_token(tokens, "b", "read")
    assert (tokens.stat().st_uid, tokens.stat().st_gid) == (65534, 65534)
