"""What the OpenAPI document says of the OpenAI-compatible API."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from producers.gateway.documents import ID, JOB
from producers.gateway.door import JOB_HEADER
from producers.gateway.openai.chunks import DONE
from producers.gateway.openai.errors import Failure, body, type_of
from producers.gateway.openai.fields import HANDLING, PREFIX
from producers.gateway.openai.fields import OPTIONS as HEADER_OPTIONS
from producers.gateway.openai.request import OPTIONS, ResponseRequest


class OpenAIMistake(BaseModel):
    """What went wrong."""

    message: str
    type: str
    param: str | None
    code: str | None


class OpenAIError(BaseModel):
    """An error, as OpenAI's API tells it."""

    error: OpenAIMistake


_MEANINGS = {
    400: "The request makes no sense; the message names the field.",
    401: "No API key, or none that is valid.",
    403: "The key may not do this.",
    404: "There is no such response or model of yours.",
    408: "The request came in too slowly.",
    409: "The job was cancelled, or its conversation is busy.",
    413: "The body is over 8 MiB.",
    415: "The body is not application/json.",
    421: "Without any API key only this machine is served.",
    422: "The idempotency key belongs to another request.",
    429: "Too many requests, or too many waiting jobs, or no budget left.",
    431: "The request line and headers are over 64 KiB.",
    500: "The gateway or the upstream failed.",
    502: "The upstream could not be reached, or broke off.",
    503: "The queue cannot be reached or is full, or the upstream is away.",
    504: "The upstream was too slow, or the job's deadline passed.",
}

ALWAYS = (400, 401, 403, 408, 421, 429, 431, 500, 503, 504)
"""What any request may be answered with."""

ASKING = (404, 409, 413, 415, 422, 502)
"""What a request for an answer may also be answered with."""


