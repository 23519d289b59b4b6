"""Webhooks out: real workers, real receivers that behave badly, signatures checked by others."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Any

import pytest
from standardwebhooks import Webhook

from ops.simulator import Script
from penstock import Client, Job
from tests.processes import Started
from tests.receiver import ALLOWED, Received, Receiver, receiving

SECRET = "whsec_" + base64.b64encode(b"a secret of some length, 1").decode()
OTHER_SECRET = "whsec_" + base64.b64encode(b"a secret of some length, 2").decode()
MESSAGES = [{"role": "user", "content": "canary-prompt-77f1"}]
QUICK = Script(tokens=8, gap=0.001, ttft=0.01)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """A receiver that answers 200."""
    yield from receiving()


def ask(client: Client, webhook: Any, script: Script = QUICK, **fields: Any) -> Job:
    return client.submit(MESSAGES, simulate=script.as_dict(), webhook=webhook, **fields)


def verified(call: Received, *secrets: str) -> None:
    """Each of these secrets alone verifies the call."""
    for secret in secrets:
        Webhook(secret).verify(call.body, call.headers)


def test_the_end_of_a_job_is_told_to_its_endpoint(
    client: Client, start_worker: Started, receiver: Receiver
) -> None:
    """The body is the feed's last event, signed with every secret as Standard Webhooks says."""
    start_worker(**ALLOWED)
    endpoint = {"url": receiver.url, "secret": [SECRET, OTHER_SECRET]}
    job = ask(client, endpoint, metadata={"order": "7"})
    (call,) = receiver.until_called()
    verified(call, SECRET, OTHER_SECRET)
    *_, last = job.events(timeout=10)
    assert call.id == f"{job.id}-{last.id}"
    assert call.json["type"] == "job.completed"
    assert call.json["data"]["data"] == last.data
    assert call.json["metadata"] == {"order": "7"}
