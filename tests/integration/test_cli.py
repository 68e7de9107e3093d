"""The command line: what each command prints, in each form, and how it ends."""

from __future__ import annotations

import contextlib
import csv
import fcntl
import hashlib
import io
import json
import math
import os
import pty
import re
import shlex
import shutil
import signal
import socket
import struct
import subprocess
import sys
import termios
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any, NamedTuple

import click
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

import zen_mlmd as zm
from tests.services.grpc_server import GrpcServer
from zen_mlmd.cli import artifacts as artifact_commands
from zen_mlmd.cli import flavors as flavor_commands
from zen_mlmd.cli import lineage as lineage_commands
from zen_mlmd.cli import runs as run_commands
from zen_mlmd.cli.main import COMMANDS, LazyGroup, cli, main
from zen_mlmd.cli.output import plain, text_of, to_csv, to_json, to_yaml, took
from zen_mlmd.cli.safe import safe, safe_lines
from zen_mlmd.flavors import FLAVORS, SqliteConfig, config_from_url
from zen_mlmd.lineage.graph import LineageGraph
from zen_mlmd.lineage.text import DEPTH, draw_tree
from zen_mlmd.model import Artifact, Event, EventType, Slot, Status, StepRun

ROOT = Path(__file__).resolve().parents[2]
FORMS = ("table", "json", "csv", "yaml")
HOSTILE = "\x1b[31m[red]\n\u202e\x9b2J"
HEAVY = {"pydantic", "rich", "ml_metadata", "google.protobuf", "grpc", "yaml", "pymysql", "sqlite3", "fsspec"}


class Ended(NamedTuple):
    code: int
    out: str
    err: str

    @property
    def data(self) -> Any:
        assert (self.code, self.err) == (0, "")
        return json.loads(self.out)

    @property
    def rows(self) -> list[dict[str, str]]:
        assert (self.code, self.err) == (0, "")
        return list(csv.DictReader(io.StringIO(self.out)))


Command = Callable[..., Ended]


@pytest.fixture(autouse=True)
def _no_active_store(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("ZEN_MLMD_STORE", raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "home"))


@pytest.fixture
def zen(capsys: pytest.CaptureFixture[str]) -> Command:
    """Runs a command in this process, through `main`."""

    def run(*args: object) -> Ended:
        capsys.readouterr()
        code = main([str(each) for each in args])
        return Ended(code, *capsys.readouterr())

    return run


@pytest.fixture(scope="module")
def db(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two runs of `churn`, and one of `other` that failed, with all kinds of values."""
    path = tmp_path_factory.mktemp("store") / "metadata.db"
    with zm.open_store(path) as store:
        raw = store.import_artifact("s3://raw", type="Examples")
        for name, depth in (("one", 3), ("two", 4)):
            with store.record_run("churn", name=name, parameters={"depth": depth}) as run:
                with run.step("load", inputs={"raw": raw}) as step:
                    rows = step.log_output("rows", uri=f"s3://rows-{name}", type="Dataset")
                    seed = step.log_output("seed", uri=f"s3://seed-{name}", type="Dataset")
                with run.step(
                    "train", inputs={"rows": rows, "seed": seed}, parameters={"depth": depth}
                ) as step:
                    values = {"auc": 0.9, "nan": math.nan, "bytes": b"\0\xff", "pair": (1, 2)}
                    model = step.log_output(
                        "model", uri=f"s3://model-{name}", type="Model", properties=values
                    )
                    step.log_metrics({"loss": depth / 10})
                with run.step("test", inputs={"model": model, "rows": rows}) as step:
                    step.log_output("score", uri=f"s3://score-{name}", type="Metrics")
        with (
            pytest.raises(RuntimeError),
            store.record_run("other", name="a/b") as run,
            run.step("break"),
        ):
            raise RuntimeError("no\x1b[31m memory")
    return path


@pytest.fixture(scope="module")
def store(db: Path) -> Iterator[zm.Store]:
    """The same store, through the API."""
    with zm.open_store(SqliteConfig(path=str(db), read_only=True)) as opened:
        yield opened


def environment(**more: str) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), **more}


def run_process(*args: object, cwd: Path = ROOT, **more: str) -> Ended:
    command = [sys.executable, "-m", "zen_mlmd", *map(str, args)]
    done = subprocess.run(
        command, env=environment(**more), cwd=cwd, capture_output=True, text=True, check=False, timeout=120
    )
    return Ended(done.returncode, done.stdout, done.stderr)


def run_on_terminal(*args: object, columns: int = 80) -> str:
    """Return what a terminal is sent, its line ends as newlines."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
    plain_environment = {
        name: value
        for name, value in environment(TERM="xterm-256color").items()
        if name not in ("NO_COLOR", "COLUMNS", "LINES")
    }
    command = [sys.executable, "-m", "zen_mlmd", *map(str, args)]
    process = subprocess.Popen(command, env=plain_environment, cwd=ROOT, stdout=theirs, stderr=theirs)
    os.close(theirs)
    sent = b""
    with contextlib.suppress(OSError):  # how Linux tells that the other end was closed
        while True:
            sent += os.read(ours, 65536)
    os.close(ours)
    assert process.wait(timeout=60) == 0, sent
    return sent.decode().replace("\r\n", "\n")


# --- start-up -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "args",
    ["--help", "-h", "--version", "runs --help", "runs list --help", "lineage --help", "quickstart --help"],
)
def test_help_imports_nothing_of_weight(args: str) -> None:
    code = (
        "import sys\n"
        "from zen_mlmd.cli.main import main\n"
        f"code = main({args.split()!r})\n"
        f"print(sorted(set(sys.modules) & {HEAVY!r}), file=sys.stderr)\n"
        "print(sorted(each for each in sys.modules if each.startswith('zen_mlmd')), file=sys.stderr)\n"
        "sys.exit(code)"
    )
    bare = {name: value for name, value in environment().items() if "COV" not in name}  # it imports sqlite3
    done = subprocess.run([sys.executable, "-c", code], env=bare, capture_output=True, text=True, check=False)
    heavy, ours = done.stderr.splitlines()
    assert (done.returncode, heavy) == (0, "[]")
    assert done.stdout
    if " " not in args:
        in_cli = [f"zen_mlmd.cli.{name}" for name in ("main", "options", "safe")]
        assert ours == repr(["zen_mlmd", "zen_mlmd._version", "zen_mlmd.cli", *in_cli, "zen_mlmd.errors"])


def test_the_listed_help_is_what_the_commands_say_of_themselves() -> None:
    assert isinstance(cli, LazyGroup)
    with click.Context(cli) as context:
        listed = cli.list_commands(context)
        found = {name: cli.get_command(context, name) for name in listed}
    assert listed == list(COMMANDS)
    for name, command in found.items():
        assert command is not None
        assert command.name == name
        assert command.get_short_help_str(200) == COMMANDS[name][1]


