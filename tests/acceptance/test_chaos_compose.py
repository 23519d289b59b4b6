"""What docker-compose.yml says, run without containers; see `composed.py`."""

from __future__ import annotations

import signal
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
    # uvicorn ends by the very signal, when all is done; a container's engine calls that 143.
    ends = {"worker": {0}, "gateway": {-signal.SIGTERM}}
    assert all(status in ends[name.split("-")[0]] for name, status in figures.exits.items())
    assert len(figures.exits) == 5
    assert all(count > 200 for count in figures.refused.values())
    assert {role: names for role, names in figures.taken.items() if names} == {}
