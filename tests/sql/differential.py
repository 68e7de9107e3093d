"""Two services side by side: the same requests, and what is to be equal of their answers and tables."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from google.protobuf.message import Message

from tests.sql.requests import KINDS
from zen_mlmd.errors import RejectedRequestError
from zen_mlmd.service.base import INVALID_ARGUMENT, MetadataService, Refusal, request_class, response_class

_TIMES = ("create_time_since_epoch", "last_update_time_since_epoch")
_OWN_ID = {
    **{kind.capitalize(): kind for kind in KINDS},
    **{f"{kind.capitalize()}Type": f"{kind}_type" for kind in KINDS},
}
_RESPONSES_OF_TYPES = {
    "artifact_type_ids": "artifact_type",
    "execution_type_ids": "execution_type",
    "context_type_ids": "context_type",
}


@dataclass(frozen=True)
class Answer:
    """What a service answered: a message, or a refusal."""

    message: Any = None
    code: int = 0
    text: str = ""


@dataclass
class Twins:
    """ml-metadata's service and ours, each over a store of its own, fed with the same requests.

    Ids may differ: a transaction that is rolled back uses some up on MySQL. Requests hold ml-metadata's,
    and are translated.

    Attributes:
        native: ml-metadata's.
        ours: Ours.
        known: Our id of each of ml-metadata's, by kind.
    """

    native: MetadataService
    ours: MetadataService
    known: dict[str, dict[int, int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.known = {kind: {} for kind in (*KINDS, *(f"{kind}_type" for kind in KINDS))}
        for kind in KINDS:
            method = f"Get{kind.capitalize()}Types"
            theirs, ours = (
                getattr(ask(each, method, request_class(method)()).message, f"{kind}_types")
                for each in (self.native, self.ours)
            )
            by_name = {each.name: each.id for each in ours}
            self.known[f"{kind}_type"] = {each.id: by_name[each.name] for each in theirs}

    @property
    def world(self) -> dict[str, list[int]]:
        """ml-metadata's ids, by kind."""
        return {kind: list(ids) for kind, ids in self.known.items()}

    def both(self, method: str, request: Message) -> tuple[Answer, Answer]:
        """Ask both; return their answers with ml-metadata's ids, without times."""
        mine = type(request)()
        mine.CopyFrom(request)
        renumber(mine, method, self.known)
        theirs, ours = ask(self.native, method, request), ask(self.ours, method, mine)
        if not theirs.code and not ours.code:
            if method.startswith("Put"):
                self._learn(method, theirs.message, ours.message)
            back = {kind: {our: their for their, our in ids.items()} for kind, ids in self.known.items()}
            renumber(ours.message, method, back)
            for each in (theirs.message, ours.message):
                _without_times(each)
        return theirs, ours

    def _learn(self, method: str, theirs: Any, ours: Any) -> None:
        for descriptor, value in theirs.ListFields():
            kind = _kind_of(descriptor.name, theirs.DESCRIPTOR.name, method)
            if kind is None:
                continue
            mine = getattr(ours, descriptor.name)
            pairs = zip(value, mine, strict=True) if isinstance(value, Iterable) else ((value, mine),)
            for their, our in pairs:
                assert self.known[kind].setdefault(their, our) == our, (method, kind, their, our)


def ask(service: MetadataService, method: str, request: Message) -> Answer:
    """Ask a service; a refusal is an answer."""
    try:
        data = service.forward(method, request.SerializeToString())
    except Refusal as refusal:
        return Answer(code=refusal.code, text=refusal.text)
    except RejectedRequestError as error:
        return Answer(code=INVALID_ARGUMENT, text=error.message)
    message = response_class(method)()
    message.ParseFromString(data)
    return Answer(message)


def said(text: str) -> str:
    """Return the part of a refusal's text that is MLMD's own: before it quotes nodes or a database."""
    return re.split(r"[:;\n{\"]|\. |, type id|\d", text)[0].strip()


def told(message: Any, *, ordered: bool) -> Any:
    """Return a message as plain values, in which order means nothing unless it was asked for."""
    return _told(message, ordered=ordered)


def _told(value: Any, *, ordered: bool) -> Any:
    if not isinstance(value, Message):
        return value
    plain: dict[str, Any] = {}
    for descriptor, held in value.ListFields():
        if descriptor.name in ("next_page_token", *_TIMES):
            continue
        if descriptor.message_type is not None and descriptor.message_type.GetOptions().map_entry:
            plain[descriptor.name] = {key: _told(held[key], ordered=ordered) for key in sorted(held)}
        elif isinstance(held, Message):
            plain[descriptor.name] = _told(held, ordered=ordered)
        elif descriptor.message_type is not None:
            every = [_told(each, ordered=ordered) for each in held]
            # The steps of a path are an order, whatever was asked.
            plain[descriptor.name] = (
                every if ordered or descriptor.name == "steps" else sorted(every, key=repr)
            )
        elif isinstance(held, Iterable) and not isinstance(held, str | bytes):
            plain[descriptor.name] = list(held)
        else:
            plain[descriptor.name] = held
    return plain


