"""`penstock routes`: how each route and its gate stand; `penstock routes apply`: change them."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec

import click
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table

from penstock import Client, ConfigurationError, Settings, Survey
from penstock.consistency import no_route
from penstock.events import encode
from penstock.settings import refusal
from producers import report

REFRESH = 1.0
"""Seconds between two looks of the live table."""

NAMES = ("ROUTE", "STATE", "WAITING", "IN USE", "REQ/MIN", "TOK/MIN", "1ST TOKEN", "TOK/S")
LINES = ("LONGEST LINES", "TENANT JOBS")

SHORTEST = 8
"""Letters of a route's name that stay whatever else a line must hold."""


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
    if not surveys:
        click.echo("no route has had a worker or a job yet", err=True)
        return
    report.print_parts(*tables(surveys, report.width()))


def tables(surveys: Sequence[Survey], width: int) -> list[Table]:
    """The routes, and where jobs wait, whose; in so many columns, of which 80 are enough."""
    rows = fitted([_row(survey) for survey in surveys], NAMES, width)
    lines = fitted([_line(survey) for survey in surveys if survey.tenants], LINES, width)
    shown = [report.table(NAMES, rows, numbers_from=2)]
    return [*shown, report.table(LINES, lines, numbers_from=2)] if lines else shown


def fitted(rows: list[list[str]], names: Sequence[str], width: int) -> list[list[str]]:
    """Rows whose first cells, which are names, are cut so that all columns have room."""
    longest = [max(map(len, column)) for column in zip(names, *rows, strict=True)]
    room = max(SHORTEST, width - sum(longest[1:]) - report.GAP * (len(names) - 1))
    return [[cut(row[0], room), *row[1:]] for row in rows]


def cut(text: str, room: int) -> str:
    """The text, or its beginning where there is no room for all of it."""
    return text if len(text) <= room else f"{text[: room - 1]}…"


def _show(client: Client) -> None:
    """Draw the tables again and again."""
    console = Console(highlight=False)
    with _until_interrupted(), Live(console=console, auto_refresh=False) as live:
        pause = threading.Event()
        while True:
            live.update(Group(*tables(client.surveys(), console.width)), refresh=True)
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
        state_of(survey),
        short(survey.waiting + survey.suspects),
        f"{short(survey.in_use)}/{short(survey.allowed)}",
        _of(survey.requests, survey.requests_per_minute),
        _of(survey.tokens, survey.tokens_per_minute),
        _times(survey),
        short(round(survey.tokens_per_second)),
    ]


def _line(survey: Survey) -> list[str]:
    return [survey.route, ", ".join(f"{name} {jobs}" for name, jobs in survey.tenants.items())]


def state_of(survey: Survey) -> str:
    """What keeps a route's jobs from running, the worst first; `ok` where nothing does."""
    if not survey.workers:
        return "no worker"
    if survey.breaker == "open":
        return f"broken {survey.opened:.0f}s"
    if survey.breaker == "half open":
        return "trying"
    if survey.paused:
        return f"paused {survey.paused:.0f}s"
    return "slowed" if survey.allowed < survey.configured else "ok"


def short(count: int) -> str:
    """A number in four or five characters: 9999, 12k, 1.5M."""
    if count < 10_000:
        return str(count)
    return f"{count / 1000:.0f}k" if count < 1_000_000 else f"{count / 1_000_000:.1f}M"


def _of(used: int, allowed: int | None) -> str:
    return short(used) if allowed is None else f"{short(used)}/{short(allowed)}"


def _times(survey: Survey) -> str:
    """Seconds to the first token that half of the answers, and 99 in 100, did not exceed."""
    if survey.first_token_p50 is None or survey.first_token_p99 is None:
        return ""
    return f"{survey.first_token_p50:.1f}/{survey.first_token_p99:.1f}s"
