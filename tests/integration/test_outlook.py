"""What waiting jobs are told of their place and their wait, against what comes of it."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Callable
from typing import Any

import pytest

from ops.local.server import EmbeddedServer
from penstock import commands, keys
from penstock.commands import ANNOUNCED, Feedback, Outlook
from penstock.events import decode
from penstock.settings import RouteOverrides, Tenant
from tests.integration.gates import Gate

TOKENS = 100
SECONDS = 2.0


@pytest.fixture
def gate_of(server: EmbeddedServer) -> Any:
    """Makes gates."""
    return lambda route, tenants=None: Gate(server.url, route, tenants)


def run(gate: Gate, until: Callable[[], bool]) -> dict[str, tuple[int, float]]:
    """Answer jobs, in SECONDS each, until the condition holds: the turn of each, and when."""
    turns: dict[str, tuple[int, float]] = {}
    under_way: list[tuple[float, str, int]] = []
    while not until():
        gate.admit()
        for job in gate.rung():
            turns[job] = len(turns) + 1, gate.now
            under_way.append((gate.now + SECONDS, job, gate.claim(job)))
        while under_way and under_way[0][0] <= gate.now:
            _, job, holder = under_way.pop(0)
            gate.end(job, holder, TOKENS)
        gate.now += 0.2
    return turns


def learned(gate: Gate) -> None:
    """Let the gate learn what its answers are like, and go idle."""
    jobs = set(gate.submit_many(40))
    run(gate, lambda: all("finished_at" in gate.record(job) for job in jobs))


def outlooks(gate: Gate, jobs: list[str]) -> list[Outlook | None]:
    """What these are told now."""
    told: list[Outlook | None] = gate.run(commands.outlook(jobs))
    return told


@pytest.mark.parametrize(
    ("route", "tenants", "lines"),
    [
        (RouteOverrides(concurrency=4), {}, {"a": 30}),
        (RouteOverrides(concurrency=4), {}, {"a": 30, "b": 9, "c": 1}),
        (RouteOverrides(concurrency=4), {"b": Tenant(weight=3)}, {"a": 20, "b": 20}),
        (RouteOverrides(requests_per_minute=120, burst=2), {}, {"a": 20, "b": 4}),
        (RouteOverrides(tokens_per_minute=12_000), {}, {"a": 25}),
        (RouteOverrides(), {"a": Tenant(concurrency=2)}, {"a": 20, "b": 3}),
        (RouteOverrides(), {"a": Tenant(requests_per_minute=60, burst=2)}, {"a": 20}),
    ],
    ids=["slots", "fair", "weights", "requests", "tokens", "own slots", "own requests"],
)
def test_what_is_told_comes_true(
    gate_of: Any, route: RouteOverrides, tenants: dict[str, Tenant], lines: dict[str, int]
) -> None:
    """Jobs start at the place they were told, and about when, whichever limit holds them up."""
    gate = gate_of(route, tenants)
    learned(gate)
    jobs = [job for tenant, count in lines.items() for job in gate.submit_many(count, tenant)]
    began = gate.now
    told = dict(zip(jobs, outlooks(gate, jobs), strict=True))
    turns = run(gate, lambda: not gate.waiting(*lines))
    for job, outlook in told.items():
        place, when = turns[job]
        assert outlook is not None
        assert outlook.wait is not None
        held_up = any(
            tenant.concurrency or tenant.requests_per_minute for tenant in tenants.values()
        )
        assert held_up or outlook.position == pytest.approx(place, abs=2)
        assert outlook.wait == pytest.approx(when - began, rel=0.25, abs=SECONDS + 0.5)


def test_places_are_told_apart(gate_of: Any) -> None:
    """A thousand tenants with one job each have a thousand places, though most are estimated."""
    gate = gate_of(RouteOverrides(concurrency=1))
    jobs = [gate.submit(f"t{number:04}") for number in range(1000)]
    places = [outlook.position for outlook in outlooks(gate, jobs) if outlook]
    assert sorted(places) == list(range(1, 1001))


def test_what_waits_in_no_line_is_told_nothing(gate_of: Any) -> None:
    """Running, ended and unknown jobs have no place, nor has one whose conversation is busy."""
    gate = gate_of(RouteOverrides(concurrency=1))
    first, second = gate.submit_many(2, conversation="c")
    gate.admit()
    assert outlooks(gate, [first, second, "job_unknown"]) == [None, None, None]


def test_a_pause_is_part_of_the_wait(gate_of: Any) -> None:
    """While the route pauses, what is left of the pause is waited too."""
    gate = gate_of(RouteOverrides(concurrency=5))
    learned(gate)
    job, other = gate.submit_many(2)
    gate.admit(1)
    gate.retry(gate.rung()[0], Feedback("busy", 60), delay=100)
    (outlook,) = outlooks(gate, [other])
    assert outlook is not None
    assert outlook.wait == pytest.approx(60, abs=1)
    assert outlooks(gate, [job]) == [None]


def announce(gate: Gate) -> int:
    """One round."""
    told: int = gate.run(commands.announce(2.0))
    return told


def told_on_feed(gate: Gate, job: str) -> list[dict[str, Any]]:
    """The data of the job's `queued` events that tell an outlook."""
    entries = gate.store.redis.xrange(keys.feed(job))
    events = [decode(entry[1][b"event"]) for entry in entries]
    return [event.data for event in events if "position" in event.data]


