"""The contexts that an execution, or a piece of lineage, is put into."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import sqlalchemy as sa

from zen_mlmd.service.base import ABORTED, ALREADY_EXISTS, INVALID_ARGUMENT, NOT_FOUND, Refusal
from zen_mlmd.service.sql.edge_writing import existing
from zen_mlmd.service.sql.node_rows import Node
from zen_mlmd.service.sql.node_writing import NodeWriter
from zen_mlmd.service.sql.refusals import RaceLostError
from zen_mlmd.service.sql.schema import Schema
from zen_mlmd.service.sql.session import Session

_Key = tuple[int, str]
"""Of a context's type, and its name."""


class ContextWriter(NodeWriter):
    """The contexts of a request, with the options of `PutExecution` and `PutLineageSubgraph`."""

    def __init__(self, session: Session, contexts: Sequence[Any], options: Any) -> None:
        super().__init__(session, "Context")
        self._contexts = contexts
        self._reuses: bool = options.reuse_context_if_already_exist
        self._is_forced: bool = getattr(options, "force_reuse_context", False)

    def lock(self, messages: Iterable[Any]) -> None:
        """See `NodeWriter`; those of which only the id is looked at need not be."""
        if not self._is_forced:
            super().lock(messages)

    def put(self, *, is_checked: bool = False) -> list[int]:
        """Make and change them, and return their ids in order.

        Args:
            is_checked: Types and properties of new ones have been looked at.

        Raises:
            Refusal: One says too little, does not fit its type, or is there already and may not be reused.
            RaceLostError: Another writer has made one that was not there.
        """
        known: dict[_Key, int | Node] = dict(self._found()) if self._reuses else {}
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
        return [each.id if isinstance(each, Node) else each for each in numbers]

    def flush(self) -> None:
        """See `Batch`."""
        try:
            super().flush()
        except Refusal as refusal:
            if not self._reuses or refusal.code != ALREADY_EXISTS:
                raise
            text = "Concurrent creation of the same context at the first time. Retry the transaction to reuse"
            raise RaceLostError(Refusal(ABORTED, f"{text} the context: {refusal.text}")) from None

    def _check_there(self, number: int) -> None:
        if number not in existing(self._session, "Context", [number]):
            raise Refusal(NOT_FOUND, f"Results missing for ids: {{{number}}}. Found results for {{}}")

    def _found(self) -> dict[_Key, int]:
        wanted = {(each.type_id, each.name) for each in self._contexts if not each.HasField("id")}
        if not wanted:
            return {}
        parameters = {"type_ids": list({key[0] for key in wanted}), "names": list({key[1] for key in wanted})}
        rows = self._session.rows(self._session.schema.made(_of_names), parameters)
        found = {(type_id, name): number for number, type_id, name in rows}
        others = {type_id: name for type_id, name in found if name not in parameters["names"]}
        for type_id, name in wanted - found.keys():
            if type_id in others:
                text = f"Context {others[type_id]!r} and {name!r} have one name to this database"
                raise Refusal(ALREADY_EXISTS, text)
        return {key: number for key, number in found.items() if key in wanted}


def _of_names(schema: Schema) -> sa.Select[Any]:
    context = schema.table("Context").c
    type_ids: sa.BindParameter[Any] = sa.bindparam("type_ids", expanding=True)
    names: sa.BindParameter[Any] = sa.bindparam("names", expanding=True)
    condition = context.type_id.in_(type_ids) & context.name.in_(names)
    return sa.select(context.id, context.type_id, context.name).where(condition)
