"""What tests share: one stand for two files, and an end to what redis-py leaks."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.openai_stand import Stand, standing


@pytest.fixture(scope="package")
def responses_stand(session_dir: Path) -> Iterator[Stand]:
    """What the tests of the Responses API share: its start takes longer than they do."""
    with standing(session_dir / "openai-responses") as stand:
        yield stand


@pytest.fixture(autouse=True)
def buried(request: pytest.FixtureRequest) -> Iterator[None]:
    """What redis-py leaks in the tests that hurt it is not found in a later test."""
    yield
    if "test_chaos" in request.node.nodeid:
        gc.collect()
