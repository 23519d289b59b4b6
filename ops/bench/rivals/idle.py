"""A Celery task that does nothing, for the pools Celery brings: the most jobs/s they can run.

`celery -A ops.bench.rivals.idle worker -P threads -c 100`
"""

from __future__ import annotations

from typing import Any

import redis
from celery import Celery
from celery.signals import worker_ready

from ops.bench.rivals.tally import Tally

app = Celery("rival")
app.conf.update(task_ignore_result=True, broker_connection_retry_on_startup=True)
tally = Tally()


@app.task(name="nothing")  # type: ignore[untyped-decorator]  # Celery has no type information
def nothing() -> None:
    """Do nothing, and count it."""
    tally.add()


@worker_ready.connect  # type: ignore[untyped-decorator]
def on_ready(**_: Any) -> None:
    """Tell the benchmark."""
    tally.store = redis.Redis.from_url(app.conf.broker_url)
    tally.store.set("rival:ready", 1)
