"""What `up` makes in a cluster, and what is left of it when a call goes wrong."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.services.kubernetes import FakeKubernetes
from tests.services.kubernetes.objects import Key, Object
from zen_mlmd.cluster.objects import Objects
from zen_mlmd.errors import ClusterObjectError, ClusterUnreachableError, DeploymentError
from zen_mlmd.flavors.kubernetes import KubernetesConfig
from zen_mlmd.flavors.kubernetes_deploy import deploy, passwords_in
from zen_mlmd.flavors.kubernetes_objects import Workload, namespace_of, objects_of
from zen_mlmd.flavors.kubernetes_remove import remove

KEYS = {
    ("secrets", "team", "zen-mlmd-mysql"),
    ("persistentvolumeclaims", "team", "zen-mlmd-mysql-data"),
    ("services", "team", "zen-mlmd-mysql"),
    ("statefulsets", "team", "zen-mlmd-mysql"),
    ("pods", "team", "zen-mlmd-mysql-0"),
}
TEAM = ("namespaces", "", "team")


class Bench:
    """A cluster without databases: pods are ready at once, and what is tested is what is made."""

    def __init__(self, fake: FakeKubernetes, folder: Path) -> None:
        self.fake = fake
        self.kubeconfig = str(fake.kubeconfig(folder / "config", namespace="team"))
        self.told: list[str] = []

    def config(self, **settings: Any) -> KubernetesConfig:
        known = {"kubeconfig": self.kubeconfig, "ready_timeout_s": 5.0, "request_timeout_s": 10.0}
        return KubernetesConfig(**{**known, **settings})

    def up(self, **settings: Any) -> Workload:
        config = self.config(**settings)
        objects, workload = self.reach(config)
        deploy(objects, workload, ready_timeout_s=config.ready_timeout_s, progress=self.told.append)
        return workload

    def down(self, *, purge: bool = False, **settings: Any) -> list[str]:
        objects, workload = self.reach(self.config(**settings))
        return remove(objects, workload, with_data=purge, until=time.monotonic() + 5)

    def reach(self, config: KubernetesConfig) -> tuple[Objects, Workload]:
        cluster = config.cluster()
        workload = config.workload(cluster)
        return Objects(cluster, workload.namespace), workload

    def there(self) -> set[Key]:
        return self.fake.objects.there() - {("namespaces", "", "default")}

    def versions(self) -> dict[Key, Any]:
        """What there is, with what is changed by a write to its settings."""
        return {key: self.find(key)["metadata"]["generation"] for key in self.there() if key[0] != "pods"}

    def find(self, key: Key) -> Object:
        return self.fake.objects.get(*key)


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    monkeypatch.setattr("zen_mlmd.flavors.kubernetes_deploy._LATE_S", 0.2)
    monkeypatch.setattr("zen_mlmd.flavors.kubernetes_deploy._SURE_S", 0.05)
    with FakeKubernetes() as fake:
        yield Bench(fake, tmp_path)


def test_up_makes_all_and_a_second_one_nothing(bench: Bench) -> None:
    bench.up()
    assert bench.there() == KEYS | {TEAM}
    before = {key: bench.find(key) for key in KEYS}
    calls = len(bench.fake.calls)
    bench.up()
    assert {call.verb for call in bench.fake.calls[calls:]} == {"get"}
    assert {key: bench.find(key) for key in KEYS} == before


FAULTS: dict[str, dict[str, Any]] = {
    "403": {"status": 403},
    "409": {"status": 409},
    "422": {"status": 422},
    "500": {"status": 500},
    "503": {"status": 503},
    "cut": {"cut": True},
    "lost": {"lost": True},
}


PASSING = ("409", "500", "503", "cut", "lost")
"""Those that nothing comes of where a call is made again, or what it was for is looked for."""


def tried(bench: Bench, **settings: Any) -> str:
    """Bring it up; return the error's message, or nothing if it came."""
    try:
        bench.up(**settings)
    except (ClusterObjectError, ClusterUnreachableError, DeploymentError) as error:
        message, hint = error.message, error.hint
    else:
        return ""
    assert "could not be taken back" not in message
    assert hint
    return message


