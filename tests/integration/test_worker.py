"""One real worker process, one real server, the simulated upstream."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import redis

from ops.simulator import Fault, Script, SimulatorThread, predict
from penstock import Client, Job, JobCancelled, JobFailed, JobState, Settings, keys
from tests.processes import Started, WorkerProcess, free_port
from tests.terminal import CommandLine
from tests.waiting import until
from worker.app import EXIT_UNFIT, create
from worker.telemetry import ACTIONS

WRONG_TOKEN = "canary-token-0d3c"  # noqa: S105 - it is nobody's
CANARY_PROMPT, CANARY_ANSWER = "canary-prompt-51b7", "canary-answer-c2d8"
MESSAGES = [{"role": "user", "content": CANARY_PROMPT}]
SLOW = Script(text=" ".join([CANARY_ANSWER] * 500), gap=0.05, ttft=0.01)


def routes(**timeouts: float) -> dict[str, str]:
    """The environment of a worker whose only route has these timeouts."""
    return {"PENSTOCK_ROUTES": json.dumps({"default": {"timeouts": timeouts}})}


def until_speaking(job: Job) -> None:
    """Wait for the first delta."""
    for event in job.events(timeout=20):
        if event.type == "delta":
            return


def ask(client: Client, script: Script, **fields: Any) -> Job:
    return client.submit(MESSAGES, simulate=script.as_dict(), **fields)


def test_the_answer_is_what_the_upstream_said(
    client: Client, start_worker: Started, simulator: SimulatorThread
) -> None:
    """Text, reasoning, tool calls, finish_reason and usage reach the caller unchanged."""
    start_worker()
    script = Script(tokens=40, reasoning=5, tool_calls=2, usage="later")
    job = ask(client, script, n=2)
    completion = job.result(timeout=20)
    (request,) = simulator.simulator.received
    expected = predict(request.body)
    assert [choice["message"] for choice in completion.choices] == expected.messages
    assert completion.usage.completion_tokens == expected.usage["completion_tokens"]
    assert completion.usage.estimated_cost == expected.usage["estimated_cost"]
    sent = json.loads(request.body)
    assert sent["stream"] is True
    assert sent["stream_options"] == {"include_usage": True}


def test_another_route_answers_for_a_broken_one(
    client: Client, start_worker: Started, simulator: SimulatorThread
) -> None:
    """After two broken attempts a fallback answers with its own model, and the answer says so."""
    ways = {
        "default": {"url": f"http://127.0.0.1:{free_port()}", "fallback": ["spare"]},
        "spare": {"url": simulator.url, "model": "spare-model", "service_tiers": ["flex"]},
    }
    start_worker(PENSTOCK_ROUTES=json.dumps(ways))
    job = ask(client, Script(tokens=3), model="first-model")
    completion = job.result(timeout=30)
    (request,) = simulator.simulator.received
    sent = json.loads(request.body)
    assert (sent["model"], sent["service_tier"]) == ("spare-model", "flex")
    assert completion.model_dump()["penstock"] == {
        "route": "spare", "route_reason": "attempts_failed",
        "service_tier": "flex", "tier_reason": "cheapest",
    }  # fmt: skip
    assert completion.model_dump()["service_tier"] == "flex"
    record = job.record()
    assert (record.route, record.asked_route, record.tier) == ("spare", "default", "flex")
    assert record.answered_tier == "flex"


def test_the_deltas_add_up_to_the_answer(client: Client, start_worker: Started) -> None:
    """A reader who joins the deltas has the final text, and the events have no gap."""
    start_worker()
    job = ask(client, Script(tokens=60, gap=0.005))
    events = list(job.events(timeout=20))
    assert "".join(event.text for event in events) == job.result().text
    assert [event.id for event in events][1:] == [f"1-{n}" for n in range(1, len(events))]
    assert 3 <= sum(event.type == "delta" for event in events) < 60


def test_a_cancel_stops_the_stream_within_a_second(
    client: Client, start_worker: Started, simulator: SimulatorThread
) -> None:
    """Cancelling closes the upstream connection at once, and what was said so far is kept."""
    start_worker()
    job = ask(client, SLOW)
    until_speaking(job)
    asked = time.monotonic()
    assert job.cancel("enough") is JobState.RUNNING
    simulator.until(lambda stats: stats.aborted_by_client == 1)
    with pytest.raises(JobCancelled) as outcome:
        job.result(timeout=5)
    assert time.monotonic() - asked < 1
    assert outcome.value.data["reason"] == "enough"
    partial = outcome.value.data["completion"]
    assert partial["usage"]["estimated"] is True
    said = "".join(event.text for event in job.events())
    assert partial["choices"][0]["message"]["content"] == said
    assert said
    assert SLOW.text.startswith(said)


def test_a_cancel_that_no_channel_delivered_comes_with_the_renewal(
    client: Client, start_worker: Started, simulator: SimulatorThread
) -> None:
    """A worker that did not hear the control channel stops the job all the same."""
    start_worker()
    job = ask(client, SLOW)
    until_speaking(job)
    client.store.redis.hset(keys.job(job.id), "cancel_reason", "unheard")
    with pytest.raises(JobCancelled, match="unheard"):
        job.result(timeout=8)


@pytest.mark.parametrize(
    ("timeouts", "script", "code"),
    [
        ({"first_token": 0.3}, Script(ttft=60), "first_token"),
        ({"first_token": 0.3}, Script(ttft=60, comments=1), "first_token"),
        (
            {"between_tokens": 0.3},
            Script(tokens=9, fault=Fault("stall", event=4)),
            "between_tokens",
        ),
        ({"total": 0.5}, Script(tokens=500, gap=0.05), "total"),
    ],
    ids=["first token", "first token behind comments", "between tokens", "total"],
)
def test_a_slow_upstream_is_given_up(
    client: Client,
    start_worker: Started,
    simulator: SimulatorThread,
    timeouts: dict[str, float],
    script: Script,
    code: str,
) -> None:
    """Each timeout ends the attempt, closes the connection and is named in the failure."""
    start_worker(**routes(**timeouts))
    job = ask(client, script, max_attempts=1)
    with pytest.raises(JobFailed) as outcome:
        job.result(timeout=15)
    assert outcome.value.data["error"]["type"] == "timeout"
    assert outcome.value.data["error"]["code"] == code
    simulator.until(lambda stats: stats.in_flight == 0)


def test_a_deadline_ends_a_running_job(client: Client, start_worker: Started) -> None:
    """A job that still runs at its deadline fails there, without another attempt."""
    start_worker()
    job = ask(client, SLOW, deadline=1.0)
    with pytest.raises(JobFailed) as outcome:
        job.result(timeout=15)
    assert outcome.value.data == {
        "attempts": 1,
        "error": {
            "type": "timeout", "code": "deadline", "status": None,
            "message": "the job's deadline passed while it ran",
        },
    }  # fmt: skip


def test_a_break_is_survived_and_told(client: Client, start_worker: Started) -> None:
    """After a reset in mid-answer the readers are told, and the second attempt answers."""
    start_worker()
    script = Script(tokens=30, gap=0.01, attempts=1, fault=Fault("reset", event=12), vary=True)
    job = ask(client, script)
    events = list(job.events(timeout=20))
    kinds = [event.type for event in events if event.type != "delta"]
    assert kinds == ["queued", "started", "restarted", "started", "completed"]
    (restarted,) = (event for event in events if event.type == "restarted")
    assert restarted.data["attempt"] == 1
    assert restarted.data["retry_at"] <= restarted.time + 1.01
    second = "".join(event.text for event in events if event.cursor.attempt == 2)
    assert second == job.result().text


def test_a_break_before_the_first_word_is_invisible(client: Client, start_worker: Started) -> None:
    """A retry before anything was said emits no `restarted`."""
    start_worker()
    job = ask(client, Script(tokens=5, attempts=1, fault=Fault("status", status=503)))
    kinds = [event.type for event in job.events(timeout=20) if event.type != "delta"]
    assert kinds == ["queued", "started", "started", "completed"]


def test_a_wrong_token_fails_at_once(client: Client, start_worker: Started) -> None:
    """401 is not retried, and the failure carries the upstream's own words."""
    with SimulatorThread(token=WRONG_TOKEN[::-1]) as upstream:
        start_worker(PENSTOCK_UPSTREAM_URL=upstream.url, DEEPINFRA_TOKEN=WRONG_TOKEN)
        job = client.submit(MESSAGES)
        with pytest.raises(JobFailed) as outcome:
            job.result(timeout=15)
    assert outcome.value.data["error"]["status"] == 401
    assert outcome.value.data["attempts"] == 1
    assert upstream.simulator.stats.requests == 1
    assert WRONG_TOKEN not in str(outcome.value)


