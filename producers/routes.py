"""`penstock routes`: how each route and its gate stand; `penstock routes apply`: change them."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec

import click
from rich.console import Console
from rich.live import Live

from penstock import Client, ConfigurationError, Settings, Survey
from penstock.consistency import no_route
from penstock.events import encode
from penstock.settings import refusal
from producers import report

REFRESH = 1.0
"""Seconds between two looks of the live table."""

NAMES = (
    "ROUTE", "BREAKER", "WAITING", "IN USE", "REQUESTS/MIN", "TOKENS/MIN", "PAUSED",
    "FIRST TOKEN p50/p99", "JOBS/S", "TOKENS/S", "LONGEST LINES",
)  # fmt: skip


@click.group(invoke_without_command=True)
@click.option("--once", is_flag=True, help="Print the table once, also on a terminal.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line, once.")
@click.pass_context
def routes(context: click.Context, once: bool, as_json: bool) -> None:
    """Show each route: limits and their use, breaker, lines, times; live on a terminal.

    Ctrl-C ends it.
    """
    if context.invoked_subcommand:
        return
    with Client() as client:
        if as_json:
            for survey in client.surveys():
                click.echo(encode(survey))
        elif once or not sys.stdout.isatty():
            _print(client.surveys())
        else:
            _show(client)


@routes.command()
@click.option("--check", is_flag=True, help="Only say whether penstock.toml is right.")
def apply(check: bool) -> None:
    """Take up a changed penstock.toml without a restart.

    Limits hold at once; running workers ask changed routes from their next attempts on, and serve
    new ones. If anything in it is wrong, nothing changes. Hooks are checked too; gateways take them
    up when they are started again.
    """
    settings = Settings.load()
    if not settings.config.is_file():
        raise ConfigurationError(
            f"there is no {settings.config} to apply here; PENSTOCK_CONFIG names another file"
        )
    _check_hooks(settings)
    described = _described(settings)
    if check:
        click.echo(f"{settings.config} is right: {described}")
        return
    with Client(settings) as client:
        told = client.apply()
    click.echo(f"applied {settings.config}: {described}")
    click.echo(_listeners(told), err=True)


def _check_hooks(settings: Settings) -> None:
    """Their routes and templates; raises ConfigurationError."""
    known = settings.resolved_routes
    found = [
        settings.mistake(("hooks", name, "route"), *no_route(hook.route, known))
        for name, hook in settings.hooks.items()
        if hook.route not in known
    ]
    if settings.hooks and find_spec("jinja2"):
        from producers.hooks.hook import mistakes

        found += mistakes(settings)
    elif settings.hooks:
        click.echo("hooks' templates are not checked: pip install 'penstock[gateway]'", err=True)
    if found:
        raise refusal(found)


def _described(settings: Settings) -> str:
    names = ", ".join(settings.resolved_routes)
    count = len(settings.tenants)
    tenants = f"{count} tenant{'' if count == 1 else 's'} with limits" if count else "no tenants"
    return f"routes {names}; {tenants}"


def _listeners(told: int) -> str:
    if not told:
        return "no worker runs; one that starts goes by its own penstock.toml"
    return f"told {told} worker process{'' if told == 1 else 'es'}"


def _print(surveys: Sequence[Survey]) -> None:
    if surveys:
        report.print_lines(NAMES, map(_row, surveys), numbers_from=2)
    else:
        click.echo("no route has had a worker or a job yet", err=True)


def _show(client: Client) -> None:
    """Draw the table again and again."""
    with _until_interrupted(), Live(console=Console(highlight=False), auto_refresh=False) as live:
        pause = threading.Event()
        while True:
            rows = map(_row, client.surveys())
            live.update(report.table(NAMES, rows, numbers_from=2), refresh=True)
            pause.wait(REFRESH)


@contextmanager
def _until_interrupted() -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:  # how one leaves what has no end
        return


def _row(survey: Survey) -> list[str]:
    return [
        survey.route,
        f"open {survey.opened:.0f}s" if survey.breaker == "open" else survey.breaker,
        str(survey.waiting + survey.suspects),
        _in_use(survey),
        _of(survey.requests, survey.requests_per_minute),
        _of(survey.tokens, survey.tokens_per_minute),
        f"{survey.paused:.1f}s" if survey.paused else "",
        _times(survey),
        f"{survey.jobs_per_second:.1f}",
        f"{survey.tokens_per_second:.0f}",
        ", ".join(f"{tenant} {jobs}" for tenant, jobs in survey.tenants.items()),
    ]


def _in_use(survey: Survey) -> str:
    """What may run now, and in brackets what the settings say, while that is another."""
    slowed = f" ({survey.configured})" if survey.allowed != survey.configured else ""
    return f"{survey.in_use}/{survey.allowed}{slowed}"


def _of(used: int, allowed: int | None) -> str:
    return str(used) if allowed is None else f"{used}/{allowed}"


def _times(survey: Survey) -> str:
    if survey.first_token_p50 is None or survey.first_token_p99 is None:
        return ""
    return f"{survey.first_token_p50:.2f}s/{survey.first_token_p99:.2f}s"
