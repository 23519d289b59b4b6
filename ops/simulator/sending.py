"""One response on its way out: in rhythm, as fast as the socket takes it, and to its ending."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Callable, Iterable
from itertools import islice

from ops.simulator.body import Ending
from ops.simulator.framing import COMMENT, LAST_CHUNK, chunk, sliced
from ops.simulator.response import Response
from ops.simulator.wheel import SLOT, Wheel

BATCH = 128
"""Events per write where nothing is paced: about 30 KiB."""

LINGER_ZERO = struct.pack("ii", 1, 0)
"""Closing with SO_LINGER 0 sends RST instead of FIN."""

FLUSH_CHECK = 0.001
"""Seconds between looks at the write buffer before a reset, which would throw it away."""

EARLY = SLOT
"""Seconds by which a loop's timer may fire early: what is due by then is due now."""


class Sending:
    """Writes a response to a transport and calls `done` once, unless it is cancelled.

    At any time it either waits for a timer that will run its next step, or for the socket, or is
    at its end.

    Args:
        transport: where to.
        response: what.
        wheel: the timer it shares with other streams.
        done: called behind the last byte; not called after a stall, which only the client ends.
    """

    def __init__(
        self,
        transport: asyncio.Transport,
        response: Response,
        wheel: Wheel,
        done: Callable[[], None],
    ) -> None:
        self.response = response
        self._transport = transport
        self._wheel = wheel
        self._done = done
        self._loop = asyncio.get_running_loop()
        self._parts = iter(response.body)
        self._step: Callable[[], None] = self._open
        self._waiting = False
        self._paused = False
        self._cancelled = False
        self._next_gap = response.pace.next_gap
        self._due = 0.0

    def start(self) -> None:
        """Begin: with the head, now or after the response's delay."""
        self._later(self.response.delay, self._open)

    def cancel(self) -> None:
        """Stop producing."""
        self._cancelled = True

    def pause(self) -> None:
        """The socket takes no more."""
        self._paused = True

    def resume(self) -> None:
        """The socket takes more again."""
        self._paused = False
        if not self._waiting:
            self._wake()

    def hurry(self) -> None:
        """Take the step that waits for its time now."""
        self._due = self._loop.time()
        if self._waiting:
            self._wake()

    def _later(self, seconds: float, step: Callable[[], None]) -> None:
        """Take this step after so long; at once after none."""
        self._step = step
        if seconds > 0:
            self._at(self._loop.time() + seconds)
        else:
            step()

    def _at(self, due: float) -> None:
        self._waiting = True
        self._wheel.at(due, self._wake)

    def _wake(self) -> None:
        self._waiting = False
        if not self._cancelled:
            self._step()

    def _open(self) -> None:
        pace = self.response.pace
        if pace.ttft == 0 and pace.free and not self.response.split:
            self._flood(self.response.head)
            return
        self._transport.write(self.response.head)
        self._due = self._loop.time() + pace.ttft
        self._later(pace.ttft, self._flow if pace.free else self._tick)

    def _flow(self) -> None:
        """Unpaced from here on; a split body one slice per turn of the loop."""
        if self.response.split:
            self._parts = sliced(self._parts, self.response.split)
        self._flood()

    def _flood(self, before: bytes = b"") -> None:
        self._step = self._flood
        size = 1 if self.response.split else BATCH
        batch = list(islice(self._parts, size))
        self._transport.write(before + self._framed(batch))
        if len(batch) < size:
            self._end()
        elif not self._paused:
            self._waiting = True
            self._loop.call_soon(self._wake)

    def _tick(self) -> None:
        """Write what is due, and come back for the next; late ticks catch up."""
        if self._paused:
            return
        now = self._loop.time() + EARLY
        while self._due <= now:
            part = next(self._parts, b"")
            self._transport.write(self._framed(self._cut((part,))) if part else b"")
            if self.response.body.said or not part:
                self._flow()  # what follows the last token follows at once
                return
            self._due += self._next_gap()
        self._at(self._due)

    def _cut(self, parts: Iterable[bytes]) -> Iterable[bytes]:
        return sliced(parts, self.response.split) if self.response.split else parts

    def _framed(self, parts: Iterable[bytes]) -> bytes:
        return b"".join(map(chunk, parts) if self.response.chunked else parts)

    def _end(self) -> None:
        self._step = _nothing
        match self.response.body.ending:
            case Ending.WHOLE:
                if self.response.chunked:
                    self._transport.write(LAST_CHUNK)
                self._done()
            case Ending.CLOSE:
                self._transport.close()
                self._done()
            case Ending.RESET:
                self._reset()
            case Ending.STALL:
                self._stall()

    def _reset(self) -> None:
        if self._transport.get_write_buffer_size():
            self._later(FLUSH_CHECK, self._reset)
            return
        connection = self._transport.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_ZERO)
        self._transport.abort()
        self._done()

    def _stall(self) -> None:
        if self.response.heartbeat and self.response.chunked:
            self._later(self.response.heartbeat, self._beat)

    def _beat(self) -> None:
        self._transport.write(chunk(COMMENT + b"\n\n"))
        self._stall()


def _nothing() -> None:
    """A step behind the end."""
