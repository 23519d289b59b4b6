"""When a failed attempt is tried again."""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import format_datetime, formatdate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.errors import StatusError, StreamBroken, TimedOut, UpstreamError
from penstock.outcome import Failed, Retry
from worker.retry import BASE, CAP, MAX_RETRY_AFTER, decide, parse_retry_after

NOW = 1_790_000_000.0


def after(error: UpstreamError, random: float = 0.5, **given: object) -> Retry | Failed:
    """`decide` with arguments that allow a retry unless told otherwise."""
    facts: dict[str, object] = {"attempt": 1, "max_attempts": 5, "now": NOW, "deadline": None}
    return decide(error, random=lambda: random, **(facts | given))  # type: ignore[arg-type]


@given(
    attempt=st.integers(1, 99),
    random=st.floats(0, 1, exclude_max=True),
    retry_after=st.none() | st.floats(0, MAX_RETRY_AFTER),
)
def test_the_wait_is_within_its_bounds(
    attempt: int, random: float, retry_after: float | None
) -> None:
    """A wait is at least what the upstream asks for, else at most the capped, doubling jitter."""
    error = TimedOut("slow", retry_after=retry_after)
    outcome = after(error, random, attempt=attempt, max_attempts=100)
    assert isinstance(outcome, Retry)
    assert outcome.error is error
    least = retry_after or 0.0
    assert least <= outcome.delay <= max(least, min(CAP, BASE * 2 ** (attempt - 1)))


@given(random=st.floats(0, 1, exclude_max=True), left=st.floats(-10, 100), asked=st.floats(0, 100))
def test_never_past_the_deadline(random: float, left: float, asked: float) -> None:
    """A retry starts before the deadline or the job fails now, with the same error."""
    error = StreamBroken("cut", retry_after=asked)
    outcome = after(error, random, attempt=7, max_attempts=9, deadline=NOW + left)
    assert outcome.error is error
    if isinstance(outcome, Retry):
        assert NOW + outcome.delay < NOW + left


@pytest.mark.parametrize("status", [400, 401, 402, 403, 404, 413, 422, 501])
def test_hopeless_statuses_fail_at_once(status: int) -> None:
    """A status that says the request itself is wrong is never tried again."""
    error = StatusError("no", status=status)
    assert after(error) == Failed(error)


@pytest.mark.parametrize("status", [408, 409, 425, 429, 500, 502, 503, 504, 529])
def test_passing_statuses_are_tried_again(status: int) -> None:
    """A status that may pass is tried again after half of the first second, by even chance."""
    error = StatusError("busy", status=status)
    assert after(error) == Retry(error, 0.5)


def test_the_last_attempt_fails() -> None:
    """After max_attempts the job fails, before them it does not."""
    error = TimedOut("slow")
    assert isinstance(after(error, attempt=4), Retry)
    assert after(error, attempt=5) == Failed(error)


@pytest.mark.parametrize(
    ("headers", "wait"),
    [
        ({}, None),
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": " 1.5 "}, 1.5),
        ({"retry-after": "-3"}, 0.0),
        ({"retry-after": "9" * 400}, MAX_RETRY_AFTER),
        ({"retry-after-ms": "250", "retry-after": "7"}, 0.25),
        ({"retry-after-ms": "soon", "retry-after": "7"}, 7.0),
        ({"retry-after": formatdate(NOW + 30, usegmt=True)}, 30.0),
        ({"retry-after": formatdate(NOW - 30, usegmt=True)}, 0.0),
        ({"retry-after": formatdate(NOW + 30)}, 30.0),
        ({"retry-after": format_datetime(datetime.fromtimestamp(NOW + 30, UTC))}, 30.0),
        *(({"retry-after": text}, None) for text in ("", "nan", "inf", "1_0", "soon", "٣", "-")),
        ({"retry-after": "Mon, 00 Jan 2000 00:00:00 GMT"}, None),
        ({"retry-after": f"Mon, 01 Jan {'9' * 30} 00:00:00 GMT"}, None),
    ],
)
def test_retry_after_headers(headers: dict[str, str], wait: float | None) -> None:
    """Numbers and dates are read and bounded, what is neither is ignored."""
    assert parse_retry_after(headers, NOW) == wait


@given(st.text())
def test_no_header_breaks_it(text: str) -> None:
    """Whatever a server puts into the headers gives no wait, or one within the bounds."""
    for name in ("retry-after", "retry-after-ms"):
        wait = parse_retry_after({name: text}, NOW)
        assert wait is None or 0 <= wait <= MAX_RETRY_AFTER