def test_help_lists_every_command_in_order(zen: Command) -> None:
    ended = zen("--help")
    listed = re.findall(r"^  ([a-z-]+)  ", ended.out.partition("Commands:")[2], re.MULTILINE)
    assert (ended.code, listed) == (0, list(COMMANDS))


def test_the_module_runs_as_the_command() -> None:
    assert run_process("--version") == Ended(0, f"zen-mlmd {zm.__version__}\n", "")


# --- lists ----------------------------------------------------------------------------------------


def test_lists_have_the_fields_of_the_views(store: zm.Store) -> None:
    run = store.get_run("one")
    expected = [
        (store.pipelines["churn"].to_dict(), run_commands.PIPELINE_FIELDS),
        (run.to_dict(), run_commands.RUN_FIELDS),
        (run["train"].to_dict(), run_commands.STEP_FIELDS),
        (store.get_artifact(1).to_dict(), artifact_commands.ARTIFACT_FIELDS),
        (run.diff(store.get_run("two")).to_dicts()[0], run_commands.CHANGE_FIELDS),
        (next(lineage_commands._edges(store.get_artifact(5).upstream())), lineage_commands.EDGE_FIELDS),
    ]
    for row, fields in expected:
        assert tuple(row) == tuple(fields)


@pytest.mark.parametrize("what", ["pipelines", "runs", "artifacts"])
def test_each_form_of_a_list_holds_what_the_api_returns(
    zen: Command, db: Path, store: zm.Store, what: str
) -> None:
    views: Any = getattr(store, f"list_{what}")()
    expected = plain(views.to_dicts())
    assert zen(what, "list", "--store", db, "-o", "json").data == expected
    assert yaml.safe_load(zen(what, "list", "--store", db, "-o", "yaml").out) == expected
    rows = zen(what, "list", "--store", db, "-o", "csv").rows
    assert [row["id"] for row in rows] == [str(view["id"]) for view in expected]
    assert list(rows[0]) == list(expected[0])
    table = zen(what, "list", "--store", db).out.splitlines()
    assert len(table) == len(expected) + 1
    assert not any(line.endswith(" ") for line in table)


def test_runs_are_listed_as_a_plain_table(zen: Command, db: Path) -> None:
    lines = zen("runs", "list", "--store", db).out.splitlines()
    assert re.fullmatch(r"pipeline  name  status     started \(UTC\) {10}took", lines[0])
    time = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d"
    assert re.fullmatch(rf"other     a/b   failed     {time}  0\.\d\d s", lines[1])
    assert re.fullmatch(rf"churn     two   completed  {time}  0\.\d\d s", lines[2])


def test_runs_are_chosen_by_pipeline_filter_and_limit(zen: Command, db: Path) -> None:
    def names(*args: str) -> list[str]:
        return [
            run["name"] for run in json.loads(zen("runs", "list", "--store", db, "-o", "json", *args).out)
        ]

    assert names() == ["a/b", "two", "one"]
    assert names("--pipeline", "churn") == ["two", "one"]
    assert names("--where", "parameters.depth > 3") == ["two"]
    assert names("--limit", "1") == ["a/b"]
    assert names("--where", "status = completed", "--limit", "1") == ["two"]


def test_artifacts_are_chosen_by_type_filter_and_limit(zen: Command, db: Path) -> None:
    def uris(*args: str) -> list[str]:
        listed = zen("artifacts", "list", "--store", db, "-o", "json", *args)
        return [each["uri"] for each in json.loads(listed.out)]

    assert uris("--type", "Model") == ["s3://model-two", "s3://model-one"]
    assert uris("--where", "properties.auc > 0.5 and uri like '%one'") == ["s3://model-one"]
    assert uris("--limit", "2") == ["s3://score-two", "s3://model-two"]


def test_pipelines_are_chosen_by_filter_and_limit(zen: Command, db: Path) -> None:
    listed = zen("pipelines", "list", "--store", db, "-o", "json", "--where", "name = other").data
    assert [each["name"] for each in listed] == ["other"]
    assert len(json.loads(zen("pipelines", "list", "--store", db, "-o", "json", "--limit", 1).out)) == 1


@pytest.mark.parametrize("form", FORMS)
def test_a_list_that_was_cut_says_so_beside_the_output(zen: Command, db: Path, form: str) -> None:
    note = "these are the first 1, and there are more: --limit shows them\n"
    for what, count in (("runs", 3), ("artifacts", 9), ("pipelines", 2)):
        cut = zen(what, "list", "--store", db, "--limit", 1, "-o", form)
        assert (cut.code, cut.err) == (0, note)
        whole = zen(what, "list", "--store", db, "--limit", count, "-o", form)
        assert (whole.code, whole.err) == (0, "")
        if form == "json":
            assert (len(json.loads(cut.out)), len(json.loads(whole.out))) == (1, count)


def test_an_empty_list_is_still_in_its_form(zen: Command, db: Path) -> None:
    none = ("--store", db, "--where", "name = nobody")
    assert zen("runs", "list", *none) == Ended(0, "", "there are none\n")
    assert zen("runs", "list", *none, "-o", "json").out == "[]\n"
    assert zen("runs", "list", *none, "-o", "yaml").out == "[]\n"
    assert zen("runs", "list", *none, "-o", "csv").out == ",".join(run_commands.RUN_FIELDS) + "\n"


def test_values_without_a_form_in_json_are_text(zen: Command, db: Path) -> None:
    properties = zen("artifacts", "show", "churn/one/train/model", "--store", db, "-o", "json").data[
        "properties"
    ]
    assert properties == {"auc": 0.9, "nan": "nan", "bytes": r"b'\x00\xff'", "pair": [1, 2]}


def test_times_are_iso_8601_in_utc(zen: Command, db: Path, store: zm.Store) -> None:
    listed = zen("runs", "list", "--store", db, "-o", "json").data[0]
    assert datetime.fromisoformat(listed["started_at"]) == store.get_run("a/b").started_at
    assert listed["started_at"].endswith("+00:00")


# --- one run --------------------------------------------------------------------------------------


@pytest.mark.parametrize("which", ["two", "churn/two", "churn/latest"])
def test_a_run_is_shown_by_its_name_or_path(zen: Command, db: Path, store: zm.Store, which: str) -> None:
    run = store.get_run("two")
    shown = zen("runs", "show", which, "--store", db, "-o", "json").data
    assert {name: shown[name] for name in run.to_dict()} == plain(run.to_dict())
    assert shown["steps"] == plain(run.step_runs.to_dicts())
    assert shown["environment"] == plain(run.environment)
    assert yaml.safe_load(zen("runs", "show", which, "--store", db, "-o", "yaml").out) == shown
    rows = zen("runs", "show", which, "--store", db, "-o", "csv").rows
    assert [(row["name"], row["status"]) for row in rows] == [
        ("load", "completed"),
        ("train", "completed"),
        ("test", "completed"),
    ]


