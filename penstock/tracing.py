"""Traces by OpenTelemetry, for those who want them: the one module that imports it.

Spans and attributes have the names of OpenTelemetry's semantic conventions, version 1.44, where
those know of such a thing:

- HTTP: https://opentelemetry.io/docs/specs/semconv/http/http-spans/
- messaging: https://opentelemetry.io/docs/specs/semconv/messaging/messaging-spans/
- generative AI: https://opentelemetry.io/docs/specs/semconv/gen-ai/gen-ai-spans/

What is ours alone begins with `penstock.`. Left out, though asked for there: prompts and answers,
`url.full` and `url.query`. People put secrets into URLs, and a stream token stands in a query.
docs/operations.md has the whole table.
"""

from __future__ import annotations

import asyncio
import atexit
import logging
import threading
import time
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, Self
from urllib.parse import urlsplit
from weakref import WeakKeyDictionary

from opentelemetry import context, trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
from opentelemetry.trace import SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from penstock.commands import Accepted, Claim
from penstock.errors import UpstreamError
from penstock.job import JobSpec
from penstock.outbox import Taken
from penstock.outcome import Cancelled, Completed, Failed, Interrupted, Outcome, Retry
from penstock.settings import Route, Settings
from penstock.trace import Carrier, Span, Tracer

SCHEMA = "https://opentelemetry.io/schemas/1.44.0"

SYSTEM = "penstock"
"""`messaging.system`: the conventions leave it to those they do not know."""

FAREWELL = 3.0
"""Seconds that spans get to be sent when a process stops: no worker waits for a collector."""

METHODS = frozenset(
    ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "CONNECT"]
)
"""Any other could fill a span's name with anything."""

PROVIDERS = {"api.deepinfra.com": "deepinfra", "api.openai.com": "openai"}
"""`gen_ai.provider.name` by host."""

_sending: WeakKeyDictionary[TracerProvider, threading.Thread] = WeakKeyDictionary()
"""Who sends at somebody's request, or did last."""

_EXPORTER = logging.getLogger("opentelemetry.exporter.otlp")
"""Where OpenTelemetry says that spans were not taken, before it tries again."""

_log = logging.getLogger(__name__)

_PROPAGATOR = TraceContextTextMapPropagator()


class OpenTelemetry(Tracer):
    """Makes spans.

    Args:
        provider: where they go.
        owned: whether it is ours to flush.
    """

    def __init__(self, provider: trace.TracerProvider, *, owned: bool) -> None:
        self._tracer = provider.get_tracer("penstock", schema_url=SCHEMA)
        self._owned = provider if owned and isinstance(provider, TracerProvider) else None

    @classmethod
    def of(cls, settings: Settings, service: str) -> Self:
        """On the provider that this process's application has set up, else on one of ours."""
        present = trace.get_tracer_provider()
        if not isinstance(present, trace.ProxyTracerProvider):
            return cls(present, owned=False)
        return cls(_provider(settings.otlp_endpoint, settings.trace_sample, service), owned=True)

    def request(self, method: str, scheme: str, headers: Mapping[str, str]) -> Span:
        """See Tracer; the caller's trace goes on, where it names one."""
        name = method if method in METHODS else "HTTP"
        carrier = Carrier.of(headers.get("traceparent"), headers.get("tracestate"))
        span = self._begin(name, SpanKind.SERVER, _within(carrier))
        known = method if method in METHODS else "_OTHER"
        span.set({"http.request.method": known, "url.scheme": scheme})
        return span

    def send(self, specs: Sequence[JobSpec]) -> Span:
        """See Tracer; within what the application is doing."""
        routes = {spec.options.route for spec in specs}
        route = routes.pop() if len(routes) == 1 else ""
        span = self._begin(f"send {route}".rstrip(), SpanKind.PRODUCER)
        span.set(_message("send", route))
        if len(specs) == 1:
            span.set(_about(specs[0].id, specs[0].options.tenant))
        else:
            span.set({"messaging.batch.message_count": len(specs)})
        return span

    def attempt(self, claim: Claim) -> Span:
        """See Tracer."""
        parent = _within(claim.trace)
        about = {**_about(claim.id, claim.tenant), "penstock.attempt": claim.attempt}
        self._wait(claim, parent, about)
        span = self._begin(f"process {claim.route}", SpanKind.CONSUMER, parent)
        span.set({**_message("process", claim.route), **about})
        return span

    def _wait(self, claim: Claim, parent: Context | None, about: dict[str, Any]) -> None:
        """The time in the queue, by Redis's clock, which may differ from this worker's."""
        began = _nanoseconds(claim.available_at)
        name = f"wait {claim.route}"
        span = self._tracer.start_span(name, parent, SpanKind.INTERNAL, start_time=began)
        if span.is_recording():
            span.set_attributes({"messaging.destination.name": claim.route, **about})
            if claim.admitted_at:
                span.add_event("admitted", timestamp=_nanoseconds(claim.admitted_at))
        span.end(max(began, _nanoseconds(claim.started_at)))

    def call(self, route: Route, model: str) -> Span:
        """See Tracer; within the attempt."""
        span = self._begin(f"chat {model}", SpanKind.CLIENT)
        host = urlsplit(route.url).hostname or ""
        span.set(
            {
                "gen_ai.operation.name": "chat",
                "gen_ai.provider.name": PROVIDERS.get(host, "openai"),  # whose API it speaks
                "gen_ai.request.model": model,
                "gen_ai.request.stream": True,
                **_server(route.url),
            }
        )
        return span

    def delivery(self, taken: Taken) -> Span:
        """See Tracer; within the job's trace, and never with the endpoint's URL."""
        span = self._begin("POST webhook", SpanKind.CLIENT, _within(taken.trace))
        about = {**_about(taken.job, taken.tenant), "penstock.delivery": taken.id}
        resent = {"http.request.resend_count": taken.tries} if taken.tries else {}
        event = {"penstock.event": taken.type, "http.request.method": "POST"}
        span.set({**event, **_server(taken.url), **about, **resent})
        return span

    def close(self) -> None:
        """See Tracer."""
        if self._owned:
            _flush(self._owned)

    async def aclose(self) -> None:
        """See Tracer."""
        await asyncio.to_thread(self.close)

    def _begin(self, name: str, kind: SpanKind, parent: Context | None = None) -> OpenSpan:
        return OpenSpan(name, self._tracer.start_span(name, parent, kind))


