"""What the queue adds to a chat completion: jobs, keys, clients that leave, answers begun anew."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from ops.simulator import Fault, Script
from penstock import JobRecord, JobState
from producers.gateway.openai import chat, live
from tests.acceptance.openai_stand import (
    MESSAGES,
    MODEL,
    Stand,
    asked,
    awaiting_library,
    expected,
    library,
    standing,
)
from tests.gateways import GatewayThread
from tests.waiting import until, until_async

pytestmark = pytest.mark.xdist_group("openai_queue")


@pytest.fixture(scope="module")
def stand(session_dir: Path) -> Iterator[Stand]:
    """One for all of these tests."""
    with standing(session_dir / "openai-queue") as stand:
        yield stand


@pytest.fixture
def api(stand: Stand) -> Iterator[openai.OpenAI]:
    """The library on the gateway."""
    with library(stand.base_url("queue")) as client:
        yield client


def job_of(stand: Stand, name: str) -> JobRecord | None:
    """The newest job with this name in its metadata."""
    found = (r for r in stand.client.list(limit=500) if r.metadata.get("name") == name)
    return next(found, None)


def text_of(answer: Any) -> str | None:
    """A completion's words."""
    content: str | None = answer.choices[0].message.content
    return content


def test_the_body_is_the_models_and_the_options_are_the_jobs(
    stand: Stand, api: openai.OpenAI
) -> None:
    """Every body field arrives upstream as it was; options in body and headers do not."""
    question = asked(Script(text="Hi"), temperature=0.5, metadata={"name": "options"})
    question["extra_body"] |= {"top_k": 40, "reasoning": {"enabled": True}, "priority": 3}
    headers = {"x-penstock-priority": "7", "x-penstock-conversation": "c"}
    raw = api.chat.completions.with_raw_response.create(**question, extra_headers=headers)
    record = stand.client.get(raw.headers["x-penstock-job"])
    assert raw.parse().id == record.id
    assert (record.priority, record.conversation, record.max_attempts) == (7, "c", 1)
    assert record.metadata == {"name": "options"}
    assert json.loads(stand.simulator.simulator.received[-1].body) == {
        "messages": MESSAGES, "model": MODEL, "temperature": 0.5, "top_k": 40,
        "reasoning": {"enabled": True}, "simulate": {"text": "Hi"}, "stream": True,
        "stream_options": {"include_usage": True},
    }  # fmt: skip


def test_one_key_is_one_job(stand: Stand, api: openai.OpenAI) -> None:
    """Sent again, streamed or not, it has the same answer, and the model is asked once."""
    before = stand.simulator.simulator.stats.requests
    question = asked(Script(tokens=9), extra_headers={"Idempotency-Key": "one"})
    first, again = (api.chat.completions.create(**question) for _ in range(2))
    raw = api.chat.completions.with_raw_response.create(**question, stream=True)
    chunks = list(raw.parse())
    assert {first.id, again.id, chunks[0].id, raw.headers["x-penstock-job"]} == {first.id}
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == text_of(first)
    assert stand.simulator.simulator.stats.requests == before + 1
    with pytest.raises(openai.UnprocessableEntityError, match="use a new key"):
        api.chat.completions.create(**question, temperature=1)


LEAVING = {
    "cancels": ({}, JobState.CANCELLED),
    "continues": ({"x-penstock-on-disconnect": "continue"}, JobState.COMPLETED),
    "comes again": ({"Idempotency-Key": ""}, JobState.COMPLETED),
}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("how", LEAVING)
async def test_a_client_that_leaves_takes_its_job_along(
    stand: Stand, how: str, stream: bool
) -> None:
    """Or leaves it running, if it says so, or if its idempotency key does."""
    name = f"{how} {stream}"
    headers, state = LEAVING[how]
    headers = {header: value or name for header, value in headers.items()}
    script = Script(tokens=2000 if state == JobState.CANCELLED else 30, gap=0.02)
    question = asked(script, metadata={"name": name}, stream=stream, extra_headers=headers)
    async with awaiting_library(stand.base_url("queue")) as client:
        asking = asyncio.ensure_future(client.chat.completions.create(**question))
        await until_async(lambda: job_of(stand, name))
        if stream:
            await (await asking).close()
        asking.cancel()
        await asyncio.wait([asking])
    record = await until_async(lambda: (r := job_of(stand, name)) and r.state.is_terminal and r)
    assert record.state == state
    if state == JobState.CANCELLED:
        assert record.cancel_reason == "its client reads no more"