@pytest.mark.parametrize("fault", FAULTS)
def test_a_first_up_of_which_any_call_fails_makes_all_or_leaves_nothing(bench: Bench, fault: str) -> None:
    came = []
    for skip in range(40):
        bench.fake.fail("*", "*", skip=skip, **FAULTS[fault])
        message = tried(bench)
        fired = not bench.fake.faults.pending
        bench.fake.faults.clear()
        came.append(not message)
        assert bench.there() == (set() if message else KEYS | {TEAM}), (skip, message)
        assert bench.down(purge=True) == []
        assert bench.there() == set()
        if not fired:
            break
    assert came[-1], "the last had no fault"
    assert len(came) > 12, "there are more calls than that"
    assert sum(came) > 1 or fault not in PASSING
    assert not all(came)


@pytest.mark.parametrize("fault", FAULTS)
def test_an_up_after_down_of_which_any_call_fails_leaves_the_data_as_they_were(
    bench: Bench, fault: str
) -> None:
    bench.fake.namespace("team")
    bench.fake.service("team", "others", {"app": "x"}, {80: 80})
    bench.up()
    bench.down()
    before = {key: bench.find(key) for key in bench.there()}
    assert len(before) == 4
    for skip in range(40):
        bench.fake.fail("*", "*", skip=skip, **FAULTS[fault])
        message = tried(bench)
        fired = not bench.fake.faults.pending
        bench.fake.faults.clear()
        if not message:
            assert bench.there() >= KEYS
            assert bench.down() == []
        assert {key: bench.find(key) for key in bench.there()} == before, (skip, message)
        if not fired:
            return
    pytest.fail("it makes more calls than that")


def test_a_change_of_which_any_call_fails_is_taken_back_or_it_is_told_what_is_not(bench: Bench) -> None:
    bench.up()
    bench.fake.controllers.silent = True
    key = ("statefulsets", "team", "zen-mlmd-mysql")
    before = bench.find(key)["spec"]
    for skip in range(60):
        fault = list(FAULTS.values())[skip % len(FAULTS)]
        bench.fake.fail("*", "*", skip=skip, **fault)
        with pytest.raises((ClusterObjectError, ClusterUnreachableError, DeploymentError)) as caught:
            bench.up(image="mysql:9.7", ready_timeout_s=0.1)
        fired = not bench.fake.faults.pending
        bench.fake.faults.clear()
        told = "could not be taken back: StatefulSet" in caught.value.message
        assert (bench.find(key)["spec"] != before) is told
        if told:
            bench.fake.controllers.silent = False
            bench.up()
            bench.fake.controllers.silent = True
        if not fired:
            return
    pytest.fail("it makes more calls than that")


