"""What stands in deploy/ and in its page: valid for Kubernetes, in Kubeflow's place, and run as written."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

import click
import kubernetes_validate
import pytest
import yaml

import zen_mlmd as zm
from tests.server.conftest import Caller
from tests.server.test_attacks import Command
from tests.services import free_port
from tests.services.mariadb import MariaDb
from zen_mlmd.cli.main import cli

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "deploy" / "kubeflow"
PAGE = (ROOT / "docs" / "kubeflow.md").read_text()
BLOCKS = re.findall(r"```console\n(.*?)```", PAGE, re.DOTALL)


def manifests() -> dict[str, dict[str, Any]]:
    listed = yaml.safe_load((FOLDER / "kustomization.yaml").read_text())["resources"]
    assert {*listed, "kustomization.yaml"} == {file.name for file in FOLDER.iterdir()}
    loaded = [yaml.safe_load((FOLDER / name).read_text()) for name in listed]
    return {each["kind"]: each for each in loaded}


@pytest.mark.parametrize("version", ["1.28", "1.31", "1.34"])
def test_manifests_are_valid(version: str) -> None:
    for manifest in manifests().values():
        kubernetes_validate.validate(manifest, version, strict=True)


def test_they_take_the_place_of_kubeflows() -> None:
    found = manifests()
    names = {kind: each["metadata"]["name"] for kind, each in found.items()}
    assert names == {
        "Deployment": "metadata-grpc-deployment",
        "Service": "metadata-grpc-service",
        "ConfigMap": "metadata-grpc-configmap",
        "ServiceAccount": "metadata-grpc-server",
    }
    (port,) = found["Service"]["spec"]["ports"]
    assert (port["name"], port["port"]) == ("grpc-api", 8080)
    pod = found["Deployment"]["spec"]["template"]
    assert found["Service"]["spec"]["selector"].items() <= pod["metadata"]["labels"].items()
    assert found["Deployment"]["spec"]["selector"]["matchLabels"].items() <= pod["metadata"]["labels"].items()
    (container,) = pod["spec"]["containers"]
    ports = {each["name"] for each in container["ports"]}
    assert port["targetPort"] in ports
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        assert container[probe]["httpGet"]["port"] in ports
    assert pod["spec"]["serviceAccountName"] == names["ServiceAccount"]


@pytest.mark.mysql
def test_the_container_serves_a_metadb_with_the_clusters_settings(mariadb: MariaDb) -> None:
    """Its arguments and environment, filled in as Kubernetes does."""
    database = mariadb.new_database()
    zm.open_store(mariadb.url(database), create=True).close()
    cluster = {
        ("mysql-secret", "username"): "zen",
        ("mysql-secret", "password"): mariadb.password,
        ("pipeline-install-config", "mysqlHost"): mariadb.host,
        ("pipeline-install-config", "mysqlPort"): str(mariadb.port),
        ("pipeline-install-config", "mlmdDb"): database,
    }
    (container,) = manifests()["Deployment"]["spec"]["template"]["spec"]["containers"]
    values: dict[str, str] = {}
    for each in container["env"]:
        if "value" in each:
            values[each["name"]] = re.sub(r"\$\((\w+)\)", lambda match: values[match[1]], each["value"])
        else:
            ((_, reference),) = each["valueFrom"].items()
            values[each["name"]] = cluster[reference["name"], reference["key"]]
    arguments = [re.sub(r"0\.0\.0\.0:\d+$", "127.0.0.1:0", each) for each in container["args"]]
    assert arguments[0] == "serve"
    command = Command(*arguments[1:], environment=values)
    try:
        (serving,) = command.told
        assert serving["workers"] == 2
        with Caller(command.address) as call:
            assert call("GetContextTypes") == b""
        for path in ("livez", "readyz"):
            with urllib.request.urlopen(f"http://{serving['metrics']}/{path}", timeout=10) as answer:
                assert answer.status == 200
    finally:
        assert command.end() == 0
    assert mariadb.password not in str(command.told)


def test_the_containerfile_copies_what_there_is_and_starts_the_server() -> None:
    text = (ROOT / "deploy" / "Containerfile").read_text()
    start = yaml.safe_load(re.search(r"^CMD (.*)$", text, re.MULTILINE)[1])  # type: ignore[index]
    assert yaml.safe_load(re.search(r"^ENTRYPOINT (.*)$", text, re.MULTILINE)[1]) == ["zen-mlmd"]  # type: ignore[index]
    assert start[0] == "serve"
    command = cli.get_command(click.Context(cli), "serve")
    assert command is not None
    assert command.make_context("serve", start[1:]).params["insecure"]
    assert re.search(r"^USER 1000:1000$", text, re.MULTILINE)


@pytest.mark.mysql
def test_three_commands_from_a_metadb_to_an_answering_server(mariadb: MariaDb) -> None:
    install, export, serve = BLOCKS[0].splitlines()
    assert install == "pip install 'zen-mlmd[server]'"
    database = mariadb.new_database()
    with zm.open_store(mariadb.url(database), create=True) as store, store.record_run("old"):
        pass
    port = free_port()
    export = export.replace("root@127.0.0.1:3306/metadb", f"zen@127.0.0.1:{mariadb.port}/{database}")
    script = (
        f"{export}\n{sys.executable} -m zen_mlmd {serve.removeprefix('zen-mlmd ')} --bind 127.0.0.1:{port}"
    )
    environment = {**os.environ, "ZEN_MLMD_STORE_PASSWORD": mariadb.password}
    with subprocess.Popen(
        ["bash", "-ec", f"exec 2>&1\n{script}"], env=environment, stdout=subprocess.PIPE, text=True
    ) as server:
        try:
            assert server.stdout is not None
            while '"serving"' not in server.stdout.readline():
                assert server.poll() is None
            (read,) = BLOCKS[1].splitlines()
            words = shlex.split(read.replace(":8080", f":{port}"))
            assert words[0] == "zen-mlmd"
            listed = subprocess.run(
                [sys.executable, "-m", "zen_mlmd", *words[1:]],
                capture_output=True,
                text=True,
                check=True,
                timeout=60,
            )
            assert "old" in listed.stdout
        finally:
            server.terminate()


def test_each_command_of_the_page_is_one() -> None:
    lines = [line for block in BLOCKS for line in block.splitlines() if line.startswith("zen-mlmd ")]
    assert len(lines) >= 4
    for line in lines:  # --help runs nothing, and lets nothing pass that is no option
        assert cli.main([*shlex.split(line)[1:], "--help"], standalone_mode=False) == 0
    with pytest.raises(click.NoSuchOption):
        cli.main(["serve", "--no-such-thing", "--help"], standalone_mode=False)
    serve = cli.get_command(click.Context(cli), "serve")
    assert serve is not None
    options = {option for parameter in serve.params for option in parameter.opts}
    assert set(re.findall(r"`(--[a-z-]+)", PAGE)) <= options
