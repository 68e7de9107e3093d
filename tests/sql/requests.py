"""Random requests of every kind, on a small world where much clashes: few names, types, ids and keys."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hypothesis import strategies as st
from ml_metadata.proto import metadata_store_pb2 as mlmd
from ml_metadata.proto import metadata_store_service_pb2 as rpc

KINDS = ("artifact", "execution", "context")
_NAMES = ("a", "b", "B", "c ", "ü")
_URIS = ("", "s3://x", "s3://y")
_EXTERNAL = ("e1", "e2", "e3", "e4")
_TYPE_NAMES = ("T", "U", "V")
_KEYS = ("i", "s", "d", "b", "p", "t", "z")
_KEY_TYPES = {
    "i": mlmd.INT,
    "s": mlmd.STRING,
    "d": mlmd.DOUBLE,
    "b": mlmd.BOOLEAN,
    "p": mlmd.PROTO,
    "t": mlmd.STRUCT,
}
_MASKS = (
    *(
        "properties",
        "custom_properties",
        "properties.i",
        "properties.s",
        "custom_properties.cz",
        "external_id",
    ),
    *("name", "type_id", "id", "uri", "state", "last_known_state", "create_time_since_epoch", "nothing"),
)
_NODE = {"artifact": mlmd.Artifact, "execution": mlmd.Execution, "context": mlmd.Context}
_TYPE = {"artifact": mlmd.ArtifactType, "execution": mlmd.ExecutionType, "context": mlmd.ContextType}
MISSING = 1_000_000
"""An id that no node has."""

World = dict[str, list[int]]
"""The ids there are, by kind; types of artifacts are `artifact_type`."""


def maybe(draw: Any, chance: float = 0.5) -> bool:
    """Draw whether something is there."""
    return bool(draw(st.integers(0, 99)) < chance * 100)


def one_id(draw: Any, world: World, kind: str) -> int:
    """Draw the id of a node, seldom one that is not there."""
    known = world[kind]
    if not known or maybe(draw, 0.04):
        return MISSING
    newest = known[-2:] if kind.endswith("_type") else known[-6:]
    return int(draw(st.sampled_from(newest if maybe(draw, 0.85) else known)))


def ids(draw: Any, world: World, kind: str, most: int = 4) -> list[int]:
    """Draw ids, some of them twice."""
    return [one_id(draw, world, kind) for _ in range(draw(st.integers(0, most)))]


def value(draw: Any, key: str) -> mlmd.Value:
    """Draw a value, mostly of the type that its key has in the types."""
    made = mlmd.Value()
    held = key if key in _KEY_TYPES and maybe(draw, 0.93) else draw(st.sampled_from("isdbpt"))
    if held == "i":
        made.int_value = draw(st.sampled_from((0, 1, -7, 2**31 - 1)))
    elif held == "s":
        made.string_value = draw(st.sampled_from(("", "x", "ü", "a'b\"c\\", "x" * 300)))
    elif held == "d":
        made.double_value = draw(st.sampled_from((0.0, 0.5, -1.25, 1e6)))
    elif held == "b":
        made.bool_value = draw(st.booleans())
    elif held == "p":
        made.proto_value.Pack(mlmd.Event.Path.Step(key=draw(st.sampled_from(("", "k")))))
    else:
        made.struct_value["k"] = draw(st.sampled_from((1, "x", None)))
    return made


def a_type(draw: Any, kind: str) -> Any:
    """Draw a type: one of three names, so that it is often there already, with other properties."""
    made = _TYPE[kind]()
    if not maybe(draw, 0.02):
        made.name = draw(st.sampled_from(_TYPE_NAMES))
    if maybe(draw, 0.3):
        made.version = draw(st.sampled_from(("", "1")))
    if maybe(draw, 0.2):
        made.description = "told"
    if maybe(draw, 0.15):
        made.external_id = draw(st.sampled_from(_EXTERNAL))
    for key in draw(st.sets(st.sampled_from("isdbpt"), max_size=6)):
        made.properties[key] = _KEY_TYPES[key]
    if maybe(draw, 0.04):
        made.properties["s"] = draw(st.sampled_from((mlmd.INT, mlmd.UNKNOWN)))
    if maybe(draw, 0.2):
        base = {"artifact": (0, 1, 4), "execution": (0, 1, 2), "context": (0,)}[kind]
        made.base_type = draw(st.sampled_from(base))
    if kind == "execution" and maybe(draw, 0.2):
        made.input_type.dict.properties["x"].any.SetInParent()
        if maybe(draw):
            made.output_type.none.SetInParent()
    return made


def a_node(draw: Any, world: World, kind: str, *, update: float = 0.35) -> Any:
    """Draw a node: new, or an update of one that may be there."""
    made = _NODE[kind]()
    if maybe(draw, update) and world[kind]:
        made.id = one_id(draw, world, kind)
    if not maybe(draw, 0.3 if made.id else 0.02):
        made.type_id = one_id(draw, world, f"{kind}_type")
    if maybe(draw, 0.9 if kind == "context" else 0.3):
        made.name = draw(st.sampled_from(_NAMES)) + draw(st.sampled_from(("", "1", "2", "3")))
    if maybe(draw, 0.15):
        made.external_id = draw(st.sampled_from(_EXTERNAL))
    _what_it_has_alone(draw, made, kind)
    for key in draw(st.sets(st.sampled_from(_KEYS if maybe(draw, 0.05) else "isdbpt"), max_size=3)):
        if maybe(draw, 0.6):
            made.properties[key].CopyFrom(value(draw, key))
    for key in draw(st.sets(st.sampled_from(_KEYS), max_size=2)):
        # Not by the name of a property: ml-metadata takes the two for one when it changes either.
        made.custom_properties[f"c{key}"].CopyFrom(value(draw, key))
    return made


def _what_it_has_alone(draw: Any, made: Any, kind: str) -> None:
    if kind == "artifact":
        if maybe(draw, 0.7):
            made.uri = draw(st.sampled_from(_URIS))
        if maybe(draw, 0.3):
            made.state = draw(st.sampled_from((0, 1, 2, 3, 4)))
    if kind == "execution" and maybe(draw):
        made.last_known_state = draw(st.sampled_from((0, 1, 2, 3, 4, 5, 6)))


def an_event(draw: Any) -> mlmd.Event:
    """Draw an event without its ends."""
    made = mlmd.Event()
    if not maybe(draw, 0.02):
        made.type = draw(st.integers(0 if maybe(draw, 0.05) else 1, 7))
    for _ in range(draw(st.integers(0, 2))):
        if maybe(draw):
            made.path.steps.add(key=draw(st.sampled_from(("in", "out", ""))))
        else:
            made.path.steps.add(index=draw(st.integers(0, 2)))
    made.milliseconds_since_epoch = draw(st.integers(1, 5))
    return made


def first_types() -> rpc.PutTypesRequest:
    """Return what is put first: types with a property of each kind."""
    types = rpc.PutTypesRequest()
    for kind in KINDS:
        made = getattr(types, f"{kind}_types").add(name="W")
        for key, its_type in _KEY_TYPES.items():
            made.properties[key] = its_type
    return types


def first_nodes(world: World) -> list[tuple[str, Any]]:
    """Return the nodes that are put next."""
    requests = []
    for kind in KINDS:
        request = getattr(rpc, f"Put{kind.capitalize()}sRequest")()
        for number in range(3):
            getattr(request, f"{kind}s").add(type_id=world[f"{kind}_type"][-1], name=f"first{number}")
        requests.append((f"Put{kind.capitalize()}s", request))
    return requests


def _put_types(draw: Any, world: World) -> rpc.PutTypesRequest:
    request = rpc.PutTypesRequest()
    for kind in KINDS:
        if maybe(draw):
            getattr(request, f"{kind}_types").append(a_type(draw, kind))
    _type_options(draw, request)
    return request


def _put_type(kind: str) -> Callable[[Any, World], Any]:
    def put(draw: Any, world: World) -> Any:
        request = getattr(rpc, f"Put{kind.capitalize()}TypeRequest")()
        getattr(request, f"{kind}_type").CopyFrom(a_type(draw, kind))
        _type_options(draw, request)
        return request

    return put


def _type_options(draw: Any, request: Any) -> None:
    for option in ("can_add_fields", "can_omit_fields", "all_fields_match"):
        if maybe(draw, 0.1 if option == "all_fields_match" else 0.5):
            setattr(request, option, draw(st.booleans()))


def _put_nodes(kind: str) -> Callable[[Any, World], Any]:
    def put(draw: Any, world: World) -> Any:
        request = getattr(rpc, f"Put{kind.capitalize()}sRequest")()
        for _ in range(draw(st.integers(0, 3))):
            getattr(request, f"{kind}s").append(a_node(draw, world, kind))
        if maybe(draw, 0.3):
            request.update_mask.paths.extend(draw(st.lists(st.sampled_from(_MASKS), max_size=3)))
        return request

    return put


def _put_events(draw: Any, world: World) -> rpc.PutEventsRequest:
    request = rpc.PutEventsRequest()
    for _ in range(draw(st.integers(0, 3))):
        event = an_event(draw)
        if not maybe(draw, 0.02):
            event.artifact_id = one_id(draw, world, "artifact")
        if not maybe(draw, 0.02):
            event.execution_id = one_id(draw, world, "execution")
        request.events.append(event)
    return request


def _put_links(draw: Any, world: World) -> rpc.PutAttributionsAndAssociationsRequest:
    request = rpc.PutAttributionsAndAssociationsRequest()
    for kind, links in (("artifact", request.attributions), ("execution", request.associations)):
        for _ in range(draw(st.integers(0, 2))):
            link = links.add()
            if not maybe(draw, 0.03):
                link.context_id = one_id(draw, world, "context")
            if not maybe(draw, 0.03):
                setattr(link, f"{kind}_id", one_id(draw, world, kind))
    return request


def _put_parents(draw: Any, world: World) -> rpc.PutParentContextsRequest:
    request = rpc.PutParentContextsRequest()
    for _ in range(draw(st.integers(0, 2))):
        link = request.parent_contexts.add()
        if not maybe(draw, 0.03):
            link.child_id = one_id(draw, world, "context")
        if not maybe(draw, 0.03):
            link.parent_id = one_id(draw, world, "context")
    return request


def _put_execution(draw: Any, world: World) -> rpc.PutExecutionRequest:
    request = rpc.PutExecutionRequest()
    if not maybe(draw, 0.02):
        request.execution.CopyFrom(a_node(draw, world, "execution"))
    for _ in range(draw(st.integers(0, 3))):
        pair = request.artifact_event_pairs.add()
        if maybe(draw, 0.8):
            pair.artifact.CopyFrom(a_node(draw, world, "artifact"))
        if maybe(draw, 0.9):
            pair.event.CopyFrom(an_event(draw))
            if not pair.HasField("artifact") or maybe(draw, 0.1):
                pair.event.artifact_id = one_id(draw, world, "artifact")
            if maybe(draw, 0.1):
                pair.event.execution_id = one_id(draw, world, "execution")
    for _ in range(draw(st.integers(0, 2))):
        request.contexts.append(a_node(draw, world, "context", update=0.4))
    _reuse(draw, request.options, "force_update_time", "force_reuse_context")
    return request


def _put_lineage(draw: Any, world: World) -> rpc.PutLineageSubgraphRequest:
    request = rpc.PutLineageSubgraphRequest()
    for kind in KINDS:
        for _ in range(draw(st.integers(0, 2))):
            getattr(request, f"{kind}s").append(a_node(draw, world, kind))
    for _ in range(draw(st.integers(0, 3))):
        edge = request.event_edges.add()
        edge.event.CopyFrom(an_event(draw))
        for kind in ("execution", "artifact"):
            if maybe(draw, 0.85):
                most = len(getattr(request, f"{kind}s")) - (0 if maybe(draw, 0.04) else 1)
                setattr(edge, f"{kind}_index", draw(st.integers(0, max(most, 0))))
            else:
                setattr(edge.event, f"{kind}_id", one_id(draw, world, kind))
    _reuse(draw, request.options)
    return request


def _reuse(draw: Any, options: Any, *more: str) -> None:
    for option in (
        "reuse_context_if_already_exist",
        "reuse_artifact_if_already_exist_by_external_id",
        *more,
    ):
        if maybe(draw, 0.4):
            setattr(options, option, True)


def _by_ids(name: str, kind: str) -> Callable[[Any, World], Any]:
    field = f"{kind.removesuffix('_type')}_ids" if not kind.endswith("_type") else "type_ids"

    def ask(draw: Any, world: World) -> Any:
        request = getattr(rpc, f"{name}Request")()
        getattr(request, field).extend(ids(draw, world, kind))
        return request

    return ask


def _with_options(draw: Any, request: Any) -> Any:
    if maybe(draw, 0.6):
        options = request.options
        options.max_result_size = draw(st.sampled_from((1, 2, 3, 100, 1000)))
        if maybe(draw, 0.8):
            options.order_by_field.field = draw(st.sampled_from((3, 3, 3)))
            options.order_by_field.is_asc = draw(st.booleans())
    return request


def _listed(kind: str) -> Callable[[Any, World], Any]:
    return lambda draw, world: _with_options(draw, getattr(rpc, f"Get{kind.capitalize()}sRequest")())


def _by_type(kind: str) -> Callable[[Any, World], Any]:
    def ask(draw: Any, world: World) -> Any:
        request = getattr(rpc, f"Get{kind.capitalize()}sByTypeRequest")()
        _type_named(draw, request)
        return _with_options(draw, request)

    return ask


def _type_named(draw: Any, request: Any) -> None:
    if not maybe(draw, 0.02):
        request.type_name = draw(st.sampled_from((*_TYPE_NAMES, "none")))
    if maybe(draw, 0.3):
        request.type_version = draw(st.sampled_from(("", "1", "2")))


def _by_type_and_name(kind: str) -> Callable[[Any, World], Any]:
    def ask(draw: Any, world: World) -> Any:
        request = getattr(rpc, f"Get{kind.capitalize()}ByTypeAndNameRequest")()
        _type_named(draw, request)
        if not maybe(draw, 0.02):
            name = draw(st.sampled_from(_NAMES)) + draw(st.sampled_from(("", "1", "2", "3")))
            setattr(request, f"{kind}_name", name)
        return request

    return ask


def _type_called(kind: str) -> Callable[[Any, World], Any]:
    def ask(draw: Any, world: World) -> Any:
        request = getattr(rpc, f"Get{kind.capitalize()}TypeRequest")()
        _type_named(draw, request)
        return request

    return ask


def _by_external(name: str) -> Callable[[Any, World], Any]:
    def ask(draw: Any, world: World) -> Any:
        request = getattr(rpc, f"{name}Request")()
        wanted = draw(st.lists(st.sampled_from((*_EXTERNAL, "none", "")), max_size=3))
        request.external_ids.extend(wanted)
        return request

    return ask


def _of_one(name: str, kind: str, *, options: bool = False) -> Callable[[Any, World], Any]:
    def ask(draw: Any, world: World) -> Any:
        request = getattr(rpc, f"{name}Request")()
        if not maybe(draw, 0.02):
            setattr(request, f"{kind}_id", one_id(draw, world, kind))
        return _with_options(draw, request) if options else request

    return ask


def _by_uri(draw: Any, world: World) -> rpc.GetArtifactsByURIRequest:
    return rpc.GetArtifactsByURIRequest(uris=draw(st.lists(st.sampled_from(_URIS), max_size=3)))


def _plain(name: str) -> Callable[[Any, World], Any]:
    return lambda draw, world: getattr(rpc, f"{name}Request")()


WRITES: dict[str, Callable[[Any, World], Any]] = {
    "PutTypes": _put_types,
    **{f"Put{kind.capitalize()}Type": _put_type(kind) for kind in KINDS},
    **{f"Put{kind.capitalize()}s": _put_nodes(kind) for kind in KINDS},
    "PutEvents": _put_events,
    "PutAttributionsAndAssociations": _put_links,
    "PutParentContexts": _put_parents,
    "PutExecution": _put_execution,
    "PutLineageSubgraph": _put_lineage,
}

READS: dict[str, Callable[[Any, World], Any]] = {
    **{f"Get{kind.capitalize()}sByID": _by_ids(f"Get{kind.capitalize()}sByID", kind) for kind in KINDS},
    **{
        f"Get{kind.capitalize()}TypesByID": _by_ids(f"Get{kind.capitalize()}TypesByID", f"{kind}_type")
        for kind in KINDS
    },
    **{f"Get{kind.capitalize()}s": _listed(kind) for kind in KINDS},
    **{f"Get{kind.capitalize()}sByType": _by_type(kind) for kind in KINDS},
    **{f"Get{kind.capitalize()}ByTypeAndName": _by_type_and_name(kind) for kind in KINDS},
    **{f"Get{kind.capitalize()}Type": _type_called(kind) for kind in KINDS},
    **{f"Get{kind.capitalize()}Types": _plain(f"Get{kind.capitalize()}Types") for kind in KINDS},
    **{
        name: _by_external(name)
        for kind in KINDS
        for name in (f"Get{kind.capitalize()}sByExternalIds", f"Get{kind.capitalize()}TypesByExternalIds")
    },
    "GetArtifactsByURI": _by_uri,
    "GetEventsByArtifactIDs": _by_ids("GetEventsByArtifactIDs", "artifact"),
    "GetEventsByExecutionIDs": _by_ids("GetEventsByExecutionIDs", "execution"),
    "GetContextsByArtifact": _of_one("GetContextsByArtifact", "artifact"),
    "GetContextsByExecution": _of_one("GetContextsByExecution", "execution"),
    "GetArtifactsByContext": _of_one("GetArtifactsByContext", "context", options=True),
    "GetExecutionsByContext": _of_one("GetExecutionsByContext", "context", options=True),
    "GetParentContextsByContext": _of_one("GetParentContextsByContext", "context"),
    "GetChildrenContextsByContext": _of_one("GetChildrenContextsByContext", "context"),
    "GetParentContextsByContexts": _by_ids("GetParentContextsByContexts", "context"),
    "GetChildrenContextsByContexts": _by_ids("GetChildrenContextsByContexts", "context"),
    "GetLineageGraph": _plain("GetLineageGraph"),
}
"""Every question but `GetLineageSubgraph`, of which ml-metadata tells but a part; it has tests of its own."""
