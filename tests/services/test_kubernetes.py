"""The Kubernetes API server of the tests answers as a real one does."""

from __future__ import annotations

import http.client
import json
import threading
from collections.abc import Iterator
from typing import Any
from urllib.request import Request, urlopen

import pymysql
import pytest

from tests.services.kubernetes import FakeKubernetes, OwnDatabases, SharedDatabases
from tests.services.mariadb import MariaDb

ENV = {"MYSQL_DATABASE": "zen_fake", "MYSQL_USER": "zen_fake", "MYSQL_PASSWORD": "sesame"}


@pytest.fixture
def fake() -> Iterator[FakeKubernetes]:
    with FakeKubernetes() as server:
        yield server


def ask(fake: FakeKubernetes, path: str, body: Any = None, *, method: str = "", kind: str = "") -> Any:
    """Send a request; return the answer, or the Status of a refusal."""
    data = None if body is None else json.dumps(body).encode()
    headers = {"Authorization": f"Bearer {fake.token}", "Content-Type": kind or "application/json"}
    method = method or ("GET" if data is None else "POST")
    parts = fake.url.removeprefix("http://")
    connection = http.client.HTTPConnection(parts, timeout=10)
    try:
        connection.request(method, path, data, headers)
        text = connection.getresponse().read()
    finally:
        connection.close()
    return json.loads(text)


def statefulset(**changes: Any) -> dict[str, Any]:
    labels = {"app": "db"}
    container = {
        "name": "mysql",
        "image": "mysql:8.4",
        "env": [{"name": name, "value": value} for name, value in ENV.items()],
        "volumeMounts": [{"name": "data", "mountPath": "/var/lib/mysql"}],
    }
    claim = {"name": "data", "persistentVolumeClaim": {"claimName": "data"}}
    template = {"metadata": {"labels": labels}, "spec": {"containers": [container], "volumes": [claim]}}
    spec = {"serviceName": "db", "selector": {"matchLabels": labels}, "template": template, **changes}
    return {"metadata": {"name": "db"}, "spec": spec}


def claim(size: str = "1Gi", **changes: Any) -> dict[str, Any]:
    spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": size}}, **changes}
    return {"metadata": {"name": "data"}, "spec": spec}


CLAIMS = "/api/v1/namespaces/default/persistentvolumeclaims"
SETS = "/apis/apps/v1/namespaces/default/statefulsets"
SECRETS = "/api/v1/namespaces/default/secrets"
POD = "/api/v1/namespaces/default/pods/db-0"


def test_an_object_is_made_read_changed_and_deleted(fake: FakeKubernetes) -> None:
    made = ask(fake, SECRETS, {"metadata": {"name": "s"}, "stringData": {"a": "b"}})
    assert made["data"] == {"a": "Yg=="}
    assert ask(fake, f"{SECRETS}/s") == made
    again = ask(fake, SECRETS, {"metadata": {"name": "s"}})
    assert (again["code"], again["reason"]) == (409, "AlreadyExists")
    patch = {"metadata": {"labels": {"x": "y"}}}
    patched = ask(fake, f"{SECRETS}/s", patch, method="PATCH", kind="application/merge-patch+json")
    assert (patched["metadata"]["labels"], patched["data"]) == ({"x": "y"}, made["data"])
    stale = ask(fake, f"{SECRETS}/s", made, method="PUT")
    assert (stale["code"], stale["reason"]) == (409, "Conflict")
    other = {"preconditions": {"uid": "another"}}
    assert ask(fake, f"{SECRETS}/s", other, method="DELETE")["code"] == 409
    ask(fake, f"{SECRETS}/s", {"preconditions": {"uid": made["metadata"]["uid"]}}, method="DELETE")
    assert ask(fake, f"{SECRETS}/s")["code"] == 404


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        (SETS, statefulset(serviceNam="x"), "spec"),
        (SETS, statefulset(replicas="one"), "spec.replicas"),
        (SETS, statefulset(selector={"matchLabels": {"app": "other"}}), "spec.template.metadata.labels"),
        (CLAIMS, claim("-1"), "spec.resources.requests.storage"),
        (SECRETS, {"metadata": {"name": "S_"}}, "metadata.name"),
        (SECRETS, {"metadata": {"name": "s", "labels": {"a": "b c"}}}, "metadata.labels"),
    ],
)
def test_what_is_invalid_is_refused(fake: FakeKubernetes, path: str, body: Any, field: str) -> None:
    refused = ask(fake, path, body)
    assert (refused["code"], refused["reason"]) == (422, "Invalid")
    assert refused["details"]["causes"][0]["field"] == field


def test_what_cannot_change_is_refused(fake: FakeKubernetes) -> None:
    ask(fake, CLAIMS, claim())
    ask(fake, SETS, statefulset())
    fake.wait(lambda: ask(fake, f"{CLAIMS}/data")["status"]["phase"] == "Bound")

    def patch(path: str, spec: Any) -> Any:
        return ask(fake, path, {"spec": spec}, method="PATCH", kind="application/merge-patch+json")

    assert patch(f"{SETS}/db", {"serviceName": "other"})["code"] == 422
    assert patch(f"{SETS}/db", {"replicas": 0})["spec"]["replicas"] == 0
    assert patch(f"{CLAIMS}/data", {"storageClassName": "fixed"})["code"] == 422
    assert patch(f"{CLAIMS}/data", {"resources": {"requests": {"storage": "1Mi"}}})["code"] == 422
    grown = patch(f"{CLAIMS}/data", {"resources": {"requests": {"storage": "2Gi"}}})
    assert grown["spec"]["resources"]["requests"]["storage"] == "2Gi"


