"""Runs the processes behind `penstock up` and `penstock demo`, and ends them in good order.

Children come in groups. A group is started when the one before it is ready, and stopped when the
one after it has ended: workers can still reach their server while they drain. If the supervisor
itself is killed with SIGKILL its children notice (their stdin ends) and stop in good order, all but
the server: the next start adopts that.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import structlog

from ops.local.child import Child
from ops.local.watch import Watch

log = structlog.get_logger(__name__)

GRACE = 30.0
"""Seconds from SIGTERM to SIGKILL: a worker's default drain_timeout of 25 s, and time to end."""

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

Foreground = Callable[[], Coroutine[Any, Any, int]]
"""What to do while the children run, once all are ready; returns an exit status."""


class Supervisor:
    """Starts groups of children, restarts those that end, and stops all of them.

    Arguments:
        groups: first the ones that others need; children of one group start and stop together.
        grace: seconds a group has to end after SIGTERM, longer than the workers' drain_timeout.
    """

    def __init__(self, groups: Sequence[Sequence[Child]], *, grace: float = GRACE) -> None:
        self._groups = groups
        self._grace = grace
        self._running: list[dict[asyncio.Task[None], Watch]] = []
        self._signal: signal.Signals | None = None
        self._signalled = asyncio.Event()

    def run(self, foreground: Foreground | None = None) -> int:
        """Run until a signal, or until `foreground` is done; returns the exit status.

        SIGINT, SIGTERM and SIGHUP reach the children as one SIGTERM; a second signal kills them.
        The status is 0 after a signal, or `foreground`'s own, or 128 + the signal that cut
        `foreground` short. Raises ConfigurationError, with all children stopped, if one of them
        ends before it was ever ready. Must be called in the main thread.
        """
        return asyncio.run(self._run(foreground))

    async def _run(self, foreground: Foreground | None) -> int:
        with self._handled_signals():
            serve = asyncio.create_task(self._serve(foreground))
            signalled = asyncio.create_task(self._signalled.wait())
            try:
                await asyncio.wait({serve, signalled}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                await _cancel(signalled)
                await _cancel(serve)
                await self._stop()
        if not serve.cancelled():
            return serve.result()
        return 128 + self._signal if foreground and self._signal else 0

    async def _serve(self, foreground: Foreground | None) -> int:
        for group in self._groups:
            await self._start(group)
        work = asyncio.create_task(foreground() if foreground else _forever())
        try:
            await self._first(work)
            return work.result()
        finally:
            await _cancel(work)

    async def _start(self, group: Sequence[Child]) -> None:
        """Start the children of a group and wait until each of them is ready."""
        watches = [Watch(child) for child in group]
        self._running.append({asyncio.create_task(watch.run()): watch for watch in watches})
        for watch in watches:
            up = asyncio.create_task(watch.up.wait())
            try:
                await self._first(up)
            finally:
                await _cancel(up)

    async def _first(self, task: asyncio.Task[Any]) -> None:
        """Wait for the task; a child that gives up before it is done raises its error here."""
        watching = {watch for group in self._running for watch in group}
        await asyncio.wait({task, *watching}, return_when=asyncio.FIRST_COMPLETED)
        for ended in watching:
            if ended.done():
                ended.result()

    async def _stop(self) -> None:
        for group in reversed(self._running):
            for watch in group.values():
                watch.terminate()
            if not group:
                continue
            _, late = await asyncio.wait(group, timeout=self._grace)
            for task in late:
                name = group[task].child.name
                log.warning("child killed", action="child_killed", child=name, grace=self._grace)
                group[task].kill()
            await asyncio.gather(*group, return_exceptions=True)

    @contextmanager
    def _handled_signals(self) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        # What is ignored stays so: nohup ignores SIGHUP.
        handled = [number for number in SIGNALS if signal.getsignal(number) != signal.SIG_IGN]
        for number in handled:
            loop.add_signal_handler(number, self._on_signal, number)
        try:
            yield
        finally:
            for number in handled:
                loop.remove_signal_handler(number)

    def _on_signal(self, number: signal.Signals) -> None:
        if self._signal is None:
            self._signal = number
            log.info("stopping", action="supervisor_stopping", signal=number.name)
            self._signalled.set()
            return
        log.warning("killing", action="supervisor_killing", signal=number.name)
        for group in self._running:
            for watch in group.values():
                watch.kill()


async def _forever() -> int:
    await asyncio.Event().wait()
    return 0


async def _cancel(task: asyncio.Task[Any]) -> None:
    """Cancel the task unless it is done, and wait until it is; its result stays in it."""
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
