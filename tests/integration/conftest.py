"""Fixtures of the tests with several processes, and the kinds of stores that a contract is tested on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.workers import Crew

_MARKS = {"mysql": "mysql", "mysql-native": "mysql", "postgresql": "postgresql"}


def stores(*kinds: str) -> list[Any]:
    """Return the params of a fixture, each with the mark of the server that it needs."""
    return [
        pytest.param(kind, marks=getattr(pytest.mark, _MARKS[kind])) if kind in _MARKS else kind
        for kind in kinds
    ]


def url_of(request: pytest.FixtureRequest, kind: str, folder: Path) -> str:
    """Return the URL of a new, empty store of a kind."""
    if kind in ("mysql", "postgresql"):
        return str(request.getfixturevalue(f"{kind}_url"))
    if kind == "mysql-native":
        return f"{request.getfixturevalue('mysql_url')}?service=native"
    if kind == "grpc":
        return f"kubeflow://{request.getfixturevalue('grpc_server').address}"
    files = {"sqlite": f"sqlite:///{folder}/metadata.db", "memory": "sqlite://"}
    return {**files, "sqlite-sql": f"{files['sqlite']}?service=sql"}[kind]


@pytest.fixture
def crew(tmp_path: Path) -> Iterator[Crew]:
    """Starts worker processes; whoever is left at the test's end is killed."""
    with Crew(tmp_path) as started:
        yield started
