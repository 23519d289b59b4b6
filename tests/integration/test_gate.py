"""The gate on a real server whose scripts read a clock of ours: every limit, in every window."""

from __future__ import annotations

import itertools
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from ops.local.server import EmbeddedServer
from penstock import Settings, commands, keys, usage
from penstock.commands import Feedback, Used
from penstock.errors import BudgetSpent, ConversationBusy
from penstock.events import Cursor
from penstock.settings import Prices, RouteOverrides, Tenant
from penstock.state import JobState
from tests.integration.gates import MINUTE, Gate

ROUTES = {
    "default": RouteOverrides(
        concurrency=6, requests_per_minute=40, burst=20, tokens_per_minute=9000,
        fallback=("spare",), service_tiers=("flex", "priority"),
    ),
    "spare": RouteOverrides(concurrency=3, tokens_per_minute=6000),
}  # fmt: skip
TENANTS = {
    "light": Tenant(weight=1),
    "heavy": Tenant(weight=3),
    "narrow": Tenant(concurrency=2, requests_per_minute=20, burst=10),
    "poor": Tenant(tokens_per_minute=6000, budget_day=0.002),
}


USD = 1e-7
"""What a token costs."""


def date_of(now: float) -> str:
    """The day of a time, in UTC."""
    return datetime.fromtimestamp(now, UTC).date().isoformat()


@dataclass
class Passed:
    """One admission: when, whose, what it has cost so far, and where."""

    at: float
    tenant: str
    tokens: float
    route: str = "default"


@dataclass
class Ledger:
    """Every admission that the gate has made."""

    entries: list[Passed] = field(default_factory=list)

    def within(
        self, now: float, tenant: str | None = None, route: str | None = None
    ) -> list[Passed]:
        """Those of the minute that ends now."""
        return [
            entry
            for entry in self.entries
            if now - MINUTE < entry.at <= now
            and tenant in (None, entry.tenant)
            and route in (None, entry.route)
        ]


def within_tokens(passed: list[Passed], most: int) -> None:
    """What passed in a minute is within the limit, or is one job that is larger than it."""
    tokens = [entry.tokens for entry in passed]
    assert sum(tokens) <= most or max(tokens) == sum(tokens)


