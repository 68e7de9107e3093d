"""What a server shows of itself: log, metrics, health, reflection, traces. Never what was recorded."""

from __future__ import annotations

import re
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import descriptor_pb2
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2
from ml_metadata.proto import metadata_store_service_pb2 as rpc

import zen_mlmd as zm
from tests.server.conftest import SERVICE, Caller, StartServer, lines_of, soon
from tests.services.mariadb import MariaDb
from zen_mlmd.errors import ConfigError, MissingExtraError
from zen_mlmd.server import Server
from zen_mlmd.server.calls import shortened
from zen_mlmd.server.tokens import create_token

CANARY = "canary-7f3a"


def get(address: str, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://{address}{path}", timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def samples(server: Server) -> dict[str, float]:
    status, text = get(server.metrics_address, "/metrics")
    assert status == 200
    return {
        name: float(value)
        for name, value in (line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    }


# -- log -----------------------------------------------------------------------------------------


def test_a_line_of_json_for_each_call_and_nothing_that_was_recorded(
    start: StartServer, tmp_path: Path, capfd: Any
) -> None:
    token = create_token(tmp_path / "tokens", "ci", "write")
    server = start(tokens=str(tmp_path / "tokens"))
    host, _, port = server.address.rpartition(":")
    config = zm_config(host, port, token)
    with zm.open_store(config) as store:
        with store.record_run(CANARY, parameters={CANARY: CANARY}) as run, run.step(CANARY) as step:
            step.log_output(CANARY, uri=CANARY, properties={CANARY: CANARY})
        assert store.list_runs()[0].pipeline == CANARY
    with Caller(server.address) as call:
        call.refusal("PutContextType", rpc.PutContextTypeRequest(context_type={"name": ""}), token=token)
        call.refusal("GetContextType", rpc.GetContextTypeRequest(type_name=CANARY), token=token)
        call.refusal("GetContextTypes", token=CANARY)
    told = capfd.readouterr().err
    assert CANARY not in told
    assert token not in told
    calls = [each for each in lines_of(told) if each["event"] == "call"]
    assert {"PutExecution", "PutTypes", "PutContexts"} <= {each["method"] for each in calls}
    assert {each["code"] for each in calls} == {"OK", "INVALID_ARGUMENT", "NOT_FOUND", "UNAUTHENTICATED"}
    for each in calls:
        assert set(each) - {"trace_id"} == {
            *(
                "time",
                "event",
                "method",
                "code",
                "ms",
                "request_bytes",
                "response_bytes",
                "client",
                "peer",
                "worker",
            )
        }
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", each["time"])
        assert 0 < each["ms"] < 20_000
        assert each["peer"].startswith("ipv4:127.0.0.1:")
        assert each["client"] == ("" if each["code"] == "UNAUTHENTICATED" else "token:ci")


def zm_config(host: str, port: str, token: str) -> Any:
    from zen_mlmd.flavors import KubeflowConfig

    return KubeflowConfig(host=host, port=int(port), token=token)


@pytest.mark.parametrize(("log", "codes"), [("errors", {"NOT_FOUND"}), ("none", set())])
def test_fewer_lines(start: StartServer, capfd: Any, log: str, codes: set[str]) -> None:
    with Caller(start(log=log).address) as call:
        call("GetContextTypes")
        call.refusal("GetContextType", rpc.GetContextTypeRequest(type_name="x"))
    assert {each["code"] for each in lines_of(capfd.readouterr().err)} == codes


def test_lines_of_several_workers_are_whole(start: StartServer, capfd: Any) -> None:
    server = start(workers=2)

    def ask() -> None:
        for _ in range(5):
            with Caller(server.address) as call:
                for _ in range(20):
                    call("GetContextTypes")

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    calls = lines_of(capfd.readouterr().err)
    assert len(calls) == 400
    assert {each["worker"] for each in calls} == {0, 1}


def test_a_status_text_fits_a_header() -> None:
    assert shortened("short") == "short"
    assert len(shortened("ä" * 5000).encode()) < 2010
    assert shortened("\ud800") == "\\ud800"


def test_a_refusal_that_quotes_a_long_request_arrives(start: StartServer) -> None:
    with Caller(start(log="none").address) as call:
        name = "ö" * 50_000
        code, text = call.refusal("GetContextType", rpc.GetContextTypeRequest(type_name=name))
        assert code == "NOT_FOUND"
        assert text.startswith("No type found for query")


# -- metrics and probes --------------------------------------------------------------------------


def test_metrics_add_up_over_workers(start: StartServer) -> None:
    server = start(workers=2, log="none", metrics="127.0.0.1:0")
    for _ in range(30):
        with Caller(server.address) as call:
            call("GetContextTypes")
    with Caller(server.address) as call:
        call.refusal("GetContextType", rpc.GetContextTypeRequest(type_name="x"))
    found = samples(server)
    assert found['mlmd_calls_total{code="OK",method="GetContextTypes"}'] == 30
    assert found['mlmd_calls_total{code="NOT_FOUND",method="GetContextType"}'] == 1
    assert found['mlmd_call_seconds_count{method="GetContextTypes"}'] == 30
    assert found['mlmd_call_seconds_bucket{le="+Inf",method="GetContextTypes"}'] == 30
    assert found['mlmd_message_bytes_total{direction="received"}'] == 3
    assert {found[f'mlmd_store_up{{worker="{number}"}}'] for number in (0, 1)} == {1}
    assert {found[f'mlmd_store_threads{{worker="{number}"}}'] for number in (0, 1)} == {1}
    assert get(server.metrics_address, "/livez") == (200, "ok\n")
    assert get(server.metrics_address, "/readyz") == (200, "ok\n")
    assert get(server.metrics_address, "/other")[0] == 404


def test_what_a_dead_worker_counted_stays(start: StartServer) -> None:
    import os
    import signal

    server = start(log="none", metrics="127.0.0.1:0")
    with Caller(server.address) as call:
        call("GetContextTypes")
        (before,) = server.worker_pids
        os.kill(before, signal.SIGKILL)
        soon(lambda: server.worker_pids not in ([], [before]))
        soon(lambda: server.is_ready)
        call.channel.unary_unary(SERVICE + "GetContextTypes")(b"", wait_for_ready=True, timeout=20)
    assert samples(server)['mlmd_calls_total{code="OK",method="GetContextTypes"}'] == 2


def test_an_address_for_metrics_that_is_taken(start: StartServer) -> None:
    server = start(metrics="127.0.0.1:0")
    with pytest.raises(ConfigError, match="metrics cannot be told"):
        start(metrics=server.metrics_address)


# -- health --------------------------------------------------------------------------------------


def health(call: Caller, service: str) -> int:
    ask = call.channel.unary_unary("/grpc.health.v1.Health/Check")
    data = ask(health_pb2.HealthCheckRequest(service=service).SerializeToString(), timeout=10)
    return int(health_pb2.HealthCheckResponse.FromString(data).status)


@pytest.mark.mysql
def test_health_follows_the_database(start: StartServer, tmp_path: Path) -> None:
    create_token(tmp_path / "tokens", "ci", "read")
    with MariaDb() as database:
        server = start(
            database.url(database.new_database()),
            create=True,
            tokens=str(tmp_path / "tokens"),
            metrics="127.0.0.1:0",
        )
        with Caller(server.address) as call:  # without a token, as probes have none
            for service in ("", "ml_metadata.MetadataStoreService"):
                assert health(call, service) == health_pb2.HealthCheckResponse.SERVING
            watch = call.channel.unary_stream("/grpc.health.v1.Health/Watch")
            seen = watch(health_pb2.HealthCheckRequest().SerializeToString(), timeout=60)
            assert health_pb2.HealthCheckResponse.FromString(next(seen)).status == 1
            database.kill()
            assert health_pb2.HealthCheckResponse.FromString(next(seen)).status == 2
            soon(lambda: get(server.metrics_address, "/readyz") == (503, "store away\n"))
            assert get(server.metrics_address, "/livez")[0] == 200
            assert samples(server)['mlmd_store_up{worker="0"}'] == 0
            assert health(call, "") == health_pb2.HealthCheckResponse.NOT_SERVING
            database.start()
            assert health_pb2.HealthCheckResponse.FromString(next(seen)).status == 1


# -- reflection ----------------------------------------------------------------------------------


def reflected(call: Caller, *requests: reflection_pb2.ServerReflectionRequest) -> Iterator[Any]:
    ask = call.channel.stream_stream("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo")
    for data in ask(iter([each.SerializeToString() for each in requests]), timeout=10):
        yield reflection_pb2.ServerReflectionResponse.FromString(data)


def test_reflection_tells_the_service(start: StartServer) -> None:
    with Caller(start().address) as call:
        ask = reflection_pb2.ServerReflectionRequest
        services, file = reflected(
            call, ask(list_services=""), ask(file_containing_symbol="ml_metadata.MetadataStoreService")
        )
        assert {each.name for each in services.list_services_response.service} == {
            "ml_metadata.MetadataStoreService",
            "grpc.health.v1.Health",
            "grpc.reflection.v1alpha.ServerReflection",
        }
        files = [
            descriptor_pb2.FileDescriptorProto.FromString(data)
            for data in file.file_descriptor_response.file_descriptor_proto
        ]
        (told,) = (service for each in files for service in each.service)
        assert len(told.method) == 52


# -- traces --------------------------------------------------------------------------------------


def test_a_trace_goes_through_two_servers(start: StartServer, capfd: Any) -> None:
    behind = start()
    front = start(f"kubeflow://{behind.address}")
    trace_id = "4bf92f3577b34da6a3ce929d0e0e4736"
    with Caller(front.address) as call:
        call.channel.unary_unary(SERVICE + "GetContextsByType")(
            rpc.GetContextsByTypeRequest(type_name="none").SerializeToString(),
            metadata=[("traceparent", f"00-{trace_id}-00f067aa0ba902b7-01")],
            timeout=10,
        )
    calls = [each for each in lines_of(capfd.readouterr().err) if each.get("method") == "GetContextsByType"]
    assert [each.get("trace_id") for each in calls] == [trace_id, trace_id]


# -- what is not installed -----------------------------------------------------------------------


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    import zen_mlmd.server.supervisor as module

    monkeypatch.setattr(module, "find_spec", lambda name: None if name == "grpc_health" else object())
    with pytest.raises(MissingExtraError, match="grpcio-health-checking") as caught:
        Server("x.db")
    assert "zen-mlmd[server]" in caught.value.hint