@pytest.mark.parametrize("kind", ["secrets", "statefulsets"])
def test_an_object_that_is_made_after_nobody_waits_any_more_is_found(
    bench: Bench, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("zen_mlmd.flavors.kubernetes_deploy._LATE_S", 20)
    bench.fake.fail("create", kind, delay_s=1.5)
    assert tried(bench, request_timeout_s=1.2) == ""
    assert bench.there() == KEYS | {TEAM}


@pytest.mark.parametrize(
    ("verb", "kind"), [("get", "pods"), ("update", "persistentvolumeclaims"), ("get", "services")]
)
def test_a_call_that_is_not_answered_in_time_costs_all_or_nothing(bench: Bench, verb: str, kind: str) -> None:
    bench.fake.fail(verb, kind, delay_s=0.8)
    message = tried(bench, request_timeout_s=0.5)
    assert not bench.fake.faults.pending
    assert bench.there() == (set() if message else KEYS | {TEAM})


@pytest.mark.parametrize("kind", ["secrets", "persistentvolumeclaims", "services", "statefulsets"])
@pytest.mark.parametrize("status", [403, 422, 500])
def test_what_is_never_allowed_is_named(bench: Bench, kind: str, status: int) -> None:
    bench.fake.fail("create", kind, status=status, times=1000)
    message = tried(bench)
    assert kind[:6] in message.lower()
    assert f"({status})" in message
    assert bench.there() == set()


def test_what_cannot_be_taken_back_is_told(bench: Bench) -> None:
    bench.fake.fail("create", "statefulsets", status=422)
    bench.fake.fail("delete", "secrets", status=403, times=1000)
    with pytest.raises(ClusterObjectError, match="could not be taken back: Secret zen-mlmd-mysql") as caught:
        bench.up()
    assert caught.value.status == 422
    assert bench.there() == {("secrets", "team", "zen-mlmd-mysql"), TEAM}


def test_an_interrupt_takes_back_what_was_made(bench: Bench) -> None:
    def interrupt(text: str) -> None:
        if text.startswith("waiting for"):
            raise KeyboardInterrupt

    objects, workload = bench.reach(bench.config())
    with pytest.raises(KeyboardInterrupt):
        deploy(objects, workload, ready_timeout_s=5, progress=interrupt)
    assert bench.there() == set()


def test_a_stateful_set_that_somebody_deletes_meanwhile_is_missed(bench: Bench) -> None:
    def delete(text: str) -> None:
        if text.startswith("waiting for"):
            bench.fake.objects.delete("statefulsets", "team", "zen-mlmd-mysql", {})

    objects, workload = bench.reach(bench.config())
    with pytest.raises(DeploymentError, match="StatefulSet zen-mlmd-mysql: it is gone"):
        deploy(objects, workload, ready_timeout_s=5, progress=delete)
    assert bench.there() == set()


def test_an_up_that_fails_leaves_what_another_finished_with(bench: Bench) -> None:
    objects, workload = bench.reach(bench.config())

    def while_waiting(text: str) -> None:
        if text.startswith("waiting for"):
            bench.up()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        deploy(objects, workload, ready_timeout_s=5, progress=while_waiting)
    assert bench.there() == KEYS | {TEAM}


@pytest.mark.parametrize("made", range(5))
def test_an_up_goes_on_where_a_killed_one_stopped(bench: Bench, made: int) -> None:
    objects, workload = bench.reach(bench.config())
    passwords = {"password": "sesame", "root-password": "sesame"}
    begun = [namespace_of(workload, run="killed"), *objects_of(workload, run="killed", passwords=passwords)]
    for each in begun[: made + 1]:
        objects.create(each)
    bench.up()
    assert bench.there() == KEYS | {TEAM}
    assert passwords_in(objects, workload)["password"] == "sesame" or not made
    assert bench.down(purge=True) == []
    assert bench.there() == set()


def test_many_ups_at_once_make_one(bench: Bench) -> None:
    with ThreadPoolExecutor(4) as pool:
        for each in [pool.submit(bench.up) for _ in range(4)]:
            each.result()
    assert bench.there() == KEYS | {TEAM}


@pytest.mark.parametrize("purge", [False, True])
def test_a_down_of_which_any_call_fails_says_what_is_left_and_goes_on_the_next_time(
    bench: Bench, purge: bool
) -> None:
    bench.fake.namespace("team")
    bench.fake.service("team", "others", {"app": "x"}, {80: 80})
    others = bench.there()
    for skip in range(0, 60, 2):
        bench.up()
        fault = list(FAULTS.values())[skip // 2 % len(FAULTS)]
        bench.fake.fail("*", "*", skip=skip, **fault)
        left = bench.down(purge=purge)
        fired = not bench.fake.faults.pending
        bench.fake.faults.clear()
        data = {key for key in KEYS if key[0] in ("secrets", "persistentvolumeclaims")}
        kept = others | (set() if purge else data)
        assert left or bench.there() == kept, skip
        if ("persistentvolumeclaims", "team", "zen-mlmd-mysql-data") in bench.there():
            assert ("secrets", "team", "zen-mlmd-mysql") in bench.there()  # else it could not be opened
        assert bench.down(purge=purge) == []
        assert bench.there() == kept
        if not fired:
            return
    pytest.fail("it makes more calls than that")


@pytest.mark.parametrize("key", sorted(KEYS), ids=lambda key: str(key[0]))
def test_what_others_made_stands_in_the_way_and_is_not_touched(bench: Bench, key: Key) -> None:
    kind, _, name = key
    bench.fake.namespace("team")
    if kind == "pods":
        bench.fake.pod("team", name, {"app": "x"}, {})
    else:
        bench.up()
        body = bench.find(key)
        bench.down(purge=True)
        body["metadata"] = {"name": name, "labels": {"app": "others"}}
        bench.fake.objects.create(kind, "team", body)
    bench.fake.wait(lambda: kind != "statefulsets" or len(bench.there()) == 3)
    before = {each: bench.find(each)["metadata"]["uid"] for each in bench.there()}
    message = tried(bench)
    assert "it was not touched" in message
    assert name in message
    assert {each: bench.find(each)["metadata"]["uid"] for each in bench.there()} == before
    assert bench.down(purge=True) == []
    assert {each: bench.find(each)["metadata"]["uid"] for each in bench.there()} == before


def test_purge_leaves_a_namespace_that_others_use(bench: Bench) -> None:
    bench.up()
    bench.fake.service("team", "others", {"app": "x"}, {80: 80})
    assert bench.down(purge=True) == []
    assert bench.there() == {TEAM, ("services", "team", "others")}


def test_purge_leaves_a_namespace_that_it_did_not_make(bench: Bench) -> None:
    bench.fake.namespace("team")
    bench.up()
    assert bench.down(purge=True) == []
    assert bench.there() == {TEAM}


def test_two_deployments_live_side_by_side(bench: Bench) -> None:
    bench.up(deployment="first")
    bench.up(deployment="second")
    names = {name for kind, _, name in bench.there() if kind == "statefulsets"}
    assert names == {"first-mysql", "second-mysql"}
    assert bench.down(purge=True, deployment="first") == []
    assert TEAM in bench.there()  # the namespace is the second's, too
    assert {name for *_, name in bench.there() - {TEAM}} == {
        "second-mysql",
        "second-mysql-data",
        "second-mysql-0",
    }
    assert bench.down(purge=True, deployment="second") == []
    assert bench.there() == set()


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"storage": "1Gi"}, "no claim gets smaller"),
        ({"storage_class": "fixed"}, "storage class"),
        ({"database": "other"}, "stay"),
        ({"user": "other"}, "stay"),
    ],
)
def test_what_cannot_be_changed_is_refused(bench: Bench, settings: dict[str, str], said: str) -> None:
    bench.up()
    before = {key: bench.find(key) for key in bench.there()}
    assert said in tried(bench, **settings)
    assert {key: bench.find(key) for key in bench.there()} == before


