"""Checks of the webhooks: whether deliveries go out, and which endpoints do not take them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice

from ops.doctor.finding import Finding
from penstock import Client, Delivery, DeliveryState, Settings, keys
from penstock.address import without_credentials
from penstock.store import mapped_errors
from producers.duration import spoken

LATE = 60.0
"""Seconds a delivery may be due before somebody should look: workers take it within a second."""

TENANTS, LOOKED_AT = 200, 50
"""How many tenants are looked at, and how many of the newest deliveries of each."""

LISTED = "penstock webhooks list shows its tries, penstock webhooks resend ID sends one again"


def check_webhooks(settings: Settings) -> Iterator[Finding]:
    """Silent where nothing was ever delivered."""
    with Client(settings) as client:
        late = list(_late(client))
        yield from late
        endpoints = _endpoints(client)
        found = [finding for url, lot in endpoints.items() if (finding := _judge(url, lot))]
        yield from found
        if endpoints and not late and not found:
            count = f"{len(endpoints)} endpoint{'' if len(endpoints) == 1 else 's'}"
            yield Finding("webhooks", "ok", f"{count} lately, and all take their deliveries")


def _late(client: Client) -> Iterator[Finding]:
    with mapped_errors(client.store.url):
        seconds, _ = client.store.redis.time()
        waiting = client.store.redis.zcount(keys.WEBHOOKS, "-inf", seconds)
        oldest = client.store.redis.zrange(keys.WEBHOOKS, 0, 0, withscores=True)
    late = seconds - oldest[0][1] if oldest else 0
    if late > LATE:
        text = f"{waiting} deliveries are due, the first for {spoken(late)}"
        advice = "start more workers, or raise webhook_concurrency, which 0 turns off"
        yield Finding("webhooks", "problem", text, advice)


def _endpoints(client: Client) -> dict[str, list[Delivery]]:
    """The newest deliveries of all tenants, by where they go."""
    with mapped_errors(client.store.url):
        tenants = client.store.redis.smembers(keys.TENANTS)
    endpoints: dict[str, list[Delivery]] = {}
    for tenant in islice(sorted(tenants), TENANTS):
        for delivery in client.deliveries(tenant.decode(), limit=LOOKED_AT):
            endpoints.setdefault(without_credentials(delivery.url), []).append(delivery)
    return endpoints


def _judge(url: str, deliveries: Sequence[Delivery]) -> Finding | None:
    """By what came last: an endpoint that takes its deliveries again is well."""
    newest = max(deliveries, key=lambda each: each.log[-1].time if each.log else 0)
    failed = sum(each.state == DeliveryState.FAILED for each in deliveries)
    if newest.state == DeliveryState.DISABLED:
        text = f"{url} answered 410 and is not called any more"
        return Finding("webhooks", "warning", text, f"take it out where it is named; {LISTED}")
    if not newest.log or newest.state == DeliveryState.DELIVERED:
        return None
    last = newest.log[-1]
    said = last.error or f"answered {last.status}"
    given_up = f", {failed} given up" if failed else ""
    text = f"{url} does not take its deliveries: {said}{given_up}"
    return Finding("webhooks", "warning", text, LISTED)
