"""Webhooks out: real workers, real receivers that behave badly, signatures checked by others."""

from __future__ import annotations

import base64
import itertools
import json
import signal
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from standardwebhooks import Webhook

from ops.simulator import Fault, Script
from penstock import Client, Delivery, DeliveryState, Job, keys
from tests.acceptance.faulty_worker import WEBHOOK_STEPS
from tests.acceptance.fleet import Fleet
from tests.processes import Started, free_port, run_cli
from tests.receiver import ALLOWED, Received, Receiver, Reply, receiving
from tests.waiting import until, until_async

SECRET = "whsec_" + base64.b64encode(b"a secret of some length, 1").decode()
OTHER_SECRET = "whsec_" + base64.b64encode(b"a secret of some length, 2").decode()
PROMPT = "canary-prompt-77f1"
MESSAGES = [{"role": "user", "content": PROMPT}]
QUICK = Script(tokens=8, gap=0.001, ttft=0.01)
HASTY = {**ALLOWED, "PENSTOCK_WEBHOOK_SCHEDULE": ",".join(["0.05"] * 40),
         "PENSTOCK_WEBHOOK_TIMEOUT": "1"}  # fmt: skip
"""The schedule of three days in two seconds."""


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


def ended(client: Client, job: Job, state: DeliveryState) -> Delivery:
    """Wait until a job's only delivery is in this state."""
    return until(lambda: next(iter(client.deliveries_of(job.id, state)), None), timeout=20)


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
    assert ended(client, job, DeliveryState.DELIVERED).log[0].status == 200


def test_every_event_can_be_told(client: Client, start_worker: Started, receiver: Receiver) -> None:
    """Deltas come merged, half a second apart, and join to what each attempt said."""
    start_worker(**ALLOWED)
    events = ["started", "delta", "restarted", "completed"]
    text = " ".join(f"word{n}" for n in range(100))
    script = Script(text=text, gap=0.02, ttft=0.01, fault=Fault("reset", event=60), attempts=1)
    job = ask(client, {"url": receiver.url, "events": events}, script)
    job.result(timeout=30)
    count = len(list(client.deliveries_of(job.id)))
    calls = [call.json["data"] for call in receiver.until_called(count)]
    calls.sort(key=lambda data: [int(part) for part in data["id"].split("-")])
    kinds = [kind for kind, _ in itertools.groupby(data["type"] for data in calls)]
    assert kinds == ["started", "delta", "restarted", "started", "delta", "completed"]
    deltas = [data for data in calls if data["type"] == "delta"]
    last = calls[-1]["id"].split("-")[0]
    said = [d["data"]["choices"][0]["delta"]["content"] for d in deltas if d["id"][0] == last]
    assert "".join(said) == text
    chain = [(d["after"], d["id"]) for d in deltas if d["id"][0] == last]
    assert [after for after, _ in chain[1:]] == [until_ for _, until_ in chain[:-1]]
    assert len(deltas) <= 2 + (calls[-1]["time"] - calls[0]["time"]) / 0.5


def test_a_tenants_endpoint_is_told_with_its_secret(
    client: Client, start_worker: Started, receiver: Receiver
) -> None:
    """penstock.toml names the variable; the secret itself is nowhere in Redis."""
    webhook = {"url": receiver.url, "secret_env": "ACME_SECRET", "events": ["failed", "cancelled"]}
    tenants = {"acme": {"webhook": webhook}}
    start_worker(**ALLOWED, PENSTOCK_TENANTS=json.dumps(tenants), ACME_SECRET=SECRET)
    failing = Script(fault=Fault("status", status=400))
    ask(client, None).result(timeout=20)
    ask(client, None, tenant="acme").result(timeout=20)
    job = ask(client, None, failing, tenant="acme")
    waiting = ask(client, None, tenant="acme", delay=60)
    waiting.cancel("no more")
    calls = receiver.until_called(2)
    for call in calls:
        verified(call, SECRET)
    assert {(c.json["data"]["job"], c.json["type"]) for c in calls} == {
        (job.id, "job.failed"), (waiting.id, "job.cancelled"),
    }  # fmt: skip
    raw = [client.store.redis.dump(key) for key in client.store.redis.scan_iter("*")]
    assert not any(SECRET.encode() in each for each in raw if each)


