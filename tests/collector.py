"""Somebody who collects spans: what an OpenTelemetry collector is sent, decoded."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.waiting import until


class Exported(NamedTuple):
    """One span; ids in hex, times in seconds since the epoch."""

    name: str
    service: str
    kind: int
    trace: str
    id: str
    parent: str
    begin: float
    end: float
    attributes: dict[str, Any]
    events: dict[str, float]
    is_error: bool


class Collector:
    """Takes OTLP over HTTP.

    Attributes:
        url: for PENSTOCK_OTLP_ENDPOINT.
        spans: by name; of several of one name the last.
        raw: every request's body.
    """

    def __init__(self) -> None:
        self.spans: dict[str, Exported] = {}
        self.raw = b""
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def until_sent(self, *names: str) -> dict[str, Exported]:
        """Wait for spans of these names."""
        until(lambda: self.spans.keys() >= set(names), timeout=15)
        return self.spans

    def take(self, body: bytes) -> None:
        self.raw += body
        for span in _spans(ExportTraceServiceRequest.FromString(body)):
            self.spans[span.name] = span

    def __enter__(self) -> Collector:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def _spans(request: Any) -> Iterator[Exported]:
    for group in request.resource_spans:
        service = _plain(group.resource.attributes)["service.name"]
        for scope in group.scope_spans:
            for span in scope.spans:
                yield Exported(
                    span.name, service, span.kind, span.trace_id.hex(), span.span_id.hex(),
                    span.parent_span_id.hex(), span.start_time_unix_nano / 1e9,
                    span.end_time_unix_nano / 1e9, _plain(span.attributes),
                    {event.name: event.time_unix_nano / 1e9 for event in span.events},
                    span.status.code == 2,
                )  # fmt: skip


def _plain(attributes: Any) -> dict[str, Any]:
    return {each.key: _value(each.value) for each in attributes}


def _value(value: Any) -> Any:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [_value(each) for each in value.array_value.values]
    return getattr(value, kind)


def _handler(collector: Collector) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            collector.take(self.rfile.read(int(self.headers["content-length"])))
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    return Handler
