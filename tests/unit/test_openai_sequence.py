"""A feed as the numbered events of a Responses stream: the same for every reader."""

from __future__ import annotations

from typing import Any

import pytest

from penstock.events import Event
from producers.gateway.openai.delivery import Delivery
from producers.gateway.openai.response import concluded
from producers.gateway.openai.sequence import Reader, Sequence
from tests.unit.openai_feeds import JOB, FeedMaker, completion

BEGUN = {"id": "resp_01K9ZV2M8Q3W5E7R9T1Y3V5B7N", "status": "queued", "model": "m", "output": []}
CALL = {"id": "call_1", "type": "function", "function": {"name": "look", "arguments": '{"a":1}'}}


def told(events: list[Event]) -> list[dict[str, Any]]:
    """Every event of a feed's stream."""
    sequence = Sequence(BEGUN, JOB)
    return [each for event in events for each in sequence.take(event)]


def everything() -> FeedMaker:
    """A feed with reasoning, text, and two calls whose fragments take turns."""
    feed = FeedMaker().start().say(role="assistant", reasoning_content="hm")
    feed.say(content="It ").say(content="is").say(
        tool_calls=[{"index": 0, "id": "call_1", "type": "function", "function": {"name": "lo"}}]
    )
    feed.say(tool_calls=[
        {"index": 0, "function": {"name": "ok"}},
        {"index": 1, "id": "call_2", "function": {"name": "wait", "arguments": "{}"}},
        {"index": 0, "function": {"arguments": '{"a"'}},
    ])  # fmt: skip
    feed.say(tool_calls=[{"index": 0, "function": {"arguments": ":1}"}}])
    other = {"id": "call_2", "type": "function", "function": {"name": "wait", "arguments": "{}"}}
    message = {"reasoning_content": "hm", "content": "It is", "tool_calls": [CALL, other]}
    return feed.complete(message, reason="tool_calls")


def test_numbers_are_counted_from_nought_without_gaps() -> None:
    """sequence_number is an event's place."""
    numbers = [event["sequence_number"] for event in told(everything().events)]
    assert numbers == list(range(len(numbers)))


def test_each_item_is_added_grows_and_is_done() -> None:
    """The stream's items are those of the Response at its end, and its deltas add up to them."""
    events = told(everything().events)
    final = events[-1]["response"]
    done = {e["output_index"]: e["item"] for e in events if e["type"].endswith("item.done")}
    added = [e["item"]["id"] for e in events if e["type"].endswith("item.added")]
    assert events[-1]["type"] == "response.completed"
    by_id = {item["id"]: item for item in done.values()}
    assert by_id == {item["id"]: item for item in final["output"]}
    assert sorted(added) == sorted(by_id)
    for id_, item in by_id.items():
        pieces = [e["delta"] for e in events if e.get("item_id") == id_ and "delta" in e]
        assert "".join(pieces) == text_of(item)


def text_of(item: dict[str, Any]) -> str:
    """All that an item says."""
    if item["type"] == "function_call":
        return str(item["arguments"])
    return "".join(part["text"] for part in item["content"])


def test_the_order_is_that_of_openai() -> None:
    """A message: item, part, deltas, text, part, item; between the states of the response."""
    feed = FeedMaker().start().say(content="a").complete({"content": "a"})
    assert [event["type"].removeprefix("response.") for event in told(feed.events)] == [
        "created", "queued", "in_progress", "output_item.added", "content_part.added",
        "output_text.delta", "output_text.done", "content_part.done", "output_item.done",
        "completed",
    ]  # fmt: skip


def test_a_place_in_the_line_is_no_event() -> None:
    """A job that waits and is followed has several `queued` events; it is created once."""
    waited = FeedMaker().wait(9).wait(4).start().say(content="a").complete({"content": "a"})
    straight = FeedMaker().start().say(content="a").complete({"content": "a"})
    strip = [{**e, "response": None} for e in told(waited.events)]
    assert strip == [{**e, "response": None} for e in told(straight.events)]


def test_a_call_is_told_of_when_its_name_is_known() -> None:
    """However the name is cut, the added item has all of it, and the call's id."""
    added = [e["item"] for e in told(everything().events) if e["type"].endswith("item.added")]
    calls = {item["call_id"]: item["name"] for item in added if item["type"] == "function_call"}
    assert calls == {"call_1": "look", "call_2": "wait"}


def test_a_refusal_is_a_part_of_the_message() -> None:
    """After some text it is the message's second part."""
    feed = FeedMaker().start().say(content="a").say(refusal="no")
    events = told(feed.complete({"content": "a", "refusal": "no"}).events)
    item = next(e["item"] for e in events if e["type"].endswith("item.done"))
    assert [part["type"] for part in item["content"]] == ["output_text", "refusal"]
    assert item == events[-1]["response"]["output"][0]


