"""What goes into a job and what comes out: checked where it enters, plain data inside.

`ChatRequest` is the body for the upstream and keeps every field, known or not; `JobOptions` is how
Penstock treats the job; `JobSpec` is both, ready to be stored; `JobRecord` is what Redis knows.
"""

from __future__ import annotations

import hashlib
import math
import os
import struct
import time
from collections.abc import Iterable, Mapping, ValuesView
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Annotated, Any, ClassVar, Literal

import msgspec
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)
from pydantic_core import ErrorDetails

from penstock import mistake
from penstock.errors import InvalidRequest, RecordUnreadable, RequestTooLarge
from penstock.settings import Name
from penstock.state import JobState
from penstock.webhook import Webhook, from_text

MAX_REQUEST_BYTES = 8 * 1024 * 1024
"""The largest request body, as JSON: well above a full 262,144-token context."""

MAX_METADATA_BYTES = 16 * 1024
"""Listings read it: OpenAI's own limit, 16 pairs of 64 and 512 characters, is about 9 KiB."""

MAX_CHOICES = 128
"""The largest `n`: OpenAI's limit."""

MAX_SECONDS = 366 * 86_400
"""The longest delay and the farthest deadline: a year."""

MAX_RESULT_TTL = 10 * MAX_SECONDS
"""The longest retention: ten years; beyond some 292 million Redis cannot count."""

MOST_MISTAKES = 10
"""Told of one request."""

RECORD_VERSION = 2
"""The newest format of a record that this code reads and writes; it reads the one before, too.

1   as it was in the beginning
2   with `traceparent` and `tracestate`

What a new format may do: add fields, and change what request and answer look like. What moves a job
between states keeps its meaning, because the scripts of two neighbouring versions work on the same
jobs at the same time. Which format is written is agreed on in lua/agree.lua; who gets a record
that it cannot read leaves it for others, see lua/claim.lua.
"""

_CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_PAIRS = [a + b for a in _CROCKFORD for b in _CROCKFORD]
"""Two digits at a time, from numbers that fit a machine word: ids are made by the thousand."""
_HALVES = struct.Struct("QQ")


def new_id(now: float | None = None) -> str:
    """A new job id: `job_` and a ULID: 48 bits of milliseconds, 80 random bits, in base 32."""
    milliseconds = int((time.time() if now is None else now) * 1000)
    high, low = _HALVES.unpack(os.urandom(16))
    return f"job_{_moment_digits(milliseconds)}{_digits(high, 40)}{_digits(low, 40)}"


@lru_cache(maxsize=1)
def _moment_digits(milliseconds: int) -> str:
    """Kept for the others of the same millisecond."""
    return _digits(milliseconds, 50)


def _digits(number: int, bits: int) -> str:
    """The last bits of a number, ten at a time."""
    return "".join([_PAIRS[(number >> shift) & 1023] for shift in range(bits - 10, -1, -10)])


def _seconds(value: Any) -> Any:
    return value.total_seconds() if isinstance(value, timedelta) else value


def _deadline(value: Any) -> str | None:
    """As the script takes it: `+<seconds from now>`, or seconds since the epoch."""
    value = _seconds(_moment(value))
    if isinstance(value, datetime):
        if value.tzinfo is None:
            raise ValueError("is a time without its zone")
        return str(value.timestamp())
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ValueError("is seconds from now, or a time such as 2030-01-31T12:00:00Z")
    if not 0 < value <= MAX_SECONDS:
        raise ValueError("must be more than 0 seconds from now, and within a year")
    return f"+{value}"


def _moment(value: Any) -> Any:
    """A text as the time it stands for, if it does; JSON has no times of its own."""
    try:
        return datetime.fromisoformat(value) if isinstance(value, str) else value
    except ValueError:
        return value


_SPEAKERS = frozenset({"system", "developer", "user", "tool"})
"""Roles whose messages have content by OpenAI's API reference; an assistant may only call tools."""


def _is_content(value: Any) -> Any:
    """Text, or parts that are objects; a union's mistakes would be told once for each kind."""
    parts = isinstance(value, list) and all(isinstance(part, dict) for part in value)
    if not (value is None or parts or isinstance(value, str)):
        raise ValueError("must be text, or a list of parts that are objects")
    return value


