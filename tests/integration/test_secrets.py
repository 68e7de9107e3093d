"""No secret gets out: canaries as passwords, tokens and recorded values, looked for in all that is shown.

Each canary has a core of letters and digits, which any quoting leaves as it is, between odd characters.
"""

from __future__ import annotations

import base64
import contextlib
import io
import json
import logging
import secrets
import sqlite3
import subprocess
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from ml_metadata.proto import metadata_store_pb2 as mlmd
from ml_metadata.proto import metadata_store_service_pb2 as rpc
from pydantic import ValidationError

import zen_mlmd as zm
from tests.services import free_port
from tests.services.grpc_server import GrpcServer
from tests.services.mariadb import MariaDb
from zen_mlmd.errors import (
    AlreadyExistsError,
    ConfigError,
    ConnectionFailedError,
    GrantMissingError,
    StoreError,
    TlsError,
    ZenMlmdError,
)
from zen_mlmd.flavors import config_from_url
from zen_mlmd.server.config import ServerConfig
from zen_mlmd.server.tokens import read_tokens

ROOT = Path(__file__).parents[2]
CORE = "c4n4ry" + secrets.token_hex(8)
TOKEN = f"tok-{CORE}"
NASTY = st.text(st.sampled_from("'\"\\@:/?#%&=+;,[]{}`$~!*() <>|^\t\n\x1b€éß😀"), max_size=8)
ANYTHING = st.text(
    st.characters(min_codepoint=1, exclude_categories=["Cs"], exclude_characters=CORE), max_size=8
)
CANARIES = st.builds(lambda *ends: CORE.join(ends), NASTY | ANYTHING, NASTY | ANYTHING)
quick = settings(
    max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], database=None
)


class Witness(logging.Handler):
    """Takes down all that is logged, warned of, printed, and shown of objects and errors."""

    def __init__(self, capfd: pytest.CaptureFixture[str]) -> None:
        super().__init__(logging.DEBUG)
        self._capfd = capfd
        self._seen = io.StringIO()

    def emit(self, record: logging.LogRecord) -> None:
        self.show(record.getMessage(), record.args, logging.Formatter().format(record))

    def show(self, *things: object) -> None:
        for thing in things:
            print(thing, repr(thing), file=self._seen)

    def refused(self, kind: type[ZenMlmdError], attempt: Callable[[], object]) -> ZenMlmdError:
        """Attempt something in vain, and take down the error."""
        with pytest.raises(kind) as caught:
            attempt()
        self.take_down(caught.value)
        return caught.value

    def take_down(self, error: BaseException) -> None:
        """Take down an error with all that it keeps: causes and contexts, suppressed ones too."""
        chain: list[BaseException | None] = [error]
        known = set()
        while chain:
            link = chain.pop()
            if link is not None and id(link) not in known:
                known.add(id(link))
                self.show(link, link.args, str(vars(link)), getattr(link, "__notes__", ()))
                if isinstance(link, ValidationError):  # has what was given, though it does not show it
                    self.show(link.errors())
                self.show(*traceback.format_exception(link))
                chain += [link.__cause__, link.__context__]

    def testimony(self) -> str:
        out, err = self._capfd.readouterr()
        return self._seen.getvalue() + out + err


@contextlib.contextmanager
def watched(capfd: pytest.CaptureFixture[str]) -> Iterator[Witness]:
    """Watch all loggers at DEBUG, all warnings and both outputs; fail if the canary's core is seen."""
    witness = Witness(capfd)
    loggers = [logging.getLogger(), *map(logging.getLogger, list(logging.root.manager.loggerDict))]
    levels = [(logger, logger.level, logger.disabled) for logger in loggers]
    logging.getLogger().addHandler(witness)
    for logger in loggers:
        logger.setLevel(logging.DEBUG)
        logger.disabled = False
    try:
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            yield witness
        witness.show(*[each.message for each in warned])
    finally:
        logging.getLogger().removeHandler(witness)
        for logger, level, disabled in levels:
            logger.setLevel(level)
            logger.disabled = disabled
    text = witness.testimony()
    assert len(text) > 100
    assert_no_canary(text)


