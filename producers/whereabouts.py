"""Where a job is and what it waits for, in a few words."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime

from penstock import Client, JobRecord, JobState, Outlook, PenstockError, StoreUnavailable
from producers.duration import spoken


def where(record: JobRecord, now: float, outlook: Outlook | None = None) -> str:
    """Where the job is at this time, in seconds since the epoch, and what its outlook is there."""
    match record.state:
        case JobState.SCHEDULED:
            return f"scheduled, may run from {clock(record.available_at, now)}"
        case JobState.QUEUED:
            queued = f"queued for {spoken(now - record.available_at)}"
            return f"{queued}, {in_words(outlook)}" if outlook else queued
        case JobState.ADMITTED:
            since = record.admitted_at or record.available_at
            return f"waits for a worker for {spoken(now - since)}"
        case JobState.RUNNING:
            attempt = f", attempt {record.attempt}" if record.attempt > 1 else ""
            return f"running for {spoken(now - (record.started_at or now))}{attempt}"
        case _:
            return ""


def in_words(outlook: Outlook) -> str:
    """A job's place in the line, and about how long it will wait, where that is known."""
    place = f"number {outlook.position:,} in line"
    return place if outlook.wait is None else f"{place}, about {spoken(outlook.wait)} to go"


def clock(moment: float, now: float) -> str:
    """A moment in local time, with the date unless it is today."""
    local, today = (datetime.fromtimestamp(time_, UTC).astimezone() for time_ in (moment, now))
    form = "%H:%M:%S" if local.date() == today.date() else "%Y-%m-%d %H:%M:%S"
    return local.strftime(form)


def watching(client: Client, job: str) -> Callable[[], str]:
    """What the status line of a person who waits for this job asks."""

    def look() -> str:
        try:
            (record,) = client.get_many([job])  # without its request, which may be large
            if record is None:
                return ""
            waits = record.state == JobState.QUEUED
            outlook = client.outlook([job])[0] if waits else None
            return where(record, time.time(), outlook)
        except StoreUnavailable:
            return f"reconnecting to Redis at {client.settings.safe_url}"
        except PenstockError:
            return ""

    return look