def broken(key: str) -> dict[str, Any]:
    """A question whose first answer breaks off in the middle."""
    script = Script(tokens=30, gap=0.01, fault=Fault(kind="reset", event=20), attempts=1, key=key)
    return asked(script, tries=3)


def newest(stand: Stand) -> JobRecord:
    """The last job that was submitted."""
    return next(stand.client.list(limit=1))


def test_a_restart_ends_a_stream_that_has_spoken(stand: Stand, api: openai.OpenAI) -> None:
    """Nothing is held back, so the error comes when the answer begins anew, and nobody reads it."""
    said: list[str] = []
    stream = api.chat.completions.create(**broken("a"), stream=True)
    with pytest.raises(openai.APIError, match="begins anew") as error:
        said.extend(chunk.choices[0].delta.content or "" for chunk in stream)
    assert said
    assert error.value.code == "restarted"
    assert until(lambda: (r := newest(stand)).state.is_terminal and r).state == JobState.CANCELLED


@pytest.mark.parametrize("stream", [False, True])
def test_a_buffering_client_gets_the_finished_attempt(api: openai.OpenAI, stream: bool) -> None:
    """Its stream is late and whole; a plain answer always is."""
    headers = {"x-penstock-restart": "buffer"}
    question = broken(f"b{stream}")
    got = api.chat.completions.create(**question, stream=stream, extra_headers=headers)
    said = text_of(got) if not stream else "".join(c.choices[0].delta.content or "" for c in got)
    assert said == expected(Script(tokens=30)).choices[0].content


def test_who_comes_after_a_restart_gets_the_good_answer(api: openai.OpenAI) -> None:
    """The same key again: what is void is not repeated."""
    question = {**broken("c"), "extra_headers": {"Idempotency-Key": "restarted"}}
    with pytest.raises(openai.APIError, match="begins anew"):
        list(api.chat.completions.create(**question, stream=True))
    chunks = list(api.chat.completions.create(**question, stream=True))
    said = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    assert said == expected(Script(tokens=30)).choices[0].content


def test_what_was_tried_enough_is_not_tried_again(stand: Stand) -> None:
    """A library that sends requests again on 500 does not: the answer tells it."""
    before = stand.simulator.simulator.stats.requests
    question = asked(Script(fault=Fault(kind="status", status=500)), tries=2)
    with (
        library(stand.base_url("queue")).with_options(max_retries=2) as client,
        pytest.raises(openai.InternalServerError) as error,
    ):
        client.chat.completions.create(**question)
    assert stand.simulator.simulator.stats.requests == before + 2
    assert error.value.response.headers["x-penstock-job"] == newest(stand).id


@pytest.mark.parametrize("stream", [False, True])
def test_a_deadline_that_passes_is_a_timeout(api: openai.OpenAI, stream: bool) -> None:
    """504, in Penstock's words."""
    headers = {"x-penstock-deadline": "0.3"}
    with pytest.raises(openai.InternalServerError, match="deadline") as error:
        api.chat.completions.create(**asked(Script(ttft=20)), stream=stream, extra_headers=headers)
    assert error.value.status_code == 504


