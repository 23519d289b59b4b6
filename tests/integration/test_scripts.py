"""The scripts on a real server, driven at random beside a small model of a job's life."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    invariant,
    multiple,
    rule,
    run_state_machine_as_test,
)

from ops.local.server import EmbeddedServer
from penstock import Settings, commands, keys
from penstock.commands import Accepted
from penstock.errors import IdempotencyConflict, InvalidTransition, UnknownRoute
from penstock.events import Cursor, decode
from penstock.job import JobSpec
from penstock.settings import RouteOverrides
from penstock.state import TERMINAL, TRANSITIONS, JobState
from penstock.store import Store
from worker.dispatch import render_template

LIMIT = 3
MAX_RECOVERIES = 3
"""Of lua/include/place.lua."""


@dataclass
class Model:
    """What a job should be."""

    spec: JobSpec
    state: JobState
    attempt: int = 0
    excused: int = 0
    recoveries: int = 0
    given_back: str = ""
    n: int = 1
    cancelling: bool = False
    terminal_events: int = 0
    history: list[JobState] = field(default_factory=list)
    holders: list[str] = field(default_factory=list)

    def go(self, state: JobState) -> None:
        assert state in TRANSITIONS[self.state], f"{self.state} -> {state}"
        self.state = state
        self.terminal_events = int(state in TERMINAL)

    def holder(self, late: int) -> str:
        """The newest claim's, or one so many claims ago."""
        return self.holders[-1 - late] if late < len(self.holders) else "nobody"


