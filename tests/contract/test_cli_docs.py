"""docs/cli.md and the commands agree."""

from __future__ import annotations

import re
from pathlib import Path

import click

from ops.cli import COMMANDS, penstock

PAGE = (Path(__file__).parents[2] / "docs" / "cli.md").read_text()


def commands_of(name: str) -> dict[str, click.Command]:
    """A command, or a group and all in it, by full name."""
    command = penstock.get_command(click.Context(penstock), name)
    assert command is not None
    inner = command.commands if isinstance(command, click.Group) else {}
    return {name: command, **{f"{name} {each}": inner[each] for each in inner}}


def options_of(name: str) -> set[str]:
    """The long options of a command, or of all in a group."""
    return {
        text
        for command in commands_of(name).values()
        for parameter in command.params
        if isinstance(parameter, click.Option)
        for text in parameter.opts
        if text.startswith("--")
    }


def test_the_page_names_every_command_and_option() -> None:
    """Whatever `--help` offers stands on the page."""
    every = [full for name in COMMANDS for full in commands_of(name)]
    missing = {full for full in every if f"`penstock {full}" not in PAGE}
    missing |= {option for name in COMMANDS for option in options_of(name) if option not in PAGE}
    assert missing == set()


def test_the_page_promises_nothing_that_is_not_there() -> None:
    """Each option on the page is one of some command."""
    real = {option for name in COMMANDS for option in options_of(name)} | {"--help"}
    assert set(re.findall(r"--[a-z][a-z-]*[a-z]", PAGE)) <= real