def test_a_secret_is_shown_nowhere(
    client: Client, start_worker: Started, receiver: Receiver
) -> None:
    """A job's secret is in no listing, repr or log line; nor is its prompt."""
    worker = start_worker(**ALLOWED, PENSTOCK_LOG_LEVEL="debug")
    job = ask(client, {"url": receiver.url, "secret": SECRET, "events": ["completed"]})
    receiver.until_called()
    delivery = ended(client, job, DeliveryState.DELIVERED)
    worker.until_logged("webhook_delivered")
    url = client.settings.server_url
    shown = [
        repr(job.record()), repr(delivery), worker.log,
        *(run_cli(url, *line.split()).stdout for line in (
            f"show {job.id} --json", f"show {job.id}", "list --json", "webhooks list",
            "webhooks list --json",
        )),
    ]  # fmt: skip
    assert all(shown)
    head, line, way = shown[-2].splitlines()
    assert max(len(head), len(line)) <= 80
    assert delivery.id in line
    assert way.strip() == f"{delivery.url}: 200"
    assert not any(SECRET.removeprefix("whsec_") in text for text in shown)
    assert PROMPT not in worker.log


@pytest.mark.parametrize(
    "bad",
    [Reply(500), Reply(404), Reply(302, {"location": "/elsewhere"}), Reply(drops=True),
     Reply(hangs=True)],
    ids=["500", "404", "302", "drops", "hangs"],
)  # fmt: skip
def test_a_bad_receiver_is_tried_again_with_the_same_id(
    client: Client, start_worker: Started, bad: Reply
) -> None:
    """What is no 2xx in time is tried again until it is one; the log has each try."""
    start_worker(**HASTY)
    with Receiver([bad, bad, Reply()]) as receiver:
        job = ask(client, {"url": receiver.url, "secret": SECRET})
        delivery = ended(client, job, DeliveryState.DELIVERED)
        calls = receiver.received
    for call in calls:
        verified(call, SECRET)
    assert {call.id for call in calls} == {delivery.id}
    assert len({call.headers["webhook-timestamp"] for call in calls}) >= 1
    assert len(delivery.log) == len(calls) == 3
    assert all(each.error for each in delivery.log[:-1])


def test_a_receiver_that_is_down_for_long_hears_everything(
    client: Client, start_worker: Started
) -> None:
    """Jobs end while nobody listens; each end is delivered once somebody does."""
    start_worker(**HASTY)
    port = free_port()
    url = f"http://127.0.0.1:{port}/hook"
    jobs = [ask(client, url) for _ in range(20)]
    for job in jobs:
        job.result(timeout=20)
    until(lambda: sum(len(d.log) for d in client.deliveries()) >= 8, timeout=20)
    assert client.store.redis.zcard(keys.WEBHOOKS) == 20
    with Receiver(port=port) as receiver:
        until(lambda: client.store.redis.zcard(keys.WEBHOOKS) == 0, timeout=30)
    assert {call.json["data"]["job"] for call in receiver.received} == {job.id for job in jobs}


