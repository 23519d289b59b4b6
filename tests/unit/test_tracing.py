"""Traces: who decides what is kept, what is told, and what is never told."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from penstock import Client, ConfigurationError, Settings, tracing
from penstock.commands import Claim, Way
from penstock.errors import StatusError
from penstock.outcome import Cancelled, Failed
from penstock.settings import Route
from penstock.trace import Carrier, Span, Tracer, tracer_of

CALLER = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-0"
MESSAGES = [{"role": "user", "content": "canary-prompt-90c2"}]


@pytest.fixture
def exporter(monkeypatch: pytest.MonkeyPatch) -> Iterator[InMemorySpanExporter]:
    """Where the spans of this process go."""
    exporter = InMemorySpanExporter()
    monkeypatch.setattr(tracing, "exporter", lambda _: exporter)
    tracing._provider.cache_clear()
    yield exporter
    tracing._provider.cache_clear()


Make = Callable[[float], Tracer]


@pytest.fixture
def make(exporter: InMemorySpanExporter) -> Make:
    """Make a tracer that begins this share of traces."""

    def make(sample: float) -> Tracer:
        return tracer_of(Settings.load(tracing=True, trace_sample=sample), "test")

    return make


def ended(exporter: InMemorySpanExporter, tracer: Tracer) -> dict[str, ReadableSpan]:
    """The spans that were kept, by name."""
    tracer.close()
    return {span.name: span for span in exporter.get_finished_spans()}


def claim(trace: Carrier | None = None) -> Claim:
    return Claim(
        "job_1", 2, "holder", "default", "acme", "", Way(), 1000.0, 1007.0, None, 5, 0, b"{}",
        b"{}", admitted_at=1005.0, trace=trace,
    )  # fmt: skip


@pytest.mark.parametrize(("flags", "sample", "kept"), [("1", 0, True), ("0", 1, False)])
def test_a_caller_that_has_decided_is_followed(
    make: Make, exporter: InMemorySpanExporter, flags: str, sample: float, kept: bool
) -> None:
    """A request whose trace is sampled is traced though none would begin here, and vice versa."""
    tracer = make(sample)
    with tracer.request("POST", "http", {"traceparent": CALLER + flags}) as request:
        carrier = tracer.send([]).carrier
    assert carrier is not None
    assert carrier.traceparent[:36] == CALLER[:36]
    assert is_sampled(carrier.traceparent) == kept
    with tracer.attempt(claim(carrier)):
        pass
    assert ("process default" in ended(exporter, tracer)) == kept
    assert isinstance(request, Span)


@pytest.mark.parametrize("given", [None, "garbage", "00-" + "0" * 32 + "-b7ad6b7169203331-01"])
def test_what_is_not_sampled_stays_so(
    make: Make, exporter: InMemorySpanExporter, given: str | None
) -> None:
    """A trace that begins here and is not kept is carried as such: no worker decides anew."""
    none, all_ = make(0), make(1)
    headers = {"traceparent": given} if given else {}
    with none.request("POST", "http", headers):
        carrier = none.send([]).carrier
    assert carrier is not None
    assert not is_sampled(carrier.traceparent)
    with all_.attempt(claim(carrier)), all_.call(Route(url="http://u/v1", model="m"), "m"):
        pass
    assert ended(exporter, all_) == {}


def test_about_as_many_traces_begin_as_are_asked_for(
    make: Make, exporter: InMemorySpanExporter
) -> None:
    """Of 2,000 submissions at 10 % between 130 and 270 are kept: five standard deviations."""
    tracer = make(0.1)
    for _ in range(2000):
        tracer.send([]).end()
    tracer.close()
    assert 130 <= len(exporter.get_finished_spans()) <= 270


def test_the_time_in_the_queue_is_a_span(make: Make, exporter: InMemorySpanExporter) -> None:
    """It goes from when the job might run until it was claimed, with the admission as an event."""
    tracer = make(1)
    with tracer.attempt(claim()):
        pass
    wait = ended(exporter, tracer)["wait default"]
    assert (wait.start_time, wait.end_time) == (1_000_000_000_000, 1_007_000_000_000)
    assert [(event.name, event.timestamp) for event in wait.events] == [
        ("admitted", 1_005_000_000_000)
    ]


def test_failures_are_told_without_words(make: Make, exporter: InMemorySpanExporter) -> None:
    """An error's kind is an attribute; what the upstream or a canceller said is nowhere."""
    tracer, error = make(1), StatusError("canary", status=429, type="canary", quoted=True)
    route = Route(url="http://u:81/canary?canary=1", model="m")
    with tracer.attempt(claim()) as attempt:
        with pytest.raises(StatusError), tracer.call(route, "m"):
            raise error
        attempt.settled(Failed(error))
    with tracer.attempt(claim()) as attempt:
        attempt.settled(Cancelled("canary"))
    with pytest.raises(ValueError, match="canary"), tracer.send([]):
        raise ValueError("canary")
    tracer.close()
    spans = exporter.get_finished_spans()
    assert [_kind(span) for span in spans if span.name != "wait default"] == [
        "status_429", "status_429", None, "ValueError",
    ]  # fmt: skip
    assert "canary" not in "".join(span.to_json() for span in spans)
    assert _attributes(spans[1])["server.address"] == "u"