class Message(BaseModel):
    """One message of a conversation; every other field is kept as it is."""

    model_config = ConfigDict(extra="allow", strict=True)

    role: Annotated[str, Field(min_length=1)]
    content: Annotated[Any, AfterValidator(_is_content)] = None

    @model_validator(mode="after")
    def _says_something(self) -> Message:
        if self.content is None and self.role in _SPEAKERS:
            raise ValueError(f"a message of role {self.role} needs content")
        return self


class ChatRequest(BaseModel):
    """A chat-completions body. Fields not named here are kept and sent on as they are.

    The body is stored as it was given, so nothing is converted: `"2"` is no `n`.
    """

    model_config = ConfigDict(extra="allow", strict=True)

    messages: Annotated[list[Message], Field(min_length=1)]
    model: Annotated[str, Field(min_length=1, max_length=256)] | None = None
    n: Annotated[int, Field(ge=1, le=MAX_CHOICES)] | None = None
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None
    service_tier: Annotated[str, Field(min_length=1, max_length=64)] | None = None
    stream_options: dict[str, Any] | None = None


def _fits_metadata(value: dict[str, str]) -> dict[str, str]:
    if len(msgspec.json.encode(value)) > MAX_METADATA_BYTES:
        raise ValueError(f"is over {MAX_METADATA_BYTES:,} bytes")
    return value