class JobLives(RuleBasedStateMachine):
    """Any order of operations, some of them late, repeated or by the wrong attempt."""

    server: EmbeddedServer
    jobs = Bundle("jobs")

    def __init__(self) -> None:
        super().__init__()
        self.settings = Settings.load(
            redis_url=self.server.url, routes={"default": RouteOverrides(concurrency=LIMIT)}
        )
        self.store = Store(self.server.url)
        self.store.redis.flushall()
        self.store.run(commands.register("@@job@@ @@tag@@", "5", self.settings.resolved_routes, {}))
        self.models: dict[str, Model] = {}
        self.by_key: dict[str, str] = {}
        self.holders = itertools.count()

    def teardown(self) -> None:
        self.store.close()

    def run(self, command: Any) -> Any:
        """Every command is sent twice, as a client does whose first reply was lost."""
        first = self.store.run(command)
        second = self.store.run(command)
        return first, second

    @rule(
        target=jobs,
        key=st.sampled_from(["", "a", "b"]),
        priority=st.integers(0, 9),
        tenant=st.sampled_from(["x", "y"]),
        delay=st.sampled_from([0, 3600]),
    )
    def enqueue(self, key: str, priority: int, tenant: str, delay: float) -> Any:
        spec = JobSpec.build(
            {"messages": [{"role": "user", "content": "m"}], "priority": priority,
             "tenant": tenant, "delay": delay, "idempotency_key": key or None}
        )  # fmt: skip
        first, second = self.run(commands.enqueue(spec, self.settings))
        assert second.id == first.id
        assert second.created == first.created
        known = self.by_key.get(f"{tenant}:{key}") if key else None
        if known:
            assert first == Accepted(known, self.models[known].state, False)
            return multiple()
        state = JobState.SCHEDULED if delay else JobState.QUEUED
        assert first == Accepted(spec.id, state, True)
        self.models[spec.id] = Model(spec, state)
        if key:
            self.by_key[f"{tenant}:{key}"] = spec.id
        return spec.id

    @rule(most=st.integers(1, 4))
    def admit(self, most: int) -> None:
        queued = self.in_state(JobState.QUEUED)
        suspects = self.suspects(queued)
        under_way = self.suspects(self.in_state(JobState.ADMITTED, JobState.RUNNING))
        waiting = [job for job in queued if job not in suspects]
        waiting += suspects[: 0 if under_way else 1]
        room = max(0, LIMIT - len(self.in_state(JobState.ADMITTED, JobState.RUNNING)))
        admission = self.store.run(commands.admit("default", most))
        assert admission is not None
        count = admission.admitted
        assert count == min(most, room, len(waiting))
        for job in queued:
            if self.record(job)["state"] == "admitted":
                self.models[job].go(JobState.ADMITTED)
                count -= 1
        assert count == 0

    @rule(job=jobs)
    def claim(self, job: str) -> None:
        model = self.models[job]
        holder = f"holder-{next(self.holders)}"
        claimed, again = self.run(commands.claim(job, holder))
        if model.state is not JobState.ADMITTED:
            assert claimed.state == again.state == str(model.state)
            assert (claimed.attempt, claimed.route) == (model.attempt, "default")
            assert not claimed.ended
            return
        model.go(JobState.RUNNING)
        model.attempt += 1
        model.n = 1
        model.holders.append(holder)
        assert claimed.attempt == again.attempt == model.attempt
        assert claimed.request == model.spec.request

    @rule(job=jobs, late=st.integers(0, 2))
    def append(self, job: str, late: int) -> None:
        model = self.models[job]
        holder = model.holder(late)
        event = [job, holder, model.n + 1, b'{"choices":[]}']
        first, second = self.run(commands.append(event))
        fenced = model.state is not JobState.RUNNING or late > 0
        assert first == second == ([holder] if fenced else [])
        if not fenced:
            model.n += 1

    @rule(
        job=jobs,
        late=st.integers(0, 1),
        state=st.sampled_from([JobState.COMPLETED, JobState.FAILED, JobState.CANCELLED]),
    )
    def finish(self, job: str, late: int, state: Any) -> None:
        model = self.models[job]
        if model.state is state:
            return  # the same outcome again: the double send below covers it
        done = self.run(commands.finish(job, model.holder(late), state, model.n + 1, {}))
        ours = model.state is JobState.RUNNING and late == 0
        assert [settled.accepted for settled in done] == [ours, ours]
        if ours:
            model.go(state)
            model.n += 1

    @rule(
        job=jobs,
        late=st.integers(0, 1),
        mode=st.sampled_from(["retry", "handback"]),
        delay=st.sampled_from([0, 3600]),
    )
    def requeue(self, job: str, late: int, mode: Any, delay: float) -> None:
        model = self.models[job]
        holder = model.holder(late)
        first, second = self.run(commands.requeue(job, holder, "test", delay, mode))
        assert first == second
        if holder == model.given_back:
            assert first.accepted  # sent again, however late: nothing changes
        elif model.state is not JobState.RUNNING or late:
            assert first == commands.Settled(False)
        elif model.cancelling:
            assert first == commands.Settled(False, cancel_asked="test")
        else:
            assert first.accepted
            model.go(JobState.SCHEDULED if delay else JobState.QUEUED)
            model.excused += mode == "handback"
            model.given_back = holder

    @rule(job=jobs)
    def cancel(self, job: str) -> None:
        model = self.models[job]
        first, second = self.run(commands.cancel(job, "test"))
        if model.state is JobState.RUNNING:
            model.cancelling = True
        elif model.state not in TERMINAL:
            model.go(JobState.CANCELLED)
        assert first == second == model.state

    @rule(job=jobs)
    def redrive(self, job: str) -> None:
        model = self.models[job]
        if model.state is JobState.FAILED:
            self.run(commands.redrive(job))
            model.go(JobState.QUEUED)
            model.excused, model.recoveries, model.cancelling = model.attempt, 0, False
            return
        with pytest.raises(InvalidTransition, match="only a failed job"):
            self.store.run(commands.redrive(job))

    @rule(job=jobs)
    def lose_worker(self, job: str) -> None:
        """The lease runs out and the sweep comes by; for an admitted job it rings again."""
        model = self.models[job]
        held = self.store.redis.zadd(keys.held("default"), {job: 1}, xx=True, ch=True)
        assert held == (model.state in (JobState.ADMITTED, JobState.RUNNING))
        self.sweep_recovers()
        if model.state is not JobState.RUNNING:
            return
        if model.cancelling:
            model.go(JobState.CANCELLED)
        elif model.recoveries == MAX_RECOVERIES:
            model.go(JobState.FAILED)
        else:
            model.go(JobState.QUEUED)
            model.recoveries += 1
            model.excused += 1

    @rule(job=jobs)
    def come_due(self, job: str) -> None:
        """A delay is over and the sweep comes by."""
        model = self.models[job]
        due = self.store.redis.zadd(keys.DUE, {job: 1}, xx=True, ch=True)
        assert due == (model.state is JobState.SCHEDULED)
        self.sweep_recovers()
        if model.state is JobState.SCHEDULED:
            model.go(JobState.QUEUED)

    @rule(job=jobs)
    def lose_message(self, job: str) -> None:
        """Celery lost every message; the sweep rings once for a job that waits for a claim."""
        self.store.redis.delete(keys.queue("default"))
        self.store.redis.zadd(keys.held("default"), {job: 1}, xx=True)
        if self.models[job].state is JobState.RUNNING:
            self.store.redis.zadd(keys.held("default"), {job: 9e9}, xx=True)
        counts = self.sweep_recovers()
        assert counts["rung"] == (self.models[job].state is JobState.ADMITTED)
        assert self.sweep_recovers()["rung"] == 0

    def sweep_recovers(self) -> dict[str, int]:
        now = self.store.redis.time()[0]
        memory = {"swept_at": now, "recover_from": 0}
        self.store.redis.hset(keys.CATALOGUE["keeper"], mapping=memory)
        return self.store.run(commands.sweep()).counts

    def in_state(self, *states: JobState) -> list[str]:
        return [job for job, model in self.models.items() if model.state in states]

    def suspects(self, jobs: list[str]) -> list[str]:
        return [job for job in jobs if self.models[job].recoveries >= MAX_RECOVERIES]

    def record(self, job: str) -> dict[str, str]:
        fields = self.store.redis.hgetall(keys.job(job))
        return {name.decode(): value.decode() for name, value in fields.items()}

    @invariant()
    def records_agree(self) -> None:
        for job, model in self.models.items():
            record = self.record(job)
            assert record["state"] == model.state
            assert int(record.get("attempt", 0)) == model.attempt
            assert int(record.get("excused", 0)) == model.excused
            assert int(record.get("recoveries", 0)) == model.recoveries

    @invariant()
    def every_job_has_its_place(self) -> None:
        redis = self.store.redis
        held = {job.decode() for job in redis.zrange(keys.held("default"), 0, -1)}
        assert held == set(self.in_state(JobState.ADMITTED, JobState.RUNNING))
        assert len(held) <= LIMIT
        due = {job.decode() for job in redis.zrange(keys.DUE, 0, -1)}
        assert due == set(self.in_state(JobState.SCHEDULED))
        suspects = {job.decode() for job in redis.zrange("penstock:suspects:default", 0, -1)}
        assert suspects == set(self.suspects(self.in_state(JobState.QUEUED)))
        waiting = set(suspects)
        for tenant in "x", "y":
            backlog = redis.zrange(f"{keys.CATALOGUE['backlog']}default:{tenant}", 0, -1)
            waiting |= {job.decode() for job in backlog}
            turn = redis.zscore(keys.turns("default"), tenant)
            assert not backlog or turn is not None
        assert waiting == set(self.in_state(JobState.QUEUED))

    @invariant()
    def feeds_end_once(self) -> None:
        for job, model in self.models.items():
            events = [decode(e[1][b"event"]) for e in self.store.redis.xrange(keys.feed(job))]
            cursors = [event.cursor for event in events]
            assert cursors == sorted(set(cursors))
            ends = [event for event in events if event.is_terminal]
            assert len(ends) == model.terminal_events
            assert not ends or ends == events[-1:]
            assert all(self.follows(a, b) for a, b in itertools.pairwise(cursors))

    @staticmethod
    def follows(a: Cursor, b: Cursor) -> bool:
        """A reader finds gaps by this rule."""
        return (b.attempt == a.attempt and b.n == a.n + 1) or (b.attempt > a.attempt and b.n == 1)

    @invariant()
    def only_the_finished_are_kept_for_a_while(self) -> None:
        for job, model in self.models.items():
            for key in keys.job(job), keys.feed(job):
                assert (self.store.redis.ttl(key) > 0) == (model.state in TERMINAL)


