"""The background loops of a worker process."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from penstock.errors import StoreError
from worker import telemetry

AWAY = 0.5
"""Seconds until a server that is away is asked again."""


class Loops:
    """Runs them until the process stops.

    Args:
        on_death: called when one ends by an error: a worker without its relay or its keeper is
            worse than none.
    """

    def __init__(self, on_death: Callable[[], None]) -> None:
        self._on_death = on_death
        self._loops: list[asyncio.Task[None]] = []

    def begin(self, loop: Coroutine[Any, Any, None]) -> None:
        """Run one more."""
        task = asyncio.create_task(loop)
        task.add_done_callback(self._on_end)
        self._loops.append(task)

    def every(self, name: str, period: float, work: Callable[[], Awaitable[Any]]) -> None:
        """Do this from now on, `period` seconds apart; a server that is away is waited for."""
        self.begin(_repeat(name, period, work))

    async def end(self) -> None:
        """Cancel them until they have ended.

        Once is not enough: Python 3.11's `wait_for`, which redis-py uses, forgets a cancellation
        that comes just when what it waits for is done.
        """
        while running := [loop for loop in self._loops if not loop.done()]:
            for loop in running:
                loop.cancel()
            await asyncio.wait(running, timeout=0.2)

    def _on_end(self, loop: asyncio.Task[None]) -> None:
        if not loop.cancelled() and (error := loop.exception()):
            telemetry.log("loop_died", error=repr(error), exc_info=error)
            self._on_death()


async def _repeat(name: str, period: float, work: Callable[[], Awaitable[Any]]) -> None:
    away = False
    while True:
        try:
            await work()
            if away:
                telemetry.log("store_back", loop=name)
            away = False
        except StoreError as error:
            if not away:
                telemetry.log("store_away", loop=name, error=str(error))
            away = True
        # Jitter, so that the workers of a fleet do not come at the same moment.
        await asyncio.sleep(AWAY if away else period * random.uniform(0.9, 1.1))
