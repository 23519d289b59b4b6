"""Answers that are no completion: the upstream's error bodies, by status and in each known form."""

from __future__ import annotations

import math
import re
import time
from email.utils import formatdate
from typing import Any

import msgspec

from ops.simulator.script import Fault

INVALID = "invalid_request_error"

BUSY = {
    "message": "Model busy, retry later",
    "type": INVALID,
    "param": None,
    "code": "engine_overloaded",
}
"""DeepInfra's 429, wrong type included."""

MESSAGES: dict[int, tuple[str, str, str | None]] = {
    400: ("The request cannot be understood", INVALID, None),
    401: ("Incorrect API key provided", "authentication_error", "invalid_api_key"),
    402: ("Your balance is used up", "insufficient_quota", "insufficient_quota"),
    403: ("This key may not use the model", "permission_error", None),
    404: ("The model does not exist", INVALID, "model_not_found"),
    411: ("A request body needs a Content-Length", INVALID, None),
    413: ("The request body is too large", INVALID, None),
    431: ("The request header is too large", INVALID, None),
    500: ("Internal server error", "server_error", None),
    503: ("The model is loading", "server_error", None),
    505: ("Only HTTP/1.1 is spoken here", INVALID, None),
}
"""Message, type and code by status; OpenAI's words where DeepInfra documents none."""

HTML = b"<!DOCTYPE html><html><head><title>Be right back</title></head><body>502</body></html>\n"


class Rejection(Exception):
    """An answer other than 200, raised by whoever finds out that it is due.

    Attributes:
        status: the HTTP status.
        body: the bytes of the body.
        headers: more header lines, name to value.
    """

    def __init__(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        super().__init__(status)
        self.status = status
        self.body = body
        self.headers = headers or {}


def error_object(status: int) -> dict[str, Any]:
    """What stands in `error` for this status."""
    if status == 429:
        return BUSY
    message, kind, code = MESSAGES.get(status, MESSAGES[500 if status >= 500 else 400])
    return {"message": message, "type": kind, "param": None, "code": code}


def reject(status: int, **headers: str) -> Rejection:
    """The usual rejection with this status."""
    return Rejection(status, _encode({"error": error_object(status)}), headers)


def busy(retry_after: float | None) -> Rejection:
    """429, with a Retry-After in whole seconds if one is known and wanted."""
    headers = {} if retry_after is None else _retry_header(retry_after, "seconds")
    return Rejection(429, _encode({"error": BUSY}), headers)


def not_found() -> Rejection:
    """404 for a path nobody serves."""
    return Rejection(404, _encode({"detail": "Not Found"}))


def not_allowed(allowed: str) -> Rejection:
    """405 for a path that is served to another method."""
    return Rejection(405, _encode({"detail": "Method Not Allowed"}), {"allow": allowed})


def invalid(error: msgspec.ValidationError) -> Rejection:
    """422 in the upstream's form, from what msgspec found wrong."""
    message, _, path = str(error).partition(" - at `$")
    loc = ["body", *re.findall(r"[A-Za-z_][A-Za-z0-9_]*", path)]
    named = re.search(r"(missing required|contains unknown) field `(.+)`", message)
    if named:
        loc.append(named[2])
    kinds = {"missing required": "missing", "contains unknown": "extra_forbidden"}
    kind = kinds[named[1]] if named else "value_error"
    return Rejection(422, _encode({"detail": [{"loc": loc, "msg": message, "type": kind}]}))


def scripted(fault: Fault) -> Rejection:
    """What a `status` fault answers."""
    headers = {}
    if fault.retry_after is not None:
        headers = _retry_header(fault.retry_after, fault.retry_after_as)
    return Rejection(fault.status, _scripted_body(fault), headers)


def stream_error(fault: Fault) -> bytes:
    """The JSON of an `{"error": ...}` inside an answer."""
    said = fault.error or error_object(500)
    if fault.form == "string" and isinstance(said, dict):
        said = said.get("message", "")
    return _encode({"error": said})


def _scripted_body(fault: Fault) -> bytes:
    form = fault.form or ("detail" if fault.status == 422 else "object")
    if form == "empty":
        return b""
    said = fault.error or error_object(fault.status)
    message = said if isinstance(said, str) else said.get("message", "")
    if form == "detail":
        place = {"loc": ["body", "messages"], "msg": message, "type": "value_error"}
        return _encode({"detail": [place]})
    return _encode({"error": message if form == "string" else said})


def _retry_header(seconds: float, notation: str) -> dict[str, str]:
    if notation == "milliseconds":
        return {"retry-after-ms": str(math.ceil(seconds * 1000))}
    if notation == "date":
        return {"retry-after": formatdate(math.ceil(time.time() + seconds), usegmt=True)}
    return {"retry-after": str(math.ceil(seconds))}


def _encode(body: Any) -> bytes:
    return msgspec.json.encode(body)
