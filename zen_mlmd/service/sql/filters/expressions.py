"""The tree of a filter as an expression of SQLAlchemy's: what is not known here is refused.

Types are looked at as ZetaSQL does, so that a number is never compared with a text: databases would,
each in its way.
"""

from __future__ import annotations

import itertools
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NoReturn

import sqlalchemy as sa

from zen_mlmd.service.sql.filters.grammar import number_of
from zen_mlmd.service.sql.filters.lexer import Literal, Path, Word, refuse
from zen_mlmd.service.sql.filters.names import BOOL, DOUBLE, INT64, STRING, Reference, state_number

_DEEPEST: Final = 60
"""Expressions in expressions, of which a chain of sums makes as many as it has terms."""
_WIDEST: Final = 64
"""Conditions in a row: SQLite counts each as one level deeper, and takes a thousand."""
_INT64_END: Final = 2**63

_SQL_TYPES: Final[Mapping[str, sa.types.TypeEngine[Any]]] = {
    INT64: sa.BigInteger(),
    DOUBLE: sa.Double(),
    STRING: sa.Text(),
    BOOL: sa.Boolean(),
}
_PYTHON_TYPES: Final = {int: INT64, float: DOUBLE, str: STRING}
_NUMBERS: Final = frozenset({INT64, DOUBLE})

_COMPARISONS: Final[Mapping[str, tuple[str, Callable[[Any, Any], Any]]]] = {
    "EQ": ("=", operator.eq),
    "NEQ": ("!=", operator.ne),
    "LT": ("<", operator.lt),
    "LTE": ("<=", operator.le),
    "GT": (">", operator.gt),
    "GTE": (">=", operator.ge),
}
_ARITHMETIC: Final[Mapping[str, tuple[str, Callable[[Any, Any], Any]]]] = {
    "Add": ("+", operator.add),
    "Sub": ("-", operator.sub),
    "Mul": ("*", operator.mul),
    "Div": ("/", operator.truediv),
}
_PARTS: Final = frozenset({"this", "expression", "expressions", "low", "high", "negate"})
"""What a node of sqlglot's may have; one that has something else means something else."""
_UNPARENTHESIZED: Final = frozenset({*_COMPARISONS, "In", "Between", "Like", "Is", "Not", "And", "Or"})
"""ZetaSQL wants parentheses around these where they are compared."""


@dataclass(frozen=True, slots=True)
class Term:
    """A part of a filter.

    Attributes:
        expression: SQLAlchemy's.
        type: INT64, DOUBLE, STRING or BOOL.
        states: The names of its values, of a field that has such.
        literal: Its value, of a number or a text.
    """

    expression: Any
    type: str
    states: Mapping[str, int] | None = None
    literal: int | float | str | None = None


def flattened(tree: Any, kind: str) -> list[Any]:
    """Return the operands of a row of ANDs or ORs, however deep sqlglot has nested it."""
    found = []
    waiting = [tree]
    while waiting:
        each = waiting.pop()
        if name_of(each) == "Paren":
            inner = each
            while name_of(inner) == "Paren":
                inner = inner.this
            each = inner if name_of(inner) == kind else each
        if name_of(each) == kind:
            waiting += (each.expression, each.this)
        else:
            found.append(each)
    return found


def name_of(tree: Any) -> str:
    """Return the name of a node's class, by which it is known here."""
    return type(tree).__name__


def joined(join: Callable[..., Any], conditions: Sequence[Any]) -> Any:
    """AND or OR conditions, so that long rows nest no deeper than short ones."""
    if len(conditions) <= _WIDEST:
        return join(*conditions)
    half = len(conditions) // 2
    parts = (joined(join, conditions[:half]), joined(join, conditions[half:]))
    return join(*(_Parentheses(part) for part in parts))


class _Parentheses(sa.sql.elements.Grouping[bool]):
    """Parentheses that SQLAlchemy leaves where they are, though AND and OR need none in themselves."""

    inherit_cache = True
    operator = None


