"""Requests taken apart: what goes to the model, what is Penstock's, and what is refused by name."""

from __future__ import annotations

from typing import Any

import pytest

from penstock import InvalidRequest, JobRecord, JobState, Settings
from penstock.events import encode
from penstock.job import JobSpec
from producers.gateway.openai import fields, models, request, response
from tests.unit.openai_feeds import JOB, completion

MESSAGES = [{"role": "user", "content": "Hi"}]
TOOL = {"type": "function", "name": "look", "parameters": {"type": "object"}, "strict": True}
SETTINGS = Settings(
    model="large",
    routes={"fast": {"model": "small"}, "same": {"model": "large"}},  # type: ignore[dict-item]
)


MODELS = {name: route.model for name, route in SETTINGS.resolved_routes.items()}


def chat(**body: Any) -> dict[str, Any]:
    """The job of a Responses request."""
    asked, options = request.read({"input": "Hi", **body})
    return {**asked.job([]), **options}


def record(job: dict[str, Any], state: JobState = JobState.QUEUED, **more: Any) -> JobRecord:
    """A record of the job, as Redis would keep it."""
    spec = JobSpec.build(job)
    return JobRecord(
        id=JOB, tenant="default", route="default", state=state, priority=5, max_attempts=5,
        result_ttl=9, created_at=1.5, available_at=1.5, request=spec.request, model=spec.model,
        metadata=spec.options.metadata, **more,
    )  # fmt: skip


def test_how_it_is_answered_is_no_part_of_the_job() -> None:
    """Streamed or not, the same question has the same digest."""
    body = {"messages": MESSAGES, "temperature": 0.2, "top_k": 3}
    asked = fields.read_chat(
        {**body, "stream": True, "stream_options": {"include_usage": True, "x": 1}}
    )
    assert (asked.stream, asked.usage) == (True, True)
    assert asked.job == {**body, "stream_options": {"x": 1}}
    plain = fields.read_chat({**body, "stream_options": {"include_usage": True}})
    assert (plain.stream, plain.job) == (False, body)
    assert fields.read_chat({**body, "stream_options": None}).job == body


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"stream": "yes"}, "stream: must be"),
        ({"stream_options": {"include_usage": 1}}, "stream_options.include_usage: must be"),
        ({"stream_options": 0}, "stream_options: "),
    ],
)
def test_a_wish_for_the_answer_has_to_make_sense(wrong: dict[str, Any], named: str) -> None:
    """What is neither true nor false is refused by name, by us or when the job is checked."""
    with pytest.raises(InvalidRequest, match=named):
        JobSpec.build(fields.read_chat({"messages": MESSAGES, **wrong}).job)


def test_headers_are_options_of_the_job() -> None:
    """Each option but metadata has a header; a number is one; the key has its usual header."""
    headers = {"x-penstock-on-busy": "reject", "X-Penstock-Deadline": "60", "idempotency-key": "k"}
    options = fields.read_options({**headers, "x-penstock-priority": "7", "accept": "*/*"})
    spec = JobSpec.build({"messages": MESSAGES, **options})
    assert (spec.options.on_busy, spec.options.deadline) == ("reject", "+60")
    assert (spec.options.priority, spec.options.idempotency_key) == (7, "k")


@pytest.mark.parametrize(
    ("headers", "named"),
    [
        ({"x-penstock-prority": "7"}, "x-penstock-prority: is unknown"),
        ({"x-penstock-restart": "hold"}, "x-penstock-restart: must be end or buffer"),
    ],
)
def test_a_header_that_means_nothing_is_refused(headers: dict[str, str], named: str) -> None:
    """A mistyped header would change nothing, silently."""
    with pytest.raises(InvalidRequest, match=named):
        (fields.read_options(headers), fields.read_handling(headers))