def assert_no_canary(text: str) -> None:
    place = text.find(CORE)
    assert place < 0, f"the canary got out: ...{text[max(0, place - 300) : place + 100]!r}"
    for shift in range(3):  # whatever stands before it, base64 of its inner letters looks like one of these
        inner = base64.b64encode(b"\0" * shift + CORE.encode())[4:-4].decode()
        assert inner not in text


def show_store(witness: Witness, store: zm.Store) -> None:
    """Show a store and all of its parts."""
    client = store.loader.client
    config = store.config
    witness.show(store, config, config.location, client, client.location, client.service, store.loader)
    witness.show(client.service.location, store.pipelines)
    witness.show(
        config.model_dump(), config.model_dump_json(), config.model_copy(), dict(config), vars(config)
    )
    witness.show([config], {"config": config}, f"{config} {config!r}")


def use_store(witness: Witness, store: zm.Store, failing: Callable[[], object]) -> None:
    """Record a run with a step that fails on a connection; show all views and exports."""
    with store.record_run("churn", parameters={"depth": 4}, properties={"team": "a"}) as run:
        witness.show(run)
        with run.step("load") as load:
            rows = load.log_output("rows", uri="s3://bucket/rows")
            witness.show(load, rows)
        with run.step("train", inputs={"rows": rows}) as train:
            model = train.log_output("model", uri="s3://bucket/model", type="Model")
        with pytest.raises(ConnectionFailedError), run.step("publish", inputs={"model": model}):
            failing()
    found = store.get_run(run.name)
    assert found["publish"].failure is not None
    graph = store.get_artifact(model.id).upstream()
    exports = [graph.to_json(), graph.to_dot(), graph.to_mermaid(), graph.to_svg()]
    assert all("rows" in text for text in exports)
    witness.show(*exports, graph, graph.to_networkx(), store.get_artifact(model.id).why())
    witness.show(store.list_runs().to_dicts(), store.list_artifacts().to_dicts(), found.step_runs.to_dicts())
    witness.show(found, found.record, *found.step_runs, *(step.record for step in found.step_runs))
    witness.show(store.list_runs().to_pandas().to_csv(), found.environment, found.failure)


# --- MySQL ---


@pytest.fixture(scope="module")
def database(mariadb: MariaDb) -> Iterator[str]:
    name = mariadb.new_database()
    mariadb.sql("CREATE USER canary@'%' IDENTIFIED BY 'x'")
    mariadb.sql(f"GRANT ALL ON {name}.* TO canary@'%'")
    zm.open_store(mariadb.url(name)).close()
    yield name
    mariadb.sql("DROP USER canary@'%'")
    mariadb.drop_database(name)


def set_password(server: MariaDb, password: str) -> None:
    server.sql("SET PASSWORD FOR canary@'%%' = PASSWORD(%s)", password)


def all_that_is_stored(server: MariaDb, database: str) -> str:
    tables = server.sql("SELECT table_name FROM information_schema.tables WHERE table_schema = %s", database)
    return repr([server.sql(f"SELECT * FROM {database}.{table}") for (table,) in tables])


@pytest.mark.mysql
@quick
@given(password=CANARIES)
def test_a_mysql_password_gets_nowhere(
    mariadb: MariaDb, database: str, capfd: pytest.CaptureFixture[str], password: str
) -> None:
    set_password(mariadb, password)
    url = f"mysql://canary:{quote(password, safe='')}@127.0.0.1:{mariadb.port}/{database}"
    with watched(capfd) as witness:
        with zm.open_store(url) as store:
            show_store(witness, store)
            use_store(witness, store, lambda: zm.open_store(url.replace(f"/{database}", "/missing")))
            config = store.connection_config()
        assert config.mysql.password == password
        assert CORE in str(config)  # the one place
    stored = all_that_is_stored(mariadb, database)
    assert "s3://bucket/model" in stored
    assert_no_canary(stored)