class Expressions:
    """Makes expressions of trees.

    Args:
        words: Of the filter.
        columns: The column of each reference, by the number of its word.
        references: What names mean, by the number of their word.
        dialect: SQLAlchemy's name of the database.
    """

    def __init__(
        self,
        words: Sequence[Word],
        columns: Mapping[int, Any],
        references: Mapping[int, Reference],
        dialect: str,
    ) -> None:
        self._words = words
        self._columns = columns
        self._references = references
        self._dialect = dialect

    def condition(self, tree: Any) -> Any:
        """Return a condition.

        Raises:
            Refusal: It is none.
        """
        term = self._term(tree, 0)
        if term.type != BOOL:
            refuse(f"Given query string is not a valid boolean expression: {term.type}", self._place(tree))
        return term.expression

    def _term(self, tree: Any, depth: int) -> Term:
        if depth > _DEEPEST:
            refuse(f"it is nested deeper than {_DEEPEST}", self._place(tree))
        name = name_of(tree)
        make = self._MAKERS.get(name)
        if make is None or any(
            key not in _PARTS and value is not None and value is not False and value != []
            for key, value in tree.args.items()
        ):
            refuse(f"Syntax error: Unexpected expression of kind {name}", self._place(tree))
        term = make(self, tree, depth + 1)
        return self._negated(tree, term) if tree.args.get("negate") else term

    def _paren(self, tree: Any, depth: int) -> Term:
        return self._term(tree.this, depth)

    def _operand(self, tree: Any, depth: int) -> Term:
        del depth
        number = number_of(tree.name)
        word = self._words[number]
        if isinstance(word.operand, Literal):
            if word.operand.value == _INT64_END and isinstance(word.operand.value, int):
                refuse(f"Invalid integer literal: {_INT64_END}", word.place)
            return _literal(word.operand.value)
        reference = self._references.get(number)
        if reference is None:
            refuse(f"Unrecognized name: {_called(word)}", word.place)
        field = reference.field
        return Term(self._columns[number], field.type, field.states)

    def _boolean(self, tree: Any, depth: int) -> Term:
        del depth
        return Term(sa.true() if tree.this else sa.false(), BOOL)

    def _null(self, tree: Any, depth: int) -> Term:
        del tree, depth
        pairs = itertools.pairwise((Word((1, 1)), *self._words))
        places = (word.place for before, word in pairs if word.symbol == "NULL" and before.symbol != "IS")
        return refuse("NULL can stand behind IS and IS NOT only", next(places, None))

    def _and_or(self, tree: Any, depth: int) -> Term:
        kind = name_of(tree)
        terms = [(each, self._term(each, depth)) for each in flattened(tree, kind)]
        for each, term in terms:
            if term.type != BOOL:
                self._no_signature(kind.upper(), each, term.type)
        return Term(
            joined(sa.and_ if kind == "And" else sa.or_, [term.expression for _, term in terms]), BOOL
        )

    def _not(self, tree: Any, depth: int) -> Term:
        inner = tree.this
        term = self._term(inner, depth)
        if term.type != BOOL:
            self._no_signature("NOT", inner, term.type)
        is_done = bool(inner.args.get("negate"))
        return Term(sa.not_(term.expression), BOOL) if is_done else self._negated(inner, term)

    def _negated(self, tree: Any, term: Term) -> Term:
        """Return NOT of a term; of `state NOT IN (...)` ml-metadata means: it has another one, or none.

        `NOT state IN (...)` is something else, for which sqlglot's tree may be the same.
        """
        if name_of(tree) == "In" and name_of(tree.this) == "Column":
            number = number_of(tree.this.name)
            reference = self._references.get(number)
            if reference is not None and reference.field.states and self._words[number + 1].symbol == "NOT":
                return Term(sa.or_(sa.not_(term.expression), self._columns[number].is_(None)), BOOL)
        return Term(sa.not_(term.expression), BOOL)

    def _comparison(self, tree: Any, depth: int) -> Term:
        name = name_of(tree)
        sign, compare = _COMPARISONS[name]
        left = self._compared(tree.this, depth)
        if left.states is not None and name in ("EQ", "NEQ") and name_of(tree.expression) == "Column":
            wanted = self._state(left.states, tree.expression)
            if name == "NEQ":
                return Term(sa.or_(left.expression != wanted, left.expression.is_(None)), BOOL)
            return Term(left.expression == wanted, BOOL)
        right = self._compared(tree.expression, depth)
        if not _are_comparable(left.type, right.type) or (left.type == BOOL and name not in ("EQ", "NEQ")):
            self._no_signature(sign, tree.this, left.type, right.type)
        return Term(compare(left.expression, right.expression), BOOL)

    def _compared(self, tree: Any, depth: int) -> Term:
        if name_of(tree) in _UNPARENTHESIZED:
            refuse("Syntax error: Expression in comparison must be parenthesized", self._place(tree))
        return self._term(tree, depth)

    def _state(self, states: Mapping[str, int], tree: Any) -> Any:
        word = self._words[number_of(tree.name)] if name_of(tree) == "Column" else None
        if word is None or word.operand is None:
            refuse("Unsupported enum value specified in the query", self._place(tree))
        return sa.literal(state_number(states, word.operand, word.place), sa.BigInteger())

    def _in(self, tree: Any, depth: int) -> Term:
        left = self._compared(tree.this, depth)
        elements = tree.expressions
        if not elements:
            refuse("Syntax error: IN wants values in parentheses", self._place(tree))
        if left.states is not None and name_of(tree.this) == "Column":
            return Term(left.expression.in_([self._state(left.states, each) for each in elements]), BOOL)
        terms = [self._compared(each, depth) for each in elements]
        for term in terms:
            if not _are_comparable(left.type, term.type):
                self._no_signature("IN", tree.this, left.type, term.type)
        if all(term.type == left.type and term.literal is not None for term in terms):
            values: Any = sa.bindparam(
                None, [term.literal for term in terms], type_=_SQL_TYPES[left.type], expanding=True
            )
        else:
            values = [term.expression for term in terms]
        return Term(left.expression.in_(values), BOOL)

    def _between(self, tree: Any, depth: int) -> Term:
        parts = [self._compared(each, depth) for each in (tree.this, tree.args["low"], tree.args["high"])]
        value, low, high = parts
        if value.type == BOOL or not all(_are_comparable(value.type, each.type) for each in (low, high)):
            self._no_signature("BETWEEN", tree.this, *(each.type for each in parts))
        return Term(sa.between(value.expression, low.expression, high.expression), BOOL)

    def _like(self, tree: Any, depth: int) -> Term:
        text, pattern = self._compared(tree.this, depth), self._compared(tree.expression, depth)
        if (text.type, pattern.type) != (STRING, STRING):
            self._no_signature("LIKE", tree.this, text.type, pattern.type)
        if isinstance(pattern.literal, str) and _ends_in_escape(pattern.literal):
            refuse("LIKE pattern ends with a backslash", self._place(tree.expression))
        # A backslash escapes in ZetaSQL, as it does by itself in MySQL and PostgreSQL.
        escape = "\\" if self._dialect == "sqlite" else None
        return Term(text.expression.like(pattern.expression, escape=escape), BOOL)

    def _is(self, tree: Any, depth: int) -> Term:
        term = self._compared(tree.this, depth)
        what = name_of(tree.expression)
        if what == "Null":
            return Term(term.expression.is_(None), BOOL)
        if what != "Boolean" or term.type != BOOL:
            self._no_signature("IS", tree.this, term.type)
        return Term(term.expression.is_(sa.true() if tree.expression.this else sa.false()), BOOL)

    def _arithmetic(self, tree: Any, depth: int) -> Term:
        name = name_of(tree)
        sign, calculate = _ARITHMETIC[name]
        left, right = self._compared(tree.this, depth), self._compared(tree.expression, depth)
        if not {left.type, right.type} <= _NUMBERS:
            self._no_signature(sign, tree.this, left.type, right.type)
        is_double = name == "Div" or DOUBLE in (left.type, right.type)
        return Term(calculate(left.expression, right.expression), DOUBLE if is_double else INT64)

    def _negative(self, tree: Any, depth: int) -> Term:
        inner = tree.this
        if name_of(inner) == "Column":
            operand = self._words[number_of(inner.name)].operand
            if isinstance(operand, Literal) and not isinstance(operand.value, str):
                return _literal(-operand.value)
        term = self._compared(inner, depth)
        if term.type not in _NUMBERS:
            self._no_signature("-", inner, term.type)
        return Term(-term.expression, term.type)

    def _function(self, tree: Any, depth: int) -> Term:
        word = self._words[number_of(tree.name)]
        called = _called(word).upper()
        function = _FUNCTIONS.get(called)
        if function is None:
            refuse(f"Function not found: {_called(word)}", word.place)
        terms = [self._compared(each, depth) for each in tree.expressions]
        made = function(*terms) if len(terms) in _ARITIES[called] else None
        if made is None:
            found = ", ".join(term.type for term in terms)
            refuse(f"No matching signature for function {called} for argument types: {found}", word.place)
        return made

    def _place(self, tree: Any) -> tuple[int, int] | None:
        """Return where a tree begins, as far as it begins with an operand."""
        while name_of(tree) not in ("Column", "Anonymous"):
            tree = tree.args.get("this")
            if not hasattr(tree, "args"):
                return None
        return self._words[number_of(tree.name)].place

    def _no_signature(self, sign: str, tree: Any, *types: str) -> NoReturn:
        listed = ", ".join(types)
        refuse(f"No matching signature for operator {sign} for argument types: {listed}", self._place(tree))

    _MAKERS: Final[Mapping[str, Callable[[Expressions, Any, int], Term]]] = {
        **dict.fromkeys(_COMPARISONS, _comparison),
        **dict.fromkeys(_ARITHMETIC, _arithmetic),
        "Column": _operand,
        "Paren": _paren,
        "Boolean": _boolean,
        "Null": _null,
        "And": _and_or,
        "Or": _and_or,
        "Not": _not,
        "In": _in,
        "Between": _between,
        "Like": _like,
        "Is": _is,
        "Neg": _negative,
        "Anonymous": _function,
    }


