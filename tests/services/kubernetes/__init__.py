"""A Kubernetes API server for tests: over HTTP, with state, checking what it is given; its pods are real.

It is none of Kubernetes' code: what it refuses and how it answers was written after the real server's
messages, and objects are checked with the published schemas.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import yaml
from typing_extensions import Self

from tests.services.kubernetes.controllers import Controllers
from tests.services.kubernetes.databases import Databases, OwnDatabases, SharedDatabases
from tests.services.kubernetes.faults import Call, Fault, Faults
from tests.services.kubernetes.objects import Object, Objects
from tests.services.kubernetes.server import Server
from tests.services.portforward import Forwards

__all__ = ["Call", "FakeKubernetes", "Fault", "OwnDatabases", "SharedDatabases"]


class FakeKubernetes:
    """An API server, and the controllers and kubelets behind it.

    Attributes:
        objects: What it keeps.
        controllers: What goes on behind it; its attributes make pods fail.
        faults: What goes wrong with calls; `fail` adds to it.
        calls: Those that were made, in order.
        token: What a client shows; it must be found nowhere else.
        watches: Changed by `close_watches`.
        forwards: The port-forwards that are open.
    """

    def __init__(self, databases: Databases | None = None) -> None:
        """Prepare a server.

        Args:
            databases: What the pods of stateful sets run; None is nothing.
        """
        self.objects = Objects()
        self.controllers = Controllers(self.objects)
        self.controllers.databases = databases
        self.faults = Faults()
        self.calls: list[Call] = []
        self.token = f"canary-{secrets.token_hex(12)}"
        self.watches = 0
        self.forwards = Forwards()
        self._server = Server(self)
        for name in ("standard", "fixed"):
            body = {"metadata": {"name": name}, "provisioner": "tests.local/disk"}
            self.objects.create("storageclasses", "", body)
        self.namespace("default")

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        self.controllers.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close_watches()
        self._server.shutdown()
        self._server.server_close()
        self.controllers.stop()

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self._server.server_port}"

    def kubeconfig(self, path: Path, *, namespace: str = "default", context: str = "tests") -> Path:
        """Write a kubeconfig with one context for it."""
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": context,
            "clusters": [{"name": "tests", "cluster": {"server": self.url}}],
            "users": [{"name": "tester", "user": {"token": self.token}}],
            "contexts": [
                {"name": context, "context": {"cluster": "tests", "user": "tester", "namespace": namespace}}
            ],
        }
        path.write_text(yaml.safe_dump(config), "utf-8")
        path.chmod(0o600)
        return path

    def fail(self, verb: str, resource: str, **fault: Any) -> None:
        """Let calls go wrong: `fail("create", "secrets", status=403, times=1)`; `*` is any of them."""
        self.faults.add(Fault(verb, resource, **fault))

    def close_watches(self) -> None:
        """End all watches, as the server does now and then."""
        self.watches += 1
        with self.objects.changed:
            self.objects.changed.notify_all()

    def namespace(self, name: str) -> None:
        """Make a namespace."""
        self.objects.create("namespaces", "", {"metadata": {"name": name}})

    def pod(self, namespace: str, name: str, labels: Mapping[str, str], ports: Mapping[int, int]) -> Object:
        """Make a pod that is ready and whose ports are local ones; None may listen there."""
        self.controllers.register(namespace, name, ports)
        named = [{"containerPort": port} for port in ports]
        spec = {"containers": [{"name": "main", "image": "mysql:8.4", "ports": named}]}
        body = {"metadata": {"name": name, "labels": dict(labels)}, "spec": spec}
        return self.objects.create("pods", namespace, body)

    def service(
        self, namespace: str, name: str, selector: Mapping[str, str], ports: Mapping[int, int | str]
    ) -> Object:
        """Make a Service; `ports` are its own and those of its pods."""
        named = [
            {"name": f"port-{port}", "port": port, "targetPort": target} for port, target in ports.items()
        ]
        body = {"metadata": {"name": name}, "spec": {"selector": dict(selector), "ports": named}}
        return self.objects.create("services", namespace, body)

    def local_port(self, namespace: str, pod: str, port: int) -> int | None:
        """Return where a pod's port is on this machine, or None if nothing listens on it."""
        return self.controllers.local_port(namespace, pod, port)

    def wait(self, true: Callable[[], object], timeout_s: float = 20.0) -> None:
        """Wait until something is so."""
        deadline = time.monotonic() + timeout_s
        while not true():
            assert time.monotonic() < deadline, f"it never was so: {true}"
            with self.objects.changed:
                self.objects.changed.wait(0.05)
