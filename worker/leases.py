"""The jobs this process runs: what it must renew, and how each is stopped."""

from __future__ import annotations

from collections.abc import Iterator

from penstock.commands import Lease, Stop
from worker.pool import Delivery


class Leases:
    """The leases of this process, by job. Lives on the event loop's thread."""

    def __init__(self) -> None:
        self._held: dict[str, tuple[Lease, Delivery]] = {}

    def __len__(self) -> int:
        return len(self._held)

    def __iter__(self) -> Iterator[Lease]:
        return iter([lease for lease, _ in self._held.values()])

    def hold(self, lease: Lease, delivery: Delivery) -> None:
        """Take a lease on; a zombie's older lease on the same job is stopped."""
        if older := self._held.get(lease.id):
            older[1].stop(Stop(lease.id, "lost", "superseded"))
        self._held[lease.id] = (lease, delivery)

    def release(self, lease: Lease) -> None:
        """Give a lease up, unless the job is held anew by now."""
        if (held := self._held.get(lease.id)) and held[0] == lease:
            del self._held[lease.id]

    def stop(self, stop: Stop) -> bool:
        """Stop a job; False where it is not ours."""
        held = self._held.get(stop.id)
        if held is not None:
            held[1].stop(stop)
        return held is not None
