"""How steps and runs end when a reply is lost, a server is slow, the store refuses or is away."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent import futures
from pathlib import Path
from typing import Any

import grpc
import pytest
from ml_metadata.metadata_store.pywrap.metadata_store_extension import metadata_store as core
from ml_metadata.proto import metadata_store_pb2 as mlmd
from typing_extensions import Self

import zen_mlmd as zm
from tests.services.mariadb import MariaDb
from zen_mlmd.errors import (
    ConnectionLostError,
    EndedError,
    RunExistsError,
    StoreError,
    UsageError,
)
from zen_mlmd.service.base import MetadataService
from zen_mlmd.service.check import SQLITE
from zen_mlmd.store import Store

LATE_S = 0.4
TIMEOUT_S = 1.5  # of a call; what is not made slow is done in time on a slow machine too


class Forgetful(MetadataService):
    """A service that does a call and then loses its reply, when it is told to.

    Attributes:
        loses: The method, and how many calls of it from now; 0 when that was lost.
    """

    def __init__(self, service: MetadataService) -> None:
        self.service = service
        self.location = service.location
        self.loses = ("", 0)

    def call(self, method: str, request: Any) -> Any:
        answer = self.service.call(method, request)
        if method == self.loses[0] and self.loses[1]:
            self.loses = (method, self.loses[1] - 1)
            if not self.loses[1]:
                raise ConnectionLostError("the reply was lost", hint="ask whether it was done")
        return answer

    def close(self) -> None:
        self.service.close()


class SlowServer:
    """A gRPC server over a store in memory that does the next call of a method late.

    Attributes:
        slow: The method; forgotten with the call.
    """

    def __init__(self) -> None:
        config = mlmd.ConnectionConfig()
        config.fake_database.SetInParent()
        migration = mlmd.MigrationOptions().SerializeToString()
        self._handle = core.CreateMetadataStore(config.SerializeToString(), migration)
        self._lock = threading.Lock()
        self._done = threading.Event()
        self._codes = {code.value[0]: code for code in grpc.StatusCode}
        self.slow = ""
        names = [name for name in dir(core) if name.startswith(("Get", "Put"))]
        methods = {name: grpc.unary_unary_rpc_method_handler(self._answering(name)) for name in names}
        self._server = grpc.server(
            futures.ThreadPoolExecutor(8),
            handlers=[grpc.method_handlers_generic_handler("ml_metadata.MetadataStoreService", methods)],
        )
        self.port = self._server.add_insecure_port("127.0.0.1:0")

    def __enter__(self) -> Self:
        self._server.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.stop(0).wait()

    def make_slow(self, method: str) -> None:
        self.slow = method
        self._done.clear()

    def wait_for_slow_call(self) -> None:
        assert self._done.wait(30)

    def _answering(self, name: str) -> Any:
        def answer(request: bytes, context: Any) -> bytes:
            late = self.slow == name
            if late:
                self.slow = ""
                while context.is_active():  # until the client has given up
                    time.sleep(0.01)
                time.sleep(LATE_S)  # and has asked whether it was done
            with self._lock:
                response: bytes
                response, text, code = getattr(core, name)(self._handle, request)
            if late:
                self._done.set()
            if code:
                context.abort(self._codes[code], text.decode(errors="replace"))
            return response

        return answer


@pytest.fixture
def server() -> Iterator[SlowServer]:
    with SlowServer() as running:
        yield running


@pytest.fixture(params=["memory", "file", pytest.param("mysql", marks=pytest.mark.mysql)])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    where: Any = {"memory": "sqlite://", "file": tmp_path / "m.db"}.get(request.param)
    with zm.open_store(where or request.getfixturevalue("mysql_url")) as opened:
        yield opened


def forgetful(store: Store) -> Forgetful:
    made = Forgetful(store.loader.client.service)
    store.loader.client.service = made
    return made


def outputs(store: Store, step_id: int) -> list[str]:
    return [each.uri for listed in store.get_step(step_id).outputs.lists.values() for each in listed]


# --- lost replies ---


@pytest.mark.parametrize(
    ("method", "number"),
    [
        *(("PutTypes", 1), ("PutTypes", 2), ("PutParentContexts", 1), ("PutArtifacts", 1)),
        *(("PutContexts", number) for number in (1, 2, 3)),  # the pipeline's, the run's and its end's
        *(("PutExecution", number) for number in (1, 2)),  # the step's beginning and end
    ],
)
def test_a_lost_reply_loses_and_doubles_nothing(store: Store, method: str, number: int) -> None:
    service = forgetful(store)
    service.loses = (method, number)
    run = store.record_run("p", name="r")
    raw = store.import_artifact("mem://raw")
    step = run.step("s", inputs={"raw": raw})
    step.log_input("late", store.import_artifact("mem://late"))
    made = [step.log_output("o", uri=f"mem://{number}") for number in range(3)]
    step.end()
    run.end()
    assert service.loses == (method, 0)
    assert sorted(each.uri for each in store.artifacts) == sorted(
        ["mem://raw", "mem://late", *(f"mem://{number}" for number in range(3))]
    )
    assert outputs(store, step.id) == [each.uri for each in made]
    assert [each.id for each in store.get_step(step.id).outputs.lists["o"]] == [each.id for each in made]
    (found,) = store.runs
    assert found.pipeline == "p"
    assert [each.status for each in found.step_runs] == [zm.Status.COMPLETED]
    assert {name: each.uri for name, each in found["s"].inputs.items()} == {
        "raw": "mem://raw",
        "late": "mem://late",
    }
    assert [pipeline.latest_run.name for pipeline in store.pipelines] == ["r"]


def test_a_name_that_another_run_has_is_refused_after_a_lost_reply_too(store: Store) -> None:
    store.record_run("p", name="r").end()
    forgetful(store)
    with pytest.raises(RunExistsError):
        store.record_run("p", name="r")


def test_an_end_may_be_called_again_after_its_reply_was_lost(tmp_path: Path) -> None:
    store = zm.open_store(zm.SqliteConfig(path=str(tmp_path / "m.db"), wait_s=0))
    service = forgetful(store)
    run = store.record_run("p")
    step = run.step("s")
    step.log_output("x", uri="mem://x")
    service.loses = ("PutExecution", 1)
    with pytest.raises(ConnectionLostError):
        step.end()
    step.end()
    assert outputs(store, step.id) == ["mem://x"]
    with pytest.raises(EndedError):
        step.end()


@pytest.mark.parametrize("change", ["state", "outputs"])
def test_an_end_that_says_other_than_the_one_that_was_lost_is_told(tmp_path: Path, change: str) -> None:
    store = zm.open_store(zm.SqliteConfig(path=str(tmp_path / "m.db"), wait_s=0))
    service = forgetful(store)
    step = store.record_run("p").step("s")
    step.log_output("x", uri="mem://x")
    service.loses = ("PutExecution", 1)
    with pytest.raises(ConnectionLostError):
        step.end()
    if change == "outputs":
        step.log_output("y", uri="mem://y")
    with pytest.raises(EndedError, match="ended as completed, by an `end` whose answer was lost"):
        step.end(zm.Status.FAILED if change == "state" else None)
    assert store.get_step(step.id).status is zm.Status.COMPLETED
    assert outputs(store, step.id) == ["mem://x"]


# --- a slow server ---


@pytest.mark.parametrize(
    "slow", ["PutArtifacts", "PutContexts", "PutParentContexts", "PutTypes", "PutExecution"]
)
def test_a_write_that_comes_late_is_done_once(server: SlowServer, slow: str) -> None:
    store = zm.open_store(f"kubeflow://127.0.0.1:{server.port}?timeout_s={TIMEOUT_S}&wait_s=20")
    store.record_run("p", name="before").end()
    if slow != "PutExecution":
        server.make_slow(slow)
    raw = store.import_artifact("mem://raw", type="Raw")
    with store.record_run("p", name="r") as run:
        step = run.step("s", inputs={"raw": raw})
        step.log_output("x", uri="mem://x")
        step.log_output("y", uri="mem://y")
        if slow == "PutExecution":
            server.make_slow(slow)
        step.end()
    server.wait_for_slow_call()
    assert sorted(each.uri for each in store.artifacts) == ["mem://raw", "mem://x", "mem://y"]
    assert outputs(store, step.id) == ["mem://x", "mem://y"]
    assert [run.name for run in store.runs] == ["r", "before"]
    assert store.get_run("r").status is zm.Status.COMPLETED
    store.close()


def test_an_end_that_comes_late_meets_the_one_that_was_called_again(server: SlowServer) -> None:
    store = zm.open_store(f"kubeflow://127.0.0.1:{server.port}?timeout_s={TIMEOUT_S}&wait_s=0")
    step = store.record_run("p").step("s")
    step.log_output("x", uri="mem://x")
    server.make_slow("PutExecution")
    with pytest.raises(ConnectionLostError):
        step.end()
    server.wait_for_slow_call()
    step.end()
    assert [each.uri for each in store.artifacts] == ["mem://x"]
    assert outputs(store, step.id) == ["mem://x"]
    store.close()


# --- refusals at the end ---


@pytest.mark.mysql
@pytest.mark.parametrize("fails", [False, True])
def test_what_is_refused_at_the_end_only_fails_the_step(mysql_url: str, fails: bool) -> None:
    """As a gRPC server's database refuses it, whose limits are not known here."""
    with zm.open_store(f"{mysql_url}?service=native") as store:
        store.loader.client.service.limits = SQLITE  # type: ignore[attr-defined]
        run = store.record_run("p", name="r")
        step = run.step("s", parameters={"depth": 3}, properties={"team": "a"})
        step.log_parameters({"late": 1})
        step.log_metrics({"auc": 0.5})
        step.log_input("raw", store.import_artifact("mem://raw"))
        step.log_output("x", uri="mem://x")
        step.log_properties({"k" * 300: 1})
        with pytest.raises(StoreError, match="Data too long"):
            step.end(error=ZeroDivisionError("mine") if fails else None)
        with pytest.raises(EndedError):
            step.end()
        found = store.get_run("r")["s"]
        assert found.status is zm.Status.FAILED
        assert found.failure is not None
        assert found.failure.type == ("ZeroDivisionError" if fails else "zen_mlmd.errors.StoreError")
        assert (found.parameters, found.record.properties) == ({"depth": 3}, {"team": "a"})
        assert (dict(found.inputs), dict(found.outputs), found.metrics) == ({}, {}, {})


