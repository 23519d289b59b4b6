"""Turns: how often a stream may read."""

from __future__ import annotations

import asyncio
import itertools

from worker.pace import SLOTS, STRETCH, Pace


async def _advance(pace: Pace) -> None:
    """One phase goes by, and those whose turn it was get to run."""
    pace._tick(asyncio.get_running_loop().time())
    await asyncio.sleep(0)
    await asyncio.sleep(0)


async def test_each_stream_has_one_turn_a_round() -> None:
    """In a round of all phases every stream reads exactly once, whatever its phase."""
    pace, turns = Pace(3600), [0] * 12

    async def stream(number: int, slot: int) -> None:
        while True:
            await pace.turn(slot)
            turns[number] += 1

    streams = [asyncio.create_task(stream(n, pace.join())) for n in range(len(turns))]
    await asyncio.sleep(0)
    for rounds in range(1, 4):
        for _ in range(SLOTS):
            await _advance(pace)
        assert turns == [rounds] * len(turns)
    for task in streams:
        task.cancel()
    await asyncio.gather(*streams, return_exceptions=True)


async def test_streams_are_spread_over_the_phases() -> None:
    """No phase has more than its share of the streams."""
    pace = Pace(0.05)
    slots = sorted(pace.join() for _ in range(100))
    assert [len(list(group)) for _, group in itertools.groupby(slots)] == [20] * SLOTS


async def test_a_stream_that_is_stopped_costs_the_others_no_turn() -> None:
    """Cancelling one waiting stream leaves the turn of its neighbours alone."""
    pace = Pace(3600)
    stopped, other = (asyncio.create_task(pace.turn(0)) for _ in range(2))
    await asyncio.sleep(0)
    stopped.cancel()
    for _ in range(SLOTS):
        await _advance(pace)
    assert other.done()
    assert not other.cancelled()


async def test_without_an_interval_nobody_waits() -> None:
    """At an interval of 0 a stream reads on at once."""
    async with asyncio.timeout(5):
        for _ in range(100):
            await Pace(0).turn(0)


def test_a_busy_loop_gives_fewer_turns_and_an_idle_one_all_of_them() -> None:
    """Above its share of a core the rounds stretch, up to a bound; below it they shrink back."""
    pace = Pace(0.05)
    for second in range(1, 200):
        pace._adapt(float(second), second * 0.9)
    assert pace._stretch == STRETCH
    for second in range(200, 400):
        pace._adapt(float(second), 199 * 0.9 + (second - 199) * 0.1)
    assert pace._stretch == 1
