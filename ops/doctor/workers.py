"""Checks of the workers: whether there are any, and whether jobs wait for them."""

from __future__ import annotations

from collections.abc import Iterator

from ops.doctor.finding import Finding
from penstock import Settings, keys
from penstock.store import Store, mapped_errors

PATIENCE = 1.0
"""Seconds a worker gets to answer a ping."""

SHOWN = 5

PLACES = (keys.turns, keys.parked, keys.suspects, keys.held)
"""Where the jobs of a route are, or their tenants, while no worker has them."""


def check_workers(settings: Settings, store: Store) -> Iterator[Finding]:
    """Ping them through Celery: a worker that is deaf to that gets no jobs either."""
    from worker.dispatch import alive, make_app  # Celery takes its time to import

    names = alive(make_app(settings, settings.served_routes), PATIENCE)
    if names:
        more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
        text = f"{len(names)} alive: {', '.join(names[:SHOWN])}{more}"
        yield Finding("workers", "ok", text)
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
