"""Limits admit what they promise, and know when the next may come."""

from __future__ import annotations

import msgspec
import pytest

from ops.simulator.limits import Limits
from ops.simulator.rejection import Rejection


class Clock:
    """Time that passes when told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        """The time."""
        return self.now


def refusal(limits: Limits, in_flight: int = 0, tokens: int = 0) -> Rejection | None:
    """What a request gets, None if it is admitted."""
    try:
        limits.admit(in_flight, lambda: tokens)
    except Rejection as rejection:
        return rejection
    return None


def test_concurrency_is_a_number_of_requests_at_once() -> None:
    """The request that would be one too many gets the documented 429."""
    limits = Limits(Clock(), concurrency=2)
    assert refusal(limits, in_flight=1) is None
    rejection = refusal(limits, in_flight=2)
    assert rejection is not None
    assert rejection.status == 429
    assert rejection.headers == {}
    assert rejection.body == (
        b'{"error":{"message":"Model busy, retry later","type":"invalid_request_error",'
        b'"param":null,"code":"engine_overloaded"}}'
    )


def test_a_burst_is_all_at_once() -> None:
    """Of a minute's requests only so many pass together; then one as its share of time is over."""
    clock = Clock()
    limits = Limits(clock, requests_per_minute=60, burst=3, retry_after=True)
    assert [refusal(limits) for _ in range(3)] == [None] * 3
    rejection = refusal(limits)
    assert rejection is not None
    assert rejection.headers == {"retry-after": "1"}
    clock.now += 1
    assert refusal(limits) is None
    assert refusal(limits) is not None
    clock.now += 30
    assert [refusal(limits) is None for _ in range(4)] == [True, True, True, False]


def test_requests_per_minute_slide() -> None:
    """In no 60 seconds are there more than the limit, and Retry-After says when one fits."""
    clock = Clock()
    limits = Limits(clock, requests_per_minute=2, retry_after=True)
    assert refusal(limits) is None
    clock.now += 20
    assert refusal(limits) is None
    clock.now += 10
    rejection = refusal(limits)
    assert rejection is not None
    assert rejection.headers == {"retry-after": "30"}
    clock.now += 30
    assert refusal(limits) is None
    assert refusal(limits) is not None


def test_tokens_per_minute_count_what_a_request_uses() -> None:
    """Large requests use the minute up, small ones still fit beside them."""
    clock = Clock()
    limits = Limits(clock, tokens_per_minute=100, retry_after=True)
    assert refusal(limits, tokens=70) is None
    assert refusal(limits, tokens=40) is not None
    assert refusal(limits, tokens=30) is None
    clock.now += 60
    assert refusal(limits, tokens=100) is None


def test_what_never_fits_waits_a_whole_window() -> None:
    """A request larger than the limit is refused however idle the minute was."""
    rejection = refusal(Limits(Clock(), tokens_per_minute=10, retry_after=True), tokens=11)
    assert rejection is not None
    assert rejection.headers == {"retry-after": "60"}
    assert msgspec.json.decode(rejection.body)["error"]["code"] == "engine_overloaded"


def test_limits_change_while_it_runs() -> None:
    """A new value counts from the next request on; None lifts the limit."""
    limits = Limits(Clock(), concurrency=1)
    assert refusal(limits, in_flight=1) is not None
    limits.concurrency = None
    assert refusal(limits, in_flight=1) is None


@pytest.mark.parametrize("limited", ["requests_per_minute", "tokens_per_minute"])
def test_refused_requests_use_nothing_up(limited: str) -> None:
    """A client that hammers does not push its own turn away."""
    clock = Clock()
    limits = Limits(clock)
    setattr(limits, limited, 1)
    assert refusal(limits, tokens=1) is None
    for _ in range(9):
        clock.now += 5
        assert refusal(limits, tokens=1) is not None
    clock.now += 15
    assert refusal(limits, tokens=1) is None
