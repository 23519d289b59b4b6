"""`penstock top`: the command."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable

import click
from rich.console import Console, Group
from rich.live import Live

from penstock import Client, PenstockError, StoreUnavailable
from penstock.client import Overview
from producers import report
from producers.stopping import stop
from producers.top.board import Board
from producers.top.keyboard import pressed, single_keys
from producers.top.words import Words

LOOK = 1.0
"""Seconds between two looks at everything: one round trip."""

DRAW = 0.2
"""Seconds between two pictures, unless a key is pressed."""


@click.command()
@click.option("--once", is_flag=True, help="Print it once, also on a terminal.")
def top(once: bool) -> None:
    """Watch routes, workers, tenants, running jobs with their last words, and failures.

    Up and down choose a job, c cancels it, r runs a failed one again, q or Ctrl-C ends.
    """
    with Client() as client, contextlib.closing(Words(client)) as words:
        overview = client.overview(client.overview())  # the first look learns what there is
        if once or not (sys.stdin.isatty() and sys.stdout.isatty()):
            _print(overview, words)
        else:
            Top(client, words, overview).run()


def _print(overview: Overview, words: Words) -> None:
    jobs = [job.id for job in overview.glance.jobs]
    words.look_back(jobs)
    width = report.width() if sys.stdout.isatty() else report.PIPED
    board = Board()
    *lines, _ = board.lines(overview, words.of, width, board.whole(overview))
    report.print_parts(*(line for line in lines if line.plain.strip()))


class Top:
    """The live view.

    Args:
        client: to look and to act with.
        words: of the jobs on the screen.
        overview: what goes on at first.
    """

    def __init__(self, client: Client, words: Words, overview: Overview) -> None:
        self._client, self._words, self._overview = client, words, overview
        self._board = Board()
        self._note = ""
        self._question: tuple[str, Callable[[], str]] | None = None
        self._looked_at = 0.0

    def run(self) -> None:
        """Show it until q, Ctrl-C, or the end of the terminal."""
        console = Console(highlight=False)
        with (
            contextlib.suppress(KeyboardInterrupt, EOFError),
            single_keys(),
            Live(console=console, screen=True, auto_refresh=False) as live,
        ):
            while True:
                self._look(console.height)
                said = self._note if self._question is None else f"{self._question[0]} (y/n)"
                size = console.width, console.height
                lines = self._board.lines(self._overview, self._words.of, *size, said)
                live.update(Group(*lines), refresh=True)
                if not self._obey(pressed(DRAW)):
                    return

    def _look(self, height: int) -> None:
        """At everything, once in a while; at what is said, always."""
        try:
            if time.monotonic() - self._looked_at >= LOOK:
                self._looked_at = time.monotonic()
                self._overview = self._client.overview(self._overview)
                self._board.take(self._overview)
                if self._note.startswith(AWAY):
                    self._note = ""
            self._words.follow(self._board.in_sight(self._overview, height))
            self._words.listen()
        except StoreUnavailable:
            self._words.close()
            self._note = f"{AWAY} at {self._client.settings.safe_url}; trying again"

    def _obey(self, key: str) -> bool:
        """Do what a key asks for; False: to end."""
        if key and self._question is not None:
            _, act = self._question
            self._question = None
            self._note = self._done(act) if key == "y" else ""
            return True
        if key:
            self._note = ""
        match key:
            case "q":
                return False
            case "up" | "k":
                self._board.move(-1)
            case "down" | "j":
                self._board.move(1)
            case "c" | "r" if not self._board.chosen:
                self._note = "choose a job with the arrow keys first"
            case "c":
                self._ask("cancel", self._cancel)
            case "r":
                self._ask("run again", self._retry)
        return True

    def _ask(self, what: str, act: Callable[[str], str]) -> None:
        job = self._board.chosen
        self._question = f"{what} {job}?", lambda: act(job)

    def _cancel(self, job: str) -> str:
        return f"{job} {stop(self._client, job)}"

    def _retry(self, job: str) -> str:
        self._client.retry(job)
        return f"{job} is queued again"

    def _done(self, act: Callable[[], str]) -> str:
        self._looked_at = 0.0
        try:
            return act()
        except PenstockError as error:
            return str(error)


AWAY = "cannot reach Redis"
