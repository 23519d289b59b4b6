"""Where jobs go when their route cannot answer, or not in time, and their service tiers."""

from __future__ import annotations

from typing import Any

import pytest

from ops.local.server import EmbeddedServer
from penstock import commands, keys
from penstock.commands import Feedback
from penstock.errors import BudgetSpent
from penstock.events import decode
from penstock.settings import Prices, RouteOverrides, Tenant
from tests.integration.gates import Gate

MAIN = RouteOverrides(concurrency=5, fallback=("spare", "last"))
PRICES = Prices(input=1, output=1)  # tenants with budgets ask for some
OTHERS = {
    "spare": RouteOverrides(concurrency=3, model="other", prices=PRICES),
    "last": RouteOverrides(),
}


@pytest.fixture
def gate_of(server: EmbeddedServer) -> Any:
    """Makes gates of several routes."""
    return lambda route=MAIN, tenants=None, others=OTHERS: Gate(server.url, route, tenants, others)


def told_on_feed(gate: Gate, job: str) -> list[tuple[str, Any]]:
    """Type and route of a job's events."""
    entries = gate.store.redis.xrange(keys.feed(job))
    events = [decode(entry[1][b"event"]) for entry in entries]
    return [(event.type, event.data.get("route")) for event in events]


def answer_slowly(gate: Gate, route: str, seconds: float) -> None:
    """Teach a route that its answers take so long."""
    job = gate.submit("teacher", route=route)
    gate.admit(route=route)
    gate.rung(route)
    holder = gate.claim(job)
    gate.now += seconds
    gate.end(job, holder, 100)


def test_a_broken_routes_jobs_go_to_its_fallback(gate_of: Any) -> None:
    """While the breaker is open jobs run on the fallback, as many as it takes; the others wait."""
    gate = gate_of()
    gate.break_upstream()
    jobs = gate.submit_many(10)
    gate.admit()
    assert gate.admit(route="spare").admitted == 3
    moved = gate.rung("spare")
    assert moved == jobs[:3]
    record = gate.record(moved[0])
    assert (record["route"], record["asked_route"]) == ("spare", "default")
    assert record["route_reason"] == "breaker_open"
    gate.claim(moved[0])
    assert told_on_feed(gate, moved[0]) == [
        ("queued", "default"), ("queued", "spare"), ("started", "spare"),
    ]  # fmt: skip
    assert len(gate.waiting("default")) == 7
    gate.admit()  # the guests have gone in: there is room for others
    assert gate.waiting("default", route="spare") == set(jobs[3:6])


def test_suspects_leave_a_broken_route_one_by_one(gate_of: Any) -> None:
    """A fallback takes a job that may be what kills workers, and the next one when that runs."""
    gate = gate_of()
    suspects = gate.submit_many(2)
    for job in suspects:
        gate.make_suspect(job)
    gate.break_upstream()
    gate.admit()
    gate.admit()
    assert gate.admit(route="spare").admitted == 1
    assert gate.rung("spare") == suspects[:1]
    gate.admit()
    assert gate.admit(route="spare").admitted == 0  # one at a time there too
    gate.finish(suspects[0], 10)
    gate.admit(route="spare")
    assert gate.rung("spare") == suspects[1:]


def test_what_did_not_leave_runs_where_it_was_asked_for(gate_of: Any) -> None:
    """When the breaker closes, the jobs that still wait for the route run on it."""
    gate = gate_of(RouteOverrides(concurrency=5, fallback=("spare",)))
    gate.break_upstream()
    jobs = gate.submit_many(10)
    gate.admit()
    gate.now += 5.1
    gate.admit()
    (probe,) = gate.rung()
    assert probe not in gate.waiting("default", route="spare")
    gate.finish(probe, 10)
    assert gate.admit().admitted == 5
    assert set(gate.rung()) < set(jobs)


def test_a_half_open_route_keeps_a_job_to_try_with(gate_of: Any) -> None:
    """However roomy its fallback is, nothing leaves before the probe runs; then the others do."""
    gate = gate_of(RouteOverrides(concurrency=5, fallback=("last",)))
    gate.break_upstream()
    gate.now += 5.1
    jobs = gate.submit_many(3)
    assert gate.run(commands.divert("default")) == 0
    assert gate.admit().admitted == 1
    assert gate.rung() == jobs[:1]
    assert gate.waiting("default", route="last") == set(jobs[1:])


