"""Which HTTP transport and event loop the upstream client should have: its CPU per token."""

from __future__ import annotations

import subprocess
import sys
from typing import NamedTuple

import msgspec

from ops.bench.load import Load
from ops.bench.result import Figures, Result
from ops.bench.stand import BenchmarkError, Stand
from ops.bench.streamer import Report
from penstock.settings import child_environment

TITLE = "Transport and event loop of the upstream client"

NOT_SHOWN = """\
`worker.upstream.client.Upstream` alone in a process, streams of 20 tokens/s each; the events are
counted and thrown away. CPU of that process between its fifth and its last-but-fifth part of the
time. Not shown: parsing, Redis, TLS."""

RATE = 20.0


class Size(NamedTuple):
    """How much."""

    streams: tuple[int, ...]
    seconds: float


FULL = Size(streams=(200, 1000), seconds=8)
QUICK = Size(streams=(20,), seconds=2)
LOOPS = ("uvloop", "asyncio")
TRANSPORTS = ("httpx-aiohttp", "httpx")


def run(stand: Stand, quick: bool) -> list[Result]:
    """Every combination."""
    size = QUICK if quick else FULL
    return [
        measure(stand, transport, loop, streams, size.seconds)
        for streams in size.streams
        for loop in LOOPS
        for transport in TRANSPORTS
    ]


def measure(stand: Stand, transport: str, loop: str, streams: int, seconds: float) -> Result:
    """One line: a process of its own."""
    stand.reset()
    load = Load(round(seconds * RATE), gap=1 / RATE)
    asked = [transport, loop, str(streams), stand.upstream_url, str(load.tokens), str(load.gap)]
    done = subprocess.run(
        [sys.executable, "-m", "ops.bench.streamer", *asked],
        env=child_environment(), capture_output=True, timeout=seconds + 60, check=False,
    )  # fmt: skip
    if done.returncode:
        raise BenchmarkError(f"{asked} failed: {done.stderr.decode()[-1000:]}")
    report = msgspec.json.decode(done.stdout, type=Report)
    figures: Figures = {
        "CPU, µs/token": round(report.cpu / max(report.tokens, 1) * 1e6, 1),
        "kept up, %": round(report.tokens / report.wall / RATE / streams * 100),
        "streams": streams,
        "tokens": report.tokens,
    }
    return Result("transport", f"{transport}, {loop}", figures)
