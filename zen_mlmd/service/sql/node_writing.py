"""Nodes of one kind are made and changed: looked at one by one in ml-metadata's order, written together.

What a request changes is locked before anything else is read: MySQL fixes what a transaction sees by
its first plain SELECT, and two that change a node one after the other must see each other's work.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

from google.protobuf import text_format

from zen_mlmd.service.base import ALREADY_EXISTS, INTERNAL, INVALID_ARGUMENT, NOT_FOUND, Refusal
from zen_mlmd.service.sql.batch import Batch
from zen_mlmd.service.sql.node_rows import (
    OWN,
    SETTABLE,
    Key,
    Node,
    ids_of_external_ids,
    insert_nodes,
    locking,
    reading_properties,
    update_nodes,
)
from zen_mlmd.service.sql.outbox import Question
from zen_mlmd.service.sql.session import Session
from zen_mlmd.service.sql.types import StoredType, types_of_ids
from zen_mlmd.service.sql.values import Encoded, encode, same

_UNIQUE: Final = {"Artifact": ("external_id",), "Execution": ("external_id",), "Context": OWN["Context"]}


class NodeWriter(Batch):
    """The nodes of one kind that a request makes and changes.

    Args:
        session: The transaction.
        kind: Artifact, Execution or Context.
    """

    def __init__(self, session: Session, kind: str) -> None:
        super().__init__(session)
        self._kind = kind
        self._stored: dict[int, Node] = {}
        self._new: list[Node] = []
        self._unfinished: list[tuple[list[Node], Callable[[], None]]] = []

    def locking(self, messages: Iterable[Any]) -> list[Question]:
        """Return what to ask for nodes that have an id, so that nobody else changes them meanwhile."""
        return locking(self._session, self._kind, _ids(messages), self._stored)

    def reading(self, messages: Iterable[Any], paths: Sequence[str] = ()) -> list[Question]:
        """Return what to ask behind `locking`.

        Args:
            messages: As for `locking`.
            paths: As for `update`.
        """
        if paths and _masked(paths, "properties") == _masked(paths, "custom_properties") == set():
            return []
        return reading_properties(self._session, self._kind, _ids(messages), self._stored)

    def lock(self, messages: Sequence[Any], paths: Sequence[str] = ()) -> None:
        """Read what is stored of nodes that have an id, and keep others from changing it."""
        self._session.ask([*self.locking(messages), *self.reading(messages, paths)])

    def lock_external(self, messages: Iterable[Any]) -> dict[str, int]:
        """Find nodes that have an external id and no id, and lock them.

        Returns:
            Their ids, by external id.
        """
        wanted = [each.external_id for each in messages if each.external_id and not each.HasField("id")]
        if not wanted:
            return {}
        found = ids_of_external_ids(self._session, self._kind, wanted)
        ids = found.values() - self._stored.keys()
        session, kind, stored = self._session, self._kind, self._stored
        late = reading_properties(session, kind, ids, stored, is_late=True)
        session.ask([*locking(session, kind, ids, stored), *late])
        return found

    def stored(self, number: int) -> Node | None:
        """Return a node that was locked; None if it is not there."""
        return self._stored.get(number)

    def create(self, message: Any, *, is_checked: bool = False) -> Node:
        """Make a node.

        Args:
            message: The node; its id and times are not looked at.
            is_checked: Its type and properties have been looked at.

        Raises:
            Refusal: It does not fit its type.
        """
        if not is_checked:
            self._check_new(message)
        if self._kind == "Context" and not message.name:
            text = f"Cannot create node for {short(message)}Context name should not be empty"
            raise Refusal(INVALID_ARGUMENT, text)
        columns = {name: _given(message, name) for name in OWN[self._kind]}
        if self._kind == "Artifact":
            columns["uri"] = message.uri
        node = Node(message.type_id, columns, _properties(message))
        self._new.append(node)
        return node

    def update(
        self,
        number: int,
        message: Any,
        paths: Sequence[str] = (),
        *,
        force: bool = False,
        increase: bool = False,
    ) -> Node:
        """Change a node that was locked.

        Args:
            number: Its id.
            message: What it is to be.
            paths: The fields and properties to change, as `update_mask` has them; all if there are none.
            force: Set its time of update, even if nothing changes.
            increase: The time of update must differ from the one before.

        Raises:
            Refusal: There is no such node, or it does not fit its type.
        """
        if number not in self._stored and self._new:
            self.flush()  # it may be the id of one of these
        node = self._stored.get(number)
        if node is None:
            raise Refusal(INVALID_ARGUMENT, f"Cannot find the given id {number}")
        kind = self._check_changed(node, message, paths)
        properties = self._changed_properties(node, message, paths)
        columns = self._changed_columns(node, message, paths)
        changes = _are_others(properties, node.properties)
        if not (force or changes or self._differs(node, message, kind)):
            return node
        if self._kind == "Context" and not columns["name"]:
            raise Refusal(INVALID_ARGUMENT, "Context name should not be empty")
        moves = any(columns[name] != node.columns[name] for name in _UNIQUE[self._kind])
        if moves:  # others of this request may want the key that it has, or have the one that it wants
            self.flush()
        node.is_touched = True
        node.is_changed |= columns != node.columns
        node.columns, node.properties = columns, properties
        node.updated_ms = max(self._session.now_ms, node.updated_ms + 1 if increase else 0)
        if moves:
            self.flush()
        return node

    def update_new(self, node: Node, message: Any) -> Node:
        """Change a node that this request has made."""
        if node.number is None:
            self.flush()
        return self.update(node.id, message)

    def flush(self) -> None:
        """See `Batch`; new nodes have their ids then."""
        super().flush()
        self.finish()

    def leave(self) -> None:
        """See `Batch`; new nodes have their ids after `finish`, so that others can be written with them."""
        super().flush()

    def finish(self) -> None:
        """Give new nodes that were written their ids, and write their properties."""
        unfinished, self._unfinished = self._unfinished, []
        for new, finish in unfinished:
            finish()
            self._stored.update((node.id, node) for node in new)

    def write(self) -> None:
        """See `Batch`."""
        new, self._new = self._new, []
        if new:
            finish = insert_nodes(self._session, self._kind, new, lambda: self.taken(new))
            self._unfinished.append((new, finish))
        touched = [node for node in self._stored.values() if node.is_touched]
        if touched:
            text = "UNIQUE constraint: the external_id, the name or the name of a property is taken"
            refusal = Refusal(INTERNAL, f"Cannot update {self._kind}: {text}")
            update_nodes(self._session, self._kind, touched, lambda: refusal)

    def taken(self, nodes: Sequence[Node]) -> Exception:
        """Return what to raise when something of new nodes is another node's."""
        return self.already_there(nodes)

    def already_there(self, nodes: Sequence[Node]) -> Refusal:
        """Return ml-metadata's refusal of new nodes, of which something is another node's."""
        which = f"{self._kind} {nodes[0].columns}" if len(nodes) == 1 else f"one of {len(nodes)}"
        return Refusal(ALREADY_EXISTS, f"Given node already exists: {which}")

    def check_properties(self, message: Any, kind: StoredType) -> None:
        """Refuse a new node whose properties are not its type's."""
        fault = self._fault(message, kind, message.properties)
        if fault:
            raise Refusal(INVALID_ARGUMENT, f"Cannot validate properties of {short(message)}{fault}")

    def _type(self, type_id: int, *, anew: bool = False) -> StoredType | None:
        return types_of_ids(self._session, self._kind, (type_id,), anew=anew).get(type_id)

    def _check_new(self, message: Any) -> None:
        if not message.HasField("type_id"):
            raise Refusal(INVALID_ARGUMENT, "Type id is missing.")
        kind = self._type(message.type_id)
        if kind is None:
            text = f"No type found for query, type_id: {message.type_id}"
            raise Refusal(NOT_FOUND, f"Cannot find type for {short(message)}{text}")
        self.check_properties(message, kind)

    def _check_changed(self, node: Node, message: Any, paths: Sequence[str]) -> StoredType:
        if message.HasField("type_id") and message.type_id != node.type_id:
            text = f"Given type_id {message.type_id} is different from the one known before: {node.type_id}"
            raise Refusal(INVALID_ARGUMENT, text)
        kind = self._type(node.type_id)
        if kind is None:
            raise Refusal(NOT_FOUND, f"No type found for query, type_id: {node.type_id}")
        masked = _masked(paths, "properties")
        names = [name for name in message.properties if masked is None or name in masked]
        fault = self._fault(message, kind, names)
        if fault:
            raise Refusal(INVALID_ARGUMENT, fault)
        return kind

    def _fault(self, message: Any, kind: StoredType, names: Iterable[str]) -> str:
        for name in names:
            wanted = kind.field(name)
            if wanted is None:
                # Another process may have added it since this one has read the type.
                kind = self._type(kind.id, anew=True) or kind
                wanted = kind.field(name)
            if wanted is None:
                return f"Found unknown property: {name}"
            if message.properties[name].WhichOneof("value") != wanted:
                return f"Found unmatched property type: {name}"
        return ""

    def _differs(self, node: Node, message: Any, kind: StoredType) -> bool:
        """Tell whether a message's own fields are others than ml-metadata reads: the type's name is one."""
        return (
            any(_given(message, name) != node.columns[name] for name in OWN[self._kind])
            or _given(message, "type") != kind.name
            or message.HasField("system_metadata")
        )

    def _changed_columns(self, node: Node, message: Any, paths: Sequence[str]) -> dict[str, Any]:
        names = [name for name in SETTABLE[self._kind] if not paths or name in paths]
        columns = {**node.columns, **{name: _given(message, name) for name in names}}
        if self._kind == "Artifact":
            columns["uri"] = columns["uri"] or ""
        return columns

    def _changed_properties(self, node: Node, message: Any, paths: Sequence[str]) -> dict[Key, Encoded]:
        masks = (_masked(paths, "properties"), _masked(paths, "custom_properties"))
        if masks == (set(), set()):
            return node.properties
        changed = dict(node.properties)
        given = _properties(message)
        for name, is_custom in {**changed, **given}:
            key, mask = (name, is_custom), masks[is_custom]
            if mask is not None and name not in mask:
                continue
            value, known = given.get(key), changed.get(key)
            if value is None:
                del changed[key]
            elif known is None or not same(known, value):
                changed[key] = value
        return changed


