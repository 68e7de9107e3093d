"""Types and contexts by name, registered once, whoever else registers them at the same time."""

from __future__ import annotations

from typing import Any

from ml_metadata.proto import metadata_store_pb2 as mlmd
from ml_metadata.proto import metadata_store_service_pb2 as rpc

from zen_mlmd.dialects.types import standard_type
from zen_mlmd.errors import AlreadyExistsError, NameClashError
from zen_mlmd.recording.given import check_text
from zen_mlmd.service.client import Client, resend


class Registry:
    """Ids of types and contexts; each is asked of the store once in a process.

    It has no lock: two threads that register the same thing at once do no harm, as two processes do none.
    """

    def __init__(self, client: Client) -> None:
        self._client = client

    def type_id(self, kind: str, name: str, base_type: str = "") -> int:
        """Return the id of a type, registering it if the store has none of that name."""
        return int(self.type_message(kind, name, base_type).id)

    def type_message(self, kind: str, name: str, base_type: str = "") -> Any:
        """Return a type as the store has it, registering it if the store has none of that name."""
        known = self._client.remembered("registered types")
        return known.get((kind, name)) or self.register(kind, {name: base_type})[name]

    def register(self, kind: str, names: dict[str, str]) -> dict[str, Any]:
        """Register types in one call, and return them; `names` gives the base type of each that is new."""
        known = self._client.remembered("registered types")
        missing = {name: base for name, base in names.items() if (kind, name) not in known}
        found = self._register(kind, missing) if missing else {}
        known.update(((kind, name), message) for name, message in found.items())
        return {name: found.get(name) or known[kind, name] for name in names}

    def _register(self, kind: str, names: dict[str, str]) -> dict[str, Any]:
        for name in names:
            check_text(f"the name of the {kind} type", name)
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
                raise self.name_clash(f"the {kind} type {name!r}")
        return found

    def context_id(self, type_name: str, name: str) -> int:
        """Return the id of a context without properties, making it if there is none."""
        known = self._client.remembered("contexts")
        if (type_name, name) not in known:
            known[type_name, name] = self._get_or_make(type_name, name)
        return int(known[type_name, name])

    def _get_or_make(self, type_name: str, name: str) -> int:
        found = self._client.context(type_name, name)
        if found is None:
            made = mlmd.Context(type_id=self.type_id("context", type_name), name=name)
            try:
                return int(put_context(self._client, made))
            except AlreadyExistsError:
                found = self._client.context(type_name, name)
        if found is None:
            raise self.name_clash(f"the {type_name} {name!r}")
        return int(found.id)

    def refuse_namesake(self, type_name: str, name: str, what: str) -> None:
        """Refuse a context's name that the store takes for another one's; asked once in a process.

        A step's write makes its contexts or uses those that are there, and does not tell which.

        Args:
            type_name: The context's type.
            name: The context's name.
            what: What an error calls what has it.

        Raises:
            NameClashError: There is one of almost the same name.
        """
        known = self._client.remembered("names")
        if self._client.exact_names or (type_name, name) in known:
            return
        found = self._client.context_taken_for(type_name, name)
        if found is not None and found.name != name:
            raise self.name_clash(what)
        known[type_name, name] = True

    def name_clash(self, what: str) -> NameClashError:
        """Return the error of something whose name collides with another one's in this store."""
        return NameClashError(
            f"{self._client.location}: {what} collides with one of almost the same name",
            hint="this database takes names that differ by trailing blanks for one, and by case too unless "
            "it is utf8mb4_bin: choose another name",
        )


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
