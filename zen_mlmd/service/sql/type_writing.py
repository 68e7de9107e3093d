"""Types are registered: made, or given the properties, base type and external id that they lack.

No key keeps two types of one name apart. SQLite has one writer at a time; in MySQL the rows of a name,
and the place where one would be, are locked before anything is made (two who do so at once deadlock,
and one begins again); in PostgreSQL the whole table is.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import sqlalchemy as sa
from google.protobuf import json_format
from ml_metadata.proto import metadata_store_pb2 as mlmd
from ml_metadata.proto import metadata_store_service_pb2 as rpc

from zen_mlmd.service.base import (
    ALREADY_EXISTS,
    INTERNAL,
    INVALID_ARGUMENT,
    NOT_FOUND,
    UNIMPLEMENTED,
    Refusal,
)
from zen_mlmd.service.sql.refusals import RaceLostError
from zen_mlmd.service.sql.schema import Schema, TypeKind
from zen_mlmd.service.sql.session import Session
from zen_mlmd.service.sql.types import MESSAGES, SYSTEM_TYPES, StoredType, not_found, read_types

_COLUMNS: Final = (
    *("name", "version", "type_kind", "description", "input_type", "output_type"),
    "external_id",
)
_Key = tuple[str, str]


@dataclass
class _Draft:
    """A type as it is to be in the end.

    Attributes:
        stored: What the database has of it; None if it is new.
        message: What was asked for first, of a new one.
        before: The properties that a later message of the same request is compared with: ml-metadata reads
            what is stored once, before it writes.
        known_external_id: So, too; what is stored it does not read.
        properties: All, with those to be added.
        base: The name of its base type.
        external_id: To be written; None if there is nothing to write.
    """

    stored: StoredType | None
    message: Any
    before: Mapping[str, int]
    known_external_id: str
    properties: dict[str, int]
    base: str | None = None
    external_id: str | None = None
    ids: list[int] = field(default_factory=list)

    @property
    def id(self) -> int:
        return self.stored.id if self.stored is not None else self.ids[0]


class _Registration:
    """The types of one kind that a request registers."""

    def __init__(self, session: Session, node: str, *, can_add: bool, can_omit: bool) -> None:
        self._session = session
        self._node = node
        self._can_add = can_add
        self._can_omit = can_omit
        self._drafts: dict[_Key, _Draft] = {}
        self._owners: dict[str, tuple[int, _Key]] = {}

    def register(self, messages: Iterable[Any]) -> list[int]:
        """Write what is new of some types, and return their ids in order."""
        messages = list(messages)
        if not messages:
            return []
        self._read(messages, lock=False)
        drafts = [self._add(each) for each in messages]
        if self._session.dialect == "mysql" and any(self._is_new(each) for each in drafts):
            self._read(messages, lock=True)
            drafts = [self._add(each) for each in messages]
        self._write()
        return [each.id for each in drafts]

    def _read(self, messages: list[Any], *, lock: bool) -> None:
        names = [each.name for each in messages]
        if any(each.HasField("base_type") for each in messages):
            names += SYSTEM_TYPES
        self._drafts = {}
        for stored in read_types(self._session, self._node, "name", names, lock=lock):
            draft = _Draft(stored, None, dict(stored.properties), "", dict(stored.properties), stored.base)
            self._drafts.setdefault((stored.name, stored.version or ""), draft)
        self._owners = {}
        given = [each.external_id for each in messages if each.HasField("external_id")]
        if given:
            statement = self._session.schema.made(_external_ids)
            for external_id, kind, name, version in self._session.rows(statement, {"external_ids": given}):
                self._owners[external_id] = (kind, (name, version or ""))

    def _add(self, message: Any) -> _Draft:
        key = (message.name, message.version)
        draft = self._drafts.get(key)
        if draft is None:
            draft = self._drafts[key] = self._create(key, message)
        else:
            self._update(key, draft, message)
        if message.HasField("base_type"):
            self._derive(draft, message)
        return draft

    def _create(self, key: _Key, message: Any) -> _Draft:
        if not message.name:
            raise Refusal(INVALID_ARGUMENT, "No type name is specified.")
        if message.HasField("external_id"):
            self._claim(key, message)
        for name, kind in message.properties.items():
            if kind == mlmd.UNKNOWN:
                raise Refusal(INVALID_ARGUMENT, f"Property {name} is UNKNOWN.")
        properties = dict(message.properties)
        return _Draft(None, message, properties, message.external_id, dict(properties))

    def _claim(self, key: _Key, message: Any) -> None:
        owner = self._owners.get(message.external_id)
        if owner is not None and owner != (int(TypeKind[self._node.upper()]), key):
            kind = TypeKind(owner[0]).name.capitalize()
            code = ALREADY_EXISTS if kind == self._node and key not in self._drafts else INTERNAL
            raise Refusal(
                code,
                f"Conflict of external_id: {message.external_id} Found already existing {kind} type with the"
                f" same external_id: {owner[1][0]}",
            )
        self._owners[message.external_id] = (int(TypeKind[self._node.upper()]), key)

    def _update(self, key: _Key, draft: _Draft, message: Any) -> None:
        conflict = self._conflict(draft, message)
        if conflict:
            text = f"Type already exists with different properties: {conflict}; given type: {message}"
            raise Refusal(ALREADY_EXISTS, text)
        added = {name: kind for name, kind in message.properties.items() if name not in draft.before}
        renamed = message.external_id != draft.known_external_id
        if not added and not renamed:
            return
        for name, kind in {**draft.before, **added}.items():
            if kind == mlmd.UNKNOWN:
                raise Refusal(INVALID_ARGUMENT, f"Property:{name} type should not be UNKNOWN.")
            if draft.properties.setdefault(name, kind) != kind:
                text = f"Property:{name} type is different from the existing type: {key[0]}"
                raise Refusal(ALREADY_EXISTS, text)
        if renamed:
            self._claim(key, message)
            draft.external_id = message.external_id

    def _conflict(self, draft: _Draft, message: Any) -> str:
        omitted = 0
        for name, kind in draft.before.items():
            given = message.properties.get(name)
            if given is None:
                omitted += 1
            elif given != kind:
                return f"Conflicting property value type found in stored and given types: {name}"
        if omitted and not self._can_omit:
            return "can_omit_fields is false while stored type has more properties"
        if len(draft.before) - omitted != len(message.properties) and not self._can_add:
            return "can_add_fields is false while the given type has more properties"
        return ""

    def _derive(self, draft: _Draft, message: Any) -> None:
        value = message.DESCRIPTOR.fields_by_name["base_type"].enum_type.values_by_number[message.base_type]
        base = value.GetOptions().Extensions[mlmd.system_type_extension].type_name
        if base.startswith("unset"):
            raise Refusal(UNIMPLEMENTED, "base_type deletion is not supported yet")
        if draft.base is not None:
            if draft.base != base:
                raise Refusal(UNIMPLEMENTED, "base_type update is not supported yet")
            return
        above: str | None = base
        while above is not None:
            ancestor = self._drafts.get((above, ""))
            if ancestor is None:
                raise Refusal(NOT_FOUND, not_found(above, None))
            if ancestor is draft:
                raise Refusal(INVALID_ARGUMENT, "There is a cycle detected of the given relationship.")
            above = ancestor.base
        draft.base = base

    def _is_new(self, draft: _Draft) -> bool:
        stored = draft.stored
        return (
            stored is None
            or draft.external_id is not None
            or draft.base != stored.base
            or len(draft.properties) != len(stored.properties)
        )

    def _write(self) -> None:
        self._make()
        properties: list[tuple[Any, ...]] = []
        bases: list[tuple[Any, ...]] = []
        for draft in self._drafts.values():
            stored = draft.stored
            known = stored.properties if stored is not None else {}
            properties += [(draft.id, *each) for each in draft.properties.items() if each[0] not in known]
            if draft.base is not None and (stored is None or stored.base is None):
                bases.append((draft.id, self._drafts[draft.base, ""].id))
            if draft.external_id is not None:
                values = {"external_id": draft.external_id}
                self._session.update("Type", values, [draft.id], on_duplicate=_taken)
        columns = ("type_id", "name", "data_type")
        self._session.insert("TypeProperty", columns, properties, on_duplicate=_taken)
        self._session.insert("ParentType", ("type_id", "parent_type_id"), bases, on_duplicate=_taken)
        for draft in self._drafts.values():
            self._session.learn_type(self._node, draft.id, _stored(draft))

    def _make(self) -> None:
        new = [draft for draft in self._drafts.values() if draft.stored is None]
        kind = int(TypeKind[self._node.upper()])
        rows = [_row(draft.message, kind) for draft in new]
        ids = self._session.insert_for_ids("Type", _COLUMNS, rows, on_duplicate=_taken)
        self._session.send()
        for draft, type_id in zip(new, ids, strict=True):
            draft.ids.append(type_id)


def _taken() -> Exception:
    text = "Another writer has registered the same property or external_id."
    return RaceLostError(Refusal(ALREADY_EXISTS, text))


def _row(message: Any, kind: int) -> tuple[Any, ...]:
    def given(name: str) -> Any:
        return getattr(message, name) if message.HasField(name) else None

    structs: tuple[str | None, str | None] = (None, None)
    if kind == TypeKind.EXECUTION:
        structs = (_struct_text(given("input_type")), _struct_text(given("output_type")))
    return (message.name, message.version or None, kind, given("description"), *structs, given("external_id"))


def _struct_text(struct: Any) -> str | None:
    if struct is None:
        return None
    text = json.dumps(json_format.MessageToDict(struct), ensure_ascii=False, separators=(",", ":"))
    # As C++ protobuf writes them; in JSON both stand in texts only.
    return text.replace("<", r"\u003c").replace(">", r"\u003e")


def _stored(draft: _Draft) -> StoredType:
    old, message = draft.stored, draft.message
    if old is None:
        fields = _row(message, 0 if isinstance(message, mlmd.ExecutionType) else -1)
        _, version, _, description, input_type, output_type, external_id = fields
        name = message.name
    else:
        name, version, description = old.name, old.version, old.description
        input_type, output_type, external_id = old.input_type, old.output_type, old.external_id
    if draft.external_id is not None:
        external_id = draft.external_id
    return StoredType(
        draft.id,
        name,
        version,
        description,
        external_id,
        input_type,
        output_type,
        draft.base,
        draft.properties,
    )


def _external_ids(schema: Schema) -> sa.Select[Any]:
    kind = schema.table("Type").c
    given: sa.BindParameter[Any] = sa.bindparam("external_ids", expanding=True)
    columns = (kind.external_id, kind.type_kind, kind.name, kind.version)
    return sa.select(*columns).where(kind.external_id.in_(given))


def register(
    session: Session, node: str, messages: Iterable[Any], *, can_add: bool, can_omit: bool
) -> list[int]:
    """Register types of one kind, as `PutTypes` does, and return their ids in order."""
    return _Registration(session, node, can_add=can_add, can_omit=can_omit).register(messages)


def _begin(session: Session, request: Any) -> None:
    if not request.all_fields_match:
        raise Refusal(UNIMPLEMENTED, "Must match all fields.")
    session.lock_table("Type")


def _put_types(session: Session, request: Any) -> Any:
    _begin(session, request)
    answer = rpc.PutTypesResponse()
    for node in MESSAGES:
        ids = register(
            session,
            node,
            getattr(request, f"{node.lower()}_types"),
            can_add=request.can_add_fields,
            can_omit=request.can_omit_fields,
        )
        getattr(answer, f"{node.lower()}_type_ids").extend(ids)
    return answer


def _put_type(node: str, session: Session, request: Any) -> Any:
    _begin(session, request)
    message = getattr(request, f"{node.lower()}_type")
    (type_id,) = register(
        session, node, [message], can_add=request.can_add_fields, can_omit=request.can_omit_fields
    )
    return getattr(rpc, f"Put{node}TypeResponse")(type_id=type_id)


CALLS: Final[Mapping[str, Callable[[Session, Any], Any]]] = {
    "PutTypes": _put_types,
    **{f"Put{node}Type": functools.partial(_put_type, node) for node in MESSAGES},
}
