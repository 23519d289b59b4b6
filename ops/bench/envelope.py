"""Fills a Celery queue with many messages at once, so that no producer holds a worker up."""

from __future__ import annotations

import json
from typing import Any

from celery import Celery

from ops.bench.stand import Stand

_ID = "@@id@@"
BATCH = 1000


def envelope(task: str, arguments: list[Any], queue: str) -> str:
    """A message as Celery and kombu write it, with a placeholder for its id."""
    app = Celery("envelope", broker="memory://", set_as_current=False)
    with app.connection_for_write() as connection:
        app.send_task(task, arguments, task_id=_ID, connection=connection, queue=queue)
        message: dict[str, Any] = connection.default_channel._get(queue)
    message["properties"] |= {"correlation_id": _ID, "delivery_tag": _ID}
    return json.dumps(message)


def fill(stand: Stand, key: str, text: str, count: int) -> None:
    """Push the message so many times, each with an id of its own."""
    for first in range(0, count, BATCH):
        numbers = range(first, min(first + BATCH, count))
        stand.redis.lpush(key, *(text.replace(_ID, f"task-{number}") for number in numbers))
