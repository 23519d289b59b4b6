"""Which workers are there, and what they serve: they say so themselves, every few seconds.

Celery's remote control knows its workers too, but asking it takes a second and Celery; this is one
call for whoever looks on. A worker that answers here and not there is deaf.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from penstock import keys
from penstock.commands import Argument, Command
from penstock.scripts import load

GONE = 10.0
"""Seconds of silence after which a worker counts as gone: as long as its leases last."""


class WorkerRecord(msgspec.Struct, frozen=True):
    """One worker process.

    Attributes:
        name: as Celery calls it.
        version: of Penstock.
        routes: what it serves.
        concurrency, streams: how many jobs it may run at a time, and how many it runs.
        started_at: when it was first heard of, seconds since the epoch by Redis's clock.
        gone_at: when it counts as gone, unless it is heard again.
    """

    name: str
    version: str
    routes: tuple[str, ...]
    concurrency: int
    streams: int
    started_at: float
    gone_at: float


def attend(
    name: str, routes: Sequence[str], *, version: str, concurrency: int, streams: int
) -> Command[None]:
    """Say that a worker is there for the next GONE seconds."""
    about: list[Argument] = [
        "version", version, "concurrency", concurrency, "streams", streams,
    ]  # fmt: skip
    arguments = [name, GONE, len(routes), *routes, *about]
    return Command(load("attend"), [keys.worker(name)], arguments, lambda reply: None)


def depart(name: str) -> Command[None]:
    """Say that a worker is there no more."""
    return Command(load("depart"), [keys.worker(name)], [name], lambda reply: None)


def muster() -> Command[list[WorkerRecord]]:
    """The workers that are there, by name."""

    def parse(reply: list[list[bytes]]) -> list[WorkerRecord]:
        return [_record([part.decode() for part in entry]) for entry in reply]

    return Command(load("muster"), [], [], parse)


def _record(parts: list[str]) -> WorkerRecord:
    name, *rest = parts
    fields: dict[str, str] = dict(zip(rest[::2], rest[1::2], strict=True))
    given = {**fields, "name": name, "routes": fields["routes"].split()}
    return msgspec.convert(given, WorkerRecord, strict=False)
