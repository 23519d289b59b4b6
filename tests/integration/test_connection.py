"""Connections to a real server, used by coroutines that are cancelled."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ops.local.server import EmbeddedServer
from penstock.connection import AsyncPrimaryConnection
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


class Guide:
    """Says where the primary is, as what asks Sentinels does.

    Attributes:
        primary: host and port.
    """

    is_master, check_connection = True, False

    def __init__(self, port: int) -> None:
        self.primary = "127.0.0.1", port

    async def get_master_address(self) -> tuple[str, int]:
        return self.primary


@pytest.fixture(scope="module")
def ports(session_dir: Path) -> Iterator[tuple[int, int]]:
    """Those of two servers."""
    first, second = free_port(), free_port()
    with (
        EmbeddedServer(session_dir / "first", port=first),
        EmbeddedServer(session_dir / "second", port=second),
    ):
        yield first, second


async def test_a_broken_connection_asks_again_who_is_the_primary(ports: tuple[int, int]) -> None:
    """What is sent over it goes to the primary of now, though the old one is there too."""
    guide = Guide(ports[0])
    connection: Any = AsyncPrimaryConnection(connection_pool=guide)
    await connection.connect()
    await connection.disconnect()
    guide.primary = "127.0.0.1", ports[1]
    await connection.send_command("CONFIG", "GET", "port")
    assert await connection.read_response() == {b"port": str(ports[1]).encode()}
    await connection.disconnect()
