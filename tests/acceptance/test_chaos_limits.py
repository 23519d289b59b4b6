"""Limits hold and nothing leaks when workers and the server die; see `ledger.py` for the rest."""

from __future__ import annotations

import pytest

from tests.acceptance import limit_faults as faults
from tests.acceptance.fleet import chosen_seed


@pytest.mark.parametrize("name", ["concurrency", "tokens"])
async def test_what_lost_workers_held_is_used_again(name: str) -> None:
    """A killed worker's slots and reservations are used within a lease and 2 s."""
    few = faults.Faults(kills=1, restarts=1, lease=1)
    (await faults.killed(chosen_seed(), name, few, jobs=40, workers=2)).check()


@pytest.mark.chaos
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", faults.LIMITS)
async def test_what_many_lost_workers_held_is_used_again(name: str) -> None:
    """The same under each limit, with 20 kills, 10 restarts and the real lease."""
    many = faults.Faults(kills=20, restarts=10, lease=10)
    (await faults.killed(chosen_seed(), name, many, jobs=3000, workers=4)).check()
