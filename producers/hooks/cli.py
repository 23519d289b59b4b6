"""`penstock hooks`: shows what a webhook would become, without sending it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from penstock import InvalidRequest, Settings
from penstock.events import encode
from penstock.job import JobSpec
from producers.body import STDIN
from producers.cli import KeyValue


@click.group()
def hooks() -> None:
    """Show what webhooks become."""


@hooks.command()
@click.argument("name")
@click.option("--payload", required=True, metavar="FILE", help="What is sent; - for stdin.")
@click.option("--header", type=KeyValue(), multiple=True, help="A header of it; repeatable.")
def test(name: str, payload: str, header: tuple[tuple[str, str], ...]) -> None:
    """Show what a payload sent to hook NAME would be submitted as; nothing is.

    The signature is not asked for. Secrets are not shown.
    """
    fields = _submission(name, _read(payload), {key.lower(): value for key, value in header})
    if fields is None:
        click.echo("the filter ignores this payload: nothing would be submitted", err=True)
    else:
        JobSpec.build(fields)
        _warn_of_route(fields["route"])
        click.echo(encode(_shown(fields)))


def _warn_of_route(route: str) -> None:
    if route not in Settings.load().resolved_routes:
        text = f"warning: these settings have no route {route!r}; only if workers have is it a job"
        click.echo(text, err=True)


def _submission(name: str, body: bytes, headers: dict[str, str]) -> dict[str, Any] | None:
    from producers.hooks.hook import Unreadable, WorkingHook, read
    from producers.hooks.template import TemplateFailed

    settings = Settings.load()
    if name not in settings.hooks:
        known = ", ".join(sorted(settings.hooks)) or "none"
        raise InvalidRequest(
            f"there is no hook {name!r}; known hooks: {known}. "
            f"Add a [hooks.{name}] table to {settings.config}"
        )
    hook = WorkingHook(name, settings.hooks[name], settings)
    try:
        payload = read(body, headers.get("content-type", ""))
        if not hook.wants(payload, headers):
            return None
        return hook.submission(payload, headers, hook.delivery_of(headers), body)
    except (Unreadable, TemplateFailed) as error:
        raise InvalidRequest(str(error)) from None


def _shown(fields: dict[str, Any]) -> dict[str, Any]:
    """The job without the secret of its webhook."""
    webhook = fields.get("webhook")
    if webhook is None:
        return fields
    return {**fields, "webhook": {"url": webhook["url"], "events": webhook["events"]}}


def _read(source: str) -> bytes:
    if source == STDIN:
        return sys.stdin.buffer.read()
    try:
        return Path(source).read_bytes()
    except OSError as error:
        raise InvalidRequest(f"{source} cannot be read: {error.strerror or error}") from None
