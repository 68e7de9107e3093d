"""Payloads: the data itself, which lies outside of MLMD, at an artifact's URI.

A value goes through a materializer into files, the files as one payload into the artifact store:
whole or not at all, hashed, never overwritten. And back again:

    registry = default_registry()
    store = ArtifactStore("/data/artifacts")
    materializer = registry.for_value(value)
    payload = store.write(store.new_uri("churn", "train", "7"), lambda to: materializer.write(value, to))
    read_payload(payload.uri, materializer.name, data_type_name(value))

This layer knows nothing of MLMD. numpy, pandas, polars, fsspec and cloudpickle are imported when a
value or a URL needs them.
"""

from zen_mlmd.payloads.base import Materializer, data_type_name
from zen_mlmd.payloads.materializers import MaterializerRegistry, default_registry, find_reader, read_payload
from zen_mlmd.payloads.places import Payload
from zen_mlmd.payloads.store import ArtifactStore, exists, open_local, payload_hash
from zen_mlmd.payloads.tfx_values import tfx_metric

__all__ = [
    "ArtifactStore",
    "Materializer",
    "MaterializerRegistry",
    "Payload",
    "data_type_name",
    "default_registry",
    "exists",
    "find_reader",
    "open_local",
    "payload_hash",
    "read_payload",
    "tfx_metric",
]