def lock_together(wanted: Iterable[tuple[NodeWriter, Sequence[Any]]], session: Session) -> None:
    """Lock what is to be changed of nodes of several kinds; see `NodeWriter.lock`."""
    wanted = list(wanted)
    locks = [each for writer, messages in wanted for each in writer.locking(messages)]
    reads = [each for writer, messages in wanted for each in writer.reading(messages)]
    # Who is to be made needs no answer to that; who is to be changed does.
    session.ask([*locks, *reads], later=not locks)


def short(message: Any) -> str:
    """Return a message in one line, as MLMD quotes it."""
    return str(text_format.MessageToString(message, as_one_line=True))


def _ids(messages: Iterable[Any]) -> list[int]:
    return [message.id for message in messages if message.HasField("id")]


def _given(message: Any, name: str) -> Any:
    return getattr(message, name) if message.HasField(name) else None


def _properties(message: Any) -> dict[Key, Encoded]:
    own, custom = message.properties, message.custom_properties
    found: dict[Key, Encoded] = {(name, False): encode(own[name]) for name in own}
    found.update({(name, True): encode(custom[name]) for name in custom})
    return found


def _are_others(changed: dict[Key, Encoded], known: dict[Key, Encoded]) -> bool:
    """Tell whether `_changed_properties` changed any: equal ones are not always the same, see `same`."""
    return changed.keys() != known.keys() or any(known[key] is not value for key, value in changed.items())


def _masked(paths: Sequence[str], prefix: str) -> set[str] | None:
    """Return the properties that a mask names; None if it, or the lack of one, means all."""
    if not paths or prefix in paths:
        return None
    return {path.removeprefix(f"{prefix}.") for path in paths if path.startswith(prefix)}