@pytest.mark.parametrize(
    "body",
    [b'{"error": {"message": "no \xe9"}}', b"\xff\xfe", b'{"error": 1}', b""],
    ids=["latin-1", "no text", "no object", "empty"],
)
def test_an_odd_refusal_fails_at_once(client: Client, start_worker: Started, body: bytes) -> None:
    """400 is final whatever its body is; it need not even be text."""
    with answering(400, body) as url:
        start_worker(PENSTOCK_UPSTREAM_URL=url)
        job = client.submit(MESSAGES)
        with pytest.raises(JobFailed) as outcome:
            job.result(timeout=15)
    assert outcome.value.data["error"]["status"] == 400
    assert outcome.value.data["attempts"] == 1


def test_a_fault_of_our_own_fails_the_job_and_says_where(
    client: Client, start_worker: Started
) -> None:
    """A job that Penstock itself stumbles over fails at once, and kills nothing."""
    job = client.submit(MESSAGES)
    client.store.redis.hset(keys.job(job.id), "request", f'["{CANARY_PROMPT}"]')
    worker = start_worker()
    with pytest.raises(JobFailed) as outcome:
        job.result(timeout=15)
    assert outcome.value.data["error"]["type"] == "internal_error"
    worker.until_logged("attempt_broken")
    assert "stream.py:" in worker.log
    assert CANARY_PROMPT not in worker.log
    ask(client, Script(tokens=1)).result(timeout=15)


