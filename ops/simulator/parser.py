"""HTTP/1.1 requests out of bytes, without I/O.

Small on purpose: what an API client sends, with limits, and a clear refusal of everything else.
Request bodies need a Content-Length; chunked ones are answered 411.
"""

from __future__ import annotations

import re

import msgspec

from ops.simulator.rejection import reject

MAX_HEAD_BYTES = 64 * 1024
MAX_BODY_BYTES = 16 * 1024 * 1024

_REQUEST_LINE = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+) (\S+) HTTP/(\d)\.(\d)")
_HEADER = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([^\x00\r\n]*?)[ \t]*")
_LENGTH = re.compile(r"[0-9]{1,12}")


class Request(msgspec.Struct, frozen=True):
    """One HTTP request; header names are in lower case."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes = b""

    @property
    def path(self) -> str:
        """The target without its query."""
        return self.target.partition("?")[0]

    @property
    def keeps_alive(self) -> bool:
        """Whether the client may send another request on the connection."""
        return "close" not in self.headers.get("connection", "").lower()


class RequestParser:
    """Collects bytes; `next_request` gives the whole requests in them, one by one."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._head: Request | None = None
        self._body_length = 0
        self._continue_due = False

    def feed(self, data: bytes) -> None:
        """Take bytes from the network; raises Rejection where a client sends far too much ahead."""
        self._buffer += data
        if len(self._buffer) > MAX_HEAD_BYTES + MAX_BODY_BYTES:
            raise reject(413)

    def next_request(self) -> Request | None:
        """The next request once it is whole, else None.

        Raises Rejection with status 400, 411, 413, 431 or 505.
        """
        if self._head is None:
            self._head = self._take_head()
        if self._head is None or len(self._buffer) < self._body_length:
            return None
        body = bytes(self._buffer[: self._body_length])
        del self._buffer[: self._body_length]
        request, self._head = self._head, None
        return msgspec.structs.replace(request, body=body)

    def take_continue(self) -> bool:
        """Whether a client now waits for `100 Continue`; true once a request."""
        due, self._continue_due = self._continue_due, False
        return due

    def _take_head(self) -> Request | None:
        while self._buffer.startswith(b"\r\n"):  # RFC 9112 2.2: ignore empty lines in front
            del self._buffer[:2]
        end = self._buffer.find(b"\r\n\r\n")
        if (end if end >= 0 else len(self._buffer)) > MAX_HEAD_BYTES:
            raise reject(431)
        if end < 0:
            return None
        head = _head(bytes(self._buffer[:end]))
        del self._buffer[: end + 4]
        self._body_length = _body_length(head.headers)
        self._continue_due = head.headers.get("expect", "").lower() == "100-continue"
        return head


def _head(block: bytes) -> Request:
    first, *lines = block.split(b"\r\n")
    line = _REQUEST_LINE.fullmatch(first)
    if line is None:
        raise reject(400)
    if line[3] + line[4] != b"11":
        raise reject(505)
    headers: dict[str, str] = {}
    for each in lines:
        name, value = _header(each)
        if name in ("content-length", "host") and headers.get(name, value) != value:
            raise reject(400)
        headers[name] = value
    if "host" not in headers:
        raise reject(400)
    return Request(line[1].decode("ascii"), line[2].decode("latin-1"), headers)


def _header(line: bytes) -> tuple[str, str]:
    match = _HEADER.fullmatch(line)
    if match is None:
        raise reject(400)
    return match[1].decode("ascii").lower(), match[2].decode("latin-1")


def _body_length(headers: dict[str, str]) -> int:
    if "transfer-encoding" in headers:
        raise reject(411)
    given = headers.get("content-length", "0")
    if not _LENGTH.fullmatch(given):
        raise reject(400)
    length = int(given)
    if length > MAX_BODY_BYTES:
        raise reject(413)
    return length
