"""Takes up what `penstock routes apply` has published."""

from __future__ import annotations

from collections.abc import Sequence

from penstock import keys
from penstock.errors import ConfigurationError
from penstock.publication import Publication
from penstock.store import AsyncStore, mapped_errors
from worker import telemetry
from worker.routes import Routes


class Changes:
    """What was applied since this worker started.

    Args:
        store: where it is published.
        routes: what it changes.
        follows: whether this worker takes it up at all.
    """

    def __init__(self, store: AsyncStore, routes: Routes, follows: bool) -> None:
        self._store = store
        self._routes = routes
        self._follows = follows

    async def take_up(self) -> Sequence[str]:
        """Go on with what is published; the routes that are new. Raises StoreError."""
        if not self._follows:
            return ()
        with mapped_errors(self._store.url):
            version = await self._store.redis.hget(keys.APPLIED, "version")
            if not self._is_news(version):
                return ()
            applied = await self._store.redis.hmget(keys.APPLIED, "version", "publication")
        version, publication = applied
        return self._change(version.decode(), publication) if self._is_news(version) else ()

    def _is_news(self, version: bytes | None) -> bool:
        return version is not None and version.decode() != self._routes.version

    def _change(self, version: str, publication: bytes) -> Sequence[str]:
        try:
            return self._routes.take_up(version, Publication.read(publication))
        except ConfigurationError as error:
            self._routes.version = version
            telemetry.log("routes_refused", version=version, error=str(error))
            return ()
