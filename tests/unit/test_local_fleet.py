"""What `penstock up --simulate` tells its workers."""

from __future__ import annotations

from pathlib import Path

import pytest

from ops.local.fleet import simulated_routes
from penstock import Settings


def test_every_route_is_simulated_whatever_the_file_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker reads its environment over the same file: budgets, low limits and prices fit."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "penstock.toml").write_text(
        "[tenants.a]\nbudget_day = 1\n[routes.default]\nrequests_per_minute = 5\n"
        "[routes.fast]\nmodel = 'm'\nurl = 'http://real'\nprices = { input = 2, output = 3 }\n"
        "fallback = ['default']\n"
    )
    for name, value in simulated_routes(Settings.load(), "http://simulated").items():
        monkeypatch.setenv(name, value)
    settings = Settings.load()
    fast, default = settings.route("fast"), settings.route("default")
    assert (fast.url, default.url) == ("http://simulated", "http://simulated")
    assert (fast.model, fast.prices.output, fast.fallback) == ("m", 3, ("default",))
    assert default.requests_per_minute == 5
    assert not settings.follow_applied
