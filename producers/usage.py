"""`penstock usage`: what tenants used and what it cost."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta

import click

from penstock import Client
from penstock.events import encode
from penstock.usage import UsageRow

SHOWN = timedelta(days=6)
"""Before today: a week."""


class Day(click.ParamType[date]):
    """A day of the calendar."""

    name = "day"

    def convert(
        self, value: str | date, param: click.Parameter | None, ctx: click.Context | None
    ) -> date:
        """Parse it."""
        if isinstance(value, date):
            return value
        try:
            return datetime.strptime(value, "%Y-%m-%d").replace(tzinfo=UTC).date()
        except ValueError:
            text = f"{value!r} is not a day: write YYYY-MM-DD, such as 2026-01-31."
            self.fail(text, param, ctx)


@click.command()
@click.option("--tenant", help="Only this one's.")
@click.option("--since", type=Day(), metavar="YYYY-MM-DD", help="First day; else a week.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
def usage(tenant: str | None, since: date | None, as_json: bool) -> None:
    """Show jobs, tokens and cost by day (UTC), tenant and route."""
    first = since or datetime.now(UTC).date() - SHOWN
    with Client() as client:
        found = client.usage(first, tenant)
    if as_json:
        for row in found:
            click.echo(encode(row))
    elif found:
        _print(found)
    else:
        click.echo(f"nothing was used since {first}", err=True)


def _print(found: Sequence[UsageRow]) -> None:
    from producers import report

    names = ["DAY", "TENANT", "ROUTE", "JOBS", "PROMPT", "COMPLETION", "USD", "ESTIMATED"]
    lines = [
        [
            row.date, row.tenant, row.route, f"{row.jobs}", f"{row.prompt_tokens}",
            f"{row.completion_tokens}", f"{row.usd:.6f}", f"{row.estimated_usd:.6f}",
        ]
        for row in found
    ]  # fmt: skip
    total = ["", "", "all", *_sums(found)]
    report.print_lines(names, [*lines, total], numbers_from=3)


def _sums(found: Sequence[UsageRow]) -> list[str]:
    return [
        str(sum(row.jobs for row in found)),
        str(sum(row.prompt_tokens for row in found)),
        str(sum(row.completion_tokens for row in found)),
        f"{sum(row.usd for row in found):.6f}",
        f"{sum(row.estimated_usd for row in found):.6f}",
    ]
