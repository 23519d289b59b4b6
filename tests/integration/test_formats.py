"""Two versions of Penstock on one Redis: what is written, and who leaves what for whom."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from ops.local.server import EmbeddedServer
from penstock import Client, RecordUnreadable, commands, job, keys
from penstock.commands import PATIENCE, Claim, Refusal
from penstock.settings import RouteOverrides
from penstock.trace import Carrier
from tests.integration.gates import Gate

OLD, NEW, NEXT = 1, 2, 3
As = Callable[[int], None]


@pytest.fixture
def gate(server: EmbeddedServer) -> Gate:
    """A gate that lets two jobs through at a time, on an emptied server."""
    return Gate(server.url, RouteOverrides(concurrency=2))


@pytest.fixture
def be(monkeypatch: pytest.MonkeyPatch) -> As:
    """From now on the code speaks as the version whose newest format is this one."""

    def be(version: int) -> None:
        monkeypatch.setattr(commands, "RECORD_VERSION", version)
        monkeypatch.setattr(job, "RECORD_VERSION", version)

    return be


def agree(gate: Gate, be: As, *versions: int) -> int | None:
    """One process of each of these versions says that it is there; what is written then."""
    written = None
    for number, version in enumerate(versions):
        be(version)
        written = gate.run(commands.agree(f"process-{number}-{version}"))
    return written


def version_of(gate: Gate, id_: str) -> int:
    return int(gate.record(id_)["version"])


def claim(gate: Gate, id_: str) -> Claim | Refusal:
    claimed: Claim | Refusal = gate.run(commands.claim(id_, "worker"))
    return claimed


def test_the_oldest_there_is_decides_what_is_written(gate: Gate, be: As) -> None:
    """An old process lowers the format at once; when it goes, the newer one is written again."""
    assert agree(gate, be, NEW) == NEW
    assert version_of(gate, gate.submit()) == NEW
    gate.now += PATIENCE  # the first of all waits for others that may be there
    assert agree(gate, be, NEW, OLD) == OLD
    be(NEW)
    assert version_of(gate, gate.submit()) == OLD
    be(OLD)
    gate.run(commands.agree("process-1-1", 0))
    be(NEW)
    for _ in range(6):
        gate.now += 3
        agree(gate, be, NEW)
    assert version_of(gate, gate.submit()) == NEW


def test_a_silent_process_is_waited_for(gate: Gate, be: As) -> None:
    """One that was killed keeps the format down until it counts as gone, and no longer."""
    agree(gate, be, OLD, NEW)
    written = []
    for _ in range(8):
        gate.now += 3
        be(NEW)
        written.append(gate.run(commands.agree("process-1-2")))
    assert written == [OLD] * 4 + [NEW] * 4


def test_after_an_outage_everybody_may_come_back(gate: Gate, be: As) -> None:
    """When nobody came for long, the first that is back writes nothing that others cannot read."""
    agree(gate, be, OLD, NEW)
    gate.now += 60
    assert agree(gate, be, NEW) == OLD
    gate.now += 3
    assert agree(gate, be, OLD, NEW) == OLD


def test_a_trace_needs_the_format_that_has_it(gate: Gate, be: As) -> None:
    """In format 1 a job goes without its trace, in format 2 with it."""
    spec = job.JobSpec.build({"messages": [{"role": "user", "content": "m"}]})
    carrier = Carrier("parent", "state=1")
    for versions, told in (((OLD, NEW), None), ((NEW,), "parent")):
        gate.store.redis.delete(keys.READERS, keys.FORMAT, keys.job(spec.id))
        agree(gate, be, *versions)
        be(NEW)
        gate.run(commands.enqueue_many([spec], gate.settings, carrier))
        assert gate.record(spec.id).get("traceparent") == told


@pytest.mark.parametrize("is_lost", [False, True])
def test_a_job_that_a_worker_cannot_read_is_left_for_others(
    gate: Gate, be: As, is_lost: bool
) -> None:
    """It costs no attempt and no slot, and comes back when a worker is there that reads it."""
    gate.replies_get_lost = is_lost
    be(NEXT)
    newer = gate.submit_many(2)
    be(NEW)
    older = gate.submit()
    gate.store.redis.hset(keys.job(older), "version", NEW)
    gate.admit()
    assert gate.rung() == newer
    refusals = [claim(gate, id_) for id_ in newer]
    if not is_lost:
        assert refusals == [Refusal("queued", False, 0, "default", "default", NEXT)] * 2
    assert gate.held() == set()
    assert gate.run(commands.census()).aside == 2
    for _ in range(3):
        gate.sweep()
        gate.admit()
    assert gate.rung() == [older], "only what it can read goes on"
    gate.claim(older)
    assert gate.record(older)["attempt"] == "1"
    be(NEXT)
    gate.sweep()
    gate.admit()
    assert gate.rung() == newer[:1], "there is one more slot"
    gate.claim(newer[0])
    assert gate.record(newer[0])["attempt"] == "1"
    assert gate.run(commands.census()).aside == 0
    be(NEW)
    assert {gate.record(id_).get("attempt") for id_ in newer} == {"1", None}


def test_what_is_left_aside_can_be_stopped(gate: Gate, be: As) -> None:
    """A cancel and a deadline end it; the next of its conversation does not overtake it before."""
    be(NEXT)
    cancelled = gate.submit(conversation="c")
    expiring = gate.submit(deadline=30)
    be(NEW)
    following = gate.submit(conversation="c")
    gate.store.redis.hset(keys.job(following), "version", NEW)
    gate.admit()
    for id_ in gate.rung():
        claim(gate, id_)
    gate.sweep()
    gate.admit()
    assert gate.rung() == []
    gate.run(commands.cancel(cancelled, "test"))
    gate.admit()
    assert gate.rung() == [following]
    gate.now += 31
    gate.sweep()
    assert gate.record(expiring)["state"] == "expired"
    assert gate.store.redis.zcard(keys.ASIDE) == 0


def test_a_client_says_which_version_it_takes(client: Client, be: As) -> None:
    """A record of a newer format, or of one too old, is refused, with what to do about it."""
    be(NEXT)
    newer = client.submit([{"role": "user", "content": "m"}])
    be(OLD)
    with pytest.raises(RecordUnreadable, match="a newer Penstock: its record has format 3"):
        newer.record()
    with pytest.raises(RecordUnreadable):
        list(client.list())
    be(NEXT)
    client.store.redis.hset(keys.job(newer.id), "version", OLD)
    with pytest.raises(RecordUnreadable, match="an older Penstock"):
        client.get(newer.id)
    client.store.redis.hset(keys.job(newer.id), "version", NEW)
    assert client.get(newer.id).id == newer.id
