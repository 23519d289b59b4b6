"""The jobs a process runs, and who of them is meant when one shall stop."""

from __future__ import annotations

from typing import Any

from penstock.commands import Lease, Stop
from worker.leases import Leases


class Delivery:
    """Remembers why it was stopped."""

    stopped_by: Any = None

    def stop(self, reason: Any) -> None:
        self.stopped_by = reason


class Stream:
    """What a log line says about it."""

    about: dict[str, Any] = {}  # noqa: RUF012 - a test's


def hold(leases: Leases, holder: str) -> Any:
    delivery: Any = Delivery()
    leases.hold(Lease("job", holder, "default"), delivery, Stream())
    return delivery


def test_what_the_former_claim_is_told_does_not_stop_the_new_one() -> None:
    """A zombie's last events are refused when its own process has claimed the job again."""
    leases = Leases()
    zombie, successor = hold(leases, "first"), hold(leases, "second")
    leases.stop(Stop("job", "lost", "fenced", "first"))
    assert zombie.stopped_by.detail == "superseded"
    assert successor.stopped_by is None
    leases.stop(Stop("job", "lost", "fenced", "second"))
    assert successor.stopped_by.detail == "fenced"


def test_a_cancel_means_whoever_has_the_job() -> None:
    """Who cancels does not know the claim."""
    leases = Leases()
    delivery = hold(leases, "first")
    leases.stop(Stop("job", "cancelled", "enough"))
    assert delivery.stopped_by.detail == "enough"
