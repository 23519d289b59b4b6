"""Workers are killed, stopped, poisoned and replaced under load; see `ledger.py` for what holds."""

from __future__ import annotations

import pytest

from tests.acceptance import worker_faults as faults
from tests.acceptance.fleet import chosen_seed


@pytest.mark.timeout(120)
async def test_killed_workers_lose_nothing() -> None:
    """Jobs of workers that are killed run again within 12 s, and each ends exactly once."""
    row = await faults.killed(chosen_seed(), jobs=120, kills=3, workers=3, pause=(0.5, 2))
    row.check()


@pytest.mark.chaos
@pytest.mark.timeout(900)
async def test_a_hundred_killed_workers_lose_nothing() -> None:
    """The same with 5,000 jobs and 100 kills."""
    row = await faults.killed(chosen_seed(), jobs=5000, kills=100, workers=4, pause=(2, 5))
    row.check()


async def test_a_worker_may_die_at_every_step() -> None:
    """SIGKILL before and after receive, claim, first delta and final write costs no job."""
    (await faults.killed_at_each_step(chosen_seed(), rounds=1)).check()


@pytest.mark.chaos
@pytest.mark.timeout(600)
async def test_a_worker_may_die_at_every_step_again_and_again() -> None:
    """The same, ten rounds with the real lease."""
    (await faults.killed_at_each_step(chosen_seed(), rounds=10, lease=10)).check()


async def test_a_zombie_has_no_voice() -> None:
    """A worker that was stopped for three leases cannot write into its jobs' newer attempts."""
    (await faults.zombie(chosen_seed(), lease=1)).check()


@pytest.mark.chaos
@pytest.mark.timeout(600)
async def test_zombies_have_no_voice() -> None:
    """The same, five times with the real lease."""
    (await faults.zombie(chosen_seed(), lease=10, rounds=5)).check()


async def test_a_poison_job_does_not_kill_the_fleet() -> None:
    """A job that kills its worker fails after three recoveries; all others complete."""
    (await faults.poison(chosen_seed(), lease=1)).check()


@pytest.mark.chaos
@pytest.mark.timeout(300)
async def test_poison_with_the_real_lease() -> None:
    """The same with more jobs and the real lease."""
    (await faults.poison(chosen_seed(), lease=10, jobs=500)).check()


async def test_worker_clocks_do_not_matter() -> None:
    """Workers an hour early and late take no job from each other and end each once."""
    (await faults.wrong_clocks(chosen_seed())).check()


@pytest.mark.chaos
@pytest.mark.timeout(200)
async def test_worker_clocks_do_not_matter_to_the_real_lease() -> None:
    """The same with the real lease."""
    (await faults.wrong_clocks(chosen_seed(), lease=10)).check()


async def test_a_rolling_deploy_costs_no_attempt() -> None:
    """Workers that are replaced under load hand back what they cannot finish; no attempt counts."""
    (await faults.rolling_deploy(chosen_seed(), deploys=3, drain=0.5, seconds=5)).check()


@pytest.mark.chaos
@pytest.mark.timeout(600)
async def test_rolling_deploys_cost_no_attempt() -> None:
    """The same, thirty times with the default drain timeout."""
    (await faults.rolling_deploy(chosen_seed(), deploys=30, drain=25, seconds=25)).check()