def errors(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The documentation of these statuses, and of those that any request may get."""
    return {status: _error(status) for status in sorted({*ALWAYS, *statuses})}


def answers(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """As `errors`, where a job's failure is told by the upstream's own status."""
    told = {**_error(502), "description": "The job failed by this answer of its upstream."}
    return {**errors(*ASKING, *statuses), "default": told}


def _error(status: int) -> dict[str, Any]:
    meaning = _MEANINGS[status]
    example = body(Failure(status, meaning, type_of(status)))
    described: dict[str, Any] = {"model": OpenAIError, "description": meaning}
    return {**described, "content": {"application/json": {"example": example}}}


def answered(what: str, example: dict[str, Any], stream: bytes) -> dict[int | str, Any]:
    """The documentation of 200: an object, or its events."""
    content = {
        "application/json": {"schema": {"type": "object"}, "example": example},
        "text/event-stream": {"schema": {}, "example": stream.decode()},
    }
    named = {JOB_HEADER: {"schema": {"type": "string"}, "description": "The job's id."}}
    return {200: {"description": what, "content": content, "headers": named}}


def shown(what: str, example: dict[str, Any]) -> dict[int | str, Any]:
    """The documentation of 200: an object."""
    content = {"application/json": {"schema": {"type": "object"}, "example": example}}
    return {200: {"description": what, "content": content}}


def inlined(schema: Any, definitions: dict[str, Any]) -> Any:
    """A JSON schema without references, which would not be found inside the document."""
    if isinstance(schema, list):
        return [inlined(part, definitions) for part in schema]
    if not isinstance(schema, dict):
        return schema
    if "$ref" in schema:
        return inlined(definitions[schema["$ref"].rpartition("/")[2]], definitions)
    rest = {name: part for name, part in schema.items() if name not in ("$defs", "discriminator")}
    return {name: inlined(part, definitions) for name, part in rest.items()}


_RESPONSE_SCHEMA = ResponseRequest.model_json_schema()

_NULL = {"type": "null"}


def nullable(schema: dict[str, Any]) -> dict[str, Any]:
    """An object's schema whose fields may be null, where that counts as left out."""
    fields = schema["properties"].items()
    free = {k: v if k in schema["required"] else {"anyOf": [v, _NULL]} for k, v in fields}
    return {**schema, "properties": free}


_HANDLED = {
    "on-disconnect": "what becomes of the job when its client leaves",
    "restart": "what a stream does when its attempt is begun again: end, or hold back till the end",
}

_JOB_FIELDS: Any = JOB["properties"]


def options(*but: str) -> dict[str, Any]:
    """The schemas of the job's own options, without these."""
    return {name: _JOB_FIELDS[name] for name in sorted(OPTIONS - {*but})}


_OWN_FIELDS: Any = inlined(_RESPONSE_SCHEMA, _RESPONSE_SCHEMA["$defs"])

RESPONSE = nullable({
    **_OWN_FIELDS,
    "properties": {**options("delay", "deadline"), **_OWN_FIELDS["properties"]},
})  # fmt: skip
"""A delay or a deadline would be waited for: they are for the background, and left out here."""

RESPONSE_ASKED = {"input": "Why is the sky blue?", "background": True}

_RESPONSE_EXAMPLE = {
    "id": f"resp_{ID[4:]}", "object": "response", "status": "queued", "output": [],
}  # fmt: skip

RESPONSE_ANSWERED = answered(
    "The response as it stands, or its events.",
    _RESPONSE_EXAMPLE,
    b'event: response.output_text.delta\ndata: {"type":"response.output_text.delta","delta":"Hi",'
    b'"sequence_number":5}\n\n',
)

RESPONSE_SHOWN = shown("The response as it stands.", _RESPONSE_EXAMPLE)

RESPONSE_ERASED = shown(
    "It is erased.", {"id": f"resp_{ID[4:]}", "object": "response", "deleted": True}
)


def _option(name: str) -> dict[str, Any]:
    """An option's schema as a header: text, and so never null."""
    schema = _JOB_FIELDS[name]
    kinds = schema.get("type")
    return {**schema, "type": kinds[0]} if isinstance(kinds, list) else dict(schema)


def _header(name: str, schema: dict[str, Any]) -> dict[str, Any]:
    text = schema.pop("description", "the option of this name; it wins over the body's")
    return {"name": name, "in": "header", "required": False, "schema": schema, "description": text}


ASKING_HEADERS = [
    _header("Idempotency-Key", {
        "type": "string", "minLength": 1, "maxLength": 255,
        "description": "the same key gives the same job, once",
    }),
    *(_header(PREFIX + header, _option(name)) for header, name in sorted(HEADER_OPTIONS.items())
      if name not in ("delay", "deadline", "webhook")),
    *(_header(PREFIX + name, {"enum": [*values], "description": _HANDLED[name]})
      for name, values in sorted(HANDLING.items())),
]  # fmt: skip
"""Headers of a request for an answer."""

CHAT = {
    **JOB,
    "description": "Any field of a chat-completions body goes to the upstream as it is; the job's "
    "own fields, of which POST /v1/jobs has more, say how Penstock treats it.",
    "properties": {
        **{k: v for k, v in _JOB_FIELDS.items() if k not in ("delay", "deadline")},
        "stream": {"type": ["boolean", "null"]},
        "stream_options": {
            "type": ["object", "null"],
            "properties": {"include_usage": {"type": ["boolean", "null"]}},
        },
    },
}

CHAT_ASKED = {"messages": [{"role": "user", "content": "Why is the sky blue?"}], "stream": False}

_CHOICE = {
    "index": 0,
    "message": {"role": "assistant", "content": "It scatters."},
    "finish_reason": "stop",
}

CHAT_ANSWERED = answered(
    "The completion, or its chunks.",
    {"id": ID, "object": "chat.completion", "created": 1_790_000_000, "choices": [_CHOICE]},
    b'data: {"object":"chat.completion.chunk","choices":[{"index":0,"delta":{"content":"It"}}]}\n\n'
    + DONE,
)

_MODEL_EXAMPLE = {
    "id": "a-model", "object": "model", "created": 0, "owned_by": "penstock", "routes": ["default"],
}  # fmt: skip

MODEL = {**shown("The model.", _MODEL_EXAMPLE), **errors(404)}

MODELS = {**shown("All of them.", {"object": "list", "data": [_MODEL_EXAMPLE]}), **errors()}