def test_a_route_that_may_not_try_yet_keeps_nobody(gate_of: Any) -> None:
    """While it pauses though its breaker is half open, there is no probe, and its jobs leave."""
    gate = gate_of(RouteOverrides(concurrency=5, fallback=("last",)))
    gate.break_upstream()
    gate.now += 5.1
    gate.submit()
    gate.admit()
    (probe,) = gate.rung()
    gate.retry(probe, Feedback("busy", 60), delay=60)
    gate.now += 11
    assert gate.admit().breaker == "half open"
    job = gate.submit()
    gate.admit()
    assert gate.record(job)["route"] == "last"


def test_a_full_route_keeps_nobody(gate_of: Any) -> None:
    """Where more runs than may, since its limit was lowered, there is no place for a probe."""
    gate = gate_of(RouteOverrides(concurrency=5, fallback=("last",)))
    gate.submit_many(5)
    gate.admit()
    lowered = {**OTHERS, "default": RouteOverrides(concurrency=2, fallback=("last",))}
    gate.settings = gate.settings.applying(lowered, {})
    gate.register()
    gate.break_upstream()
    gate.now += 5.1
    job = gate.submit()
    gate.admit()
    assert gate.record(job)["route"] == "last"


def test_the_next_fallback_is_taken_when_the_first_is_broken_too(gate_of: Any) -> None:
    """Fallbacks are asked in their order, and one that is open or paused is passed over."""
    gate = gate_of()
    gate.break_upstream("spare")
    gate.break_upstream()
    job = gate.submit()
    gate.admit()
    assert gate.record(job)["route"] == "last"


def test_nothing_moves_where_no_fallback_works(gate_of: Any) -> None:
    """A job stays where it was asked for when every fallback is broken, and is lost nowhere."""
    gate = gate_of()
    for route in ("spare", "last", "default"):
        gate.break_upstream(route)
    job = gate.submit()
    gate.admit()
    assert gate.waiting("default") == {job}


def test_a_chain_of_fallbacks_is_followed(gate_of: Any) -> None:
    """A guest goes on to the fallback's own fallback; it remembers where it was asked for first."""
    others = {
        "spare": RouteOverrides(concurrency=5, fallback=("last",)),
        "last": RouteOverrides(),
    }
    gate = gate_of(RouteOverrides(concurrency=5, fallback=("spare",)), None, others)
    gate.break_upstream()
    job = gate.submit()
    gate.admit()
    gate.break_upstream("spare")
    gate.admit(route="spare")
    record = gate.record(job)
    assert (record["route"], record["asked_route"]) == ("last", "default")
    assert gate.store.redis.scard("penstock:guests:spare") == 0
    gate.run(commands.cancel(job, "test"))
    assert gate.store.redis.scard("penstock:guests:last") == 0


def test_a_job_that_failed_twice_is_tried_elsewhere(gate_of: Any) -> None:
    """A lone job does not use its attempts up on a route that fails; being busy is no failure."""
    gate = gate_of()
    job, routes = gate.submit(), []
    for kind in ("busy", "broken", "broken"):
        gate.admit()
        gate.admit(route="spare")
        routes.append(gate.record(job)["route"])
        gate.retry(job, Feedback(kind, 0.001), delay=0.01)
        gate.now += 3
        gate.sweep()
    record = gate.record(job)
    assert routes == ["default", "default", "spare"]
    assert (record["asked_route"], record["route_reason"]) == ("default", "attempts_failed")
    assert record["route"] == "last"  # the second one failed it too


def test_guests_go_on_when_their_host_breaks(gate_of: Any) -> None:
    """From a fallback that breaks too, guests go on to the next in the list; its own jobs wait."""
    gate = gate_of()
    gate.break_upstream()
    guests = gate.submit_many(3)
    gate.admit()
    assert gate.waiting("default", route="spare") == set(guests)
    own = gate.submit(route="spare")
    gate.break_upstream("spare")
    gate.admit(route="spare")
    assert gate.waiting("default", route="spare") == {own}
    assert gate.waiting("default", route="last") == set(guests)