def test_a_second_submission_is_linked_to_the_first(
    settings: Settings, exporter: InMemorySpanExporter
) -> None:
    """What an idempotency key leads to has its own trace; the second submitter's points there."""
    traced = settings.model_copy(update={"tracing": True})
    with Client(traced) as client:
        first = client.submit(MESSAGES, idempotency_key="k")
        again = client.submit(MESSAGES, idempotency_key="k")
        many = client.submit_many([{"messages": MESSAGES}] * 3)
        traceparent = first.record().traceparent
    assert (again.id, again.created, len(many)) == (first.id, False, 3)
    one, two, three = exporter.get_finished_spans()
    assert not one.links
    (link,) = two.links
    assert traceparent is not None
    assert traceparent[3:52] == f"{link.context.trace_id:032x}-{link.context.span_id:016x}"
    assert one.context is not None
    assert link.context.span_id == one.context.span_id
    assert _attributes(three)["messaging.batch.message_count"] == 3


def test_an_application_that_traces_is_joined(
    settings: Settings, exporter: InMemorySpanExporter
) -> None:
    """A submission is a child of what the application is doing."""
    traced = settings.model_copy(update={"tracing": True})
    with Client(traced) as client, client._tracer.request("GET", "http", {}):
        client.submit(MESSAGES)
    send, request = exporter.get_finished_spans()
    assert send.parent == request.context


def test_nobody_waits_for_a_collector(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """A collector that hangs holds up neither a span nor, beyond FAREWELL, the end."""
    hanging = threading.Event()

    class Hanging(InMemorySpanExporter):
        def export(self, spans: Any) -> Any:
            hanging.wait(30)
            return super().export(spans)

    monkeypatch.setattr(tracing, "exporter", lambda _: Hanging())
    monkeypatch.setattr(tracing, "FAREWELL", 0.1)
    tracer, began = make(1), time.monotonic()
    for _ in range(5000):  # more than are kept for it
        tracer.send([]).end()
    tracer.close()
    closed = time.monotonic()
    tracer.close()
    again = time.monotonic() - closed
    hanging.set()
    assert closed - began < 3
    assert again < 0.05


def test_a_collector_that_is_away_is_told_of_in_one_line() -> None:
    """Nobody waits for further tries, nor reads of pools and retries where no logs are kept."""
    program = """
import time
from penstock import Settings
from penstock.trace import tracer_of
tracer = tracer_of(Settings.load(tracing=True, otlp_endpoint="http://127.0.0.1:9"), "test")
tracer.send([]).end()
began = time.monotonic()
tracer.close()
print(time.monotonic() - began)
"""
    ran = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert ran.stderr.startswith("penstock: no collector takes the traces; start one")
    assert ran.stderr.count("\n") == 1
    assert float(ran.stdout) < tracing.FAREWELL / 2


@pytest.mark.parametrize("blocked", ["opentelemetry", ""])
def test_off_is_nothing(blocked: str) -> None:
    """Without traces no span is made and nothing is imported, whether the extra is there or not."""
    program = f"""
import sys
if {blocked!r}: sys.modules[{blocked!r}] = None
from penstock import Client, Settings
from penstock.trace import tracer_of
client = Client(Settings.load())
tracer = client._tracer
made = {{id(tracer.send([])), id(tracer.request("GET", "http", {{}})), id(tracer.attempt(None))}}
assert len(made) == 1 and tracer.send([]).carrier is None
client.close()
print([m for m in ("penstock.tracing", "opentelemetry.sdk.trace", "google.protobuf")
       if m in sys.modules])
"""
    ran = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert ran.stdout == "[]\n"


def test_the_extra_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who turns traces on without the extra is told how to get it."""
    monkeypatch.delitem(sys.modules, "penstock.tracing")
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.resources", None)
    with pytest.raises(ConfigurationError, match=r"pip install 'penstock\[tracing\]'"):
        tracer_of(Settings.load(tracing=True), "test")


def test_a_long_tracestate_is_left_behind() -> None:
    """More than W3C asks to pass on is not put into every job's record."""
    assert Carrier.of("t", "a=" + "b" * 600) == Carrier("t")
    assert Carrier("t", "a=b").headers == {"traceparent": "t", "tracestate": "a=b"}
    assert Carrier.of(None, "a=b") is None


def _attributes(span: ReadableSpan) -> Mapping[str, Any]:
    assert span.attributes is not None
    return span.attributes


def is_sampled(traceparent: str) -> bool:
    """By the flags' last bit; the one before says that the id is random."""
    return bool(int(traceparent[-2:], 16) & 1)


def _kind(span: ReadableSpan) -> Any:
    return _attributes(span).get("error.type")
