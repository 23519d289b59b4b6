"""What the gate costs the server: microseconds an admitted job, and bytes a waiting one."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from itertools import islice
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

from ops.bench.result import Figures, Result
from ops.bench.server import Server
from ops.bench.stand import Stand
from penstock import commands, keys
from penstock.client import PORTION
from penstock.commands import Command, Feedback, Used
from penstock.job import JobSpec
from penstock.settings import RouteOverrides, Settings, Tenant
from penstock.state import JobState
from penstock.store import Store
from worker.dispatch import CELERY_VERSION, render_template

TITLE = "Cost of admission in the server"

NOT_SHOWN = """\
Microseconds as Redis itself counts them for EVALSHA (`INFO commandstats`), over the jobs that
passed; the median of the rounds. "undisturbed" is the median of those in which a loop that is
always the same took at most a fifth more than its least, in the same server, before and after: on
a shared machine a neighbour makes a core up to twice as slow for minutes, and that is no cost of
admission. Rounds go on until each line has so many of them, or for three times as long. The lines
of a case have a server each, and their rounds take turns, so that they meet the machine in the
same mood. Each round claims and finishes the jobs that hold the route's 200 slots, lets half of
the next ones through one a call, as a worker does behind each `finish`, and the others in one
call, as the keeper does, and submits as many as went. "looked at" limits are so high that they
never hold anybody up: the figure is what checking and paying costs. Their window is filled
beforehand as a minute of traffic fills it. "admit CPU" is that of Redis's main thread, one a call,
reading the command and writing the answer included: what other processes do to it shows less.
"longest admit" is the longest that one call kept everybody else waiting. Bytes are those of
used_memory, of jobs that wait. Not shown: the network, the disk, a rewrite of the append-only file
meanwhile, and the answers' events."""

SLOTS = 200
"""DeepInfra's documented concurrency."""

HALF = SLOTS // 2
AHEAD = 10
"""Script calls that are sent before the replies to earlier ones are read."""

ONE, MANY, PACE = "admit, µs/job", "admit many, µs/job", "the loop, µs"
UNDISTURBED = "admit undisturbed, µs/job"
QUICK_LOOP = 1.2
"""Times the least that the loop took; a neighbour on the core makes it half as long again."""

ENOUGH, PATIENCE = 6, 3
"""Undisturbed rounds that are wanted, and how many times the rounds there may be for them."""
PLENTY = 1_000_000_000
CHECKED = {
    "concurrency": 1000, "requests_per_minute": PLENTY, "tokens_per_minute": PLENTY,
    "budget_day": 1e6, "budget_month": 1e6,
}  # fmt: skip
NO_LIMITS = RouteOverrides(concurrency=SLOTS)
RATES = RouteOverrides(
    concurrency=SLOTS, requests_per_minute=PLENTY, tokens_per_minute=PLENTY, burst=PLENTY
)


class Case(NamedTuple):
    """Lines of the table: one for each number of waiting jobs, on a server of its own.

    Attributes:
        tenants: how many there are, each with the same share of the jobs.
        waiting: jobs of each line.
        prompt: bytes of each job's text.
        rounds: how often it is measured.
    """

    name: str
    tenants: int
    waiting: Sequence[int]
    route: RouteOverrides = NO_LIMITS
    limits: Mapping[str, Tenant] = {}
    prompt: int = 100
    rounds: int = 30


FULL = (
    Case("1 tenant", 1, (1_000, 10_000, 100_000, 1_000_000)),
    Case("10000 tenants", 10_000, (10_000, 100_000, 1_000_000)),
    Case("100 tenants", 100, (100_000,)),
    Case("1 tenant, rates looked at", 1, (100_000,), RATES),
    Case("1 tenant, its limits looked at", 1, (100_000,), NO_LIMITS, {"*": Tenant(**CHECKED)}),
    Case("10000 tenants, all looked at", 10_000, (100_000,), RATES, {"*": Tenant(**CHECKED)}),
    Case("1 tenant, 1 KB prompts", 1, (100_000,), prompt=1000),
)
QUICK = (
    Case("1 tenant", 1, (300, 600), rounds=2),
    Case("100 tenants, all looked at", 100, (600,), RATES, {"*": Tenant(**CHECKED)}, rounds=2),
)
HELD_UP = {False: 10_000, True: 100}
"""Tenants that are all at their own limits at the same moment, in full and in quick runs."""


