"""The Response object: a job and its end in the words of the Responses API. Pure."""

from __future__ import annotations

from typing import Any

import msgspec

from penstock.errors import InvalidRequest, JobNotFound
from penstock.events import EventType
from penstock.job import JobRecord
from penstock.settings import Settings
from penstock.state import JobState
from producers.gateway.openai import errors
from producers.gateway.openai.request import MARK, Mark

PREFIX, JOB_PREFIX = "resp_", "job_"

STATUSES = {
    JobState.SCHEDULED: "queued",
    JobState.QUEUED: "queued",
    JobState.ADMITTED: "queued",
    JobState.RUNNING: "in_progress",
    JobState.COMPLETED: "completed",
    JobState.FAILED: "failed",
    JobState.CANCELLED: "cancelled",
    JobState.EXPIRED: "failed",
}

INCOMPLETE = {"length": "max_output_tokens", "content_filter": "content_filter"}
"""Why an answer that is whole by the model's word is cut short, by its finish_reason."""

CODES = {400: "invalid_prompt", 422: "invalid_prompt", 429: "rate_limit_exceeded"}
"""Codes of a response's error by status, of those that OpenAI has; others are `server_error`."""

_ECHOED = (
    "parallel_tool_calls", "temperature", "top_p", "user", "safety_identifier", "service_tier",
    "prompt_cache_key", "prompt_cache_retention",
)  # fmt: skip


def response_id(job: str) -> str:
    """The response's id of a job; they differ in their prefix only."""
    return PREFIX + job.removeprefix(JOB_PREFIX)


def job_id(response: str) -> str:
    """The job of a response's id; raises JobNotFound where it can be none's."""
    if not response.startswith(PREFIX):
        raise JobNotFound(f"there is no response {response!r}; their ids begin with {PREFIX}")
    return JOB_PREFIX + response.removeprefix(PREFIX)


def skeleton(record: JobRecord, settings: Settings | None = None) -> dict[str, Any]:
    """What a Response says from the beginning: who it is and what was asked, not yet answered.

    Args:
        record: of the job.
        settings: they know the model of a route, where the record names none.
    """
    asked, mark = msgspec.json.decode(record.request), _mark(record)
    messages = asked["messages"]
    return {
        "id": response_id(record.id),
        "object": "response",
        "created_at": int(record.created_at),
        "status": "queued",
        "background": mark.background,
        "completed_at": None,
        "error": None,
        "incomplete_details": None,
        "instructions": messages[0].get("content") if mark.instructed else None,
        "max_output_tokens": asked.get("max_tokens"),
        "model": record.model or _model_of(record.route, settings),
        "output": [],
        "parallel_tool_calls": True,
        "previous_response_id": mark.previous_response_id,
        "reasoning": {"effort": asked.get("reasoning_effort"), "summary": None},
        "store": True,
        "temperature": None,
        "text": _text(asked),
        "tool_choice": _choice(asked.get("tool_choice", "auto")),
        "tools": [{"type": "function", **function} for function in _functions(asked)],
        "top_p": None,
        "truncation": "disabled",
        "usage": None,
        **{name: asked[name] for name in _ECHOED if name in asked},
        "metadata": {k: v for k, v in record.metadata.items() if k != MARK},
    }


def of_record(record: JobRecord, settings: Settings | None = None) -> dict[str, Any]:
    """The Response as it stands; arguments as of `skeleton`."""
    begun = {**skeleton(record, settings), "status": STATUSES[record.state]}
    if record.outcome is None:
        return begun
    return concluded(begun, record.id, record.state, record.outcome, record.finished_at)


def concluded(
    begun: dict[str, Any], job: str, end: str, data: dict[str, Any], at: float | None
) -> dict[str, Any]:
    """The Response after a terminal event.

    Args:
        begun: its skeleton.
        job: the job's id.
        end: the event's type.
        data: the event's data.
        at: its time.
    """
    completion = data if end == EventType.COMPLETED else data.get("completion")
    answered = _answered(job, completion) if completion else {}
    ended = {**begun, "status": STATUSES[JobState(end)], **answered}
    if end == EventType.COMPLETED:
        reason = INCOMPLETE.get(data["choices"][0]["finish_reason"])
        if reason is None:
            return {**ended, "completed_at": int(at or 0)}
        return {**ended, "status": "incomplete", "incomplete_details": {"reason": reason}}
    if end == EventType.CANCELLED:
        return ended
    failure = errors.of_outcome(end, data)
    code = CODES.get(failure.status, "server_error")
    return {**ended, "error": {"code": code, "message": failure.message}}


def _answered(job: str, completion: dict[str, Any]) -> dict[str, Any]:
    choice = completion["choices"][0]
    cut = choice["finish_reason"] is None or choice["finish_reason"] in INCOMPLETE
    status = "incomplete" if cut else "completed"
    return {
        "model": completion["model"],
        "output": output(job, choice["message"], status),
        "usage": _usage(completion["usage"]),
        **{name: completion[name] for name in ("service_tier", "penstock") if name in completion},
    }


