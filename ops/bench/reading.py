"""Counters of a stand and of the worker processes on it, at one moment, and between two."""

from __future__ import annotations

import time
from typing import NamedTuple

from ops.bench import meter
from ops.bench.stand import Stand
from ops.local.process import Process


class Reading(NamedTuple):
    """Counters at one moment, or what was added to them; times and CPU in seconds.

    Attributes:
        worker: CPU of all worker processes.
        starved: how long they were ready to run while others had the cores.
        server, simulator: CPU of those.
        sent: tokens that the simulator sent.
        published: PUBLISH calls that Redis counted.
    """

    at: float
    worker: float
    starved: float
    server: float
    simulator: float
    sent: int
    published: int

    @classmethod
    def take(cls, stand: Stand, *processes: Process) -> Reading:
        """Read them all."""
        return cls(
            at=time.monotonic(),
            worker=sum(meter.cpu(process.pid) for process in processes),
            starved=sum(meter.starved(process.pid) for process in processes),
            server=meter.cpu(stand.server.pid or 0),
            simulator=meter.cpu(stand.simulator.pid),
            sent=stand.simulated()["tokens"],
            published=stand.server.calls("publish"),
        )

    def until(self, end: Reading) -> Reading:
        """What happened between two."""
        return Reading(
            at=end.at - self.at,
            worker=end.worker - self.worker,
            starved=end.starved - self.starved,
            server=end.server - self.server,
            simulator=end.simulator - self.simulator,
            sent=end.sent - self.sent,
            published=end.published - self.published,
        )
