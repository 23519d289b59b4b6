"""What an upstream may do, and what must become of the job: one case each."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ops.simulator import render

SURVIVABLE_STATUS = (408, 409, 425, 429, 500, 502, 503, 504, 529)
FATAL_STATUS = (400, 401, 402, 403, 404, 413, 422)

TOOL = {"type": "function", "function": {"name": "weigh", "parameters": {"type": "object"}}}


@dataclass(frozen=True)
class Case:
    """One job.

    Attributes:
        name: unique.
        script: its `simulate` field.
        body: more of its body.
        options: its job options.
        attempts: in which attempt it must end; None where either of two will do.
        failure: the upstream's words that it must fail with; None: it must complete.
        status: the HTTP status the failure must name.
    """

    name: str
    script: dict[str, Any]
    body: dict[str, Any] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)
    attempts: int | None = 1
    failure: str | None = None
    status: int | None = None

    @property
    def request(self) -> dict[str, Any]:
        """The body as submitted, without job options."""
        messages = [{"role": "user", "content": self.body.get("prompt", "Say something.")}]
        rest = {name: value for name, value in self.body.items() if name != "prompt"}
        return {"messages": messages, **rest, "simulate": self.script}


def shapes() -> list[Case]:
    """Every form of a healthy answer."""
    scripts: dict[str, dict[str, Any]] = {
        "text": {},
        "empty text": {"text": ""},
        "text like the protocol": {"text": 'data: [DONE]\n\n</s> {"error": 1}\r\u2028é'},
        "text that ends like a stop token": {"text": "ends with </"},
        "reasoning": {"reasoning": 20},
        "reasoning by its other name": {"reasoning": 20, "reasoning_field": "reasoning"},
        "reasoning only": {"reasoning": 20, "tokens": 0},
        "refusal": {"refusal": "I would rather not say.", "tokens": None},
        "tool call": {"tool_calls": 1, "tokens": 0},
        "tool calls behind text": {"tool_calls": 2},
        "tool calls, shredded": {"tool_calls": 3, "shred": True},
        "usage on a later chunk": {"usage": "later"},
        "usage on every chunk": {"usage": "every"},
        "usage never": {"usage": "never"},
        "no cost": {"cost": False},
        "cached tokens": {"cached_tokens": 3},
        "cached tokens, no cost": {"cached_tokens": 3, "cost": False},
        "priority tier": {"service_tier": "priority"},
        "flex tier, no cost": {"service_tier": "flex", "cost": False},
        "length": {"finish_reason": "length"},
        "content filter": {"finish_reason": "content_filter"},
        "leaked stop token": {"leaked_stop": True},
        "role once": {"role_every_chunk": False},
        "empty finish reasons": {"finish_empty": True},
        "CRLF": {"newline": "\r\n"},
        "CR": {"newline": "\r"},
        "byte order mark": {"bom": True},
        "no space": {"space": False},
        "comments": {"comments": 1},
        "fields": {"fields": True},
        "several data lines": {"multiline": True},
        "DONE without blank line": {"done": "bare"},
        "no DONE": {"done": "never"},
        "one-byte chunks": {"split": 1},
        "one-byte chunks, worst spelling": {
            "split": 1, "newline": "\r\n", "bom": True, "comments": 2, "fields": True,
            "multiline": True,
        },
        "slow headers": {"fault": {"kind": "slow_headers", "seconds": 0.5}},
        "slow first token": {"fault": {"kind": "slow_first_token", "seconds": 0.5}},
    }  # fmt: skip
    more = {"refusal": {}, "empty text": {}}
    plain = [
        Case(name, {**({} if name in more else {"tokens": 30}), **script})
        for name, script in scripts.items()
    ]
    return [
        *plain,
        Case("three choices", {"tokens": 20, "reasoning": 5}, {"n": 3}),
        Case("cut by max_tokens", {"tokens": 50}, {"max_tokens": 7}),
        Case("tools offered", {"tool_calls": 2}, {"tools": [TOOL]}),
    ]


def survivable() -> list[Case]:
    """Every fault that a second attempt survives; the fault strikes the first one only."""
    faults: dict[str, dict[str, Any]] = {
        "refuse": {"kind": "refuse"},
        "html": {"kind": "html"},
        "reset at once": {"kind": "reset"},
        "reset": {"kind": "reset", "event": 5},
        "close": {"kind": "close", "event": 5},
        "end of file": {"kind": "eof", "event": 5},
        "stall before the first token": {"kind": "stall"},
        "stall": {"kind": "stall", "event": 5},
        "stall with heartbeats": {"kind": "stall", "event": 5, "heartbeat": 0.3},
        "error object": {"kind": "error_object", "event": 5},
        "error object at once": {"kind": "error_object"},
        "error object, no DONE": {"kind": "error_object", "event": 5, "done": False},
        "error string": {"kind": "error_object", "event": 5, "form": "string"},
        "bad JSON": {"kind": "bad_json", "event": 5},
        "abort": {"kind": "finish", "event": 5},
        "error as finish reason": {"kind": "finish", "event": 5, "finish_reason": "error"},
        "unknown finish reason": {"kind": "finish", "event": 5, "finish_reason": "tired"},
        "oversized event": {"kind": "oversized_event", "event": 5},
        **{f"status {status}": _status(status) for status in SURVIVABLE_STATUS},
        "429 with a wait": {**_status(429), "retry_after": 0.2, "retry_after_as": "milliseconds"},
        "503 with a date": {**_status(503), "retry_after": 1, "retry_after_as": "date"},
    }
    return [struck(name, fault) for name, fault in faults.items()]


def _status(status: int) -> dict[str, Any]:
    return {"kind": "status", "status": status}


def struck(name: str, fault: dict[str, Any], attempts: int | None = 2, **script: Any) -> Case:
    """A job whose first attempt meets this fault."""
    wishes = {"tokens": 12, "reasoning": 3, **script}
    return Case(name, {**wishes, "fault": fault, "attempts": 1, "key": name}, attempts=attempts)


def fatal() -> list[Case]:
    """Everything a job cannot survive; it must fail with the upstream's own words."""
    said = "in the upstream's own words"
    cases = [
        Case(f"status {status}, as {form}", {"fault": {**_status(status), "form": form,
             "error": said if form != "object" else {"message": said, "type": "t", "code": "c"}}},
             failure=said, status=status)
        for status in FATAL_STATUS
        for form in ("object", "string", "detail")
    ]  # fmt: skip
    again = {
        "status 500 for ever": ({**_status(500), "error": {"message": said}}, said, 500),
        "error object for ever": ({"kind": "error_object", "event": 3, "error": said}, said, None),
        "reset for ever": ({"kind": "reset", "event": 3}, "connection to the upstream broke", None),
        "end of file for ever": ({"kind": "eof", "event": 3}, "finish_reason", None),
        "stall for ever": ({"kind": "stall", "event": 3}, "nothing came", None),
    }
    return cases + [
        Case(name, {"tokens": 12, "fault": fault}, options={"max_attempts": 2}, attempts=2,
             failure=words, status=status)
        for name, (fault, words, status) in again.items()
    ]  # fmt: skip


def cut_anywhere(kind: str, step: int) -> list[Case]:
    """One short answer, ended at every so many-th byte."""
    case = struck("", {"kind": kind}, text="Hé 🙂", reasoning=0, tokens=None)
    whole = render(case.request)
    safe = whole.index(b"\n\n", whole.index(b'"finish_reason":"stop"')) + 2
    return [
        struck(
            f"{kind} at byte {byte}",
            {"kind": kind, "byte": byte},
            attempts=2 if byte < safe else None,
            text="Hé 🙂",
            reasoning=0,
            tokens=None,
        )
        for byte in [*range(0, len(whole), step), len(whole)]
    ]
