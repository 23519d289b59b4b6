"""Whether and when a failed attempt is tried again. Pure: time and chance are arguments."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime

from penstock.errors import UpstreamError
from penstock.outcome import Failed, Retry

BASE = 1.0
"""Seconds: the longest jitter after the first attempt; it doubles with each further one."""

CAP = 60.0
"""Seconds: the longest jitter of all."""

MAX_RETRY_AFTER = 86_400.0
"""Seconds: an upstream that asks for more than a day is not believed."""

_NUMBER = re.compile(r"[+-]?[0-9]+(\.[0-9]*)?")


def decide(
    error: UpstreamError,
    *,
    attempt: int,
    max_attempts: int,
    now: float,
    deadline: float | None,
    random: Callable[[], float],
) -> Retry | Failed:
    """What follows from an attempt's error.

    Args:
        error: what went wrong; knows if a retry can help and the upstream's least wait.
        attempt: which counted attempt this was, from 1.
        max_attempts: how many the job may have.
        now: seconds since the epoch, as is `deadline`: a retry that would not start before the
            deadline is a failure now.
        deadline: the job's own, or None.
        random: uniform in [0, 1).
    """
    if not error.retryable or attempt >= max_attempts:
        return Failed(error)
    delay = max(backoff(attempt, random), error.retry_after or 0.0)
    if deadline is not None and now + delay >= deadline:
        return Failed(error)
    return Retry(error, delay)


def backoff(attempt: int, random: Callable[[], float]) -> float:
    """Seconds to wait after this attempt: full jitter, uniform(0, min(CAP, BASE·2^(attempt-1))).

    Source: https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/
    """
    return random() * min(CAP, BASE * 2.0 ** (attempt - 1))


def parse_retry_after(headers: Mapping[str, str], now: float) -> float | None:
    """Seconds the upstream asks to wait, within 0 and MAX_RETRY_AFTER; None if it does not say.

    Args:
        headers: by lower-case name, or without regard to case.
        now: seconds since the epoch, for a date.

    `retry-after-ms` is OpenAI's and more exact, so it goes first; `Retry-After` is RFC 9110 10.2.3.
    """
    wait = _number(headers.get("retry-after-ms"))
    if wait is not None:
        wait /= 1000
    else:
        value = headers.get("retry-after")
        wait = _number(value)
        if wait is None:
            wait = _seconds_until(value, now)
    return None if wait is None else min(max(wait, 0.0), MAX_RETRY_AFTER)


def _number(value: str | None) -> float | None:
    """A plain decimal number; what else `float` accepts (nan, inf, 1e9, 1_0) is no wait."""
    text = (value or "").strip()
    return float(text) if _NUMBER.fullmatch(text) else None


def _seconds_until(value: str | None, now: float) -> float | None:
    """Seconds until an HTTP date; a date without a zone is UTC."""
    try:
        date = parsedate_to_datetime(value or "")
    except (ValueError, OverflowError):
        return None
    return (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp() - now
