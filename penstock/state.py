"""The states of a job and the only ways between them.

docs/lifecycle.md shows this table and is tested against it; the scripts in lua/ obey it.

=========  =====================================================================================
scheduled  waits for its time (a delay, or a retry's back-off); the sweep moves it on
queued     waits in its tenant's backlog; the gate moves it on
admitted   may run now, its Celery message is in the queue; a worker's claim moves it on, or back
           where that worker's version cannot read it
running    a worker holds its lease; that worker moves it on, or the sweep when the lease is lost
completed  the answer is whole
failed     its attempts or its deadline are used up, or no retry can help; a redrive moves it on
cancelled  somebody stopped it
expired    its deadline passed before it could run
=========  =====================================================================================
"""

from __future__ import annotations

from enum import StrEnum


class JobState(StrEnum):
    """Where a job is in its life."""

    SCHEDULED = "scheduled"
    QUEUED = "queued"
    ADMITTED = "admitted"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    EXPIRED = "expired"

    @property
    def is_terminal(self) -> bool:
        """Whether the job is over: its feed has ended with an event of this name."""
        return self in TERMINAL


TERMINAL = frozenset(
    {JobState.COMPLETED, JobState.FAILED, JobState.CANCELLED, JobState.EXPIRED},
)

TRANSITIONS: dict[JobState, frozenset[JobState]] = {
    JobState.SCHEDULED: frozenset({JobState.QUEUED, JobState.CANCELLED, JobState.EXPIRED}),
    JobState.QUEUED: frozenset({JobState.ADMITTED, JobState.CANCELLED, JobState.EXPIRED}),
    JobState.ADMITTED: frozenset(
        {JobState.RUNNING, JobState.QUEUED, JobState.CANCELLED, JobState.EXPIRED}
    ),
    JobState.RUNNING: frozenset(
        {
            JobState.SCHEDULED,
            JobState.QUEUED,
            JobState.COMPLETED,
            JobState.FAILED,
            JobState.CANCELLED,
        }
    ),
    JobState.COMPLETED: frozenset(),
    JobState.FAILED: frozenset({JobState.QUEUED}),
    JobState.CANCELLED: frozenset(),
    JobState.EXPIRED: frozenset(),
}
"""From each state, the states a job may go to next."""