def test_a_run_is_shown_as_facts_and_a_table_of_steps(zen: Command, db: Path) -> None:
    facts, _, steps = zen("runs", "show", "two", "--store", db).out.partition("\n\n")
    lines = dict(line.split(maxsplit=1) for line in facts.splitlines())
    assert lines["parameters.depth"] == "4"
    assert lines["started_at"].endswith(" UTC")
    assert lines["duration_s"].endswith(" s")
    assert "failure" not in facts
    header, load, train, test = steps.splitlines()
    assert header.split() == ["id", "name", "status", "took", "inputs", "outputs"]
    assert re.fullmatch(r" 4  load   completed  \d.\d\d s  raw #1             rows #6, seed #7", load)
    assert "rows #6, seed #7" in train
    assert test.endswith("score #9")


def test_a_name_with_a_slash_is_no_path_and_a_failure_is_told(zen: Command, db: Path) -> None:
    shown = zen("runs", "show", "a/b", "--store", db, "-o", "json").data
    assert (shown["name"], shown["failure"]) == (
        "a/b",
        {"type": "RuntimeError", "message": "no\x1b[31m memory"},
    )
    assert zen("runs", "show", "other/a%2Fb", "--store", db, "-o", "json").data == shown
    assert r"no\x1b[31m memory" in zen("runs", "show", "a/b", "--store", db).out


def test_a_run_without_steps_is_shown(zen: Command, tmp_path: Path) -> None:
    with zm.open_store(tmp_path / "m.db") as store, store.record_run("p", name="r"):
        pass
    ended = zen("runs", "show", "r", "--store", tmp_path / "m.db")
    assert (ended.code, ended.err) == (0, "")
    assert re.search(r"^status +completed$", ended.out, re.MULTILINE)
    assert not ended.out.endswith("\n\n")


def test_two_runs_are_compared(zen: Command, db: Path, store: zm.Store) -> None:
    diff = store.get_run("one").diff(store.get_run("two"))
    assert diff
    args = ("runs", "diff", "one", "churn/latest", "--store", db)
    assert zen(*args, "-o", "json").data == plain(diff.to_dicts())
    assert yaml.safe_load(zen(*args, "-o", "yaml").out) == plain(diff.to_dicts())
    assert len(zen(*args, "-o", "csv").rows) == len(diff.changes)
    table = zen(*args)
    assert table.err == f"one -> two: {len(diff.changes)} changes\n"
    assert len(table.out.splitlines()) == len(diff.changes) + 1
    assert re.search(r"^train +parameter +depth +3 +4$", table.out, re.MULTILINE)


def test_a_run_is_not_other_than_itself(zen: Command, db: Path) -> None:
    assert zen("runs", "diff", "one", "one", "--store", db) == Ended(0, "", "one -> one: no changes\n")
    assert zen("runs", "diff", "one", "one", "--store", db, "-o", "json").data == []


# --- one artifact ---------------------------------------------------------------------------------


def test_an_artifact_is_shown_with_its_producer_and_consumers(
    zen: Command, db: Path, store: zm.Store
) -> None:
    rows = store.get_artifact("churn/one/load/rows")
    expected = plain(rows.to_dict())
    for which in ("churn/one/load/rows", rows.id):
        shown = zen("artifacts", "show", which, "--store", db, "-o", "json").data
        assert {name: shown[name] for name in expected} == expected
        assert shown["path"] == "churn/one/load/rows"
        assert shown["producer"] == {"id": 1, "name": "load", "run": "one", "status": "completed"}
        assert [each["name"] for each in shown["consumers"]] == ["train", "test"]
        assert yaml.safe_load(zen("artifacts", "show", which, "--store", db, "-o", "yaml").out) == shown
    (row,) = zen("artifacts", "show", rows.id, "--store", db, "-o", "csv").rows
    assert json.loads(row["consumers"]) == shown["consumers"]
    assert row["path"] == "churn/one/load/rows"
    lines = zen("artifacts", "show", rows.id, "--store", db).out.splitlines()
    assert [line.split(maxsplit=1)[1] for line in lines if line.startswith("producer")] == [
        "load #1 (completed in one)"
    ]
    assert sum(line.startswith("consumer ") for line in lines) == 2


def test_an_artifact_of_another_writer_is_shown_with_the_runs_of_its_steps(
    zen: Command, tmp_path: Path
) -> None:
    copy = shutil.copy(Path(__file__).parents[1] / "data" / "tfx_1_21_0.db", tmp_path)
    shown = zen("artifacts", "show", 10, "--store", copy, "-o", "json").data
    assert shown["producer"]["run"] == "2026-11-23T03:22:00.214159"
    assert [each["run"][-6:] for each in shown["consumers"]] == ["214159"] * 2 + ["827972"] * 2 + ["320087"]


def test_an_imported_artifact_has_no_producer(zen: Command, db: Path) -> None:
    shown = zen("artifacts", "show", 1, "--store", db, "-o", "json").data
    assert (shown["producer"], shown["path"], len(shown["consumers"])) == (None, "s3://raw", 2)
    assert "producer    none: it was imported" in zen("artifacts", "show", 1, "--store", db).out


def test_an_artifact_of_a_step_without_a_run_has_its_uri_for_a_path(zen: Command, tmp_path: Path) -> None:
    import ml_metadata
    from ml_metadata.proto import metadata_store_pb2 as mlmd

    database = tmp_path / "plain.db"
    plain_store = ml_metadata.MetadataStore(SqliteConfig(path=str(database)).connection_config())
    artifact_type = plain_store.put_artifact_type(mlmd.ArtifactType(name="D"))
    step_type = plain_store.put_execution_type(mlmd.ExecutionType(name="S"))
    event = mlmd.Event(type=mlmd.Event.OUTPUT)
    plain_store.put_execution(
        mlmd.Execution(type_id=step_type), [(mlmd.Artifact(type_id=artifact_type, uri="u:1"), event)], []
    )
    shown = zen("artifacts", "show", 1, "--store", database, "-o", "json").data
    assert (shown["path"], shown["producer"]["id"]) == ("u:1", 1)


@pytest.mark.parametrize("form", FORMS)
def test_why_is_told_in_each_form(zen: Command, db: Path, store: zm.Store, form: str) -> None:
    path = "churn/two/train/model"
    why = store.get_artifact(path).why()
    assert "with depth = 4 (3 in the run before)" in str(why)
    ended = zen("artifacts", "show", path, "--why", "--store", db, "-o", form)
    if form == "table":
        assert ended.out.endswith(f"\n\n{why}\n")
    elif form == "csv":
        assert json.loads(ended.rows[0]["why"]) == plain(why.to_dict())
    else:
        assert yaml.safe_load(ended.out)["why"] == plain(why.to_dict())  # YAML reads JSON too
    assert "why" not in zen("artifacts", "show", path, "--store", db, "-o", form).out


