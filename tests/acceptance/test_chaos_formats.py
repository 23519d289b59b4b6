"""Old and new workers side by side, and back again; see `ledger.py` for what holds."""

from __future__ import annotations

import pytest

from tests.acceptance import format_faults as faults
from tests.acceptance.fleet import chosen_seed


@pytest.mark.chaos
@pytest.mark.timeout(200)
async def test_an_upgrade_and_its_rollback_lose_nothing() -> None:
    """Workers are replaced by newer ones and these by older ones again: each job ends once."""
    (await faults.upgraded_and_rolled_back(chosen_seed(), rounds=2)).check()
