"""What a Kubernetes API server refuses: the published schemas, and the rules that those do not hold."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any

import jsonschema  # type: ignore[import-untyped]
from kubernetes_validate.utils import all_versions, schema_contents
from referencing import Registry, Resource

Fault = tuple[str, str]
"""The field, and what is wrong with it."""

_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
_SUBDOMAIN = re.compile(r"[a-z0-9]([-.a-z0-9]*[a-z0-9])?")
_LABEL_VALUE = re.compile(r"(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?")
_QUANTITY = re.compile(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)(m|k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei)?")
_UNITS: dict[str, Any] = {"": 1, "m": Decimal("0.001")} | {
    unit: 1000 ** (place + 1) for place, unit in enumerate(["k", "M", "G", "T", "P", "E"])
}
_UNITS |= {f"{unit}i": 1024 ** (place + 1) for place, unit in enumerate(["K", "M", "G", "T", "P", "E"])}
_DNS_LABELS = ("Namespace", "Service")
_STATEFULSET_MAY = (
    "replicas",
    "ordinals",
    "template",
    "updateStrategy",
    "revisionHistoryLimit",
    "persistentVolumeClaimRetentionPolicy",
    "minReadySeconds",
)

_MAY = f"{', '.join(map(repr, _STATEFULSET_MAY[:-1]))} and 'minReadySeconds'"
_FIXED = "Forbidden: spec is immutable after creation except resources.requests for bound claims"
_NO_GROWTH = (
    "only dynamically provisioned pvc can be resized and the storageclass that provisions the pvc must"
    " support resize"
)


@functools.cache
def validator(api_version: str, kind: str, version: str) -> Any:
    """Return the validator of a kind in a version of Kubernetes, "1.34", say; unknown fields are faults.

    `kubernetes_validate.validate` is the same, and reads all schemas for each object.
    """
    found = [each for each in all_versions() if each.startswith(f"{version}.")]
    folder = f"kubernetes-json-schema/v{found[-1]}-local-strict"
    group = re.sub(r"^([^./]*)(?:\.[^/]*)?/", r"\1-", api_version)
    schema = schema_contents(f"{folder}/{kind.lower()}-{group}.json", version)
    registry: Any = _definitions(folder, version) @ (Resource.from_contents(schema) @ Registry())
    return jsonschema.Draft202012Validator(schema, registry=registry)


@functools.cache
def _definitions(folder: str, version: str) -> Any:
    return Resource.from_contents(schema_contents(f"{folder}/_definitions.json", version))


def check(body: Mapping[str, Any], version: str = "1.34") -> Fault | None:
    """Return what an API server would refuse an object for."""
    return next(_faults(body, version), None)


def check_change(before: Mapping[str, Any], after: Mapping[str, Any]) -> Fault | None:
    """Return what an API server would refuse a change for."""
    old, new = before.get("spec", {}), after.get("spec", {})
    kind = before["kind"]
    if kind == "StatefulSet":
        keys = {key for key in {*old, *new} if old.get(key) != new.get(key)} - set(_STATEFULSET_MAY)
        if keys:
            return (
                "spec",
                f"Forbidden: updates to statefulset spec for fields other than {_MAY} are forbidden",
            )
    if kind == "Service" and old.get("clusterIP") != new.get("clusterIP"):
        return ("spec.clusterIP", "Invalid value: field is immutable")
    if kind == "Secret" and before.get("immutable") and before.get("data") != after.get("data"):
        return ("data", "Forbidden: field is immutable when `immutable` is set")
    if kind == "PersistentVolumeClaim":
        return _claim_change(before, old, new)
    return None


def amount(quantity: str) -> Decimal:
    """Return what a quantity such as `10Gi` means."""
    match = _QUANTITY.fullmatch(quantity)
    assert match, quantity
    return Decimal(match[1]) * Decimal(_UNITS[match[2] or ""])


def _claim_change(claim: Mapping[str, Any], old: Mapping[str, Any], new: Mapping[str, Any]) -> Fault | None:
    rest = [{key: spec[key] for key in spec if key not in ("resources", "volumeName")} for spec in (old, new)]
    if rest[0] != rest[1]:
        return ("spec", _FIXED)
    had, wanted = (amount(spec["resources"]["requests"]["storage"]) for spec in (old, new))
    if wanted < had:
        return ("spec.resources.requests.storage", "Forbidden: field can not be less than status.capacity")
    if wanted > had and old.get("storageClassName") == "fixed":
        return ("forbidden", _NO_GROWTH)
    if wanted > had and claim.get("status", {}).get("phase") != "Bound":
        return ("spec", _FIXED)
    return None


def _faults(body: Mapping[str, Any], version: str) -> Iterator[Fault]:
    metadata = body.get("metadata", {})
    name = metadata.get("name", "")
    pattern, longest = (_LABEL, 63) if body["kind"] in _DNS_LABELS else (_SUBDOMAIN, 253)
    if not name:
        yield "metadata.name", "Required value: name or generateName is required"
    if not pattern.fullmatch(name) or len(name) > longest:
        yield "metadata.name", f"Invalid value: {name!r}: must be a DNS name of at most {longest} characters"
    for error in validator(body["apiVersion"], body["kind"], version).iter_errors(body):
        yield ".".join(map(str, error.path)) or "body", error.message
    for key, value in metadata.get("labels", {}).items():
        if not _LABEL_VALUE.fullmatch(value) or len(value) > 63:
            yield "metadata.labels", f"Invalid value: {value!r}: of {key}"
    rules = {"StatefulSet": _statefulset_faults, "PersistentVolumeClaim": _claim_faults, "Service": _ports}
    if body["kind"] in rules:
        yield from rules[body["kind"]](body["spec"])


def _claim_faults(spec: Mapping[str, Any]) -> Iterator[Fault]:
    storage = spec.get("resources", {}).get("requests", {}).get("storage")
    if storage is None or not _QUANTITY.fullmatch(storage) or not amount(storage):
        yield "spec.resources.requests.storage", f"Invalid value: {storage!r}: must be greater than zero"


def _ports(spec: Mapping[str, Any]) -> Iterator[Fault]:
    for port in spec.get("ports", []):
        if not 0 < port["port"] < 2**16:
            yield "spec.ports[0].port", f"Invalid value: {port['port']}: must be between 1 and 65535"


def _statefulset_faults(spec: Mapping[str, Any]) -> Iterator[Fault]:
    labels = spec["template"]["metadata"].get("labels", {})
    selector = spec["selector"].get("matchLabels", {})
    if not selector or any(labels.get(key) != value for key, value in selector.items()):
        yield "spec.template.metadata.labels", "Invalid value: `selector` does not match template `labels`"
    pod = spec["template"]["spec"]
    volumes = {volume["name"] for volume in pod.get("volumes", [])}
    volumes |= {claim["metadata"]["name"] for claim in spec.get("volumeClaimTemplates", [])}
    for container in pod["containers"]:
        if not container.get("image"):
            yield "spec.template.spec.containers[0].image", "Required value"
        for mount in container.get("volumeMounts", []):
            if mount["name"] not in volumes:
                yield "spec.template.spec.containers[0].volumeMounts", f"Not found: {mount['name']!r}"
        resources = container.get("resources", {})
        for name, limit in resources.get("limits", {}).items():
            asked = resources.get("requests", {}).get(name, "0")
            if not (_QUANTITY.fullmatch(limit) and _QUANTITY.fullmatch(asked)):
                yield (
                    "spec.template.spec.containers[0].resources",
                    "quantities must match the regular expression",
                )
            elif amount(asked) > amount(limit):
                yield (
                    "spec.template.spec.containers[0].resources.requests",
                    f"Invalid value: {asked!r}: must be less than or equal to {name} limit of {limit}",
                )
