"""Views of pipelines."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, ClassVar

from zen_mlmd.errors import NotFoundError
from zen_mlmd.lineage.export import printable
from zen_mlmd.loader import Loader
from zen_mlmd.model import Pipeline, Status
from zen_mlmd.reading.conditions import MOMENT, NUMBER, TEXT, Field
from zen_mlmd.reading.listing import name_of, not_found
from zen_mlmd.reading.runs import PipelineRunView, Runs
from zen_mlmd.reading.view import RecordView


class PipelineView(RecordView[Pipeline]):
    """One pipeline, with the questions one asks of it."""

    FIELDS: ClassVar[Mapping[str, Field]] = {"id": NUMBER, "name": TEXT, "created_at": MOMENT}
    COLUMNS: ClassVar[Sequence[str]] = ("id", "name", "created_at")

    def __repr__(self) -> str:
        return f"<Pipeline {printable(self.name)}>"

    @property
    def runs(self) -> Runs:
        """Its runs, newest first."""
        return Runs(self._loader, self.name)

    @property
    def run_names(self) -> list[str]:
        """The names of its runs, newest first."""
        return [run.name for run in self.runs]

    @property
    def latest_run(self) -> PipelineRunView:
        """Its newest run.

        Raises:
            NotFoundError: It has none.
        """
        return self._first(lambda _: True, "run")

    @property
    def latest_completed_run(self) -> PipelineRunView:
        """Its newest run that completed.

        Raises:
            NotFoundError: It has none.
        """
        return self._first(lambda run: run.status is Status.COMPLETED, "completed run")

    def get_run(self, name: str) -> PipelineRunView:
        """Return a run by name; `latest` is the newest.

        Raises:
            NotFoundError: It has no such run.
        """
        if name == "latest" and name not in self.runs:
            return self.latest_run
        return self.runs[name]

    def get_run_for_completed_step(self, step: str) -> PipelineRunView:
        """Return the newest run in which a step was run to its end, rather than found in the cache.

        Raises:
            NotFoundError: There is none.
        """

        def made(run: PipelineRunView) -> bool:
            return step in run.steps and run.steps[step].status is Status.COMPLETED

        return self._first(made, f"run with a completed step {step!r}")

    def to_dict(self) -> dict[str, Any]:
        """Return the pipeline as plain values."""
        return {"id": self.id, "name": self.name, "created_at": self.record.created_at}

    def _first(self, wanted: Callable[[PipelineRunView], bool], what: str) -> PipelineRunView:
        for run in self.runs:
            if wanted(run):
                return PipelineRunView.together([run], self._loader)[0]
        raise NotFoundError(f"pipeline {self.name!r} has no {what}", hint="run it, or look at .run_names")


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
        found = self._loader.find_pipeline(name_of("pipeline", name))
        if found is None:
            raise not_found("pipeline named", name, [each.name for each in self._all()])
        return PipelineView(found, self._loader)

    def __repr__(self) -> str:
        return f"<Pipelines {', '.join(printable(each.name) for each in self._all()[:10])}>"

    def _all(self) -> list[Pipeline]:
        return self._loader.pipelines()
