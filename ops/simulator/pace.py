"""When each token is due."""

from __future__ import annotations

import random
from collections.abc import Callable

from ops.simulator.script import Script


class Pace:
    """Time to first token and the gaps behind it, in seconds.

    The jitter is seeded, so the same answer keeps the same rhythm.
    """

    def __init__(self, ttft: float = 0, gap: float = 0, jitter: float = 0, seed: int = 0) -> None:
        self.ttft = ttft
        self._gap = gap
        self._jitter = jitter
        self.next_gap: Callable[[], float] = lambda: gap
        if jitter and gap:
            rng = random.Random(seed)
            self.next_gap = lambda: rng.uniform(gap * (1 - jitter), gap * (1 + jitter))

    @property
    def free(self) -> bool:
        """Whether tokens follow each other as fast as the socket takes them."""
        return self._gap == 0

    def for_script(self, script: Script, seed: int) -> Pace:
        """This pace with what a script wishes otherwise."""
        return Pace(
            self.ttft if script.ttft is None else script.ttft,
            self._gap if script.gap is None else script.gap,
            self._jitter if script.jitter is None else script.jitter,
            seed,
        )

    def total(self, tokens: int) -> float:
        """Seconds so many tokens take together, jitter aside."""
        return self.ttft + self._gap * tokens

    def later(self, seconds: float) -> Pace:
        """The same rhythm, begun later."""
        return Pace(self.ttft + seconds, self._gap, self._jitter)
