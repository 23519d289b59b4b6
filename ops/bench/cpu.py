"""CPU per relayed token: 1,000 streams of 20 tokens/s, and a load each contender can carry."""

from __future__ import annotations

import time
from typing import NamedTuple

from ops.bench import meter
from ops.bench.contender import CeleryWorker, Contender, Penstock, everybody
from ops.bench.load import Load
from ops.bench.reading import Reading
from ops.bench.result import Figures, Result
from ops.bench.stand import Stand

TITLE = "CPU per relayed token"

NOT_SHOWN = """\
CPU is utime + stime of the worker process over the window, divided by the tokens relayed in it: for
Penstock those the simulator sent (each is in an event, checked by the number of jobs completed in
time), for Celery the PUBLISH calls Redis counted (one a token, by construction). "kept up" is the
rate reached over the rate asked for; below 100 % the worker was short of CPU, and its CPU per token
is that of a worker which is always behind: it finds more data at each read. So both contenders of
Celery are also measured at a load they can carry; ratios use whichever of the two is lower. "whole"
divides the CPU from the first job queued to the last one finished: claims and endings included.
Not shown: TLS to the upstream, which costs both sides alike; long prompts; more than one process;
a Redis on another machine. Redis's own CPU per token is a column of its own: ours writes a
replayable stream beside the publish, the rivals only publish."""

RATE = 20.0
"""Tokens per second and stream."""

KEEPS_UP = 0.95


class Size(NamedTuple):
    """How much; times in seconds."""

    streams: int
    bearable: int
    warm_up: float
    window: float


FULL = Size(streams=1000, bearable=40, warm_up=3, window=12)
QUICK = Size(streams=40, bearable=10, warm_up=1, window=3)


def run(stand: Stand, quick: bool) -> list[Result]:
    """Everybody at full load, then at a bearable one."""
    size = QUICK if quick else FULL
    return [
        measure(contender, streams, size)
        for streams in (size.streams, size.bearable)
        for contender in everybody(stand)
    ]


def measure(contender: Contender, streams: int, size: Size) -> Result:
    """One line: a worker, so many streams, a window in their middle."""
    stand = contender.stand
    tokens = round((ramp(streams) + size.warm_up + size.window) * RATE)
    if isinstance(contender, CeleryWorker) and streams == size.streams:
        tokens *= 10  # it falls behind: let no stream end before the window does
    with contender.started(streams) as process:
        begin = Reading.take(stand, process)
        contender.feed(streams, Load(tokens, gap=1 / RATE))
        began = time.monotonic()
        stand.wait_streams(streams)
        began = time.monotonic() - began
        time.sleep(size.warm_up)
        first = Reading.take(stand, process)
        time.sleep(size.window)
        window = first.until(Reading.take(stand, process))
        figures = _figures(contender, window, streams)
        figures["running"] = stand.simulated()["in_flight"]
        figures["all running after, s"] = round(began, 1)
        figures["RSS, MB"] = round(meter.rss(process.pid), 1)
        if window.sent and _relayed(contender, window) / window.at / RATE / streams > KEEPS_UP:
            rest = tokens / RATE + 60
            stand.wait(lambda: contender.finished() >= streams, "the streams to end", rest)
            whole = begin.until(Reading.take(stand, process))
            figures["whole, µs/token"] = round(whole.worker / (streams * tokens) * 1e6, 1)
    return Result("cpu", f"{contender.name}, {streams} streams", figures)


def ramp(streams: int) -> float:
    """Seconds so many streams may take to begin, so that none ends within the window."""
    return streams / 80 + 2


def _relayed(contender: Contender, window: Reading) -> int:
    return window.sent if isinstance(contender, Penstock) else window.published


def _figures(contender: Contender, window: Reading, streams: int) -> Figures:
    tokens = _relayed(contender, window)
    return {
        "CPU, µs/token": round(window.worker / max(tokens, 1) * 1e6, 1),
        "tokens/s": round(tokens / window.at),
        "kept up, %": round(tokens / window.at / RATE / streams * 100),
        "CPU, % of a core": round(window.worker / window.at * 100),
        "starved, % of a core": round(window.starved / window.at * 100),
        "simulator CPU, % of a core": round(window.simulator / window.at * 100),
        "Redis CPU, µs/token": round(window.server / max(tokens, 1) * 1e6, 1),
        "messages/token": round(window.published / max(tokens, 1), 2),
        "tokens": tokens,
        "CPU, s": round(window.worker, 2),
        "window, s": round(window.at, 2),
    }
