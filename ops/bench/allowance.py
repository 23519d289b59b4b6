"""The limits that are to be used to the full, and the work that does so."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any, Literal, NamedTuple

from ops.bench.load import MODEL
from ops.simulator.answer import BYTES_PER_PROMPT_TOKEN

Kind = Literal["concurrency", "requests_per_minute", "tokens_per_minute"]
SLOTS = 200
"""DeepInfra's documented concurrency; also what bounds a route whose rates are limited."""

BURST = 10


class Work(NamedTuple):
    """Requests of a kind.

    Attributes:
        prompt: tokens.
        answer: the fewest and the most tokens; uniform between them.
        gap: seconds between two tokens.
    """

    prompt: int
    answer: tuple[int, int]
    gap: float

    @property
    def tokens(self) -> int:
        """The mean of a request, prompt and answer."""
        return self.prompt + sum(self.answer) // 2

    @property
    def seconds(self) -> float:
        """How long the mean answer takes."""
        return sum(self.answer) / 2 * self.gap

    def bodies(self, count: int, seed: int = 1) -> Iterator[dict[str, Any]]:
        """So many requests, always the same ones."""
        sizes = random.Random(seed)
        messages = [{"role": "user", "content": "x" * (self.prompt * BYTES_PER_PROMPT_TOKEN)}]
        for _ in range(count):
            simulate = {"tokens": sizes.randint(*self.answer), "gap": self.gap}
            yield {"model": MODEL, "messages": messages, "simulate": simulate}


class Allowance(NamedTuple):
    """A limit of the provider, and the work it is tried with."""

    kind: Kind
    amount: int
    work: Work

    @property
    def title(self) -> str:
        """As it stands in the table."""
        return f"{self.kind.replace('_', ' ')} {self.amount}"

    @property
    def jobs_per_minute(self) -> float:
        """How many jobs of this work it allows."""
        match self.kind:
            case "concurrency":
                return self.amount / self.work.seconds * 60
            case "requests_per_minute":
                return self.amount
            case "tokens_per_minute":
                return self.amount / self.work.tokens

    @property
    def per_second(self) -> float:
        """What may be used in a second: of requests at once, all of them."""
        return self.amount if self.kind == "concurrency" else self.amount / 60

    @property
    def counter(self) -> str:
        """Which counter of a Look grows by what is used."""
        names = {"concurrency": "seconds", "requests_per_minute": "requests"}
        return names.get(self.kind, "tokens")

    @property
    def limits(self) -> dict[str, int]:
        """The same for the simulator, which takes a burst for requests only."""
        burst = {"burst": BURST} if self.kind == "requests_per_minute" else {}
        return {self.kind: self.amount, **burst}

    @property
    def route(self) -> str:
        """The same limit as a route of penstock.toml."""
        limits = {"concurrency": SLOTS, self.kind: self.amount, "burst": BURST}
        return "\n".join(["[routes.default]", *(f"{k} = {v}" for k, v in limits.items()), ""])
