"""The way of somebody new: docs/getting-started.md in a fresh clone, with the time of each step.

`make chaos ARGS="-k newcomer"` prints the figures.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.examples import ROOT, Session, blocks
from tests.processes import free_port

PAGE = ROOT / "docs" / "getting-started.md"
PORTS = ("8000", "9000", "6400", "8100")
"""Those that the page names; somebody may use them here."""

WAYS = {
    "from clone to the first streamed answer": range(1, 3),
    "from docs to a program of one's own": range(3, 6),
    "from docs to a webhook-driven job": range(6, 11),
    "from docs to a two-worker set-up": range(11, 16),
}

SETTING_UP = 420.0
"""Seconds: the first `make` installs all packages."""


def timed(call: Callable[..., Any], *arguments: Any) -> float:
    """The seconds that it takes."""
    begun = time.monotonic()
    call(*arguments)
    return time.monotonic() - begun


def git_clone(directory: Path) -> None:
    """Step 1: what is committed here."""
    subprocess.run(["git", "clone", "--quiet", f"file://{ROOT}", directory], check=True)


def command_of(text: str) -> str:
    """The command that a block is about: its last, or the one that writes a file."""
    lines = text.replace(" \\\n ", "").splitlines()
    return lines[0] if lines[-1] == "EOT" else lines[-1]


def report(times: dict[int, float], commands: dict[int, str]) -> str:
    """The figures, for people."""
    lines = [f"{step:4} {times[step]:7.1f} s  {commands[step]}" for step in sorted(times)]
    for way, steps in WAYS.items():
        lines += [f"{way}: {len(steps)} steps, {sum(times[step] for step in steps):.1f} s"]
    return "\n".join(["", *lines])


@pytest.mark.chaos
@pytest.mark.timeout(900)
@pytest.mark.skipif(not shutil.which("redis-server"), reason="the last part wants a redis-server")
def test_a_newcomer_gets_through(state_dir: Path) -> None:
    """Each step of the page works as printed, in its order; none is left out of the count."""
    used = {port: str(free_port()) for port in PORTS}
    environment = {
        "PATH": os.environ["PATH"],
        "PENSTOCK_GATEWAY_PORT": used["8000"],
        "TMPDIR": str(state_dir),
    }
    times = {1: timed(git_clone, state_dir / "clone")}
    commands = {1: "git clone"}
    fill_in = re.compile(rf"\b({'|'.join(PORTS)})\b")
    session = Session(
        state_dir / "clone",
        environment,
        lambda text: fill_in.sub(lambda port: used[port[1]], text),
        patience=SETTING_UP,
    )
    try:
        for block in blocks(PAGE):
            for note in block.notes:
                step = int(note["step"])
                commands[step] = note.get("run", command_of(block.text))
                times[step] = timed(session.run, block._replace(notes=[note]))
    finally:
        session.close()
    print(report(times, commands))  # noqa: T201 - the figures are what `make chaos` is for
    counted = [int(number) for number in re.findall(r"\*\*(\d+)\.\*\*", PAGE.read_text())]
    assert counted == sorted(times) == [step for steps in WAYS.values() for step in steps]
