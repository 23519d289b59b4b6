"""Keeps the long runs for `make chaos`."""

from __future__ import annotations

import pytest

IGNORED = "ignore::pytest.PytestUnraisableExceptionWarning"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave the tests marked `chaos` out, unless a marker expression asks for tests by name."""
    for item in items:
        if "test_chaos" in item.nodeid:  # readers are cancelled in mid-connect: redis-py leaks some
            item.add_marker(pytest.mark.filterwarnings(IGNORED))
    if config.option.markexpr:
        return
    long = [item for item in items if item.get_closest_marker("chaos")]
    if long:
        config.hook.pytest_deselected(items=long)
        items[:] = [item for item in items if item not in long]