def run(stand: Stand, quick: bool) -> list[Result]:
    """Every case, and what it costs when a crowd of tenants is at its limits."""
    results = []
    for case in QUICK if quick else FULL:
        results += measure(stand, case)
    return [*results, crowd(stand, HELD_UP[quick])]


def measure(stand: Stand, case: Case) -> list[Result]:
    """The lines of a case, their rounds by turns."""
    with opened(stand, case) as lines:
        for line in lines:
            line.fill()
        for line in lines:
            stand.wait(line.is_at_rest, "the append-only file to be rewritten", 300)
        for line in lines:
            line.round()  # the scripts are known from here on, and the slots taken
        rounds: list[list[dict[str, float]]] = []
        while len(rounds) < case.rounds or not is_enough(rounds, case.rounds):
            rounds.append([line.round() for line in lines])
        quick = QUICK_LOOP * least(rounds)
        return [line.result([each[i] for each in rounds], quick) for i, line in enumerate(lines)]


def is_enough(rounds: Sequence[Sequence[Mapping[str, float]]], wanted: int) -> bool:
    """Whether each line had enough undisturbed rounds, or has no hope of them."""
    quick = QUICK_LOOP * least(rounds)
    counts = [sum(each[PACE] <= quick for each in line) for line in zip(*rounds, strict=True)]
    return min(counts) >= ENOUGH or len(rounds) >= PATIENCE * wanted


def least(rounds: Sequence[Sequence[Mapping[str, float]]]) -> float:
    """The least that the loop took, in whatever line."""
    return min(line[PACE] for each in rounds for line in each)


def crowd(stand: Stand, tenants: int) -> Result:
    """A job of each tenant passes, then all are held up at once: the longest call counts."""
    once = {"*": Tenant(requests_per_minute=1)}
    case = Case(f"{tenants} tenants, all held up", tenants, (2 * tenants,), limits=once)
    with opened(stand, case) as [line]:
        line.fill()
        passed, calls = 0, [Cost(0.0, 0)]
        while passed < tenants:
            calls.append(line.admit())
            passed += line.end_held()
        calls.append(line.admit())
        longest = max(call.microseconds for call in calls)
    figures: Figures = {
        "waiting": 2 * tenants,
        "longest admit, ms": round(longest / 1000, 1),
        "admit many, µs/job": round(sum(call.microseconds for call in calls) / passed, 1),
    }
    return Result("admission", case.name, figures)


class Cost(NamedTuple):
    """What the server spent on some script calls, by its own count and as CPU; in microseconds."""

    microseconds: float
    calls: int
    cpu: float = 0.0


@contextmanager
def opened(stand: Stand, case: Case) -> Iterator[list[Line]]:
    """The lines of a case, which are empty yet."""
    with ExitStack() as stack:
        directory = Path(stack.enter_context(TemporaryDirectory(dir=stand.directory)))
        lines = []
        for waiting in case.waiting:
            server = stack.enter_context(Server(directory / str(waiting)))
            lines.append(stack.enter_context(closing(Line(server, case, waiting))))
        yield lines


