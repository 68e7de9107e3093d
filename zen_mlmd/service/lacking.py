"""Calls that MLMD's server has and its Python extension has not, asked by those that it has.

Of the three that are missing `GetLineageGraph` is not here: MLMD's own server answers that it is not
implemented (ml-metadata 1.14 to 1.21, metadata_store.cc).
"""

from __future__ import annotations

from typing import Any

from ml_metadata.proto import metadata_store_service_pb2 as rpc

from zen_mlmd.errors import StoreError
from zen_mlmd.service.base import INVALID_ARGUMENT, MetadataService

_MOST = 10_000
"""Each is a call of its own."""


def _parents(service: MetadataService, request: rpc.GetParentContextsByContextsRequest) -> Any:
    response = rpc.GetParentContextsByContextsResponse()
    for context_id in _wanted(service, "GetParentContextsByContexts", request):
        found = service.call(
            "GetParentContextsByContext", rpc.GetParentContextsByContextRequest(context_id=context_id)
        ).contexts
        if found:
            response.contexts[context_id].parent_contexts.extend(found)
    return response


def _children(service: MetadataService, request: rpc.GetChildrenContextsByContextsRequest) -> Any:
    response = rpc.GetChildrenContextsByContextsResponse()
    for context_id in _wanted(service, "GetChildrenContextsByContexts", request):
        found = service.call(
            "GetChildrenContextsByContext", rpc.GetChildrenContextsByContextRequest(context_id=context_id)
        ).contexts
        if found:
            response.contexts[context_id].children_contexts.extend(found)
    return response


def _wanted(service: MetadataService, method: str, request: Any) -> list[int]:
    if not request.context_ids:
        raise StoreError(
            f"{service.location}: {method}: Given context_ids is empty.",
            hint="ask for one context at least",
            mlmd_code=INVALID_ARGUMENT,
        )
    wanted = list(dict.fromkeys(request.context_ids))
    if len(wanted) > _MOST:
        raise StoreError(
            f"{service.location}: {method}: {len(wanted)} contexts; {_MOST} are the most",
            hint="ask for fewer at once",
            mlmd_code=INVALID_ARGUMENT,
        )
    return wanted


LACKING = {"GetParentContextsByContexts": _parents, "GetChildrenContextsByContexts": _children}
