"""A simulator in a thread of its own, for tests that are not coroutines."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

import uvloop

from ops.simulator.server import Simulator
from ops.simulator.stats import Stats


class SimulatorThread:
    """A context manager; takes the arguments of `Simulator`.

    Attributes:
        simulator: the one that runs; read its `url` and `stats`, call its `play`.
    """

    def __init__(self, **options: Any) -> None:
        self.simulator = Simulator(**options)
        self._loop = uvloop.new_event_loop()
        self._thread = threading.Thread(
            target=self._loop.run_forever, name="simulator", daemon=True
        )

    @property
    def url(self) -> str:
        """The base URL."""
        return self.simulator.url

    def until(self, condition: Callable[[Stats], bool], timeout: float = 10.0) -> None:
        """Wait for a state of the counters; raises TimeoutError."""
        self._call(self.simulator.until(condition, timeout))

    def __enter__(self) -> Self:
        self._thread.start()
        try:
            self._call(self.simulator.__aenter__())
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._call(self.simulator.__aexit__(kind, error, trace))
        self._stop()

    def _stop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _call(self, coroutine: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()
