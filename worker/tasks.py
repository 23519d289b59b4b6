"""The Celery tasks: they only find what the worker's composition root has built."""

from __future__ import annotations

from celery import Celery

from worker.dispatch import TASK
from worker.pool import current


async def attempt() -> None:
    """Run one attempt at the job whose id is the task's id."""
    delivery = current()
    await delivery.state.run(delivery)


def register(app: Celery) -> None:
    """Give the application its tasks."""
    app.task(attempt, name=TASK, ignore_result=True, acks_late=False)
