"""`penstock doctor`: the command and its report."""

from __future__ import annotations

import sys

import click

from ops.doctor.examination import Examination
from ops.doctor.finding import EXIT_STATUS, Finding
from penstock.events import encode
from producers.screen import Screen

COLOURS = {"ok": "green", "warning": "yellow", "problem": "red", "unreachable": "red"}


@click.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
def doctor(as_json: bool) -> None:
    """Check settings, Redis, users, workers, routes and webhooks, and say what to do about each.

    Exit status: 0 when there is no problem, warnings aside; 1 when there is one; 3 when Redis
    cannot be reached.
    """
    examination, worst = Examination(), 0
    with Screen(lambda: examination.doing) as screen:
        for finding in examination.findings():
            worst = max(worst, EXIT_STATUS[finding.verdict])
            if as_json:
                screen.result(encode(finding).decode() + "\n")
            else:
                _show(finding, screen)
    sys.exit(worst)


def _show(finding: Finding, screen: Screen) -> None:
    screen.result(f"{finding.verdict:<12}", COLOURS[finding.verdict])
    screen.result(f"{finding.subject:<16}{finding.text}\n")
    if finding.advice:
        screen.result(f"{'':<28}-> {finding.advice}\n")
