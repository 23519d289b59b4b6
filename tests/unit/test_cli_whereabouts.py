"""The words for where a job is."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import pytest

from penstock import JobRecord, JobState, Outlook
from producers.whereabouts import where

NOON = datetime(2026, 5, 4, 12, 0, 0).astimezone().timestamp()


def record(state: JobState, **fields: Any) -> JobRecord:
    """A record in this state."""
    return JobRecord(
        id="job_1", tenant="default", route="default", state=state, priority=5, max_attempts=5,
        attempt=fields.pop("attempt", 1), result_ttl=60, created_at=NOON - 12,
        available_at=fields.pop("available_at", NOON - 12), request=b"{}", **fields,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("job", "words"),
    [
        (record(JobState.QUEUED), "queued for 12 s"),
        (record(JobState.SCHEDULED, available_at=NOON + 5), "scheduled, may run from 12:00:05"),
        (
            record(JobState.SCHEDULED, available_at=NOON + 86_400),
            "scheduled, may run from 2026-05-05 12:00:00",
        ),
        (record(JobState.ADMITTED, admitted_at=NOON - 3), "waits for a worker for 3.0 s"),
        (record(JobState.RUNNING, started_at=NOON - 2), "running for 2.0 s"),
        (record(JobState.RUNNING, started_at=NOON - 2, attempt=3), "running for 2.0 s, attempt 3"),
        (record(JobState.COMPLETED), ""),
    ],
)
def test_each_state_says_what_one_waits_for(job: JobRecord, words: str) -> None:
    """Whoever waits sees for what, and how long already or until when."""
    assert where(job, NOON) == words


@pytest.mark.parametrize(
    ("outlook", "words"),
    [
        (Outlook(1200, 75), "queued for 12 s, number 1,200 in line, about 1 min 15 s to go"),
        (Outlook(1, None), "queued for 12 s, number 1 in line"),
    ],
)
def test_a_line_has_places(outlook: Outlook, words: str) -> None:
    """Whoever waits in a line sees the place, and how long it will take once that is known."""
    assert where(record(JobState.QUEUED), NOON, outlook) == words
