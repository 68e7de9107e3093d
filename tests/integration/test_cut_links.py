"""The link to the database is cut during writes, so that nothing comes any more, not even that it is cut."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.integration import workers
from tests.integration.workers import Crew, Gate
from tests.services.link import Link
from tests.services.mariadb import MariaDb
from tests.services.postgresql import PostgreSql
from zen_mlmd import open_store
from zen_mlmd.model import Status

STEPS = 200
FEW = 12
OUR_ERRORS = {"ZM201", "ZM210"}
"""UnreachableError, ConnectionLostError."""

SERVERS = (
    pytest.param("mysql", marks=pytest.mark.mysql),
    pytest.param("postgresql", marks=[pytest.mark.postgresql, pytest.mark.exhaustive]),
)


@pytest.fixture
def link() -> Iterator[Link]:
    """A link that can be cut."""
    with ExitStack() as stack:
        try:
            made = stack.enter_context(Link())
        except (OSError, subprocess.CalledProcessError) as error:
            pytest.skip(f"no network namespace can be made here, without which no link can be cut: {error}")
        yield made


@pytest.fixture(params=SERVERS)
def new_url(request: pytest.FixtureRequest, link: Link) -> Iterator[Callable[[], str]]:
    """Makes databases; each is reached by its URL from the other end of the link."""
    server: MariaDb | PostgreSql
    if request.param == "mysql":
        server = MariaDb(options=["--bind-address=0.0.0.0"])
    else:
        server = PostgreSql(options=["listen_addresses=*"])
    with server:
        yield lambda: server.url(server.new_database()).replace(server.host, link.host)


@pytest.mark.slow
def test_a_link_that_is_cut_during_writes_is_noticed_and_nothing_is_lost(
    crew: Crew, tmp_path: Path, link: Link, new_url: Callable[[], str]
) -> None:
    crew.within = link.within
    url, acks = new_url(), tmp_path / "acks"
    patient = crew.start("record_steps", url=url, run="r", steps=STEPS, acks=str(acks))
    other, gate, others = new_url(), Gate(tmp_path), tmp_path / "others"
    hasty = crew.start(
        "record_steps",
        url=f"{other}?wait_s=0",
        run="r",
        steps=FEW,
        acks=str(others),
        gates={"10": str(gate)},
        patience_s=60,
    )
    workers.wait(lambda: len(workers.acknowledged(acks)) > 20 and len(workers.acknowledged(others)) == 10)
    link.cut()
    time.sleep(2)  # TCP mends that by itself
    link.mend()
    seen = len(workers.acknowledged(acks)) + 20
    workers.wait(lambda: len(workers.acknowledged(acks)) > seen)
    link.cut()
    gate.open([hasty])
    time.sleep(28)
    acknowledged = {f"s{each['step']}" for each in workers.acknowledged(acks)}
    assert len(acknowledged) < STEPS
    with open_store(url) as store:
        done = {step.name for step in store.get_run("r").step_runs if step.status is Status.COMPLETED}
        assert acknowledged <= done
    link.mend()

    assert patient.result() == {"failures": []}
    workers.check_steps(url, "r", STEPS)
    failures = hasty.result()["failures"]
    assert failures
    for code, seconds in failures:
        assert code in OUR_ERRORS
        assert seconds < 15 + 2 * 5 + 2.5  # noticed, and tried to connect
    workers.check_steps(other, "r", FEW)
