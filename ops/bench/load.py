"""What each stream of a benchmark is asked for."""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec

MODEL = "simulated"
MESSAGES = [{"role": "user", "content": "Tell me about water, gates and turbines."}]
"""The prompt of every request: its length does not matter to what is measured here."""


class Load(NamedTuple):
    """One answer of the simulator: so many tokens, so many seconds apart."""

    tokens: int
    gap: float = 0.0
    ttft: float = 0.0

    @property
    def simulate(self) -> dict[str, Any]:
        """The request's `simulate` field."""
        return {"tokens": self.tokens, "gap": self.gap, "ttft": self.ttft}

    @property
    def body(self) -> dict[str, Any]:
        """A chat request that asks for it."""
        return {"model": MODEL, "messages": MESSAGES, "simulate": self.simulate}

    @property
    def content(self) -> bytes:
        """The same as what a worker sends to the upstream."""
        return msgspec.json.encode({**self.body, "stream": True})


ONE_TOKEN = Load(tokens=1)
"""An upstream that answers at once: what is left is the cost of a job."""
