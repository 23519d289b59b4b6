"""Every operation on the store, without I/O.

Each is a script with its keys and arguments, and how to read its reply; `Store` and `AsyncStore`
run them.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from hashlib import blake2b
from typing import Any, Generic, Literal, NamedTuple, TypeAlias, TypeVar

import msgspec

from penstock import keys, limits
from penstock.address import without_credentials
from penstock.census import LOOKED_AT, Census, read_census
from penstock.errors import (
    BudgetSpent,
    ConversationBusy,
    IdempotencyConflict,
    InvalidRequest,
    InvalidTransition,
    JobNotFound,
    QueueFull,
    UnknownRoute,
)
from penstock.events import encode
from penstock.job import RECORD_VERSION, JobSpec
from penstock.publication import Publication
from penstock.scripts import Script, load
from penstock.settings import Route, Settings, Tenant
from penstock.state import JobState
from penstock.survey import COUNTED, Survey, read_survey
from penstock.trace import Carrier
from penstock.webhook import Webhook, published

LEASE = 10.0
"""Seconds a worker may be silent before its jobs are run by another."""

MOST_ADMITTED = 200
"""Jobs that one call lets through: Redis is busy for some milliseconds then, others get in."""

Argument: TypeAlias = str | bytes | int | float
T = TypeVar("T")


class Command(NamedTuple, Generic[T]):
    """One call of a script, and how to read its reply."""

    script: Script
    keys: Sequence[str]
    arguments: Sequence[Argument]
    parse: Callable[[Any], T]


class Accepted(NamedTuple):
    """The job that a submission led to; `created` is False where it was there before.

    `trace` is what that job's own trace goes on from.
    """

    id: str
    state: JobState
    created: bool
    trace: Carrier | None = None


def enqueue(spec: JobSpec, settings: Settings) -> Command[Accepted]:
    """Accept a job; raises, when parsed, what `enqueue_many` gives as its result."""

    def parse(reply: list[list[bytes]]) -> Accepted:
        (result,) = many.parse(reply)
        if isinstance(result, InvalidRequest):
            raise result
        return result

    many = enqueue_many([spec], settings)
    return Command(many.script, many.keys, many.arguments, parse)


def enqueue_many(
    specs: Sequence[JobSpec], settings: Settings, trace: Carrier | None = None
) -> Command[list[Accepted | InvalidRequest]]:
    """Accept jobs, of this trace: for each the job it led to, or why it was refused.

    IdempotencyConflict: the key belongs to a job with another request. UnknownRoute: neither these
    settings nor any worker knows the route.
    """
    arguments: list[Argument] = []
    for spec in specs:
        arguments += _submission(spec, settings, trace)

    def parse(reply: list[list[bytes]]) -> list[Accepted | InvalidRequest]:
        pairs = zip(specs, reply, strict=True)
        return [_accepted(spec, [p.decode() for p in parts], settings) for spec, parts in pairs]

    return Command(load("enqueue"), [], arguments, parse)


def _submission(spec: JobSpec, settings: Settings, trace: Carrier | None) -> list[Argument]:
    """One job's arguments, see lua/enqueue.lua."""
    options = spec.options
    fields: list[Argument] = [
        "request", spec.request,
        "max_attempts", options.max_attempts or settings.max_attempts,
        "result_ttl", options.result_ttl or settings.result_ttl,
    ]  # fmt: skip
    if spec.model:
        fields += ["model", spec.model]
    if spec.max_tokens:
        fields += ["max_tokens", spec.max_tokens]
    if spec.service_tier:
        fields += ["service_tier", spec.service_tier]
    if options.metadata:
        fields += ["metadata", encode(options.metadata)]
    if options.conversation:
        fields += ["conversation", options.conversation]
    if options.webhook:
        fields += _endpoint(options.webhook)
    traceparent, tracestate = trace or ("", "")
    known = "1" if options.route in settings.resolved_routes else "0"
    return [
        spec.id, options.tenant, options.route, known, options.priority,
        options.idempotency_key or "", spec.digest, options.delay or 0, options.deadline or "",
        options.conversation or "", options.on_busy, RECORD_VERSION, traceparent, tracestate,
        len(fields), *fields,
    ]  # fmt: skip


def _endpoint(webhook: Webhook) -> list[Argument]:
    """The record's fields about a job's own endpoint."""
    fields: list[Argument] = ["webhook", webhook.url, "webhook_events", webhook.event_names]
    if webhook.secret:
        secrets_ = " ".join(secret.get_secret_value() for secret in webhook.secret)
        fields += ["webhook_secret", secrets_]
    return fields


