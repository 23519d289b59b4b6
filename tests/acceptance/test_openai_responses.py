"""OpenAI's own library hears the same responses through the queue and from the upstream itself.

Tests that take a `url` run against both; the others are about what the queue adds.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, get_args

import openai
import pytest
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import Field, TypeAdapter

from ops.simulator import Answer, Fault, Script, predict
from penstock import JobState
from tests.acceptance.openai_stand import (
    MODEL,
    Stand,
    awaiting_library,
    library,
)
from tests.waiting import until

pytestmark = pytest.mark.xdist_group("openai_responses")

TOOLS: list[Any] = [{"type": "function", "name": "look", "parameters": {}, "strict": False}]
CHAT_TOOLS = [
    {"type": "function", "function": {k: tool[k] for k in ("name", "parameters", "strict")}}
    for tool in TOOLS
]
QUESTION: dict[str, Any] = {"model": MODEL, "input": "Why?"}
MESSAGES = [{"role": "user", "content": "Why?"}]
ERRORS = {
    400: openai.BadRequestError,
    404: openai.NotFoundError,
    429: openai.RateLimitError,
    500: openai.InternalServerError,
}
"""What the library raises for an upstream's status; test_openai_chat.py has them all."""


@pytest.fixture
def stand(responses_stand: Stand) -> Iterator[Stand]:
    """The stand; what a test had the simulator play is over with the test."""
    yield responses_stand
    responses_stand.simulator.simulator.playlist.clear()


@pytest.fixture(params=["queue", "direct"])
def url(request: pytest.FixtureRequest, stand: Stand) -> str:
    """The base URL of a door."""
    return stand.base_url(request.param)


@pytest.fixture
def asking(url: str) -> Iterator[openai.OpenAI]:
    """The library on a door."""
    with library(url) as client:
        yield client


@pytest.fixture
def api(stand: Stand) -> Iterator[openai.OpenAI]:
    """The library on the gateway."""
    with library(stand.base_url("queue")) as client:
        yield client


def play(stand: Stand, script: Script, **fields: Any) -> Answer:
    """Have every answer be this one; the Responses API has no field for it."""
    stand.simulator.simulator.play(script, times=None)
    return predict({"model": MODEL, "messages": MESSAGES, **fields}, script=script)


EVENT: TypeAdapter[Any] = TypeAdapter(
    Annotated[get_args(ResponseStreamEvent)[0], Field(discriminator="type")]
)
"""An event as the library declares it; what it reads it takes as it comes, whatever is missing."""

EVERYTHING = Script(tokens=30, reasoning=12, tool_calls=2)


def check(response: Response, answer: Answer) -> None:
    """As OpenAI declares it: the model's reasoning, text and calls, in this order, and usage."""
    Response.model_validate(response.to_dict())
    (choice,) = answer.choices
    assert (response.status, response.error, response.model) == ("completed", None, MODEL)
    assert response.output_text == (choice.content or "")
    thoughts = [
        part.text for i in response.output if i.type == "reasoning" for part in i.content or []
    ]
    assert "".join(thoughts) == (choice.reasoning or "")
    calls = [item for item in response.output if item.type == "function_call"]
    assert [(c.call_id, c.name, c.arguments) for c in calls] == [
        (call["id"], call["function"]["name"], call["function"]["arguments"])
        for call in choice.tool_calls
    ]
    assert response.usage is not None
    assert response.usage.input_tokens == answer.usage["prompt_tokens"]
    assert response.usage.output_tokens == answer.usage["completion_tokens"]


def check_declared(*events: ResponseStreamEvent) -> None:
    """Nothing that OpenAI's declaration of an event asks for is missing."""
    for event in events:
        EVENT.validate_python(event.to_dict())


def check_events(events: list[ResponseStreamEvent]) -> None:
    """As OpenAI declares them, numbered without gaps, from the creation to the end; all add up."""
    check_declared(*events)
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert [e.type for e in events[:3]] == [
        "response.created", "response.queued", "response.in_progress",
    ]  # fmt: skip
    final = events[-1]
    assert final.type == "response.completed"
    said = "".join(e.delta for e in events if e.type == "response.output_text.delta")
    assert said == final.response.output_text
    done = [e.item.id or "" for e in events if e.type == "response.output_item.done"]
    assert sorted(done) == sorted(item.id or "" for item in final.response.output)


