"""The upstream client alone: streams from the simulator and counts; see `transport.py`.

python -m ops.bench.streamer TRANSPORT LOOP STREAMS URL TOKENS GAP
"""

from __future__ import annotations

import asyncio
import sys
import time

import httpx
import msgspec
import uvloop
from httpx_aiohttp import AiohttpTransport

from ops.bench.load import MODEL, Load
from ops.bench.sink import Watch
from penstock.settings import Route
from worker.upstream.client import Upstream

LIMITS = httpx.Limits(max_connections=10_000, max_keepalive_connections=10_000)
MARGIN = 0.2
"""The share of the time at either end that is not measured: connecting and ending."""


class Report(msgspec.Struct):
    """CPU and wall clock seconds, and the tokens read."""

    cpu: float
    wall: float
    tokens: int


class Streamer:
    """So many streams at a time, their events counted."""

    def __init__(self, transport: str, url: str, streams: int, load: Load) -> None:
        kinds = {"httpx": httpx.AsyncHTTPTransport, "httpx-aiohttp": AiohttpTransport}
        self._upstream = Upstream(kinds[transport](limits=LIMITS))
        self._route = Route(url=url, model=MODEL)
        self._load = load
        self._watches = [Watch() for _ in range(streams)]

    async def run(self) -> Report:
        """Stream, and report on the window in the middle."""
        tasks = [asyncio.create_task(self._stream(watch)) for watch in self._watches]
        seconds = self._load.tokens * self._load.gap
        await asyncio.sleep(seconds * MARGIN)
        first = self._read()
        await asyncio.sleep(seconds * (1 - 2 * MARGIN))
        last = self._read()
        await asyncio.gather(*tasks)
        await self._upstream.close()
        return Report(last.cpu - first.cpu, last.wall - first.wall, last.tokens - first.tokens)

    async def _stream(self, watch: Watch) -> None:
        await self._upstream.stream(self._route, self._load.content, 600, watch)

    def _read(self) -> Report:
        tokens = sum(watch.events for watch in self._watches)
        return Report(time.process_time(), time.monotonic(), tokens)


def main() -> None:
    """Print the report as JSON."""
    transport, loop, streams, url, tokens, gap = sys.argv[1:]
    runner = uvloop.run if loop == "uvloop" else asyncio.run

    async def report() -> Report:
        load = Load(int(tokens), float(gap))
        return await Streamer(transport, url, int(streams), load).run()

    print(msgspec.json.encode(runner(report())).decode())


if __name__ == "__main__":
    main()
