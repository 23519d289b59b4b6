"""What can be asked for now: the settings' routes, and those that workers or an operator published.

A gateway reads its own settings when it starts; `penstock routes apply` and new workers come later.
"""

from __future__ import annotations

import time
from collections.abc import Mapping

from penstock import AsyncClient

PERIOD = 3.0
"""Seconds that what was published is believed."""


class Offer:
    """The models by route; what is published goes before these settings."""

    def __init__(self) -> None:
        self._models: dict[str, str] = {}
        self._until = 0.0

    async def models(self, queue: AsyncClient) -> Mapping[str, str]:
        """As of at most PERIOD ago, by route, the settings' first; raises StoreError."""
        if time.monotonic() >= self._until:
            configured = {name: r.model for name, r in queue.settings.resolved_routes.items()}
            published = await queue.models()
            self._models = {**configured, **dict(sorted(published.items()))}
            self._until = time.monotonic() + PERIOD
        return self._models
