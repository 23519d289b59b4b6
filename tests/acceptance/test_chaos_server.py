"""The server is killed, stopped, filled and made to forget; see `ledger.py` for what holds."""

from __future__ import annotations

import pytest

from tests.acceptance import server_faults as faults
from tests.acceptance.fleet import chosen_seed


async def test_a_killed_server_costs_nothing() -> None:
    """With its file synced on each write, a server that is killed has forgotten nothing."""
    row = await faults.killed(chosen_seed(), kills=2, pause=(1, 2), plan={"lease": 2}, rate=20)
    row.check()


@pytest.mark.chaos
@pytest.mark.timeout(600)
async def test_a_server_killed_twenty_times_costs_nothing() -> None:
    """The same, twenty times with the real worker."""
    row = await faults.killed(chosen_seed(), kills=20, pause=(3, 9), plan=None, rate=30)
    row.check()


async def test_an_absent_server_makes_nobody_look_dead() -> None:
    """When the server was away for three leases, no living worker's jobs are taken from it."""
    (await faults.away(chosen_seed(), lease=1)).check()


@pytest.mark.chaos
@pytest.mark.timeout(300)
async def test_a_server_long_absent_makes_nobody_look_dead() -> None:
    """The same with more jobs and the real lease."""
    (await faults.away(chosen_seed(), lease=10, jobs=180)).check()


async def test_forgotten_scripts_are_loaded_again() -> None:
    """SCRIPT FLUSH under load is seen by nobody."""
    (await faults.scripts_forgotten(chosen_seed(), seconds=3, every=0.1)).check()


@pytest.mark.chaos
@pytest.mark.timeout(300)
async def test_scripts_forgotten_each_second_are_loaded_again() -> None:
    """The same for a minute, each second."""
    (await faults.scripts_forgotten(chosen_seed(), seconds=60, every=1)).check()


async def test_a_full_server_refuses_and_finishes() -> None:
    """At the memory limit a submission is refused with advice, and what runs is finished."""
    (await faults.memory_full(chosen_seed(), jobs=30)).check()


@pytest.mark.chaos
async def test_a_full_server_refuses_and_finishes_much() -> None:
    """The same with as many jobs as the route takes."""
    (await faults.memory_full(chosen_seed(), jobs=200)).check()