@pytest.mark.mysql
@quick
@given(password=CANARIES)
def test_no_error_of_a_mysql_connection_tells_the_password(
    mariadb: MariaDb,
    database: str,
    tmp_path_factory: pytest.TempPathFactory,
    capfd: pytest.CaptureFixture[str],
    password: str,
) -> None:
    set_password(mariadb, password)
    junk = tmp_path_factory.mktemp("junk") / "key.pem"
    junk.write_text(f"-----BEGIN PRIVATE KEY-----\n{CORE}\n-----END PRIVATE KEY-----\n")

    def attempt(**other: Any) -> Callable[[], object]:
        known = {"port": mariadb.port, "database": database, "user": "canary", "password": password}
        return lambda: zm.open_store(zm.MysqlConfig(**{**known, "connect_timeout_s": 0.5, **other}))

    refusals: list[tuple[type[ZenMlmdError], dict[str, Any]]] = [
        (ConnectionFailedError, {"port": free_port()}),
        (ConnectionFailedError, {"host": "no-such-host.invalid"}),
        (ConnectionFailedError, {"socket": "/nowhere/mysql.sock"}),
        (ConnectionFailedError, {"database": "zen_missing"}),
        (ConnectionFailedError, {"password": password + "!"}),
        (GrantMissingError, {"database": "mysql"}),
        (TlsError, {"tls": True}),
        (TlsError, {"ssl_verify_server_cert": True}),
        (TlsError, {"ssl_cert": str(junk), "ssl_key": str(junk)}),
        (TlsError, {"ssl_ca": str(junk)}),
    ]
    with watched(capfd) as witness:
        for kind, settings_ in refusals:
            witness.refused(kind, attempt(**settings_))


@pytest.mark.mysql
def test_a_connection_that_is_cut_tells_no_password(
    mariadb: MariaDb, database: str, capfd: pytest.CaptureFixture[str]
) -> None:
    set_password(mariadb, CORE)
    config = zm.MysqlConfig(
        port=mariadb.port, database=database, user="canary", password=CORE, wait_s=0.3, connect_timeout_s=0.5
    )
    with watched(capfd) as witness, zm.open_store(config) as store:
        mariadb.sql("ALTER USER canary@'%' ACCOUNT LOCK")
        try:
            mariadb._kill("user", "canary")
            witness.refused(ConnectionFailedError, lambda: list(store.runs))
            witness.refused(ConnectionFailedError, lambda: store.record_run("churn"))
        finally:
            mariadb.sql("ALTER USER canary@'%' ACCOUNT UNLOCK")
        assert list(store.runs) is not None


@settings(parent=quick, max_examples=60)
@given(
    password=CANARIES,
    end=st.sampled_from(["host:1/db", "host/db", "host", "[::1/db", "h:x/db", "", "/", "h?a"]),
)
@example(password=f"/{CORE}", end="host")  # which would be a database named CORE@host
@example(password=f"?{CORE}=", end="host/db")
@example(password=f"?wait_s=1&{CORE}=", end="host/db")
@example(password=f"#{CORE}", end="host/db")
def test_a_password_that_nobody_encoded_is_not_told(
    capfd: pytest.CaptureFixture[str], password: str, end: str
) -> None:
    with watched(capfd) as witness:
        witness.show("-" * 100)
        for scheme in (
            "mysql",
            "mysql+pymysql",
            "MariaDB",
            "kubeflow",
            "grpcs",
            "sqlite",
            "mysq",
            "jdbc:mysql",
        ):
            for separator in ("://", ":/", ":"):
                if scheme in ("mysq", "jdbc:mysql") and separator != "://":
                    continue  # anything without :// and a scheme of ours is a path
                for user in ("user:", "user:12", "us@er:", ":"):
                    url = f"{scheme}{separator}{user}{password}@{end}"
                    try:
                        config = config_from_url(url)
                    except ConfigError as error:
                        witness.take_down(error)
                    else:
                        witness.show(config, config.location)