def _accepted(spec: JobSpec, reply: list[str], settings: Settings) -> Accepted | InvalidRequest:
    kind, *rest = reply
    match kind:
        case "exists":
            created = rest[0] == spec.id  # this very call came before, and its reply was lost
            return Accepted(rest[0], JobState(rest[1]), created, Carrier.of(*rest[2:]))
        case "conflict":
            return IdempotencyConflict(
                f"idempotency key {spec.options.idempotency_key!r} belongs to {rest[0]}, "
                "which has another request; use a new key for a new request"
            )
        case "busy":
            return ConversationBusy(
                f"conversation {spec.options.conversation!r} is at {rest[0]}; wait for its end, or "
                "choose another on_busy"
            )
        case "over_budget":
            return BudgetSpent(
                f"the budget of tenant {spec.options.tenant} has no room for this job; wait for "
                f"the next {rest[0]}, or raise budget_{rest[0]}"
            )
        case "queue_full":
            return QueueFull(
                f"tenant {spec.options.tenant} has as many jobs waiting as may wait ({rest[0]}); "
                "submit again when some have run"
            )
        case "unknown_route":
            names = ", ".join(sorted({*rest, *settings.resolved_routes}))
            return UnknownRoute(f"there is no route {spec.options.route!r}; known routes: {names}")
        case _:
            return Accepted(rest[0], JobState(kind), created=True)


class Admission(NamedTuple):
    """What an admission came to, and how the gate stands.

    Attributes:
        admitted: jobs let through.
        wait: seconds until time alone lets the next one through; None where it takes a job's end,
            or nobody waits.
        in_use, allowed: jobs admitted or running, and how many may be now.
        paused: seconds until admission goes on, 0 where it is not paused.
        breaker: `closed`, `open` or `half open`.
    """

    admitted: int
    wait: float | None
    in_use: int
    allowed: int
    paused: float
    breaker: str


def admit(route: str, most: int = MOST_ADMITTED) -> Command[Admission | None]:
    """Let waiting jobs through the gate; None where no worker has ever started."""

    def parse(reply: list[Any]) -> Admission | None:
        if reply[0] != b"admitted":
            return None
        _, count, wait, in_use, allowed, paused, breaker = reply
        return Admission(
            count, float(wait) if wait else None, in_use, allowed, float(paused), breaker.decode()
        )

    return Command(load("admit"), [], [route, most], parse)


DIVERTED = 50
"""Jobs of each kind that one call moves to fallbacks: about a millisecond of Redis."""


def divert(route: str) -> Command[int]:
    """Move waiting jobs to the route's fallbacks, where they have to go; how many went."""
    touched = [keys.gate(route), keys.turns(route), keys.served(route)]
    return Command(load("divert"), touched, [route, DIVERTED], int)


class Way(NamedTuple):
    """Which route and tier the gate has chosen for a job, and why; see JobRecord."""

    asked_route: str | None = None
    route_reason: str | None = None
    tier: str | None = None
    tier_reason: str | None = None

    @classmethod
    def from_fields(cls, fields: dict[bytes, bytes]) -> Way:
        """Build it from the record's HASH."""
        found = (fields.get(name.encode()) for name in cls._fields)
        return cls(*(value.decode() if value else None for value in found))


