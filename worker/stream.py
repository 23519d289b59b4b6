"""One attempt under way: what the upstream is asked, and what it has said so far."""

from __future__ import annotations

import time
from typing import Any

import msgspec

from penstock.commands import Claim, Lease
from penstock.settings import Route
from worker import telemetry
from worker.pace import Pace
from worker.relay import Feed, Relay
from worker.upstream.assemble import Assembler


class Stream:
    """What was claimed, where its deltas go, and what they add up to.

    Attributes:
        content: the body for the upstream, as JSON; the job's own until `prepare`.
        about: what each log line about it says.
        begun: whether the first token has come; a role alone is none.
    """

    def __init__(self, claim: Claim, route: Route, relay: Relay, pace: Pace) -> None:
        self.record, self.attempt, self.route = claim.record, claim.attempt, route
        self.lease = Lease(claim.record.id, claim.attempt, claim.record.route)
        self.feed = Feed(claim.record.id, claim.attempt)
        self.started = time.monotonic()
        self.content = claim.request
        self.assembler = Assembler(prices=route.prices)
        self.about = {
            "job": claim.record.id, "attempt": claim.attempt, "route": claim.record.route,
            "tenant": claim.record.tenant,
        }  # fmt: skip
        self.begun = False
        self._relay = relay
        self._pace, self._slot = pace, pace.join()

    def prepare(self) -> None:
        """Make the body for the upstream from the job's: a stream, with usage."""
        given: dict[str, Any] = msgspec.json.decode(self.content)
        body = {
            **given,
            "model": self.record.model or self.route.model,
            "stream": True,
            "stream_options": {**(given.get("stream_options") or {}), "include_usage": True},
        }
        self.content = msgspec.json.encode(body)
        self.assembler = Assembler(
            prices=self.route.prices,
            n=body.get("n") or 1,
            model=body["model"],
            prompt_characters=_characters(body["messages"]),
        )

    @property
    def done(self) -> bool:
        """Whether `[DONE]` has come."""
        return self.assembler.done

    def receive(self, data: bytes) -> None:
        """Take one event's data."""
        deltas = self.assembler.feed(data)
        if deltas:
            if not self.begun and any(choice["delta"].keys() - {"role"} for choice in deltas):
                self.begun = True
                waited = time.monotonic() - self.started
                telemetry.FIRST_TOKEN.labels(self.record.route).observe(waited)
            self._relay.add(self.feed, deltas)

    async def turn(self) -> None:
        """Wait for this stream's turn to read on."""
        await self._pace.turn(self._slot)

    @property
    def budget(self) -> float:
        """Seconds this attempt may take: the route's, or what is left until the deadline.

        `started_at` is Redis's time at the claim, so this worker's clock does not matter.
        """
        total, deadline = self.route.timeouts.total, self.record.deadline
        if deadline is None or self.record.started_at is None:
            return total
        return min(total, deadline - self.record.started_at)


def _characters(messages: list[dict[str, Any]]) -> int:
    """Characters of the prompt's texts, to estimate tokens by."""
    contents = (message.get("content") for message in messages)
    return sum(len(content) for content in contents if isinstance(content, str))
