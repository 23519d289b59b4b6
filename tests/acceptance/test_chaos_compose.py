"""What docker-compose.yml says, run without containers; see `composed.py`."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.acceptance import compose_run


@pytest.mark.chaos
@pytest.mark.timeout(600)
async def test_ten_thousand_jobs_through_what_compose_runs(state_dir: Path) -> None:
    """Two gateways, three workers, Redis with users and TLS: all complete, and no role may more."""
    figures = await compose_run.run(state_dir, jobs=10_000, gateways=2, workers=3)
    assert (figures.submitted, figures.states) == (10_000, {"completed": 10_000})
    assert figures.attempts == {"1": 10_000}
    assert list(figures.exits.values()) == [0] * 5
    assert all(count > 200 for count in figures.refused.values())
    assert {role: names for role, names in figures.taken.items() if names} == {}
