"""What a submission may say, and what becomes of it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.errors import InvalidRequest, RequestTooLarge
from penstock.job import (
    MAX_REQUEST_BYTES,
    OPTION_NAMES,
    ChatRequest,
    Completion,
    JobSpec,
    new_id,
)

CANARY = "canary-prompt-7f3a"
MESSAGES = [{"role": "user", "content": CANARY}]

values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)
names = st.text(min_size=1).filter(
    lambda name: name not in OPTION_NAMES | ChatRequest.model_fields.keys()
)


@given(extra=st.dictionaries(names, values, max_size=4), message=st.dictionaries(names, values))
def test_every_field_is_kept(extra: dict[str, Any], message: dict[str, Any]) -> None:
    """Fields nobody here has heard of reach the upstream unchanged, in the body and in messages."""
    body = {**extra, "messages": [{**message, "role": "user", "content": "x"}]}
    assert msgspec.json.decode(JobSpec.build(body).request) == body


def test_options_do_not_reach_the_upstream() -> None:
    """What tells Penstock how to treat a job is not part of the body."""
    spec = JobSpec.build({"messages": MESSAGES, "priority": 9, "tenant": "a", "temperature": 0.2})
    assert msgspec.json.decode(spec.request) == {"messages": MESSAGES, "temperature": 0.2}
    assert (spec.options.priority, spec.options.tenant) == (9, "a")


WRONG = {
    "no messages": ({"messages": []}, "messages"),
    "messages missing": ({"prompt": CANARY}, "messages: is missing"),
    "messages no list": ({"messages": CANARY}, "messages"),
    "message without role": ({"messages": [{"content": CANARY}]}, "messages.0.role"),
    "content of a wrong kind": ({"messages": [{"role": "user", "content": 7}]}, "content"),
    "n of zero": ({"messages": MESSAGES, "n": 0}, "n: "),
    "n too large": ({"messages": MESSAGES, "n": 129}, "n: "),
    "max_tokens of zero": ({"messages": MESSAGES, "max_tokens": 0}, "max_tokens: "),
    "priority over 9": ({"messages": MESSAGES, "priority": 10}, "priority: "),
    "negative delay": ({"messages": MESSAGES, "delay": -1}, "delay: "),
    "endless delay": ({"messages": MESSAGES, "delay": float("inf")}, "delay: "),
    "deadline in the past": ({"messages": MESSAGES, "deadline": 0}, "deadline: "),
    "deadline without zone": ({"messages": MESSAGES, "deadline": datetime(2030, 1, 1)}, "zone"),  # noqa: DTZ001
    "deadline of words": ({"messages": MESSAGES, "deadline": "tomorrow"}, "deadline: "),
    "endless deadline": ({"messages": MESSAGES, "deadline": float("inf")}, "deadline: "),
    "tenant with a colon": ({"messages": MESSAGES, "tenant": "a:b"}, "tenant: "),
    "metadata of numbers": ({"messages": MESSAGES, "metadata": {"a": 1}}, "metadata.a: "),
    "metadata too large": ({"messages": MESSAGES, "metadata": {"a": "x" * 20_000}}, "metadata"),
    "attempts of zero": ({"messages": MESSAGES, "max_attempts": 0}, "max_attempts: "),
    "no time to read the result": ({"messages": MESSAGES, "result_ttl": 0}, "result_ttl: "),
    "webhook without scheme": ({"messages": MESSAGES, "webhook": "example.com"}, "webhook.url: "),
    "n as text": ({"messages": MESSAGES, "n": "2"}, "n: "),
    "n as a fraction": ({"messages": MESSAGES, "n": 2.0}, "n: "),
    "max_tokens as a truth": ({"messages": MESSAGES, "max_tokens": True}, "max_tokens: "),
    "stream_options of a list": ({"messages": MESSAGES, "stream_options": [1]}, "stream_options"),
    "a user who says nothing": ({"messages": [{"role": "user"}]}, "needs content"),
    "content of bytes": ({"messages": [{"role": "user", "content": b"x"}]}, "content"),
    "no number": ({"messages": MESSAGES, "temperature": float("nan")}, "JSON"),
    "infinity inside": ({"messages": MESSAGES, "x": [{"y": float("inf")}]}, "JSON"),
    "kept for ever": ({"messages": MESSAGES, "result_ttl": 10**30}, "result_ttl: "),
    "not JSON": ({"messages": MESSAGES, "extra": object()}, "JSON"),
}


@pytest.mark.parametrize(("given_", "names"), WRONG.values(), ids=WRONG)
def test_a_wrong_field_is_named_and_its_value_is_not_shown(
    given_: dict[str, Any], names: str
) -> None:
    """Each mistake is refused with the field's name, and no error carries the prompt."""
    with pytest.raises(InvalidRequest) as refusal:
        JobSpec.build(given_)
    assert names in str(refusal.value)
    assert CANARY not in str(refusal.value) + repr(refusal.value)


def test_messages_may_come_from_anywhere() -> None:
    """A tuple or a generator of messages is as good as a list."""
    for messages in (tuple(MESSAGES), iter(MESSAGES)):
        spec = JobSpec.build({"messages": messages})
        assert msgspec.json.decode(spec.request) == {"messages": MESSAGES}


def test_a_body_over_the_limit_is_refused() -> None:
    """The size limit counts the body as it will be sent, and the error says both sizes."""
    room = MAX_REQUEST_BYTES - len(
        JobSpec.build({"messages": [{"role": "user", "content": ""}]}).request
    )
    JobSpec.build({"messages": [{"role": "user", "content": "x" * room}]})
    with pytest.raises(RequestTooLarge, match=r"8,388,609 bytes; the limit is 8,388,608"):
        JobSpec.build({"messages": [{"role": "user", "content": "x" * (room + 1)}]})


@pytest.mark.parametrize(
    ("deadline", "expected"),
    [
        (30, "+30"),
        (timedelta(minutes=2), "+120.0"),
        ("2030-01-01T00:00:00Z", str(datetime(2030, 1, 1, tzinfo=UTC).timestamp())),
        (datetime(2030, 1, 1, tzinfo=UTC), str(datetime(2030, 1, 1, tzinfo=UTC).timestamp())),
    ],
)
def test_a_deadline_is_relative_or_absolute(deadline: Any, expected: str) -> None:
    """Seconds and durations count from Redis's now, a datetime stands for itself."""
    assert JobSpec.build({"messages": MESSAGES, "deadline": deadline}).options.deadline == expected


def test_the_digest_tells_requests_apart() -> None:
    """The same body on the same route has one digest; another body or route has another."""
    build = JobSpec.build
    same = {build({"messages": MESSAGES, "priority": p}).digest for p in (1, 2)}
    assert len(same) == 1
    assert build({"messages": MESSAGES, "route": "fast"}).digest not in same
    assert build({"messages": MESSAGES, "n": 2}).digest not in same


@given(st.lists(st.integers(0, 2**45), min_size=2, max_size=2, unique=True))
def test_ids_sort_by_time(milliseconds: list[int]) -> None:
    """A later job's id is greater, so listings and ties in the backlog follow time."""
    early, late = sorted(milliseconds)
    assert new_id(early / 1000) < new_id((late + 1) / 1000)
    assert len(new_id()) == len("job_") + 26


def test_no_repr_shows_what_was_said() -> None:
    """Completions and requests may be logged by accident without giving anything away."""
    completion = Completion(choices=[{"index": 0, "message": {"content": CANARY}}])
    spec = JobSpec.build({"messages": MESSAGES})
    assert CANARY not in f"{completion!r} {completion} {spec!r}"
    assert completion.text == CANARY