def test_guests_stand_in_line_like_everybody(gate_of: Any) -> None:
    """On the fallback its own tenants and guests share by the same fair turns."""
    gate = gate_of()
    own = [gate.submit("own", route="spare") for _ in range(20)]
    gate.break_upstream()
    guests = gate.submit_many(20, "guest")
    gate.admit()
    gate.admit(route="spare")
    first = gate.rung("spare")
    assert set(first) & set(own)
    assert set(first) & set(guests)


def test_a_job_that_would_be_late_goes_where_it_is_not(gate_of: Any) -> None:
    """Before its deadline is nearer than the wait, a job moves to a route that answers in time."""
    gate = gate_of()
    answer_slowly(gate, "default", 20)
    answer_slowly(gate, "spare", 2)
    gate.submit_many(50)
    gate.admit()
    hurried = gate.submit(deadline=60)  # 45 are before it: some 200 s
    patient = gate.submit(deadline=3600)
    gate.admit()
    record = gate.record(hurried)
    assert (record["route"], record["route_reason"]) == ("spare", "deadline")
    assert gate.record(patient)["route"] == "default"


def test_a_deadline_is_looked_at_again(gate_of: Any) -> None:
    """A job that had time enough when it came moves when the line turns out slower."""
    gate = gate_of()
    answer_slowly(gate, "default", 1)
    answer_slowly(gate, "spare", 1)
    gate.submit_many(100)
    job = gate.submit(deadline=120)  # 100 others at 5 a second: 20 s
    gate.admit()
    assert gate.record(job)["route"] == "default"
    gate.store.redis.hset(keys.gate("default"), "seconds_mean", 30)  # now it is 600 s
    for _ in range(60):
        gate.now += 1
        gate.admit()
    assert gate.record(job)["route"] == "spare"


def test_no_job_leaves_for_a_line_that_is_no_better(gate_of: Any) -> None:
    """Where the fallback would be late too, the job keeps its place."""
    gate = gate_of(RouteOverrides(concurrency=5, fallback=("spare",)))
    answer_slowly(gate, "default", 20)
    answer_slowly(gate, "spare", 500)
    gate.submit_many(50)
    gate.admit()
    job = gate.submit(deadline=60)
    gate.admit()
    assert gate.record(job)["route"] == "default"


def test_every_fallback_is_asked_whether_it_is_in_time(gate_of: Any) -> None:
    """A slow first fallback does not hide a quick second one."""
    gate = gate_of()
    answer_slowly(gate, "default", 20)
    answer_slowly(gate, "spare", 500)
    answer_slowly(gate, "last", 1)
    gate.submit_many(50)
    gate.admit()
    job = gate.submit(deadline=60)
    gate.admit()
    assert gate.record(job)["route"] == "last"


def test_guests_at_their_own_limits_keep_nobody_out(gate_of: Any) -> None:
    """A tenant that may run one job does not fill a fallback's places with those that wait."""
    main = RouteOverrides(concurrency=5, fallback=("spare",))
    gate = gate_of(main, {"poor": Tenant(concurrency=1)})
    gate.break_upstream()
    gate.submit_many(10, "poor")
    rich, started = set(gate.submit_many(10, "rich")), set()
    for _ in range(40):
        gate.break_upstream()
        gate.admit()
        gate.admit(route="spare")
        for job in gate.rung("spare"):
            if job in rich:
                gate.finish(job, 1)
                started.add(job)
            else:
                gate.claim(job)  # a long answer
        gate.now += 0.2
    assert started == rich


def test_a_retried_guest_goes_on_when_its_host_breaks(gate_of: Any) -> None:
    """A guest is one until its end, also while it waits for another attempt."""
    gate = gate_of()
    gate.break_upstream()
    job = gate.submit()
    gate.admit()
    gate.admit(route="spare")
    gate.retry(job, Feedback("busy"), delay=0.01)
    gate.now += 3
    gate.sweep()
    gate.break_upstream("spare")
    gate.admit(route="spare")
    assert gate.record(job)["route"] == "last"


