"""The decoder against the WHATWG specification, whatever way the bytes are cut."""

from __future__ import annotations

import re
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.errors import StreamBroken
from worker.upstream import sse
from worker.upstream.sse import Decoder, NamedEvent, media_type

# Pieces that together make every branch of the specification likely.
PIECES = [
    *(b"\n", b"\r", b"\r\n", b"\n\n", b"data", b"data:", b"data: ", b"event:", b"id: 1", b"retry:"),
    *(b":", b" ", b"x", b"\xef\xbb\xbf", "é\u2028\x85".encode(), b"\xff", b"\0", b"[DONE]"),
    *(b"event: error\n", b'data: {"a":1}\n\n', b"datax: 1\n", b"\x0b\x0c\x1c"),
]
bodies = st.lists(st.sampled_from(PIECES), max_size=30).map(b"".join)


def decode(*pieces: bytes) -> list[tuple[bytes, str]]:
    """Each event's data and name, the end of the body included."""
    decoder = Decoder()
    events = [event for piece in pieces for event in decoder.feed(piece)]
    events += decoder.close()
    return [(bytes(event), getattr(event, "name", "")) for event in events]


def reference(body: bytes) -> list[tuple[bytes, str]]:
    """The specification's algorithm, word for word, on the whole body."""
    events, data, name = [], b"", ""
    *lines, unfinished = re.split(rb"\r\n|\n|\r", body.removeprefix(b"\xef\xbb\xbf"))
    for line in lines:
        if not line:
            if data:
                events.append((data[:-1], name))
            data, name = b"", ""
            continue
        field, _, value = line.partition(b":")
        value = value[1:] if value.startswith(b" ") else value
        if field == b"data":
            data += value + b"\n"
        elif field == b"event":
            name = value.decode(errors="replace")
    if unfinished.startswith(b"data:"):
        data += unfinished[5:].removeprefix(b" ") + b"\n"
    return [*events, *([(b"[DONE]", name)] if data == b"[DONE]\n" else [])]


@st.composite
def cut_bodies(draw: st.DrawFn) -> list[bytes]:
    """A body, cut anywhere."""
    body = draw(bodies)
    cuts = sorted(draw(st.lists(st.integers(0, len(body)), max_size=12)))
    return [body[a:b] for a, b in zip([0, *cuts], [*cuts, len(body)], strict=True)]


@given(bodies)
def test_agrees_with_the_specification(body: bytes) -> None:
    """A whole body gives what a word-for-word reading of the specification gives."""
    assert decode(body) == reference(body)


@given(cut_bodies())
def test_cuts_do_not_matter(pieces: list[bytes]) -> None:
    """The same bytes give the same events however the network cuts them."""
    assert decode(*pieces) == decode(b"".join(pieces))


@given(bodies)
def test_single_bytes(body: bytes) -> None:
    """Bytes that come one at a time give the same events."""
    assert decode(*(bytes([byte]) for byte in body)) == decode(body)


@pytest.mark.parametrize(
    ("body", "events"),
    [
        (b"data: YHOO\ndata: +2\ndata: 10\n\n", [b"YHOO\n+2\n10"]),
        (
            b": test stream\n\ndata: first\nid: 1\n\ndata:second\nid\n\ndata:  third",
            [b"first", b"second"],
        ),
        (b"data\n\ndata\ndata\n\ndata:", [b"", b"\n"]),
        (b"data:test\n\ndata: test\n\n", [b"test", b"test"]),
    ],
)
def test_examples_of_the_specification(body: bytes, events: list[bytes]) -> None:
    """The four example streams in the specification give what it says they give."""
    assert [data for data, _ in decode(body)] == events


def test_one_leading_byte_order_mark_is_dropped() -> None:
    """A byte order mark is dropped at the very start, even one byte at a time, and only there."""
    mark = b"\xef\xbb\xbf"
    body = mark + b"data: 1\n\n" + mark + b"data: 2\n\n"
    assert decode(body) == decode(*(bytes([byte]) for byte in body)) == [(b"1", "")]
    assert decode(b"data: 1\n\n" + mark + b"data: 2\n\n") == [(b"1", "")]
    assert decode(mark + mark + b"data: 1\n\n") == []
    assert decode(mark + b"data: [DONE]") == [(b"[DONE]", "")]