@pytest.mark.parametrize("command", [["artifacts", "show"], ["lineage"]])
def test_an_artifact_is_named_by_its_uri(zen: Command, db: Path, command: list[str]) -> None:
    args = ("--store", db, "-o", "json")
    assert zen(*command, "s3://raw", *args).data == zen(*command, 1, *args).data
    assert "no artifact has the URI" in zen(*command, "s3://nowhere", *args).err


# --- lineage --------------------------------------------------------------------------------------


def test_upstream_is_a_tree_in_which_shared_nodes_are_drawn_once(zen: Command, db: Path) -> None:
    assert zen("lineage", "churn/one/test/score", "--store", db).out == (
        "score  [Metrics #5]\n"
        "└─ test  [step #3, completed in one]\n"
        "   ├─ model  [Model #4]\n"
        "   │  └─ train  [step #2, completed in one]\n"
        "   │     ├─ rows  [Dataset #2]\n"
        "   │     │  └─ load  [step #1, completed in one]\n"
        "   │     │     └─ raw: [Examples #1]\n"
        "   │     └─ seed  [Dataset #3]\n"
        "   │        └─ load  [step #1, completed in one]  (drawn already)\n"
        "   └─ rows  [Dataset #2]  (drawn already)\n"
    )


def test_downstream_is_a_tree_too(zen: Command, db: Path) -> None:
    assert zen("lineage", "2", "--downstream", "--store", db).out == (
        "[Dataset #2]\n"
        "├─ rows: train  [step #2, completed in one]\n"
        "│  └─ model  [Model #4]\n"
        "│     └─ test  [step #3, completed in one]\n"
        "│        └─ score  [Metrics #5]\n"
        "└─ rows: test  [step #3, completed in one]  (drawn already)\n"
    )


def test_each_form_of_lineage_is_the_graphs_own(zen: Command, db: Path, store: zm.Store) -> None:
    graph = store.get_artifact("churn/two/test/score").upstream()
    args = ("lineage", "churn/two/test/score", "--upstream", "--store", db, "--format")
    assert zen(*args, "mermaid").out == graph.to_mermaid()
    assert zen(*args, "dot").out == graph.to_dot()
    assert zen(*args, "svg").out.rstrip("\n") == graph.to_svg().rstrip("\n")
    assert zen(*args, "json").data == json.loads(graph.to_json())
    assert yaml.safe_load(zen(*args, "yaml").out) == json.loads(graph.to_json())
    rows = zen(*args, "csv").rows
    assert {(row["from_id"], row["to_id"], row["slots"]) for row in rows} == {
        (str(edge.source.id), str(edge.target.id), edge.event.slots[0].name) for edge in graph.edges()
    }
    assert len(zen(*args, "table").out.splitlines()) == len(rows) + 1
    assert zen(*args[:-1], "-o", "dot").out == graph.to_dot()


def test_a_bound_cuts_lineage_and_says_so(zen: Command, db: Path) -> None:
    ended = zen("lineage", "churn/one/test/score", "--max-hops", 2, "--store", db)
    assert "model: [Model #4 · cut]\n" in ended.out
    assert "load" not in ended.out
    assert ended.err == "cut at 2 artifacts by --max-hops: there is more\n"
    assert zen("lineage", 5, "--max-hops", 0, "--store", db).out == "[Metrics #5 · cut]\n"


def graph_of(steps: list[tuple[list[int], list[int]]], start: int) -> LineageGraph:
    """A graph of steps, each with the artifacts that it takes and makes."""
    events: list[Event] = []
    producers: dict[int, int] = {}
    for number, (takes, makes) in enumerate(steps, 1):
        events += [Event(each, number, EventType.INPUT, (Slot("x"),), None) for each in takes]
        events += [Event(each, number, EventType.OUTPUT, (Slot("y"),), None) for each in makes]
        for each in makes:
            producers.setdefault(each, number)
    artifacts = {event.artifact_id for event in events} | {start}
    return LineageGraph(
        artifacts={each: Artifact(id=each, type="D", uri="u") for each in sorted(artifacts)},
        steps={
            each: StepRun(id=each, name=f"s{each}", type="t", status=Status.COMPLETED)
            for each in range(1, len(steps) + 1)
        },
        events=events,
        producers=producers,
        start=(start,),
    )


@pytest.mark.parametrize("upstream", [True, False])
def test_a_chain_of_5000_steps_is_drawn_in_lines_of_bounded_width(upstream: bool) -> None:
    chain = graph_of([([n - 1], [n]) for n in range(1, 5001)], start=5000 if upstream else 0)
    lines = list(draw_tree(chain, upstream=upstream))
    nodes = set(re.findall(r"(D #\d+|step #\d+)", "\n".join(lines)))
    assert len(nodes) == 10_001
    assert max(map(len, lines)) < 3 * DEPTH + 50
    going_on = [line for line in lines if line.endswith("(goes on below)")]
    assert len(lines) == 10_001 + 2 * len(going_on)
    assert len(going_on) == 10_000 // DEPTH - 1  # the last tree is as deep as it may be


@given(
    st.lists(
        st.tuples(st.lists(st.integers(0, 8), max_size=3), st.lists(st.integers(0, 8), max_size=3)),
        max_size=12,
    )
)
def test_every_node_that_is_reached_is_drawn_once_in_full(steps: list[tuple[list[int], list[int]]]) -> None:
    graph = graph_of(steps, start=0)
    lines = list(draw_tree(graph, upstream=True))
    in_full = [
        re.search(r"(D|step) #(\d+)", line)
        for line in lines
        if line and not line.endswith("(drawn already)") and not line.endswith("(goes on below)")
    ]
    drawn = {("artifact" if each[1] == "D" else "step", int(each[2])) for each in in_full if each}
    assert drawn == {("artifact", 0), *((node.kind, node.id) for node in graph.ancestors(0))}
    # Only what nothing is drawn below may stand several times.
    again = [each[0] for each in in_full if each]
    with_more = {f"D #{each}" for each in graph.producers}
    assert all(again.count(each) == 1 for each in with_more & set(again))


def test_what_the_cache_gave_again_is_counted_upstream_and_marked_downstream(
    zen: Command, tmp_path: Path
) -> None:
    database = tmp_path / "reuse.db"
    with zm.open_store(database) as store, store.record_run("p", name="r") as run:
        raw = store.import_artifact("s3://raw", type="D")
        with run.step("make", inputs={"raw": raw}) as step:
            made = step.log_output("made", uri="s3://made", type="D")
        for name in ("again", "third"):
            run.reuse_step(name, inputs={"raw": raw}, outputs={"made": made.id})
    up = zen("lineage", made.id, "--store", database).out
    assert up.splitlines()[0] == "made  [D #2]  (found in the cache 2 times)"
    assert "again" not in up
    down = zen("lineage", raw.id, "--downstream", "--store", database).out
    assert "├─ raw: again  [step #2, cached in r]\n│  └─ made  [D #2]  (made by another step)\n" in down


