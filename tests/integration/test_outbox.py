"""The outbox on a real server, at a time of the test's choosing; every command is sent twice."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from ops.local.server import EmbeddedServer
from penstock import DeliveryNotFound, commands, keys, outbox
from penstock.outbox import Delivery, DeliveryState, Taken, Try
from penstock.settings import RouteOverrides, Tenant
from penstock.state import JobState
from penstock.webhook import EventName
from tests.integration.gates import Gate

URL = "https://example.com/hook"
LEASE = 30.0
TRIED = Try(1.0, 0.1, 500, "the endpoint answered 500: not a success")
WELL = Try(1.0, 0.1, 200)
MakeGate = Callable[..., Gate]


@pytest.fixture
def make_gate(server: EmbeddedServer) -> Iterator[MakeGate]:
    """A gate with room for everybody, and these tenants."""
    gates: list[Gate] = []

    def make(**tenants: Tenant) -> Gate:
        gates.append(Gate(server.url, RouteOverrides(), tenants))
        return gates[-1]

    yield make
    for gate in gates:
        gate.store.close()


def ended(gate: Gate, **fields: Any) -> str:
    """A job that has ended, with a webhook unless the fields say otherwise."""
    job = gate.submit(**{"webhook": URL, **fields})
    gate.admit()
    gate.finish(job, 10)
    return job


def take(gate: Gate, most: int = 100) -> list[Taken]:
    taken: list[Taken] = gate.run(outbox.take(LEASE, most)).taken
    return taken


def settle(gate: Gate, taken: Taken, verdict: outbox.Verdict, delay: float = 0) -> bool:
    tried = WELL if verdict == "delivered" else TRIED
    first, second = (gate.run(outbox.settle(taken, verdict, tried, delay)) for _ in range(2))
    assert first == second
    return bool(first)


def state(gate: Gate, taken: Taken) -> str | None:
    value = gate.store.redis.hget(keys.delivery(taken.id), "state")
    return value.decode() if value else None


def listed(gate: Gate, id_: str) -> Delivery:
    pipeline = outbox.ask(gate.store.redis.pipeline(), [id_])
    (delivery,) = outbox.found([id_], pipeline.execute())
    return delivery


def test_a_delivery_is_held_by_one_and_then_due_again(make_gate: MakeGate) -> None:
    """Nobody else gets it while its lease lasts; afterwards the first holder has no say."""
    gate = make_gate()
    ended(gate)
    (first,) = take(gate)
    assert take(gate) == []
    gate.now += LEASE + 1
    (second,) = take(gate)
    assert (second.id, second.claim) == (first.id, first.claim + 1)
    assert not settle(gate, first, "delivered")
    assert state(gate, first) == "waiting"
    assert settle(gate, second, "delivered")
    assert state(gate, first) == "delivered"
    assert gate.store.redis.zcard(keys.WEBHOOKS) == 0


def test_a_retry_comes_after_its_delay_and_each_try_is_kept(make_gate: MakeGate) -> None:
    """The log grows by a line a try, though the worker says it twice."""
    gate = make_gate()
    ended(gate)
    for tries, delay in enumerate((5.0, 300.0)):
        (taken,) = take(gate)
        assert taken.tries == tries
        assert settle(gate, taken, "retry", delay)
        gate.now += delay - 1
        assert take(gate) == []
        gate.now += 2
    (taken,) = take(gate)
    assert settle(gate, taken, "failed")
    delivery = listed(gate, taken.id)
    assert (delivery.state, delivery.tries, delivery.due) == (DeliveryState.FAILED, 3, None)
    assert delivery.log == [TRIED] * 3
    gate.now += 1_000_000
    assert take(gate) == []


def test_the_wait_says_when_the_next_is_due(make_gate: MakeGate) -> None:
    """None where nothing waits, so that a worker need not ask all the time."""
    gate = make_gate()
    assert gate.run(outbox.take(LEASE, 1)) == ([], None)
    ended(gate)
    (taken,) = take(gate)
    settle(gate, taken, "retry", 7)
    due = gate.run(outbox.take(LEASE, 1))
    assert due.taken == []
    assert due.wait == pytest.approx(7, abs=0.01)


def test_an_endpoint_that_fails_again_and_again_keeps_nobody_waiting(make_gate: MakeGate) -> None:
    """Its deliveries are taken one a second, others' at once, until it answers."""
    gate = make_gate()
    for _ in range(40):
        ended(gate, tenant="bad")
    for taken in take(gate, 5):
        settle(gate, taken, "retry", 3600)
    ended(gate, tenant="good", webhook="https://good.example/")
    first = take(gate, 20)
    assert sorted(taken.tenant for taken in first) == ["bad", "good"]
    assert [taken.tenant for taken in take(gate, 20)] == []
    gate.now += 4
    (again,) = take(gate, 20)
    assert again.tenant == "bad"
    settle(gate, again, "delivered")
    gate.now += 4
    assert len(take(gate, 100)) == 33


def test_an_endpoint_that_is_gone_is_gone_for_its_tenant_only(make_gate: MakeGate) -> None:
    """Others call the same URL on; after 30 days it is tried once more."""
    gate = make_gate()
    ended(gate, tenant="one")
    (taken,) = take(gate)
    assert settle(gate, taken, "gone")
    assert state(gate, taken) == "disabled"
    later, other = ended(gate, tenant="one"), ended(gate, tenant="two")
    assert [each.job for each in take(gate)] == [other]
    assert listed(gate, f"{later}-1-2").state == DeliveryState.DISABLED
    (endpoint,) = gate.store.redis.keys(keys.CATALOGUE["endpoint"] + "*")
    assert 0 < gate.store.redis.ttl(endpoint) <= 30 * 86_400