def test_followers_are_told_when_much_changes(gate_of: Any) -> None:
    """Only followed jobs are told, at once, then whenever place or wait has halved, not sooner."""
    gate = gate_of(RouteOverrides(concurrency=1))
    learned(gate)
    jobs = gate.submit_many(33)
    channel = gate.store.redis.pubsub()
    channel.subscribe(keys.feed(jobs[-1]))
    assert channel.get_message(timeout=5)["type"] == "subscribe"
    assert announce(gate) == 1
    assert announce(gate) == 0  # within its period
    run(gate, lambda: not announce_and_wait(gate, jobs))
    places = [data["position"] for data in told_on_feed(gate, jobs[-1])]
    assert places[0] == 33
    assert all(later * 2 <= earlier for earlier, later in itertools.pairwise(places))
    assert len(places) >= 5
    assert not told_on_feed(gate, jobs[-2])
    waits = [data["wait"] for data in told_on_feed(gate, jobs[-1])]
    assert waits[0] == pytest.approx(33 * SECONDS, rel=0.2)
    channel.close()


def announce_and_wait(gate: Gate, jobs: list[str]) -> bool:
    """Whether the last one still waits; announces on the way."""
    announce(gate)
    return gate.record(jobs[-1])["state"] == "queued"


def test_an_announcement_of_many_stays_short(gate_of: Any) -> None:
    """One round looks at a bounded number of jobs, and all have their turn."""
    gate = gate_of(RouteOverrides(concurrency=1))
    jobs = gate.submit_many(20)
    channel = gate.store.redis.pubsub()
    channel.subscribe(*map(keys.feed, jobs))
    for _ in jobs:
        assert channel.get_message(timeout=5)
    told = 0
    for _ in range(12):
        told += (now := gate.run(commands.announce(2.0)._replace(arguments=[2.0, 7])))
        assert now <= 7 < ANNOUNCED
        gate.now += 2.1
    assert told == 20
    channel.close()


def test_a_survey_tells_how_a_route_stands(gate_of: Any) -> None:
    """Use, limits, lines and speed of the last minute, as `penstock routes` shows them."""
    gate = gate_of(RouteOverrides(concurrency=3, requests_per_minute=600, tokens_per_minute=60_000))
    gate.submit_many(8, "a")
    gate.submit_many(2, "b")
    gate.admit()
    for job in gate.rung()[:2]:
        gate.finish(job, 500, Feedback("ok", 0, 0.25))
    survey = gate.run(commands.survey("default", 1))
    assert (survey.configured, survey.allowed, survey.in_use) == (3, 3, 1)
    assert (survey.requests, survey.requests_per_minute) == (3, 600)
    assert survey.tokens == pytest.approx(1000 + 1024, rel=0.1)
    assert (survey.waiting, len(survey.tenants)) == (7, 1)
    assert survey.first_token_p50 == pytest.approx(0.25, rel=0.1)
    assert survey.jobs_per_second == pytest.approx(2 / 60)
    assert survey.breaker == "closed"
    assert gate.run(commands.survey("nowhere")) is None


def test_a_minute_slides(gate_of: Any) -> None:
    """The last minute's counts fall evenly while nothing happens, and are gone after two."""
    gate = gate_of(RouteOverrides())
    gate.now = 1_000_000 - 1_000_000 % 60 + 59.0
    gate.submit_many(60)
    gate.admit()
    seen = []
    for _ in range(14):
        seen.append(gate.run(commands.survey("default")).requests)
        gate.now += 10
    assert seen[0] == 60
    assert seen == sorted(seen, reverse=True)
    assert 20 < statistics.mean(seen[1:6]) < 40
    assert seen[-1] == 0
