"""What one simulated request should get: the `simulate` field of a chat request, decoded strictly.

A `Script` says what to say, how fast, in which dialect and with which fault. Every field has a
default, so `{}` is the plain, healthy answer. The attributes documented here are the field's names.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec

MIB = 1024 * 1024

Count = Annotated[int, msgspec.Meta(ge=0, le=10_000_000)]
Seconds = Annotated[float, msgspec.Meta(ge=0, le=86_400)]
Fraction = Annotated[float, msgspec.Meta(ge=0, le=1)]
Bytes = Annotated[int, msgspec.Meta(ge=1, le=1024 * MIB)]

FaultKind = Literal[
    "refuse",
    "status",
    "html",
    "slow_headers",
    "slow_first_token",
    "reset",
    "close",
    "eof",
    "stall",
    "error_object",
    "bad_json",
    "finish",
    "oversized_event",
    "oversized_response",
]


class Strict(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A part of a script: immutable, and an unknown name in it is an error."""


class Fault(Strict, frozen=True, omit_defaults=True):
    """One thing that goes wrong.

    Attributes:
        kind: `refuse` closes before any answer; `status` answers with `status`; `html` answers
            200 with a web page; `slow_headers` and `slow_first_token` wait `seconds` longer, then
            answer well. At the place given by `event` or `byte`: `reset` (RST), `close` (FIN in
            the middle of the HTTP message), `eof` (a clean end without finish_reason), `stall`
            (silence, socket open), `error_object`, `bad_json`, `finish` (an early end with
            `finish_reason`), `oversized_event`, `oversized_response`.
        event: the fault comes after this many SSE data events (0: before the first). A place
            behind the end means: in place of the HTTP message's own end.
        byte: the same in bytes of the body, without HTTP chunk framing; goes before `event`.
            The plain form has no events: there only `byte` counts. Faults that add an event wait
            for the next event boundary.
        status: the HTTP status of `status`.
        form: the body of `status` and of `error_object`: an error object, the error as a plain
            string, the 422 form `{"detail": [...]}`, or nothing at all. Default: by status.
        error: says something else than the simulator's own error: an object or a string.
        retry_after: seconds until a retry is welcome, sent with `status`.
        retry_after_as: in which header and notation.
        done: whether `[DONE]` follows an `error_object`.
        seconds: how long the slow kinds wait.
        heartbeat: seconds between comments during a `stall`; 0 means silence.
        size: bytes of an `oversized_event` (default 1 MiB + 1) or `oversized_response` (default
            64 MiB + 1); the limits a client must hold.
        finish_reason: of `finish`; `abort` and `error` are what failing servers say.
    """

    kind: FaultKind
    event: Count = 0
    byte: Count | None = None
    status: Annotated[int, msgspec.Meta(ge=200, le=599)] = 500
    form: Literal["object", "string", "detail", "empty"] | None = None
    error: str | dict[str, Any] | None = None
    retry_after: Seconds | None = None
    retry_after_as: Literal["seconds", "date", "milliseconds"] = "seconds"
    done: bool = True
    seconds: Seconds = 1.0
    heartbeat: Seconds = 0.0
    size: Bytes | None = None
    finish_reason: str = "abort"


class ToolCall(Strict, frozen=True, omit_defaults=True):
    """A tool call to make; `arguments` is the JSON text, sent as it is."""

    name: str
    arguments: str = "{}"
    id: str | None = None


class Script(Strict, frozen=True, omit_defaults=True):
    r"""Everything a request can ask of the simulator.

    Attributes:
        seed: another text for the same request.
        tokens: how many content tokens of made-up words.
        text: the exact content; goes before `tokens`. With neither, and without tool calls or a
            refusal, the simulator introduces itself.
        reasoning: token count or exact text of the reasoning. Default: a short one before the
            introduction, otherwise none.
        refusal: exact text of a refusal, in place of content.
        tool_calls: how many made-up calls, or which.
        shred: tool calls in the worst fragments allowed: id, type and name apart, the name in two
            halves, arguments a few characters at a time, the calls interleaved.
        finish_reason: default `tool_calls` where there are some, `length` where max_tokens cut
            the answer, otherwise `stop`.
        ttft: seconds to the first token. Default: the server's.
        gap: seconds between tokens. Default: the server's.
        jitter: each gap is uniform in gap * (1 ± jitter). Default: the server's.
        usage: where it is reported: on the last `finish` chunk, on a `later` chunk without
            choices, on `every` chunk as it grows, or `never`.
        cost: whether usage has `estimated_cost`.
        cached_tokens: how many prompt tokens were cached; adds `prompt_tokens_details`.
        service_tier: the tier echoed and billed. Default: the one asked for.
        leaked_stop: `</s>` as each choice's last content (streaming only).
        role_every_chunk: the role on each delta, as DeepInfra does; otherwise once, in front.
        reasoning_field: the delta's name for reasoning.
        finish_empty: `""` instead of null while there is no finish_reason.
        newline: the line ending of the event stream.
        bom: a byte order mark in front of the stream.
        space: the space behind the colon of a field.
        comments: a comment before every so many-th event; 0 for none.
        fields: `event`, `id` and `retry` fields around the data.
        multiline: each event's JSON over several data lines.
        done: `[DONE]` with its `blank` line, `bare` without it, or `never`.
        split: bytes per HTTP chunk of the body, each its own write; 0: one chunk an event.
        fault: what goes wrong.
        attempts: the fault strikes only the first so many requests with the same key.
        key: what counts as the same request. Default: the same body.
        vary: each attempt says something else (`attempt` in `answer.predict`).
    """

    seed: int = 0
    tokens: Count | None = None
    text: str | None = None
    reasoning: Count | str | None = None
    refusal: str | None = None
    tool_calls: Annotated[int, msgspec.Meta(ge=0, le=1000)] | tuple[ToolCall, ...] = 0
    shred: bool = False
    finish_reason: str | None = None
    ttft: Seconds | None = None
    gap: Seconds | None = None
    jitter: Fraction | None = None
    usage: Literal["finish", "later", "every", "never"] = "finish"
    cost: bool = True
    cached_tokens: Count | None = None
    service_tier: str | None = None
    leaked_stop: bool = False
    role_every_chunk: bool = True
    reasoning_field: Literal["reasoning_content", "reasoning"] = "reasoning_content"
    finish_empty: bool = False
    newline: Literal["\n", "\r\n", "\r"] = "\n"
    bom: bool = False
    space: bool = True
    comments: Count = 0
    fields: bool = False
    multiline: bool = False
    done: Literal["blank", "bare", "never"] = "blank"
    split: Count = 0
    fault: Fault | None = None
    attempts: Count | None = None
    key: str | None = None
    vary: bool = False

    def as_dict(self) -> dict[str, Any]:
        """The `simulate` field that asks for this script; defaults are left out."""
        fields: dict[str, Any] = msgspec.to_builtins(self)
        return fields


PLAIN = Script()
"""No wishes at all."""
