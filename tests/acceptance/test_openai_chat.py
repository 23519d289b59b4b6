"""OpenAI's own library sees no difference between the queue and the upstream itself.

Each test runs against both; the library is unmodified, blocking and awaiting.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from ops.simulator import Answer, Fault, Script
from tests.acceptance.openai_stand import (
    TOOLS,
    Stand,
    asked,
    awaiting_library,
    expected,
    library,
    standing,
)

pytestmark = pytest.mark.xdist_group("openai_chat")


@pytest.fixture(scope="module")
def stand(session_dir: Path) -> Iterator[Stand]:
    """One for all of these tests."""
    with standing(session_dir / "openai-chat") as stand:
        yield stand


@pytest.fixture(params=["queue", "direct"])
def url(request: pytest.FixtureRequest, stand: Stand) -> str:
    """The base URL of a door."""
    return stand.base_url(request.param)


SCRIPTS = {
    "text": (Script(tokens=40), {}),
    "reasoning": (Script(tokens=20, reasoning=15), {}),
    "refusal": (Script(refusal="I would rather not."), {}),
    "tools": (Script(tool_calls=2), {"tools": TOOLS}),
    "shredded tools": (Script(tool_calls=3, shred=True, tokens=5), {"tools": TOOLS}),
    "choices": (Script(tokens=15), {"n": 2}),
    "choices with tools": (Script(tokens=9, tool_calls=2), {"n": 2, "tools": TOOLS}),
    "cut": (Script(tokens=40), {"max_tokens": 7}),
    "nothing": (Script(text=""), {}),
    "unicode": (Script(text="ä\u2028漢字 \U0001f600"), {}),
}


@pytest.fixture(params=SCRIPTS)
def case(request: pytest.FixtureRequest) -> tuple[dict[str, Any], Answer]:
    """A question and its answer."""
    script, fields = SCRIPTS[request.param]
    return asked(script, **fields), expected(script, **fields)


def check(completion: ChatCompletion, answer: Answer) -> None:
    """The completion says what the model said, in every choice, and what it used."""
    ChatCompletion.model_validate(completion.to_dict())  # nothing that is declared is missing
    assert (completion.object, completion.model) == ("chat.completion", answer.model)
    for got, want in zip(completion.choices, answer.choices, strict=True):
        message = got.message
        assert (got.index, got.finish_reason) == (want.index, want.finish_reason)
        assert (message.role, message.content or "") == ("assistant", want.content or "")
        assert message.refusal == want.refusal
        assert getattr(message, "reasoning_content", None) == want.reasoning
        calls = [
            {"id": call.id, "type": call.type, "function": call.function.to_dict()}  # type: ignore[union-attr]
            for call in message.tool_calls or []
        ]
        assert calls == want.tool_calls
    assert completion.usage is not None
    for name in ("prompt_tokens", "completion_tokens", "total_tokens", "estimated_cost"):
        assert getattr(completion.usage, name) == answer.usage[name]


def joined(chunks: list[ChatCompletionChunk]) -> ChatCompletion:
    """What the chunks add up to, put together by hand."""
    choices: dict[int, dict[str, Any]] = {}
    calls: dict[tuple[int, int], dict[str, Any]] = {}
    for chunk in chunks:
        for choice in chunk.choices:
            whole = choices.setdefault(choice.index, {"index": choice.index, "message": {}})
            whole["finish_reason"] = choice.finish_reason or whole.get("finish_reason")
            delta = choice.delta.to_dict()
            for call in delta.pop("tool_calls", None) or []:  # type: ignore[attr-defined]
                merge(calls.setdefault((choice.index, call["index"]), {}), call)
            delta.pop("role", None)
            merge(whole["message"], {**delta, "role": "assistant"})
    for (index, _), call in sorted(calls.items()):
        call["type"] = "function"
        choices[index]["message"].setdefault("tool_calls", []).append(call)
    usage = next((chunk.usage.to_dict() for chunk in reversed(chunks) if chunk.usage), None)
    first = chunks[0]
    return ChatCompletion.model_validate({
        "id": first.id, "created": first.created, "model": first.model, "usage": usage,
        "object": "chat.completion", "choices": [whole for _, whole in sorted(choices.items())],
    })  # fmt: skip


def merge(whole: dict[str, Any], part: dict[str, Any]) -> None:
    """Add texts to texts; a name or a number stays the first."""
    for field, value in part.items():
        if isinstance(value, dict):
            merge(whole.setdefault(field, {}), value)
        elif field in ("content", "reasoning_content", "refusal", "arguments", "name", "id"):
            whole[field] = (whole.get(field) or "") + (value or "") or None
        else:
            whole[field] = value


def check_stream(chunks: list[ChatCompletionChunk], answer: Answer) -> None:
    """Each chunk is of the same completion, and together they say what the model said."""
    for chunk in chunks:
        ChatCompletionChunk.model_validate(chunk.to_dict())
    assert len({chunk.id for chunk in chunks}) == 1
    assert {chunk.object for chunk in chunks} == {"chat.completion.chunk"}
    assert {chunk.model for chunk in chunks} == {answer.model}
    check(joined(chunks), answer)


STREAM: dict[str, Any] = {"stream": True, "stream_options": {"include_usage": True}}


def test_plain(url: str, case: tuple[dict[str, Any], Answer]) -> None:
    """The blocking library gets the whole completion."""
    with library(url) as client:
        check(client.chat.completions.create(**case[0]), case[1])


def test_streamed(url: str, case: tuple[dict[str, Any], Answer]) -> None:
    """The blocking library gets chunks."""
    with library(url) as client:
        check_stream(list(client.chat.completions.create(**case[0], **STREAM)), case[1])


async def test_plain_awaiting(url: str, case: tuple[dict[str, Any], Answer]) -> None:
    """The awaiting library gets the whole completion."""
    async with awaiting_library(url) as client:
        check(await client.chat.completions.create(**case[0]), case[1])


async def test_streamed_awaiting(url: str, case: tuple[dict[str, Any], Answer]) -> None:
    """The awaiting library gets chunks."""
    async with awaiting_library(url) as client:
        stream = await client.chat.completions.create(**case[0], **STREAM)
        check_stream([chunk async for chunk in stream], case[1])


def test_the_librarys_own_accumulator_understands_the_chunks(url: str) -> None:
    """`chat.completions.stream` puts text, reasoning and calls together as a plain answer has."""
    script = Script(tokens=12, reasoning=9, tool_calls=2, role_every_chunk=False)
    question = asked(script, stream_options=STREAM["stream_options"])
    with library(url) as client, client.chat.completions.stream(**question) as s:
        final = s.get_final_completion()
    answer = expected(script).choices[0]
    message = final.choices[0].message
    assert (message.content, message.role) == (answer.content, "assistant")
    calls = [call.function.to_dict() for call in message.tool_calls or []]
    assert [(c["name"], c["arguments"]) for c in calls] == [
        (call["function"]["name"], call["function"]["arguments"]) for call in answer.tool_calls
    ]


ERRORS = {
    400: openai.BadRequestError,
    401: openai.AuthenticationError,
    402: openai.APIStatusError,
    403: openai.PermissionDeniedError,
    404: openai.NotFoundError,
    409: openai.ConflictError,
    422: openai.UnprocessableEntityError,
    429: openai.RateLimitError,
    500: openai.InternalServerError,
    503: openai.InternalServerError,
}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("status", ERRORS)
def test_an_error_has_its_class_and_its_words(url: str, status: int, stream: bool) -> None:
    """Status, message, type and code are the upstream's, streamed or not."""
    said = {"message": "not today", "type": "some_type", "param": None, "code": "some_code"}
    script = Script(fault=Fault(kind="status", status=status, form="object", error=said))
    with library(url) as client, pytest.raises(ERRORS[status]) as error:
        client.chat.completions.create(**asked(script), stream=stream)
    assert type(error.value) is ERRORS[status]
    assert (error.value.status_code, error.value.body) == (status, said)


