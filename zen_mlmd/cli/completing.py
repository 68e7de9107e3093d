"""What a shell offers to complete: names that are kept, flavors, and their settings.

It answers between two keystrokes: a flavor's class, which takes half a second to import, is not asked for
what stands here of the built-in ones.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from zen_mlmd.errors import ZenMlmdError
from zen_mlmd.stack.words import Kind

if TYPE_CHECKING:
    import click

Complete: TypeAlias = Callable[["click.Context", "click.Parameter", str], list[str]]

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


def flavors(kind: Kind) -> Complete:
    """Return what completes the name of a flavor."""
    return _among(lambda: SETTINGS[kind])


def components(kind: Kind) -> Complete:
    """Return what completes the name of a component."""

    def names() -> Iterable[str]:
        from zen_mlmd.stack.named import Components
        from zen_mlmd.stack.settings import Settings

        return [each.name for each in Components(Settings(), kind).all()]

    return _among(names)


def stacks(ctx: click.Context, parameter: click.Parameter, begun: str) -> list[str]:
    """Complete the name of a stack."""

    def names() -> Iterable[str]:
        from zen_mlmd.stack.settings import Settings
        from zen_mlmd.stack.stacks import Stacks

        return [each.name for each in Stacks(Settings()).all()]

    return _among(names)(ctx, parameter, begun)


def _among(names: Callable[[], Iterable[str]]) -> Complete:
    def complete(_: Any, __: Any, begun: str) -> list[str]:
        try:
            return [each for each in names() if each.startswith(begun)]
        except ZenMlmdError:  # no settings that can be read; the command itself will say so
            return []

    return complete
