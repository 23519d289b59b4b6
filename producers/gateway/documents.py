"""The OpenAPI document: what the native API takes and answers, with examples and every error."""

from __future__ import annotations

from typing import Annotated, Any, Literal, get_args

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute
from pydantic import BaseModel, Field

from penstock.events import EventType
from penstock.job import (
    MAX_CHOICES,
    MAX_METADATA_BYTES,
    MAX_RESULT_TTL,
    MAX_SECONDS,
    JobRecord,
)
from penstock.webhook import AT_THE_END, MAX_URL, EventName
from producers.gateway.problem import TYPES

ID = "job_01K9ZV2M8Q3W5E7R9T1Y3V5B7N"

NAME = {"type": "string", "pattern": "^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$"}


class Links(BaseModel):
    """Where to go from here."""

    self: str
    events: str
    cancel: str


class OutlookDocument(BaseModel):
    """How long a waiting job will wait, were everything to go on as it does."""

    position: Annotated[int, Field(description="its place in its route's line, from 1 on")]
    wait: Annotated[float | None, Field(description="seconds; null where nothing is known yet")]


class JobDocument(JobRecord):
    """A job. Times are seconds since the epoch; `outcome` is the data of its last event.

    `outlook` is told where one job is asked for, and null unless it waits in its route's line.
    """

    object: Literal["job"]
    links: Links
    outlook: OutlookDocument | None = None


class JobPage(BaseModel):
    """Some of a tenant's jobs, newest first, without their outcomes."""

    object: Literal["list"]
    data: list[JobDocument]
    next: Annotated[str | None, Field(description="`after` of the next page; null at the end")]


class StreamToken(BaseModel):
    """What lets a browser read one job's events."""

    object: Literal["stream_token"]
    token: str
    job: str
    expires_in: int
    events: str


class Mistake(BaseModel):
    """What went wrong."""

    type: str
    code: str
    message: str


class ErrorDocument(BaseModel):
    """An error."""

    error: Mistake


_MEANINGS = {
    400: ("invalid_request", "The request is wrong: the message says where."),
    401: ("invalid_key", "No API key, or none that is valid."),
    403: ("scope_missing", "The key may not do this."),
    404: ("job_not_found", "There is no such job of yours, or no such route."),
    408: ("request_timeout", "The request came in too slowly."),
    409: ("invalid_transition", "The job's state, or its conversation, does not allow it."),
    413: ("request_too_large", "The body is over 8 MiB."),
    415: ("not_json", "The body is not application/json."),
    421: ("foreign_host", "Without any API key only this machine is served."),
    422: ("idempotency_conflict", "The idempotency key belongs to another request."),
    429: ("too_many_requests", "Too many requests, or too many waiting jobs, or no budget left."),
    431: ("head_too_large", "The request line and headers are over 64 KiB."),
    500: ("internal_error", "The gateway failed."),
    503: ("queue_unavailable", "The queue is away, full, or refuses the gateway; see Retry-After."),
    504: ("too_slow", "The queue did not answer in time."),
}

ALWAYS = (400, 401, 403, 408, 421, 429, 431, 500, 503, 504)
"""What any request may be answered with."""


