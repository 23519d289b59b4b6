"""Connections to a real server, used by coroutines that are cancelled."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from ops.local.server import EmbeddedServer
from penstock.store import AsyncStore
from tests.processes import free_port

TURNS = 40
"""Of the event loop: more than a command takes, so a cancellation meets each of its moments."""


@pytest.fixture(scope="module")
def urls(session_dir: Path) -> Iterator[dict[str, str]]:
    """One server, over a socket of this machine and over TCP."""
    port = free_port()
    with EmbeddedServer(session_dir / "connection", port=port) as server:
        yield {"unix": server.url, "tcp": f"redis://127.0.0.1:{port}/0"}


@pytest.mark.parametrize("kind", ["unix", "tcp"])
@pytest.mark.parametrize("turns", range(TURNS))
async def test_a_command_that_is_cancelled_ends(
    urls: dict[str, str], kind: str, turns: int
) -> None:
    """In whichever turn of the event loop the cancellation comes, connecting or sending."""
    async with AsyncStore.opened(urls[kind]) as store:
        asking = asyncio.ensure_future(_ask_for_ever(store))
        for _ in range(turns):
            await asyncio.sleep(0)
        asking.cancel()
        await asyncio.wait([asking], timeout=2)
        was_cancelled = asking.cancelled()
        while not asking.done():  # or the test itself would never end
            asking.cancel()
            await asyncio.sleep(0)
        assert was_cancelled
        assert await store.redis.ping()


async def _ask_for_ever(store: AsyncStore) -> None:
    while True:
        await store.redis.ping()
