"""Server-sent events in every spelling the specification allows, and HTTP's chunks around them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from ops.simulator.script import Script

BOM = b"\xef\xbb\xbf"
COMMENT = b": the simulator is still here"
DONE = b"[DONE]"
LAST_CHUNK = b"0\r\n\r\n"

Frame = Callable[[bytes], bytes]


def framing(script: Script) -> Frame:
    """How this script writes an event; the common spelling has a short way."""
    unusual = script.newline != "\n" or script.bom or script.comments or script.fields
    if unusual or script.multiline or not script.space:
        return Framing(script).event
    return _common


def _common(data: bytes) -> bytes:
    return b"data: " + data + b"\n\n"


class Framing:
    """The uncommon spellings. Counts events, because some things happen at every so many-th."""

    def __init__(self, script: Script) -> None:
        self._script = script
        self._newline = script.newline.encode()
        self._colon = b": " if script.space else b":"
        self._events = 0

    def event(self, data: bytes) -> bytes:
        """One event with its blank line."""
        first = self._events == 0
        self._events += 1
        bom = BOM if first and self._script.bom else b""
        return bom + b"".join(line + self._newline for line in self._lines(data))

    def _lines(self, data: bytes) -> Iterator[bytes]:
        if self._script.comments and self._events % self._script.comments == 0:
            yield COMMENT
        if self._script.fields:
            yield from (self._field(b"event", b"message"), self._field(b"id", b"%d" % self._events))
        yield from (self._field(b"data", part) for part in self._parts(data))
        if self._script.fields:
            yield self._field(b"retry", b"3000")
        yield b""

    def _field(self, name: bytes, value: bytes) -> bytes:
        return name + self._colon + value

    def _parts(self, data: bytes) -> list[bytes]:
        """JSON may break between its marks: the LF a reader joins with is white space there."""
        if not self._script.multiline or data == DONE:
            return [data]
        return data.replace(b',"choices":', b',\n"choices":\n', 1).split(b"\n")


def bare(event: bytes) -> bytes:
    """The event without its line ends, as servers write that close right behind `[DONE]`."""
    return event.rstrip(b"\r\n")


def chunk(part: bytes) -> bytes:
    """One HTTP chunk."""
    return b"%x\r\n%b\r\n" % (len(part), part)


def sliced(parts: Iterable[bytes], size: int) -> Iterator[bytes]:
    """The same bytes, `size` at a time within each part."""
    for part in parts:
        yield from (part[at : at + size] for at in range(0, len(part), size))
