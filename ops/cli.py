"""`penstock`: the command line. Each command's module is imported when the command is used."""

from __future__ import annotations

import importlib
import sys
from typing import Any

import click

from penstock.errors import ConfigurationError, InvalidRequest, PenstockError, StoreUnavailable

COMMANDS = {
    "worker": "worker.cli:worker",
    "simulator": "ops.simulator.cli:simulator",
}


class LazyGroup(click.Group):
    """A group whose commands are imported when they are asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names, in the order of COMMANDS."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command."""
        if cmd_name not in COMMANDS:
            return None
        module, _, name = COMMANDS[cmd_name].partition(":")
        command: click.Command = getattr(importlib.import_module(module), name)
        return command


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
def penstock() -> None:
    """Chat completions as jobs: in through Redis, answered by Celery workers, followed live."""


def main() -> Any:
    """Run a command; every error is one line on stderr and an exit status."""
    try:
        penstock()
    except PenstockError as error:
        click.echo(f"penstock: {error}", err=True)
        sys.exit(status_of(error))


def status_of(error: PenstockError) -> int:
    """2 for a mistake in what was asked, 3 where Redis cannot be reached, else 1."""
    if isinstance(error, StoreUnavailable):
        return 3
    return 2 if isinstance(error, ConfigurationError | InvalidRequest) else 1
