"""What every request passes: limits on what is sent in, security headers, faults kept inside."""

from __future__ import annotations

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from penstock import Settings
from penstock.job import MAX_REQUEST_BYTES
from producers.gateway.problem import Problem

HEADERS = [
    (b"x-content-type-options", b"nosniff"),
    (b"cache-control", b"no-store"),
    (b"referrer-policy", b"no-referrer"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
]
"""On every answer; see https://owasp.org/www-project-secure-headers/ for an API's."""


class Door:
    """The outermost middleware."""

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self.app = app
        self.settings = settings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def sender(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", []), *HEADERS]
            await send(message)

        await self.app(scope, counted(receive), sender)


def counted(receive: Receive) -> Receive:
    """The body as it comes in; raises Problem once it is over the limit."""
    total = 0

    async def receiver() -> Message:
        nonlocal total
        message = await receive()
        total += len(message.get("body", b""))
        if total > MAX_REQUEST_BYTES:
            text = f"the request is over {MAX_REQUEST_BYTES:,} bytes; send less"
            raise Problem(413, "request_too_large", text, {"Connection": "close"})
        return message

    return receiver
