"""Requests are checked before they reach ml-metadata's C++ core.

It ends the process on a `Value` with nothing in it, cuts strings at a NUL byte, cannot read a row
again whose string is `__MLMD_NULL__`, and fails on NaN (ml-metadata 1.17.1 and 1.21.0, measured).
Whatever would do that is refused by name, and not sent.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from zen_mlmd.errors import RejectedRequestError


@dataclass(frozen=True, slots=True)
class Limits:
    """What a database's columns hold.

    Attributes:
        name_bytes: Longest name, external id, type name or property key, in bytes of UTF-8.
        name_chars: The same in characters.
        uri_bytes: Longest URI, event path key or description of a type, in bytes as stored.
        string_bytes: Longest string property, in bytes as SQL text (escaped).
        stored_bytes: Longest string, struct or message, in bytes as stored.
        encoded_twice: UTF-8 is stored as if each of its bytes were a character, as ml-metadata does on MySQL.
        int_bits: 32 or 64.
        signed_zero: Whether -0.0 is told from 0.0, or nobody cares, as ml-metadata.
        ignores_case: Names that differ by case are one to it.
        ignores_blanks: Names that differ by blanks at their ends are one to it.
        remedy: What to do about a column that is too narrow.
    """

    name_bytes: int | None = None
    name_chars: int | None = None
    uri_bytes: int | None = None
    string_bytes: int | None = None
    stored_bytes: int | None = None
    encoded_twice: bool = False
    int_bits: int = 64
    signed_zero: bool = True
    ignores_case: bool = False
    ignores_blanks: bool = False
    remedy: str = ""

    @property
    def exact_names(self) -> bool:
        """Whether names are one only if they are equal."""
        return not self.ignores_case and not self.ignores_blanks

    @property
    def name_limit(self) -> int | None:
        """What a name may have that is short for sure, in bytes."""
        return self.name_chars if self.name_bytes is None else self.name_bytes

    @property
    def string_limit(self) -> int | None:
        """The same of a string property."""
        return (
            self.string_bytes
            if self.stored_bytes is None
            else min(self.stored_bytes, self.string_bytes or self.stored_bytes)
        )

    def stored(self, text: str) -> int:
        """Return how many bytes a text takes in the database."""
        data = text.encode("utf-8", "surrogatepass")
        if not self.encoded_twice or data.isascii():
            return len(data)
        wide = len(data) - len(data.translate(None, _THREE_BYTES))
        return len(data) + len(data.translate(None, _ASCII)) + wide

    def folded(self, name: str) -> str:
        """Return what is equal for names that are one to the database (accents, which some ignore, aside)."""
        name = name.rstrip(" ") if self.ignores_blanks else name
        return name.casefold() if self.ignores_case else name


_ASCII = bytes(range(128))
_THREE_BYTES = b"\x80\x82\x84\x85\x86\x87\x89\x8b\x91\x92\x93\x94\x95\x96\x97\x99\x9b"
"""Of windows-1252, MySQL's latin1, those that take three bytes as UTF-8; the others beyond ASCII take two."""

SQLITE = Limits()
MYSQL = Limits(
    name_bytes=255,
    uri_bytes=65_535,
    string_bytes=16 * 2**20 - 2**16,
    int_bits=32,
    ignores_blanks=True,
)

FILTER_BYTES = 2**14
"""Of a filter_query. Its parser recurses: "id=~~~~1" with 3,817 tildes overflows the 8 MiB of stack that a
thread has, and ends the process (ml-metadata 1.17.1, measured); a server's threads have more."""

FILTER_STACK_BYTES = 2**27
"""Of a thread that asks with filters of strangers: more than `FILTER_BYTES` of any operator need."""

_HAVE_FILTERS = frozenset(
    {
        *("options", "lineage_subgraph_query_options", "starting_artifacts", "starting_executions"),
        *("ending_artifacts", "ending_executions"),
    }
)
_PLAIN_FILTER = re.compile(
    r"""(?: '(?!'')[^'"\\]*' | "(?!"")[^'"\\]*" | `[^`'"\\]*` | (?!--|/\*)[^'"`\\\#] )*""",
    re.VERBOSE | re.DOTALL,
)
"""Filters whose texts and names ml-metadata takes into its SQL unharmed. It writes a quote in a text as a
backslash and a quote, which SQLite does not know, and a property's name as it is: a filter could delete all
rows, and read other databases (ml-metadata 1.17.1, measured)."""

READ_BYTES = 2**20
"""Of a question. A million ids take a hundred times their bytes while they are looked up."""

_NULL = "__MLMD_NULL__"
CODED = "mlmd-struct::"
"""How a text begins that MLMD takes for a struct; where it is none, each listing fails that meets it."""

_SPECIAL = (_NULL, CODED)
_STRUCT_DEPTH = 30
"""Of a type's `input_type`: its JSON nests three times as deep, and at a hundred MLMD ends the process."""

