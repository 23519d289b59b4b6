"""An event stream as it is written: words while they come, comments while they do not."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from producers.gateway import stream
from producers.gateway.openai.waiting import Ahead, ClientGone, unless_gone

T = TypeVar("T")

HEARTBEAT = 15.0
"""Seconds of silence until a comment is sent: proxies close what is silent for 30 to 60."""

COMMENT = b":\n"
"""Without a blank line behind it: for a reader it is no event."""


class Live(Response, Generic[T]):
    """Sends words to their end.

    Args:
        first: what was waited for before the status was certain; None for nothing.
        rest: the words after it; closed in any case.
        written: a word's bytes.
        left: what to do when the client leaves before the end.
    """

    media_type = "text/event-stream"

    def __init__(
        self,
        first: T | None,
        rest: Ahead[T],
        written: Callable[[T], bytes],
        left: Callable[[], Awaitable[None]],
    ) -> None:
        super().__init__(headers=stream.HEADERS)
        del self.headers["content-length"]
        self._first, self._rest, self._written, self._left = first, rest, written, left

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Called by the server."""
        try:
            await unless_gone(receive, self._write(send))
        except ClientGone:
            await self._left()
        finally:
            await self._rest.close()

    async def _write(self, send: Send) -> None:
        await send(
            {"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers}
        )
        word = self._first
        try:
            while True:
                body = COMMENT if word is None else self._written(word)
                await send({"type": "http.response.body", "body": body, "more_body": True})
                word = await self._rest.next(HEARTBEAT)
        except StopAsyncIteration:
            await send({"type": "http.response.body", "body": b"", "more_body": False})
