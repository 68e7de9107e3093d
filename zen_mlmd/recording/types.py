"""Types and contexts by name, registered once, whoever else registers them at the same time."""

from __future__ import annotations

import threading
from typing import Any

from ml_metadata.proto import metadata_store_pb2 as mlmd
from ml_metadata.proto import metadata_store_service_pb2 as rpc

from zen_mlmd.dialects.types import standard_type
from zen_mlmd.errors import AlreadyExistsError, NameClashError
from zen_mlmd.service.client import Client, resend


class Registry:
    """Ids of types and contexts; each is asked of the store once in a process."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._types: dict[tuple[str, str], Any] = {}
        self._contexts: dict[tuple[str, str], int] = {}
        self._lock = threading.Lock()

    def type_id(self, kind: str, name: str, base_type: str = "") -> int:
        """Return the id of a type, registering it if the store has none of that name."""
        return int(self.type_message(kind, name, base_type).id)

    def type_message(self, kind: str, name: str, base_type: str = "") -> Any:
        """Return a type as the store has it, registering it if the store has none of that name."""
        if (kind, name) not in self._types:
            self.register(kind, {name: base_type})
        return self._types[kind, name]

    def register(self, kind: str, names: dict[str, str]) -> None:
        """Register types in one call; `names` gives the base type of each that is new."""
        with self._lock:
            missing = {name: base for name, base in names.items() if (kind, name) not in self._types}
            if missing:
                self._register(kind, missing)

    def _register(self, kind: str, names: dict[str, str]) -> None:
        found = {name: self._client.type_named(kind, name) for name in names}
        absent = [name for name, message in found.items() if message is None]
        if absent:
            # A type that is there with more or fewer properties is left as it is.
            request = rpc.PutTypesRequest(can_add_fields=True, can_omit_fields=True)
            for name in absent:
                getattr(request, f"{kind}_types").append(standard_type(kind, name, names[name]))
            try:
                self._client.put_types(request)
            except AlreadyExistsError:
                # Another process registered one of them between our question and our answer.
                self._client.put_types(request)
            found.update((name, self._client.type_named(kind, name)) for name in absent)
        for name, message in found.items():
            if message is None:
                raise NameClashError(
                    f"{self._client.location}: the {kind} type {name!r} was registered, and is not found",
                    hint="does the database take upper and lower case for one? use a utf8mb4_bin database",
                )
            self._types[kind, name] = message

    def context_id(self, type_name: str, name: str) -> int:
        """Return the id of a context without properties, making it if there is none."""
        with self._lock:
            known = self._contexts.get((type_name, name))
        if known is None:
            known = self._get_or_make(type_name, name)
            with self._lock:
                self._contexts[type_name, name] = known
        return known

    def _get_or_make(self, type_name: str, name: str) -> int:
        found = self._client.context(type_name, name)
        if found is None:
            made = mlmd.Context(type_id=self.type_id("context", type_name), name=name)
            try:
                return int(put_context(self._client, made))
            except AlreadyExistsError:
                found = self._client.context(type_name, name)
        if found is None:
            raise NameClashError(
                f"{self._client.location}: {type_name} {name!r} collides with one of almost the same name",
                hint="this database takes names that differ by case or trailing blanks for one: "
                "choose another name, or use a utf8mb4_bin database",
            )
        return int(found.id)


def put_context(client: Client, context: mlmd.Context) -> int:
    """Make a context and return its id.

    Raises:
        AlreadyExistsError: There is one of that type and name.
    """
    request = rpc.PutContextsRequest(contexts=[context])
    response: Any = client.write("PutContexts", request, lambda: None)
    return int(response.context_ids[0])


def put_masked(client: Client, context: mlmd.Context, paths: list[str]) -> None:
    """Write only those fields of a context that `paths` name, so that nobody's other fields are lost."""
    request = rpc.PutContextsRequest(contexts=[context])
    request.update_mask.paths.extend(paths)
    client.write("PutContexts", request, resend)