def output(job: str, message: dict[str, Any], status: str) -> list[dict[str, Any]]:
    """A chat answer's message as output items: reasoning, what was said, calls."""
    items = []
    if thoughts := message.get("reasoning_content"):
        items.append(reasoning_item(item_id("rs", job), status, thoughts))
    parts = []
    if message.get("content"):
        parts.append(text_part(message["content"]))
    if message.get("refusal"):
        parts.append({"type": "refusal", "refusal": message["refusal"]})
    if parts:
        items.append(message_item(item_id("msg", job), status, parts))
    for number, call in enumerate(message.get("tool_calls") or []):
        function = call.get("function") or {}
        about = call_id(job, number, call.get("id")), function.get("name") or ""
        id_, arguments = item_id("fc", job, number), function.get("arguments") or ""
        items.append(call_item(id_, status, *about, arguments))
    return items


def item_id(kind: str, job: str, number: int = 0) -> str:
    """An output item's id: the same whoever makes it, and whenever."""
    suffix = f"_{number}" if number or kind == "fc" else ""
    return f"{kind}_{job.removeprefix(JOB_PREFIX)}{suffix}"


def call_id(job: str, number: int, given: str | None) -> str:
    """The model's id of a call, or one in its place: an output has to name one."""
    return given or f"call_{job.removeprefix(JOB_PREFIX)}_{number}"


def reasoning_item(id_: str, status: str, text: str | None) -> dict[str, Any]:
    """A `reasoning` item; text None: nothing was thought yet."""
    content = [] if text is None else [{"type": "reasoning_text", "text": text}]
    return {
        "id": id_, "type": "reasoning", "status": status, "summary": [], "content": content,
    }  # fmt: skip


def message_item(id_: str, status: str, parts: list[dict[str, Any]]) -> dict[str, Any]:
    """A `message` item."""
    return {
        "id": id_, "type": "message", "status": status, "role": "assistant", "content": parts,
    }  # fmt: skip


def call_item(id_: str, status: str, call: str, name: str, arguments: str) -> dict[str, Any]:
    """A `function_call` item."""
    return {
        "id": id_, "type": "function_call", "status": status, "call_id": call, "name": name,
        "arguments": arguments,
    }  # fmt: skip


def text_part(text: str) -> dict[str, Any]:
    """An `output_text` part."""
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def earlier(record: JobRecord) -> list[dict[str, Any]]:
    """The conversation so far; raises InvalidRequest where there is no answer to go on from."""
    if record.state != JobState.COMPLETED:
        raise InvalidRequest(
            f"previous_response_id: its job is {record.state}; only a completed one has an answer "
            "to go on from"
        )
    return conversation(record)


def conversation(record: JobRecord) -> list[dict[str, Any]]:
    """The messages of a completed job and its answer; its instructions were for it alone."""
    messages: list[dict[str, Any]] = msgspec.json.decode(record.request)["messages"]
    if _mark(record).instructed:
        messages = messages[1:]
    answer = (record.outcome or {})["choices"][0]["message"]
    return [*messages, {k: v for k, v in answer.items() if v is not None or k == "content"}]


def _mark(record: JobRecord) -> Mark:
    """The record's mark; metadata is its owner's, so what is no mark counts as none."""
    try:
        return msgspec.json.decode(record.metadata.get(MARK, "{}"), type=Mark)
    except msgspec.DecodeError:
        return Mark()


def _model_of(route: str, settings: Settings | None) -> str:
    """A route's model; "" where only the workers know the route."""
    known = settings.resolved_routes.get(route) if settings else None
    return known.model if known else ""


def _object(value: Any) -> dict[str, Any]:
    """A part of the body as it should be: only the upstream knows whether it may be otherwise."""
    return value if isinstance(value, dict) else {}


def _functions(asked: dict[str, Any]) -> list[dict[str, Any]]:
    tools = asked.get("tools")
    given = [_object(tool) for tool in tools] if isinstance(tools, list) else []
    return [_object(tool.get("function")) for tool in given if tool.get("type") == "function"]


def _choice(choice: Any) -> Any:
    if isinstance(choice, str):
        return choice
    name = _object(_object(choice).get("function")).get("name")
    return {"type": "function", "name": name} if name else _object(choice) or "auto"


def _text(asked: dict[str, Any]) -> dict[str, Any]:
    given = _object(asked.get("response_format"))
    text = {"format": {"type": given.get("type", "text"), **_object(given.get("json_schema"))}}
    return {**text, "verbosity": asked["verbosity"]} if "verbosity" in asked else text


def _usage(usage: dict[str, Any]) -> dict[str, Any]:
    """OpenAI's names, and the cost beside them."""
    prompt = usage.get("prompt_tokens_details") or {}
    answer = usage.get("completion_tokens_details") or {}
    cost = {"estimated_cost": usage["estimated_cost"]} if "estimated_cost" in usage else {}
    return {
        "input_tokens": usage["prompt_tokens"],
        "input_tokens_details": {
            name: prompt.get(name) or 0 for name in ("cached_tokens", "cache_write_tokens")
        },
        "output_tokens": usage["completion_tokens"],
        "output_tokens_details": {"reasoning_tokens": answer.get("reasoning_tokens") or 0},
        "total_tokens": usage["total_tokens"],
        **cost,
    }