@pytest.mark.parametrize(
    "examples", [25, pytest.param(600, marks=(pytest.mark.chaos, pytest.mark.timeout(1800)))]
)
def test_no_order_of_operations_breaks_a_job(server: EmbeddedServer, examples: int) -> None:
    """Whatever order the scripts run in, twice each, records, places and feeds stay in step."""
    JobLives.server = server
    profile = hypothesis_settings(max_examples=examples, stateful_step_count=40)
    run_state_machine_as_test(JobLives, settings=profile)


def build(**fields: Any) -> JobSpec:
    return JobSpec.build({"messages": [{"role": "user", "content": "m"}], **fields})


def admitted_order(store: Store) -> list[str]:
    """The jobs in the order in which Celery will hand them out."""
    return [
        raw.decode().split()[0]
        for raw in reversed(store.redis.lrange("penstock:chat.default", 0, -1))
    ]


@pytest.fixture
def rung(store: Store, settings: Settings) -> None:
    """A gate whose messages are readable."""
    store.run(commands.register("@@job@@ @@route@@ @@tag@@", "5", settings.resolved_routes, {}))


@pytest.mark.usefixtures("rung")
def test_priority_goes_before_arrival(store: Store, settings: Settings) -> None:
    """A higher priority is admitted first, and among equals the one that came first."""
    specs = [build(priority=p) for p in (0, 9, 5, 9, 0)]
    for spec in specs:
        store.run(commands.enqueue(spec, settings))
    store.run(commands.admit("default"))
    assert admitted_order(store) == [specs[i].id for i in (1, 3, 2, 0, 4)]


