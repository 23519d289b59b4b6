"""Stopping a job, and what to say of it."""

from __future__ import annotations

from penstock import Client, JobState
from penstock.errors import InvalidTransition

_STOPPED = {
    JobState.RUNNING: "is being stopped by its worker",
    JobState.CANCELLED: "cancelled",
}


def stop(client: Client, job: str) -> str:
    """Cancel it; what has become of it, behind its id. Raises InvalidTransition if it had ended."""
    state = client.cancel(job)
    if state not in _STOPPED:
        raise InvalidTransition(f"{job} is {state} already; there is nothing to cancel")
    return _STOPPED[state]
