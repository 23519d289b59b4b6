"""What an attempt's error says about its upstream, for the gate. Pure."""

from __future__ import annotations

from penstock.commands import Feedback
from penstock.errors import ConnectFailed, StatusError, StreamBroken, TimedOut, UpstreamError

BUSY = frozenset({429, 503, 529})
"""Statuses of an upstream that has no room now: RFC 6585 4, RFC 9110 15.6.4, Anthropic's API."""

UNAVAILABLE = frozenset({503, 529})
"""Those that a balancer with nobody behind it answers too."""

OURS = frozenset({"deadline", "total"})
"""Timeouts that we set and a slow, healthy upstream may run into."""


def of_error(error: UpstreamError) -> Feedback:
    """`busy`, `broken`, both (`down`), `ok` where it answered as it should, or nothing."""
    match error:
        case StatusError() if error.status in UNAVAILABLE and not error.retry_after:
            return Feedback("down")
        case StatusError() if error.status in BUSY:
            return Feedback("busy", error.retry_after or 0)
        case StatusError():
            return Feedback("broken" if (error.status or 0) >= 500 else "ok")
        case TimedOut() if error.code in OURS:
            return Feedback()
        case TimedOut() | ConnectFailed() | StreamBroken():
            return Feedback("broken")
        case _:
            return Feedback()
