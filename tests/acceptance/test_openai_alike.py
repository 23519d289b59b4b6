"""A response through the queue and one from the upstream itself, side by side: field by field."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import openai
import pytest
from openai.types.responses import Response

from ops.simulator import Fault, Script
from tests.acceptance.likeness import alike, alike_events
from tests.acceptance.openai_stand import MODEL, Stand, awaiting_library, library
from tests.waiting import until

pytestmark = pytest.mark.xdist_group("openai_responses")

TOOLS: list[Any] = [{"type": "function", "name": "look", "parameters": {}, "strict": False}]
QUESTION: dict[str, Any] = {
    "model": MODEL, "input": "Why?", "instructions": "Be brief.", "metadata": {"a": "b"},
    "temperature": 0.5, "reasoning": {"effort": "low"}, "extra_body": {"max_attempts": 1},
}  # fmt: skip

SCRIPTS = {
    "text": (Script(tokens=40), {}),
    "reasoning": (Script(tokens=20, reasoning=15), {}),
    "refusal": (Script(refusal="I would rather not."), {}),
    "calls": (Script(tokens=5, tool_calls=2), {"tools": TOOLS}),
    "shredded calls": (Script(reasoning=4, tool_calls=3, shred=True), {"tools": TOOLS}),
    "everything": (Script(tokens=30, reasoning=12, tool_calls=2, cached_tokens=3), {}),
    "cut": (Script(tokens=40), {"max_output_tokens": 7}),
    "filtered": (Script(tokens=9, finish_reason="content_filter"), {}),
    "nothing": (Script(text=""), {}),
    "unicode": (Script(text="ä\u2028漢字 \U0001f600"), {}),
    "other dialect": (Script(tokens=9, reasoning=9, reasoning_field="reasoning"), {}),
    "dear": (Script(tokens=9), {"service_tier": "priority"}),
}
DOORS = ("queue", "direct")


@pytest.fixture
def stand(responses_stand: Stand) -> Iterator[Stand]:
    """The stand; what a test had the simulator play is over with the test."""
    yield responses_stand
    responses_stand.simulator.simulator.playlist.clear()


@pytest.fixture
def doors(stand: Stand) -> Iterator[list[openai.OpenAI]]:
    """The library on the queue, and on the upstream."""
    with library(stand.base_url("queue")) as queue, library(stand.base_url("direct")) as direct:
        yield [queue, direct]


def play(stand: Stand, script: Script) -> None:
    """Have every answer be this one."""
    stand.simulator.simulator.play(script, times=None)


@pytest.mark.parametrize("case", SCRIPTS)
def test_a_response_is_the_same(stand: Stand, doors: list[openai.OpenAI], case: str) -> None:
    """Waited for, asked for again, and in the background: every field of it."""
    script, fields = SCRIPTS[case]
    play(stand, script)
    queue, direct = (client.responses.create(**QUESTION, **fields) for client in doors)
    assert alike(queue) == alike(direct)
    for client, response in zip(doors, (queue, direct), strict=True):
        assert client.responses.retrieve(response.id) == response
    queue, direct = (ended(client, **QUESTION, **fields) for client in doors)
    assert alike(queue) == alike(direct)


def ended(client: openai.OpenAI, **question: Any) -> Response:
    """A background response when it is over."""
    begun = client.responses.create(**question, background=True)
    return until(
        lambda: (
            (r := client.responses.retrieve(begun.id)).status not in ("queued", "in_progress") and r
        )
    )


@pytest.mark.parametrize("case", SCRIPTS)
def test_its_events_are_the_same(stand: Stand, doors: list[openai.OpenAI], case: str) -> None:
    """Types, order, items and texts, from the first event to the whole response in the last."""
    script, fields = SCRIPTS[case]
    play(stand, script)
    queue, direct = (
        alike_events(client.responses.create(**QUESTION, **fields, stream=True)) for client in doors
    )
    assert queue == direct


async def test_awaiting_hears_the_same(stand: Stand) -> None:
    """The library for asyncio, whole and streamed."""
    play(stand, SCRIPTS["everything"][0])
    heard = []
    for door in DOORS:
        async with awaiting_library(stand.base_url(door)) as client:
            whole = alike(await client.responses.create(**QUESTION))
            stream = await client.responses.create(**QUESTION, stream=True)
            heard.append((whole, alike_events([event async for event in stream])))
    assert heard[0] == heard[1]


FAULTS = {
    **{
        f"status {status}": Fault(kind="status", status=status)
        for status in (400, 401, 402, 403, 404, 409, 422, 429, 500, 503)
    },
    "no answer's body": Fault(kind="status", status=503, form="empty"),
    "plain text": Fault(kind="status", status=400, form="string", error="not today"),
    "in the middle": Fault(kind="error_object", event=6),
    "an early end": Fault(kind="finish", event=6),
}


@pytest.mark.parametrize("case", FAULTS)
def test_a_failure_is_the_same(stand: Stand, doors: list[openai.OpenAI], case: str) -> None:
    """Its class, status and words where it is waited for; the response that failed elsewhere."""
    ended(doors[0], **QUESTION)  # a good answer, or the breaker opens at five bad ones in a row
    play(stand, Script(tokens=12, fault=FAULTS[case]))
    queue, direct = (failure(client) for client in doors)
    assert queue == direct
    queue_, direct_ = (ended(client, **QUESTION) for client in doors)
    assert (queue_.status, alike(queue_)) == ("failed", alike(direct_))


@pytest.mark.parametrize("kind", ["reset", "close", "eof", "bad_json"])
def test_an_answer_that_breaks_off_fails(
    stand: Stand, doors: list[openai.OpenAI], kind: Any
) -> None:
    """With what it had said: the same class and status, each in its own words."""
    ended(doors[0], **QUESTION)
    play(stand, Script(tokens=12, gap=0.002, fault=Fault(kind=kind, event=6)))
    assert {failure(client)[:2] for client in doors} == {(openai.InternalServerError, 502)}
    for client in doors:
        events = list(client.responses.create(**QUESTION, stream=True))
        assert any(event.type == "response.output_text.delta" for event in events)
        assert events[-1].type == "response.failed"


def test_a_response_that_is_not_there(doors: list[openai.OpenAI]) -> None:
    """Read, cancelled or gone on from: the same class, type and code, each in its own words."""
    for client in doors:
        for ask in (
            lambda c: c.responses.retrieve("resp_0"),
            lambda c: c.responses.retrieve("nothing"),
            lambda c: c.responses.cancel("resp_0"),
            lambda c: c.responses.create(**QUESTION, previous_response_id="resp_0"),
        ):
            with pytest.raises(openai.NotFoundError) as error:
                ask(client)
            assert (error.value.type, error.value.code) == ("not_found_error", "job_not_found")


def failure(client: openai.OpenAI) -> tuple[type, int, Any]:
    """How the library tells that a question was not answered."""
    with pytest.raises(openai.APIStatusError) as error:
        client.responses.create(**QUESTION)
    return type(error.value), error.value.status_code, error.value.body


@pytest.mark.parametrize(
    "fields",
    [
        {"conversation": "c"},
        {"include": ["reasoning.encrypted_content"]},
        {"tools": [{"type": "web_search"}]},
        {"store": False},
        {"extra_body": {"tepmerature": 1, "priority": 10}},
        {"extra_body": {"priority": 10}},
        {"input": [{"type": "reasoning", "summary": []}]},
        {"max_output_tokens": 0},
        {"extra_query": {"stream": "true"}},
    ],
)
def test_what_is_refused_is_refused_in_the_same_words(
    doors: list[openai.OpenAI], fields: dict[str, Any]
) -> None:
    """Class, status and body: the message names the field."""
    told = []
    for client in doors:
        with pytest.raises(openai.APIStatusError) as error:
            client.responses.create(**{"model": MODEL, "input": "Why?", **fields})
        told.append((type(error.value), error.value.status_code, error.value.body))
    assert told[0] == told[1]


def test_a_conversation_goes_on_alike(stand: Stand, doors: list[openai.OpenAI]) -> None:
    """The next answer depends on all that was said before, so what it says tells of it."""
    play(stand, Script(tokens=12))
    told = []
    for client in doors:
        first = client.responses.create(**QUESTION)
        second = client.responses.create(
            model=MODEL, input="Really?", previous_response_id=first.id
        )
        alone = client.responses.create(model=MODEL, input="Really?")
        assert second.output_text != alone.output_text
        told.append({**alike(second), "previous_response_id": "the first"})
    assert told[0] == told[1]


def test_only_the_queue_names_a_job(doors: list[openai.OpenAI]) -> None:
    """Penstock's own headers, and its field in the answer."""
    queue, direct = (client.responses.with_raw_response.create(**QUESTION) for client in doors)
    assert {name for name in queue.headers if name.startswith("x-")} - {*direct.headers} == {
        "x-content-type-options",
        "x-penstock-job",
    }
    assert "penstock" in queue.parse().to_dict()
    assert "penstock" not in direct.parse().to_dict()