@pytest.mark.parametrize(
    "script", [Script(tokens=20), EVERYTHING, Script(tool_calls=3, shred=True)]
)
def test_a_response_is_waited_for(stand: Stand, asking: openai.OpenAI, script: Script) -> None:
    """Text, reasoning and function calls; read again it is the same."""
    answer = play(stand, script, tools=CHAT_TOOLS)
    response = asking.responses.create(**QUESTION, tools=TOOLS, instructions=None)
    check(response, answer)
    assert asking.responses.retrieve(response.id) == response


def test_a_response_is_streamed(stand: Stand, asking: openai.OpenAI) -> None:
    """Every event has its type and number, and the library's own accumulator agrees."""
    answer = play(stand, EVERYTHING)
    events = list(asking.responses.create(**QUESTION, stream=True))
    check_events(events)
    assert events[-1].type == "response.completed"
    check(events[-1].response, answer)
    with asking.responses.stream(**QUESTION) as stream:
        check(stream.get_final_response(), answer)


async def test_the_awaiting_library_does_the_same(stand: Stand, url: str) -> None:
    """Whole, streamed, and by its accumulator."""
    answer = play(stand, EVERYTHING)
    async with awaiting_library(url) as client:
        check(await client.responses.create(**QUESTION), answer)
        events = [e async for e in await client.responses.create(**QUESTION, stream=True)]
        check_events(events)
        async with client.responses.stream(**QUESTION) as stream:
            check(await stream.get_final_response(), answer)


def test_a_background_response_is_asked_for_later(stand: Stand, asking: openai.OpenAI) -> None:
    """It is answered at once, before it has said anything; later it is completed."""
    answer = play(stand, Script(tokens=20, ttft=0.3))
    response = asking.responses.create(**QUESTION, background=True, metadata={"a": "b"})
    assert response.status in ("queued", "in_progress")
    assert (response.background, response.output) == (True, [])
    assert response.metadata == {"a": "b"}
    final = until(lambda: (r := asking.responses.retrieve(response.id)).status == "completed" and r)
    check(final, answer)


def test_a_stream_goes_on_behind_any_number(stand: Stand, asking: openai.OpenAI) -> None:
    """Cut off and resumed at each event, by whichever reader, the events are the same."""
    play(stand, Script(tokens=12, reasoning=6, tool_calls=2))  # direct, each token is an event
    stream = asking.responses.create(**QUESTION, background=True, stream=True)
    first = next(iter(stream))
    stream.close()
    assert first.type == "response.created"
    id_ = first.response.id
    whole = list(asking.responses.retrieve(id_, stream=True))
    check_events(whole)
    for event in whole:
        rest = list(
            asking.responses.retrieve(id_, stream=True, starting_after=event.sequence_number)
        )
        assert rest == whole[event.sequence_number + 1 :]


def test_a_live_stream_is_resumed_while_it_grows(stand: Stand, asking: openai.OpenAI) -> None:
    """What was read before the break and after it is what one reader reads."""
    play(stand, Script(tokens=40, gap=0.01))
    stream = iter(asking.responses.create(**QUESTION, background=True, stream=True))
    read = [next(stream) for _ in range(7)]
    assert read[0].type == "response.created"
    id_ = read[0].response.id
    read += asking.responses.retrieve(id_, stream=True, starting_after=read[-1].sequence_number)
    assert read == list(asking.responses.retrieve(id_, stream=True))
    check_events(read)


