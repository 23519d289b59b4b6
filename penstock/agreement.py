"""Says again and again that this process is there, and which formats of a record it reads.

New jobs are written in the newest format that every worker and gateway reads, so that old and new
ones run side by side: see RECORD_VERSION in job.py.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets

from penstock import commands
from penstock.errors import PenstockError, StoreError
from penstock.store import AsyncStore

EVERY = 3.0
"""Seconds; of five calls in a row four may be lost, see commands.PATIENCE."""

FAREWELL = 1.0
"""Seconds to say that it goes: without a server it is waited for, as if it had been killed."""


class Agreement:
    """One worker's or gateway's."""

    def __init__(self, store: AsyncStore) -> None:
        self._store = store
        self._name = secrets.token_hex(8)

    async def say(self) -> None:
        """Say it once; raises StoreError."""
        await self._store.run(commands.agree(self._name))

    async def leave(self) -> None:
        """Say that nobody need wait for this process any more."""
        with contextlib.suppress(StoreError):
            await self._store.run_within(FAREWELL, commands.agree(self._name, 0))

    async def keep(self) -> None:
        """Say it until cancelled, whether Redis is there or not."""
        while True:
            with contextlib.suppress(PenstockError):
                await self.say()
            await asyncio.sleep(EVERY)
