"""A request's head, and all else around its body: bounds on size and time, before door.py.

uvicorn bounds neither, and whoever sends a head, or trailers behind a body, may have no key yet.
"""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from producers.gateway import answer, telemetry
from producers.gateway.door import HEADERS
from producers.gateway.problem import Problem

MAX_HEAD = 64 * 1024
"""Bytes of a request line and its headers, or without a byte of body; browsers send far less."""


class _HeadTooLarge(Exception):
    """Raised inside the parser, which then stops."""


class HeadBound(HttpToolsProtocol):
    """uvicorn's protocol with bounds.

    Attributes:
        patience: seconds for a head to come in, from the connection or from its first byte.
    """

    patience: float

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._timer: asyncio.TimerHandle | None = None
        self._has_begun = False
        self._in_body = False
        self._bytes = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Somebody is there, and has to say something."""
        super().connection_made(transport)
        self._arm()

    def connection_lost(self, exc: Exception | None) -> None:
        """Nobody is there any more."""
        self._disarm()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Count what comes in and is no body: the head, a chunk's extensions, trailers."""
        self._bytes += len(data)
        super().data_received(data)
        if self._bytes > MAX_HEAD:
            self._refuse(_too_large())

    def on_message_begin(self) -> None:
        """The first byte of a head."""
        super().on_message_begin()
        self._has_begun = True
        if self._timer is None:
            self._arm()

    def on_headers_complete(self) -> None:
        """The head is whole; what came along with it does not count."""
        size = len(self.url) + sum(len(name) + len(value) for name, value in self.headers)
        if size > MAX_HEAD:
            raise _HeadTooLarge
        self._disarm()
        self._in_body = True
        self._bytes = 0
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """A piece of the body, which door.py counts."""
        self._bytes = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """The next head may begin."""
        self._in_body = self._has_begun = False
        self._bytes = 0
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        """What cannot be parsed, or is too large, is told in our own words."""
        large = self._bytes > MAX_HEAD
        text = "this is no valid HTTP request"
        self._refuse(_too_large() if large else Problem(400, "not_http", text))

    def _arm(self) -> None:
        self._timer = self.loop.call_later(self.patience, self._look)

    def _disarm(self) -> None:
        if self._timer:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        if not self._is_free():  # an answer before it is under way yet, and goes first
            self._arm()
        elif self._has_begun:
            text = "the request's head did not come in in time; send it faster"
            self._refuse(Problem(408, "request_timeout", text))
        else:
            self.transport.close()

    def _is_free(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    def _refuse(self, problem: Problem) -> None:
        """Answer and close; where another answer is under way, only close."""
        self._disarm()
        if self.transport.is_closing():
            return
        waits = self._in_body and not self.pipeline and not self.cycle.response_started
        if waits or self._is_free():
            self.transport.write(_written(self._path(), problem))
            telemetry.REQUESTS.labels("unknown", "unknown", str(problem.status)).inc()
        self.transport.close()

    def _path(self) -> str:
        """As far as it has come in: errors have the shape of the API that is asked."""
        return getattr(self, "url", b"").partition(b"?")[0].decode("latin-1")


def _written(path: str, problem: Problem) -> bytes:
    told = answer.of_problem(path, problem)
    headers = [*told.raw_headers, *HEADERS, (b"connection", b"close")]
    lines = [name + b": " + value + b"\r\n" for name, value in headers]
    return b"".join([STATUS_LINE[problem.status], *lines, b"\r\n", bytes(told.body)])


def _too_large() -> Problem:
    text = f"the request line and headers are over {MAX_HEAD:,} bytes; send less"
    return Problem(431, "head_too_large", text)


def bound_by(patience: float) -> type[HeadBound]:
    """The protocol with this patience; uvicorn makes its instances."""
    return type("PatientHeadBound", (HeadBound,), {"patience": patience})
