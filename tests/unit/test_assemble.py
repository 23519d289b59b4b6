"""Chunks become deltas and a whole answer, the same one however they are cut and grouped."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from penstock.errors import StreamBroken
from penstock.settings import Prices
from worker.upstream.assemble import LESSONS, Assembler
from worker.upstream.choice import Choice
from worker.upstream.delta import ChoiceDelta, Deltas
from worker.upstream.sse import NamedEvent

Chunk = dict[str, Any]
PRICES = Prices(input=1, output=10, cached_input=0.5)
DEEP = b'{"choices":[{"index":0,"delta":' + b'{"x":' * 800 + b"1" + b"}" * 800 + b"}]}"
USAGE = {"prompt_tokens": 5, "completion_tokens": 7, "total_tokens": 12, "estimated_cost": 0.25}


def merge(*batches: Iterable[ChoiceDelta]) -> list[ChoiceDelta]:
    """Neighbouring lists of deltas as one, with one delta a choice."""
    deltas = Deltas()
    for batch in batches:
        deltas.add(batch)
    return deltas.take()


def assembler(n: int = 1) -> Assembler:
    """An assembler for a route with round prices."""
    return Assembler(prices=PRICES, n=n, model="route/model", prompt_characters=9)


def chunk(delta: Any = None, reason: str | None = None, index: int = 0, **around: Any) -> Chunk:
    """One chunk with one choice, as DeepInfra sends it."""
    choice = {"index": index, "delta": {} if delta is None else delta, "finish_reason": reason}
    return {"id": "c-1", "created": 9, "model": "m", "choices": [choice], **around}


def feed(target: Assembler, *chunks: Any) -> list[ChoiceDelta]:
    """Feed chunks; returns everything to relay, in order."""
    return [delta for c in chunks for delta in target.feed(json.dumps(c).encode())]


def answer(*chunks: Any, n: int = 1) -> dict[str, Any]:
    """The completion of these chunks."""
    target = assembler(n)
    feed(target, *chunks)
    return target.completion()


def message(*deltas: dict[str, Any]) -> dict[str, Any]:
    """The message that these deltas of one choice make, finished in a chunk of its own."""
    found = answer(*map(chunk, deltas), chunk(reason="stop"))["choices"][0]["message"]
    assert isinstance(found, dict)
    return found


# Deltas of every shape: known and unknown fields, fields that say nothing or change their kind.
texts = st.text("ab</s>é😀", max_size=4)
scalars = st.none() | st.booleans() | st.integers(0, 3) | texts
unknown = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from("xyz"), inner, max_size=2)
    ),
    max_leaves=4,
)
fragments = st.fixed_dictionaries(
    {"index": st.integers(0, 2)},
    optional={
        "id": st.sampled_from(["", "call_1", "call_2"]) | st.none(),
        "type": st.just("function"),
        "function": st.fixed_dictionaries(
            {}, optional={"name": st.none() | texts, "arguments": st.none() | texts}
        ),
        "extra": unknown,
    },
)
deltas = st.fixed_dictionaries(
    {},
    optional={
        "role": st.just("assistant"),
        "content": st.none() | texts,
        "reasoning_content": st.none() | texts,
        "refusal": st.none() | texts,
        "tool_calls": st.none() | st.lists(fragments, max_size=3),
        "function_call": st.fixed_dictionaries({}, optional={"name": texts, "arguments": texts}),
        "other": unknown,
    },
)
batches = st.lists(st.fixed_dictionaries({"index": st.integers(0, 2), "delta": deltas}), max_size=4)
streams = st.lists(
    st.builds(chunk, deltas | st.fixed_dictionaries({"reasoning": texts}), index=st.integers(0, 2)),
    max_size=8,
)


@given(batches, batches, batches)
def test_merging_is_associative(a: Any, b: Any, c: Any) -> None:
    """It does not matter which neighbours are joined first, nor if deltas were joined before."""
    whole = merge(a, b, c)
    assert merge(merge(a, b), c) == merge(a, merge(b, c)) == whole
    assert merge(whole) == whole


@given(batches, batches)
def test_merging_changes_nothing_it_was_given(a: Any, b: Any) -> None:
    """What was added stays as it was, and what was taken does not change afterwards."""
    before = copy.deepcopy((a, b))
    pending = Deltas()
    pending.add(a)
    joined = pending.joined()
    seen = copy.deepcopy(joined)
    pending.add(b)
    assert (joined, (a, b)) == (seen, before)


@pytest.mark.parametrize(
    ("values", "joined"),
    [
        (["a", None, "b", ""], "ab"),
        ([1, 2.5, False], False),
        ([[1], [], [2]], [1, 2]),
        ([{"a": "x"}, {"b": 1}, {"a": "y"}], {"a": "xy", "b": 1}),
        ([1, "a", 2, "b"], "ab"),
        (["a", [1], "b", {"c": None}], [1]),
        ([{"a": 1}, [1], "a"], {"a": 1}),
    ],
)
def test_unknown_fields_are_joined_by_kind(values: list[Any], joined: Any) -> None:
    """Text and lists grow, objects by field, the last number wins, and the richest kind stays."""
    (choice,) = merge([{"index": 0, "delta": {"other": value}} for value in values])
    assert choice["delta"] == {"other": joined}


def test_joined_lists_do_not_change_afterwards() -> None:
    """A list that was handed out is not the one that grows."""
    pending = Deltas()
    pending.add([{"index": 0, "delta": {"other": [1]}}])
    first = pending.joined()
    pending.add([{"index": 0, "delta": {"other": [2]}}])
    assert first == [{"index": 0, "delta": {"other": [1]}}]


def test_pending_deltas() -> None:
    """An accumulator is false when nothing is pending, knows its size, and starts anew."""
    pending = Deltas()
    assert not pending
    pending.add([{"index": 0, "delta": {"content": " Hi"}}])
    pending.add([{"index": 1, "delta": {"content": "x"}}, {"index": 0, "delta": {"content": "!"}}])
    assert pending
    assert pending.size == 5
    assert pending.take() == [
        {"index": 0, "delta": {"content": " Hi!"}},
        {"index": 1, "delta": {"content": "x"}},
    ]
    assert not pending
    assert pending.size == 0


@given(streams, st.data())
def test_what_is_relayed_is_the_answer(stream: list[Chunk], data: st.DataObject) -> None:
    """Relayed deltas, merged in any groups and put together, are the completion's messages."""
    target = assembler(3)
    finish = [chunk(reason="stop", index=index) for index in range(3)]
    relayed = feed(target, *stream, *finish)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(relayed)), max_size=4)))
    groups = [relayed[a:b] for a, b in zip([0, *cuts], [*cuts, len(relayed)], strict=True)]
    read = {choice["index"]: choice["delta"] for choice in merge(*map(merge, groups))}
    messages = [Choice().whole(read.get(index, {}))["message"] for index in range(3)]
    assert [choice["message"] for choice in target.completion()["choices"]] == messages


@given(streams)
def test_nothing_said_is_lost(stream: list[Chunk]) -> None:
    """The text of an answer is all the text of its chunks, a leaked stop token at most excepted."""
    finish = [chunk(reason="stop", index=index) for index in range(3)]
    for choice in answer(*stream, *finish, n=3)["choices"]:
        mine = [c["choices"][0] for c in stream if c["choices"][0]["index"] == choice["index"]]
        given = "".join(c["delta"].get("content") or "" for c in mine)
        assert (choice["message"]["content"] or "") == given.removesuffix("</s>")


@given(st.text("ab</s>", max_size=12), st.data())
def test_leaked_stop_token(text: str, data: st.DataObject) -> None:
    """`</s>` is dropped as the very end of the content and nowhere else, however it is cut."""
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=6)))
    pieces = [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    with_finish = data.draw(st.booleans())  # the last piece may come with the finish
    chunks = [chunk({"role": "assistant", "content": piece}) for piece in pieces]
    last = chunk({"content": pieces[-1]} if with_finish else {}, "stop")
    target = assembler()
    relayed = feed(target, *(chunks[:-1] if with_finish else chunks), last)
    expected = text.removesuffix("</s>")
    assert "".join(delta["delta"].get("content", "") for delta in relayed) == expected
    assert target.completion()["choices"][0]["message"]["content"] == expected


def test_only_a_possible_stop_token_is_held_back() -> None:
    """Text goes out at once unless its end may become `</s>`; then it waits for what comes next."""
    target = assembler()
    contents = [" this", "a<", "/s", "x", "</s>", "!"]
    said = [feed(target, chunk({"content": content})) for content in contents]
    texts = ["".join(d["delta"]["content"] for d in relayed) for relayed in said]
    assert texts == [" this", "a", "", "</sx", "", "</s>!"]


def test_sample_of_the_documentation() -> None:
    """DeepInfra's documented stream gives its text, its role once, and no stop token."""
    target = assembler()
    relayed = feed(
        target,
        chunk({"role": "assistant", "content": " Hi"}),
        chunk({"role": "assistant", "content": "!"}),
        chunk({"role": "assistant", "content": "</s>"}),
        chunk({}, "stop", usage=USAGE, provider="x"),
    )
    assert target.feed(b"[DONE]") == []
    assert target.done
    assert [d["delta"] for d in relayed] == [
        {"role": "assistant", "content": " Hi"},
        {"content": "!"},
    ]
    assert target.completion() == {
        "id": "c-1",
        "object": "chat.completion",
        "created": 9,
        "model": "m",
        "provider": "x",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": " Hi!"},
                "finish_reason": "stop",
            }
        ],
        "usage": USAGE,
    }


def test_tool_calls_in_fragments() -> None:
    """Fragments are joined by index; a repeated id and name count once, arguments always."""
    call = {"index": 1, "id": "b", "type": "function", "function": {"name": "get", "arguments": ""}}
    found = message(
        {"content": None, "tool_calls": [{"index": 0, "id": "a", "function": {"name": "wea"}}]},
        {"tool_calls": [call, {"index": 0, "function": {"name": "ther", "arguments": "{"}}]},
        {"tool_calls": [{**call, "function": {"name": "get", "arguments": "{}"}}]},
        {"tool_calls": [{"index": 0, "id": None, "function": {"name": None, "arguments": "}"}}]},
    )
    calls = [
        {"id": "a", "type": "function", "function": {"name": "weather", "arguments": "{}"}},
        {"id": "b", "type": "function", "function": {"name": "get", "arguments": "{}"}},
    ]
    assert found == {"role": "assistant", "content": None, "tool_calls": calls}


def test_fields_of_a_delta() -> None:
    """Reasoning has one name, refusals and unknown fields are kept, and empty ones left out."""
    assert message({"reasoning": "a"}, {"reasoning": "b", "reasoning_content": "b"}) == {
        "role": "assistant",
        "content": "",
        "reasoning_content": "ab",
    }
    assert message({"refusal": "No", "content": None}, {"refusal": "."}) == {
        "role": "assistant",
        "content": None,
        "refusal": "No.",
    }
    odd = message({"content": "x", "audio": {"id": "a", "n": 1}}, {"audio": {"id": "b", "n": 2}})
    assert odd["audio"] == {"id": "a", "n": 2}


def test_choices_interleave() -> None:
    """Choices grow by their index, and each needs its own finish."""
    chunks = [
        chunk({"content": "a"}, index=1),
        chunk({"content": "b"}, index=0),
        chunk({"content": "c"}, "length", index=1),
        chunk({"content": "d"}, "stop", index=0),
    ]
    contents = [
        (c["message"]["content"], c["finish_reason"]) for c in answer(*chunks, n=2)["choices"]
    ]
    assert contents == [("bd", "stop"), ("ac", "length")]
    late = answer(*chunks, chunk(reason="stop", index=3), chunk(reason="stop", index=2))
    assert [choice["index"] for choice in late["choices"]] == [0, 1, 2, 3]
    with pytest.raises(StreamBroken, match="before choice 2 had a finish_reason"):
        answer(*chunks, n=3)


def test_fields_around_the_delta() -> None:
    """Log probabilities are joined; of other fields the last value that is not null stays."""
    first, second = (
        chunk({"content": "a"}, service_tier="flex"),
        chunk(reason="stop", service_tier=None),
    )
    first["choices"][0] |= {"logprobs": {"content": [1], "refusal": None}, "matched": "x"}
    second["choices"][0] |= {"logprobs": {"content": [2]}, "matched": None}
    found = answer(first, second)
    assert found["choices"][0]["logprobs"] == {"content": [1, 2]}
    assert found["choices"][0]["matched"] == "x"
    assert found["service_tier"] == "flex"


@pytest.mark.parametrize(
    "reason", ["stop", "length", "tool_calls", "content_filter", "function_call"]
)
def test_known_finish_reasons_complete(reason: str) -> None:
    """Each known finish_reason makes a whole answer, and `""` before it means nothing."""
    found = answer(
        chunk({"content": "x"}, ""), chunk(reason=reason), chunk({"role": "assistant"}, "")
    )
    assert found["choices"][0]["finish_reason"] == reason


@pytest.mark.parametrize(
    ("chunks", "code"),
    [
        ([], "incomplete"),
        ([chunk({"content": "x"}), chunk({}, "")], "incomplete"),
        ([chunk({"content": "x"}, "eos")], "unknown_finish_reason"),
        ([chunk({}, "abort")], None),
        ([chunk({}, "error")], None),
        ([chunk({"content": "x"}, "stop"), chunk({"content": "y"})], "after_finish"),
        ([chunk({"content": "x"}, "stop"), chunk({"content": "<"})], "after_finish"),
        ([["no chunk"]], "not_a_chunk"),
        ([3], "not_a_chunk"),
        ([{"choices": {}}], "not_a_chunk"),
        ([{"choices": 3}], "not_a_chunk"),
        ([{"choices": [None]}], "not_a_chunk"),
        ([{"choices": [{"index": "0"}]}], "not_a_chunk"),
        ([chunk([])], "not_a_chunk"),
        ([chunk({"content": ["x"]})], "not_a_chunk"),
        ([chunk({"tool_calls": {"index": 0}})], "not_a_chunk"),
        ([chunk({"tool_calls": [{"index": "x"}]})], "not_a_chunk"),
    ],
)
def test_what_is_no_whole_answer(chunks: list[Any], code: str | None) -> None:
    """An answer that is not whole, or not an answer, is an error that may be tried again."""
    with pytest.raises(StreamBroken) as caught:
        answer(*chunks)
    assert caught.value.retryable
    assert caught.value.code == code


@pytest.mark.parametrize(
    "data", [b"<html>", b'{"choices":[', b'{"id":"\xff"}', b"[" * 100_000, DEEP]
)
def test_what_is_not_json(data: bytes) -> None:
    """An event that is not JSON breaks the stream, and its text is not repeated in the error."""
    with pytest.raises(StreamBroken, match=r"^the upstream sent an event [a-zA-Z ]+$"):
        assembler().feed(data)


@pytest.mark.parametrize(
    ("body", "error"),
    [
        ({"error": {"message": "busy", "type": "t", "code": "c"}}, ("busy", "t", "c")),
        (
            {"error": {"message": "busy", "code": 503}, "choices": []},
            ("busy", "stream_broken", "503"),
        ),
        ({"error": "busy"}, ("busy", "stream_broken", None)),
        ({"detail": "busy"}, ("busy", "stream_broken", None)),
        (
            {"detail": [{"loc": ["body", "n"], "msg": "too big", "input": "secret"}]},
            ("body.n: too big", "stream_broken", None),
        ),
        ({"object": "error", "message": "busy", "type": "t"}, ("busy", "t", None)),
    ],
)
def test_errors_inside_the_stream(body: Chunk, error: tuple[str, str, str | None]) -> None:
    """An error object says what the upstream said, in whatever shape, and may be tried again."""
    with pytest.raises(StreamBroken) as caught:
        feed(assembler(), chunk({"content": "x"}), body)
    found = caught.value
    assert (found.message, found.type, found.code) == error
    assert found.retryable


@pytest.mark.parametrize(
    "data",
    [
        b"busy",
        b'"busy"',
        b'{"message":"busy"}',
        b'{"error":"busy"}',
        b'{"choices":[],"message":"busy"}',
    ],
)
def test_events_named_error(data: bytes) -> None:
    """An event named `error` is one, whatever its data looks like; other names mean nothing."""
    with pytest.raises(StreamBroken, match=r"^busy$"):
        assembler().feed(NamedEvent(data, "error"))
    assert assembler().feed(NamedEvent(json.dumps(chunk({"content": "x"})).encode(), "message"))


def test_what_says_nothing() -> None:
    """Empty events, pings and null errors are no part of the answer."""
    target = assembler()
    assert target.feed(b"") == target.feed(b" ") == target.feed(b'{"type":"ping"}') == []
    assert feed(target, chunk({"content": "x"}, "stop", error=None))
    assert not target.completion().keys() & {"type", "error"}


def test_an_answer_that_was_not_streamed() -> None:
    """A whole `chat.completion` gives the same completion, and its text as one delta."""
    call = {"id": "a", "type": "function", "function": {"name": "get", "arguments": "{}"}}
    whole = answer(
        chunk({"role": "assistant", "content": "x", "tool_calls": [{"index": 0, **call}]}),
        chunk(reason="tool_calls", usage=USAGE),
    )
    target = assembler()
    assert feed(target, whole)[0]["delta"]["content"] == "x"
    assert target.completion() == whole


@pytest.mark.parametrize(
    ("usage", "tier", "cost"),
    [
        ({"prompt_tokens": 100, "completion_tokens": 10}, None, 200e-6),
        ({"prompt_tokens": 4, "prompt_tokens_details": {"cached_tokens": 9}}, None, 2e-6),
        ({"prompt_tokens": 100, "completion_tokens": 10, "estimated_cost": 7}, "flex", 7),
        ({"prompt_tokens": 100, "completion_tokens": 10, "estimated_cost": 0}, None, 0),
        (
            {
                "prompt_tokens": 100,
                "completion_tokens": 10,
                "prompt_tokens_details": {"cached_tokens": 60},
            },
            "priority",
            255e-6,
        ),
        (
            {"prompt_tokens": None, "completion_tokens": 10, "prompt_tokens_details": 1},
            "flex",
            80e-6,
        ),
    ],
)
def test_cost(usage: dict[str, Any], tier: str | None, cost: float) -> None:
    """The upstream's own figure is charged; without one, tokens by price and tier."""
    found = answer(chunk({"content": "x"}, "stop", usage=usage, service_tier=tier))["usage"]
    assert found["estimated_cost"] == pytest.approx(cost, rel=1e-9)
    assert found["total_tokens"] == found["prompt_tokens"] + found["completion_tokens"]
    assert "estimated" not in found


@pytest.mark.parametrize(
    "chunks",
    [
        [chunk({"content": "x"}), chunk(reason="stop", usage=USAGE)],
        [
            chunk({"content": "x"}),
            chunk(reason="stop", usage=None),
            {"choices": [], "usage": USAGE},
        ],
        [chunk({"content": "x"}), chunk(reason="stop"), {"usage": USAGE}],
        [chunk({"content": "x"}, usage={"prompt_tokens": 1}), chunk(reason="stop", usage=USAGE)],
        [chunk({"content": "x"}, "stop", usage=USAGE), chunk(usage=None)],
    ],
)
def test_the_last_usage_counts(chunks: list[Chunk]) -> None:
    """Usage is found on the finish, after it, or on every chunk; null does not undo it."""
    assert answer(*chunks)["usage"] == USAGE


def test_usage_that_never_came() -> None:
    """A whole answer without usage is counted from its text, and says so."""
    usage = answer(chunk({"content": "x" * 40}), chunk(reason="stop"))["usage"]
    assert usage["estimated"] is True
    assert (usage["prompt_tokens"], usage["completion_tokens"]) == (3, 10)
    assert usage["estimated_cost"] == pytest.approx(103e-6)


def test_partial_answers() -> None:
    """A partial says what was relayed, null where it did not finish, and estimates its usage."""
    target = assembler(2)
    assert target.partial()["choices"][1]["message"] == {"role": "assistant", "content": ""}
    relayed = feed(target, chunk({"content": "a"}), chunk({"content": "b</s>"}))
    partial = target.partial()
    content = partial["choices"][0]["message"]["content"]
    assert content == "".join(d["delta"]["content"] for d in relayed) == "ab"
    assert partial["choices"][0]["finish_reason"] is None
    assert partial["usage"]["estimated"] is True
    assert partial["usage"]["completion_tokens"] == 2
    feed(target, chunk({"content": "c"}, usage=USAGE))
    assert target.partial()["usage"] == {**USAGE, "estimated": True}


plain = st.builds(
    lambda text, index: chunk({"content": text}, index=index), texts, st.integers(0, 1)
)
odd = st.one_of(
    st.builds(lambda text: chunk({"content": text, "role": "assistant"}), texts),
    st.builds(lambda text: chunk({"content": text, "reasoning_content": text}), texts),
    st.builds(lambda text: chunk({"content": text}, usage={"completion_tokens": 1}), texts),
    st.builds(lambda text: chunk({"reasoning": text}), texts),
    st.builds(lambda text: chunk({"content": text}, reason="stop"), texts),
    st.builds(lambda text: chunk({"content": text}, created=7), texts),
    st.builds(
        lambda text: {
            "choices": [{"index": 0, "delta": {"content": text}, "logprobs": {"content": [1]}}]
        },
        texts,
    ),
    st.builds(lambda text: chunk({"tool_calls": [{"index": 0, "content": text}]}), texts),
    st.just(chunk({"content": '", "content": "x'})),
)


@given(chunks=st.lists(st.one_of(plain, plain, plain, odd), max_size=25), spaced=st.booleans())
@example(  # a field around the content that changes and changes back
    chunks=[
        chunk({"content": "a"}, created=7),
        chunk({"content": "b", "role": "assistant"}),
        chunk({"content": "c"}, created=7),
    ],
    spaced=False,
)
def test_a_template_changes_nothing(chunks: list[Chunk], spaced: bool) -> None:
    """Reading chunks by the last one gives the same deltas and errors as reading each as JSON."""
    separators = (", ", ": ") if spaced else (",", ":")
    by_template, as_json = assembler(), assembler()
    as_json._lessons = 0
    for each in chunks:
        data = json.dumps(each, separators=separators).encode()
        outcomes = []
        for target in (by_template, as_json):
            try:
                outcomes.append(target.feed(data))
            except StreamBroken as error:
                outcomes.append(error.message)
        assert outcomes[0] == outcomes[1]
    assert by_template.partial() == as_json.partial()


def test_a_template_is_learned() -> None:
    """Plain chunks are read by their template after the second one."""
    target = assembler()
    feed(target, *(chunk({"content": f"word {number}"}) for number in range(5)))
    assert target._template is not None
    assert target._lessons == LESSONS - 1