@pytest.mark.parametrize("status", ERRORS)
async def test_the_awaiting_library_raises_the_same(url: str, status: int) -> None:
    """Its classes are the blocking one's, streamed or not."""
    said = {"message": "not today", "type": "some_type", "param": None, "code": "some_code"}
    script = Script(fault=Fault(kind="status", status=status, form="object", error=said))
    async with awaiting_library(url) as client:
        for stream in (False, True):
            with pytest.raises(ERRORS[status]) as error:
                await client.chat.completions.create(**asked(script), stream=stream)
            assert type(error.value) is ERRORS[status]
            assert (error.value.status_code, error.value.body) == (status, said)


def test_an_error_in_the_middle_of_a_stream_is_raised(url: str) -> None:
    """What was said before it arrives, and the error is the upstream's."""
    script = Script(tokens=20, gap=0.01, fault=Fault(kind="error_object", event=8))
    said: list[str] = []
    with library(url) as client:
        stream = client.chat.completions.create(**asked(script), stream=True)
        with pytest.raises(openai.APIError, match="Internal server error"):
            said.extend(chunk.choices[0].delta.content or "" for chunk in stream)
    assert str(expected(script).choices[0].content).startswith("".join(said))
    assert said


def test_the_models_are_listed(url: str) -> None:
    """The upstream's model is there, through the queue too."""
    with library(url) as client:
        (model,) = client.models.list()
    assert (model.id, model.object) == (expected().model, "model")


def test_a_request_that_makes_no_sense_is_refused(url: str) -> None:
    """No message at all: a status of 4xx, before any model is asked."""
    with library(url) as client, pytest.raises(openai.APIStatusError) as error:
        client.chat.completions.create(model="m", messages=[])
    assert error.value.status_code in (400, 422)
