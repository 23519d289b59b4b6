"""The body of one 200 answer: its events or its one JSON object, with the script's fault in it.

A fault is applied to the rendered bytes, before HTTP frames them, so that every position is
reachable. What happens to the connection behind the last byte is the body's `ending`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from enum import Enum
from typing import Any, ClassVar

import msgspec

from ops.simulator.answer import Answer, predict
from ops.simulator.chunk import Chunks, completion
from ops.simulator.framing import DONE, Frame, bare, framing
from ops.simulator.rejection import stream_error
from ops.simulator.request import ChatRequest, coerce
from ops.simulator.script import MIB, PLAIN, Fault, Script

MAX_EVENT_BYTES = MIB
MAX_RESPONSE_BYTES = 64 * MIB
"""What a client must accept; the oversized faults go one byte beyond."""

FILLER = 64 * 1024


class Ending(Enum):
    """What becomes of the connection behind the last byte of a body."""

    WHOLE = "the HTTP message ends as it should"
    CLOSE = "FIN without the message's end"
    RESET = "RST"
    STALL = "nothing more, the socket stays open"


CUTS = {
    "reset": Ending.RESET,
    "close": Ending.CLOSE,
    "stall": Ending.STALL,
    "eof": Ending.WHOLE,
}
"""Faults that end the body where they strike."""


class StreamBody:
    """The events of a streamed answer, one bytes object each, rendered as they are taken."""

    def __init__(self, answer: Answer, script: Script, fault: Fault | None) -> None:
        self.chunks = Chunks(answer, script)
        self.ending = CUTS.get(fault.kind, Ending.WHOLE) if fault else Ending.WHOLE
        self._script = script
        self._fault = fault
        self._frame: Frame = framing(script)
        self._total = answer.tokens

    @property
    def tokens(self) -> int:
        """Tokens rendered so far."""
        return self.chunks.tokens

    @property
    def said(self) -> bool:
        """Whether every token is out, so that what is left need not be paced."""
        return self.chunks.tokens >= self._total

    def __iter__(self) -> Iterator[bytes]:
        events = self._healthy()
        return self._struck(events, self._fault) if self._fault else events

    def _healthy(self) -> Iterator[bytes]:
        frame = self._frame
        for data in self.chunks.deltas():
            yield frame(data)
        yield from self._close()

    def _close(self, finish_reason: str | None = None) -> Iterator[bytes]:
        for data in self.chunks.closing(finish_reason):
            yield self._frame(data)
        yield from self._done()

    def _done(self) -> Iterator[bytes]:
        if self._script.done == "never":
            return
        event = self._frame(DONE)
        yield event if self._script.done == "blank" else bare(event)

    def _struck(self, events: Iterator[bytes], fault: Fault) -> Iterator[bytes]:
        if fault.kind in CUTS:
            yield from _cut(events, fault)
            return
        yield from _before(events, fault)
        yield from self._inserted[fault.kind](self, events, fault)

    def _error(self, _events: Iterator[bytes], fault: Fault) -> Iterator[bytes]:
        yield self._frame(stream_error(fault))
        if fault.done:
            yield from self._done()

    def _bad_json(self, events: Iterator[bytes], _fault: Fault) -> Iterator[bytes]:
        yield self._frame(self.chunks.content("half a")[:-20])
        yield from events

    def _early_finish(self, _events: Iterator[bytes], fault: Fault) -> Iterator[bytes]:
        yield from self._close(fault.finish_reason)

    def _big_event(self, events: Iterator[bytes], fault: Fault) -> Iterator[bytes]:
        yield self._frame(self.chunks.content("x" * (fault.size or MAX_EVENT_BYTES + 1)))
        yield from events

    def _flood(self, events: Iterator[bytes], fault: Fault) -> Iterator[bytes]:
        filler = self._frame(self.chunks.content("x" * FILLER))
        left = (fault.size or MAX_RESPONSE_BYTES + 1) // len(filler) + 1
        yield from (filler for _ in range(left))
        yield from events

    _inserted: ClassVar[
        dict[str, Callable[[StreamBody, Iterator[bytes], Fault], Iterator[bytes]]]
    ] = {
        "error_object": _error,
        "bad_json": _bad_json,
        "finish": _early_finish,
        "oversized_event": _big_event,
        "oversized_response": _flood,
    }


def render(
    request: bytes | Mapping[str, Any] | ChatRequest,
    *,
    script: Script | None = None,
    seed: int = 0,
    attempt: int = 1,
) -> bytes:
    """The body of the streamed answer to the byte, without a fault; arguments as of `predict`."""
    chat = coerce(request)
    answer = predict(chat, script=script, seed=seed, attempt=attempt)
    return b"".join(StreamBody(answer, chat.simulate or script or PLAIN, None))


def _before(events: Iterator[bytes], fault: Fault) -> Iterator[bytes]:
    """The whole events in front of the fault; those behind it stay in the iterator."""
    sent, size = 0, 0
    while sent < fault.event if fault.byte is None else size < fault.byte:
        event = next(events, None)
        if event is None:
            return
        sent, size = sent + 1, size + len(event)
        yield event


def _cut(events: Iterator[bytes], fault: Fault) -> Iterator[bytes]:
    """Everything in front of the fault, to the byte."""
    if fault.byte is None:
        yield from _before(events, fault)
        return
    left = fault.byte
    for event in _before(events, fault):
        yield event[:left]
        left -= len(event)


class PlainBody:
    """The one JSON object of a plain answer. `length` is what Content-Length says."""

    def __init__(self, answer: Answer, script: Script, fault: Fault | None) -> None:
        self.ending = CUTS.get(fault.kind, Ending.WHOLE) if fault else Ending.WHOLE
        self.tokens = answer.tokens
        self.said = True
        whole = _plain(answer, script, fault)
        self._bytes = whole[: fault.byte or 0] if fault and fault.kind in CUTS else whole
        self.length = len(self._bytes if self.ending is Ending.WHOLE else whole)

    def __iter__(self) -> Iterator[bytes]:
        return iter((self._bytes,))


def _plain(answer: Answer, script: Script, fault: Fault | None) -> bytes:
    if fault is None:
        return msgspec.json.encode(completion(answer, script))
    if fault.kind == "error_object":
        return stream_error(fault)
    reason = fault.finish_reason if fault.kind == "finish" else None
    whole = completion(answer, script, reason)
    if fault.kind in ("oversized_event", "oversized_response"):
        whole["choices"][0]["message"]["content"] = "x" * (fault.size or MAX_RESPONSE_BYTES + 1)
    encoded = msgspec.json.encode(whole)
    return encoded[: len(encoded) // 2] if fault.kind == "bad_json" else encoded