def test_what_is_tried_in_vain_is_given_up_and_can_be_sent_again(
    client: Client, start_worker: Started
) -> None:
    """After the last try a delivery is kept as failed; `resend` gives it all its tries anew."""
    start_worker(**{**HASTY, "PENSTOCK_WEBHOOK_SCHEDULE": "0.05,0.05"})
    with Receiver([Reply(500), Reply(500), Reply(500), Reply()]) as receiver:
        job = ask(client, receiver.url)
        failed = ended(client, job, DeliveryState.FAILED)
        assert [each.status for each in failed.log] == [500, 500, 500]
        assert failed.due is None
        done = run_cli(client.settings.server_url, "webhooks", "resend", failed.id)
        assert done.stdout == f"{failed.id} waiting\n"
        again = ended(client, job, DeliveryState.DELIVERED)
        assert [each.status for each in again.log] == [500, 500, 500, 200]
        assert {call.id for call in receiver.received} == {failed.id}
    unknown = run_cli(client.settings.server_url, "webhooks", "resend", "nothing")
    assert (unknown.returncode, unknown.stdout) == (1, "")
    assert "there is no delivery nothing" in unknown.stderr


def test_an_endpoint_that_is_gone_is_not_called_any_more(
    client: Client, start_worker: Started
) -> None:
    """410 ends its deliveries, later ones too, until one is sent again by hand."""
    worker = start_worker(**HASTY)
    with Receiver([Reply(410), Reply()]) as receiver:
        first = ask(client, receiver.url)
        gone = ended(client, first, DeliveryState.DISABLED)
        worker.until_logged("webhook_disabled")
        second = ask(client, receiver.url)
        ended(client, second, DeliveryState.DISABLED)
        assert len(receiver.received) == 1
        client.resend(gone.id)
        ended(client, first, DeliveryState.DELIVERED)
        third = ask(client, receiver.url)
        ended(client, third, DeliveryState.DELIVERED)


def test_a_large_answer_is_a_link(
    client: Client, start_worker: Started, receiver: Receiver
) -> None:
    """A body is never over 20 KB: what is larger has to be fetched."""
    start_worker(**ALLOWED, PENSTOCK_PUBLIC_URL="https://queue.example/")
    job = ask(client, receiver.url, Script(text="x" * 30_000, ttft=0.01))
    (call,) = receiver.until_called()
    assert call.json["link"] == f"https://queue.example/v1/jobs/{job.id}"
    assert set(call.json["data"]) == {"id", "job", "type", "time"}


def test_an_endpoint_off_the_open_internet_is_refused(
    client: Client, start_worker: Started, receiver: Receiver
) -> None:
    """By default a worker calls neither plain http nor this machine, and does not try again."""
    start_worker()
    plain = ended(client, ask(client, receiver.url), DeliveryState.FAILED)
    address = f"https://127.0.0.1:{receiver.port}/"
    local = ended(client, ask(client, address), DeliveryState.FAILED)
    assert "http:// is not allowed: use https" in plain.log[0].error
    assert "127.0.0.1 is not on the open internet (loopback)" in local.log[0].error
    assert receiver.received == []


async def test_a_worker_may_die_between_the_end_and_its_delivery(receiver: Receiver) -> None:
    """SIGKILL after finish, and before and after a delivery is settled: none is lost."""
    settings = {
        "webhook_http": "true", "webhook_allow": "127.0.0.0/8", "webhook_timeout": "1",
    }  # fmt: skip
    async with Fleet(settings=settings) as fleet:
        client = Client(fleet.settings)
        jobs = []
        for step in ["after finish", *WEBHOOK_STEPS]:
            doomed = fleet.start_worker({"die": [step, 1]})
            await doomed.says("worker_started")
            jobs.append(ask(client, {"url": receiver.url, "secret": SECRET}))
            assert await doomed.ended() == -signal.SIGKILL, doomed.log.read_text()
        await fleet.start_workers(1)
        wanted = {job.id for job in jobs}
        await until_async(
            lambda: {call.json["data"]["job"] for call in receiver.received} == wanted, 30
        )
        await until_async(lambda: client.store.redis.zcard(keys.WEBHOOKS) == 0, 30)
        client.close()
    for call in receiver.received:
        verified(call, SECRET)
        assert call.id.startswith(call.json["data"]["job"])
    assert len({call.id for call in receiver.received}) == 3
    calls = Counter(call.json["data"]["job"] for call in receiver.received)
    assert max(calls.values()) > 1, "the one that was called but not settled comes twice"
