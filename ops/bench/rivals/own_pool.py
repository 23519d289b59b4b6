"""The same task as in `idle`, as a coroutine on our pool: with Celery's defaults and with ours.

`celery -A ops.bench.rivals.own_pool:plain worker -P custom -c 100`, with the environment variable
CELERY_CUSTOM_WORKER_POOL=ops.bench.rivals.own_pool:TrivialPool.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Any

import redis
from celery import Celery
from celery.signals import worker_ready

from ops.bench.rivals.tally import Tally
from penstock.settings import Settings
from worker.dispatch import make_app
from worker.pool import AsyncioPool, current

tally = Tally()


@contextlib.asynccontextmanager
async def lifespan(pool: AsyncioPool) -> AsyncIterator[None]:
    """Nothing to build."""
    yield


class TrivialPool(AsyncioPool):
    """Our pool with nothing behind it."""

    lifespan = lifespan


async def nothing() -> None:
    """Do nothing, and count it."""
    current().accept()
    tally.add()


plain = Celery("rival")
plain.conf.update(task_ignore_result=True, broker_connection_retry_on_startup=True)
configured = make_app(Settings.load(), ["bench"])
for app in (plain, configured):
    app.task(nothing, name="nothing")


@worker_ready.connect  # type: ignore[untyped-decorator]  # Celery has no type information
def on_ready(sender: Any, **_: Any) -> None:
    """Tell the benchmark."""
    tally.store = redis.Redis.from_url(sender.app.conf.broker_url)
    tally.store.set("rival:ready", 1)
