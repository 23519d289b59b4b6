"""What was submitted, acknowledged and delivered, and what the feeds say about it in the end."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from ops.simulator import predict
from penstock import AsyncClient, keys
from penstock.errors import StoreUnavailable
from penstock.events import Event, decode
from penstock.state import TERMINAL
from tests.acceptance.fleet import POLL

BATCH = 500


class Verdict(NamedTuple):
    """What became of the acknowledged jobs.

    Attributes:
        ended: how many ended in each way.
        lost: acknowledged jobs without a terminal event, or whose record is not terminal.
        extra_finals: terminal events beyond one per job, and events behind a terminal one.
        undelivered: followers that did not get the very events of the feed, in order.
        wrong: completions that are not what the simulator was to say, or not what the deltas said.
        gaps: attempts whose events are not numbered without gaps.
        strangers: jobs in Redis that no acknowledged submission explains.
        duplicates: jobs beyond one for each request.
        unexplained: attempts beyond the first that neither count nor are excused.
    """

    ended: Counter[str]
    lost: int
    extra_finals: int
    undelivered: int
    wrong: int
    gaps: int
    strangers: int
    duplicates: int
    unexplained: int

    @property
    def flawless(self) -> bool:
        """Whether nothing that must hold was broken."""
        return not any(self[1:])

    def __str__(self) -> str:
        ended = ", ".join(f"{count} {state}" for state, count in sorted(self.ended.items()))
        flaws = ", ".join(
            f"{name.replace('_', ' ')} {value}"
            for name, value in zip(self._fields[1:], self[1:], strict=True)
            if value or name in ("lost", "extra_finals")
        )
        return f"{ended or 'nothing ended'}; {flaws}"


class Ledger:
    """The books of one run.

    Attributes:
        seed: what the run's randomness started from.
        bodies: each job's request, by index; the index is in its idempotency key.
        acknowledged: job id to index, of the submissions that returned.
        seen: what followers were given, by job.
        feeds: every event of every job in Redis; read by `audit`.
    """

    def __init__(self, client: AsyncClient, seed: int) -> None:
        self.client = client
        self.seed = seed
        self.bodies: dict[int, dict[str, Any]] = {}
        self.acknowledged: dict[str, int] = {}
        self.seen: dict[str, list[Event]] = {}
        self.feeds: dict[str, list[Event]] = {}
        self.records: dict[str, dict[str, str]] = {}

    def acknowledge(self, job: str, index: int) -> None:
        """A submission has returned with this job."""
        self.acknowledged[job] = index

    async def follow(self, job: str) -> None:
        """Follow a job to its end, keeping what comes.

        Only a reader that never heard anything may be told that the server is away: it asks again.
        """
        seen = self.seen.setdefault(job, [])
        while not seen:
            with contextlib.suppress(StoreUnavailable):
                async for event in self.client.job(job).events():
                    seen.append(event)

    async def settle(self, timeout: float) -> bool:
        """Wait until every acknowledged job has ended; whether they did in time."""
        open_jobs = set(self.acknowledged)
        deadline = asyncio.get_running_loop().time() + timeout
        while open_jobs and asyncio.get_running_loop().time() < deadline:
            states = await self._states(sorted(open_jobs))
            open_jobs -= {job for job, state in states.items() if state in TERMINAL}
            await asyncio.sleep(POLL * 5)
        return not open_jobs

    async def _states(self, jobs: Sequence[str]) -> dict[str, str]:
        states: dict[str, str] = {}
        for start in range(0, len(jobs), BATCH):
            pipeline = self.client.store.redis.pipeline(transaction=False)
            for job in jobs[start : start + BATCH]:
                pipeline.hget(keys.job(job), "state")
            replies = await pipeline.execute()
            found = zip(jobs[start : start + BATCH], replies, strict=True)
            states |= {job: state.decode() for job, state in found if state}
        return states

    async def audit(self) -> Verdict:
        """Read every feed and record, and judge."""
        prefix = keys.feed("")
        found = [key async for key in self.client.store.redis.scan_iter(f"{prefix}*", count=1000)]
        jobs = sorted({key.decode().removeprefix(prefix) for key in found} | {*self.acknowledged})
        for start in range(0, len(jobs), BATCH):
            await self._read(jobs[start : start + BATCH])
        return self._judge()

    async def _read(self, jobs: Sequence[str]) -> None:
        pipeline = self.client.store.redis.pipeline(transaction=False)
        for job in jobs:
            pipeline.xrange(keys.feed(job))
            pipeline.hgetall(keys.job(job))
        replies = await pipeline.execute()
        for job, entries, fields in zip(jobs, replies[::2], replies[1::2], strict=True):
            self.feeds[job] = [decode(entry[b"event"]) for _, entry in entries]
            self.records[job] = {k.decode(): v.decode() for k, v in fields.items()}

    def _judge(self) -> Verdict:
        mine = {job: self.feeds[job] for job in self.acknowledged}
        finals = {job: [e for e in feed if e.is_terminal] for job, feed in mine.items()}
        return Verdict(
            ended=Counter(str(final[-1].type) for final in finals.values() if final),
            lost=sum(not self._is_over(job, final) for job, final in finals.items()),
            extra_finals=sum(_extra(feed) for feed in mine.values()),
            undelivered=sum(seen != self.feeds[job] for job, seen in self.seen.items()),
            wrong=sum(self._is_wrong(job, feed) for job, feed in mine.items()),
            gaps=sum(gaps(feed) for feed in mine.values()),
            strangers=len(self.feeds.keys() - self.acknowledged.keys()),
            duplicates=len(mine) - len(set(self.acknowledged.values())),
            unexplained=sum(_unexplained(self.records[job], feed) for job, feed in mine.items()),
        )

    def _is_over(self, job: str, finals: Sequence[Event]) -> bool:
        record = self.records[job]
        return bool(finals) and record.get("state") == finals[-1].type

    def _is_wrong(self, job: str, feed: Sequence[Event]) -> bool:
        """Whether a completion differs from the simulator's words, or from its own deltas."""
        if not feed or feed[-1].type != "completed":
            return False
        said = feed[-1].data["choices"][0]["message"]["content"]
        streamed = "".join(event.text for event in last_attempt(feed))
        expected = predict(self.bodies[self.acknowledged[job]]).choices[0].content
        return not said == streamed == expected

    def events(self, type_: str) -> Iterator[Event]:
        """Every event of this type, of all jobs; after `audit`."""
        return (event for feed in self.feeds.values() for event in feed if event.type == type_)

    def total(self, field: str) -> int:
        """The sum of a number in all records; after `audit`."""
        return sum(int(record.get(field, 0)) for record in self.records.values())


def last_attempt(feed: Sequence[Event]) -> Iterator[Event]:
    """The events of a feed's last attempt."""
    return (event for event in feed if event.cursor.attempt == feed[-1].cursor.attempt)


def gaps(feed: Iterable[Event]) -> int:
    """Attempts in which a number is missing."""
    numbers: defaultdict[int, list[int]] = defaultdict(list)
    for event in feed:
        numbers[event.cursor.attempt].append(event.cursor.n)
    return sum(held != list(range(1, len(held) + 1)) for held in numbers.values())


def _extra(feed: Sequence[Event]) -> int:
    for place, event in enumerate(feed):
        if event.is_terminal:
            return len(feed) - place - 1
    return 0


def _unexplained(record: Mapping[str, str], feed: Sequence[Event]) -> bool:
    """Whether an upstream that never fails cost this job more than one counted attempt."""
    if not feed or feed[-1].type != "completed":
        return False
    return int(record.get("attempt", 0)) - int(record.get("excused", 0)) != 1
