"""One client connection: requests in, responses out, one after the other."""

from __future__ import annotations

import asyncio
from typing import Protocol, cast

from ops.simulator.body import Ending
from ops.simulator.parser import Request, RequestParser
from ops.simulator.rejection import Rejection
from ops.simulator.response import Response, rejected
from ops.simulator.sending import Sending
from ops.simulator.wheel import Wheel

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class Answerer(Protocol):
    """Who decides what is answered, and keeps count."""

    wheel: Wheel

    def opened(self, connection: Connection) -> None:
        """A client is here."""

    def closed(self, connection: Connection) -> None:
        """It is gone."""

    def answer(self, request: Request) -> Response:
        """What to send for a request."""

    def ended(self, response: Response, how: str) -> None:
        """A response is over: `completed`, `broken_off` or `aborted_by_client`."""


class Connection(asyncio.Protocol):
    """Keep-alive and pipelining; a client that leaves ends its response at once."""

    def __init__(self, answerer: Answerer) -> None:
        self._answerer = answerer
        self._parser = RequestParser()
        self._sending: Sending | None = None
        self._last = False
        self._transport: asyncio.Transport

    @property
    def response(self) -> Response | None:
        """What is being sent."""
        return self._sending.response if self._sending else None

    def hurry(self) -> None:
        """What is to be sent next is due now."""
        if self._sending:
            self._sending.hurry()

    def abort(self) -> None:
        """Close without ceremony."""
        self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by asyncio."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is none by inheritance
        self._answerer.opened(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Called by asyncio."""
        sending, self._sending = self._sending, None
        if sending is not None:
            sending.cancel()
            self._answerer.ended(sending.response, "aborted_by_client")
        self._answerer.closed(self)

    def pause_writing(self) -> None:
        """Called by asyncio."""
        if self._sending:
            self._sending.pause()

    def resume_writing(self) -> None:
        """Called by asyncio."""
        if self._sending:
            self._sending.resume()

    def data_received(self, data: bytes) -> None:
        """Called by asyncio."""
        try:
            self._parser.feed(data)
        except Rejection:  # more than a request's worth while a response is going out
            self.abort()
            return
        self._serve()

    def _serve(self) -> None:
        if self._sending is not None or self._last:
            return
        try:
            request = self._parser.next_request()
        except Rejection as rejection:
            self._last = True
            self._send(rejected(rejection))
            return
        if request is not None:
            self._last = not request.keeps_alive
            self._send(self._answerer.answer(request))
        elif self._parser.take_continue():
            self._transport.write(CONTINUE)

    def _send(self, response: Response) -> None:
        if self._last:
            response.head = response.head.replace(b"\r\n", b"\r\nconnection: close\r\n", 1)
        self._sending = Sending(self._transport, response, self._answerer.wheel, self._sent)
        self._sending.start()

    def _sent(self) -> None:
        sending, self._sending = self._sending, None
        if sending is None:
            return
        whole = sending.response.body.ending is Ending.WHOLE
        self._answerer.ended(sending.response, "completed" if whole else "broken_off")
        if self._last:
            self._transport.close()
        elif whole:
            asyncio.get_running_loop().call_soon(self._serve)