@pytest.mark.parametrize(
    ("asked", "route", "model"),
    [
        ({"model": "small"}, "fast", "small"),
        ({"model": "large"}, "default", "large"),
        ({"model": "fast"}, "fast", None),
        ({"model": "other"}, None, "other"),
        ({"model": "small", "route": "same"}, "same", "small"),
        ({}, None, None),
    ],
)
def test_a_model_leads_to_its_route(
    asked: dict[str, Any], route: str | None, model: str | None
) -> None:
    """By a route's model, then by its name; the default route's upstream knows others."""
    job = fields.with_route(asked, MODELS)
    assert (job.get("route"), job.get("model")) == (route, model)


def test_each_model_is_listed_once() -> None:
    """With the routes that lead to it."""
    listed = {model["id"]: model["routes"] for model in models.listed(MODELS)}
    assert listed == {"large": ["default", "same"], "small": ["fast"]}


def test_a_response_is_asked_for_as_a_chat() -> None:
    """Each supported field has its place in the chat body."""
    job = chat(
        model="m", instructions="Be brief.", tools=[TOOL], max_output_tokens=9, temperature=1,
        tool_choice={"type": "function", "name": "look"}, reasoning={"effort": "low"},
        text={"format": {"type": "json_schema", "name": "n", "schema": {}}, "verbosity": "low"},
        metadata={"a": "b"}, top_k=4, priority=7, user=None, store=True, include=[],
    )  # fmt: skip
    assert job.pop("metadata") == {"a": "b", request.MARK: '{"instructed":true}'}
    function = {"name": "look", "parameters": {"type": "object"}, "strict": True}
    assert job == {
        "model": "m", "temperature": 1, "top_k": 4, "max_tokens": 9, "priority": 7,
        "messages": [{"role": "system", "content": "Be brief."}, *MESSAGES],
        "tools": [{"type": "function", "function": function}],
        "tool_choice": {"type": "function", "function": {"name": "look"}},
        "reasoning_effort": "low", "verbosity": "low",
        "response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": {}}},
    }  # fmt: skip


THOUGHT = {"type": "reasoning", "content": [{"type": "reasoning_text", "text": "hm"}]}
ITEMS = [
    {"role": "user", "content": [{"type": "input_text", "text": "Look"}]},
    {"type": "reasoning", "id": "rs_1", "summary": [],
     "content": [{"type": "reasoning_text", "text": "hm"}], "status": "completed"},
    {"type": "function_call", "id": "fc_1", "call_id": "1", "name": "look", "arguments": "{}"},
    {"type": "function_call", "call_id": "2", "name": "wait", "arguments": "{}"},
    {"type": "function_call_output", "call_id": "1", "output": "seen"},
    {"type": "function_call_output", "call_id": "2",
     "output": [{"type": "input_text", "text": "done"}]},
    {"type": "message", "role": "assistant", "id": "msg_1", "status": "completed", "content": [
        {"type": "output_text", "text": "A cat", "annotations": []}]},
    {"role": "user", "content": [
        {"type": "input_text", "text": "And here?"},
        {"type": "input_image", "image_url": "data:,", "detail": "low"}]},
]  # fmt: skip