async def test_a_job_that_somebody_cancels_is_a_conflict(stand: Stand) -> None:
    """Whoever waits for it is told."""
    async with awaiting_library(stand.base_url("queue")) as client:
        question = asked(Script(ttft=20), metadata={"name": "stopped"})
        answer = asyncio.ensure_future(client.chat.completions.create(**question))
        record = await until_async(lambda: job_of(stand, "stopped"))
        stand.client.cancel(record.id, "enough")
        with pytest.raises(openai.ConflictError, match="was cancelled: enough"):
            await answer


def test_silence_is_filled_and_a_late_failure_is_in_the_stream(
    stand: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After OPENING the head goes out; comments follow, which are no events, and the error."""
    monkeypatch.setattr(chat, "OPENING", 0.05)
    monkeypatch.setattr(live, "HEARTBEAT", 0.05)
    fault = Fault(kind="slow_headers", seconds=0.5)
    question = asked(Script(fault=fault, ttft=20), extra_headers={"x-penstock-deadline": "0.5"})
    body = {**question["extra_body"], "messages": MESSAGES, "stream": True}
    url = f"{stand.base_url('queue')}/chat/completions"
    answer = httpx.post(url, json=body, headers=question["extra_headers"], timeout=30)
    assert answer.status_code == 200
    assert answer.text.startswith(":\n:\n")
    assert json.loads(answer.text.lstrip(":\n").removeprefix("data: "))["error"]["code"]


def test_a_model_leads_to_its_route_and_is_shown(stand: Stand, api: openai.OpenAI) -> None:
    """By its id, slashes included; others are not known."""
    assert api.models.retrieve(MODEL).to_dict()["routes"] == ["default"]
    answer = api.chat.completions.create(model="default", messages=MESSAGES)
    assert answer.model == MODEL
    with pytest.raises(openai.NotFoundError, match="no model 'x'"):
        api.models.retrieve("x")


@pytest.mark.parametrize(
    ("headers", "named"),
    [
        ({"x-penstock-prority": "1"}, "x-penstock-prority"),
        ({"x-penstock-restart": "no"}, "x-penstock-restart"),
        ({"x-penstock-priority": "11"}, "priority"),
    ],
)
def test_what_cannot_be_is_refused_by_name(
    api: openai.OpenAI, headers: dict[str, str], named: str
) -> None:
    """In OpenAI's shape, before anything is submitted."""
    with pytest.raises(openai.BadRequestError, match=named) as error:
        api.chat.completions.create(**asked(), extra_headers=headers)
    assert error.value.type == "invalid_request_error"


def test_a_gateway_that_stops_sends_its_clients_to_another(stand: Stand) -> None:
    """A chat's stream ends with an error and its job is cancelled; a response goes on elsewhere."""
    slow = Script(tokens=60, gap=0.02)
    question = asked(slow, metadata={"name": "stopping"}, stream=True)
    with (
        GatewayThread(stand.client.settings) as stopping,
        library(f"{stopping.url}/v1") as client,
    ):
        chunks = iter(client.chat.completions.create(**question))
        next(chunks)
        stand.simulator.simulator.play(slow)
        events = iter(client.responses.create(model=MODEL, input="Why?", stream=True))
        read = [next(events) for _ in range(5)]
        stopping.server.should_exit = True
        with pytest.raises(openai.APIError) as error:
            list(chunks)
        read += events
    assert error.value.code == "gateway_stops"
    record = until(lambda: (r := job_of(stand, "stopping")) and r.state.is_terminal and r)
    assert record.state == JobState.CANCELLED
    *read, last = read
    assert (last.type, read[0].type) == ("error", "response.created")
    with library(stand.base_url("queue")) as client:
        id_ = read[0].response.id
        after = last.sequence_number
        read += client.responses.retrieve(id_, stream=True, starting_after=after)
        assert read == list(client.responses.retrieve(id_, stream=True))


def test_an_unknown_route_is_not_found(api: openai.OpenAI) -> None:
    """The error names those there are."""
    with pytest.raises(openai.NotFoundError, match="no route 'nowhere'; known routes: default"):
        api.chat.completions.create(**asked(), extra_headers={"x-penstock-route": "nowhere"})
