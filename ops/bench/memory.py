"""Memory of a worker process with so many streams open at a time."""

from __future__ import annotations

import time
from typing import NamedTuple

from ops.bench import meter
from ops.bench.contender import Contender, everybody
from ops.bench.load import Load
from ops.bench.result import Figures, Result
from ops.bench.stand import Stand

TITLE = "Memory of a worker process"

NOT_SHOWN = """\
RSS in MB (10^6 bytes), shared libraries included. The streams are slow, one token in two seconds,
so that every contender has CPU enough to hold them all. Not shown: the text of long answers, which
Penstock keeps once in memory until an answer is whole, and the rivals not at all."""

GAP = 2.0


class Size(NamedTuple):
    """How much."""

    steps: tuple[int, ...]
    settle: float


FULL = Size(steps=(1000, 2000), settle=4)
QUICK = Size(steps=(20, 40), settle=1)


def run(stand: Stand, quick: bool) -> list[Result]:
    """Everybody in turn."""
    return [measure(contender, QUICK if quick else FULL) for contender in everybody(stand)]


def measure(contender: Contender, size: Size) -> Result:
    """One worker, idle and at each step."""
    figures: Figures = {}
    with contender.started(size.steps[-1]) as process:
        figures["idle"] = idle = round(meter.rss(process.pid), 1)
        running, reached = 0, []
        for streams in size.steps:
            contender.feed(streams - running, Load(tokens=300, gap=GAP))
            running = contender.stand.wait_streams(streams)
            reached.append(str(running))
            time.sleep(size.settle)
            figures[f"{streams} streams"] = last = round(meter.rss(process.pid), 1)
        figures["KB/stream"] = round((last - idle) * 1000 / max(running, 1), 1)
        figures["running"] = ", ".join(reached)
    return Result("memory", contender.name, figures)
