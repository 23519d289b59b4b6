"""Reads a request's JSON body."""

from __future__ import annotations

import re
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
    except msgspec.ValidationError:  # the only thing that is so: 1e999
        text = "a number in the body is out of range; JSON's numbers go to 1.8e308"
        raise Problem(400, "number_out_of_range", text) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise Problem(400, "not_json", _no_json(raw)) from None
    if not isinstance(body, dict):
        raise Problem(400, "not_an_object", "the body must be a JSON object")
    return body


_HALF = re.compile(rb"\\u[dD][89a-fA-F]")


def _no_json(raw: bytes) -> str:
    if _HALF.search(raw):
        return "the body has half a character, as \\ud83d is without \\ude00, or is not valid JSON"
    return "the body is not valid JSON in UTF-8"