def renumber(message: Any, method: str, ids: dict[str, dict[int, int]]) -> None:
    """Replace all ids in a message; those that are not known stay."""
    name = message.DESCRIPTOR.name
    for descriptor, held in message.ListFields():
        kind = _kind_of(descriptor.name, name, method)
        if kind is not None and isinstance(held, int):
            setattr(message, descriptor.name, ids[kind].get(held, held))
        elif kind is not None:
            changed = [ids[kind].get(each, each) for each in held]
            del held[:]
            held.extend(changed)
        elif descriptor.message_type is None or descriptor.name in ("properties", "custom_properties"):
            continue
        elif isinstance(held, Message):
            renumber(held, method, ids)
        elif descriptor.message_type.GetOptions().map_entry:
            inner = {ids["context"].get(key, key): held[key].SerializeToString() for key in held}
            held.clear()
            for key, data in inner.items():
                held[key].ParseFromString(data)
                renumber(held[key], method, ids)
        else:
            for each in held:
                renumber(each, method, ids)


def _kind_of(name: str, message: str, method: str) -> str | None:
    """Return what an id's field is the id of."""
    if name == "id":
        return _OWN_ID.get(message)
    if name in _RESPONSES_OF_TYPES:
        return _RESPONSES_OF_TYPES[name]
    if name in ("type_id", "type_ids"):
        owner = message if message in _OWN_ID else method
        return next(f"{kind}_type" for kind in KINDS if kind in owner.lower())
    if name in ("parent_id", "child_id"):
        return "context"
    for kind in KINDS:
        if name in (f"{kind}_id", f"{kind}_ids"):
            return kind
    return None


def _without_times(message: Any) -> None:
    for descriptor, held in message.ListFields():
        if descriptor.name in _TIMES:
            message.ClearField(descriptor.name)
        elif descriptor.message_type is None or descriptor.message_type.GetOptions().map_entry:
            continue
        else:
            for each in (held,) if isinstance(held, Message) else held:
                _without_times(each)


_DUMPS = {
    "Type": "SELECT id, name, version, type_kind, description, input_type, output_type, external_id"
    " FROM Type",
    "ParentType": "SELECT type_id, parent_type_id FROM ParentType",
    "TypeProperty": "SELECT type_id, name, data_type FROM TypeProperty",
    "Artifact": "SELECT id, type_id, uri, state, name, external_id FROM Artifact",
    "Execution": "SELECT id, type_id, last_known_state, name, external_id FROM Execution",
    "Context": "SELECT id, type_id, name, external_id FROM Context",
    **{
        f"{kind.capitalize()}Property": f"SELECT {kind}_id, name, is_custom_property, int_value,"
        " double_value, string_value, byte_value, proto_value, bool_value"
        f" FROM {kind.capitalize()}Property"
        for kind in KINDS
    },
    "ParentContext": "SELECT context_id, parent_context_id FROM ParentContext",
    "Event": "SELECT id, artifact_id, execution_id, type, milliseconds_since_epoch FROM Event",
    "EventPath": "SELECT event_id, is_index_step, step_index, step_key FROM EventPath",
    "Association": "SELECT context_id, execution_id FROM Association",
    "Attribution": "SELECT context_id, artifact_id FROM Attribution",
    "MLMDEnv": "SELECT schema_version FROM MLMDEnv",
}
_IDS = {
    **{f"{kind}_id": kind for kind in KINDS},
    "parent_context_id": "context",
}


def tables(run: Callable[[str], list[tuple[Any, ...]]], back: dict[str, dict[int, int]]) -> dict[str, Any]:
    """Return what lies in MLMD's tables, but times and the ids of links; with ml-metadata's ids.

    Args:
        run: Runs a SELECT.
        back: ml-metadata's id of each that is in these tables, by kind.
    """
    types = {our: their for kind in KINDS for our, their in back[f"{kind}_type"].items()}
    found: dict[str, Any] = {}
    for table, select in _DUMPS.items():
        columns = select.removeprefix("SELECT ").partition(" FROM ")[0].split(", ")
        rows = [dict(zip(columns, row, strict=True)) for row in run(select)]
        for row in rows:
            for column in columns:
                if column in ("type_id", "parent_type_id") or (column, table) == ("id", "Type"):
                    row[column] = types.get(row[column], row[column])
                elif column in _IDS:
                    row[column] = back[_IDS[column]].get(row[column], row[column])
                elif column == "id" and table.lower() in KINDS:
                    row["id"] = back[table.lower()].get(row["id"], row["id"])
        found[table] = rows
    paths: dict[int, list[Any]] = {}
    for step in found.pop("EventPath"):
        paths.setdefault(step.pop("event_id"), []).append(step)
    for event in found["Event"]:
        event["path"] = paths.pop(event.pop("id"), [])
    assert not paths, "steps of paths without an event"
    return {table: sorted(rows, key=repr) for table, rows in found.items()}
