"""The HTTP side of the API server: paths to calls, patches, faults, watches."""

from __future__ import annotations

import json
import re
import socket
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlsplit

from tests.services.kubernetes.faults import Call
from tests.services.kubernetes.objects import RESOURCES, Object, Refusal, refusal
from tests.services.portforward import PROTOCOL

if TYPE_CHECKING:
    from tests.services.kubernetes import FakeKubernetes

_PATH = re.compile(
    r"/(?:api|apis/(?P<group>[^/]+))/v1"
    r"(?:/namespaces/(?P<namespace>[^/]+)(?=/[a-z]))?"
    r"/(?P<resource>[a-z]+)(?:/(?P<name>[^/]+)(?:/(?P<sub>[a-z]+))?)?"
)
_DISCOVERY = re.compile(r"/(?:version|api|apis|api/v1|apis/(?P<group>[^/]+)/v1)/?")
_VERBS = {"POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}
_MERGED_BY_NAME = ("containers", "env", "volumes", "volumeMounts", "ports")


class Server(ThreadingHTTPServer):
    """Listens on 127.0.0.1."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, fake: FakeKubernetes) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.fake = fake

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Leave a client alone that went away."""


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # else each answer takes 40 ms
    server: Server

    def log_message(self, format: str, *args: Any) -> None:
        """Write no log."""

    def do_GET(self) -> None:
        self._serve()

    do_POST = do_PUT = do_PATCH = do_DELETE = do_GET  # noqa: N815 - http.server's names

    @property
    def fake(self) -> FakeKubernetes:
        """What is served."""
        return self.server.fake

    def _serve(self) -> None:
        parts = urlsplit(self.path)
        query = dict(parse_qsl(parts.query))
        length = int(self.headers.get("Content-Length") or 0)
        raw = self.rfile.read(length) if length else b""
        try:
            if self.headers.get("Authorization") != f"Bearer {self.fake.token}":
                raise refusal(401, "", "")
            discovery = _DISCOVERY.fullmatch(parts.path)
            if discovery:
                self._send(200, self._discovered(parts.path.rstrip("/"), discovery["group"]))
                return
            self._call(parts.path, query, json.loads(raw) if raw else {})
        except Refusal as error:
            self._send(error.code, error.status)

    def _call(self, path: str, query: dict[str, str], body: Any) -> None:
        match = _PATH.fullmatch(path)
        if match is None or match["resource"] not in RESOURCES:
            raise Refusal(404, "NotFound", "the server could not find the requested resource")
        resource, name, sub = match["resource"], match["name"] or "", match["sub"] or ""
        namespace = match["namespace"] or ""
        is_watch = query.get("watch") in ("true", "True", "1")
        reading = "watch" if is_watch else "get" if name else "list"
        verb = _VERBS.get(self.command, reading)
        call = Call(verb, f"{resource}/{sub}" if sub else resource, namespace, name)
        self.fake.calls.append(call)
        fault = self.fake.faults.take(call)
        if fault is not None:
            time.sleep(fault.delay_s)
            if fault.cut:
                self._cut()
                return
            if fault.status:
                raise refusal(fault.status, resource, name or _name(body))
        if sub == "portforward":
            self._forward(namespace, name, int(query.get("ports", 0)))
        elif sub == "log":
            self._send_text(self._log(namespace, name, query))
        elif is_watch:
            self._watch(resource, namespace, query)
        else:
            answer = self._answer(call, resource, query, body)
            if fault is not None and fault.lost:
                self._cut()
            else:
                self._send(201 if verb == "create" else 200, answer)

    def _answer(self, call: Call, resource: str, query: dict[str, str], body: Any) -> Object:
        objects = self.fake.objects
        namespace, name = call.namespace, call.name
        if call.verb == "create":
            return objects.create(resource, namespace, body)
        if call.verb == "get":
            return objects.get(resource, namespace, name)
        if call.verb == "list":
            selectors = {"labels": query.get("labelSelector", ""), "fields": query.get("fieldSelector", "")}
            kind = RESOURCES[resource]
            return {
                "kind": f"{kind.kind}List",
                "apiVersion": kind.version,
                "metadata": {"resourceVersion": objects.version},
                "items": objects.list(resource, namespace, **selectors),
            }
        if call.verb == "delete":
            options = {key: query[key] for key in ("propagationPolicy",) if key in query}
            return objects.delete(resource, namespace, name, {**options, **body})
        if call.verb == "update":
            return objects.change(resource, namespace, name, lambda _: body)
        strategic = "strategic" in (self.headers.get("Content-Type") or "")
        return objects.change(resource, namespace, name, lambda old: merged(old, body, strategic=strategic))

    def _log(self, namespace: str, name: str, query: dict[str, str]) -> str:
        pod = self.fake.objects.get("pods", namespace, name)
        names = [each["name"] for each in pod["spec"]["containers"]]
        if query.get("container") not in names:  # as of a pod into which a service mesh put one of its own
            raise Refusal(400, "BadRequest", f"a container name must be specified, choose one of: {names}")
        lines = self.fake.controllers.log(namespace, name).splitlines(keepends=True)
        if query.get("timestamps") in ("true", "True"):
            lines = [f"2026-01-01T00:00:00.{place:09d}Z {line}" for place, line in enumerate(lines)]
        return "".join(lines[-int(query.get("tailLines", len(lines) or 1)) :])

    def _forward(self, namespace: str, name: str, port: int) -> None:
        pod = self.fake.objects.get("pods", namespace, name)
        if self.headers.get("Upgrade", "").lower() != "websocket":
            raise Refusal(400, "BadRequest", "Upgrade request required")
        if PROTOCOL not in self.headers.get("Sec-WebSocket-Protocol", ""):
            raise Refusal(400, "BadRequest", "no protocol in common")
        if pod.get("status", {}).get("phase") != "Running":
            raise Refusal(400, "BadRequest", f"pod {name} is not running")
        local = self.fake.controllers.local_port(namespace, name, port)
        self.fake.forwards.serve(self, f"{name}_{namespace}", port, local)

    def _watch(self, resource: str, namespace: str, query: dict[str, str]) -> None:
        """Tell of each object that is new or changed, until the client goes or the watch is closed."""
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Connection", "close")
        self.end_headers()
        self.close_connection = True
        ends = time.monotonic() + float(query.get("timeoutSeconds", 60))
        known: dict[str, Object] = {}
        generation = self.fake.watches
        while time.monotonic() < ends and self.fake.watches == generation:
            found = {
                each["metadata"]["uid"]: each
                for each in self.fake.objects.list(
                    resource,
                    namespace,
                    labels=query.get("labelSelector", ""),
                    fields=query.get("fieldSelector", ""),
                )
            }
            events = [("DELETED", each) for uid, each in known.items() if uid not in found]
            events += [
                ("MODIFIED" if uid in known else "ADDED", each)
                for uid, each in found.items()
                if known.get(uid) != each
            ]
            for kind, each in events:
                self.wfile.write(json.dumps({"type": kind, "object": each}).encode() + b"\n")
            self.wfile.flush()
            known = found
            with self.fake.objects.changed:
                self.fake.objects.changed.wait(0.05)

    def _discovered(self, path: str, group: str | None) -> Object:
        if path == "/version":
            return {"major": "1", "minor": "34", "gitVersion": "v1.34.0"}
        if path == "/api":
            return {"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []}
        if path == "/apis":
            return {"kind": "APIGroupList", "apiVersion": "v1", "groups": [*map(_group, _groups())]}
        return {
            "kind": "APIResourceList",
            "apiVersion": "v1",
            "groupVersion": f"{group}/v1" if group else "v1",
            "resources": [
                {
                    "name": each.name,
                    "singularName": "",
                    "namespaced": each.namespaced,
                    "kind": each.kind,
                    "verbs": ["create", "delete", "get", "list", "patch", "update", "watch"],
                }
                for each in RESOURCES.values()
                if each.group == (group or "")
            ],
        }

    def _send(self, status: int, body: Object) -> None:
        self._send_bytes(status, json.dumps(body).encode(), "application/json")

    def _send_text(self, text: str) -> None:
        self._send_bytes(200, text.encode(), "text/plain")

    def _send_bytes(self, status: int, content: bytes, kind: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def _cut(self) -> None:
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)


def merged(old: Any, patch: Any, *, strategic: bool) -> Any:
    """Return what a merge patch makes of an object; a strategic one merges some lists by name."""
    if not isinstance(patch, dict) or not isinstance(old, dict):
        return patch
    made = dict(old)
    for key, value in patch.items():
        if value is None:
            made.pop(key, None)
        elif strategic and key in _MERGED_BY_NAME and isinstance(value, list):
            named = {each["name"]: each for each in made.get(key, [])}
            for each in value:
                named[each["name"]] = merged(named.get(each["name"], {}), each, strategic=True)
            made[key] = list(named.values())
        else:
            made[key] = merged(made.get(key, {}), value, strategic=strategic)
    return made


def _name(body: Any) -> str:
    return str(body.get("metadata", {}).get("name", "")) if isinstance(body, dict) else ""


def _groups() -> list[str]:
    return sorted({each.group for each in RESOURCES.values() if each.group})


def _group(name: str) -> Object:
    version = {"groupVersion": f"{name}/v1", "version": "v1"}
    return {"name": name, "versions": [version], "preferredVersion": version}
