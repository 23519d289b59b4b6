"""A feed as chat completion chunks, and what of it a reader gets when an answer begins anew."""

from __future__ import annotations

from typing import Any

import pytest

from penstock import JobRecord, JobState
from penstock.events import Event
from producers.gateway.openai.chunks import Chunks
from producers.gateway.openai.delivery import Delivery, valid_from
from producers.gateway.openai.errors import Failure
from tests.unit.openai_feeds import JOB, USAGE, FeedMaker, frames


def rendered(feed: FeedMaker, **options: Any) -> list[Any]:
    """Every frame of a feed."""
    chunks = Chunks(JOB, **options)
    return frames([each for event in feed.events for each in chunks.take(event)])


def delivered(events: list[Event], **options: Any) -> list[Any]:
    """What one reader gets."""
    chunks, delivery = Chunks(JOB), Delivery[bytes | Failure](**options)
    got: list[bytes | Failure] = []
    for event in events:
        got += delivery.take(event, chunks.take(event))
        if delivery.over:
            break
    return frames(got)


def texts(given: list[Any]) -> list[str]:
    """What the chunks say, errors by their code."""
    found = []
    for chunk in given:
        if chunk == "[DONE]":
            found.append(chunk)
        elif "error" in chunk:
            found.append(chunk["error"]["code"])
        else:
            found += [c["delta"]["content"] for c in chunk["choices"] if c["delta"].get("content")]
    return found


def test_a_feed_is_a_stream_of_chunks() -> None:
    """Deltas pass as they are, the role once, then one finish a choice, usage, and the end."""
    feed = FeedMaker().wait(2).start().say(role="assistant", content="a").say(content="b")
    feed.complete({"content": "ab"})
    first, second, finish, usage, done = rendered(feed, usage=True)
    assert first == {
        "id": JOB, "object": "chat.completion.chunk", "created": 1_790_000_001, "model": "m",
        "usage": None, "choices": [
            {"index": 0, "delta": {"role": "assistant", "content": "a"}, "finish_reason": None},
        ],
    }  # fmt: skip
    assert second["choices"][0]["delta"] == {"content": "b"}
    assert finish["choices"] == [{"index": 0, "delta": {}, "finish_reason": "stop"}]
    assert (usage["choices"], usage["usage"], usage["service_tier"]) == ([], USAGE, "flex")
    assert done == "[DONE]"


def test_usage_is_told_to_who_asked_for_it() -> None:
    """Without include_usage no chunk has the field, and none is without choices."""
    for chunk in rendered(FeedMaker().start().say(content="a").complete({"content": "a"}))[:-1]:
        assert "usage" not in chunk
        assert len(chunk["choices"]) == 1


def test_a_choice_that_says_nothing_has_a_role_all_the_same() -> None:
    """Its finish introduces it."""
    feed = FeedMaker().start().say(index=1, role="assistant").say(index=0, content="a")
    feed.complete({"content": "a"}, {"content": ""})
    first, *finishes, _ = rendered(feed)
    assert first["choices"][0]["delta"] == {"role": "assistant", "content": "a"}
    assert [chunk["choices"][0]["delta"] for chunk in finishes] == [
        {},
        {"role": "assistant", "content": ""},
    ]


def test_what_stands_around_a_choice_comes_with_its_finish() -> None:
    """Log probabilities are known at the end only."""
    feed = FeedMaker().start().say(content="a").complete({"content": "a"})
    feed.events[-1].data["choices"][0]["logprobs"] = {"content": [1]}
    assert rendered(feed)[-2]["choices"][0]["logprobs"] == {"content": [1]}


BEGUN = FeedMaker().start().say(role="assistant", content="void").restart()
AGAIN = BEGUN.say(role="assistant", content="good").complete({"content": "good"}).events


def test_who_has_void_words_is_told_and_the_stream_ends() -> None:
    """By default nothing is held back, so a restart ends the stream with an error."""
    assert texts(delivered(AGAIN)) == ["void", "restarted"]


def test_who_comes_after_a_restart_never_hears_of_it() -> None:
    """What older attempts than the newest said is left out."""
    assert texts(delivered(AGAIN, attempt=2)) == ["good", "[DONE]"]


def test_a_buffering_reader_gets_the_finished_attempt_only() -> None:
    """Words wait for the end, and those of an attempt that broke off are dropped."""
    assert texts(delivered(AGAIN, buffer=True)) == ["good", "[DONE]"]
    assert delivered(AGAIN[:-1], buffer=True) == []


def test_a_restart_after_a_role_alone_goes_unnoticed() -> None:
    """A role is not yet a word."""
    feed = FeedMaker().start().say(role="assistant").restart()
    feed.say(role="assistant", content="good").complete({"content": "good"})
    first, *_ = got = delivered(feed.events)
    assert texts(got) == ["good", "[DONE]"]
    assert first["choices"][0]["delta"]["role"] == "assistant"


@pytest.mark.parametrize("buffer", [False, True])
def test_a_failure_is_the_last_frame(buffer: bool) -> None:
    """It is told in OpenAI's shape, and no `[DONE]` follows."""
    feed = FeedMaker().start().say(content="a").fail(message="no", status=503, code="busy")
    assert delivered(feed.events, buffer=buffer)[-1] == {
        "error": {"message": "no", "type": "status_error", "param": None, "code": "busy"}
    }


@pytest.mark.parametrize(
    ("state", "outcome", "first"),
    [
        (JobState.RUNNING, None, 2),
        (JobState.COMPLETED, {}, 2),
        (JobState.FAILED, {}, 2),
        (JobState.SCHEDULED, None, 3),
        (JobState.ADMITTED, None, 3),
        (JobState.EXPIRED, {}, 3),
        (JobState.CANCELLED, {"completion": {}}, 2),
        (JobState.CANCELLED, {"completion": None}, 3),
    ],
)
def test_a_job_that_waits_has_said_nothing_that_holds(
    state: JobState, outcome: dict[str, Any] | None, first: int
) -> None:
    """Neither has one that ended while it waited; words of its second attempt are void then."""
    record = JobRecord.model_construct(state=state, attempt=2, outcome=outcome)
    assert valid_from(record) == first