class Claim(msgspec.Struct, frozen=True):
    """A job that is ours for one attempt: what a worker needs of its record, and its request.

    Attributes:
        attempt: its number, from 1.
        holder: the fence: a token of this claim alone. The attempt's number is none, for it comes
            again where a failover has lost a claim.
        model: what the job names, "" for the route's own.
        way: which route and tier the gate has chosen.
        available_at, started_at: seconds since the epoch by Redis's clock; from when it might run,
            and when this attempt was claimed.
        deadline: the same, None where it has none.
        excused: attempts that do not count.
        metadata: as JSON.
        request: the body as JSON, every field kept.
        reports: whether somebody is told of what happens to it.
        admitted_at: as started_at.
        trace: what its trace goes on from.
    """

    id: str
    attempt: int
    holder: str
    route: str
    tenant: str
    model: str
    way: Way
    available_at: float
    started_at: float
    deadline: float | None
    max_attempts: int
    excused: int
    metadata: bytes
    request: bytes
    reports: bool = False
    admitted_at: float = 0
    trace: Carrier | None = None

    @classmethod
    def from_fields(cls, id_: str, attempt: int, fields: dict[bytes, bytes]) -> Claim:
        """Build it from the record's HASH."""
        deadline = fields.get(b"deadline")
        created = fields[b"created_at"]
        return cls(
            id_, attempt, fields[b"holder"].decode(), fields[b"route"].decode(),
            fields[b"tenant"].decode(),
            fields.get(b"model", b"").decode(), Way.from_fields(fields),
            float(fields.get(b"waiting_since", fields.get(b"available_at", created))),
            float(fields[b"started_at"]), float(deadline) if deadline else None,
            int(fields[b"max_attempts"]), int(fields.get(b"excused", 0)),
            fields.get(b"metadata", b"{}"), fields[b"request"], b"reports" in fields,
            float(fields.get(b"admitted_at", 0)), carried(fields),
        )  # fmt: skip

    @property
    def counted_attempt(self) -> int:
        """How often the upstream has been asked on this job's account, with this one."""
        return self.attempt - self.excused


def carried(fields: Mapping[bytes, bytes]) -> Carrier | None:
    """What the trace of a record goes on from."""
    if b"traceparent" not in fields:
        return None
    return Carrier.of(fields[b"traceparent"].decode(), fields.get(b"tracestate", b"").decode())


class Refusal(NamedTuple):
    """A job that is not to be run, and as much as is known of it.

    Attributes:
        ended: whether this call ended it.
        version: of a record that this version does not read: then it is left for others.
    """

    state: str
    ended: bool = False
    attempt: int | None = None
    route: str | None = None
    tenant: str | None = None
    version: int | None = None


def claim(id_: str, holder: str, lease: float = LEASE) -> Command[Claim | Refusal]:
    """Take an admitted job, or learn the state that forbids it ("unknown": no record)."""

    def parse(reply: list[Any]) -> Claim | Refusal:
        if reply[0] != b"claimed":
            return _refusal(*(part.decode() for part in reply))
        fields = dict(zip(reply[2::2], reply[3::2], strict=True))
        return Claim.from_fields(id_, int(reply[1]), fields)

    asked: list[Argument] = [id_, holder, lease, RECORD_VERSION]
    return Command(load("claim"), [keys.job(id_)], asked, parse)


def _refusal(
    kind: str, state: str, attempt: str = "", route: str = "", tenant: str = "", format_: str = ""
) -> Refusal:
    if not attempt:
        return Refusal(state)
    version = int(format_) if format_ else None
    return Refusal(state, kind == "ended", int(attempt), route, tenant, version)


class Lease(NamedTuple):
    """What a worker holds."""

    id: str
    holder: str
    route: str


class Stop(NamedTuple):
    """A job its worker must stop.

    Attributes:
        detail: the reason of a cancel, or the state it is in now.
        holder: whose claim is meant, "" for whoever has it.
    """

    id: str
    verdict: Literal["lost", "cancelled"]
    detail: str
    holder: str = ""


def renew(leases: Iterable[Lease], lease: float = LEASE) -> Command[list[Stop]]:
    """Keep these leases; the jobs that must stop."""
    arguments: list[Argument] = [lease]
    holders = {}
    for held in leases:
        arguments += held
        holders[held.id] = held.holder

    def parse(reply: list[bytes]) -> list[Stop]:
        texts = [part.decode() for part in reply]
        return [
            Stop(id_, "lost" if verdict == "lost" else "cancelled", detail, holders[id_])
            for id_, verdict, detail in zip(texts[::3], texts[1::3], texts[2::3], strict=True)
        ]

    return Command(load("renew"), [], arguments, parse)


def append(events: Sequence[Argument]) -> Command[list[str]]:
    """Write deltas: flat (id, holder, n, data) per event; the holders whose claim is over."""

    def parse(reply: list[bytes]) -> list[str]:
        return [part.decode() for part in reply]

    return Command(load("append"), [], events, parse)


class Feedback(NamedTuple):
    """What an attempt's end says about its upstream; see lua/include/feedback.lua.

    Attributes:
        retry_after: seconds the upstream asks to wait, 0 where it does not say.
        first_token: seconds to the first token, "" where none came.
    """

    kind: Literal["ok", "busy", "broken", "down", ""] = ""
    retry_after: float = 0
    first_token: float | Literal[""] = ""


NOTHING_KNOWN = Feedback()