def test_calls_fail_as_they_are_told_to(fake: FakeKubernetes) -> None:
    fake.fail("create", "secrets", status=403)
    body = {"metadata": {"name": "s"}}
    assert ask(fake, SECRETS, body)["code"] == 403
    fake.fail("create", "secrets", lost=True)
    with pytest.raises(http.client.RemoteDisconnected):
        ask(fake, SECRETS, body)
    assert ask(fake, f"{SECRETS}/s")["metadata"]["name"] == "s"
    fake.fail("*", "*", cut=True)
    with pytest.raises(http.client.RemoteDisconnected):
        ask(fake, f"{SECRETS}/s", method="DELETE")
    assert ask(fake, f"{SECRETS}/s")["metadata"]["name"] == "s"
    fake.token = "another"
    connection = http.client.HTTPConnection(fake.url.removeprefix("http://"), timeout=10)
    connection.request("GET", SECRETS, headers={"Authorization": "Bearer mine"})
    assert connection.getresponse().status == 401
    connection.close()


def test_a_watch_tells_changes_until_it_is_closed(fake: FakeKubernetes) -> None:
    told: list[tuple[str, str]] = []

    def watch() -> None:
        request = Request(
            f"{fake.url}{SECRETS}?watch=true", headers={"Authorization": f"Bearer {fake.token}"}
        )
        with urlopen(request, timeout=10) as answer:
            for line in answer:
                event = json.loads(line)
                told.append((event["type"], event["object"]["metadata"]["name"]))

    thread = threading.Thread(target=watch)
    thread.start()
    ask(fake, SECRETS, {"metadata": {"name": "s"}})
    fake.wait(lambda: ("ADDED", "s") in told)
    ask(fake, f"{SECRETS}/s", method="DELETE")
    fake.wait(lambda: ("DELETED", "s") in told)
    fake.close_watches()
    thread.join(10)
    assert not thread.is_alive()


@pytest.mark.parametrize(
    ("trouble", "reason"),
    [
        ({"images": set()}, "ImagePullBackOff"),
        ({"crash": "no space left\n"}, "CrashLoopBackOff"),
        ({"bind": False}, "FailedScheduling"),
        ({"quota": "exceeded quota: small"}, "FailedCreate"),
    ],
)
def test_a_pod_that_does_not_come_says_why(
    fake: FakeKubernetes, trouble: dict[str, Any], reason: str
) -> None:
    for name, value in trouble.items():
        setattr(fake.controllers, name, value)
    ask(fake, CLAIMS, claim())
    ask(fake, SETS, statefulset())
    events = "/api/v1/namespaces/default/events"

    def told() -> str:
        return json.dumps([ask(fake, POD).get("status"), ask(fake, events)])

    fake.wait(lambda: reason in told())


@pytest.mark.mysql
@pytest.mark.parametrize("own", [True, False])
def test_a_stateful_sets_pod_is_a_database_that_keeps_its_claims_data(mariadb: MariaDb, own: bool) -> None:
    def query(fake: FakeKubernetes, sql: str) -> Any:
        fake.wait(lambda: fake.local_port("default", "db-0", 3306))
        port = fake.local_port("default", "db-0", 3306)
        connection = pymysql.connect(
            host="127.0.0.1",
            port=port or 0,
            database=ENV["MYSQL_DATABASE"],
            user=ENV["MYSQL_USER"],
            password=ENV["MYSQL_PASSWORD"],
            ssl_disabled=True,
        )
        with connection, connection.cursor() as cursor:
            cursor.execute(sql)
            return cursor.fetchall()

    with FakeKubernetes(OwnDatabases() if own else SharedDatabases(mariadb)) as fake:
        ask(fake, CLAIMS, claim())
        ask(fake, SETS, statefulset())
        query(fake, "CREATE TABLE t (n INT)")
        ask(fake, f"{SETS}/db", method="DELETE")
        fake.wait(lambda: fake.local_port("default", "db-0", 3306) is None)
        ask(fake, SETS, statefulset())
        assert query(fake, "SHOW TABLES") == (("t",),)
        ask(fake, f"{CLAIMS}/data", method="DELETE")
        assert "deletionTimestamp" in ask(fake, f"{CLAIMS}/data")["metadata"]
        ask(fake, f"{SETS}/db", method="DELETE")
        fake.wait(lambda: ask(fake, f"{CLAIMS}/data").get("code") == 404)


def test_a_namespace_goes_with_what_is_in_it(fake: FakeKubernetes) -> None:
    ask(fake, "/api/v1/namespaces", {"metadata": {"name": "team"}})
    fake.pod("team", "server", {"app": "x"}, {8080: 1234})
    fake.service("team", "server", {"app": "x"}, {80: 8080})
    assert fake.local_port("team", "server", 8080) == 1234
    ask(fake, "/api/v1/namespaces/team", method="DELETE")
    fake.wait(lambda: ask(fake, "/api/v1/namespaces/team").get("code") == 404)
    assert fake.local_port("team", "server", 8080) is None
    assert ask(fake, "/api/v1/namespaces/team/services")["items"] == []
