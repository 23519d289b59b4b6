"""Reads a request's JSON body."""

from __future__ import annotations

from typing import Any

import msgspec
from fastapi import Request

from producers.gateway.problem import Problem


async def json_body(request: Request) -> dict[str, Any]:
    """The JSON object of the request's body, {} where there is none; raises Problem."""
    raw = await request.body()
    if not raw:
        return {}
    media = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media != "application/json":
        raise Problem(415, "not_json", "send JSON, with Content-Type: application/json")
    try:
        body = msgspec.json.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise Problem(400, "not_json", "the body is not valid JSON in UTF-8") from None
    if not isinstance(body, dict):
        raise Problem(400, "not_an_object", "the body must be a JSON object")
    return body