class Used(NamedTuple):
    """What an attempt used: tokens of its prompt and its answer, and USD."""

    prompt: int
    answer: int
    usd: float
    estimated: bool = False


class Settled(NamedTuple):
    """What became of a settlement.

    Attributes:
        accepted: False where this claim is over.
        cancel_asked: instead of being given back, the job is to be ended as cancelled, so.
        news: what changed at the gate (`paused`, `slowed`, `opened`, `closed`), each with by how
            much.
    """

    accepted: bool
    cancel_asked: str | None = None
    news: tuple[tuple[str, str], ...] = ()


def _spent(used: Used | None) -> tuple[Argument, ...]:
    if used is None:
        return ("", "", "", "")
    return (used.prompt, used.answer, f"{used.usd:.12f}", int(used.estimated))


def _settled(reply: list[bytes]) -> Settled:
    kind, *rest = (part.decode() for part in reply)
    if kind == "stale":
        return Settled(False)
    if kind == "cancelled":
        return Settled(False, cancel_asked=rest[0])
    return Settled(True, news=tuple(zip(rest[::2], rest[1::2], strict=True)))


def finish(
    id_: str,
    holder: str,
    state: Literal[JobState.COMPLETED, JobState.FAILED, JobState.CANCELLED],
    n: int,
    data: dict[str, Any],
    used: Used | None = None,
    feedback: Feedback = NOTHING_KNOWN,
) -> Command[Settled]:
    """End a running job with its terminal event."""
    arguments: list[Argument] = [
        id_, holder, str(state), n, encode(data), *_spent(used), *feedback,
    ]  # fmt: skip
    return Command(load("finish"), [keys.job(id_)], arguments, _settled)


def requeue(
    id_: str,
    holder: str,
    reason: str,
    delay: float,
    mode: Literal["retry", "handback"],
    used: Used | None = None,
    feedback: Feedback = NOTHING_KNOWN,
) -> Command[Settled]:
    """Give a running job back."""
    arguments: list[Argument] = [
        id_, holder, reason, delay, mode, *_spent(used), *feedback,
    ]  # fmt: skip
    return Command(load("requeue"), [keys.job(id_)], arguments, _settled)


def cancel(id_: str, reason: str) -> Command[JobState]:
    """Stop a job: its state now, RUNNING where its worker has been told but has not ended it yet.

    Raises JobNotFound when parsed.
    """

    def parse(reply: list[bytes]) -> JobState:
        if reply[0] == b"unknown":
            raise not_found(id_)
        if reply[0] == b"over":
            return JobState(reply[1].decode())
        return JobState.RUNNING if reply[0] == b"cancelling" else JobState.CANCELLED

    return Command(load("cancel"), [keys.job(id_)], [id_, reason], parse)


class Swept(NamedTuple):
    """What a sweep did: how many of each kind, and the route and state of each job that ended."""

    counts: dict[str, int]
    ended: list[tuple[str, str]]


def sweep(most: int = 500, lease: float = LEASE) -> Command[Swept]:
    """The keeper's round; see lua/sweep.lua."""

    def parse(reply: list[Any]) -> Swept:
        names, ended = ([part.decode() for part in parts[::2]] for parts in reply)
        states = [part.decode() for part in reply[1][1::2]]
        counts = dict(zip(names, map(int, reply[0][1::2]), strict=True))
        return Swept(counts, list(zip(ended, states, strict=True)))

    return Command(load("sweep"), [], [lease, most, RECORD_VERSION], parse)


PATIENCE = 15.0
"""Seconds a worker or gateway may be silent until what is written no longer depends on it."""


def agree(name: str, patience: float = PATIENCE) -> Command[int | None]:
    """Say that a process is there, or with a patience of 0 that it goes.

    The format that new records have now; None where nobody has ever been there.
    """
    touched = [keys.READERS, keys.FORMAT, keys.KEEPER]
    asked: list[Argument] = [f"{RECORD_VERSION} {name}", patience]
    return Command(load("agree"), touched, asked, lambda reply: int(reply) if reply else None)


class Outlook(NamedTuple):
    """How long a waiting job will wait, were everything to go on as it does.

    Attributes:
        position: its place in its route's line, from 1 on.
        wait: seconds until its turn; None while its route has not answered anything yet.
    """

    position: int
    wait: float | None


