"""The tasks of penstock/celery.py in a Celery application of somebody else's."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from celery import Celery, Signature, chain, chord

import penstock.celery
from ops.local.server import EmbeddedServer
from ops.simulator import SimulatorThread
from penstock import Client, InvalidRequest, JobFailed, JobState, Settings
from tests.processes import WorkerProcess
from tests.waiting import until

pytestmark = pytest.mark.xdist_group("celery_tasks")

SHOP = """
import os

from celery import Celery

app = Celery("shop", broker={broker!r}, backend={broker!r}, include=["penstock.celery"])
app.conf.update(task_acks_late=True, worker_concurrency=1)
app.conf.broker_transport_options = {{
    "visibility_timeout": int(os.environ.get("VISIBILITY", 3600)),
    "unacked_restore_interval": 1,
    "unacked_restore_throttle": 1,
}}

@app.task
def prepare(topic):
    return [{{"role": "user", "content": f"Tell me of {{topic}}."}}]

@app.task
def use_answer(completion):
    return completion["choices"][0]["message"]["content"]

@app.task
def count(completions):
    return sum(completion["object"] == "chat.completion" for completion in completions)
"""


class Shop(NamedTuple):
    """An application whose one worker has one slot, and Penstock beside it.

    Attributes:
        app: the application, as one sees it that knows its tasks by name only.
        address: of its broker.
        server: Penstock's; the application's broker is another.
        log: of the application's worker.
    """

    app: Celery
    address: str
    client: Client
    server: EmbeddedServer
    log: Path

    def call(self, task: str, *arguments: Any, **fields: Any) -> Signature:
        """A signature of a task."""
        return self.app.signature(task, arguments, fields)


@pytest.fixture(scope="module")
def shop(session_dir: Path) -> Iterator[Shop]:
    """One for all of these tests."""
    with (
        EmbeddedServer(session_dir / "broker") as broker,
        EmbeddedServer(session_dir / "tasks") as server,
        SimulatorThread() as simulator,
        Client(Settings.load(redis_url=server.url)) as client,
    ):
        address = f"redis+socket://{broker.socket_path}"
        app = Celery("shop", broker=address, backend=address, set_as_current=False)
        worker = WorkerProcess(server.url, (), {"PENSTOCK_UPSTREAM_URL": simulator.url})
        try:
            with shop_worker(session_dir, address, server.url) as log:
                worker.until_ready()
                yield Shop(app, address, client, server, log)
        finally:
            worker.kill()
            app.close()


@contextmanager
def shop_worker(
    directory: Path, address: str, penstock_url: str, *arguments: str, **environment: str
) -> Iterator[Path]:
    """The application's worker, started as its people would, in the end killed; its log."""
    (directory / "shop.py").write_text(SHOP.format(broker=address))
    log = directory / f"shop-{uuid.uuid4()}.log"
    command = [Path(sys.executable).with_name("celery"), "-A", "shop", "worker", "-l", "INFO"]
    with open(log, "wb") as output:
        process = subprocess.Popen(
            [*command, "-n", f"{log.stem}@%h", *arguments],
            cwd=directory,
            env={**os.environ, "PENSTOCK_REDIS_URL": penstock_url, **environment},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        until(lambda: process.poll() is not None or "ready." in log.read_text(), timeout=30)
        assert process.poll() is None, log.read_text()
        yield log
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


MESSAGES = [{"role": "user", "content": "Something secret"}]


def asked(**script: Any) -> dict[str, Any]:
    """A chat-completions body that says what the simulator is to do."""
    return {"messages": MESSAGES, "simulate": script}


def test_a_chain_goes_on_with_the_answer(shop: Shop) -> None:
    """prepare, ask, use_answer: each gets what the one before gave, and there is one job."""
    ask = shop.call("penstock.ask", metadata={"order": "7"}, simulate={"text": "Of rivers."})
    way = chain(shop.call("shop.prepare", "water"), ask, shop.call("shop.use_answer"))
    pending = way.apply_async()
    assert pending.get(timeout=30) == "Of rivers."
    jobs = list(shop.client.list())
    assert [job.metadata for job in jobs] == [{"order": "7"}]
    assert jobs[0].idempotency_key == f"celery:{pending.parent.id}"


def test_answers_are_waited_for_without_a_slot(shop: Shop) -> None:
    """Eight answers of a second each are there in less than four, with a worker of one slot."""
    slow = shop.call("penstock.ask", asked(tokens=10, gap=0.1))
    begun = time.monotonic()
    total = chord([slow.clone() for _ in range(8)], shop.call("shop.count")).apply_async()
    assert total.get(timeout=30) == 8
    assert 1 < time.monotonic() - begun < 4


def test_a_message_that_comes_twice_is_one_job(shop: Shop) -> None:
    """As after a redelivery: the task's id is the idempotency key."""
    name, text = str(uuid.uuid4()), "Once upon a time"
    first = shop.call("penstock.submit", text).apply_async(task_id=name).get(timeout=30)
    shop.app.backend.forget(name)
    again = shop.call("penstock.submit", text).apply_async(task_id=name).get(timeout=30)
    assert again == first
    assert shop.client.job(first).result(timeout=30).object == "chat.completion"


@pytest.mark.chaos
def test_an_answer_outlives_the_worker_that_waits_for_it(shop: Shop, session_dir: Path) -> None:
    """Killed while it holds the message, which comes again: one job, and the chain goes on."""
    worker = partial(shop_worker, session_dir, shop.address, shop.server.url, "-Q", "apart")
    ask = shop.call("penstock.ask", asked(tokens=30, gap=0.1)).set(queue="apart")
    before = len(list(shop.client.list()))
    with worker(VISIBILITY="3"):
        pending = chain(ask, shop.call("shop.use_answer")).apply_async()
        until(lambda: pending.parent.state == "RETRY")
    killed = time.monotonic()
    with worker(VISIBILITY="3"):
        assert len(pending.get(timeout=30).split()) > 20
    assert len(list(shop.client.list())) == before + 1
    print(f"answered {time.monotonic() - killed:.1f} s after the kill")  # noqa: T201 - a figure


def test_a_job_that_fails_fails_the_task(shop: Shop) -> None:
    """The error has its own type on the other side, and so has the chain's that hung on it."""
    ask = shop.call("penstock.ask", asked(fault={"kind": "status", "status": 400}))
    pending = chain(ask, shop.call("shop.use_answer")).apply_async()
    with pytest.raises(JobFailed, match="failed after 1 attempt"):
        pending.get(timeout=30)


@pytest.mark.parametrize("expires", [None, 1], ids=["revoked", "expired"])
def test_a_task_that_ends_while_it_waits_cancels_its_job(shop: Shop, expires: int | None) -> None:
    """Revoked, or expired: the stream that nobody waits for any more is stopped."""
    ask = shop.call("penstock.ask", asked(tokens=100_000, gap=0.02))
    pending = ask.apply_async(expires=expires)
    until(lambda: pending.state == "RETRY")
    job = shop.client.find(f"celery:{pending.id}")
    assert job
    if not expires:
        pending.revoke()
    until(lambda: job.record().state == JobState.CANCELLED)
    assert job.record().cancel_reason == "its task was revoked, or expired"


@pytest.mark.parametrize(
    ("request_", "told"),
    [
        ({"n": 2}, "there are no messages"),
        (None, "there are no messages"),
        ([{"role": "user"}], "needs content"),
    ],
    ids=["body", "nothing", "messages"],
)
def test_a_wrong_request_fails_the_task(shop: Shop, request_: Any, told: str) -> None:
    """It is told as the client tells it, and not tried again."""
    with pytest.raises(InvalidRequest, match=told):
        shop.call("penstock.submit", request_).apply_async().get(timeout=30)


def test_nothing_that_was_said_is_logged(shop: Shop) -> None:
    """Neither the application's log nor a message's headers have prompts or answers."""
    app = Celery("quiet", broker="memory://", set_as_current=False)
    with app.connection_for_write() as connection:
        app.tasks["penstock.ask"].apply_async(["Something secret"], connection=connection)
        headers = connection.default_channel._get("celery")["headers"]
    assert (headers["argsrepr"], headers["kwargsrepr"]) == ("(...)", "(...)")

    text = "An answer nobody else may read"
    completion = shop.call("penstock.ask", asked(text=text)).apply_async().get(timeout=30)
    assert completion["choices"][0]["message"]["content"] == text
    log = shop.log.read_text()
    assert text not in log
    assert "Something secret" not in log
    assert log.count("penstock.ask") > 1
    assert "Traceback" not in log


def test_a_task_run_at_once_blocks_until_the_answer(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in the tests of such an application, with `task_always_eager`: nobody is to retry."""
    monkeypatch.setenv("PENSTOCK_REDIS_URL", shop.server.url)
    penstock.celery._client.cache_clear()
    try:
        completion = penstock.celery.ask.apply([asked(text="Here.")]).get()
        assert completion["choices"][0]["message"]["content"] == "Here."
        for asked_too in ({"request": "And now?"}, {"messages": MESSAGES}):
            assert penstock.celery.ask(**asked_too)["object"] == "chat.completion"
    finally:
        penstock.celery._client().close()
        penstock.celery._client.cache_clear()


def test_a_task_outlasts_an_outage(shop: Shop) -> None:
    """Submitted and waited for while Penstock's Redis is away: answered when it is back."""
    waiting = shop.call("penstock.ask", asked(tokens=3, gap=0.5)).apply_async()
    until(lambda: "penstock.ask" in shop.log.read_text() and waiting.state == "RETRY")
    shop.server.stop()
    late = shop.call("penstock.submit", "Is anybody there?").apply_async()
    until(lambda: late.state == "RETRY")
    assert "StoreUnavailable" in repr(late.result)
    shop.server.start()
    assert waiting.get(timeout=30)["object"] == "chat.completion"
    assert shop.client.job(late.get(timeout=30)).result(timeout=30).text
