"""The jobs this process runs: what it must renew, and how each is stopped."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple, Protocol

from penstock.commands import Lease, Stop
from worker import telemetry
from worker.pool import Delivery


class Logged(Protocol):
    """Something the log knows how to speak of."""

    @property
    def about(self) -> dict[str, Any]:
        """Job, attempt, route and tenant."""


class _Held(NamedTuple):
    lease: Lease
    delivery: Delivery
    stream: Logged


class Leases:
    """The leases of this process, by job. Lives on the event loop's thread."""

    def __init__(self) -> None:
        self._held: dict[str, _Held] = {}
        self._expected: dict[str, Stop | None] = {}

    def __len__(self) -> int:
        return len(self._held)

    def __iter__(self) -> Iterator[Lease]:
        return iter([held.lease for held in self._held.values()])

    @contextmanager
    def expected(self, job: str) -> Iterator[None]:
        """While a job is being claimed: a cancel that comes meanwhile is kept for `hold`."""
        self._expected[job] = None
        try:
            yield
        finally:
            self._expected.pop(job, None)

    def hold(self, lease: Lease, delivery: Delivery, stream: Logged) -> None:
        """Take a lease on; a zombie's older lease on the same job is stopped."""
        if stop := self._expected.pop(lease.id, None):
            delivery.stop(stop)
        self.stop(Stop(lease.id, "lost", "superseded"))
        self._held[lease.id] = _Held(lease, delivery, stream)

    def release(self, lease: Lease) -> None:
        """Give a lease up, unless the job is held anew by now."""
        if (held := self._held.get(lease.id)) and held.lease == lease:
            del self._held[lease.id]

    def stop(self, stop: Stop) -> None:
        """Stop a job, if it is ours, and held by the claim that is meant."""
        if stop.id in self._expected and stop.verdict == "cancelled":
            self._expected[stop.id] = stop
        held = self._held.get(stop.id)
        if held is None or stop.holder not in ("", held.lease.holder):
            return
        if held.delivery.stopped_by is None:
            held.delivery.stop(stop)
            if stop.verdict == "lost":
                telemetry.log("lease_lost", **held.stream.about, state=stop.detail)
