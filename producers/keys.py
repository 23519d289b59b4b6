"""`penstock keys`: who may use the gateway."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from datetime import UTC, datetime

import click

from penstock import Settings, access
from penstock.access import ApiKey, Scope
from penstock.events import encode
from penstock.store import Store
from producers.duration import Duration

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}", re.ASCII)

LOCKED = (
    "this is the first key: from now on, and for good, gateways answer nobody without one, this "
    "machine's own programs neither; send it as `Authorization: Bearer pk_...`"
)
"""What changes for everybody, and not only for whoever gets the key."""


class Scopes(click.ParamType[tuple[Scope, ...]]):
    """Scopes, separated by commas."""

    name = "scopes"

    def convert(
        self,
        value: str | tuple[Scope, ...],
        param: click.Parameter | None,
        ctx: click.Context | None,
    ) -> tuple[Scope, ...]:
        """Cut it at the commas."""
        if not isinstance(value, str):
            return value
        try:
            return tuple(Scope(name.strip()) for name in value.split(","))
        except ValueError:
            known = ", ".join(Scope)
            self.fail(f"{value!r} names an unknown scope; there are {known}.", param, ctx)


@click.group()
def keys() -> None:
    """Make, list and revoke the API keys of the gateway."""


@keys.command()
@click.option("--tenant", default="default", show_default=True, help="Whose jobs it sees.")
@click.option(
    "--scopes", type=Scopes(), default="submit,read,cancel", show_default=True,
    help="What it may do; admin may do all of it, for every tenant.",
)  # fmt: skip
@click.option("--expires", type=Duration(), help="How long it is valid: 30d; for ever else.")
@click.option("--note", default="", help="What it is for; shown by list.")
def create(tenant: str, scopes: tuple[Scope, ...], expires: float | None, note: str) -> None:
    """Make a key and print it: this once, only its SHA-256 is kept.

    The first key locks the gateway: whoever has none is refused from then on, for good.
    """
    if not _NAME.fullmatch(tenant):
        raise click.UsageError("a tenant's name is letters, digits, and _ . - between them.")
    key = access.new_key()
    with _store() as store:
        first = store.run(access.grant(key, tenant, scopes, expires, note))
    if first:
        click.echo(LOCKED, err=True)
    click.echo(f"key {access.id_of(key)} of tenant {tenant}; it is not shown again:", err=True)
    click.echo(key)


@keys.command("list")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
def list_keys(as_json: bool) -> None:
    """List all keys ever made, oldest first; never the keys themselves."""
    with _store() as store:
        found = store.run(access.roll())
    if as_json:
        for key in found:
            click.echo(encode(key))
    elif found:
        _print(found)
    else:
        click.echo("there is no key; the gateway serves this machine only", err=True)


@keys.command()
@click.argument("ids", metavar="ID...", nargs=-1, required=True)
def revoke(ids: tuple[str, ...]) -> None:
    """Take keys back, at once; ID is what `list` shows, or the key itself."""
    with _store() as store:
        for id_ in ids:
            id_ = access.id_of(id_) or id_
            store.run(access.revoke(id_))
            click.echo(f"{id_} revoked")


@contextlib.contextmanager
def _store() -> Iterator[Store]:
    with contextlib.closing(Store(Settings.load().server_url)) as store:
        yield store


def _print(found: list[ApiKey]) -> None:
    from producers import report

    lines = [
        [key.id, key.tenant, " ".join(key.scopes), _day(key.created_at), _state(key), key.note]
        for key in found
    ]
    names = ["ID", "TENANT", "SCOPES", "CREATED", "STATE", "NOTE"]
    report.print_lines(names, lines, numbers_from=len(names))


def _state(key: ApiKey) -> str:
    if key.revoked_at:
        return f"revoked {_day(key.revoked_at)}"
    if key.expires_at is None:
        return "valid"
    past = key.expires_at <= datetime.now(UTC).timestamp()
    return f"{'expired' if past else 'until'} {_day(key.expires_at)}"


def _day(moment: float) -> str:
    return f"{datetime.fromtimestamp(moment, UTC):%Y-%m-%d}"
