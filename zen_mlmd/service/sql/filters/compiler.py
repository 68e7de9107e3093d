"""A filter as conditions on the rows of a node's table.

ml-metadata joins a node with each neighbour that is named, and takes those nodes of which some row of
the join fulfils the whole filter. Conditions that are joined by AND and name no neighbour in common are
independent of each other, so each group of them becomes a subquery of its own here: the join of all would
have as many rows as the product of what each finds.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import sqlalchemy as sa

from zen_mlmd.service.sql.filters.expressions import Expressions, flattened, joined
from zen_mlmd.service.sql.filters.grammar import number_of, parse
from zen_mlmd.service.sql.filters.lexer import Path, Word, read_words, refuse
from zen_mlmd.service.sql.filters.names import TYPE, Field, Neighbour, Reference, resolve
from zen_mlmd.service.sql.schema import Schema, TypeKind

_MOST_TABLES: Final = 60
"""In one filter: MySQL joins 61, SQLite 64."""

_CACHED: Final = 1000
"""Characters of a filter up to which its compiled statement is kept."""


def condition(schema: Schema, kind: str, text: str) -> sa.ColumnElement[bool]:
    """Return what a filter asks of the rows of `schema.table(kind)`.

    Args:
        schema: The tables.
        kind: Artifact, Execution or Context.
        text: A `filter_query`.

    Raises:
        Refusal: INVALID_ARGUMENT, and where.
    """
    words = read_words(text)
    tree = parse(words)
    references = {
        number: found
        for number, word in enumerate(words)
        if isinstance(word.operand, Path) and (found := resolve(kind, word.operand, word.place)) is not None
    }
    try:
        whole = _Filter(schema, kind, words, references).condition(flattened(tree, "And"))
    except RecursionError:
        refuse("it is nested too deep")
    return whole if len(text) <= _CACHED else _Uncached(whole)


class _Uncached(sa.sql.elements.Grouping[bool]):
    """A condition whose statement SQLAlchemy does not keep: it keeps five hundred, and this one is long."""

    inherit_cache = False


class _Filter:
    def __init__(
        self, schema: Schema, kind: str, words: Sequence[Word], references: Mapping[int, Reference]
    ) -> None:
        self._schema = schema
        self._kind = kind
        self._words = words
        self._references = references
        self._tables_left = _MOST_TABLES

    def condition(self, conjuncts: Iterable[Any]) -> sa.ColumnElement[bool]:
        found = []
        for numbers, trees in self._grouped(conjuncts):
            neighbours = {self._references[each].of for each in numbers} - {None}
            found.append(self._subquery(numbers, trees) if neighbours else self._plain(numbers, trees))
        whole: sa.ColumnElement[bool] = joined(sa.and_, found)
        return whole

    def _grouped(self, conjuncts: Iterable[Any]) -> list[tuple[list[int], list[Any]]]:
        """Return groups of conditions that name a neighbour in common, each with its references.

        Those that name none are one group.
        """
        groups: dict[int, tuple[list[int], list[Any], set[Neighbour | None]]] = {}
        of: dict[Neighbour | None, int] = {}
        for place, tree in enumerate(conjuncts):
            numbers = [each for each in _operands(tree) if each in self._references]
            named: set[Neighbour | None] = {self._references[each].of for each in numbers} - {None} or {None}
            same = sorted({of[each] for each in named if each in of})
            target = same[0] if same else place
            all_numbers, trees, all_named = groups.setdefault(target, ([], [], set()))
            for other in same[1:]:
                more_numbers, more_trees, more_named = groups.pop(other)
                all_numbers += more_numbers
                trees += more_trees
                all_named |= more_named
            all_numbers += numbers
            trees.append(tree)
            all_named |= named
            of.update(dict.fromkeys(all_named, target))
        return [(numbers, trees) for numbers, trees, _ in groups.values()]

    def _plain(self, numbers: Iterable[int], trees: Sequence[Any]) -> sa.ColumnElement[bool]:
        """Return a condition on the node's own columns."""
        node = self._schema.table(self._kind)
        columns = {
            each: _column(self._schema, self._kind, node, self._references[each].field) for each in numbers
        }
        return self._compiled(columns, trees)

    def _compiled(self, columns: Mapping[int, Any], trees: Sequence[Any]) -> sa.ColumnElement[bool]:
        make = Expressions(self._words, columns, self._references, self._schema.dialect)
        found: sa.ColumnElement[bool] = joined(sa.and_, [make.condition(tree) for tree in trees])
        return found

    def _subquery(self, numbers: Sequence[int], trees: Sequence[Any]) -> sa.ColumnElement[bool]:
        """Return the condition that a node is one of those that have such neighbours."""
        node = self._schema.table(self._kind)
        join = _Join(self._schema, self._kind, [self._references[each] for each in numbers])
        self._tables_left -= join.tables
        if self._tables_left < 0:
            refuse(f"it names too many contexts, events and properties: {_MOST_TABLES} tables are the most")
        columns = {each: join.columns[self._references[each]] for each in numbers}
        wanted = sa.and_(*join.conditions, self._compiled(columns, trees))
        select = sa.select(join.key).select_from(join.source).where(wanted)
        return (node.c.type_id if join.of_types else node.c.id).in_(select)


