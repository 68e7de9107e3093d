"""What the kubernetes flavor deploys is what the settings say, and valid in each version of Kubernetes."""

from __future__ import annotations

import json
import pickle
import re
from decimal import Decimal
from typing import Any

import pytest
from kubernetes_validate.utils import all_versions, major_minor

import zen_mlmd as zm
from tests.services.kubernetes.rules import amount, check
from zen_mlmd.errors import ConfigError
from zen_mlmd.flavors import config_from_url
from zen_mlmd.flavors.kubernetes_objects import (
    LONGEST_DEPLOYMENT,
    RUN,
    SPEC,
    Object,
    Workload,
    namespace_of,
    objects_of,
    quantity,
)

PASSWORDS = {"password": "canary-1", "root-password": "canary-2"}


def workload(**settings: Any) -> Workload:
    config = zm.KubernetesConfig(**{"namespace": "team", **settings})
    known = {name: getattr(config, name) for name in Workload.__dataclass_fields__}
    return Workload(**known)


def made(run: str = "r", **settings: Any) -> dict[str, Object]:
    return {each["kind"]: each for each in objects_of(workload(**settings), run=run, passwords=PASSWORDS)}


@pytest.mark.parametrize("version", sorted({major_minor(each) for each in all_versions()}))
def test_manifests_are_valid(version: str) -> None:
    everything = {
        "storage_class": "fast",
        "cpu_limit": "2",
        "memory_limit": "1.5Gi",
        "deployment": "d" * LONGEST_DEPLOYMENT,
    }
    for settings in ({}, everything, {"memory_limit": ""}):
        found = [*made(**settings).values(), namespace_of(workload(**settings), run="r")]
        assert [check(each, version) for each in found] == [None] * 5


def test_all_names_derive_from_the_deployments() -> None:
    names = {kind: each["metadata"]["name"] for kind, each in made(deployment="churn").items()}
    assert names == {
        "Secret": "churn-mysql",
        "PersistentVolumeClaim": "churn-mysql-data",
        "Service": "churn-mysql",
        "StatefulSet": "churn-mysql",
    }
    for each in made(deployment="churn").values():
        assert each["metadata"]["labels"]["app.kubernetes.io/instance"] == "churn"
        assert each["metadata"]["labels"]["app.kubernetes.io/managed-by"] == "zen-mlmd"
        assert each["metadata"]["annotations"][RUN] == "r"


def test_the_pod_is_no_root_and_asks_what_was_set() -> None:
    found = made(cpu="1", memory="1Gi", cpu_limit="", memory_limit="3Gi", image="mysql:9.7")
    pod = found["StatefulSet"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert pod["securityContext"]["runAsNonRoot"]
    assert pod["securityContext"]["runAsUser"] == pod["securityContext"]["fsGroup"] == 999
    assert not container["securityContext"]["allowPrivilegeEscalation"]
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert container["resources"] == {"requests": {"cpu": "1", "memory": "1Gi"}, "limits": {"memory": "3Gi"}}
    assert container["image"] == "mysql:9.7"
    assert {"startupProbe", "readinessProbe", "livenessProbe"} <= set(container)


def test_passwords_are_in_the_secret_alone_and_in_no_hash() -> None:
    found = made()
    assert found["Secret"]["stringData"]["password"] == "canary-1"
    for kind, each in found.items():
        assert ("canary" in json.dumps(each)) is (kind == "Secret")
    others = objects_of(workload(), run="other", passwords=dict.fromkeys(PASSWORDS, "x"))
    assert [each["metadata"]["annotations"][SPEC] for each in others] == [
        each["metadata"]["annotations"][SPEC] for each in found.values()
    ]


@pytest.mark.parametrize(
    ("settings", "kinds"),
    [
        ({"image": "mysql:9.7"}, {"StatefulSet"}),
        ({"memory": "1Gi"}, {"StatefulSet"}),
        ({"storage": "20Gi"}, {"PersistentVolumeClaim"}),
        ({"user": "other"}, {"Secret"}),
        ({"ready_timeout_s": 5}, set()),
    ],
)
def test_a_setting_changes_the_hash_of_what_it_is_of(settings: dict[str, Any], kinds: set[str]) -> None:
    before, after = made(), made(**settings)

    def spec(each: Object) -> str:
        return str(each["metadata"]["annotations"][SPEC])

    assert {kind for kind in before if spec(before[kind]) != spec(after[kind])} == kinds


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("10Gi", 10 * 2**30),
        ("1.5Ki", 1536),
        ("500m", "0.5"),
        ("2", 2),
        ("1e3", 1000),
        ("1E", 10**18),
        (".5", "0.5"),
    ],
)
def test_a_quantity_is_what_kubernetes_takes_it_for(text: str, value: Any) -> None:
    assert quantity(text) == Decimal(value)
    if "e" not in text:
        assert amount(text) == Decimal(value)


@pytest.mark.parametrize("text", ["10 Gi", "ten", "-1Gi", "10gb", "0", "1ee3", "Gi", "1Gi\n", "٣Gi"])
def test_what_is_no_quantity_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="storage"):
        zm.KubernetesConfig.checked(storage=text)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"deployment": "Churn"}, "deployment: .*small letters"),
        ({"deployment": "-x"}, "deployment"),
        ({"deployment": "d" * 41}, "at most 40"),
        ({"namespace": "a_b"}, "namespace"),
        ({"user": "root"}, "not root"),
        ({"user": "a b"}, "user"),
        ({"database": "mysql"}, "MySQL's own"),
        ({"database": "a-b"}, "database"),
        ({"storage": ""}, "cannot be empty"),
        ({"memory": "4Gi"}, "memory_limit is less than memory"),
        ({"cpu": "2", "cpu_limit": "500m"}, "cpu_limit is less than cpu"),
        ({"image": ""}, "image"),
        ({"local_port": 70000}, "local_port"),
        ({"replicas": 2}, "replicas"),
    ],
)
def test_a_setting_that_cannot_be_is_refused(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        zm.KubernetesConfig.checked(**settings)


def test_a_url_names_a_namespace_and_a_deployment() -> None:
    config = config_from_url("kubernetes://team/churn?storage=20Gi&context=prod")
    assert isinstance(config, zm.KubernetesConfig)
    assert (config.namespace, config.deployment, config.storage) == ("team", "churn", "20Gi")
    assert config.location == "kubernetes://team/churn"
    assert config_from_url("kubernetes://") == zm.KubernetesConfig()
    assert pickle.loads(pickle.dumps(config)) == config
    for wrong in ("kubernetes://user@team/churn", "kubernetes://team:80/churn"):
        with pytest.raises(ConfigError):
            config_from_url(wrong)


def test_the_ping_works_in_a_shell_without_a_password() -> None:
    command = made()["StatefulSet"]["spec"]["template"]["spec"]["containers"][0]["readinessProbe"]["exec"]
    assert command["command"][:2] == ["sh", "-c"]
    assert not re.search("pass|-p|-u", command["command"][2].replace("ping", ""))
