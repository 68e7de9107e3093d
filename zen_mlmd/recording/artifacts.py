"""The artifacts that are given to a step: which they are, and whether they lie in this store."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol, TypeAlias, runtime_checkable

from ml_metadata.proto import metadata_store_pb2 as mlmd
from ml_metadata.proto import metadata_store_service_pb2 as rpc

from zen_mlmd.dialects import base
from zen_mlmd.errors import NotFoundError, UsageError
from zen_mlmd.model import Slot, from_millis
from zen_mlmd.recording.given import check_name
from zen_mlmd.service.client import Client


@runtime_checkable
class HasId(Protocol):
    """An artifact of any kind: a record, a view, an output of a step that has ended."""

    @property
    def id(self) -> int:
        """The artifact's id in the store."""
        ...


ArtifactLike: TypeAlias = HasId | int
Given: TypeAlias = Mapping[str, ArtifactLike | Sequence[ArtifactLike]]


class Taken(NamedTuple):
    """An artifact in its place at a step."""

    slot: Slot
    id: int
    artifact: ArtifactLike


_KNOWN = 10_000
"""So many artifacts are remembered to lie in the store."""


def taken_of(given: Given) -> list[Taken]:
    """Return artifacts that are given by name, one by one.

    Raises:
        UsageError: Something given is no artifact, or a name no text.
        InvalidValueError: A name is blank, or not printable.
    """
    if not isinstance(given, Mapping):
        raise UsageError(
            f"artifacts are given by name, not as {type(given).__qualname__}", hint="write {'rows': artifact}"
        )
    taken = []
    for name, value in given.items():
        check_name("an input or output", name)
        single = not isinstance(value, Sequence) or isinstance(value, (str, bytes))
        many: Iterable[Any] = [value] if single else value  # type: ignore[assignment]
        taken += [Taken(Slot(name, index), id_of(each, name), each) for index, each in enumerate(many)]
    return taken


def slots_of(taken: Iterable[Taken]) -> dict[int, list[Slot]]:
    """Return the slots that each artifact takes, by artifact id."""
    slots: dict[int, list[Slot]] = {}
    for slot, artifact_id, _ in taken:
        slots.setdefault(artifact_id, []).append(slot)
    return slots


def id_of(artifact: ArtifactLike, name: str) -> int:
    """Return an artifact's id.

    Raises:
        UsageError: It is no artifact, or of a step that has not ended.
    """
    found = artifact if isinstance(artifact, int) else getattr(artifact, "id", None)
    if not isinstance(found, int) or isinstance(found, bool) or not 0 < found < 2**63:
        raise UsageError(
            f"input {name!r}: a {type(artifact).__qualname__} is not an artifact of a store",
            hint="give an artifact, its id, or import_artifact(uri)",
        )
    return found


def add_events(request: rpc.PutExecutionRequest, slots: Mapping[int, Iterable[Slot]], kind: Any) -> None:
    """Add an event for each artifact to a request; MLMD keeps one for an artifact, however many slots."""
    for artifact_id, taken in slots.items():
        event = request.artifact_event_pairs.add().event
        event.artifact_id, event.type = artifact_id, kind
        base.write_path(event.path, list(taken))


def require_here(client: Client, step: str, taken: Iterable[Taken]) -> None:
    """Refuse artifacts that do not lie in the store: MLMD takes an event with one that is not there.

    What comes from this very store, as its `client` tells, is not asked for; nor is what was seen before.

    Raises:
        NotFoundError: There is no artifact of that id.
        UsageError: It is another one: what was given comes from another store.
    """
    known = client.remembered("artifacts")
    unknown: dict[int, list[ArtifactLike]] = {}
    for _, number, artifact in taken:
        its_client = getattr(artifact, "client", None)
        uri = known.get(number) if its_client is None else None
        if its_client is not client and (uri is None or not _has(artifact, "uri", uri)):
            unknown.setdefault(number, []).append(artifact)
    if not unknown:
        return
    found = client.artifacts(sorted(unknown))
    missing = sorted(unknown.keys() - found.keys())
    if missing:
        raise NotFoundError(
            f"step {step!r}: no artifact {', '.join(map(str, missing))} in {client.location}",
            hint="ids are a store's own; store.artifacts_at(uri) finds artifacts by URI",
        )
    for number, artifacts in unknown.items():
        node = found[number]
        if not all(_is(node, client.type_of("artifact", node.type_id).name, each) for each in artifacts):
            raise UsageError(
                f"step {step!r}: artifact {number} comes from another store than {client.location}",
                hint="record it here too: store.import_artifact(artifact.uri)",
            )
        remember(client, number, node.uri)


def remember(client: Client, artifact_id: int, uri: str) -> None:
    """Note that an artifact lies in the store."""
    known = client.remembered("artifacts")
    if len(known) >= _KNOWN:
        known.clear()
    known[artifact_id] = uri


def _is(node: mlmd.Artifact, type_name: str, artifact: ArtifactLike) -> bool:
    """Tell whether an artifact is the one of its id in the store, as far as it says what it is."""
    made_at = from_millis(node.create_time_since_epoch)
    return (
        _has(artifact, "uri", node.uri)
        and _has(artifact, "type", type_name)
        and (getattr(artifact, "created_at", None) or made_at) == made_at
    )


def _has(artifact: ArtifactLike, name: str, value: str) -> bool:
    return bool(getattr(artifact, name, value) == value)
