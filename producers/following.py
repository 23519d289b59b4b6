"""Follow a job to its end for somebody who waits, blocking or in an event loop."""

from __future__ import annotations

from collections.abc import AsyncIterable, Callable, Iterable, Iterator
from contextlib import contextmanager

import click

from penstock import Client, Cursor, Event
from penstock.client import result_of
from penstock.events import START
from producers.narration import Teller
from producers.screen import Screen
from producers.whereabouts import watching

INTERRUPTED = 130
"""Exit status after Ctrl-C: 128 + SIGINT."""


def follow_job(
    client: Client,
    job: str,
    make_teller: Callable[[Screen], Teller],
    after: Cursor = START,
    *,
    introduce: bool = False,
) -> None:
    """Tell the events after the cursor until the job ends, its id in front if asked to.

    Raises JobFailed, JobCancelled or JobExpired if it ended without a completion, JobNotFound, and
    click's Exit, with a hint how to go on, at Ctrl-C.
    """
    with Screen(watching(client, job)) as screen, _interruptible(job, screen) as seen:
        if introduce:  # here, so that whoever has read it gets the hint at Ctrl-C
            screen.note(job)
        teller = make_teller(screen)
        last = None
        for last in seen(client.job(job).events(after)):
            teller.tell(last)
        screen.end_line()
    result_of(last or client.last_event(job))


async def tell_all(events: AsyncIterable[Event], teller: Teller) -> None:
    """Tell events in an event loop; raises what the last one amounts to, as `follow_job`."""
    last = None
    async for last in events:
        teller.tell(last)
    result_of(last)


@contextmanager
def _interruptible(
    job: str, screen: Screen
) -> Iterator[Callable[[Iterable[Event]], Iterator[Event]]]:
    """Remember how far one has read, so that Ctrl-C can tell how to read on."""
    cursor = str(START)

    def seen(events: Iterable[Event]) -> Iterator[Event]:
        nonlocal cursor
        for event in events:
            yield event
            cursor = event.id

    try:
        yield seen
    except KeyboardInterrupt:
        screen.note(
            f"{job} goes on. Follow it: penstock follow {job} --after {cursor}   "
            f"Stop it: penstock cancel {job}"
        )
        raise click.exceptions.Exit(INTERRUPTED) from None
