"""A store: record into it, read from it, ask for lineage."""

from __future__ import annotations

import operator
import types
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from typing_extensions import Self

from zen_mlmd.errors import NotFoundError, UsageError
from zen_mlmd.flavors import StoreConfig, config_from_url
from zen_mlmd.lineage.graph import Direction, LineageGraph
from zen_mlmd.lineage.walk import Bounds, walk
from zen_mlmd.loader import Loader
from zen_mlmd.model import Artifact, Flaw
from zen_mlmd.reading.artifacts import ArtifactView
from zen_mlmd.reading.listing import ViewList, name_of, not_found, select
from zen_mlmd.reading.paths import split_path, unquote_part
from zen_mlmd.reading.pipelines import Pipelines, PipelineView
from zen_mlmd.reading.runs import PipelineRunView, Runs
from zen_mlmd.reading.steps import StepView
from zen_mlmd.recording.recorder import Recorder, RunRecorder
from zen_mlmd.service.client import Client

_MAX_ID = 2**63 - 1
_SHOWN = 10  # ids in an error


def open_store(
    where: str | Path | StoreConfig | None = None, *, create: bool = False, upgrade: bool = False
) -> Store:
    """Open a metadata store.

    Args:
        where: The name of a registered store, a URL (`sqlite:///metadata.db`, `mysql://user@host/metadb`,
            `kubeflow://host:8080`), the path of an SQLite file, or a flavor's config. By default that of
            the active stack.
        create: Make a MySQL database that is not there yet, or MLMD's tables beside others in it.
            A missing SQLite file is made in any case.
        upgrade: Let ml-metadata migrate an older schema, in place and for ever.

    Raises:
        ConfigError: `where` means no store.
        ConnectionFailedError: One of its kinds, each with a remedy.
    """
    config = config_of(where)
    return Store(config, Client(config.open_service(create=create, upgrade=upgrade), wait_s=config.wait_s))


def config_of(where: str | Path | StoreConfig | None) -> StoreConfig:
    """Return the config that `open_store` opens.

    Raises:
        ConfigError: `where` means no store.
    """
    from zen_mlmd.stack import active_config, config_named

    if isinstance(where, StoreConfig):
        return where
    if where is None:
        return active_config()
    return config_named(where) if isinstance(where, str) else config_from_url(where)