def test_no_line_of_the_log_gives_anything_away(client: Client, start_worker: Started) -> None:
    """Prompts, answers and tokens stay out of the log at its most talkative, in both styles."""
    quiet = {"PENSTOCK_LOG_LEVEL": "debug", "DEEPINFRA_TOKEN": "canary-token-9e1f"}
    json_worker = start_worker(PENSTOCK_LOG="json", **quiet)
    refusal = Fault("status", status=422, form="detail", error=CANARY_PROMPT)
    quote = {"message": CANARY_PROMPT, "type": CANARY_PROMPT, "code": CANARY_PROMPT}
    refusals = (
        refusal,
        Fault("status", status=422, error=quote),
        Fault("error_object", event=3, error=quote),
        Fault("bad_json", event=3),
    )
    for script in (SLOW, *(Script(fault=fault) for fault in refusals)):
        job = ask(client, script, max_attempts=1)
        if script is SLOW:
            until_speaking(job)
            job.cancel()
        list(job.events(timeout=20))
    ask(client, Script(text=CANARY_ANSWER)).result(timeout=20)
    json_worker.until_logged("job_completed")
    for canary in (CANARY_PROMPT, CANARY_ANSWER, "canary-token-9e1f"):
        assert canary not in json_worker.log
    lines = [json.loads(line) for line in json_worker.log.splitlines() if line.startswith("{")]
    assert all(line["action"] for line in lines)
    for line in lines:
        fields = set(ACTIONS[line["action"]].fields) if line["action"] in ACTIONS else set()
        assert fields <= line.keys(), line["action"]


def test_metrics_tell_what_happened(client: Client, start_worker: Started) -> None:
    """The metrics port serves jobs, attempts, tokens, cost and streams, to this address only."""
    port = free_port()
    start_worker("--metrics-port", str(port))
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.2", port), 5)
    ask(client, Script(tokens=7)).result(timeout=20)
    with pytest.raises(JobFailed):
        ask(client, Script(fault=Fault("status", status=400))).result(timeout=20)
    until(lambda: 'penstock_jobs_total{outcome="failed",route="default"} 1.0' in metrics(port))
    text = metrics(port)
    assert 'penstock_jobs_total{outcome="completed",route="default"} 1.0' in text
    assert 'penstock_tokens_total{kind="completion",route="default"} 7.0' in text
    assert "penstock_time_to_first_token_seconds_count" in text
    assert 'penstock_streams_in_progress{route="default"} 0.0' in text


def test_what_alerts_ask_for_begins_at_0(start_worker: Started) -> None:
    """A fresh worker shows what has not happened: the first failure is an increase, too."""
    port = free_port()
    start_worker("--metrics-port", str(port))
    page = metrics(port)
    for outcome in ("completed", "failed", "cancelled", "expired"):
        assert f'penstock_jobs_total{{outcome="{outcome}",route="default"}} 0.0' in page
    for outcome in ("delivered", "retry", "failed", "gone"):
        assert f'penstock_webhook_deliveries_total{{outcome="{outcome}"}} 0.0' in page
    for what in ("recovered", "lost"):
        assert f'penstock_swept_total{{what="{what}"}} 0.0' in page


