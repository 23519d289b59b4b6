"""What every request passes: limits on size and time, security headers, faults kept inside."""

from __future__ import annotations

import asyncio
import time
import traceback
from typing import Any

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from penstock import Settings
from penstock.job import MAX_REQUEST_BYTES
from penstock.trace import Span, Tracer
from producers.gateway import answer, telemetry
from producers.gateway.problem import Problem, broken

HEADERS = [
    (b"x-content-type-options", b"nosniff"),
    (b"cache-control", b"no-store"),
    (b"referrer-policy", b"no-referrer"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
]
"""On every answer; see https://owasp.org/www-project-secure-headers/ for an API's."""

JOB_HEADER = "x-penstock-job"


class Door:
    """The outermost middleware."""

    def __init__(self, app: ASGIApp, settings: Settings, tracer: Tracer) -> None:
        self.app = app
        self.tracer = tracer
        self.timeout = settings.gateway_timeout

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        with self.tracer.request(scope["method"], scope["scheme"], headers) as span:
            await self._pass(scope, Passage(scope, receive, send, span))

    async def _pass(self, scope: Scope, passage: Passage) -> None:
        try:
            async with asyncio.timeout(self.timeout) as passage.clock:
                scope["state"]["passage"] = passage
                await self.app(scope, passage.receive, passage.send)
        except TimeoutError:
            await passage.refuse(_too_slow(passage.awaits_body))
        except Exception as error:
            passage.log("request_broken", error=type(error).__name__, place=_place(error))
            await passage.refuse(broken())


class Passage:
    """One request on its way.

    Attributes:
        clock: runs until the answer begins.
        awaits_body: whether it is the sender that is waited for.
    """

    clock: asyncio.Timeout

    def __init__(self, scope: Scope, receive: Receive, send: Send, span: Span) -> None:
        self._scope, self._receive, self._send = scope, receive, send
        self._span = span
        self._began = time.monotonic()
        self._bytes = 0
        self._status = 0
        self._is_refused = False
        self._is_whole = False
        self.awaits_body = False

    def allow(self, seconds: float) -> None:
        """Give the answer more time."""
        if (when := self.clock.when()) is not None:
            self.clock.reschedule(when + seconds)

    async def receive(self) -> Message:
        """The body as it comes in; raises Problem once it is over the limit."""
        self.awaits_body = not self._is_whole
        message = await self._receive()
        self.awaits_body = False  # and stays true where the clock ends the wait
        self._bytes += len(message.get("body", b""))
        self._is_whole = not message.get("more_body", False)
        if self._bytes > MAX_REQUEST_BYTES:
            text = f"the request is over {MAX_REQUEST_BYTES:,} bytes; send less"
            raise Problem(413, "request_too_large", text, {"Connection": "close"})
        return message

    async def send(self, message: Message) -> None:
        """The answer as it goes out."""
        if message["type"] == "http.response.start":
            if not self._is_refused:
                self.clock.reschedule(None)
            self._status = message["status"]
            message["headers"] = [*message.get("headers", ()), *HEADERS, *self._job()]
            self._count()
            self._span.replied(self._status, getattr(self._scope.get("route"), "path", None))
        await self._send(message)

    async def refuse(self, problem: Problem) -> None:
        """Answer with an error, or where the answer had begun, break it off."""
        if self._status:
            raise ConnectionError("an answer broke off")
        self._is_refused = True
        response = answer.of_problem(self._scope["path"], problem)
        await response(self._scope, self._receive, self.send)

    def _job(self) -> list[tuple[bytes, bytes]]:
        """The header that names the job that the request has led to, whatever came after that."""
        job = self._scope["state"].get("job")
        return [(JOB_HEADER.encode(), job.encode())] if job else []

    def _count(self) -> None:
        method, path, seconds = self._scope["method"], self._path(), time.monotonic() - self._began
        telemetry.REQUESTS.labels(method, path, str(self._status)).inc()
        telemetry.SECONDS.labels(method, path).observe(seconds)
        self.log("request_answered", status=self._status, seconds=round(seconds, 4))

    def log(self, action: str, **fields: Any) -> None:
        """Write a line about this request; its path is the route's: an id is of no use there."""
        caller = self._scope["state"].get("caller")
        about = {"tenant": caller.tenant, "key": caller.key} if caller else {}
        telemetry.log(
            action, method=self._scope["method"], path=self._path(), **about, **fields
        )  # fmt: skip

    def _path(self) -> str:
        route = self._scope.get("route")
        return getattr(route, "path", "unknown")


def _too_slow(awaits_body: bool) -> Problem:
    if awaits_body:
        text = "the request did not come in in time; send it faster"
        return Problem(408, "request_timeout", text, {"Connection": "close"})
    return Problem(504, "too_slow", "the queue did not answer in time; try again")


def _place(error: Exception) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    return f"{frames[-1].filename}:{frames[-1].lineno}" if frames else ""