def test_events_come_at_once() -> None:
    """An event is out with the last byte of its blank line, not with the next event."""
    decoder = Decoder()
    assert decoder.feed(b"data: a\r\n\r") == [b"a"]
    assert decoder.feed(b"\ndata: b\r\r") == [b"b"]


def test_a_split_line_end_is_one() -> None:
    """A CRLF that is cut in two ends one line, not two, and so no event."""
    assert decode(b"data: a\r", b"\ndata: b\r", b"", b"\n\r\n") == [(b"a\nb", "")]


def test_names_are_kept() -> None:
    """A named event is recognisable, and its data still is bytes."""
    (event,) = Decoder().feed(b'event: error\ndata: {"message":"busy"}\n\n')
    assert isinstance(event, NamedEvent)
    assert (event.name, event) == ("error", b'{"message":"busy"}')


@pytest.mark.parametrize("ending", [b"", b"\n", b"\r", b"\r\n", b"\n\n"])
def test_done_counts_without_its_blank_line(ending: bytes) -> None:
    """`data: [DONE]` counts however the body ends; any other unterminated event does not."""
    assert decode(b"data: 1\n\ndata: [DONE]" + ending) == [(b"1", ""), (b"[DONE]", "")]
    assert decode(b"data: 1\n\ndata: 2" + ending.removesuffix(b"\n\n")) == [(b"1", "")]


@given(st.integers(-2, 2), st.integers(1, 40), st.sampled_from([b"\n\n", b"\r\r", b"\r\n\r\n"]))
def test_the_event_limit_is_exact(over: int, step: int, blank: bytes) -> None:
    """An event of the limit passes and one byte more breaks the stream, however it is cut."""
    limit = 64
    block = b"data: " + b"x" * (limit + over - 6)
    body = block + blank
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sse, "MAX_EVENT_BYTES", limit)
        pieces = [body[at : at + step] for at in range(0, len(body), step)]
        if over <= 0:
            assert decode(*pieces) == [(block[6:], "")]
        else:
            with pytest.raises(StreamBroken, match="event is over the limit"):
                decode(*pieces)


def feed_times(decoder: Decoder, piece: bytes, times: int) -> None:
    """Feed the same piece again and again."""
    for _ in range(times):
        decoder.feed(piece)


def test_an_endless_line_is_bounded() -> None:
    """A line that never ends breaks the stream at 1 MiB and holds no more than a few of them."""
    tracemalloc.start()
    try:
        with pytest.raises(StreamBroken, match="event is over the limit of 1 MiB"):
            feed_times(Decoder(), b"x" * 65_536, 17)
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()


def test_an_endless_response_is_bounded() -> None:
    """Events without end break the stream at 64 MiB."""
    piece = b"data: " + b"x" * (65_536 - 8) + b"\n\n"
    decoder = Decoder()
    feed_times(decoder, piece, 1024)
    with pytest.raises(StreamBroken, match="response is over the limit of 64 MiB"):
        decoder.feed(b":")


@pytest.mark.parametrize("piece", [b"x", b"data:x\n", b"data:x\r\n"])
def test_small_pieces_of_a_large_event_are_copied_once(
    piece: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A large event in small pieces is put together once, when it is whole: no quadratic work."""
    put_together: list[int] = []
    events = Decoder._events

    def spy(self: Decoder, text: bytes) -> list[bytes]:
        put_together.append(len(text))
        return events(self, text)

    monkeypatch.setattr(Decoder, "_events", spy)
    decoder = Decoder()
    for _ in range(1000):
        assert decoder.feed(piece) == []
    decoder.feed(b"\n\n")
    assert len(put_together) == 1


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("text/event-stream", "text/event-stream"),
        ("Text/Event-Stream; charset=utf-8", "text/event-stream"),
        ("text/html", "text/html"),
    ],
)
def test_content_type(header: str, expected: str) -> None:
    """Parameters and case of a content type do not matter."""
    assert media_type(header) == expected