@pytest.mark.usefixtures("rung")
def test_tenants_take_turns(store: Store, settings: Settings) -> None:
    """A tenant with many jobs does not make another one's wait for all of them."""
    many = [build(tenant="many") for _ in range(4)]
    few = [build(tenant="few") for _ in range(2)]
    for spec in many + few:
        store.run(commands.enqueue(spec, settings))
    store.run(commands.admit("default"))
    order = admitted_order(store)
    assert max(order.index(spec.id) for spec in few) <= 3


@pytest.mark.usefixtures("rung")
def test_one_job_at_a_time_is_no_way_to_the_front(store: Store, settings: Settings) -> None:
    """A tenant that submits its next job whenever its last one starts gets its share, not more."""
    for _ in range(6):
        store.run(commands.enqueue(build(tenant="patient"), settings))
    for _ in range(6):
        store.run(commands.enqueue(build(tenant="eager"), settings))
        store.run(commands.admit("default", 1))
    tenants = [store.redis.hget(keys.job(job), "tenant") for job in admitted_order(store)]
    assert tenants.count(b"patient") == tenants.count(b"eager") == 3


def test_a_retry_whose_reply_was_lost_may_be_sent_again(store: Store, settings: Settings) -> None:
    """Running a failed job again gives the same answer twice, though a worker has it by then."""
    spec = build()
    store.run(commands.register("t", "5", settings.resolved_routes, {}))
    store.run(commands.enqueue(spec, settings))
    store.run(commands.admit("default"))
    store.run(commands.claim(spec.id, "h"))
    store.run(commands.finish(spec.id, "h", JobState.FAILED, 2, {}))
    again = commands.redrive(spec.id)
    store.run(again)
    store.run(commands.admit("default"))
    store.run(commands.claim(spec.id, "i"))
    store.run(again)
    assert store.redis.hget(keys.job(spec.id), "state") == b"running"


@pytest.mark.usefixtures("rung")
def test_a_handed_back_job_goes_to_the_front(store: Store, settings: Settings) -> None:
    """What a stopping worker gives back runs before everything that waits, urgent or not."""
    first = build(priority=0)
    store.run(commands.enqueue(first, settings))
    store.run(commands.admit("default"))
    store.run(commands.claim(first.id, "h"))
    urgent = build(priority=9)
    store.run(commands.enqueue(urgent, settings))
    store.run(commands.requeue(first.id, "h", "worker_stopping", 0, "handback"))
    store.redis.delete(keys.queue("default"))
    store.run(commands.admit("default"))
    assert admitted_order(store) == [first.id, urgent.id]


def test_a_key_with_another_request_is_an_error(store: Store, settings: Settings) -> None:
    """An idempotency key never answers with the job of another request."""
    store.run(commands.enqueue(build(idempotency_key="k"), settings))
    with pytest.raises(IdempotencyConflict, match="use a new key"):
        store.run(commands.enqueue(build(idempotency_key="k", temperature=1), settings))


