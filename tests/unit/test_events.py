"""Cursors and events."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock import JobExpired
from penstock.client import result_of
from penstock.events import Cursor, Event, decode, encode
from producers.gateway.openai.errors import of_event

cursors = st.builds(Cursor, st.integers(0, 10**6), st.integers(0, 10**6))


@given(a=cursors, b=cursors)
def test_cursors_order_like_stream_ids(a: Cursor, b: Cursor) -> None:
    """A cursor survives its text form, and compares as Redis compares Stream ids."""
    assert Cursor.parse(str(a)) == a
    assert (a < b) == ((a.attempt, a.n) < (b.attempt, b.n))


@pytest.mark.parametrize(
    "text", ["", "1", "1-", "-1", "a-1", "1-2-3", "9" * 20 + "-1", "1_2", "\u0661-\u0662", " 1-2"]
)
def test_what_is_no_cursor_is_refused(text: str) -> None:
    """Text that Redis would not take as an entry's id is refused before it gets there."""
    with pytest.raises(ValueError, match="is not a cursor"):
        Cursor.parse(text)


def test_an_event_reads_what_redis_holds() -> None:
    """The bytes of the contract decode to an event, and its text is the first choice's."""
    raw = (
        b'{"id":"2-17","job":"job_01","type":"delta","time":1790000000.123,"data":{"choices":['
        b'{"index":1,"delta":{"content":"other"}},{"index":0,"delta":{"content":" Hi"}}]}}'
    )
    event = decode(raw)
    assert (event.cursor, event.type, event.text, event.reasoning) == (
        Cursor(2, 17), "delta", " Hi", "",
    )  # fmt: skip
    assert decode(encode(event)) == event


def test_an_event_is_silent_in_logs() -> None:
    """The repr of an event has no data in it."""
    event = Event(
        "1-2", "job_1", "delta", 1.0, {"choices": [{"index": 0, "delta": {"content": "canary"}}]}
    )
    assert "canary" not in repr(event)


@pytest.mark.parametrize(
    ("kind", "ends"),
    [("completed", True), ("failed", True), ("delta", False), ("restarted", False)],
)
def test_terminal_events_are_known(kind: str, ends: bool) -> None:
    """Exactly the four outcomes end a feed."""
    assert Event("1-2", "job_1", kind, 1.0, {}).is_terminal is ends


@pytest.mark.parametrize(
    ("deadline", "why"),
    [(100.0, "passed before it could run"), (200.0, "could not have been met any more")],
)
def test_an_expiry_says_whether_the_deadline_has_passed(deadline: float, why: str) -> None:
    """A job whose turn came too late expires before its deadline, and is not told otherwise."""
    with pytest.raises(JobExpired, match=f"its deadline {why}"):
        result_of(Event("0-2", "job_1", "expired", 150.0, {"deadline": deadline}))


@pytest.mark.parametrize(
    ("reason", "blamed"),
    [
        ("worker_lost", "the worker that streamed it was lost"),
        ("worker_stopping", "the worker that streamed it had to stop"),
        ("connection_broken", "the model's stream broke off"),
    ],
)
def test_a_restart_blames_what_broke(reason: str, blamed: str) -> None:
    """OpenAI's clients read it: a worker that was killed is no fault of the model's."""
    data = {"attempt": 1, "reason": reason, "retry_at": 1.0}
    failure = of_event(Event("1-5", "job_1", "restarted", 1.0, data))
    assert f"{blamed} and the answer begins anew" in failure.message
