"""What taking a webhook costs: a signed delivery until its 2xx, beside a job over the same door."""

from __future__ import annotations

import hashlib
import hmac
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from http.client import HTTPConnection
from typing import NamedTuple

import msgspec

from ops.bench import meter
from ops.bench.result import Figures, Result, percentile
from ops.bench.server import free_port
from ops.bench.stand import BenchmarkError, Stand
from ops.local.child import port_answers
from ops.local.process import Process
from penstock import Settings, commands
from penstock.store import Store
from worker.dispatch import CELERY_VERSION, render_template

TITLE = "Webhooks in: from a delivery to its 2xx"

NOT_SHOWN = """\
One sender over one connection that is kept, one request after the other, in turns of each kind; the
percentiles are over all turns, the gateway's CPU is the median turn's. A delivery is like GitHub's
of an opened issue, some 7 KB: its signature is checked over the raw bytes, the filter asked, the
template rendered, and the job stored before the answer. "again" is the same delivery once more,
which is answered with the job that is there. POST /v1/jobs submits the rendered text. A route is
registered, so admission is part of it, but no worker runs. Not shown: TLS, networks, many senders
at a time; templates that do more."""

SECRET = "of-the-benchmark"  # noqa: S105 - nobody else's
CONFIG = """\
[hooks.issues]
verify = "github"
secret_env = "BENCH_HOOK_SECRET"
filter = "headers['x-github-event'] == 'issues' and payload.action == 'opened'"
messages = [
  { role = "system", content = "You label issues." },
  { content = "{{ payload.issue.title }}\\n\\n{{ payload.issue.body }}" },
]
"""
TITLE_OF_ISSUE = "The gate stays shut after a restart"
TEXT = "It was open before, and the line is not empty. " * 80
OTHER = {
    f"{name}_url": f"https://api.example.com/repos/a/b/{name}{{/number}}" for name in range(50)
}
"""What a real payload has beside what a template asks for: mostly addresses."""

P50, P99 = "p50, ms", "p99, ms"
JSON = {"content-type": "application/json"}


class Size(NamedTuple):
    """How much: requests of each kind a turn, and turns."""

    requests: int
    turns: int


FULL = Size(requests=500, turns=5)
QUICK = Size(requests=50, turns=1)


class Asked(NamedTuple):
    """A request and the status it must get."""

    path: str
    body: bytes
    headers: dict[str, str]
    status: int


def delivery(number: int, status: int) -> Asked:
    """The delivery of this number, signed."""
    issue = {"number": number, "title": TITLE_OF_ISSUE, "body": TEXT}
    payload = {"action": "opened", "issue": issue, "repository": OTHER}
    body = msgspec.json.encode(payload)
    proof = hmac.new(SECRET.encode(), body, hashlib.sha256).hexdigest()
    told = {"x-hub-signature-256": f"sha256={proof}", "x-github-event": "issues"}
    headers = {**JSON, **told, "x-github-delivery": f"delivery-{number}"}
    return Asked("/v1/hooks/issues", body, headers, status)


def job(_: int) -> Asked:
    """The same job, without a hook."""
    said = [("system", "You label issues."), ("user", f"{TITLE_OF_ISSUE}\n\n{TEXT}")]
    messages = [{"role": role, "content": content} for role, content in said]
    return Asked("/v1/jobs", msgspec.json.encode({"messages": messages}), JSON, 202)


KINDS: dict[str, Callable[[int], Asked]] = {
    "a delivery": lambda number: delivery(number, 202),
    "a delivery again": lambda number: delivery(number, 200),
    "POST /v1/jobs": job,
}


class Turn(NamedTuple):
    """Seconds that each request took, and the gateway's CPU seconds for all."""

    waits: list[float]
    used: float


def run(stand: Stand, quick: bool) -> list[Result]:
    """Each kind in its turn, on one gateway."""
    size = QUICK if quick else FULL
    turns: dict[str, list[Turn]] = {name: [] for name in KINDS}
    with serving(stand) as (gateway, port), closing(HTTPConnection("127.0.0.1", port)) as door:
        take(door, gateway, [kind(-1) for kind in KINDS.values()])  # some is imported only then
        for turn in range(size.turns):
            numbers = range(turn * size.requests, (turn + 1) * size.requests)
            for name, kind in KINDS.items():
                turns[name].append(take(door, gateway, [kind(number) for number in numbers]))
    return [_result(name, each, size) for name, each in turns.items()]


@contextmanager
def serving(stand: Stand) -> Iterator[tuple[Process, int]]:
    """A gateway with a hook, and its port; its Redis knows a route."""
    stand.reset()
    settings, port = Settings.load(redis_url=stand.redis_url), free_port()
    with closing(Store(settings.server_url)) as store:
        store.run(commands.register(render_template(), CELERY_VERSION, settings.served_routes, {}))
    config = stand.directory / "hooks.toml"
    config.write_text(CONFIG)
    environment = {
        "PENSTOCK_CONFIG": str(config),
        "PENSTOCK_REDIS_URL": stand.redis_url,
        "PENSTOCK_LOG_LEVEL": "warning",
        "PENSTOCK_GATEWAY_REQUESTS_PER_MINUTE": str(10**6),
        "BENCH_HOOK_SECRET": SECRET,
    }
    argv = [sys.executable, "-P", "-m", "ops.cli", "gateway", "--port", str(port)]
    with stand.process(argv, **environment) as gateway:
        stand.wait(port_answers("127.0.0.1", port), "the gateway")
        yield gateway, port


def take(door: HTTPConnection, gateway: Process, asked: list[Asked]) -> Turn:
    """Send one after the other; raises BenchmarkError for an answer of another kind."""
    waits, used = [], meter.running(gateway.pid)
    for each in asked:
        began = time.monotonic()
        door.request("POST", each.path, each.body, each.headers)
        with door.getresponse() as answer:
            said = answer.read()
        waits.append(time.monotonic() - began)
        if answer.status != each.status:
            raise BenchmarkError(f"{each.path} answered {answer.status}: {said.decode()[:200]}")
    return Turn(waits, meter.running(gateway.pid) - used)


def _result(name: str, turns: list[Turn], size: Size) -> Result:
    waits = [wait * 1e3 for turn in turns for wait in turn.waits]
    used = [turn.used / size.requests * 1e3 for turn in turns]
    figures: Figures = {
        P50: round(percentile(waits, 0.5), 2),
        P99: round(percentile(waits, 0.99), 2),
        "gateway CPU, ms": round(percentile(used, 0.5), 2),
        "body, bytes": len(KINDS[name](0).body),
        "requests": len(waits),
    }
    return Result("hooks", name, figures, {"ms": [round(wait, 2) for wait in waits]})