class GateLife(RuleBasedStateMachine):
    """Jobs of four tenants on two routes, answers of any length, whatever fails, and time."""

    server: EmbeddedServer

    def __init__(self) -> None:
        super().__init__()
        self.gate = Gate(self.server.url, ROUTES["default"], TENANTS, {"spare": ROUTES["spare"]})
        self.ledger = Ledger()
        self.passed: dict[str, Passed] = {}  # what is held, and not settled
        self.tenant: dict[str, str] = {}
        self.live: set[str] = set()
        self.ended: dict[str, str] = {}
        self.spent: Counter[tuple[str, str]] = Counter()
        self.virtual_time = dict.fromkeys(ROUTES, 0.0)

    @property
    def today(self) -> str:
        """As budgets count days."""
        return date_of(self.gate.now)

    def teardown(self) -> None:
        """Whatever waits passes in the end: nothing is lost, and nothing leaks."""
        for number in range(400):
            if not self.live:
                break
            self.gate.now += 86_400 if number == 200 else 5  # budgets begin anew
            self.sweep()
            self.admit()
            for job in self.held():
                self.settle(job, 0)
        assert not self.live
        self.gate.now += 86_400  # the turns of tenants without jobs go when they come up
        self.admit()
        for route in ROUTES:
            left = [keys.turns(route), keys.parked(route), f"penstock:guests:{route}"]
            assert not [key for key in left if self.gate.store.redis.exists(key)]
        self.gate.store.close()

    def held(self) -> list[str]:
        """The jobs admitted or running, on any route."""
        return sorted(job for route in ROUTES for job in self.gate.held(route))

    @rule(
        tenant=st.sampled_from(sorted(TENANTS)),
        max_tokens=st.sampled_from([None, 50, 600, 90_000]),
        count=st.sampled_from([1, 3, 20]),
        deadline=st.sampled_from([None, None, 45]),
        ways=st.sampled_from(
            [
                {},
                {},
                {"priority": 9},
                {"priority": 0},
                {"delay": 3},
                {"conversation": "c"},
                *(
                    {"conversation": "c", "on_busy": busy}
                    for busy in ("interrupt", "replace", "reject")
                ),
            ]
        ),
    )
    def submit(
        self, tenant: str, max_tokens: int | None, count: int, deadline: int | None, ways: Any
    ) -> None:
        for _ in range(count):
            try:
                job = self.gate.submit(tenant, max_tokens=max_tokens, deadline=deadline, **ways)
            except ConversationBusy:
                continue
            self.tenant[job] = tenant
            self.live.add(job)
            if "conversation" in ways:
                self.look_for_cancelled()

    @rule(seconds=st.sampled_from([0.05, 0.4, 1.9, 7.0, 31.0]))
    def wait(self, seconds: float) -> None:
        self.gate.now += seconds

    @rule()
    def admit(self) -> None:
        for route in ROUTES:
            before, spent = self.gate.held(route), self.of_budget()
            self.gate.admit(route=route)
            passed = self.gate.held(route) - before
            if first := [job for job in passed if self.tenant[job] == "poor"]:
                fits = self.of_budget() <= (TENANTS["poor"].budget_day or 0) + 1e-9
                assert fits or (spent == 0 and len(first) == 1)
            for job in passed:
                tokens = float(self.gate.record(job)["reserved"])
                entry = Passed(self.gate.now, self.tenant[job], tokens, route)
                self.ledger.entries.append(entry)
                self.passed[job] = entry
            self.keep_to_every_minute()
        self.look_for_expired()

    def of_budget(self) -> float:
        """USD of the day's budget that are spent or reserved."""
        day, usd = self.gate.store.redis.hmget("penstock:tenant:poor", "day", "day_usd")
        return float(usd) if day == self.today.encode() else 0.0

    @rule()
    def sweep(self) -> None:
        self.renew()
        self.gate.sweep()
        self.look_for_expired()

    def renew(self) -> None:
        """Workers keep the leases of what they run, and none is told to stop."""
        told = self.gate.pluck(self.held(), "state", "holder", "route")
        leases = [commands.Lease(job, *whose) for job, state, *whose in told if state == "running"]
        assert self.gate.run(commands.renew(leases)) == []

    @rule(data=st.data())
    def speak(self, data: st.DataObject) -> None:
        """A worker takes a job, and its answer begins."""
        if job := self.runnable(data):
            holder = self.gate.claim(job)
            last = self.gate.store.redis.xrevrange(keys.feed(job), count=1)[0][0]
            n = Cursor.parse(last.decode()).n + 1
            assert self.gate.run(commands.append([job, holder, n, "{}"])) == []

    @rule(lost=st.booleans())
    def lose_replies(self, lost: bool) -> None:
        self.gate.replies_get_lost = lost

    @rule()
    def apply(self) -> None:
        self.gate.register()
        self.gate.run(commands.apply(self.gate.settings))

    @rule(data=st.data())
    def hand_back(self, data: st.DataObject) -> None:
        """A worker stops, and gives back what it runs."""
        if job := self.runnable(data):
            holder = self.gate.claim(job)
            back = commands.requeue(job, holder, "stop", 0, "handback", None, Feedback(""))
            assert self.gate.run(back).accepted
            self.passed.pop(job).tokens = 0

    @rule()
    def look_on(self) -> None:
        """Whoever looks on changes nothing, and sees places that can be."""
        for outlook in self.gate.run(commands.outlook(sorted(self.live))):
            assert outlook is None or 1 <= outlook.position <= len(self.live)
        self.gate.run(commands.announce(2.0))
        for route in ROUTES:
            assert self.gate.run(commands.survey(route)).waiting <= len(self.live)
        standings = self.gate.run(commands.census()).standings
        assert sum(standing.waiting for standing in standings) <= len(self.live)

    def look_for_cancelled(self) -> None:
        """A job of a conversation may end those before it; a worker ends the one that runs."""
        for job, state, reason in self.gate.pluck(sorted(self.live), "state", "cancel_reason"):
            if state != "cancelled" and reason is None:
                continue
            if state == "running":
                cancelled = commands.finish(job, self.gate.claim(job), JobState.CANCELLED, 99, {})
                assert self.gate.run(cancelled).accepted
            self.end(job)
            if entry := self.passed.pop(job, None):
                entry.tokens = 0

    def look_for_expired(self) -> None:
        """Of the jobs with deadlines some end without an answer."""
        for job, state in self.gate.pluck(sorted(self.live), "state"):
            if state == "expired":
                self.end(job)

    def end(self, job: str) -> None:
        """What has ended stays as it is."""
        self.live.discard(job)
        self.ended[job] = self.gate.record(job)["final"]

    @rule(rounds=st.integers(1, 12), share=st.sampled_from([0.0, 0.5, 1.0]))
    def serve(self, rounds: int, share: float) -> None:
        """Workers answer whatever passes, as fast as it does."""
        for _ in range(rounds):
            self.admit()
            for job in self.held():
                self.settle(job, share)
            self.gate.now += 0.3

    @rule(share=st.sampled_from([0.0, 0.1, 0.9, 1.0]), data=st.data())
    def finish(self, share: float, data: st.DataObject) -> None:
        if held := self.held():
            self.settle(data.draw(st.sampled_from(held)), share)

    def settle(self, job: str, share: float) -> None:
        entry = self.passed.pop(job)
        if self.is_late(job):
            entry.tokens = 0
            self.gate.run(commands.claim(job, "late"))
        else:
            entry.tokens = int(entry.tokens * share)
            usd = round(entry.tokens * USD, 12)
            self.gate.finish(job, int(entry.tokens), usd=usd)
            self.spent[entry.tenant, self.today] += usd
        self.end(job)

    @rule(data=st.data())
    def give_up(self, data: st.DataObject) -> None:
        if job := self.runnable(data):
            holder = self.gate.claim(job)
            failed = commands.finish(job, holder, JobState.FAILED, 99, {})
            assert self.gate.run(failed).accepted
            self.passed.pop(job).tokens = 0
            self.end(job)

    @rule(data=st.data())
    def redrive(self, data: st.DataObject) -> None:
        """What has failed may be run again, and then it has not ended."""
        told = self.gate.pluck(sorted(self.ended), "state")
        failed = [job for job, state in told if state == "failed"]
        if failed:
            job = data.draw(st.sampled_from(failed))
            self.gate.run(commands.redrive(job))
            del self.ended[job]
            self.live.add(job)

    @rule(data=st.data())
    def erase(self, data: st.DataObject) -> None:
        """Of what has ended nothing is left, and what it used still counts; the others stay."""
        if self.ended:
            job = data.draw(st.sampled_from(sorted(self.ended)))
            self.gate.run(commands.erase(job))
            assert self.gate.record(job) == {}
            del self.ended[job]

    @rule(
        kind=st.sampled_from(["busy", "broken", "broken", "down", ""]),
        retry_after=st.sampled_from([0, 0, 3]),
        count=st.sampled_from([1, 1, 5]),
        data=st.data(),
    )
    def fail(self, kind: Any, retry_after: float, count: int, data: st.DataObject) -> None:
        for _ in range(count):
            self.admit()
            if job := self.runnable(data):
                self.gate.retry(job, Feedback(kind, retry_after), delay=1)
                self.passed.pop(job).tokens = 0

    def runnable(self, data: st.DataObject) -> str | None:
        """An admitted or running job that a worker may go on with."""
        held = [job for job in self.held() if not self.is_late(job)]
        return data.draw(st.sampled_from(held)) if held else None

    def is_late(self, job: str) -> bool:
        """Whether a claim would find its deadline over."""
        record = self.gate.record(job)
        is_over = float(record.get("deadline", "inf")) <= self.gate.now
        return is_over and record["state"] == "admitted"

    @rule(times=st.sampled_from([1, 1, 3, 4]), data=st.data())
    def lose_worker(self, times: int, data: st.DataObject) -> None:
        """Once, or again and again until the job is a suspect, or has failed."""
        job = self.runnable(data)
        for _ in range(times):
            if job not in self.held() or self.is_late(job):
                return
            self.gate.claim(job)
            self.renew()
            route = self.gate.record(job)["route"]
            self.gate.store.redis.zadd(keys.held(route), {job: 1})
            tokens, usd = self.charged(job)
            self.gate.sweep()
            after = self.charged(job)
            self.passed.pop(job).tokens = after[0] - tokens
            self.spent[self.tenant[job], self.today] += after[1] - usd
            if self.gate.record(job)["state"] == "failed":
                self.end(job)
                return
            self.admit()

    def charged(self, job: str) -> tuple[int, float]:
        """Tokens and USD that its tenant's account of today has, on all routes."""
        fields = self.gate.store.redis.hgetall(keys.usage(self.tenant[job], self.today))
        tokens = sum(int(value) for name, value in fields.items() if name.endswith(b"tokens"))
        usd = sum(float(value) for name, value in fields.items() if name.endswith(b" usd"))
        return tokens, usd

    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        if self.live:
            job = data.draw(st.sampled_from(sorted(self.live)))
            self.gate.run(commands.cancel(job, "test"))
            self.look_for_cancelled()
            assert job in self.ended

    @invariant()
    def no_limit_is_exceeded(self) -> None:
        redis = self.gate.store.redis
        running = redis.scard(keys.CATALOGUE["running"] + "narrow")
        assert running <= (TENANTS["narrow"].concurrency or 0)
        for name, route in ROUTES.items():
            assert redis.zcard(keys.held(name)) <= route.concurrency
        self.keep_to_every_minute()

    def keep_to_every_minute(self) -> None:
        """Of those that end with an admission, too: a step may make several, at several times."""
        now, narrow = self.gate.now, TENANTS["narrow"]
        assert len(self.ledger.within(now, "narrow")) <= (narrow.requests_per_minute or 0)
        for name, route in ROUTES.items():
            passed = self.ledger.within(now, route=name)
            assert len(passed) <= (route.requests_per_minute or len(passed))
            within_tokens(passed, route.tokens_per_minute or 0)
        within_tokens(self.ledger.within(now, "poor"), TENANTS["poor"].tokens_per_minute or 0)

    @invariant()
    def what_is_reserved_is_what_is_held(self) -> None:
        held = self.held()
        for job, reserved in self.gate.pluck(self.tenant, "reserved"):
            assert (reserved is not None) == (job in held)
        owners = Counter(self.tenant[job] for job in held)
        for tenant in TENANTS:
            assert self.gate.store.redis.scard(keys.CATALOGUE["running"] + tenant) == owners[tenant]

    @invariant()
    def reservations_add_up(self) -> None:
        """A minute's window holds what its jobs have used or reserved, and so does a budget."""
        first = int((self.gate.now - MINUTE) // 0.5)
        for route in ROUTES:
            steps = self.gate.store.redis.hgetall(keys.CATALOGUE["window"] + route)
            total = int(steps.pop(b"sum", 0))
            steps.pop(b"from", None)
            assert total == sum(map(int, steps.values()))
            passed = (entry for entry in self.ledger.entries if entry.route == route)
            mine = sum(round(entry.tokens) for entry in passed if entry.at // 0.5 >= first)
            assert mine == sum(int(tokens) for step, tokens in steps.items() if int(step) >= first)
        held = [self.gate.record(job) for job in self.held() if self.tenant[job] == "poor"]
        today = [each for each in held if date_of(float(each["admitted_at"])) == self.today]
        reserved = sum(float(record["reserved_usd"]) for record in today)
        assert self.of_budget() == pytest.approx(
            self.spent["poor", self.today] + reserved, abs=1e-9
        )

    @invariant()
    def every_job_is_in_one_place(self) -> None:
        """Waiting, due, held, in its conversation's line, late, or ended: never two, never none."""
        redis = self.gate.store.redis
        places = [redis.zrange(key, 0, -1) for key in redis.scan_iter("penstock:backlog:*")]
        places += [redis.zrange(key, 0, -1) for key in redis.scan_iter("penstock:held:*")]
        places += [redis.zrange(key, 0, -1) for key in redis.scan_iter("penstock:suspects:*")]
        places += [redis.zrange(keys.DUE, 0, -1)]
        found = Counter(job.decode() for place in places for job in place)
        lines = [redis.zrange(key, 1, -1) for key in redis.scan_iter("penstock:conversation:*")]
        found.update(job.decode() for line in lines for job in line)
        found.update(self.too_late())
        assert found == Counter(self.live)

    def too_late(self) -> list[str]:
        """The jobs that were taken out of their lines, for the sweep to end: they are due at once.

        That may be before their deadlines, or after them.
        """
        due = self.gate.store.redis.zrange(keys.CATALOGUE["deadlines"], 0, -1, withscores=True)
        ends = {job.decode(): at for job, at in due}
        told = self.gate.pluck(ends, "deadline")
        return [job for job, deadline in told if abs(ends[job] - float(deadline)) > INSTANT]

    @invariant()
    def what_has_ended_stays_so(self) -> None:
        for job, final in self.gate.pluck(self.ended, "final"):
            assert final == self.ended[job]

    @invariant()
    def virtual_time_never_goes_back(self) -> None:
        for route in ROUTES:
            told = float(self.gate.store.redis.hget(keys.gate(route), "virtual_time") or 0)
            assert told >= self.virtual_time[route]
            self.virtual_time[route] = told


LONG = (pytest.mark.chaos, pytest.mark.timeout(1800))

INSTANT = 0.000002
"""Seconds by which two stamps of one moment may differ."""

PHASES = (Phase.explicit, Phase.reuse, Phase.generate)
"""No shrinking: an example takes a second, and shrinking takes hundreds of them."""


@pytest.mark.parametrize("examples", [12, pytest.param(300, marks=LONG)])
def test_no_order_of_events_exceeds_a_limit(server: EmbeddedServer, examples: int) -> None:
    """Whatever happens in whatever order, no limit is exceeded in any minute, and nothing leaks."""
    GateLife.server = server
    profile = hypothesis_settings(
        max_examples=examples, stateful_step_count=30, phases=PHASES,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )  # fmt: skip
    run_state_machine_as_test(GateLife, settings=profile)


@pytest.fixture
def gate_of(server: EmbeddedServer) -> Any:
    """Makes gates."""
    return lambda route, tenants=None: Gate(server.url, route, tenants)


def saturate(gate: Gate, ledger: Ledger, seconds: float, tokens: int) -> None:
    """Keep the gate busy: what passes is answered within a second or so."""
    under_way: list[tuple[float, str]] = []
    end = gate.now + seconds
    while gate.now < end:
        if len(gate.store.redis.zrange("penstock:backlog:default:default", 0, 199)) < 100:
            gate.submit_many(100)
        gate.admit()
        for job in gate.rung():
            ledger.entries.append(Passed(gate.now, "default", tokens))
            under_way.append((gate.now + 1, job))
        while under_way and under_way[0][0] <= gate.now:
            gate.finish(under_way.pop(0)[1], tokens)
        gate.now += 0.25


@pytest.mark.parametrize(
    ("route", "tokens", "allowance", "share"),
    [
        (RouteOverrides(requests_per_minute=300, burst=10), 1, 300, 0.98),
        (RouteOverrides(tokens_per_minute=60_000), 200, 60_000, 0.98),
        (RouteOverrides(tokens_per_minute=60_000), 2_500, 60_000, 0.95),
    ],
    ids=["requests", "tokens", "tokens in large pieces"],
)
def test_all_of_a_limit_is_used_and_no_more(
    gate_of: Any, route: RouteOverrides, tokens: int, allowance: int, share: float
) -> None:
    """After the first minute nearly all of the allowance passes, and in no minute more.

    What cannot be used is less than one job and half a second.
    """
    gate, ledger = gate_of(route), Ledger()
    saturate(gate, ledger, MINUTE, tokens)
    start = gate.now
    saturate(gate, ledger, 2 * MINUTE, tokens)
    unit = 1 if route.requests_per_minute else tokens
    used = unit * sum(entry.at >= start for entry in ledger.entries)
    assert used >= share * 2 * allowance
    moments = {entry.at for entry in ledger.entries if entry.at > start - MINUTE}
    assert max(unit * len(ledger.within(now)) for now in moments) <= allowance


def test_a_tenant_uses_all_its_tokens_and_no_more(gate_of: Any) -> None:
    """In no minute more than it may, nearly all of that, and it holds no other up meanwhile."""
    gate = gate_of(RouteOverrides(concurrency=50), {"small": Tenant(tokens_per_minute=6000)})
    passed: list[float] = []
    others = 0
    gate.submit_many(400, "small", max_tokens=100)
    for _ in range(3 * 60):
        other = gate.submit()
        gate.admit()
        for job in gate.rung():
            gate.finish(job, 100)
            others += job == other
            passed += [gate.now] if job != other else []
        gate.now += 1
    assert len(passed) >= 3 * 60 * 0.97
    assert max(sum(at - MINUTE < each <= at for each in passed) for at in passed) <= 60
    assert others == 3 * 60


def test_a_job_larger_than_the_limit_runs_alone(gate_of: Any) -> None:
    """It passes when nothing else was let through for a minute, and then nothing else does."""
    gate = gate_of(RouteOverrides(tokens_per_minute=1000))
    gate.store.redis.hset(keys.gate("default"), "output_estimate", 5000)
    gate.submit_many(2)
    assert gate.admit().admitted == 1
    gate.finish(gate.rung()[0], 5000)
    for _ in range(61):
        gate.now += 1
        assert gate.admit().admitted == 0
    gate.now += 240  # five minutes of tokens are paid for
    assert gate.admit().admitted == 1


def test_a_tenant_at_its_limit_blocks_nobody(gate_of: Any) -> None:
    """Jobs of a tenant that may not run more are passed over until one of its own ends."""
    gate = gate_of(RouteOverrides(concurrency=10), {"narrow": Tenant(concurrency=2)})
    narrow, other = gate.submit_many(20, "narrow"), gate.submit_many(5, "other")
    assert gate.admit().admitted == 7
    passed = gate.rung()
    assert set(other) < set(passed)
    assert sum(job in narrow for job in passed) == 2
    gate.finish(next(job for job in passed if job in narrow), 1)
    assert gate.admit().admitted == 1


def test_a_tenants_rate_is_kept_and_used(gate_of: Any) -> None:
    """A tenant's requests a minute hold over its jobs, and it goes on as soon as they allow."""
    gate = gate_of(RouteOverrides(), {"metered": Tenant(requests_per_minute=60, burst=20)})
    gate.submit_many(200, "metered")
    passed = 0
    for _ in range(600):
        passed += gate.admit().admitted
        for job in gate.rung():
            gate.finish(job, 1)
        gate.now += 0.2
    assert 98 <= passed <= 120


def test_shares_follow_the_weights(gate_of: Any) -> None:
    """Under saturation tenants get tokens by their weights, however long their answers are."""
    weights = {"one": 1, "two": 2, "four": 4}
    lengths = {"one": 300, "two": 50, "four": 1100}
    gate = gate_of(
        RouteOverrides(concurrency=8), {name: Tenant(weight=w) for name, w in weights.items()}
    )
    owner: dict[str, str] = {}
    used: Counter[str] = Counter()
    for name in weights:
        owner |= dict.fromkeys(gate.submit_many(60, name), name)
    waiting = Counter(owner.values())
    while min(waiting.values()) > 5:
        gate.admit()
        for job in gate.rung():
            name = owner[job]
            gate.finish(job, lengths[name])
            used[name] += lengths[name]
            waiting[name] -= 1
            for refill in gate.submit_many(1, name):
                owner[refill] = name
                waiting[name] += 1
        gate.now += 0.1
        if sum(used.values()) > 250_000:
            break
    total = sum(used.values())
    for name, weight in weights.items():
        assert used[name] / total == pytest.approx(weight / 7, rel=0.03)


def test_a_long_line_does_not_hold_up_a_short_one(gate_of: Any) -> None:
    """Of a tenant with few jobs each starts within two service times of one with very many."""
    gate = gate_of(RouteOverrides(concurrency=4))
    gate.submit_many(500, "long")
    gate.admit()
    short = set(gate.submit_many(20, "short"))
    rounds = 0
    while short:
        for job in gate.rung():
            short.discard(job)
            gate.finish(job, 100)
        gate.admit()
        rounds += 1
    assert rounds <= 2 + 20 / 2


def test_a_call_looks_at_so_many_turns(gate_of: Any) -> None:
    """Thousands of tenants at their own limits are looked at in portions, and hold nobody up."""
    held_up = {f"t{number:03}": Tenant(concurrency=1) for number in range(500)}
    gate = gate_of(RouteOverrides(concurrency=2000), held_up)
    for tenant in held_up:
        gate.submit_many(2, tenant)
    admitted, calls = 0, 0
    while (admission := gate.admit()).wait == 0.001 or admission.admitted:
        admitted += admission.admitted
        calls += 1
        if calls == 3:
            last = gate.submit("zzz")
    assert admitted == 501
    assert last in gate.rung()
    assert 500 / 200 <= calls <= 10
    assert gate.admit().wait is None


def test_tenants_that_wake_up_together_have_their_turns_in_order(gate_of: Any) -> None:
    """Who comes first is served first, whatever the names, also while others keep coming."""
    gate = gate_of(RouteOverrides(concurrency=1))
    first = gate.submit("zz")
    gate.admit()
    others = [gate.submit(f"t{number}") for number in (5, 3, 9, 1)]
    order = []
    for number in range(6):
        (job,) = gate.rung()
        order.append(job)
        gate.finish(job, 100)
        gate.submit(f"a{number}")
        gate.admit()
    assert order[:5] == [first, *others]


def test_what_came_to_nothing_costs_no_turn(gate_of: Any) -> None:
    """A job that is handed back before its first word gives its tenant's turn back."""
    gate = gate_of(RouteOverrides(concurrency=1))
    ours, _ = gate.submit("ours"), gate.submit("theirs")
    gate.admit()
    holder = gate.claim(ours)
    before = gate.store.redis.zscore(keys.served("default"), "ours")
    gate.run(commands.requeue(ours, holder, "worker_stopped", 0, "handback", None, Feedback("")))
    after = gate.store.redis.zscore(keys.turns("default"), "ours")
    assert after < 1 < before  # a hair, see place.lua


def test_failing_is_no_way_to_the_front(gate_of: Any) -> None:
    """A tenant whose jobs are all refused gets its share of starts, and no more."""
    gate = gate_of(RouteOverrides(concurrency=20, requests_per_minute=60, burst=10))
    jobs = gate.submit_many(10)
    for _ in range(20):
        gate.admit()
        for job in gate.rung():
            gate.finish(job, 500)
        gate.now += 1
    assert {gate.record(job)["state"] for job in jobs} == {"completed"}
    gate.submit_many(200, "bad")
    gate.submit_many(200, "good")
    starts: Counter[str] = Counter()
    for _ in range(240):
        gate.admit()
        for job in gate.rung():
            tenant = gate.record(job)["tenant"]
            starts[tenant] += 1
            if tenant == "good":
                gate.finish(job, 500)
            else:
                refused = commands.finish(job, gate.claim(job), JobState.FAILED, 2, {})
                assert gate.run(refused).accepted
        gate.now += 0.25
    assert abs(starts["good"] - starts["bad"]) <= 3
    assert starts["good"] > 20


def test_a_suspect_keeps_its_tenants_limits(gate_of: Any) -> None:
    """A suspect takes nobody's turn, but no more than its tenant may, and nothing too late."""
    gate = gate_of(
        RouteOverrides(prices=EXPENSIVE),
        {"one": Tenant(concurrency=1), "poor": Tenant(budget_day=1)},
    )
    gate.submit("one")
    spent = gate.submit("poor", max_tokens=2)
    gate.admit()
    gate.finish(spent, 2, usd=2)
    suspects = [gate.submit("one"), gate.submit("poor"), gate.submit("late", deadline=1)]
    free = gate.submit("free")
    for job in (*suspects, free):
        gate.make_suspect(job)
    gate.now += 5
    gate.rung()
    gate.admit()
    assert gate.rung() == [free]
    gate.sweep()
    assert [gate.record(job)["state"] for job in suspects] == ["queued", "queued", "expired"]


def test_limits_that_are_taken_back_hold_nobody(gate_of: Any, server: EmbeddedServer) -> None:
    """Who waits at its own limit goes on when it is gone, also on a route that is no more."""
    one, old = {"n": Tenant(concurrency=1)}, {"old": RouteOverrides()}
    gate = Gate(server.url, RouteOverrides(), one, old)
    first, second = gate.submit_many(2, "n", route="old")
    gate.admit(route="old")
    assert gate.rung("old") == [first]
    gate.run(commands.apply(Settings.load(redis_url=server.url)))
    gate.admit(route="old")
    assert gate.rung("old") == [second]


def test_a_suspect_is_not_starved(gate_of: Any) -> None:
    """A large suspect on a busy route has its turn though small jobs would always fit before it."""
    gate = gate_of(RouteOverrides(concurrency=50, tokens_per_minute=60_000))
    gate.store.redis.hset(keys.gate("default"), "output_estimate", 7000)
    suspect = gate.submit("s", max_tokens=7000)
    gate.make_suspect(suspect)
    gate.store.redis.hset(keys.gate("default"), "tokens_paid", f"{gate.now + 5.9:.6f}")
    for _ in range(100):
        gate.submit_many(20, max_tokens=200)
        gate.admit()
        rung = gate.rung()
        if suspect in rung:
            return
        for job in rung:
            gate.finish(job, 200)
        gate.now += 0.25
    pytest.fail("it never passed")


def test_a_large_job_of_a_full_tenant_holds_nobody_up(gate_of: Any) -> None:
    """A tenant at its own limit is passed by, however much room its next job would need."""
    gate = gate_of(
        RouteOverrides(concurrency=50, tokens_per_minute=60_000), {"full": Tenant(concurrency=1)}
    )
    gate.store.redis.hset(keys.gate("default"), "output_estimate", 50_000)
    gate.submit("full", max_tokens=20_000)
    gate.admit()
    (running,) = gate.rung()
    gate.claim(running)
    gate.now += 20  # its tokens are paid for, and in the minute's window still
    gate.submit("full", max_tokens=50_000)
    others = gate.submit_many(5, "other", max_tokens=200)
    gate.admit()
    assert gate.rung() == others


def test_only_the_probe_closes_the_breaker(gate_of: Any) -> None:
    """Streams that began before the upstream broke say nothing of how it does now."""
    gate = gate_of(RouteOverrides(concurrency=20))
    gate.submit_many(20)
    gate.admit()
    jobs = gate.rung()
    holders = {job: gate.claim(job) for job in jobs}
    for job in jobs[:5]:
        broken = commands.requeue(job, holders[job], "t", 60, "retry", None, Feedback("broken"))
        gate.run(broken)
    assert gate.end(jobs[10], holders[jobs[10]], 10).news == ()
    assert gate.admit().breaker == "open"
    gate.now += 5.1
    gate.submit()
    gate.admit()
    (probe,) = gate.rung()
    assert gate.end(jobs[11], holders[jobs[11]], 10).news == ()
    assert gate.finish(probe, 10).news == (("closed", ""),)


def test_one_slow_answer_does_not_expire_all_others(gate_of: Any) -> None:
    """What jobs are held to be too late by is tried again: else nothing would ever be learned."""
    gate = gate_of(RouteOverrides(concurrency=5))
    slow = gate.submit()
    gate.admit()
    gate.rung()
    holder = gate.claim(slow)
    gate.now += 120
    gate.end(slow, holder, 5000)
    states = Counter[str]()
    for _ in range(50):
        job = gate.submit(deadline=60)
        gate.admit()
        for rung in gate.rung():
            gate.finish(rung, 10)
        gate.sweep()
        states[gate.record(job)["state"]] += 1
        gate.now += 60
    assert states["completed"] > 40


def test_limits_that_come_and_go_leave_nothing_behind(gate_of: Any) -> None:
    """What was reserved under one configuration is given back under another, and only that."""
    budget = {"poor": Tenant(budget_month=100)}
    gate = gate_of(RouteOverrides(prices=EXPENSIVE), budget)
    with_budget = gate.settings
    job = gate.submit("poor", max_tokens=60)
    gate.admit()
    holder = gate.claim(job)
    gate.settings = with_budget.applying(
        {"default": RouteOverrides(prices=EXPENSIVE, tokens_per_minute=60_000)}, {}
    )
    gate.register()
    gate.end(job, holder, 5, usd=5)
    gate.settings = with_budget
    gate.register()
    assert float(gate.store.redis.hget("penstock:tenant:poor", "month_usd")) == pytest.approx(5)
    assert not gate.store.redis.exists(keys.CATALOGUE["window"] + "default")


@pytest.mark.parametrize(("per_minute", "share"), [(10, 0.9), (60, 0.97), (300, 0.97)])
def test_small_limits_of_requests_are_used_too(gate_of: Any, per_minute: int, share: float) -> None:
    """What may pass at once comes off the rate, so it is kept small where the limit is."""
    gate = gate_of(RouteOverrides(requests_per_minute=per_minute, burst=10))
    gate.submit_many(5 * per_minute)
    passed = []
    for _ in range(4 * 60 * 10):
        if gate.admit().admitted:
            for job in gate.rung():
                gate.finish(job, 1)
                passed.append(gate.now)
        gate.now += 0.1
    used = sum(at >= passed[0] + MINUTE for at in passed) / (3 * per_minute)
    assert used >= share
    assert max(sum(at - MINUTE < each <= at for each in passed) for at in passed) <= per_minute


def test_a_tenants_rate_says_when_it_has_room(gate_of: Any) -> None:
    """Where only tenants at their own rates wait, the gate says when to look again."""
    gate = gate_of(RouteOverrides(), {"slow": Tenant(requests_per_minute=60, burst=1)})
    gate.submit_many(5, "slow")
    admission = gate.admit()
    assert admission.admitted == 1
    assert admission.wait == pytest.approx(1, abs=0.05)


def test_suspects_that_may_not_run_are_passed_by(gate_of: Any) -> None:
    """However many of one tenant's are held up by its budget, another's has its turn."""
    gate = gate_of(RouteOverrides(prices=EXPENSIVE), {"poor": Tenant(budget_day=1)})
    spent = gate.submit("poor", max_tokens=2)
    gate.admit()
    gate.finish(spent, 2, usd=2)
    gate.rung()
    held_up, free = gate.submit_many(40, "poor"), gate.submit("free")
    for job in (*held_up, free):
        gate.make_suspect(job)
    rung: list[str] = []
    for _ in range(5):
        gate.now += 0.5
        gate.admit()
        rung += gate.rung()
    assert rung == [free]


def test_a_lost_workers_answer_is_charged(gate_of: Any) -> None:
    """What was streamed before the worker died costs its tenant, as an estimate."""
    gate = gate_of(RouteOverrides(prices=EXPENSIVE), {"poor": Tenant(budget_day=1000)})
    gate.now = datetime(2027, 1, 31, 12, tzinfo=UTC).timestamp()
    job = gate.submit("poor")
    gate.admit()
    holder = gate.claim(job)
    said = '{"choices":[{"index":0,"delta":{"content":"' + "word " * 40 + '"}}]}'
    assert gate.run(commands.append([job, holder, 2, said, job, holder, 3, said])) == []
    gate.store.redis.zadd(keys.held("default"), {job: 1})
    gate.sweep()
    (row,) = usage.rows(
        "poor", "2027-01-31", gate.store.redis.hgetall(keys.usage("poor", "2027-01-31"))
    )
    assert row.completion_tokens == pytest.approx(100, rel=0.3)  # 400 letters
    assert row.usd == row.estimated_usd == row.completion_tokens
    assert float(gate.store.redis.hget("penstock:tenant:poor", "day_usd")) == row.usd


HOUR = 3600.0
LARGEST = 2000
"""Tokens."""

SHARED = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
"""One server serves all examples, each with a gate of its own; the other is the profile's."""


@given(arrivals=st.lists(st.tuples(st.floats(0, 5 * HOUR), st.integers(0, 9)), max_size=12))
@hypothesis_settings(max_examples=40, suppress_health_check=SHARED)
def test_nothing_starves(gate_of: Any, arrivals: list[tuple[float, int]]) -> None:
    """One step of priority is worth an hour: no job waits for those that came nine hours later."""
    gate = gate_of(RouteOverrides(concurrency=100))
    came: dict[str, tuple[float, int]] = {}
    for gap, priority in arrivals:
        gate.now += gap
        came[gate.submit(priority=priority)] = gate.now, priority
    gate.admit()
    order = [came[job] for job in gate.rung()]
    assert len(order) == len(arrivals)
    for (earlier, first), (later, second) in itertools.pairwise(order):
        assert earlier - first * HOUR <= later - second * HOUR
        assert earlier - later <= 9 * HOUR


@given(
    weights=st.lists(st.integers(1, 8), min_size=2, max_size=4),
    sizes=st.lists(st.integers(1, LARGEST), min_size=40, max_size=40),
)
@hypothesis_settings(max_examples=15, suppress_health_check=SHARED)
def test_no_tenant_lags_behind_another(gate_of: Any, weights: list[int], sizes: list[int]) -> None:
    """Of two that wait, neither is served more by weight than the other, but for a job of each.

    It is the bound of start-time fair queueing (Goyal, Vin and Cheng, 1996, theorem 1).
    """
    tenants = {f"t{number}": Tenant(weight=weight) for number, weight in enumerate(weights)}
    gate = gate_of(RouteOverrides(concurrency=1), tenants)
    jobs = {job: name for name in tenants for job in gate.submit_many(len(sizes), name)}
    served = dict.fromkeys(tenants, 0.0)
    for size in sizes:
        gate.admit()
        (job,) = gate.rung()
        gate.finish(job, size)
        served[jobs[job]] += size / tenants[jobs[job]].weight
        for one, other in itertools.combinations(tenants, 2):
            bound = LARGEST / tenants[one].weight + LARGEST / tenants[other].weight
            assert abs(served[one] - served[other]) <= bound + 1


def test_a_pause_holds_for_everybody(gate_of: Any) -> None:
    """After a 429 with Retry-After nothing is admitted for so long, and less at a time then."""
    gate = gate_of(RouteOverrides(concurrency=5))
    gate.submit_many(10)
    gate.admit()
    first, second, *_ = gate.rung()
    assert gate.retry(first, Feedback("busy", 7)).news == (("slowed", "3"), ("paused", "7.000"))
    assert gate.retry(second, Feedback("busy", 7)).news == ()
    gate.now += 6.9
    admission = gate.admit()
    assert (admission.admitted, admission.wait) == (0, pytest.approx(0.1, abs=0.001))
    gate.now += 0.2
    assert (gate.admit().allowed, gate.admit().in_use) == (2, 3)


def test_a_limit_that_went_is_forgotten(gate_of: Any) -> None:
    """What was let through far beyond a limit is not held against the one that comes later."""
    limited = RouteOverrides(tokens_per_minute=1000)
    gate = gate_of(limited)
    gate.submit(messages=[{"role": "user", "content": "m" * 40_000}])
    gate.submit_many(5)
    assert [gate.admit().admitted, gate.admit().admitted] == [1, 0]
    gate.settings = gate.settings.applying({"default": RouteOverrides()}, {})
    gate.register()
    assert gate.admit(3).admitted == 3
    gate.now += 61  # the window is empty; the large job alone is worth ten minutes
    gate.settings = gate.settings.applying({"default": limited}, {})
    gate.register()
    assert gate.admit().admitted == 1


def test_a_busy_upstream_gets_less_and_then_more(gate_of: Any) -> None:
    """A volley of 429s cuts concurrency once, below what was served; it comes back within 30 s."""
    gate = gate_of(RouteOverrides(concurrency=100, concurrency_min=10))
    gate.submit_many(300)
    gate.admit()
    first = gate.rung()
    assert gate.retry(first[0], Feedback("busy"), delay=60).news == (("slowed", "79"),)
    for job in first[1:40]:
        assert gate.retry(job, Feedback("busy"), delay=60).news == ()  # these knew of no cut
    assert gate.admit().allowed == 60 * 4 // 5  # 60 were served
    allowed = []
    for _ in range(60):
        gate.now += 0.5
        allowed.append(gate.admit().allowed)
    assert allowed == sorted(allowed)
    assert allowed[-1] == 100


def test_concurrency_never_falls_below_its_least(gate_of: Any) -> None:
    """However often the upstream is busy, `concurrency_min` jobs may run."""
    gate = gate_of(RouteOverrides(concurrency=20, concurrency_min=5))
    for _ in range(20):
        gate.submit_many(5)
        gate.admit()
        for job in gate.rung()[:1]:
            gate.retry(job, Feedback("busy"), delay=60)
        gate.now += 0.01
    assert gate.admit().allowed == 5


def test_a_broken_upstream_is_left_alone_then_tried_by_one(gate_of: Any) -> None:
    """Five failures in a row open the breaker; one probe decides whether it closes."""
    gate = gate_of(RouteOverrides(concurrency=20))
    gate.submit_many(20)
    gate.admit()
    jobs = gate.rung()
    news = [gate.retry(job, Feedback("broken"), delay=600).news for job in jobs[:5]]
    assert news == [(), (), (), (), (("opened", "5"),)]
    gate.submit_many(3)
    assert (gate.admit().admitted, gate.admit().breaker) == (0, "open")
    gate.now += 5.1
    assert (gate.admit().admitted, gate.admit().admitted) == (1, 0)
    (probe,) = gate.rung()
    assert gate.retry(probe, Feedback("broken"), delay=600).news == (("opened", "10"),)
    gate.now += 10.1
    assert gate.admit().admitted == 1
    (probe,) = gate.rung()
    assert gate.finish(probe, 1).news == (("closed", ""),)
    assert gate.admit().breaker == "closed"


def test_a_busy_probe_opens_the_breaker_again(gate_of: Any) -> None:
    """Who cannot take the one probe gets no second one at once."""
    gate = gate_of(RouteOverrides(concurrency=20))
    gate.break_upstream()
    gate.submit_many(20)
    gate.now += 5.1
    gate.admit()
    (probe,) = gate.rung()
    assert ("opened", "10") in gate.retry(probe, Feedback("busy"), delay=60).news
    assert gate.admit().admitted == 0


def test_a_probe_needs_a_place_too(gate_of: Any) -> None:
    """Where a limit was lowered below what runs, the half-open breaker lets nobody beyond it."""
    gate = gate_of(RouteOverrides(concurrency=4))
    gate.submit_many(6)
    gate.admit()
    running = gate.rung()
    gate.settings = gate.settings.applying({"default": RouteOverrides(concurrency=2)}, {})
    gate.register()
    gate.break_upstream()
    gate.now += 5.1
    for job in running[:3]:
        assert (gate.admit().admitted, gate.admit().breaker) == (0, "half open")
        gate.finish(job, 1)
    assert (gate.admit().admitted, gate.admit().admitted) == (1, 0)


def test_an_upstream_that_is_down_slows_and_opens(gate_of: Any) -> None:
    """A 503 that says nothing of when may be a balancer with nobody behind it."""
    gate = gate_of(RouteOverrides(concurrency=20))
    gate.submit_many(20)
    gate.admit()
    news = [gate.retry(job, Feedback("down"), delay=60).news for job in gate.rung()[:5]]
    assert news[0] == (("slowed", "15"),)
    assert news[4] == (("opened", "5"),)


def test_an_answer_in_between_keeps_the_breaker_closed(gate_of: Any) -> None:
    """Failures count only in a row."""
    gate = gate_of(RouteOverrides(concurrency=50))
    gate.submit_many(40)
    gate.admit()
    for number, job in enumerate(gate.rung()):
        if number % 5 == 4:
            gate.finish(job, 1)
        else:
            assert gate.retry(job, Feedback("broken"), delay=600).news == ()


def test_retries_have_a_budget(gate_of: Any) -> None:
    """A thousand failures at once come back at ten a second, not all together."""
    gate = gate_of(RouteOverrides(concurrency=200))
    gate.submit_many(200)
    gate.admit()
    for job in gate.rung():
        gate.retry(job, Feedback("busy", 0.001))
    due = sorted(score for _, score in gate.store.redis.zrange(keys.DUE, 0, -1, withscores=True))
    assert len(due) > 150
    assert 0 < 200 / (10 + 0.2 * 200 / 60) - (due[-1] - gate.now) < 3  # a second's worth at once


def test_retries_do_not_raise_their_own_budget(gate_of: Any) -> None:
    """Jobs that pass again are no first attempts, and those fade over the minute after theirs."""
    gate = gate_of(RouteOverrides(concurrency=200))
    gate.now = 1_000_020.0  # a minute begins
    gate.submit_many(120)
    gate.admit()
    for job in gate.rung():
        gate.retry(job, Feedback("broken"), delay=0)
    gate.now += 30
    gate.sweep()
    gate.admit()
    traffic = gate.store.redis.hgetall(f"penstock:traffic:default:{gate.now // 60:.0f}")
    assert int(traffic[b"admitted"]) - int(traffic[b"again"]) == 120


def test_a_conversation_is_held_one_job_at_a_time(gate_of: Any) -> None:
    """Jobs of a conversation run one after the other in their order, whatever their priority."""
    gate = gate_of(RouteOverrides())
    talk = [gate.submit(conversation="c", priority=p) for p in (0, 9, 5)]
    other = gate.submit(conversation="d")
    gate.admit()
    assert set(gate.rung()) == {talk[0], other}
    gate.finish(other, 1)
    gate.retry(talk[0], Feedback(), delay=5)
    assert gate.admit().admitted == 0  # the first one keeps its place while it waits for its retry
    gate.now += 6
    gate.sweep()
    for job in talk:
        gate.admit()
        assert gate.rung() == [job]
        gate.finish(job, 1)
    assert not gate.store.redis.exists("penstock:conversation:default:c")


def test_a_cancelled_job_lets_its_conversation_go_on(gate_of: Any) -> None:
    """Whoever leaves the line, first or last, holds nobody up."""
    gate = gate_of(RouteOverrides())
    first, second, third = gate.submit_many(3, conversation="c")
    gate.run(commands.cancel(second, "test"))
    gate.run(commands.cancel(first, "test"))
    gate.admit()
    assert gate.rung() == [third]


@pytest.mark.parametrize(
    ("on_busy", "states"),
    [
        ("enqueue", ["running", "queued", "queued"]),
        ("interrupt", ["running", "queued", "queued"]),
        ("replace", ["running", "cancelled", "queued"]),
    ],
)
def test_a_new_job_may_make_way_for_itself(gate_of: Any, on_busy: str, states: list[str]) -> None:
    """`interrupt` tells the running job's worker to stop it, `replace` drops those that wait."""
    gate = gate_of(RouteOverrides())
    first, second = gate.submit_many(2, conversation="c")
    gate.admit()
    gate.claim(first)
    third = gate.submit(conversation="c", on_busy=on_busy)
    records = [gate.record(job) for job in (first, second, third)]
    assert [record["state"] for record in records] == states
    assert records[0].get("cancel_reason") == ("interrupted" if on_busy == "interrupt" else None)


def test_a_busy_conversation_may_refuse(gate_of: Any) -> None:
    """`reject` is an error that names the job the conversation is at; nothing is stored."""
    gate = gate_of(RouteOverrides())
    first = gate.submit(conversation="c", on_busy="reject")
    with pytest.raises(ConversationBusy, match=first):
        gate.submit(conversation="c", on_busy="reject")
    assert gate.store.redis.zcard(keys.jobs("default")) == 1


EXPENSIVE = Prices(input=0, output=1_000_000)
"""One USD a token."""


def test_a_budget_is_kept_and_goes_on_when_the_day_turns(gate_of: Any) -> None:
    """What is spent and reserved stays within the budget; held jobs run the next day."""
    gate = gate_of(RouteOverrides(prices=EXPENSIVE), {"poor": Tenant(budget_day=100)})
    gate.submit_many(50, "poor", max_tokens=10)
    assert gate.admit().admitted == 10  # all of it is reserved
    for job in gate.rung():
        gate.finish(job, 8, usd=8)
    assert gate.admit().admitted == 2  # 80 are spent, and 20 reserved
    for job in gate.rung():
        gate.finish(job, 10, usd=10)
    assert gate.admit().admitted == 0
    other = gate.submit("rich", max_tokens=10)
    gate.admit()
    assert gate.rung() == [other]
    gate.now += 86_400
    assert gate.admit().admitted >= 10  # more, now that answers are known to be shorter


def test_a_budget_counts_what_was_spent_before_it_was_set(gate_of: Any) -> None:
    """Of the day that has begun, and of a job that runs then."""
    gate = gate_of(RouteOverrides(prices=EXPENSIVE))
    running, ended = gate.submit_many(2, "poor", max_tokens=10)
    gate.admit()
    gate.finish(ended, 7, usd=7)
    holder = gate.claim(running)
    gate.settings = gate.settings.applying(
        {"default": RouteOverrides(prices=EXPENSIVE)}, {"poor": Tenant(budget_day=20)}
    )
    gate.register()
    gate.end(running, holder, 8, usd=8)
    gate.submit("poor", max_tokens=6)
    assert gate.admit().admitted == 0  # 15 are spent
    gate.now += 86_400
    assert gate.admit().admitted == 1


def test_what_the_budget_has_no_room_for_may_be_refused(gate_of: Any) -> None:
    """With `reject` nothing is accepted that could only wait for the next day."""
    poor = Tenant(budget_day=100, over_budget="reject")
    gate = gate_of(RouteOverrides(prices=EXPENSIVE), {"poor": poor})
    for _ in range(12):
        job = gate.submit("poor", max_tokens=8)
        gate.admit()
        gate.rung()
        gate.finish(job, 8, usd=8)
    with pytest.raises(BudgetSpent):
        gate.submit("poor", max_tokens=8)
    fits = gate.submit("poor", max_tokens=4)
    assert gate.record(fits)["state"] == "queued"


def test_a_month_turns_too(gate_of: Any) -> None:
    """A month's budget holds over its days, whatever the month's length."""
    gate = gate_of(RouteOverrides(prices=EXPENSIVE), {"poor": Tenant(budget_month=30)})
    gate.now = datetime(2028, 2, 28, 23, tzinfo=UTC).timestamp()  # a leap year
    gate.submit_many(3, "poor", max_tokens=30)
    assert gate.admit().admitted == 1
    gate.finish(gate.rung()[0], 30, usd=30)
    gate.now += 86_400  # the 29th
    assert gate.admit().admitted == 0
    gate.now += 3_600  # the 1st of March
    assert gate.admit().admitted == 1


def test_a_spent_budget_may_refuse(gate_of: Any) -> None:
    """With `reject` a tenant without money left gets an error, and nothing is stored."""
    poor = Tenant(budget_day=10, over_budget="reject")
    gate = gate_of(RouteOverrides(prices=EXPENSIVE), {"poor": poor})
    gate.submit("poor", max_tokens=30)
    gate.admit()
    gate.finish(gate.rung()[0], 12, usd=12)
    with pytest.raises(BudgetSpent, match="wait for the next day"):
        gate.submit("poor")
    gate.now += 86_400
    gate.submit("poor")


def test_what_was_reserved_yesterday_is_not_given_back_today(gate_of: Any) -> None:
    """A job that ends after midnight is charged to the new day, in full."""
    gate = gate_of(RouteOverrides(prices=EXPENSIVE), {"poor": Tenant(budget_day=100)})
    gate.submit_many(9, "poor", max_tokens=50)
    assert gate.admit().admitted == 2
    gate.now += 86_400
    gate.store.redis.zadd(keys.held("default"), dict.fromkeys(gate.held(), gate.now + 99))
    for job in gate.rung():
        gate.finish(job, 30, usd=30)
    assert gate.store.redis.hget("penstock:tenant:poor", "day_usd") == b"60.000000000000"


def test_what_was_used_is_counted(gate_of: Any) -> None:
    """Tokens and cost add up by tenant, day and route; a broken attempt counts as estimated."""
    gate = gate_of(RouteOverrides())
    gate.now = datetime(2027, 1, 31, 12, tzinfo=UTC).timestamp()
    first, second = gate.submit_many(2, "t")
    gate.admit()
    gate.finish(first, 20, usd=0.5)
    holder = gate.claim(second)
    used = Used(4, 6, 0.25, estimated=True)
    gate.run(commands.requeue(second, holder, "test", 0, "retry", used))
    fields = gate.store.redis.hgetall(keys.usage("t", "2027-01-31"))
    (row,) = usage.rows("t", "2027-01-31", fields)
    assert (row.jobs, row.prompt_tokens, row.completion_tokens) == (1, 4, 26)
    assert (row.usd, row.estimated_usd) == (0.75, 0.25)


def test_a_job_that_cannot_be_in_time_is_not_started(gate_of: Any) -> None:
    """When even the quickest answer would come after the deadline, the job expires at its turn."""
    gate = gate_of(RouteOverrides(concurrency=1))
    gate.submit()
    gate.admit()
    (job,) = gate.rung()
    holder = gate.claim(job)
    late, in_time = gate.submit(deadline=12), gate.submit(deadline=100)
    gate.now += 5  # so long an answer takes
    done = commands.finish(job, holder, JobState.COMPLETED, 2, {}, Used(0, 1, 0))
    gate.run(done)
    gate.now += 4  # 9 of 12 seconds are over
    gate.admit()
    gate.sweep()
    assert gate.rung() == [in_time]
    assert gate.record(late)["state"] == "expired"