def errors(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The documentation of these statuses, and of those that any request may get."""
    return {status: _error(status) for status in sorted({*ALWAYS, *statuses})}


def _error(status: int) -> dict[str, Any]:
    code, meaning = _MEANINGS[status]
    example = {"error": {"type": TYPES[status], "code": code, "message": "..."}}
    described: dict[str, Any] = {"model": ErrorDocument, "description": meaning}
    return {**described, "content": {"application/json": {"example": example}}}


def body(schema: dict[str, Any], example: dict[str, Any], required: bool) -> dict[str, Any]:
    """The documentation of a request's body, as FastAPI's `openapi_extra`."""
    content = {"application/json": {"schema": schema, "example": example}}
    return {"requestBody": {"required": required, "content": content}}


SPEAKERS = ["system", "developer", "user", "tool"]
MESSAGE = {
    "anyOf": [
        {
            "type": "object",
            "required": ["role", "content"],
            "properties": {
                "role": {"enum": SPEAKERS},
                "content": {"type": ["string", "array"], "items": {"type": "object"}},
            },
        },
        {
            "type": "object",
            "required": ["role"],
            "properties": {
                "role": {"type": "string", "minLength": 1, "not": {"enum": SPEAKERS}},
                "content": {"type": ["string", "array", "null"], "items": {"type": "object"}},
            },
        },
    ]
}

_ENDPOINT = {
    "type": "string",
    "maxLength": MAX_URL,
    "pattern": r"^https?://[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?(:[1-9][0-9]{0,3})?(/[!-\[\]-~]*)?$",
    "examples": ["https://example.com/answers"],
}
_SECRET = r"whsec_([A-Za-z0-9+/]{4}){8,21}"  # noqa: S105 - what one looks like

WEBHOOK = {
    "description": "whom to tell what happens to the job: a URL, which hears of its end, or more",
    "anyOf": [
        _ENDPOINT,
        {
            "type": "object",
            "required": ["url"],
            "additionalProperties": False,
            "properties": {
                "url": _ENDPOINT,
                "secret": {
                    "type": "string",
                    "pattern": f"^({_SECRET}( {_SECRET})*)?$",
                    "description": "one, or several with spaces between them; left out: the "
                    "workers' own",
                },
                "events": {
                    "type": "array",
                    "minItems": 1,
                    "items": {"enum": list(get_args(EventName))},
                    "default": list(AT_THE_END),
                },
            },
        },
        {"type": "null"},
    ],
}

JOB = {
    "type": "object",
    "description": "Any field of a chat-completions body goes to the upstream as it is; "
    "the job's own fields say how Penstock treats it.",
    "required": ["messages"],
    "additionalProperties": True,
    "properties": {
        "messages": {"type": "array", "minItems": 1, "items": MESSAGE},
        "model": {"type": ["string", "null"], "minLength": 1, "maxLength": 256},
        "n": {"type": ["integer", "null"], "minimum": 1, "maximum": MAX_CHOICES},
        "max_tokens": {"type": ["integer", "null"], "minimum": 1},
        "max_completion_tokens": {"type": ["integer", "null"], "minimum": 1},
        "stream_options": {"type": ["object", "null"]},
        "route": {**NAME, "default": "default", "description": "the upstream to ask"},
        "tenant": {**NAME, "description": "whose job it is; another's takes scope admin"},
        "priority": {"type": "integer", "minimum": 0, "maximum": 9, "default": 5},
        "delay": {"type": "number", "minimum": 0, "maximum": MAX_SECONDS,
                  "description": "seconds before the job may start"},
        "deadline": {
            "description": "seconds from now, or a time with its zone; a job that has not started "
            "by then expires",
            "anyOf": [
                {"type": "number", "exclusiveMinimum": 0, "maximum": MAX_SECONDS},
                {"type": "string", "format": "date-time"},
                {"type": "null"},
            ],
        },
        "max_attempts": {"type": ["integer", "null"], "minimum": 1, "maximum": 100},
        "metadata": {
            "type": "object", "additionalProperties": {"type": "string"},
            "description": f"your own strings, at most {MAX_METADATA_BYTES} bytes as JSON",
        },
        "result_ttl": {"type": ["integer", "null"], "minimum": 1, "maximum": MAX_RESULT_TTL},
        "conversation": {"type": ["string", "null"], "minLength": 1, "maxLength": 255},
        "on_busy": {"enum": ["enqueue", "reject", "interrupt", "replace"], "default": "enqueue"},
        "webhook": WEBHOOK,
        "idempotency_key": {"type": ["string", "null"], "minLength": 1, "maxLength": 255,
                            "description": "as the header Idempotency-Key"},
    },
}  # fmt: skip

JOB_EXAMPLE = {
    "messages": [{"role": "user", "content": "Why is the sky blue?"}],
    "temperature": 0.2,
    "metadata": {"team": "blue"},
}

TOKEN = {
    "type": "object",
    "additionalProperties": False,
    "properties": {"ttl": {"type": "integer", "minimum": 1, "maximum": 3600, "default": 300}},
}

EVENTS: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The events as they come, until the terminal one; see docs/events.md.",
        "content": {
            "text/event-stream": {
                "schema": {
                    "type": "object",
                    "required": ["id", "event", "data"],
                    "properties": {
                        "id": {"type": "string"},
                        "event": {"enum": list(EventType)},
                        "data": {"type": "string", "contentMediaType": "application/json"},
                    },
                },
                "example": f'id: 1-2\nevent: delta\ndata: {{"id":"1-2","job":"{ID}","type":"delta",'
                '"time":1790000000.123,"data":{"choices":[{"index":0,"delta":{"content":"Hi"}}]}}'
                "\n\n",
            }
        },
    },
    204: {"description": "The feed has ended, and everything was read: do not come back."},
}


_LINKS = {name: f"/v1/jobs/{ID}{end}" for name, end in
          (("self", ""), ("events", "/events"), ("cancel", "/cancel"))}  # fmt: skip

_JOB_EXAMPLE = {
    "object": "job", "id": ID, "tenant": "default", "route": "default", "state": "queued",
    "priority": 5, "max_attempts": 5, "result_ttl": 86_400, "created_at": 1_790_000_000.123,
    "available_at": 1_790_000_000.123, "metadata": {"team": "blue"}, "links": _LINKS,
}  # fmt: skip

_ANSWERED = {
    "JobDocument": _JOB_EXAMPLE,
    "JobPage": {"object": "list", "data": [_JOB_EXAMPLE], "next": None},
    "StreamToken": {
        "object": "stream_token", "token": "st_...", "job": ID, "expires_in": 300,
        "events": f"/v1/jobs/{ID}/events?token=st_...",
    },
    "Taken": {"result": "accepted", "job": ID},
}  # fmt: skip
"""Examples of answers by their schema's name."""

_TEXT = {"schema": {"type": "string"}}
_RETRY = {"Retry-After": {**_TEXT, "description": "Seconds until another try makes sense."}}
_HEADERS = {"429": _RETRY, "503": _RETRY}
"""Headers of answers by status."""

_LOCATION = {"Location": {**_TEXT, "description": "The job's path."}}


def of(app: FastAPI) -> dict[str, Any]:
    """The document: FastAPI's own, with what is not so here put right."""
    if not app.openapi_schema:
        document = get_openapi(
            title=app.title, version=app.version, summary=app.summary, routes=app.routes
        )
        for path in document["paths"].values():
            for operation in path.values():
                _put_right(operation)
        for name in ("HTTPValidationError", "ValidationError"):
            document["components"]["schemas"].pop(name, None)
        app.openapi_schema = document
    return app.openapi_schema


def _put_right(operation: dict[str, Any]) -> None:
    """A wrong parameter is a 400 and no 422, and one that is left out is not null."""
    if "HTTPValidationError" in str(operation["responses"].get("422")):
        del operation["responses"]["422"]
    for status, answer in operation["responses"].items():
        _illustrate(operation["operationId"], status, answer)
    for parameter in operation.get("parameters", ()):
        schema = parameter["schema"]
        for kind in schema.pop("anyOf", ()):
            schema.update(kind if kind != {"type": "null"} else {})


def _illustrate(operation: str, status: str, answer: dict[str, Any]) -> None:
    """Give an answer its example and its headers."""
    content = answer.get("content", {}).get("application/json", {})
    name = content.get("schema", {}).get("$ref", "").rpartition("/")[2]
    if name in _ANSWERED:
        content.setdefault("example", _ANSWERED[name])
    headers = dict(_HEADERS.get(status, {}))
    if operation.startswith("submit_") and status in ("200", "202"):
        headers |= _LOCATION
    if headers:
        answer["headers"] = {**answer.get("headers", {}), **headers}


def methods_at(app: FastAPI, path: str) -> list[str]:
    """The methods that a path takes; the framework itself names those of one route only."""
    routes = (route for route in app.routes if isinstance(route, APIRoute))
    return sorted(
        {method for r in routes if r.path_regex.match(path) for method in r.methods or ()}
    )
