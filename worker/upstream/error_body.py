"""The error a body carries, in any of the shapes seen: of an HTTP answer or inside a stream.

`{"error": {"message", "type", "code"}}` (OpenAI, DeepInfra), `{"error": "text"}`,
`{"detail": "text"}` and `{"detail": [{"loc", "msg", "type"}]}` (DeepInfra, FastAPI),
`{"object": "error", "message", …}` (vLLM) and `{"message", …}`.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from penstock.errors import StreamBroken

MAX_MESSAGE = 500
"""Characters kept of an upstream's message: enough to understand, too few to carry a prompt."""


_NO_MESSAGE = "the upstream sent an error without a message"


class ErrorBody(NamedTuple):
    """What the upstream says went wrong; the fields are UpstreamError's."""

    message: str
    type: str | None = None
    code: str | None = None


def read_error(body: Any) -> ErrorBody | None:
    """The error in a decoded JSON body; None where there is none."""
    if not isinstance(body, dict):
        return None
    if body.get("error"):
        return _from_error(body["error"])
    if body.get("detail"):
        return _from_detail(body["detail"])
    if "choices" not in body and body.get("message"):
        return _from_error(body)
    return None


def broken_stream(body: Any) -> StreamBroken:
    """The exception for a body with an error that came inside a stream."""
    message, type_, code = read_error(body) or ErrorBody(_NO_MESSAGE)
    return StreamBroken(message, type=type_, code=code, quoted=True)


def _from_error(error: Any) -> ErrorBody:
    if not isinstance(error, dict):
        return ErrorBody(_short(error if isinstance(error, str) else _NO_MESSAGE))
    message = error.get("message") or error.get("detail") or _NO_MESSAGE
    return ErrorBody(_short(message), _text(error.get("type")), _text(error.get("code")))


def _from_detail(detail: Any) -> ErrorBody:
    """Only `loc` and `msg`: a validation error may also show the `input`, which is the prompt."""
    if isinstance(detail, list):
        mistakes = [mistake for mistake in detail if isinstance(mistake, dict)]
        return ErrorBody(_short("; ".join(map(_mistake, mistakes)) or "a validation error"))
    return _from_error(detail)


def _mistake(mistake: dict[str, Any]) -> str:
    place = mistake.get("loc")
    where = ".".join(map(str, place)) if isinstance(place, list) else ""
    return f"{where}: {mistake.get('msg')}" if where else str(mistake.get("msg"))


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= MAX_MESSAGE else text[: MAX_MESSAGE - 1] + "…"


def _text(value: Any) -> str | None:
    return None if value is None or value == "" else _short(value)
