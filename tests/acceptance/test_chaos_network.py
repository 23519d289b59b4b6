"""Replies are lost, workers cut off, readers stop reading; see `ledger.py` for what holds."""

from __future__ import annotations

import pytest

from tests.acceptance import network_faults as faults
from tests.acceptance.fleet import chosen_seed


async def test_lost_replies_do_nothing_twice() -> None:
    """Calls that are sent again because their reply was lost have no second effect."""
    (await faults.replies_lost(chosen_seed(), jobs=60, lease=2)).check()


@pytest.mark.chaos
@pytest.mark.timeout(600)
async def test_many_lost_replies_do_nothing_twice() -> None:
    """The same with 3,000 jobs and the real lease."""
    (await faults.replies_lost(chosen_seed(), jobs=3000, lease=10)).check()


async def test_a_partitioned_worker_loses_its_jobs_only() -> None:
    """A worker that is cut off, one or both ways, is replaced, and says nothing when it is back."""
    (await faults.partitions(chosen_seed(), lease=2, bound=9)).check()


@pytest.mark.chaos
@pytest.mark.timeout(600)
async def test_partitions_with_the_real_lease() -> None:
    """The same with the real lease."""
    (await faults.partitions(chosen_seed(), lease=10, bound=12)).check()


async def test_silent_connections_cost_no_lease() -> None:
    """A worker whose open connections fall silent renews on new ones, before its leases end."""
    (await faults.silenced(chosen_seed(), jobs=10, lease=2)).check()


@pytest.mark.chaos
async def test_silent_connections_with_the_real_lease() -> None:
    """The same with the real lease."""
    (await faults.silenced(chosen_seed(), jobs=50, lease=10)).check()


async def test_a_slow_reader_catches_up() -> None:
    """A reader that stops is hung up on, disturbs nobody, and misses nothing when it reads on."""
    (await faults.slow_reader(chosen_seed(), size=5000)).check()


@pytest.mark.chaos
async def test_a_very_slow_reader_catches_up() -> None:
    """The same with a longer answer."""
    (await faults.slow_reader(chosen_seed(), size=50_000)).check()