def test_what_holds_a_route_back_is_seen_in_log_metrics_and_routes(
    cli: CommandLine, client: Client, start_worker: Started
) -> None:
    """Five answers of 500, an answer after them, a 429: each is a line, a gauge and a state."""
    port = free_port()
    worker = start_worker("--metrics-port", str(port), PENSTOCK_LOG="json")
    until(client.workers)  # it has said that it is there
    assert (gauge(port, "breaker"), gauge(port, "allowed")) == (0, 200)
    for _ in range(5):
        assert news(worker) == []
        broken = ask(client, Script(fault=Fault("status", status=500)), max_attempts=1)
        assert [event.type for event in broken.events(timeout=20)][-1] == "failed"
    until(lambda: gauge(port, "breaker") == 2)
    assert re.search(r"^default  broken \ds ", cli("routes").out, re.MULTILINE)
    assert news(worker) == [("error", "opened", "5")]

    waiting = ask(client, Script(tokens=2))
    assert waiting.record().state is JobState.QUEUED
    client.store.redis.hset(keys.gate("default"), "open_until", time.time())  # its 5 s are over
    waiting.result(timeout=20)
    until(lambda: gauge(port, "breaker") == 0)
    assert re.search(r"^default  ok ", cli("routes").out, re.MULTILINE)
    assert news(worker)[1:] == [("info", "closed", "")]

    ask(client, Script(fault=Fault("status", status=429, retry_after=60)))
    until(lambda: 50 < (gauge(port, "paused_seconds") or 0) <= 60)
    assert gauge(port, "allowed") == 1
    assert re.search(r"^default  paused [56]\ds .* 0/1 ", cli("routes").out, re.MULTILINE)
    assert news(worker)[2:] == [("warning", "slowed", "1"), ("warning", "paused", "60.000")]
    client.store.redis.hset(keys.gate("default"), "paused_until", time.time())
    until(lambda: gauge(port, "paused_seconds") == 0)
    assert re.search(r"^default  slowed ", cli("routes").out, re.MULTILINE)


def test_a_new_job_takes_the_place_of_its_conversations(
    client: Client, start_worker: Started, simulator: SimulatorThread
) -> None:
    """`replace` drops what waits, `interrupt` stops the answer that runs; the new ones run then."""
    start_worker()
    running = ask(client, SLOW, conversation="c")
    until_speaking(running)
    waiting = ask(client, Script(tokens=1), conversation="c")
    replacing = ask(client, Script(tokens=2), conversation="c", on_busy="replace")
    with pytest.raises(JobCancelled, match="replaced"):
        waiting.result(timeout=5)
    assert running.record().state is JobState.RUNNING
    interrupting = ask(client, Script(tokens=3), conversation="c", on_busy="interrupt")
    with pytest.raises(JobCancelled, match="interrupted") as outcome:
        running.result(timeout=5)
    simulator.until(lambda stats: stats.aborted_by_client == 1)
    said = outcome.value.data["completion"]["choices"][0]["message"]["content"]
    assert said
    assert SLOW.text.startswith(said)
    assert replacing.result(timeout=20).usage.completion_tokens == 2
    assert interrupting.result(timeout=20).usage.completion_tokens == 3
    kinds = [event.type for event in waiting.events()]
    assert kinds == ["queued", "cancelled"]
    assert len(simulator.simulator.received) == 3


def test_a_draining_worker_lets_streams_end(client: Client, start_worker: Started) -> None:
    """SIGTERM takes no new job, lets the running one finish, and exits with 0."""
    worker = start_worker()
    job = ask(client, Script(tokens=20, gap=0.05))
    until_speaking(job)
    worker.terminate()
    until(lambda: consumers(client) == 0)
    late = ask(client, Script(tokens=2))
    assert job.result(timeout=20).usage.completion_tokens == 20
    assert worker.wait() == 0
    assert job.record().attempt == 1
    assert late.record().state is JobState.ADMITTED