def test_a_redriven_job_starts_where_it_was_asked_for(gate_of: Any) -> None:
    """The fallback was for that time: run again, a job asks its own route first."""
    gate = gate_of()
    gate.break_upstream()
    job = gate.submit()
    gate.admit()
    gate.admit(route="spare")
    holder = gate.claim(job)
    failed = commands.finish(job, holder, commands.JobState.FAILED, 2, {})
    assert gate.run(failed).accepted
    gate.run(commands.redrive(job))
    record = gate.record(job)
    assert record["route"] == "default"
    assert "asked_route" not in record


TIERS = RouteOverrides(
    service_tiers=("flex", "default", "priority"), prices=Prices(input=0, output=1_000_000)
)


@pytest.mark.parametrize(
    ("options", "tier", "reason"),
    [
        ({}, "flex", "cheapest"),
        ({"deadline": 1000}, "flex", "cheapest"),
        ({"deadline": 35}, "default", "deadline"),
        ({"deadline": 19}, "priority", "deadline"),
        ({"deadline": 1000, "service_tier": "default"}, "default", "asked"),
        ({"deadline": 19, "service_tier": "default"}, "priority", "deadline"),
        ({"deadline": 35, "service_tier": "priority"}, "priority", "asked"),
        ({"service_tier": "scale"}, None, None),
    ],
)
def test_tiers_climb_as_the_deadline_nears(
    gate_of: Any, options: dict[str, Any], tier: str | None, reason: str | None
) -> None:
    """The cheapest tier, or the one asked for, until little time is left: then dearer ones."""
    gate = gate_of(TIERS)
    answer_slowly(gate, "default", 10)
    job = gate.submit(**options)
    gate.admit()
    record = gate.record(job)
    assert (record.get("tier"), record.get("tier_reason")) == (tier, reason)


def test_a_dearer_tier_reserves_more(gate_of: Any) -> None:
    """What is reserved of a budget is what the chosen tier costs."""
    gate = gate_of(TIERS, {"poor": Tenant(budget_day=1000)})
    answer_slowly(gate, "default", 10)
    calm = gate.submit("poor", max_tokens=100)
    hurried = gate.submit("poor", max_tokens=100, deadline=15)
    gate.admit()
    assert float(gate.record(calm)["reserved_usd"]) == pytest.approx(80)
    assert float(gate.record(hurried)["reserved_usd"]) == pytest.approx(150)


def test_a_tier_counts_when_the_budget_refuses(gate_of: Any) -> None:
    """With `reject`, what is refused is what would have waited in its tier, and nothing else."""
    gate = gate_of(TIERS, {"poor": Tenant(budget_day=100, over_budget="reject")})
    gate.submit("poor", max_tokens=100)
    gate.admit()  # 80 USD are reserved
    with pytest.raises(BudgetSpent):
        gate.submit("poor", max_tokens=15, service_tier="priority")
    cheap = gate.submit("poor", max_tokens=15, service_tier="flex")
    gate.admit()
    assert gate.record(cheap)["state"] == "admitted"


def test_a_retry_climbs_too(gate_of: Any) -> None:
    """The tier is chosen anew at each admission: what was cheap at first may be urgent now."""
    gate = gate_of(TIERS)
    answer_slowly(gate, "default", 10)
    job = gate.submit(deadline=100)
    gate.admit()
    assert gate.record(job)["tier"] == "flex"
    gate.retry(job, Feedback(), delay=85)
    gate.now += 86
    gate.sweep()
    gate.admit()
    assert gate.record(job)["tier"] == "priority"


def test_a_tier_is_left_behind_with_its_route(gate_of: Any) -> None:
    """A fallback without tiers is not asked for the tier that the first route was asked for."""
    gate = gate_of(TIERS.model_copy(update={"fallback": ("spare",)}))
    job = gate.submit()
    for _ in range(2):
        gate.admit()
        assert gate.record(job)["tier"] == "flex"
        gate.retry(job, Feedback("broken"), delay=0.01)
        gate.now += 3
        gate.sweep()
    assert gate.admit(route="spare").admitted == 1
    record = gate.record(job)
    assert (record["route"], record["state"]) == ("spare", "admitted")
    assert not {"tier", "tier_reason"} & record.keys()