def test_contention_at_the_end_leaves_the_step_as_it_was(tmp_path: Path) -> None:
    from tests.integration.test_every_error import sqlite_locked_by_another_process
    from zen_mlmd.errors import ContentionError

    path = tmp_path / "m.db"
    store = zm.open_store(zm.SqliteConfig(path=str(path), wait_s=0.1))
    step = store.record_run("p").step("s")
    step.log_output("x", uri="mem://x")
    with sqlite_locked_by_another_process(path), pytest.raises(ContentionError):
        step.end()
    step.end()
    assert outputs(store, step.id) == ["mem://x"]


# --- the caller's exception ---


@pytest.mark.mysql
def test_the_callers_exception_goes_on_when_it_cannot_be_recorded(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with MariaDb() as server:
        store = zm.open_store(f"{server.url(server.new_database())}?wait_s=0.2&connect_timeout_s=2")
        with pytest.raises(ZeroDivisionError) as caught, store.record_run("p") as run, run.step("s") as step:  # noqa: PT012
            step.log_output("x", uri="mem://x")
            server.stop()
            raise ZeroDivisionError("mine")
        told = "\n".join([*getattr(caught.value, "__notes__", ()), caplog.text])
        assert "step 's' could not be recorded as ended: [ZM2" in told
        assert f"run {run.name!r} could not be recorded as ended: [ZM2" in told
        server.start()
        assert store.get_run(run.name).status is zm.Status.RUNNING
        store.close()


def test_a_failure_to_record_is_raised_where_nothing_else_is(tmp_path: Path) -> None:
    store = zm.open_store(zm.SqliteConfig(path=str(tmp_path / "m.db"), wait_s=0))
    service = forgetful(store)
    run = store.record_run("p")
    with pytest.raises(ConnectionLostError), run:
        service.loses = ("PutContexts", 1)


class Text(str):
    __slots__ = ()

    def __str__(self) -> str:
        return self


class FailureOf(Exception):  # noqa: N818 - named by what it says
    """An exception whose text is what a function gives, if it gives anything."""

    def __init__(self, text: Callable[[], Any]) -> None:
        self._text = text

    def __str__(self) -> str:
        return self._text()  # type: ignore[no-any-return]


def exit_() -> str:
    raise SystemExit(3)


def interrupt() -> str:
    raise KeyboardInterrupt


ODD = "a\0b\ud800\udc00__MLMD_NULL__"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (lambda: Text("boom"), "boom"),
        (exit_, ""),
        (interrupt, ""),
        (lambda: 5, ""),
        (lambda: ODD + "x" * 10**6, ODD + "x"),
    ],
)
def test_an_exception_with_a_text_of_its_own_is_recorded(
    store: Store, text: Callable[[], Any], message: str
) -> None:
    with pytest.raises(FailureOf), store.record_run("p") as run, run.step("s"):
        raise FailureOf(text)
    found = store.get_run(run.name)
    for failed in (found, found["s"]):
        assert failed.status is zm.Status.FAILED
        assert failed.failure is not None
        assert failed.failure.type.endswith("test_endings.FailureOf")
        assert failed.failure.message.startswith(message)
        assert bool(failed.failure.message) is bool(message)


