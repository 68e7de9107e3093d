"""Fixtures of the tests with several processes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.workers import Crew


@pytest.fixture
def crew(tmp_path: Path) -> Iterator[Crew]:
    """Starts worker processes; whoever is left at the test's end is killed."""
    with Crew(tmp_path) as started:
        yield started
