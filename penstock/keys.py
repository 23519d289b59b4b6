"""Every Redis key and channel: its type, its fields, how long it lives.

The scripts get their keys from this same catalogue (see scripts.py), so a key's name stands here
and nowhere else.
"""

from __future__ import annotations

PREFIX = "penstock:"
"""In front of every key; Celery's keys get it too, as kombu's `global_keyprefix`."""

CATALOGUE = {
    # HASH, the record of one job. Until result_ttl after its end.
    #   version, tenant, route, model, priority, state, request (JSON), digest, metadata (JSON),
    #   conversation, webhook, webhook_events, webhook_secret, reports (events), delta_open (the
    #   attempt), delta_after (a cursor), delta_due (see report_delta.lua), idempotency_key,
    #   max_attempts, result_ttl, created_at, available_at
    #   (of a delayed job), waiting_since (after a retry), deadline, attempt, excused
    #   (attempts that do not count), recoveries, rings, first_ring (of the last admission),
    #   holder (of the last claim: the fence), given_back (by this holder), redriven (tokens),
    #   cancel_reason, admitted_at,
    #   max_tokens, reserved, charged, reserved_usd (see settle.lua),
    #   told_position, told_wait (see announce.lua), asked_route (where another one has taken the
    #   job), route_reason (see divert.lua), service_tier (asked for), tier, tier_reason (see
    #   tier.lua),
    #   started_at, finished_at, final (id of the terminal event), traceparent, tracestate (of
    #   whoever submitted it: see trace.py)
    "job": PREFIX + "job:",
    # STREAM and pub/sub channel, the events of one job; entries have one field, `event`.
    # Until result_ttl after the job's end.
    "feed": PREFIX + "feed:",
    # STRING, the id of the job with this idempotency key: <tenant>:<key>. As long as that job.
    "idem": PREFIX + "idem:",
    # ZSET of waiting jobs by priority and arrival: <route>:<tenant>.
    "backlog": PREFIX + "backlog:",
    # ZSET of waiting jobs that lost their worker three times, by arrival: <route>. They run one by
    # one, so that it is clear which of them kills workers.
    "suspects": PREFIX + "suspects:",
    # ZSET of the tenants with waiting jobs, by virtual time: <route>.
    "turns": PREFIX + "turns:",
    # ZSET of the tenants that were served lately, by the virtual time their last job ended:
    # <route>. Those that lie behind the gate's own virtual time are dropped by the sweep.
    "served": PREFIX + "served:",
    # ZSET of the tenants with waiting jobs that are at their own limits: <route>. By the time from
    # which their next job may pass; +inf where one of their running jobs must end first.
    "parked": PREFIX + "parked:",
    # ZSET of the waiting jobs with a deadline, on routes with fallbacks, by when to look at their
    # outlook again: <route>.
    "pressed": PREFIX + "pressed:",
    # SET of the jobs that wait on a route though another one was asked for: <route>.
    "guests": PREFIX + "guests:",
    # HASH of tenants' limits as the settings publish them, "*" for all others: see limits.py.
    "limits": PREFIX + "limits",
    # HASH, what a tenant has spent today and this month, and what its limits were paid: <tenant>.
    # For a month after it has last spent.
    #   requests_paid, tokens_paid (see meter.lua), day, day_usd, month, month_usd (see budget.lua)
    "tenant": PREFIX + "tenant:",
    # HASH, what a tenant used on a day (UTC): <tenant>:<date>. For 400 days.
    #   "<route> <what>": jobs, prompt_tokens, completion_tokens, usd, estimated_usd
    "usage": PREFIX + "usage:",
    # SET of the jobs that have not ended, of a tenant with `max_waiting`: <tenant>.
    "unfinished": PREFIX + "unfinished:",
    # SET of a tenant's admitted and running jobs, on all routes: <tenant>.
    "running": PREFIX + "running:",
    # ZSET of the jobs of a conversation that have not ended, in their order: <tenant>:<name>.
    "conversation": PREFIX + "conversation:",
    # HASH of the tokens a route let through in the last minute, by half seconds: <route>.
    "window": PREFIX + "window:",
    # HASH, the same of a tenant with a limit of tokens: <tenant>.
    "tenantwindow": PREFIX + "tenantwindow:",
    # HASH, what went on at a route in a minute: <route>:<minutes since the epoch>. For 3 minutes.
    #   admitted, again (of them, those that passed before), finished, tokens,
    #   first <class> (times to the first token: see traffic.lua)
    "traffic": PREFIX + "traffic:",
    # HASH, how many answers of each size a route gave lately, and their count: <route>.
    "outputs": PREFIX + "outputs:",
    # ZSET of admitted and running jobs by when the keeper must look (next ring, or end of the
    # lease): <route>. Its size is the concurrency in use.
    "held": PREFIX + "held:",
    # HASH, a route as its workers published it, and its gate: <route>.
    #   about (a sentence), concurrency, concurrency_min, requests, tokens (rates, see limits.py),
    #   requests_per_minute, tokens_per_minute, price_input, price_output (USD a token), fallback
    #   (routes), service_tiers (both separated by spaces), model, url: as the settings say.
    #   virtual_time, joined (the turn of the tenant that woke up last), suspect (the one that was
    #   admitted last), requests_paid, tokens_paid, retries_paid (see meter.lua), output_estimate,
    #   output_mean, tokens_mean (tokens), quickest, seconds_mean (seconds), cut_at, cut_from
    #   (concurrency), paused_until, failures, open_until, opened (how often in a row), probe (the
    #   job that tries a broken upstream), ring (Celery's message taken apart: see publish.lua)
    "gate": PREFIX + "gate:",
    # ZSET of the workers that are there, by when they count as gone.
    "workers": PREFIX + "workers",
    # HASH, what a worker process says of itself: <its name in Celery>. While it is there.
    #   version, routes (by spaces), concurrency, streams, started_at
    "worker": PREFIX + "worker:",
    # ZSET of the workers that serve a route, by when they count as gone: <route>.
    "serving": PREFIX + "serving:",
    # SET of all routes that have ever had a worker or a job.
    "routes": PREFIX + "routes",
    # HASH, how to ring a worker: template (a Celery message), celery (the version that made it)
    "dispatch": PREFIX + "dispatch",
    # HASH, what `penstock routes apply` published last: version (a token), earlier (versions),
    # publication (the routes and tenants as JSON: see publication.py). Workers take it up when it
    # changes.
    "applied": PREFIX + "applied",
    # LIST, Celery's own queue of a route's admitted jobs: <route>. kombu adds PREFIX.
    "queue": PREFIX + "chat.",
    # ZSET of scheduled jobs by when they may run.
    "due": PREFIX + "due",
    # ZSET of jobs that have not started, by deadline.
    "deadlines": PREFIX + "deadlines",
    # ZSET of a tenant's jobs by creation, for listing: <tenant>.
    "jobs": PREFIX + "jobs:",
    # LIST of the jobs that failed last, newest first, at most a hundred; some may be gone, or run
    # again.
    "failures": PREFIX + "failures",
    # SET of all tenants that have ever had a job.
    "tenants": PREFIX + "tenants",
    # ZSET of finished jobs (<tenant>/<id>) by when their record goes, to keep `jobs` clean.
    "retained": PREFIX + "retained",
    # ZSET of the deliveries that are under way, by when they are to be tried: the outbox.
    "webhooks": PREFIX + "webhooks",
    # HASH, an event on its way to an endpoint: <job>-<cursor>. Until `ttl` after its end.
    #   job, tenant, route, type, cursor, time, url, secret_env or secret, metadata (JSON), event
    #   (JSON, if it is small), after and until (cursors, of a delta), created_at, state (waiting,
    #   delivered, failed, disabled), claims (the fence), tries, log (a line of JSON a try), ttl,
    #   resent (a token), traceparent, tracestate (the job's)
    "delivery": PREFIX + "delivery:",
    # ZSET of a tenant's deliveries by creation, for listing: <tenant>.
    "deliveries": PREFIX + "deliveries:",
    # SET of a job's deliveries: <job>.
    "reports": PREFIX + "reports:",
    # HASH of tenants' endpoints as the settings publish them, "*" for all others: see report.lua.
    "endpoints": PREFIX + "endpoints",
    # HASH, how an endpoint does that fails: <tenant>:<SHA-1 of the URL>. For 30 days.
    #   failures (in a row), next_call, disabled (when it answered 410)
    "endpoint": PREFIX + "endpoint:",
    # HASH, the keeper's memory: swept_at, recover_from, announced_at, announced (how many jobs),
    #   agreed_at, rises_from.
    "keeper": PREFIX + "keeper",
    # ZSET of the workers and gateways there are, by when they count as gone: <newest format of a
    # record it reads> <a name>.
    "readers": PREFIX + "readers",
    # STRING, the format in which new records are written: see agree.lua.
    "format": PREFIX + "format",
    # ZSET of waiting jobs that whoever got them could not read, by their record's format.
    "aside": PREFIX + "aside",
    # HASH, one API key of the gateway: <id>. For ever, so that nobody's past use is unexplained.
    #   digest (SHA-256 of the key, hex), tenant, scopes (by spaces), note, created_at, expires_at,
    #   revoked_at
    "apikey": PREFIX + "apikey:",
    # ZSET of the ids of all API keys ever made, by creation. While it is there, a key is needed.
    "apikeys": PREFIX + "apikeys",
    # STRING, a meter of an API key's requests (see meter.lua): <id>. Until it is paid up.
    "visits": PREFIX + "visits:",
    # STRING, `<tenant> <job>`, what a stream token may read: <SHA-256 of the token, hex>. Until it
    # expires.
    "streamtoken": PREFIX + "streamtoken:",
    # Channel for workers, JSON: {"cancel": <job>, "reason": <text>} or {"apply": <version>}.
    "control": PREFIX + "control",
}