_NODES = ("artifacts", "executions", "contexts")


def check_request(method: str, request: Any, limits: Limits = SQLITE, *, to_native: bool = True) -> None:
    """Refuse a request that would harm the store or end the process.

    Costs nothing for short reads and about 20 us for the write of a step.

    Args:
        method: The RPC's name.
        request: Its request.
        limits: What the database's columns hold.
        to_native: ml-metadata's core is to read it, which some filters harm.

    Raises:
        RejectedRequestError: The message names the node and the property.
    """
    if not method.startswith("Put"):
        if request.ByteSize() > READ_BYTES:
            _refuse(f"a question of more than {READ_BYTES} bytes: ask for less at once")
        if to_native:
            _check_filters(request)
        return
    try:
        _check_write(method, request, limits)
    except (TypeError, UnicodeDecodeError):  # protobuf gives bytes for such a text, or nothing for such a key
        _refuse("a text in it is no UTF-8")


def _check_write(method: str, request: Any, limits: Limits) -> None:
    if method == "PutExecution":
        _check_put_execution(request, limits)
        return
    fields = request.DESCRIPTOR.fields_by_name
    for kind in _NODES:
        for node in getattr(request, kind) if kind in fields else ():
            _check_node(node, kind[:-1], limits)
    for event in request.events if "events" in fields else ():
        _check_event(event, limits)
    for edge in request.event_edges if "event_edges" in fields else ():
        _check_event(edge.event, limits)
    if "Type" in method:
        _check_types(request, fields, limits)


def needs_look(data: bytes) -> bool:
    """Tell at little cost whether a question's bytes may be ones that `check_request` refuses."""
    return (
        len(data) > FILTER_BYTES
        or b"\\" in data
        or b"'''" in data
        or (b'"' in data and (b"'" in data or b"`" in data))
    )


def _check_filters(request: Any) -> None:
    for field, value in request.ListFields():
        if field.name == "filter_query":
            if len(value) > FILTER_BYTES:
                _refuse(f"a filter_query of {len(value)} bytes; {FILTER_BYTES} are the most")
            if isinstance(value, bytes) or not _PLAIN_FILTER.fullmatch(value):
                _refuse("a filter_query with a backslash, a comment, or one kind of quote inside another")
        if field.name in _HAVE_FILTERS:
            _check_filters(value)


def _check_put_execution(request: Any, limits: Limits) -> None:
    if request.HasField("execution"):
        _check_node(request.execution, "execution", limits)
    for pair in request.artifact_event_pairs:
        if pair.HasField("artifact"):
            _check_node(pair.artifact, "artifact", limits)
        _check_event(pair.event, limits)
    for context in request.contexts:
        _check_node(context, "context", limits)


def _check_types(request: Any, fields: Any, limits: Limits) -> None:
    for name in fields:
        if not name.endswith(("_type", "_types")):
            continue
        value = getattr(request, name)
        for kind in (value,) if name.endswith("_type") else value:
            _check_name(kind.name, "a type's name", limits)
            _check_name(kind.version, "a type's version", limits)
            _check_long(kind.description, "a type's description", limits)
            _check_name(kind.external_id, "a type's external_id", limits)
            for key in kind.properties:
                _check_name(key, f"a property's name of type {kind.name!r}", limits)
            for field, value in kind.ListFields():
                if field.name in ("input_type", "output_type"):
                    _check_struct(value, _STRUCT_DEPTH)


def _check_struct(struct: Any, left: int) -> None:
    if left < 1:
        _refuse(f"a type's input_type or output_type is nested deeper than {_STRUCT_DEPTH}")
    for field, value in struct.ListFields():
        if not field.message_type:
            continue
        if field.message_type.GetOptions().map_entry:
            if not field.message_type.fields_by_name["value"].message_type:
                continue
            inner: Iterable[Any] = [value[key] for key in value]
        else:
            inner = value if isinstance(value, Sequence) else [value]
        for each in inner:
            # The members of a struct are one level deeper, what they are wrapped in is not.
            _check_struct(each, left - (each.DESCRIPTOR.name == "ArtifactStructType"))


def _check_node(node: Any, kind: str, limits: Limits) -> None:
    if node.name:
        _check_name(node.name, f"the {kind}'s name", limits)
    if node.external_id:
        _check_name(node.external_id, f"the {kind}'s external_id", limits)
    if kind == "artifact" and node.uri:
        _check_long(node.uri, "the artifact's uri", limits)
    for values in (node.properties, node.custom_properties):
        if values:
            _check_properties(values, kind, limits)