def test_an_unknown_route_is_refused_by_name(store: Store, settings: Settings) -> None:
    """A route that neither the settings nor a worker know is refused, and the known ones named."""
    with pytest.raises(UnknownRoute, match="no route 'fast'; known routes: default"):
        store.run(commands.enqueue(build(route="fast"), settings))
    assert store.redis.dbsize() == 0


def test_a_route_that_only_workers_know_is_accepted(store: Store, settings: Settings) -> None:
    """A producer needs no configuration for a route that a worker has published."""
    known = {"fast": settings.route("default")}
    store.run(commands.register("t", "5", known, {}))
    assert store.run(commands.enqueue(build(route="fast"), settings)).created


def test_after_an_outage_leases_get_another_term(store: Store, settings: Settings) -> None:
    """A sweep after half a lease without one takes no running job from its worker at once."""
    spec = build()
    store.run(commands.register("t", "5", settings.resolved_routes, {}))
    store.run(commands.enqueue(spec, settings))
    store.run(commands.admit("default"))
    store.run(commands.claim(spec.id, "h"))
    now = store.redis.time()[0]
    store.redis.hset(keys.CATALOGUE["keeper"], mapping={"swept_at": now - 6, "recover_from": 0})
    store.redis.zadd(keys.held("default"), {spec.id: now - 5})
    assert store.run(commands.sweep()).counts["recovered"] == 0
    recover_from = float(store.redis.hget(keys.CATALOGUE["keeper"], "recover_from"))
    assert now + 9 < recover_from < now + 12


def test_a_message_that_waits_is_not_rung_again(store: Store, settings: Settings) -> None:
    """However long no worker is free, an admitted job has one message in the queue."""
    spec = build()
    store.run(commands.register("@@job@@ @@tag@@", "5", settings.resolved_routes, {}))
    store.run(commands.enqueue(spec, settings))
    store.run(commands.admit("default"))
    for _ in range(5):
        store.redis.zadd(keys.held("default"), {spec.id: 1})
        assert store.run(commands.sweep()).counts["rung"] == 0
    assert store.redis.llen(keys.queue("default")) == 1


@pytest.mark.usefixtures("registered")
def test_a_message_is_celerys_own_with_the_names_filled_in(
    store: Store, settings: Settings
) -> None:
    """On a route of the workers, and on one that was applied after they had started."""
    changed = settings.applying({"default": RouteOverrides(), "later.on": RouteOverrides()}, {})
    store.run(commands.apply(changed))
    for route in changed.resolved_routes:
        spec = build(route=route)
        store.run(commands.enqueue(spec, changed))
        store.run(commands.admit(route))
        expected = render_template().replace("@@job@@", spec.id).replace("@@route@@", route)
        expected = expected.replace("@@tag@@", f"{spec.id}.1")
        assert store.redis.lrange(keys.queue(route), 0, -1) == [expected.encode()]


def test_a_job_that_comes_back_is_rung_as_patiently_as_a_new_one(
    store: Store, settings: Settings
) -> None:
    """The keeper looks after 5, 10, 20 seconds, counted from the last admission's first message."""
    spec = build()
    store.run(commands.register("@@job@@ @@tag@@", "5", settings.resolved_routes, {}))
    store.run(commands.enqueue(spec, settings))
    for attempt in range(2):
        store.run(commands.admit("default"))
        seconds = [_next_look(store, spec.id)]
        for _ in range(2):
            store.redis.delete(keys.queue("default"))
            store.redis.zadd(keys.held("default"), {spec.id: 1})
            assert store.run(commands.sweep()).counts["rung"] == 1
            seconds.append(_next_look(store, spec.id))
        assert seconds == pytest.approx([5, 10, 20], abs=2), attempt  # whole seconds
        store.run(commands.claim(spec.id, f"worker {attempt}"))
        store.run(commands.requeue(spec.id, f"worker {attempt}", "test", 0, "retry", None))


def _next_look(store: Store, job: str) -> float:
    seconds, microseconds = store.redis.time()
    return float(store.redis.zscore(keys.held("default"), job)) - seconds - microseconds / 1e6