def test_what_outlasts_the_drain_is_handed_back_uncounted(
    client: Client, start_worker: Started
) -> None:
    """A stream that is still running at the end of the drain goes back to the front, for free."""
    worker = start_worker(PENSTOCK_DRAIN_TIMEOUT="0.3")
    job = ask(client, SLOW)
    until_speaking(job)
    worker.terminate()
    assert worker.wait() == 0
    record = job.record()
    assert (record.attempt, record.excused, record.recoveries) == (1, 1, 0)
    assert record.state in (JobState.QUEUED, JobState.ADMITTED)


def test_a_killed_process_is_replaced(client: Client, start_worker: Started) -> None:
    """Of several processes one may be killed: another takes its place, and its jobs go on."""
    worker = start_worker("--processes", "2")
    until(lambda: consumers(client) >= 2)
    victims = children(worker.process.pid)
    os.kill(victims[0], signal.SIGKILL)
    until(lambda: len(set(children(worker.process.pid)) - set(victims)) == 1, timeout=20)
    worker.terminate()
    assert worker.wait() == 0


def test_a_draining_worker_is_not_deaf(client: Client, start_worker: Started) -> None:
    """A long drain is no deafness, though other jobs wait meanwhile: its streams may end."""
    worker = start_worker(PENSTOCK_WATCHDOG_TIMEOUT="0.5")
    job = ask(client, Script(tokens=60, gap=0.05))
    until_speaking(job)
    worker.terminate()
    until(lambda: consumers(client) == 0)
    ask(client, Script(tokens=1))
    assert job.result(timeout=20).usage.completion_tokens == 60
    assert worker.wait() == 0
    assert "worker_deaf" not in worker.log


def test_a_server_that_lost_its_data_is_told_again(client: Client, start_worker: Started) -> None:
    """After FLUSHALL a living worker registers anew, and jobs run as before."""
    worker = start_worker()
    client.store.redis.flushall()
    assert ask(client, Script(tokens=3)).result(timeout=20).usage.completion_tokens == 3
    assert "registered_again" in worker.log


def test_a_deaf_worker_leaves(client: Client, start_worker: Started, settings: Settings) -> None:
    """Jobs wait, slots are free and nothing comes: the worker says so and exits non-zero."""
    worker = start_worker(PENSTOCK_WATCHDOG_TIMEOUT="1")
    app = create(settings)
    with app.connection_for_write() as connection:  # a pooled one may have been closed meanwhile
        cancel = app.control.cancel_consumer
        assert cancel("chat.default", reply=True, timeout=5, connection=connection)
    client.submit(MESSAGES)
    assert worker.wait(timeout=30) == EXIT_UNFIT
    assert "worker_deaf" in worker.log


@pytest.mark.parametrize(
    ("setting", "value"),
    [("maxmemory-policy", "allkeys-lru"), ("appendonly", "no")],
)
def test_an_unsafe_server_is_named_and_refused_when_asked(
    client: Client, start_worker: Started, setting: str, value: str
) -> None:
    """A server that may lose jobs is warned about, and refused with --strict."""
    connection: redis.Redis = client.store.redis
    before = connection.config_get(setting)[setting]
    connection.config_set(setting, value)
    try:
        worker = start_worker()
        assert f"{setting} is {value}" in worker.log
        for several in ([], ["--processes", "2"]):
            with pytest.raises(AssertionError, match="ended with 2"):
                start_worker("--strict", *several)
    finally:
        connection.config_set(setting, before)


@contextmanager
def answering(status: int, body: bytes) -> Iterator[str]:
    """An upstream that gives every request this answer; its URL."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            self.send_response(status)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def metrics(port: int) -> str:
    """A worker's metrics."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as page:
        return str(page.read().decode())


def gauge(port: int, name: str) -> float | None:
    """What a worker's metrics tell of the route's gate; None before it has looked at it."""
    line = f'penstock_route_{name}{{route="default"}} '
    found = [text for text in metrics(port).splitlines() if text.startswith(line)]
    return float(found[0].removeprefix(line)) if found else None


def news(worker: WorkerProcess) -> list[tuple[str, str, str]]:
    """What its log tells of the route's gate: level, what happened, and by how much."""
    lines = [json.loads(line) for line in worker.log.splitlines() if line.startswith("{")]
    told = [line for line in lines if line.get("route") == "default" and "by" in line]
    return [(line["level"], line["action"].removeprefix("route_"), line["by"]) for line in told]


def consumers(client: Client) -> int:
    return sum("b" in each["flags"] for each in client.store.redis.client_list())


def children(pid: int) -> list[int]:
    tasks = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(child) for task in tasks for child in task.read_text().split()]
