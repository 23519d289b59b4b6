"""Keeps one child running until it is told to stop."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import structlog

from ops.local.backoff import Backoff
from ops.local.child import Child
from ops.local.process import Process
from penstock.errors import ConfigurationError

log = structlog.get_logger(__name__)

POLL_INTERVAL = 0.02


class Watch:
    """The lives of one child, one after the other.

    Attributes:
        up: set once the child has been ready for the first time.
    """

    def __init__(self, child: Child) -> None:
        self.child = child
        self.up = asyncio.Event()
        self._stopping = asyncio.Event()
        self._end: Callable[[Process], None] = Process.terminate
        self._process: Process | None = None

    async def run(self) -> None:
        """Start the child again whenever it ends, until `terminate` or `kill`.

        Raises ConfigurationError if it ends before it was ever ready: that is no accident, and
        trying again would only hide it.
        """
        backoff = Backoff()
        while not self._stopping.is_set():
            began = time.monotonic()
            reason = await self._live()
            if self._stopping.is_set():
                return
            if not self.up.is_set():
                raise ConfigurationError(f"{self.child.name} did not get ready: it {reason}")
            delay = backoff.after(time.monotonic() - began)
            self._log("child_restarted", reason=reason, delay=delay)
            await _happens(self._stopping, within=delay)

    def terminate(self) -> None:
        """Ask the child to end, with SIGTERM; `run` returns when it has."""
        self._stopping.set()
        if self._process is not None:
            self._end(self._process)

    def kill(self) -> None:
        """End the child at once, with SIGKILL."""
        self._end = Process.kill
        self.terminate()

    async def _live(self) -> str:
        """One life, from start to end; why it ended."""
        try:
            self._process = process = await asyncio.to_thread(self.child.start)
        except ConfigurationError as error:
            return f"could not be started: {error}"
        if self._stopping.is_set():  # told to stop while the thread was starting it
            self._end(process)
        with _end_of(process) as ended:
            late = not await self._becomes_ready(process, ended)
            await ended.wait()
        process.wait()
        reason = f"was not ready within {self.child.ready_timeout} s" if late else ""
        return "; ".join(filter(None, [reason or process.describe(), self.child.explain()]))

    async def _becomes_ready(self, process: Process, ended: asyncio.Event) -> bool:
        """Poll the ready hook; False if the deadline passed, and then the child is killed."""
        deadline = time.monotonic() + self.child.ready_timeout
        while not (ended.is_set() or self._stopping.is_set()):
            if self.child.ready is None or await asyncio.to_thread(self.child.ready):
                self.up.set()
                self._log("child_ready", pid=process.pid)
                return True
            if time.monotonic() > deadline:
                process.kill()
                return False
            await _happens(ended, within=POLL_INTERVAL)
        return True

    def _log(self, action: str, **fields: object) -> None:
        level = log.warning if action == "child_restarted" else log.info
        level(action.replace("_", " "), action=action, child=self.child.name, **fields)


@contextmanager
def _end_of(process: Process) -> Iterator[asyncio.Event]:
    """An event that is set when the process ends."""
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_reader(process, ended.set)
    try:
        yield ended
    finally:
        loop.remove_reader(process)


async def _happens(event: asyncio.Event, *, within: float) -> None:
    with suppress(TimeoutError):
        await asyncio.wait_for(event.wait(), within)
