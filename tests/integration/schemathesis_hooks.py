"""What schemathesis shall not send to the gateway; test_gateway_schema.py names this module."""

from __future__ import annotations

from typing import Any

import schemathesis

from producers.gateway.openai.fields import PREFIX

WHOLE = (
    "n", "max_tokens", "max_completion_tokens", "priority", "max_attempts", "result_ttl",
    "max_output_tokens", "seed", "top_k",
)  # fmt: skip


@schemathesis.hook
def filter_body(context: Any, body: Any) -> bool:
    """No delay, because a stream of a job that waits for weeks does not end; and no 2.0.

    To JSON Schema that is an integer. A body is stored as it was given, and 2.0 is no `n`.
    """
    if not isinstance(body, dict):
        return True
    if context.operation.path != "/v1/jobs" and not _is_answered(body):
        return False
    return not body.get("delay") and not any(isinstance(body.get(n), float) for n in WHOLE)


@schemathesis.hook
def filter_case(context: Any, case: Any) -> bool:
    """No option twice: a header wins, so what is wrong with the body's own is never looked at."""
    options = (name.lower().removeprefix(PREFIX) for name in case.headers or {})
    body = case.body if isinstance(case.body, dict) else {}
    return not body.keys() & {name.replace("-", "_") for name in options}


def _is_answered(body: dict[str, Any]) -> bool:
    """Whether who waits for the answer gets one: in time, and to something that was said."""
    given = body.get("input")
    thought = isinstance(given, list) and "reasoning" in str(given)
    return body.get("deadline") is None and not thought