def test_resend_begins_anew_once(make_gate: MakeGate) -> None:
    """Its holder has no more say, a 410 is lifted, and the command may be sent again."""
    gate = make_gate()
    ended(gate)
    (held,) = take(gate)
    again = outbox.resend(held.id)
    gate.run(again)
    assert not settle(gate, held, "gone")
    (taken,) = take(gate)
    gate.run(again)
    assert take(gate) == []
    assert settle(gate, taken, "gone")
    gate.run(outbox.resend(held.id))
    assert gate.store.redis.ttl(keys.delivery(held.id)) == -1
    (taken,) = take(gate)
    assert taken.tries == 0
    with pytest.raises(DeliveryNotFound):
        gate.run(outbox.resend("job_1-1-1"))


def test_what_has_ended_is_forgotten_everywhere(make_gate: MakeGate) -> None:
    """The record goes by its time, and the sweep takes it out of every listing."""
    gate = make_gate()
    job = ended(gate, result_ttl=100)
    (taken,) = take(gate)
    settle(gate, taken, "delivered")
    assert gate.store.redis.ttl(keys.delivery(taken.id)) == 100
    gate.store.redis.delete(keys.delivery(taken.id))  # as the server does then
    gate.now += 101
    gate.sweep()
    assert gate.store.redis.exists(keys.deliveries("default"), keys.reports(job)) == 0


def test_an_erased_job_is_delivered_to_nobody(make_gate: MakeGate) -> None:
    """What waits goes with the job, and whoever has it in hand leaves nothing behind."""
    gate = make_gate()
    job = ended(gate)
    (held,) = take(gate)
    for _ in range(2):
        gate.run(commands.erase(job))
    assert not settle(gate, held, "retry", 5)
    assert gate.store.redis.keys("*deliver*") == []
    assert gate.store.redis.exists(keys.WEBHOOKS, keys.reports(job)) == 0


def test_what_failed_is_kept_for_a_week(make_gate: MakeGate) -> None:
    """Longer than its job's record: somebody will want to send it again."""
    gate = make_gate()
    ended(gate, result_ttl=100)
    (taken,) = take(gate)
    settle(gate, taken, "failed")
    assert gate.store.redis.ttl(keys.delivery(taken.id)) == 7 * 86_400


def test_each_way_to_an_end_is_reported_once(make_gate: MakeGate) -> None:
    """Finished, cancelled, expired and given up: one delivery each, with the event of the feed."""
    gate = make_gate()
    finished = ended(gate)
    cancelled = gate.submit(webhook=URL)
    for _ in range(2):
        gate.run(commands.cancel(cancelled, "no more"))
    expired = gate.submit(webhook=URL, deadline=5)
    gate.now += 6
    gate.sweep()
    gate.sweep()
    found = {taken.job: taken for taken in take(gate)}
    assert {job: taken.type for job, taken in found.items()} == {
        finished: "completed", cancelled: "cancelled", expired: "expired",
    }  # fmt: skip
    for job, taken in found.items():
        (last,) = gate.store.redis.xrevrange(keys.feed(job), count=1)
        assert taken.event == last[1][b"event"]
        assert taken.id == f"{job}-{last[0].decode()}"


def test_only_what_is_asked_for_is_reported(make_gate: MakeGate) -> None:
    """A job's own endpoint goes before its tenant's, and that before everybody's."""

    def endpoint(url: str, *events: EventName) -> Tenant:
        return Tenant.model_validate({"webhook": {"url": url, "events": events}})

    gate = make_gate(
        acme=endpoint("https://acme.example/", "started", "completed"),
        **{"*": endpoint("https://all.example/", "failed")},
    )
    own = ended(gate, tenant="acme", webhook={"url": URL, "events": ["completed"]})
    acme = ended(gate, tenant="acme", webhook=None)
    ended(gate, tenant="other", webhook=None)
    assert sorted((taken.job, taken.type, taken.url) for taken in take(gate)) == sorted([
        (own, "completed", URL),
        (acme, "started", "https://acme.example/"),
        (acme, "completed", "https://acme.example/"),
    ])  # fmt: skip


def test_a_large_event_is_not_kept_twice(make_gate: MakeGate) -> None:
    """Beyond 20 KB the outbox has no copy of it."""
    gate = make_gate()
    jobs = [gate.submit(webhook=URL) for _ in range(2)]
    gate.admit()
    for job, size in zip(jobs, (1_000, 30_000), strict=True):
        holder = gate.claim(job)
        data = {"text": "x" * size}
        gate.run(commands.finish(job, holder, JobState.COMPLETED, 2, data))
    small, large = sorted(take(gate), key=lambda taken: jobs.index(taken.job))
    assert len(small.event) > 1_000
    assert large.event == b""


def test_deltas_are_gathered_for_half_a_second(make_gate: MakeGate) -> None:
    """One delivery is open at a time; the next one begins where the last one ended."""
    gate = make_gate()
    job = gate.submit(webhook={"url": URL, "events": ["delta"]})
    gate.admit()
    holder = gate.claim(job)
    taken = []
    for n in range(2, 102):
        write = commands.append((job, holder, n, b'{"choices":[]}'))
        assert gate.run(write) == gate.run(write) == []
        taken += take(gate)
        gate.now += 0.02
    gate.run(commands.finish(job, holder, JobState.COMPLETED, 102, {}))
    gate.now += 1
    taken += take(gate)
    assert 4 <= len(taken) <= 6
    assert [each.after for each in taken[1:]] == [each.until for each in taken[:-1]]
    assert (taken[0].after, taken[-1].until) == ("1-1", "1-102")