def outlook(ids: Sequence[str]) -> Command[list[Outlook | None]]:
    """For each job its outlook; None where it does not wait in a line."""

    def parse(reply: list[list[Any]]) -> list[Outlook | None]:
        return [
            Outlook(int(position), float(wait) if wait else None) if position else None
            for position, wait in reply
        ]

    return Command(load("outlook"), [], ids, parse)


ANNOUNCED = 500
"""Followed jobs that wait which one round looks at: some ten milliseconds of Redis."""


def announce(period: float) -> Command[int]:
    """Tell those who follow waiting jobs how long that will take; how many were told."""
    return Command(load("announce"), [], [period, ANNOUNCED], int)


def survey(route: str, tenants: int = 5) -> Command[Survey | None]:
    """How a route stands, with its longest backlogs; None where no worker has published it."""
    return Command(load("survey"), [], [route, tenants, COUNTED], partial(read_survey, route))


def models() -> Command[dict[str, str]]:
    """The model of each route that workers have published."""

    def parse(reply: list[bytes]) -> dict[str, str]:
        texts = [part.decode() for part in reply]
        return dict(zip(texts[::2], texts[1::2], strict=True))

    return Command(load("models"), [], [], parse)


def census(tenants: int = LOOKED_AT) -> Command[Census]:
    """What waits, and what so many tenants have used today."""
    return Command(load("census"), [], [tenants], read_census)


def redrive(id_: str, key: str | None = None) -> Command[None]:
    """Run a failed job again, once for each key.

    Raises JobNotFound or InvalidTransition when parsed.
    """

    def parse(reply: list[bytes]) -> None:
        if reply[0] == b"unknown":
            raise not_found(id_)
        if reply[0] == b"refused":
            raise InvalidTransition(
                f"{id_} is {reply[1].decode()}; only a failed job can be run again"
            )

    token = blake2b(key.encode(), digest_size=8).hexdigest() if key else secrets.token_hex(8)
    return Command(load("redrive"), [keys.job(id_)], [id_, token], parse)


def erase(id_: str) -> Command[None]:
    """Remove all that is kept of a job that has ended. Raises InvalidTransition when parsed."""

    def parse(reply: list[bytes]) -> None:
        if reply[0] == b"refused":
            raise InvalidTransition(
                f"{id_} is {reply[1].decode()}; only a job that has ended is erased. Cancel it"
            )

    return Command(load("erase"), [keys.job(id_)], [id_], parse)


def register(
    template: str, celery: str, routes: Mapping[str, Route], tenants: Mapping[str, Tenant]
) -> Command[str]:
    """Publish how to ring the workers, their routes, and the limits of both.

    The version of what was applied last, see `apply`.
    """
    abouts = {name: {"model": route.model, "url": route.url} for name, route in routes.items()}
    arguments = [template, celery, *_limits(routes, tenants, abouts)]
    return Command(load("register"), [keys.DISPATCH], arguments, lambda reply: reply.decode())


def apply(settings: Settings) -> Command[int]:
    """Publish the routes and tenants of these settings to gates and workers.

    How many worker processes were told; one that is busy, or away, takes it up a little later.
    """
    publication = Publication.of(settings)
    routes = settings.resolved_routes
    abouts = {
        name: route.model_dump(include={"model", "url"}, exclude_none=True)
        for name, route in publication.routes.items()
    }
    limits_ = _limits(routes, settings.tenants, abouts)
    arguments = [secrets.token_hex(8), publication.text, *limits_]
    return Command(load("apply"), [keys.APPLIED], arguments, int)


def _limits(
    routes: Mapping[str, Route],
    tenants: Mapping[str, Tenant],
    abouts: Mapping[str, Mapping[str, str]],
) -> list[Argument]:
    """As lua/include/publish.lua reads them; `abouts`: what else to tell of each route."""
    arguments: list[Argument] = [len(tenants)]
    for name, tenant in tenants.items():
        endpoint = published(tenant.webhook) if tenant.webhook else ""
        arguments += [name, limits.of_tenant(tenant), endpoint]
    for name, route in routes.items():
        fields = {**limits.of_route(route), **abouts[name]}
        if "url" in fields:
            fields["url"] = without_credentials(str(fields["url"]))
        arguments += [name, len(fields), *(part for field in fields.items() for part in field)]
    return arguments


def not_found(id_: str) -> JobNotFound:
    """The error for a job there is no record of."""
    return JobNotFound(
        f"there is no job {id_}; it was never submitted here, or its result_ttl is over"
    )
