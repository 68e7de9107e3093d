"""What ties nodes together is written: events, attributions, associations, parents of contexts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final

import sqlalchemy as sa
from ml_metadata.proto import metadata_store_pb2 as mlmd
from ml_metadata.proto import metadata_store_service_pb2 as rpc

from zen_mlmd.service.base import ALREADY_EXISTS, INVALID_ARGUMENT, Refusal
from zen_mlmd.service.sql.batch import Batch
from zen_mlmd.service.sql.schema import Schema, id_column
from zen_mlmd.service.sql.session import Session, among

_LINKS: Final = {"Artifact": "Attribution", "Execution": "Association"}


class EventWriter(Batch):
    """The events that a request makes, with their paths."""

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        self._events: list[Any] = []

    def put(self, event: Any) -> None:
        """Take an event in.

        Raises:
            Refusal: It has no artifact, execution or type.
        """
        _check_event(event)
        self._events.append(event)

    def write(self) -> None:
        """See `Batch`."""
        events, self._events = self._events, []
        which = str(events[0]) if len(events) == 1 else f"one of {len(events)}"
        refusal = Refusal(ALREADY_EXISTS, f"Given event already exists: {which}")
        self._session.insert_events(
            [(each.artifact_id, each.execution_id, each.type, self._time(each)) for each in events],
            [list(_steps(each.path.steps)) for each in events],
            on_duplicate=lambda: refusal,
        )

    def _time(self, event: Any) -> int:
        given: int = event.milliseconds_since_epoch
        return given if event.HasField("milliseconds_since_epoch") else self._session.now_ms


def _check_event(event: Any) -> None:
    for name in ("artifact", "execution"):
        if not event.HasField(f"{name}_id"):
            raise Refusal(INVALID_ARGUMENT, f"No {name} id is specified.")
    if event.type == mlmd.Event.UNKNOWN:
        raise Refusal(INVALID_ARGUMENT, "No event type is specified.")


def _steps(steps: Iterable[Any]) -> Iterator[tuple[bool, int | None, str | None]]:
    for step in steps:
        held = step.WhichOneof("value")
        if held == "index":
            yield (True, step.index, None)
        elif held == "key":
            yield (False, None, step.key)


def write_links(session: Session, node: str, pairs: Iterable[tuple[int, int]]) -> None:
    """Tie contexts to artifacts or executions, those that are not tied yet.

    Args:
        session: The transaction.
        node: Artifact or Execution.
        pairs: A context's id, and the node's.
    """
    rows = list(dict.fromkeys(pairs))
    session.insert(_LINKS[node], ("context_id", id_column(node)), rows, skip_known=True)


def existing(session: Session, kind: str, ids: Iterable[int]) -> set[int]:
    """Return which nodes there are; nobody deletes them before this transaction has ended."""
    wanted = list(dict.fromkeys(ids))
    statement = session.schema.made(_existing, kind)
    return {row[0] for row in session.rows_of_ids(statement, wanted)} if wanted else set()


def _existing(schema: Schema, kind: str) -> sa.Select[Any]:
    number = schema.table(kind).c.id
    return sa.select(number).where(among(number)).with_for_update(read=True, key_share=True)


def _put_events(session: Session, request: Any) -> Any:
    events = request.events
    known = {
        "artifact": existing(session, "Artifact", (event.artifact_id for event in events)),
        "execution": existing(session, "Execution", (event.execution_id for event in events)),
    }
    with EventWriter(session) as writer:
        for event in events:
            _check_event(event)
            for name, ids in known.items():
                number = getattr(event, f"{name}_id")
                if number not in ids:
                    raise Refusal(INVALID_ARGUMENT, f"No {name} with the given id {number}")
            writer.put(event)
    return rpc.PutEventsResponse()


def _put_attributions_and_associations(session: Session, request: Any) -> Any:
    pairs = {
        "Artifact": [(each.context_id, each.artifact_id) for each in request.attributions],
        "Execution": [(each.context_id, each.execution_id) for each in request.associations],
    }
    contexts = existing(session, "Context", (pair[0] for of_kind in pairs.values() for pair in of_kind))
    for node, of_kind in pairs.items():
        known = existing(session, node, (pair[1] for pair in of_kind))
        for context_id, node_id in of_kind:
            if context_id not in contexts:
                raise Refusal(INVALID_ARGUMENT, "Context id not found.")
            if node_id not in known:
                raise Refusal(INVALID_ARGUMENT, f"{node} id not found.")
    for node, of_kind in pairs.items():
        write_links(session, node, of_kind)
    return rpc.PutAttributionsAndAssociationsResponse()


def _put_parent_contexts(session: Session, request: Any) -> Any:
    links = request.parent_contexts
    ids = {number for link in links for number in (link.parent_id, link.child_id)}
    # Who makes a link the other way round has to wait, and then meets this one.
    session.lock_table("ParentContext")
    known = {row[0] for row in session.rows_of_ids(session.schema.made(_locked_contexts), sorted(ids))}
    parents = _ancestry(session, ids)
    rows = []
    for link in links:
        parent, child = link.parent_id, link.child_id
        if not link.HasField("parent_id") or not link.HasField("child_id"):
            text = f"Missing parent / child id in the parent_context: {link}"
            raise Refusal(INVALID_ARGUMENT, text)
        if parent == child or not {parent, child} <= known:
            text = f"Given parent / child id in the parent_context cannot be found: {link}"
            raise Refusal(INVALID_ARGUMENT, text)
        if child in _above(parent, parents):
            raise Refusal(INVALID_ARGUMENT, "There is a cycle detected of the given relationship.")
        if parent in parents.setdefault(child, set()):
            raise Refusal(ALREADY_EXISTS, f"Given parent_context already exists: {link}")
        parents[child].add(parent)
        rows.append((child, parent))
    taken = Refusal(ALREADY_EXISTS, "Given parent_context already exists")
    session.insert("ParentContext", ("context_id", "parent_context_id"), rows, on_duplicate=lambda: taken)
    return rpc.PutParentContextsResponse()


def _locked_contexts(schema: Schema) -> sa.Select[Any]:
    number = schema.table("Context").c.id
    return sa.select(number).where(among(number)).order_by(number).with_for_update()


def _ancestry(session: Session, ids: Iterable[int]) -> dict[int, set[int]]:
    """Return the parents of contexts, of these, and so on; a statement for each generation."""
    statement = session.schema.made(_parents)
    found: dict[int, set[int]] = {}
    frontier = set(ids)
    while frontier:
        found.update((number, set()) for number in frontier)
        for child, parent in session.rows_of_ids(statement, sorted(frontier)):
            found[child].add(parent)
        frontier = {parent for number in frontier for parent in found[number]} - found.keys()
    return found


def _parents(schema: Schema) -> sa.Select[Any]:
    link = schema.table("ParentContext").c
    return sa.select(link.context_id, link.parent_context_id).where(among(link.context_id))


def _above(start: int, parents: Mapping[int, set[int]]) -> set[int]:
    seen = {start}
    stack = [start]
    while stack:
        for parent in parents.get(stack.pop(), ()):
            if parent not in seen:
                seen.add(parent)
                stack.append(parent)
    return seen


CALLS: Final[Mapping[str, Callable[[Session, Any], Any]]] = {
    "PutEvents": _put_events,
    "PutAttributionsAndAssociations": _put_attributions_and_associations,
    "PutParentContexts": _put_parent_contexts,
}
