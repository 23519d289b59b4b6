"""A response stops when its client leaves, waits when it does not read, and keeps its rhythm."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import cast

import pytest

from ops.simulator import Script, predict, render
from ops.simulator.body import StreamBody
from ops.simulator.pace import Pace
from ops.simulator.response import streamed
from ops.simulator.sending import Sending
from ops.simulator.wheel import SLOT, Wheel

QUESTION = {"messages": [{"role": "user", "content": "hello"}]}
SCRIPT = Script(tokens=1000)
GAP = 60.0


class Transport:
    """Remembers what was written."""

    def __init__(self) -> None:
        self.written = bytearray()

    def write(self, data: bytes) -> None:
        """Take bytes."""
        self.written += data


class HandWheel(Wheel):
    """A wheel turned by hand: time passes when `turn` is called."""

    def __init__(self) -> None:
        super().__init__()
        self.waiting: list[Callable[[], None]] = []

    def at(self, due: float, callback: Callable[[], None]) -> None:
        """Remember the callback."""
        self.waiting.append(callback)

    def turn(self) -> None:
        """Run everything that waits."""
        waiting, self.waiting = self.waiting, []
        for callback in waiting:
            callback()


class Stage:
    """A sending with everything around it under control."""

    def __init__(self, pace: Pace) -> None:
        self.transport = Transport()
        self.wheel = HandWheel()
        self.finished = False
        self.body = StreamBody(predict(QUESTION, script=SCRIPT), SCRIPT, None)
        transport = cast("asyncio.Transport", self.transport)
        response = streamed(self.body, pace)
        self.sending = Sending(transport, response, self.wheel, self._finish)

    def _finish(self) -> None:
        self.finished = True

    async def turns(self, count: int = 20) -> int:
        """Let the loop and the wheel turn, a GAP each time; how many tokens that made."""
        before = self.body.tokens
        for _ in range(count):
            self.sending._due -= GAP
            self.wheel.turn()
            await asyncio.sleep(0)
        return self.body.tokens - before


PACES = [Pace(), Pace(gap=GAP), Pace(ttft=1e-6)]


@pytest.mark.parametrize("pace", PACES)
async def test_nothing_is_produced_for_a_client_that_left(pace: Pace) -> None:
    """A cancelled response makes no more tokens, writes nothing and is never done."""
    stage = Stage(pace)
    stage.sending.start()
    stage.sending.cancel()
    written = len(stage.transport.written)
    assert await stage.turns() == 0
    assert len(stage.transport.written) == written
    assert not stage.finished


@pytest.mark.parametrize("pace", PACES)
async def test_nothing_is_produced_while_the_client_does_not_read(pace: Pace) -> None:
    """A full socket stops the production, an empty one lets it go on to the last byte."""
    stage = Stage(pace)
    stage.sending.start()
    stage.sending.pause()
    await stage.turns()
    assert await stage.turns() == 0
    assert not stage.finished
    stage.sending.resume()
    await stage.turns(2000)
    assert stage.finished
    assert stage.body.tokens == 1000
    assert stage.transport.written.endswith(b"data: [DONE]\n\n\r\n0\r\n\r\n")
    assert len(stage.transport.written) > len(render(QUESTION, script=SCRIPT))


async def test_a_late_stream_catches_up() -> None:
    """Tokens missed while the process was busy are all written at the next look."""
    stage = Stage(Pace(gap=GAP))
    stage.sending.start()
    assert stage.body.tokens == 1
    stage.sending._due -= GAP * 4
    assert await stage.turns(1) == 5


async def test_a_wheel_runs_what_is_due_in_one_turn() -> None:
    """Callbacks of one slot run together, in the order they were given, and not much early."""
    wheel, ran, finished = Wheel(), [], asyncio.Event()
    loop = asyncio.get_running_loop()
    due = loop.time() + 5 * SLOT
    for number in range(3):
        wheel.at(due, lambda number=number: ran.append(number))  # type: ignore[misc]
    wheel.at(due, finished.set)
    await finished.wait()
    assert ran == [0, 1, 2]
    assert loop.time() >= due - SLOT
