"""Server-sent events: bytes in, the data of each event out.

By https://html.spec.whatwg.org/multipage/server-sent-events.html#parsing-an-event-stream, for a
client that never reconnects: `id` and `retry` have no use here and are left out. All work is done
on bytes: only CR and LF end lines, and a split inside a UTF-8 character cannot matter.

Two things differ from the specification, on purpose: sizes are limited, and a last
`data: [DONE]` counts without its blank line.
"""

from __future__ import annotations

from typing import Self

from penstock.errors import StreamBroken

MAX_EVENT_BYTES = 1 << 20
"""One event, from blank line to blank line, comments included. A chunk is a few hundred bytes."""

MAX_RESPONSE_BYTES = 64 << 20
"""One response: more than the longest answer (16,384 tokens) in one-token chunks of 1 KiB."""

DONE = b"[DONE]"
"""The data of the event that ends a stream of chat completion chunks."""

_BOM = b"\xef\xbb\xbf"


class NamedEvent(bytes):
    """The data of an event that has a name: bytes like any other event's, and `name`.

    Nearly no event of a chat completion is named, so an unnamed one is plain `bytes`.
    """

    name: str

    def __new__(cls, data: bytes, name: str) -> Self:
        """The data, with a name."""
        event = super().__new__(cls, data)
        event.name = name
        return event


def media_type(content_type: str) -> str:
    """A `content-type` header without its parameters, in lower case."""
    return content_type.partition(";")[0].strip().lower()


class Decoder:
    """One response's decoder: `feed` each piece of the body as it comes, then `close`."""

    __slots__ = ("_after_cr", "_first", "_pending", "_received")

    def __init__(self) -> None:
        self._pending = bytearray()  # the event that has not ended yet; grows without copying
        self._received = 0
        self._first = True
        self._after_cr = False

    def feed(self, data: bytes) -> list[bytes]:
        """The data of each event that ends in this piece; raises StreamBroken beyond a limit."""
        self._received += len(data)
        if self._received > MAX_RESPONSE_BYTES:
            raise _too_large("response", MAX_RESPONSE_BYTES)
        if self._after_cr or b"\r" in data:
            data = self._with_line_feeds(data)
        pending = self._pending
        if b"\n\n" not in data and not (data[:1] == b"\n" and pending[-1:] == b"\n"):
            pending += data
            _check_size(pending)
            return []
        if pending:
            data = bytes(pending) + data
            pending.clear()
        return self._events(data)

    def close(self) -> list[bytes]:
        """The end of the body: `[DONE]` if that is what it ended with; all else is dropped."""
        data = _parse(self._without_mark(bytes(self._pending)))
        self._pending.clear()
        return [data] if data == DONE else []

    def _events(self, text: bytes) -> list[bytes]:
        """Every event of a text that has at least one blank line; the rest becomes pending."""
        blocks = text.split(b"\n\n")
        if len(text) > MAX_EVENT_BYTES:
            for block in blocks:
                _check_size(block)
        if rest := blocks.pop():
            self._pending += rest
        if self._first:
            blocks[0] = self._without_mark(blocks[0])
        events = []
        for block in blocks:
            if block[:6] == b"data: " and b"\n" not in block:  # as good as always
                events.append(block[6:])
            elif (data := _parse(block)) is not None:
                events.append(data)
        return events

    def _without_mark(self, block: bytes) -> bytes:
        """The first event without a byte order mark; it is whole here, however it was cut."""
        first, self._first = self._first, False
        return block.removeprefix(_BOM) if first else block

    def _with_line_feeds(self, data: bytes) -> bytes:
        """CRLF and CR as LF. A CR ends its line at once; an LF that follows adds nothing."""
        if not data:
            return data
        if self._after_cr and data[:1] == b"\n":
            data = data[1:]
        self._after_cr = data[-1:] == b"\r"
        return data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")


def _parse(block: bytes) -> bytes | None:
    """The data of one event's lines, or None if no line is data."""
    values, name = [], b""
    for line in block.split(b"\n"):
        field, _, value = line.partition(b":")
        if field == b"data":
            values.append(value.removeprefix(b" "))
        elif field == b"event":
            name = value.removeprefix(b" ")
    if not values:
        return None
    data = b"\n".join(values)
    return NamedEvent(data, name.decode(errors="replace")) if name else data


def _check_size(block: bytes | bytearray) -> None:
    """Raise StreamBroken for a block over the limit; half of its blank line is not counted."""
    if len(block) > MAX_EVENT_BYTES and len(block.removesuffix(b"\n")) > MAX_EVENT_BYTES:
        raise _too_large("event", MAX_EVENT_BYTES)


def _too_large(what: str, limit: int) -> StreamBroken:
    return StreamBroken(
        f"the upstream's {what} is over the limit of {limit >> 20} MiB", code=f"{what}_too_large"
    )