QUEUE_NAME = "chat."
"""A route's Celery queue as Celery itself names it, without PREFIX: <this><route>."""


def job(id_: str) -> str:
    """HASH: the record of one job."""
    return CATALOGUE["job"] + id_


def feed(id_: str) -> str:
    """STREAM and channel: the events of one job."""
    return CATALOGUE["feed"] + id_


def idem(tenant: str, key: str) -> str:
    """STRING: the job of an idempotency key."""
    return f"{CATALOGUE['idem']}{tenant}:{key}"


def jobs(tenant: str) -> str:
    """ZSET: a tenant's jobs by creation time."""
    return CATALOGUE["jobs"] + tenant


def gate(route: str) -> str:
    """HASH: a route's limits and gate."""
    return CATALOGUE["gate"] + route


def held(route: str) -> str:
    """ZSET: a route's admitted and running jobs."""
    return CATALOGUE["held"] + route


def queue(route: str) -> str:
    """LIST: the Celery queue of a route."""
    return CATALOGUE["queue"] + route


def served(route: str) -> str:
    """ZSET: the tenants that a route has served lately."""
    return CATALOGUE["served"] + route


def suspects(route: str) -> str:
    """ZSET: a route's waiting jobs that may be what kills workers."""
    return CATALOGUE["suspects"] + route