class JobOptions(BaseModel):
    """How Penstock treats a job.

    Attributes:
        route: the upstream to ask, a name from penstock.toml.
        tenant: who owns the job.
        priority: 0 to 9, 9 first; one step is worth an hour of waiting.
        delay: seconds (or a timedelta) before the job may start.
        deadline: seconds from now, a timedelta, an aware datetime or its ISO 8601 text; a job that
            has not started by then expires, one that runs is stopped and fails.
        idempotency_key: the same key gives the same job, whatever happens in between.
        max_attempts: how often the upstream is asked at most; default from the settings.
        metadata: your own strings, kept with the record.
        result_ttl: seconds the record and the feed are kept after the end.
        conversation: jobs of a tenant's conversation run one at a time, in their order.
        on_busy: what to do where the conversation has jobs: `enqueue` behind them, `reject` this
            one, `interrupt` (cancel the first, wait for its end), `replace` (cancel those that
            wait).
        webhook: whom to tell: a URL, which hears of the end, or an object of `url`, `secret` and
            `events`; it goes before the tenant's. See docs/webhooks.md.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    route: Name = "default"
    tenant: Name = "default"
    priority: Annotated[int, Field(ge=0, le=9)] = 5
    delay: Annotated[
        float, BeforeValidator(_seconds), Field(ge=0, le=MAX_SECONDS, allow_inf_nan=False)
    ] = 0
    deadline: Annotated[str | None, BeforeValidator(_deadline)] = None
    idempotency_key: Annotated[str, Field(min_length=1, max_length=255)] | None = None
    max_attempts: Annotated[int, Field(ge=1, le=100)] | None = None
    metadata: Annotated[dict[str, str], Field(default_factory=dict), AfterValidator(_fits_metadata)]
    result_ttl: Annotated[int, Field(ge=1, le=MAX_RESULT_TTL)] | None = None
    conversation: Annotated[str, Field(min_length=1, max_length=255)] | None = None
    on_busy: Literal["enqueue", "reject", "interrupt", "replace"] = "enqueue"
    webhook: Annotated[Webhook | None, BeforeValidator(from_text)] = None


OPTION_NAMES = frozenset(JobOptions.model_fields)
DEFAULT_OPTIONS = JobOptions.model_validate({})


class JobSpec(msgspec.Struct, frozen=True):
    """A checked job, ready to be stored.

    Attributes:
        id: a new job id.
        request: the body as JSON bytes, every field kept.
        digest: of the request and what else makes two submissions the same job.
        model: the model the body names, "" for the route's own.
        max_tokens: the longest answer the body asks for, of all choices; 0 where it does not say.
        service_tier: the tier the body asks for, "" where it does not say.
        options: see JobOptions.
    """

    id: str
    request: bytes
    digest: str
    model: str
    max_tokens: int
    service_tier: str
    options: JobOptions

    def __repr__(self) -> str:
        return f"JobSpec(id={self.id!r}, digest={self.digest!r}, options={self.options!r})"

    @classmethod
    def build(cls, given: Mapping[str, Any]) -> JobSpec:
        """Check one flat mapping of body fields and job options.

        Raises:
            InvalidRequest: a field is wrong; the message names each, and never shows its value.
            RequestTooLarge: the body is over MAX_REQUEST_BYTES.
        """
        body = {name: value for name, value in given.items() if name not in OPTION_NAMES}
        if isinstance(messages := body.get("messages"), Iterable) and not isinstance(
            messages, str | bytes | Mapping | list
        ):
            body["messages"] = list(messages)
        asked = {name: value for name, value in given.items() if name in OPTION_NAMES}
        options = _checked(asked, body)
        request = _encode(body)
        if len(request) > MAX_REQUEST_BYTES:
            raise RequestTooLarge(
                f"the request is {len(request):,} bytes; the limit is {MAX_REQUEST_BYTES:,}. "
                "Send fewer or shorter messages"
            )
        digest = hashlib.blake2b(options.route.encode() + b"\0" + request, digest_size=16)
        return cls(
            new_id(), request, digest.hexdigest(), body.get("model") or "", _max_tokens(body),
            body.get("service_tier") or "", options,
        )  # fmt: skip


def _checked(asked: Mapping[str, Any], body: Mapping[str, Any]) -> JobOptions:
    """The options, where they and the body are right; else what is wrong with either is told."""
    options, wrong = DEFAULT_OPTIONS, []
    try:
        options = JobOptions.model_validate(asked) if asked else DEFAULT_OPTIONS
    except ValidationError as error:
        wrong += mistake.real(error.errors(include_input=False, include_url=False))
    try:
        ChatRequest.model_validate(body)
    except ValidationError as error:
        wrong += mistake.real(error.errors(include_input=False, include_url=False))
    if wrong:
        raise InvalidRequest("invalid request: " + "; ".join(map(_line, wrong[:MOST_MISTAKES])))
    return options


def _line(error: ErrorDetails) -> str:
    """One mistake; in JSON one counts from 0, and calls a table an object."""
    text = mistake.in_words(error)[0].replace("a table", "an object")
    return f"{'.'.join(map(str, error['loc'])) or 'body'}: {text}"


def _max_tokens(body: Mapping[str, Any]) -> int:
    most = body.get("max_completion_tokens") or body.get("max_tokens") or 0
    return int(most) * int(body.get("n") or 1)


def _encode(body: dict[str, Any]) -> bytes:
    """The body as JSON, in the order it was given, so that its digest is stable for its sender."""
    try:
        request = msgspec.json.encode(body)
        if b"null" in request:  # what msgspec makes of a number that JSON cannot write
            _refuse_infinity(body)
        return request
    except UnicodeEncodeError:  # a lone surrogate, such as Python makes of what is no UTF-8
        raise InvalidRequest("the request holds text that is not valid Unicode") from None
    except (TypeError, ValueError) as error:
        raise InvalidRequest(f"the request cannot be written as JSON: {error}") from None
    except RecursionError:
        raise InvalidRequest("the request is nested too deeply") from None


def _refuse_infinity(value: Any) -> None:
    """Raise ValueError for a float that is infinite or no number."""
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{value} is no number in JSON")
    if isinstance(value, Mapping):
        value = value.values()
    if isinstance(value, list | tuple | ValuesView):
        for each in value:
            _refuse_infinity(each)


class Usage(BaseModel):
    """Tokens and cost of a completion; fields not named here are kept."""

    model_config = ConfigDict(extra="allow")

    prompt_tokens: int = 0
    completion_tokens: int = 0
    total_tokens: int = 0
    estimated_cost: float | None = None
    estimated: bool = False


class Completion(BaseModel):
    """An OpenAI `chat.completion`; fields not named here are kept, and so is the object itself."""

    model_config = ConfigDict(extra="allow")

    id: str = ""
    object: Literal["chat.completion"] = "chat.completion"
    created: int = 0
    model: str = ""
    choices: list[dict[str, Any]] = []
    usage: Usage = Usage()

    @property
    def text(self) -> str:
        """The first choice's content, "" where there is none."""
        return self._of_first_message("content")

    @property
    def reasoning(self) -> str:
        """The first choice's reasoning, "" where there is none."""
        return self._of_first_message("reasoning_content")

    @property
    def tool_calls(self) -> list[dict[str, Any]]:
        """The first choice's tool calls."""
        message = self.choices[0]["message"] if self.choices else {}
        return message.get("tool_calls") or []

    def _of_first_message(self, field: str) -> str:
        message = self.choices[0]["message"] if self.choices else {}
        return message.get(field) or ""

    def __repr_args__(self) -> list[tuple[str | None, Any]]:
        """Nothing of what was said: completions stay out of logs."""
        return [("id", self.id), ("model", self.model)]


