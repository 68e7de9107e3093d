"""ml-metadata and the SQL service over the same data, which only ml-metadata wrote."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, MutableSequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

from ml_metadata.proto import metadata_store_pb2 as mlmd
from ml_metadata.proto import metadata_store_service_pb2 as rpc
from sqlalchemy import event

from tests.services.mariadb import MariaDb
from tests.services.postgresql import PostgreSql
from tests.sql.places import Place, server_place, sqlite_place
from zen_mlmd.service.base import Refusal, request_class, response_class
from zen_mlmd.service.native import NativeService
from zen_mlmd.service.sql.database import Database
from zen_mlmd.service.sql.learn import learn
from zen_mlmd.service.sql.outbox import Outbox
from zen_mlmd.service.sql.service import SqlService

BACKSLASH = "\\"
"""ml-metadata writes none into PostgreSQL: it takes it for the end of a text's quote."""


@dataclass(frozen=True)
class SameData:
    """Both services, open, over the same rows: only to be read.

    Attributes:
        dialect: sqlite, mysql or postgresql.
        native: ml-metadata's.
        sql: Ours.
        database: Behind `sql`.
    """

    dialect: str
    native: NativeService
    sql: SqlService
    database: Database

    def both(self, method: str, request: Any = None, **fields: Any) -> tuple[Any, Any]:
        """Ask both; return each one's response, or its refusal as (code, text)."""
        wanted = request_class(method)(**fields) if request is None else request
        return ask(self.native, method, wanted), ask(self.sql, method, wanted)

    def same(self, method: str, request: Any = None, **fields: Any) -> Any:
        """Ask both, and return the answer once they are equal."""
        theirs, ours = self.both(method, request, **fields)
        alike = ours == theirs
        if self.dialect == "postgresql":  # where ml-metadata gives nodes as they happen to lie
            alike = _sorted(ours) == _sorted(theirs)
        assert alike, f"{method} {request or fields}\n{ours}\nis not\n{theirs}"
        return ours


@contextmanager
def selects(database: Database) -> Iterator[list[str]]:
    """Note the SELECTs that a database gets, by SQLAlchemy and past it."""
    seen: list[str] = []
    run, run_waiting = Outbox._run, Outbox._run_waiting

    def note(*args: Any) -> None:
        if args[2].startswith("SELECT"):
            seen.append(args[2])

    def note_and_run(self: Outbox, statement: Any) -> None:
        seen.extend([statement.sql] if statement.sql.startswith("SELECT") else [])
        run(self, statement)

    def note_and_run_waiting(self: Outbox) -> None:
        seen.extend(each.sql for each in self._waiting if each.sql.startswith("SELECT"))
        run_waiting(self)

    engine, _ = database._opened()
    event.listen(engine, "before_cursor_execute", note)
    try:
        with patch.multiple(Outbox, _run=note_and_run, _run_waiting=note_and_run_waiting):
            yield seen
    finally:
        event.remove(engine, "before_cursor_execute", note)


def _sorted(answer: Any) -> Any:
    if isinstance(answer, tuple):
        return answer
    return {
        field.name: sorted(value, key=lambda node: node.id) if isinstance(value, MutableSequence) else value
        for field, value in answer.ListFields()
    }


def ask(service: Any, method: str, request: Any) -> Any:
    """Return the response to a request, or its refusal as (code, text)."""
    answer = response_class(method)()
    try:
        answer.ParseFromString(service.forward(method, request.SerializeToString()))
    except Refusal as refusal:
        return refusal.code, refusal.text
    return answer


@contextmanager
def same_data(place: Place, fill: Callable[[NativeService, str], object]) -> Iterator[SameData]:
    """Fill an empty place through ml-metadata; open it with both.

    On SQLite each has a file of its own, one the copy of the other: two SQLite libraries are at work.
    """
    native = NativeService(place.config, location="native")
    fill(native, BACKSLASH if place.dialect != "postgresql" else "/")
    native.close()
    if place.dialect == "sqlite":
        path = Path(place.config.sqlite.filename_uri)
        twin = path.with_suffix(".copy")
        shutil.copyfile(path, twin)
        place = sqlite_place(twin)
    database = Database(place.engine, location="ours", learn=learn)
    with native, SqlService(database) as sql:
        yield SameData(place.dialect, native, sql, database)


@contextmanager
def new_place(request: Any, dialect: str, directory: Path) -> Iterator[Place]:
    """Make an empty database of one kind, for a whole module of tests."""
    if dialect == "sqlite":
        yield sqlite_place(directory / "same.sqlite")
        return
    server: MariaDb | PostgreSql = request.getfixturevalue("mariadb" if dialect == "mysql" else dialect)
    name = server.new_database()
    yield server_place(server.url(name))
    server.drop_database(name)


def fill(service: NativeService, backslash: str) -> None:
    """Write some of everything: two runs of a pipeline, and what else a getter can tell apart."""
    types = _put_types(service)
    contexts = _put_contexts(service, types, backslash)
    executions = []
    artifacts: list[int] = []
    for number in range(12):
        request = rpc.PutExecutionRequest()
        execution = request.execution
        execution.type_id = types["Trainer" if number % 3 else "Importer"]
        if number % 2:
            execution.name = f"step {number}"
        if number != 4:
            execution.last_known_state = number % 7
        if number % 4 == 1:
            execution.external_id = f"execution-{number}"
        _set(execution, number, backslash)
        for kept in artifacts[-2:]:
            pair = request.artifact_event_pairs.add()
            pair.event.artifact_id = kept
            pair.event.type = mlmd.Event.DECLARED_INPUT if number % 5 == 0 else mlmd.Event.INPUT
            pair.event.path.steps.add(key="rows")
            pair.event.path.steps.add(index=number)
            pair.event.milliseconds_since_epoch = 1000 + number
        for made in range(number % 3):
            request.artifact_event_pairs.add().CopyFrom(_output(types, number, made, backslash))
        for name in ("pipeline", f"run {number % 2}"):
            request.contexts.add(
                id=contexts[name], type_id=types["run" if "run" in name else "pipeline"], name=name
            )
        response = service.call("PutExecution", request)
        executions.append(response.execution_id)
        artifacts += [each for each in response.artifact_ids if each not in artifacts]
    _put_strays(service, types, contexts)


