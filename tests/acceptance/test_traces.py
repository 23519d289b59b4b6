"""A job's trace, from the request that made it to the webhook that told of its end."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ops.simulator import Script, SimulatorThread
from penstock import Settings
from penstock.store import Store
from tests.collector import Collector, Exported
from tests.gateways import GatewayThread, http, make_key
from tests.processes import Started
from tests.receiver import ALLOWED, Receiver

PROMPT = "canary-prompt-31d0"
UPSTREAM_KEY = "canary-token-55ab"
CALLER = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
STATE = "vendor=opaque"
SERVER, CLIENT, PRODUCER, CONSUMER, INTERNAL = 2, 3, 4, 5, 1
"""SpanKind of opentelemetry/proto/trace/v1/trace.proto."""

HASTE = "20"
"""Milliseconds until what has ended is sent."""


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    """A collector that this process's spans reach soon."""
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", HASTE)
    with Collector() as collector:
        yield collector


def test_one_trace_leads_from_the_caller_to_the_webhook(
    settings: Settings,
    store: Store,
    simulator: SimulatorThread,
    start_worker: Started,
    collector: Collector,
) -> None:
    """Gateway, queue, worker, upstream and delivery are spans of the caller's own trace."""
    given = {"PENSTOCK_TRACING": "true", "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url,
             "OTEL_BSP_SCHEDULE_DELAY": HASTE, "DEEPINFRA_TOKEN": UPSTREAM_KEY}  # fmt: skip
    start_worker(**ALLOWED, **given)
    traced = settings.model_copy(update={"tracing": True, "otlp_endpoint": collector.url})
    names = ("POST /v1/jobs", "send default", "wait default", "process default",
             f"chat {settings.model}", "POST webhook")  # fmt: skip
    key = make_key(store, "acme")
    with Receiver() as receiver, GatewayThread(traced) as gateway, http(gateway.url, key) as api:
        body = {
            "messages": [{"role": "user", "content": PROMPT}],
            "simulate": Script(tokens=5, ttft=0.05).as_dict(),
            "webhook": f"{receiver.url}?secret=canary-secret",
            "metadata": {"note": "canary-note"},
        }
        headers = {"traceparent": CALLER, "tracestate": STATE}
        job = api.post("/v1/jobs", json=body, headers=headers).json()["id"]
        (told,) = receiver.until_called()
        spans = collector.until_sent(*names)
    request, send, wait, process, chat, hook = (spans[name] for name in names)
    _, trace, caller, _ = CALLER.split("-")
    assert {span.trace for span in spans.values()} == {trace}
    assert [(span.kind, span.parent) for span in (request, send, wait, process, chat, hook)] == [
        (SERVER, caller), (PRODUCER, request.id), (INTERNAL, send.id), (CONSUMER, send.id),
        (CLIENT, process.id), (CLIENT, send.id),
    ]  # fmt: skip
    assert {request.service, send.service} == {"penstock-gateway"}
    assert {process.service, chat.service, hook.service} == {"penstock-worker"}
    assert process.attributes["messaging.message.id"] == job
    check_call(chat)
    assert wait.begin <= wait.events["admitted"] <= wait.end
    assert hook.attributes["http.response.status_code"] == 200
    assert told.headers["traceparent"] == f"00-{trace}-{hook.id}-01"
    assert told.headers["tracestate"] == STATE
    (asked,) = simulator.simulator.received
    assert "traceparent" not in asked.headers
    for secret in (PROMPT, UPSTREAM_KEY, key, "canary-secret", "canary-note", "simulated"):
        assert secret.encode() not in collector.raw, secret


def check_call(chat: Exported) -> None:
    """The call of the upstream is told as the conventions of generative AI have it."""
    attributes = chat.attributes
    assert attributes["gen_ai.operation.name"] == "chat"
    assert chat.name == f"chat {attributes['gen_ai.request.model']}"
    assert attributes["gen_ai.response.finish_reasons"] == ["stop"]
    assert attributes["gen_ai.usage.output_tokens"] >= 5
    assert attributes["gen_ai.usage.input_tokens"] > 0
    assert attributes["server.address"] == "127.0.0.1"
    first = chat.events["gen_ai.first_token"] - chat.begin
    assert first == pytest.approx(attributes["gen_ai.response.time_to_first_chunk"], abs=0.01)
    assert 0 < first <= chat.end - chat.begin
