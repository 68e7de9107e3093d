"""A Kubeflow installation of the tests, and what is kept of its forwards."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.services.kubernetes import FakeKubernetes
from zen_mlmd.cluster.standing import places


@pytest.fixture(scope="module")
def kubernetes() -> Iterator[FakeKubernetes]:
    """An API server; what a test makes in it lies in the namespace `kubeflow`, which goes with the test."""
    with FakeKubernetes() as server:
        yield server


@pytest.fixture
def fake(kubernetes: FakeKubernetes) -> Iterator[FakeKubernetes]:
    """The API server with an empty namespace `kubeflow`, and nothing that goes wrong."""
    kubernetes.namespace("kubeflow")
    yield kubernetes
    kubernetes.faults.clear()
    kubernetes.forwards.mute = False
    kubernetes.objects.delete("namespaces", "", "kubeflow", {})
    kubernetes.wait(lambda: kubernetes.objects.find("namespaces", "", "kubeflow") is None)


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where forwards are noted; the tests of a module share those that stand, and none is left."""
    home = tmp_path_factory.mktemp("state")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(home))
        yield home / "zen_mlmd" / "forwards"
        for place in places():
            pid = place.holder()
            if pid and pid != os.getpid():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGTERM)


@pytest.fixture(scope="module")
def kubeconfig(kubernetes: FakeKubernetes, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A kubeconfig for the API server."""
    return kubernetes.kubeconfig(tmp_path_factory.mktemp("kubeconfig") / "config")