class Line:
    """A route with jobs waiting, on a server of its own; nobody but this drives it."""

    def __init__(self, server: Server, case: Case, waiting: int) -> None:
        self._server = server
        url = server.redis_url
        self._settings = Settings.load(
            redis_url=url, routes={"default": case.route}, tenants=dict(case.limits)
        )
        self._store = Store(url)
        self._case = case
        self._waiting = waiting
        self._specs = self._make_specs()
        self._random = random.Random(1)
        self._bytes = 0.0
        published = self._settings.resolved_routes, self._settings.tenants
        self._store.run(commands.register(render_template(), CELERY_VERSION, *published))
        if case.route.tokens_per_minute:
            self._fill_window()

    def close(self) -> None:
        """Close the connections."""
        self._store.close()

    def is_at_rest(self) -> bool:
        """Whether the server does nothing but what it is asked."""
        return self._server.is_at_rest()

    def fill(self) -> None:
        """Submit the jobs that are to wait; the append-only file is not rewritten from then on."""
        before = self._server.memory()
        for results in self._store.run_batches(self._batches(self._waiting)):
            _check(results)
        self._bytes = (self._server.memory() - before) / self._waiting
        self._server.redis.config_set("auto-aof-rewrite-percentage", 0)

    def round(self) -> dict[str, float]:
        """Every slot's job ends, and the next ones pass; microseconds of each step."""
        held = self._held()
        claim = self._cost([commands.claim(job, job) for job in held])
        finish = self._cost([self._finish(job) for job in held])
        self._store.redis.delete(keys.queue("default"))
        before = self._server.pace()
        one = self._cost([commands.admit("default", 1)] * HALF)
        after = self._server.pace()
        many = self.admit()
        if len(self._held()) != SLOTS:
            raise AssertionError("some slots are free though jobs wait")
        enqueue = self._cost(next(self._batches(SLOTS)))  # as many as went
        return {
            ONE: one.microseconds / HALF,
            MANY: many.microseconds / HALF,
            "admit CPU, µs/job": one.cpu / HALF,
            "claim, µs": claim.microseconds / max(claim.calls, 1),
            "finish, µs": finish.microseconds / max(finish.calls, 1),
            "enqueue, µs/job": enqueue.microseconds / SLOTS,
            PACE: max(before, after),
        }

    def result(self, rounds: Sequence[Mapping[str, float]], quick: float) -> Result:
        """One line of the table; `quick`: microseconds of the loop in an undisturbed round."""
        undisturbed = [each[ONE] for each in rounds if each[PACE] <= quick]
        figures: Figures = {"waiting": self._waiting, "tenants": self._case.tenants}
        figures[UNDISTURBED] = round(median(undisturbed), 1) if undisturbed else "never"
        figures["rounds"] = f"{len(undisturbed)} of {len(rounds)}"
        for name in rounds[0]:
            figures[name] = round(median(each[name] for each in rounds), 1)
        figures["longest admit, ms"] = round(max(each[MANY] for each in rounds) * HALF / 1000, 1)
        figures["bytes/job"] = round(self._bytes)
        samples = {name: [each[name] for each in rounds] for name in rounds[0]}
        return Result("admission", f"{self._case.name}, {self._waiting} waiting", figures, samples)

    def admit(self) -> Cost:
        """Let through what may pass in one call."""
        return self._cost([commands.admit("default", HALF)])

    def end_held(self) -> int:
        """Claim and finish whatever is admitted; how many that were."""
        held = self._held()
        _check(self._store.run_all([commands.claim(job, job) for job in held]))
        _check(self._store.run_all([self._finish(job) for job in held]))
        self._store.redis.delete(keys.queue("default"))
        return len(held)

    def _cost(self, calls: Sequence[Command[Any]]) -> Cost:
        before, cpu = self._server.microseconds("evalsha"), self._server.main_thread()
        _check(self._store.run_all(calls))
        cpu = self._server.main_thread() - cpu
        return Cost(self._server.microseconds("evalsha") - before, len(calls), cpu * 1e6)

    def _held(self) -> list[str]:
        return [job.decode() for job in self._store.redis.zrange(keys.held("default"), 0, -1)]

    def _finish(self, job: str) -> Command[Any]:
        tokens = self._random.randint(50, 1000)
        used = Used(prompt=30, answer=tokens, usd=tokens / 2_000_000)
        return commands.finish(job, job, JobState.COMPLETED, 2, {}, used, Feedback("ok"))

    def _batches(self, count: int) -> Iterator[list[Command[Any]]]:
        specs = islice(self._specs, count)
        while batch := list(islice(specs, PORTION * AHEAD)):
            portions = [batch[at : at + PORTION] for at in range(0, len(batch), PORTION)]
            yield [commands.enqueue_many(portion, self._settings) for portion in portions]

    def _make_specs(self) -> Iterator[JobSpec]:
        messages = [{"role": "user", "content": "x" * self._case.prompt}]
        while True:
            for number in range(self._case.tenants):
                yield JobSpec.build({"messages": messages, "tenant": f"tenant-{number}"})

    def _fill_window(self) -> None:
        """As a minute of traffic leaves it: each half second takes one of these off again."""
        now = int(self._store.redis.time()[0] * 2)
        steps = {str(step): 1000 for step in range(now - 118, now + 1)}
        whole = {**steps, "from": now - 118, "sum": sum(steps.values())}
        self._store.redis.hset(keys.CATALOGUE["window"] + "default", mapping=whole)


def _check(results: Sequence[Any]) -> None:
    for result in results:
        if isinstance(result, Exception):
            raise result
