"""Keeps the long runs for `make chaos`, and one stand for two files of tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.openai_stand import Stand, standing

IGNORED = "ignore::pytest.PytestUnraisableExceptionWarning"


@pytest.fixture(scope="package")
def responses_stand(session_dir: Path) -> Iterator[Stand]:
    """What the tests of the Responses API share: its start takes longer than they do."""
    with standing(session_dir / "openai-responses") as stand:
        yield stand


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
