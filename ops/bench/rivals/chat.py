"""The worker most people would write: one task a completion, OpenAI's SDK, one PUBLISH a token.

    celery -A ops.bench.rivals.chat worker -P threads -c 1000
    celery -A ops.bench.rivals.chat worker -P gevent -c 1000

Done as well as its own documentation says: one client for all tasks, connections enough for each
of them, no retries inside retries, no results stored. What it lacks is in the README.
"""

from __future__ import annotations

import json
from typing import Any

import redis
from celery import Celery
from celery.signals import worker_ready
from openai import DefaultHttpxClient, OpenAI

try:  # from version 3 on the SDK has its own httpx
    import httpx2 as httpx
except ImportError:  # pragma: no cover
    import httpx  # type: ignore[no-redef]

app = Celery("rival")
app.conf.update(task_ignore_result=True, broker_connection_retry_on_startup=True)

limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
client = OpenAI(max_retries=0, http_client=DefaultHttpxClient(limits=limits))
store = redis.Redis.from_url(app.conf.broker_url, max_connections=10_000)


@app.task(name="chat")  # type: ignore[untyped-decorator]  # Celery has no type information
def chat(channel: str, messages: list[Any], simulate: dict[str, Any]) -> None:
    """Stream one answer to a channel."""
    stream = client.chat.completions.create(
        model="simulated",
        messages=messages,
        stream=True,
        stream_options={"include_usage": True},
        extra_body={"simulate": simulate},
    )
    for chunk in stream:
        if chunk.choices and (text := chunk.choices[0].delta.content):
            store.publish(channel, json.dumps({"type": "delta", "text": text}))
    store.publish(channel, json.dumps({"type": "done"}))


@worker_ready.connect  # type: ignore[untyped-decorator]
def on_ready(**_: Any) -> None:
    """Tell the benchmark."""
    store.set("rival:ready", 1)
