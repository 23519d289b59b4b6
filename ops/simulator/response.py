"""One HTTP answer, ready to be sent: head, body, rhythm and what becomes of the connection."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Protocol

import msgspec

from ops.simulator.body import Ending, PlainBody
from ops.simulator.pace import Pace
from ops.simulator.rejection import HTML, Rejection

JSON = "application/json"
EVENT_STREAM = "text/event-stream; charset=utf-8"


class Body(Protocol):
    """What is sent behind the head, in parts that are due one by one."""

    @property
    def ending(self) -> Ending:
        """What becomes of the connection."""

    @property
    def tokens(self) -> int:
        """Tokens rendered so far."""

    @property
    def said(self) -> bool:
        """Whether no token is left to be paced."""

    def __iter__(self) -> Iterator[bytes]:
        """The parts."""


class Rhythm(Protocol):
    """When the parts of a body are due."""

    @property
    def ttft(self) -> float:
        """Seconds to the first."""

    @property
    def free(self) -> bool:
        """Whether the others follow as fast as the socket takes them."""

    @property
    def next_gap(self) -> Callable[[], float]:
        """Tells the seconds to the next, each time it is called."""


class FixedBody:
    """Bytes that are known before they are due."""

    said = True

    def __init__(self, content: bytes, ending: Ending = Ending.WHOLE, tokens: int = 0) -> None:
        self.ending = ending
        self.tokens = tokens
        self._content = content

    def __iter__(self) -> Iterator[bytes]:
        return iter((self._content,) if self._content else ())


@dataclass(slots=True)
class Response:
    """Attributes say when and how; the connection only follows them.

    Attributes:
        status: of the head, for the statistics.
        head: the bytes of the head; empty for none at all.
        body: the parts behind it.
        chunked: whether each part becomes an HTTP chunk.
        pace: when the parts are due.
        delay: seconds before the head.
        split: bytes per write, 0 for no wish.
        heartbeat: seconds between comments while stalled.
        admitted: whether it counts as in flight.
    """

    status: int
    head: bytes
    body: Body
    chunked: bool = False
    pace: Rhythm = field(default_factory=Pace)
    delay: float = 0.0
    split: int = 0
    heartbeat: float = 0.0
    admitted: bool = False


def head(status: int, headers: dict[str, str]) -> bytes:
    """Status line and headers."""
    phrase = HTTPStatus(status).phrase if status in HTTPStatus._value2member_map_ else "Unassigned"
    lines = [f"HTTP/1.1 {status} {phrase}", "server: penstock-simulator"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


def fixed(status: int, content: bytes, content_type: str = JSON, **more: str) -> Response:
    """An answer of known bytes."""
    headers = {"content-type": content_type, "content-length": str(len(content))} | more
    return Response(status, head(status, headers), FixedBody(content))


def document(value: Any) -> Response:
    """200 with a value as JSON."""
    return fixed(200, msgspec.json.encode(value))


def rejected(rejection: Rejection) -> Response:
    """An error as its rejection describes it."""
    return fixed(rejection.status, rejection.body, **rejection.headers)


def html() -> Response:
    """200 with a web page: what a proxy in maintenance says."""
    return fixed(200, HTML, "text/html; charset=utf-8")


def refused() -> Response:
    """No answer: the connection is reset at once."""
    return Response(0, b"", FixedBody(b"", Ending.RESET))


_STREAM_HEAD = head(
    200,
    {
        "content-type": EVENT_STREAM,
        "cache-control": "no-cache",
        "transfer-encoding": "chunked",
    },
)


def streamed(body: Body, pace: Rhythm, split: int = 0) -> Response:
    """200 with an event stream."""
    return Response(200, _STREAM_HEAD, body, chunked=True, pace=pace, split=split)


def plain(body: PlainBody, delay: float, split: int = 0) -> Response:
    """200 with a completion, head and body at once when all of it would have been said."""
    headers = {"content-type": JSON, "content-length": str(body.length)}
    return Response(200, head(200, headers), body, delay=delay, split=split)