def check_version(id_: str, version: int) -> None:
    """Raise RecordUnreadable where this code does not read this format."""
    if not RECORD_VERSION - 1 <= version <= RECORD_VERSION:
        whose = "a newer" if version > RECORD_VERSION else "an older"
        raise RecordUnreadable(
            f"{id_} was written by {whose} Penstock: its record has format {version}, and this one "
            f"reads {RECORD_VERSION - 1} and {RECORD_VERSION}. Use the version that wrote it"
        )


class JobRecord(BaseModel):
    """What Redis knows about a job.

    Times are seconds since the epoch by Redis's clock; `available_at` is from when the job may
    run, after a retry's pause too. `request` is the body as JSON bytes.
    `outcome` is the terminal event's data, None while the job lives. `route` is where the job is;
    where that is a fallback, `asked_route` is the one it was submitted to and `route_reason` why it
    is not there: `breaker_open`, `deadline` or `attempts_failed`. `tier` is what the upstream was
    asked for last, and `tier_reason` why: `asked`, `cheapest` or `deadline`; None on a route that
    has no tiers. `answered_tier` is the one that the answer named. `traceparent` says where the
    job's trace began, in the form of W3C Trace Context.
    """

    model_config = ConfigDict(extra="ignore", frozen=True)

    id: str
    tenant: str
    route: str
    model: str = ""
    asked_route: str | None = None
    route_reason: str | None = None
    tier: str | None = None
    tier_reason: str | None = None
    state: JobState
    priority: int
    attempt: int = 0
    excused: int = 0
    recoveries: int = 0
    max_attempts: int
    result_ttl: int
    created_at: float
    available_at: float
    deadline: float | None = None
    admitted_at: float | None = None
    started_at: float | None = None
    finished_at: float | None = None
    idempotency_key: str | None = None
    conversation: str | None = None
    webhook: str | None = None
    metadata: dict[str, str] = {}
    cancel_reason: str | None = None
    final: str | None = None
    traceparent: str | None = None
    version: int = Field(1, repr=False, exclude=True)
    request: bytes = Field(b"", repr=False, exclude=True)
    outcome: dict[str, Any] | None = Field(None, repr=False)

    LISTED: ClassVar[tuple[str, ...]]
    """The fields of the HASH that a listing reads: all but the request, which can be megabytes."""

    @classmethod
    def from_fields(cls, id_: str, fields: Mapping[bytes, bytes], outcome: Any = None) -> JobRecord:
        """Build it from the record's HASH; raises RecordUnreadable."""
        check_version(id_, int(fields.get(b"version", 1)))
        given: dict[str, Any] = {name.decode(): value for name, value in fields.items()}
        given["metadata"] = msgspec.json.decode(given.get("metadata", b"{}"))
        given.setdefault("available_at", given["created_at"])
        given["available_at"] = given.get("waiting_since", given["available_at"])
        return cls.model_validate({**given, "id": id_, "outcome": outcome})

    @property
    def answered_tier(self) -> str | None:
        """The service tier that the answer says it came in, which is the one charged."""
        data = self.outcome or {}
        tier = (data.get("completion") or data).get("service_tier")
        return tier if isinstance(tier, str) else None

    @property
    def counted_attempt(self) -> int:
        """How often the upstream has been asked on this job's account, handbacks not counted."""
        return self.attempt - self.excused


_NOT_LISTED = {"id", "request", "outcome"}
JobRecord.LISTED = (*(JobRecord.model_fields.keys() - _NOT_LISTED), "waiting_since")