@pytest.mark.parametrize(
    "url",
    [
        *("user:{0}@host/db", "mysql//user:{0}@host/db", "jdbc:mysql:user:{0}@host/db", "user:a/{0}@host/db"),
        *("host:3306:{0}@db", "./user:{0}@host", ":{0}@host"),
    ],
)
def test_a_url_without_its_scheme_is_not_taken_for_a_file(
    capfd: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with watched(capfd) as witness:
        witness.show("-" * 100)
        error = witness.refused(ConfigError, lambda: zm.open_store(url.format(CORE)))
        assert "pathlib.Path" in error.hint
    assert list(tmp_path.iterdir()) == []
    assert isinstance(config_from_url(Path("a:b@c.db")), zm.SqliteConfig)


def test_a_file_of_tokens_is_not_quoted(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "tokens.yaml"
    contents = [
        *(f"- {TOKEN}", f"- name: {TOKEN}", f"- {{sha256: {TOKEN}, name: a}}", f"{TOKEN}: [", f"'{TOKEN}"),
        *(f"- name: a\n  scope: {TOKEN}", f"\ud800{TOKEN}"),
    ]
    with watched(capfd) as witness:
        witness.show("-" * 100)
        for content in contents:
            path.write_bytes(content.encode("utf-8", "surrogatepass"))
            witness.refused(ConfigError, lambda: read_tokens(path))
        witness.refused(ConfigError, lambda: ServerConfig.checked(bind=TOKEN))
        witness.refused(ConfigError, lambda: ServerConfig.checked(workers=TOKEN))


@settings(parent=quick, max_examples=50)
@given(secret=CANARIES)
def test_a_fault_in_the_settings_tells_no_secret(capfd: pytest.CaptureFixture[str], secret: str) -> None:
    faults: list[tuple[Any, dict[str, Any]]] = [
        (zm.MysqlConfig, {"password": secret}),
        (zm.MysqlConfig, {"password": {"a": secret}, "database": "x"}),
        (zm.MysqlConfig, {"password": [secret], "database": "x"}),
        (zm.MysqlConfig, {"password": secret, "database": "x", "port": secret}),
        (zm.MysqlConfig, {"password": secret, "database": "x", "tls": "no", "ssl_ca": "ca.pem"}),
        (zm.MysqlConfig, {"password": secret, "database": "x", "pasword": secret}),
        (zm.KubeflowConfig, {"token": secret, "port": 0}),
        (zm.KubeflowConfig, {"token": secret, "host": "mlmd.example.com"}),
        (zm.KubeflowConfig, {"token": secret + "\n"}),
        (zm.KubeflowConfig, {"metadata": {"x-user": secret + "\0"}}),
        (zm.KubeflowConfig, {"metadata": {"x user": secret}}),
        (zm.KubeflowConfig, {"metadata": secret}),
        (zm.KubeflowConfig, {"metadata": {"x-user": secret}, "certificate": "a.pem"}),
    ]
    with watched(capfd) as witness:
        for config, fields in faults:
            witness.refused(ConfigError, lambda config=config, fields=fields: config.checked(**fields))  # type: ignore[misc]
            with pytest.raises(ValueError) as caught:
                config(**fields)
            witness.show(caught.value, *traceback.format_exception(caught.value))


# --- gRPC ---


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GrpcServer]:
    """A server that lets in only calls with the right token and identity."""
    required = {"authorization": f"Bearer {TOKEN}", "kubeflow-userid": f"{CORE}@example.com"}
    with GrpcServer(tmp_path_factory.mktemp("grpc") / "m.db", require_metadata=required) as server:
        yield server


def test_a_grpc_token_and_metadata_get_nowhere(
    guarded: GrpcServer, capfd: pytest.CaptureFixture[str]
) -> None:
    config = zm.KubeflowConfig(
        port=guarded.port, token=TOKEN, metadata={"Kubeflow-UserId": f"{CORE}@example.com"}
    )
    with watched(capfd) as witness, zm.open_store(config) as store:
        show_store(witness, store)
        use_store(witness, store, lambda: zm.open_store(f"kubeflow://127.0.0.1:{free_port()}?token={TOKEN}"))
        witness.show(store.connection_config())  # MLMD's client has no place for either
    guarded.stop()
    with contextlib.closing(sqlite3.connect(guarded.sqlite)) as stored:
        dump = "\n".join(stored.iterdump())
    guarded.start()
    assert "s3://bucket/model" in dump
    assert_no_canary(dump)


@quick
@given(ends=st.lists(st.text(st.characters(min_codepoint=33, max_codepoint=126)), min_size=2, max_size=2))
def test_no_error_of_a_grpc_connection_tells_a_token(
    guarded: GrpcServer,
    tmp_path_factory: pytest.TempPathFactory,
    capfd: pytest.CaptureFixture[str],
    ends: Sequence[str],
) -> None:
    secret = f"x{CORE.join(ends)}"
    junk = tmp_path_factory.mktemp("junk") / "key.pem"
    junk.write_text(f"-----BEGIN PRIVATE KEY-----\n{CORE}\n-----END PRIVATE KEY-----\n")

    def attempt(**other: Any) -> Callable[[], object]:
        known = {"port": guarded.port, "token": secret, "metadata": {"kubeflow-userid": secret}}
        return lambda: zm.open_store(zm.KubeflowConfig(**{**known, "timeout_s": 5.0, **other}))

    with watched(capfd) as witness:
        witness.refused(GrantMissingError, attempt())
        witness.refused(ConnectionFailedError, attempt(port=free_port()))
        witness.refused(ConnectionFailedError, attempt(host="no-such-host.invalid", token=""))
        witness.refused(TlsError, attempt(tls=True))
        witness.refused(TlsError, attempt(ca=str(junk)))
        witness.refused(TlsError, attempt(certificate=str(junk), key=str(junk)))
        witness.refused(ConfigError, attempt(ca=f"/nowhere/{len(ends)}"))
        url = f"kubeflow://127.0.0.1:{guarded.port}?token={quote(secret, safe='')}"
        witness.refused(GrantMissingError, lambda: zm.open_store(url))
        witness.show(config_from_url(url))


# --- what was recorded ---


def requests(service: Any, content: str) -> Iterator[tuple[str, Any]]:
    """Yield calls that MLMD refuses, each with `content` as its values."""

    def typed(kind: str) -> int:
        request = getattr(rpc, f"Put{kind}TypeRequest")()
        held = getattr(request, f"{kind.lower()}_type")
        held.name = "Rows"
        held.properties["count"] = mlmd.INT
        return int(service.call(f"Put{kind}Type", request).type_id)

    artifact, execution, context = typed("Artifact"), typed("Execution"), typed("Context")

    def node(kind: Any, **facts: Any) -> Any:
        made = kind(**facts)
        made.custom_properties["note"].string_value = content
        return made

    rows = node(mlmd.Artifact, type_id=artifact, name=content[:80], uri=content)
    step = node(mlmd.Execution, type_id=execution, name=content[:80])
    run = node(mlmd.Context, type_id=context, name=content[:80])
    for _ in range(2):
        yield "PutArtifacts", rpc.PutArtifactsRequest(artifacts=[rows])
        yield "PutExecutions", rpc.PutExecutionsRequest(executions=[step])
        yield "PutContexts", rpc.PutContextsRequest(contexts=[run])
    external = node(mlmd.Artifact, type_id=artifact, external_id=content[:80])
    for _ in range(2):
        yield "PutArtifacts", rpc.PutArtifactsRequest(artifacts=[external])
    wrong = node(mlmd.Artifact, type_id=artifact, uri=content)
    wrong.properties["count"].string_value = content
    yield "PutArtifacts", rpc.PutArtifactsRequest(artifacts=[wrong])
    for type_id in (0, 99_999):
        yield "PutArtifacts", rpc.PutArtifactsRequest(artifacts=[node(mlmd.Artifact, type_id=type_id)])
    gone = node(mlmd.Artifact, id=99_999, uri=content)
    yield "PutArtifacts", rpc.PutArtifactsRequest(artifacts=[gone])
    yield "PutContexts", rpc.PutContextsRequest(contexts=[node(mlmd.Context, type_id=context)])
    event = mlmd.Event(artifact_id=1, execution_id=1, type=mlmd.Event.INPUT)
    event.path.steps.add(key=content)
    for _ in range(2):
        yield "PutEvents", rpc.PutEventsRequest(events=[event])
    event.artifact_id = 99_999
    yield "PutEvents", rpc.PutEventsRequest(events=[event])
    whole = rpc.PutExecutionRequest(execution=mlmd.Execution(type_id=execution))
    whole.artifact_event_pairs.add(artifact=rows, event=mlmd.Event(type=mlmd.Event.OUTPUT))
    yield "PutExecution", whole
    query = rpc.GetArtifactsRequest()
    query.options.max_result_size = 1
    query.options.filter_query = f"uri = '{content}"
    yield "GetArtifacts", query
    query.options.filter_query = ""
    query.options.next_page_token = content
    yield "GetArtifacts", query
    yield "GetArtifactType", rpc.GetArtifactTypeRequest(type_name=content)
    yield "GetExecutionType", rpc.GetExecutionTypeRequest(type_name=content)
    yield "GetContextsByType", rpc.GetContextsByTypeRequest(type_name=content)
    yield "GetArtifactsByExternalIds", rpc.GetArtifactsByExternalIdsRequest(external_ids=[content])


CONTENTS = st.builds(
    lambda head, tail: f"{CORE}{head}{CORE}{tail}{CORE}".replace("\0", ""),
    NASTY
    | ANYTHING
    | st.sampled_from(
        [
            "' query: ",
            "Error when executing query: ",
            "mysql_query failed: errno: ",
            "', error: ",
            '" } } INTERNAL: ',
            "lost connection",
        ]
    ),
    NASTY,
)


def provoke(witness: Witness, service: Any, content: str) -> list[type]:
    """Send what MLMD refuses; return the classes of the errors."""
    kinds: list[type] = []
    for method, request in requests(service, content):
        try:
            service.call(method, request)
        except ZenMlmdError as error:  # noqa: PERF203 - to go on
            kinds.append(type(error))
            witness.take_down(error)
    return kinds


@quick
@given(content=CONTENTS)
def test_no_refusal_of_sqlite_quotes_what_was_recorded(
    tmp_path_factory: pytest.TempPathFactory, capfd: pytest.CaptureFixture[str], content: str
) -> None:
    config = zm.SqliteConfig(path=str(tmp_path_factory.mktemp("db") / "m.db"))
    with watched(capfd) as witness, config.open_service() as service:
        kinds = provoke(witness, service, content)
    assert kinds.count(AlreadyExistsError) >= 5
    assert StoreError in kinds


@pytest.mark.mysql
@settings(parent=quick, max_examples=6)
@given(content=CONTENTS)
def test_no_refusal_of_mysql_quotes_what_was_recorded(
    mariadb: MariaDb, capfd: pytest.CaptureFixture[str], content: str
) -> None:
    database = mariadb.new_database()
    config = config_from_url(f"{mariadb.url(database)}?service=native")
    with watched(capfd) as witness, config.open_service() as service:
        kinds = provoke(witness, service, content)
        # What the check would refuse, sent all the same, so that the database itself refuses it.
        service.limits = zm.SqliteConfig(path=":memory:").open_service().limits  # type: ignore[attr-defined]
        kinds += provoke_long(witness, service, content)
    mariadb.drop_database(database)
    assert kinds.count(AlreadyExistsError) >= 5
    assert kinds.count(StoreError) >= 5


def provoke_long(witness: Witness, service: Any, content: str) -> list[type]:
    long = content + "x" * 70_000
    type_id = service.call("GetArtifactType", rpc.GetArtifactTypeRequest(type_name="Rows")).artifact_type.id
    kinds = []
    for facts in (
        {"name": long},
        {"external_id": long},
        {"uri": long},
        {"custom_properties": {long: mlmd.Value(string_value=content)}},
        {"custom_properties": {"note": mlmd.Value(int_value=2**40)}, "uri": content},
    ):
        request = rpc.PutArtifactsRequest(artifacts=[mlmd.Artifact(type_id=type_id, **facts)])
        error = witness.refused(StoreError, lambda request=request: service.call("PutArtifacts", request))  # type: ignore[misc]
        kinds.append(type(error))
        assert "column" in error.message
    return kinds


def test_no_refusal_of_a_grpc_server_quotes_what_was_recorded(
    grpc_server: GrpcServer, capfd: pytest.CaptureFixture[str]
) -> None:
    config = zm.KubeflowConfig(port=grpc_server.port)
    with watched(capfd) as witness, config.open_service() as service:
        kinds = provoke(witness, service, f"{CORE}'\"\\{CORE}")
    assert kinds.count(AlreadyExistsError) >= 5


def test_what_is_refused_before_it_is_sent_is_not_quoted(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with watched(capfd) as witness, zm.open_store(tmp_path / "m.db") as store:
        for bad in (f"{CORE}\0", float("nan"), object(), [CORE, object()], {CORE: object()}.values()):
            with contextlib.suppress(ZenMlmdError):
                store.import_artifact(f"{CORE}\0", properties={"note": bad})
            witness.refused(
                ZenMlmdError,
                lambda bad=bad: store.import_artifact(f"{CORE}\0", properties={"note": bad}),  # type: ignore[misc]
            )
        with store.record_run("churn") as run:
            witness.refused(ZenMlmdError, lambda: run.log_metrics({"auc": CORE}))  # type: ignore[dict-item]


# --- the command line ---


@pytest.mark.mysql
def test_the_command_line_tells_no_password(mariadb: MariaDb, database: str, tmp_path: Path) -> None:
    password = f"p@ss/{CORE}"
    set_password(mariadb, password)
    good = f"mysql://canary:{quote(password, safe='')}@127.0.0.1:{mariadb.port}/{database}"
    with zm.open_store(good) as store, store.record_run("cli") as run, run.step("train"):
        pass
    commands: list[tuple[str, list[str], str]] = [
        (good, ["runs", "list", "-o", "json"], '"cli"'),
        (good, ["runs", "show", run.name], "train"),
        (good, ["runs", "show", "missing"], "ZM110"),
        (good.replace(CORE, CORE + "x"), ["pipelines", "list"], "ZM204"),
        (good.replace(str(mariadb.port), str(free_port())), ["pipelines", "list"], "ZM201"),
        (good.replace(quote(password, safe=""), password), ["pipelines", "list"], "ZM103"),
    ]
    for url, command, expected in commands:
        done = subprocess.run(
            [sys.executable, "-m", "zen_mlmd", *command, "--store", url],
            capture_output=True,
            check=False,
            text=True,
            cwd=ROOT,
            timeout=60,
        )
        said = done.stdout + done.stderr
        assert expected in said, said
        assert (done.returncode == 0) == (not expected.startswith("ZM")), said
        assert_no_canary(said)
        if "json" in command:
            assert json.loads(done.stdout)