class _Join:
    """A node's neighbours side by side.

    Attributes:
        source: The tables.
        key: The id of the node; of its type, if `of_types`.
        of_types: Only the type is named, and nothing that a node of it has for itself.
        columns: That of each reference.
        conditions: Those that are not in `source` yet.
        tables: How many.
    """

    def __init__(self, schema: Schema, kind: str, references: Sequence[Reference]) -> None:
        self._schema = schema
        self.columns: dict[Reference, Any] = {}
        self.conditions: list[sa.ColumnElement[bool]] = []
        self.tables = 0
        self.of_types = all(each.of == TYPE for each in references)
        self.source: sa.FromClause
        self.key: Any = None
        of = {each.of: [other for other in references if other.of == each.of] for each in references}
        own, types = of.pop(None, []), of.pop(TYPE, [])
        if own or types:
            self._join_node(kind, own, types)
        for neighbour, named in of.items():
            assert neighbour is not None
            self._join_neighbour(neighbour, named)

    def _alias(self, table: str) -> sa.FromClause:
        self.tables += 1
        return self._schema.table(table).alias()

    def _join_node(self, kind: str, own: Sequence[Reference], types: Sequence[Reference]) -> None:
        of_kind = TypeKind[kind.upper()].value
        if self.of_types:
            self.source = type_row = self._alias("Type")
            self.key = type_row.c.id
            self.conditions.append(type_row.c.type_kind == of_kind)
        else:
            self.source = node = self._alias(kind)
            self.key = node.c.id
            self.columns.update((each, _column(self._schema, kind, node, each.field)) for each in own)
            if not types:
                return
            type_row = self._alias("Type")
            is_its = sa.and_(type_row.c.id == node.c.type_id, type_row.c.type_kind == of_kind)
            self.source = self.source.join(type_row, is_its)
        self.columns.update(dict.fromkeys(types, type_row.c.name))

    def _join_neighbour(self, neighbour: Neighbour, named: Sequence[Reference]) -> None:
        link = self._alias(neighbour.link)
        is_linked = []
        if neighbour.is_custom is not None:
            is_linked = [
                link.c.name == sa.literal(neighbour.alias, sa.Text()),
                link.c.is_custom_property == sa.literal(neighbour.is_custom, sa.Boolean()),
            ]
        if self.key is None:
            self.source, self.key = link, link.c[neighbour.via]
            self.conditions += is_linked
        else:
            self.source = self.source.join(link, sa.and_(link.c[neighbour.via] == self.key, *is_linked))
        if not neighbour.kind:
            for each in named:
                self.columns[each] = _column(self._schema, neighbour.link, link, each.field)
            return
        self._join_other_end(neighbour, link.c[neighbour.to], named)

    def _join_other_end(self, neighbour: Neighbour, other_id: Any, named: Sequence[Reference]) -> None:
        other = type_row = None
        for each in named:
            column = each.field.column
            if column == "id":
                self.columns[each] = other_id
                continue
            if other is None:
                other = self._alias(neighbour.kind)
                self.source = self.source.join(other, other.c.id == other_id)
            if column != "type":
                self.columns[each] = _column(self._schema, neighbour.kind, other, each.field)
                continue
            if type_row is None:
                type_row = self._alias("Type")
                self.source = self.source.join(type_row, type_row.c.id == other.c.type_id)
            self.columns[each] = type_row.c.name


def _column(schema: Schema, table: str, alias: sa.FromClause, field: Field) -> Any:
    """Return a field's column of an alias; NULL for one that the database lacks."""
    column = alias.c[field.column]
    return column if schema.has(table, field.column) else sa.cast(sa.null(), column.type)


def _operands(tree: Any) -> list[int]:
    return [number_of(column.name) for column in tree.walk() if type(column).__name__ == "Column"]
