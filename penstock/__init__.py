"""Penstock: chat jobs through Redis, answered by Celery workers, followed live from anywhere.

::

    from penstock import Client

    client = Client()
    job = client.submit(messages=[{"role": "user", "content": "Hello!"}])
    for event in job.events():
        print(event.text, end="")
"""

from penstock.attendance import WorkerRecord
from penstock.client import AsyncClient, AsyncJob, Client, Job
from penstock.commands import Outlook
from penstock.errors import (
    BudgetSpent,
    ConfigurationError,
    ConversationBusy,
    DeliveryNotFound,
    Dismissed,
    IdempotencyConflict,
    InvalidRequest,
    InvalidTransition,
    JobCancelled,
    JobError,
    JobExpired,
    JobFailed,
    JobNotFound,
    PenstockError,
    QueueFull,
    RecordUnreadable,
    RequestTooLarge,
    StoreError,
    StoreFull,
    StoreUnavailable,
    UnknownRoute,
    UpstreamError,
)
from penstock.events import Cursor, Event, EventType
from penstock.job import Completion, JobRecord, Usage
from penstock.outbox import Delivery, DeliveryState
from penstock.settings import Settings
from penstock.state import JobState
from penstock.survey import Survey

__all__ = [
    "AsyncClient",
    "AsyncJob",
    "BudgetSpent",
    "Client",
    "Completion",
    "ConfigurationError",
    "ConversationBusy",
    "Cursor",
    "Delivery",
    "DeliveryNotFound",
    "DeliveryState",
    "Dismissed",
    "Event",
    "EventType",
    "IdempotencyConflict",
    "InvalidRequest",
    "InvalidTransition",
    "Job",
    "JobCancelled",
    "JobError",
    "JobExpired",
    "JobFailed",
    "JobNotFound",
    "JobRecord",
    "JobState",
    "Outlook",
    "PenstockError",
    "QueueFull",
    "RecordUnreadable",
    "RequestTooLarge",
    "Settings",
    "StoreError",
    "StoreFull",
    "StoreUnavailable",
    "Survey",
    "UnknownRoute",
    "UpstreamError",
    "Usage",
    "WorkerRecord",
]