def parked(route: str) -> str:
    """ZSET: the tenants that wait for their own limits on a route."""
    return CATALOGUE["parked"] + route


def usage(tenant: str, date: str) -> str:
    """HASH: what a tenant used on a day, as YYYY-MM-DD."""
    return f"{CATALOGUE['usage']}{tenant}:{date}"


def apikey(id_: str) -> str:
    """HASH: one API key."""
    return CATALOGUE["apikey"] + id_


def streamtoken(digest: str) -> str:
    """STRING: what a stream token may read."""
    return CATALOGUE["streamtoken"] + digest


def delivery(id_: str) -> str:
    """HASH: an event on its way to an endpoint."""
    return CATALOGUE["delivery"] + id_


def deliveries(tenant: str) -> str:
    """ZSET: a tenant's deliveries by creation time."""
    return CATALOGUE["deliveries"] + tenant


def reports(job: str) -> str:
    """SET: a job's deliveries."""
    return CATALOGUE["reports"] + job


def turns(route: str) -> str:
    """ZSET: the tenants that wait for a route."""
    return CATALOGUE["turns"] + route


def worker(name: str) -> str:
    """HASH: what a worker process says of itself."""
    return CATALOGUE["worker"] + name


DUE = CATALOGUE["due"]
WORKERS = CATALOGUE["workers"]
READERS = CATALOGUE["readers"]
FORMAT = CATALOGUE["format"]
ASIDE = CATALOGUE["aside"]
KEEPER = CATALOGUE["keeper"]
WEBHOOKS = CATALOGUE["webhooks"]
CONTROL = CATALOGUE["control"]
DISPATCH = CATALOGUE["dispatch"]
APPLIED = CATALOGUE["applied"]
ROUTES = CATALOGUE["routes"]
APIKEYS = CATALOGUE["apikeys"]
TENANTS = CATALOGUE["tenants"]