def test_a_response_is_cancelled(stand: Stand, asking: openai.OpenAI) -> None:
    """At once, with what it had said; again changes nothing; its stream ends."""
    play(stand, Script(tokens=400, gap=0.02))
    response = asking.responses.create(**QUESTION, background=True)
    stream = asking.responses.retrieve(response.id, stream=True)
    events = []
    for event in stream:
        events.append(event)
        if event.type == "response.output_text.delta" and len(events) < 9:
            cancelled = asking.responses.cancel(response.id)
    assert (cancelled.status, bool(cancelled.output_text)) == ("cancelled", True)
    assert asking.responses.cancel(response.id) == cancelled
    last = events[-1]
    check_declared(last)
    assert last.type == "response.incomplete"
    assert last.response == cancelled


async def test_the_awaiting_library_resumes_and_waits(stand: Stand, url: str) -> None:
    """A background stream that is cut off goes on behind its number; later it is there whole."""
    answer = play(stand, Script(tokens=40, gap=0.01))
    async with awaiting_library(url) as client:
        stream = await client.responses.create(**QUESTION, background=True, stream=True)
        read = [await anext(stream) for _ in range(7)]
        await stream.close()
        assert read[0].type == "response.created"
        id_, after = read[0].response.id, read[-1].sequence_number
        rest = await client.responses.retrieve(id_, stream=True, starting_after=after)
        read += [event async for event in rest]
        again = await client.responses.retrieve(id_, stream=True)
        assert read == [event async for event in again]
        check_events(read)
        check(await client.responses.retrieve(id_), answer)


async def test_the_awaiting_library_cancels(stand: Stand, url: str) -> None:
    """What runs in the background stops with what it had said; its stream ends with the same."""
    play(stand, Script(tokens=400, gap=0.02))
    async with awaiting_library(url) as client:
        response = await client.responses.create(**QUESTION, background=True)
        stream = await client.responses.retrieve(response.id, stream=True)
        async for event in stream:
            if event.type == "response.output_text.delta":
                break
        cancelled = await client.responses.cancel(response.id)
        assert (cancelled.status, bool(cancelled.output_text)) == ("cancelled", True)
        assert await client.responses.cancel(response.id) == cancelled
        *_, last = [event async for event in stream]
    assert last.type == "response.incomplete"
    assert last.response == cancelled


def test_a_cut_response_is_incomplete(stand: Stand, asking: openai.OpenAI) -> None:
    """And says why."""
    play(stand, Script(tokens=30))
    response = asking.responses.create(**QUESTION, max_output_tokens=5)
    assert response.status == "incomplete"
    assert response.incomplete_details
    assert response.incomplete_details.reason == "max_output_tokens"


def test_a_failure_is_an_error_or_a_failed_response(stand: Stand, asking: openai.OpenAI) -> None:
    """Who waits gets the upstream's status; in a stream and later it is the response's error."""
    play(stand, Script(fault=Fault(kind="status", status=404)))
    with pytest.raises(openai.NotFoundError, match="The model does not exist"):
        asking.responses.create(**QUESTION)
    *_, last = asking.responses.create(**QUESTION, stream=True)
    check_declared(last)
    assert last.type == "response.failed"
    assert last.response.error
    assert last.response.error.message == "The model does not exist"
    assert asking.responses.retrieve(last.response.id) == last.response


@pytest.mark.parametrize("status", ERRORS)
async def test_the_awaiting_library_raises_an_errors_class(
    stand: Stand, url: str, status: int
) -> None:
    """By the upstream's status where an answer is waited for; in a stream it is an event."""
    play(stand, Script(fault=Fault(kind="status", status=status)))
    question = {**QUESTION, "extra_body": {"max_attempts": 1}}
    async with awaiting_library(url) as client:
        with pytest.raises(ERRORS[status]) as error:
            await client.responses.create(**question)
        assert type(error.value) is ERRORS[status]
        events = [e async for e in await client.responses.create(**question, stream=True)]
        assert events[-1].type == "response.failed"


async def test_the_awaiting_library_hears_what_is_refused(stand: Stand, url: str) -> None:
    """A response that is not there, and a field that nobody knows."""
    async with awaiting_library(url) as client:
        with pytest.raises(openai.NotFoundError):
            await client.responses.retrieve("resp_0")
        with pytest.raises(openai.BadRequestError, match="tepmerature: is not supported"):
            await client.responses.create(**QUESTION, extra_body={"tepmerature": 1})