def test_items_are_messages() -> None:
    """Calls are the assistant's, reasoning goes with them, pictures keep their parts."""
    call = {"id": "1", "type": "function", "function": {"name": "look", "arguments": "{}"}}
    other = {"id": "2", "type": "function", "function": {"name": "wait", "arguments": "{}"}}
    picture = {"type": "image_url", "image_url": {"url": "data:,", "detail": "low"}}
    assert chat(input=ITEMS)["messages"] == [
        {"role": "user", "content": "Look"},
        {"role": "assistant", "content": None, "reasoning_content": "hm",
         "tool_calls": [call, other]},
        {"role": "tool", "tool_call_id": "1", "content": "seen"},
        {"role": "tool", "tool_call_id": "2", "content": "done"},
        {"role": "assistant", "content": "A cat"},
        {"role": "user", "content": [{"type": "text", "text": "And here?"}, picture]},
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("body", "named"),
    [
        ({"prompt": {"id": "p"}}, "prompt: is not supported"),
        ({"conversation": "c"}, "conversation: is not supported"),
        ({"top_logprobs": 2}, "top_logprobs: is not supported"),
        ({"reasoning": {"summary": "auto"}}, "reasoning.summary: is not supported"),
        ({"tools": [{"type": "web_search"}]}, "tools.0.type: "),
        ({"store": False}, "store: "),
        ({"truncation": "auto"}, "truncation: "),
        ({"include": ["reasoning.encrypted_content"]}, "include: "),
        ({"input": [{"type": "item_reference", "id": "x"}]}, "input.*item_reference"),
        ({"max_output_tokens": "9"}, "max_output_tokens: "),
        ({"input": []}, "input"),
        ({"input": [THOUGHT]}, "input: reasoning must be followed"),
        ({"input": [THOUGHT, {"role": "user", "content": "Hi"}]}, "input: reasoning must be"),
    ],
)
def test_what_is_not_supported_is_refused_by_name(body: dict[str, Any], named: str) -> None:
    """Nothing is ignored, and no value is shown."""
    with pytest.raises(InvalidRequest, match=named) as error:
        chat(**body)
    assert "encrypted" not in str(error.value)


def test_a_response_says_what_was_asked() -> None:
    """The object's fields are the request's, from the job's record alone."""
    asked = {
        "tools": [TOOL], "tool_choice": {"type": "function", "name": "look"}, "temperature": 1,
        "text": {"format": {"type": "json_schema", "name": "n", "schema": {}}},
        "instructions": "Be brief.", "max_output_tokens": 9, "background": True,
        "previous_response_id": "resp_1",
    }  # fmt: skip
    shown = response.of_record(record(chat(**asked, metadata={"a": "b"})), SETTINGS)
    assert {name: shown[name] for name in asked} == asked
    assert (shown["id"], shown["status"], shown["output"]) == (f"resp_{JOB[4:]}", "queued", [])
    assert (shown["model"], shown["metadata"]) == ("large", {"a": "b"})
    assert response.job_id(shown["id"]) == JOB


def test_a_conversation_goes_on_without_the_old_instructions() -> None:
    """The next request has the earlier messages and the answer, as OpenAI has it."""
    ended = record(
        chat(instructions="Be brief."), JobState.COMPLETED, outcome=completion({"content": "Ho"})
    )
    assert response.conversation(ended) == [*MESSAGES, {"role": "assistant", "content": "Ho"}]


def test_metadata_that_looks_like_ours_does_no_harm() -> None:
    """Whoever writes nonsense at our key is shown a response that says less."""
    job = {"messages": MESSAGES, "metadata": {request.MARK: encode([1]).decode()}}
    assert response.of_record(record(job), SETTINGS)["background"] is False


@pytest.mark.parametrize(
    "odd",
    [
        {"response_format": {"foo": 1}}, {"response_format": "json"}, {"response_format": {}},
        {"response_format": {"type": "json_schema", "json_schema": None}},
        {"tools": "abc"}, {"tools": [{"type": "function"}]}, {"tools": [5]}, {"tools": {"a": 1}},
        {"tools": [{"type": "function", "function": "look"}]}, {"tool_choice": 5},
        {"tool_choice": {"function": "x"}}, {"tool_choice": {"function": {}}},
        {"tool_choice": None},
        {"metadata": {"penstock_response": "{"}}, {"messages": [{"role": "odd"}]},
    ],
)  # fmt: skip
def test_any_job_can_be_read_as_a_response(odd: dict[str, Any]) -> None:
    """What is not of the expected shape in a job's body counts as not said."""
    read = response.of_record(record({"messages": MESSAGES, **odd}), SETTINGS)
    assert isinstance(read["text"]["format"]["type"], str)
    assert all(tool["type"] == "function" for tool in read["tools"])
    assert isinstance(read["tool_choice"], str | dict)
