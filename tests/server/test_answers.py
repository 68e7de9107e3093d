"""What the server answers, and that it is what MLMD answers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from ml_metadata.metadata_store.pywrap.metadata_store_extension import metadata_store as core
from ml_metadata.proto import metadata_store_pb2 as mlmd
from ml_metadata.proto import metadata_store_service_pb2 as rpc

import zen_mlmd as zm
from tests.server.conftest import Caller, StartServer
from tests.services.mariadb import MariaDb
from tests.services.mlmd_suite import assert_suite_passes
from zen_mlmd.errors import StoreError
from zen_mlmd.flavors import SqliteConfig
from zen_mlmd.server import Server, ServerConfig
from zen_mlmd.service.base import INVALID_ARGUMENT, UNIMPLEMENTED, Refusal

METHODS = sorted(each.name for each in rpc.DESCRIPTOR.services_by_name["MetadataStoreService"].methods)
LACKING = {"GetParentContextsByContexts", "GetChildrenContextsByContexts", "GetLineageGraph"}


@pytest.mark.exhaustive
def test_mlmds_own_suite_passes_over_sqlite(start: StartServer, tmp_path: Path) -> None:
    assert_suite_passes(tmp_path, start(log="none").address)


@pytest.mark.mysql
@pytest.mark.parametrize("service", ["native", pytest.param("sql", marks=pytest.mark.exhaustive)])
def test_mlmds_own_suite_passes_over_mariadb(
    start: StartServer, mysql_url: str, tmp_path: Path, service: str
) -> None:
    server = start(f"{mysql_url}?service={service}", create=True, log="none")
    assert_suite_passes(tmp_path, server.address)


def test_mlmds_own_suite_passes_on_the_sql_service_over_sqlite(start: StartServer, tmp_path: Path) -> None:
    server = start(f"sqlite:///{tmp_path}/m.db?service=sql", log="none")
    assert_suite_passes(tmp_path, server.address)


@pytest.mark.postgresql
def test_mlmds_own_suite_passes_on_the_sql_service_over_postgresql(
    start: StartServer, postgresql_url: str, tmp_path: Path
) -> None:
    assert_suite_passes(tmp_path, start(postgresql_url, log="none").address)


@pytest.mark.mysql
@pytest.mark.slow
@pytest.mark.exhaustive
def test_mlmds_own_suite_passes_with_two_workers(start: StartServer, mysql_url: str, tmp_path: Path) -> None:
    server = start(mysql_url, create=True, log="none", workers=2)
    assert len(set(server.worker_pids)) == 2
    assert_suite_passes(tmp_path, server.address)


def test_the_service_has_52_calls_of_which_ml_metadata_lacks_three() -> None:
    assert len(METHODS) == 52
    assert {each for each in METHODS if not hasattr(core, each)} == LACKING


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    config = ServerConfig(bind="127.0.0.1:0", log="none")
    with Server(tmp_path_factory.mktemp("served") / "m.db", config) as server:
        yield server


@pytest.mark.parametrize("method", [each for each in METHODS if each not in LACKING])
@pytest.mark.parametrize("data", [b"", b"\xff\xff\xff\x00no message"], ids=["empty", "malformed"])
def test_code_and_words_of_each_call_are_the_cores(served: Server, method: str, data: bytes) -> None:
    config = mlmd.ConnectionConfig()
    config.fake_database.SetInParent()
    handle = core.CreateMetadataStore(config.SerializeToString(), mlmd.MigrationOptions().SerializeToString())
    answer, text, code = getattr(core, method)(handle, data)
    with Caller(served.address) as call:
        if code == 0:
            assert call(method, data) == answer
        else:
            name, words = call.refusal(method, data)
            assert name == _code_name(code)
            # What a message's text looks like differs from process to process (protobuf 6).
            assert words.partition(":")[0] == text.decode().partition(":")[0]


def _code_name(code: int) -> str:
    return next(str(each.name) for each in grpc.StatusCode if each.value[0] == code)


@pytest.mark.parametrize(
    ("request_of", "code", "words"),
    [
        ("unset value", "INVALID_ARGUMENT", "Found unmatched property type: k"),
        ("unknown type", "NOT_FOUND", "No type found for query, type_id: 99"),
        ("taken name", "ALREADY_EXISTS", "Given node already exists"),
        ("bad page", "INVALID_ARGUMENT", "max_result_size field value is required to be greater than 0"),
        ("other type", "ALREADY_EXISTS", "Type already exists with different properties"),
    ],
)
def test_refusals_carry_mlmds_code_and_words(
    start: StartServer, request_of: str, code: str, words: str
) -> None:
    with Caller(start(log="none").address) as call:
        kind = rpc.PutContextTypeRequest(context_type=mlmd.ContextType(name="T"))
        type_id = rpc.PutContextTypeResponse.FromString(call("PutContextType", kind)).type_id
        context = mlmd.Context(type_id=type_id, name="one")
        call("PutContexts", rpc.PutContextsRequest(contexts=[context]))
        page = rpc.GetContextsRequest()
        page.options.max_result_size = -1
        unset = mlmd.Context(type_id=type_id, name="two")
        unset.custom_properties["k"].SetInParent()
        kind.context_type.properties["new"] = mlmd.INT
        method, request = {
            "unset value": ("PutContexts", rpc.PutContextsRequest(contexts=[unset])),
            "unknown type": (
                "PutContexts",
                rpc.PutContextsRequest(contexts=[mlmd.Context(type_id=99, name="x")]),
            ),
            "taken name": ("PutContexts", rpc.PutContextsRequest(contexts=[context])),
            "bad page": ("GetContexts", page),
            "other type": ("PutContextType", kind),
        }[request_of]
        name, text = call.refusal(method, request)
        assert name == code
        assert words in text
        assert call("GetContexts")  # it lives


def test_relatives_of_many_contexts_are_told_in_one_call(start: StartServer) -> None:
    with Caller(start(log="none").address) as call:
        kind = rpc.PutContextTypeRequest(context_type=mlmd.ContextType(name="T"))
        type_id = rpc.PutContextTypeResponse.FromString(call("PutContextType", kind)).type_id
        nodes = [mlmd.Context(type_id=type_id, name=name) for name in "abc"]
        a, b, c = rpc.PutContextsResponse.FromString(
            call("PutContexts", rpc.PutContextsRequest(contexts=nodes))
        ).context_ids
        links = [mlmd.ParentContext(parent_id=a, child_id=b), mlmd.ParentContext(parent_id=a, child_id=c)]
        call("PutParentContexts", rpc.PutParentContextsRequest(parent_contexts=links))

        parents = rpc.GetParentContextsByContextsResponse.FromString(
            call(
                "GetParentContextsByContexts",
                rpc.GetParentContextsByContextsRequest(context_ids=[a, b, c, b, 99]),
            )
        ).contexts
        assert {key: [each.name for each in parents[key].parent_contexts] for key in parents} == {
            b: ["a"],
            c: ["a"],
        }
        children = rpc.GetChildrenContextsByContextsResponse.FromString(
            call(
                "GetChildrenContextsByContexts", rpc.GetChildrenContextsByContextsRequest(context_ids=[a, b])
            )
        ).contexts
        assert {key: {each.name for each in children[key].children_contexts} for key in children} == {
            a: {"b", "c"}
        }

        assert call.refusal("GetParentContextsByContexts") == (
            "INVALID_ARGUMENT",
            "Given context_ids is empty.",
        )
        # ml-metadata's server has no more to say of it (metadata_store.cc, 1.14 to 1.21).
        assert call.refusal("GetLineageGraph") == ("UNIMPLEMENTED", "GetLineageGraph is not implemented.")
        assert call.refusal("DropEverything")[0] == "UNIMPLEMENTED"


@pytest.mark.slow
@pytest.mark.exhaustive
def test_a_server_in_front_of_a_server_gives_the_same_answers(start: StartServer, tmp_path: Path) -> None:
    behind = start(log="none")
    front = start(f"kubeflow://{behind.address}", log="none")
    assert_suite_passes(tmp_path, front.address)


def test_services_forward_bytes(sqlite_path: Path) -> None:
    with SqliteConfig(path=str(sqlite_path)).open_service() as service:
        kind = rpc.PutContextTypeRequest(context_type=mlmd.ContextType(name="T"))
        answer = service.forward("PutContextType", kind.SerializeToString())
        assert rpc.PutContextTypeResponse.FromString(answer).type_id
        for method, data, code in (
            ("PutContextType", b"\xff", INVALID_ARGUMENT),
            ("GetContextType", b"\xff", INVALID_ARGUMENT),
            ("GetLineageGraph", b"", UNIMPLEMENTED),
        ):
            with pytest.raises(Refusal) as caught:
                service.forward(method, data)
            assert caught.value.code == code
        with pytest.raises(StoreError, match="MLMD has no call PutNothing"):
            service.forward("PutNothing", b"")


def test_a_long_answer_comes_whole_or_is_refused_with_a_remedy(start: StartServer) -> None:
    server = start(log="none", max_message_bytes=200_000)
    store = zm.open_store(f"kubeflow://{server.address}?max_message_bytes=300000")
    with store.record_run("p") as run:
        for number in range(3):
            with run.step(f"s{number}") as step:
                step.log_output("o", uri=f"u{number}", properties={"text": "x" * 90_000})
    with Caller(server.address, max_receive_message_length=10**6) as call:
        code, text = call.refusal("GetArtifacts")
        assert code == "RESOURCE_EXHAUSTED"
        assert "--max-message-bytes" in text
        page = rpc.GetArtifactsRequest()
        page.options.max_result_size = 1
        assert len(call("GetArtifacts", page)) > 90_000


@pytest.mark.mysql
def test_limits_of_the_columns_are_refusals(start: StartServer, mariadb: MariaDb, mysql_url: str) -> None:
    with Caller(start(mysql_url, create=True, log="none").address) as call:
        kind = rpc.PutContextTypeRequest(context_type=mlmd.ContextType(name="n" * 256))
        code, text = call.refusal("PutContextType", kind)
        assert code == "INVALID_ARGUMENT"
        assert "256 bytes" in text
