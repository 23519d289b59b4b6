"""`penstock webhooks`: what became of deliveries, and sending them again."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence

import click

from penstock import Client, Delivery, DeliveryNotFound, DeliveryState
from penstock.address import without_credentials
from penstock.events import encode
from producers.duration import spoken


@click.group()
def webhooks() -> None:
    """Show webhook deliveries, and send them again."""


@webhooks.command("list")
@click.option("--tenant", default="default", show_default=True, help="Whose jobs'.")
@click.option("--job", help="Only this job's; its tenant does not matter then.")
@click.option("--state", type=click.Choice([str(s) for s in DeliveryState]), help="Only these.")
@click.option("--limit", type=click.IntRange(min=1), default=20, show_default=True)
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line, with every try.")
def list_deliveries(
    tenant: str, job: str | None, state: str | None, limit: int, as_json: bool
) -> None:
    """List deliveries, newest first."""
    wanted = DeliveryState(state) if state else None
    with Client() as client:
        if job:
            found = list(client.deliveries_of(job, wanted))[:limit]
        else:
            found = list(client.deliveries(tenant, wanted, limit))
    if as_json:
        for delivery in found:
            click.echo(encode(delivery))
    elif found:
        _print(found)
    else:
        click.echo(f"{job or f'tenant {tenant}'} has no such deliveries", err=True)


@webhooks.command()
@click.argument("deliveries", metavar="DELIVERY...", nargs=-1, required=True)
def resend(deliveries: tuple[str, ...]) -> None:
    """Send deliveries again, at once and with all their tries."""
    unknown = False
    with Client() as client:
        for delivery in deliveries:
            try:
                client.resend(delivery)
                click.echo(f"{delivery} waiting")
            except DeliveryNotFound as error:
                unknown = True
                click.echo(f"penstock: {error}", err=True)
    if unknown:
        sys.exit(1)


def _print(found: Sequence[Delivery]) -> None:
    from producers import report

    names = ["DELIVERY", "STATE", "EVENT", "AGE", "TRIES"]
    rows = [_row(delivery, time.time()) for delivery in found]
    report.print_lines(names, rows, numbers_from=3, below=map(_way, found))


def _row(delivery: Delivery, now: float) -> list[str]:
    age = spoken(now - delivery.created_at)
    return [delivery.id, delivery.state, delivery.type, age, f"{len(delivery.log)}"]


def _way(delivery: Delivery) -> str:
    """Where it goes, and what was answered last."""
    url = without_credentials(delivery.url)
    if not delivery.log:
        return url
    last = delivery.log[-1]
    return f"{url}: {last.error or last.status}"