class OpenSpan(Span):
    """A span of OpenTelemetry's that has begun; within its `with` block it is the current one."""

    def __init__(self, name: str, span: trace.Span) -> None:
        self._name, self._span = name, span
        self._began = time.time(), time.monotonic()
        self._is_over = False

    def __enter__(self) -> Self:
        self._token = context.attach(trace.set_span_in_context(self._span))
        return self

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        context.detach(self._token)
        if error is not None:
            self._fail(error.reason if isinstance(error, UpstreamError) else type(error).__name__)
        self.end()

    @property
    def carrier(self) -> Carrier | None:
        """See Span; a trace that is not sampled travels too, so that nobody decides anew."""
        headers: dict[str, str] = {}
        _PROPAGATOR.inject(headers, trace.set_span_in_context(self._span))
        return Carrier.of(headers.get("traceparent"), headers.get("tracestate"))

    def set(self, attributes: Mapping[str, Any]) -> None:
        """Say what is known of it; a span that is not sampled does not listen."""
        self._span.set_attributes(attributes)

    def end(self) -> None:
        """See Span."""
        if not self._is_over:
            self._is_over = True
            self._span.end()

    def replied(self, status: int, path: str | None) -> None:
        """See Span; the path as it was asked may be anything, so only one of ours is told."""
        self.set({"http.response.status_code": status})
        if path:
            self.set({"http.route": path})
            self._span.update_name(f"{self._name} {path}")
        if status >= 500:
            self._fail(str(status))

    def accepted(self, jobs: Sequence[Accepted]) -> None:
        """See Span; a job that was there before has a trace of its own, which is linked."""
        for job in jobs:
            if not job.created and job.trace:
                self._span.add_link(_span_context(job.trace), {"messaging.message.id": job.id})

    def settled(self, outcome: Outcome) -> None:
        """See Span; why somebody cancelled is theirs."""
        self.set({"penstock.outcome": type(outcome).__name__.lower()})
        match outcome:
            case Completed() | Cancelled():
                pass
            case Interrupted(reason):
                self.set({"penstock.reason": reason})
            case Retry(error) | Failed(error):
                self._fail(error.reason)

    def began(self, moment: float | None) -> None:
        """See Span."""
        if moment is not None:
            wall, clock = self._began
            at = _nanoseconds(wall + moment - clock)
            self._span.add_event("gen_ai.first_token", timestamp=at)
            self.set({"gen_ai.response.time_to_first_chunk": moment - clock})

    def answered(self, completion: Mapping[str, Any]) -> None:
        """See Span."""
        usage = completion["usage"]
        reasons = [choice["finish_reason"] for choice in completion["choices"]]
        given = {
            "gen_ai.response.id": completion.get("id"),
            "gen_ai.response.model": completion.get("model"),
            "gen_ai.response.finish_reasons": reasons,
            "gen_ai.usage.input_tokens": usage.get("prompt_tokens"),
            "gen_ai.usage.output_tokens": usage.get("completion_tokens"),
            "penstock.cost_usd": usage.get("estimated_cost"),
        }
        self.set({name: value for name, value in given.items() if value is not None})

    def delivered(self, status: int | None, error: str) -> None:
        """See Span; the error's text may quote the endpoint."""
        if status is not None:
            self.set({"http.response.status_code": status})
        if error:
            self._fail("no_answer" if status is None else str(status))

    def _fail(self, kind: str) -> None:
        """Never with a message: that may quote a prompt."""
        self.set({"error.type": kind})
        self._span.set_status(Status(StatusCode.ERROR))


