"""docs/cli.md and the commands agree."""

from __future__ import annotations

import re
from pathlib import Path

import click

from ops.cli import COMMANDS, penstock

PAGE = (Path(__file__).parents[2] / "docs" / "cli.md").read_text()


def options_of(name: str) -> set[str]:
    """The long options of a command and of those below it."""
    context = click.Context(penstock)
    command = penstock.get_command(context, name)
    assert command is not None
    inner = list(command.commands.values()) if isinstance(command, click.Group) else []
    return {
        text
        for each in (command, *inner)
        for parameter in each.params
        if isinstance(parameter, click.Option)
        for text in parameter.opts
        if text.startswith("--")
    }


def test_the_page_names_every_command_and_option() -> None:
    """Whatever `--help` offers stands on the page."""
    missing = {name for name in COMMANDS if f"`penstock {name}" not in PAGE}
    missing |= {option for name in COMMANDS for option in options_of(name) if option not in PAGE}
    assert missing == set()


def test_the_page_promises_nothing_that_is_not_there() -> None:
    """Each option on the page is one of some command."""
    real = {option for name in COMMANDS for option in options_of(name)} | {"--help"}
    assert set(re.findall(r"--[a-z][a-z-]*[a-z]", PAGE)) <= real