def test_a_conversation_goes_on(stand: Stand, api: openai.OpenAI) -> None:
    """previous_response_id brings the messages and answers before, without old instructions."""
    play(stand, Script(text="Because."))
    first = api.responses.create(**QUESTION, instructions="Be brief.")
    second = api.responses.create(
        model=MODEL, input="Really?", instructions="Be kind.", previous_response_id=first.id
    )
    record = stand.client.get(f"job_{second.id.removeprefix('resp_')}")
    assert (second.previous_response_id, second.instructions) == (first.id, "Be kind.")
    assert (
        b'"messages":'
        + (
            b'[{"role":"system","content":"Be kind."},{"role":"user","content":"Why?"},'
            b'{"role":"assistant","content":"Because."},{"role":"user","content":"Really?"}]'
        )
        in record.request
    )
    with pytest.raises(openai.NotFoundError):
        api.responses.create(**QUESTION, previous_response_id="resp_0")


def test_a_restart_is_told_to_who_has_void_words(stand: Stand, api: openai.OpenAI) -> None:
    """An error event ends its stream; behind its number the next attempt's words begin."""
    fault = Fault(kind="reset", event=20)
    answer = play(stand, Script(tokens=30, gap=0.01, fault=fault, attempts=1, key="again"))
    read = list(api.responses.create(**QUESTION, stream=True))
    check_declared(*read)
    assert read[-1].type == "error"
    assert read[-1].code == "restarted"
    assert read[0].type == "response.created"
    id_, after = read[0].response.id, read[-1].sequence_number
    rest = list(api.responses.retrieve(id_, stream=True, starting_after=after))
    assert rest[0].sequence_number == after + 1
    assert rest[-1].type == "response.completed"
    check(rest[-1].response, answer)
    late = list(api.responses.retrieve(id_, stream=True))
    assert [e for e in late if e.type == "error"] == []
    said = "".join(e.delta for e in late if e.type == "response.output_text.delta")
    assert said == answer.choices[0].content


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"conversation": "c"}, "conversation: is not supported"),
        ({"include": ["reasoning.encrypted_content"]}, "include"),
        ({"tools": [{"type": "web_search"}]}, "tools.0"),
        ({"store": False}, "store"),
        ({"extra_body": {"tepmerature": 1}}, "tepmerature: is not supported"),
    ],
)
def test_what_is_not_supported_is_refused_by_name(
    asking: openai.OpenAI, fields: dict[str, Any], named: str
) -> None:
    """In OpenAI's shape, before anything is submitted."""
    with pytest.raises(openai.BadRequestError, match=named):
        asking.responses.create(**QUESTION, **fields)


def test_only_responses_that_are_there_can_be_asked_for(asking: openai.OpenAI) -> None:
    """An id of nothing, and one that is none at all."""
    for id_ in ("resp_0", "nothing"):
        with pytest.raises(openai.NotFoundError):
            asking.responses.retrieve(id_)
    with pytest.raises(openai.BadRequestError, match="include_obfuscation: is not supported"):
        asking.responses.retrieve("resp_0", stream=True, include_obfuscation=True)


def test_a_client_that_leaves_a_response_leaves_its_job(stand: Stand, api: openai.OpenAI) -> None:
    """Unless it says that it is to be cancelled."""
    for how, state in {"continue": JobState.COMPLETED, "cancel": JobState.CANCELLED}.items():
        stand.simulator.simulator.playlist.clear()
        play(stand, Script(tokens=2000 if how == "cancel" else 30, gap=0.02))
        headers = {} if how == "continue" else {"x-penstock-on-disconnect": how}
        with api.responses.create(**QUESTION, stream=True, extra_headers=headers) as stream:
            first = next(iter(stream))
        assert first.type == "response.created"
        job = stand.client.job(f"job_{first.response.id.removeprefix('resp_')}")
        assert until(lambda: (r := job.record()).state.is_terminal and r).state == state  # noqa: B023
