"""Views of artifacts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, ClassVar

from zen_mlmd.errors import PayloadChangedError, PayloadMissingError
from zen_mlmd.lineage.export import printable
from zen_mlmd.lineage.graph import Direction, LineageGraph
from zen_mlmd.lineage.walk import Bounds, walk
from zen_mlmd.lineage.why import Explanation, explain
from zen_mlmd.loader import Loader
from zen_mlmd.model import ARTIFACT_STATES, INPUT_EVENTS, Artifact
from zen_mlmd.reading.cohort import RunContents
from zen_mlmd.reading.conditions import KEYS, MOMENT, NUMBER, TEXT, Field
from zen_mlmd.reading.listing import ViewList
from zen_mlmd.reading.paths import quote_slot
from zen_mlmd.reading.view import RecordView
from zen_mlmd.service.client import Client

if TYPE_CHECKING:
    from zen_mlmd.reading.steps import StepView


class ArtifactView(RecordView[Artifact]):
    """One artifact, with the questions one asks of it."""

    FIELDS: ClassVar[Mapping[str, Field]] = {
        "id": NUMBER,
        "type": TEXT,
        "base_type": TEXT,
        "uri": TEXT,
        "name": TEXT,
        "state": Field("text", ARTIFACT_STATES),
        "created_at": MOMENT,
        "size_bytes": NUMBER,
        "data_type": TEXT,
        "content_hash": TEXT,
        "properties": KEYS,
        "custom_properties": KEYS,
        "metrics": KEYS,
    }
    COLUMNS: ClassVar[Sequence[str]] = (
        "id",
        "type",
        "uri",
        "state",
        "created_at",
        "size_bytes",
        "content_hash",
        "data_type",
    )

    def __init__(
        self,
        record: Artifact,
        loader: Loader,
        *,
        step: StepView | None = None,
        taken: bool = False,
        contents: RunContents | None = None,
    ) -> None:
        super().__init__(record, loader)
        self._step = step
        self._taken = taken
        self._contents = contents

    def __repr__(self) -> str:
        return f"<{printable(self.type)} {self.id}>"

    @property
    def client(self) -> Client:
        """Asks the store that it was read from."""
        return self._loader.client

    @property
    def type(self) -> str:
        """The artifact type's name."""
        return self.record.type

    @property
    def base_type(self) -> str:
        """MLMD's own type that its type is one of, `mlmd.Model`; empty if it is of none."""
        return self.record.base_type

    @property
    def state(self) -> str:
        """MLMD's artifact state in lower case: live, pending, deleted, ..."""
        return self.record.state

    @property
    def data_type(self) -> str:
        """The Python type that was written, `module.Name`; empty if not recorded."""
        return self.record.data_type

    @property
    def uri(self) -> str:
        """Where its payload is."""
        return self.record.uri

    @property
    def properties(self) -> Mapping[str, Any]:
        """Its properties, declared and custom."""
        return self.record.properties

    @property
    def metrics(self) -> Mapping[str, float]:
        """Name to number, of an artifact that is metrics (`system.Metrics`); empty of any other."""
        return self.record.metrics

    @property
    def created_at(self) -> datetime | None:
        """When it was recorded."""
        return self.record.created_at

    @property
    def parent_step_id(self) -> int | None:
        """The id of the step that put it into the run where it was found: made it, or took it from the cache.

        Of an input that came from elsewhere it is the step that made it. None if it was found by itself.
        """
        if self._step is None:
            return None
        if not self._taken:
            return self._step.id
        emitter = self._step.emitter_id(self.id)
        if emitter is not None:
            return emitter
        producer = self.producer_step
        return None if producer is None else producer.id

    @property
    def producer_step(self) -> StepView | None:
        """The step that made it: the earliest that was not cached; None for what was imported."""
        if self._contents is not None:
            found = self._contents.makers.get(self._contents.producers.get(self.id, 0))
        else:
            producer = self._loader.producers(self._loader.events_of_artifacts([self.id])).get(self.id, 0)
            found = self._loader.steps([producer]).get(producer) if producer else None
        if found is None:
            return None
        from zen_mlmd.reading.steps import StepView

        return StepView(found, self._loader) if self._step is None else self._step.beside(found)

    @property
    def is_cached(self) -> bool:
        """Whether the run where it was found took it from the cache, rather than made it."""
        producer, parent = self.producer_step, self.parent_step_id
        return producer is not None and parent is not None and producer.id != parent

    @property
    def consumers(self) -> ViewList[StepView]:
        """The steps that took it, oldest first; groups of steps are left out."""
        events = self._loader.events_of_artifacts([self.id])
        ids = sorted({event.step_id for event in events if event.type in INPUT_EVENTS})
        from zen_mlmd.reading.steps import StepView

        found = self._loader.steps(ids)
        steps = (found[each] for each in ids if each in found and not found[each].kind.is_group)
        near: list[Any] = []
        return ViewList((StepView(each, self._loader, near=near) for each in steps), StepView)

    @property
    def path(self) -> str:
        """`pipeline/run/step/output` of the step that made it; its URI if no step of a run did."""
        producer = self.producer_step
        if producer is not None and producer.has_run:
            for name, found in producer.list_outputs(include_logs=True).lists.items():
                for place, artifact in enumerate(found):
                    if artifact.id == self.id:
                        slot = quote_slot(name, place if len(found) > 1 else None)
                        return f"{producer.path}/{slot}"
        return self.uri

    def read(self, *, allow_pickle: bool = False) -> Any:
        """Return the value that was recorded.

        Args:
            allow_pickle: Read a pickle too. Unpickling runs code from the store: allow it only where you
                trust everyone who could write there.

        Raises:
            PayloadError: One of its kinds: missing, damaged, a pickle, or nothing can read it.
        """
        from zen_mlmd.payloads import read_payload

        return read_payload(
            self.uri,
            self.record.materializer,
            self.record.data_type,
            allow_pickle=allow_pickle or self._loader.trusted,
        )

    def verify(self) -> None:
        """Check that the payload is there and is what was recorded.

        Raises:
            PayloadMissingError: Nothing lies at the URI.
            PayloadChangedError: Something else lies there, or no hash was recorded.
        """
        from zen_mlmd.payloads import payload_hash

        if not self.record.content_hash:
            raise PayloadChangedError(
                f"artifact {self.id}: no content hash was recorded, so nothing can be checked",
                hint="give content_hash= to log_output; @step does so by itself",
            )
        found = payload_hash(self.uri)
        if found.content_hash != self.record.content_hash:
            raise PayloadChangedError(
                f"artifact {self.id}: what lies at {printable(self.uri)} is not what was recorded",
                hint="restore it from a backup, or run its step again",
            )

    def is_intact(self) -> bool:
        """Tell whether the payload is there and is what was recorded."""
        try:
            self.verify()
        except (PayloadMissingError, PayloadChangedError):
            return False
        return True

    def upstream(self, **bounds: Any) -> LineageGraph:
        """Return everything it came from, at any depth; `bounds` are those of `lineage.Bounds`."""
        return self._walk("upstream", bounds)

    def downstream(self, **bounds: Any) -> LineageGraph:
        """Return everything made from it, at any depth; `bounds` are those of `lineage.Bounds`."""
        return self._walk("downstream", bounds)

    def why(self) -> Explanation:
        """Say what made it, from what, and what was other than the time before."""
        return explain(self._loader, self.record)

    def to_dict(self) -> dict[str, Any]:
        """Return the artifact as plain values."""
        record = self.record
        return {
            "id": record.id,
            "type": record.type,
            "uri": record.uri,
            "state": record.state,
            "created_at": record.created_at,
            "size_bytes": record.size_bytes,
            "content_hash": record.content_hash,
            "data_type": record.data_type,
            "properties": dict(record.properties),
        }

    def _walk(self, direction: Direction, bounds: dict[str, Any]) -> LineageGraph:
        return walk(self._loader, [self.id], direction, Bounds(**bounds))