def test_what_can_be_changed_is(bench: Bench) -> None:
    bench.up()
    bench.up(storage="20Gi", image="mysql:9.7", memory_limit="3Gi")
    claim = bench.find(("persistentvolumeclaims", "team", "zen-mlmd-mysql-data"))
    pod = bench.find(("pods", "team", "zen-mlmd-mysql-0"))
    assert claim["spec"]["resources"]["requests"]["storage"] == "20Gi"
    assert pod["spec"]["containers"][0]["image"] == "mysql:9.7"
    assert pod["spec"]["containers"][0]["resources"]["limits"]["memory"] == "3Gi"


def test_a_disk_that_grew_in_vain_is_told(bench: Bench) -> None:
    bench.up()
    bench.fake.controllers.silent = True
    with pytest.raises(DeploymentError, match="has 20Gi now, and no claim gets smaller"):
        bench.up(storage="20Gi", image="mysql:9.7", ready_timeout_s=0.1)
    pod = bench.find(("statefulsets", "team", "zen-mlmd-mysql"))["spec"]["template"]["spec"]
    assert pod["containers"][0]["image"] == "mysql:8.4"


def test_a_change_goes_on_from_what_a_controller_wrote_meanwhile(bench: Bench) -> None:
    bench.up()
    bench.fake.fail("update", "statefulsets", status=409, times=3)
    bench.up(image="mysql:9.7")
    pod = bench.find(("pods", "team", "zen-mlmd-mysql-0"))
    assert pod["spec"]["containers"][0]["image"] == "mysql:9.7"
    bench.fake.fail("update", "statefulsets", status=409, times=10)
    with pytest.raises(ClusterObjectError):
        bench.up(image="mysql:8.4")


def test_who_may_only_see_into_the_namespace_can_use_it(bench: Bench) -> None:
    bench.fake.fail("*", "namespaces", status=403, times=1000)
    assert "there is no such object" in tried(bench)
    bench.fake.namespace("team")
    bench.up()
    assert bench.down(purge=True) == []
    assert bench.there() == {TEAM}