# --- flavors --------------------------------------------------------------------------------------


def test_each_flavor_is_listed_with_a_url_that_means_it(zen: Command) -> None:
    listed = zen("metadata-store", "flavor", "list", "-o", "json").data
    assert [each["flavor"] for each in listed] == list(FLAVORS) == list(flavor_commands.EXAMPLES)
    for each in listed:
        config = FLAVORS[each["flavor"]]
        assert type(config_from_url(each["url"])) is config
        assert each["class"] == f"{config.__module__}.{config.__name__}"
        assert each["description"].endswith(".")
    rows = zen("metadata-store", "flavor", "list", "-o", "csv").rows
    assert rows == listed
    assert yaml.safe_load(zen("metadata-store", "flavor", "list", "-o", "yaml").out) == listed
    assert "mysql://user@host/metadb" in zen("metadata-store", "flavor", "list").out


# --- which store ----------------------------------------------------------------------------------


def test_the_store_may_stand_before_or_after_the_command(zen: Command, db: Path, tmp_path: Path) -> None:
    before = zen("--store", db, "runs", "list", "-o", "json").data
    assert before == zen("runs", "list", "-o", "json", "--store", f"sqlite:///{db}").data
    assert before == zen("--store", tmp_path / "none", "runs", "list", "-o", "json", "--store", db).data