def test_reasoning_after_text_is_another_item() -> None:
    """Items that ended stay ended."""
    feed = FeedMaker().start().say(reasoning_content="a").say(content="b")
    events = told(feed.say(reasoning_content="c").complete({"content": "b"}).events)
    done = [e["item"] for e in events if e["type"].endswith("item.done")]
    assert [text_of(item) for item in done] == ["a", "b", "c"]
    assert len({item["id"] for item in done}) == 3


@pytest.mark.parametrize(
    ("reason", "why"), [("length", "max_output_tokens"), ("content_filter", "content_filter")]
)
def test_a_cut_answer_is_incomplete(reason: str, why: str) -> None:
    """The event, the status, the reason and the item say so."""
    feed = FeedMaker().start().say(content="a").complete({"content": "a"}, reason=reason)
    last = told(feed.events)[-1]
    assert last["type"] == "response.incomplete"
    assert last["response"]["incomplete_details"] == {"reason": why}
    assert last["response"]["output"][0]["status"] == "incomplete"


def test_a_failure_has_openais_code() -> None:
    """Its message is the upstream's own."""
    last = told(FeedMaker().start().fail(status=429, message="busy").events)[-1]
    assert last["type"] == "response.failed"
    assert last["response"]["status"] == "failed"
    assert last["response"]["error"] == {"code": "rate_limit_exceeded", "message": "busy"}


def test_a_cancelled_response_keeps_what_was_said() -> None:
    """With its partial answer, or without any."""
    partial = completion({"content": "a"}, reason=None)
    last = told(FeedMaker().start().say(content="a").cancel(partial).events)[-1]
    assert (last["type"], last["response"]["status"]) == ("response.incomplete", "cancelled")
    assert text_of(last["response"]["output"][0]) == "a"
    nothing = concluded(BEGUN, JOB, "cancelled", {"reason": "r", "completion": None}, 1.0)
    assert (nothing["status"], nothing["output"]) == ("cancelled", [])


def test_the_next_attempt_begins_from_nothing() -> None:
    """A restart is an error event; then come new items, from output index 0."""
    feed = FeedMaker().start().say(content="void").restart().say(content="good")
    events = told(feed.complete({"content": "good"}).events)
    at = next(i for i, event in enumerate(events) if event["type"] == "error")
    assert events[at]["code"] == "restarted"
    assert events[at + 1]["type"] == "response.in_progress"
    assert events[at + 2]["output_index"] == 0
    assert "".join(e["delta"] for e in events[at:] if "delta" in e) == "good"


def read(events: list[Event], after: int = -1, **options: Any) -> tuple[list[dict[str, Any]], bool]:
    """What a reader gets that has everything up to a number, and whether it has to come again."""
    delivery = Delivery[dict[str, Any]](**options)
    reader = Reader(Sequence(BEGUN, JOB), delivery, after)
    got: list[dict[str, Any]] = []
    for event in events:
        got += reader.take(event)
        if delivery.over:
            break
    return got, delivery.over


def test_a_reader_goes_on_exactly_behind_any_event() -> None:
    """Whatever number it has, the rest is the same."""
    events = everything().events
    whole = told(events)
    for after in range(-1, len(whole)):
        assert read(events, after) == (whole[after + 1 :], False)


RESTARTED = FeedMaker().start().say(content="void").restart().say(content="good")
RESTARTED.complete({"content": "good"})


def test_a_reader_that_is_cut_off_by_a_restart_goes_on_behind_it() -> None:
    """The error is the last event of its stream; behind its number the next attempt begins."""
    whole = told(RESTARTED.events)
    first, cut = read(RESTARTED.events)
    second, cut_again = read(RESTARTED.events, first[-1]["sequence_number"])
    assert (first[-1]["code"], cut, cut_again) == ("restarted", True, False)
    assert first + second == whole


def test_a_reader_without_void_words_is_not_told_of_them() -> None:
    """It came after the restart, or buffers: the numbers that are void are left out."""
    whole = told(RESTARTED.events)
    void = {e["sequence_number"] for e in whole[3:] if e["type"] == "error" or "void" in str(e)}
    late, _ = read(RESTARTED.events, attempt=2)
    assert [e["sequence_number"] for e in late if "void" in str(e)] == []
    assert late == read(RESTARTED.events, buffer=True)[0]
    assert void.isdisjoint(e["sequence_number"] for e in late)


def test_a_reader_that_has_void_words_is_told_though_it_comes_late() -> None:
    """It reconnects with the number of a word that has become void meanwhile."""
    word = next(e for e in told(RESTARTED.events) if e.get("delta") == "void")
    got, cut = read(RESTARTED.events, word["sequence_number"], attempt=2)
    assert ([e["type"] for e in got], cut) == (["error"], True)