def _put_types(service: NativeService) -> dict[str, int]:
    properties = {"i": mlmd.INT, "s": mlmd.STRING, "d": mlmd.DOUBLE, "b": mlmd.BOOLEAN}
    properties |= {"t": mlmd.STRUCT, "p": mlmd.PROTO}
    request = rpc.PutTypesRequest()
    request.artifact_types.add(name="Model", properties=properties)
    request.artifact_types.add(name="Model", version="2", description="the next", external_id="model-2")
    request.artifact_types.add(name="Table", base_type=mlmd.ArtifactType.DATASET)
    request.execution_types.add(name="Trainer", properties=properties, base_type=mlmd.ExecutionType.TRAIN)
    request.execution_types.add(name="Importer", properties=properties)
    request.context_types.add(name="pipeline", properties=properties)
    request.context_types.add(name="run", properties=properties)
    request.context_types.add(name="nobody")
    response = service.call("PutTypes", request)
    names = ("Model", "Model 2", "Table")
    return {
        **dict(zip(names, response.artifact_type_ids, strict=True)),
        **dict(zip(("Trainer", "Importer"), response.execution_type_ids, strict=True)),
        **dict(zip(("pipeline", "run", "nobody"), response.context_type_ids, strict=True)),
    }


def _put_contexts(service: NativeService, types: dict[str, int], backslash: str) -> dict[str, int]:
    request = rpc.PutContextsRequest()
    names = (
        "pipeline",
        "run 0",
        "run 1",
        "empty",
        "Ünder_score",
        "100%",
        f"back{backslash}slash",
        "it's",
        'say "hi"',
    )
    for number, name in enumerate(names):
        context = request.contexts.add(name=name, type_id=types["run" if "run" in name else "pipeline"])
        _set(context, number, backslash)
        if number % 2:
            context.external_id = f"context-{number}"
    ids = dict(zip(names, service.call("PutContexts", request).context_ids, strict=True))
    links = rpc.PutParentContextsRequest()
    for child, parent in (("run 1", "pipeline"), ("run 0", "pipeline"), ("run 0", "empty"), ("it's", "100%")):
        links.parent_contexts.add(child_id=ids[child], parent_id=ids[parent])
    service.call("PutParentContexts", links)
    return ids


def _output(
    types: dict[str, int], number: int, made: int, backslash: str
) -> rpc.PutExecutionRequest.ArtifactAndEvent:
    pair = rpc.PutExecutionRequest.ArtifactAndEvent()
    artifact = pair.artifact
    artifact.type_id = types[("Model", "Table", "Model 2")[(number + made) % 3]]
    artifact.uri = ("s3://bucket/a_b", "s3://bucket/A_B", "", "file:///tmp/ü%20x")[(number + made) % 4]
    if made:
        artifact.name = f"model {number}"
        artifact.external_id = f"artifact-{number}"
    if number % 4:
        artifact.state = number % 5
    if artifact.type_id == types["Model"]:
        _set(artifact, number, backslash)
    else:
        artifact.custom_properties["i"].int_value = number
    pair.event.type = mlmd.Event.OUTPUT
    pair.event.path.steps.add(key="model")
    pair.event.milliseconds_since_epoch = 2000 + number
    return pair


def _set(node: Any, number: int, backslash: str) -> None:
    """Give a node properties of all kinds."""
    node.properties["i"].int_value = number
    node.properties["d"].double_value = number / 4
    if number % 2:
        node.properties["s"].string_value = f"text {number}"
        node.properties["b"].bool_value = number % 4 == 1
    else:
        node.properties["t"].struct_value["list"] = [number, "x", None, {"deep": True}]
        node.properties["p"].proto_value.Pack(mlmd.Value(int_value=number))
    node.custom_properties["i"].int_value = -number
    node.custom_properties["a b"].string_value = "" if number == 3 else f'100% _ it\'s {backslash} "ü"'
    node.custom_properties["a.b:c-d"].double_value = number * 0.125
    node.custom_properties["int_value"].bool_value = bool(number % 3)
    node.custom_properties["none"].struct_value.SetInParent()


def _put_strays(service: NativeService, types: dict[str, int], contexts: dict[str, int]) -> None:
    """Write nodes that no other is linked with, and an artifact that only a context knows."""
    request = rpc.PutArtifactsRequest()
    request.artifacts.add(type_id=types["Table"], uri="s3://nobody", state=mlmd.Artifact.LIVE)
    request.artifacts.add(type_id=types["Table"], uri="s3://nobody", name="Ünder_score")
    stray, named = service.call("PutArtifacts", request).artifact_ids
    links = rpc.PutAttributionsAndAssociationsRequest()
    links.attributions.add(artifact_id=named, context_id=contexts["it's"])
    service.call("PutAttributionsAndAssociations", links)
    service.call(
        "PutExecutions", rpc.PutExecutionsRequest(executions=[mlmd.Execution(type_id=types["Importer"])])
    )
    assert stray < named