def edited(bench: Bench, key: Key, **spec: Any) -> None:
    """Write an object of ours as an older version of zen_mlmd might have made it."""
    body = bench.find(key)
    body["metadata"]["annotations"]["zen-mlmd/spec"] = "of old"
    body["spec"] |= spec
    bench.fake.objects.delete(*key, {})
    for field in ("uid", "resourceVersion", "creationTimestamp", "generation"):
        del body["metadata"][field]
    bench.fake.wait(lambda: bench.fake.objects.find(*key) is None)
    bench.fake.objects.create(*key[:2], body)


def test_what_an_older_version_made_is_brought_up_to_date(bench: Bench) -> None:
    bench.up()
    key = ("services", "team", "zen-mlmd-mysql")
    port = {"name": "mysql", "port": 3306, "targetPort": 3307}
    edited(bench, key, ports=[port])
    bench.up()
    assert bench.find(key)["spec"]["ports"][0]["targetPort"] == "mysql"
    edited(bench, ("statefulsets", "team", "zen-mlmd-mysql"), podManagementPolicy="OrderedReady")
    assert "its podManagementPolicy cannot be changed" in tried(bench)
    bench.down()
    bench.up()


def test_a_stateful_set_that_was_scaled_down_is_scaled_up(bench: Bench) -> None:
    bench.up()
    key = ("statefulsets", "team", "zen-mlmd-mysql")
    bench.fake.objects.change(*key, lambda old: {**old, "spec": {**old["spec"], "replicas": 0}})
    bench.fake.wait(lambda: ("pods", "team", "zen-mlmd-mysql-0") not in bench.there())
    bench.up()
    assert bench.there() == KEYS | {TEAM}


def test_what_is_being_deleted_is_not_used(bench: Bench) -> None:
    bench.up()
    claim = ("persistentvolumeclaims", "team", "zen-mlmd-mysql-data")
    bench.fake.objects.delete(*claim, {})  # it waits for its pod to end
    before = bench.there()
    assert "PersistentVolumeClaim zen-mlmd-mysql-data: it is being deleted" in tried(bench)
    assert bench.there() == before


def test_a_lost_secret_is_told_before_anything_is_made(bench: Bench) -> None:
    bench.up()
    bench.down()
    bench.fake.objects.delete("secrets", "team", "zen-mlmd-mysql", {})
    assert "whose data only its password opens" in tried(bench)
    assert bench.there() == {TEAM, ("persistentvolumeclaims", "team", "zen-mlmd-mysql-data")}


@pytest.mark.parametrize(
    ("trouble", "settings", "said"),
    [
        (
            {},
            {"image": "nosuch:1"},
            'Pod zen-mlmd-mysql-0: ImagePullBackOff: Back-off pulling image "nosuch:1"',
        ),
        (
            {"quota": "exceeded quota: small"},
            {},
            "StatefulSet zen-mlmd-mysql: create Pod .* exceeded quota: small",
        ),
        (
            {"crash": "one\nno space left\n"},
            {},
            "CrashLoopBackOff: .* its log ends with: one | no space left",
        ),
        ({}, {"storage_class": "fast"}, 'Claim zen-mlmd-mysql-data: .* "fast" not found'),
        ({"bind": False}, {}, "Claim zen-mlmd-mysql-data: it is not bound: failed to provision volume"),
        ({"room": False}, {}, r"Pod zen-mlmd-mysql-0: it cannot be scheduled: .* Insufficient memory"),
        ({"silent": True}, {}, r"Pod zen-mlmd-mysql-0: it does not answer yet \(after 0.3 s\)"),
    ],
)
def test_a_pod_that_does_not_come_is_explained(
    bench: Bench, trouble: dict[str, Any], settings: dict[str, str], said: str
) -> None:
    for name, value in trouble.items():
        setattr(bench.fake.controllers, name, value)
    with pytest.raises(DeploymentError, match=said) as caught:
        bench.up(ready_timeout_s=0.3, **settings)
    assert caught.value.hint
    assert bench.there() == set()
    assert any(each.startswith("waiting: ") for each in bench.told) is not trouble.get("silent", False)
