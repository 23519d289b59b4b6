"""Our worker as it was before it knew of traces: the baseline of `tracing`.

    python -m ops.bench.untraced CONCURRENCY

What it leaves out is the seam itself, every call of a tracer's and a span's methods, so that these
cost too where tracing is off.
"""

from __future__ import annotations

import sys
from typing import Any

from penstock.settings import Settings
from worker.app import run
from worker.attempt import Attempts, _undisturbed
from worker.pool import Delivery
from worker.stream import Stream


async def run_plainly(self: Attempts, delivery: Delivery, stream: Stream) -> None:
    """`Attempts._attempt` without its span."""
    outcome = await self._answer(stream, delivery)
    await _undisturbed(self._settle(stream, outcome))


async def ask_plainly(self: Attempts, stream: Stream) -> dict[str, Any]:
    """`Attempts._ask` without its span."""
    await self._upstream.stream(stream.route, stream.content, stream.budget, stream)
    return stream.completion()


def main() -> int:
    """Run the worker."""
    Attempts._attempt, Attempts._ask = run_plainly, ask_plainly  # type: ignore[method-assign]
    return run(Settings.load(concurrency=int(sys.argv[1])))


if __name__ == "__main__":
    sys.exit(main())
