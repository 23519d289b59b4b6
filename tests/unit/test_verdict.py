"""What the gate is told of an attempt's error."""

from __future__ import annotations

import pytest

from penstock.commands import Feedback
from penstock.errors import (
    AttemptBroken,
    ConnectFailed,
    StatusError,
    StreamBroken,
    TimedOut,
    UpstreamError,
)
from worker.verdict import of_error


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (ConnectFailed("refused"), Feedback("broken")),
        (TimedOut("no connection in time", code="connect"), Feedback("broken")),
        (TimedOut("nothing came", code="first_token"), Feedback("broken")),
        (TimedOut("a stall", code="between_tokens"), Feedback("broken")),
        (StreamBroken("no finish_reason"), Feedback("broken")),
        (StatusError("", status=500), Feedback("broken")),
        (StatusError("", status=502, retry_after=9), Feedback("broken")),
        (StatusError("", status=503), Feedback("down")),
        (StatusError("", status=529), Feedback("down")),
        (StatusError("", status=503, retry_after=7), Feedback("busy", 7)),
        (StatusError("", status=429), Feedback("busy")),
        (StatusError("", status=429, retry_after=0.25), Feedback("busy", 0.25)),
        (StatusError("", status=400), Feedback("ok")),
        (TimedOut("a long answer", code="total"), Feedback()),
        (TimedOut("too late", code="deadline"), Feedback()),
        (AttemptBroken("ours"), Feedback()),
    ],
)
def test_what_an_error_says_of_the_upstream(error: UpstreamError, told: Feedback) -> None:
    """No connection, a stall and 5xx: broken; 429: busy; limits of our own say nothing."""
    assert of_error(error) == told
