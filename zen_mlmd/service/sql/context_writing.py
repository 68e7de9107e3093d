"""The contexts that an execution, or a piece of lineage, is put into."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from zen_mlmd.service.base import ABORTED, ALREADY_EXISTS, INVALID_ARGUMENT, NOT_FOUND, Refusal
from zen_mlmd.service.sql import dml
from zen_mlmd.service.sql.edge_writing import existing
from zen_mlmd.service.sql.node_rows import Node
from zen_mlmd.service.sql.node_writing import NodeWriter
from zen_mlmd.service.sql.outbox import Question
from zen_mlmd.service.sql.refusals import RaceLostError
from zen_mlmd.service.sql.session import Session

_Key = tuple[int, str]
"""Of a context's type, and its name."""


class ContextWriter(NodeWriter):
    """The contexts of a request, with the options of `PutExecution` and `PutLineageSubgraph`."""

    def __init__(self, session: Session, contexts: Sequence[Any], options: Any) -> None:
        super().__init__(session, "Context")
        self._contexts = contexts
        self._known: dict[_Key, int] = {}
        self._is_waiting = False
        self._reuses: bool = options.reuse_context_if_already_exist
        self._is_forced: bool = getattr(options, "force_reuse_context", False)

    def locking(self, messages: Iterable[Any]) -> list[Question]:
        """See `NodeWriter`; those of which only the id is looked at need not be locked."""
        return [] if self._is_forced else super().locking(messages)

    def reading(self, messages: Iterable[Any], paths: Sequence[str] = ()) -> list[Question]:
        """See `NodeWriter`; looks for those to be reused, too."""
        messages = list(messages)
        own = [] if self._is_forced else super().reading(messages, paths)
        return [*own, *self._looking(messages)] if self._reuses else own

    def put(self, *, is_checked: bool = False) -> list[int]:
        """Make and change them, and return their ids in order.

        Args:
            is_checked: Types and properties of new ones have been looked at.

        Raises:
            Refusal: One says too little, does not fit its type, or is there already and may not be reused.
            RaceLostError: Another writer has made one that was not there.
        """
        if self._is_waiting:
            self._session.send()
        known: dict[_Key, int | Node] = dict(self._known)
        numbers: list[int | Node] = []
        with self:
            for context in self._contexts:
                key = (context.type_id, context.name)
                if context.HasField("id") and self._is_forced:
                    self._check_there(context.id)
                    numbers.append(context.id)
                    continue
                for name in ("type_id", "name"):
                    if not context.HasField(name):
                        raise Refusal(INVALID_ARGUMENT, f"Context is missing a {name}: {context}")
                if context.HasField("id"):
                    numbers.append(self.update(context.id, context))
                elif key in known:
                    numbers.append(known[key])
                else:
                    numbers.append(self.create(context, is_checked=is_checked))
                    if self._reuses:
                        known[key] = numbers[-1]
        self.finish()
        return [each.id if isinstance(each, Node) else each for each in numbers]

    def taken(self, nodes: Sequence[Node]) -> Exception:
        """See `NodeWriter`."""
        refusal = self.already_there(nodes)
        if not self._reuses:
            return refusal
        text = "Concurrent creation of the same context at the first time. Retry the transaction to reuse"
        return RaceLostError(Refusal(ABORTED, f"{text} the context: {refusal.text}"))

    def _check_there(self, number: int) -> None:
        if number not in existing(self._session, "Context", [number]):
            raise Refusal(NOT_FOUND, f"Results missing for ids: {{{number}}}. Found results for {{}}")

    def _looking(self, contexts: Iterable[Any]) -> list[Question]:
        wanted = {(each.type_id, each.name) for each in contexts if not each.HasField("id")}
        if not wanted:
            return []

        self._is_waiting = True

        def take(rows: Sequence[Any]) -> None:
            self._is_waiting = False
            found = {(type_id, name): number for number, type_id, name in rows}
            others = {type_id: name for type_id, name in found if name not in names}
            for type_id, name in wanted - found.keys():
                if type_id in others:
                    text = f"Context {others[type_id]!r} and {name!r} have one name to this database"
                    raise Refusal(ALREADY_EXISTS, text)
            self._known.update((key, number) for key, number in found.items() if key in wanted)

        types, names = ({key[each] for key in wanted} for each in (0, 1))
        where = (("type_id", len(types)), ("name", len(names)))
        sql = dml.select(self._session.dialect, "Context", ("id", "type_id", "name"), where)
        return [Question(sql, (*types, *names), take)]
