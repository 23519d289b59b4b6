"""What traces cost a relayed token: off, and with one in a hundred kept."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from statistics import median
from typing import Any, NamedTuple

from ops.bench import meter
from ops.bench.contender import Penstock
from ops.bench.load import MODEL, Load
from ops.bench.result import Figures, Result
from ops.bench.stand import Stand
from penstock.client import Client
from penstock.commands import Claim, Way
from penstock.outcome import Completed
from penstock.settings import Route, Settings
from penstock.trace import Carrier, tracer_of

TITLE = "CPU of traces per relayed token"

NOT_SHOWN = """\
One worker process each time, the same jobs, and its CPU from the first job submitted to the last
one finished, over all tokens; claims and endings are in it, as that is where spans are made.
"without" is the worker with the calls of its tracer taken out. The variants take turns, in another
order each round, and each is compared with "without" of its own round: machines change their pace.
What is left of that is noise, and more than what is looked for: the spread says how much. So the
calls of the tracer that a job makes in its worker are also measured by themselves, the sending of
what is kept included; "of a job" divides them by what a job of so many tokens costs "without", and
is what the targets are about. Not shown: what
traces cost producers and gateways; traces that are all kept; or a worker whose answers are shorter
than these: the cost is a job's, so it is divided by the tokens of its answer."""

RATE = 20.0
"""Tokens per second and stream."""

SAMPLE = 0.01


class Size(NamedTuple):
    """How much."""

    streams: int
    tokens: int
    rounds: int
    calls: int


FULL = Size(streams=400, tokens=160, rounds=6, calls=100_000)
QUICK = Size(streams=10, tokens=10, rounds=1, calls=1000)

COMPLETION: dict[str, Any] = {
    "id": "1", "model": MODEL, "choices": [{"finish_reason": "stop"}],
    "usage": {"prompt_tokens": 1, "completion_tokens": 1, "estimated_cost": 0.1},
}  # fmt: skip


class Without(Penstock):
    """Our worker before it knew of traces."""

    name = "without"

    def command(self, concurrency: int) -> list[str]:
        """See Penstock."""
        return [sys.executable, "-m", "ops.bench.untraced", str(concurrency)]


class Off(Penstock):
    """Our worker as it is unless it is told to trace."""

    name = "off"


class Sampled(Penstock):
    """Our worker where one trace in a hundred is kept, and sent."""

    name = "on, 1 %"

    def __init__(self, stand: Stand, collector: str) -> None:
        super().__init__(stand)
        self._collector = collector

    def environment(self, concurrency: int) -> dict[str, str]:
        """See Penstock."""
        traced = {"PENSTOCK_TRACING": "true", "PENSTOCK_OTLP_ENDPOINT": self._collector}
        return {**super().environment(concurrency), **traced}

    def settings(self) -> Settings:
        """See Penstock: whoever submits decides what is kept."""
        traced = {"tracing": True, "trace_sample": SAMPLE, "otlp_endpoint": self._collector}
        return super().settings().model_copy(update=traced)


def run(stand: Stand, quick: bool) -> list[Result]:
    """Each variant in turn, several times; then each beside the first."""
    size = QUICK if quick else FULL
    with collector() as url:
        variants = [Without(stand), Off(stand), Sampled(stand, url)]
        costs: dict[str, list[float]] = {variant.name: [] for variant in variants}
        for number in range(size.rounds):
            turn = number % len(variants)
            for variant in variants[turn:] + variants[:turn]:
                costs[variant.name].append(measure(variant, size))
        calls = {variant.name: 0.0 for variant in variants}
        for variant in variants[1:]:
            calls[variant.name] = measure_calls(variant.settings(), size.calls)
    bare = costs[Without.name]
    return [_line(name, own, bare, calls[name], size) for name, own in costs.items()]


def measure(variant: Penstock, size: Size) -> float:
    """The worker's CPU per token, in µs."""
    load, stand = Load(size.tokens, gap=1 / RATE), variant.stand
    with variant.started(size.streams) as process:
        begin = meter.running(process.pid)
        with closing(Client(variant.settings())) as client:
            for _ in range(size.streams):  # each decides about a trace of its own
                client.submit(**load.body)
        stand.wait(lambda: variant.finished() >= size.streams, "the streams to end")
        used = meter.running(process.pid) - begin
    return used / (size.streams * size.tokens) * 1e6


def measure_calls(settings: Settings, jobs: int) -> float:
    """CPU of a worker's calls of its tracer, in µs a job; one trace in a hundred is kept."""
    tracer, route = tracer_of(settings, "bench"), Route(url="http://127.0.0.1:1/v1", model=MODEL)
    claims = [_claim(None)] if not settings.tracing else [_claim("01"), *[_claim("00")] * 99]
    began = time.process_time()
    for number in range(jobs):
        with tracer.attempt(claims[number % len(claims)]) as attempt:
            with tracer.call(route, MODEL) as call:
                _ = call.carrier
                call.began(time.monotonic())
                call.answered(COMPLETION)
            attempt.settled(Completed(COMPLETION))
    tracer.close()
    return (time.process_time() - began) / jobs * 1e6


def _claim(flags: str | None) -> Claim:
    trace = Carrier(f"00-{1:032x}-{1:016x}-{flags}") if flags else None
    return Claim(
        "job_1", 1, "bench", "default", "bench", "", Way(), 1.0, 2.0, None, 5, 0, b"{}", b"{}",
        admitted_at=1.5, trace=trace,
    )  # fmt: skip


def _line(name: str, own: list[float], bare: list[float], calls: float, size: Size) -> Result:
    ratios = [(mine / theirs - 1) * 100 for mine, theirs in zip(own, bare, strict=True)]
    figures: Figures = {
        "CPU, µs/token": round(median(own), 2),
        "from": round(min(own), 2),
        "to": round(max(own), 2),
        "over without, %": round(median(ratios), 2),
        "calls, µs/job": round(calls, 2),
        "of a job, %": round(calls / (median(bare) * size.tokens) * 100, 3),
        "rounds": size.rounds,
        "tokens/round": size.streams * size.tokens,
    }
    samples = {"CPU, µs/token": [round(cost, 3) for cost in own],
               "over without, %": [round(ratio, 3) for ratio in ratios]}  # fmt: skip
    return Result("tracing", name, figures, samples)


@contextmanager
def collector() -> Iterator[str]:
    """Somebody who takes spans and keeps none."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Collector)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Collector(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass
