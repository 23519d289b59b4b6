"""The bytes of a streamed answer, in every dialect, say what was predicted."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ops.simulator import Fault, Script, ToolCall, predict, render
from ops.simulator.answer import assemble
from ops.simulator.body import Ending, PlainBody, StreamBody

REQUEST = {"messages": [{"role": "user", "content": "hello"}], "stream": True}

words = st.text(st.characters(codec="utf-8"), max_size=40)
scripts = st.builds(
    Script,
    seed=st.integers(0, 9),
    tokens=st.integers(0, 12),
    text=st.none() | words,
    reasoning=st.none() | st.integers(0, 4) | words,
    refusal=st.none() | words,
    tool_calls=st.integers(0, 3)
    | st.lists(st.builds(ToolCall, name=words, arguments=words), max_size=2).map(tuple),
    shred=st.booleans(),
    finish_reason=st.sampled_from([None, "length", "content_filter"]),
    usage=st.sampled_from(["finish", "later", "every"]),
    cost=st.booleans(),
    cached_tokens=st.none() | st.integers(0, 9),
    leaked_stop=st.booleans(),
    role_every_chunk=st.booleans(),
    reasoning_field=st.sampled_from(["reasoning_content", "reasoning"]),
    finish_empty=st.booleans(),
    newline=st.sampled_from(["\n", "\r\n", "\r"]),
    bom=st.booleans(),
    space=st.booleans(),
    comments=st.integers(0, 3),
    fields=st.booleans(),
    multiline=st.booleans(),
    done=st.sampled_from(["blank", "bare", "never"]),
)


def events(body: bytes) -> list[str]:
    """The data of each event: the specification in its plainest form, for whole bodies."""
    text = body.decode().removeprefix("\ufeff")
    found, data = [], []
    for line in [*re.split(r"\r\n|\n|\r", text), ""]:
        name, _, value = line.partition(":")
        if not line and data:
            found.append("\n".join(data))
            data = []
        elif name == "data":
            data.append(value.removeprefix(" "))
    return found


def fold(chunks: list[dict[str, Any]], script: Script) -> tuple[dict[int, dict[str, Any]], Any]:
    """Final messages by index and the last usage, from the chunks of a stream."""
    texts: dict[int, dict[str, str]] = defaultdict(lambda: defaultdict(str))
    calls: dict[int, list[dict[str, Any]]] = defaultdict(list)
    usage = None
    for chunk in chunks:
        usage = chunk.get("usage", usage)
        for choice in chunk["choices"]:
            delta, index = choice["delta"], choice["index"]
            calls[index] += delta.pop("tool_calls", [])
            for name, value in delta.items():
                if name != "role":
                    texts[index][name.replace(script.reasoning_field, "reasoning")] += value
            texts[index]["finish_reason"] = choice["finish_reason"]
    return {i: texts[i] | {"tool_calls": assemble(calls[i])} for i in texts}, usage


@given(scripts, st.integers(1, 3))
def test_any_dialect_decodes_to_the_prediction(script: Script, n: int) -> None:
    """Whatever framing, fields and fragments a script asks for, a reader ends with the answer."""
    request = {**REQUEST, "n": n, "simulate": script.as_dict()}
    answer = predict(request)
    *found, last = events(render(request))
    if script.done == "never":
        found.append(last)
    else:
        assert last == "[DONE]"
    messages, usage = fold([json.loads(data) for data in found], script)
    assert usage == answer.usage
    for choice in answer.choices:
        said = messages[choice.index]
        leak = "</s>" if script.leaked_stop else ""
        assert said.get("content", "") == (choice.content or "") + leak
        assert said.get("reasoning", "") == (choice.reasoning or "")
        assert said.get("refusal", "") == (choice.refusal or "")
        assert said["tool_calls"] == choice.tool_calls
        assert said["finish_reason"] == choice.finish_reason


def test_the_common_form_is_the_documented_one_to_the_byte() -> None:
    """Key order, spacing and the events of DeepInfra's sample."""
    script = Script(text=" Hi", leaked_stop=True)
    answer = predict(REQUEST, script=script)
    opening = (
        f'data: {{"id":"{answer.id}","object":"chat.completion.chunk","created":{answer.created},'
        '"model":"nvidia/NVIDIA-Nemotron-3-Super-120B-A12B","choices":[{"index":0,"delta":'
    )
    usage = msgspec.json.encode(answer.usage).decode()
    assert render(REQUEST, script=script).decode() == (
        opening + '{"role":"assistant","content":" Hi"},"finish_reason":null}]}\n\n'
        + opening + '{"role":"assistant","content":"</s>"},"finish_reason":null}]}\n\n'
        + opening + '{},"finish_reason":"stop"}],"usage":' + usage + "}\n\n"
        + "data: [DONE]\n\n"
    )  # fmt: skip


def test_the_plain_form_is_the_documented_one_to_the_byte() -> None:
    """Key order and spacing of DeepInfra's plain answer."""
    script = Script(text="Hi")
    answer = predict(REQUEST, script=script)
    usage = msgspec.json.encode(answer.usage).decode()
    assert b"".join(PlainBody(answer, script, None)).decode() == (
        f'{{"id":"{answer.id}","object":"chat.completion","created":{answer.created},'
        '"model":"nvidia/NVIDIA-Nemotron-3-Super-120B-A12B","choices":[{"index":0,"message":'
        '{"role":"assistant","content":"Hi"},"finish_reason":"stop"}],"usage":' + usage + "}"
    )


DIALECTS = [
    (Script(bom=True), b"\xef\xbb\xbfdata: "),
    (Script(newline="\r"), b"}\r\rdata: [DONE]\r\r"),
    (Script(newline="\r\n"), b"}\r\n\r\ndata: [DONE]\r\n\r\n"),
    (Script(space=False), b"}\n\ndata:[DONE]\n\n"),
    (Script(comments=2), b"}\n\n: the simulator is still here\ndata: {"),
    (Script(fields=True), b"}\nretry: 3000\n\nevent: message\nid: 2\ndata: {"),
    (Script(multiline=True), b',\ndata: "choices":\ndata: [{'),
    (Script(done="bare"), b"}\n\ndata: [DONE]"),
    (Script(finish_empty=True), b'"finish_reason":""}]}'),
    (Script(reasoning_field="reasoning"), b'{"role":"assistant","reasoning":"'),
    (Script(role_every_chunk=False), b'"delta":{"content":"'),
    (Script(usage="later"), b'"choices":[],"usage":{'),
    (Script(usage="every"), b'"finish_reason":null}],"usage":{'),
]


@pytest.mark.parametrize(("script", "mark"), DIALECTS)
def test_a_dialect_is_spoken_only_where_asked(script: Script, mark: bytes) -> None:
    """Each wish shows in the bytes, and not in those of a script without it."""
    assert mark in render(REQUEST, script=script)
    if script.done != "bare":
        assert mark not in render(REQUEST, script=Script())
    assert (b",\n" in render(REQUEST, script=script)) == script.multiline


def test_choices_take_turns() -> None:
    """The deltas of n choices interleave by index."""
    body = render({**REQUEST, "n": 2}, script=Script(tokens=2))
    chunks = [json.loads(data) for data in events(body)[:-1]]
    assert [chunk["choices"][0]["index"] for chunk in chunks] == [0, 1, 0, 1, 0, 1]


def test_usage_may_be_withheld() -> None:
    """A script without usage has none on any chunk, nor in the plain form."""
    script = Script(usage="never")
    assert b'"usage"' not in render(REQUEST, script=script)
    assert b'"usage"' not in b"".join(PlainBody(predict(REQUEST), script, None))


def test_the_tier_is_echoed() -> None:
    """A script may echo another tier than the one asked for, on every chunk."""
    request = {**REQUEST, "service_tier": "flex"}
    body = render(request, script=Script(tokens=1, service_tier="default"))
    assert {json.loads(data)["service_tier"] for data in events(body)[:-1]} == {"default"}


@pytest.mark.parametrize("kind", ["reset", "close", "eof", "stall"])
def test_a_cut_falls_on_its_byte(kind: Any) -> None:
    """At every position, exactly the bytes before it are sent, and no empty part among them."""
    script = Script(text="漢字 é", newline="\r\n")
    answer = predict(REQUEST, script=script)
    whole = render(REQUEST, script=script)
    for at in range(len(whole) + 2):
        parts = list(StreamBody(answer, script, Fault(kind=kind, byte=at)))
        assert b"".join(parts) == whole[:at]
        assert all(parts)


def test_a_cut_falls_behind_its_event() -> None:
    """A position in events counts whole ones."""
    script = Script(tokens=5)
    body = StreamBody(predict(REQUEST, script=script), script, Fault(kind="reset", event=3))
    assert len(events(b"".join(body))) == 3
    assert body.ending is Ending.RESET


def struck(**fault: Any) -> list[str]:
    """The events of a five-token answer with a fault behind the second."""
    script = Script(tokens=5)
    body = StreamBody(predict(REQUEST, script=script), script, Fault(event=2, **fault))
    return events(b"".join(body))


def test_an_error_object_ends_the_stream() -> None:
    """An error inside a stream is followed by [DONE] or by nothing, as an object or a string."""
    assert struck(kind="error_object")[2:] == [
        '{"error":{"message":"Internal server error","type":"server_error",'
        '"param":null,"code":null}}',
        "[DONE]",
    ]
    assert struck(kind="error_object", error="gone", done=False)[2:] == ['{"error":"gone"}']
    plain_words = struck(kind="error_object", form="string", done=False)[2:]
    assert plain_words == ['{"error":"Internal server error"}']


def test_a_bad_chunk_stands_among_good_ones() -> None:
    """One event is no JSON; those around it are."""
    found = struck(kind="bad_json")
    with pytest.raises(json.JSONDecodeError):
        json.loads(found[2])
    assert len(found) == 5 + 1 + 2
    assert all(json.loads(data) for data in found[:2] + found[3:-1])


def test_an_early_finish_says_why() -> None:
    """`finish` ends the answer with a reason that means failure."""
    *_, finish, done = struck(kind="finish", finish_reason="error")
    assert json.loads(finish)["choices"][0]["finish_reason"] == "error"
    assert done == "[DONE]"


def test_oversized_faults_go_beyond_the_limits() -> None:
    """One event is over 1 MiB; one response is over 64 MiB in small events."""
    assert max(map(len, struck(kind="oversized_event"))) > 1024 * 1024
    script = Script(tokens=1)
    body = StreamBody(predict(REQUEST, script=script), script, Fault(kind="oversized_response"))
    sizes = [len(part) for part in body]
    assert sum(sizes) > 64 * 1024 * 1024
    assert max(sizes) < 1024 * 1024