def test_the_active_store_is_read_by_default(zen: Command, db: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZEN_MLMD_STORE", str(db))
    assert len(zen("pipelines", "list", "-o", "json").data) == 2


def test_a_missing_file_is_an_error_and_is_not_made(zen: Command, tmp_path: Path) -> None:
    ended = zen("runs", "list", "--store", tmp_path / "none.db")
    assert (ended.code, ended.out) == (1, "")
    assert ended.err.startswith(f"[ZM206] {tmp_path}/none.db: no such file\n  hint: ")
    assert list(tmp_path.iterdir()) == []
    # The user's own file, too, is made by recording only.
    assert zen("runs", "list").err.startswith("[ZM206]")
    assert [each.name for each in tmp_path.rglob("*") if each.is_file()] == []


def test_an_empty_file_is_not_made_a_store(zen: Command, tmp_path: Path) -> None:
    empty = tmp_path / "empty.db"
    empty.touch()
    assert zen("runs", "list", "--store", empty).code == 1
    assert empty.stat().st_size == 0


def test_a_store_in_memory_is_empty(zen: Command) -> None:
    assert zen("runs", "list", "--store", "sqlite://", "-o", "json").data == []


def test_reading_changes_no_byte(zen: Command, db: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy.db"
    for end in ("", "-wal"):
        if Path(f"{db}{end}").exists():
            shutil.copy(f"{db}{end}", f"{copy}{end}")

    def content() -> dict[str, str]:
        files = (each for each in tmp_path.iterdir() if not each.name.endswith("-shm"))
        return {each.name: hashlib.sha256(each.read_bytes()).hexdigest() for each in files}

    before = content()
    for args in (
        ("runs", "list"),
        ("runs", "show", "two"),
        ("lineage", "5"),
        ("artifacts", "show", "5", "--why"),
    ):
        assert zen(*args, "--store", copy).code == 0
    assert content() == before


_LEAVE_A_JOURNAL = """
import sqlite3, shutil, sys
import zen_mlmd as zm
path, left = sys.argv[1:]
with zm.open_store(zm.SqliteConfig(path=path, journal_mode="delete")) as store:
    store.record_run("p", name="r").__enter__()
database = sqlite3.connect(path)
database.execute("PRAGMA cache_size=2")
database.execute("BEGIN")
names = ((f"t{n}" * 20,) for n in range(3000))
database.executemany("INSERT INTO Type(name, type_kind) VALUES (?, 1)", names)
for end in ("", "-journal"):
    shutil.copy(path + end, left + end)
"""


def test_a_file_that_a_killed_writer_left_is_rolled_back_and_read(zen: Command, tmp_path: Path) -> None:
    left = tmp_path / "left.db"
    arguments = [sys.executable, "-c", _LEAVE_A_JOURNAL, str(tmp_path / "made.db"), str(left)]
    subprocess.run(arguments, env=environment(), check=True)
    assert Path(f"{left}-journal").stat().st_size > 0
    assert [run["name"] for run in zen("runs", "list", "--store", left, "-o", "json").data] == ["r"]


def test_a_grpc_server_is_read_alike(zen: Command, grpc_server: GrpcServer) -> None:
    url = f"kubeflow://{grpc_server.address}"
    with zm.open_store(url) as store, store.record_run("p", name="r") as run, run.step("s") as step:
        step.log_output("o", uri="u:1", type="D")
    assert [each["name"] for each in zen("runs", "list", "--store", url, "-o", "json").data] == ["r"]
    assert zen("lineage", "p/latest/s/o", "--store", url).out.startswith("o  [D #1]\n└─ s  [step #1")


@pytest.mark.mysql
def test_a_mysql_database_is_read_alike(zen: Command, mysql_url: str) -> None:
    with zm.open_store(mysql_url) as store, store.record_run("p", name="r"):
        pass
    assert [each["name"] for each in zen("runs", "list", "--store", mysql_url, "-o", "json").data] == ["r"]


# --- errors ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["runs", "show", "thre"], r"\[ZM110\] no run named 'thre'\n  hint: .+"),
        (["runs", "show", "churn/three"], r"\[ZM110\] no run of 'churn' named 'three'\n  hint: .+"),
        (["runs", "show", "churn/two/train"], r"\[ZM101\] 'churn/two/train' is no run's path\n  hint: .+"),
        (["runs", "diff", "one", "nope"], r"\[ZM110\] .+\n  hint: .+"),
        (["runs", "list", "--pipeline", "chum"], r"\[ZM110\] .+\n  hint: did you mean churn\?"),
        (["runs", "list", "--where", "status ="], r"\[ZM104\] .+\n    status =\n +\^\n  hint: .+"),
        (["artifacts", "show", "999"], r"\[ZM110\] no artifact with id '999'.*"),
        (["artifacts", "show", "churn/two"], r"\[ZM101\] .+\n  hint: .+"),
        (["lineage", "churn/two/train/nope"], r"\[ZM110\] .+\n  hint: .+"),
        (["lineage", "/"], r"\[ZM101\] .+\n  hint: .+"),
        (["pipelines", "list", "--where", "nope = 1"], r"\[ZM104\] .+"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_an_error_of_ours_is_told_in_words_with_exit_code_1(
    zen: Command, db: Path, args: list[str], said: str
) -> None:
    ended = zen(*args, "--store", db)
    assert (ended.code, ended.out) == (1, "")
    assert re.fullmatch(said + "\n", ended.err, re.DOTALL)
    assert "Traceback" not in ended.err


@pytest.mark.parametrize(
    "url", ["ftp://host/x", "", "mysql://user:pw@@h:x/db", "kubeflow://user@host:1", "sqlite://host/x"]
)
def test_a_url_that_means_no_store_is_an_error_without_its_password(zen: Command, url: str) -> None:
    ended = zen("runs", "list", "--store", url)
    assert (ended.code, ended.err[:8]) == (1, "[ZM103] ")
    assert "pw" not in ended.err


def test_a_server_that_is_not_there_is_an_error(zen: Command) -> None:
    with closing(socket.socket()) as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        ended = zen("runs", "list", "--store", f"mysql://root@127.0.0.1:{port}/metadb")
    assert (ended.code, ended.err[:6]) == (1, "[ZM201")


@pytest.mark.parametrize(
    "args",
    [
        ["nope"],
        ["runs", "nope"],
        ["runs", "list", "--nope"],
        ["runs", "list", "--limit", "0"],
        ["runs", "list", "-o", "xml"],
        ["runs", "show"],
        ["lineage", "1", "--max-hops", "-1"],
        ["--store", "x.db", "quickstart"],
    ],
    ids=" ".join,
)
def test_a_call_that_cannot_be_read_ends_with_2(zen: Command, args: list[str]) -> None:
    ended = zen(*args)
    assert (ended.code, ended.out) == (2, "")
    assert ended.err.startswith("Usage: zen-mlmd")


@pytest.mark.parametrize("args", ["runs list", "artifacts list -o json", "lineage 5", "--help"])
def test_an_output_that_cannot_be_written_is_told(db: Path, args: str) -> None:
    command = [
        sys.executable,
        "-m",
        "zen_mlmd",
        *args.split(),
        *([] if "help" in args else ["--store", str(db)]),
    ]
    with Path("/dev/full").open("w") as full:  # what is written there fails
        done = subprocess.run(
            command, env=environment(), stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert (done.returncode, done.stderr) == (1, "the output cannot be written: No space left on device\n")


@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-", "<&- >&- 2>&-"])
def test_a_closed_stream_is_nobodys(db: Path, closed: str) -> None:
    script = f"{shlex.join([sys.executable, '-m', 'zen_mlmd', 'runs', 'list', '--store', str(db)])} {closed}"
    before = hashlib.sha256(db.read_bytes()).hexdigest()
    done = subprocess.run(
        ["sh", "-c", script], env=environment(), capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("pipeline ") is closed.startswith("2")
    assert hashlib.sha256(db.read_bytes()).hexdigest() == before


@pytest.mark.parametrize(
    "error", [ValueError("a bug"), OSError("a bug"), PermissionError(13, "no"), OSError(28, "full", "a file")]
)
def test_another_exception_is_a_bug_and_is_raised(
    zen: Command, db: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(zm.Store, "list_runs", fail)
    with pytest.raises(type(error)):
        zen("runs", "list", "--store", db)


NOT_UTF8 = b"\xff"


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["artifacts", "show", "\u00b2"], "no pipeline named"),
        (["artifacts", "show", "9" * 23], "no artifact with id"),
        (["artifacts", "show", "9" * 5000], "no artifact with id"),
        (["lineage", "\u00b2"], "no pipeline named"),
        (["lineage", "9" * 23], "no artifact with id"),
        (["lineage", NOT_UTF8], "no pipeline named"),
        (["runs", "show", NOT_UTF8], "no run named"),
        (["runs", "diff", NOT_UTF8, "one"], "no run named"),
        (["runs", "list", "--pipeline", NOT_UTF8], "no pipeline named"),
        (["artifacts", "show", b"a/" + NOT_UTF8], "no pipeline named"),
        (["runs", "list", "--where", b"status = " + NOT_UTF8], "is nothing that status can be"),
    ],
    ids=str,
)
def test_an_argument_that_is_no_name_or_number_is_told(db: Path, args: list[Any], said: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "zen_mlmd", *args, "--store", str(db)],
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_a_type_that_is_no_name_has_no_artifacts(zen: Command, db: Path) -> None:
    ended = zen("artifacts", "list", "--type", "\udcff", "--store", db)
    assert (ended.code, ended.err) == (0, "there are none\n")


def test_an_older_schema_is_told_with_a_command(zen: Command, tmp_path: Path) -> None:
    copy = tmp_path / "zenml.db"
    shutil.copyfile(ROOT / "tests" / "data" / "zenml_0132_basic3.db", copy)
    listed = zen("runs", "list", "--store", copy, "-o", "json").data  # by the SQL service, as it is
    assert listed
    ended = zen("runs", "list", "--store", f"sqlite:///{copy}?service=native")
    assert ended.code == 1
    (command,) = re.findall(r"`zen-mlmd ([^`]+)`", ended.err)
    assert zen(*command.split(), copy, "--yes").code == 0
    assert zen("runs", "list", "--store", copy, "-o", "json").data == listed


def test_ctrl_c_ends_quietly_with_130() -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as silent:
        url = f"mysql://root@127.0.0.1:{silent.getsockname()[1]}/metadb?connect_timeout_s=60"
        command = [sys.executable, "-m", "zen_mlmd", "runs", "list", "--store", url]
        process = subprocess.Popen(
            command, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        silent.settimeout(60)
        connection, _ = silent.accept()
        with connection:
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err.strip()) == (130, "", "")


def test_a_closed_pipe_ends_quietly(tmp_path: Path) -> None:
    database = tmp_path / "wide.db"
    with zm.open_store(database) as store, store.record_run("p") as run, run.step("s") as step:
        step.log_output("o", uri="u:" + "x" * 1_000_000, type="D")
    command = [sys.executable, "-m", "zen_mlmd", "artifacts", "list", "--store", str(database)]
    process = subprocess.Popen(
        command, env=environment(PYTHONUNBUFFERED=""), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stderr is not None
    assert process.stdout.read(2) == b"id"
    process.stdout.close()
    assert process.stderr.read() == b""
    process.stderr.close()
    assert process.wait(timeout=60) == 1


# --- what the store holds is shown, and never obeyed ----------------------------------------------


_REPLACE = """
import json, sqlite3, sys
path, new = sys.argv[1], json.loads(sys.argv[2])
database = sqlite3.connect(path)
for (table,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
    for _, column, *_ in database.execute(f"PRAGMA table_info({table})").fetchall():
        for value in (new, json.dumps(new)[1:-1]):
            rows = f"{column} LIKE '%EVIL%' AND {column} {'NOT ' if value is new else ''}LIKE '%{{%'"
            replaced = f"{column} = replace({column}, 'EVIL', ?)"
            database.execute(f"UPDATE {table} SET {replaced} WHERE {rows}", (value,))
database.commit()
"""


@pytest.fixture(scope="module")
def hostile_db(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store in which every name and text is hostile, as another writer can make one."""
    path = tmp_path_factory.mktemp("hostile") / "metadata.db"
    with zm.open_store(path) as store:
        for name in ("EVIL1", "EVIL2"):
            with store.record_run("EVIL", name=name, parameters={"EVILkey": f"EVIL {name}"}) as run:
                with run.step("EVILload", type="EVIL.type") as step:
                    rows = step.log_output("EVILrows", uri="EVIL:rows", type="EVILtype")
                with run.step("EVILtrain", inputs={"EVILin": rows}, parameters={"EVIL": name}) as step:
                    facts = {"EVILkey": "EVIL", "nested": {"EVIL": ["EVIL"]}}
                    step.log_output("EVILmodel", uri="EVIL:model", type="EVILtype", properties=facts)
                    step.log_metrics({"EVIL": 1.5})
        with (
            pytest.raises(RuntimeError),
            store.record_run("EVIL", name="EVIL3") as run,
            run.step("EVILstep"),
        ):
            raise RuntimeError("EVIL")
    arguments = [sys.executable, "-c", _REPLACE, str(path), json.dumps(HOSTILE)]
    subprocess.run(arguments, check=True)
    return path


def hostile_commands() -> list[list[str]]:
    listed = [["pipelines", "list"], ["runs", "list"], ["artifacts", "list"], ["runs", "show", f"{HOSTILE}2"]]
    shown = [["runs", "show", f"{HOSTILE}3"], ["runs", "diff", f"{HOSTILE}1", f"{HOSTILE}2"]]
    commands = [[*each, "-o", form] for each in [*listed, *shown] for form in FORMS]
    commands += [["artifacts", "show", "4", "--why", "-o", form] for form in FORMS]
    return commands + [
        ["lineage", *each, "-o", form]
        for each in (["4"], ["1", "--downstream"])
        for form in ("tree", "table", "json", "yaml", "csv", "mermaid", "dot", "svg")
    ]


@pytest.mark.parametrize("args", hostile_commands(), ids=lambda args: " ".join(map(safe, args)))
def test_nothing_that_a_store_holds_is_an_order_to_the_terminal(
    zen: Command, hostile_db: Path, args: list[str]
) -> None:
    ended = zen(*args, "--store", hostile_db)
    assert ended.code == 0
    assert "red" in ended.out
    assert safe_lines(ended.out + ended.err) == ended.out + ended.err


def test_no_name_forges_a_row_or_is_read_as_markup(zen: Command, hostile_db: Path) -> None:
    table = zen("runs", "list", "--store", hostile_db).out.splitlines()
    assert len(table) == 4
    assert all(safe(HOSTILE) in line for line in table[1:])
    rows = zen("runs", "list", "--store", hostile_db, "-o", "csv")
    assert len(rows.out.splitlines()) == 4
    assert [json.loads(row["name"]) for row in rows.rows] == [f"{HOSTILE}{n}" for n in (3, 2, 1)]
    assert [run["name"] for run in zen("runs", "list", "--store", hostile_db, "-o", "json").data] == [
        f"{HOSTILE}{n}" for n in (3, 2, 1)
    ]


def test_an_error_that_repeats_a_name_is_safe(zen: Command, hostile_db: Path) -> None:
    ended = zen("runs", "show", f"{HOSTILE}9", "--store", hostile_db)
    assert ended.code == 1
    assert safe_lines(ended.err) == ended.err


def test_a_terminal_is_sent_only_our_own_colours(hostile_db: Path) -> None:
    for args in (["runs", "list"], ["runs", "show", f"{HOSTILE}2"], ["artifacts", "show", "4", "--why"]):
        sent = run_on_terminal(*args, "--store", hostile_db, columns=200)
        without = re.sub(r"\x1b\[(0|1|32|31|36)m", "", sent)
        assert safe_lines(without) == without
        assert "[red]" in without
    assert "\x1b[32mcompleted\x1b[0m" in run_on_terminal("runs", "list", "--store", hostile_db)


# --- tables ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "args",
    [
        ["runs", "list"],
        ["artifacts", "list"],
        ["runs", "diff", "one", "two"],
        ["metadata-store", "flavor", "list"],
    ],
    ids=" ".join,
)
def test_a_table_fits_a_terminal_of_80_columns_and_loses_nothing(
    zen: Command, db: Path, args: list[str]
) -> None:
    chosen = [] if "flavor" in args else ["--store", str(db)]
    sent = run_on_terminal(*args, *chosen)
    assert "\x1b[1m" in sent
    assert "─" in sent
    without = re.sub(r"\x1b\[\d+m", "", sent)
    assert max(map(len, without.splitlines())) <= 80
    assert "…" not in without
    piped = zen(*args, *chosen).out
    assert "─" not in piped
    assert "\x1b" not in piped
    if "flavor" not in args:  # whose texts are broken at 80 columns
        assert set(piped.split()) <= set(without.split())


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_narrow_terminal_breaks_names_and_keeps_times_whole(
    db: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdout", terminal := Terminal())
    monkeypatch.setenv("COLUMNS", "56")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("NO_COLOR", "1")
    assert main(["artifacts", "list", "--store", str(db), "--limit", "1"]) == 0
    header, _, *rows = re.sub(r"\x1b\[\d*m", "", terminal.getvalue()).splitlines()
    assert header.split()[:4] == ["id", "type", "created", "(UTC)"]
    assert re.match(r" 9 +Metrics +\d{4}-\d\d-\d\d \d\d:\d\d:\d\d ", rows[0])
    assert "".join(line[-12:].strip() for line in rows).endswith("s3://score-two")


def test_a_terminal_too_narrow_for_a_table_is_sent_each_cell_in_full(db: Path) -> None:
    for columns in (40, 20):
        sent = run_on_terminal("runs", "list", "--store", db, columns=columns)
        lines = sent.splitlines()
        assert lines[0].split() == ["pipeline", "name", "status", "started", "(UTC)", "took"]
        assert [line.split()[:3] for line in lines[1:]] == [
            ["other", "a/b", "failed"],
            ["churn", "two", "completed"],
            ["churn", "one", "completed"],
        ]
    assert "─" in run_on_terminal("runs", "list", "--store", db, columns=60)


def test_no_colour_where_the_user_wants_none(db: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "dumb")
    sent = run_process("runs", "list", "--store", db, FORCE_COLOR="1")
    assert "\x1b" not in sent.out


def test_wide_characters_keep_the_columns(zen: Command, tmp_path: Path) -> None:
    database = tmp_path / "wide.db"
    with zm.open_store(database) as store:
        for name in ("訓練", "ab"):
            with store.record_run("p", name=name):
                pass
    _, ab, wide = zen("runs", "list", "--store", database).out.splitlines()
    assert "ab    completed" in ab
    assert "訓練  completed" in wide


def test_a_terminal_without_unicode_is_shown_escapes(tmp_path: Path) -> None:
    database = tmp_path / "wide.db"
    with zm.open_store(database) as store, store.record_run("p", name="訓練"):
        pass
    ended = run_process("runs", "list", "--store", database, PYTHONIOENCODING="latin-1")
    assert ended.code == 0
    assert r"\u8a13\u7df4" in ended.out


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, ""),
        (0.054, "0.05 s"),
        (59.9, "59.90 s"),
        (61, "1 m 1 s"),
        (3600, "1 h 0 m"),
        (90_000, "25 h 0 m"),
    ],
)
def test_durations_are_short(seconds: float | None, text: str) -> None:
    assert took(seconds) == text


def test_a_time_is_shown_in_utc() -> None:
    zone = timezone(timedelta(hours=2))
    assert text_of(datetime(2026, 11, 23, 1, 30, tzinfo=zone)) == "2026-11-22 23:30:00"


# --- values in each form --------------------------------------------------------------------------


_TEXTS = st.text(alphabet=st.characters(exclude_categories=["Cs"]))
_ATOMS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | _TEXTS
    | st.binary()
    | st.datetimes(timezones=st.just(timezone.utc))
    | st.sampled_from(Status)
)
VALUES = st.recursive(
    _ATOMS,
    lambda inner: (
        st.lists(inner)
        | st.tuples(inner, inner)
        | st.dictionaries(_TEXTS, inner)
        | st.sets(st.integers() | _TEXTS)
    ),
    max_leaves=10,
)


@given(VALUES)
def test_any_value_is_the_same_in_json_and_yaml_and_both_are_ascii(value: object) -> None:
    expected = plain(value)
    as_json, as_yaml = to_json(value), to_yaml([value])
    assert json.loads(as_json) == expected
    assert yaml.safe_load(as_yaml) == [expected]
    assert as_json.isascii()
    assert as_yaml.isascii()
    assert safe_lines(as_json + as_yaml) == as_json + as_yaml


def test_an_integer_of_more_digits_than_python_prints_is_hexadecimal() -> None:
    assert json.loads(to_json({"big": 10**5000})) == {"big": hex(10**5000)}


@given(st.lists(st.fixed_dictionaries({"text": _TEXTS, "any": st.dictionaries(_TEXTS, VALUES)})))
def test_csv_has_a_row_on_each_line_and_reads_back(rows: list[dict[str, Any]]) -> None:
    written = to_csv(rows, ["text", "any"])
    assert len(written.split("\n")) == len(rows) + 2
    assert safe_lines(written) == written
    read = list(csv.DictReader(io.StringIO(written)))
    assert [json.loads(row["any"]) for row in read] == [plain(row["any"]) for row in rows]
    texts = [json.loads(row["text"]) if row["text"].startswith('"') else row["text"] for row in read]
    assert texts == [row["text"] for row in rows]


@given(st.text())
def test_safe_text_is_one_line_that_can_be_printed(text: str) -> None:
    shown = safe(text)
    assert all(char.isprintable() or char == "\u200d" for char in shown)
    shown.encode("utf-8")
    if text.isprintable():
        assert shown == text


def test_a_family_of_emoji_stays_one() -> None:
    assert safe("👩\u200d👧\x07") == "👩\u200d👧\\x07"


# --- quickstart -----------------------------------------------------------------------------------


def test_the_quickstart_shows_a_run_its_lineage_and_why_and_can_be_repeated(tmp_path: Path) -> None:
    first = run_process("quickstart", cwd=tmp_path)
    assert (first.code, first.err) == (0, "")
    assert {each.name for each in tmp_path.iterdir()} == {"zen_mlmd_quickstart"}
    assert {"metadata.db", "artifacts"} <= {
        each.name for each in (tmp_path / "zen_mlmd_quickstart").iterdir()
    }
    runs = re.split(r"^Run .*\n", first.out, flags=re.MULTILINE)
    assert len(runs) == 3
    assert [re.findall(r"completed|cached", each.partition("\n\n")[0]) for each in runs[1:]] == [
        ["completed"] * 4,
        ["cached", "cached", "completed", "completed"],
    ]
    assert re.search(r"^model  \[Model #\d+\]\n└─ train  \[step", first.out, re.MULTILINE)
    assert "with rounds = 500 (50 in the run before)" in first.out
    second = run_process("quickstart", cwd=tmp_path)
    assert (second.code, second.err) == (0, "")
    runs = re.split(r"^Run .*\n", second.out, flags=re.MULTILINE)
    assert [re.findall(r"completed|cached", each.partition("\n\n")[0]) for each in runs[1:]] == [
        ["cached"] * 4,
        ["cached"] * 4,
    ]


@pytest.mark.parametrize("how", ["by its name", "by its path", "as a module"])
def test_the_quickstart_ends_with_a_command_that_works_as_it_stands(tmp_path: Path, how: str) -> None:
    program = Path(sys.executable).with_name("zen-mlmd")
    called = [sys.executable, "-m", "zen_mlmd"] if how == "as a module" else [str(program)]
    path = f"{program.parent if how == 'by its name' else ''}:/usr/bin:/bin".lstrip(":")
    shell = {**environment(), "PATH": path}
    done = subprocess.run(
        [*called, "quickstart", "--folder", "a b/50% off? #1"],
        env=shell,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    *_, title, command = done.stdout.splitlines()
    assert title == "Now try:"
    assert command.split()[0] == {"by its name": "zen-mlmd", "by its path": str(program)}.get(
        how, sys.executable
    )
    tried = subprocess.run(
        command, shell=True, env=shell, cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert (tried.returncode, tried.stderr) == (0, "")
    assert "evaluate" in tried.stdout


def test_what_the_quickstart_recorded_is_real(zen: Command, tmp_path: Path) -> None:
    assert zen("quickstart", "--folder", tmp_path / "q").code == 0
    with zm.open_store(tmp_path / "q" / "metadata.db") as store:
        model = store.get_artifact("quickstart/latest/train/model")
        assert model.type == "Model"
        value = model.read()
        assert {**value, "rounds": 500} == dict(model.properties)
        assert value["slope"] == pytest.approx(3, abs=0.2)
        model.verify()
        old, new = store.pipelines["quickstart"].runs[1], store.pipelines["quickstart"].runs[0]
        assert new["evaluate"].metrics["error"] < old["evaluate"].metrics["error"]


def test_a_folder_that_cannot_be_made_is_an_error(zen: Command, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    ended = zen("quickstart", "--folder", tmp_path / "file")
    assert ended.code == 1
    assert ended.err.startswith(f"[ZM101] {tmp_path}/file: cannot be made: ")