def test_a_deadline_expires_what_has_not_started(store: Store, settings: Settings) -> None:
    """A waiting job past its deadline ends as expired, by the sweep or by the claim."""
    swept, claimed = build(deadline=1000), build(deadline=1000)
    store.run(commands.register("t", "5", settings.resolved_routes, {}))
    for spec in swept, claimed:
        store.run(commands.enqueue(spec, settings))
    store.run(commands.admit("default", 1))
    past = store.redis.time()[0] - 1
    for spec in swept, claimed:
        store.redis.hset(keys.job(spec.id), "deadline", past)
    refusal = store.run(commands.claim(swept.id, "h"))
    assert refusal == commands.Refusal("expired", True, 0, "default", "default")
    store.redis.zadd(keys.CATALOGUE["deadlines"], {claimed.id: past})
    swept_now = store.run(commands.sweep())
    assert swept_now.counts["expired"] == 1
    assert swept_now.ended == [("default", "expired")]
    for spec in swept, claimed:
        assert store.redis.hget(keys.job(spec.id), "state") == b"expired"


def test_what_is_over_leaves_the_list(store: Store, settings: Settings) -> None:
    """A record whose result_ttl is over is gone, and the tenant's list forgets it."""
    spec = build(result_ttl=1)
    store.run(commands.enqueue(spec, settings))
    store.run(commands.cancel(spec.id, "test"))
    store.redis.delete(keys.job(spec.id))
    store.redis.zadd(keys.CATALOGUE["retained"], {f"default/{spec.id}": 1})
    assert store.run(commands.sweep()).counts["forgotten"] == 1
    assert store.redis.zcard(keys.jobs("default")) == 0


@pytest.fixture
def running(store: Store, settings: Settings) -> str:
    """A job in its second attempt: attempt 1 is a zombie's."""
    spec = build()
    store.run(commands.register("t", "5", settings.resolved_routes, {}))
    store.run(commands.enqueue(spec, settings))
    for attempt in (1, 2):
        store.run(commands.admit("default"))
        store.run(commands.claim(spec.id, f"holder-{attempt}"))
        if attempt == 1:
            store.run(commands.requeue(spec.id, "holder-1", "test", 0, "retry"))
    return spec.id


def test_the_fence_refuses_an_older_attempt(store: Store, running: str) -> None:
    """Nothing that a zombie of attempt 1 writes gets into attempt 2."""
    before = store.redis.xlen(keys.feed(running))
    assert store.run(commands.append([running, "holder-1", 9, b'{"choices":[]}'])) == ["holder-1"]
    assert not store.run(commands.finish(running, "holder-1", JobState.COMPLETED, 9, {})).accepted
    store.run(commands.requeue(running, "holder-1", "test", 0, "handback"))
    stops = store.run(commands.renew([commands.Lease(running, "holder-1", "default")]))
    assert [stop.verdict for stop in stops] == ["lost"]
    assert store.redis.xlen(keys.feed(running)) == before
    assert store.redis.hget(keys.job(running), "state") == b"running"


def test_a_claim_that_a_failover_lost_is_fenced_though_its_number_comes_again(
    store: Store, settings: Settings
) -> None:
    """The new primary had not heard of it and gives its attempt's number to another worker."""
    spec = build()
    store.run(commands.register("t", "5", settings.resolved_routes, {}))
    store.run(commands.enqueue(spec, settings))
    store.run(commands.admit("default"))
    replicated = {key: store.redis.dump(key) for key in store.redis.scan_iter()}
    store.run(commands.claim(spec.id, "old"))
    store.redis.flushdb()
    for key, value in replicated.items():
        store.redis.restore(key, 0, value)
    store.run(commands.claim(spec.id, "new"))
    said = b'{"choices":[]}'
    events = [spec.id, "old", 2, said, spec.id, "new", 2, said]
    assert store.run(commands.append(events)) == ["old"]
    assert not store.run(commands.finish(spec.id, "old", JobState.COMPLETED, 3, {})).accepted
    (stop,) = store.run(commands.renew([commands.Lease(spec.id, "old", "default")]))
    assert (stop.verdict, stop.holder) == ("lost", "old")
    assert store.run(commands.finish(spec.id, "new", JobState.COMPLETED, 3, {})).accepted


def test_a_renewal_tells_of_a_cancel(store: Store, running: str) -> None:
    """A worker that missed the message on the control channel hears of the cancel anyway."""
    store.run(commands.cancel(running, "enough"))
    stops = store.run(commands.renew([commands.Lease(running, "holder-2", "default")]))
    assert stops == [commands.Stop(running, "cancelled", "enough", "holder-2")]
