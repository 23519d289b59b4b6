"""A TCP proxy in front of the server that loses replies or lets nothing through."""

from __future__ import annotations

import asyncio
import contextlib
import random
from typing import Any, Self

CHUNK = 256 * 1024


class Link:
    """One connection through the proxy."""

    def __init__(self, proxy: Proxy, near: Any, far: Any) -> None:
        self._proxy = proxy
        self._near_in, self._near_out = near
        self._far_in, self._far_out = far
        self._struck = False
        self.heard = asyncio.Event()
        self.heard.set()

    async def run(self) -> None:
        """Pump both ways until one side closes or the proxy drops a reply."""
        pumps = [asyncio.ensure_future(self._ask()), asyncio.ensure_future(self._answer())]
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)
            for writer in (self._near_out, self._far_out):
                writer.close()

    async def _ask(self) -> None:
        while data := await self._near_in.read(CHUNK):
            await self._proxy.asking.wait()
            await self.heard.wait()
            self._struck = self._struck or self._proxy.strikes(data)
            self._far_out.write(data)
            await self._far_out.drain()

    async def _answer(self) -> None:
        while data := await self._far_in.read(CHUNK):
            await self._proxy.answering.wait()
            await self.heard.wait()
            if self._struck:
                self._proxy.dropped += 1
                return
            self._near_out.write(data)
            await self._near_out.drain()


class Proxy:
    """Listens on a TCP port and forwards to a Unix socket; a context manager.

    Args:
        path: the server's socket.
        loss: share of script calls whose reply is dropped, the connection with it.
        seed: of the choice.

    Attributes:
        asking, answering: clear one to blackhole that direction, connections open; set to heal.
        dropped: replies lost so far.
    """

    def __init__(self, path: Any, *, loss: float = 0, seed: int = 0) -> None:
        self.dropped = 0
        self.asking, self.answering = asyncio.Event(), asyncio.Event()
        self.asking.set()
        self.answering.set()
        self._path, self._loss = str(path), loss
        self._random = random.Random(seed)
        self._links: set[asyncio.Task[Any]] = set()
        self._open: set[Link] = set()

    @property
    def url(self) -> str:
        """What to connect to."""
        port = self._server.sockets[0].getsockname()[1]
        return f"redis://127.0.0.1:{port}/0"

    def strikes(self, data: bytes) -> bool:
        """Whether the reply to this call gets lost; only calls of scripts count as calls."""
        return bool(self._loss) and b"EVALSHA" in data and self._random.random() < self._loss

    def hush(self) -> int:
        """Silence every open connection for ever, as a forgetful firewall does; how many."""
        for link in self._open:
            link.heard.clear()
        return len(self._open)

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for link in self._links:
            link.cancel()
        await asyncio.gather(*self._links, return_exceptions=True)

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        link = asyncio.ensure_future(self._join(reader, writer))
        self._links.add(link)
        link.add_done_callback(self._links.discard)

    async def _join(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            try:
                far = await asyncio.open_unix_connection(self._path)
                link = Link(self, (reader, writer), far)
                self._open.add(link)
                await link.run()
                self._open.discard(link)
            finally:
                writer.close()
