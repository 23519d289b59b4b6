"""One attempt under way: what the upstream is asked, and what it has said so far."""

from __future__ import annotations

import time
from typing import Any, Literal

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
        job: what was claimed.
        content: the body for the upstream, as JSON; the job's own until `prepare`.
        model: the one asked; "" until `prepare`.
        begun: whether the first token has come; a role alone is none.
        first_token: seconds from the request until then, "" before.
    """

    def __init__(self, claim: Claim, route: Route, relay: Relay, pace: Pace) -> None:
        self.job, self.route, self.content = claim, route, claim.request
        self.model = ""
        self.lease = Lease(claim.id, claim.holder, claim.route)
        self.feed = Feed(claim.id, claim.holder)
        self.started = time.monotonic()
        self.assembler = Assembler(prices=route.prices)
        self.begun = False
        self.first_token: float | Literal[""] = ""
        self._relay = relay
        self._pace, self._slot = pace, pace.join()

    @property
    def about(self) -> dict[str, Any]:
        """What each log line about it says."""
        job = self.job
        return {"job": job.id, "attempt": job.attempt, "route": job.route, "tenant": job.tenant}

    def prepare(self) -> None:
        """Make the body for the upstream from the job's: a stream, with usage."""
        given: dict[str, Any] = msgspec.json.decode(self.content)
        self.model = self._model
        body = {
            **given,
            "model": self.model,
            "stream": True,
            "stream_options": {**(given.get("stream_options") or {}), "include_usage": True},
        }
        if self.job.way.tier:
            body["service_tier"] = self.job.way.tier
        self.content = msgspec.json.encode(body)
        self.assembler = Assembler(
            prices=self.route.prices,
            n=body.get("n") or 1,
            model=self.model,
            prompt_characters=_characters(body["messages"]),
        )

    @property
    def _model(self) -> str:
        """The job's own wish, but not where it never asked for: a fallback has its own models."""
        wish = "" if self.job.way.asked_route else self.job.model
        return wish or self.route.model

    def completion(self) -> dict[str, Any]:
        """The whole answer, and which way it came; raises StreamBroken where it is none."""
        return {**self.assembler.completion(), "penstock": self._way()}

    def partial(self) -> dict[str, Any]:
        """The answer so far, and which way it came."""
        return {**self.assembler.partial(), "penstock": self._way()}

    def _way(self) -> dict[str, str | None]:
        """Which route answered and which tier was asked for, and why; docs/events.md has it."""
        way = self.job.way
        return {
            "route": self.job.route,
            "route_reason": way.route_reason or "asked",
            "service_tier": way.tier,
            "tier_reason": way.tier_reason,
        }

    @property
    def begun_at(self) -> float | None:
        """When the first token came, by the monotonic clock; None where none has."""
        return None if self.first_token == "" else self.started + self.first_token

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
                self.first_token = time.monotonic() - self.started
                telemetry.FIRST_TOKEN.labels(self.job.route).observe(self.first_token)
            self._relay.add(self.feed, deltas)

    async def turn(self) -> None:
        """Wait for this stream's turn to read on."""
        await self._pace.turn(self._slot)

    @property
    def budget(self) -> float:
        """Seconds this attempt may take: the route's, or what is left until the deadline.

        `started_at` is Redis's time at the claim, so this worker's clock does not matter.
        """
        total, deadline = self.route.timeouts.total, self.job.deadline
        return total if deadline is None else min(total, deadline - self.job.started_at)


def _characters(messages: list[dict[str, Any]]) -> int:
    """Characters of the prompt's texts, to estimate tokens by."""
    contents = (message.get("content") for message in messages)
    return sum(len(content) for content in contents if isinstance(content, str))