# --- ended as what ---


@pytest.mark.parametrize(
    "status", [zm.Status.RUNNING, zm.Status.PENDING, zm.Status.UNKNOWN, "done", 5, [], "running"]
)
def test_nothing_ends_as_something_that_is_no_end(tmp_path: Path, status: Any) -> None:
    store = zm.open_store(tmp_path / "m.db")
    run = store.record_run("p")
    step = run.step("s")
    for each in (step, run):
        with pytest.raises(UsageError, match="cannot end as") as caught:
            each.end(status)
        assert "completed" in caught.value.hint
    step.end("canceled")  # type: ignore[arg-type]
    run.end("failed")  # type: ignore[arg-type]
    assert store.get_run(run.name).status is zm.Status.FAILED
    assert store.get_step(step.id).status is zm.Status.CANCELED


def test_a_run_that_has_ended_takes_no_more_from_those_who_join_it(store: Store) -> None:
    run = store.record_run("p", name="r")
    early = store.join_run("r")
    run.end(zm.Status.FAILED)
    late = store.join_run("r")
    with pytest.raises(EndedError):
        early.end()
    for attempt in (lambda: late.step("s"), late.end, lambda: late.log_metrics({"a": 1}), early.end):
        with pytest.raises(EndedError):
            attempt()
    assert store.get_run("r").status is zm.Status.FAILED
    assert store.get_run("r").metrics == {}


def test_who_joined_a_run_may_end_it(store: Store) -> None:
    run = store.record_run("p", name="r")
    store.join_run("r").end(zm.Status.CANCELED)
    assert store.get_run("r").status is zm.Status.CANCELED
    with pytest.raises(EndedError):
        store.join_run("r").end()
    assert run.name == "r"
