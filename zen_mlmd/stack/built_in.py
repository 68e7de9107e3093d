"""What the built-in flavors have, for those who cannot wait until their classes are imported."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from zen_mlmd.stack.words import Kind

_STORE: Final = ("wait_s", "trusted")

SETTINGS: Final[Mapping[Kind, Mapping[str, tuple[str, ...]]]] = {
    "metadata_store": {
        "sqlite": (*_STORE, "path", "read_only", "journal_mode", "service"),
        "mysql": (
            *(*_STORE, "host", "port", "database", "user", "password", "socket"),
            *("tls", "ssl_ca", "ssl_capath", "ssl_cert", "ssl_key", "ssl_cipher", "ssl_verify_server_cert"),
            *("connect_timeout_s", "service", "read_only", "timeout_s"),
        ),
        "postgresql": (
            *(*_STORE, "host", "port", "database", "user", "password"),
            *("tls", "ssl_ca", "ssl_cert", "ssl_key", "ssl_verify_server_cert"),
            *("connect_timeout_s", "service", "read_only"),
        ),
        "kubeflow": (
            *(*_STORE, "host", "port", "namespace", "service", "context", "kubeconfig", "local_port"),
            *("tls", "ca", "certificate", "key", "token", "metadata", "max_message_bytes", "timeout_s"),
        ),
        "kubernetes": (
            *(*_STORE, "deployment", "namespace", "context", "kubeconfig", "image"),
            *("storage", "storage_class", "cpu", "memory", "cpu_limit", "memory_limit"),
            *("database", "user", "local_port", "ready_timeout_s", "request_timeout_s"),
            *("connect_timeout_s", "timeout_s", "read_only"),
        ),
    },
    "artifact_store": {"local": ("path",), "remote": ("uri",)},
    "orchestrator": {"local": ("max_parallel",)},
}
"""The settings of each built-in flavor, as its class has them."""

SECRETS: Final = frozenset({"password", "key", "token", "metadata"})
"""The settings of theirs that are never shown."""