class _Refusals(logging.Handler):
    """Hears that the collector takes nothing, and says so once where nobody reads logs.

    Attributes:
        settled: set when it took what there was or refused: waiting on would be for its return.
    """

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.settled = threading.Event()
        self._said = False

    def emit(self, record: logging.LogRecord) -> None:
        """See logging.Handler; the record names hosts and retries, for those who keep logs."""
        self.settled.set()
        if not self._said and not logging.root.handlers:
            self._said = True
            _log.warning(
                "penstock: no collector takes the traces; start one, set PENSTOCK_OTLP_ENDPOINT to "
                "where it is, or PENSTOCK_TRACING to false"
            )


_refusals = _Refusals()


@cache
def _provider(endpoint: str, sample: float, service: str) -> TracerProvider:
    """One for all clients of a process: each has a thread that sends what has ended."""
    resource = Resource.create({})
    if str(resource.attributes[SERVICE_NAME]).startswith("unknown_service"):
        resource = resource.merge(Resource({SERVICE_NAME: service}))
    # A trace's fate is decided where it begins, and travels with it.
    sampler = ParentBased(TraceIdRatioBased(sample))
    provider = TracerProvider(sampler, resource, shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(exporter(endpoint)))
    atexit.register(_flush, provider)
    _EXPORTER.addHandler(_refusals)
    return provider


def exporter(endpoint: str) -> SpanExporter:
    """Where spans are sent: OTLP over HTTP."""
    return OTLPSpanExporter(endpoint=f"{endpoint.rstrip('/')}/v1/traces")


def _flush(provider: TracerProvider) -> None:
    """Send what has ended; whoever waits for that waits for FAREWELL at most, and only once.

    Nor for a collector that is away: the first try tells, and the thread is left to try on.
    """
    if (last := _sending.get(provider)) and last.is_alive():
        return
    _refusals.settled.clear()
    sending = threading.Thread(target=_send, args=[provider], name="penstock-traces", daemon=True)
    _sending[provider] = sending
    sending.start()
    _refusals.settled.wait(FAREWELL)


def _send(provider: TracerProvider) -> None:
    provider.force_flush()
    _refusals.settled.set()


def _within(carrier: Carrier | None) -> Context | None:
    """Where a span goes on; None: within the current one. What is no traceparent begins anew."""
    return _PROPAGATOR.extract(carrier.headers, Context()) if carrier else None


def _span_context(carrier: Carrier) -> trace.SpanContext:
    return trace.get_current_span(_within(carrier)).get_span_context()


def _message(operation: str, route: str) -> dict[str, Any]:
    about = {
        "messaging.system": SYSTEM,
        "messaging.operation.name": operation,
        "messaging.operation.type": operation,
    }
    return {**about, "messaging.destination.name": route} if route else about


def _about(job: str, tenant: str) -> dict[str, Any]:
    return {"messaging.message.id": job, "penstock.tenant": tenant}


def _server(url: str) -> dict[str, Any]:
    """Host and port of a URL, and nothing else of it."""
    parts = urlsplit(url)
    port = parts.port or {"http": 80, "https": 443}.get(parts.scheme, 0)
    return {"server.address": parts.hostname or "", "server.port": port}


def _nanoseconds(seconds: float) -> int:
    return int(seconds * 1e9)