class Store:
    """One metadata store, open; safe over threads and after fork.

    Attributes:
        config: How it was opened.
        loader: Reads records, without views.
    """

    def __init__(self, config: StoreConfig, client: Client) -> None:
        self.config = config
        self.loader = Loader(client, trusted=config.trusted)
        self._recorder = Recorder(client)

    def __repr__(self) -> str:
        return f"<Store {self.config.flavor} {self.config.location}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: types.TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Give the connection back; a later call opens it again."""
        self.loader.client.close()

    def connection_config(self) -> Any:
        """Return MLMD's own connection config, which `tfx.dsl.Pipeline` and `ml_metadata` take.

        It holds the password in clear, as MLMD wants it, and no token, for which MLMD's client has no place.
        `zen_mlmd.tfx.connection_config(store)` refuses what that client could not use.
        """
        return self.config.connection_config()

    # -- recording -------------------------------------------------------------------------------

    def record_run(
        self,
        pipeline: str,
        *,
        name: str | None = None,
        parameters: Mapping[str, Any] | None = None,
        properties: Mapping[str, Any] | None = None,
        plan: Mapping[str, Iterable[str]] | None = None,
        stack: Mapping[str, Any] | None = None,
    ) -> RunRecorder:
        """Record that a run of a pipeline has begun; see `Recorder.begin_run`."""
        return self._recorder.begin_run(
            pipeline, name=name, parameters=parameters, properties=properties, plan=plan, stack=stack
        )

    def join_run(self, name: str) -> RunRecorder:
        """Record more of a run that was begun elsewhere; see `Recorder.join_run`.

        Raises:
            NotFoundError: There is no run of that name.
        """
        return self._recorder.join_run(self.get_run(name).record)

    def import_artifact(self, uri: str, **facts: Any) -> ArtifactView:
        """Record something that exists already, by its URI; see `Recorder.import_artifact`."""
        return self._artifact(self._recorder.import_artifact(uri, **facts))

    # -- reading ---------------------------------------------------------------------------------

    @property
    def pipelines(self) -> Pipelines:
        """All pipelines, oldest first; `store.pipelines["churn"]` is one."""
        return Pipelines(self.loader)

    @property
    def runs(self) -> Runs:
        """All runs of all pipelines, newest first; `store.runs["monday"]` is one."""
        return Runs(self.loader)

    @property
    def artifacts(self) -> Iterator[ArtifactView]:
        """All artifacts, newest first, read in pages."""
        return (self._artifact(each) for page in self.loader.newest_artifacts() for each in page)

    def list_pipelines(self, where: str | None = None, *, limit: int | None = None) -> ViewList[PipelineView]:
        """Return the pipelines that a filter matches, oldest first.

        Raises:
            FilterSyntaxError: The filter cannot be read.
        """
        return select(self.pipelines, where, limit, PipelineView)

    def list_runs(
        self, where: str | None = None, *, pipeline: str | None = None, limit: int | None = None
    ) -> ViewList[PipelineRunView]:
        """Return the runs that a filter matches, newest first: those that began last.

        Args:
            where: `status = failed and started_at > 2026-11-01 and parameters.depth in (3, 4)`, say.
            pipeline: Only this pipeline's.
            limit: How many at most.

        Raises:
            FilterSyntaxError: The filter cannot be read.
            NotFoundError: There is no such pipeline.
        """
        runs = self.runs if pipeline is None else self.pipelines[pipeline].runs
        return runs.where(where, limit=limit)

    def list_artifacts(
        self,
        where: str | None = None,
        *,
        type: str | None = None,
        limit: int | None = None,
    ) -> ViewList[ArtifactView]:
        """Return the artifacts that a filter matches, newest first.

        Args:
            where: `properties.auc > 0.9`, say.
            type: Only artifacts of this type.
            limit: How many at most.

        Raises:
            FilterSyntaxError: The filter cannot be read.
        """
        pages = self.loader.newest_artifacts(type)
        return select((self._artifact(each) for page in pages for each in page), where, limit, ArtifactView)

    def warnings(self) -> Iterator[Flaw]:
        """Yield what is wrong with the rows of all runs, and of what belongs to none.

        Everything is read, in pages; of the steps of runs the ids are kept meanwhile.
        """
        seen: set[int] = set()
        for run in self.runs:
            yield from run.warnings
            seen.update(step.id for step in run.contents().steps)
        for steps in self.loader.newest_steps():
            for step in steps:
                if step.id not in seen:
                    yield Flaw(f"step {step.id}", "it belongs to no run")
                    yield from (Flaw(f"step {step.id}", each) for each in step.warnings)

    def get_run(self, name: str) -> PipelineRunView:
        """Return a run by its name.

        Raises:
            NotFoundError: There is none.
            UsageError: The name is no text.
        """
        return self.runs[name_of("run", name)]

    def get_step(self, step_id: int) -> StepView:
        """Return a step run by its id.

        Raises:
            NotFoundError: There is none.
            UsageError: The id is no whole number.
        """
        known = _known_id("step", step_id)
        found = self.loader.steps([known]).get(known) if known else None
        if found is None:
            raise not_found("step with id", step_id, ())
        return StepView(found, self.loader)

    def get_artifact(self, which: int | str) -> ArtifactView:
        """Return an artifact by its id, by a path such as `churn/latest/train/output`, or by its URI.

        Raises:
            NotFoundError: There is none.
            UsageError: The path names something else, or several artifacts have this URI.
        """
        if not isinstance(which, str) or (which.isascii() and which.isdigit()):
            known = _known_id("artifact", _number(which) if isinstance(which, str) else which)
            found = self.loader.artifacts([known]).get(known) if known else None
            if found is None:
                raise not_found("artifact with id", which, ())
            return self._artifact(found)
        named = self.get(which)
        if isinstance(named, StepView):
            return named.output
        if not isinstance(named, ArtifactView):
            raise UsageError(
                f"{which!r} is no artifact's path",
                hint="pipeline/run/step/output, as churn/latest/train/output",
            )
        return named

    def artifacts_at(self, uri: str) -> ViewList[ArtifactView]:
        """Return the artifacts with exactly this URI, oldest first."""
        return ViewList(map(self._artifact, self.loader.artifacts_at(uri)), ArtifactView)

    def get(self, path: str) -> PipelineView | PipelineRunView | StepView | ArtifactView:
        """Return what a path names: `pipeline[/run[/step[/output]]]`, or the artifact at a URI.

        The run may be `latest`. `zen_mlmd.reading.paths` says how slashes, earlier attempts of a step and
        lists of artifacts are written.

        Raises:
            NotFoundError: There is nothing of that name.
            UsageError: The path has no part; or several artifacts have this URI.
        """
        if "://" not in name_of("thing in a store", path):
            try:
                return self._named(split_path(path))
            except (NotFoundError, UsageError):
                if not self.loader.artifacts_at(path):
                    raise
        found = self.artifacts_at(path)
        if len(found) > 1:
            ids = ", ".join(str(each.id) for each in found[-_SHOWN:])
            raise UsageError(
                f"{len(found)} artifacts have the URI {path!r}",
                hint=f"give the id of one; the newest are {ids}",
            )
        if not found:
            raise NotFoundError(
                f"no artifact has the URI {path!r}", hint="zen-mlmd artifacts list shows URIs"
            )
        return found[0]

    def lineage(
        self, artifacts: Iterable[int | ArtifactView], direction: Direction, **bounds: Any
    ) -> LineageGraph:
        """Return everything upstream or downstream of several artifacts, as one graph.

        Raises:
            NotFoundError: An id is no artifact's.
            UsageError: Something is no artifact of this store, or a bound makes no sense.
        """
        start = [self._start(each) for each in artifacts]
        missing = set(start) - self.loader.artifacts(sorted(set(start))).keys()
        if missing:
            raise not_found("artifact with id", ", ".join(map(str, sorted(missing))), ())
        return walk(self.loader, start, direction, Bounds(**bounds))

    def _named(self, parts: list[str]) -> PipelineView | PipelineRunView | StepView | ArtifactView:
        if not parts:
            raise UsageError("a path has one part at least", hint="pipeline/run/step/output")
        name = unquote_part(parts[0])
        if len(parts) == 1:
            return self.pipelines[name]
        # A run that another writer linked to no pipeline is of the pipeline ``.
        run_name = unquote_part(parts[1])
        run = self.pipelines[name].get_run(run_name) if name else Runs(self.loader, "")[run_name]
        if len(parts) == 2:  # noqa: PLR2004
            return run
        try:
            return run.get_step_at(*parts[2:])
        except NotFoundError:
            if len(parts) == 3:  # noqa: PLR2004
                raise
        return run.get_step_at(*parts[2:-1]).get_output_at(parts[-1])

    def _start(self, artifact: object) -> int:
        """Return the id of an artifact that is one of this store, as far as it says where it is from."""
        if getattr(artifact, "origin", self.loader.origin) != self.loader.origin:
            raise UsageError(
                f"{artifact!r} is of another store, whose ids mean other things here",
                hint="find it here: store.artifacts_at(artifact.uri)",
            )
        # An artifact of any kind has a URI: a view, a record, the output of a step that was recorded.
        return _known_id("artifact", artifact.id if hasattr(artifact, "uri") else artifact)  # type: ignore[attr-defined]

    def _artifact(self, record: Artifact) -> ArtifactView:
        return ArtifactView(record, self.loader)


def _number(digits: str) -> int:
    # int() refuses thousands of digits, and no id has more than 19.
    return int(digits) if len(digits) < 20 else 0  # noqa: PLR2004


def _known_id(what: str, given: object) -> int:
    """Return an id as the store may hold it; 0, which none has, for one that is out of its range.

    Raises:
        UsageError: It is no whole number.
    """
    try:
        number = 0 if isinstance(given, bool) else operator.index(given)  # type: ignore[arg-type]
    except TypeError:
        raise UsageError(
            f"the id of a {what} is a whole number, not a {type(given).__qualname__}",
            hint="store.get(path) takes a path: pipeline/run/step/output",
        ) from None
    return number if 0 < number <= _MAX_ID else 0
