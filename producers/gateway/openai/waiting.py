"""Waiting for words, by a gateway whose client may leave at any moment."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from typing import Any, Generic, TypeVar

from starlette.types import Receive

T = TypeVar("T")


class ClientGone(Exception):
    """Whoever asked has closed the connection."""


async def unless_gone(receive: Receive, work: Coroutine[Any, Any, T]) -> T:
    """The work's result; the request's body has been read.

    Raises:
        ClientGone: the client left before; the work has been cancelled.
    """
    gone, doing = asyncio.ensure_future(_gone(receive)), asyncio.ensure_future(work)
    try:
        await asyncio.wait({gone, doing}, return_when=asyncio.FIRST_COMPLETED)
        if not doing.done():
            raise ClientGone
        return doing.result()
    finally:
        for task in (gone, doing):
            task.cancel()
        await asyncio.gather(gone, doing, return_exceptions=True)


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


class Ahead(Generic[T]):
    """An iterator whose next item can be waited for in portions, without losing it.

    Args:
        items: its own from now on.
    """

    def __init__(self, items: AsyncIterator[T]) -> None:
        self._items = items
        self._next: asyncio.Future[T] | None = None

    async def next(self, patience: float) -> T | None:
        """The next item; None where there is none within so many seconds.

        Raises:
            StopAsyncIteration: there is no other.
        """
        if self._next is None:
            self._next = asyncio.ensure_future(_anext(self._items))
        await asyncio.wait({self._next}, timeout=patience)
        if not self._next.done():
            return None
        item, self._next = self._next, None
        return item.result()

    async def close(self) -> None:
        """Give the rest up."""
        if self._next is not None:
            self._next.cancel()
            await asyncio.gather(self._next, return_exceptions=True)
        close = getattr(self._items, "aclose", None)
        if close is not None:
            await close()


async def _anext(items: AsyncIterator[T]) -> T:
    return await anext(items)