def _literal(value: int | float | str) -> Term:  # noqa: PYI041 - which of them is what matters
    type_name = _PYTHON_TYPES[type(value)]
    return Term(sa.literal(value, _SQL_TYPES[type_name]), type_name, literal=value)


def _called(word: Word) -> str:
    return ".".join(word.operand.parts) if isinstance(word.operand, Path) else "a literal"


def _are_comparable(one: str, other: str) -> bool:
    return one == other or {one, other} <= _NUMBERS


def _ends_in_escape(pattern: str) -> bool:
    return (len(pattern) - len(pattern.rstrip("\\"))) % 2 == 1


def _of_text(function: Any, result: str) -> Callable[..., Term | None]:
    def make(term: Term) -> Term | None:
        if term.type != STRING:
            return None
        return Term(function(term.expression, type_=_SQL_TYPES[result]), result)

    return make


def _abs(term: Term) -> Term | None:
    if term.type not in _NUMBERS:
        return None
    return Term(sa.func.abs(term.expression, type_=_SQL_TYPES[term.type]), term.type)


def _mod(one: Term, other: Term) -> Term | None:
    if (one.type, other.type) != (INT64, INT64):
        return None
    return Term(one.expression % other.expression, INT64)


def _coalesce(*terms: Term) -> Term | None:
    if len({term.type for term in terms}) != 1:
        return None
    kind = terms[0].type
    return Term(sa.func.coalesce(*(term.expression for term in terms), type_=_SQL_TYPES[kind]), kind)


_FUNCTIONS: Final[Mapping[str, Callable[..., Term | None]]] = {
    "LOWER": _of_text(sa.func.lower, STRING),
    "UPPER": _of_text(sa.func.upper, STRING),
    "LENGTH": _of_text(sa.func.length, INT64),
    "ABS": _abs,
    "MOD": _mod,
    "COALESCE": _coalesce,
}
_ARITIES: Final[Mapping[str, Sequence[int]]] = {
    **dict.fromkeys(("LOWER", "UPPER", "LENGTH", "ABS"), (1,)),
    "MOD": (2,),
    "COALESCE": range(1, 20),
}