def _check_properties(values: Any, kind: str, limits: Limits) -> None:
    name_limit, string_limit = limits.name_limit, limits.string_limit
    for key in values:  # items() of a protobuf map is written in Python, and slow
        value = values[key]
        held = value.WhichOneof("value")
        if not _is_short_text(key, name_limit):
            _check_name(key, f"a property's name of the {kind}", limits)
        if held != "string_value":
            _check_value(key, value, held, kind, limits)
        elif not _is_short_text(value.string_value, string_limit):
            _check_string(value.string_value, f"property {key!r} of the {kind}", limits)
    if not limits.exact_names:
        _check_alike(values, kind, limits)


def _check_alike(names: Iterable[str], kind: str, limits: Limits) -> None:
    seen: dict[str, str] = {}
    for name in names:
        other = seen.setdefault(limits.folded(name), name)
        if other != name:
            _refuse(f"properties {other!r} and {name!r} of the {kind} have one name to this database")


def _check_value(key: str, value: Any, held: str | None, kind: str, limits: Limits) -> None:
    if held == "double_value":
        _check_double(value.double_value, f"property {key!r} of the {kind}", limits)
    elif held == "int_value":
        if limits.int_bits == 32 and not -(2**31) <= value.int_value < 2**31:  # noqa: PLR2004
            _refuse(f"property {key!r} of the {kind} does not fit the 32 bit column of this database", limits)
    elif held == "proto_value":
        if not value.proto_value.type_url:
            _refuse(
                f"property {key!r} of the {kind} is a message without a type, which MLMD cannot read again"
            )
    elif held is None:
        # MLMD's words for the one such property that it finds before it ends the process: one of no type.
        _refuse(f"property {key!r} of the {kind} has no value. Found unmatched property type: {key}")
    if limits.stored_bytes is not None and held in ("struct_value", "proto_value"):
        size = len(CODED) + (getattr(value, held).ByteSize() + 2) // 3 * 4  # as base64
        if size > limits.stored_bytes:
            _refuse(_too_long(f"property {key!r} of the {kind}", size, limits.stored_bytes), limits)


def _check_double(value: float, what: str, limits: Limits) -> None:
    if not math.isfinite(value):
        _refuse(f"{what} is not a finite number")
    if not (value or limits.signed_zero) and math.copysign(1, value) < 0:
        _refuse(f"{what} is -0.0, which this database takes for 0.0")


def _is_short_text(text: str, limit: int | None) -> bool:
    """Tell at little cost that a check of it has nothing to say, as it nearly always has."""
    return "\0" not in text and not text.startswith(_SPECIAL) and (limit is None or len(text) * 12 <= limit)


def _check_event(event: Any, limits: Limits) -> None:
    for step in event.path.steps:
        if step.key:
            _check_long(step.key, "an event path's key", limits)


def _check_name(text: str, what: str, limits: Limits) -> None:
    _check_plain(text, what)
    if limits.name_bytes is not None:
        size = len(text.encode("utf-8", "surrogatepass"))
        if size > limits.name_bytes:
            _refuse(_too_long(what, size, limits.name_bytes), limits)
    if limits.name_chars is not None and len(text) > limits.name_chars:
        _refuse(_too_long(what, len(text), limits.name_chars, "characters"), limits)


def _check_long(text: str, what: str, limits: Limits) -> None:
    _check_plain(text, what)
    _check_stored(text, what, limits.uri_bytes, limits)


def _check_string(text: str, what: str, limits: Limits) -> None:
    _check_plain(text, what)
    if text.startswith(CODED):
        _refuse(f"{what} begins with {CODED}, where MLMD would read another kind of value")
    _check_stored(text, what, limits.stored_bytes, limits)
    if limits.string_bytes is not None and len(text) * 8 > limits.string_bytes:
        size = len(text.encode("utf-8", "surrogatepass")) + sum(text.count(char) for char in "\\'\"\n\r\x1a")
        if size > limits.string_bytes:
            _refuse(
                f"{what} has {size} bytes as SQL, and max_allowed_packet leaves {limits.string_bytes} for it"
            )


def _check_plain(text: str, what: str) -> None:
    if "\0" in text:
        _refuse(f"{what} holds a NUL character, where MLMD would cut it")
    if text == _NULL:
        _refuse(f"{what} is {_NULL}, which MLMD cannot read again")


def _check_stored(text: str, what: str, limit: int | None, limits: Limits) -> None:
    if limit is not None and len(text) * 12 > limit:
        size = limits.stored(text)
        if size > limit:
            _refuse(_too_long(what, size, limit), limits)


def _too_long(what: str, size: int, limit: int, unit: str = "bytes") -> str:
    return f"{what} has {size} {unit}, and this database's column holds {limit}"


def _refuse(what: str, limits: Limits = SQLITE) -> None:
    hint = "change the value, or keep it in an artifact's payload"
    raise RejectedRequestError(
        f"not sent: {what}", hint=f"{limits.remedy}; or {hint}" if limits.remedy else hint
    )
