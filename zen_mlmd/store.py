"""A store: record into it, read from it, ask for lineage."""

from __future__ import annotations

import types
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from typing_extensions import Self

from zen_mlmd.errors import UsageError
from zen_mlmd.flavors import StoreConfig, config_from_url
from zen_mlmd.lineage.graph import Direction, LineageGraph
from zen_mlmd.lineage.walk import Bounds, walk
from zen_mlmd.loader import Loader
from zen_mlmd.model import Artifact, Pipeline
from zen_mlmd.reading.artifacts import ARTIFACT_NAMES, ArtifactView
from zen_mlmd.reading.cohort import Cohort
from zen_mlmd.reading.listing import ViewList, not_found, select
from zen_mlmd.reading.paths import split_path
from zen_mlmd.reading.runs import RUN_NAMES, PipelineRunView, PipelineView
from zen_mlmd.reading.steps import StepView
from zen_mlmd.recording.recorder import Recorder, RunRecorder
from zen_mlmd.service.client import Client

_PIPELINE_NAMES = frozenset(["id", "name", "created_at"])


def open_store(
    where: str | Path | StoreConfig | None = None, *, create: bool = False, upgrade: bool = False
) -> Store:
    """Open a metadata store.

    Args:
        where: A URL (`sqlite:///metadata.db`, `mysql://user@host/metadb`, `kubeflow://host:8080`), the path
            of an SQLite file, or a flavor's config. By default the active store: `ZEN_MLMD_STORE`, or
            an SQLite file of this user's.
        create: Make a MySQL database that is not there yet, or MLMD's tables beside others in it.
            A missing SQLite file is made in any case.
        upgrade: Let ml-metadata migrate an older schema, in place and for ever.

    Raises:
        ConfigError: `where` means no store.
        ConnectionFailedError: One of its kinds, each with a remedy.
    """
    if where is None:
        from zen_mlmd.stack import active_store

        where = active_store()
    config = where if isinstance(where, StoreConfig) else config_from_url(where)
    return Store(config, Client(config.open_service(create=create, upgrade=upgrade), wait_s=config.wait_s))


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

        It holds the password in clear, as MLMD wants it.
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
    ) -> RunRecorder:
        """Record that a run of a pipeline has begun; see `Recorder.begin_run`."""
        return self._recorder.begin_run(
            pipeline, name=name, parameters=parameters, properties=properties, plan=plan
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
    def runs(self) -> Iterator[PipelineRunView]:
        """All runs of all pipelines, newest first, read in pages."""
        return self._runs()

    @property
    def artifacts(self) -> Iterator[ArtifactView]:
        """All artifacts, newest first, read in pages."""
        return (self._artifact(each) for page in self.loader.newest_artifacts() for each in page)

    def list_pipelines(self, where: str | None = None, *, limit: int | None = None) -> ViewList[PipelineView]:
        """Return the pipelines that a filter matches, oldest first.

        Raises:
            FilterSyntaxError: The filter cannot be read.
        """
        return select(self.pipelines, where, limit, _PIPELINE_NAMES)

    def list_runs(
        self, where: str | None = None, *, pipeline: str | None = None, limit: int | None = None
    ) -> ViewList[PipelineRunView]:
        """Return the runs that a filter matches, newest first.

        Args:
            where: `status = failed and started_at > 2026-11-01 and parameters.depth in (3, 4)`, say.
            pipeline: Only this pipeline's.
            limit: How many at most.

        Raises:
            FilterSyntaxError: The filter cannot be read.
            NotFoundError: There is no such pipeline.
        """
        runs = self._runs() if pipeline is None else iter(self.pipelines[pipeline].runs)
        return select(runs, where, limit, RUN_NAMES)

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
        return select((self._artifact(each) for page in pages for each in page), where, limit, ARTIFACT_NAMES)

    def get_run(self, name: str) -> PipelineRunView:
        """Return a run by its name.

        Raises:
            NotFoundError: There is none.
        """
        found = self.loader.find_run(name)
        if found is None:
            raise not_found("run named", name, (run.name for run in self.list_runs(limit=50)))
        return PipelineRunView.alone(found, self.loader)

    def get_step(self, step_id: int) -> StepView:
        """Return a step run by its id.

        Raises:
            NotFoundError: There is none.
        """
        found = self.loader.steps([step_id]).get(step_id)
        if found is None:
            raise not_found("step with id", step_id, ())
        return StepView(found, self.loader)

    def get_artifact(self, which: int | str) -> ArtifactView:
        """Return an artifact by its id, or by a path such as `churn/latest/train/output`.

        Raises:
            NotFoundError: There is none.
            UsageError: The path names something else.
        """
        if isinstance(which, int) or which.isdigit():
            found = self.loader.artifacts([int(which)]).get(int(which))
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
        return ViewList(self._artifact(each) for each in self.loader.artifacts_at(uri))

    def get(self, path: str) -> PipelineView | PipelineRunView | StepView | ArtifactView:
        """Return what a path names: `pipeline[/run[/step[/output]]]`; the run may be `latest`.

        A slash in a name is written `%2F`.

        Raises:
            NotFoundError: There is nothing of that name.
            UsageError: The path has no part, or more than four.
        """
        parts = split_path(path)
        if not 1 <= len(parts) <= 4:  # noqa: PLR2004
            raise UsageError(
                f"a path has one to four parts, not {len(parts)}", hint="pipeline/run/step/output"
            )
        pipeline = self.pipelines[parts[0]]
        if len(parts) == 1:
            return pipeline
        run = pipeline.get_run(parts[1])
        if len(parts) == 2:  # noqa: PLR2004
            return run
        step = run.get_step(parts[2])
        return step if len(parts) == 3 else step.outputs[parts[3]]  # noqa: PLR2004

    def lineage(
        self, artifacts: Iterable[int | ArtifactView], direction: Direction, **bounds: Any
    ) -> LineageGraph:
        """Return everything upstream or downstream of several artifacts, as one graph."""
        start = [each if isinstance(each, int) else each.id for each in artifacts]
        return walk(self.loader, start, direction, Bounds(**bounds))

    def _runs(self) -> Iterator[PipelineRunView]:
        for page in self.loader.newest_runs():
            cohort = Cohort(self.loader, page)
            for run in page:
                yield PipelineRunView(run, cohort)

    def _artifact(self, record: Artifact) -> ArtifactView:
        return ArtifactView(record, self.loader)


class Pipelines:
    """A store's pipelines, oldest first; `pipelines["churn"]` is one of them."""

    def __init__(self, loader: Loader) -> None:
        self._loader = loader

    def __iter__(self) -> Iterator[PipelineView]:
        return (PipelineView(each, self._loader) for each in self._all())

    def __len__(self) -> int:
        return len(self._all())

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and self._loader.find_pipeline(name) is not None

    def __getitem__(self, name: str) -> PipelineView:
        found = self._loader.find_pipeline(name)
        if found is None:
            raise not_found("pipeline named", name, [each.name for each in self._all()])
        return PipelineView(found, self._loader)

    def __repr__(self) -> str:
        return f"<Pipelines {', '.join(each.name for each in self._all()[:10])}>"

    def _all(self) -> list[Pipeline]:
        return self._loader.pipelines()
