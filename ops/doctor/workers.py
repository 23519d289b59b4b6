"""Checks of the workers: whether there are any, and whether jobs wait for them."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from importlib.metadata import version

from ops.doctor.finding import Finding
from penstock import Settings, Survey, WorkerRecord, attendance, keys
from penstock.store import Store, mapped_errors

PATIENCE = 1.0
"""Seconds a worker gets to answer a ping."""

SHOWN = 5

PLACES = (keys.turns, keys.parked, keys.suspects, keys.held)
"""Where the jobs of a route are, or their tenants, while no worker has them."""


def check_workers(settings: Settings, store: Store) -> Iterator[Finding]:
    """Ping them through Celery: a worker that is deaf to that gets no jobs either."""
    from worker.dispatch import alive, make_app  # Celery takes its time to import

    before = {worker.name: worker for worker in store.run(attendance.muster())}
    app = make_app(settings, settings.served_routes)
    names = alive(app, PATIENCE)
    if before.keys() - set(names):  # a busy one may be late: nobody is called deaf for that
        names = sorted({*names, *alive(app, 2 * PATIENCE)})
    there = store.run(attendance.muster())
    heard = [w for w in there if w.name in before and w.gone_at > before[w.name].gone_at]
    yield from _deaf(heard, names)
    if names:
        yield Finding("workers", "ok", f"{len(names)} alive: {_some(names)}")
        yield from _versions(there, names)
        return
    if heard:
        return
    waiting = _waiting(settings, store)
    advice = "start one: penstock worker"
    if waiting:
        text = f"none answers, and jobs wait on route {', '.join(waiting)}"
        yield Finding("workers", "problem", text, advice)
    else:
        yield Finding("workers", "warning", "none answers; jobs would wait", advice)


def check_records(store: Store) -> Iterator[Finding]:
    """Say which jobs wait for a worker of another version, where some do."""
    with mapped_errors(store.url):
        left = store.redis.zrange(keys.ASIDE, 0, -1, withscores=True)
    if left:
        formats = ", ".join(sorted({f"{format_:.0f}" for _, format_ in left}))
        yield Finding(
            "records", "problem",
            f"{len(left)} jobs wait for a worker of another version: their records have format "
            f"{formats}",
            "start a worker of the version that wrote them, until none is left; see Upgrade and "
            "rollback in ops/runbook.md",
        )  # fmt: skip


def _deaf(there: Sequence[WorkerRecord], names: Collection[str]) -> Iterator[Finding]:
    """They say that they are there, and do not hear Celery: jobs do not reach them."""
    if deaf := [worker.name for worker in there if worker.name not in names]:
        text = f"{len(deaf)} hear nothing though they run: {_some(deaf)}"
        advice = "start them again; by themselves they leave after watchdog_timeout if jobs wait"
        yield Finding("workers", "problem", text, advice)


def _versions(there: Sequence[WorkerRecord], names: Sequence[str]) -> Iterator[Finding]:
    versions = {worker.name: worker.version for worker in there}
    own = version("penstock")
    others = {name: versions.get(name, "an older one") for name in names}
    if odd := [f"{name} ({v})" for name, v in others.items() if v != own]:
        text = f"{len(odd)} of another version than this, {own}: {_some(odd)}"
        yield Finding("workers", "warning", text, "upgrade them, or this")


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return f"{', '.join(names[:SHOWN])}{more}"


def check_service(store: Store, surveys: Sequence[Survey]) -> Iterator[Finding]:
    """Whether each route that was ever published has a worker that serves it."""
    if not store.run(attendance.muster()):
        return  # told already, of all routes
    for survey in surveys:
        if survey.workers:
            continue
        waiting = survey.waiting + survey.suspects + survey.in_use
        advice = (
            "start a worker with this route in its penstock.toml; those of penstock up --simulate, "
            "and with PENSTOCK_FOLLOW_APPLIED=false, take up no new one while they run"
        )
        text = "no worker serves it"
        if waiting:
            yield Finding(f"route {survey.route}", "problem", f"{text}, and jobs wait", advice)
        else:
            yield Finding(f"route {survey.route}", "warning", f"{text}; jobs would wait", advice)


def published_urls(settings: Settings, store: Store) -> dict[str, str]:
    """Where the workers ask, by route, where they have said so."""
    with mapped_errors(store.url):
        urls = {name: store.redis.hget(keys.gate(name), "url") for name in settings.served_routes}
    return {name: url.decode() for name, url in urls.items() if url}


def _waiting(settings: Settings, store: Store) -> list[str]:
    """The routes that jobs wait on."""
    with mapped_errors(store.url):
        redis = store.redis
        return [
            name for name in settings.served_routes if any(redis.zcard(key(name)) for key in PLACES)
        ]
